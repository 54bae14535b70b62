// SPDX-License-Identifier: GPL-2.0
/*
 * VIREO_FORK: memory that is equal at first and then independent, vCPUs that go
 * on in both, and every order of ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "guest.h"
#include "harness.h"
#include "host.h"
#include "ring.h"
#include "vm.h"

#define MIB		(1ULL << 20)
#define PAGE		4096
#define AREA		(16 * MIB)	/* where random writes go */
#define AREA_SIZE	(16 * MIB)

static u64 random_state = 0x9e3779b97f4a7c15ULL;

static u64 random_next(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* ---- The memory fd ----------------------------------------------------------- */

/* A VM and what its area should hold */
struct modelled {
	struct test_vm vm;
	u8 *model;
};

static void modelled_open(struct modelled *m)
{
	vm_open(&m->vm, 2);
	m->model = calloc(1, AREA_SIZE);
	ASSERT_EQ(vm_add_memory(m->vm.fd, 0, 64 * MIB), 0);
}

static void modelled_fork(struct modelled *m, struct modelled *child)
{
	vm_fork(&m->vm, &child->vm);
	child->model = malloc(AREA_SIZE);
	memcpy(child->model, m->model, AREA_SIZE);
}

static void modelled_close(struct modelled *m)
{
	vm_close(&m->vm);
	free(m->model);
}

static void random_writes(struct modelled *m, unsigned int count)
{
	u64 at, data[64];
	size_t len;

	while (count--) {
		at = random_next() % (AREA_SIZE - sizeof(data));
		len = random_next() % sizeof(data) + 1;
		memset(data, random_next(), sizeof(data));
		memcpy(m->model + at, data, len);
		vm_write(&m->vm, AREA + at, data, len);
	}
}

static void expect_model(struct modelled *m, const char *who)
{
	static u8 page[64 * PAGE];
	u64 at;

	for (at = 0; at < AREA_SIZE; at += sizeof(page)) {
		vm_read(&m->vm, AREA + at, page, sizeof(page));
		if (!EXPECT_THAT(!memcmp(page, m->model + at, sizeof(page)),
				 "%s: memory differs near %#llx", who, AREA + at))
			return;
	}
}

TEST(memory)
{
	struct modelled parent, child, grandchild;
	struct vireo_stat a, b;
	int i;

	modelled_open(&parent);
	random_writes(&parent, 500);
	modelled_fork(&parent, &child);
	expect_model(&child, "child, new");
	ASSERT_EQ(fd_get_stat(parent.vm.fd, &a), 0);
	ASSERT_EQ(fd_get_stat(child.vm.fd, &b), 0);
	EXPECT_EQ(b.memory_bytes, a.memory_bytes);
	EXPECT_EQ(b.resident_bytes, a.resident_bytes);
	EXPECT_EQ(b.huge_bytes, a.huge_bytes);

	random_writes(&child, 200);
	modelled_fork(&child, &grandchild);
	for (i = 0; i < 20; i++) {
		random_writes(&parent, 50);
		random_writes(&child, 50);
		random_writes(&grandchild, 50);
	}
	expect_model(&parent, "parent");
	expect_model(&child, "child");
	expect_model(&grandchild, "grandchild");
	modelled_close(&child);
	random_writes(&parent, 200);
	random_writes(&grandchild, 200);
	expect_model(&parent, "parent without child");
	expect_model(&grandchild, "grandchild without child");
	modelled_close(&parent);
	random_writes(&grandchild, 200);
	expect_model(&grandchild, "grandchild alone");
	modelled_close(&grandchild);
}

/* What one adds the other does not have, nor what one touches */
TEST(holes)
{
	struct test_vm parent, child;
	char byte = 1;

	vm_open(&parent, 1);
	ASSERT_EQ(vm_add_memory(parent.fd, 0, 4 * MIB), 0);
	vm_fork(&parent, &child);
	EXPECT_EQ(vm_add_memory(child.fd, 8 * MIB, 4 * MIB), 0);
	EXPECT_EQ(do_pwrite(parent.mem, &byte, 1, 8 * MIB), -ENXIO);
	EXPECT_EQ(do_pwrite(child.mem, &byte, 1, 8 * MIB), 1);
	EXPECT_EQ(vm_add_memory(parent.fd, 8 * MIB, 8 * MIB), 0);
	EXPECT_EQ(vm_add_memory(child.fd, 0, PAGE), -EEXIST);
	EXPECT_EQ(do_pread(parent.mem, &byte, 1, 8 * MIB), 1);
	EXPECT_EQ(byte, 0);
	EXPECT_EQ(do_lseek(parent.mem, 0, SEEK_DATA), -ENXIO);
	EXPECT_EQ(do_lseek(child.mem, 0, SEEK_DATA), 8 * MIB);
	vm_close(&child);
	vm_close(&parent);
}

TEST(settings)
{
	struct test_vm parent, child;

	vm_open(&parent, 2);
	ASSERT_EQ(vm_create_vcpu(parent.fd, 0) < 0, 0);
	vm_fork(&parent, &child);
	EXPECT_EQ(vm_create_vcpu(child.fd, 2), -EINVAL);
	EXPECT_GE(vm_create_vcpu(child.fd, 0), 0);	/* none was inherited */
	EXPECT_GE(vm_create_vcpu(child.fd, 1), 0);
	EXPECT_EQ(vm_create_vcpu(child.fd, 1), -EEXIST);
	EXPECT_EQ(vm_create_vcpu(parent.fd, 0), -EEXIST);
	vm_close(&child);
	vm_close(&parent);
}

/* A queue holds pages: not while there is one */
TEST(queues)
{
	struct test_disk d;
	int fd;

	if (!disk_boot(&d, BACKING_FILE, 1, 0))
		SKIP("no file for a disk");
	EXPECT_EQ(vm_fd_fork(d.vm.fd), -EBUSY);
	close(d.queue);
	fd = vm_fd_fork(d.vm.fd);
	EXPECT_GE(fd, 0);
	EXPECT_EQ(vm_fd_fork(fd) < 0, 0);
	d.queue = queue_create(d.disk, DOORBELL, RING, ENTRIES);
	EXPECT_GE(d.queue, 0);
	EXPECT_EQ(vm_fd_fork(d.vm.fd), -EBUSY);
	EXPECT_EQ(vm_fd_fork(d.disk), -ENOTTY);
	EXPECT_EQ(vm_fd_fork(d.vm.dev), -ENOTTY);
	disk_close(&d);
}

static u8 sector_data[4096] __aligned(4096);

/* Reads on both sides of the fork; one request waits in the ring when it comes */
static void guest_reads(u64 arg)
{
	struct vireo_comp comp;
	struct ring r;
	int i;

	ring_open(&r, RING, ENTRIES, DOORBELL);
	for (i = 0; i < 100; i++)
		GUEST_EQ(ring_do(&r, VIREO_BLK_READ, 0, i * 8, sector_data, 4096), 0);
	ring_request(&r, 77, VIREO_BLK_READ, 0, 8, sector_data, 4096);
	guest_sync(r.tail);
	comp = ring_wait(&r);		/* without a doorbell */
	GUEST_EQ(comp.tag, 77);
	GUEST_TRUE(pattern_is(sector_data, 4096, 8, 3));
	r.told = r.tail;
	for (i = 0; i < 100; i++)
		GUEST_EQ(ring_do(&r, VIREO_BLK_READ, 0, i * 8, sector_data, 4096), 0);
}

TEST(disk_goes_on)
{
	struct test_disk parent, child;
	static u8 data[4096];
	u32 put, start;

	if (!disk_boot(&parent, BACKING_FILE, 1, 0))
		SKIP("no file for a disk");
	pattern_fill(data, sizeof(data), 8, 3);
	ASSERT_EQ(do_pwrite(parent.file, data, sizeof(data), 4096), sizeof(data));
	vcpu_set_entry(&parent.vm.vcpu[0], guest_reads, 0);
	put = vcpu_run_sync(&parent.vm.vcpu[0]);
	close(parent.queue);
	vm_read(&parent.vm, RING + offsetof(struct vireo_ring_ctl, comp_tail), &start, 4);
	EXPECT_EQ(start, put - 1);
	vm_fork(&parent.vm, &child.vm);
	vcpu_clone(&parent.vm.vcpu[0], &child.vm);
	child.file = dup(parent.file);
	child.disk = disk_create(child.vm.fd, child.file, VIREO_DISK_READONLY);
	ASSERT_GE(child.disk, 0);
	parent.queue = queue_resume(parent.disk, DOORBELL, RING, ENTRIES, start);
	ASSERT_GE(parent.queue, 0);
	child.queue = queue_resume(child.disk, DOORBELL, RING, ENTRIES, start);
	ASSERT_GE(child.queue, 0);
	EXPECT_EQ(vcpu_run_done(&parent.vm.vcpu[0]), 0);
	EXPECT_EQ(vcpu_run_done(&child.vm.vcpu[0]), 0);
	close(child.queue);
	child.queue = queue_resume(child.disk, DOORBELL, RING, ENTRIES, start - 1);
	ASSERT_GE(child.queue, 0);
	usleep(100000);
	EXPECT_EQ(queue_stat(child.queue).error, VIREO_RING_ERROR_INDEX);
	disk_close(&parent);
	disk_close(&child);
}

/* ---- vCPUs that write meanwhile ------------------------------------------------ */

#define PAGES		64	/* that one vCPU writes, in turn */
#define SLOTS_AT(cpu)	(AREA + (cpu) * 4 * MIB)

static u32 stop;

/* Number n goes to page n % PAGES: what is seen must be a run of numbers */
static void guest_count_up(u64 cpu)
{
	u64 n = 0;

	while (!READ_ONCE(stop)) {
		n++;
		WRITE_ONCE(*(u64 *)(SLOTS_AT(cpu) + n % PAGES * PAGE), n);
	}
}

/* The highest number, or 0 after a failure */
static u64 highest_of_run(struct test_vm *vm, u32 cpu)
{
	u64 seen[PAGES], top = 0;
	int i;

	for (i = 0; i < PAGES; i++) {
		vm_read(vm, SLOTS_AT(cpu) + i * PAGE, &seen[i], sizeof(u64));
		top = seen[i] > top ? seen[i] : top;
	}
	for (i = 0; i < PAGES && top > (u64)i; i++)
		if (!EXPECT_THAT(seen[(top - i) % PAGES] == top - i,
				 "vCPU %u: %llu is missing below %llu", cpu, top - i, top))
			return 0;
	return top;
}

static void fork_under_writes(u32 vcpus, int forks)
{
	u64 top[2], before[2] = { 0, 0 };
	struct test_vm vm, child;
	u32 cpu;
	int i;

	vm_boot(&vm, vcpus, 64 * MIB);
	VM_SET(&vm, stop, 0);
	for (cpu = 0; cpu < vcpus; cpu++) {
		vcpu_set_entry(&vm.vcpu[cpu], guest_count_up, cpu);
		vcpu_start(&vm.vcpu[cpu]);
	}
	for (i = 0; i < forks; i++) {
		usleep(2000);
		vm_fork(&vm, &child);
		for (cpu = 0; cpu < vcpus; cpu++) {
			top[cpu] = highest_of_run(&child, cpu);
			EXPECT_GE(top[cpu], before[cpu]);
			before[cpu] = top[cpu];
		}
		usleep(2000);
		for (cpu = 0; cpu < vcpus; cpu++)
			EXPECT_EQ(highest_of_run(&child, cpu), top[cpu]);
		vm_close(&child);
	}
	VM_SET(&vm, stop, 1);
	for (cpu = 0; cpu < vcpus; cpu++) {
		vcpu_join(&vm.vcpu[cpu]);
		EXPECT_GT(highest_of_run(&vm, cpu), before[cpu]);
	}
	vm_close(&vm);
}

TEST(one_vcpu_writes)
{
	fork_under_writes(1, 100);
}

TEST(two_vcpus_write)
{
	fork_under_writes(2, 50);
}

/* ---- vCPUs that write everywhere, in parent and child ------------------------------ */

#define MIX_PAGES	2048		/* that all vCPUs write, each its own word of each */
#define MIX_LOG(cpu)	(AREA + (cpu) * MIX_PAGES * 8)
#define MIX_AREA	(AREA + 2 * MIB)
#define MIX_VCPUS	2

/* @arg: the vCPU, and the machine's number above it, which is in what it writes */
static void guest_mix(u64 arg)
{
	u64 cpu = arg & 0xff, x = arg * 0x9e3779b97f4a7c15ULL + 1, n = arg >> 8 << 48, page;

	while (!READ_ONCE(stop)) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		page = x % MIX_PAGES;
		n++;
		WRITE_ONCE(*(u64 *)(MIX_AREA + page * PAGE + cpu * 8), n);
		WRITE_ONCE(*(u64 *)(MIX_LOG(cpu) + page * 8), n);
	}
}

