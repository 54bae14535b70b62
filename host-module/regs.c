// SPDX-License-Identifier: GPL-2.0
/*
 * A vCPU's registers: checks, get and set of those that belong together,
 * and the model specific ones that the hardware does not switch.
 */
#include <asm/msr-index.h>
#include <asm/mtrr.h>
#include <asm/nospec-branch.h>
#include <asm/processor-flags.h>

#include "vireo.h"

#define SEG_L	BIT(9)	/* vireo_segment.attr */
#define SEG_D	BIT(10)

#define CR0_ALLOWED	(X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_ET | \
			 X86_CR0_NE | X86_CR0_WP | X86_CR0_AM | X86_CR0_NW | X86_CR0_CD | \
			 X86_CR0_PG)

#define EXCEPTIONS	0x702f7dfbU	/* 0-8 but the NMI, 10-14, 16-19, 21, 28-30 */

static bool canonical(u64 addr, u64 cr4)
{
	return sign_extend64(addr, cr4 & X86_CR4_LA57 ? 56 : 47) == addr;
}

static bool regs_modes_ok(const struct vireo_regs *r)
{
	bool paging = r->cr0 & X86_CR0_PG, lme = r->efer & EFER_LME, lma = r->efer & EFER_LMA;

	if ((r->cr0 & ~CR0_ALLOWED) || (r->cr4 & ~vireo_regs_cr4()) ||
	    (r->efer & ~vireo_regs_efer()) || r->cr3 >> boot_cpu_data.x86_phys_bits || r->cr8 > 15)
		return false;
	if ((r->cr0 & (X86_CR0_NW | X86_CR0_CD)) == X86_CR0_NW ||
	    (paging && !(r->cr0 & X86_CR0_PE)))
		return false;
	if (lma != (paging && lme) || (lma && !(r->cr4 & X86_CR4_PAE)) ||
	    ((r->cr4 & X86_CR4_PCIDE) && !lma))
		return false;
	return !lma || (r->seg[VIREO_CS].attr & (SEG_L | SEG_D)) != (SEG_L | SEG_D);
}

static bool regs_addresses_ok(const struct vireo_regs *r)
{
	unsigned int i;

	for (i = 0; i < VIREO_SEGS; i++) {
		u64 base = r->seg[i].base;

		/* VMSAVE and VMRUN take any base for ES to DS and cut it to 32 bits. */
		if (r->seg[i].attr >> 12 ||
		    (i < VIREO_FS ? base >> 32 : !canonical(base, r->cr4)))
			return false;
	}
	for (i = VIREO_GDTR; i < VIREO_SEGS; i++)
		if (r->seg[i].limit >> 16 || r->seg[i].selector || r->seg[i].attr)
			return false;
	return r->efer & EFER_LMA ? canonical(r->rip, r->cr4) : !(r->rip >> 32);
}

static bool regs_events_ok(const struct vireo_regs *r)
{
	const struct vireo_event e = { .info = r->inject };

	if (r->events & ~VIREO_EVENTS || r->mp_state > VIREO_MP_INIT)
		return false;
	if (!e.info)
		return true;
	if (!e.valid || e.unused)
		return false;
	/* An exception is not the NMI, and reserved vectors do not exist. */
	if (e.type == VEVENT_EXCEPTION)
		return e.vector < 32 && (BIT(e.vector) & EXCEPTIONS);
	return e.type == VEVENT_INTERRUPT && !e.has_error && e.vector >= 16;
}

/**
 * vireo_xcr0_ok() - whether XSETBV would take a value
 * @xcr0: the value
 * Context: Any.
 * Return: True if so.
 */
bool vireo_xcr0_ok(u64 xcr0)
{
	const u64 avx512 = XFEATURE_MASK_OPMASK | XFEATURE_MASK_ZMM_Hi256 | XFEATURE_MASK_Hi16_ZMM;

	return (xcr0 & XFEATURE_MASK_FP) && !(xcr0 & ~vireo_xcr0) &&
	       (!(xcr0 & XFEATURE_MASK_YMM) || (xcr0 & XFEATURE_MASK_SSE)) &&
	       (!(xcr0 & avx512) || ((xcr0 & avx512) == avx512 && (xcr0 & XFEATURE_MASK_YMM)));
}

