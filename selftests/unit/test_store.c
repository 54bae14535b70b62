// SPDX-License-Identifier: GPL-2.0
/*
 * Snapshots on disk: what is stored is loaded again, whole and in increments, what is
 * damaged is refused, and an interruption leaves the old one. The module is made up: a
 * VM is a file, and the fd of its memory that file.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "harness.h"

#include "libvireo.h"
#include "snapshot_v1.h"

#define MIB		(1ULL << 20)
#define PAGE		4096ULL
#define SIZE		(16 * MIB)
#define PAGES		(SIZE / PAGE)
#define PVCLOCK		0x5000ULL	/* where the guest has KVM's clock */

/* ---- A module that is made up ------------------------------------------------------- */

static struct {
	int file;		/* of VIREO_SET_FILE */
	unsigned int ranges;
	struct vireo_memory range[1024];
	struct vireo_clock clock;
	unsigned int cpuids;
	unsigned int loaded;	/* vCPUs */
	struct vireo_vcpu_state vcpu;
	__u8 xsave[1024];
} fake;

static bool same_page(int a, int b, u64 at)
{
	u8 x[PAGE], y[PAGE];

	return pread(a, x, PAGE, at) == PAGE && pread(b, y, PAGE, at) == PAGE &&
	       !memcmp(x, y, PAGE);
}

static int fake_diff(int vm, struct vireo_diff *d)
{
	while (d->start < SIZE && same_page(vm, d->fd, d->start))
		d->start += PAGE;
	for (d->end = d->start; d->end < SIZE && !same_page(vm, d->fd, d->end);)
		d->end += PAGE;
	return 0;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	switch (request) {
	case VIREO_GET_MEMORY:
		return dup(fd);
	case VIREO_DIFF:
		return fake_diff(fd, arg);
	case VIREO_SET_FILE:
		fake.file = ((struct vireo_set_file *)arg)->fd;
		return 0;
	case VIREO_ADD_MEMORY:
		ASSERT_TRUE(fake.ranges < ARRAY_SIZE(fake.range));
		fake.range[fake.ranges++] = *(struct vireo_memory *)arg;
		return 0;
	case VIREO_SET_CLOCK:
		fake.clock = *(struct vireo_clock *)arg;
		return 0;
	default:
		errno = ENOTTY;
		return -1;
	}
}

int vireo_vm_write(struct vireo_vm *vm, __u64 gpa, const void *data, size_t len,
		   struct vireo_error *err)
{
	return pwrite(vm->fd, data, len, gpa) == (ssize_t)len ? 0 : -EIO;
}

/* Of the first leaf one register: what the processor can do */
static __u32 fake_ecx = ~0;

__u32 __wrap_vireo_cpuid_default(const struct vireo_info *info, __u32 vcpus,
				 struct vireo_cpuid_entry *entry);

__u32 __wrap_vireo_cpuid_default(const struct vireo_info *info, __u32 vcpus,
				 struct vireo_cpuid_entry *entry)
{
	*entry = (struct vireo_cpuid_entry){ .function = 1, .ecx = fake_ecx, .edx = ~0 };
	return 1;
}

int vireo_vm_read(struct vireo_vm *vm, __u64 gpa, void *data, size_t len, struct vireo_error *err)
{
	if (gpa != PVCLOCK + 29)
		return -ENXIO;
	*(u8 *)data = 1;
	return 0;
}

int vireo_vm_write_sparse(struct vireo_vm *vm, __u64 gpa, const void *data, size_t len,
			  struct vireo_error *err)
{
	return vireo_vm_write(vm, gpa, data, len, err);
}

int vireo_vm_set_cpuid(struct vireo_vm *vm, const struct vireo_cpuid_entry *entry, __u32 count,
		       struct vireo_error *err)
{
	fake.cpuids = count;
	return 0;
}

int vireo_vm_add_memory(struct vireo_vm *vm, __u64 bytes, struct vireo_error *err)
{
	vm->memory = bytes;
	return 0;
}

int vireo_device_open(struct vireo_info *info, struct vireo_error *err)
{
	return vireo_fail(err, ENOENT, "there is none");
}