static void mix_start(struct test_vm *vm, u64 number)
{
	u32 cpu;

	VM_SET(vm, stop, 0);
	for (cpu = 0; cpu < MIX_VCPUS; cpu++) {
		vcpu_set_entry(&vm->vcpu[cpu], guest_mix, number << 8 | cpu);
		vcpu_start(&vm->vcpu[cpu]);
	}
}

static void mix_stop(struct test_vm *vm)
{
	u32 cpu;

	VM_SET(vm, stop, 1);
	for (cpu = 0; cpu < MIX_VCPUS; cpu++)
		vcpu_join(&vm->vcpu[cpu]);
}

/*
 * Every byte is what the machine's own vCPUs have logged, or what was there before.
 * A new child may lack one entry for each vCPU, which is added.
 */
static void mix_compare(struct test_vm *vm, bool is_new, const char *who)
{
	static u64 log[MIX_VCPUS][MIX_PAGES], page[PAGE / 8];
	unsigned int missing[MIX_VCPUS] = {};
	u64 i, j;
	u32 cpu;

	for (cpu = 0; cpu < MIX_VCPUS; cpu++)
		vm_read(vm, MIX_LOG(cpu), log[cpu], sizeof(log[cpu]));
	for (i = 0; i < MIX_PAGES; i++) {
		vm_read(vm, MIX_AREA + i * PAGE, page, sizeof(page));
		for (cpu = 0; cpu < MIX_VCPUS; cpu++) {
			if (page[cpu] == log[cpu][i])
				continue;
			missing[cpu]++;
			vm_write(vm, MIX_LOG(cpu) + i * 8, &page[cpu], 8);
		}
		for (j = MIX_VCPUS; j < ARRAY_SIZE(page); j++)
			if (!EXPECT_THAT(page[j] == ~i, "%s: page %llu word %llu is %llx", who, i,
					 j, page[j]))
				return;
	}
	for (cpu = 0; cpu < MIX_VCPUS; cpu++)
		EXPECT_LE(missing[cpu], is_new ? 1 : 0);
}

