// SPDX-License-Identifier: GPL-2.0
/*
 * The state of a machine as bytes: the file `state` of a snapshot, which
 * Documentation/snapshot.rst describes.
 *
 * Each part is told once, by a function that stores or loads its fields one by one,
 * as the direction of the struct vireo_state says.  A load that finds too few bytes,
 * or others than expected, is bad from there on: all that follows loads as zero, and
 * nothing is used before vireo_state_done() has said that it was good.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "libvireo.h"
#include "util.h"

#define MSR_KVM_CLOCK		0x4b564d01	/* where it is, and bit 0 */
#define PVCLOCK_FLAGS		29		/* a byte, there */
#define PVCLOCK_GUEST_STOPPED	0x02

enum {
	PART_MACHINE = 1,
	PART_CPUID,
	PART_VCPU,
	PART_PCI,
	PART_IOAPIC,
	PART_DEVICE,
	PART_UART,
};

/* ---- bytes ---- */

static void bytes(struct vireo_state *s, void *field, size_t len)
{
	if (s->load) {
		if (s->bad || len > s->end - s->at) {
			s->bad = true;
			memset(field, 0, len);
			return;
		}
		memcpy(field, s->data + s->at, len);
		s->at += len;
		return;
	}
	if (len > s->room - s->at) {
		__u8 *more = realloc(s->data, 2 * s->room + len);

		if (!more) {
			s->bad = true;
			return;
		}
		s->data = more;
		s->room = 2 * s->room + len;
	}
	memcpy(s->data + s->at, field, len);
	s->at += len;
	s->end = s->at;
}

static void u8(struct vireo_state *s, __u8 *field)
{
	bytes(s, field, sizeof(*field));
}

static void u32(struct vireo_state *s, __u32 *field)
{
	bytes(s, field, sizeof(*field));	/* x86: little-endian, as in the file */
}

static void u64(struct vireo_state *s, __u64 *field)
{
	bytes(s, field, sizeof(*field));
}

static void flag(struct vireo_state *s, bool *field)
{
	__u8 value = *field;

	u8(s, &value);
	s->bad |= value > 1;
	*field = value;
}

/* What must be the same here as where it was stored */
static void same(struct vireo_state *s, __u32 value)
{
	__u32 stored = value;

	u32(s, &stored);
	s->bad |= stored != value;
}

/* A part begins with what it is, which of its kind, and how long. */
static size_t begin(struct vireo_state *s, __u32 part, __u32 number, size_t *end)
{
	__u64 len = 0;

	same(s, part);
	same(s, number);
	u64(s, &len);
	*end = s->end;
	if (s->load && len > s->end - s->at)
		s->bad = true;
	else if (s->load)
		s->end = s->at + len;
	return s->at;
}

static void finish(struct vireo_state *s, size_t start, size_t end)
{
	__u64 len = s->at - start;

	if (s->load) {
		s->bad |= s->at != s->end;
		s->end = end;
	} else if (!s->bad) {
		memcpy(s->data + start - sizeof(len), &len, sizeof(len));
	}
}

/**
 * vireo_state_done - whether all was stored, or all loaded was what it should be
 * @s: after the last part
 * @err: why not
 */
int vireo_state_done(const struct vireo_state *s, struct vireo_error *err)
{
	if (s->bad && !s->load)
		return vireo_fail(err, ENOMEM, "out of memory");
	if (s->bad || (s->load && s->at != s->end))
		return vireo_fail(err, EINVAL,
				  "the state does not fit the machine that config.json describes");
	return 0;
}

/* ---- the machine ---- */

