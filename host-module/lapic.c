// SPDX-License-Identifier: GPL-2.0
/*
 * The local APIC, in x2APIC mode only (Intel SDM vol. 3, 11.12).
 *
 * The registers are in a page as the processor's own are, which VT-x can work
 * on while the guest runs.  It belongs to the vCPU's own thread; others ask for
 * an interrupt in @pir, or for more in @smi_init.  All interrupts are
 * edge-triggered: there is no I/O APIC.  The timer counts at 1 GHz before its
 * divider.
 */
#include <linux/ktime.h>
#include <asm/apicdef.h>

#include "vireo.h"

/* MSR numbers of the registers */
enum {
	X2_ID = 0x802, X2_VERSION = 0x803, X2_TPR = 0x808, X2_PPR = 0x80a,
	X2_EOI = 0x80b, X2_LDR = 0x80d, X2_SVR = 0x80f, X2_ISR = 0x810,
	X2_TMR = 0x818, X2_IRR = 0x820, X2_ESR = 0x828, X2_ICR = 0x830,
	X2_LVT_TIMER = 0x832, X2_LVT_ERROR = 0x837, X2_TIMER_INIT = 0x838,
	X2_TIMER_NOW = 0x839, X2_TIMER_DIV = 0x83e, X2_SELF_IPI = 0x83f,
};

#define VERSION		0x00050014	/* six LVT entries */
#define ESR_SEND_VECTOR	BIT(5)
#define PERIOD_MIN	100000		/* ns between interrupts of a periodic timer */
#define ICR_SHORTHAND	0xc0000
#define BROADCAST	U32_MAX

#define to_apic(v)	(&(v)->apic)

static u32 *reg(const struct vireo_lapic_state *a, u32 msr)
{
	return a->page + ((msr & 0xff) << 4);
}

static bool apic_enabled(const struct vireo_lapic_state *a)
{
	return READ_ONCE(*reg(a, X2_SVR)) & APIC_SPIV_APIC_ENABLED;
}

/* Highest vector set in the IRR or ISR, 0 for none. */
static u8 highest(const struct vireo_lapic_state *a, u32 map)
{
	int i;

	for (i = 7; i >= 0; i--) {
		u32 w = *reg(a, map + i);

		if (w)
			return i * 32 + __fls(w);
	}
	return 0;
}

/* What others have asked for since the last look goes into the IRR. */
static void apic_sync(struct vireo_lapic_state *a)
{
	unsigned int i;

	for (i = 0; i < 4; i++) {
		u64 w = READ_ONCE(a->pir[i]) ? xchg(&a->pir[i], 0) : 0;

		*reg(a, X2_IRR + 2 * i) |= w;
		*reg(a, X2_IRR + 2 * i + 1) |= w >> 32;
	}
}

/* ---- Interrupts on their way to the guest ------------------------------------------------- */

/* A fixed interrupt arrives; returns whether the APIC takes it. */
static bool apic_raise(struct vireo_vcpu *v, u8 vector)
{
	struct vireo_lapic_state *a = to_apic(v);

	if (!apic_enabled(a) || vector < 16)
		return false;
	if (!test_and_set_bit(vector, a->pir))
		vireo_vcpu_request(v, VREQ_EVENT);
	return true;
}

/* An interrupt of the APIC's own, if its LVT entry lets it through */
static void lvt_raise(struct vireo_vcpu *v, u32 msr)
{
	u32 entry = READ_ONCE(*reg(&v->apic, msr));

	if (!(entry & APIC_LVT_MASKED))
		apic_raise(v, entry);
}

/**
 * vireo_lapic_status() - what a processor has to know to deliver by itself
 * @v: the vCPU
 * Context: The vCPU's own thread.
 * Return: Highest vector in service in bits 15:8, requested in 7:0; 0 for none.
 */
