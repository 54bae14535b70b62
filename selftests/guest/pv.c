// SPDX-License-Identifier: GPL-2.0
/* Time, and what guests know of KVM: clock, steal time, PV EOI, hypercalls. */
#include <string.h>
#include <time.h>

#include "guest.h"
#include "harness.h"
#include "vm.h"

#define MSR_WALL_CLOCK	0x4b564d00
#define MSR_SYSTEM_TIME	0x4b564d01
#define MSR_STEAL_TIME	0x4b564d03
#define MSR_PV_EOI	0x4b564d04
#define HC_KICK_CPU	5
#define HC_SEND_IPI	10

struct pvclock {
	u32 version;
	u32 pad0;
	u64 tsc_timestamp;
	u64 system_time;
	u32 tsc_to_system_mul;
	s8 tsc_shift;
	u8 flags;
	u8 pad[2];
} __packed __aligned(32);

struct wall_clock {
	u32 version;
	u32 sec;
	u32 nsec;
} __aligned(16);

struct steal {
	u64 steal;
	u32 version;
	u32 flags;
	u8 preempted;
	u8 pad0[3];
	u32 pad[11];
} __aligned(64);

static struct pvclock clocks[4];
static struct wall_clock wall;
static struct steal steal;
static u32 eoi_word;

static void run_guest(void (*fn)(u64), u64 arg)
{
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], fn, arg);
	vcpu_run_done(&vm.vcpu[0]);
	vm_close(&vm);
}

/* ---- TSC --------------------------------------------------------------------------- */

static void guest_tsc(u64 limit)
{
	u64 last = read_tsc(), now;
	u32 i;

	GUEST_TRUE(last < limit);
	for (i = 0; i < 2000; i++) {
		if (i % 4 == 0)
			cpuid(0, 0);
		if (i % 64 == 0)
			out8(0x80, 0);
		now = read_tsc();
		GUEST_TRUE(now > last);
		last = now;
	}
	now = rdmsr(MSR_TSC);
	GUEST_TRUE(now > last);
}

static void run_ignoring_port80(struct test_vcpu *vcpu)
{
	do {
		vcpu_run_exit(vcpu, VIREO_EXIT_IO);
	} while (vcpu->run->io.port == 0x80);
	EXPECT_EQ(vcpu->run->io.port, PORT_DONE);
}

TEST(tsc_starts_near_zero_and_grows)
{
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	/* Less than a minute old, where the host is older */
	vcpu_set_entry(&vm.vcpu[0], guest_tsc, vm.info.tsc_khz * 1000ULL * 10);
	run_ignoring_port80(&vm.vcpu[0]);
}

/* Two vCPUs hand a time stamp back and forth: it never goes backwards */
static u64 stamp;
static u32 turn;

static void guest_stamp(u64 id)
{
	u64 now, i;

	for (i = 0; i < 500; i++) {
		while (READ_ONCE(turn) != id)
			guest_pause();
		now = read_tsc();
		if (now < stamp)
			guest_fail(__FILE__, __LINE__, "TSC across vCPUs", now, stamp);
		stamp = now;
		if (i % 16 == 0)
			cpuid(0, 0);
		WRITE_ONCE(turn, !id);
	}
}

TEST_LIMIT(tsc_across_vcpus, 120)
{
	struct test_vm vm;

	vm_boot(&vm, 2, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_stamp, 0);
	vcpu_set_entry(&vm.vcpu[1], guest_stamp, 1);
	vcpu_start(&vm.vcpu[0]);
	vcpu_start(&vm.vcpu[1]);
	vcpu_join(&vm.vcpu[0]);
	vcpu_join(&vm.vcpu[1]);
}

/* The rate that VIREO_GET_INFO tells is the one the guest counts at */
static u64 tsc_seen;

static void guest_tsc_sample(u64 arg)
{
	for (;;) {
		WRITE_ONCE(tsc_seen, read_tsc());
		guest_sync(0);
	}
}

static u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

