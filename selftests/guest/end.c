// SPDX-License-Identifier: GPL-2.0
/* How guests end, well or badly, and that a guest that hangs can be stopped. */
#include <errno.h>
#include <string.h>

#include "guest.h"
#include "harness.h"
#include "host.h"
#include "vm.h"

static void guest_triple(u64 arg)
{
	static const struct __packed { u16 limit; u64 base; } none;

	asm volatile("lidt %0; ud2" : : "m"(none));
}

TEST(triple_fault)
{
	struct test_vcpu *vcpu;
	struct vireo_regs regs;
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	vcpu_set_entry(vcpu, guest_triple, 0);
	vcpu_run_exit(vcpu, VIREO_EXIT_SHUTDOWN);
	EXPECT_EQ(vcpu->run->end.what, VIREO_SHUTDOWN_TRIPLE_FAULT);
	/* Its registers can be read */
	vcpu_get_regs(vcpu, &regs);
	EXPECT_EQ(regs.seg[VIREO_IDTR].limit, 0);
}

TEST(triple_fault_real_mode)
{
	static const u8 code[] = { 0xcc };	/* int3, with an IDT of limit 0 */
	struct test_vcpu *vcpu;
	struct vireo_regs regs;
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	vcpu_set_code(vcpu, MODE_REAL, code, sizeof(code));
	vcpu_get_regs(vcpu, &regs);
	regs.seg[VIREO_IDTR].limit = 0;
	vcpu_set_regs(vcpu, &regs);
	vcpu_run_exit(vcpu, VIREO_EXIT_SHUTDOWN);
	EXPECT_EQ(vcpu->run->end.what, VIREO_SHUTDOWN_TRIPLE_FAULT);
}

/* What VT-x does not take, and AMD-V does not look at */
TEST(segment_not_accessed)
{
	static const u8 code[] = { 0xe6, 0x10 };
	struct test_vcpu *vcpu;
	struct vireo_regs regs;
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	vcpu_set_code(vcpu, MODE_REAL, code, sizeof(code));
	vcpu_get_regs(vcpu, &regs);
	regs.seg[VIREO_DS].attr &= ~1;
	vcpu_set_regs(vcpu, &regs);
	vcpu_run_exit(vcpu, vm.info.features & VIREO_FEAT_VMX ? VIREO_EXIT_FAIL_ENTRY :
							       VIREO_EXIT_IO);
}

/* A jump to what is not RAM */
TEST(jump_to_nowhere)
{
	static const u64 targets[] = { VM_RAM, VM_MMIO, 0xfee00000, 0xfffffff0 };
	struct test_vcpu *vcpu;
	struct vireo_regs regs;
	struct test_vm vm;
	unsigned int i;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	for (i = 0; i < ARRAY_SIZE(targets); i++) {
		vcpu_mode_regs(vcpu, MODE_LONG, targets[i], &regs);
		vcpu_set_regs(vcpu, &regs);
		vcpu_run_exit(vcpu, VIREO_EXIT_SHUTDOWN);
		EXPECT_EQ(vcpu->run->end.what, VIREO_SHUTDOWN_FETCH);
		EXPECT_EQ(vcpu->run->rip, targets[i]);
		EXPECT_EQ(vcpu->run->end.info & ~0xfffULL, targets[i] & ~0xfffULL);
	}
}

/* Page tables that lie outside of RAM end the guest too, whatever the reason */
TEST(page_tables_nowhere)
{
	static const u8 code[] = { 0xe6, 0x10 };
	struct test_vcpu *vcpu;
	struct vireo_regs regs;
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	vcpu_set_code(vcpu, MODE_LONG, code, sizeof(code));
	vcpu_get_regs(vcpu, &regs);
	regs.cr3 = VM_MMIO;
	vcpu_set_regs(vcpu, &regs);
	vcpu_run_exit(vcpu, VIREO_EXIT_SHUTDOWN);
	EXPECT_EQ(vcpu->run->rip, VM_CODE);
}

static void guest_system(u64 type)
{
	hypercall(VIREO_HC_SYSTEM, type, 0x1234567890 + type, 0, 0);
	guest_done(77);
}

TEST(system_events)
{
	struct test_vcpu *vcpu;
	struct test_vm vm;
	u32 type;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	for (type = VIREO_SYSTEM_POWEROFF; type <= VIREO_SYSTEM_CRASH; type++) {
		vcpu_set_entry(vcpu, guest_system, type);
		vcpu_run_exit(vcpu, VIREO_EXIT_SYSTEM);
		EXPECT_EQ(vcpu->run->end.what, type);
		EXPECT_EQ(vcpu->run->end.code, 0x1234567890 + type);
		/* Whoever runs it further finds it behind the hypercall */
		EXPECT_EQ(vcpu_run_done(vcpu), 77);
	}
}

static u64 answer;

static void guest_system_unknown(u64 type)
{
	WRITE_ONCE(answer, hypercall(VIREO_HC_SYSTEM, type, 0, 0, 0));
}

