// SPDX-License-Identifier: GPL-2.0
/*
 * MMIO: every form of mov that is supported, in each code size, and the end of
 * a guest that uses another instruction there.
 *
 * Each table of forms is expanded twice: to machine code in records of 16
 * bytes (length, instruction), and to what is expected of it.
 */
#include <errno.h>
#include <string.h>

#include "guest.h"
#include "harness.h"
#include "vm.h"

#define REPLY	0x98a9bacbdcedfe8fULL

struct form {
	const char *name;
	u64 gpa;
	u64 value;		/* written, or of the register after the read */
	u8 width;
	s8 reg;			/* VIREO_*, or -1: a write */
};

#define ASM_WRITE(insn, gpa, width, data)	ASM_RECORD(insn)
#define ASM_READ(insn, gpa, width, reg, after)	ASM_RECORD(insn)
#define ASM_RECORD(insn)						\
	"	.byte 2f - 1f\n"					\
	"1:	" insn "\n"						\
	"2:	.fill 15 - (2b - 1b), 1, 0x90\n"
#define TABLE_WRITE(insn, gpa, width, data)	{ insn, gpa, data, width, -1 },
#define TABLE_READ(insn, gpa, width, reg, after) { insn, gpa, after, width, reg },

#define FORMS(bits, name, list)						\
	asm(".pushsection .rodata\n"					\
	    ".code" #bits "\n"						\
	    "code_" #name ":\n"						\
	    list(ASM_WRITE, ASM_READ)					\
	    ".code64\n"							\
	    ".popsection\n");						\
	extern const u8 code_##name[][16];				\
	static const struct form forms_##name[] = { list(TABLE_WRITE, TABLE_READ) }

