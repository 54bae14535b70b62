/* SPDX-License-Identifier: GPL-2.0 */
/* All that differs between the supported guest kernels, 6.1 to 6.12. */
#ifndef VIREO_GUEST_COMPAT_H
#define VIREO_GUEST_COMPAT_H

#include <linux/blk-mq.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/netdevice.h>
#include <linux/version.h>
#include <net/xdp.h>

#define KERNEL_AT_LEAST(a, b)	(KERNEL_VERSION(a, b, 0) <= LINUX_VERSION_CODE)

#if !KERNEL_AT_LEAST(6, 1) || \
	KERNEL_AT_LEAST(6, 13)
#error "vireo: guest kernels 6.1 to 6.12 are supported"
#endif

#if KERNEL_AT_LEAST(6, 6)
#include <net/page_pool/helpers.h>
#else
#include <net/page_pool.h>
#endif

/* ---- Block --------------------------------------------------------------------------- */

/**
 * struct compat_limits - what struct queue_limits and its setters are told
 * @logical_block: bytes
 * @physical_block: bytes
 * @max_sectors: of a request
 * @max_segments: likewise
 * @max_segment_size: bytes
 * @max_discard: sectors, 0: not supported
 * @discard_granularity: bytes
 * @max_zeroes: sectors, 0: not supported
 * @cache: there is a volatile write cache, and FUA
 */
struct compat_limits {
	unsigned int logical_block;
	unsigned int physical_block;
	unsigned int max_sectors;
	unsigned int max_segments;
	unsigned int max_segment_size;
	unsigned int max_discard;
	unsigned int discard_granularity;
	unsigned int max_zeroes;
	bool cache;
};

#if KERNEL_AT_LEAST(6, 11)

static inline struct gendisk *compat_alloc_disk(struct blk_mq_tag_set *set,
						const struct compat_limits *cl, void *data)
{
	struct queue_limits lim = {
		.logical_block_size = cl->logical_block,
		.physical_block_size = cl->physical_block,
		.io_min = cl->physical_block,
		.max_hw_sectors = cl->max_sectors,
		.max_segments = cl->max_segments,
		.max_segment_size = cl->max_segment_size,
		.max_hw_discard_sectors = cl->max_discard,
		.max_discard_segments = cl->max_discard ? 1 : 0,
		.discard_granularity = cl->max_discard ? cl->discard_granularity : 0,
		.max_write_zeroes_sectors = cl->max_zeroes,
		.features = cl->cache ? BLK_FEAT_WRITE_CACHE | BLK_FEAT_FUA : 0,
	};

	return blk_mq_alloc_disk(set, &lim, data);
}

#else

static inline struct gendisk *compat_alloc_disk(struct blk_mq_tag_set *set,
						const struct compat_limits *cl, void *data)
{
#if KERNEL_AT_LEAST(6, 9)
	struct gendisk *disk = blk_mq_alloc_disk(set, NULL, data);
#else
	struct gendisk *disk = blk_mq_alloc_disk(set, data);
#endif
	struct request_queue *q;

	if (IS_ERR(disk))
		return disk;
	q = disk->queue;
	blk_queue_logical_block_size(q, cl->logical_block);
	blk_queue_physical_block_size(q, cl->physical_block);
	blk_queue_max_hw_sectors(q, cl->max_sectors);
	blk_queue_max_segments(q, cl->max_segments);
	blk_queue_max_segment_size(q, cl->max_segment_size);
	if (cl->max_discard) {
		blk_queue_max_discard_sectors(q, cl->max_discard);
		q->limits.discard_granularity = cl->discard_granularity;
	}
	blk_queue_max_write_zeroes_sectors(q, cl->max_zeroes);
	blk_queue_write_cache(q, cl->cache, cl->cache);
	blk_queue_flag_set(QUEUE_FLAG_NONROT, q);
	return disk;
}

#endif

/* ---- Network ------------------------------------------------------------------------- */

#ifndef PP_FLAG_PAGE_FRAG
#define PP_FLAG_PAGE_FRAG		0	/* any pool gives parts of pages */
#endif

#if KERNEL_AT_LEAST(6, 3)
#define compat_xdp_features(dev, f)	((dev)->xdp_features = (f))
#else
#define NETDEV_XDP_ACT_BASIC		0
#define NETDEV_XDP_ACT_REDIRECT		0
#define compat_xdp_features(dev, f)	((void)(f))
#endif

/* ---- Terminals ----------------------------------------------------------------------- */

#if KERNEL_AT_LEAST(6, 6)
#define compat_written	ssize_t		/* what tty_operations.write() returns */
#define compat_count	size_t		/* and is given */
#else
#define compat_written	int
#define compat_count	int
#endif

#endif /* VIREO_GUEST_COMPAT_H */