int vireo_machine_load(struct vireo_machine *m, struct vireo_vcpu_state *state,
		       struct vireo_error *err)
{
	fake.loaded = m->vcpus;
	fake.vcpu = state[0];
	memcpy(fake.xsave, state[0].xsave, m->vm.info.xsave_size);
	return 0;
}

int vireo_machine_serve(struct vireo_machine *m, bool here, struct vireo_error *err)
{
	return 0;
}

int vireo_pv_refresh(struct vireo_pv *pv, struct vireo_error *err)
{
	return 0;
}

void vireo_pv_lift(struct vireo_pv *pv)
{
}

bool vireo_pv_settle(struct vireo_pv *pv)
{
	return true;
}

bool vireo_port_leaving(struct vireo_port *port)
{
	return false;
}

int vireo_machine_renew_identity(struct vireo_machine *m, struct vireo_error *err)
{
	return 0;
}

void vireo_state_free(struct vireo_vcpu_state *state, __u32 vcpus)
{
	__u32 i;

	for (i = 0; i < vcpus; i++)
		free(state[i].xsave);
	free(state);
}

/* ---- Help ------------------------------------------------------------------------------ */

static char dir[64], path[128], other[128];
static struct vireo_error err;
static u64 seed = 1;

static u64 rnd(u64 below)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (seed >> 33) % below;
}

