// SPDX-License-Identifier: GPL-2.0
/* The processor as the guest sees it: CPUID, MSRs, exceptions, instructions. */
#include <errno.h>
#include <string.h>

#include "guest.h"
#include "harness.h"
#include "host.h"
#include "vm.h"

static void run_guest(void (*fn)(u64), u64 arg)
{
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], fn, arg);
	vcpu_run_done(&vm.vcpu[0]);
	vm_close(&vm);
}

/* host_is_emulated(): QEMU's TCG checks less, and does not intercept all it should */

/* ---- CPUID ----------------------------------------------------------------------- */

static void guest_cpuid(u64 vcpus)
{
	struct cpuid_result r = cpuid(0, 0);

	GUEST_TRUE(r.eax >= 0xd);
	r = cpuid(1, 0);
	GUEST_EQ(r.ebx >> 24, 0);			/* APIC id */
	GUEST_EQ(r.ebx >> 16 & 0xff, vcpus);
	GUEST_EQ(r.ecx & BIT(31), BIT(31));		/* hypervisor */
	GUEST_EQ(r.ecx & BIT(21), BIT(21));		/* x2APIC */
	GUEST_EQ(r.ecx & BIT(24), BIT(24));		/* TSC deadline */
	GUEST_EQ(r.ecx & (BIT(3) | BIT(5) | BIT(6)), 0); /* MONITOR, VMX, SMX */
	GUEST_EQ(r.edx & BIT(9), BIT(9));		/* APIC */
	r = cpuid(0x80000001, 0);
	GUEST_EQ(r.ecx & BIT(2), 0);			/* SVM */
	GUEST_EQ(r.edx & BIT(29), BIT(29));		/* long mode */
}

TEST(cpuid_basic)
{
	run_guest(guest_cpuid, 1);
}

static void guest_osxsave(u64 arg)
{
	u64 fault, cr4 = read_cr4();

	write_cr4(cr4 & ~X86_CR4_OSXSAVE);
	GUEST_EQ(cpuid(1, 0).ecx & BIT(27), 0);
	asm volatile("xor %%ecx, %%ecx\n" GUEST_TRY("xgetbv") "mov %%r11, %0"
		     : "=r"(fault) : : "rax", "rcx", "rdx", "r11", "cc");
	GUEST_EQ(fault, GUEST_FAULT | VEC_UD);
	if (!(cpuid(1, 0).ecx & BIT(26)))
		return;
	write_cr4(cr4 | X86_CR4_OSXSAVE);
	GUEST_EQ(cpuid(1, 0).ecx & BIT(27), BIT(27));
}

TEST(cpuid_osxsave)
{
	run_guest(guest_osxsave, 0);
}

/* The XSAVE area grows with what XCR0 enables */
static void guest_xsave_size(u64 arg)
{
	struct cpuid_result r = cpuid(0xd, 0);

	if (!(cpuid(1, 0).ecx & BIT(26)) || !(r.eax & 4))
		return;
	write_cr4(read_cr4() | X86_CR4_OSXSAVE);
	asm volatile("xsetbv" : : "a"(1), "d"(0), "c"(0));
	GUEST_EQ(cpuid(0xd, 0).ebx, 576);
	asm volatile("xsetbv" : : "a"(7), "d"(0), "c"(0));
	GUEST_EQ(cpuid(0xd, 0).ebx, 832);
	GUEST_TRUE(cpuid(0xd, 0).ecx >= 832);
	GUEST_EQ(cpuid(0xd, 2).eax, 256);
	GUEST_EQ(cpuid(0xd, 2).ebx, 576);
	GUEST_EQ(cpuid(0xd, 63).eax, 0);
}

TEST(cpuid_xsave)
{
	if (host_is_emulated())
		SKIP("this emulator does not intercept XSETBV");
	run_guest(guest_xsave_size, 0);
}