/* RDI, RBP, RSP, R9, R12, R13: VM_MMIO; RSI 0x10; R14 0x20; others patterns */
#define LIST64(W, R)							\
	W("mov %al, (%rdi)", VM_MMIO, 1, 0x18)				\
	W("mov %ah, (%rdi)", VM_MMIO, 1, 0x17)				\
	W("mov %bh, (%rdi)", VM_MMIO, 1, 0x47)				\
	W("mov %ch, (%rdi)", VM_MMIO, 1, 0x27)				\
	W("mov %dh, (%rdi)", VM_MMIO, 1, 0x37)				\
	W("mov %sil, (%rdi)", VM_MMIO, 1, 0x10)				\
	W("mov %r8b, (%rdi)", VM_MMIO, 1, 0x98)				\
	W("mov %ax, (%rdi)", VM_MMIO, 2, 0x1718)			\
	W("mov %eax, (%rdi)", VM_MMIO, 4, 0x15161718)			\
	W("mov %rax, (%rdi)", VM_MMIO, 8, 0x1112131415161718)		\
	W("mov %r15w, (%rdi)", VM_MMIO, 2, 0xf7f8)			\
	W("mov %r15d, (%rdi)", VM_MMIO, 4, 0xf5f6f7f8)			\
	W("mov %r15, (%rdi)", VM_MMIO, 8, 0xf1f2f3f4f5f6f7f8)		\
	W("mov %eax, 0x7c(%rdi)", VM_MMIO + 0x7c, 4, 0x15161718)	\
	W("mov %eax, -0x40(%rdi)", VM_MMIO - 0x40, 4, 0x15161718)	\
	W("mov %eax, 0x12344(%rdi)", VM_MMIO + 0x12344, 4, 0x15161718)	\
	W("mov %eax, -0x12344(%rdi)", VM_MMIO - 0x12344, 4, 0x15161718)	\
	W("mov %eax, (%rdi,%rsi)", VM_MMIO + 0x10, 4, 0x15161718)	\
	W("mov %eax, (%rdi,%rsi,2)", VM_MMIO + 0x20, 4, 0x15161718)	\
	W("mov %eax, (%rdi,%rsi,4)", VM_MMIO + 0x40, 4, 0x15161718)	\
	W("mov %eax, (%rdi,%rsi,8)", VM_MMIO + 0x80, 4, 0x15161718)	\
	W("mov %eax, 8(%rdi,%rsi,8)", VM_MMIO + 0x88, 4, 0x15161718)	\
	W("mov %eax, 0x400(%rdi,%rsi,8)", VM_MMIO + 0x480, 4, 0x15161718) \
	W("mov %eax, 0x10000000(,%rsi,4)", VM_MMIO + 0x40, 4, 0x15161718) \
	W("mov %ecx, 0x10000000", VM_MMIO, 4, 0x25262728)		\
	W("mov %eax, (%rsp)", VM_MMIO, 4, 0x15161718)			\
	W("mov %eax, 8(%rsp)", VM_MMIO + 8, 4, 0x15161718)		\
	W("mov %eax, (%rsp,%rsi)", VM_MMIO + 0x10, 4, 0x15161718)	\
	W("mov %eax, (%rbp)", VM_MMIO, 4, 0x15161718)			\
	W("mov %eax, (%rbp,%rsi)", VM_MMIO + 0x10, 4, 0x15161718)	\
	W("mov %eax, (%r9)", VM_MMIO, 4, 0x15161718)			\
	W("mov %eax, (%r12)", VM_MMIO, 4, 0x15161718)			\
	W("mov %eax, (%r13)", VM_MMIO, 4, 0x15161718)			\
	W("mov %eax, (%r13,%r14,2)", VM_MMIO + 0x40, 4, 0x15161718)	\
	W("mov %eax, (%r12,%r12,1)", 2 * VM_MMIO, 4, 0x15161718)	\
	W("mov %eax, 0xffefffa(%rip)", VM_MMIO, 4, 0x15161718)		\
	W("movb $0x5a, 0xffefff9(%rip)", VM_MMIO, 1, 0x5a)		\
	W("movl $0x5a, 0xffefff6(%rip)", VM_MMIO, 4, 0x5a)		\
	W("mov %eax, (%edi)", VM_MMIO, 4, 0x15161718)			\
	W("mov %eax, (%r15d,%esi,1)", 0xf5f6f808, 4, 0x15161718)	\
	W("mov %eax, %fs:(%rsi)", VM_MMIO + 0x1010, 4, 0x15161718)	\
	W("mov %eax, %gs:8", VM_MMIO + 0x2008, 4, 0x15161718)		\
	W("mov %eax, %ds:(%rdi)", VM_MMIO, 4, 0x15161718)		\
	W("movb $0x5a, (%rdi)", VM_MMIO, 1, 0x5a)			\
	W("movw $0x5aa5, (%rdi)", VM_MMIO, 2, 0x5aa5)			\
	W("movl $0x12345678, (%rdi)", VM_MMIO, 4, 0x12345678)		\
	W("movq $-2, (%rdi)", VM_MMIO, 8, ~1ULL)			\
	W("movabs %al, 0x10000008", VM_MMIO + 8, 1, 0x18)		\
	W("movabs %ax, 0x10000008", VM_MMIO + 8, 2, 0x1718)		\
	W("movabs %eax, 0x10000008", VM_MMIO + 8, 4, 0x15161718)	\
	W("movabs %rax, 0x10000008", VM_MMIO + 8, 8, 0x1112131415161718) \
	R("movabs 0x10000008, %al", VM_MMIO + 8, 1, VIREO_RAX, 0x111213141516178f) \
	R("movabs 0x10000008, %ax", VM_MMIO + 8, 2, VIREO_RAX, 0x111213141516fe8f) \
	R("movabs 0x10000008, %eax", VM_MMIO + 8, 4, VIREO_RAX, 0xdcedfe8f) \
	R("movabs 0x10000008, %rax", VM_MMIO + 8, 8, VIREO_RAX, REPLY)	\
	R("mov (%rdi), %al", VM_MMIO, 1, VIREO_RAX, 0x111213141516178f)	\
	R("mov (%rdi), %ah", VM_MMIO, 1, VIREO_RAX, 0x1112131415168f18)	\
	R("mov (%rdi), %bh", VM_MMIO, 1, VIREO_RBX, 0x4142434445468f48)	\
	R("mov (%rdi), %ch", VM_MMIO, 1, VIREO_RCX, 0x2122232425268f28)	\
	R("mov (%rdi), %dh", VM_MMIO, 1, VIREO_RDX, 0x3132333435368f38)	\
	R("mov (%rdi), %sil", VM_MMIO, 1, VIREO_RSI, 0x8f)		\
	R("mov (%rdi), %spl", VM_MMIO, 1, VIREO_RSP, 0x1000008f)	\
	R("mov (%rdi), %r8b", VM_MMIO, 1, VIREO_R8, 0x919293949596978f)	\
	R("mov (%rdi), %ax", VM_MMIO, 2, VIREO_RAX, 0x111213141516fe8f)	\
	R("mov (%rdi), %eax", VM_MMIO, 4, VIREO_RAX, 0xdcedfe8f)	\
	R("mov (%rdi), %rax", VM_MMIO, 8, VIREO_RAX, REPLY)		\
	R("mov (%rdi), %rdi", VM_MMIO, 8, VIREO_RDI, REPLY)		\
	R("mov (%r9), %r15d", VM_MMIO, 4, VIREO_R15, 0xdcedfe8f)	\
	R("mov (%rdi,%rsi,8), %r15", VM_MMIO + 0x80, 8, VIREO_R15, REPLY) \
	R("mov 0xffefffa(%rip), %eax", VM_MMIO, 4, VIREO_RAX, 0xdcedfe8f) \
	R("movzbw (%rdi), %ax", VM_MMIO, 1, VIREO_RAX, 0x111213141516008f) \
	R("movzbl (%rdi), %eax", VM_MMIO, 1, VIREO_RAX, 0x8f)		\
	R("movzbq (%rdi), %rax", VM_MMIO, 1, VIREO_RAX, 0x8f)		\
	R("movzbl (%r9), %r15d", VM_MMIO, 1, VIREO_R15, 0x8f)		\
	R("movzwl (%rdi), %eax", VM_MMIO, 2, VIREO_RAX, 0xfe8f)		\
	R("movzwq (%rdi), %rax", VM_MMIO, 2, VIREO_RAX, 0xfe8f)		\
	R("movsbw (%rdi), %ax", VM_MMIO, 1, VIREO_RAX, 0x111213141516ff8f) \
	R("movsbl (%rdi), %eax", VM_MMIO, 1, VIREO_RAX, 0xffffff8f)	\
	R("movsbq (%rdi), %rax", VM_MMIO, 1, VIREO_RAX, 0xffffffffffffff8f) \
	R("movswl (%rdi), %eax", VM_MMIO, 2, VIREO_RAX, 0xfffffe8f)	\
	R("movswq (%rdi), %r8", VM_MMIO, 2, VIREO_R8, 0xfffffffffffffe8f) \
	R("movslq (%rdi), %rax", VM_MMIO, 4, VIREO_RAX, 0xffffffffdcedfe8f)

