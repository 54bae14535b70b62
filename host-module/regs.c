// SPDX-License-Identifier: GPL-2.0
/*
 * A vCPU's registers as a whole: checks, get, set and reset.
 */
#include <asm/processor-flags.h>

#include "vireo.h"

#define SEG_L	BIT(9)	/* vireo_segment.attr */
#define SEG_D	BIT(10)

/**
 * vireo_regs_cr4() - CR4 bits that a guest of this host may have
 * Context: Any.
 * Return: The bits.
 */
u64 vireo_regs_cr4(void)
{
	u64 cr4 = X86_CR4_VME | X86_CR4_PVI | X86_CR4_TSD | X86_CR4_DE | X86_CR4_PSE |
		  X86_CR4_PAE | X86_CR4_MCE | X86_CR4_PGE | X86_CR4_PCE |
		  X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;

	cr4 |= boot_cpu_has(X86_FEATURE_UMIP) ? X86_CR4_UMIP : 0;
	cr4 |= boot_cpu_has(X86_FEATURE_LA57) ? X86_CR4_LA57 : 0;
	cr4 |= boot_cpu_has(X86_FEATURE_FSGSBASE) ? X86_CR4_FSGSBASE : 0;
	cr4 |= boot_cpu_has(X86_FEATURE_PCID) ? X86_CR4_PCIDE : 0;
	cr4 |= boot_cpu_has(X86_FEATURE_XSAVE) ? X86_CR4_OSXSAVE : 0;
	cr4 |= boot_cpu_has(X86_FEATURE_SMEP) ? X86_CR4_SMEP : 0;
	cr4 |= boot_cpu_has(X86_FEATURE_SMAP) ? X86_CR4_SMAP : 0;
	cr4 |= boot_cpu_has(X86_FEATURE_OSPKE) ? X86_CR4_PKE : 0;
	return cr4;
}

/**
 * vireo_regs_efer() - likewise of EFER
 * Context: Any.
 * Return: The bits.
 */
u64 vireo_regs_efer(void)
{
	return EFER_SCE | EFER_LME | EFER_LMA | EFER_NX |
	       (boot_cpu_has(X86_FEATURE_FXSR_OPT) ? EFER_FFXSR : 0);
}

#define CR0_ALLOWED	(X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_ET | \
			 X86_CR0_NE | X86_CR0_WP | X86_CR0_AM | X86_CR0_NW | X86_CR0_CD | \
			 X86_CR0_PG)

#define EXCEPTIONS	0x702f7dfbU	/* 0-8 but the NMI, 10-14, 16-19, 21, 28-30 */

static bool canonical(u64 addr, u64 cr4)
{
	unsigned int bits = cr4 & X86_CR4_LA57 ? 57 : 48;

	return sign_extend64(addr, bits - 1) == addr;
}

static bool rip_ok(u64 rip, u64 efer, u64 cr4)
{
	return efer & EFER_LMA ? canonical(rip, cr4) : !(rip >> 32);
}

static bool regs_modes_ok(const struct vireo_regs *r)
{
	bool paging = r->cr0 & X86_CR0_PG, lme = r->efer & EFER_LME;

	if ((r->cr0 & ~CR0_ALLOWED) || (r->cr4 & ~vireo_regs_cr4()) ||
	    (r->efer & ~vireo_regs_efer()))
		return false;
	if ((r->cr0 & X86_CR0_NW) && !(r->cr0 & X86_CR0_CD))
		return false;
	if (paging && !(r->cr0 & X86_CR0_PE))
		return false;
	if (!!(r->efer & EFER_LMA) != (paging && lme))
		return false;
	if (paging && lme && !(r->cr4 & X86_CR4_PAE))
		return false;
	if ((r->cr4 & X86_CR4_PCIDE) && !(r->efer & EFER_LMA))
		return false;
	if (r->cr3 >> boot_cpu_data.x86_phys_bits || r->cr8 > 15)
		return false;
	return !(r->efer & EFER_LMA) ||
	       (r->seg[VIREO_CS].attr & (SEG_L | SEG_D)) != (SEG_L | SEG_D);
}

