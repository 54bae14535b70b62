// SPDX-License-Identifier: GPL-2.0
/*
 * Model specific registers that the hardware does not switch.
 *
 * An MSR that is not listed raises #GP in the guest, as on a processor that
 * does not have it.
 */
#include <asm/msr-index.h>
#include <asm/nospec-branch.h>

#include "vireo.h"

#define APIC_BASE_VALUE		(0xfee00000ULL | BIT(11) | BIT(10))	/* enabled, x2APIC */
#define MTRR_FIRST		0x200
#define MTRR_CAP		0x508	/* 8 variable, fixed, write-combining */

/* Where a register is kept, of those that read as they were written. */
static u64 *msr_kept(struct vireo_vcpu *v, u32 index)
{
	switch (index) {
	case MSR_IA32_TSC_DEADLINE:
		return &v->apic.tsc_deadline;	/* 0: not armed */
	case MSR_IA32_TSC_ADJUST:
		return &v->tsc_adjust;
	case MSR_TSC_AUX:
		return &v->tsc_aux;
	case MSR_IA32_MISC_ENABLE:
		return &v->misc_enable;
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
		return &v->pv.wall_msr;
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW:
		return &v->pv.clock_msr;
	case MSR_KVM_STEAL_TIME:
		return &v->pv.steal_msr;
	case MSR_KVM_PV_EOI_EN:
		return &v->pv.eoi_msr;
	case MTRR_FIRST ... MTRR_FIRST + 0xf:	/* variable: a base and a mask each */
	case MSR_MTRRfix64K_00000:
	case MSR_MTRRfix16K_80000 ... MSR_MTRRfix16K_A0000:
	case MSR_MTRRfix4K_C0000 ... MSR_MTRRfix4K_F8000:
		return &v->mtrr[index - MTRR_FIRST];
	case MSR_MTRRdefType:
		return &v->mtrr_type;
	}
	return NULL;
}

/* Registers that read as a constant; writes of anything are ignored. */
static int msr_constant(u32 index, u64 *value)
{
	*value = 0;
	switch (index) {
	case MSR_IA32_UCODE_REV:
		*value = 0x01000065;
		return 0;
	case MSR_K7_HWCR:
		*value = BIT(24);	/* the TSC counts at the P0 rate */
		return 0;
	case MSR_AMD64_DE_CFG:
		if (boot_cpu_has(X86_FEATURE_LFENCE_RDTSC))
			*value = MSR_AMD64_DE_CFG_LFENCE_SERIALIZE;
		return 0;
	case MSR_IA32_XSS:
		return boot_cpu_has(X86_FEATURE_XSAVES) ? 0 : -ENOENT;
	case MSR_IA32_PLATFORM_ID:
	case MSR_IA32_EBL_CR_POWERON:
	case MSR_IA32_DEBUGCTLMSR:
	case MSR_IA32_LASTBRANCHFROMIP ... MSR_IA32_LASTINTTOIP:
	case MSR_AMD64_NB_CFG:
	case MSR_AMD64_SYSCFG:
	case MSR_AMD64_BU_CFG2:
	case MSR_AMD64_DC_CFG:
	case MSR_AMD64_LS_CFG:
	case MSR_AMD64_PATCH_LOADER:
	case MSR_FAM10H_MMIO_CONF_BASE:
	case MSR_K8_INT_PENDING_MSG:
	case MSR_K8_TSEG_ADDR:
	case MSR_K8_TSEG_MASK:
		return 0;
	}
	return -ENOENT;
}

/* As the processor checks them: with the width it has, whatever CR4 says. */
static bool canonical(u64 addr)
{
	return sign_extend64(addr, boot_cpu_has(X86_FEATURE_LA57) ? 56 : 47) == addr;
}

static bool pat_allowed(u64 value)
{
	unsigned int i;

	for (i = 0; i < 64; i += 8) {	/* types 2 and 3 are reserved */
		u8 type = value >> i;

		if (type > 7 || type == 2 || type == 3)
			return false;
	}
	return true;
}

static u64 spec_ctrl_allowed(void)
{
	return (boot_cpu_has(X86_FEATURE_IBRS) ? SPEC_CTRL_IBRS : 0) |
	       (boot_cpu_has(X86_FEATURE_STIBP) ? SPEC_CTRL_STIBP : 0) |
	       (boot_cpu_has(X86_FEATURE_SPEC_CTRL_SSBD) || boot_cpu_has(X86_FEATURE_AMD_SSBD) ?
		SPEC_CTRL_SSBD : 0);
}

/* Checks a value for a register that is no more than kept, or that the hardware switches. */
static bool value_allowed(u32 index, u64 value)
{
	switch (index) {
	case MSR_LSTAR:
	case MSR_CSTAR:
	case MSR_FS_BASE:
	case MSR_GS_BASE:
	case MSR_KERNEL_GS_BASE:
	case MSR_IA32_SYSENTER_ESP:
	case MSR_IA32_SYSENTER_EIP:
		return canonical(value);
	case MSR_IA32_CR_PAT:
		return pat_allowed(value);
	case MSR_IA32_SPEC_CTRL:
		return !(value & ~spec_ctrl_allowed());
	case MSR_TSC_AUX:
		return !(value >> 32);
	case MSR_IA32_XSS:
		return !value;
	}
	return true;
}