static void guest_signatures(u64 arg)
{
	struct cpuid_result r = cpuid(0x40000000, 0);

	GUEST_TRUE(r.eax >= 0x40000001);
	GUEST_EQ(r.ebx, 0x4b4d564b);
	GUEST_EQ(r.ecx, 0x564b4d56);
	GUEST_EQ(r.edx, 0x4d);
	r = cpuid(0x40000001, 0);
	GUEST_EQ(r.eax & BIT(3), BIT(3));		/* clock, new MSRs */
	GUEST_EQ(r.eax & (BIT(5) | BIT(6) | BIT(7)), BIT(5) | BIT(6) | BIT(7));
	r = cpuid(VIREO_CPUID_BASE, 0);
	GUEST_TRUE(r.eax >= VIREO_CPUID_FEATURES);
	GUEST_EQ(r.ebx, VIREO_SIGNATURE_EBX);
	GUEST_EQ(r.ecx, VIREO_SIGNATURE_ECX);
	GUEST_EQ(r.edx, VIREO_SIGNATURE_EDX);
	r = cpuid(VIREO_CPUID_FEATURES, 0);
	GUEST_EQ(r.eax, VIREO_API_VERSION);
	GUEST_EQ(r.ebx & VIREO_GUEST_HYPERCALL, VIREO_GUEST_HYPERCALL);
}

TEST(cpuid_hypervisor)
{
	run_guest(guest_signatures, 0);
}

/* Leaves that are not there: nothing of the host shows, nothing breaks */
static void guest_leaves(u64 arg)
{
	struct cpuid_result r;
	u32 i;

	for (i = 0; i < 256; i++) {
		cpuid(i, ~0U);
		cpuid(0x80000000 + i, ~0U);
		cpuid(0x40000000 + i, ~0U);
		cpuid(0xc0000000 + i, 0);
	}
	r = cpuid(0x40000200, 0);
	GUEST_EQ(r.eax | r.ebx | r.ecx | r.edx, 0);
	r = cpuid(0x80000fff, 0);
	GUEST_EQ(r.eax | r.ebx | r.ecx | r.edx, 0);
	r = cpuid(0x8000000a, 0);			/* SVM's leaf */
	GUEST_EQ(r.eax | r.ebx | r.ecx | r.edx, 0);
	r = cpuid(7, 1000);
	GUEST_EQ(r.eax | r.ebx | r.ecx | r.edx, 0);
}

TEST(cpuid_out_of_range)
{
	run_guest(guest_leaves, 0);
}

static u32 topology_id[4];

static void guest_topology(u64 id)
{
	struct cpuid_result r = cpuid(1, 0);

	GUEST_EQ(r.ebx >> 24, id);
	GUEST_EQ(cpuid(0xb, 0).edx, id);
	GUEST_EQ(cpuid(0xb, 1).edx, id);
	GUEST_EQ(cpuid(0xb, 1).ebx & 0xffff, 4);	/* logical processors */
	GUEST_EQ(guest_apic_id(), id);
	WRITE_ONCE(topology_id[id], id + 1);
}

TEST(cpuid_topology)
{
	struct test_vm vm;
	u32 i;

	vm_boot(&vm, 4, VM_RAM);
	for (i = 0; i < 4; i++) {
		vcpu_set_entry(&vm.vcpu[i], guest_topology, i);
		vcpu_run_done(&vm.vcpu[i]);
		EXPECT_EQ(VM_GET(&vm, topology_id[i]), i + 1);
	}
}

/* ---- MSRs ------------------------------------------------------------------------- */

static void msr_keeps(u32 index, u64 value)
{
	wrmsr(index, value);
	if (rdmsr(index) != value)
		guest_fail(__FILE__, index, "the MSR of this number keeps its value",
			   rdmsr(index), value);
}

static void guest_msrs(u64 arg)
{
	u64 seen;

	msr_keeps(MSR_FS_BASE, 0xffff888012345678);
	msr_keeps(MSR_GS_BASE, 0x00007fff12345678);
	msr_keeps(MSR_KERNEL_GS_BASE, 0xffff888087654321);
	asm volatile("swapgs");
	GUEST_EQ(rdmsr(MSR_GS_BASE), 0xffff888087654321);
	GUEST_EQ(rdmsr(MSR_KERNEL_GS_BASE), 0x00007fff12345678);
	msr_keeps(MSR_STAR, 0x0023001012345678);
	msr_keeps(MSR_LSTAR, 0xffffffff81000000);
	msr_keeps(MSR_CSTAR, 0xffffffff81000040);
	msr_keeps(MSR_SFMASK, 0x47700);
	msr_keeps(MSR_SYSENTER_CS, 0x10);
	msr_keeps(MSR_SYSENTER_ESP, 0xfffffe0000001000);
	msr_keeps(MSR_SYSENTER_EIP, 0xffffffff81000080);
	msr_keeps(MSR_PAT, 0x0007010600070106);
	GUEST_EQ(rdmsr(MSR_APIC_BASE), 0xfee00d00);
	seen = rdmsr(MSR_EFER);
	GUEST_EQ(seen & (X86_EFER_LME | X86_EFER_LMA), X86_EFER_LME | X86_EFER_LMA);
	GUEST_EQ(seen & BIT_ULL(12), 0);		/* SVME does not show */
	msr_keeps(MSR_EFER, seen & ~X86_EFER_SCE);
	msr_keeps(MSR_EFER, seen | X86_EFER_SCE);
}

