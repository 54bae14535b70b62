// SPDX-License-Identifier: GPL-2.0
/* VIREO_RUN: who may call what when, interruption, counters, NMI and MSI. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "guest.h"
#include "harness.h"
#include "vm.h"

static u32 spinning;

/* Spin with interrupts off, as a guest that hangs */
static void guest_spin(u64 arg)
{
	guest_cli();
	WRITE_ONCE(spinning, 1);
	for (;;)
		guest_pause();
}

static void wait_for_guest(struct test_vm *vm)
{
	int i;

	for (i = 0; i < 1000 && !VM_GET(vm, spinning); i++)
		usleep(10000);
	ASSERT_EQ(VM_GET(vm, spinning), 1);
}

static void *run_thread(void *arg)
{
	struct test_vcpu *vcpu = arg;

	vcpu->result = vcpu_run(vcpu);
	return NULL;
}

/* A vCPU that spins in a thread; spin_end() interrupts that */
static void spin_begin(struct test_vm *vm)
{
	signal_install();
	VM_SET(vm, spinning, 0);
	vcpu_set_entry(&vm->vcpu[0], guest_spin, 0);
	ASSERT_EQ(pthread_create(&vm->vcpu[0].thread, NULL, run_thread, &vm->vcpu[0]), 0);
	wait_for_guest(vm);
}

static void spin_end(struct test_vm *vm)
{
	vcpu_signal(&vm->vcpu[0]);
	pthread_join(vm->vcpu[0].thread, NULL);
}

TEST(signal_ends_spinning_guest)
{
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	spin_begin(&vm);
	spin_end(&vm);
	EXPECT_EQ(vm.vcpu[0].result, -EINTR);
	EXPECT_EQ(vm.vcpu[0].run->exit_reason, VIREO_EXIT_INTR);
	vm_close(&vm);
}

TEST(signal_in_halt)
{
	static const u8 halt[] = { 0xfa, 0xf4, 0xeb, 0xfc };	/* cli; hlt; jmp */
	struct vireo_regs regs;
	struct test_vcpu *vcpu;
	struct test_vm vm;
	int i;

	signal_install();
	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	vcpu_set_code(vcpu, MODE_LONG, halt, sizeof(halt));
	ASSERT_EQ(pthread_create(&vcpu->thread, NULL, run_thread, vcpu), 0);
	for (i = 0; i < 20; i++) {
		usleep(10000);
		EXPECT_EQ(vm_inject_msi(vm.fd, 0xfee00000, 0x40), 0);	/* APIC is off */
	}
	vcpu_signal(vcpu);
	pthread_join(vcpu->thread, NULL);
	EXPECT_EQ(vcpu->result, -EINTR);
	vcpu_get_regs(vcpu, &regs);
	EXPECT_EQ(regs.mp_state, VIREO_MP_HALTED);
	EXPECT_EQ(regs.rip, VM_CODE + 2);
}

TEST(busy_while_running)
{
	static u8 area[65536];
	struct vireo_msr msr = { .index = MSR_LSTAR };
	struct vireo_msrs msrs = {
		.size = sizeof(msrs), .count = 1, .entries = (uintptr_t)&msr,
	};
	struct vireo_xsave xsave = { .size = sizeof(xsave), .data = (uintptr_t)area };
	struct vireo_regs regs;
	struct vireo_stat stat;
	struct test_vm vm;
	int fd;

	vm_boot(&vm, 1, VM_RAM);
	fd = vm.vcpu[0].fd;
	xsave.bytes = vm.info.xsave_size;
	ASSERT_EQ(vcpu_fd_get_regs(fd, &regs), 0);
	ASSERT_EQ(do_ioctl(fd, VIREO_GET_XSAVE, &xsave), 0);
	spin_begin(&vm);
	EXPECT_EQ(do_ioctl(fd, VIREO_RUN, NULL), -EBUSY);
	EXPECT_EQ(vcpu_fd_set_regs(fd, &regs), -EBUSY);
	EXPECT_EQ(vcpu_fd_get_regs(fd, &regs), -EBUSY);
	EXPECT_EQ(do_ioctl(fd, VIREO_GET_MSRS, &msrs), -EBUSY);
	EXPECT_EQ(do_ioctl(fd, VIREO_SET_MSRS, &msrs), -EBUSY);
	EXPECT_EQ(do_ioctl(fd, VIREO_GET_XSAVE, &xsave), -EBUSY);
	EXPECT_EQ(do_ioctl(fd, VIREO_SET_XSAVE, &xsave), -EBUSY);
	/* The VM's calls go on */
	EXPECT_EQ(fd_get_stat(vm.fd, &stat), 0);
	EXPECT_EQ(vm_add_memory(vm.fd, 1ULL << 32, 4096), 0);
	spin_end(&vm);
	EXPECT_EQ(vcpu_fd_get_regs(fd, &regs), 0);
}

