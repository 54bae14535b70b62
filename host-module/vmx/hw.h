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
#include <asm/asm.h>
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

/* 29.3.2: write-back, whatever the guest's PAT says; accessed and dirty bits are off. */
#define EPT_LEAF		(VMX_EPTP_MT_WB << VMX_EPT_MT_EPTE_SHIFT | VMX_EPT_IPAT_BIT)

/* 28.2.1: exit qualifications */
#define QUAL_IO_IN		BIT(3)
#define QUAL_IO_STRING		BIT(4)
#define QUAL_IO_PORT_SHIFT	16
#define QUAL_EPT_NMI		BIT(12)
#define QUAL_DEBUG		0x600fULL	/* BS, BD, B3 to B0 */

#define REASON_GETSEC		11

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

static inline void vmx_ptrld(u64 pa)
{
	asm volatile("vmptrld %0" : : "m" (pa) : "cc", "memory");
}

static inline void vmx_clear(u64 pa)
{
	asm volatile("vmclear %0" : : "m" (pa) : "cc", "memory");
}

/* 30.2: CF or ZF say that it failed. */
static inline bool vmx_on(u64 pa)
{
	bool failed = true;		/* if it faults: firmware has locked it off here */

	asm volatile("1: vmxon %1\n\tsetbe %0\n2:\n" _ASM_EXTABLE(1b, 2b)
		     : "+qm" (failed) : "m" (pa) : "cc", "memory");
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
