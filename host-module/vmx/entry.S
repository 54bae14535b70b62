/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Into a VT-x guest and back.
 */
#include "../entry.S"
#include "hw.h"

	.section .noinstr.text, "ax"

/*
 * void vmx_enter(u64 *gpr, struct vmx_entry *entry)
 *
 * RSP, RIP and RFLAGS of the guest are in its VMCS, which is current.  Called
 * with interrupts off; a host interrupt ends the guest whatever RFLAGS.IF, and
 * is taken when the caller turns interrupts on (SDM vol. 3, 26.2).
 */
SYM_FUNC_START(vmx_enter)
	HOST_PUSH
	push	%rsi			/* entry */
	push	%rdi			/* gpr */

	cmp	%rsp, ENTRY_HOST_RSP(%rsi)
	je	1f
	mov	%rsp, ENTRY_HOST_RSP(%rsi)
	mov	$FIELD_HOST_RSP, %eax
	vmwrite	%rsp, %rax
1:
	mov	ENTRY_GUEST_SPEC(%rsi), %eax
	cmp	ENTRY_HOST_SPEC(%rsi), %eax
	je	2f
	WRITE_SPEC_CTRL			/* no indirect branch or return from here on */
2:
	btl	$0, ENTRY_LAUNCHED(%rsi)	/* CF: VERW changes ZF alone */
	mov	(%rdi), %rax
	GUEST_LOAD
	VIREO_VERW_INTEL		/* MDS and its kin, as the host does for KVM */
	jnc	3f
	vmresume
	jmp	4f
3:	vmlaunch
4:
	/* Still here: the registers are the guest's, as after an exit. */
	push	%rdi
	mov	16(%rsp), %rdi
	movl	$REASON_FAILED, ENTRY_FAILED(%rdi)
	pop	%rdi

SYM_INNER_LABEL(vmx_exit_point, SYM_L_GLOBAL)
	ENDBR
	push	%rax
	mov	8(%rsp), %rax		/* gpr */
	GUEST_SAVE
	pop	(%rax)
	pop	%rdi			/* gpr */

	/* Before the first return: the guest's entries leave the RSB. */
	FILL_RETURN_BUFFER %rax, RSB_CLEAR_LOOPS, X86_FEATURE_RSB_VMEXIT, \
		X86_FEATURE_RSB_VMEXIT_LITE
	GUEST_CLEAR

	pop	%rsi			/* entry */
	mov	ENTRY_HOST_SPEC(%rsi), %eax
	cmp	ENTRY_GUEST_SPEC(%rsi), %eax
	/* IBRS of the older kind is a command: it must be written again. */
	ALTERNATIVE "je 5f", "", X86_FEATURE_KERNEL_IBRS
	WRITE_SPEC_CTRL
5:
	ALTERNATIVE "", "lfence", X86_FEATURE_MSR_SPEC_CTRL
	VIREO_CLEAR_BHB			/* BHI, as the host mitigates it */
	HOST_POP
	RET
SYM_FUNC_END(vmx_enter)
