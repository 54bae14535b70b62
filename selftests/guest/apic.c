// SPDX-License-Identifier: GPL-2.0
/* The local APIC: IPIs, priorities, timer, start-up of processors, NMI. */
#include <string.h>
#include <unistd.h>

#include "guest.h"
#include "harness.h"
#include "host.h"
#include "vm.h"

static u32 ready;		/* vCPUs that wait for interrupts */
static u32 stop;
static u32 per_cpu[16];		/* interrupts taken, by APIC id */

static void run_guest(void (*fn)(u64), u64 arg)
{
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], fn, arg);
	vcpu_run_done(&vm.vcpu[0]);
	vm_close(&vm);
}

/* ---- interrupts from outside -------------------------------------------------------- */

GUEST_HANDLER
static void guest_on_ipi(struct guest_frame *frame)
{
	u32 *count = &per_cpu[rdmsr(APIC_ID)];

	asm volatile("lock incl %0" : "+m"(*count));
	guest_eoi();
}

/* Wait in HLT, counting interrupts, until told to stop */
static void guest_waiter(u64 arg)
{
	wrmsr(APIC_SVR, APIC_ENABLED);
	asm volatile("lock incl %0" : "+m"(ready));
	while (!READ_ONCE(stop))
		guest_halt();
}

static void wait_until(u32 *var, u32 value, const char *what)
{
	u64 begin = read_tsc();

	while (READ_ONCE(*var) < value) {
		guest_pause();
		if (read_tsc() - begin > 20000000000ULL)
			guest_fail(__FILE__, __LINE__, what, READ_ONCE(*var), value);
	}
}

static void send_ipi(u64 icr)
{
	wrmsr(APIC_ICR, icr);
}

/* What each vCPU has got after one IPI: bits 4n to 4n + 3 are vCPU n's */
static void expect_ipi(u64 icr, u64 counts, u32 cpus)
{
	u32 i, total = 0;
	u64 begin;

	for (i = 0; i < cpus; i++) {
		WRITE_ONCE(per_cpu[i], 0);
		total += counts >> (4 * i) & 15;
	}
	send_ipi(icr);
	begin = read_tsc();
	for (;;) {
		u64 seen = 0;
		u32 sum = 0;

		guest_sti();
		for (i = 0; i < cpus; i++) {
			sum += READ_ONCE(per_cpu[i]);
			seen |= (u64)READ_ONCE(per_cpu[i]) << (4 * i);
		}
		guest_cli();
		if (seen == counts)
			return;
		if (sum >= total || read_tsc() - begin > 20000000000ULL)
			guest_fail(__FILE__, __LINE__, "IPI counts by vCPU", seen | icr << 32,
				   counts);
	}
}

static void guest_ipis(u64 cpus)
{
	guest_vector[0x60] = guest_on_ipi;
	wrmsr(APIC_SVR, APIC_ENABLED);
	wait_until(&ready, cpus - 1, "the others wait");
	expect_ipi(ICR_DEST(1) | 0x60, 0x0010, 4);
	expect_ipi(ICR_DEST(3) | 0x60, 0x1000, 4);
	expect_ipi(ICR_DEST(0) | 0x60, 0x0001, 4);
	expect_ipi(ICR_SELF | 0x60, 0x0001, 4);
	expect_ipi(ICR_ALL | 0x60, 0x1111, 4);
	expect_ipi(ICR_OTHERS | 0x60, 0x1110, 4);
	expect_ipi(ICR_DEST(~0U) | 0x60, 0x1111, 4);		/* broadcast */
	expect_ipi(ICR_DEST(77) | 0x60, 0, 4);			/* nobody */
	/* Logical: cluster 0, members by bit */
	expect_ipi(ICR_DEST(0x6) | ICR_LOGICAL | 0x60, 0x0110, 4);
	expect_ipi(ICR_DEST(0xf) | ICR_LOGICAL | 0x60, 0x1111, 4);
	expect_ipi(ICR_DEST(0x1000f) | ICR_LOGICAL | 0x60, 0, 4);	/* cluster 1 */
	/* Lowest priority: one of them; only one is named here */
	expect_ipi(ICR_DEST(4) | ICR_LOGICAL | ICR_LOWEST | 0x60, 0x0100, 4);
	GUEST_EQ(rdmsr(APIC_LDR), 1);
	GUEST_EQ(rdmsr(APIC_ICR), ICR_DEST(4) | ICR_LOGICAL | ICR_LOWEST | 0x60);
	WRITE_ONCE(per_cpu[0], 0);
	wrmsr(APIC_SELF_IPI, 0x60);
	guest_sti();
	GUEST_EQ(READ_ONCE(per_cpu[0]), 1);
	guest_cli();
	WRITE_ONCE(stop, 1);
	send_ipi(ICR_OTHERS | 0x60);
}

