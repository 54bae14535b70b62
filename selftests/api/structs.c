// SPDX-License-Identifier: GPL-2.0
/*
 * What all ioctls have in common: the size at the head of each structure,
 * flags, reserved fields, bad addresses and fds of the wrong kind.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <libvireo.h>

#include "harness.h"
#include "nic.h"
#include "ring.h"
#include "vm.h"

/* The ABI: these never change. */
#define SIZE(type, bytes)	_Static_assert(sizeof(struct type) == (bytes), #type)
SIZE(vireo_info, 88);
SIZE(vireo_create_vm, 16);
SIZE(vireo_cpuid_entry, 32);
SIZE(vireo_cpuid, 24);
SIZE(vireo_create_vcpu, 16);
SIZE(vireo_memory, 24);
SIZE(vireo_get_memory, 8);
SIZE(vireo_msi, 24);
SIZE(vireo_set_file, 16);
SIZE(vireo_diff, 32);
SIZE(vireo_clock, 40);
SIZE(vireo_stat, 72 + 8 * VIREO_STAT_MAX);
SIZE(vireo_run, 1024);
SIZE(vireo_regs, 496);
SIZE(vireo_msrs, 24);
SIZE(vireo_xsave, 24);
SIZE(vireo_create_disk, 32);
SIZE(vireo_disk, 32);
SIZE(vireo_create_net, 36);
SIZE(vireo_net, 48);
SIZE(vireo_create_queue, 32);
SIZE(vireo_queue_msi, 24);
SIZE(vireo_queue_stat, 80);
SIZE(vireo_net_config, 20);

enum kind { DEV, VM, VCPU, MEMORY, DISK, QUEUE, NET, KINDS };

static const char * const kind_name[KINDS] = { "/dev/vireo", "VM", "vCPU", "memory",
					       "disk", "queue", "interface" };

/* A buffer behind the structures that need one */
static u8 data[1 << 20];

union argument {
	struct { u32 size, flags; } head;
	struct vireo_info info;
	struct vireo_create_vm create_vm;
	struct vireo_cpuid cpuid;
	struct vireo_create_vcpu create_vcpu;
	struct vireo_memory memory;
	struct vireo_get_memory get_memory;
	struct vireo_fork fork;
	struct vireo_set_file set_file;
	struct vireo_diff diff;
	struct vireo_clock clock;
	struct vireo_msi msi;
	struct vireo_stat stat;
	struct vireo_regs regs;
	struct vireo_msrs msrs;
	struct vireo_xsave xsave;
	struct vireo_create_disk create_disk;
	struct vireo_disk disk;
	struct vireo_create_net create_net;
	struct vireo_net net;
	struct vireo_create_queue create_queue;
	struct vireo_queue_msi queue_msi;
	struct vireo_queue_stat queue_stat;
	u8 bytes[8192];
};

#define FIELD(type, field)	{ offsetof(struct type, field), \
				  sizeof(((struct type *)0)->field) }