/* What must be known before there is a machine */
static void put_head(struct vireo_state *s, struct vireo_state_head *h)
{
	size_t end, start = begin(s, PART_MACHINE, 0, &end);

	u32(s, &h->vcpus);
	u32(s, &h->slots);
	u64(s, &h->memory);
	u64(s, &h->vendor);
	u64(s, &h->xcr0);
	u32(s, &h->xsave_size);
	u32(s, &h->host_khz);
	u64(s, &h->host_tsc);
	u64(s, &h->real_ns);
	u64(s, &h->clock.tsc_base);
	u64(s, &h->clock.boot_ns);
	u32(s, &h->clock.tsc_khz);
	finish(s, start, end);
}

static __u64 real_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (__u64)now.tv_sec * 1000000000 + (__u64)now.tv_nsec;
}

static void put_cpuid(struct vireo_state *s, struct vireo_machine *m)
{
	size_t end, start = begin(s, PART_CPUID, 0, &end);
	__u32 i;

	u32(s, &m->cpuids);
	if (m->cpuids > VIREO_STATE_CPUIDS) {
		s->bad = true;
		m->cpuids = 0;
	}
	for (i = 0; i < m->cpuids; i++) {
		struct vireo_cpuid_entry *e = &m->cpuid[i];

		u32(s, &e->function);
		u32(s, &e->index);
		u32(s, &e->flags);
		u32(s, &e->eax);
		u32(s, &e->ebx);
		u32(s, &e->ecx);
		u32(s, &e->edx);
		e->reserved = 0;
	}
	finish(s, start, end);
}

/* ---- vCPUs: the kernel's structures never change their layout, only grow ---- */

static_assert_that(offsetof(struct vireo_regs, seg) == 152, "the format never changes");
static_assert_that(offsetof(struct vireo_regs, cr0) == 312, "the format never changes");
static_assert_that(sizeof(struct vireo_regs) == 496, "the format never changes");
static_assert_that(offsetof(struct vireo_segment, base) == 8, "the format never changes");
static_assert_that(offsetof(struct vireo_lapic, timer_left) == 120, "the format never changes");
static_assert_that(sizeof(struct vireo_lapic) == 160, "the format never changes");

static void put_vcpu(struct vireo_state *s, struct vireo_vcpu_state *v, __u32 id,
		     __u32 xsave_size)
{
	size_t end, start = begin(s, PART_VCPU, id, &end);
	__u32 i;

	same(s, sizeof(v->regs));
	bytes(s, &v->regs, sizeof(v->regs));
	same(s, sizeof(v->lapic));
	bytes(s, &v->lapic, sizeof(v->lapic));
	u32(s, &v->msrs);
	if (v->msrs > VIREO_STATE_MSRS) {
		s->bad = true;
		v->msrs = 0;
	}
	for (i = 0; i < v->msrs; i++) {
		u32(s, &v->msr[i].index);
		u64(s, &v->msr[i].value);
		v->msr[i].reserved = 0;
	}
	bytes(s, v->xsave, xsave_size);
	finish(s, start, end);
}

/* ---- devices ---- */

static void put_function(struct vireo_state *s, struct vireo_pci_function *f)
{
	unsigned int i;

	same(s, f->device);
	if (f->slot && !f->port)
		u32(s, &f->slot);
	else
		same(s, f->slot);
	same(s, f->vectors);
	bytes(s, f->config, sizeof(f->config));
	for (i = 0; i < f->vectors; i++) {
		u32(s, &f->entry[i].address[0]);
		u32(s, &f->entry[i].address[1]);
		u32(s, &f->entry[i].data);
		u32(s, &f->entry[i].control);
	}
}

static void put_pci(struct vireo_state *s, struct vireo_machine *m)
{
	size_t end, start = begin(s, PART_PCI, 0, &end);
	unsigned int i;

	u32(s, &m->pci.address);
	same(s, m->slots);
	for (i = 0; i < m->slots; i++) {
		put_function(s, &m->port[i].function);
		flag(s, &m->port[i].asserted);
	}
	finish(s, start, end);
}