/**
 * vireo_regs_get() - read all registers
 * @v: the vCPU
 * @r: where to; zeroed by the caller
 * Context: The vCPU's mutex is held.
 */
void vireo_regs_get(struct vireo_vcpu *v, struct vireo_regs *r)
{
	const struct vireo_event *e = &v->inject;

	memcpy(r->gpr, v->gpr, sizeof(r->gpr));
	r->rip = v->rip;
	r->rflags = v->rflags;
	r->xcr0 = v->xcr0;
	r->mp_state = v->mp_state;
	memcpy(r->dr, v->dr, sizeof(v->dr));
	vireo_ops->get_regs(v, r);
	r->cr8 = *vireo_lapic_tpr(v) >> 4;

	if (e->type != VEVENT_NMI)
		r->inject = e->info;
	if (e->has_error)
		r->error_code = e->error;
	if (e->type == VEVENT_NMI || test_bit(VAPIC_NMI, &v->apic.smi_init))
		r->events |= VIREO_EVENT_NMI;
	if (v->blocked & VIREO_BLOCKED_NMI)
		r->events |= VIREO_EVENT_NMI_MASKED;
	if (v->blocked & VIREO_BLOCKED_SHADOW)
		r->events |= VIREO_EVENT_SHADOW;
}

/* Writes all registers, known to be good. */
static void regs_load(struct vireo_vcpu *v, const struct vireo_regs *r)
{
	memcpy(v->gpr, r->gpr, sizeof(v->gpr));
	v->rip = r->rip;
	v->rflags = r->rflags | X86_EFLAGS_FIXED;
	v->xcr0 = r->xcr0;
	v->mp_state = r->mp_state;
	memcpy(v->dr, r->dr, sizeof(v->dr));
	vireo_ops->set_regs(v, r);
	*vireo_lapic_tpr(v) = r->cr8 << 4;

	v->pending = false;
	v->blocked = (r->events & VIREO_EVENT_SHADOW ? VIREO_BLOCKED_SHADOW : 0) |
		     (r->events & VIREO_EVENT_NMI_MASKED ? VIREO_BLOCKED_NMI : 0);
	v->inject.info = r->inject;
	v->inject.error = r->error_code;
	assign_bit(VAPIC_NMI, &v->apic.smi_init, r->events & VIREO_EVENT_NMI);
	set_bit(VREQ_EVENT, &v->requests);
}

/**
 * vireo_vcpu_regs() - VIREO_GET_REGS, VIREO_SET_REGS
 * @v: the vCPU
 * @cmd: which of them
 * @arg: struct vireo_regs
 * Context: The vCPU's mutex is held.
 * Return: 0 or -EINVAL, nothing changed.
 */
long vireo_vcpu_regs(void *v, unsigned int cmd, void *arg)
{
	/* Bits 63:22, 15, 5 and 3 are reserved. */
	const u64 rflags = GENMASK_ULL(63, 22) | BIT(15) | BIT(5) | BIT(3);
	const struct vireo_regs *r = arg;

	if (cmd == VIREO_GET_REGS) {
		vireo_regs_get(v, arg);
		return 0;
	}
	if (memchr_inv(r->reserved, 0, sizeof(r->reserved)) || !regs_modes_ok(r) ||
	    !regs_addresses_ok(r) || !regs_events_ok(r) || !vireo_xcr0_ok(r->xcr0) ||
	    (r->dr[4] | r->dr[5]) >> 32 || r->rflags & rflags)
		return -EINVAL;
	regs_load(v, r);
	return 0;
}

/* ---- Model specific registers: one that is not listed raises #GP in the guest ----------- */