u16 vireo_lapic_status(struct vireo_vcpu *v)
{
	struct vireo_lapic_state *a = to_apic(v);

	apic_sync(a);
	return highest(a, X2_ISR) << 8 | (apic_enabled(a) ? highest(a, X2_IRR) : 0);
}

/**
 * vireo_lapic_pending() - the interrupt to deliver next
 * @v: the vCPU; the task priority is the caller's to compare
 * Context: The vCPU's own thread.
 * Return: Its vector, or 0: none above what is in service.
 */
u8 vireo_lapic_pending(struct vireo_vcpu *v)
{
	u16 status = vireo_lapic_status(v);
	u8 vector = status;

	return vector >> 4 > status >> 12 ? vector : 0;
}

/**
 * vireo_lapic_accept() - an interrupt goes in: from requested to in service
 * @v: the vCPU
 * @vector: what vireo_lapic_pending() gave
 *
 * If nothing else is in service or waiting, the guest is offered to end it in memory.
 * Context: The inner loop.
 */
void vireo_lapic_accept(struct vireo_vcpu *v, u8 vector)
{
	struct vireo_lapic_state *a = to_apic(v);
	bool alone = !highest(a, X2_ISR);

	*reg(a, X2_IRR + vector / 32) &= ~BIT(vector % 32);
	*reg(a, X2_ISR + vector / 32) |= BIT(vector % 32);
	if (alone && v->pv.eoi && !highest(a, X2_IRR)) {
		WRITE_ONCE(*v->pv.eoi, 1);
		v->pv.eoi_pending = true;
	}
}

/* The guest has dealt with the highest interrupt in service. */
static void apic_eoi(struct vireo_vcpu *v)
{
	struct vireo_lapic_state *a = to_apic(v);
	u8 vector = highest(a, X2_ISR);

	*reg(a, X2_ISR + vector / 32) &= ~BIT(vector % 32);	/* there is no vector 0 */
	if (highest(a, X2_IRR))	/* of what is in @pir the request is set */
		set_bit(VREQ_EVENT, &v->requests);
}

/**
 * vireo_lapic_eoi_sync() - see whether the guest took the offer; withdraw it
 * @v: the vCPU; the offer stands
 * Context: Interrupts off, v->mode is VCPU_INSIDE.
 */
void vireo_lapic_eoi_sync(struct vireo_vcpu *v)
{
	v->pv.eoi_pending = false;
	if (!v->pv.eoi)
		return;
	if (!READ_ONCE(*v->pv.eoi))
		apic_eoi(v);
	WRITE_ONCE(*v->pv.eoi, 0);
}

/**
 * vireo_lapic_wakeup() - whether something ends HLT, or the wait for SIPI
 * @v: the vCPU
 * Context: The vCPU's own thread.
 * Return: True if so.
 */
bool vireo_lapic_wakeup(struct vireo_vcpu *v)
{
	unsigned long req = READ_ONCE(v->apic.smi_init);

	if (v->mp_state == VIREO_MP_INIT)
		return req & (BIT(VAPIC_SIPI) | BIT(VAPIC_INIT));
	if ((req & (BIT(VAPIC_INIT) | BIT(VAPIC_UNHALT))) || v->inject.info)
		return true;
	if ((req & BIT(VAPIC_NMI)) && !(v->blocked & VIREO_BLOCKED_NMI))
		return true;
	return (v->rflags & X86_EFLAGS_IF) &&
	       vireo_lapic_pending(v) >> 4 > *vireo_lapic_tpr(v) >> 4;
}

/* ---- Interprocessor interrupts -------------------------------------------------------------- */

static void apic_signal(struct vireo_vcpu *v, int bit)
{
	set_bit(bit, &v->apic.smi_init);
	vireo_vcpu_request(v, bit == VAPIC_NMI ? VREQ_EVENT : VREQ_MP);
}

