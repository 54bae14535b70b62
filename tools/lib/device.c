// SPDX-License-Identifier: GPL-2.0
/*
 * The registers of a paravirtual device (vireo_pci.h, BAR 0) and what they do:
 * they make and end queues, the module's or our own, and say where interrupts go.
 *
 * Everything that a guest writes is checked here or by the module; nothing that
 * it writes can do more than leave its own device without queues.
 */
#include <errno.h>
#include <string.h>

#include "libvireo.h"
#include "util.h"

#define QUEUE_STRIDE	(VIREO_REG_QUEUE(1) - VIREO_REG_QUEUE(0))

static_assert_that(VIREO_REG_QUEUE(VIREO_PCI_QUEUES) <= VIREO_PCI_BAR_SIZE, "queues fit");

static __u32 low(__u64 value)
{
	return (__u32)value;
}

static __u32 high(__u64 value)
{
	return (__u32)(value >> 32);
}

static void set_low(__u64 *value, __u32 part)
{
	*value = (*value & ~0xffffffffULL) | part;
}

static void set_high(__u64 *value, __u32 part)
{
	*value = (*value & 0xffffffffULL) | (__u64)part << 32;
}

static bool is_served(const struct vireo_pv_queue *q)
{
	return q->fd >= 0 || q->sring.entries;
}

/* ---- interrupts ---- */

/* Tell the module where a queue's interrupts go; true: one is waiting. */
static bool queue_route(struct vireo_pv *pv, struct vireo_pv_queue *q)
{
	struct vireo_msi msi;
	int ret = -EINVAL;

	if (pv->ops->doorbell) {
		if (q->waits && vireo_pci_route(&pv->function, q->vector, &msi)) {
			q->waits = false;
			q->sring.stat.interrupts++;
			vireo_vm_inject_msi(pv->vm, &msi);
		}
		return q->waits;
	}
	if (vireo_pci_route(&pv->function, q->vector, &msi))
		ret = vireo_queue_set_msi(q->fd, &msi);
	/* A message that is none is as good as masked. */
	if (ret < 0)
		ret = vireo_queue_set_msi(q->fd, NULL);
	return ret > 0;
}

/**
 * vireo_pv_interrupt - raise the interrupt of a queue that is served here
 * @pv: its device, from whose operations this is called
 * @queue: its number
 */
void vireo_pv_interrupt(struct vireo_pv *pv, unsigned int queue)
{
	pv->queue[queue].waits = true;
	queue_route(pv, &pv->queue[queue]);
}

static void send_change(struct vireo_pv *pv)
{
	struct vireo_msi msi;

	if (pv->changed && vireo_pci_route(&pv->function, pv->vector, &msi)) {
		pv->changed = false;
		vireo_vm_inject_msi(pv->vm, &msi);
	}
}

static void pv_route(void *ctx, unsigned int vector)
{
	struct vireo_pv *pv = ctx;
	unsigned int i;

	for (i = 0; i < pv->queues; i++) {
		if (is_served(&pv->queue[i]) && pv->queue[i].vector == vector)
			queue_route(pv, &pv->queue[i]);
	}
	if (pv->vector == vector)
		send_change(pv);
}

static bool pv_pending(void *ctx, unsigned int vector)
{
	struct vireo_pv *pv = ctx;
	bool pending = pv->vector == vector && pv->changed;
	unsigned int i;

	for (i = 0; i < pv->queues && !pending; i++) {
		if (is_served(&pv->queue[i]) && pv->queue[i].vector == vector)
			pending = queue_route(pv, &pv->queue[i]);
	}
	return pending;
}

static __u32 valid_vector(const struct vireo_pv *pv, __u32 vector)
{
	return vector < pv->function.vectors ? vector : VIREO_PCI_NO_VECTOR;
}

/* ---- queues ---- */

static void tell_queues(struct vireo_pv *pv)
{
	if (pv->ops->accept)
		pv->ops->accept(pv, true, pv->accepted);
}

static void queue_disable(struct vireo_pv_queue *q)
{
	if (q->fd >= 0)
		vireo_queue_close(q->fd);
	q->fd = -1;
	memset(&q->sring, 0, sizeof(q->sring));
}