static void put_ioapic(struct vireo_state *s, struct vireo_ioapic *io)
{
	size_t end, start = begin(s, PART_IOAPIC, 0, &end);
	unsigned int i;

	u32(s, &io->select);
	u32(s, &io->id);
	same(s, VIREO_IOAPIC_PINS);
	for (i = 0; i < VIREO_IOAPIC_PINS; i++)
		u64(s, &io->entry[i]);
	s->bad |= io->select > 0xff;
	finish(s, start, end);
}

static void put_queue(struct vireo_state *s, const struct vireo_pv *pv, struct vireo_pv_queue *q)
{
	u32(s, &q->entries);
	u64(s, &q->ring);
	u32(s, &q->vector);
	flag(s, &q->suspended);
	u32(s, &q->start);
	s->bad |= q->suspended && q->entries > pv->queue_max;
}

static void put_pv(struct vireo_state *s, struct vireo_pv *pv, __u32 number)
{
	size_t end, start = begin(s, PART_DEVICE, number, &end);
	unsigned int i;

	u32(s, &pv->number);
	same(s, pv->queues);
	u32(s, &pv->doorbell);
	put_function(s, &pv->function);
	u32(s, &pv->status);
	u32(s, &pv->generation);
	u64(s, &pv->accepted);
	u32(s, &pv->vector);
	flag(s, &pv->changed);
	same(s, (__u32)pv->config_len);
	bytes(s, pv->config, pv->config_len);
	for (i = 0; i < pv->queues; i++)
		put_queue(s, pv, &pv->queue[i]);
	s->bad |= pv->status > VIREO_STATUS_FAILED;
	if (s->load)
		s->bad |= !vireo_pv_settle(pv);
	finish(s, start, end);
}

static void put_uart(struct vireo_state *s, struct vireo_uart *uart)
{
	size_t end, start = begin(s, PART_UART, 0, &end);
	__u32 waiting = uart->head - uart->tail, i;

	u8(s, &uart->ier);
	u8(s, &uart->fcr);
	u8(s, &uart->lcr);
	u8(s, &uart->mcr);
	u8(s, &uart->lsr_error);
	u8(s, &uart->scratch);
	bytes(s, uart->divisor, sizeof(uart->divisor));
	flag(s, &uart->thr_event);
	u32(s, &waiting);
	if (waiting > VIREO_UART_BACKLOG) {
		s->bad = true;
		waiting = 0;
	}
	if (s->load) {
		uart->tail = 0;
		uart->head = waiting;
	}
	for (i = 0; i < waiting; i++)
		u8(s, &uart->backlog[(uart->tail + i) % VIREO_UART_BACKLOG]);
	finish(s, start, end);
}

static void put_devices(struct vireo_state *s, struct vireo_machine *m, struct vireo_uart *uart)
{
	unsigned int i;

	put_pci(s, m);
	put_ioapic(s, &m->ioapic);
	for (i = 0; i < ARRAY_SIZE(m->device) && s->load; i++) {
		if (m->device[i])
			vireo_pv_lift(m->device[i]);
	}
	for (i = 0; i < ARRAY_SIZE(m->device); i++) {
		if (m->device[i])
			put_pv(s, m->device[i], i);
	}
	put_uart(s, uart);
}

/* ---- storing ---- */

/**
 * vireo_machine_can_snapshot - whether all devices of a machine can be stored
 * @m: the machine
 * @err: what stands in the way
 */
int vireo_machine_can_snapshot(struct vireo_machine *m, struct vireo_error *err)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < ARRAY_SIZE(m->device) && !ret; i++) {
		struct vireo_pv *pv = m->device[i];

		if (!pv)
			continue;
		if (pv->port && vireo_port_leaving(pv->port))
			return vireo_fail(err, EBUSY,
					  "%s (%s) is being detached: wait until it is gone, or pull it with --force",
					  pv->name, pv->backing);
		if (!strcmp(pv->ops->kind, "net"))	/* it may be gone, with its namespace */
			ret = pv->ops->can_fork(pv, err);
	}
	return ret;
}

