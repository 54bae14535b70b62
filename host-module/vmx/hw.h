/* SPDX-License-Identifier: GPL-2.0 */
/*
 * VT-x as the manual has it: Intel SDM volume 3, chapters 25 to 29 and
 * appendices A to C.  The numbers of VMCS fields, exits and controls are the
 * kernel's own (asm/vmx.h); here is what those leave out.
 */
#ifndef VIREO_VMX_HW_H
#define VIREO_VMX_HW_H

/* struct vmx_entry, for entry.S */
#define ENTRY_HOST_RSP		0
#define ENTRY_GUEST_SPEC	8
#define ENTRY_HOST_SPEC		12
#define ENTRY_LAUNCHED		16
#define ENTRY_FAILED		20

#define FIELD_HOST_RSP		0x6c14

#define REASON_FAILED		0x80000000

#ifndef __ASSEMBLY__

#include <linux/build_bug.h>
#include <linux/types.h>
#include <asm/vmx.h>

struct vmx_entry {
	u64 host_rsp;		/* as it is in the VMCS */
	u32 guest_spec;		/* SPEC_CTRL: written where the two differ */
	u32 host_spec;
	u32 launched;		/* VMRESUME, not VMLAUNCH */
	u32 failed;		/* REASON_FAILED if the processor did not take the VMCS at all */
};

static_assert(offsetof(struct vmx_entry, host_rsp) == ENTRY_HOST_RSP);
static_assert(offsetof(struct vmx_entry, guest_spec) == ENTRY_GUEST_SPEC);
static_assert(offsetof(struct vmx_entry, host_spec) == ENTRY_HOST_SPEC);
static_assert(offsetof(struct vmx_entry, launched) == ENTRY_LAUNCHED);
static_assert(offsetof(struct vmx_entry, failed) == ENTRY_FAILED);
static_assert(HOST_RSP == FIELD_HOST_RSP);

/* A.10: MSR IA32_VMX_EPT_VPID_CAP */
#define EPT_CAP_WALK4		BIT_ULL(6)
#define EPT_CAP_WB		BIT_ULL(14)
#define EPT_CAP_2M		BIT_ULL(16)
#define EPT_CAP_INVEPT		BIT_ULL(20)
#define EPT_CAP_SINGLE		BIT_ULL(25)
#define EPT_CAP_ALL		BIT_ULL(26)

/* 29.3.2: write-back, whatever the guest's PAT says; accessed and dirty bits are off. */
#define EPT_LEAF		(6ULL << 3 | BIT_ULL(6))
#define EPT_POINTER_WB4		(6ULL | 3ULL << 3)

#define INVEPT_SINGLE		1
#define INVEPT_ALL		2

/* 28.2.1: exit qualifications */
#define QUAL_IO_IN		BIT(3)
#define QUAL_IO_STRING		BIT(4)
#define QUAL_IO_PORT_SHIFT	16
#define QUAL_EPT_WRITE		BIT(1)
#define QUAL_EPT_FETCH		BIT(2)
#define QUAL_EPT_LINEAR		BIT(7)
#define QUAL_EPT_FINAL		BIT(8)	/* not in the guest's own page tables */
#define QUAL_EPT_NMI		BIT(12)
#define QUAL_DEBUG		0x600fULL	/* BS, BD, B3 to B0 */

#define REASON_GETSEC		11

#define INFO_VALID		BIT(31)
#define INFO_NMI_UNBLOCKED	BIT(12)
#define INFO_TYPE		0x700
#define INFO_TYPE_ICEBP		0x500
#define INFO_VECTOR		0xff

/* 25.4.1: access rights; bits 7:0 are a descriptor's, 15:12 its bits 11:8 */
#define ACCESS_UNUSABLE		BIT(16)
#define ACCESS_LONG			BIT(13)
#define ACCESS_DB			BIT(14)
#define ACCESS_GRANULARITY		BIT(15)

/* 25.4.2 */
#define BLOCKED_BY_STI		BIT(0)
#define BLOCKED_BY_MOV_SS	BIT(1)
#define BLOCKED_SHADOW		(BLOCKED_BY_STI | BLOCKED_BY_MOV_SS)
#define BLOCKED_BY_NMI		BIT(3)

/* entry.S */
void vmx_enter(u64 *gpr, struct vmx_entry *entry);
void vmx_exit_point(void);

static __always_inline u64 vmx_read(unsigned long field)
{
	u64 value;

	asm volatile("vmread %1, %0" : "=r" (value) : "r" (field) : "cc");
	return value;
}

static __always_inline void vmx_write(unsigned long field, u64 value)
{
	asm volatile("vmwrite %1, %0" : : "r" (field), "r" (value) : "cc");
}

/* 30.2: CF or ZF say that one of these failed. */
static inline bool vmx_ptrld(u64 pa)
{
	bool failed;

	asm volatile("vmptrld %1" : "=@ccbe" (failed) : "m" (pa) : "memory");
	return failed;
}

static inline void vmx_clear(u64 pa)
{
	asm volatile("vmclear %0" : : "m" (pa) : "cc", "memory");
}

static inline bool vmx_on(u64 pa)
{
	bool failed;

	asm volatile("vmxon %1" : "=@ccbe" (failed) : "m" (pa) : "memory");
	return failed;
}

static inline void vmx_invept(unsigned long type, u64 eptp)
{
	struct {
		u64 eptp, reserved;
	} desc = { eptp, 0 };

	asm volatile("invept %0, %1" : : "m" (desc), "r" (type) : "cc", "memory");
}

#endif /* !__ASSEMBLY__ */
#endif /* VIREO_VMX_HW_H */