/* EDI, EBP, ESP: VM_MMIO; ESI 0x10; others patterns */
#define LIST32(W, R)							\
	W("mov %al, (%edi)", VM_MMIO, 1, 0x18)				\
	W("mov %ah, (%edi)", VM_MMIO, 1, 0x17)				\
	W("mov %bh, (%edi)", VM_MMIO, 1, 0x47)				\
	W("mov %ax, (%edi)", VM_MMIO, 2, 0x1718)			\
	W("mov %eax, (%edi)", VM_MMIO, 4, 0x15161718)			\
	W("mov %ecx, 0x10000000", VM_MMIO, 4, 0x25262728)		\
	W("mov %eax, 0x10000008", VM_MMIO + 8, 4, 0x15161718)		\
	W("mov %ax, 0x10000008", VM_MMIO + 8, 2, 0x1718)		\
	W("mov %al, 0x10000008", VM_MMIO + 8, 1, 0x18)			\
	W("mov %edx, 0x7c(%edi)", VM_MMIO + 0x7c, 4, 0x35363738)	\
	W("mov %edx, (%edi,%esi,8)", VM_MMIO + 0x80, 4, 0x35363738)	\
	W("mov %edx, 0x10000000(,%esi,4)", VM_MMIO + 0x40, 4, 0x35363738) \
	W("mov %edx, 4(%ebp)", VM_MMIO + 4, 4, 0x35363738)		\
	W("mov %edx, (%esp)", VM_MMIO, 4, 0x35363738)			\
	W("mov %edx, %fs:(%esi)", VM_MMIO + 0x1010, 4, 0x35363738)	\
	W("mov %edx, %fs:(%si)", VM_MMIO + 0x1010, 4, 0x35363738)	\
	W("mov %edx, %gs:8(%bx,%si)", VM_MMIO + 0x2000 + 0x4760, 4, 0x35363738) \
	W("movb $0x5a, (%edi)", VM_MMIO, 1, 0x5a)			\
	W("movw $0x5aa5, (%edi)", VM_MMIO, 2, 0x5aa5)			\
	W("movl $0x12345678, (%edi)", VM_MMIO, 4, 0x12345678)		\
	R("mov (%edi), %al", VM_MMIO, 1, VIREO_RAX, 0x1516178f)		\
	R("mov (%edi), %ah", VM_MMIO, 1, VIREO_RAX, 0x15168f18)		\
	R("mov (%edi), %bh", VM_MMIO, 1, VIREO_RBX, 0x45468f48)		\
	R("mov (%edi), %ax", VM_MMIO, 2, VIREO_RAX, 0x1516fe8f)		\
	R("mov (%edi), %eax", VM_MMIO, 4, VIREO_RAX, 0xdcedfe8f)	\
	R("mov 0x10000008, %eax", VM_MMIO + 8, 4, VIREO_RAX, 0xdcedfe8f) \
	R("mov 0x10000008, %al", VM_MMIO + 8, 1, VIREO_RAX, 0x1516178f)	\
	R("movzbl (%edi), %edx", VM_MMIO, 1, VIREO_RDX, 0x8f)		\
	R("movzwl (%edi), %edx", VM_MMIO, 2, VIREO_RDX, 0xfe8f)		\
	R("movsbl (%edi), %edx", VM_MMIO, 1, VIREO_RDX, 0xffffff8f)	\
	R("movswl (%edi), %edx", VM_MMIO, 2, VIREO_RDX, 0xfffffe8f)	\
	R("movsbw (%edi), %dx", VM_MMIO, 1, VIREO_RDX, 0x3536ff8f)