TEST(msrs)
{
	run_guest(guest_msrs, 0);
}

static void guest_msrs_native(u64 arg)
{
	GUEST_EQ(wrmsr_try(MSR_LSTAR, BIT_ULL(47)), GUEST_FAULT | VEC_GP);
	GUEST_EQ(wrmsr_try(MSR_FS_BASE, BIT_ULL(63)), GUEST_FAULT | VEC_GP);
	GUEST_EQ(wrmsr_try(MSR_KERNEL_GS_BASE, BIT_ULL(48)), GUEST_FAULT | VEC_GP);
	GUEST_EQ(wrmsr_try(MSR_PAT, 2), GUEST_FAULT | VEC_GP);
	GUEST_EQ(wrmsr_try(MSR_PAT, 8ULL << 56), GUEST_FAULT | VEC_GP);
}

/* Those that need no exit: the processor itself refuses */
TEST(msrs_refused_natively)
{
	if (host_is_emulated())
		SKIP("this emulator does not check these values");
	run_guest(guest_msrs_native, 0);
}

static void guest_msrs_refused(u64 arg)
{
	static const struct { u32 index; u64 value; } bad[] = {
		{ MSR_EFER, X86_EFER_LME | BIT_ULL(63) },
		{ MSR_EFER, X86_EFER_LME | BIT_ULL(12) },	/* SVME */
		{ MSR_EFER, 0 },		/* LME off while paging */
		{ 0xc0010117, 0x1000 },		/* VM_HSAVE_PA */
		{ 0xdeadbeef, 0 },
		{ 0x40000000, 0 },
		{ MSR_APIC_BASE, 0xfee00900 },	/* x2APIC to xAPIC */
	};
	u64 value, pat = rdmsr(MSR_PAT);
	u32 i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		if (wrmsr_try(bad[i].index, bad[i].value) != (GUEST_FAULT | VEC_GP))
			guest_fail(__FILE__, __LINE__, "#GP for this write", bad[i].index,
				   bad[i].value);
	GUEST_EQ(rdmsr(MSR_PAT), pat);
	GUEST_EQ(rdmsr_try(0xdeadbeef, &value), GUEST_FAULT | VEC_GP);
	GUEST_EQ(rdmsr_try(0x40000000, &value), GUEST_FAULT | VEC_GP);
	GUEST_EQ(rdmsr_try(0x480, &value), GUEST_FAULT | VEC_GP);	/* VMX */
}

TEST(msrs_refused)
{
	run_guest(guest_msrs_refused, 0);
}

/* Every MSR of the ranges that processors use is read, and written back */
static void guest_every_msr(u64 arg)
{
	static const u32 begin[] = { 0, 0x600, 0x4b564d00, 0xc0000000, 0xc0010000, 0xc0011000 };
	u32 i, j;
	u64 value;

	for (i = 0; i < ARRAY_SIZE(begin); i++) {
		for (j = begin[i]; j < begin[i] + 0x400; j++) {
			/* Writing back may start a timer; nobody listens */
			if (!rdmsr_try(j, &value) && j != MSR_TSC && j != APIC_EOI)
				wrmsr_try(j, value);
		}
	}
	guest_done(1);
}

TEST(every_msr_read_and_written_back)
{
	run_guest(guest_every_msr, 0);
}

/*
 * Every MSR is written with what no one would write.  This may well end the
 * guest, but must end only that: it stops, or it can be stopped.
 */
static u64 write_pattern;

static void guest_write_every_msr(u64 arg)
{
	u32 i;

	for (i = 0; i < 0x2000; i++)
		wrmsr_try(arg + i, write_pattern);
}

