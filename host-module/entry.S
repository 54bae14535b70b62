/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Into a guest and back: of AMD-V, then of VT-x.
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/cpufeatures.h>
#include <asm/msr-index.h>
#include <asm/segment.h>
#include "compat.h"

#define FIELD_HOST_RSP		0x6c14		/* HOST_RSP of asm/vmx.h */
#define REASON_FAILED		0x80000000

.macro HOST_PUSH
	.irp	r, rbp, r15, r14, r13, r12, rbx
	push	%\r
	.endr
.endm

.macro HOST_POP
	.irp	r, rbx, r12, r13, r14, r15, rbp
	pop	%\r
	.endr
.endm

/*
 * All that neither extension switches but RAX, from where RDI points to or to where RAX
 * does: vireo_vcpu.gpr, which is in the order of the registers' encoding.
 */
.macro GUEST_MOVE load
	.set	at, 8
	.irp	r, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
	.ifnc	\r, rsp
	.ifeq	\load
	mov	%\r, at(%rax)
	.else
	.ifnc	\r, rdi
	mov	at(%rdi), %\r
	.endif
	.endif
	.endif
	.set	at, at + 8
	.endr
	.if	\load
	mov	7*8(%rdi), %rdi
	.endif
.endm

/* Nothing of the guest's is left for speculation to use. */
.macro GUEST_CLEAR
	.irp	r, ecx, edx, esi, edi, r8d, r9d, r10d, r11d, r12d, r13d, r14d, r15d
	xor	%\r, %\r
	.endr
.endm

/* SPEC_CTRL becomes EAX. */
.macro WRITE_SPEC_CTRL
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	xor	%edx, %edx
	wrmsr
.endm

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
	push	%rdi			/* gpr */
	push	%rsi			/* guest_vmcb */

	clgi
	sti

	cmp	%ecx, %r8d
	je	1f
	mov	%ecx, %eax
	WRITE_SPEC_CTRL			/* no branch or return from here to VMRUN */
1:
	mov	%rsi, %rax
	vmload	%rax
	GUEST_MOVE load=1
	VM_CLEAR_CPU_BUFFERS		/* TSA and the like, as the host does for KVM */
	vmrun	%rax

	/* RAX and RSP are the host's again. */
	vmsave	%rax
	pop	%rax
	pop	%rax
	GUEST_MOVE load=0
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
	HOST_POP
	RET
SYM_FUNC_END(svm_enter)

/*
 * u32 vmx_enter(u64 *gpr, u64 *host_rsp, u32 guest_spec, u32 host_spec, bool launched)
 *
 * RSP, RIP and RFLAGS of the guest are in its VMCS, which is current; *host_rsp is what
 * its field HOST_RSP has.  Called with interrupts off; a host interrupt ends the guest
 * whatever RFLAGS.IF, and is taken when the caller turns interrupts on (SDM vol. 3, 26.2).
 * Returns 0, or REASON_FAILED if the processor did not take the VMCS at all.
 */
SYM_FUNC_START(vmx_enter)
	HOST_PUSH
	push	%rdx			/* guest_spec */
	push	%rcx			/* host_spec */
	push	$0			/* what is returned */
	push	%rdi			/* gpr */

	cmp	%rsp, (%rsi)
	je	1f
	mov	%rsp, (%rsi)
	mov	$FIELD_HOST_RSP, %eax
	vmwrite	%rsp, %rax
1:
	cmp	%ecx, %edx
	je	2f
	mov	%edx, %eax
	WRITE_SPEC_CTRL			/* no indirect branch or return from here on */
2:
	bt	$0, %r8d		/* CF: VERW changes ZF alone */
	mov	(%rdi), %rax
	GUEST_MOVE load=1
	CLEAR_CPU_BUFFERS		/* MDS and its kin, as the host does for KVM */
	jnc	3f
	vmresume
	jmp	4f
3:	vmlaunch
4:
	/* Still here: the registers are the guest's, as after an exit. */
	movl	$REASON_FAILED, 8(%rsp)

SYM_INNER_LABEL(vmx_exit_point, SYM_L_GLOBAL)
	ENDBR
	push	%rax
	mov	8(%rsp), %rax		/* gpr */
	GUEST_MOVE load=0
	pop	(%rax)

	/* Before the first return: the guest's entries leave the RSB. */
	FILL_RETURN_BUFFER %rax, RSB_CLEAR_LOOPS, X86_FEATURE_RSB_VMEXIT, \
		X86_FEATURE_RSB_VMEXIT_LITE
	GUEST_CLEAR

	pop	%rax			/* gpr */
	pop	%rdi			/* what is returned */
	pop	%rax			/* host_spec */
	pop	%rcx			/* guest_spec */
	cmp	%ecx, %eax
	/* IBRS of the older kind is a command: it must be written again. */
	ALTERNATIVE "je 5f", "", X86_FEATURE_KERNEL_IBRS
	WRITE_SPEC_CTRL
5:
	ALTERNATIVE "", "lfence", X86_FEATURE_MSR_SPEC_CTRL
	VIREO_CLEAR_BHB			/* BHI, as the host mitigates it */
	mov	%edi, %eax
	HOST_POP
	RET
SYM_FUNC_END(vmx_enter)

/*
 * void host_interrupt(unsigned long handler)
 *
 * Calls what a gate of the IDT leads to as an interrupt does; it ends with IRET and
 * keeps all registers.  Interrupts are off, and stay so.
 */
SYM_FUNC_START(host_interrupt)
	push	%rbp
	mov	%rsp, %rbp
	and	$-16, %rsp
	push	$__KERNEL_DS
	push	%rbp
	pushf
	push	$__KERNEL_CS
	CALL_NOSPEC rdi
	mov	%rbp, %rsp		/* as IRET did; for objtool */
	pop	%rbp
	RET
SYM_FUNC_END(host_interrupt)