/**
 * vireo_state_store - store a machine
 * @s: filled in; vireo_state_close() is due
 * @m: the machine, paused and suspended
 * @uart: its console's
 * @vcpu: vireo_machine_save()'s
 * @err: why not
 */
int vireo_state_store(struct vireo_state *s, struct vireo_machine *m, struct vireo_uart *uart,
		      struct vireo_vcpu_state *vcpu, struct vireo_error *err)
{
	struct vireo_state_head h = {
		.vcpus = m->vcpus, .slots = m->slots, .memory = m->vm.memory,
		.vendor = m->vm.info.features & (VIREO_FEAT_SVM | VIREO_FEAT_VMX),
		.xcr0 = m->vm.info.xcr0, .xsave_size = m->vm.info.xsave_size,
		.host_khz = m->vm.info.tsc_khz, .host_tsc = __builtin_ia32_rdtsc(),
		.real_ns = real_ns(), .clock = m->vm.clock,
	};
	__u32 i;

	*s = (struct vireo_state){ .load = false };
	put_head(s, &h);
	put_cpuid(s, m);
	for (i = 0; i < m->vcpus; i++)
		put_vcpu(s, &vcpu[i], i, h.xsave_size);
	put_devices(s, m, uart);
	return vireo_state_done(s, err);
}

/** vireo_state_close - free the bytes; may be called twice */
void vireo_state_close(struct vireo_state *s)
{
	free(s->data);
	s->data = NULL;
}

/* ---- loading ---- */

/**
 * vireo_state_head - what kind of machine is stored
 * @s: with @data and @end set
 * @h: filled in
 * @info: what the module offers
 * @err: why it cannot run here
 */
int vireo_state_head(struct vireo_state *s, struct vireo_state_head *h,
		     const struct vireo_info *info, struct vireo_error *err)
{
	__u32 off;

	s->load = true;
	s->at = 0;
	h->advance = false;
	put_head(s, h);
	if (s->bad || !h->vcpus || h->vcpus > VIREO_MAX_VCPUS || h->slots > VIREO_PORTS ||
	    !h->clock.tsc_khz)
		return vireo_fail(err, EINVAL, "the state is not a machine's");
	if (!(h->vendor & info->features))
		return vireo_fail(err, EOPNOTSUPP, "the snapshot is of a machine on %s",
				  h->vendor & VIREO_FEAT_SVM ? "AMD-V" : "VT-x");
	if ((h->xcr0 & ~info->xcr0) || h->xsave_size > info->xsave_size)
		return vireo_fail(err, EOPNOTSUPP,
				  "the snapshot needs a processor with XCR0 0x%llx, this one has 0x%llx",
				  h->xcr0, info->xcr0);
	off = h->host_khz > info->tsc_khz ? h->host_khz - info->tsc_khz :
					    info->tsc_khz - h->host_khz;
	if (off > info->tsc_khz / 100)
		return vireo_fail(err, EOPNOTSUPP,
				  "the snapshot needs a time stamp counter of %u kHz, here it has %u",
				  h->host_khz, info->tsc_khz);
	return 0;
}

/* What of CPUID says what a processor can do: EAX, EBX, ECX, EDX; the rest describes it. */
static const struct {
	__u32 function;
	__u32 index;
	bool reg[4];
} abilities[] = {
	{ 0x1, 0, { false, false, true, true } },
	{ 0x7, 0, { false, true, true, true } },
	{ 0x7, 1, { true, false, false, false } },
	{ 0xd, 1, { true, false, false, false } },
	{ 0x80000001, 0, { false, false, true, true } },
	{ 0x80000008, 0, { false, true, false, false } },
};

/* A register of a table, 0 if it has no such entry */
static __u32 cpuid_reg(const struct vireo_cpuid_entry *e, __u32 count, __u32 function,
		       __u32 index, unsigned int reg)
{
	for (; count--; e++) {
		const __u32 regs[] = { e->eax, e->ebx, e->ecx, e->edx };

		if (e->function == function &&
		    (!(e->flags & VIREO_CPUID_INDEXED) || e->index == index))
			return regs[reg];
	}
	return 0;
}

