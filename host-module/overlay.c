// SPDX-License-Identifier: GPL-2.0
/*
 * Disks whose changes stay in memory: what a guest writes goes into 4 KiB blocks
 * there, which stand for those of a file or device that is only read.
 *
 * The memory is that of a VM, though of one that does not run: so it is shared and
 * forked as guest memory is, and can be read through its fd.  A block comes into
 * being with all of its content and does not go.  Who finds one may use it, and who
 * finds none may read the file: no lock is held in between.
 */
#include <linux/blkdev.h>
#include <linux/bvec.h>
#include <linux/uio.h>

#include "vireo.h"
#include "overlay.h"

enum overlay_part { FROM_BASE, FROM_BLOCKS, TO_BLOCKS };

/* Moves all of @len bytes. */
static int overlay_move(const struct vireo_overlay *o, enum overlay_part part, u64 pos,
			struct iov_iter *iter, size_t len)
{
	size_t after = iov_iter_count(iter) - len;
	ssize_t n = 0;

	iov_iter_truncate(iter, len);
	while (n >= 0 && iov_iter_count(iter)) {
		loff_t at = pos;

		if (part == FROM_BASE)	/* nothing at all: the file has become shorter */
			n = vfs_iter_read(o->base, iter, &at, 0) ?: -EIO;
		else
			n = vireo_mem_copy(o->mem, pos, iter);
		pos += n;
	}
	iov_iter_reexpand(iter, iov_iter_count(iter) + after);
	return min_t(ssize_t, n, 0);
}

/* Makes a block; what is not written to it is as it was. */
static int overlay_add(const struct vireo_overlay *o, u64 pos, struct iov_iter *iter, size_t len)
{
	u64 block = pos & PAGE_MASK;
	u64 size = round_down(i_size_read(o->base->f_mapping->host), SECTOR_SIZE);
	struct bio_vec bv = {};
	struct iov_iter fill;
	int err = 0;

	if (vireo_mem_headroom(o->mem))
		bv.bv_page = alloc_page(MEM_GFP | __GFP_ZERO);
	if (!bv.bv_page)
		return -ENOSPC;	/* not ENOMEM: the guest would try for ever */
	bv.bv_len = min_t(u64, PAGE_SIZE, size > block ? size - block : 0);
	if (len < PAGE_SIZE) {
		iov_iter_bvec(&fill, ITER_DEST, &bv, 1, bv.bv_len);
		err = overlay_move(o, FROM_BASE, block, &fill, bv.bv_len);
	}
	if (!err && !copy_from_iter_full(page_address(bv.bv_page) + (pos - block), len, iter))
		err = -EFAULT;
	if (!err) {
		err = vireo_mem_fill(o->mem, block, bv.bv_page, o->max);
		if (err)
			iov_iter_revert(iter, len);
	}
	if (err)
		put_page(bv.bv_page);
	return err == -ENOMEM ? -ENOSPC : err;
}

static int overlay_write(const struct vireo_overlay *o, u64 pos, struct iov_iter *iter, size_t len)
{
	int err = -EEXIST;

	if (vireo_mem_seek(o->mem, pos, pos + len, true) != pos)
		err = overlay_add(o, pos, iter, len);
	if (err == -EEXIST)
		err = overlay_move(o, TO_BLOCKS, pos, iter, len);
	return err == -ENOMEM ? -ENOSPC : err;
}

/**
 * vireo_overlay_has() - whether a range of a disk was written to
 * @o: the overlay
 * @pos: first byte
 * @len: bytes
 * Context: May sleep.
 * Return: Whether part of it was.
 */
bool vireo_overlay_has(const struct vireo_overlay *o, u64 pos, u32 len)
{
	return vireo_mem_seek(o->mem, pos, pos + len, true) < pos + len;
}

/**
 * vireo_overlay_rw() - read or write a range of a disk
 * @o: the overlay
 * @pos: first byte; the range is one that the base takes, and has
 * @iter: the data
 * @write: from @iter
 * Context: May sleep.
 * Return: 0, -ENOSPC (no more blocks) or what reading the base gave.
 */
int vireo_overlay_rw(const struct vireo_overlay *o, u64 pos, struct iov_iter *iter, bool write)
{
	u64 end = pos + iov_iter_count(iter), next;
	int err = 0;

	for (; pos < end && !err; pos = next) {
		if (write) {
			next = min(end, (pos | ~PAGE_MASK) + 1);
			err = overlay_write(o, pos, iter, next - pos);
			continue;
		}
		next = vireo_mem_seek(o->mem, pos, end, true);
		if (next > pos) {
			err = overlay_move(o, FROM_BASE, pos, iter, next - pos);
			continue;
		}
		next = vireo_mem_seek(o->mem, pos, end, false);
		err = overlay_move(o, FROM_BLOCKS, pos, iter, next - pos);
	}
	return err;
}
