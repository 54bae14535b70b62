/* SPDX-License-Identifier: GPL-2.0 */
/*
 * AMD-V as the manual has it: AMD64 Architecture Programmer's Manual, volume 2
 * (publication 24593), chapter 15 and appendices B and C.
 */
#ifndef VIREO_SVM_HW_H
#define VIREO_SVM_HW_H

#include <linux/bits.h>
#include <linux/build_bug.h>
#include <linux/types.h>

/* 15.9 and appendix B: intercepts, bit numbers in vmcb.intercept as one map */
enum {
	INT_CR0_WRITE = 16,
	INT_DR_READ = 32,		/* to 47 */
	INT_DR_WRITE = 48,		/* to 63 */
	INT_EXCEPTION = 64,		/* to 95 */
	INT_INTR = 96,
	INT_NMI,
	INT_SMI,
	INT_INIT,
	INT_VINTR,
	INT_RDPMC = 111,
	INT_CPUID = 114,
	INT_IRET = 116,
	INT_INVD = 118,
	INT_HLT = 120,
	INT_INVLPGA = 122,
	INT_IOIO,
	INT_MSR,
	INT_TASK_SWITCH,
	INT_FERR,
	INT_SHUTDOWN,
	INT_VMRUN = 128,
	INT_VMMCALL,
	INT_VMLOAD,
	INT_VMSAVE,
	INT_STGI,
	INT_CLGI,
	INT_SKINIT,
	INT_RDTSCP,
	INT_ICEBP,
	INT_WBINVD,
	INT_MONITOR,
	INT_MWAIT,
	INT_MWAIT_ARMED,
	INT_XSETBV,
	INT_RDPRU,
	INT_INVLPGB = 160,
	INT_INVLPGB_ILLEGAL,
	INT_MCOMMIT = 163,
	INT_TLBSYNC,
};

/* 15.15.3: what the processor may keep from the last VMRUN of the same VMCB */
enum {
	CLEAN_INTERCEPTS = 1 << 0,
	CLEAN_PERMISSIONS = 1 << 1,
	CLEAN_ASID = 1 << 2,
	CLEAN_TPR = 1 << 3,
	CLEAN_NP = 1 << 4,
	CLEAN_CR = 1 << 5,
	CLEAN_DR = 1 << 6,
	CLEAN_DT = 1 << 7,
	CLEAN_SEG = 1 << 8,
	CLEAN_CR2 = 1 << 9,
	CLEAN_ALL = 0x3ff,
};

#define FLUSH_ALL_ASIDS		1

/* 15.30.1: MSR VM_CR */
#define VM_CR_SVMDIS		BIT(4)

/* vmcb.int_control, offset 060h */
#define V_TPR_MASK		0xffULL
#define V_IRQ			BIT_ULL(8)
#define V_PRIO_SHIFT		16
#define V_INTR_MASKING		BIT_ULL(24)
#define V_VECTOR_SHIFT		32

#define NP_ENABLE		BIT_ULL(0)

/* 15.20: EVENTINJ and EXITINTINFO */
#define EVENT_VALID		BIT_ULL(31)
#define EVENT_ERROR		BIT_ULL(11)
#define EVENT_TYPE_SHIFT	8
enum {
	EVENT_INTR = 0,
	EVENT_NMI = 2,
	EVENT_EXCEPTION = 3,
	EVENT_SOFT = 4,
};

/* Appendix C: exit codes */
enum {
	EXIT_DR_READ = 0x20,
	EXIT_DR_WRITE = 0x30,
	EXIT_DR_LAST = 0x3f,
	EXIT_EXCEPTION = 0x40,
	EXIT_INTR = 0x60,
	EXIT_NMI,
	EXIT_SMI,
	EXIT_INIT,
	EXIT_VINTR,
	EXIT_RDPMC = 0x6f,
	EXIT_CPUID = 0x72,
	EXIT_IRET = 0x74,
	EXIT_INVD = 0x76,
	EXIT_HLT = 0x78,
	EXIT_INVLPGA = 0x7a,
	EXIT_IOIO,
	EXIT_MSR,
	EXIT_TASK_SWITCH,
	EXIT_FERR,
	EXIT_SHUTDOWN,
	EXIT_VMRUN = 0x80,
	EXIT_VMMCALL,
	EXIT_VMLOAD,
	EXIT_VMSAVE,
	EXIT_STGI,
	EXIT_CLGI,
	EXIT_SKINIT,
	EXIT_ICEBP = 0x88,
	EXIT_WBINVD,
	EXIT_MONITOR,
	EXIT_MWAIT,
	EXIT_MWAIT_ARMED,
	EXIT_XSETBV,
	EXIT_RDPRU,
	EXIT_INVLPGB = 0xa0,
	EXIT_INVLPGB_ILLEGAL,
	EXIT_MCOMMIT = 0xa3,
	EXIT_TLBSYNC,
	EXIT_NPF = 0x400,
};

