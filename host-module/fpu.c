// SPDX-License-Identifier: GPL-2.0
/*
 * The guest's extended state: x87, SSE, AVX and what else XCR0 may name.
 *
 * It is in the registers while the inner loop runs, with interrupts off: what
 * it displaces, the thread's own or the kernel's idea of it, is put away before
 * and back behind, and nobody else can tell.  Otherwise it is in v->fpu, in the
 * standard format that user space sees (Intel SDM vol. 1, 13.4).  PKRU is not
 * among it, see the backend.
 */
#include <linux/log2.h>
#include <asm/processor.h>
#include <asm/fpu/api.h>

#include "vireo.h"

/* Constant after init */
static u32 mxcsr_mask;		/* bits that MXCSR has */
static u64 fpu_mask;		/* components that are switched here */
static u32 pkru_offset;		/* in the standard format; 0: there is none */
static struct xregs_state __percpu *fpu_host;	/* the processor's own: what was displaced */

/**
 * vireo_fpu_init() - ask the processor what MXCSR has (Intel SDM vol. 1, 11.6.6)
 * Context: Module load.
 * Return: 0 or -ENOMEM.
 */
int vireo_fpu_init(void)
{
	struct fxregs_state fx __aligned(16) = {};
	u32 unused;

	kernel_fpu_begin();
	asm volatile("fxsave64 %0" : "+m" (fx));
	kernel_fpu_end();
	mxcsr_mask = fx.mxcsr_mask ?: 0xffbf;
	fpu_mask = vireo_xcr0 & ~(u64)XFEATURE_MASK_PKRU;
	if (vireo_xcr0 & XFEATURE_MASK_PKRU)
		cpuid_count(0xd, XFEATURE_PKRU, &unused, &pkru_offset, &unused, &unused);
	fpu_host = __alloc_percpu(vireo_xsave_size, 64);
	return fpu_host ? 0 : -ENOMEM;
}

/**
 * vireo_fpu_exit() - undo vireo_fpu_init()
 * Context: Module unload.
 */
void vireo_fpu_exit(void)
{
	free_percpu(fpu_host);
}

static __always_inline void fpu_save(struct xregs_state *x, u64 mask)
{
	u32 low = mask, high = mask >> 32;

	if (static_cpu_has(X86_FEATURE_XSAVEOPT))
		asm volatile("xsaveopt64 %0" : "+m" (*x) : "a" (low), "d" (high) : "memory");
	else if (static_cpu_has(X86_FEATURE_XSAVE))
		asm volatile("xsave64 %0" : "+m" (*x) : "a" (low), "d" (high) : "memory");
	else
		asm volatile("fxsave64 %0" : "+m" (*x) : : "memory");
}

static __always_inline void fpu_load(struct vireo_vcpu *v, struct xregs_state *x, u64 mask)
{
	u32 low = mask, high = mask >> 32;

	/* Before Zen, x87 pointers of others would stay (CVE-2006-1056). */
	if (static_cpu_has_bug(X86_BUG_FXSAVE_LEAK))
		asm volatile("fnclex; emms; fildl %0" : : "m" (v->id));
	if (static_cpu_has(X86_FEATURE_XSAVE))
		asm volatile("xrstor64 %0" : : "m" (*x), "a" (low), "d" (high) : "memory");
	else
		asm volatile("fxrstor64 %0" : : "m" (*x) : "memory");
}

/**
 * vireo_fpu_enter() - the registers become the guest's
 * @v: the vCPU
 * Context: Interrupts off until vireo_fpu_leave(); XCR0 is the host's.
 */
void vireo_fpu_enter(struct vireo_vcpu *v)
{
	u64 mask = fpu_mask;

	fpu_save(this_cpu_ptr(fpu_host), mask);
	fpu_load(v, v->fpu, mask);
}

/**
 * vireo_fpu_leave() - the registers are what they were before
 * @v: the vCPU
 * Context: After vireo_fpu_enter(), XCR0 the host's again.
 */
void vireo_fpu_leave(struct vireo_vcpu *v)
{
	u64 mask = fpu_mask;

	fpu_save(v->fpu, mask);
	fpu_load(v, this_cpu_ptr(fpu_host), mask);
}

/**
 * vireo_fpu_create() - a new vCPU's state
 * @v: the vCPU; its end is kfree()
 * Context: May sleep.
 * Return: 0 or -ENOMEM.
 */
int vireo_fpu_create(struct vireo_vcpu *v)
{
	/* A power of two is aligned to itself; XSAVE wants 64. */
	v->fpu = kzalloc(roundup_pow_of_two(vireo_xsave_size), GFP_KERNEL_ACCOUNT);
	if (!v->fpu)
		return -ENOMEM;
	v->fpu->i387.cwd = 0x37f;
	v->fpu->i387.mxcsr = MXCSR_DEFAULT;
	return 0;
}

/**
 * vireo_fpu_get() - copy the state to user space
 * @v: the vCPU
 * @to: vireo_xsave_size bytes
 * Context: Process context, the vCPU's mutex held.
 * Return: 0, -EFAULT or -ENOMEM.
 */
int vireo_fpu_get(struct vireo_vcpu *v, void __user *to)
{
	u8 *buf = kmemdup(v->fpu, vireo_xsave_size, GFP_KERNEL_ACCOUNT);
	int err;

	if (!buf)
		return -ENOMEM;
	if (pkru_offset) {
		((struct xregs_state *)buf)->header.xfeatures |= XFEATURE_MASK_PKRU;
		*(u32 *)(buf + pkru_offset) = v->pkru;
	}
	err = copy_to_user(to, buf, vireo_xsave_size) ? -EFAULT : 0;
	kfree(buf);
	return err;
}

/* XRSTOR would fault on anything else (Intel SDM vol. 1, 13.8.1). */
static bool fpu_valid(const struct xregs_state *x)
{
	return !(x->header.xfeatures & ~vireo_xcr0) && !x->header.xcomp_bv &&
	       !memchr_inv(x->header.reserved, 0, sizeof(x->header.reserved)) &&
	       !(x->i387.mxcsr & ~mxcsr_mask);
}

/**
 * vireo_fpu_set() - copy the state from user space
 * @v: the vCPU
 * @from: vireo_xsave_size bytes
 * Context: Process context, the vCPU's mutex held.
 * Return: 0, -EFAULT, -EINVAL or -ENOMEM; nothing changed on failure.
 */
int vireo_fpu_set(struct vireo_vcpu *v, const void __user *from)
{
	struct xregs_state *x = memdup_user(from, vireo_xsave_size);
	int err = -EINVAL;

	if (IS_ERR(x))
		return PTR_ERR(x);
	if (fpu_valid(x)) {
		v->pkru = x->header.xfeatures & XFEATURE_MASK_PKRU ?
			  *(u32 *)((u8 *)x + pkru_offset) : 0;
		x->header.xfeatures &= ~(u64)XFEATURE_MASK_PKRU;
		memcpy(v->fpu, x, vireo_xsave_size);
		err = 0;
	}
	kfree(x);
	return err;
}