/* A guest does not look again at what its processor can do. */
static int check_cpuid(const struct vireo_machine *m, __u32 vcpus, struct vireo_error *err)
{
	struct vireo_cpuid_entry own[VIREO_STATE_CPUIDS];
	__u32 count = vireo_cpuid_default(&m->vm.info, vcpus, own), want;
	unsigned int i, r;

	for (i = 0; i < ARRAY_SIZE(abilities); i++) {
		for (r = 0; r < 4; r++) {
			want = cpuid_reg(m->cpuid, m->cpuids, abilities[i].function,
					 abilities[i].index, r);
			if (abilities[i].reg[r] &&
			    (want & ~cpuid_reg(own, count, abilities[i].function,
					       abilities[i].index, r)))
				return vireo_fail(err, EOPNOTSUPP,
						  "this processor lacks features that the snapshot's guest uses");
		}
	}
	return 0;
}

/**
 * struct pause - the time between storing and loading
 * @passed: ns of it that the guest sees
 * @hidden: ticks of the TSC that it does not see
 */
struct pause {
	__u64 passed;
	__u64 hidden;
};

/* What the guest does not see of the time since moves its TSC; the time of day is today's. */
static int set_clock(struct vireo_vm *vm, const struct vireo_state_head *h, struct pause *p,
		     struct vireo_error *err)
{
	struct vireo_timebase clock = h->clock;
	__u64 now = real_ns();

	p->passed = h->advance && now > h->real_ns ? now - h->real_ns : 0;
	p->hidden = __builtin_ia32_rdtsc() - h->host_tsc - p->passed / 1000000 * clock.tsc_khz -
		    p->passed % 1000000 * clock.tsc_khz / 1000000;
	clock.tsc_base += p->hidden;
	clock.boot_ns += now - h->real_ns - p->passed;
	if (vireo_clock_set(vm->fd, &clock))
		return vireo_fail(err, errno, "cannot set the clock: %s", strerror(errno));
	vm->clock = clock;
	return 0;
}

static void move_tsc(struct vireo_vcpu_state *v, const struct pause *p)
{
	__u32 i;

	for (i = 0; i < v->msrs; i++) {
		if (v->msr[i].index == VIREO_MSR_TSC_OFFSET)
			v->msr[i].value -= p->hidden;
	}
	if (v->lapic.timer_left != ~0ULL)
		v->lapic.timer_left -= v->lapic.timer_left < p->passed ? v->lapic.timer_left :
									 p->passed;
}

/*
 * Where KVM's clock is, say that time has passed in which nothing ran (kvm_para.h,
 * PVCLOCK_GUEST_STOPPED): Linux' watchdogs would take it for a lockup.
 */
static void tell_stopped(struct vireo_machine *m, const struct vireo_vcpu_state *v)
{
	struct vireo_error err;
	__u8 flags;
	__u64 gpa;
	__u32 i;

	for (i = 0; i < v->msrs; i++) {
		gpa = (v->msr[i].value & ~1ULL) + PVCLOCK_FLAGS;
		if (v->msr[i].index != MSR_KVM_CLOCK || !(v->msr[i].value & 1) ||
		    vireo_vm_read(&m->vm, gpa, &flags, sizeof(flags), &err))
			continue;
		flags |= PVCLOCK_GUEST_STOPPED;
		vireo_vm_write(&m->vm, gpa, &flags, sizeof(flags), &err);
	}
}