TEST(tsc_rate)
{
	u64 ns, first, ticks, expected;
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_tsc_sample, 0);
	vcpu_run_sync(&vm.vcpu[0]);
	ns = now_ns();
	first = VM_GET(&vm, tsc_seen);
	usleep(500000);
	vcpu_run_sync(&vm.vcpu[0]);
	ns = now_ns() - ns;
	ticks = VM_GET(&vm, tsc_seen) - first;
	expected = ns / 1000 * vm.info.tsc_khz / 1000;
	EXPECT_GT(ticks, expected / 100 * 75);
	EXPECT_LT(ticks, expected / 100 * 125);
}

/* ---- clock ---------------------------------------------------------------------------- */

static u64 clock_read(struct pvclock *c)
{
	u64 delta, scaled;
	u32 version;

	do {
		version = READ_ONCE(c->version);
		delta = read_tsc() - READ_ONCE(c->tsc_timestamp);
		if (c->tsc_shift >= 0)
			delta <<= c->tsc_shift;
		else
			delta >>= -c->tsc_shift;
		asm("mul %2; shrd $32, %%rdx, %0" : "=a"(scaled)
		    : "0"(delta), "r"((u64)c->tsc_to_system_mul) : "rdx", "cc");
		scaled += READ_ONCE(c->system_time);
	} while (version & 1 || version != READ_ONCE(c->version));
	return scaled;
}

static void guest_clock(u64 arg)
{
	u64 begin, last, now;
	u32 i;

	wrmsr(MSR_SYSTEM_TIME, (uintptr_t)&clocks[0] | 1);
	cpuid(0, 0);
	GUEST_TRUE(READ_ONCE(clocks[0].version) != 0);
	GUEST_EQ(READ_ONCE(clocks[0].version) & 1, 0);
	GUEST_TRUE(clocks[0].tsc_to_system_mul != 0);
	begin = clock_read(&clocks[0]);
	last = begin;
	for (i = 0; i < 2000; i++) {
		if (i % 8 == 0)
			cpuid(0, 0);
		now = clock_read(&clocks[0]);
		GUEST_TRUE(now >= last);
		last = now;
	}
	GUEST_TRUE(last > begin);
	GUEST_TRUE(last - begin < 60000000000ULL);
	WRITE_ONCE(tsc_seen, last);
	guest_sync(1);
	GUEST_TRUE(clock_read(&clocks[0]) > last + 100000000);
	wrmsr(MSR_SYSTEM_TIME, 0);
}

TEST(clock_monotonic)
{
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_clock, 0);
	vcpu_run_sync(&vm.vcpu[0]);
	usleep(200000);
	vcpu_run_done(&vm.vcpu[0]);
}

static void guest_wall_clock(u64 arg)
{
	wrmsr(MSR_WALL_CLOCK, (uintptr_t)&wall);
	GUEST_EQ(READ_ONCE(wall.version) & 1, 0);
	GUEST_TRUE(wall.nsec < 1000000000);
}

TEST(wall_clock)
{
	struct wall_clock w;
	struct test_vm vm;
	s64 now;

	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_wall_clock, 0);
	vcpu_run_done(&vm.vcpu[0]);
	w = VM_GET(&vm, wall);
	now = time(NULL);
	/* The wall clock at the VM's beginning, which was just now */
	EXPECT_LE(w.sec, now + 1);
	EXPECT_GE(w.sec, now - 70);
}

/* Areas that are not RAM, or misaligned: the MSR refuses or nothing is written */
static void guest_bad_areas(u64 arg)
{
	GUEST_EQ(wrmsr_try(MSR_STEAL_TIME, (uintptr_t)&steal | 2 | 1), GUEST_FAULT | VEC_GP);
	GUEST_EQ(wrmsr_try(MSR_PV_EOI, (uintptr_t)&eoi_word | 2 | 1), GUEST_FAULT | VEC_GP);
	wrmsr_try(MSR_SYSTEM_TIME, 0xfffffffff000 | 1);
	wrmsr_try(MSR_STEAL_TIME, 0xffffffffc0 | 1);
	wrmsr_try(MSR_WALL_CLOCK, ~0xfULL);
	wrmsr_try(MSR_PV_EOI, 0xfffffffffffc | 1);
	wrmsr_try(MSR_SYSTEM_TIME, VM_RAM | 1);
	cpuid(0, 0);
	wrmsr_try(MSR_SYSTEM_TIME, (VM_RAM - 8) | 1);	/* across the end of RAM */
	cpuid(0, 0);
	guest_done(5);
}