static void start_waiters(struct test_vm *vm, u32 vcpus)
{
	u32 i;

	vm_boot(vm, vcpus, VM_RAM);
	for (i = 1; i < vcpus; i++) {
		vcpu_set_entry(&vm->vcpu[i], guest_waiter, 0);
		vcpu_start(&vm->vcpu[i]);
	}
}

static void join_waiters(struct test_vm *vm, u32 vcpus)
{
	u32 i;

	for (i = 1; i < vcpus; i++)
		vcpu_join(&vm->vcpu[i]);
}

TEST_LIMIT(ipis, 120)
{
	struct test_vm vm;

	start_waiters(&vm, 4);
	vcpu_set_entry(&vm.vcpu[0], guest_ipis, 4);
	vcpu_run_done(&vm.vcpu[0]);
	join_waiters(&vm, 4);
	vm_close(&vm);
}

/* Ping-pong: neither side may lose a wake-up */
static u32 balls;

GUEST_HANDLER
static void guest_on_ball(struct guest_frame *frame)
{
	guest_eoi();
	if (++balls < 2000)
		wrmsr(APIC_ICR, ICR_DEST(!rdmsr(APIC_ID)) | 0x61);
	else
		wrmsr(APIC_ICR, ICR_ALL | 0x60);
}

GUEST_HANDLER
static void guest_on_stop(struct guest_frame *frame)
{
	WRITE_ONCE(stop, 1);
	guest_eoi();
}

static void guest_ping(u64 arg)
{
	guest_vector[0x60] = guest_on_stop;
	guest_vector[0x61] = guest_on_ball;
	wrmsr(APIC_SVR, APIC_ENABLED);
	wait_until(&ready, 1, "the other waits");
	wrmsr(APIC_ICR, ICR_DEST(1) | 0x61);
	while (!READ_ONCE(stop))
		guest_halt();
	GUEST_EQ(READ_ONCE(balls), 2000);
}

TEST_LIMIT(ipi_ping_pong, 120)
{
	struct test_vm vm;

	start_waiters(&vm, 2);
	vcpu_set_entry(&vm.vcpu[0], guest_ping, 0);
	vcpu_run_done(&vm.vcpu[0]);
	join_waiters(&vm, 2);
}

/* An interrupt for a vCPU that spins: where the processor can take it, without an exit */
#define SHOTS	300

static void guest_target(u64 arg)
{
	guest_vector[0x60] = guest_on_ipi;
	wrmsr(APIC_SVR, APIC_ENABLED);
	WRITE_ONCE(ready, 1);
	guest_sti();
	while (!READ_ONCE(stop))
		guest_pause();
	guest_cli();
}

TEST(interrupts_of_a_running_vcpu)
{
	u64 exits, kicks, posted;
	struct test_vcpu *vcpu;
	struct test_vm vm;
	u32 i;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	vcpu_set_entry(vcpu, guest_target, 0);
	vcpu_start(vcpu);
	while (!VM_GET(&vm, ready))
		usleep(1000);
	exits = vcpu_stat(vcpu, VIREO_STAT_EXIT_INTR);
	kicks = vcpu_stat(vcpu, VIREO_STAT_KICKED);
	for (i = 1; i <= SHOTS; i++) {
		EXPECT_EQ(vm_inject_msi(vm.fd, 0xfee00000, 0x60), 1);
		while (VM_GET(&vm, per_cpu[0]) < i)
			;
	}
	exits = vcpu_stat(vcpu, VIREO_STAT_EXIT_INTR) - exits;
	kicks = vcpu_stat(vcpu, VIREO_STAT_KICKED) - kicks;
	posted = vcpu_stat(vcpu, VIREO_STAT_POSTED);
	VM_SET(&vm, stop, 1);
	vcpu_join(vcpu);
	EXPECT_EQ(VM_GET(&vm, per_cpu[0]), SHOTS);
	test_note("%d interrupts: %llu posted, %llu kicks, %llu exits for host interrupts",
		  SHOTS, posted, kicks, exits);
	if (vm.info.features & VIREO_FEAT_POSTED) {
		EXPECT_LT(kicks, SHOTS / 10);
		/* The timer's, and on a busy host those that end with another thread */
		EXPECT_LT(exits, SHOTS / 2 + 3 * (SHOTS - posted));
	} else {
		EXPECT_EQ(posted, 0);
	}
	vm_close(&vm);
}

