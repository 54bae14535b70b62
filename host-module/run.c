// SPDX-License-Identifier: GPL-2.0
/*
 * The run loop of a vCPU, what exits are answered with, and what is switched around it
 * between host and guest.
 *
 * The inner loop runs with interrupts off on one processor: enter the guest,
 * resolve the exit if that needs no sleep (exit_fast()), enter again.  It leaves
 * for what may sleep, for requests of others, and when the host needs the thread.
 * The outer loop does the rest of an exit (exit_slow()), or fills in the run page
 * for user space.
 */
#include <linux/hw_breakpoint.h>
#include <linux/ktime.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/vtime.h>
#include <asm/apicdef.h>
#include <asm/debugreg.h>
#include <asm/fpu/api.h>
#include <asm/fpu/xcr.h>
#include <asm/nospec-branch.h>

#include "vireo.h"
#include "compat.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

/* Halt polling, ns: doubled from the start when a sleep was short, else 0. */
#define POLL_START	10000
#define POLL_MAX	200000

DEFINE_STATIC_CALL_NULL(vireo_load, *((struct vireo_ops *)NULL)->load);
DEFINE_STATIC_CALL_NULL(vireo_put, *((struct vireo_ops *)NULL)->put);
DEFINE_STATIC_CALL_NULL(vireo_run, *((struct vireo_ops *)NULL)->run);

/* Exits that never end in the inner loop */
#define RUN_SLOW	(BIT(VEXIT_IO) | BIT(VEXIT_FAULT) | BIT(VEXIT_INTR))

static void inject_gp(struct vireo_vcpu *v)
{
	v->inject = vireo_event(VEVENT_EXCEPTION, X86_TRAP_GP);
	v->inject.has_error = true;
}

/* Steps over the intercepted instruction, whose end is known. */
static inline void exit_skip(struct vireo_vcpu *v)
{
	v->rip = v->next_rip;
	v->blocked &= ~VIREO_BLOCKED_SHADOW;
	v->rflags &= ~X86_EFLAGS_RF;
	if (unlikely(v->rflags & X86_EFLAGS_TF)) {
		vireo_ops->set_bs(v);
		v->inject = vireo_event(VEVENT_EXCEPTION, X86_TRAP_DB);
	}
}

/* ---- Hypercalls ------------------------------------------------------------------------ */

/* To processors @min to @min + 127: how many took it.  Apart, as exit_slow() is. */
static noinline long hypercall_ipi(struct vireo_vcpu *v, u64 low, u64 high, u32 min, u32 icr)
{
	unsigned long map[2] = { low, high };
	unsigned int i;
	long n = 0;

	for_each_set_bit(i, map, 128) {
		u64 id = (u64)min + i;
		int ret = id < VIREO_MAX_VCPUS ?
			  vireo_lapic_msi(v->vm, APIC_DEFAULT_PHYS_BASE | id << 12, icr) : 0;

		if (ret < 0)
			return -KVM_EINVAL;
		n += ret;
	}
	return n;
}

/* Returns false for what may sleep or has to go to user space. */
static bool exit_hypercall(struct vireo_vcpu *v)
{
	u64 mask = v->exit.wide ? ~0ULL : U32_MAX;
	u64 nr = v->gpr[VIREO_RAX] & mask;
	u64 a0 = v->gpr[VIREO_RBX] & mask, a1 = v->gpr[VIREO_RCX] & mask;
	u64 a2 = v->gpr[VIREO_RDX] & mask, a3 = v->gpr[VIREO_RSI] & mask;
	struct vireo_vcpu *to;
	long ret;

	switch (v->exit.cpl ? ~0ULL : nr) {
	case VIREO_HC_NOP:
		ret = 0;
		break;
	case VIREO_HC_SYSTEM:
	case VIREO_HC_DOORBELL:
		return false;
	case KVM_HC_KICK_CPU:
		to = vireo_vcpu_by_id(v->vm, a1);
		if (to) {
			set_bit(VAPIC_UNHALT, &to->apic.smi_init);
			vireo_vcpu_request(to, VREQ_EVENT, 0);
		}
		ret = 0;
		break;
	case KVM_HC_SEND_IPI:
		ret = hypercall_ipi(v, a0, a1, a2, a3);
		break;
	default:
		ret = v->exit.cpl ? -KVM_EPERM : -KVM_ENOSYS;
	}
	v->gpr[VIREO_RAX] = ret & mask;
	exit_skip(v);
	return true;
}