/* Delivers to one vCPU; returns whether it takes it. */
static bool apic_deliver(struct vireo_vcpu *v, u32 mode, u8 vector)
{
	switch (mode) {
	case APIC_DM_FIXED:
	case APIC_DM_LOWEST:
		return apic_raise(v, vector);
	case APIC_DM_NMI:
		apic_signal(v, VAPIC_NMI);
		return true;
	case APIC_DM_INIT:
		clear_bit(VAPIC_SIPI, &v->apic.smi_init);
		apic_signal(v, VAPIC_INIT);
		return true;
	case APIC_DM_STARTUP:
		WRITE_ONCE(v->apic.sipi_vector, vector);
		smp_wmb();	/* the vector, then the request */
		apic_signal(v, VAPIC_SIPI);
		return true;
	}
	return false;
}

/* Logical x2APIC id: cluster of 16, and a bit in it (SDM vol. 3, 11.12.10.2). */
static u32 logical_id(u32 id)
{
	return (id >> 4) << 16 | BIT(id & 15);
}

static bool dest_matches(u32 id, u32 dest, bool logical)
{
	u32 own = logical_id(id);

	if (dest == BROADCAST)
		return true;
	if (!logical)
		return id == dest;
	return own >> 16 == dest >> 16 && (own & dest & 0xffff);
}

/* Returns how many vCPUs took it. */
static int apic_send(struct vireo_vm *vm, u32 dest, bool logical, u32 mode, u8 vector,
		     struct vireo_vcpu *except)
{
	bool one = !logical && dest != BROADCAST;
	unsigned int i, n = 0;

	for (i = one ? dest : 0; i < (one ? dest + 1 : vm->max_vcpus); i++) {
		struct vireo_vcpu *v = vireo_vcpu_by_id(vm, i);

		if (!v || v == except || !dest_matches(i, dest, logical) ||
		    !apic_deliver(v, mode, vector))
			continue;
		n++;
		if (mode == APIC_DM_LOWEST)	/* one of them: the first will do */
			break;
	}
	return n;
}

static void apic_ipi(struct vireo_vcpu *v, u64 icr)
{
	u32 low = icr, mode = low & APIC_MODE_MASK, shorthand = low & ICR_SHORTHAND;
	u8 vector = low;

	if ((mode == APIC_DM_FIXED || mode == APIC_DM_LOWEST) && vector < 16) {
		v->apic.esr_next |= ESR_SEND_VECTOR;
		lvt_raise(v, X2_LVT_ERROR);
		return;
	}
	/* INIT with the level de-asserted does nothing since the Pentium 4. */
	if (mode == APIC_DM_INIT && (low & APIC_INT_LEVELTRIG) && !(low & APIC_INT_ASSERT))
		return;

	if (!shorthand)
		apic_send(v->vm, icr >> 32, low & APIC_DEST_LOGICAL, mode, vector, NULL);
	else if (shorthand != APIC_DEST_SELF)
		apic_send(v->vm, BROADCAST, false, mode, vector,
			  shorthand == APIC_DEST_ALLBUT ? v : NULL);
	else if (mode == APIC_DM_FIXED || mode == APIC_DM_NMI)
		apic_deliver(v, mode, vector);
}

/**
 * vireo_lapic_msi_ok() - whether a message is an interrupt that this APIC takes
 * @address: message address
 * @data: message data
 * Context: Any.
 * Return: True if vireo_lapic_msi() would not fail.
 */
bool vireo_lapic_msi_ok(u64 address, u32 data)
{
	u32 mode = data & APIC_MODE_MASK;

	if (address >> 20 != 0xfee || (data & 0xffff3800))
		return false;
	if (mode == APIC_DM_NMI)
		return true;
	return (mode == APIC_DM_FIXED || mode == APIC_DM_LOWEST) && (data & 0xff) >= 16;
}

/**
 * vireo_lapic_msi() - a message-signalled interrupt
 * @vm: the VM
 * @address: message address
 * @data: message data
 * Context: Any, also with interrupts off.
 * Return: How many vCPUs took it, or -EINVAL.
 */
