// SPDX-License-Identifier: GPL-2.0
/*
 * What neither extension switches between host and guest: the extended state (x87,
 * SSE, AVX, PKRU and what else XCR0 may name), XCR0, XSS, TSC_AUX, DR0 to DR3 and the
 * branch predictors.  Once for each stay on a processor, and but for the first only
 * where the two differ.
 *
 * The extended state is in the registers while the inner loop runs, with interrupts
 * off: what it displaces, the thread's own or the kernel's idea of it, is put away
 * before and back behind, and nobody else can tell.  Otherwise it is in v->fpu, in
 * the standard format that user space sees (Intel SDM vol. 1, 13.4).
 */
#include <linux/hw_breakpoint.h>
#include <asm/debugreg.h>
#include <asm/fpu/api.h>
#include <asm/fpu/xcr.h>
#include <asm/msr.h>
#include <asm/nospec-branch.h>
#include <asm/processor.h>

#include "vireo.h"
#include "compat.h"

struct switch_cpu {
	struct compat_cet cet;
	u64 last;		/* vCPU whose branches trained the predictors */
};

#define BITMAP_ORDER	3	/* 20 KiB for AMD-V */

static DEFINE_PER_CPU(struct switch_cpu, switch_cpus);

/* Constant after init */
static u64 host_xcr0, host_xss;	/* the same on all processors; 0: there is none */
void *vireo_bitmap;
void __percpu *vireo_cpu_pages;

/**
 * vireo_switch_init() - look at what the host has, allocate what all vCPUs use
 * Context: Module load.
 * Return: 0 or -ENOMEM; vireo_switch_exit() in any case.
 */
int vireo_switch_init(void)
{
	if (boot_cpu_has(X86_FEATURE_OSXSAVE))
		host_xcr0 = xgetbv(XCR_XFEATURE_ENABLED_MASK);
	if (boot_cpu_has(X86_FEATURE_XSAVES))
		rdmsrl(MSR_IA32_XSS, host_xss);
	vireo_bitmap = (void *)__get_free_pages(GFP_KERNEL, BITMAP_ORDER);
	vireo_cpu_pages = __alloc_percpu(2 * PAGE_SIZE + vireo_xsave_size, PAGE_SIZE);
	if (!vireo_bitmap || !vireo_cpu_pages)
		return -ENOMEM;
	memset(vireo_bitmap, 0xff, PAGE_SIZE << BITMAP_ORDER);
	return 0;
}

/**
 * vireo_switch_exit() - undo vireo_switch_init()
 * Context: Module unload.
 */
void vireo_switch_exit(void)
{
	free_percpu(vireo_cpu_pages);
	free_pages((unsigned long)vireo_bitmap, BITMAP_ORDER);
}

/**
 * vireo_switch_dr() - DR0 to DR3 become the guest's own, or are put away
 * @v: the vCPU
 * @guest: the guest gets them, until the stay ends
 * Context: Between load and put.
 */
void vireo_switch_dr(struct vireo_vcpu *v, bool guest)
{
	unsigned int i;

	/* The host's breakpoints must not look at the guest's addresses, nor the other way. */
	set_debugreg(DR7_OFF, 7);
	for (i = 0; i < ARRAY_SIZE(v->dr); i++)
		if (guest)
			set_debugreg(v->dr[i], i);
		else
			get_debugreg(v->dr[i], i);
	v->dr_loaded = guest;
}

/* TSC_AUX as the host has it on this processor */
static __always_inline u64 host_tsc_aux(void)
{
	return vdso_encode_cpunode(raw_smp_processor_id(), numa_node_id());
}

/* The processor's own: what was displaced */
static __always_inline struct xregs_state *host_fpu(void)
{
	return this_cpu_ptr(vireo_cpu_pages) + 2 * PAGE_SIZE;
}

static __always_inline void fpu_save(struct xregs_state *x)
{
	u32 low = vireo_xcr0, high = vireo_xcr0 >> 32;

	if (static_cpu_has(X86_FEATURE_XSAVEOPT))
		asm volatile("xsaveopt64 %0" : "+m" (*x) : "a" (low), "d" (high) : "memory");
	else if (static_cpu_has(X86_FEATURE_XSAVE))
		asm volatile("xsave64 %0" : "+m" (*x) : "a" (low), "d" (high) : "memory");
	else
		asm volatile("fxsave64 %0" : "+m" (*x) : : "memory");
}