/*
 * Two vCPUs send each other one interrupt at a time and wait for it in many ways.  One
 * that is lost leaves both waiting for good.
 */
static u32 rounds;

static void await_ball(u32 self, u32 n)
{
	u32 *count = &per_cpu[self];

	switch (n % 5) {
	case 0:		/* interrupts off, no exit; or many, which look at what there is */
	case 1:
		while (READ_ONCE(*count) < n && !guest_apic_bit(APIC_IRR, 0x60))
			if (n % 5)
				rdmsr(APIC_TMCCT);
		guest_sti();
		guest_cli();
		GUEST_EQ(READ_ONCE(*count), n);
		break;
	case 2:
		guest_sti();
		while (READ_ONCE(*count) < n)
			guest_pause();
		guest_cli();
		break;
	case 3:
		guest_sti();
		while (READ_ONCE(*count) < n)
			cpuid(0, 0);
		guest_cli();
		break;
	default:
		while (READ_ONCE(*count) < n)
			guest_halt();
	}
}

static void guest_player(u64 self)
{
	u32 n, wait;

	guest_vector[0x60] = guest_on_ipi;
	wrmsr(APIC_SVR, APIC_ENABLED);
	asm volatile("lock incl %0" : "+m"(ready));
	wait_until(&ready, 2, "both are there");
	for (n = 1; n <= rounds; n++) {
		if (self)
			await_ball(self, n);
		for (wait = read_tsc() % 61 * n % 61; wait; wait--)	/* any moment */
			guest_pause();
		send_ipi(ICR_DEST(!self) | 0x60);
		if (!self)
			await_ball(self, n);
	}
}

TEST_LIMIT(ipis_in_any_state, 600)
{
	const char *asked = getenv("APIC_ROUNDS");
	struct test_vm vm;
	u32 i;

	rounds = asked ? atoi(asked) : 2000;	/* before the guest has its copy */
	vm_boot(&vm, 2, VM_RAM);
	for (i = 0; i < 2; i++) {
		vcpu_set_entry(&vm.vcpu[i], guest_player, i);
		vcpu_start(&vm.vcpu[i]);
	}
	for (i = 0; i < 2; i++) {
		vcpu_join(&vm.vcpu[i]);
		EXPECT_EQ(VM_GET(&vm, per_cpu[i]), rounds);
		test_note("vCPU %u: %llu posted, %llu kicks, %llu exits for host interrupts", i,
			  vcpu_stat(&vm.vcpu[i], VIREO_STAT_POSTED),
			  vcpu_stat(&vm.vcpu[i], VIREO_STAT_KICKED),
			  vcpu_stat(&vm.vcpu[i], VIREO_STAT_EXIT_INTR));
	}
	vm_close(&vm);
}

/* ---- priorities ---------------------------------------------------------------------- */

static u8 order[16];
static u32 taken;

GUEST_HANDLER
static void guest_on_order(struct guest_frame *frame)
{
	order[taken++] = frame->vector;
	guest_eoi();
}

/* Raises a higher and a lower one in the handler, with interrupts on */
GUEST_HANDLER
static void guest_on_nest(struct guest_frame *frame)
{
	order[taken++] = frame->vector;
	wrmsr(APIC_SELF_IPI, 0x91);
	wrmsr(APIC_SELF_IPI, 0x48);
	asm volatile("sti; nop; nop; cli");
	order[taken++] = 0xff;
	guest_eoi();
}

