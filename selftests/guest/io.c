// SPDX-License-Identifier: GPL-2.0
/* Port I/O of each width, by immediate and by DX, in each mode. */
#include <string.h>

#include "guest.h"
#include "harness.h"
#include "vm.h"

struct io_case {
	const char *name;
	u8 code[4];		/* for a 32-bit code segment */
	u8 len;
	u8 width;
	u8 write;
	bool dx;
	bool prefixed;		/* its 16/32-bit size depends on the code segment */
};

static const struct io_case cases[] = {
	{ "out %al, imm", { 0xe6, 0x41 }, 2, 1, 1, false, false },
	{ "out %eax, imm", { 0xe7, 0x41 }, 2, 4, 1, false, true },
	{ "out %ax, imm", { 0x66, 0xe7, 0x41 }, 3, 2, 1, false, true },
	{ "out %al, %dx", { 0xee }, 1, 1, 1, true, false },
	{ "out %eax, %dx", { 0xef }, 1, 4, 1, true, true },
	{ "out %ax, %dx", { 0x66, 0xef }, 2, 2, 1, true, true },
	{ "in imm, %al", { 0xe4, 0x41 }, 2, 1, 0, false, false },
	{ "in imm, %eax", { 0xe5, 0x41 }, 2, 4, 0, false, true },
	{ "in imm, %ax", { 0x66, 0xe5, 0x41 }, 3, 2, 0, false, true },
	{ "in %dx, %al", { 0xec }, 1, 1, 0, true, false },
	{ "in %dx, %eax", { 0xed }, 1, 4, 0, true, true },
	{ "in %dx, %ax", { 0x66, 0xed }, 2, 2, 0, true, true },
};

#define RAX_BEFORE	0x1122334455667788ULL
#define REPLY		0xa1b2c3d4

static u64 masked(u64 value, u8 width)
{
	return value & (width == 4 ? 0xffffffff : BIT_ULL(8 * width) - 1);
}

static u64 rax_after(const struct io_case *c, u64 before, u8 width)
{
	if (c->write)
		return before;
	if (width == 4)
		return REPLY;
	return (before & ~(BIT_ULL(8 * width) - 1)) | masked(REPLY, width);
}

static void io_case_run(struct test_vcpu *vcpu, enum vm_mode mode, const struct io_case *c)
{
	static const u8 end[] = { 0xe6, 0x99 };		/* out %al, $0x99 */
	bool small = mode < MODE_PROT32;
	u8 width = small && c->prefixed ? 6 - c->width : c->width;
	u64 before = mode == MODE_LONG ? RAX_BEFORE : (u32)RAX_BEFORE;
	struct vireo_regs regs;
	u8 code[8];

	memcpy(code, c->code, c->len);
	memcpy(code + c->len, end, sizeof(end));
	vm_write(vcpu->vm, VM_CODE, code, c->len + sizeof(end));
	vcpu_mode_regs(vcpu, mode, small ? 0 : VM_CODE, &regs);
	regs.gpr[VIREO_RAX] = before;
	regs.gpr[VIREO_RDX] = 0xfabc;
	vcpu_set_regs(vcpu, &regs);
	vcpu_run_exit(vcpu, VIREO_EXIT_IO);
	EXPECT_THAT(vcpu->run->io.port == (c->dx ? 0xfabc : 0x41) &&
		    vcpu->run->io.width == width && vcpu->run->io.write == c->write,
		    "%s, %s: port %#x width %u write %u", vm_mode_name(mode), c->name,
		    vcpu->run->io.port, vcpu->run->io.width, vcpu->run->io.write);
	if (c->write)
		EXPECT_THAT(vireo_io_data(vcpu->run) == masked(RAX_BEFORE, width),
			    "%s, %s: data %#x", vm_mode_name(mode), c->name,
			    vireo_io_data(vcpu->run));
	vireo_io_reply(vcpu->run, REPLY);
	vcpu_run_exit(vcpu, VIREO_EXIT_IO);
	EXPECT_EQ(vcpu->run->io.port, 0x99);
	vcpu_get_regs(vcpu, &regs);
	EXPECT_THAT(regs.gpr[VIREO_RAX] == rax_after(c, before, width),
		    "%s, %s: rax %#llx, expected %#llx", vm_mode_name(mode), c->name,
		    regs.gpr[VIREO_RAX], rax_after(c, before, width));
}

