/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Into an AMD-V guest and back.
 */
#include "../entry.S"

	.section .noinstr.text, "ax"

/*
 * void svm_enter(u64 *gpr, u64 guest_vmcb, u64 host_vmcb, u32 guest_spec, u32 host_spec)
 *
 * The VMCBs are physical addresses.  RAX, RSP, RIP and RFLAGS of the guest are
 * in its VMCB.  The two values of SPEC_CTRL differ only where the MSR exists
 * and the processor does not switch it itself.
 *
 * Called with interrupts off.  GIF is clear from before the guest's state is
 * loaded until the host's is back: no interrupt or NMI can see the mix (APM
 * vol. 2, 15.17).  RFLAGS.IF must be set for a host interrupt to end the guest
 * (15.21.1); it is taken when the caller turns interrupts on.
 */
SYM_FUNC_START(svm_enter)
	HOST_PUSH
	push	%rcx			/* guest_spec */
	push	%r8			/* host_spec */
	push	%rdx			/* host_vmcb */
	push	%rsi			/* guest_vmcb */
	push	%rdi			/* gpr */

	clgi
	sti

	cmp	%ecx, %r8d
	je	1f
	mov	%ecx, %eax
	WRITE_SPEC_CTRL			/* no branch or return from here to VMRUN */
1:
	mov	%rsi, %rax
	vmload	%rax
	GUEST_LOAD
	VIREO_VERW			/* TSA and the like, as the host does for KVM */
	vmrun	%rax

	/* RAX and RSP are the host's again. */
	pop	%rax
	GUEST_SAVE
	pop	%rax
	vmsave	%rax
	pop	%rax
	vmload	%rax			/* GS base: per-cpu data works again */

	/* Before the first return: the guest's entries leave the RSB. */
	FILL_RETURN_BUFFER %rax, RSB_CLEAR_LOOPS, VIREO_RSB_FEATURE

	pop	%rax			/* host_spec */
	pop	%rcx			/* guest_spec */
	cmp	%ecx, %eax
	je	2f
	WRITE_SPEC_CTRL
2:
	/* Retbleed and SRSO, as the host mitigates them. */
	VIREO_UNTRAIN_RET

	cli
	stgi
	GUEST_CLEAR
	xor	%esi, %esi
	xor	%edi, %edi
	HOST_POP
	RET
SYM_FUNC_END(svm_enter)