TEST_LIMIT(every_msr_written, 240)
{
	static const u64 patterns[] = { 0, ~0ULL, 0x5555555555555555, 0x1000, 0xfee00d00 };
	static const u32 ranges[] = { 0, 0x4b564d00, 0xc0000000, 0xc0010000 };
	struct vireo_regs regs;
	struct test_vm vm;
	unsigned int i, j;
	int tries, ret;

	for (i = 0; i < ARRAY_SIZE(patterns); i++) {
		for (j = 0; j < ARRAY_SIZE(ranges); j++) {
			vm_boot(&vm, 1, VM_RAM);
			VM_SET(&vm, write_pattern, patterns[i]);
			vcpu_set_entry(&vm.vcpu[0], guest_write_every_msr, ranges[j]);
			signal_install();
			alarm(20);		/* a hang fails the test */
			for (tries = 0, ret = -EINTR; ret == -EINTR && tries < 5; tries++)
				ret = vcpu_run(&vm.vcpu[0]);
			EXPECT_EQ(ret, 0);
			EXPECT_NE(vm.vcpu[0].run->exit_reason, VIREO_EXIT_NONE);
			vcpu_get_regs(&vm.vcpu[0], &regs);	/* its end has registers */
			vm_close(&vm);
			alarm(0);
		}
	}
	/* The host is unharmed */
	run_guest(guest_msrs, 0);
}

/* ---- exceptions ------------------------------------------------------------------- */

static u64 seen_vector, seen_error, seen_rip, seen_flags;

GUEST_HANDLER
static void guest_note(struct guest_frame *frame)
{
	seen_vector = frame->vector | 0x100;
	seen_error = frame->error;
	seen_rip = frame->rip;
	seen_flags = frame->rflags;
}

static void guest_exceptions(u64 arg)
{
	u64 fault;

	asm volatile("xor %%edx, %%edx; mov $1, %%eax; xor %%ecx, %%ecx\n"
		     GUEST_TRY("div %%ecx") "mov %%r11, %0"
		     : "=r"(fault) : : "rax", "rcx", "rdx", "r11", "cc");
	GUEST_EQ(fault, GUEST_FAULT | VEC_DE);
	GUEST_EQ(GUEST_FAULT_OF("ud2"), GUEST_FAULT | VEC_UD);
	asm volatile("mov $0x58, %%eax\n" GUEST_TRY("mov %%eax, %%ds") "mov %%r11, %0"
		     : "=r"(fault) : : "rax", "r11", "cc");
	GUEST_EQ(fault, (GUEST_FAULT | VEC_GP) | 0x58ULL << 32);
	/* A page fault: non-present, 1 TiB is not mapped */
	asm volatile("mov $1, %%rax; shl $40, %%rax\n"
		     GUEST_TRY("movl $1, (%%rax)") "mov %%r11, %0"
		     : "=r"(fault) : : "rax", "r11", "cc", "memory");
	GUEST_EQ(fault, (GUEST_FAULT | VEC_PF) | 2ULL << 32);
	GUEST_EQ(read_cr2(), 1ULL << 40);
	asm volatile("mov $1, %%rax; shl $62, %%rax\n"
		     GUEST_TRY("movl $1, (%%rax)") "mov %%r11, %0"
		     : "=r"(fault) : : "rax", "r11", "cc", "memory");
	GUEST_EQ(fault, GUEST_FAULT | VEC_GP);		/* non-canonical */
	write_cr0(read_cr0() | X86_CR0_TS);
	GUEST_EQ(GUEST_FAULT_OF("fnop"), GUEST_FAULT | VEC_NM);
	write_cr0(read_cr0() & ~X86_CR0_TS);
}

TEST(exceptions)
{
	run_guest(guest_exceptions, 0);
}

static void guest_traps(u64 arg)
{
	u64 here;

	guest_vector[VEC_BP] = guest_note;
	guest_vector[VEC_DB] = guest_note;
	guest_vector[0x80] = guest_note;
	asm volatile("lea 1f(%%rip), %0; int3; 1:" : "=r"(here) : : "memory");
	GUEST_EQ(READ_ONCE(seen_vector), 0x100 | VEC_BP);
	GUEST_EQ(READ_ONCE(seen_rip), here);
	asm volatile("int $0x80" : : : "memory");
	GUEST_EQ(READ_ONCE(seen_vector), 0x180);
	/* Single step: #DB behind the instruction that follows POPF */
	asm volatile("pushf; orl $0x100, (%%rsp); lea 1f(%%rip), %0; popf; nop\n"
		     "1:	pushf; andl $~0x100, (%%rsp); popf"
		     : "=r"(here) : : "memory", "cc");
	GUEST_EQ(READ_ONCE(seen_vector), 0x100 | VEC_DB);
}