/* A write may need guest memory and so end in -ENOMEM. */
static noinline int exit_msr(struct vireo_vcpu *v, bool write)
{
	u64 value = (u32)v->gpr[VIREO_RAX] | v->gpr[VIREO_RDX] << 32;
	u32 index = v->gpr[VIREO_RCX];
	int err = write ? vireo_msr_set(v, index, value, false) :
			  vireo_msr_get(v, index, &value, false);

	if (err == -ENOMEM)
		return err;
	if (err) {
		inject_gp(v);
		return 0;
	}
	if (!write) {
		v->gpr[VIREO_RAX] = (u32)value;
		v->gpr[VIREO_RDX] = value >> 32;
	}
	exit_skip(v);
	return 0;
}

static void exit_xsetbv(struct vireo_vcpu *v)
{
	u64 value = (u32)v->gpr[VIREO_RAX] | v->gpr[VIREO_RDX] << 32;
	struct vireo_regs r = {};

	vireo_ops->get_regs(v, &r);
	if ((u32)v->gpr[VIREO_RCX] || (r.seg[VIREO_SS].attr >> 5 & 3) || !vireo_xcr0_ok(value)) {
		inject_gp(v);
		return;
	}
	v->xcr0 = value;
	exit_skip(v);
}

/* ---- The fast half ------------------------------------------------------------------------- */

/* Resolves an exit without sleeping, in the inner loop; false: it cannot. */
static bool exit_fast(struct vireo_vcpu *v, enum vireo_exit exit)
{
	u32 msr = v->gpr[VIREO_RCX];

	/* The hottest first: a switch is a chain of branches. */
	if (exit == VEXIT_CPUID) {
		vireo_cpuid_exec(v);
		exit_skip(v);
		return true;
	}
	if (exit == VEXIT_HYPERCALL)
		return exit_hypercall(v);
	switch (exit) {
	case VEXIT_WRMSR:
	case VEXIT_RDMSR:	/* the APIC's never sleep */
		if (msr >> 8 != 0x8 && msr != MSR_IA32_TSC_DEADLINE)
			return false;
		exit_msr(v, exit == VEXIT_WRMSR);
		return true;
	case VEXIT_HLT:
		if (!vireo_lapic_wakeup(v))
			return false;
		clear_bit(VAPIC_UNHALT, &v->apic.smi_init);
		set_bit(VREQ_EVENT, &v->requests);
		break;
	case VEXIT_SKIP:
		break;
	case VEXIT_MC:
		asm volatile("int $18");
		return true;
	case VEXIT_DR:
		return true;
	default:	/* XSETBV takes effect when the inner loop is entered again */
		return false;
	}
	exit_skip(v);
	return true;
}

static int exit_end(struct vireo_vcpu *v, u32 reason, u32 what)
{
	v->run->exit_reason = reason;
	v->run->end.what = what;
	v->run->end.code = v->exit.code;
	v->run->end.info = v->exit.gpa;
	return 1;
}

static int exit_io(struct vireo_vcpu *v)
{
	const struct vireo_exit_info *e = &v->exit;
	struct vireo_run *run = v->run;

	run->exit_reason = VIREO_EXIT_IO;
	*(u32 *)&run->io = e->io;
	run->value = v->gpr[VIREO_RAX];
	if (e->write) {
		exit_skip(v);
	} else {
		run->reg = VIREO_RAX;
		run->next_rip = v->next_rip;
		v->pending = true;
	}
	return 1;
}

/*
 * User space finds out which instruction it is, and does it: there is no decoder
 * here.  Until it replies, the guest would run it again.
 */
