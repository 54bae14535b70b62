/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Into a VT-x guest and back.
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/cpufeatures.h>
#include <asm/msr-index.h>
#include "../compat.h"
#include "hw.h"

/* struct vireo_vcpu.gpr, in the order of the registers' encoding */
#define GPR(n)		(8 * (n))
#define RAX		GPR(0)
#define RCX		GPR(1)
#define RDX		GPR(2)
#define RBX		GPR(3)
#define RBP		GPR(5)
#define RSI		GPR(6)
#define RDI		GPR(7)

	.section .noinstr.text, "ax"

/*
 * void vmx_enter(u64 *gpr, struct vmx_entry *entry)
 *
 * RSP, RIP and RFLAGS of the guest are in its VMCS, which is current.  Called
 * with interrupts off; a host interrupt ends the guest whatever RFLAGS.IF, and
 * is taken when the caller turns interrupts on (SDM vol. 3, 26.2).
 */
SYM_FUNC_START(vmx_enter)
	push %rbp
	push %r15
	push %r14
	push %r13
	push %r12
	push %rbx

	push %rsi			/* entry */
	push %rdi			/* gpr */

	cmp %rsp, ENTRY_HOST_RSP(%rsi)
	je 1f
	mov %rsp, ENTRY_HOST_RSP(%rsi)
	mov $FIELD_HOST_RSP, %eax
	vmwrite %rsp, %rax
1:
	mov ENTRY_GUEST_SPEC(%rsi), %eax
	cmp ENTRY_HOST_SPEC(%rsi), %eax
	je 2f
	mov $MSR_IA32_SPEC_CTRL, %ecx
	xor %edx, %edx
	wrmsr				/* no indirect branch or return from here on */
2:
	btl $0, ENTRY_LAUNCHED(%rsi)	/* CF: VERW changes ZF alone */

	mov RAX(%rdi), %rax
	mov RCX(%rdi), %rcx
	mov RDX(%rdi), %rdx
	mov RBX(%rdi), %rbx
	mov RBP(%rdi), %rbp
	mov RSI(%rdi), %rsi
	mov GPR(8)(%rdi), %r8
	mov GPR(9)(%rdi), %r9
	mov GPR(10)(%rdi), %r10
	mov GPR(11)(%rdi), %r11
	mov GPR(12)(%rdi), %r12
	mov GPR(13)(%rdi), %r13
	mov GPR(14)(%rdi), %r14
	mov GPR(15)(%rdi), %r15
	mov RDI(%rdi), %rdi

	VIREO_VERW_INTEL		/* MDS and its kin, as the host does for KVM */
	jnc 3f
	vmresume
	jmp 4f
3:	vmlaunch
4:
	/* Still here: the registers are the guest's, as after an exit. */
	push %rdi
	mov 16(%rsp), %rdi
	movl $REASON_FAILED, ENTRY_FAILED(%rdi)
	pop %rdi

SYM_INNER_LABEL(vmx_exit_point, SYM_L_GLOBAL)
	ENDBR
	push %rdi
	mov 8(%rsp), %rdi
	mov %rax, RAX(%rdi)
	mov %rcx, RCX(%rdi)
	mov %rdx, RDX(%rdi)
	mov %rbx, RBX(%rdi)
	mov %rbp, RBP(%rdi)
	mov %rsi, RSI(%rdi)
	mov %r8, GPR(8)(%rdi)
	mov %r9, GPR(9)(%rdi)
	mov %r10, GPR(10)(%rdi)
	mov %r11, GPR(11)(%rdi)
	mov %r12, GPR(12)(%rdi)
	mov %r13, GPR(13)(%rdi)
	mov %r14, GPR(14)(%rdi)
	mov %r15, GPR(15)(%rdi)
	pop RDI(%rdi)
	pop %rdi			/* gpr */

	/* Before the first return: the guest's entries leave the RSB. */
	FILL_RETURN_BUFFER %rax, RSB_CLEAR_LOOPS, X86_FEATURE_RSB_VMEXIT, \
		X86_FEATURE_RSB_VMEXIT_LITE

	/* Nothing of the guest's is left for speculation to use. */
	xor %ecx, %ecx
	xor %edx, %edx
	xor %r8d, %r8d
	xor %r9d, %r9d
	xor %r10d, %r10d
	xor %r11d, %r11d
	xor %r12d, %r12d
	xor %r13d, %r13d
	xor %r14d, %r14d
	xor %r15d, %r15d

	pop %rsi			/* entry */
	mov ENTRY_HOST_SPEC(%rsi), %eax
	cmp ENTRY_GUEST_SPEC(%rsi), %eax
	/* IBRS of the older kind is a command: it must be written again. */
	ALTERNATIVE "je 5f", "", X86_FEATURE_KERNEL_IBRS
	mov $MSR_IA32_SPEC_CTRL, %ecx
	xor %edx, %edx
	wrmsr
5:
	ALTERNATIVE "", "lfence", X86_FEATURE_MSR_SPEC_CTRL
	VIREO_CLEAR_BHB			/* BHI, as the host mitigates it */

	pop %rbx
	pop %r12
	pop %r13
	pop %r14
	pop %r15
	pop %rbp
	RET
SYM_FUNC_END(vmx_enter)