TEST(traps_and_single_step)
{
	run_guest(guest_traps, 0);
}

/*
 * Single step over instructions that exit: the trap comes behind each of
 * them.  The handler counts, and sees each address once.
 */
static u32 steps;

GUEST_HANDLER
static void guest_step(struct guest_frame *frame)
{
	steps++;
}

static void guest_step_exits(u64 arg)
{
	guest_vector[VEC_DB] = guest_step;
	asm volatile("xor %%eax, %%eax; xor %%ecx, %%ecx\n"
		     "pushf; orl $0x100, (%%rsp); popf\n"
		     "cpuid\n"			/* 1 */
		     "mov $0x802, %%ecx\n"	/* 2 */
		     "rdmsr\n"			/* 3 */
		     "out %%al, $0x80\n"	/* 4 */
		     "pushf\n"			/* 5 */
		     "andl $~0x100, (%%rsp)\n"	/* 6 */
		     "popf\n"			/* 7: TF was still on before it */
		     : : : "rax", "rbx", "rcx", "rdx", "memory", "cc");
	GUEST_EQ(READ_ONCE(steps), 7);
}

TEST(single_step_over_exits)
{
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_step_exits, 0);
	vcpu_run_exit(&vm.vcpu[0], VIREO_EXIT_IO);
	EXPECT_EQ(vm.vcpu[0].run->io.port, 0x80);
	vcpu_run_done(&vm.vcpu[0]);
}

/* An exception that SET_REGS asks for is delivered as if the guest raised it */
static void guest_wait_pf(u64 arg)
{
	guest_vector[VEC_PF] = guest_note;
	guest_sync(0);
	GUEST_EQ(READ_ONCE(seen_vector), 0x100 | VEC_PF);
	GUEST_EQ(READ_ONCE(seen_error), 0x1d);
}

TEST(injected_exception)
{
	struct vireo_regs regs;
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_wait_pf, 0);
	vcpu_run_sync(&vm.vcpu[0]);
	/* Completes the OUT before state is changed */
	vm.vcpu[0].run->immediate_exit = 1;
	EXPECT_EQ(vcpu_run(&vm.vcpu[0]), -EINTR);
	vm.vcpu[0].run->immediate_exit = 0;
	vcpu_get_regs(&vm.vcpu[0], &regs);
	regs.inject = VIREO_INJECT_EXCEPTION | VIREO_INJECT_ERROR_CODE | VEC_PF;
	regs.error_code = 0x1d;
	vcpu_set_regs(&vm.vcpu[0], &regs);
	vcpu_run_done(&vm.vcpu[0]);
}

/* ---- instructions that are not for guests ------------------------------------------ */

static void guest_forbidden(u64 arg)
{
	GUEST_EQ(GUEST_FAULT_OF(".byte 0x0f, 0x01, 0xd8"), GUEST_FAULT | VEC_UD); /* vmrun */
	GUEST_EQ(GUEST_FAULT_OF(".byte 0x0f, 0x01, 0xda"), GUEST_FAULT | VEC_UD); /* vmload */
	GUEST_EQ(GUEST_FAULT_OF(".byte 0x0f, 0x01, 0xdb"), GUEST_FAULT | VEC_UD); /* vmsave */
	GUEST_EQ(GUEST_FAULT_OF(".byte 0x0f, 0x01, 0xdc"), GUEST_FAULT | VEC_UD); /* stgi */
	GUEST_EQ(GUEST_FAULT_OF(".byte 0x0f, 0x01, 0xdd"), GUEST_FAULT | VEC_UD); /* clgi */
	GUEST_EQ(GUEST_FAULT_OF(".byte 0x0f, 0x01, 0xde"), GUEST_FAULT | VEC_UD); /* skinit */
	GUEST_EQ(GUEST_FAULT_OF(".byte 0x0f, 0x01, 0xdf"), GUEST_FAULT | VEC_UD); /* invlpga */
	GUEST_EQ(GUEST_FAULT_OF(".byte 0x0f, 0x01, 0xc2"), GUEST_FAULT | VEC_UD); /* vmlaunch */
	GUEST_EQ(GUEST_FAULT_OF(".byte 0x0f, 0x01, 0xc4"), GUEST_FAULT | VEC_UD); /* vmxoff */
	GUEST_EQ(GUEST_FAULT_OF(".byte 0x0f, 0x37"), GUEST_FAULT | VEC_UD); /* getsec */
}

