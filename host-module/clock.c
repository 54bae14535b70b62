// SPDX-License-Identifier: GPL-2.0
/*
 * Time: the TSC, KVM's paravirtual clock and steal time.
 *
 * The layout in guest memory is KVM's ABI (asm/kvm_para.h, asm/pvclock-abi.h).
 * The clock is the TSC, scaled as user space says: the parameters are the same
 * for all vCPUs, so it is monotonic across them by construction and is written
 * only when the guest switches it on, or moves its TSC.
 */
#include <linux/types.h>
#include <asm/pvclock-abi.h>

#include "vireo.h"

/* MSR_KVM_SYSTEM_TIME: where the guest wants its clock; bit 0 enables. */
static int clock_set(struct vireo_vcpu *v, u64 value)
{
	const struct vireo_clock *c = &v->vm->clock;
	struct pvclock_vcpu_time_info t = {
		.version = 2,
		/* This vCPU's TSC when the VM's clock was 0. */
		.tsc_timestamp = v->tsc_offset + c->tsc_base,
		.tsc_to_system_mul = c->tsc_mul,
		.tsc_shift = c->tsc_shift,
		.flags = check_tsc_unstable() ? 0 : PVCLOCK_TSC_STABLE_BIT,
	};

	return value & KVM_MSR_ENABLED ?
	       vireo_mem_rw(&v->vm->mem, value & ~1ULL, &t, sizeof(t), true) : 0;
}

/* MSR_KVM_WALL_CLOCK: write the time of boot there. */
static int clock_set_wall(struct vireo_vcpu *v, u64 value)
{
	const struct vireo_clock *c = &v->vm->clock;
	struct pvclock_wall_clock w = { .version = 2, .sec = c->boot_sec, .nsec = c->boot_nsec };

	return value ? vireo_mem_rw(&v->vm->mem, value, &w, sizeof(w), true) : 0;
}

/* ---- Pages that the module writes to while the vCPU runs --------------------------------- */

/* The page at an address whose low bits, in @mask, say more; bit 0: whether there is one. */
static int page_set(struct vireo_vcpu *v, void *at, u64 value, u64 mask)
{
	bool on = value & KVM_MSR_ENABLED;
	struct bio_vec bv = {};
	int err = on ? vireo_mem_pin(&v->vm->mem, value & ~mask, 1, true, &bv, NULL) : 0;

	if (err < 0)
		return err;
	*(void **)at = on ? bvec_virt(&bv) : NULL;
	if (on)
		put_page(bv.bv_page);	/* VREQ_FLUSH comes before it goes */
	return 0;
}

/**
 * vireo_pv_refresh() - look all pages up again after a flush
 * @v: the vCPU
 * Context: Process context, the vCPU's mutex held.
 * Return: 0 or -ENOMEM.
 */
int vireo_pv_refresh(struct vireo_vcpu *v)
{
	int err = page_set(v, &v->pv.steal, v->pv.steal_msr, ~KVM_STEAL_VALID_BITS) ?:
		  page_set(v, &v->pv.eoi, v->pv.eoi_msr, 3);

	if (err)	/* try again at the next VIREO_RUN */
		set_bit(VREQ_FLUSH, &v->requests);
	return err;
}

/* ---- Steal time ----------------------------------------------------------------------------- */

static u64 run_delay(void)
{
#ifdef CONFIG_SCHED_INFO
	return current->sched_info.run_delay;
#else
	return 0;
#endif
}

/**
 * vireo_steal_enter() - tell the guest that the vCPU runs, and what it missed
 * @v: the vCPU
 * Context: Interrupts off, v->mode is VCPU_INSIDE.
 * Return: Whether the guest asks for a TLB flush.
 */
bool vireo_steal_enter(struct vireo_vcpu *v)
{
	struct kvm_steal_time *st = v->pv.steal;
	u64 delay = run_delay();
	u8 was = 0;

	if (!st || (!v->pv.preempted && delay == v->pv.last_run_delay))
		return false;
	if (v->pv.task != current) {	/* another thread has another delay */
		v->pv.task = current;
		v->pv.last_run_delay = delay;
	}
	if (v->pv.preempted)
		was = xchg(&st->preempted, 0);
	v->pv.preempted = false;
	WRITE_ONCE(st->version, st->version | 1);
	smp_wmb();	/* odd version, then the data */
	WRITE_ONCE(st->steal, st->steal + delay - v->pv.last_run_delay);
	v->pv.last_run_delay = delay;
	smp_wmb();	/* the data, then an even version */
	WRITE_ONCE(st->version, st->version + 1);
	return was & KVM_VCPU_FLUSH_TLB;
}

/**
 * vireo_steal_leave() - tell the guest that the vCPU does not run
 * @v: the vCPU
 * Context: Process context, the vCPU's mutex held.
 */
void vireo_steal_leave(struct vireo_vcpu *v)
{
	struct kvm_steal_time *st = v->pv.steal;

	if (!st || v->pv.preempted)
		return;
	preempt_disable();
	WRITE_ONCE(v->mode, VCPU_INSIDE);
	smp_mb();	/* as in run_guest(): mode, then requests */
	if (!test_bit(VREQ_FLUSH, &v->requests)) {
		WRITE_ONCE(st->preempted, KVM_VCPU_PREEMPTED);
		v->pv.preempted = true;
	}
	smp_store_release(&v->mode, VCPU_OUTSIDE);	/* the page is let go of */
	preempt_enable();
}

/* ---- MSRs ----------------------------------------------------------------------------------- */

/* MSR_KVM_STEAL_TIME: where the guest wants to read it; bit 0 enables. */
static int steal_set(struct vireo_vcpu *v, u64 value)
{
	int err = value & KVM_STEAL_RESERVED_MASK ? -EINVAL :
		  page_set(v, &v->pv.steal, value, ~KVM_STEAL_VALID_BITS);

	if (err)
		return err;
	v->pv.last_run_delay = run_delay();
	v->pv.task = current;
	v->pv.preempted = value & KVM_MSR_ENABLED;	/* so that the next entry writes it */
	return 0;
}

/**
 * vireo_pv_set_msr() - one of KVM's MSRs gets a value, which the caller keeps
 * @v: the vCPU
 * @index: its number
 * @value: what is written
 * Context: Process context, the vCPU's mutex held.
 * Return: 0, -EINVAL, -ENXIO (no RAM there) or -ENOMEM.
 */
int vireo_pv_set_msr(struct vireo_vcpu *v, u32 index, u64 value)
{
	switch (index) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
		return clock_set_wall(v, value);
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW:
		return clock_set(v, value);
	case MSR_KVM_STEAL_TIME:
		return steal_set(v, value);
	case MSR_KVM_PV_EOI_EN:		/* a 4-byte word; bit 0 enables */
		return value & BIT_ULL(1) ? -EINVAL : page_set(v, &v->pv.eoi, value, 3);
	}
	return 0;
}