/* Have it served from the completion of index @start on; with @flags by the module. */
static int queue_serve(struct vireo_pv *pv, unsigned int i, __u32 flags, __u32 start)
{
	struct vireo_pv_queue *q = &pv->queue[i];
	struct vireo_create_queue create = {
		.flags = flags, .doorbell = pv->doorbell + i,
		.index = pv->one_index ? 0 : i, .ring = q->ring, .entries = q->entries,
		.start = start,
	};

	if (pv->ops->doorbell)
		return vireo_sring_open(&q->sring, pv->vm, q->ring, q->entries, start);
	q->fd = vireo_queue_create(pv->fd, &create);
	return q->fd < 0 ? q->fd : 0;
}

/* It cannot be served any more: tell the driver as the module would. */
static void queue_end(struct vireo_pv *pv, struct vireo_pv_queue *q)
{
	const __u32 error = VIREO_RING_ERROR_MEMORY;
	struct vireo_error none = { .code = 0 };
	struct vireo_msi msi;

	vireo_vm_write(pv->vm, q->ring + offsetof(struct vireo_ring_ctl, error), &error,
		       sizeof(error), &none);
	if (vireo_pci_route(&pv->function, q->vector, &msi))
		vireo_vm_inject_msi(pv->vm, &msi);
}

static void queue_enable(struct vireo_pv *pv, unsigned int i)
{
	struct vireo_pv_queue *q = &pv->queue[i];

	if (is_served(q) || pv->status != VIREO_STATUS_OK || q->entries > pv->queue_max)
		return;
	q->waits = false;
	if (queue_serve(pv, i, 0, 0))
		return;
	queue_route(pv, q);
	tell_queues(pv);
}

static __u32 queue_read(const struct vireo_pv *pv, unsigned int i, __u32 reg)
{
	const struct vireo_pv_queue *q = &pv->queue[i];

	switch (reg) {
	case VIREO_QUEUE_MAX:
		return pv->queue_max;
	case VIREO_QUEUE_ENTRIES:
		return q->entries;
	case VIREO_QUEUE_RING:
		return low(q->ring);
	case VIREO_QUEUE_RING + 4:
		return high(q->ring);
	case VIREO_QUEUE_VECTOR:
		return q->vector;
	case VIREO_QUEUE_ENABLE:
		return is_served(q);
	case VIREO_QUEUE_DOORBELL:
		return pv->ops->doorbell ? VIREO_DOORBELL_HERE : pv->doorbell + i;
	default:
		return 0;
	}
}

/* A queue that is served stands still. */
static void queue_write(struct vireo_pv *pv, unsigned int i, __u32 reg, __u32 value)
{
	struct vireo_pv_queue *q = &pv->queue[i];

	switch (reg) {
	case VIREO_QUEUE_ENTRIES:
		if (!is_served(q))
			q->entries = value;
		break;
	case VIREO_QUEUE_RING:
		if (!is_served(q))
			set_low(&q->ring, value);
		break;
	case VIREO_QUEUE_RING + 4:
		if (!is_served(q))
			set_high(&q->ring, value);
		break;
	case VIREO_QUEUE_VECTOR:
		if (!is_served(q))
			q->vector = valid_vector(pv, value);
		break;
	case VIREO_QUEUE_ENABLE:
		if (value == 1)
			queue_enable(pv, i);
		if (!value && is_served(q)) {
			queue_disable(q);
			tell_queues(pv);
		}
		break;
	case VIREO_QUEUE_DOORBELL:
		if (q->sring.entries) {
			q->sring.stat.doorbells++;
			pv->ops->doorbell(pv, i);
		}
		break;
	default:
		break;
	}
}

/* ---- status ---- */

static void reset(struct vireo_pv *pv)
{
	unsigned int i;

	for (i = 0; i < pv->queues; i++) {
		queue_disable(&pv->queue[i]);
		pv->queue[i] = (struct vireo_pv_queue){
			.fd = -1, .entries = pv->queue_max, .vector = VIREO_PCI_NO_VECTOR,
		};
	}
	if (pv->status != VIREO_STATUS_RESET && pv->ops->accept)
		pv->ops->accept(pv, false, 0);
	pv->status = VIREO_STATUS_RESET;
	pv->accepted = 0;
	pv->vector = VIREO_PCI_NO_VECTOR;
	pv->changed = false;
}