/* Faults on the same tables and pages by all vCPUs of two machines, and forks meanwhile */
TEST_LIMIT(all_write_while_forked, 180)
{
	static u64 page[PAGE / 8];
	struct test_vm vm, child;
	u64 i, j;

	vm_boot(&vm, MIX_VCPUS, 64 * MIB);
	for (i = 0; i < MIX_PAGES; i++) {
		for (j = 0; j < ARRAY_SIZE(page); j++)
			page[j] = j < MIX_VCPUS ? 0 : ~i;
		vm_write(&vm, MIX_AREA + i * PAGE, page, sizeof(page));
	}
	mix_start(&vm, 0);
	for (i = 1; i <= (host_is_bochs() ? 3 : 10); i++) {
		usleep(5000);
		vm_fork(&vm, &child);
		mix_compare(&child, true, "new child");
		for (j = 0; j < MIX_VCPUS; j++)
			vm_vcpu(&child, j);
		mix_start(&child, i);
		for (j = 0; j < 5; j++) {	/* what nobody runs */
			usleep(2000);
			close(vm_fd_fork(vm.fd));
			close(vm_fd_fork(child.fd));
		}
		mix_stop(&child);
		mix_compare(&child, false, "child");
		vm_close(&child);
	}
	mix_stop(&vm);
	mix_compare(&vm, false, "parent");
	vm_close(&vm);
}

