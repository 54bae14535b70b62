// SPDX-License-Identifier: GPL-2.0
/*
 * The guest's run time: interrupt entry, exceptions that tests expect, and
 * the report of what went wrong.  All of it runs inside the guest.
 *
 * The compiler may keep data below the stack pointer (the red zone), which an
 * interrupt on the same stack would overwrite.  So the processor switches to
 * an interrupt stack, and the entry code moves the frame from there to below
 * the red zone of the stack that was interrupted: handlers may nest.
 */
#include "guest.h"

asm(".pushsection .text\n"
	".balign 16\n"
	".globl guest_stubs\n"
	"guest_stubs:\n"
	".set vector, 0\n"
	".rept 256\n"
	"	.balign 16\n"
	"	.set bit, 1 << (vector & 31)\n"
	"	.if vector >= 32 || !(bit & 0x60227d00)\n"	/* no error code */
	"	push $0\n"
	"	.endif\n"
	"	push $vector\n"
	"	jmp guest_entry\n"
	".set vector, vector + 1\n"
	".endr\n"
	".balign 16\n"
	"guest_entry:\n"
	"	push %rax; push %rcx; push %rdx; push %rbx; push %rbp\n"
	"	push %rsi; push %rdi; push %r8; push %r9; push %r10; push %r11\n"
	"	push %r12; push %r13; push %r14; push %r15\n"
	"	mov 20*8(%rsp), %rdi\n"		/* the interrupted RSP */
	"	sub $128, %rdi\n"
	"	and $-16, %rdi\n"
	"	sub $22*8, %rdi\n"
	"	mov %rdi, %rbx\n"
	"	mov %rsp, %rsi\n"
	"	mov $22, %ecx\n"
	"	cld\n"
	"	rep movsq\n"
	"	mov %rbx, %rsp\n"
	"	mov %rbx, %rdi\n"
	"	call guest_trap\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12\n"
	"	pop %r11; pop %r10; pop %r9; pop %r8; pop %rdi; pop %rsi\n"
	"	pop %rbp; pop %rbx; pop %rdx; pop %rcx; pop %rax\n"
	"	add $16, %rsp\n"
	"	iretq\n"
	/* Where a guest's first function returns to */
	".globl guest_return\n"
	"guest_return:\n"
	"	xor %eax, %eax\n"
	"	mov $0x500, %edx\n"		/* PORT_DONE */
	"	out %eax, %dx\n"
	"	cli\n"
	"	hlt\n"
	"	jmp guest_return\n"
	".popsection\n"
	/* So that the table exists in programs without GUEST_TRY() */
	".pushsection guest_extable, \"aw\"\n"
	".quad 0, 0\n"
	".popsection\n");

guest_handler_t guest_vector[256];
u32 guest_count[256];
struct guest_failure guest_failure;

GUEST_HANDLER
static void guest_die(void)
{
	for (;;) {
		out32(PORT_FAIL, 0);
		asm volatile("cli; hlt");
	}
}

GUEST_HANDLER
void guest_fail(const char *file, u32 line, const char *what, u64 seen,
		u64 expected)
{
	guest_failure.file = (uintptr_t)file;
	guest_failure.line = line;
	guest_failure.vector = ~0U;
	guest_failure.what = (uintptr_t)what;
	guest_failure.seen = seen;
	guest_failure.expected = expected;
	for (;;)
		guest_die();
}

GUEST_HANDLER
static bool guest_fixup(struct guest_frame *frame)
{
	const struct guest_extable *entry;

	for (entry = __start_guest_extable; entry < __stop_guest_extable; entry++) {
		if (entry->insn != frame->rip)
			continue;
		frame->rip = entry->resume;
		frame->r11 = GUEST_FAULT | frame->vector | frame->error << 32;
		return true;
	}
	return false;
}

GUEST_HANDLER
void guest_trap(struct guest_frame *frame)
{
	if (guest_vector[frame->vector]) {
		guest_vector[frame->vector](frame);
		return;
	}
	if (frame->vector >= 32) {
		asm volatile("lock incl %0" : "+m"(guest_count[frame->vector]));
		guest_eoi();
		return;
	}
	if (guest_fixup(frame))
		return;
	guest_failure.vector = frame->vector;
	guest_failure.error = frame->error;
	guest_failure.rip = frame->rip;
	guest_failure.cr2 = read_cr2();
	guest_die();
}