#define APIC_BASE_VALUE		(0xfee00000ULL | BIT(11) | BIT(10))	/* enabled, x2APIC */

/* Registers that read as they were written, and such as read as a constant. */
#define KEPT(msr, field)	{ msr, offsetof(struct vireo_vcpu, field) }
static const struct msr_known {
	u32 index;
	u32 offset;		/* in struct vireo_vcpu, 0: a constant; writes are ignored */
	u32 value;
} msrs[] = {
	KEPT(MSR_IA32_TSC_DEADLINE, apic.tsc_deadline),		/* 0: not armed */
	KEPT(MSR_IA32_TSC_ADJUST, tsc_adjust),
	KEPT(MSR_TSC_AUX, tsc_aux),
	KEPT(MSR_IA32_SPEC_CTRL, spec_ctrl),			/* 0 where there is none */
	KEPT(MSR_KVM_WALL_CLOCK, pv.wall_msr), KEPT(MSR_KVM_WALL_CLOCK_NEW, pv.wall_msr),
	KEPT(MSR_KVM_SYSTEM_TIME, pv.clock_msr), KEPT(MSR_KVM_SYSTEM_TIME_NEW, pv.clock_msr),
	KEPT(MSR_KVM_STEAL_TIME, pv.steal_msr),
	KEPT(MSR_KVM_PV_EOI_EN, pv.eoi_msr),
	{ MSR_IA32_MISC_ENABLE, 0, MSR_IA32_MISC_ENABLE_FAST_STRING },
	{ MSR_MTRRdefType, 0, BIT(11) | MTRR_TYPE_WRBACK },	/* for all: MTRRcap has no ranges */
	{ MSR_IA32_UCODE_REV, 0, 0x01000065 },
	{ MSR_K7_HWCR, 0, BIT(24) },				/* the TSC counts at the P0 rate */
	{ MSR_AMD64_DE_CFG, 0, MSR_AMD64_DE_CFG_LFENCE_SERIALIZE },
	/* And such as are 0 */
	{ MSR_MTRRcap }, { MSR_IA32_XSS }, { MSR_IA32_PLATFORM_ID }, { MSR_IA32_EBL_CR_POWERON },
	{ MSR_IA32_DEBUGCTLMSR }, { MSR_IA32_LASTBRANCHFROMIP }, { MSR_IA32_LASTBRANCHTOIP },
	{ MSR_IA32_LASTINTFROMIP }, { MSR_IA32_LASTINTTOIP }, { MSR_AMD64_NB_CFG },
	{ MSR_AMD64_SYSCFG }, { MSR_AMD64_BU_CFG2 }, { MSR_AMD64_DC_CFG }, { MSR_AMD64_LS_CFG },
	{ MSR_AMD64_PATCH_LOADER }, { MSR_FAM10H_MMIO_CONF_BASE }, { MSR_K8_INT_PENDING_MSG },
	{ MSR_K8_TSEG_ADDR }, { MSR_K8_TSEG_MASK },
};

static const struct msr_known *msr_find(u32 index)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(msrs); i++)
		if (index == msrs[i].index)
			return &msrs[i];
	return NULL;
}

