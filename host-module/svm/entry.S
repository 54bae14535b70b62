/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Into an AMD-V guest and back.
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/cpufeatures.h>
#include <asm/msr-index.h>
#include "../compat.h"

/* struct vireo_vcpu.gpr, in the order of the registers' encoding */
#define GPR(n)		(8 * (n))
#define RCX		GPR(1)
#define RDX		GPR(2)
#define RBX		GPR(3)
#define RBP		GPR(5)
#define RSI		GPR(6)
#define RDI		GPR(7)

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
	push	%rbp
	push	%r15
	push	%r14
	push	%r13
	push	%r12
	push	%rbx

	push	%rcx			/* guest_spec, 16(%rsp) below */
	push	%r8			/* host_spec */
	push	%rdx			/* host_vmcb */
	push	%rsi			/* guest_vmcb */
	push	%rdi			/* gpr */

	clgi
	sti

	cmp	%ecx, %r8d
	je	1f
	mov	%ecx, %eax
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	xor	%edx, %edx
	wrmsr				/* no branch or return from here to VMRUN */
1:
	mov	%rsi, %rax
	vmload	%rax

	mov	RCX(%rdi), %rcx
	mov	RDX(%rdi), %rdx
	mov	RBX(%rdi), %rbx
	mov	RBP(%rdi), %rbp
	mov	RSI(%rdi), %rsi
	mov	GPR(8)(%rdi), %r8
	mov	GPR(9)(%rdi), %r9
	mov	GPR(10)(%rdi), %r10
	mov	GPR(11)(%rdi), %r11
	mov	GPR(12)(%rdi), %r12
	mov	GPR(13)(%rdi), %r13
	mov	GPR(14)(%rdi), %r14
	mov	GPR(15)(%rdi), %r15
	mov	RDI(%rdi), %rdi

	VIREO_VERW			/* TSA and the like, as the host does for KVM */
	vmrun	%rax

	/* RAX and RSP are the host's again. */
	pop	%rax
	mov	%rcx, RCX(%rax)
	mov	%rdx, RDX(%rax)
	mov	%rbx, RBX(%rax)
	mov	%rbp, RBP(%rax)
	mov	%rsi, RSI(%rax)
	mov	%rdi, RDI(%rax)
	mov	%r8, GPR(8)(%rax)
	mov	%r9, GPR(9)(%rax)
	mov	%r10, GPR(10)(%rax)
	mov	%r11, GPR(11)(%rax)
	mov	%r12, GPR(12)(%rax)
	mov	%r13, GPR(13)(%rax)
	mov	%r14, GPR(14)(%rax)
	mov	%r15, GPR(15)(%rax)

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
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	xor	%edx, %edx
	wrmsr
2:
	/* Retbleed and SRSO, as the host mitigates them. */
	VIREO_UNTRAIN_RET

	cli
	stgi

	/* Nothing of the guest's is left for speculation to use. */
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%esi, %esi
	xor	%edi, %edi
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d
	xor	%r12d, %r12d
	xor	%r13d, %r13d
	xor	%r14d, %r14d
	xor	%r15d, %r15d

	pop	%rbx
	pop	%r12
	pop	%r13
	pop	%r14
	pop	%r15
	pop	%rbp
	RET
SYM_FUNC_END(svm_enter)
