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
#define NEVER		(~0ULL)

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
		vireo_vcpu_request(v, VREQ_EVENT, a->notify);
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
 * vireo_lapic_status() - what there is to deliver, whatever the task priority
 * @v: the vCPU
 * Context: The vCPU's own thread.
 * Return: Highest vector in service in bits 15:8, requested in 7:0; 0 for none.
 */
u16 vireo_lapic_status(struct vireo_vcpu *v)
{
	struct vireo_lapic_state *a = to_apic(v);

	if (v->pv.eoi_pending)
		vireo_lapic_eoi_sync(v);
	apic_sync(a);
	return highest(a, X2_ISR) << 8 | (apic_enabled(a) ? highest(a, X2_IRR) : 0);
}

/**
 * vireo_lapic_accept() - an interrupt goes in: from requested to in service
 * @v: the vCPU
 * @vector: what vireo_lapic_status() gave
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
	u16 status;

	if (v->mp_state == VIREO_MP_INIT)
		return req & (BIT(VAPIC_SIPI) | BIT(VAPIC_INIT));
	if ((req & (BIT(VAPIC_INIT) | BIT(VAPIC_UNHALT))) || v->inject.info)
		return true;
	if ((req & BIT(VAPIC_NMI)) && !(v->blocked & VIREO_BLOCKED_NMI))
		return true;
	status = v->rflags & X86_EFLAGS_IF ? vireo_lapic_status(v) : 0;
	return (u8)status >> 4 > max(status >> 12, *vireo_lapic_tpr(v) >> 4);
}

/* ---- Interprocessor interrupts -------------------------------------------------------------- */

/* Delivers to one vCPU; returns whether it takes it. */
static bool apic_deliver(struct vireo_vcpu *v, u32 mode, u8 vector)
{
	unsigned long clear = 0, set = BIT(VAPIC_NMI);

	switch (mode) {
	case APIC_DM_FIXED:
	case APIC_DM_LOWEST:
		return apic_raise(v, vector);
	case APIC_DM_NMI:
		break;
	case APIC_DM_INIT:
		clear = BIT(VAPIC_SIPI);
		set = BIT(VAPIC_INIT);
		break;
	case APIC_DM_STARTUP:
		clear = 0xffUL << VAPIC_VECTOR;
		set = BIT(VAPIC_SIPI) | (unsigned long)vector << VAPIC_VECTOR;
		break;
	default:
		return false;
	}
	set_mask_bits(&v->apic.smi_init, clear, set);
	vireo_vcpu_request(v, mode == APIC_DM_NMI ? VREQ_EVENT : VREQ_MP, 0);
	return true;
}

/* Logical x2APIC id: cluster of 16, and a bit in it (SDM vol. 3, 11.12.10.2). */
static u32 logical_id(u32 id)
{
	return (id >> 4) << 16 | BIT(id & 15);
}

/* Returns how many vCPUs took it. */
static int apic_send(struct vireo_vm *vm, u32 dest, bool logical, u32 mode, u8 vector,
		     struct vireo_vcpu *except)
{
	bool all = dest == BROADCAST, one = !all && !logical;
	unsigned int i, n = 0;