int vireo_lapic_msi(struct vireo_vm *vm, u64 address, u32 data)
{
	u32 dest = (address >> 12 & 0xff) | (address >> 5 & 0x7f) << 8;

	if (!vireo_lapic_msi_ok(address, data))
		return -EINVAL;
	return apic_send(vm, dest == 0xff ? BROADCAST : dest, address & BIT(2),
			 data & APIC_MODE_MASK, data, NULL);
}

/* ---- Timer ---------------------------------------------------------------------------------- */

enum { TIMER_ONESHOT, TIMER_PERIODIC, TIMER_DEADLINE };

static unsigned int timer_mode(const struct vireo_lapic_state *a)
{
	return READ_ONCE(*reg(a, X2_LVT_TIMER)) >> 17 & 3;
}

/* ns of one count */
static u64 timer_divisor(const struct vireo_lapic_state *a)
{
	u32 divide = *reg(a, X2_TIMER_DIV), d = (divide & 3) | (divide >> 1 & 4);

	return 1ULL << ((d + 1) & 7);
}

static enum hrtimer_restart timer_fired(struct hrtimer *timer)
{
	struct vireo_lapic_state *a = container_of(timer, struct vireo_lapic_state, timer);
	struct vireo_vcpu *v = container_of(a, struct vireo_vcpu, apic);
	u64 period = READ_ONCE(a->timer_period);

	if (timer_mode(a) == TIMER_DEADLINE)
		WRITE_ONCE(a->tsc_deadline, 0);
	lvt_raise(v, X2_LVT_TIMER);
	if (!period)
		return HRTIMER_NORESTART;
	hrtimer_forward_now(timer, ns_to_ktime(period));
	return HRTIMER_RESTART;
}

static void timer_stop(struct vireo_lapic_state *a)
{
	hrtimer_cancel(&a->timer);	/* its end would clear a new deadline */
	WRITE_ONCE(a->timer_period, 0);
	WRITE_ONCE(a->tsc_deadline, 0);
}

static void timer_start(struct vireo_lapic_state *a, u64 ns)
{
	hrtimer_start(&a->timer, ktime_add_ns(ktime_get(), min_t(u64, ns, KTIME_MAX / 4)),
		      HRTIMER_MODE_ABS_HARD);
}

/* An initial count was written, or the timer goes on with @left ns. */
static void timer_arm(struct vireo_lapic_state *a, u64 left)
{
	u64 ns = *reg(a, X2_TIMER_INIT) * timer_divisor(a);

	timer_stop(a);
	if (!ns || timer_mode(a) == TIMER_DEADLINE)
		return;
	if (timer_mode(a) == TIMER_PERIODIC)
		WRITE_ONCE(a->timer_period, max_t(u64, ns, PERIOD_MIN));
	timer_start(a, left);
}

static u64 timer_left(struct vireo_lapic_state *a)
{
	return hrtimer_active(&a->timer) ? max(hrtimer_get_remaining(&a->timer), 0LL) : 0;
}

static u32 timer_now(struct vireo_lapic_state *a)
{
	if (timer_mode(a) == TIMER_DEADLINE)
		return 0;
	return min_t(u64, div64_u64(timer_left(a), timer_divisor(a)), *reg(a, X2_TIMER_INIT));
}

static u64 tsc_to_ns(u64 ticks)
{
	/* Beyond 35 years is never, and would overflow the division. */
	return mul_u64_u64_div_u64(min(ticks, (u64)tsc_khz << 40), 1000000, tsc_khz);
}

/**
 * vireo_lapic_set_deadline() - write IA32_TSC_DEADLINE
 * @v: the vCPU
 * @tsc: guest TSC at which to interrupt, 0 to disarm
 * Context: The vCPU's own thread, also with interrupts off.
 */