static void guest_priorities(u64 arg)
{
	u32 i;

	for (i = 0x40; i < 0xa0; i++)
		guest_vector[i] = guest_on_order;
	guest_vector[0x50] = guest_on_nest;
	wrmsr(APIC_SVR, APIC_ENABLED);
	/* The higher vector first, whatever the order of arrival */
	wrmsr(APIC_SELF_IPI, 0x41);
	wrmsr(APIC_SELF_IPI, 0x93);
	wrmsr(APIC_SELF_IPI, 0x71);
	GUEST_TRUE(guest_apic_bit(APIC_IRR, 0x41) && guest_apic_bit(APIC_IRR, 0x93));
	GUEST_EQ(guest_apic_bit(APIC_ISR, 0x93), 0);
	guest_sti();
	guest_cli();
	GUEST_EQ(READ_ONCE(taken), 3);
	GUEST_EQ(order[0] << 16 | order[1] << 8 | order[2], 0x937141);
	WRITE_ONCE(taken, 0);
	wrmsr(APIC_SELF_IPI, 0x50);
	guest_sti();
	guest_cli();
	GUEST_EQ(READ_ONCE(taken), 4);
	GUEST_EQ(order[0] << 24 | order[1] << 16 | order[2] << 8 | order[3], 0x5091ff48);
	GUEST_EQ(guest_apic_bit(APIC_ISR, 0x50), 0);
	GUEST_EQ(guest_apic_bit(APIC_IRR, 0x48), 0);
}

static void guest_eoi_exits(u64 arg)
{
	u32 i;

	wrmsr(APIC_SVR, APIC_ENABLED);
	guest_sti();
	for (i = 0; i < 10; i++)
		wrmsr(APIC_SELF_IPI, 0x51);
	guest_cli();
	GUEST_EQ(READ_ONCE(guest_count[0x51]), 10);
	wrmsr(APIC_TPR, 0x60);
	GUEST_EQ(read_cr8(), 6);
	GUEST_EQ(rdmsr(APIC_PPR), 0x60);
	wrmsr(APIC_TPR, 0);
}

/* Where the processor has the means none of this exits. */
TEST(exits_of_end_of_interrupt)
{
	struct test_vm vm;
	bool apicv;

	vm_boot(&vm, 1, VM_RAM);
	apicv = vm.info.features & VIREO_FEAT_APICV;
	vcpu_set_entry(&vm.vcpu[0], guest_eoi_exits, 0);
	vcpu_run_done(&vm.vcpu[0]);
	EXPECT_EQ(vcpu_stat(&vm.vcpu[0], VIREO_STAT_EXIT_EOI), apicv ? 0 : 10);
	EXPECT_EQ(vcpu_stat(&vm.vcpu[0], VIREO_STAT_EXIT_ICR), apicv ? 0 : 10);
	EXPECT_EQ(vcpu_stat(&vm.vcpu[0], VIREO_STAT_EXIT_MSR_READ) == 0, apicv);
}

TEST(priorities)
{
	run_guest(guest_priorities, 0);
}

static void guest_tpr(u64 arg)
{
	guest_vector[0x51] = guest_on_order;
	guest_vector[0x71] = guest_on_order;
	wrmsr(APIC_SVR, APIC_ENABLED);
	/* Not 5: QEMU's TCG lets a virtual interrupt of the same class through. */
	write_cr8(6);
	wrmsr(APIC_SELF_IPI, 0x51);
	wrmsr(APIC_SELF_IPI, 0x71);
	GUEST_EQ(rdmsr(APIC_PPR), 0x60);
	guest_sti();
	GUEST_EQ(READ_ONCE(taken), 1);		/* class 5 is held back */
	GUEST_EQ(order[0], 0x71);
	asm volatile("nop");
	write_cr8(4);
	asm volatile("nop");
	GUEST_EQ(READ_ONCE(taken), 2);
	GUEST_EQ(order[1], 0x51);
	/* The same by MSR */
	wrmsr(APIC_TPR, 0x60);
	wrmsr(APIC_SELF_IPI, 0x51);
	GUEST_EQ(READ_ONCE(taken), 2);
	wrmsr(APIC_TPR, 0);
	asm volatile("nop");
	GUEST_EQ(READ_ONCE(taken), 3);
	guest_cli();
}

TEST(task_priority)
{
	if (host_is_emulated())
		SKIP("this emulator ends in an assertion when CR8 lets a virtual interrupt in");
	run_guest(guest_tpr, 0);
}

/* STI and MOV SS hold interrupts back for one instruction */
static void guest_shadow(u64 arg)
{
	guest_vector[0x51] = guest_on_order;
	wrmsr(APIC_SVR, APIC_ENABLED);
	wrmsr(APIC_SELF_IPI, 0x51);
	asm volatile("sti; cli" : : : "memory");
	GUEST_EQ(READ_ONCE(taken), 0);
	asm volatile("sti; nop; cli" : : : "memory");
	GUEST_EQ(READ_ONCE(taken), 1);
}