static __always_inline void fpu_load(struct vireo_vcpu *v, struct xregs_state *x)
{
	u32 low = vireo_xcr0, high = vireo_xcr0 >> 32;

	/* Before Zen, x87 pointers of others would stay (CVE-2006-1056). */
	if (static_cpu_has_bug(X86_BUG_FXSAVE_LEAK))
		asm volatile("fnclex; emms; fildl %0" : : "m" (v->id));
	if (static_cpu_has(X86_FEATURE_XSAVE))
		asm volatile("xrstor64 %0" : : "m" (*x), "a" (low), "d" (high) : "memory");
	else
		asm volatile("fxrstor64 %0" : : "m" (*x) : "memory");
}

/**
 * vireo_switch_load() - a stay begins
 * @v: the vCPU
 * Context: Interrupts off until vireo_switch_put().
 */
void vireo_switch_load(struct vireo_vcpu *v)
{
	struct switch_cpu *c = this_cpu_ptr(&switch_cpus);

	fpu_save(host_fpu());
	fpu_load(v, v->fpu);
	compat_cet(&c->cet, true);
	if (c->last != v->serial) {
		c->last = v->serial;
		if (!cpu_feature_enabled(X86_FEATURE_IBPB_ON_VMEXIT))
			indirect_branch_prediction_barrier();
	}
	if (cpu_feature_enabled(X86_FEATURE_RDTSCP) && v->tsc_aux != host_tsc_aux())
		wrmsrl(MSR_TSC_AUX, v->tsc_aux);
	if (host_xcr0 && v->xcr0 != host_xcr0)
		xsetbv(XCR_XFEATURE_ENABLED_MASK, v->xcr0);
	if (host_xss)
		wrmsrl(MSR_IA32_XSS, 0);
}

/**
 * vireo_switch_put() - a stay ends
 * @v: the vCPU
 * Context: Interrupts off, behind the backend's put.
 */
void vireo_switch_put(struct vireo_vcpu *v)
{
	if (host_xcr0 && v->xcr0 != host_xcr0)
		xsetbv(XCR_XFEATURE_ENABLED_MASK, host_xcr0);
	if (host_xss)
		wrmsrl(MSR_IA32_XSS, host_xss);
	compat_cet(this_cpu_ptr(&switch_cpus.cet), false);
	if (cpu_feature_enabled(X86_FEATURE_RDTSCP) && v->tsc_aux != host_tsc_aux())
		wrmsrl(MSR_TSC_AUX, host_tsc_aux());
	if (unlikely(v->dr_loaded))
		vireo_switch_dr(v, false);
	if (hw_breakpoint_active())	/* the exit has switched them off */
		hw_breakpoint_restore();
	fpu_save(v->fpu);
	fpu_load(v, host_fpu());
	compat_guest_ran();
}

/* XRSTOR would fault on anything else (Intel SDM vol. 1, 13.8.1). */
static bool fpu_valid(const struct xregs_state *x)
{
	return !(x->header.xfeatures & ~vireo_xcr0) && !x->header.xcomp_bv &&
	       !memchr_inv(x->header.reserved, 0, sizeof(x->header.reserved)) &&
	       !(x->i387.mxcsr & ~mxcsr_feature_mask);
}

/**
 * vireo_vcpu_xsave() - VIREO_GET_XSAVE, VIREO_SET_XSAVE
 * @vcpu: the vCPU
 * @cmd: which of them
 * @arg: struct vireo_xsave
 * Context: Process context, the vCPU's mutex held.
 * Return: 0, -EFAULT, -EINVAL or -ENOMEM; nothing changed on failure.
 */
long vireo_vcpu_xsave(void *vcpu, unsigned int cmd, void *arg)
{
	const struct vireo_xsave *a = arg;
	void __user *data = u64_to_user_ptr(a->data);
	struct vireo_vcpu *v = vcpu;
	struct xregs_state *x;
	bool valid;

	if (a->bytes != vireo_xsave_size)
		return -EINVAL;
	if (cmd == VIREO_GET_XSAVE)
		return copy_to_user(data, v->fpu, vireo_xsave_size) ? -EFAULT : 0;
	x = memdup_user(data, vireo_xsave_size);
	if (IS_ERR(x))
		return PTR_ERR(x);
	valid = fpu_valid(x);
	if (valid)
		memcpy(v->fpu, x, vireo_xsave_size);
	kfree(x);
	return valid ? 0 : -EINVAL;
}