/* Another thread may run a vCPU, one after the other */
TEST(threads_take_turns)
{
	static const u8 count[] = { 0xff, 0xc0, 0xe7, 0x10, 0xeb, 0xfa };
	struct test_vcpu *vcpu;	/* 1: inc %eax; out %eax, $0x10; jmp 1b */
	struct test_vm vm;
	int i;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	vcpu_set_code(vcpu, MODE_LONG, count, sizeof(count));
	for (i = 1; i < 100; i++) {
		ASSERT_EQ(pthread_create(&vcpu->thread, NULL, run_thread, vcpu), 0);
		pthread_join(vcpu->thread, NULL);
		EXPECT_EQ(vcpu->result, 0);
		EXPECT_EQ(vireo_io_data(vcpu->run), i);
	}
}

TEST(immediate_exit)
{
	static const u8 count[] = { 0xff, 0xc0, 0xe7, 0x10, 0xeb, 0xfa };
	struct vireo_regs regs;
	struct test_vcpu *vcpu;
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	vcpu_set_code(vcpu, MODE_LONG, count, sizeof(count));
	vcpu->run->immediate_exit = 1;
	EXPECT_EQ(vcpu_run(vcpu), -EINTR);
	EXPECT_EQ(vcpu->run->exit_reason, VIREO_EXIT_INTR);
	vcpu_get_regs(vcpu, &regs);
	EXPECT_EQ(regs.rip, VM_CODE);
	vcpu->run->immediate_exit = 0;
	EXPECT_EQ(vcpu_run(vcpu), 0);
	EXPECT_EQ(vcpu->run->exit_reason, VIREO_EXIT_IO);
}

/* The reply of an exit is taken even where RUN then ends at once */
TEST(immediate_exit_completes_io)
{
	static const u8 in[] = { 0xe5, 0x10, 0x90, 0xe7, 0x11 }; /* in $16, %eax; nop; out */
	struct vireo_regs regs;
	struct test_vcpu *vcpu;
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	vcpu_set_code(vcpu, MODE_LONG, in, sizeof(in));
	vcpu_run_exit(vcpu, VIREO_EXIT_IO);
	vireo_io_reply(vcpu->run, 0x1badb002);
	vcpu->run->immediate_exit = 1;
	EXPECT_EQ(vcpu_run(vcpu), -EINTR);
	vcpu_get_regs(vcpu, &regs);
	EXPECT_EQ(regs.rip, VM_CODE + 2);
	EXPECT_EQ(regs.gpr[VIREO_RAX], 0x1badb002);
	vcpu->run->immediate_exit = 0;
	vcpu->run->value = 0;		/* taken once, not again */
	vcpu_run_exit(vcpu, VIREO_EXIT_IO);
	EXPECT_EQ(vcpu->run->io.port, 0x11);
	EXPECT_EQ(vireo_io_data(vcpu->run), 0x1badb002);
}