TEST(interrupt_shadow)
{
	run_guest(guest_shadow, 0);
}

/* With IF clear none goes in, whatever comes up on the host in the meantime. */
static void guest_closed(u64 khz)
{
	u64 begin;
	u32 i;

	guest_vector[0x51] = guest_on_order;
	wrmsr(APIC_SVR, APIC_ENABLED);
	for (i = 0; i < 10; i++) {
		WRITE_ONCE(taken, 0);
		guest_sti();
		guest_cli();
		wrmsr(APIC_SELF_IPI, 0x51);
		begin = read_tsc();
		while (read_tsc() - begin < 3 * khz)
			guest_pause();
		GUEST_EQ(READ_ONCE(taken), 0);
		guest_sti();
		GUEST_EQ(READ_ONCE(taken), 1);
		guest_cli();
	}
}

TEST(no_interrupt_with_if_clear)
{
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	if ((vm.info.features & VIREO_FEAT_APICV) && host_is_bochs()) {
		vm_close(&vm);
		SKIP("this emulator delivers virtual interrupts in place of the host's");
	}
	vcpu_set_entry(&vm.vcpu[0], guest_closed, vm.info.tsc_khz);
	vcpu_run_done(&vm.vcpu[0]);
	vm_close(&vm);
}

/* ---- registers ------------------------------------------------------------------------ */

static void guest_registers(u64 arg)
{
	static const u32 read_only[] = {
		APIC_ID, APIC_VERSION, APIC_PPR, APIC_LDR, APIC_ISR, APIC_TMR, APIC_IRR,
		APIC_TMCCT,
	};
	static const u32 absent[] = {
		0x800, 0x801, 0x804, 0x807, 0x809, 0x80c, 0x80e, 0x831, 0x83a, 0x83d, 0x840,
		0x8ff, 0xbff,
	};
	u64 value;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(read_only); i++) {
		GUEST_EQ(rdmsr_try(read_only[i], &value), 0);
		GUEST_EQ(wrmsr_try(read_only[i], 0), GUEST_FAULT | VEC_GP);
	}
	for (i = 0; i < ARRAY_SIZE(absent); i++) {
		GUEST_EQ(rdmsr_try(absent[i], &value), GUEST_FAULT | VEC_GP);
		GUEST_EQ(wrmsr_try(absent[i], 0), GUEST_FAULT | VEC_GP);
	}
	GUEST_EQ(rdmsr_try(APIC_EOI, &value), GUEST_FAULT | VEC_GP);
	GUEST_EQ(rdmsr_try(APIC_SELF_IPI, &value), GUEST_FAULT | VEC_GP);
	/* Reserved bits */
	GUEST_EQ(wrmsr_try(APIC_EOI, 1), GUEST_FAULT | VEC_GP);
	GUEST_EQ(wrmsr_try(APIC_SVR, BIT(31)), GUEST_FAULT | VEC_GP);
	GUEST_EQ(wrmsr_try(APIC_TPR, 0x100), GUEST_FAULT | VEC_GP);
	GUEST_EQ(wrmsr_try(APIC_ESR, 1), GUEST_FAULT | VEC_GP);
	GUEST_EQ(wrmsr_try(APIC_TMICT, 1ULL << 32), GUEST_FAULT | VEC_GP);
	GUEST_EQ(wrmsr_try(APIC_TDCR, 0x10), GUEST_FAULT | VEC_GP);
	GUEST_EQ(wrmsr_try(APIC_SELF_IPI, 0x100), GUEST_FAULT | VEC_GP);
	GUEST_EQ(wrmsr_try(APIC_LVTT, BIT(31)), GUEST_FAULT | VEC_GP);
	GUEST_EQ(wrmsr_try(APIC_SVR, 1ULL << 32), GUEST_FAULT | VEC_GP);
	value = rdmsr(APIC_VERSION);
	GUEST_TRUE((value & 0xff) >= 0x10 && (value & 0xff) < 0x20);
	GUEST_TRUE((value >> 16 & 0xff) >= 5);
}

TEST(registers)
{
	run_guest(guest_registers, 0);
}