static noinline int exit_mmio(struct vireo_vcpu *v)
{
	const struct vireo_exit_info *e = &v->exit;
	struct vireo_run *run = v->run;

	if (e->fetch)
		return exit_end(v, VIREO_EXIT_SHUTDOWN, VIREO_SHUTDOWN_FETCH);
	v->stat[VIREO_STAT_EXIT_MMIO]++;
	run->exit_reason = VIREO_EXIT_MMIO;
	memset(&run->mmio, 0, sizeof(run->mmio));
	run->mmio.gpa = e->gpa;
	run->mmio.write = e->write;
	run->mmio.insn_len = e->insn_len;
	memcpy(run->mmio.insn, e->insn, sizeof(e->insn));
	run->mmio.regs.size = sizeof(run->mmio.regs);
	vireo_regs_get(v, &run->mmio.regs);
	run->reg = VIREO_NO_REG;
	run->next_rip = v->rip;
	v->pending = true;
	return 1;
}

/* Takes user space's reply to the last exit: 0, or -EINVAL if it is refused. */
static int run_complete(struct vireo_vcpu *v)
{
	u64 rip = READ_ONCE(v->run->next_rip), value = READ_ONCE(v->run->value);
	u32 reg = READ_ONCE(v->run->reg);

	if (rip != v->rip) {
		if (reg > VIREO_NO_REG ||
		    (rip != v->next_rip && rip - v->rip > sizeof(v->exit.insn)))
			return -EINVAL;
		if (reg != VIREO_NO_REG)
			v->gpr[reg & 15] = value;
		v->next_rip = rip;
		exit_skip(v);
	}
	v->pending = false;
	return 0;
}

/* ---- The slow half ----------------------------------------------------------------------- */

/* The hypercalls that may sleep, or go to user space. */
static int exit_hypercall_slow(struct vireo_vcpu *v)
{
	u64 mask = v->exit.wide ? ~0ULL : U32_MAX;
	u64 type = v->gpr[VIREO_RBX] & mask, code = v->gpr[VIREO_RCX] & mask;
	bool doorbell = (u32)v->gpr[VIREO_RAX] == VIREO_HC_DOORBELL;
	int ret = doorbell ? vireo_queue_ring(v->vm, type, true) :
		  type > VIREO_SYSTEM_CRASH ? -KVM_EINVAL : 0;

	v->gpr[VIREO_RAX] = ret & mask;
	exit_skip(v);
	if (doorbell || ret)
		return 0;
	v->exit.code = code;
	return exit_end(v, VIREO_EXIT_SYSTEM, type);
}

/*
 * Resolves an exit, or hands it to user space: 0 to run on, 1, or -ENOMEM.
 * Apart, because what it has on its stack costs its caller a stack guard.
 */
static noinline int exit_slow(struct vireo_vcpu *v, enum vireo_exit exit)
{
	int err;

	switch (exit) {
	case VEXIT_INTR:
	case VEXIT_RESUME:
		break;
	case VEXIT_HYPERCALL:
		return exit_hypercall_slow(v);
	case VEXIT_RDMSR:
	case VEXIT_WRMSR:
		return exit_msr(v, exit == VEXIT_WRMSR);
	case VEXIT_XSETBV:
		exit_xsetbv(v);
		break;
	case VEXIT_HLT:
		exit_skip(v);
		v->mp_state = VIREO_MP_HALTED;
		break;
	/*
	 * These can follow each other without an instruction in between, and so
	 * without an end that a host interrupt could bring (#AC or #DB in the
	 * delivery of itself): not for the inner loop.
	 */
	case VEXIT_WINDOW:
		set_bit(VREQ_EVENT, &v->requests);
		break;
	case VEXIT_EXCEPTION:
		v->inject = v->exit.event;
		break;
	case VEXIT_UD:
		v->inject = vireo_event(VEVENT_EXCEPTION, X86_TRAP_UD);
		break;
	case VEXIT_GP:
		inject_gp(v);
		break;
	case VEXIT_FAULT:
		err = vireo_mem_fault(&v->vm->mem, v->exit.gpa, v->exit.write);
		trace_vireo_fault(v, err);
		return err == -ENXIO ? exit_mmio(v) : err;
	case VEXIT_SHUTDOWN:
		return exit_end(v, VIREO_EXIT_SHUTDOWN, VIREO_SHUTDOWN_TRIPLE_FAULT);
	case VEXIT_FAIL:
		return exit_end(v, VIREO_EXIT_FAIL_ENTRY, 0);
	default:
		return exit_end(v, VIREO_EXIT_SHUTDOWN, VIREO_SHUTDOWN_EXIT);
	}
	return 0;
}