static void work_dir(void)
{
	strcpy(dir, "/tmp/test_store.XXXXXX");
	ASSERT_TRUE(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/a", dir);
	snprintf(other, sizeof(other), "%s/b", dir);
}

static void clean(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	ASSERT_EQ(system(command), 0);
}

static int new_vm(void)
{
	int fd = memfd_create("vm", MFD_CLOEXEC);

	ASSERT_EQ(ftruncate(fd, SIZE), 0);
	return fd;
}

static void scribble(int vm, unsigned int pages)
{
	u8 page[PAGE];

	while (pages--) {
		memset(page, rnd(255) + 1, sizeof(page));
		page[rnd(PAGE)] = rnd(256);
		ASSERT_EQ(pwrite(vm, page, PAGE, rnd(PAGES) * PAGE), PAGE);
	}
}

static void expect_equal(int a, int b)
{
	u64 at;

	for (at = 0; at < SIZE; at += PAGE)
		if (!EXPECT_THAT(same_page(a, b, at), "they differ at %#llx", at))
			return;
}

static int store(const char *where, int vm, int base, const u8 *parent, const char *machine,
		 u8 *id)
{
	static struct vireo_store s;
	int ret = vireo_store_create(&s, where, &err);

	if (!ret && parent)
		memcpy(s.parent, parent, sizeof(s.parent));
	if (!ret)
		ret = vireo_store_memory(&s, vm, base, &err);
	if (!ret)
		ret = vireo_store_commit(&s, machine, strlen(machine), "{}", &err);
	if (id)
		memcpy(id, s.id, sizeof(s.id));
	vireo_store_close(&s);
	return ret;
}

static int open_only(const char *where)
{
	static struct vireo_store s;
	int ret = vireo_store_open(&s, where, &err);

	vireo_store_close(&s);
	return ret;
}

/* Reads a snapshot into a VM: the first of a chain, or one that goes over it */
static void load(const char *where, int vm, bool first)
{
	static struct vireo_store s;
	struct vireo_vm to = { .fd = vm };

	ASSERT_EQ(vireo_store_open(&s, where, &err), 0);
	EXPECT_EQ(vireo_store_verify(&s, &err), 0);
	if (first)
		EXPECT_EQ(vireo_store_map(&s, &to, SIZE, true, &err), 0);
	else
		EXPECT_EQ(vireo_store_apply(&s, &to, &err), 0);
	vireo_store_close(&s);
}

static void change_byte(const char *where, const char *file, off_t at)
{
	char name[160];
	u8 byte;
	int fd;

	snprintf(name, sizeof(name), "%s/%s", where, file);
	fd = open(name, O_RDWR);
	ASSERT_EQ(pread(fd, &byte, 1, at), 1);
	byte ^= 1 << rnd(8);
	ASSERT_EQ(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

/* ---- Memory ------------------------------------------------------------------------------ */

TEST(memory_comes_back)
{
	int vm = new_vm(), copy = new_vm();
	static struct vireo_store s;
	struct vireo_vm to = { .fd = copy };
	unsigned int i;
	u64 at = 0;

	work_dir();
	scribble(vm, 300);
	ASSERT_EQ(store(path, vm, -1, NULL, "machine", NULL), 0);
	load(path, copy, true);
	expect_equal(vm, copy);

	/* Mapped, the ranges are all of it, without a gap and in order. */
	memset(&fake, 0, sizeof(fake));
	ASSERT_EQ(vireo_store_open(&s, path, &err), 0);
	EXPECT_EQ(s.state.end, strlen("machine"));
	EXPECT_TRUE(!memcmp(s.state.data, "machine", s.state.end));
	ASSERT_EQ(vireo_store_map(&s, &to, SIZE, false, &err), 0);
	for (i = 0; i < fake.ranges; at += fake.range[i++].bytes)
		EXPECT_EQ(fake.range[i].gpa, at);
	EXPECT_EQ(at, SIZE);
	EXPECT_EQ(fake.file, s.memory.fd);
	vireo_store_close(&s);
	clean();
	close(vm);
	close(copy);
}

TEST(increments)
{
	int vm = new_vm(), base = new_vm(), copy = new_vm(), whole = new_vm();
	u8 id[2][16], page[PAGE] = { 0 };
	char name[160];
	unsigned int i;
	u64 at;

	work_dir();
	scribble(vm, 500);
	snprintf(name, sizeof(name), "%s/0", dir);
	ASSERT_EQ(store(name, vm, -1, NULL, "m", id[0]), 0);
	load(name, copy, true);
	for (i = 1; i < 10; i++) {
		for (at = 0; at < SIZE; at += PAGE) {
			ASSERT_EQ(pread(vm, page, PAGE, at), PAGE);
			ASSERT_EQ(pwrite(base, page, PAGE, at), PAGE);
		}
		scribble(vm, 20);
		memset(page, 0, PAGE);
		ASSERT_EQ(pwrite(vm, page, PAGE, rnd(PAGES) * PAGE), PAGE);	/* zero again */
		snprintf(name, sizeof(name), "%s/%u", dir, i);
		ASSERT_EQ(store(name, vm, base, id[!(i & 1)], "m", id[i & 1]), 0);
		load(name, copy, false);
	}
	expect_equal(vm, copy);
	ASSERT_EQ(store(path, vm, -1, NULL, "m", NULL), 0);
	load(path, whole, true);
	expect_equal(whole, copy);
	clean();
	close(vm);
	close(base);
	close(copy);
	close(whole);
}

TEST(damaged_memory)
{
	int vm = new_vm();
	static struct vireo_store s;
	char name[160];

	work_dir();
	scribble(vm, 50);
	ASSERT_EQ(store(path, vm, -1, NULL, "m", NULL), 0);
	snprintf(name, sizeof(name), "%s/memory", path);
	change_byte(path, "memory", lseek(vm, 0, SEEK_DATA) + 5);
	ASSERT_EQ(vireo_store_open(&s, path, &err), 0);
	EXPECT_EQ(vireo_store_verify(&s, &err), -EINVAL);
	vireo_store_close(&s);
	ASSERT_EQ(truncate(name, SIZE - PAGE), 0);
	EXPECT_EQ(open_only(path), -EINVAL);
	ASSERT_EQ(truncate(name, SIZE + PAGE), 0);
	EXPECT_EQ(open_only(path), -EINVAL);
	unlink(name);
	EXPECT_EQ(open_only(path), -ENOENT);
	clean();
	close(vm);
}

/* ---- Disks ------------------------------------------------------------------------------- */

/* An overlay with two blocks, the second all zero, and an image */
static void store_disks(int vm, int overlay, int image)
{
	static struct vireo_store s;
	u8 page[PAGE];

	memset(page, 7, PAGE);
	ASSERT_EQ(pwrite(overlay, page, PAGE, PAGE), PAGE);
	memset(page, 0, PAGE);
	ASSERT_EQ(pwrite(overlay, page, PAGE, 9 * PAGE), PAGE);
	ASSERT_EQ(ftruncate(image, 5000 * 512), 0);
	ASSERT_EQ(pwrite(image, "image", 5, 3 * PAGE), 5);
	ASSERT_EQ(vireo_store_create(&s, path, &err), 0);
	ASSERT_EQ(vireo_store_image(&s, 3, image, true, &err), 0);
	ASSERT_EQ(vireo_store_overlay(&s, 0, overlay, &err), 0);
	EXPECT_EQ(vireo_store_overlay(&s, VIREO_STORE_DISKS, overlay, &err), -E2BIG);
	ASSERT_EQ(vireo_store_memory(&s, vm, -1, &err), 0);
	ASSERT_EQ(vireo_store_commit(&s, "\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0x", 17, "{}", &err), 0);
	vireo_store_close(&s);
}

static void expect_ranges(const char *flags)
{
	unsigned int i;
	u64 at = 0;

	ASSERT_EQ(fake.ranges, strlen(flags));
	for (i = 0; i < fake.ranges; at += fake.range[i++].bytes) {
		EXPECT_EQ(fake.range[i].gpa, at);
		EXPECT_EQ(!!(fake.range[i].flags & VIREO_MEMORY_FILE), flags[i] == 'f');
	}
	EXPECT_EQ(at, VIREO_MAX_GPA);
}

TEST(disks)
{
	int vm = new_vm(), overlay = new_vm(), image = new_vm();
	struct vireo_vm to = { .fd = new_vm() };
	static struct vireo_store s;
	struct vireo_content *c;
	u8 page[PAGE];
	int fd;

	work_dir();
	store_disks(vm, overlay, image);
	ASSERT_EQ(vireo_store_open(&s, path, &err), 0);
	EXPECT_EQ(s.disks, 2);
	EXPECT_EQ(s.state.end, 17);	/* the machine's, without theirs */
	EXPECT_EQ(vireo_store_verify(&s, &err), 0);
	EXPECT_TRUE(!vireo_store_disk(&s, 0, VIREO_CONTENT_IMAGE));
	EXPECT_TRUE(!vireo_store_disk(&s, 1, VIREO_CONTENT_OVERLAY));
	c = vireo_store_disk(&s, 0, VIREO_CONTENT_OVERLAY);
	ASSERT_TRUE(c);
	EXPECT_EQ(c->bytes, 10 * PAGE);

	/* A zero block is there, and what is not there is not: both when mapped and copied */
	memset(&fake, 0, sizeof(fake));
	ASSERT_EQ(vireo_store_map_overlay(&s, c, &to, false, &err), 0);
	EXPECT_EQ(fake.file, c->fd);
	expect_ranges("-f-f-");
	memset(&fake, 0, sizeof(fake));
	ASSERT_EQ(vireo_store_map_overlay(&s, c, &to, true, &err), 0);
	expect_ranges("-----");
	EXPECT_EQ(lseek(to.fd, 0, SEEK_DATA), PAGE);
	EXPECT_EQ(lseek(to.fd, 2 * PAGE, SEEK_DATA), 9 * PAGE);
	ASSERT_EQ(pread(to.fd, page, PAGE, PAGE), PAGE);
	EXPECT_EQ(page[PAGE - 1], 7);

	c = vireo_store_disk(&s, 3, VIREO_CONTENT_IMAGE);
	ASSERT_TRUE(c);
	EXPECT_EQ(c->bytes, 5000 * 512);
	ASSERT_EQ(vireo_store_give_image(&s, c, other, true, &err), 0);
	EXPECT_EQ(vireo_store_give_image(&s, c, other, true, &err), -EEXIST);
	fd = open(other, O_RDONLY);
	EXPECT_EQ(lseek(fd, 0, SEEK_END), 5000 * 512);
	ASSERT_EQ(pread(fd, page, 5, 3 * PAGE), 5);
	EXPECT_TRUE(!memcmp(page, "image", 5));
	close(fd);
	vireo_store_close(&s);
	clean();
	close(to.fd);
	close(vm);
	close(overlay);
	close(image);
}

TEST(damaged_disks)
{
	int vm = new_vm(), overlay = new_vm(), image = new_vm();
	static struct vireo_store s;
	char name[160];

	work_dir();
	store_disks(vm, overlay, image);
	change_byte(path, "disk0", PAGE + 5);
	ASSERT_EQ(vireo_store_open(&s, path, &err), 0);
	EXPECT_EQ(vireo_store_verify(&s, &err), -EINVAL);
	vireo_store_close(&s);
	snprintf(name, sizeof(name), "%s/disk3", path);
	ASSERT_EQ(truncate(name, 5001 * 512), 0);
	EXPECT_EQ(open_only(path), -EINVAL);
	ASSERT_EQ(truncate(name, 5000 * 512), 0);
	EXPECT_EQ(open_only(path), 0);
	snprintf(name, sizeof(name), "%s/disk0", path);
	unlink(name);
	EXPECT_EQ(open_only(path), -ENOENT);
	EXPECT_EQ(vireo_store_remove(path, &err), 0);
	EXPECT_EQ(vireo_store_remove(path, &err), -ENOENT);
	clean();
	close(vm);
	close(overlay);
	close(image);
}

/* ---- The state file -------------------------------------------------------------------- */

TEST(damaged_state)
{
	int vm = new_vm();
	char name[160];
	off_t size, at;
	struct stat st;

	work_dir();
	scribble(vm, 5);
	ASSERT_EQ(store(path, vm, -1, NULL, "what a machine has", NULL), 0);
	snprintf(name, sizeof(name), "%s/state", path);
	ASSERT_EQ(stat(name, &st), 0);
	for (at = 0; at < st.st_size; at++) {
		seed = at;
		change_byte(path, "state", at);
		EXPECT_THAT(open_only(path) == -EINVAL, "byte %d is changed", (int)at);
		seed = at;
		change_byte(path, "state", at);
	}
	EXPECT_EQ(open_only(path), 0);
	for (size = st.st_size - 1; size >= 0; size--) {
		ASSERT_EQ(truncate(name, size), 0);
		EXPECT_THAT(open_only(path) == -EINVAL, "%d bytes are left", (int)size);
	}
	unlink(name);
	EXPECT_EQ(open_only(path), -ENOENT);
	EXPECT_EQ(open_only(dir), -ENOENT);
	clean();
	close(vm);
}

/* ---- Who comes too late, too early or not to the end ------------------------------------ */

TEST(takes_the_place)
{
	static struct vireo_store s;
	int vm = new_vm(), copy = new_vm(), status;
	char name[160];
	struct stat st;

	work_dir();
	scribble(vm, 10);
	ASSERT_EQ(store(path, vm, -1, NULL, "old", NULL), 0);
	snprintf(name, sizeof(name), "%s.new", path);

	/* One that gives up, and one that dies */
	ASSERT_EQ(vireo_store_create(&s, path, &err), 0);
	EXPECT_EQ(stat(name, &st), 0);
	ASSERT_EQ(vireo_store_memory(&s, vm, -1, &err), 0);
	vireo_store_close(&s);
	EXPECT_EQ(stat(name, &st), -1);
	if (!fork()) {
		vireo_store_create(&s, path, &err);
		vireo_store_memory(&s, vm, -1, &err);
		_exit(7);
	}
	wait(&status);
	EXPECT_EQ(WEXITSTATUS(status), 7);
	EXPECT_EQ(stat(name, &st), 0);
	load(path, copy, true);
	expect_equal(vm, copy);

	/* The next removes what it left; meanwhile no other may begin. */
	ASSERT_EQ(vireo_store_create(&s, path, &err), 0);
	scribble(vm, 10);
	EXPECT_EQ(store(path, vm, -1, NULL, "second", NULL), -EBUSY);
	ASSERT_EQ(vireo_store_memory(&s, vm, -1, &err), 0);
	ASSERT_EQ(vireo_store_commit(&s, "new", 3, "{}", &err), 0);
	vireo_store_close(&s);
	EXPECT_EQ(stat(name, &st), -1);
	load(path, copy, true);
	expect_equal(vm, copy);

	/* What is no snapshot is nobody's to replace. */
	ASSERT_EQ(mkdir(other, 0700), 0);
	EXPECT_EQ(store(other, vm, -1, NULL, "m", NULL), -EEXIST);
	snprintf(name, sizeof(name), "%s.new", other);
	EXPECT_EQ(stat(name, &st), -1);
	EXPECT_EQ(store("/nowhere/a", vm, -1, NULL, "m", NULL), -ENOENT);
	clean();
	close(vm);
	close(copy);
}

/* ---- The machine -------------------------------------------------------------------------- */

static struct vireo_machine machine, loaded;
static struct vireo_uart uart;
static u8 xsave[576];

/* The machine whose state snapshot_v1.h has */
static void make_machine(struct vireo_vcpu_state *v)
{
	unsigned int i;

	memset(&machine, 0, sizeof(machine));
	machine.vcpus = 1;
	machine.vm.memory = SIZE;
	machine.vm.info.features = VIREO_FEAT_SVM;
	machine.vm.info.xcr0 = 7;
	machine.vm.info.xsave_size = sizeof(xsave);
	machine.vm.info.tsc_khz = 1000000;
	machine.cpuids = 2;
	machine.cpuid[1] = (struct vireo_cpuid_entry){
		.function = 1, .flags = VIREO_CPUID_INDEXED, .eax = 2, .ebx = 3, .ecx = 4, .edx = 5,
	};
	machine.pci.address = 0x80001234;
	machine.ioapic.select = 0x10;
	machine.ioapic.entry[VIREO_IOAPIC_PINS - 1] = 0x1234;
	memset(v, 0, sizeof(*v));
	v->regs.size = sizeof(v->regs);
	v->regs.rip = 0xffffffff81000000ULL;
	v->lapic.size = sizeof(v->lapic);
	v->lapic.timer_left = 12345;
	v->xsave = xsave;
	v->msrs = 2;
	v->msr[0] = (struct vireo_msr){ .index = VIREO_MSR_TSC_OFFSET, .value = 1000000 };
	v->msr[1] = (struct vireo_msr){ .index = 0xc0000081, .value = 99 };
	for (i = 0; i < sizeof(xsave); i++)
		xsave[i] = i;
	memset(&uart, 0, sizeof(uart));
	uart.lcr = 3;
	uart.divisor[0] = 1;
	uart.tail = VIREO_UART_BACKLOG - 2;
	uart.head = uart.tail + 5;
	for (i = 0; i < 5; i++)
		uart.backlog[(uart.tail + i) % VIREO_UART_BACKLOG] = 'a' + i;
	memset(&fake, 0, sizeof(fake));
	machine.vm.clock = (struct vireo_timebase){
		.tsc_base = 77, .boot_ns = 88, .tsc_khz = 999999,
	};
}

static int load_machine(struct vireo_state *s)
{
	struct vireo_info info = machine.vm.info;
	struct vireo_state_head h;
	int ret;

	memset(&loaded, 0, sizeof(loaded));
	memset(&uart, 0, sizeof(uart));
	loaded.vm.info = info;
	ret = vireo_state_head(s, &h, &info, &err);
	return ret ? ret : vireo_state_load(s, &h, &loaded, &uart, &err);
}

static void expect_machine(void)
{
	EXPECT_EQ(loaded.vcpus, 1);
	EXPECT_EQ(loaded.cpuids, 2);
	EXPECT_TRUE(!memcmp(loaded.cpuid, machine.cpuid, sizeof(machine.cpuid)));
	EXPECT_EQ(loaded.pci.address, 0x80001234);
	EXPECT_EQ(loaded.ioapic.select, 0x10);
	EXPECT_EQ(loaded.ioapic.entry[VIREO_IOAPIC_PINS - 1], 0x1234);
	EXPECT_EQ(fake.loaded, 1);
	EXPECT_EQ(fake.cpuids, 2);
	EXPECT_EQ(loaded.vm.clock.tsc_khz, 999999);
	EXPECT_EQ(loaded.vm.clock.tsc_base, fake.clock.tsc_base);
	/* 999,999 kHz, doubled */
	EXPECT_EQ(fake.clock.tsc_shift, 1);
	EXPECT_EQ(fake.clock.tsc_mul, (1000000000ULL << 32) / 1999998000ULL);
	EXPECT_EQ(fake.vcpu.regs.rip, 0xffffffff81000000ULL);
	EXPECT_EQ(fake.vcpu.lapic.timer_left, 12345);
	EXPECT_EQ(fake.vcpu.msr[1].value, 99);
	EXPECT_TRUE(!memcmp(fake.xsave, xsave, sizeof(xsave)));
	EXPECT_EQ(uart.head - uart.tail, 5);
	EXPECT_TRUE(!memcmp(uart.backlog, "abcde", 5));
	EXPECT_EQ(uart.lcr, 3);
	/* TSC and clock have moved by the same, so that the guest sees neither. */
	EXPECT_EQ(1000000 - fake.vcpu.msr[0].value, fake.clock.tsc_base - 77);
}

TEST(machine_comes_back)
{
	struct vireo_vcpu_state v;
	struct vireo_state s, cut;
	size_t len;
	int i;

	make_machine(&v);
	ASSERT_EQ(vireo_state_store(&s, &machine, &uart, &v, &err), 0);
	ASSERT_EQ(load_machine(&s), 0);
	expect_machine();
	for (len = 0; len < s.end; len++) {
		cut = (struct vireo_state){ .data = malloc(len + 1), .end = len };
		memcpy(cut.data, s.data, len);
		EXPECT_THAT(load_machine(&cut) < 0, "%zu bytes load", len);
		vireo_state_close(&cut);
	}
	/* Whatever is in it: no harm */
	for (i = 0; i < 20000; i++) {
		cut = (struct vireo_state){ .data = malloc(s.end), .end = s.end };
		memcpy(cut.data, s.data, s.end);
		cut.data[rnd(s.end)] = rnd(256);
		cut.data[rnd(300)] = rnd(256);
		load_machine(&cut);
		vireo_state_close(&cut);
	}
	vireo_state_close(&s);
}

#define SECOND	1000000000ULL

/* Loads a machine that was stored @ago; the fake's clock and vCPU are then what it got. */
static void load_later(const struct vireo_state *stored, s64 ago, bool advance)
{
	struct vireo_state s = { .data = malloc(stored->end), .end = stored->end };
	struct vireo_info info = machine.vm.info;
	struct vireo_state_head h = { .vcpus = 0 };

	memcpy(s.data, stored->data, s.end);
	memset(&loaded, 0, sizeof(loaded));
	loaded.vm.info = info;
	loaded.vm.fd = new_vm();
	ASSERT_EQ(vireo_state_head(&s, &h, &info, &err), 0);
	h.real_ns -= ago;
	h.advance = advance;
	ASSERT_EQ(vireo_state_load(&s, &h, &loaded, &uart, &err), 0);
	vireo_state_close(&s);
}

static u8 stopped_flag(void)
{
	u8 byte;

	ASSERT_EQ(pread(loaded.vm.fd, &byte, 1, PVCLOCK + 29), 1);
	close(loaded.vm.fd);
	return byte;
}

TEST(clock)
{
	struct vireo_vcpu_state v;
	struct vireo_state s;
	u64 still, moved;

	make_machine(&v);
	v.msr[1] = (struct vireo_msr){ .index = 0x4b564d01, .value = PVCLOCK | 1 };
	ASSERT_EQ(vireo_state_store(&s, &machine, &uart, &v, &err), 0);

	/* It stands still: the time of its boot is later. */
	load_later(&s, 100 * SECOND, false);
	still = fake.clock.tsc_base;
	EXPECT_GE(loaded.vm.clock.boot_ns, 88 + 100 * SECOND);
	EXPECT_LT(loaded.vm.clock.boot_ns, 88 + 130 * SECOND);
	EXPECT_EQ(fake.clock.boot_sec, loaded.vm.clock.boot_ns / SECOND);
	EXPECT_EQ(fake.clock.boot_nsec, loaded.vm.clock.boot_ns % SECOND);
	EXPECT_EQ(fake.vcpu.lapic.timer_left, 12345);
	EXPECT_EQ(stopped_flag(), 0);

	/* It goes on, and its timers with it. */
	load_later(&s, 100 * SECOND, true);
	moved = fake.clock.tsc_base;
	EXPECT_EQ(loaded.vm.clock.boot_ns, 88);
	EXPECT_GE(still - moved, 95 * 999999000ULL);	/* ticks, less those in between */
	EXPECT_LT(still - moved, 130 * 999999000ULL);
	EXPECT_EQ(1000000 - fake.vcpu.msr[0].value, moved - 77);
	EXPECT_EQ(fake.vcpu.lapic.timer_left, 0);
	EXPECT_EQ(stopped_flag(), 3);

	/* The host's clock was set back: no time of the guest's does that. */
	load_later(&s, -3600 * (s64)SECOND, true);
	EXPECT_GE(fake.clock.tsc_base, still);
	EXPECT_EQ(fake.vcpu.lapic.timer_left, 12345);
	EXPECT_EQ(stopped_flag(), 0);
	vireo_state_close(&s);
}

TEST(another_host)
{
	struct vireo_vcpu_state v;
	struct vireo_info info;
	struct vireo_state_head h;
	struct vireo_state s;

	make_machine(&v);
	ASSERT_EQ(vireo_state_store(&s, &machine, &uart, &v, &err), 0);
	info = machine.vm.info;
	EXPECT_EQ(vireo_state_head(&s, &h, &info, &err), 0);
	info.xsave_size = 2000;
	info.xcr0 = 0xff;
	info.tsc_khz = 1009000;
	EXPECT_EQ(vireo_state_head(&s, &h, &info, &err), 0);
	info.tsc_khz = 1020000;
	EXPECT_EQ(vireo_state_head(&s, &h, &info, &err), -EOPNOTSUPP);
	info = machine.vm.info;
	info.features = VIREO_FEAT_VMX;
	EXPECT_EQ(vireo_state_head(&s, &h, &info, &err), -EOPNOTSUPP);
	info = machine.vm.info;
	info.xcr0 = 3;
	EXPECT_EQ(vireo_state_head(&s, &h, &info, &err), -EOPNOTSUPP);
	info = machine.vm.info;
	info.xsave_size = 512;
	EXPECT_EQ(vireo_state_head(&s, &h, &info, &err), -EOPNOTSUPP);
	fake_ecx = ~4U;		/* which the guest was told of */
	EXPECT_EQ(load_machine(&s), -EOPNOTSUPP);
	fake_ecx = ~0U;
	EXPECT_EQ(load_machine(&s), 0);
	vireo_state_close(&s);
}

/* What version 1 has written: this never changes. */
TEST(version_1)
{
	static struct vireo_store s;
	struct vireo_vcpu_state v;
	struct vireo_vm to;
	u8 page[PAGE], zero[PAGE] = { 0 };
	char name[160];
	int fd;

	work_dir();
	ASSERT_EQ(mkdir(path, 0700), 0);
	snprintf(name, sizeof(name), "%s/state", path);
	fd = open(name, O_WRONLY | O_CREAT, 0600);
	ASSERT_EQ(write(fd, snapshot_v1_state, sizeof(snapshot_v1_state)),
		  sizeof(snapshot_v1_state));
	close(fd);
	snprintf(name, sizeof(name), "%s/memory", path);
	fd = open(name, O_WRONLY | O_CREAT, 0600);
	memset(page, 0x5a, PAGE);
	ASSERT_EQ(pwrite(fd, page, PAGE, 3 * PAGE), PAGE);
	ASSERT_EQ(ftruncate(fd, SIZE), 0);
	close(fd);

	ASSERT_EQ(vireo_store_open(&s, path, &err), 0);
	EXPECT_EQ(s.memory.extents, 1);
	EXPECT_EQ(s.memory.extent[0].gpa, 3 * PAGE);
	EXPECT_EQ(s.memory.extent[0].bytes, PAGE);
	to.fd = new_vm();
	EXPECT_EQ(vireo_store_verify(&s, &err), 0);
	EXPECT_EQ(vireo_store_map(&s, &to, SIZE, true, &err), 0);
	ASSERT_EQ(pread(to.fd, page, PAGE, 3 * PAGE), PAGE);
	EXPECT_EQ(page[17], 0x5a);
	ASSERT_EQ(pread(to.fd, page, PAGE, 2 * PAGE), PAGE);
	EXPECT_TRUE(!memcmp(page, zero, PAGE));
	make_machine(&v);
	ASSERT_EQ(load_machine(&s.state), 0);
	expect_machine();
	vireo_store_close(&s);
	close(to.fd);
	clean();
}

TEST_MAIN()