/* ---- vCPUs in the child ---------------------------------------------------------- */

#define TIMER_VECTOR	0x41
#define MARK		0x5eed0000ULL
#define CLOCK		(VM_SCRATCH + 0x1000)
#define KVM_SYSTEM_TIME	0x4b564d01

static u64 shared_word;
static u32 no_interrupts;

/* What it set before the fork must be there after it, in both */
static void guest_goes_on(u64 arg)
{
	u64 before, mark = MARK, got;

	wrmsr(APIC_SVR, APIC_ENABLED);
	wrmsr(APIC_LVTT, TIMER_VECTOR | LVT_DEADLINE);
	wrmsr(APIC_TPR, 0x30);
	wrmsr(MSR_KERNEL_GS_BASE, MARK + 1);
	wrmsr(MSR_STAR, (MARK + 2) << 32);
	wrmsr(MSR_TSC, 1ULL << 40);
	wrmsr(KVM_SYSTEM_TIME, CLOCK | 1);
	wrmsr(APIC_SELF_IPI, 0x31);
	write_cr2(MARK + 3);
	WRITE_ONCE(shared_word, MARK + 4);
	before = read_tsc();
	wrmsr(MSR_TSC_DEADLINE, before + 200000000);
	asm volatile("movq %1, %%xmm5\n\t"
		     "mov %2, %%edx\n\t"
		     "outl %%eax, %%dx\n\t"		/* guest_sync(): here is the fork */
		     "movq %%xmm5, %0"
		     : "=r"(got) : "r"(mark), "i"(PORT_SYNC), "a"(1) : "rdx", "xmm5", "memory");
	GUEST_EQ(got, MARK);
	GUEST_EQ(rdmsr(APIC_TPR), 0x30);
	GUEST_EQ(rdmsr(MSR_KERNEL_GS_BASE), MARK + 1);
	GUEST_EQ(rdmsr(MSR_STAR), (MARK + 2) << 32);
	GUEST_EQ(rdmsr(KVM_SYSTEM_TIME), CLOCK | 1);
	GUEST_EQ(read_cr2(), MARK + 3);
	GUEST_EQ(READ_ONCE(shared_word), MARK + 4);
	WRITE_ONCE(shared_word, arg + READ_ONCE(shared_word));
	GUEST_TRUE(read_tsc() > before);
	GUEST_TRUE(read_tsc() - before < 1ULL << 38);
	GUEST_TRUE(guest_apic_bit(APIC_IRR, 0x31));
	if (READ_ONCE(no_interrupts))
		return;
	wrmsr(APIC_TPR, 0);
	while (!READ_ONCE(guest_count[TIMER_VECTOR]))
		guest_halt();
	GUEST_EQ(READ_ONCE(guest_count[0x31]), 1);
	GUEST_EQ(READ_ONCE(guest_count[TIMER_VECTOR]), 1);
	GUEST_TRUE(read_tsc() >= before + 200000000);
}