/* ---- What neither extension switches ----------------------------------------------------- */

/*
 * The extended state (x87, SSE, AVX, PKRU and what else XCR0 may name), XCR0, XSS, TSC_AUX,
 * DR0 to DR3 and the branch predictors: once for each stay on a processor, and but for the
 * first only where the two differ.
 *
 * The extended state is in the registers while the inner loop runs: what it displaces, the
 * thread's own or the kernel's idea of it, is put away before and back behind, and nobody
 * else can tell.  Otherwise it is in v->fpu, in the standard format that user space sees
 * (Intel SDM vol. 1, 13.4).
 */
struct switch_cpu {
	struct compat_cet cet;
	u64 last;		/* vCPU whose branches trained the predictors */
};

#define BITMAP_ORDER	3	/* 20 KiB for AMD-V */

static DEFINE_PER_CPU(struct switch_cpu, switch_cpus);

/* Constant after init */
static u64 host_xcr0, host_xss;	/* the same on all processors; 0: there is none */
u64 vireo_xcr0 = XFEATURE_MASK_FPSSE;
u32 vireo_xsave_size = 512 + 64;
void *vireo_bitmap;
void __percpu *vireo_cpu_pages;

/**
 * vireo_switch_init() - look at what the host has, allocate what all vCPUs use
 * Context: Module load.
 * Return: 0 or -ENOMEM; vireo_switch_exit() in any case.
 */