static bool regs_addresses_ok(const struct vireo_regs *r)
{
	unsigned int i;

	/* VMSAVE and VMRUN take any base for ES to DS and cut it to 32 bits. */
	for (i = VIREO_FS; i < VIREO_SEGS; i++)
		if (!canonical(r->seg[i].base, r->cr4))
			return false;
	for (i = 0; i < VIREO_FS; i++)
		if (r->seg[i].base >> 32)
			return false;
	for (i = 0; i < VIREO_SEGS; i++)
		if (r->seg[i].attr >> 12)
			return false;
	if (r->gdt.limit > 0xffff || r->idt.limit > 0xffff || r->gdt.reserved || r->idt.reserved)
		return false;
	if (!canonical(r->gdt.base, r->cr4) || !canonical(r->idt.base, r->cr4))
		return false;
	return rip_ok(r->rip, r->efer, r->cr4);
}

static bool regs_events_ok(const struct vireo_regs *r)
{
	if (r->events & ~VIREO_EVENTS || r->reserved0 || r->mp_state > VIREO_MP_INIT)
		return false;
	if ((r->events & VIREO_EVENT_ERROR_CODE) && !(r->events & VIREO_EVENT_EXCEPTION))
		return false;
	if ((r->events & VIREO_EVENT_EXCEPTION) && (r->events & VIREO_EVENT_INTERRUPT))
		return false;
	/* An exception is not the NMI, and reserved vectors do not exist. */
	if ((r->events & VIREO_EVENT_EXCEPTION) &&
	    (r->exception > 31 || (BIT(r->exception) & ~EXCEPTIONS)))
		return false;
	return !(r->events & VIREO_EVENT_INTERRUPT) || r->interrupt >= 16;
}

static bool regs_xcr0_ok(u64 xcr0)
{
	const u64 avx512 = XFEATURE_MASK_OPMASK | XFEATURE_MASK_ZMM_Hi256 | XFEATURE_MASK_Hi16_ZMM;

	if (!(xcr0 & XFEATURE_MASK_FP) || (xcr0 & ~vireo_xcr0))
		return false;
	if ((xcr0 & XFEATURE_MASK_YMM) && !(xcr0 & XFEATURE_MASK_SSE))
		return false;
	if ((xcr0 & avx512) && ((xcr0 & avx512) != avx512 || !(xcr0 & XFEATURE_MASK_YMM)))
		return false;
	return !(xcr0 & XFEATURE_MASK_BNDREGS) == !(xcr0 & XFEATURE_MASK_BNDCSR);
}

/**
 * vireo_vcpu_set_xcr0() - change XCR0 as XSETBV does
 * @v: the vCPU
 * @xcr0: the new value
 * Context: The vCPU's mutex is held.
 * Return: 0 or -EINVAL, nothing changed.
 */
int vireo_vcpu_set_xcr0(struct vireo_vcpu *v, u64 xcr0)
{
	if (!regs_xcr0_ok(xcr0))
		return -EINVAL;
	v->xcr0 = xcr0;
	v->xsave_size = vireo_cpuid_xsave_size(xcr0, false);
	return 0;
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

	if (!e->valid) {
		/* none */
	} else if (e->type == VEVENT_EXCEPTION) {
		r->events |= VIREO_EVENT_EXCEPTION;
		r->events |= e->has_error ? VIREO_EVENT_ERROR_CODE : 0;
		r->exception = e->vector;
		r->error_code = e->has_error ? e->error : 0;
	} else if (e->type == VEVENT_INTERRUPT) {
		r->events |= VIREO_EVENT_INTERRUPT;
		r->interrupt = e->vector;
	} else {
		r->events |= VIREO_EVENT_NMI;
	}
	if (v->nmi_pending || test_bit(VAPIC_NMI, &v->apic.smi_init))
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
	vireo_vcpu_set_xcr0(v, r->xcr0);
	v->mp_state = r->mp_state;
	memcpy(v->dr, r->dr, sizeof(v->dr));
	vireo_ops->set_regs(v, r);
	*vireo_lapic_tpr(v) = r->cr8 << 4;

	v->pending_io = VIO_NONE;
	v->blocked = (r->events & VIREO_EVENT_SHADOW ? VIREO_BLOCKED_SHADOW : 0) |
		     (r->events & VIREO_EVENT_NMI_MASKED ? VIREO_BLOCKED_NMI : 0);
	v->inject.info = 0;
	if (r->events & VIREO_EVENT_EXCEPTION) {
		v->inject = vireo_event(VEVENT_EXCEPTION, r->exception);
		v->inject.has_error = !!(r->events & VIREO_EVENT_ERROR_CODE);
		v->inject.error = r->error_code;
	}
	if (r->events & VIREO_EVENT_INTERRUPT)
		v->inject = vireo_event(VEVENT_INTERRUPT, r->interrupt);
	clear_bit(VAPIC_NMI, &v->apic.smi_init);
	v->nmi_pending = r->events & VIREO_EVENT_NMI;
	set_bit(VREQ_EVENT, &v->requests);
}