static void pv_reset(void *ctx)
{
	reset(ctx);
}

static void set_status(struct vireo_pv *pv, __u32 value)
{
	if (value == VIREO_STATUS_RESET)
		reset(pv);
	if (value != VIREO_STATUS_OK || pv->status != VIREO_STATUS_RESET ||
	    (pv->accepted & ~pv->offered))
		return;
	if (pv->ops->accept && pv->ops->accept(pv, true, pv->accepted))
		pv->status = VIREO_STATUS_FAILED;
	else
		pv->status = VIREO_STATUS_OK;
}

/* ---- registers ---- */

static __u32 common_read(const struct vireo_pv *pv, __u32 offset)
{
	switch (offset) {
	case VIREO_REG_MAGIC:
		return VIREO_PCI_MAGIC;
	case VIREO_REG_VERSION:
		return VIREO_PCI_VERSION;
	case VIREO_REG_STATUS:
		return pv->status;
	case VIREO_REG_GENERATION:
		return pv->generation;
	case VIREO_REG_OFFERED:
		return low(pv->offered);
	case VIREO_REG_OFFERED + 4:
		return high(pv->offered);
	case VIREO_REG_ACCEPTED:
		return low(pv->accepted);
	case VIREO_REG_ACCEPTED + 4:
		return high(pv->accepted);
	case VIREO_REG_QUEUES:
		return pv->queues;
	case VIREO_REG_VECTOR:
		return pv->vector;
	default:
		return 0;
	}
}

static __u32 pv_read(void *ctx, __u32 offset)
{
	struct vireo_pv *pv = ctx;
	unsigned int i;
	__u32 value;

	if (offset < VIREO_REG_CONFIG)
		return common_read(pv, offset);
	if (offset < VIREO_REG_QUEUE(0)) {
		memcpy(&value, pv->config + offset - VIREO_REG_CONFIG, sizeof(value));
		return value;
	}
	i = (offset - VIREO_REG_QUEUE(0)) / QUEUE_STRIDE;
	return i < pv->queues ? queue_read(pv, i, offset % QUEUE_STRIDE) : 0;
}

static void common_write(struct vireo_pv *pv, __u32 offset, __u32 value)
{
	switch (offset) {
	case VIREO_REG_STATUS:
		set_status(pv, value);
		break;
	case VIREO_REG_ACCEPTED:
		if (pv->status == VIREO_STATUS_RESET)
			set_low(&pv->accepted, value);
		break;
	case VIREO_REG_ACCEPTED + 4:
		if (pv->status == VIREO_STATUS_RESET)
			set_high(&pv->accepted, value);
		break;
	case VIREO_REG_VECTOR:
		pv->vector = valid_vector(pv, value);
		send_change(pv);
		break;
	default:
		break;
	}
}

static void pv_write(void *ctx, __u32 offset, __u32 value)
{
	struct vireo_pv *pv = ctx;
	unsigned int i;

	if (offset < VIREO_REG_QUEUE(0)) {
		common_write(pv, offset, value);
		return;
	}
	i = (offset - VIREO_REG_QUEUE(0)) / QUEUE_STRIDE;
	if (i < pv->queues)
		queue_write(pv, i, offset % QUEUE_STRIDE, value);
}

static const struct vireo_pci_ops pci_ops = {
	.read = pv_read,
	.write = pv_write,
	.route = pv_route,
	.pending = pv_pending,
	.reset = pv_reset,
};

/* ---- life ---- */

/* Take neighbouring doorbells; false: there are not so many left. */
static bool take_doorbells(struct vireo_pv *pv)
{
	bool *taken = pv->vm->doorbell;
	unsigned int first, n = 0;

	pv->doorbell = 0;
	if (pv->ops->doorbell)
		return true;
	for (first = 0; first + pv->queues <= VIREO_MAX_QUEUES; first += n + 1) {
		for (n = 0; n < pv->queues && !taken[first + n]; n++)
			continue;
		if (n == pv->queues) {
			memset(taken + first, true, n);
			pv->doorbell = first;
			return true;
		}
	}
	return false;
}