	for (i = one ? dest : 0; i < (one ? dest + 1 : vm->max_vcpus); i++) {
		struct vireo_vcpu *v = vireo_vcpu_by_id(vm, i);
		bool match = all || one ||
			     (dest >> 16 == i >> 4 && (u16)(dest & logical_id(i)));

		if (!v || v == except || !match || !apic_deliver(v, mode, vector))
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
	u32 dest = shorthand == APIC_DEST_SELF ? v->id : shorthand ? BROADCAST : icr >> 32;

	if ((mode == APIC_DM_FIXED || mode == APIC_DM_LOWEST) && (u8)low < 16) {
		*reg(&v->apic, VIREO_MSR_APIC_ERRORS) |= ESR_SEND_VECTOR;
		lvt_raise(v, X2_LVT_ERROR);
		return;
	}
	/* INIT with the level de-asserted does nothing since the Pentium 4. */
	if (mode == APIC_DM_INIT && (low & APIC_INT_LEVELTRIG) && !(low & APIC_INT_ASSERT))
		return;
	apic_send(v->vm, dest, !shorthand && (low & APIC_DEST_LOGICAL), mode, low,
		  shorthand == APIC_DEST_ALLBUT ? v : NULL);
}

/**
 * vireo_lapic_msi() - a message-signalled interrupt
 * @vm: the VM; NULL: look at it, and no more
 * @address: message address
 * @data: message data
 * Context: Any, also with interrupts off.
 * Return: How many vCPUs took it, or -EINVAL: not one that this APIC takes.
 */
int vireo_lapic_msi(struct vireo_vm *vm, u64 address, u32 data)
{
	u32 dest = (address >> 12 & 0xff) | (address >> 5 & 0x7f) << 8;
	u32 mode = data & APIC_MODE_MASK;
	bool fixed = mode == APIC_DM_FIXED || mode == APIC_DM_LOWEST;

	if (address >> 20 != 0xfee || (data & 0xffff3800) ||
	    (fixed ? (data & 0xff) < 16 : mode != APIC_DM_NMI))
		return -EINVAL;
	return vm ? apic_send(vm, dest == 0xff ? BROADCAST : dest, address & BIT(2), mode, data,
			      NULL) : 0;
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
	u32 divide = READ_ONCE(*reg(a, X2_TIMER_DIV)), d = (divide & 3) | (divide >> 1 & 4);

	return 1ULL << ((d + 1) & 7);
}

static enum hrtimer_restart timer_fired(struct hrtimer *timer)
{
	struct vireo_lapic_state *a = container_of(timer, struct vireo_lapic_state, timer);
	struct vireo_vcpu *v = container_of(a, struct vireo_vcpu, apic);
	u64 period = READ_ONCE(*reg(a, X2_TIMER_INIT)) * timer_divisor(a);
	unsigned int mode = timer_mode(a);

