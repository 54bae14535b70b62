/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the entry.S of both backends include: the registers that neither extension
 * switches.
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/cpufeatures.h>
#include <asm/msr-index.h>
#include "compat.h"

/* struct vireo_vcpu.gpr, in the order of the registers' encoding */
#define GPR(n)		(8 * (n))

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

/* All but RAX and RSP, from where RDI points to */
.macro GUEST_LOAD
	mov	GPR(1)(%rdi), %rcx
	mov	GPR(2)(%rdi), %rdx
	mov	GPR(3)(%rdi), %rbx
	mov	GPR(5)(%rdi), %rbp
	mov	GPR(6)(%rdi), %rsi
	.irp	n, 8, 9, 10, 11, 12, 13, 14, 15
	mov	GPR(\n)(%rdi), %r\n
	.endr
	mov	GPR(7)(%rdi), %rdi
.endm

/* The same, to where RAX points to */
.macro GUEST_SAVE
	mov	%rcx, GPR(1)(%rax)
	mov	%rdx, GPR(2)(%rax)
	mov	%rbx, GPR(3)(%rax)
	mov	%rbp, GPR(5)(%rax)
	mov	%rsi, GPR(6)(%rax)
	mov	%rdi, GPR(7)(%rax)
	.irp	n, 8, 9, 10, 11, 12, 13, 14, 15
	mov	%r\n, GPR(\n)(%rax)
	.endr
.endm

/* Nothing of the guest's is left for speculation to use; RSI and RDI are the caller's. */
.macro GUEST_CLEAR
	.irp	r, ecx, edx, r8d, r9d, r10d, r11d, r12d, r13d, r14d, r15d
	xor	%\r, %\r
	.endr
.endm

/* SPEC_CTRL becomes EAX. */
.macro WRITE_SPEC_CTRL
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	xor	%edx, %edx
	wrmsr
.endm