/* DS, ES, FS, GS: VM_MMIO; SS: 0x1000 behind; BX 0x4748, SI 0x10, DI 0x20, BP 0x30 */
#define LIST16(W, R)							\
	W("mov %al, (%bx)", VM_MMIO + 0x4748, 1, 0x18)			\
	W("mov %ah, (%si)", VM_MMIO + 0x10, 1, 0x17)			\
	W("mov %ax, (%di)", VM_MMIO + 0x20, 2, 0x1718)			\
	W("mov %eax, (%di)", VM_MMIO + 0x20, 4, 0x15161718)		\
	W("mov %cx, (%bx,%si)", VM_MMIO + 0x4758, 2, 0x2728)		\
	W("mov %cx, (%bx,%di)", VM_MMIO + 0x4768, 2, 0x2728)		\
	W("mov %cx, (%bp,%si)", VM_MMIO + 0x1040, 2, 0x2728)		\
	W("mov %cx, (%bp,%di)", VM_MMIO + 0x1050, 2, 0x2728)		\
	W("mov %cx, (%bp)", VM_MMIO + 0x1030, 2, 0x2728)		\
	W("mov %cx, %ds:(%bp)", VM_MMIO + 0x30, 2, 0x2728)		\
	W("mov %cx, -8(%bp)", VM_MMIO + 0x1028, 2, 0x2728)		\
	W("mov %cx, 0x1234(%bx)", VM_MMIO + 0x597c, 2, 0x2728)		\
	W("mov %cx, 0xf000(%bx)", VM_MMIO + 0x3748, 2, 0x2728)		\
	W("mov %cx, 0x1234", VM_MMIO + 0x1234, 2, 0x2728)		\
	W("mov %ax, 0x1234", VM_MMIO + 0x1234, 2, 0x1718)		\
	W("mov %eax, 0x1234", VM_MMIO + 0x1234, 4, 0x15161718)		\
	W("mov %al, 0x1234", VM_MMIO + 0x1234, 1, 0x18)			\
	W("mov %cx, %es:(%si)", VM_MMIO + 0x10, 2, 0x2728)		\
	W("mov %ecx, (%esi)", VM_MMIO + 0x10, 4, 0x25262728)		\
	W("mov %ecx, 4(%esi,%edi,2)", VM_MMIO + 0x54, 4, 0x25262728)	\
	W("movb $0x5a, (%si)", VM_MMIO + 0x10, 1, 0x5a)			\
	W("movw $0x5aa5, (%si)", VM_MMIO + 0x10, 2, 0x5aa5)		\
	W("movl $0x12345678, (%si)", VM_MMIO + 0x10, 4, 0x12345678)	\
	R("mov (%si), %al", VM_MMIO + 0x10, 1, VIREO_RAX, 0x1516178f)	\
	R("mov (%si), %ax", VM_MMIO + 0x10, 2, VIREO_RAX, 0x1516fe8f)	\
	R("mov (%si), %eax", VM_MMIO + 0x10, 4, VIREO_RAX, 0xdcedfe8f)	\
	R("mov 0x1234, %ax", VM_MMIO + 0x1234, 2, VIREO_RAX, 0x1516fe8f) \
	R("movzbw (%si), %cx", VM_MMIO + 0x10, 1, VIREO_RCX, 0x2526008f) \
	R("movzbl (%si), %ecx", VM_MMIO + 0x10, 1, VIREO_RCX, 0x8f)	\
	R("movsbw (%si), %cx", VM_MMIO + 0x10, 1, VIREO_RCX, 0x2526ff8f) \
	R("movswl (%si), %ecx", VM_MMIO + 0x10, 2, VIREO_RCX, 0xfffffe8f)

