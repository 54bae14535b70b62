// SPDX-License-Identifier: GPL-2.0
/* A source of random numbers: the host's, as a device. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "libvireo.h"
#include "util.h"

#define QUEUE_MAX	64U

static_assert_that(sizeof(struct vireo_rng_sub) == VIREO_RING_ENTRY, "an entry");

/* Fill an entry's segments; its status. */
static __u16 fill(struct vireo_sring *r, const void *entry, __u32 *bytes)
{
	struct vireo_seg seg[VIREO_RING_INDIRECT];
	__u8 data[VIREO_RNG_MAX_BYTES];
	struct vireo_error err;
	__u32 done = 0;
	int n, i;

	n = vireo_sring_segments(r, entry, seg, sizeof(data), bytes);
	if (n < 0)
		return VIREO_COMP_INVALID;
	while (done < *bytes) {
		ssize_t got = getrandom(data + done, *bytes - done, 0);

		if (got < 0 && errno != EINTR)
			return VIREO_COMP_IO;
		done += got > 0 ? (__u32)got : 0;
	}
	for (i = 0, done = 0; i < n; done += seg[i++].len) {
		if (vireo_vm_write(r->vm, seg[i].gpa, data + done, seg[i].len, &err))
			return VIREO_COMP_INVALID;
	}
	return VIREO_COMP_OK;
}

/* A driver cannot put more than the ring has while it waits for this to return. */
static void rng_doorbell(struct vireo_pv *pv, unsigned int queue)
{
	struct vireo_sring *r = &pv->queue[queue].sring;
	__u8 entry[VIREO_RING_ENTRY];
	unsigned int left = r->entries;
	__u32 bytes;
	__u16 status;

	while (left-- && vireo_sring_next(r, entry)) {
		bytes = 0;
		status = fill(r, entry, &bytes);
		if (status != VIREO_COMP_OK)
			bytes = 0;
		vireo_sring_complete(r, entry, status, bytes, bytes);
	}
	if (vireo_sring_show(r))
		vireo_pv_interrupt(pv, queue);
}

static int rng_refresh(struct vireo_pv *pv, void *config, struct vireo_error *err)
{
	struct vireo_rng_config *c = config;

	(void)err;
	memcpy(c, pv->config, sizeof(*c));
	c->epoch++;	/* how often the machine was copied, or was told that it was */
	return 0;
}

static int rng_can_fork(struct vireo_pv *pv, struct vireo_error *err)
{
	(void)pv;
	(void)err;
	return 0;
}

/* The clone gets numbers of its own. */
static int rng_fork(struct vireo_pv *pv, const struct vireo_clone *clone,
		    struct vireo_error *err)
{
	int ret = vireo_pv_refresh(pv, err);

	(void)clone;
	return ret < 0 ? ret : 0;
}

static void rng_destroy(struct vireo_pv *pv)
{
	free(pv);
}

static const struct vireo_pv_ops rng_ops = {
	.kind = "rng",
	.refresh = rng_refresh,
	.can_fork = rng_can_fork,
	.fork = rng_fork,
	.doorbell = rng_doorbell,
	.destroy = rng_destroy,
};

/**
 * vireo_rng_create - make a source of random numbers
 * @vm: whose
 * @err: why not
 *
 * Return: a device for vireo_pv_attach(), or NULL.
 */
struct vireo_pv *vireo_rng_create(struct vireo_vm *vm, struct vireo_error *err)
{
	struct vireo_pv *pv = calloc(1, sizeof(*pv));

	if (!pv) {
		vireo_fail(err, ENOMEM, "out of memory");
		return NULL;
	}
	pv->ops = &rng_ops;
	pv->vm = vm;
	pv->fd = -1;
	pv->queues = 1;
	pv->queue_max = QUEUE_MAX;
	pv->config_len = sizeof(struct vireo_rng_config);
	snprintf(pv->backing, sizeof(pv->backing), "getrandom");
	return pv;
}