static const struct call {
	const char *name;
	enum kind kind;
	unsigned long request;
	u32 size;
	struct { u32 offset, bytes; } reserved[3];
	u32 flags;		/* that it knows */
} calls[] = {
	{ "GET_INFO", DEV, VIREO_GET_INFO, sizeof(struct vireo_info) },
	{ "CREATE_VM", DEV, VIREO_CREATE_VM, sizeof(struct vireo_create_vm),
	  { FIELD(vireo_create_vm, reserved) } },
	{ "CREATE_VCPU", VM, VIREO_CREATE_VCPU, sizeof(struct vireo_create_vcpu),
	  { FIELD(vireo_create_vcpu, reserved) } },
	{ "ADD_MEMORY", VM, VIREO_ADD_MEMORY, sizeof(struct vireo_memory), {},
	  VIREO_MEMORY_FILE },
	{ "GET_MEMORY", VM, VIREO_GET_MEMORY, sizeof(struct vireo_get_memory) },
	{ "SET_CPUID", VM, VIREO_SET_CPUID, sizeof(struct vireo_cpuid),
	  { FIELD(vireo_cpuid, reserved) } },
	{ "FORK", VM, VIREO_FORK, sizeof(struct vireo_fork) },
	{ "SET_FILE", VM, VIREO_SET_FILE, sizeof(struct vireo_set_file),
	  { FIELD(vireo_set_file, reserved) } },
	{ "DIFF", VM, VIREO_DIFF, sizeof(struct vireo_diff), { FIELD(vireo_diff, reserved) } },
	{ "SET_CLOCK", VM, VIREO_SET_CLOCK, sizeof(struct vireo_clock),
	  { FIELD(vireo_clock, reserved) } },
	{ "INJECT_MSI", VM, VIREO_INJECT_MSI, sizeof(struct vireo_msi),
	  { FIELD(vireo_msi, reserved) } },
	{ "GET_STAT", VM, VIREO_GET_STAT, sizeof(struct vireo_stat) },
	{ "GET_STAT", VCPU, VIREO_GET_STAT, sizeof(struct vireo_stat) },
	{ "GET_REGS", VCPU, VIREO_GET_REGS, sizeof(struct vireo_regs) },
	{ "SET_REGS", VCPU, VIREO_SET_REGS, sizeof(struct vireo_regs),
	  { FIELD(vireo_regs, reserved) } },
	{ "GET_MSRS", VCPU, VIREO_GET_MSRS, sizeof(struct vireo_msrs),
	  { FIELD(vireo_msrs, reserved) } },
	{ "SET_MSRS", VCPU, VIREO_SET_MSRS, sizeof(struct vireo_msrs),
	  { FIELD(vireo_msrs, reserved) } },
	{ "GET_XSAVE", VCPU, VIREO_GET_XSAVE, sizeof(struct vireo_xsave) },
	{ "SET_XSAVE", VCPU, VIREO_SET_XSAVE, sizeof(struct vireo_xsave) },
	{ "CREATE_DISK", VM, VIREO_CREATE_DISK, sizeof(struct vireo_create_disk),
	  { FIELD(vireo_create_disk, overlay), FIELD(vireo_create_disk, overlay_max),
	    FIELD(vireo_create_disk, reserved) },
	  VIREO_DISK_READONLY | VIREO_DISK_OVERLAY },
	{ "SET_DISK", DISK, VIREO_SET_DISK, sizeof(struct vireo_disk) },
	{ "CREATE_QUEUE", DISK, VIREO_CREATE_QUEUE, sizeof(struct vireo_create_queue),
	  { FIELD(vireo_create_queue, start), FIELD(vireo_create_queue, index) },
	  VIREO_QUEUE_RESUME },
	{ "SET_MSI", QUEUE, VIREO_SET_MSI, sizeof(struct vireo_queue_msi),
	  { FIELD(vireo_queue_msi, reserved) }, VIREO_MSI_MASKED },
	{ "GET_QUEUE_STAT", QUEUE, VIREO_GET_QUEUE_STAT, sizeof(struct vireo_queue_stat) },
	{ "CREATE_NET", VM, VIREO_CREATE_NET, sizeof(struct vireo_create_net), {},
	  VIREO_NET_FILTER },
	{ "GET_NET", NET, VIREO_GET_NET, sizeof(struct vireo_net) },
	{ "SET_NET", NET, VIREO_SET_NET, sizeof(struct vireo_net) },
	{ "CREATE_QUEUE", NET, VIREO_CREATE_QUEUE, sizeof(struct vireo_create_queue),
	  { FIELD(vireo_create_queue, start) }, VIREO_QUEUE_RESUME },
};

struct objects {
	int fd[KINDS];
	struct vireo_info info;
};

#define RAM	0x100000

static int disk_file, other_memory, memory_file;

static void objects_open(struct objects *o)
{
	o->fd[DEV] = dev_open();
	memset(&o->info, 0, sizeof(o->info));
	o->info.size = sizeof(o->info);
	ASSERT_EQ(do_ioctl(o->fd[DEV], VIREO_GET_INFO, &o->info), 0);
	o->fd[VM] = dev_create_vm(o->fd[DEV], 2);
	ASSERT_GE(o->fd[VM], 0);
	o->fd[MEMORY] = vm_get_memory(o->fd[VM]);
	ASSERT_GE(o->fd[MEMORY], 0);
	o->fd[VCPU] = -1;
	o->fd[NET] = -1;
	ASSERT_EQ(vm_add_memory(o->fd[VM], RAM, 0x20000), 0);
	if (!disk_file) {
		disk_file = memfd_create("disk", MFD_CLOEXEC);
		ASSERT_EQ(ftruncate(disk_file, 1 << 20), 0);
	}
	if (!other_memory) {
		other_memory = vm_get_memory(dev_create_vm(o->fd[DEV], 1));
		memory_file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	}
	o->fd[DISK] = disk_create(o->fd[VM], disk_file, 0);
	ASSERT_GE(o->fd[DISK], 0);
	o->fd[QUEUE] = queue_create(o->fd[DISK], 0, RAM, 16);
	ASSERT_GE(o->fd[QUEUE], 0);
}