/* What is no mov, in 64-bit code */
#define LIST_OTHER(W, R)						\
	W("add %eax, (%rdi)", VM_MMIO, 4, 0)				\
	W("incl (%rdi)", VM_MMIO, 4, 0)					\
	W("xchg %eax, (%rdi)", VM_MMIO, 4, 0)				\
	W("lock cmpxchg %ecx, (%rdi)", VM_MMIO, 4, 0)			\
	W("cmp %eax, (%rdi)", VM_MMIO, 4, 0)				\
	W("testb $1, (%rdi)", VM_MMIO, 4, 0)				\
	W("push (%rdi)", VM_MMIO, 8, 0)					\
	W("stosl", VM_MMIO, 4, 0)					\
	W("rep stosq", VM_MMIO, 8, 0)					\
	W("movups %xmm0, (%rdi)", VM_MMIO, 8, 0)			\
	W("movnti %eax, (%rdi)", VM_MMIO, 4, 0)				\
	W("fnstcw (%rdi)", VM_MMIO, 2, 0)				\
	W("sgdt (%rdi)", VM_MMIO, 8, 0)					\
	W("mov %ds, (%rdi)", VM_MMIO, 2, 0)				\
	W("btl $1, (%rdi)", VM_MMIO, 4, 0)				\
	W("call *(%rdi)", VM_MMIO, 8, 0)

FORMS(64, long, LIST64);
FORMS(32, prot, LIST32);
FORMS(16, real, LIST16);
FORMS(64, other, LIST_OTHER);

static void form_regs(struct test_vcpu *vcpu, enum vm_mode mode, struct vireo_regs *regs)
{
	bool small = mode < MODE_PROT32;
	int i;

	vcpu_mode_regs(vcpu, mode, small ? 0 : VM_CODE, regs);
	for (i = 0; i < 16; i++)
		regs->gpr[i] = 0x0102030405060708ULL + 0x1010101010101010ULL * (i + 1);
	regs->gpr[VIREO_RSI] = 0x10;
	regs->gpr[VIREO_RDI] = small ? 0x20 : VM_MMIO;
	regs->gpr[VIREO_RBP] = small ? 0x30 : VM_MMIO;
	regs->gpr[VIREO_RSP] = VM_MMIO;
	regs->gpr[VIREO_R9] = VM_MMIO;
	regs->gpr[VIREO_R12] = VM_MMIO;
	regs->gpr[VIREO_R13] = VM_MMIO;
	regs->gpr[VIREO_R14] = 0x20;
	regs->gpr[VIREO_R15] = 0xf1f2f3f4f5f6f7f8;
	regs->seg[VIREO_FS].base = VM_MMIO + 0x1000;
	regs->seg[VIREO_GS].base = VM_MMIO + 0x2000;
	if (mode != MODE_LONG)
		for (i = 0; i < 16; i++)
			regs->gpr[i] = i < 8 ? (u32)regs->gpr[i] : 0;
	if (!small)
		return;
	for (i = VIREO_ES; i <= VIREO_GS; i++)
		if (i != VIREO_CS)
			regs->seg[i].base = VM_MMIO;
	regs->seg[VIREO_SS].base = VM_MMIO + 0x1000;
}