/* Switched off by SVR: LVTs are masked and stay so, nothing arrives */
static void guest_software_disable(u64 arg)
{
	GUEST_EQ(rdmsr(APIC_SVR) & 0x100, 0);
	wrmsr(APIC_LVTT, 0x55);
	GUEST_EQ(rdmsr(APIC_LVTT) & LVT_MASKED, LVT_MASKED);
	wrmsr(APIC_SVR, 0x1fe);
	wrmsr(APIC_LVTT, 0x55);
	GUEST_EQ(rdmsr(APIC_LVTT), 0x55);
	wrmsr(APIC_SVR, 0xfe);
	GUEST_EQ(rdmsr(APIC_LVTT), LVT_MASKED | 0x55);
	wrmsr(APIC_ICR, ICR_DEST(0) | 0x61);
	GUEST_EQ(guest_apic_bit(APIC_IRR, 0x61), 0);
}

TEST(software_disable)
{
	run_guest(guest_software_disable, 0);
}

/* A vector below 16 is an error: ESR shows it after a write, and the LVT tells */
static void guest_errors(u64 arg)
{
	guest_vector[0x77] = guest_on_order;
	wrmsr(APIC_SVR, APIC_ENABLED);
	wrmsr(APIC_ESR, 0);
	GUEST_EQ(rdmsr(APIC_ESR), 0);
	wrmsr(APIC_LVT_ERROR, 0x77);
	wrmsr_try(APIC_SELF_IPI, 5);
	GUEST_EQ(guest_apic_bit(APIC_IRR, 5), 0);
	wrmsr(APIC_ESR, 0);
	GUEST_TRUE(rdmsr(APIC_ESR) & (BIT(5) | BIT(6)));	/* send or receive */
	guest_sti();
	guest_cli();
	GUEST_TRUE(READ_ONCE(taken) >= 1);
	wrmsr(APIC_ESR, 0);
	GUEST_EQ(rdmsr(APIC_ESR), 0);
}

TEST(error_status)
{
	run_guest(guest_errors, 0);
}

/* ---- timer -------------------------------------------------------------------------- */

static u32 ticks;

GUEST_HANDLER
static void guest_on_tick(struct guest_frame *frame)
{
	ticks++;
	guest_eoi();
}

static void timer_setup(u32 lvt)
{
	guest_vector[0x55] = guest_on_tick;
	WRITE_ONCE(ticks, 0);
	wrmsr(APIC_SVR, APIC_ENABLED);
	wrmsr(APIC_TMICT, 0);
	wrmsr(APIC_LVTT, lvt | 0x55);
}

/* @khz: of the TSC */
static void guest_one_shot(u64 khz)
{
	static const u8 dividers[] = { 0xb, 0, 1, 2, 3, 8, 9, 0xa };	/* 1 to 128 */
	u64 took;
	u32 i;

	timer_setup(0);
	for (i = 0; i < sizeof(dividers); i++) {
		wrmsr(APIC_TDCR, dividers[i]);
		GUEST_EQ(rdmsr(APIC_TDCR), dividers[i]);
		WRITE_ONCE(ticks, 0);
		took = read_tsc();
		wrmsr(APIC_TMICT, 1000000);
		GUEST_TRUE(rdmsr(APIC_TMCCT) <= 1000000);
		while (!READ_ONCE(ticks))
			guest_halt();
		took = read_tsc() - took;
		GUEST_EQ(READ_ONCE(ticks), 1);
		GUEST_EQ(rdmsr(APIC_TMCCT), 0);
		/* Never early, at 1 GHz and but for the clocks' rounding; late is the host's */
		GUEST_TRUE(took >= (khz << i) - (khz << i) / 8);
	}
	/* It does not fire twice */
	took = read_tsc();
	while (read_tsc() - took < 20000000)
		guest_sti();
	guest_cli();
	GUEST_EQ(READ_ONCE(ticks), 1);
}

TEST(timer_one_shot)
{
	struct vireo_info info = { .size = sizeof(info) };

	int dev = dev_open();

	ASSERT_EQ(do_ioctl(dev, VIREO_GET_INFO, &info), 0);
	close(dev);
	run_guest(guest_one_shot, info.tsc_khz);
}

static void guest_periodic(u64 arg)
{
	timer_setup(LVT_PERIODIC);
	wrmsr(APIC_TDCR, 0xb);
	wrmsr(APIC_TMICT, 2000000);
	while (READ_ONCE(ticks) < 10)
		guest_halt();
	wrmsr(APIC_TMICT, 0);
	guest_sti();
	guest_cli();
	WRITE_ONCE(ticks, 0);
	GUEST_EQ(rdmsr(APIC_TMCCT), 0);
}