static void objects_close(struct objects *o)
{
	int kind;

	for (kind = KINDS - 1; kind >= 0; kind--)
		if (o->fd[kind] >= 0)
			close(o->fd[kind]);
}

/* Only where it is needed, because SET_CPUID comes before the first vCPU */
static void objects_vcpu(struct objects *o)
{
	o->fd[VCPU] = vm_create_vcpu(o->fd[VM], 0);
	ASSERT_GE(o->fd[VCPU], 0);
}

/* Likewise, because the end of an interface takes its time */
static void objects_net(struct objects *o)
{
	o->fd[NET] = nic_create(o->fd[VM], "vireo%d", nic_mac, 1, NIC_MTU, 0);
	ASSERT_GE(o->fd[NET], 0);
}

/* An argument with which the call succeeds */
static void argument_fill(struct objects *o, const struct call *call, union argument *arg)
{
	memset(arg, 0, sizeof(*arg));
	switch (call->request) {
	case VIREO_CREATE_VM:
		arg->create_vm.max_vcpus = 1;
		break;
	case VIREO_SET_CPUID:
		arg->cpuid.entries = (uintptr_t)data;
		arg->cpuid.count = vireo_cpuid_default(&o->info, 2, (void *)data);
		break;
	case VIREO_ADD_MEMORY:
		arg->memory.bytes = 4096;
		break;
	case VIREO_SET_FILE:
		arg->set_file.fd = memory_file;
		break;
	case VIREO_DIFF:
		arg->diff.fd = other_memory;
		break;
	case VIREO_INJECT_MSI:
		arg->msi.address = 0xfee00000;
		arg->msi.data = 0x40;
		break;
	case VIREO_CREATE_DISK:
		arg->create_disk.fd = disk_file;
		arg->create_disk.block = 512;
		break;
	case VIREO_CREATE_NET:
		strcpy(arg->create_net.name, "vireo%d");
		memcpy(arg->create_net.mac, nic_mac, 6);
		arg->create_net.pairs = 1;
		arg->create_net.mtu = NIC_MTU;
		break;
	case VIREO_CREATE_QUEUE:
		arg->create_queue.doorbell = 1;
		arg->create_queue.ring = RAM + 0x10000;
		arg->create_queue.entries = 16;
		break;
	case VIREO_SET_MSI:
		arg->queue_msi.address = 0xfee00000;
		arg->queue_msi.data = 0x40;
		break;
	case VIREO_SET_REGS:
		ASSERT_EQ(vcpu_fd_get_regs(o->fd[VCPU], &arg->regs), 0);
		break;
	case VIREO_GET_XSAVE:
	case VIREO_SET_XSAVE:
		arg->xsave.size = sizeof(arg->xsave);
		arg->xsave.data = (uintptr_t)data;
		arg->xsave.bytes = o->info.xsave_size;
		ASSERT_EQ(do_ioctl(o->fd[VCPU], VIREO_GET_XSAVE, arg), 0);
		break;
	default:
		break;
	}
	arg->head.size = call->size;
}

/* The call on objects of its own */
static int call_with(const struct call *call,
		     void (*change)(const struct call *, union argument *))
{
	union argument arg;
	struct objects o;
	int ret;

	objects_open(&o);
	if (call->kind == VCPU)
		objects_vcpu(&o);
	if (call->kind == NET)
		objects_net(&o);
	if (call->request == VIREO_FORK) {	/* which a queue forbids */
		close(o.fd[QUEUE]);
		o.fd[QUEUE] = -1;
	}
	argument_fill(&o, call, &arg);
	if (change)
		change(call, &arg);
	ret = do_ioctl(o.fd[call->kind], call->request, &arg);
	if (ret > 2)
		close(ret);
	objects_close(&o);
	return ret;
}

static void expect_all(const char *what, int expected,
		       void (*change)(const struct call *, union argument *))
{
	unsigned int i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		ret = call_with(&calls[i], change);
		EXPECT_THAT(expected ? ret == expected : ret >= 0,
			    "%s with %s: %d, expected %d", calls[i].name, what, ret,
			    expected);
	}
}