/**
 * vireo_msr_get() - read an MSR
 * @v: the vCPU
 * @index: its number
 * @value: where to
 * Context: The vCPU's mutex is held; the inner loop only for the APIC's.
 * Return: 0 or -ENOENT.
 */
int vireo_msr_get(struct vireo_vcpu *v, u32 index, u64 *value)
{
	const u64 *kept;

	if (index >= 0x800 && index < 0x900)
		return vireo_lapic_read(v, index, value);

	kept = msr_kept(v, index);
	if (kept) {
		*value = READ_ONCE(*kept);
		return 0;
	}
	switch (index) {
	case MSR_IA32_APICBASE:
		*value = APIC_BASE_VALUE | (v->id ? 0 : BIT(8));
		return 0;
	case MSR_IA32_TSC:
		*value = vireo_guest_tsc(v);
		return 0;
	case MSR_MTRRcap:
		*value = MTRR_CAP;
		return 0;
	}
	if (!vireo_ops->get_msr(v, index, value))
		return 0;
	if (index == MSR_IA32_SPEC_CTRL && boot_cpu_has(X86_FEATURE_MSR_SPEC_CTRL)) {
		*value = v->spec_ctrl;
		return 0;
	}
	return msr_constant(index, value);
}

/* LME stays as it is while paging is on; LMA is the processor's. */
static int msr_set_efer(struct vireo_vcpu *v, u64 value)
{
	struct vireo_regs r = {};

	vireo_ops->get_regs(v, &r);
	if ((value & ~vireo_regs_efer()) ||
	    (((value ^ r.efer) & EFER_LME) && (r.cr0 & X86_CR0_PG)))
		return -EINVAL;
	return vireo_ops->set_msr(v, MSR_EFER, (value & ~EFER_LMA) | (r.efer & EFER_LMA));
}

static int tsc_move(struct vireo_vcpu *v, u64 delta)
{
	v->tsc_offset += delta;
	vireo_ops->tsc_changed(v);
	vireo_lapic_set_deadline(v, READ_ONCE(v->apic.tsc_deadline));
	return vireo_pv_set_msr(v, MSR_KVM_SYSTEM_TIME, v->pv.clock_msr);
}

/* User space sets the two one by one; for the guest a write of one moves both. */
static int msr_set_tsc(struct vireo_vcpu *v, u64 value, bool adjust, bool host)
{
	u64 delta = adjust ? value - v->tsc_adjust : value - vireo_guest_tsc(v);

	if (adjust || !host)
		v->tsc_adjust += delta;
	return adjust && host ? 0 : tsc_move(v, delta);
}

/**
 * vireo_msr_set() - write an MSR
 * @v: the vCPU
 * @index: its number
 * @value: what to write
 * @host: for user space, not the guest
 * Context: The vCPU's mutex is held; the inner loop only for the APIC's.
 * Return: 0, -ENOENT, -EINVAL (a value that is refused) or -ENOMEM.
 */
int vireo_msr_set(struct vireo_vcpu *v, u32 index, u64 value, bool host)
{
	u64 *kept = msr_kept(v, index), unused;
	int err;

	if (index >= 0x800 && index < 0x900)
		return vireo_lapic_write(v, index, value);

	switch (index) {
	case MSR_IA32_TSC_DEADLINE:
		vireo_lapic_set_deadline(v, value);
		return 0;
	case MSR_IA32_APICBASE:
		return value == (APIC_BASE_VALUE | (v->id ? 0 : BIT(8))) ? 0 : -EINVAL;
	case MSR_IA32_TSC:
		return msr_set_tsc(v, value, false, host);
	case MSR_IA32_TSC_ADJUST:
		return msr_set_tsc(v, value, true, host);
	case VIREO_MSR_TSC_OFFSET:
		if (!host)
			return -ENOENT;
		v->tsc_lost = READ_ONCE(vireo_tsc_lost);
		return tsc_move(v, value - v->tsc_offset);
	case MSR_EFER:
		return msr_set_efer(v, value);
	case MSR_IA32_PRED_CMD:
		if ((value & ~PRED_CMD_IBPB) || !boot_cpu_has(X86_FEATURE_IBPB))
			return -EINVAL;
		if (value)
			indirect_branch_prediction_barrier();
		return 0;
	}
	err = vireo_pv_set_msr(v, index, value);
	if (err != -ENOENT)
		return err;
	if (!value_allowed(index, value))
		return -EINVAL;
	if (kept) {
		*kept = value;
		return 0;
	}
	err = vireo_ops->set_msr(v, index, value);
	if (err != -ENOENT)
		return err;
	if (index == MSR_IA32_SPEC_CTRL && boot_cpu_has(X86_FEATURE_MSR_SPEC_CTRL)) {
		v->spec_ctrl = value;
		return 0;
	}
	return msr_constant(index, &unused);
}