/* GUEST_TRY covers one instruction, so RDPMC has its own */
static void guest_rdpmc(u64 arg)
{
	u64 fault;

	asm volatile("mov $0x7fff, %%ecx\n" GUEST_TRY("rdpmc") "mov %%r11, %0"
		     : "=r"(fault) : : "rax", "rcx", "rdx", "r11", "cc");
	GUEST_EQ(fault, GUEST_FAULT | VEC_GP);
}

TEST(svm_and_vmx_instructions)
{
	run_guest(guest_forbidden, 0);
}

TEST(rdpmc)
{
	run_guest(guest_rdpmc, 0);
}

/* No such feature in CPUID: #UD, or without effect as on some processors */
static void guest_monitor(u64 arg)
{
	u64 fault;

	asm volatile("lea %1, %%rax; xor %%ecx, %%ecx; xor %%edx, %%edx\n"
		     GUEST_TRY("monitor %%rax, %%ecx, %%edx") "mov %%r11, %0"
		     : "=r"(fault) : "m"(seen_rip) : "rax", "rcx", "rdx", "r11", "cc");
	GUEST_TRUE(!fault || fault == (GUEST_FAULT | VEC_UD));
	asm volatile("xor %%eax, %%eax; xor %%ecx, %%ecx\n"
		     GUEST_TRY("mwait %%eax, %%ecx") "mov %%r11, %0"
		     : "=r"(fault) : : "rax", "rcx", "r11", "cc");
	GUEST_TRUE(!fault || fault == (GUEST_FAULT | VEC_UD));
}

TEST(monitor_mwait)
{
	run_guest(guest_monitor, 0);
}

static void guest_caches(u64 arg)
{
	asm volatile("wbinvd");
	if (arg)
		GUEST_EQ(GUEST_FAULT_OF("invd"), 0);
	asm volatile("pause; clts; invlpg (%0)" : : "r"(0ULL));
}

TEST(cache_instructions)
{
	/* QEMU's TCG goes on in the host's state after an intercepted INVD. */
	run_guest(guest_caches, !host_is_emulated());
}

static u64 xsetbv(u32 index, u64 value)
{
	u64 fault;

	asm volatile(GUEST_TRY("xsetbv") "mov %%r11, %0"
		     : "=r"(fault)
		     : "a"((u32)value), "d"((u32)(value >> 32)), "c"(index)
		     : "r11", "cc");
	return fault;
}

static void guest_xsetbv(u64 arg)
{
	u32 low, high;

	if (!(cpuid(1, 0).ecx & BIT(26)))
		return;
	write_cr4(read_cr4() | X86_CR4_OSXSAVE);
	GUEST_EQ(xsetbv(0, 3), 0);
	hypercall(VIREO_HC_NOP, 0, 0, 0, 0);		/* still so after an exit */
	asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	GUEST_EQ(low, 3);
	GUEST_EQ(high, 0);
	GUEST_EQ(xsetbv(0, 0), GUEST_FAULT | VEC_GP);		/* x87 is not optional */
	GUEST_EQ(xsetbv(0, 2), GUEST_FAULT | VEC_GP);
	GUEST_EQ(xsetbv(0, 5), GUEST_FAULT | VEC_GP);		/* AVX needs SSE */
	GUEST_EQ(xsetbv(0, BIT_ULL(62) | 3), GUEST_FAULT | VEC_GP);
	GUEST_EQ(xsetbv(1, 3), GUEST_FAULT | VEC_GP);		/* XCR1 */
	asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	GUEST_EQ(low, 3);
}

TEST(xsetbv)
{
	run_guest(guest_xsetbv, 0);
}

#define GUEST_SET_CR_FAULT(n, value) ({					\
	u64 fault_;							\
	asm volatile(GUEST_TRY("mov %1, %%cr" #n) "mov %%r11, %0"	\
		     : "=r"(fault_) : "r"((u64)(value)) : "r11", "cc");	\
	fault_;								\
})