/* The instruction, and behind it an OUT to tell that it is done */
static void form_load(struct test_vcpu *vcpu, enum vm_mode mode, const u8 *record, u64 at)
{
	static const u8 end[] = { 0xe6, 0x99 };
	struct vireo_regs regs;

	vm_write(vcpu->vm, at, record + 1, record[0]);
	vm_write(vcpu->vm, at + record[0], end, sizeof(end));
	form_regs(vcpu, mode, &regs);
	regs.rip += at - VM_CODE;
	vcpu_set_regs(vcpu, &regs);
}

static void form_run(struct test_vcpu *vcpu, enum vm_mode mode, const u8 *record,
		     const struct form *f, u64 at)
{
	const struct vireo_run *run = vcpu->run;
	struct vireo_regs before, after;
	const struct vireo_mmio *m;
	int i;

	form_load(vcpu, mode, record, at);
	vcpu_get_regs(vcpu, &before);
	m = vcpu_run_mmio(vcpu);
	EXPECT_THAT(!memcmp(&run->mmio.regs.gpr, &before.gpr, sizeof(before.gpr)) &&
		    run->mmio.regs.rip == before.rip, "%s, %s: other registers in the exit",
		    vm_mode_name(mode), f->name);
	EXPECT_THAT(m->gpa == f->gpa && m->width == f->width && m->write == (f->reg < 0),
		    "%s, %s: gpa %#llx width %u write %u", vm_mode_name(mode), f->name, m->gpa,
		    m->width, m->write);
	if (f->reg < 0)
		EXPECT_THAT(m->data == f->value, "%s, %s: data %#llx", vm_mode_name(mode),
			    f->name, m->data);
	vcpu_mmio_reply(vcpu, REPLY);
	vcpu_run_exit(vcpu, VIREO_EXIT_IO);
	EXPECT_THAT(run->io.port == 0x99, "%s, %s: port %#x", vm_mode_name(mode), f->name,
		    run->io.port);
	vcpu_get_regs(vcpu, &after);
	if (f->reg >= 0)
		before.gpr[f->reg] = f->value;
	for (i = 0; i < 16; i++)
		EXPECT_THAT(before.gpr[i] == after.gpr[i],
			    "%s, %s: register %d is %#llx, expected %#llx",
			    vm_mode_name(mode), f->name, i, after.gpr[i], before.gpr[i]);
	EXPECT_EQ(before.rflags, after.rflags);
}

static void forms_run(enum vm_mode mode, const u8 (*code)[16], const struct form *forms,
		      unsigned int count)
{
	struct test_vm vm;
	unsigned int i;

	vm_boot(&vm, 1, VM_RAM);
	for (i = 0; i < count; i++)
		form_run(&vm.vcpu[0], mode, code[i], &forms[i], VM_CODE);
	vm_close(&vm);
}

TEST(forms_long)
{
	forms_run(MODE_LONG, code_long, forms_long, ARRAY_SIZE(forms_long));
}

TEST(forms_protected)
{
	forms_run(MODE_PROT32, code_prot, forms_prot, ARRAY_SIZE(forms_prot));
}

TEST(forms_paging)
{
	forms_run(MODE_PAGING32, code_prot, forms_prot, ARRAY_SIZE(forms_prot));
}

TEST(forms_pae)
{
	forms_run(MODE_PAE32, code_prot, forms_prot, ARRAY_SIZE(forms_prot));
}