TEST(plain)
{
	expect_all("nothing wrong", 0, NULL);
}

static void size_zero(const struct call *call, union argument *arg)
{
	arg->head.size = 0;
}

static void size_header(const struct call *call, union argument *arg)
{
	arg->head.size = call->size - 4;
}

TEST(size_too_small)
{
	expect_all("size 0", -EINVAL, size_zero);
	expect_all("size 4 too small", -EINVAL, size_header);
}

static void size_longer(const struct call *call, union argument *arg)
{
	arg->head.size = call->size + 64;
}

static void size_longer_set(const struct call *call, union argument *arg)
{
	arg->head.size = call->size + 64;
	arg->bytes[call->size + 63] = 1;
}

static void size_huge(const struct call *call, union argument *arg)
{
	arg->head.size = ~0U;
}

TEST(size_longer)
{
	expect_all("a longer structure, rest zero", 0, size_longer);
	expect_all("a longer structure, rest not zero", -E2BIG, size_longer_set);
	expect_all("size 2^32-1", -E2BIG, size_huge);
}

static void flags_low(const struct call *call, union argument *arg)
{
	arg->head.flags = call->flags + 1;	/* the lowest that it does not know */
}

static void flags_high(const struct call *call, union argument *arg)
{
	arg->head.flags = BIT(31);
}

TEST(unknown_flags)
{
	expect_all("the lowest unknown flag", -EINVAL, flags_low);
	expect_all("flag 31", -EINVAL, flags_high);
}

TEST(reserved_fields)
{
	union argument arg;
	struct objects o;
	unsigned int i, j, byte;
	int ret;

	objects_open(&o);
	objects_vcpu(&o);
	objects_net(&o);
	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		if (calls[i].request == VIREO_SET_CPUID)
			continue;	/* not after the first vCPU, see below */
		for (j = 0; j < ARRAY_SIZE(calls[i].reserved); j++) {
			for (byte = 0; byte < calls[i].reserved[j].bytes; byte++) {
				argument_fill(&o, &calls[i], &arg);
				arg.bytes[calls[i].reserved[j].offset + byte] = 0x80;
				ret = do_ioctl(o.fd[calls[i].kind], calls[i].request, &arg);
				EXPECT_THAT(ret == -EINVAL, "%s reserved byte %u: %d",
					    calls[i].name,
					    calls[i].reserved[j].offset + byte, ret);
			}
		}
	}
}

static void cpuid_reserved(const struct call *call, union argument *arg)
{
	if (call->request == VIREO_SET_CPUID)
		arg->cpuid.reserved = 1;
}

static void cpuid_entry_reserved(const struct call *call, union argument *arg)
{
	if (call->request == VIREO_SET_CPUID)
		((struct vireo_cpuid_entry *)data)->reserved = 1;
}

static void cpuid_entry_flags(const struct call *call, union argument *arg)
{
	if (call->request == VIREO_SET_CPUID)
		((struct vireo_cpuid_entry *)data)->flags = 2;
}

TEST(reserved_fields_cpuid)
{
	unsigned int i;

	for (i = 0; calls[i].request != VIREO_SET_CPUID; i++)
		;
	EXPECT_EQ(call_with(&calls[i], cpuid_reserved), -EINVAL);
	EXPECT_EQ(call_with(&calls[i], cpuid_entry_reserved), -EINVAL);
	EXPECT_EQ(call_with(&calls[i], cpuid_entry_flags), -EINVAL);
}

TEST(bad_address)
{
	u8 *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);
	struct objects o;
	unsigned int i;
	int ret;

	munmap(page + 4096, 4096);
	objects_open(&o);
	objects_vcpu(&o);
	objects_net(&o);
	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		int fd = o.fd[calls[i].kind];

		ret = do_ioctl(fd, calls[i].request, NULL);
		EXPECT_THAT(ret == -EFAULT, "%s NULL: %d", calls[i].name, ret);
		ret = do_ioctl(fd, calls[i].request, (void *)BIT(63));
		EXPECT_THAT(ret == -EFAULT, "%s kernel address: %d", calls[i].name, ret);
		memcpy(page + 4092, &calls[i].size, 4);
		ret = do_ioctl(fd, calls[i].request, page + 4092);
		EXPECT_THAT(ret == -EFAULT, "%s at the end of a mapping: %d",
			    calls[i].name, ret);
	}
}

