// SPDX-License-Identifier: GPL-2.0
/*
 * A console as a device.  What does not fit on the other side stays in the ring,
 * and is gone on with when there is room: nobody waits, nothing is lost.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libvireo.h"
#include "util.h"

#define QUEUE_MAX	256U

static_assert_that(sizeof(struct vireo_console_sub) == VIREO_RING_ENTRY, "an entry");

/**
 * struct tty - a console
 * @pv: its device
 * @spec: what is on the other side
 * @size: of the terminal
 * @typed: input that was taken from the other side, and not by the guest
 * @len: bytes in @typed
 */
struct tty {
	struct vireo_pv pv;
	struct vireo_console_spec spec;
	struct vireo_console_config size;
	__u8 typed[VIREO_CONSOLE_MAX_BYTES];
	size_t len;
};

static struct tty *to_tty(struct vireo_pv *pv)
{
	return (struct tty *)((char *)pv - offsetof(struct tty, pv));
}

/* Put what was typed into an entry's segments; true: it is to be completed. */
static bool fill(struct tty *t, struct vireo_sring *r, const void *entry, __u16 *status,
		 __u32 *len)
{
	struct vireo_seg seg[VIREO_RING_INDIRECT];
	struct vireo_error err;
	__u32 bytes, done = 0, part;
	int n, i;

	*len = 0;
	*status = VIREO_COMP_INVALID;
	n = vireo_sring_segments(r, entry, seg, VIREO_CONSOLE_MAX_BYTES, &bytes);
	if (n < 0)
		return true;
	if (!t->len)
		t->len = t->spec.input(t->spec.ctx, t->typed, sizeof(t->typed));
	if (!t->len)
		return false;
	for (i = 0; i < n && done < t->len; i++, done += part) {
		part = seg[i].len < t->len - done ? seg[i].len : (__u32)(t->len - done);
		if (vireo_vm_write(r->vm, seg[i].gpa, t->typed + done, part, &err))
			return true;
	}
	t->len -= done;
	memmove(t->typed, t->typed + done, t->len);
	*status = VIREO_COMP_OK;
	*len = done;
	return true;
}

/* Print an entry's segments; true: it is to be completed. */
static bool print(struct tty *t, struct vireo_sring *r, const void *entry, __u16 *status,
		  __u32 *bytes)
{
	struct vireo_seg seg[VIREO_RING_INDIRECT];
	__u8 data[VIREO_CONSOLE_MAX_BYTES];
	struct vireo_error err;
	__u32 done = 0;
	int n, i;

	*status = VIREO_COMP_INVALID;
	n = vireo_sring_segments(r, entry, seg, sizeof(data), bytes);
	if (n < 0)
		return true;
	if (t->spec.room(t->spec.ctx) < *bytes)
		return false;
	for (i = 0; i < n; done += seg[i++].len) {
		if (vireo_vm_read(r->vm, seg[i].gpa, data + done, seg[i].len, &err))
			return true;
	}
	t->spec.output(t->spec.ctx, data, done);
	*status = VIREO_COMP_OK;
	return true;
}

/* At most one round of the ring, for it is a vCPU that waits. */
static void tty_doorbell(struct vireo_pv *pv, unsigned int queue)
{
	struct vireo_sring *r = &pv->queue[queue].sring;
	struct tty *t = to_tty(pv);
	__u8 entry[VIREO_RING_ENTRY];
	unsigned int left = r->entries;
	__u32 len;
	__u16 status;

	while (left-- && vireo_sring_next(r, entry)) {
		if (queue == VIREO_CONSOLE_IN) {
			if (!fill(t, r, entry, &status, &len))
				break;
			vireo_sring_complete(r, entry, status, len, len);
		} else {
			if (!print(t, r, entry, &status, &len))
				break;
			vireo_sring_complete(r, entry, status, 0, status ? 0 : len);
		}
	}
	if (vireo_sring_show(r))
		vireo_pv_interrupt(pv, queue);
}

/**
 * vireo_console_update - there is input, or room for output
 * @pv: a console, on a bus
 */
void vireo_console_update(struct vireo_pv *pv)
{
	unsigned int i;

	pthread_mutex_lock(&pv->pci->lock);
	for (i = 0; i < pv->queues; i++) {
		if (pv->queue[i].sring.entries)
			tty_doorbell(pv, i);
	}
	pthread_mutex_unlock(&pv->pci->lock);
}

static int tty_refresh(struct vireo_pv *pv, void *config, struct vireo_error *err)
{
	(void)err;
	memcpy(config, &to_tty(pv)->size, sizeof(to_tty(pv)->size));
	return 0;
}

/**
 * vireo_console_resize - the terminal has another size
 * @pv: a console, on a bus
 * @columns: 0: not known
 * @rows: likewise
 */
void vireo_console_resize(struct vireo_pv *pv, __u32 columns, __u32 rows)
{
	struct vireo_error err;

	to_tty(pv)->size = (struct vireo_console_config){ .columns = columns, .rows = rows };
	vireo_pv_refresh(pv, &err);
}

static int tty_can_fork(struct vireo_pv *pv, struct vireo_error *err)
{
	(void)pv;
	(void)err;
	return 0;
}

/* The ring goes on where it is; what the first machine's user typed is not ours. */
static int tty_fork(struct vireo_pv *pv, const struct vireo_clone *clone,
		    struct vireo_error *err)
{
	(void)clone;
	(void)err;
	to_tty(pv)->len = 0;
	return 0;
}

static void tty_destroy(struct vireo_pv *pv)
{
	free(to_tty(pv));
}

static const struct vireo_pv_ops tty_ops = {
	.kind = "console",
	.refresh = tty_refresh,
	.can_fork = tty_can_fork,
	.fork = tty_fork,
	.doorbell = tty_doorbell,
	.destroy = tty_destroy,
};

/**
 * vireo_console_create - make a console
 * @vm: whose
 * @spec: what is on the other side
 * @err: why not
 *
 * Return: a device for vireo_pv_attach(), or NULL.
 */
struct vireo_pv *vireo_console_create(struct vireo_vm *vm, const struct vireo_console_spec *spec,
				      struct vireo_error *err)
{
	struct tty *t = calloc(1, sizeof(*t));

	if (!t) {
		vireo_fail(err, ENOMEM, "out of memory");
		return NULL;
	}
	t->spec = *spec;
	t->pv.ops = &tty_ops;
	t->pv.vm = vm;
	t->pv.fd = -1;
	t->pv.offered = VIREO_CONSOLE_F_SIZE;
	t->pv.queues = VIREO_CONSOLE_QUEUES;
	t->pv.queue_max = QUEUE_MAX;
	t->pv.config_len = sizeof(struct vireo_console_config);
	snprintf(t->pv.backing, sizeof(t->pv.backing), "console");
	return &t->pv;
}