TEST(system_event_unknown)
{
	struct test_vcpu *vcpu;
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	vcpu_set_entry(vcpu, guest_system_unknown, 99);
	vcpu_run_done(vcpu);
	EXPECT_LT((s64)VM_GET(&vm, answer), 0);
}

static void *run_thread(void *arg)
{
	struct test_vcpu *vcpu = arg;

	vcpu->result = vcpu_run(vcpu);
	return NULL;
}

/* Run for a while, then interrupt; the guest must still be at it */
static void expect_stoppable(struct test_vcpu *vcpu, const char *what)
{
	struct timespec limit;
	int i, ret = -1;

	signal_install();
	ASSERT_EQ(pthread_create(&vcpu->thread, NULL, run_thread, vcpu), 0);
	usleep(200000);
	for (i = 0; i < 20 && ret; i++) {
		vcpu_signal(vcpu);
		clock_gettime(CLOCK_REALTIME, &limit);
		limit.tv_sec++;
		ret = pthread_timedjoin_np(vcpu->thread, NULL, &limit);
	}
	ASSERT_THAT(!ret, "%s: no end after 20 signals", what);
	EXPECT_THAT(vcpu->result == -EINTR, "%s: %lld, exit %u", what, vcpu->result,
		    vcpu->run->exit_reason);
	if (vcpu->result != -EINTR)
		vcpu_dump(vcpu);
}

TEST(interrupts_off_loop)
{
	static const u8 loop[] = { 0xfa, 0xeb, 0xfe };
	struct test_vm vm;
	unsigned int mode;

	vm_boot(&vm, 1, VM_RAM);
	for (mode = 0; mode < MODE_COUNT; mode++) {
		vcpu_set_code(&vm.vcpu[0], mode, loop, sizeof(loop));
		expect_stoppable(&vm.vcpu[0], vm_mode_name(mode));
	}
}

/*
 * Delivery of an exception that raises itself without end: #AC whose handler
 * runs on the same misaligned stack (CVE-2015-5307), #DB from a breakpoint on
 * the stack that it is delivered to (CVE-2015-8104).
 */
TEST(alignment_check_forever)
{
	/* 1: push %eax; pop %eax; jmp 1b */
	static const u8 code[] = { 0x50, 0x58, 0xeb, 0xfc };
	/* An interrupt gate for #AC to ring 3 code: the stack stays the same */
	u32 gate[2] = { (SEL_USER32 | 3) << 16, 0x0001ee00 };
	struct vireo_regs regs;
	struct test_vcpu *vcpu;
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	vm_write(&vm, VM_CODE, code, sizeof(code));
	vm_write(&vm, VM_IDT32 + VEC_AC * 8, gate, sizeof(gate));
	vcpu_mode_regs(vcpu, MODE_PROT32, VM_CODE, &regs);
	regs.cr0 |= X86_CR0_AM;
	regs.rflags |= X86_FLAGS_AC;
	regs.seg[VIREO_CS].selector = SEL_USER32 | 3;
	regs.seg[VIREO_CS].attr = 0xcfb;
	regs.seg[VIREO_SS].selector = SEL_USER_DATA | 3;
	regs.seg[VIREO_SS].attr = 0xcf3;
	regs.gpr[VIREO_RSP] = VM_SCRATCH + 0x8001;
	vcpu_set_regs(vcpu, &regs);
	expect_stoppable(vcpu, "#AC");
}

static void guest_db_forever(u64 arg)
{
	u64 stack = VM_IST + 0x1000 - 8;	/* where the frame's SS goes */

	asm volatile("mov %0, %%dr0" : : "r"(stack & ~7ULL));
	asm volatile("mov %0, %%dr7" : : "r"(0x000b0402ULL));	/* write, 8 bytes */
	asm volatile("int $0x80");
	/* Processors that lose the breakpoint during delivery come here */
	for (;;)
		asm volatile("int $0x80");
}

TEST(debug_exception_forever)
{
	struct test_vm vm;

	if (host_is_emulated())
		SKIP("this emulator ends in an assertion");
	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_db_forever, 0);
	expect_stoppable(&vm.vcpu[0], "#DB");
}

/* An interrupt storm of its own making */
GUEST_HANDLER
static void guest_storm_handler(struct guest_frame *frame)
{
	guest_eoi();
	wrmsr(APIC_SELF_IPI, 0x51);
}

static void guest_storm(u64 arg)
{
	guest_vector[0x51] = guest_storm_handler;
	wrmsr(APIC_SVR, APIC_ENABLED);
	wrmsr(APIC_SELF_IPI, 0x51);
	guest_sti();
	for (;;)
		guest_pause();
}

TEST(interrupt_storm)
{
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_storm, 0);
	expect_stoppable(&vm.vcpu[0], "interrupt storm");
}

static void guest_hypercalls(u64 arg)
{
	for (;;)
		hypercall(VIREO_HC_NOP, 0, 0, 0, 0);
}

/* Exits that are answered in the inner loop must not starve signals */
TEST(hypercall_storm)
{
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_hypercalls, 0);
	expect_stoppable(&vm.vcpu[0], "hypercall storm");
}

TEST_MAIN()