/* The calls that write may not do so to memory that is read-only */
TEST(read_only_argument)
{
	union argument *page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct objects o;
	unsigned int i;
	int ret;

	objects_open(&o);
	objects_vcpu(&o);
	objects_net(&o);
	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		if (!(_IOC_DIR(calls[i].request) & _IOC_READ))
			continue;
		mprotect(page, sizeof(*page), PROT_READ | PROT_WRITE);
		argument_fill(&o, &calls[i], page);
		mprotect(page, sizeof(*page), PROT_READ);
		ret = do_ioctl(o.fd[calls[i].kind], calls[i].request, page);
		EXPECT_THAT(ret == -EFAULT, "%s: %d", calls[i].name, ret);
	}
}

static void pointer_null(const struct call *call, union argument *arg)
{
	switch (call->request) {
	case VIREO_GET_XSAVE:
	case VIREO_SET_XSAVE:
		arg->xsave.data = 0;
		break;
	case VIREO_GET_MSRS:
	case VIREO_SET_MSRS:
		arg->msrs.count = 1;
		arg->msrs.entries = 0;
		break;
	default:
		arg->cpuid.entries = 0;
		break;
	}
}

TEST(bad_inner_address)
{
	unsigned int i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		switch (calls[i].request) {
		case VIREO_SET_CPUID:
		case VIREO_GET_MSRS:
		case VIREO_SET_MSRS:
		case VIREO_GET_XSAVE:
		case VIREO_SET_XSAVE:
			ret = call_with(&calls[i], pointer_null);
			EXPECT_THAT(ret == -EFAULT, "%s: %d", calls[i].name, ret);
			break;
		default:
			break;
		}
	}
}

TEST(wrong_kind_of_fd)
{
	union argument arg;
	struct objects o;
	unsigned int i;
	int kind, ret;

	objects_open(&o);
	objects_vcpu(&o);
	objects_net(&o);
	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		for (kind = 0; kind < KINDS; kind++) {
			if (kind == calls[i].kind || calls[i].request == VIREO_GET_STAT ||
			    calls[i].request == VIREO_CREATE_QUEUE)
				continue;
			if (calls[i].request != VIREO_SET_CPUID)
				argument_fill(&o, &calls[i], &arg);
			ret = do_ioctl(o.fd[kind], calls[i].request, &arg);
			EXPECT_THAT(ret == -ENOTTY, "%s on a %s fd: %d", calls[i].name,
				    kind_name[kind], ret);
		}
	}
	EXPECT_EQ(do_ioctl(o.fd[DEV], VIREO_GET_STAT, &arg), -ENOTTY);
	EXPECT_EQ(do_ioctl(o.fd[MEMORY], VIREO_GET_STAT, &arg), -ENOTTY);
	EXPECT_EQ(do_ioctl(o.fd[DISK], VIREO_GET_STAT, &arg), -ENOTTY);
	EXPECT_EQ(do_ioctl(o.fd[QUEUE], VIREO_GET_STAT, &arg), -ENOTTY);
	EXPECT_EQ(do_ioctl(o.fd[NET], VIREO_GET_STAT, &arg), -ENOTTY);
	for (kind = 0; kind < KINDS; kind++)
		if (kind != DISK && kind != NET)
			EXPECT_EQ(do_ioctl(o.fd[kind], VIREO_CREATE_QUEUE, &arg), -ENOTTY);
	for (kind = 0; kind < KINDS; kind++)
		if (kind != VCPU)
			EXPECT_EQ(do_ioctl(o.fd[kind], VIREO_RUN, NULL), -ENOTTY);
}

TEST(unknown_numbers)
{
	union argument zero = {};
	unsigned int nr;
	struct objects o;
	int kind;

	objects_open(&o);
	objects_vcpu(&o);
	objects_net(&o);
	for (kind = 0; kind < KINDS; kind++) {
		for (nr = 0xa0; nr < 0x100; nr++)
			EXPECT_EQ(do_ioctl(o.fd[kind], _IO(VIREO_IOC, nr), NULL), -ENOTTY);
		EXPECT_EQ(do_ioctl(o.fd[kind], _IO('v', 0), NULL), -ENOTTY);
		EXPECT_EQ(do_ioctl(o.fd[kind], 0, &zero), -ENOTTY);
	}
}

TEST_MAIN()
