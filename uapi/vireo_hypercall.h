/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR BSD-2-Clause */
/*
 * Vireo: what a guest can ask of its hypervisor.
 *
 * A hypercall is VMMCALL (AMD-V) or VMCALL (VT-x) at privilege level 0 with
 * the number in RAX and arguments in RBX, RCX, RDX and RSI; the result comes
 * back in RAX.  KVM's numbers (below 0x10000) keep KVM's meaning.
 */
#ifndef _UAPI_VIREO_HYPERCALL_H
#define _UAPI_VIREO_HYPERCALL_H

#include <linux/types.h>

/*
 * CPUID: KVM's leaves stand at 0x40000000, Vireo's behind them: 0x40000100
 * gives the highest Vireo leaf in EAX and "VireoVireoVi" in EBX, ECX, EDX;
 * 0x40000101 the API version in EAX and VIREO_GUEST_* in EBX.
 */
#define VIREO_CPUID_BASE	0x40000100
#define VIREO_CPUID_FEATURES	0x40000101
#define VIREO_SIGNATURE_EBX	0x65726956	/* "Vire" */
#define VIREO_SIGNATURE_ECX	0x7269566f	/* "oVir" */
#define VIREO_SIGNATURE_EDX	0x69566f65	/* "eoVi" */

#define VIREO_GUEST_HYPERCALL	(1U << 0)	/* VIREO_HC_NOP and VIREO_HC_SYSTEM */

#define VIREO_GUEST_DOORBELL	(1U << 1)	/* VIREO_HC_DOORBELL */

#define VIREO_HC_BASE		0x56490000
#define VIREO_HC_NOP		(VIREO_HC_BASE + 0)	/* returns 0 */
#define VIREO_HC_SYSTEM		(VIREO_HC_BASE + 1)	/* RBX: VIREO_SYSTEM_*, RCX: code */
#define VIREO_HC_DOORBELL	(VIREO_HC_BASE + 2)	/* RBX: a queue's; 0, or -ENOENT (2) */

#endif /* _UAPI_VIREO_HYPERCALL_H */