/* Whether the processor or the module refuses: nothing changes */
static void guest_cr_refused(u64 arg)
{
	u64 cr0 = read_cr0(), cr4 = read_cr4();

	GUEST_EQ(GUEST_SET_CR_FAULT(8, 16), GUEST_FAULT | VEC_GP);
	GUEST_EQ(GUEST_SET_CR_FAULT(0, cr0 | X86_CR0_NW), GUEST_FAULT | VEC_GP);
	GUEST_EQ(GUEST_SET_CR_FAULT(0, cr0 & ~X86_CR0_PE), GUEST_FAULT | VEC_GP);
	GUEST_EQ(GUEST_SET_CR_FAULT(4, cr4 & ~X86_CR4_PAE), GUEST_FAULT | VEC_GP);
	GUEST_EQ(read_cr0(), cr0);
	GUEST_EQ(read_cr4(), cr4);
}

TEST(control_registers_refused)
{
	if (host_is_emulated())
		SKIP("this emulator does not check these values");
	run_guest(guest_cr_refused, 0);
}

static void guest_cr(u64 arg)
{
	u64 cr0 = read_cr0();

	write_cr8(5);
	GUEST_EQ(read_cr8(), 5);
	GUEST_EQ(rdmsr(APIC_TPR), 0x50);
	wrmsr(APIC_TPR, 0xa7);
	GUEST_EQ(read_cr8(), 10);
	wrmsr(APIC_TPR, 0);
	GUEST_EQ(read_cr8(), 0);
	write_cr0(cr0 | X86_CR0_CD);
	GUEST_EQ(read_cr0(), cr0 | X86_CR0_CD);
	write_cr0(cr0);
	GUEST_EQ(GUEST_FAULT_OF("smsw %%eax"), 0);
}

TEST(control_registers)
{
	run_guest(guest_cr, 0);
}

/* ---- paging and code ----------------------------------------------------------------- */

/* 4 KiB pages made from a 2 MiB page, one of them then taken away */
static void guest_paging(u64 arg)
{
	u64 *pd = (u64 *)VM_PD, *pt = (u64 *)VM_SCRATCH;
	u64 at = VM_MMIO;		/* remapped to RAM */
	u64 fault;
	u32 i;

	for (i = 0; i < 512; i++)
		pt[i] = (VM_SCRATCH + 0x10000) | 7;
	WRITE_ONCE(pd[at >> 21], VM_SCRATCH | 7);
	asm volatile("invlpg (%0)" : : "r"(at) : "memory");
	WRITE_ONCE(*(u32 *)at, 0x1234);
	GUEST_EQ(READ_ONCE(*(u32 *)(at + 0x5000)), 0x1234);
	GUEST_EQ(READ_ONCE(*(u32 *)(VM_SCRATCH + 0x10000)), 0x1234);
	WRITE_ONCE(pt[3], 0);
	asm volatile("invlpg (%0)" : : "r"(at + 0x3000) : "memory");
	asm volatile(GUEST_TRY("movl $1, (%1)") "mov %%r11, %0"
		     : "=r"(fault) : "r"(at + 0x3000) : "r11", "cc", "memory");
	GUEST_EQ(fault, (GUEST_FAULT | VEC_PF) | 2ULL << 32);
	WRITE_ONCE(pt[3], (VM_SCRATCH + 0x10000) | 5);
	asm volatile(GUEST_TRY("movl $1, (%1)") "mov %%r11, %0"
		     : "=r"(fault) : "r"(at + 0x3000) : "r11", "cc", "memory");
	GUEST_EQ(fault, (GUEST_FAULT | VEC_PF) | 3ULL << 32);
	/* No execution */
	WRITE_ONCE(pt[4], (VM_SCRATCH + 0x10000) | 7 | BIT_ULL(63));
	write_cr3(read_cr3());
	GUEST_EQ(READ_ONCE(*(u32 *)(at + 0x4000)), 0x1234);
	GUEST_TRUE(READ_ONCE(pt[4]) & BIT(5));		/* accessed */
}

TEST(paging)
{
	run_guest(guest_paging, 0);
}

static void guest_self_modify(u64 arg)
{
	u8 *code = (u8 *)VM_SCRATCH;
	u32 i, seen;

	for (i = 0; i < 256; i++) {
		code[0] = 0xb8;		/* mov $i, %eax */
		*(u32 *)(code + 1) = i;
		code[5] = 0xc3;
		asm volatile("call *%1" : "=a"(seen) : "r"(code) : "memory");
		GUEST_EQ(seen, i);
	}
}

TEST(self_modifying_code)
{
	run_guest(guest_self_modify, 0);
}

TEST_MAIN()