	if (mode == TIMER_DEADLINE)
		WRITE_ONCE(a->tsc_deadline, 0);
	lvt_raise(v, X2_LVT_TIMER);
	if (mode != TIMER_PERIODIC)
		return HRTIMER_NORESTART;
	hrtimer_forward_now(timer, ns_to_ktime(max_t(u64, period, PERIOD_MIN)));
	return HRTIMER_RESTART;
}

/* Sets the timer to fire in @ns, or NEVER. */
static void timer_set(struct vireo_lapic_state *a, u64 ns)
{
	hrtimer_cancel(&a->timer);	/* its end would clear a new deadline */
	WRITE_ONCE(a->tsc_deadline, 0);
	if (ns != NEVER)
		hrtimer_start(&a->timer, ns_to_ktime(ns), HRTIMER_MODE_REL_HARD);
}

/* User space reads this before the IRR: a timer that fires now is seen twice rather than not. */
static u64 timer_left(struct vireo_lapic_state *a)
{
	u64 left = hrtimer_active(&a->timer) ? max(hrtimer_get_remaining(&a->timer), 0LL) : NEVER;

	while (hrtimer_callback_running(&a->timer))
		cpu_relax();
	return left;
}

/* In deadline mode the initial count is 0. */
static u32 timer_now(struct vireo_lapic_state *a)
{
	u64 left = timer_left(a);

	return left == NEVER ? 0 :
	       min_t(u64, div64_u64(left, timer_divisor(a)), *reg(a, X2_TIMER_INIT));
}

/* IA32_TSC_DEADLINE: the guest's TSC at which to interrupt, 0 to disarm */
static void timer_set_deadline(struct vireo_vcpu *v, u64 tsc)
{
	struct vireo_lapic_state *a = to_apic(v);
	u64 now = vireo_guest_tsc(v);
	/* Beyond 35 years is never, and would overflow the division. */
	u64 ticks = min(tsc - now, (u64)tsc_khz << 40);

	if (timer_mode(a) != TIMER_DEADLINE)
		return;
	timer_set(a, tsc > now ? mul_u64_u64_div_u64(ticks, 1000000, tsc_khz) : NEVER);
	if (tsc > now)
		WRITE_ONCE(a->tsc_deadline, tsc);
	else if (tsc)
		lvt_raise(v, X2_LVT_TIMER);
}

/* ---- Registers ------------------------------------------------------------------------------ */

/* Those that user space can read beside VIREO_APIC_READABLE: VIREO_MSR_APIC_* */
#define HOST_READABLE	0x00000e0000000000ULL
/* Those that can be written, by the guest or by user space, by number: 0 to 3fh */
#define WRITABLE	0xc1fd010000008900ULL
#define HOST_WRITABLE	0x41fd0fff00ff8000ULL

/* ... and the bits of each */
static const u64 writable[] = {
	[X2_TPR & 0x3f] = 0xff,
	[X2_SVR & 0x3f] = 0x1ff,
	[X2_ISR & 0x3f] = 0xffff0000, [0x11 ... 0x17] = U32_MAX,
	[X2_IRR & 0x3f] = 0xffff0000, [0x21 ... 0x27] = U32_MAX,
	[X2_ESR & 0x3f] = 0xff,			/* of the guest: 0 */
	[VIREO_MSR_APIC_ERRORS & 0x3f] = 0xff,
	[VIREO_MSR_APIC_REQUESTS & 0x3f] = VIREO_LAPIC_REQUESTS,
	[VIREO_MSR_APIC_TIMER & 0x3f] = U64_MAX,
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
static bool write_allowed(u32 msr, u64 value, bool host)
{
	if (msr == X2_LVT_TIMER && (value >> 17 & 3) == 3)	/* no such mode */
		return false;
	if (msr == X2_ESR && value && !host)
		return false;
	return msr <= X2_SELF_IPI && ((host ? HOST_WRITABLE : WRITABLE) & BIT_ULL(msr & 0x3f)) &&
	       !(value & ~writable[msr & 0x3f]);
}

/**
 * vireo_lapic_read() - read a register
 * @v: the vCPU
 * @msr: 0x800 to 0x8ff
 * @value: where to
 * @host: for user space, not the guest
 * Context: The vCPU's own thread, also with interrupts off.
 * Return: 0 or -ENOENT: no such register, or it cannot be read.
 */
int vireo_lapic_read(struct vireo_vcpu *v, u32 msr, u64 *value, bool host)
{
	u64 readable = VIREO_APIC_READABLE | (host ? HOST_READABLE : 0);
	struct vireo_lapic_state *a = to_apic(v);

	if (msr > X2_SELF_IPI || !(readable & BIT_ULL(msr & 0x3f)))
		return -ENOENT;
	vireo_lapic_status(v);		/* brings IRR and ISR up to date */
	if (a->notify)			/* what was in @pir is no more there to be posted */
		set_bit(VREQ_EVENT, &v->requests);
	*value = msr == X2_PPR ? max_t(u8, *vireo_lapic_tpr(v), highest(a, X2_ISR) & 0xf0) :
		 msr == X2_TIMER_NOW ? timer_now(a) :
		 msr == X2_ICR ? *(u64 *)reg(a, X2_ICR) :
		 msr == VIREO_MSR_APIC_TIMER ? timer_left(a) :
		 msr == VIREO_MSR_APIC_REQUESTS ? a->smi_init & VIREO_LAPIC_REQUESTS :
		 *reg(a, msr);
	return 0;
}

/* User space puts back what it has read: it stands there, and nothing comes of it. */
static int host_write(struct vireo_vcpu *v, u32 msr, u64 value)
{
	struct vireo_lapic_state *a = to_apic(v);

	if (msr == VIREO_MSR_APIC_REQUESTS)
		set_mask_bits(&a->smi_init, VIREO_LAPIC_REQUESTS, value);
	else if (msr == VIREO_MSR_APIC_TIMER)
		timer_set(a, timer_mode(a) == TIMER_DEADLINE ? NEVER : value);
	else if (msr == X2_ICR)
		*(u64 *)reg(a, msr) = value;
	else
		WRITE_ONCE(*reg(a, msr), value);
	set_bit(VREQ_EVENT, &v->requests);
	set_bit(VREQ_MP, &v->requests);
	return 0;
}

/**
 * vireo_lapic_write() - write a register
 * @v: the vCPU
 * @msr: 0x800 to 0x8ff, or IA32_TSC_DEADLINE
 * @value: what to write
 * @host: for user space, not the guest
 * Context: The vCPU's own thread, also with interrupts off.
 * Return: 0 or -EINVAL: no such register, or reserved bits.
 */
int vireo_lapic_write(struct vireo_vcpu *v, u32 msr, u64 value, bool host)
{
	struct vireo_lapic_state *a = to_apic(v);
	unsigned int i, mode = timer_mode(a);

	if (msr == MSR_IA32_TSC_DEADLINE) {
		timer_set_deadline(v, value);
		return 0;
	}
	if (!write_allowed(msr, value, host))
		return -EINVAL;
	if (host)
		return host_write(v, msr, value);
	switch (msr) {
	case X2_EOI:
		v->stat[VIREO_STAT_EXIT_EOI]++;
		apic_eoi(v);
		return 0;
	case X2_ICR:
		*(u64 *)reg(a, X2_ICR) = value & ~(u64)APIC_ICR_BUSY;
		fallthrough;
	case X2_SELF_IPI:
		v->stat[VIREO_STAT_EXIT_ICR]++;
		apic_ipi(v, msr == X2_ICR ? value : value | APIC_DEST_SELF);
		return 0;
	case X2_TIMER_INIT:
		v->stat[VIREO_STAT_EXIT_TIMER]++;
		if (mode == TIMER_DEADLINE)
			return 0;
		WRITE_ONCE(*reg(a, msr), value);
		timer_set(a, value ? value * timer_divisor(a) : NEVER);
		return 0;
	case X2_SVR:
		for (i = X2_LVT_TIMER; i <= X2_LVT_ERROR && !(value & APIC_SPIV_APIC_ENABLED); i++)
			*reg(a, i) |= APIC_LVT_MASKED;
		break;
	case X2_ESR:		/* shows what came up since the last write */
		value = xchg(reg(a, VIREO_MSR_APIC_ERRORS), 0);
		break;
	case X2_LVT_TIMER ... X2_LVT_ERROR:
		value &= ~(u64)BIT(12);		/* delivery status is read-only */
		value |= apic_enabled(a) ? 0 : APIC_LVT_MASKED;
	}
	WRITE_ONCE(*reg(a, msr), value);
	if ((timer_mode(a) ^ mode) & TIMER_DEADLINE) {
		timer_set(a, NEVER);		/* SDM vol. 3, 11.5.4.1 */
		*reg(a, X2_TIMER_INIT) = 0;
	}
	set_bit(VREQ_EVENT, &v->requests);	/* TPR and SVR let interrupts in */
	return 0;
}

/**
 * vireo_lapic_create() - a new vCPU's APIC, on its page
 * @v: the vCPU
 * Context: Any.
 */
void vireo_lapic_create(struct vireo_vcpu *v)
{
	struct vireo_lapic_state *a = to_apic(v);

	*reg(a, X2_ID) = v->id;
	*reg(a, X2_VERSION) = VERSION;
	*reg(a, X2_LDR) = logical_id(v->id);
	hrtimer_init(&a->timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	a->timer.function = timer_fired;
}