TEST(vcpu_goes_on)
{
	struct test_vm vm, child, grandchild;
	u64 a, b, offset;

	vm_boot(&vm, 1, 64 * MIB);
	/*
	 * Bochs says nothing of an interrupt that the processor delivers by itself
	 * and whose delivery meets the write protection: what comes back is the event
	 * before.  The rest of the state is tried all the same.
	 */
	VM_SET(&vm, no_interrupts, (vm.info.features & VIREO_FEAT_APICV) && host_is_bochs());
	if (VM_GET(&vm, no_interrupts))
		test_note("without the interrupts: the processor delivers them itself");
	vcpu_set_entry(&vm.vcpu[0], guest_goes_on, 5);
	ASSERT_EQ(vcpu_run_sync(&vm.vcpu[0]), 1);
	vm_fork(&vm, &child);
	vcpu_clone(&vm.vcpu[0], &child);
	ASSERT_EQ(vcpu_fd_get_msr(vm.vcpu[0].fd, VIREO_MSR_TSC_OFFSET, &offset), 1);
	ASSERT_EQ(vcpu_fd_get_msr(child.vcpu[0].fd, VIREO_MSR_TSC_OFFSET, &a), 1);
	EXPECT_EQ(a, offset);
	vm_fork(&child, &grandchild);
	vcpu_clone(&child.vcpu[0], &grandchild);
	EXPECT_EQ(vcpu_run_done(&child.vcpu[0]), 0);
	EXPECT_EQ(vcpu_run_done(&vm.vcpu[0]), 0);
	a = VM_GET(&vm, shared_word);
	b = VM_GET(&grandchild, shared_word);
	EXPECT_EQ(a, MARK + 9);
	EXPECT_EQ(b, MARK + 4);
	vm_close(&child);
	vm_close(&vm);
	EXPECT_EQ(vcpu_run_done(&grandchild.vcpu[0]), 0);
	vm_close(&grandchild);
}

/* The guest does not find the register that is user space's alone */
static void guest_no_offset(u64 arg)
{
	u64 value;

	GUEST_EQ(rdmsr_try(VIREO_MSR_TSC_OFFSET, &value), GUEST_FAULT | VEC_GP);
	GUEST_EQ(wrmsr_try(VIREO_MSR_TSC_OFFSET, 1), GUEST_FAULT | VEC_GP);
}

TEST(offset_is_not_the_guests)
{
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_no_offset, 0);
	EXPECT_EQ(vcpu_run_done(&vm.vcpu[0]), 0);
	vm_close(&vm);
}

static void guest_waits(u64 arg)
{
	WRITE_ONCE(shared_word, guest_apic_id() + 1);
}