TEST(timer_periodic)
{
	run_guest(guest_periodic, 0);
}

static void guest_deadline(u64 arg)
{
	u64 deadline;
	u32 i;

	timer_setup(LVT_DEADLINE);
	for (i = 1; i <= 5; i++) {
		deadline = read_tsc() + 5000000;
		wrmsr(MSR_TSC_DEADLINE, deadline);
		while (READ_ONCE(ticks) < i)
			guest_halt();
		GUEST_TRUE(read_tsc() >= deadline);
		GUEST_EQ(rdmsr(MSR_TSC_DEADLINE), 0);
	}
	/* One in the past fires at once */
	wrmsr(MSR_TSC_DEADLINE, 1);
	while (READ_ONCE(ticks) < 6)
		guest_halt();
	/* 0 disarms; so does another mode */
	wrmsr(MSR_TSC_DEADLINE, read_tsc() + 10000000);
	wrmsr(MSR_TSC_DEADLINE, 0);
	deadline = read_tsc() + 30000000;
	while (read_tsc() < deadline)
		guest_sti();
	GUEST_EQ(READ_ONCE(ticks), 6);
	/* The initial count does nothing in this mode */
	wrmsr(APIC_TMICT, 100);
	GUEST_EQ(rdmsr(APIC_TMCCT), 0);
}

TEST(timer_deadline)
{
	run_guest(guest_deadline, 0);
}

static void guest_masked(u64 arg)
{
	u64 begin;

	timer_setup(LVT_MASKED);
	wrmsr(APIC_TDCR, 0xb);
	wrmsr(APIC_TMICT, 100000);
	begin = read_tsc();
	while (rdmsr(APIC_TMCCT) && read_tsc() - begin < 20000000000ULL)
		guest_sti();
	GUEST_EQ(rdmsr(APIC_TMCCT), 0);
	GUEST_EQ(READ_ONCE(ticks), 0);
	GUEST_EQ(guest_apic_bit(APIC_IRR, 0x55), 0);
	guest_cli();
}

TEST(timer_masked)
{
	run_guest(guest_masked, 0);
}

/* A deadline armed by one thread wakes the vCPU in HLT although nothing runs */
TEST(timer_survives_interruption)
{
	struct test_vcpu *vcpu;
	struct test_vm vm;
	int i;

	signal_install();
	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	vcpu_set_entry(vcpu, guest_deadline, 0);
	vcpu_start(vcpu);
	for (i = 0; i < 50; i++) {
		vcpu_signal(vcpu);
		usleep(1000);
		if (!pthread_tryjoin_np(vcpu->thread, NULL))
			return;
	}
	vcpu_join(vcpu);
}

/* ---- NMI, INIT, SIPI --------------------------------------------------------------------- */

static u32 nmis, nmi_depth, nmi_depth_max;

GUEST_HANDLER
static void guest_on_nmi(struct guest_frame *frame)
{
	u32 i;

	if (++nmi_depth > nmi_depth_max)
		nmi_depth_max = nmi_depth;
	if (++nmis == 1) {
		/* Blocked until IRET, also over exits; several are one */
		wrmsr(APIC_ICR, ICR_SELF | ICR_NMI);
		for (i = 0; i < 10; i++) {
			cpuid(0, 0);
			wrmsr(APIC_ICR, ICR_SELF | ICR_NMI);
		}
	}
	nmi_depth--;
}

static void guest_nmi(u64 arg)
{
	guest_vector[VEC_NMI] = guest_on_nmi;
	wrmsr(APIC_SVR, APIC_ENABLED);
	wrmsr(APIC_ICR, ICR_DEST(0) | ICR_NMI);
	cpuid(0, 0);
	cpuid(0, 0);
	GUEST_TRUE(READ_ONCE(nmis) == 2 || READ_ONCE(nmis) == 3);
	GUEST_EQ(READ_ONCE(nmi_depth_max), 1);
}

TEST(nmi_blocked_until_iret)
{
	run_guest(guest_nmi, 0);
}

static void guest_nmi_wait(u64 arg)
{
	guest_vector[VEC_NMI] = guest_on_order;
	asm volatile("cli; hlt");		/* an NMI ends HLT although IF is off */
	GUEST_EQ(READ_ONCE(taken), 1);
}