/* A waiting application processor neither runs nor spins */
TEST(waiting_ap)
{
	struct timespec begin, end;
	struct test_vm vm;

	signal_install();
	vm_boot(&vm, 2, VM_RAM);
	ASSERT_EQ(pthread_create(&vm.vcpu[1].thread, NULL, run_thread, &vm.vcpu[1]), 0);
	usleep(300000);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
	usleep(500000);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
	vcpu_signal(&vm.vcpu[1]);
	pthread_join(vm.vcpu[1].thread, NULL);
	EXPECT_EQ(vm.vcpu[1].result, -EINTR);
	EXPECT_EQ(vcpu_stat(&vm.vcpu[1], VIREO_STAT_EXIT_INTR), 0);
	EXPECT_LT((end.tv_sec - begin.tv_sec) * 1000 + (end.tv_nsec - begin.tv_nsec) / 1000000,
		  250);
}

static void guest_exits(u64 arg)
{
	u64 i;

	for (i = 0; i < arg; i++) {
		cpuid(0, 0);
		hypercall(VIREO_HC_NOP, 0, 0, 0, 0);
		rdmsr(MSR_TSC_DEADLINE);
		out8(0x80, 0);
	}
}

TEST(counters)
{
	struct vireo_stat before, after, whole;
	struct test_vcpu *vcpu;
	struct test_vm vm;
	u64 exits = 0, returns = 0;
	u32 i;
	int ret;

	vm_boot(&vm, 2, VM_RAM);
	vcpu = &vm.vcpu[0];
	ASSERT_EQ(fd_get_stat(vcpu->fd, &before), 0);
	for (i = 0; i < VIREO_STAT_MAX; i++)
		EXPECT_EQ(before.counters[i], 0);
	vcpu_set_entry(vcpu, guest_exits, 10);
	/* The host may interrupt a run for work of its own: that is a return, too. */
	do {
		ret = vcpu_run(vcpu);
		returns++;
	} while (ret == -EINTR || (!ret && vcpu->run->exit_reason == VIREO_EXIT_IO &&
				   vcpu->run->io.port == 0x80));
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(vcpu->run->exit_reason, VIREO_EXIT_IO);
	ASSERT_EQ(fd_get_stat(vcpu->fd, &after), 0);
	ASSERT_EQ(fd_get_stat(vm.fd, &whole), 0);
	EXPECT_EQ(after.counters[VIREO_STAT_EXIT_CPUID], 10);
	EXPECT_EQ(after.counters[VIREO_STAT_EXIT_HYPERCALL], 10);
	EXPECT_EQ(after.counters[VIREO_STAT_EXIT_MSR_READ], 10);
	EXPECT_EQ(after.counters[VIREO_STAT_EXIT_IO], 11);
	EXPECT_GE(returns, 11);
	EXPECT_EQ(after.counters[VIREO_STAT_EXIT_USER], returns);
	for (i = VIREO_STAT_EXIT_INTR; i <= VIREO_STAT_EXIT_OTHER; i++)
		exits += after.counters[i];
	EXPECT_GE(exits, 41);
	EXPECT_GE(after.counters[VIREO_STAT_EXIT_SLOW], 11);
	EXPECT_LE(after.counters[VIREO_STAT_EXIT_SLOW], exits);
	for (i = 0; i < VIREO_STAT_MAX; i++)
		EXPECT_EQ(whole.counters[i], after.counters[i]);
	for (i = VIREO_STAT_COUNT; i < VIREO_STAT_MAX; i++)
		EXPECT_EQ(after.counters[i], 0);
	EXPECT_EQ(whole.memory_bytes, VM_RAM);
}

/* Memory that is not there at all: fetches run into MMIO */
TEST(no_memory_at_all)
{
	struct test_vcpu *vcpu;
	struct test_vm vm;

	vm_open(&vm, 1);
	vcpu = vm_vcpu(&vm, 0);
	vcpu_run_exit(vcpu, VIREO_EXIT_SHUTDOWN);
	EXPECT_EQ(vcpu->run->end.what, VIREO_SHUTDOWN_FETCH);
	EXPECT_EQ(vcpu->run->rip, 0xfff0);
	EXPECT_EQ(vcpu->run->end.info & ~0xfffULL, 0xfffff000);
	/* And again, as often as wanted */
	vcpu_run_exit(vcpu, VIREO_EXIT_SHUTDOWN);
}

