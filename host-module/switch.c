// SPDX-License-Identifier: GPL-2.0
/*
 * What neither extension switches between host and guest: XCR0, XSS, PKRU,
 * TSC_AUX, DR0 to DR3 and the branch predictors.  Once for each stay on a
 * processor, and only where the two differ.
 */
#include <linux/hw_breakpoint.h>
#include <asm/debugreg.h>
#include <asm/fpu/xcr.h>
#include <asm/msr.h>
#include <asm/nospec-branch.h>
#include <asm/pkru.h>

#include "vireo.h"
#include "compat.h"

struct switch_cpu {
	u64 tsc_aux;			/* the host's */
	struct compat_cet cet;
	struct vireo_vcpu *last;	/* whose branches trained the predictors */
};

static DEFINE_PER_CPU(struct switch_cpu, switch_cpus);
static u64 host_xcr0, host_xss;	/* the same on all processors; 0: there is none */

/**
 * vireo_switch_enable() - look at what the host has; on each processor
 * Context: Interrupts off.
 */
void vireo_switch_enable(void)
{
	struct switch_cpu *c = this_cpu_ptr(&switch_cpus);

	if (boot_cpu_has(X86_FEATURE_OSXSAVE))
		host_xcr0 = xgetbv(XCR_XFEATURE_ENABLED_MASK);
	if (boot_cpu_has(X86_FEATURE_XSAVES))
		rdmsrl(MSR_IA32_XSS, host_xss);
	if (boot_cpu_has(X86_FEATURE_RDTSCP))
		rdmsrl(MSR_TSC_AUX, c->tsc_aux);
	c->last = NULL;
}

/**
 * vireo_switch_forget() - a vCPU goes away
 * @v: the vCPU; its address may come back as another's, which needs a barrier
 * Context: Any.
 */
void vireo_switch_forget(struct vireo_vcpu *v)
{
	int cpu;

	for_each_possible_cpu(cpu)
		cmpxchg(&per_cpu_ptr(&switch_cpus, cpu)->last, v, NULL);
}

/**
 * vireo_switch_dr() - the guest gets its own DR0 to DR3, until the stay ends
 * @v: the vCPU
 * Context: Between load and put.
 */
void vireo_switch_dr(struct vireo_vcpu *v)
{
	/* The host's breakpoints must not look at the guest's addresses. */
	set_debugreg(DR7_OFF, 7);
	set_debugreg(v->dr[0], 0);
	set_debugreg(v->dr[1], 1);
	set_debugreg(v->dr[2], 2);
	set_debugreg(v->dr[3], 3);
	v->dr_loaded = true;
}

static void put_dr(struct vireo_vcpu *v)
{
	set_debugreg(DR7_OFF, 7);	/* as the exit should have */
	get_debugreg(v->dr[0], 0);
	get_debugreg(v->dr[1], 1);
	get_debugreg(v->dr[2], 2);
	get_debugreg(v->dr[3], 3);
	v->dr_loaded = false;
}

/**
 * vireo_switch_load() - a stay begins
 * @v: the vCPU
 * Context: Interrupts off, from the backend's load.
 */
void vireo_switch_load(struct vireo_vcpu *v)
{
	struct switch_cpu *c = this_cpu_ptr(&switch_cpus);

	compat_cet_enter(&c->cet);
	if (c->last != v) {
		c->last = v;
		if (!cpu_feature_enabled(X86_FEATURE_IBPB_ON_VMEXIT))
			indirect_branch_prediction_barrier();
	}
	if (v->tsc_aux != c->tsc_aux && boot_cpu_has(X86_FEATURE_RDTSCP))
		wrmsrl(MSR_TSC_AUX, v->tsc_aux);
	if (host_xcr0 && v->xcr0 != host_xcr0)
		xsetbv(XCR_XFEATURE_ENABLED_MASK, v->xcr0);
	if (host_xss)
		wrmsrl(MSR_IA32_XSS, 0);
	if (cpu_feature_enabled(X86_FEATURE_OSPKE)) {
		v->host_pkru = rdpkru();
		if (v->pkru != v->host_pkru)
			wrpkru(v->pkru);
	}
}

static void put_xcr0(struct vireo_vcpu *v)
{
	u64 xcr0 = v->xcr0;

	if (!host_xcr0)
		return;
	/* QEMU's TCG has the intercept of XSETBV but does not act on it. */
	if (static_cpu_has(X86_FEATURE_HYPERVISOR)) {
		xcr0 = xgetbv(XCR_XFEATURE_ENABLED_MASK);
		if (unlikely(xcr0 != v->xcr0))
			vireo_vcpu_set_xcr0(v, xcr0);
	}
	if (xcr0 != host_xcr0)
		xsetbv(XCR_XFEATURE_ENABLED_MASK, host_xcr0);
	if (host_xss)
		wrmsrl(MSR_IA32_XSS, host_xss);
}

/**
 * vireo_switch_put() - a stay ends
 * @v: the vCPU
 * Context: Interrupts off, from the backend's put.
 */
void vireo_switch_put(struct vireo_vcpu *v)
{
	struct switch_cpu *c = this_cpu_ptr(&switch_cpus);

	/* The guest may have had CR4.PKE and OSXSAVE set at any time since. */
	if (cpu_feature_enabled(X86_FEATURE_OSPKE)) {
		v->pkru = rdpkru();
		if (v->pkru != v->host_pkru)
			wrpkru(v->host_pkru);
	}
	put_xcr0(v);
	compat_cet_leave(&c->cet);
	if (v->tsc_aux != c->tsc_aux && boot_cpu_has(X86_FEATURE_RDTSCP))
		wrmsrl(MSR_TSC_AUX, c->tsc_aux);
	if (unlikely(v->dr_loaded))
		put_dr(v);
	if (hw_breakpoint_active())	/* the exit has switched them off */
		hw_breakpoint_restore();
	compat_guest_ran();
}