TEST(areas_outside_ram)
{
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_bad_areas, 0);
	EXPECT_EQ(vcpu_run_done(&vm.vcpu[0]), 5);
}

/* ---- steal time ------------------------------------------------------------------------ */

static void guest_steal(u64 arg)
{
	memset(&steal, 0xff, sizeof(steal));
	WRITE_ONCE(steal.steal, 0);
	WRITE_ONCE(steal.version, 0);
	wrmsr(MSR_STEAL_TIME, (uintptr_t)&steal | 1);
	guest_sync(1);
	GUEST_EQ(READ_ONCE(steal.version) & 1, 0);
	GUEST_TRUE(READ_ONCE(steal.version) != 0);
	GUEST_EQ(READ_ONCE(steal.preempted), 0);
	GUEST_TRUE(READ_ONCE(steal.steal) < 60000000000ULL);
	GUEST_EQ(rdmsr(MSR_STEAL_TIME), (uintptr_t)&steal | 1);
}

TEST(steal_time)
{
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_steal, 0);
	vcpu_run_sync(&vm.vcpu[0]);
	vcpu_run_done(&vm.vcpu[0]);
}

/* ---- PV EOI ------------------------------------------------------------------------------ */

static u32 skipped, done_by_msr;

/* As Linux does: end the interrupt in memory if the bit allows, else by MSR */
GUEST_HANDLER
static void guest_on_interrupt(struct guest_frame *frame)
{
	u32 old = 1;

	asm volatile("btrl $0, %0; sbb %1, %1" : "+m"(eoi_word), "=r"(old) : : "cc");
	if (old) {
		skipped++;
		return;
	}
	done_by_msr++;
	guest_eoi();
}

static void guest_pv_eoi(u64 arg)
{
	u32 i;

	guest_vector[0x51] = guest_on_interrupt;
	wrmsr(APIC_SVR, APIC_ENABLED);
	wrmsr(MSR_PV_EOI, (uintptr_t)&eoi_word | 1);
	for (i = 0; i < 100; i++) {
		wrmsr(APIC_SELF_IPI, 0x51);
		guest_sti();
		guest_cli();
		GUEST_EQ(READ_ONCE(skipped) + READ_ONCE(done_by_msr), i + 1);
	}
	GUEST_TRUE(READ_ONCE(skipped) > 0);
	cpuid(0, 0);
	GUEST_EQ(guest_apic_bit(APIC_ISR, 0x51), 0);
	GUEST_EQ(READ_ONCE(eoi_word) & 1, 0);
	wrmsr(MSR_PV_EOI, 0);
}

TEST(pv_eoi)
{
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	if (vm.info.features & VIREO_FEAT_APICV)
		SKIP("the processor ends interrupts by itself");
	vm_close(&vm);
	run_guest(guest_pv_eoi, 0);
}

/* ---- hypercalls -------------------------------------------------------------------------- */

static void guest_hypercalls(u64 arg)
{
	GUEST_EQ(hypercall(VIREO_HC_NOP, 1, 2, 3, 4), 0);
	GUEST_EQ(hypercall(0x1234, 0, 0, 0, 0), -1000);		/* -KVM_ENOSYS */
	GUEST_EQ(hypercall(~0ULL, 0, 0, 0, 0), -1000);
	GUEST_EQ(hypercall(VIREO_HC_BASE + 0xffff, 0, 0, 0, 0), -1000);
	GUEST_EQ(hypercall(VIREO_HC_NOP | 1ULL << 32, 0, 0, 0, 0), -1000);
	GUEST_EQ(hypercall(HC_KICK_CPU, 0, 0, 0, 0), 0);
	hypercall(HC_KICK_CPU, 0, 99, 0, 0);			/* nobody */
}