void vireo_lapic_set_deadline(struct vireo_vcpu *v, u64 tsc)
{
	struct vireo_lapic_state *a = to_apic(v);
	u64 now = vireo_guest_tsc(v);

	if (timer_mode(a) != TIMER_DEADLINE)
		return;
	timer_stop(a);
	if (tsc > now) {
		WRITE_ONCE(a->tsc_deadline, tsc);
		timer_start(a, tsc_to_ns(tsc - now));
	} else if (tsc) {
		lvt_raise(v, X2_LVT_TIMER);
	}
}

/* A change to or from deadline mode disarms (SDM vol. 3, 11.5.4.1). */
static void timer_mode_changed(struct vireo_lapic_state *a, unsigned int was)
{
	if (was != TIMER_DEADLINE && timer_mode(a) != TIMER_DEADLINE) {
		timer_arm(a, timer_left(a));
		return;
	}
	timer_stop(a);
	*reg(a, X2_TIMER_INIT) = 0;
}

/* ---- Registers ------------------------------------------------------------------------------ */

/* The registers that can be written, and the bits of each, by number: 0 to 3fh */
#define WRITABLE	0xc1fd010000008900ULL

static const u64 writable[] = {
	[X2_TPR & 0x3f] = 0xff,
	[X2_SVR & 0x3f] = 0x1ff,
	[X2_ICR & 0x3f] = ~0xfff32000ULL,
	[X2_LVT_TIMER & 0x3f] = 0x710ff,
	[0x33 ... 0x34] = 0x117ff,		/* thermal, performance */
	[0x35 ... 0x36] = 0x1b7ff,		/* LINT0, LINT1 */
	[X2_LVT_ERROR & 0x3f] = 0x110ff,
	[X2_TIMER_INIT & 0x3f] = U32_MAX,
	[X2_TIMER_DIV & 0x3f] = 0xb,
	[X2_SELF_IPI & 0x3f] = 0xff,
};

/* Checks a value against the reserved bits of its register. */
static bool write_allowed(u32 msr, u64 value)
{
	if (msr == X2_LVT_TIMER && (value >> 17 & 3) == 3)	/* no such mode */
		return false;
	return msr <= X2_SELF_IPI && (WRITABLE & BIT_ULL(msr & 0x3f)) &&
	       !(value & ~writable[msr & 0x3f]);
}

static u32 apic_ppr(struct vireo_vcpu *v)
{
	u8 tpr = *vireo_lapic_tpr(v), isr = highest(&v->apic, X2_ISR);

	return tpr >> 4 >= isr >> 4 ? tpr : isr & 0xf0;
}

/**
 * vireo_lapic_read() - read a register
 * @v: the vCPU
 * @msr: 0x800 to 0x8ff
 * @value: where to
 * Context: The vCPU's own thread, also with interrupts off.
 * Return: 0 or -ENOENT: no such register, or it cannot be read.
 */
int vireo_lapic_read(struct vireo_vcpu *v, u32 msr, u64 *value)
{
	struct vireo_lapic_state *a = to_apic(v);

	if (msr > X2_SELF_IPI || !(VIREO_APIC_READABLE & BIT_ULL(msr & 0x3f)))
		return -ENOENT;
	if (v->pv.eoi_pending)
		vireo_lapic_eoi_sync(v);
	if (msr >= X2_IRR && msr <= X2_IRR + 7)
		apic_sync(a);
	*value = msr == X2_PPR ? apic_ppr(v) : msr == X2_TIMER_NOW ? timer_now(a) :
		 msr == X2_ICR ? *(u64 *)reg(a, X2_ICR) : *reg(a, msr);
	return 0;
}

/**
 * vireo_lapic_write() - write a register
 * @v: the vCPU
 * @msr: 0x800 to 0x8ff
 * @value: what to write
 * Context: The vCPU's own thread, also with interrupts off.
 * Return: 0 or -EINVAL: no such register, or reserved bits.
 */
