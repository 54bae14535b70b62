/* SPDX-License-Identifier: GPL-2.0 */
/*
 * AMD-V as the manual has it: AMD64 Architecture Programmer's Manual, volume 2
 * (publication 24593), chapter 15 and appendices B and C.  The VMCB and most of
 * the numbers are the kernel's own (asm/svm.h); here is what those leave out.
 */
#ifndef VIREO_SVM_HW_H
#define VIREO_SVM_HW_H

#include <linux/bits.h>
#include <linux/types.h>
#include <asm/svm.h>

/* 15.15.3: what the processor may keep from the last VMRUN of the same VMCB */
#define CLEAN_INTERCEPTS	BIT(0)
#define CLEAN_ASID		BIT(2)
#define CLEAN_TPR		BIT(3)
#define CLEAN_NP		BIT(4)
#define CLEAN_CR		BIT(5)
#define CLEAN_DR		BIT(6)
#define CLEAN_SEG		BIT(8)
#define CLEAN_ALL		0x3ffU

/* Appendix C: exit codes */
#define EXIT_INVLPGB		0xa0
#define EXIT_TLBSYNC		0xa4

/* 15.10.2: EXITINFO1 of an I/O exit; the width is 1, 2 or 4 */
#define IOIO_PORT_SHIFT		16

/* 15.25.6: EXITINFO1 of a nested page fault */
#define NPF_WRITE		BIT_ULL(1)
#define NPF_FETCH		BIT_ULL(4)
#define NPF_WALK		BIT_ULL(33)	/* in the guest's own page tables */

/* NPT leaves: accessed and dirty are set in advance, the walk need not write. */
#define NPT_LEAF		(BIT_ULL(5) | BIT_ULL(6))

/* entry.S */
void svm_enter(u64 *gpr, u64 guest_vmcb, u64 host_vmcb, u32 guest_spec, u32 host_spec);

#endif /* VIREO_SVM_HW_H */