TEST(nmi_ends_halt)
{
	struct test_vcpu *vcpu;
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	vcpu_set_entry(vcpu, guest_nmi_wait, 0);
	vcpu_start(vcpu);
	usleep(100000);
	EXPECT_EQ(vm_inject_msi(vm.fd, 0xfee00000, 0x400), 1);
	vcpu_join(vcpu);
}

static void guest_start_others(u64 cpus)
{
	u32 i;

	wrmsr(APIC_SVR, APIC_ENABLED);
	wrmsr(APIC_ICR, ICR_OTHERS | ICR_INIT | ICR_ASSERT);
	for (i = 1; i < cpus; i++) {
		wrmsr(APIC_ICR, ICR_DEST(i) | ICR_SIPI | (VM_CODE >> 12));
		wrmsr(APIC_ICR, ICR_DEST(i) | ICR_SIPI | (VM_CODE >> 12));
	}
	wait_until((u32 *)0x500, cpus - 1, "application processors came up");
}

/* In real mode, at SIPI's page: each counts at 0x500 */
TEST_LIMIT(start_up, 120)
{
	static const u8 ap[] = {
		0xfa,					/* cli */
		0x66, 0x31, 0xc0,			/* xor %eax, %eax */
		0x8e, 0xd8,				/* mov %ax, %ds */
		0xf0, 0x66, 0xff, 0x06, 0x00, 0x05,	/* lock incl 0x500 */
		0xe6, 0x42,				/* out %al, $0x42 */
		0xf4, 0xeb, 0xfd,			/* 1: hlt; jmp 1b */
	};
	struct vireo_regs regs;
	struct test_vm vm;
	u32 i;

	vm_boot(&vm, 4, VM_RAM);
	vm_write(&vm, VM_CODE, ap, sizeof(ap));
	vcpu_set_entry(&vm.vcpu[0], guest_start_others, 4);
	vcpu_start(&vm.vcpu[0]);
	for (i = 1; i < 4; i++) {
		vcpu_run_exit(&vm.vcpu[i], VIREO_EXIT_IO);
		EXPECT_EQ(vm.vcpu[i].run->io.port, 0x42);
		vcpu_get_regs(&vm.vcpu[i], &regs);
		EXPECT_EQ(regs.seg[VIREO_CS].selector, VM_CODE >> 4);
		EXPECT_EQ(regs.seg[VIREO_CS].base, VM_CODE);
		EXPECT_EQ(regs.cr0 & X86_CR0_PE, 0);
	}
	vcpu_join(&vm.vcpu[0]);
}

/* INIT takes a processor back from whatever it does */
static void guest_init_other(u64 arg)
{
	wrmsr(APIC_SVR, APIC_ENABLED);
	wait_until(&ready, 1, "the other runs");
	wrmsr(APIC_ICR, ICR_DEST(1) | ICR_INIT | ICR_ASSERT);
	wrmsr(APIC_ICR, ICR_DEST(1) | ICR_SIPI | (VM_CODE >> 12));
}

static void guest_spin(u64 arg)
{
	asm volatile("lock incl %0" : "+m"(ready));
	for (;;)
		guest_pause();
}

static void *run_thread(void *arg)
{
	struct test_vcpu *vcpu = arg;

	vcpu->result = vcpu_run(vcpu);
	return NULL;
}

TEST(init_of_a_running_processor)
{
	static const u8 ap[] = { 0xe6, 0x43, 0xf4 };
	struct test_vm vm;

	vm_boot(&vm, 2, VM_RAM);
	vm_write(&vm, VM_CODE, ap, sizeof(ap));
	vcpu_set_entry(&vm.vcpu[1], guest_spin, 0);
	ASSERT_EQ(pthread_create(&vm.vcpu[1].thread, NULL, run_thread, &vm.vcpu[1]), 0);
	vcpu_set_entry(&vm.vcpu[0], guest_init_other, 0);
	vcpu_run_done(&vm.vcpu[0]);
	pthread_join(vm.vcpu[1].thread, NULL);
	EXPECT_EQ(vm.vcpu[1].result, 0);
	EXPECT_EQ(vm.vcpu[1].run->exit_reason, VIREO_EXIT_IO);
	EXPECT_EQ(vm.vcpu[1].run->io.port, 0x43);
}

TEST_MAIN()