TEST(every_form_in_every_mode)
{
	unsigned int mode, i;
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	for (mode = 0; mode < MODE_COUNT; mode++)
		for (i = 0; i < ARRAY_SIZE(cases); i++)
			io_case_run(&vm.vcpu[0], mode, &cases[i]);
}

TEST(port_limits)
{
	static const u8 code[] = { 0xee, 0xee };
	struct vireo_regs regs;
	struct test_vcpu *vcpu;
	struct test_vm vm;
	u32 port;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	for (port = 0; port < 0x10000; port += 0x1249) {
		vcpu_set_code(vcpu, MODE_LONG, code, sizeof(code));
		vcpu_get_regs(vcpu, &regs);
		regs.gpr[VIREO_RDX] = port | 0xdead0000;
		vcpu_set_regs(vcpu, &regs);
		vcpu_run_exit(vcpu, VIREO_EXIT_IO);
		EXPECT_EQ(vcpu->run->io.port, port);
	}
}

/* String I/O is not offered: the guest ends with a reason, not with a hang */
TEST(string_io_refused)
{
	static const struct { u8 code[3]; u8 len; } strings[] = {
		{ { 0x6e }, 1 },		/* outsb */
		{ { 0x6f }, 1 },		/* outsl */
		{ { 0x6c }, 1 },		/* insb */
		{ { 0xf3, 0x6e }, 2 },		/* rep outsb */
		{ { 0xf3, 0x66, 0x6d }, 3 },	/* rep insw */
	};
	struct vireo_regs regs;
	struct test_vcpu *vcpu;
	struct test_vm vm;
	unsigned int i;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	for (i = 0; i < ARRAY_SIZE(strings); i++) {
		vcpu_set_code(vcpu, MODE_LONG, strings[i].code, strings[i].len);
		vcpu_get_regs(vcpu, &regs);
		regs.gpr[VIREO_RCX] = 4;
		regs.gpr[VIREO_RDX] = 0x60;
		regs.gpr[VIREO_RSI] = VM_SCRATCH;
		regs.gpr[VIREO_RDI] = VM_SCRATCH;
		vcpu_set_regs(vcpu, &regs);
		vcpu_run_exit(vcpu, VIREO_EXIT_IO);
		EXPECT_EQ(vcpu->run->io.width, 0);
		EXPECT_EQ(vcpu->run->io.port, 0x60);
	}
}

/* Ring 3 may do port I/O if IOPL says so, and faults if it does not */
static u32 faults;

GUEST_HANDLER
static void guest_on_gp(struct guest_frame *frame)
{
	WRITE_ONCE(faults, faults + 1);
	guest_sync(frame->rip);
}

static void guest_catch_gp(u64 arg)
{
	guest_vector[VEC_GP] = guest_on_gp;
}

static void user_regs(struct test_vcpu *vcpu, u64 rflags)
{
	struct vireo_regs regs;

	vcpu_mode_regs(vcpu, MODE_LONG, VM_CODE, &regs);
	regs.seg[VIREO_CS].selector = SEL_USER64 | 3;
	regs.seg[VIREO_CS].attr = 0xafb;
	regs.seg[VIREO_SS].selector = SEL_USER_DATA | 3;
	regs.seg[VIREO_SS].attr = 0xcf3;
	regs.rflags = rflags;
	vcpu_set_regs(vcpu, &regs);
}

TEST(ring3_needs_iopl)
{
	static const u8 code[] = { 0xe6, 0x41, 0xe6, 0x42 };
	struct test_vcpu *vcpu;
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	vcpu_set_entry(vcpu, guest_catch_gp, 0);
	vcpu_run_done(vcpu);
	vm_write(&vm, VM_CODE, code, sizeof(code));
	user_regs(vcpu, 0x3002);
	vcpu_run_exit(vcpu, VIREO_EXIT_IO);
	EXPECT_EQ(vcpu->run->io.port, 0x41);
	user_regs(vcpu, 2);
	EXPECT_EQ(vcpu_run_sync(vcpu), VM_CODE);
	EXPECT_EQ(VM_GET(&vm, faults), 1);
}

TEST_MAIN()