#define EXIT_INVALID		(~0ULL)

/* 15.10.2: EXITINFO1 of an I/O exit */
#define IOIO_IN			BIT(0)
#define IOIO_STRING		BIT(2)
#define IOIO_WIDTH_SHIFT	4	/* 1, 2 or 4 in bits 6:4 */
#define IOIO_PORT_SHIFT		16

/* 15.25.6: EXITINFO1 of a nested page fault */
#define NPF_WRITE		BIT_ULL(1)
#define NPF_FETCH		BIT_ULL(4)
#define NPF_WALK		BIT_ULL(33)	/* in the guest's own page tables */

/* NPT leaves: accessed and dirty are set in advance, the walk need not write. */
#define NPT_LEAF		(BIT_ULL(5) | BIT_ULL(6))

struct vmcb_segment {
	u16 selector;
	u16 attr;
	u32 limit;
	u64 base;
};

/* Appendix B: the control area, then the state save area at 400h */
struct vmcb {
	u32 intercept[6];		/* 000h */
	u8 reserved1[0x24];
	u16 pause_threshold;		/* 03ch */
	u16 pause_count;
	u64 iopm;			/* 040h */
	u64 msrpm;
	u64 tsc_offset;			/* 050h */
	u32 asid;			/* 058h */
	u32 tlb_control;
	u64 int_control;		/* 060h */
	u64 int_state;			/* 068h: bit 0 interrupt shadow */
	u64 exit_code;			/* 070h */
	u64 exit_info1;
	u64 exit_info2;
	u64 exit_int_info;		/* 088h */
	u64 np_control;			/* 090h */
	u64 avic_bar;
	u64 ghcb;
	u64 event_inject;		/* 0a8h */
	u64 np_cr3;			/* 0b0h */
	u64 virt_ext;			/* 0b8h */
	u32 clean;			/* 0c0h */
	u32 reserved2;
	u64 next_rip;			/* 0c8h */
	u8 insn_len;			/* 0d0h */
	u8 insn[15];
	u8 reserved3[0x320];
	struct vmcb_segment es, cs, ss, ds, fs, gs;	/* 400h */
	struct vmcb_segment gdtr, ldtr, idtr, tr;
	u8 reserved4[0x2b];
	u8 cpl;				/* 4cbh */
	u32 reserved5;
	u64 efer;			/* 4d0h */
	u8 reserved6[0x70];
	u64 cr4;			/* 548h */
	u64 cr3;
	u64 cr0;
	u64 dr7;			/* 560h */
	u64 dr6;
	u64 rflags;
	u64 rip;			/* 578h */
	u8 reserved7[0x58];
	u64 rsp;			/* 5d8h */
	u8 reserved8[0x18];
	u64 rax;			/* 5f8h */
	u64 star;
	u64 lstar;
	u64 cstar;
	u64 sfmask;
	u64 kernel_gs_base;
	u64 sysenter_cs;		/* 628h */
	u64 sysenter_esp;
	u64 sysenter_eip;
	u64 cr2;			/* 640h */
	u8 reserved9[0x20];
	u64 pat;			/* 668h */
	u64 debugctl;			/* 670h */
	u8 reserved10[0x68];
	u64 spec_ctrl;			/* 6e0h, with V_SPEC_CTRL */
	u8 reserved11[0x918];
};

/* entry.S */
void svm_enter(u64 *gpr, u64 guest_vmcb, u64 host_vmcb, u32 guest_spec, u32 host_spec);

static_assert(offsetof(struct vmcb, iopm) == 0x40);
static_assert(offsetof(struct vmcb, event_inject) == 0xa8);
static_assert(offsetof(struct vmcb, insn_len) == 0xd0);
static_assert(offsetof(struct vmcb, es) == 0x400);
static_assert(offsetof(struct vmcb, tr) == 0x490);
static_assert(offsetof(struct vmcb, efer) == 0x4d0);
static_assert(offsetof(struct vmcb, cr4) == 0x548);
static_assert(offsetof(struct vmcb, rip) == 0x578);
static_assert(offsetof(struct vmcb, rsp) == 0x5d8);
static_assert(offsetof(struct vmcb, cr2) == 0x640);
static_assert(offsetof(struct vmcb, pat) == 0x668);
static_assert(offsetof(struct vmcb, spec_ctrl) == 0x6e0);
static_assert(sizeof(struct vmcb) == 0x1000);

#endif /* VIREO_SVM_HW_H */