TEST(forms_compatibility)
{
	forms_run(MODE_COMPAT32, code_prot, forms_prot, ARRAY_SIZE(forms_prot));
}

TEST(forms_real)
{
	forms_run(MODE_REAL, code_real, forms_real, ARRAY_SIZE(forms_real));
}

TEST(forms_protected16)
{
	forms_run(MODE_PROT16, code_real, forms_real, ARRAY_SIZE(forms_real));
}

/* The instruction's bytes lie on two pages */
TEST(across_pages)
{
	struct test_vm vm;
	unsigned int i, j;

	vm_boot(&vm, 1, VM_RAM);
	for (i = 0; i < ARRAY_SIZE(forms_long); i++) {
		if (strstr(forms_long[i].name, "%rip"))
			continue;
		for (j = 1; j < code_long[i][0]; j++)
			form_run(&vm.vcpu[0], MODE_LONG, code_long[i], &forms_long[i],
				 VM_CODE + 0x1000 - j);
	}
}

TEST(other_instructions_refused)
{
	struct test_vcpu *vcpu;
	struct test_vm vm;
	unsigned int i;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	for (i = 0; i < ARRAY_SIZE(forms_other); i++) {
		struct vireo_mmio m;
		struct vireo_regs regs;

		form_load(vcpu, MODE_LONG, code_other[i], VM_CODE);
		vcpu_get_regs(vcpu, &regs);
		regs.gpr[VIREO_RSP] = VM_STACK + 0x800;
		vcpu_set_regs(vcpu, &regs);
		vcpu_run_exit(vcpu, VIREO_EXIT_MMIO);
		EXPECT_THAT(vireo_mmio_take(vcpu->run, vm.mem, &m) == -EOPNOTSUPP &&
			    m.gpa == VM_MMIO && vcpu->run->rip == VM_CODE,
			    "%s: taken, or gpa %#llx rip %#llx", forms_other[i].name, m.gpa,
			    vcpu->run->rip);
		EXPECT_THAT(m.insn_len >= code_other[i][0] &&
			    !memcmp(m.insn, code_other[i] + 1, code_other[i][0]),
			    "%s: other instruction bytes shown", forms_other[i].name);
	}
}

/* Memory between two ranges of RAM is MMIO as well, and RAM around it is not */
static void guest_hole(u64 arg)
{
	WRITE_ONCE(*(u32 *)(VM_RAM + 0x0ff8), 1);
	WRITE_ONCE(*(u32 *)(VM_RAM + 0x1000), 2);
	WRITE_ONCE(*(u32 *)(VM_RAM + 0x2000), 3);
}

TEST(hole_between_ram)
{
	struct test_vcpu *vcpu;
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	ASSERT_EQ(vm_add_memory(vm.fd, VM_RAM, 0x1000), 0);
	ASSERT_EQ(vm_add_memory(vm.fd, VM_RAM + 0x2000, 0x1000), 0);
	vcpu_set_entry(vcpu, guest_hole, 0);
	EXPECT_EQ(vcpu_run_mmio(vcpu)->gpa, VM_RAM + 0x1000);
	EXPECT_EQ(vcpu->mmio.data, 2);
	vcpu_mmio_reply(vcpu, 0);
	vcpu_run_done(vcpu);
}

/* mov (%rdi), %eax, and an OUT to tell that it is done */
static const u8 code_load[] = { 0x8b, 0x07, 0xe6, 0x99 };

static void load_boot(struct test_vm *vm)
{
	struct vireo_regs regs;

	vm_boot(vm, 1, VM_RAM);
	vcpu_set_code(&vm->vcpu[0], MODE_LONG, code_load, sizeof(code_load));
	vcpu_get_regs(&vm->vcpu[0], &regs);
	regs.gpr[VIREO_RDI] = VM_MMIO;
	vcpu_set_regs(&vm->vcpu[0], &regs);
	EXPECT_EQ(vcpu_run_mmio(&vm->vcpu[0])->gpa, VM_MMIO);
}

