// SPDX-License-Identifier: GPL-2.0
/*
 * The run loop of a vCPU.
 *
 * The inner loop runs with interrupts off on one processor: enter the guest,
 * resolve the exit if that needs no sleep, enter again.  It leaves for what
 * may sleep, for requests of others, and when the host needs the thread.
 */
#include <linux/ktime.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/static_call.h>
#include <linux/vtime.h>

#include "vireo.h"
#include "compat.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

/* Halt polling, ns: doubled from the start when a sleep was short, else 0. */
#define POLL_START	10000
#define POLL_MAX	200000

/* The backend's hottest operations, without an indirect branch */
DEFINE_STATIC_CALL_NULL(run_op_load, *((struct vireo_ops *)NULL)->load);
DEFINE_STATIC_CALL_NULL(run_op_put, *((struct vireo_ops *)NULL)->put);
DEFINE_STATIC_CALL_NULL(run_op_run, *((struct vireo_ops *)NULL)->run);

/* Exits that never end in the inner loop */
#define RUN_SLOW	(BIT(VEXIT_IO) | BIT(VEXIT_FAULT) | BIT(VEXIT_INTR))

/* Which counters an exit adds to. */
static const u8 exit_stat[VEXIT_COUNT] = {
	[VEXIT_RESUME] = VIREO_STAT_EXIT_OTHER,
	[VEXIT_INTR] = VIREO_STAT_EXIT_INTR,
	[VEXIT_CPUID] = VIREO_STAT_EXIT_CPUID,
	[VEXIT_HYPERCALL] = VIREO_STAT_EXIT_HYPERCALL,
	[VEXIT_IO] = VIREO_STAT_EXIT_IO,
	[VEXIT_FAULT] = VIREO_STAT_EXIT_PAGE_FAULT,	/* or MMIO, see exit.c */
	[VEXIT_RDMSR] = VIREO_STAT_EXIT_MSR_READ,
	[VEXIT_WRMSR] = VIREO_STAT_EXIT_MSR_WRITE,
	[VEXIT_HLT] = VIREO_STAT_EXIT_HLT,
	[VEXIT_WINDOW] = VIREO_STAT_EXIT_WINDOW,
	[VEXIT_XSETBV] = VIREO_STAT_EXIT_OTHER,
	[VEXIT_EXCEPTION] = VIREO_STAT_EXIT_EXCEPTION,
	[VEXIT_DR] = VIREO_STAT_EXIT_DR,
	[VEXIT_UD] = VIREO_STAT_EXIT_EXCEPTION,
	[VEXIT_GP] = VIREO_STAT_EXIT_EXCEPTION,
	[VEXIT_SKIP] = VIREO_STAT_EXIT_OTHER,
	[VEXIT_SHUTDOWN] = VIREO_STAT_EXIT_OTHER,
	[VEXIT_FAIL] = VIREO_STAT_EXIT_OTHER,
	[VEXIT_UNKNOWN] = VIREO_STAT_EXIT_OTHER,
};

/* Decides what goes into the guest at this entry, and what it must wait for. */
static void run_inject(struct vireo_vcpu *v)
{
	int vector;
	bool nmi;

	if (v->pv.eoi_pending)
		vireo_pv_eoi_sync(v);
	if (test_bit(VAPIC_NMI, &v->apic.smi_init) &&
	    test_and_clear_bit(VAPIC_NMI, &v->apic.smi_init))
		v->nmi_pending = true;

	nmi = v->nmi_pending;
	if (nmi && !v->inject.info && !v->blocked) {
		v->inject = vireo_event(VEVENT_NMI, X86_TRAP_NMI);
		v->nmi_pending = false;
		nmi = false;
	}

	vireo_ops->apic_changed(v);
	vector = v->apic.delivers ? -1 : vireo_lapic_pending(v);
	if (vector >= 0 && !v->inject.info && !(v->blocked & VIREO_BLOCKED_SHADOW) &&
	    (v->rflags & X86_EFLAGS_IF) && vector >> 4 > *vireo_lapic_tpr(v) >> 4) {
		vireo_lapic_accept(v, vector);
		v->inject = vireo_event(VEVENT_INTERRUPT, vector);
		vireo_stat_inc(v, VIREO_STAT_INJECTED);
		vector = -1;
	}
	if (v->window || nmi || vector >= 0) {
		vireo_ops->want_window(v, vector >= 0, vector >= 0 ? vector : 0, nmi);
		v->window = nmi || vector >= 0;
	}
}