int vireo_lapic_write(struct vireo_vcpu *v, u32 msr, u64 value)
{
	struct vireo_lapic_state *a = to_apic(v);
	unsigned int i, mode = timer_mode(a);

	if (!write_allowed(msr, value))
		return -EINVAL;
	switch (msr) {
	case X2_EOI:
		vireo_stat_inc(v, VIREO_STAT_EXIT_EOI);
		apic_eoi(v);
		return 0;
	case X2_ICR:
		*(u64 *)reg(a, X2_ICR) = value & ~(u64)APIC_ICR_BUSY;
		fallthrough;
	case X2_SELF_IPI:
		vireo_stat_inc(v, VIREO_STAT_EXIT_ICR);
		apic_ipi(v, msr == X2_ICR ? value : value | APIC_DEST_SELF);
		return 0;
	case X2_TIMER_INIT:
		vireo_stat_inc(v, VIREO_STAT_EXIT_TIMER);
		if (mode == TIMER_DEADLINE)
			return 0;
		*reg(a, msr) = value;
		timer_arm(a, value * timer_divisor(a));
		return 0;
	case X2_SVR:
		for (i = X2_LVT_TIMER; i <= X2_LVT_ERROR && !(value & APIC_SPIV_APIC_ENABLED); i++)
			*reg(a, i) |= APIC_LVT_MASKED;
		break;
	case X2_ESR:		/* shows what came up since the last write */
		value = a->esr_next;
		a->esr_next = 0;
		break;
	case X2_LVT_TIMER ... X2_LVT_ERROR:
		value &= ~(u64)BIT(12);		/* delivery status is read-only */
		value |= apic_enabled(a) ? 0 : APIC_LVT_MASKED;
	}
	WRITE_ONCE(*reg(a, msr), value);
	if (timer_mode(a) != mode)
		timer_mode_changed(a, mode);
	set_bit(VREQ_EVENT, &v->requests);	/* TPR and SVR let interrupts in */
	return 0;
}

/* ---- All of it --------------------------------------------------------------------------- */

static void lapic_get(struct vireo_vcpu *v, struct vireo_lapic *s)
{
	struct vireo_lapic_state *a = to_apic(v);
	unsigned int i;

	/* The timer first: one that fires now is seen twice rather than not at all. */
	s->timer_current = timer_now(a);
	s->timer_left = hrtimer_active(&a->timer) ? timer_left(a) : ~0ULL;
	s->tsc_deadline = READ_ONCE(a->tsc_deadline);
	while (hrtimer_callback_running(&a->timer))
		cpu_relax();
	apic_sync(a);
	for (i = 0; i < 8; i++) {
		s->irr[i] = *reg(a, X2_IRR + i);
		s->isr[i] = *reg(a, X2_ISR + i);
	}
	for (i = 0; i <= APIC_LVT_ERROR; i++)
		s->lvt[i] = *reg(a, X2_LVT_TIMER + i);
	s->lvt[APIC_LVT_CMCI] = APIC_LVT_MASKED;
	s->svr = *reg(a, X2_SVR);
	s->esr = *reg(a, X2_ESR);
	s->esr_next = a->esr_next;
	s->requests = READ_ONCE(a->smi_init) & VIREO_LAPIC_REQUESTS;
	s->sipi_vector = READ_ONCE(a->sipi_vector);
	s->timer_initial = *reg(a, X2_TIMER_INIT);
	s->timer_divide = *reg(a, X2_TIMER_DIV);
	s->icr = *(u64 *)reg(a, X2_ICR);
}