/**
 * vireo_regs_set() - write all registers
 * @v: the vCPU
 * @r: the registers, unchecked
 * Context: The vCPU's mutex is held.
 * Return: 0 or -EINVAL, nothing changed.
 */
int vireo_regs_set(struct vireo_vcpu *v, const struct vireo_regs *r)
{
	/* Bits 63:22, 15, 5 and 3 are reserved. */
	const u64 rflags = GENMASK_ULL(63, 22) | BIT(15) | BIT(5) | BIT(3);

	if (memchr_inv(r->reserved, 0, sizeof(r->reserved)) || !regs_modes_ok(r) ||
	    !regs_addresses_ok(r) || !regs_events_ok(r) || !regs_xcr0_ok(r->xcr0) ||
	    (r->dr[4] | r->dr[5]) >> 32 || r->rflags & rflags)
		return -EINVAL;
	regs_load(v, r);
	return 0;
}

/**
 * vireo_regs_rip_ok() - whether RIP may have a value, in the guest's mode
 * @v: the vCPU
 * @rip: the value
 * Context: The vCPU's mutex is held.
 * Return: Whether vireo_regs_set() would take it.
 */
bool vireo_regs_rip_ok(struct vireo_vcpu *v, u64 rip)
{
	u64 efer = 0;

	vireo_ops->get_msr(v, MSR_EFER, &efer);
	return rip_ok(rip, efer, vireo_ops->get_cr4(v));
}

/**
 * vireo_vcpu_reset() - the state after power-on or INIT
 * @v: the vCPU
 * @init: INIT: registers that it leaves alone are left alone
 *
 * Intel SDM vol. 3, 10.1.1; AMD APM vol. 2, 14.1.
 * Context: Process context, the vCPU's mutex held.
 */
void vireo_vcpu_reset(struct vireo_vcpu *v, bool init)
{
	struct vireo_regs r = {
		.rip = 0xfff0,
		.rflags = X86_EFLAGS_FIXED,
		.gdt = { .limit = 0xffff },
		.idt = { .limit = 0xffff },
		.cr0 = X86_CR0_CD | X86_CR0_NW | X86_CR0_ET,
		.xcr0 = XFEATURE_MASK_FP,
		.dr = { [4] = 0xffff0ff0, [5] = 0x400 },
	};
	struct vireo_regs old;
	unsigned int i;

	r.gpr[VIREO_RDX] = 0x600;
	for (i = 0; i < VIREO_SEGS; i++)
		r.seg[i] = (struct vireo_segment) { .limit = 0xffff, .attr = 0x93 };
	r.seg[VIREO_CS].attr = 0x9b;
	r.seg[VIREO_CS].selector = 0xf000;
	r.seg[VIREO_CS].base = 0xffff0000;
	r.seg[VIREO_LDTR].attr = 0x82;
	r.seg[VIREO_TR].attr = 0x8b;

	if (init) {		/* INIT keeps CR0.CD, NW, XCR0 and the FPU */
		vireo_regs_get(v, &old);
		r.cr0 = (old.cr0 & (X86_CR0_CD | X86_CR0_NW)) | X86_CR0_ET;
		r.xcr0 = old.xcr0;
		vireo_lapic_reset(v);
	}
	r.mp_state = v->id ? VIREO_MP_INIT : VIREO_MP_RUNNABLE;
	regs_load(v, &r);
}

/**
 * vireo_vcpu_sipi() - start at the page that a start-up IPI names
 * @v: a vCPU in VIREO_MP_INIT
 * @vector: bits 19:12 of the address
 * Context: Process context, the vCPU's mutex held.
 */
void vireo_vcpu_sipi(struct vireo_vcpu *v, u32 vector)
{
	struct vireo_regs r = {};

	vireo_regs_get(v, &r);
	r.seg[VIREO_CS].selector = vector << 8;
	r.seg[VIREO_CS].base = vector << 12;
	r.rip = 0;
	r.mp_state = VIREO_MP_RUNNABLE;
	regs_load(v, &r);
}