/* Whether something keeps a vCPU from entering the guest again at once. */
static bool run_must_leave(struct vireo_vcpu *v)
{
	return (READ_ONCE(v->requests) & ~BIT(VREQ_EVENT)) || compat_guest_work_pending();
}

/* Whether run_prepare() has something to do. */
static bool run_must_prepare(struct vireo_vcpu *v)
{
	return run_must_leave(v) || READ_ONCE(v->run->immediate_exit) ||
	       v->mp_state != VIREO_MP_RUNNABLE || v->tsc_lost != READ_ONCE(vireo_tsc_lost);
}

/* The inner loop.  Returns whether @exit still has to be resolved. */
static bool run_inner(struct vireo_vcpu *v, enum vireo_exit *exit)
{
	do {
		if (vireo_requested(v, VREQ_EVENT))
			run_inject(v);
		trace_vireo_entry(v, 0);
		*exit = static_call(run_op_run)(v);
		trace_vireo_exit(v, *exit);
		vireo_stat_inc(v, exit_stat[*exit]);
		if ((BIT(*exit) & RUN_SLOW) || !vireo_exit_fast(v, *exit)) {
			v->slow_exits++;
			return true;
		}
	} while (!run_must_leave(v));
	return false;
}

/* One stay on a processor, interrupts off.  Returns as run_inner(). */
static bool run_inside(struct vireo_vcpu *v, enum vireo_exit *exit)
{
	bool unresolved;

	vtime_account_guest_enter();
	if (v->pv.steal.kva && vireo_steal_enter(v))
		v->flush = true;
	vireo_fpu_enter(v);
	static_call(run_op_load)(v);
	unresolved = run_inner(v, exit);
	if (v->pv.eoi_pending)		/* outside, the APIC's state stands for itself */
		vireo_pv_eoi_sync(v);
	static_call(run_op_put)(v);
	vireo_fpu_leave(v);
	if (*exit == VEXIT_INTR) {
		WRITE_ONCE(v->mode, VCPU_OUTSIDE);
		compat_rcu_quiescent();
		local_irq_enable();	/* taken here, accounted to the guest */
		cpu_relax();
		local_irq_disable();
	}
	vtime_account_guest_exit();
	return unresolved;
}

/* Runs the guest: 0 to go on, 1 for an exit to user space, or -errno. */
static int run_guest(struct vireo_vcpu *v)
{
	enum vireo_exit exit = VEXIT_RESUME;
	bool unresolved;
	int err = 0;

	do {
		unresolved = false;
		preempt_disable();
		if (unlikely(v->cpu != smp_processor_id()))
			vireo_ops->migrate(v);
		local_irq_disable();
		WRITE_ONCE(v->mode, VCPU_INSIDE);
		smp_mb();	/* pairs with vireo_vcpu_request(): mode, then requests */
		if (unlikely(!this_cpu_read(vireo_cpu_enabled)))
			err = -EIO;
		else if (likely(!run_must_prepare(v)))
			unresolved = run_inside(v, &exit);
		else
			exit = VEXIT_RESUME;
		smp_store_release(&v->mode, VCPU_OUTSIDE);	/* pages are let go of */
		local_irq_enable();
		preempt_enable();
	} while (exit == VEXIT_INTR && !err);
	if (unlikely(err)) {
		if (READ_ONCE(vireo_down))
			return err;
		schedule_timeout_uninterruptible(1);	/* off a processor that goes offline */
		return 0;
	}
	if (!unresolved)
		return 0;
	return vireo_exit_slow(v, exit);
}

/* Whether a vCPU that sleeps has a reason to get up. */
static bool run_wakeup(struct vireo_vcpu *v)
{
	if (READ_ONCE(v->run->immediate_exit))
		return true;
	return vireo_lapic_wakeup(v);
}