/* An INIT and a SIPI that have come go with the APIC */
TEST(pending_sipi)
{
	struct test_vm vm, child;
	struct vireo_lapic lapic;
	struct test_vcpu *ap;
	struct vireo_regs regs;

	vm_boot(&vm, 2, 64 * MIB);
	ap = &vm.vcpu[1];
	ASSERT_EQ(vireo_lapic_get(ap->fd, &lapic), 0);
	EXPECT_EQ(lapic.requests, 0);
	lapic.requests = VIREO_LAPIC_SIPI | VIREO_LAPIC_UNHALT;
	lapic.sipi_vector = 0x12;
	lapic.esr_next = 0x40;
	ASSERT_EQ(vireo_lapic_set(ap->fd, &lapic), 0);
	vm_fork(&vm, &child);
	vcpu_clone(ap, &child);
	ASSERT_EQ(vireo_lapic_get(child.vcpu[1].fd, &lapic), 0);
	EXPECT_EQ(lapic.requests, VIREO_LAPIC_SIPI | VIREO_LAPIC_UNHALT);
	EXPECT_EQ(lapic.sipi_vector, 0x12);
	EXPECT_EQ(lapic.esr_next, 0x40);
	lapic.requests = 0x10;
	EXPECT_EQ(vireo_lapic_set(ap->fd, &lapic), -1);
	lapic.requests = 0;
	lapic.sipi_vector = 0x100;
	EXPECT_EQ(vireo_lapic_set(ap->fd, &lapic), -1);
	vcpu_get_regs(&child.vcpu[1], &regs);
	EXPECT_EQ(regs.mp_state, VIREO_MP_INIT);
	vm_close(&child);
	vm_close(&vm);
}

/* ---- Lives ------------------------------------------------------------------------- */

static void fork_and_run(struct test_vm *vm)
{
	struct test_vm child;
	u64 seen;

	vm_fork(vm, &child);
	vm_vcpu(&child, 0);
	vcpu_set_entry(&child.vcpu[0], guest_waits, 0);
	ASSERT_EQ(vcpu_run_done(&child.vcpu[0]), 0);
	seen = VM_GET(&child, shared_word);
	EXPECT_EQ(seen, 1);
	vm_close(&child);
}

/* Each the parent of the next, and gone before it runs */
TEST(generations)
{
	struct test_vm vm, child;
	u64 seen;
	int i;

	vm_boot(&vm, 1, 64 * MIB);
	for (i = 0; i < 50; i++) {
		VM_SET(&vm, shared_word, 100 + i);
		vm_fork(&vm, &child);
		vm_close(&vm);
		vm = child;
		seen = VM_GET(&vm, shared_word);
		EXPECT_EQ(seen, 100 + i);
	}
	fork_and_run(&vm);
	vm_close(&vm);
}

TEST_LIMIT(a_thousand_forks, 300)
{
	s64 before, after = 0;
	struct test_vm vm;
	int i;

	vm_boot(&vm, 1, 64 * MIB);
	for (i = 0; i < 20; i++)
		fork_and_run(&vm);	/* what is allocated once is now there */
	usleep(200000);
	before = file_number("/proc/meminfo", "MemAvailable");
	for (i = 0; i < 1000; i++)
		fork_and_run(&vm);
	for (i = 0; i < 50; i++) {
		after = file_number("/proc/meminfo", "MemAvailable");
		if (before - after < 2048)
			break;
		usleep(100000);
	}
	/*
	 * A page for each would be 4000 kB. A debug kernel's KASAN keeps more than that in
	 * quarantine; there kmemleak finds what is lost.
	 */
	if (!host_is_checked())
		EXPECT_LT(before - after, 3500);
	vm_close(&vm);
}

TEST_LIMIT(five_hundred_at_once, 300)
{
	static int clone[500];
	struct test_vm vm;
	s64 before, after;
	int i;

	vm_boot(&vm, 1, 256 * MIB);
	before = file_number("/proc/meminfo", "MemAvailable");
	for (i = 0; i < ARRAY_SIZE(clone); i++) {
		clone[i] = vm_fd_fork(vm.fd);
		ASSERT_GE(clone[i], 0);
	}
	after = file_number("/proc/meminfo", "MemAvailable");
	test_note("%lld kB for each of %zu", (before - after) / (s64)ARRAY_SIZE(clone),
		  ARRAY_SIZE(clone));
	EXPECT_LT(before - after, 32 * (s64)ARRAY_SIZE(clone));
	vm_close(&vm);
	for (i = 0; i < ARRAY_SIZE(clone); i++)
		close(clone[i]);
}

TEST_MAIN()