static int load_vcpus(struct vireo_state *s, struct vireo_machine *m,
		      const struct vireo_state_head *h, struct vireo_error *err)
{
	struct vireo_vcpu_state *vcpu = calloc(h->vcpus, sizeof(*vcpu));
	struct pause p = { .passed = 0 };
	__u32 i;
	int ret = 0;

	if (!vcpu)
		return vireo_fail(err, ENOMEM, "out of memory");
	put_cpuid(s, m);
	for (i = 0; i < h->vcpus && !ret; i++) {
		vcpu[i].xsave = calloc(1, m->vm.info.xsave_size);
		if (vcpu[i].xsave)
			put_vcpu(s, &vcpu[i], i, h->xsave_size);
		else
			ret = vireo_fail(err, ENOMEM, "out of memory");
	}
	if (!ret && s->bad)
		ret = vireo_fail(err, EINVAL, "the state is not a machine's");
	if (!ret)
		ret = check_cpuid(m, h->vcpus, err);
	if (!ret)
		ret = vireo_vm_set_cpuid(&m->vm, m->cpuid, m->cpuids, err);
	if (!ret)
		ret = set_clock(&m->vm, h, &p, err);
	for (i = 0; i < h->vcpus && !ret; i++)
		move_tsc(&vcpu[i], &p);
	if (!ret) {
		m->vcpus = h->vcpus;
		ret = vireo_machine_load(m, vcpu, err);
	}
	for (i = 0; i < h->vcpus && !ret && p.passed; i++)
		tell_stopped(m, &vcpu[i]);
	vireo_state_free(vcpu, h->vcpus);
	return ret;
}

/* A disk is as large as it was. */
static int check_disk(struct vireo_pv *pv, struct vireo_error *err)
{
	const struct vireo_blk_config *was = (const struct vireo_blk_config *)pv->config;
	__u8 config[VIREO_PV_CONFIG] = { 0 };
	const struct vireo_blk_config *is = (const struct vireo_blk_config *)config;
	int ret = pv->ops->refresh(pv, config, err);

	if (ret || is->sectors == was->sectors)
		return ret;
	return vireo_fail(err, EINVAL,
			  "%s (%s) has %llu sectors, and had %llu when the snapshot was taken",
			  pv->name, pv->backing, is->sectors, was->sectors);
}

/* Have what is behind a device do what the guest has agreed with it. */
static int resume_device(struct vireo_pv *pv, struct vireo_error *err)
{
	if ((pv->accepted & ~pv->offered) ||
	    (pv->status == VIREO_STATUS_OK && pv->ops->accept &&
	     pv->ops->accept(pv, true, pv->accepted)))
		return vireo_fail(err, EINVAL,
				  "%s (%s) does not offer what the guest uses, as it did when the snapshot was taken",
				  pv->name, pv->backing);
	return strcmp(pv->ops->kind, "disk") ? 0 : check_disk(pv, err);
}

static int resume_devices(struct vireo_machine *m, struct vireo_error *err)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < ARRAY_SIZE(m->device) && !ret; i++) {
		if (m->device[i])
			ret = resume_device(m->device[i], err);
	}
	/* Addresses, random numbers and terminals are this machine's own. */
	for (i = 0; i < ARRAY_SIZE(m->device) && !ret; i++) {
		if (m->device[i] && vireo_pv_refresh(m->device[i], err) < 0)
			ret = -err->code;
	}
	return ret ? ret : vireo_machine_serve(m, true, err);
}

/**
 * vireo_state_load - make a machine what was stored
 * @s: after vireo_state_head()
 * @h: that one's
 * @m: a machine without vCPUs, with its memory and all its devices
 * @uart: its console's, as it begins
 * @err: why not
 */
int vireo_state_load(struct vireo_state *s, const struct vireo_state_head *h,
		     struct vireo_machine *m, struct vireo_uart *uart, struct vireo_error *err)
{
	int ret = load_vcpus(s, m, h, err);

	if (ret)
		return ret;
	put_devices(s, m, uart);
	ret = vireo_state_done(s, err);
	if (!ret)
		ret = vireo_machine_renew_identity(m, err);
	return ret ? ret : resume_devices(m, err);
}