static void give_doorbells(struct vireo_pv *pv)
{
	if (!pv->ops->doorbell)
		memset(pv->vm->doorbell + pv->doorbell, false, pv->queues);
}

/* What the guest's PCI finds */
static void identify(struct vireo_pci_function *f, const char *kind)
{
	static const struct {
		const char *kind;
		__u16 device;
		__u32 class;
	} ids[] = {
		{ "disk", VIREO_PCI_BLK, VIREO_PCI_CLASS_BLK },
		{ "net", VIREO_PCI_NET, VIREO_PCI_CLASS_NET },
		{ "console", VIREO_PCI_CONSOLE, VIREO_PCI_CLASS_CONSOLE },
		{ "rng", VIREO_PCI_RNG, VIREO_PCI_CLASS_RNG },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		if (!strcmp(kind, ids[i].kind)) {
			f->device = ids[i].device;
			f->class = ids[i].class;
		}
	}
}

/**
 * vireo_pv_attach - put a device on bus 0, or into a slot
 * @pv: with its public part set
 * @pci: the bridge
 * @port: an empty slot, or NULL
 * @err: why not; then vireo_pv_destroy() is due all the same
 */
int vireo_pv_attach(struct vireo_pv *pv, struct vireo_pci *pci, struct vireo_port *port,
		    struct vireo_error *err)
{
	int ret = 0;

	if (!pv->queues || pv->queues > VIREO_PCI_QUEUES)
		return vireo_fail(err, EINVAL, "%u queues: 1 to %u are possible", pv->queues,
				  VIREO_PCI_QUEUES);
	if (!take_doorbells(pv))
		return vireo_fail(err, ENOSPC,
				  "too many queues: all devices together may have %u; give some of them queues=1",
				  VIREO_MAX_QUEUES);
	pv->status = VIREO_STATUS_RESET;
	memset(pv->queue, 0xff, sizeof(pv->queue));
	reset(pv);
	pv->function = (struct vireo_pci_function){
		.vectors = pv->queues + 1, .ops = &pci_ops, .ctx = pv,
	};
	identify(&pv->function, pv->ops->kind);
	if (port)
		vireo_port_plug(port, &pv->function);
	else
		ret = vireo_pci_attach(pci, &pv->function, err);
	if (ret) {
		give_doorbells(pv);
		return ret;
	}
	pv->pci = pci;
	pv->port = port;
	return 0;
}

/** vireo_pv_lift - before all devices of a machine that is restored settle elsewhere */
void vireo_pv_lift(struct vireo_pv *pv)
{
	give_doorbells(pv);
	if (pv->function.slot)
		pv->pci->function[pv->function.slot] = NULL;
}

/**
 * vireo_pv_settle - have a device where it was when its machine was stored
 * @pv: after vireo_pv_lift(), with @number, @doorbell and @function.slot as they were
 *
 * Return: whether that is possible: there is room, and nothing else is there.
 */
bool vireo_pv_settle(struct vireo_pv *pv)
{
	unsigned int slot = pv->function.slot, i;

	pv->function.slot = 0;
	if (slot >= VIREO_PCI_SLOTS || (slot && pv->pci->function[slot]))
		return false;
	for (i = 0; i < pv->queues && !pv->ops->doorbell; i++) {
		if (pv->doorbell >= VIREO_MAX_QUEUES - i || pv->vm->doorbell[pv->doorbell + i])
			return false;
	}
	if (!pv->ops->doorbell)
		memset(pv->vm->doorbell + pv->doorbell, true, pv->queues);
	pv->function.slot = slot;
	if (slot)
		pv->pci->function[slot] = &pv->function;
	snprintf(pv->name, sizeof(pv->name), "%s%u", pv->ops->kind, pv->number);
	return true;
}

/**
 * vireo_pv_refresh - what is behind a device may have changed: tell its driver
 * @pv: on a bus
 * @err: why it cannot be known
 *
 * Return: 1 if something has changed, 0, or a negative errno.
 */