/* ---- MSI ---------------------------------------------------------------------------- */

static void guest_apic_on(u64 arg)
{
	wrmsr(APIC_SVR, APIC_ENABLED);
}

static void apic_on(struct test_vm *vm, u32 vcpus)
{
	u32 i;

	for (i = 0; i < vcpus; i++) {
		vcpu_set_entry(&vm->vcpu[i], guest_apic_on, 0);
		vcpu_run_done(&vm->vcpu[i]);
	}
}

static bool irr_bit(struct test_vcpu *vcpu, u8 vector)
{
	struct vireo_lapic lapic;

	ASSERT_EQ(vireo_lapic_get(vcpu->fd, &lapic), 0);
	return lapic.irr[vector / 32] >> (vector % 32) & 1;
}

TEST(msi_refused)
{
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	apic_on(&vm, 1);
	EXPECT_EQ(vm_inject_msi(vm.fd, 0, 0x40), -EINVAL);
	EXPECT_EQ(vm_inject_msi(vm.fd, 0xfed00000, 0x40), -EINVAL);
	EXPECT_EQ(vm_inject_msi(vm.fd, 0xfef00000, 0x40), -EINVAL);
	EXPECT_EQ(vm_inject_msi(vm.fd, 0x1fee00000, 0x40), -EINVAL);
	EXPECT_EQ(vm_inject_msi(vm.fd, 0xfee00000, 0x240), -EINVAL);	/* SMI */
	EXPECT_EQ(vm_inject_msi(vm.fd, 0xfee00000, 0x340), -EINVAL);
	EXPECT_EQ(vm_inject_msi(vm.fd, 0xfee00000, 0x540), -EINVAL);	/* INIT */
	EXPECT_EQ(vm_inject_msi(vm.fd, 0xfee00000, 0x640), -EINVAL);
	EXPECT_EQ(vm_inject_msi(vm.fd, 0xfee00000, 0x740), -EINVAL);	/* ExtINT */
	EXPECT_FALSE(irr_bit(&vm.vcpu[0], 0x40));
}

TEST(msi_destinations)
{
	struct test_vm vm;

	vm_boot(&vm, 3, VM_RAM);
	apic_on(&vm, 3);
	EXPECT_EQ(vm_inject_msi(vm.fd, 0xfee00000, 0x41), 1);
	EXPECT_TRUE(irr_bit(&vm.vcpu[0], 0x41));
	EXPECT_FALSE(irr_bit(&vm.vcpu[1], 0x41));
	EXPECT_EQ(vm_inject_msi(vm.fd, 0xfee02000, 0x42), 1);
	EXPECT_TRUE(irr_bit(&vm.vcpu[2], 0x42));
	EXPECT_FALSE(irr_bit(&vm.vcpu[0], 0x42));
	EXPECT_EQ(vm_inject_msi(vm.fd, 0xfee03000, 0x43), 0);	/* nobody */
	/* Lowest priority goes to one vCPU only */
	EXPECT_EQ(vm_inject_msi(vm.fd, 0xfee01000, 0x144), 1);
	EXPECT_TRUE(irr_bit(&vm.vcpu[1], 0x44));
	/* Logical: the low 16 bits of the destination are a set within a cluster */
	EXPECT_EQ(vm_inject_msi(vm.fd, 0xfee07004, 0x45), 3);
	EXPECT_TRUE(irr_bit(&vm.vcpu[0], 0x45) && irr_bit(&vm.vcpu[1], 0x45) &&
		    irr_bit(&vm.vcpu[2], 0x45));
	EXPECT_EQ(vm_inject_msi(vm.fd, 0xfee06004, 0x46), 2);
	EXPECT_FALSE(irr_bit(&vm.vcpu[0], 0x46));
	EXPECT_EQ(vm_inject_msi(vm.fd, 0xfee06004, 0x147), 1);
	EXPECT_EQ(irr_bit(&vm.vcpu[1], 0x47) + irr_bit(&vm.vcpu[2], 0x47), 1);
}