TEST(hypercalls)
{
	run_guest(guest_hypercalls, 0);
}

static s64 user_result;

/* Ring 3: SYSCALL-free, through an interrupt gate back to ring 0 */
GUEST_HANDLER
static void guest_on_user_end(struct guest_frame *frame)
{
	user_result = frame->rax;
	guest_done(0);
}

static void guest_user_hypercall(u64 arg)
{
	guest_vector[0x80] = guest_on_user_end;
	asm volatile("push %0; push %1; push $2; push %2\n"
		     "lea 1f(%%rip), %%rax; push %%rax; iretq\n"
		     "1:	mov %3, %%eax\n"
		     "test %4, %4; jz 2f; vmcall; int $0x80\n"
		     "2:	vmmcall; int $0x80; ud2"
		     : : "i"(SEL_USER_DATA | 3), "r"(VM_SCRATCH + 0x1000ULL),
		       "i"(SEL_USER64 | 3), "i"(VIREO_HC_NOP), "r"(guest_is_intel)
		     : "rax", "memory");
}

TEST(hypercall_from_ring3)
{
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_user_hypercall, 0);
	vcpu_run_done(&vm.vcpu[0]);
	EXPECT_EQ(VM_GET(&vm, user_result), -1);		/* -KVM_EPERM */
}

static u32 woken;

static void guest_sleep(u64 arg)
{
	wrmsr(APIC_SVR, APIC_ENABLED);
	WRITE_ONCE(woken, 1);
	guest_cli();
	asm volatile("hlt");			/* interrupts are off: a kick ends it */
	WRITE_ONCE(woken, 2);
}

static void guest_kick(u64 arg)
{
	while (READ_ONCE(woken) != 1)
		guest_pause();
	guest_sync(0);
	while (READ_ONCE(woken) != 2)
		hypercall(HC_KICK_CPU, 0, 1, 0, 0);
}

TEST(kick_cpu)
{
	struct test_vm vm;

	vm_boot(&vm, 2, VM_RAM);
	vcpu_set_entry(&vm.vcpu[1], guest_sleep, 0);
	vcpu_set_entry(&vm.vcpu[0], guest_kick, 0);
	vcpu_start(&vm.vcpu[1]);
	vcpu_run_sync(&vm.vcpu[0]);
	usleep(50000);
	vcpu_run_done(&vm.vcpu[0]);
	vcpu_join(&vm.vcpu[1]);
}

/* RBX, RCX: 128 bits of APIC ids from RDX on; RSI: the ICR's low half */
static void guest_send_ipi(u64 arg)
{
	wrmsr(APIC_SVR, APIC_ENABLED);
	GUEST_EQ(hypercall(HC_SEND_IPI, 0xe, 0, 0, 0x61), 3);
	GUEST_EQ(hypercall(HC_SEND_IPI, 0x1, 0, 2, 0x62), 1);
	GUEST_EQ(hypercall(HC_SEND_IPI, 0, ~0ULL, 0, 0x63), 0);
	GUEST_EQ(hypercall(HC_SEND_IPI, 3, 0, 0xffffffff, 0x63), 0);
}

static void guest_apic_on(u64 arg)
{
	wrmsr(APIC_SVR, APIC_ENABLED);
}

TEST(send_ipi)
{
	struct vireo_lapic lapic;
	struct test_vm vm;
	u32 i;

	vm_boot(&vm, 4, VM_RAM);
	for (i = 1; i < 4; i++) {
		vcpu_set_entry(&vm.vcpu[i], guest_apic_on, 0);
		vcpu_run_done(&vm.vcpu[i]);
	}
	vcpu_set_entry(&vm.vcpu[0], guest_send_ipi, 0);
	vcpu_run_done(&vm.vcpu[0]);
	for (i = 1; i < 4; i++) {
		ASSERT_EQ(vireo_lapic_get(vm.vcpu[i].fd, &lapic), 0);
		EXPECT_EQ(lapic.irr[3], BIT(1) | (i == 2 ? BIT(2) : 0));
	}
}

TEST_MAIN()