int vireo_switch_init(void)
{
	/* No MPX, which is dead, and no AMX, which a task has to ask for. */
	const u64 mask = XFEATURE_MASK_FPSSE | XFEATURE_MASK_YMM | XFEATURE_MASK_OPMASK |
			 XFEATURE_MASK_ZMM_Hi256 | XFEATURE_MASK_Hi16_ZMM | XFEATURE_MASK_PKRU;
	u32 i, size, offset, unused;

	if (boot_cpu_has(X86_FEATURE_OSXSAVE)) {
		host_xcr0 = xgetbv(XCR_XFEATURE_ENABLED_MASK);
		vireo_xcr0 = mask & host_xcr0;
	}
	for (i = 2; i < 64; i++) {
		if (!(vireo_xcr0 & BIT_ULL(i)))
			continue;
		cpuid_count(0xd, i, &size, &offset, &unused, &unused);
		vireo_xsave_size = max(vireo_xsave_size, size + offset);
	}
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

/* A stay begins; interrupts are off until switch_put(). */
static __always_inline void switch_load(struct vireo_vcpu *v)
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

static __always_inline void switch_put(struct vireo_vcpu *v)
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

/* ---- The loops ----------------------------------------------------------------------------- */

/* Decides what goes into the guest at this entry, and what it must wait for. */
static void run_inject(struct vireo_vcpu *v)
{
	bool nmi = test_bit(VAPIC_NMI, &v->apic.smi_init);
	u16 status = vireo_lapic_status(v);
	u8 vector = status;

	if (nmi && !v->inject.info && !v->blocked) {
		clear_bit(VAPIC_NMI, &v->apic.smi_init);
		v->inject = vireo_event(VEVENT_NMI, X86_TRAP_NMI);
		nmi = false;
	}

	if (v->apic.delivers || vector >> 4 <= status >> 12)
		vector = 0;
	if (vector >> 4 > *vireo_lapic_tpr(v) >> 4 && !v->inject.info &&
	    !(v->blocked & VIREO_BLOCKED_SHADOW) && (v->rflags & X86_EFLAGS_IF)) {
		vireo_lapic_accept(v, vector);
		v->inject = vireo_event(VEVENT_INTERRUPT, vector);
		v->stat[VIREO_STAT_INJECTED]++;
		vector = 0;
	}
	vireo_ops->apic_changed(v, status, vector, nmi);
}

/* Whether something keeps a vCPU from entering the guest again at once. */
static bool run_must_leave(struct vireo_vcpu *v)
{
	return (READ_ONCE(v->requests) & ~BIT(VREQ_EVENT)) || compat_guest_work_pending();
}

/* Whether run_requests() or run_mp_state() has something to do. */
static bool run_must_prepare(struct vireo_vcpu *v)
{
	return run_must_leave(v) || READ_ONCE(v->run->immediate_exit) ||
	       v->mp_state != VIREO_MP_RUNNABLE || v->tsc_lost != READ_ONCE(vireo_tsc_lost);
}

/* The inner loop.  Returns the exit that still has to be resolved, or VEXIT_RESUME. */
static enum vireo_exit run_inner(struct vireo_vcpu *v)
{
	enum vireo_exit exit;

	do {
		if (vireo_requested(v, VREQ_EVENT))
			run_inject(v);
		trace_vireo_entry(v, 0);
		exit = static_call(vireo_run)(v);
		trace_vireo_exit(v, exit);
		v->stat[min_t(unsigned int, exit, VIREO_STAT_EXIT_OTHER)]++;
		if ((BIT(exit) & RUN_SLOW) || !exit_fast(v, exit)) {
			v->stat[VIREO_STAT_EXIT_SLOW]++;
			return exit;
		}
	} while (!run_must_leave(v));
	return VEXIT_RESUME;
}

/* One stay on a processor, interrupts off.  Returns as run_inner(). */
static enum vireo_exit run_inside(struct vireo_vcpu *v)
{
	enum vireo_exit exit;

	vtime_account_guest_enter();
	if (v->pv.steal && vireo_steal_enter(v))
		v->flush = true;
	switch_load(v);
	static_call(vireo_load)(v);
	exit = run_inner(v);
	if (v->pv.eoi_pending)		/* outside, the APIC's state stands for itself */
		vireo_lapic_eoi_sync(v);
	static_call(vireo_put)(v);
	switch_put(v);
	if (exit == VEXIT_INTR) {
		WRITE_ONCE(v->mode, VCPU_OUTSIDE);
		rcu_note_context_switch(false);	/* the guest was no RCU reader */
		if (v->exit.handler)
			host_interrupt(v->exit.handler);
		v->exit.handler = 0;
		local_irq_enable();	/* taken here, accounted to the guest */
		cpu_relax();
		local_irq_disable();
	}
	vtime_account_guest_exit();
	return exit;
}

/* Runs the guest: 0 to go on, 1 for an exit to user space, or -errno. */
static int run_guest(struct vireo_vcpu *v)
{
	enum vireo_exit exit;
	int err = 0;

	do {
		exit = VEXIT_RESUME;
		preempt_disable();
		if (unlikely(v->cpu != smp_processor_id()))
			vireo_ops->migrate(v);
		local_irq_disable();
		WRITE_ONCE(v->mode, VCPU_INSIDE);
		smp_mb();	/* pairs with vireo_vcpu_request(): mode, then requests */
		if (unlikely(!this_cpu_read(vireo_cpu_enabled)))
			err = -EIO;
		else if (likely(!run_must_prepare(v)))
			exit = run_inside(v);
		smp_store_release(&v->mode, VCPU_OUTSIDE);	/* pages are let go of */
		local_irq_enable();
		preempt_enable();
	} while (exit == VEXIT_INTR);
	if (unlikely(err)) {
		if (READ_ONCE(vireo_down))
			return err;
		schedule_timeout_uninterruptible(1);	/* off a processor that goes offline */
	}
	return exit == VEXIT_IO ? exit_io(v) : exit_slow(v, exit); /* the hottest first */
}

/* Sleeps in HLT, or until SIPI; polls a little first where that paid off. */
static int run_block(struct vireo_vcpu *v)
{
	unsigned long queue;
	u64 start, slept;
	int err;

	/* What nobody may have rung for */
	for_each_set_bit(queue, v->vm->busy_queues, VIREO_MAX_QUEUES)
		vireo_queue_ring(v->vm, queue, false);
	start = ktime_get_ns();
	vireo_steal_leave(v);
	if (v->poll_ns && v->mp_state == VIREO_MP_HALTED) {
		do {
			if (vireo_lapic_wakeup(v)) {
				v->stat[VIREO_STAT_POLLED]++;
				return 0;
			}
			cpu_relax();
		} while (!need_resched() && ktime_get_ns() - start < v->poll_ns);
	}
	v->stat[VIREO_STAT_BLOCKED]++;
	err = rcuwait_wait_event(&v->wait, READ_ONCE(v->run->immediate_exit) ||
				 vireo_lapic_wakeup(v), TASK_INTERRUPTIBLE);
	slept = ktime_get_ns() - start;
	if (slept > POLL_MAX)
		v->poll_ns = 0;
	else
		v->poll_ns = clamp_t(u32, v->poll_ns * 2, POLL_START, POLL_MAX);
	return err;
}

/* INIT, SIPI and HLT: 0, whether the vCPU can run or not, 1 for user space, or -errno. */
static int run_mp_state(struct vireo_vcpu *v)
{
	unsigned long *req = &v->apic.smi_init;

	if (v->mp_state == VIREO_MP_RUNNABLE && !vireo_requested(v, VREQ_MP))
		return 0;
	if (test_and_clear_bit(VAPIC_INIT, req)) {
		v->mp_state = VIREO_MP_INIT;
		v->run->exit_reason = VIREO_EXIT_INIT;
		return 1;
	}
	/* Ignored unless waited for */
	if (test_and_clear_bit(VAPIC_SIPI, req) && v->mp_state == VIREO_MP_INIT) {
		v->run->value = (u8)(READ_ONCE(*req) >> VAPIC_VECTOR);
		v->run->exit_reason = VIREO_EXIT_SIPI;
		return 1;
	}
	if (v->mp_state == VIREO_MP_RUNNABLE)
		return 0;
	if (v->mp_state == VIREO_MP_INIT || !vireo_lapic_wakeup(v))
		return run_block(v);
	clear_bit(VAPIC_UNHALT, req);
	v->mp_state = VIREO_MP_RUNNABLE;
	set_bit(VREQ_EVENT, &v->requests);
	return 0;
}

/* Work that others asked for and that may sleep. */
static int run_requests(struct vireo_vcpu *v)
{
	int err = 0;

	if (READ_ONCE(v->run->immediate_exit))
		return -EINTR;
	if (vireo_requested(v, VREQ_FLUSH)) {
		v->flush = true;
		v->stat[VIREO_STAT_TLB_FLUSH]++;
		err = vireo_pv_refresh(v);
	}
	if (unlikely(v->tsc_lost != READ_ONCE(vireo_tsc_lost))) {
		v->tsc_offset += vireo_tsc_lost - v->tsc_lost;
		v->tsc_lost = vireo_tsc_lost;
	}
	if (compat_guest_work_pending()) {
		vireo_steal_leave(v);
		if (need_resched())
			schedule();
		if (signal_pending(current) || compat_user_work_pending())
			err = err ?: -EINTR;
	}
	return err;
}

/**
 * vireo_vcpu_run() - run a vCPU until user space has something to do
 * @v: the vCPU; its mutex is held
 *
 * Context: Process context; may sleep.
 * Return: 0 with v->run filled in, or -EINTR, -ENOMEM, -EIO; -EINVAL: nothing done.
 */
int vireo_vcpu_run(struct vireo_vcpu *v)
{
	int ret = v->pending ? run_complete(v) : 0;

	if (ret)
		return ret;
	rcu_assign_pointer(v->task, current);
	do {	/* the first looks whether it can */
		ret = run_guest(v) ?: run_requests(v) ?: run_mp_state(v);
	} while (!ret);
	RCU_INIT_POINTER(v->task, NULL);

	v->stat[VIREO_STAT_EXIT_USER]++;
	WRITE_ONCE(v->run->rip, v->rip);
	if (ret < 0)
		WRITE_ONCE(v->run->exit_reason,
			   ret == -EINTR ? VIREO_EXIT_INTR : VIREO_EXIT_NONE);
	return min(ret, 0);
}