/* Sleeps in HLT, or until SIPI; polls a little first where that paid off. */
static int run_block(struct vireo_vcpu *v)
{
	ktime_t start = ktime_get();
	u64 slept;
	int err;

	vireo_steal_leave(v);
	if (v->poll_ns && v->mp_state == VIREO_MP_HALTED) {
		do {
			if (run_wakeup(v)) {
				vireo_stat_inc(v, VIREO_STAT_POLLED);
				return 0;
			}
			cpu_relax();
		} while (!need_resched() &&
			 ktime_to_ns(ktime_sub(ktime_get(), start)) < v->poll_ns);
	}
	vireo_stat_inc(v, VIREO_STAT_BLOCKED);
	err = rcuwait_wait_event(&v->wait, run_wakeup(v), TASK_INTERRUPTIBLE);
	slept = ktime_to_ns(ktime_sub(ktime_get(), start));
	if (slept > POLL_MAX)
		v->poll_ns = 0;
	else
		v->poll_ns = clamp_t(u32, v->poll_ns * 2, POLL_START, POLL_MAX);
	return err;
}

/* INIT, SIPI and HLT: 0 when the vCPU can run, 1 to look again, or -errno. */
static int run_mp_state(struct vireo_vcpu *v)
{
	unsigned long *req = &v->apic.smi_init;

	if (test_and_clear_bit(VAPIC_INIT, req))
		vireo_vcpu_reset(v, true);
	if (v->mp_state == VIREO_MP_INIT) {
		if (!test_and_clear_bit(VAPIC_SIPI, req))
			return run_block(v) ?: 1;
		vireo_vcpu_sipi(v, READ_ONCE(v->apic.sipi_vector));
	}
	clear_bit(VAPIC_SIPI, req);	/* ignored unless waited for */
	if (v->mp_state == VIREO_MP_HALTED) {
		if (!vireo_lapic_wakeup(v))
			return run_block(v) ?: 1;
		clear_bit(VAPIC_UNHALT, req);
		v->mp_state = VIREO_MP_RUNNABLE;
		set_bit(VREQ_EVENT, &v->requests);
	}
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
		vireo_stat_inc(v, VIREO_STAT_TLB_FLUSH);
		err = vireo_pv_refresh(v);
	}
	if (unlikely(v->tsc_lost != READ_ONCE(vireo_tsc_lost))) {
		v->tsc_offset += vireo_tsc_lost - v->tsc_lost;
		v->tsc_lost = vireo_tsc_lost;
		vireo_ops->tsc_changed(v);
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

/* Before the guest can be entered: 0, 1 to look again, or -errno. */
static int run_prepare(struct vireo_vcpu *v)
{
	int err = run_requests(v);

	if (err)
		return err;
	if (v->mp_state != VIREO_MP_RUNNABLE || vireo_requested(v, VREQ_MP))
		return run_mp_state(v);
	return 0;
}

/**
 * vireo_run_init() - the backend is chosen
 * Context: Module load.
 */
void vireo_run_init(void)
{
	static_call_update(run_op_load, vireo_ops->load);
	static_call_update(run_op_put, vireo_ops->put);
	static_call_update(run_op_run, vireo_ops->run);
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
	int ret = v->pending_io == VIO_NONE ? 0 : vireo_exit_complete(v);

	if (ret)
		return ret;
	rcu_assign_pointer(v->task, current);
	for (;;) {
		ret = run_guest(v);	/* which looks whether it can */
		if (ret)
			break;
		ret = run_prepare(v);
		if (ret < 0)
			break;
	}
	RCU_INIT_POINTER(v->task, NULL);

	vireo_stat_inc(v, VIREO_STAT_EXIT_USER);
	WRITE_ONCE(v->run->rip, v->rip);
	if (ret < 0)
		WRITE_ONCE(v->run->exit_reason,
			   ret == -EINTR ? VIREO_EXIT_INTR : VIREO_EXIT_NONE);
	return min(ret, 0);
}