TEST(msi_extended_destination)
{
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	apic_on(&vm, 1);
	/* Bits 11:5 are bits 14:8 of the destination: 0x100 is not there */
	EXPECT_EQ(vm_inject_msi(vm.fd, 0xfee00020, 0x41), 0);
	EXPECT_FALSE(irr_bit(&vm.vcpu[0], 0x41));
}

TEST(msi_to_disabled_apic)
{
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	EXPECT_EQ(vm_inject_msi(vm.fd, 0xfee00000, 0x41), 0);
	EXPECT_FALSE(irr_bit(&vm.vcpu[0], 0x41));
}

/* ---- NMI ---------------------------------------------------------------------------- */

static u32 nmis;

GUEST_HANDLER
static void guest_on_nmi(struct guest_frame *frame)
{
	nmis++;
}

static void guest_nmi(u64 arg)
{
	guest_vector[VEC_NMI] = guest_on_nmi;
	guest_sync(0);
	GUEST_EQ(READ_ONCE(nmis), 1);	/* interrupts are off: no matter */
}

TEST(nmi)
{
	struct test_vcpu *vcpu;
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	vcpu_set_entry(vcpu, guest_nmi, 0);
	vcpu_run_sync(vcpu);
	EXPECT_EQ(vm_inject_msi(vm.fd, 0xfee00000, 0x400), 1);
	vcpu_run_done(vcpu);
}

static void guest_nothing(u64 arg)
{
}

/* INIT and SIPI are user space's to answer; SIPI only when it is waited for */
TEST(init_and_sipi)
{
	struct test_vcpu *vcpu;
	struct vireo_lapic l;
	struct vireo_regs regs;
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	vcpu_set_entry(vcpu, guest_nothing, 0);
	ASSERT_EQ(vireo_lapic_get(vcpu->fd, &l), 0);
	l.requests = VIREO_LAPIC_SIPI;
	ASSERT_EQ(vireo_lapic_set(vcpu->fd, &l), 0);
	vcpu_run_done(vcpu);
	ASSERT_EQ(vireo_lapic_get(vcpu->fd, &l), 0);
	EXPECT_EQ(l.requests, 0);

	l.requests = VIREO_LAPIC_INIT | VIREO_LAPIC_SIPI;
	l.sipi_vector = 0x9a;
	ASSERT_EQ(vireo_lapic_set(vcpu->fd, &l), 0);
	ASSERT_EQ(do_ioctl(vcpu->fd, VIREO_RUN, NULL), 0);
	EXPECT_EQ(vcpu->run->exit_reason, VIREO_EXIT_INIT);
	vcpu_get_regs(vcpu, &regs);
	EXPECT_EQ(regs.mp_state, VIREO_MP_INIT);
	ASSERT_EQ(vireo_vcpu_init(vcpu->fd, false), 0);	/* keeps the SIPI */
	ASSERT_EQ(do_ioctl(vcpu->fd, VIREO_RUN, NULL), 0);
	EXPECT_EQ(vcpu->run->exit_reason, VIREO_EXIT_SIPI);
	EXPECT_EQ(vcpu->run->value, 0x9a);
	ASSERT_EQ(vireo_vcpu_sipi(vcpu->fd, vcpu->run), 0);
	vcpu_get_regs(vcpu, &regs);
	EXPECT_EQ(regs.mp_state, VIREO_MP_RUNNABLE);
	EXPECT_EQ(regs.seg[VIREO_CS].selector, 0x9a00);
	EXPECT_EQ(regs.seg[VIREO_CS].base, 0x9a000);
	EXPECT_EQ(regs.rip, 0);
	ASSERT_EQ(vireo_lapic_get(vcpu->fd, &l), 0);
	EXPECT_EQ(l.requests, 0);
	EXPECT_EQ(l.svr, 0xff);
	vm_close(&vm);
}

TEST_MAIN()