static void reply_refused(struct test_vcpu *vcpu, u32 reg, u64 next_rip)
{
	struct vireo_regs before, after;

	vcpu_get_regs(vcpu, &before);
	vcpu->run->reg = reg;
	vcpu->run->value = 0x1234;
	vcpu->run->next_rip = next_rip;
	EXPECT_EQ(vcpu_run(vcpu), -EINVAL);
	vcpu_get_regs(vcpu, &after);
	EXPECT_EQ(memcmp(&before, &after, sizeof(before)), 0);
}

/* The kernel takes a register that there is and an address behind the instruction */
TEST(reply_checked)
{
	struct test_vcpu *vcpu;
	struct vireo_regs regs;
	struct test_vm vm;

	load_boot(&vm);
	vcpu = &vm.vcpu[0];
	reply_refused(vcpu, VIREO_NO_REG + 1, VM_CODE + 2);
	reply_refused(vcpu, ~0U, VM_CODE + 2);
	reply_refused(vcpu, VIREO_RAX, 1ULL << 63);
	reply_refused(vcpu, VIREO_NO_REG, ~0ULL >> 1);
	reply_refused(vcpu, VIREO_RAX, VM_CODE + 17);
	reply_refused(vcpu, VIREO_RAX, VM_CODE - 1);
	/* Refused ones do not spoil it. */
	vcpu_mmio_reply(vcpu, 0x55aa55aa);
	vcpu_run_exit(vcpu, VIREO_EXIT_IO);
	EXPECT_EQ(vcpu->run->io.port, 0x99);
	vcpu_get_regs(vcpu, &regs);
	EXPECT_EQ(regs.gpr[VIREO_RAX], 0x55aa55aa);
	vm_close(&vm);
}

/* Without a reply, and with other code there, the guest runs that. */
TEST(no_reply_runs_again)
{
	static const u8 other[] = { 0xe6, 0x98 };
	struct test_vcpu *vcpu;
	struct test_vm vm;

	load_boot(&vm);
	vcpu = &vm.vcpu[0];
	vcpu->run->reg = ~0U;		/* not looked at */
	EXPECT_EQ(vcpu_run_mmio(vcpu)->gpa, VM_MMIO);
	vm_write(&vm, VM_CODE, other, sizeof(other));
	vcpu_run_exit(vcpu, VIREO_EXIT_IO);
	EXPECT_EQ(vcpu->run->io.port, 0x98);
	vm_close(&vm);
}

/* Registers that user space sets meanwhile are what counts, not the reply. */
TEST(set_regs_drops_reply)
{
	struct test_vcpu *vcpu;
	struct vireo_regs regs;
	struct test_vm vm;

	load_boot(&vm);
	vcpu = &vm.vcpu[0];
	vcpu_get_regs(vcpu, &regs);
	regs.rip += 2;
	regs.gpr[VIREO_RAX] = 7;
	vcpu_set_regs(vcpu, &regs);
	vcpu_mmio_reply(vcpu, 0x55aa55aa);
	vcpu_run_exit(vcpu, VIREO_EXIT_IO);
	vcpu_get_regs(vcpu, &regs);
	EXPECT_EQ(regs.gpr[VIREO_RAX], 7);
	vm_close(&vm);
}

/* The stack of a handler is where no RAM is: the delivery is not an instruction's access */
TEST(delivery_refused)
{
	static const u8 code[] = { 0x0f, 0x0b };	/* ud2 */
	u64 stack = VM_MMIO + 0x1000;
	const struct vireo_run *run;
	struct vireo_mmio mmio;
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vm_write(&vm, VM_TSS + 36, &stack, sizeof(stack));	/* IST 1 */
	vcpu_set_code(&vm.vcpu[0], MODE_LONG, code, sizeof(code));
	vcpu_run_exit(&vm.vcpu[0], VIREO_EXIT_MMIO);
	run = vm.vcpu[0].run;
	EXPECT_EQ(run->mmio.gpa & ~0xfffULL, VM_MMIO);
	EXPECT_EQ(run->mmio.write, 1);
	EXPECT_EQ(run->mmio.regs.inject, VIREO_INJECT_EXCEPTION | VEC_UD);
	EXPECT_EQ(vireo_mmio_take(run, vm.mem, &mmio), -EOPNOTSUPP);
}

TEST_MAIN()