int vireo_pv_refresh(struct vireo_pv *pv, struct vireo_error *err)
{
	__u8 config[VIREO_PV_CONFIG] = { 0 };
	int ret;

	ret = pv->ops->refresh(pv, config, err);
	if (ret)
		return ret;
	pthread_mutex_lock(&pv->pci->lock);
	if (memcmp(config, pv->config, sizeof(config))) {
		memcpy(pv->config, config, sizeof(config));
		pv->generation++;
		pv->changed = true;
		send_change(pv);
		ret = 1;
	}
	pthread_mutex_unlock(&pv->pci->lock);
	return ret;
}

/** vireo_pv_stat - counters of a queue; 0 or a negative errno: ENOENT: it is not served */
int vireo_pv_stat(struct vireo_pv *pv, unsigned int queue, struct vireo_queue_stat *stat)
{
	int ret = -ENOENT;

	pthread_mutex_lock(&pv->pci->lock);
	if (queue < pv->queues && pv->queue[queue].fd >= 0)
		ret = vireo_queue_stat(pv->queue[queue].fd, stat);
	if (queue < pv->queues && pv->queue[queue].sring.entries) {
		*stat = pv->queue[queue].sring.stat;
		ret = 0;
	}
	pthread_mutex_unlock(&pv->pci->lock);
	return ret;
}

/**
 * vireo_pv_suspend - serve no queue for a while; returns when nothing is in flight
 * @pv: on a bus; no vCPU runs
 * @err: why not; vireo_pv_resume() is due all the same
 *
 * Where a queue was is in its ring; a guest that lies there loses the queue.
 */
int vireo_pv_suspend(struct vireo_pv *pv, struct vireo_error *err)
{
	unsigned int i;
	__u32 at = 0;
	int ret = 0;

	for (i = 0; i < pv->queues && !ret; i++) {
		struct vireo_pv_queue *q = &pv->queue[i];

		if (!is_served(q))
			continue;
		q->suspended = true;
		q->start = q->sring.tail;
		queue_disable(q);
		if (pv->ops->doorbell)
			continue;
		ret = vireo_vm_read(pv->vm, q->ring + offsetof(struct vireo_ring_ctl, comp_tail),
				    &at, sizeof(at), err);
		q->start = at;
	}
	return ret;
}

/**
 * vireo_pv_resume - go on where vireo_pv_suspend() stopped
 * @pv: on a bus; its registers cannot be reached: no vCPU runs, or the machine is held
 * @err: why a queue cannot: it has ended, and the driver is told
 */
int vireo_pv_resume(struct vireo_pv *pv, struct vireo_error *err)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < pv->queues; i++) {
		struct vireo_pv_queue *q = &pv->queue[i];
		int code;

		if (!q->suspended)
			continue;
		q->suspended = false;
		code = queue_serve(pv, i, VIREO_QUEUE_RESUME, q->start);
		if (code) {
			ret = vireo_fail(err, -code, "cannot serve queue %u of %s again: %s", i,
					 pv->name, strerror(-code));
			queue_end(pv, q);
			continue;
		}
		queue_route(pv, q);
		if (pv->ops->doorbell)
			pv->ops->doorbell(pv, i);
	}
	return ret;
}

/**
 * vireo_pv_inherit - in a process made by fork(2): leave the queues to the other one
 * @pv: the other's, which had them back already: as when it was suspended
 */
void vireo_pv_inherit(struct vireo_pv *pv)
{
	unsigned int i;

	for (i = 0; i < pv->queues; i++) {
		pv->queue[i].suspended |= pv->queue[i].fd >= 0;
		queue_disable(&pv->queue[i]);
	}
}

/** vireo_pv_destroy - take a device from its bus if it is on one, and free it */
void vireo_pv_destroy(struct vireo_pv *pv)
{
	if (pv->pci) {
		if (pv->port)
			vireo_port_unplug(pv->port);
		else
			vireo_pci_detach(pv->pci, &pv->function);
		reset(pv);
		give_doorbells(pv);
	}
	pv->ops->destroy(pv);
}