static u64 *msr_kept(struct vireo_vcpu *v, const struct msr_known *m)
{
	return (void *)v + m->offset;
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
		return canonical(value, vireo_regs_cr4());	/* whatever CR4 says */
	case MSR_IA32_CR_PAT:
		/* Bytes of 0, 1 or 4 to 7 */
		return !(value & 0xf8f8f8f8f8f8f8f8) &&
		       !(value & ~(value >> 1) & 0x0202020202020202);
	case MSR_IA32_SPEC_CTRL:
		return !((value & SPEC_CTRL_IBRS && !boot_cpu_has(X86_FEATURE_IBRS)) ||
			 (value & SPEC_CTRL_STIBP && !boot_cpu_has(X86_FEATURE_STIBP)) ||
			 (value & SPEC_CTRL_SSBD && !boot_cpu_has(X86_FEATURE_SPEC_CTRL_SSBD) &&
			  !boot_cpu_has(X86_FEATURE_AMD_SSBD)) || value >> 3);
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
 * @host: for user space, not the guest
 * Context: The vCPU's mutex is held; the inner loop only for the APIC's.
 * Return: 0 or -ENOENT.
 */
int vireo_msr_get(struct vireo_vcpu *v, u32 index, u64 *value, bool host)
{
	const struct msr_known *m;

	switch (index) {
	case 0x800 ... 0x8ff:
		return vireo_lapic_read(v, index, value, host);
	case MSR_IA32_APICBASE:
		*value = APIC_BASE_VALUE | (v->id ? 0 : BIT(8));
		return 0;
	case MSR_IA32_TSC:
		*value = vireo_guest_tsc(v);
		return 0;
	case VIREO_MSR_TSC_OFFSET:
		*value = v->tsc_offset + READ_ONCE(vireo_tsc_lost) - v->tsc_lost;
		return host ? 0 : -ENOENT;
	}
	if (!vireo_ops->msr(v, index, value, false))
		return 0;
	m = msr_find(index);
	if (!m)
		return -ENOENT;
	*value = m->offset ? READ_ONCE(*msr_kept(v, m)) : m->value;
	return 0;
}

/* LME stays as it is while paging is on; LMA is the processor's. */
static int msr_set_efer(struct vireo_vcpu *v, u64 value)
{
	struct vireo_regs r = {};

	vireo_ops->get_regs(v, &r);
	if ((value & ~vireo_regs_efer()) ||
	    (((value ^ r.efer) & EFER_LME) && (r.cr0 & X86_CR0_PG)))
		return -EINVAL;
	value = (value & ~EFER_LMA) | (r.efer & EFER_LMA);
	return vireo_ops->msr(v, MSR_EFER, &value, true);
}

static int tsc_move(struct vireo_vcpu *v, u64 delta)
{
	v->tsc_offset += delta;
	vireo_lapic_write(v, MSR_IA32_TSC_DEADLINE, READ_ONCE(v->apic.tsc_deadline), false);
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
	const struct msr_known *m;
	int err;

	switch (index) {
	case 0x800 ... 0x8ff:
	case MSR_IA32_TSC_DEADLINE:
		return vireo_lapic_write(v, index, value, host);
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
	if (!value_allowed(index, value))
		return -EINVAL;
	err = vireo_ops->msr(v, index, &value, true);
	if (err != -ENOENT)
		return err;
	m = msr_find(index);
	err = m ? vireo_pv_set_msr(v, index, value) : -ENOENT;
	if (!err && m->offset)
		*msr_kept(v, m) = value;
	return err;
}

/**
 * vireo_vcpu_msrs() - VIREO_GET_MSRS, VIREO_SET_MSRS
 * @v: the vCPU
 * @cmd: which of them
 * @arg: struct vireo_msrs
 * Context: Process context, the vCPU's mutex held.
 * Return: How many entries were done, -EINVAL, -E2BIG or -EFAULT.
 */
long vireo_vcpu_msrs(void *v, unsigned int cmd, void *arg)
{
	const struct vireo_msrs *m = arg;
	struct vireo_msr __user *to = u64_to_user_ptr(m->entries);
	bool set = cmd == VIREO_SET_MSRS;
	struct vireo_msr e;
	u32 i;

	if (m->reserved)
		return -EINVAL;
	if (m->count > VIREO_MAX_MSRS)
		return -E2BIG;
	for (i = 0; i < m->count; i++) {
		if (copy_from_user(&e, &to[i], sizeof(e)))
			return -EFAULT;
		if (e.reserved)
			return -EINVAL;
		if (set ? vireo_msr_set(v, e.index, e.value, true) :
			  vireo_msr_get(v, e.index, &e.value, true))
			break;
		if (!set && put_user(e.value, &to[i].value))
			return -EFAULT;
	}
	return i;
}
