// SPDX-License-Identifier: GPL-2.0
/*
 * The local APIC's state as one structure; the module knows it as MSRs.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>

#include "libvireo.h"
#include "util.h"

#define X2APIC		0x800
#define LVT_MASKED	(1U << 16)
#define LVTS		6		/* the seventh, CMCI, is not there */
#define MAX_MSRS	64

#define AT(field)	offsetof(struct vireo_lapic, field)

/*
 * In the order in which they are set, so that the timer starts when all else is there;
 * they are read the other way round.  VIREO_MSR_APIC_REQUESTS is two fields.
 */
static const struct {
	__u32 msr, count;
	size_t at;
	bool wide;		/* 64 bits */
} fields[] = {
	{ X2APIC + 0x20, 8, AT(irr), false }, { X2APIC + 0x10, 8, AT(isr), false },
	{ X2APIC + 0x0f, 1, AT(svr), false }, { X2APIC + 0x28, 1, AT(esr), false },
	{ VIREO_MSR_APIC_ERRORS, 1, AT(esr_next), false }, { X2APIC + 0x30, 1, AT(icr), true },
	{ VIREO_MSR_APIC_REQUESTS, 1, AT(requests), false },
	{ X2APIC + 0x32, LVTS, AT(lvt), false }, { X2APIC + 0x38, 1, AT(timer_initial), false },
	{ X2APIC + 0x3e, 1, AT(timer_divide), false },
	{ VIREO_MSR_APIC_TIMER, 1, AT(timer_left), true },
	{ 0x6e0, 1, AT(tsc_deadline), true },			/* IA32_TSC_DEADLINE */
};

/* The list of MSRs, with the values of @l or, of which there are more, to be read */
static __u32 list(const struct vireo_lapic *l, struct vireo_msr *e)
{
	__u32 i, j, n = 0;

	for (i = 0; i < ARRAY_SIZE(fields); i++)
		for (j = 0; j < fields[i].count; j++) {
			const char *from = (const char *)l + fields[i].at + 4 * j;

			e[n] = (struct vireo_msr){ .index = fields[i].msr + j };
			memcpy(&e[n].value, from, fields[i].wide ? 8 : 4);
			if (e[n].index == VIREO_MSR_APIC_REQUESTS)
				e[n].value |= (__u64)l->sipi_vector << VIREO_LAPIC_VECTOR;
			n++;
		}
	return n;
}

static int call(int vcpu, unsigned long request, struct vireo_msr *e, __u32 count)
{
	struct vireo_msrs arg = {
		.size = sizeof(arg), .count = count, .entries = (uintptr_t)e,
	};
	int done = ioctl(vcpu, request, &arg);

	if (done >= 0 && (__u32)done < count)
		errno = EINVAL;
	return done == (int)count ? 0 : -1;
}

static void reverse(struct vireo_msr *e, __u32 n)
{
	__u32 i;

	for (i = 0; i < n / 2; i++) {
		struct vireo_msr t = e[i];

		e[i] = e[n - 1 - i];
		e[n - 1 - i] = t;
	}
}

/**
 * vireo_lapic_get - read a vCPU's local APIC
 * @vcpu: its fd
 * @l: where to
 *
 * Return: 0, or -1 with errno set.
 */
int vireo_lapic_get(int vcpu, struct vireo_lapic *l)
{
	struct vireo_msr e[MAX_MSRS];
	__u32 i, j, n = 0, count;

	memset(l, 0, sizeof(*l));
	count = list(l, e);
	e[count] = (struct vireo_msr){ .index = X2APIC + 0x39 };	/* current count */
	reverse(e, count + 1);
	if (call(vcpu, VIREO_GET_MSRS, e, count + 1))
		return -1;
	reverse(e, count + 1);
	for (i = 0; i < ARRAY_SIZE(fields); i++)
		for (j = 0; j < fields[i].count; j++)
			memcpy((char *)l + fields[i].at + 4 * j, &e[n++].value,
			       fields[i].wide ? 8 : 4);
	l->size = sizeof(*l);
	l->timer_current = (__u32)e[count].value;
	l->lvt[LVTS] = LVT_MASKED;
	l->sipi_vector = l->requests >> VIREO_LAPIC_VECTOR;
	l->requests &= (1U << VIREO_LAPIC_VECTOR) - 1;
	return 0;
}

/**
 * vireo_lapic_set - put back what vireo_lapic_get() has read
 * @vcpu: the vCPU's fd
 * @l: the state
 *
 * Return: 0, or -1 with errno set; EINVAL: not a state, some of it may have been set.
 */
int vireo_lapic_set(int vcpu, const struct vireo_lapic *l)
{
	struct vireo_msr e[MAX_MSRS];

	if (l->size != sizeof(*l) || l->flags || l->reserved || l->lvt[LVTS] != LVT_MASKED) {
		errno = EINVAL;
		return -1;
	}
	return call(vcpu, VIREO_SET_MSRS, e, list(l, e));
}

/**
 * vireo_lapic_reset - the state after power-on or INIT
 * @vcpu: the vCPU's fd
 *
 * KVM's MSRs, by which the guest has the module write to its memory, are 0 then, too.  An
 * INIT or SIPI that comes meanwhile is not lost.
 * Return: 0, or -1 with errno set.
 */
int vireo_lapic_reset(int vcpu)
{
	/* The clock's (each has two numbers), steal time's and that of the end of interrupts */
	static const __u32 kvm[] = { 0x11, 0x12, 0x4b564d03, 0x4b564d04 };
	struct vireo_lapic l = { .svr = 0xff, .timer_left = ~0ULL };
	struct vireo_msr e[MAX_MSRS];
	__u32 i, n = 0, count;

	for (i = 0; i < LVTS; i++)
		l.lvt[i] = LVT_MASKED;
	count = list(&l, e);
	for (i = 0; i < count; i++)
		if (e[i].index != VIREO_MSR_APIC_REQUESTS)
			e[n++] = e[i];
	for (i = 0; i < ARRAY_SIZE(kvm); i++)
		e[n++] = (struct vireo_msr){ .index = kvm[i] };
	return call(vcpu, VIREO_SET_MSRS, e, n);
}