static bool state_allowed(const struct vireo_lapic *s)
{
	unsigned int i;

	for (i = 0; i <= APIC_LVT_ERROR; i++)
		if (!write_allowed(X2_LVT_TIMER + i, s->lvt[i]))
			return false;
	return !((s->irr[0] | s->isr[0]) & 0xffff || s->lvt[APIC_LVT_CMCI] != APIC_LVT_MASKED ||
		 (s->requests & ~VIREO_LAPIC_REQUESTS) || s->sipi_vector >> 8 ||
		 s->esr_next >> 8 || s->reserved) &&
	       write_allowed(X2_SVR, s->svr) && write_allowed(X2_TIMER_DIV, s->timer_divide) &&
	       write_allowed(X2_ICR, s->icr);
}

/* All but what others have asked for */
static void apic_load(struct vireo_vcpu *v, const struct vireo_lapic *s)
{
	struct vireo_lapic_state *a = to_apic(v);
	unsigned int i;

	timer_stop(a);
	apic_sync(a);
	for (i = 0; i < 8; i++) {
		*reg(a, X2_IRR + i) = s->irr[i];
		*reg(a, X2_ISR + i) = s->isr[i];
	}
	for (i = 0; i <= APIC_LVT_ERROR; i++)
		*reg(a, X2_LVT_TIMER + i) = s->lvt[i];
	*reg(a, X2_SVR) = s->svr;
	*reg(a, X2_ESR) = s->esr;
	a->esr_next = s->esr_next;
	*(u64 *)reg(a, X2_ICR) = s->icr;
	*reg(a, X2_TIMER_INIT) = s->timer_initial;
	*reg(a, X2_TIMER_DIV) = s->timer_divide;
	if (timer_mode(a) == TIMER_DEADLINE)
		vireo_lapic_set_deadline(v, s->tsc_deadline);
	else if (s->timer_left != ~0ULL)
		timer_arm(a, s->timer_left);
	set_bit(VREQ_EVENT, &v->requests);
}

/**
 * vireo_vcpu_lapic() - VIREO_GET_LAPIC, VIREO_SET_LAPIC
 * @object: the vCPU
 * @cmd: which of them
 * @s: struct vireo_lapic
 * Context: The vCPU's mutex is held.
 * Return: 0 or -EINVAL, nothing changed.
 */
long vireo_vcpu_lapic(void *object, unsigned int cmd, void *s)
{
	const struct vireo_lapic *new = s;
	struct vireo_vcpu *v = object;

	if (cmd == VIREO_GET_LAPIC) {
		lapic_get(v, s);
		return 0;
	}
	if (!state_allowed(new))
		return -EINVAL;
	apic_load(v, new);
	WRITE_ONCE(v->apic.sipi_vector, new->sipi_vector);
	set_mask_bits(&v->apic.smi_init, VIREO_LAPIC_REQUESTS, new->requests);
	set_bit(VREQ_MP, &v->requests);
	return 0;
}

/**
 * vireo_lapic_reset() - the state after power-on or INIT
 * @v: the vCPU
 * Context: The vCPU's mutex is held.
 */
void vireo_lapic_reset(struct vireo_vcpu *v)
{
	static const struct vireo_lapic reset = {
		.svr = 0xff,
		.lvt = { [0 ... APIC_LVTS - 1] = APIC_LVT_MASKED },
		.timer_left = ~0ULL,
	};

	apic_load(v, &reset);
	memset(&v->pv, 0, sizeof(v->pv));
}

/**
 * vireo_lapic_create() - a new vCPU's APIC
 * @v: the vCPU; its end is that of its timer and its page
 * Context: May sleep.
 * Return: 0 or -ENOMEM.
 */
int vireo_lapic_create(struct vireo_vcpu *v)
{
	struct vireo_lapic_state *a = to_apic(v);

	a->page = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!a->page)
		return -ENOMEM;
	*reg(a, X2_ID) = v->id;
	*reg(a, X2_VERSION) = VERSION;
	*reg(a, X2_LDR) = logical_id(v->id);
	hrtimer_init(&a->timer, CLOCK_MONOTONIC, HRTIMER_MODE_ABS_HARD);
	a->timer.function = timer_fired;
	vireo_lapic_reset(v);
	return 0;
}
