/* SPDX-License-Identifier: GPL-2.0 */
/* A disk's changes in memory; see overlay.c. */
#ifndef VIREO_OVERLAY_H
#define VIREO_OVERLAY_H

#include <linux/types.h>

struct file;
struct iov_iter;
struct vireo_mem;

struct vireo_overlay {
	struct vireo_mem *mem;	/* the blocks; NULL: there is no overlay */
	struct file *file;	/* that of @mem, held by the disk */
	struct file *base;	/* likewise */
	u64 max;		/* bytes of @mem */
};

bool vireo_overlay_has(const struct vireo_overlay *o, u64 pos, u32 len);
int vireo_overlay_rw(const struct vireo_overlay *o, u64 pos, struct iov_iter *iter, bool write);

#endif /* VIREO_OVERLAY_H */
