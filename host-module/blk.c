// SPDX-License-Identifier: GPL-2.0
/*
 * Disks: a guest's requests (uapi/vireo_blk.h) become bios, or direct I/O on a
 * file, on the guest's own pages.
 *
 * A doorbell takes the entries and starts them.  What may stall goes through the
 * workqueue: of a block device zeroes and what it does not take at once, and of a
 * file all but the reads that the file system can begin at once.  Whoever ends the
 * last part of a request, in any context, completes the entry.
 *
 * A request lives in a slot.  There are as many as the ring has entries, which
 * is what the ring lets be in flight.  Free slots come back by a lock-free list
 * and are taken by the one who takes entries.
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/falloc.h>
#include <linux/llist.h>
#include <linux/memcontrol.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/sizes.h>
#include <linux/uio.h>

#include "vireo.h"
#include "compat.h"
#include "overlay.h"
#include "queue.h"
#include "../uapi/vireo_blk.h"

#define MAX_DISCARD	(SZ_2G / SECTOR_SIZE)	/* sectors: one bio holds them */
#define INLINE_VECS	8
#define BLOCK_MAX	4096U		/* largest logical block */
#define BLOCK_VECS	(BLOCK_MAX / SECTOR_SIZE)
#define BURST_NS	(NSEC_PER_SEC / 10)	/* what a limit lets through at once */

/* A limit by the time that it takes: what is used up reaches to @until. */
struct blk_limit {
	u64 rate;		/* per second, 0: none */
	u64 until;		/* ns */
};

struct blk_disk {
	struct vireo_vm *vm;		/* (i) held */
	struct file *file;		/* (i) held */
	struct block_device *bdev;	/* (i) NULL: a regular file */
	struct vireo_overlay overlay;	/* (i) files held */
	struct mem_cgroup *memcg;	/* (i) held: whose all memory is */
	u32 flags;			/* (i) VIREO_DISK_* */
	u32 block;			/* (i) logical, bytes */
	u32 align;			/* (i) mask: of segments */
	int ki_flags;			/* (i) */
	u64 sectors;			/* (a) */
	bool limited;			/* (a) look at the limits */
	spinlock_t lock;		/* the limits */
	struct blk_limit bytes, requests;
};

struct blk_request {
	struct llist_node free;		/* or in blk_queue.late */
	struct vireo_queue *q;		/* (i) */
	__le16 tag;
	u8 op;
	u8 flags;
	bool nowait;			/* submitted so: -EAGAIN is not the end */
	int err;			/* (a) the first error; of a file: what came back */
	atomic_t pending;		/* parts that have not ended */
	u32 bytes;			/* of data */
	u32 done;			/* of a file's: there already */
	u32 nvecs;
	u64 sector;
	u64 sectors;
	struct bio_vec *vec;		/* pages held */
	void *extra;			/* bios and vectors, if there are many */
	struct work_struct work;
	union {
		struct bio bio;
		struct kiocb iocb;
	};
	struct bio_vec inl[INLINE_VECS];
};

/* vireo_queue.room; all but the lists are (t) */
struct blk_queue {
	struct llist_head free;
	struct llist_head late;		/* what the device did not take at once */
	struct work_struct work;	/* waits with them; pending: holds a reference */
	struct vireo_queue *q;		/* (i) */
	struct llist_node *slots;
	bool dry;			/* waits for a limit */
	struct vireo_seg segs[VIREO_RING_INDIRECT];
	struct blk_request req[];
};

static_assert(sizeof(struct vireo_blk_sub) == VIREO_RING_ENTRY);

/* ---- The end of a request ----------------------------------------------------------------- */

static void blk_end(struct blk_request *req, u16 status)
{
	struct vireo_comp comp = { .tag = req->tag, .status = cpu_to_le16(status) };
	struct vireo_queue *q = req->q;
	struct blk_queue *b = q->room;
	unsigned int i;

	if (!status && req->op == VIREO_BLK_READ)
		comp.len = cpu_to_le32(req->bytes);
	for (i = 0; i < req->nvecs; i++)
		put_page(req->vec[i].bv_page);
	kfree(req->extra);
	llist_add(&req->free, &b->free);
	vireo_queue_complete(q, &comp, 1);
}

static u16 blk_status(int err)
{
	switch (err) {
	case 0:
		return VIREO_COMP_OK;
	case -EOPNOTSUPP:
		return VIREO_COMP_UNSUPPORTED;
	case -ENOSPC:
	case -EDQUOT:
		return VIREO_COMP_NOSPC;
	case -ENOMEM:
	case -EAGAIN:
		return VIREO_COMP_RETRY;
	case -EROFS:
		return VIREO_COMP_READONLY;
	default:
		return VIREO_COMP_IO;
	}
}

/* ---- Block devices ------------------------------------------------------------------------ */

/* One thread waits for all of a queue. */
static void blk_late(struct blk_request *req)
{
	struct blk_queue *b = req->q->room;

	kref_get(&b->q->ref);
	llist_add(&req->free, &b->late);
	if (!queue_work(vireo_wq, &b->work))
		vireo_queue_put(b->q);
}

static void blk_bio_end(struct bio *bio)
{
	struct blk_request *req = bio->bi_private;

	if (bio->bi_status)
		cmpxchg(&req->err, 0, blk_status_to_errno(bio->bi_status));
	bio_uninit(bio);
	if (!atomic_dec_and_test(&req->pending))
		return;
	if (READ_ONCE(req->err) == -EAGAIN && req->nowait)
		blk_late(req);
	else
		blk_end(req, blk_status(READ_ONCE(req->err)));
}

static void blk_bio_init(struct bio *bio, struct blk_request *req, blk_opf_t op,
			 struct bio_vec *vec, unsigned int nvecs, u64 sector, u32 bytes)
{
	const struct blk_disk *d = req->q->dev;

	bio_init(bio, d->bdev, vec, nvecs, op);
	bio->bi_vcnt = nvecs;
	bio->bi_iter.bi_sector = sector;
	bio->bi_iter.bi_size = bytes;
	bio->bi_private = req;
	bio->bi_end_io = blk_bio_end;
}

/* How many vectors go into one bio: whole blocks. */
static unsigned int blk_cut(const struct blk_request *req, unsigned int from, u32 *bytes)
{
	const struct blk_disk *d = req->q->dev;
	unsigned int i, n = 0;
	u32 size = 0;

	for (i = from; i < req->nvecs && i - from < BIO_MAX_VECS; i++) {
		size += req->vec[i].bv_len;
		if (size & (d->block - 1))
			continue;
		n = i + 1 - from;
		*bytes = size;
	}
	return n;
}

static void blk_submit_data(struct blk_request *req)
{
	blk_opf_t op = req->op == VIREO_BLK_READ ? REQ_OP_READ :
		       REQ_OP_WRITE | REQ_SYNC | REQ_IDLE;
	struct bio *bio = &req->bio, *more = req->extra;
	u64 sector = req->sector;
	unsigned int from = 0;
	bool last;

	if (req->flags & VIREO_BLK_FUA)
		op |= REQ_FUA;
	if (req->nowait)
		op |= REQ_NOWAIT;
	do {
		u32 bytes = 0;
		unsigned int n = blk_cut(req, from, &bytes);

		blk_bio_init(bio, req, op, req->vec + from, n, sector, bytes);
		sector += bytes >> SECTOR_SHIFT;
		from += n;
		last = from == req->nvecs;
		if (!last)	/* the last one's part is there since the start */
			atomic_inc(&req->pending);
		submit_bio(bio);	/* the last: the request may be gone */
		bio = more++;
	} while (!last);
}

static void blk_submit(struct blk_request *req, bool nowait)
{
	blk_opf_t op = req->op == VIREO_BLK_DISCARD ? REQ_OP_DISCARD :
		       REQ_OP_WRITE | REQ_PREFLUSH | REQ_SYNC;

	if (nowait)
		op |= REQ_NOWAIT;
	req->nowait = nowait;
	req->err = 0;
	atomic_set(&req->pending, 1);
	if (req->op == VIREO_BLK_READ || req->op == VIREO_BLK_WRITE) {
		blk_submit_data(req);
		return;
	}
	/* The sectors of a flush are 0. */
	blk_bio_init(&req->bio, req, op, NULL, 0, req->sector, req->sectors << SECTOR_SHIFT);
	submit_bio(&req->bio);
}

/* In the order in which they came. */
static void blk_late_work(struct work_struct *work)
{
	struct blk_queue *b = container_of(work, struct blk_queue, work);
	struct llist_node *list = llist_reverse_order(llist_del_all(&b->late));
	const struct blk_disk *d = b->q->dev;
	struct mem_cgroup *old = set_active_memcg(d->memcg);
	struct blk_request *req, *next;

	llist_for_each_entry_safe(req, next, list, free)
		blk_submit(req, false);
	set_active_memcg(old);
	vireo_queue_put(b->q);
}

/* ---- Files, and what sleeps ------------------------------------------------------------------ */

/* A part of the I/O on a file is over: the call, or the I/O that it began. */
static void blk_file_put(struct blk_request *req)
{
	int ret;

	if (!atomic_dec_and_test(&req->pending))
		return;
	ret = req->err;
	if (ret > 0)
		req->done += ret;
	if ((ret > 0 && req->done < req->bytes) ||
	    (ret == -EAGAIN && req->iocb.ki_flags & IOCB_NOWAIT))
		queue_work(vireo_wq, &req->work);
	else	/* nothing at all: the file has become shorter */
		blk_end(req, blk_status(ret > 0 ? 0 : ret ?: -EIO));
}

static void blk_file_complete(struct kiocb *iocb, long ret)
{
	struct blk_request *req = container_of(iocb, struct blk_request, iocb);

	if (req->op == VIREO_BLK_WRITE)
		compat_iocb_write_end(iocb);
	req->err = ret;
	blk_file_put(req);
}

static void blk_file_data(struct blk_request *req, int flags)
{
	bool write = req->op == VIREO_BLK_WRITE;
	const struct blk_disk *d = req->q->dev;
	struct iov_iter iter;
	ssize_t ret;

	iov_iter_bvec(&iter, write ? ITER_SOURCE : ITER_DEST, req->vec, req->nvecs, req->bytes);
	iov_iter_advance(&iter, req->done);
	req->iocb = (struct kiocb) {
		.ki_filp = d->file,
		.ki_pos = (req->sector << SECTOR_SHIFT) + req->done,
		.ki_complete = blk_file_complete,
		.ki_flags = d->ki_flags | flags | (write ? IOCB_WRITE : 0) |
			    (req->flags & VIREO_BLK_FUA ? IOCB_DSYNC : 0),
		.ki_ioprio = get_current_ioprio(),
	};
	atomic_set(&req->pending, 2);	/* the file is not let go of before the call returns */
	if (write)
		ret = compat_iocb_write(d->file, &req->iocb, &iter);
	else
		ret = vfs_iocb_iter_read(d->file, &req->iocb, &iter);
	if (ret != -EIOCBQUEUED) {
		req->err = ret;
		atomic_dec(&req->pending);
	}
	blk_file_put(req);
}

/* Also a file's DISCARD, which has no flags. */
static int blk_zero(struct blk_request *req)
{
	bool keep = req->flags & VIREO_BLK_NOUNMAP;
	const struct blk_disk *d = req->q->dev;

	if (d->bdev)
		return blkdev_issue_zeroout(d->bdev, req->sector, req->sectors, GFP_KERNEL,
					    keep ? BLKDEV_ZERO_NOUNMAP : 0);
	return vfs_fallocate(d->file, (keep ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE) |
			     FALLOC_FL_KEEP_SIZE, req->sector << SECTOR_SHIFT,
			     req->sectors << SECTOR_SHIFT);
}

static int blk_overlay(struct blk_request *req)
{
	bool write = req->op == VIREO_BLK_WRITE;
	const struct blk_disk *d = req->q->dev;
	struct iov_iter iter;

	iov_iter_bvec(&iter, write ? ITER_SOURCE : ITER_DEST, req->vec, req->nvecs, req->bytes);
	return vireo_overlay_rw(&d->overlay, req->sector << SECTOR_SHIFT, &iter, write);
}

/* Reads of what was not written need no overlay. */
static bool blk_needs_overlay(const struct blk_request *req)
{
	const struct blk_disk *d = req->q->dev;

	return d->overlay.mem &&
	       (req->op != VIREO_BLK_READ ||
		vireo_overlay_has(&d->overlay, req->sector << SECTOR_SHIFT, req->bytes));
}

static void blk_work(struct work_struct *work)
{
	struct blk_request *req = container_of(work, struct blk_request, work);
	const struct blk_disk *d = req->q->dev;
	struct mem_cgroup *old = set_active_memcg(d->memcg);

	switch (req->op) {
	case VIREO_BLK_FLUSH:
		blk_end(req, blk_status(d->overlay.mem ? 0 : vfs_fsync(d->file, 1)));
		break;
	case VIREO_BLK_DISCARD:
	case VIREO_BLK_WRITE_ZEROES:
		blk_end(req, blk_status(blk_zero(req)));
		break;
	default:
		if (d->overlay.mem)
			blk_end(req, blk_status(blk_overlay(req)));
		else
			blk_file_data(req, 0);
	}
	set_active_memcg(old);
}

/* ---- What an entry asks for ------------------------------------------------------------------ */

static u16 blk_check_range(const struct blk_disk *d, u64 sector, u64 sectors)
{
	u64 end = READ_ONCE(d->sectors);

	if (!sectors || (sector | sectors) & (d->block / SECTOR_SIZE - 1))
		return VIREO_COMP_INVALID;
	return sectors > end || sector > end - sectors ? VIREO_COMP_RANGE : VIREO_COMP_OK;
}

/* Finds the pages of the data and holds them. */
static u16 blk_pin(struct blk_request *req, const struct vireo_seg *segs, unsigned int n)
{
	struct vireo_mem *mem = &req->q->vm->mem;
	unsigned int i;

	for (i = 0; i < n; i++) {
		u64 gpa = le64_to_cpu(segs[i].gpa);
		u32 len = le32_to_cpu(segs[i].len);

		while (len) {
			int got = vireo_mem_pin(mem, gpa, len, req->op == VIREO_BLK_READ,
						&req->vec[req->nvecs]);

			if (got < 0)
				return got == -ENOMEM ? VIREO_COMP_RETRY : VIREO_COMP_INVALID;
			req->nvecs++;
			gpa += got;
			len -= got;
		}
	}
	return VIREO_COMP_OK;
}

static u16 blk_parse_data(struct blk_request *req, const struct vireo_blk_sub *sub)
{
	const struct blk_disk *d = req->q->dev;
	struct blk_queue *b = req->q->room;
	int i, n = vireo_queue_segs(req->q, sub, b->segs, VIREO_RING_INDIRECT);
	unsigned int vecs = 0;
	size_t bios;
	u16 status;

	if (n < 0)
		return VIREO_COMP_INVALID;
	for (i = 0; i < n; i++) {
		u64 gpa = le64_to_cpu(b->segs[i].gpa);
		u32 len = le32_to_cpu(b->segs[i].len);

		if ((gpa | len) & d->align || len > VIREO_BLK_MAX_BYTES - req->bytes)
			return VIREO_COMP_INVALID;
		req->bytes += len;
		vecs += PAGE_ALIGN(offset_in_page(gpa) + len) >> PAGE_SHIFT;
	}
	status = blk_check_range(d, req->sector, req->bytes >> SECTOR_SHIFT);
	if (status)
		return status;
	req->vec = req->inl;
	if (vecs > INLINE_VECS) {	/* and bios, where one does not hold them */
		bios = vecs / (BIO_MAX_VECS - BLOCK_VECS) * sizeof(struct bio);
		req->extra = kmalloc(bios + vecs * sizeof(struct bio_vec),
				     GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
		if (!req->extra)
			return VIREO_COMP_RETRY;
		req->vec = req->extra + bios;
	}
	return blk_pin(req, b->segs, n);
}

static u16 blk_parse(struct blk_request *req, const struct vireo_blk_sub *sub)
{
	static const u8 flags[] = {
		[VIREO_BLK_READ] = VIREO_SUB_INDIRECT,
		[VIREO_BLK_WRITE] = VIREO_SUB_INDIRECT | VIREO_BLK_FUA,
		[VIREO_BLK_WRITE_ZEROES] = VIREO_BLK_NOUNMAP,
	};
	const struct blk_disk *d = req->q->dev;
	bool write = sub->op == VIREO_BLK_WRITE || sub->op == VIREO_BLK_DISCARD ||
		     sub->op == VIREO_BLK_WRITE_ZEROES;

	if (sub->op >= ARRAY_SIZE(flags) || (d->overlay.mem && sub->op > VIREO_BLK_FLUSH))
		return VIREO_COMP_UNSUPPORTED;
	if (sub->flags & ~flags[sub->op] || sub->reserved)
		return VIREO_COMP_INVALID;
	if (write && d->flags & VIREO_DISK_READONLY)
		return VIREO_COMP_READONLY;
	req->sector = le64_to_cpu(sub->sector);
	if (sub->op == VIREO_BLK_READ || sub->op == VIREO_BLK_WRITE)
		return blk_parse_data(req, sub);
	if (sub->nsegs)
		return VIREO_COMP_INVALID;
	if (sub->op == VIREO_BLK_FLUSH)
		return req->sector ? VIREO_COMP_INVALID : VIREO_COMP_OK;
	req->sectors = le64_to_cpu(sub->sectors);
	if (req->sectors > MAX_DISCARD)
		return VIREO_COMP_INVALID;
	return blk_check_range(d, req->sector, req->sectors);
}

/* ---- Limits --------------------------------------------------------------------------------- */

static void blk_limit_use(struct blk_limit *limit, u64 now, u32 n)
{
	if (limit->rate)
		limit->until = max(limit->until, now - BURST_NS) +
			       div64_u64(n * NSEC_PER_SEC, limit->rate);
}

static void blk_use(struct blk_disk *d, u32 bytes)
{
	u64 now = ktime_get_ns();

	spin_lock(&d->lock);
	blk_limit_use(&d->bytes, now, bytes);
	blk_limit_use(&d->requests, now, 1);
	spin_unlock(&d->lock);
}

/* Whether the queue has to wait: something looks again when it need not. */
static bool blk_dry(struct vireo_queue *q)
{
	struct blk_queue *b = q->room;
	struct blk_disk *d = q->dev;
	u64 until, now = ktime_get_ns();

	spin_lock(&d->lock);
	until = max(d->bytes.until, d->requests.until);
	spin_unlock(&d->lock);
	if (until <= now || !vireo_queue_waiting(q)) {
		b->dry = false;
		return false;
	}
	q->throttled += !b->dry;
	b->dry = true;
	/* Not too late, because a limit may be lifted meanwhile. */
	vireo_queue_defer(q, min_t(u64, nsecs_to_jiffies64(until - now) + 1, HZ / 4));
	return true;
}

/* ---- The queue's operations --------------------------------------------------------------- */

static void blk_start_one(struct vireo_queue *q, const struct vireo_blk_sub *sub)
{
	struct blk_queue *b = q->room;
	struct blk_disk *d = q->dev;
	struct blk_request *req;
	u16 status;

	if (!b->slots)
		b->slots = llist_del_all(&b->free);
	req = llist_entry(b->slots, struct blk_request, free);
	b->slots = b->slots->next;

	req->tag = sub->tag;
	req->op = sub->op;
	req->flags = sub->flags;
	req->bytes = 0;
	req->done = 0;
	req->nvecs = 0;
	req->sectors = 0;
	req->extra = NULL;
	status = blk_parse(req, sub);
	q->bytes += req->bytes;
	if (READ_ONCE(d->limited))
		blk_use(d, req->bytes);
	if (status)
		blk_end(req, status);
	else if (blk_needs_overlay(req))
		queue_work(vireo_wq, &req->work);
	else if (d->bdev && req->op != VIREO_BLK_WRITE_ZEROES && bdev_nowait(d->bdev))
		blk_submit(req, true);
	else if (d->bdev && req->op != VIREO_BLK_WRITE_ZEROES)
		blk_late(req);
	else if (req->op == VIREO_BLK_READ && d->file->f_mode & FMODE_NOWAIT)
		blk_file_data(req, IOCB_NOWAIT);
	else
		queue_work(vireo_wq, &req->work);
}

static void blk_kick(struct vireo_queue *q)
{
	struct blk_disk *d = q->dev;
	struct mem_cgroup *old = set_active_memcg(d->memcg);
	unsigned int left = 2 * q->entries;
	struct vireo_blk_sub sub;
	struct blk_plug plug;

	blk_start_plug(&plug);
	while (left--) {
		if (READ_ONCE(d->limited) && blk_dry(q))
			break;
		if (vireo_queue_take(q, &sub))
			blk_start_one(q, &sub);
		else if (!vireo_queue_rearm(q, 0))
			break;
	}
	if (left == UINT_MAX)	/* a guest that never lets up does not keep its vCPU here */
		vireo_queue_defer(q, 0);
	blk_finish_plug(&plug);
	set_active_memcg(old);
}

static int blk_start(struct vireo_queue *q)
{
	struct blk_queue *b;
	unsigned int i;

	if (q->index)
		return -EINVAL;
	b = kvzalloc(struct_size(b, req, q->entries), GFP_KERNEL_ACCOUNT);
	if (!b)
		return -ENOMEM;
	init_llist_head(&b->free);
	init_llist_head(&b->late);
	b->q = q;
	INIT_WORK(&b->work, blk_late_work);
	for (i = 0; i < q->entries; i++) {
		b->req[i].q = q;
		INIT_WORK(&b->req[i].work, blk_work);
		llist_add(&b->req[i].free, &b->free);
	}
	q->room = b;
	return 0;
}

static void blk_drained(struct vireo_queue *q)
{
	flush_work(&((struct blk_queue *)q->room)->work);
}

static const struct vireo_queue_ops blk_queue_ops = {
	.start = blk_start,
	.kick = blk_kick,
	.drained = blk_drained,
	/* Nothing that was taken waits for ever, and what was not is the guest's still. */
};

/* ---- The disk's fd --------------------------------------------------------------------------- */

static u64 disk_sectors(const struct blk_disk *d)
{
	return d->bdev ? bdev_nr_sectors(d->bdev) :
			 i_size_read(file_inode(d->file)) >> SECTOR_SHIFT;
}

static long disk_get(void *object, unsigned int cmd, void *arg)
{
	struct blk_disk *d = ((struct file *)object)->private_data;
	struct block_device *bdev = d->bdev;
	struct vireo_disk *g = arg;

	g->flags = d->flags;
	g->sectors = disk_sectors(d);
	g->logical_block = d->block;
	g->max_discard = MAX_DISCARD;
	if (d->overlay.mem) {
		g->physical_block = PAGE_SIZE;
	} else if (bdev) {
		g->features = VIREO_DISK_ZEROES;
		g->features |= bdev_write_cache(bdev) ? VIREO_DISK_FLUSH : 0;
		g->features |= bdev_max_discard_sectors(bdev) ? VIREO_DISK_DISCARD : 0;
		g->physical_block = bdev_physical_block_size(bdev);
		g->discard_align = bdev_discard_granularity(bdev);
	} else {
		g->features = VIREO_DISK_FLUSH;
		if (d->file->f_op->fallocate)
			g->features |= VIREO_DISK_DISCARD | VIREO_DISK_ZEROES;
		g->physical_block = i_blocksize(file_inode(d->file));
		g->discard_align = g->physical_block;
	}
	g->physical_block = clamp(g->physical_block, d->block, BLOCK_MAX);
	g->discard_align = max(g->discard_align, d->block);
	spin_lock(&d->lock);
	g->bytes_per_second = d->bytes.rate;
	g->requests_per_second = d->requests.rate;
	spin_unlock(&d->lock);
	return 0;
}

static long disk_set(void *object, unsigned int cmd, void *arg)
{
	struct blk_disk *d = ((struct file *)object)->private_data;
	u64 end = disk_sectors(d);
	struct vireo_disk *s = arg;

	if (s->reserved[0] || s->reserved[1] || s->sectors > end)
		return -EINVAL;
	spin_lock(&d->lock);
	d->bytes = (struct blk_limit) { .rate = s->bytes_per_second };
	d->requests = (struct blk_limit) { .rate = s->requests_per_second };
	WRITE_ONCE(d->limited, d->bytes.rate || d->requests.rate);
	WRITE_ONCE(d->sectors, s->sectors ?: end);
	spin_unlock(&d->lock);
	return 0;
}

static long disk_create_queue(void *object, unsigned int cmd, void *arg)
{
	struct blk_disk *d = ((struct file *)object)->private_data;

	return vireo_queue_create(d->vm, &blk_queue_ops, d, object, arg);
}

static const struct vireo_call disk_calls[] = {
	{ VIREO_GET_DISK, disk_get },
	{ VIREO_SET_DISK, disk_set, VIREO_DISK_READONLY | VIREO_DISK_OVERLAY },
	{ VIREO_CREATE_QUEUE, disk_create_queue, VIREO_QUEUE_RESUME },
	{}
};

static void disk_free(struct blk_disk *d)
{
	mem_cgroup_put(d->memcg);
	if (d->overlay.file)
		fput(d->overlay.file);
	fput(d->file);
	vireo_vm_put(d->vm);
	kfree(d);
}

DEFINE_VIREO_FD(disk, file, disk_free);

static int disk_open_bdev(struct blk_disk *d)
{
	struct block_device *bdev = I_BDEV(d->file->f_mapping->host);

	d->bdev = bdev;
	d->block = bdev_logical_block_size(bdev);
	d->align |= bdev_dma_alignment(bdev);
	if (bdev_is_zoned(bdev) || d->block > BLOCK_MAX)
		return -EINVAL;
	if (bdev_read_only(bdev) && !d->overlay.mem)
		d->flags |= VIREO_DISK_READONLY;
	/* Requests go past the page cache: what is dirty there comes first. */
	return filemap_write_and_wait(d->file->f_mapping);
}

static int disk_open_file(struct blk_disk *d)
{
	struct kstat stat;
	int err;

	if (!(d->file->f_mode & FMODE_CAN_READ) || d->file->f_flags & O_APPEND)
		return -EINVAL;
	d->block = SECTOR_SIZE;
	d->ki_flags = d->file->f_iocb_flags & (IOCB_DIRECT | IOCB_DSYNC | IOCB_SYNC);
	if (!(d->ki_flags & IOCB_DIRECT))
		return 0;
	err = vfs_getattr(&d->file->f_path, &stat, STATX_DIOALIGN, AT_STATX_DONT_SYNC);
	if (err)
		return err;
	if (stat.result_mask & STATX_DIOALIGN && stat.dio_offset_align) {
		d->block = max(d->block, stat.dio_offset_align);
		d->align |= stat.dio_mem_align - 1;
	}
	return is_power_of_2(d->block) && d->block <= BLOCK_MAX ? 0 : -EINVAL;
}

static int disk_open(struct blk_disk *d)
{
	fmode_t need = FMODE_READ | (d->flags ? 0 : FMODE_WRITE);
	umode_t mode = file_inode(d->file)->i_mode;
	int err;

	if (!S_ISBLK(mode) && !S_ISREG(mode))
		return -EINVAL;
	if ((d->file->f_mode & need) != need)
		return -EACCES;
	d->align = SECTOR_SIZE - 1;
	err = S_ISBLK(mode) ? disk_open_bdev(d) : disk_open_file(d);
	d->sectors = disk_sectors(d);
	return err;
}

static int disk_open_overlay(struct blk_disk *d, const struct vireo_create_disk *c)
{
	if (!(d->flags & VIREO_DISK_OVERLAY))
		return c->overlay || c->overlay_max ? -EINVAL : 0;
	if (d->flags & VIREO_DISK_READONLY)
		return -EINVAL;
	d->overlay.file = fget(c->overlay);
	if (!d->overlay.file)
		return -EBADF;
	d->overlay.mem = vireo_mem_of(d->overlay.file);
	d->overlay.base = d->file;
	d->overlay.max = c->overlay_max;
	return d->overlay.mem ? 0 : -EINVAL;
}

/**
 * vireo_disk_create() - VIREO_CREATE_DISK
 * @object: the VM
 * @cmd: VIREO_CREATE_DISK
 * @arg: struct vireo_create_disk
 * Context: May sleep.
 * Return: The disk's fd, or -EBADF, -EACCES, -EINVAL, -ENOMEM, -EMFILE...
 */
long vireo_disk_create(void *object, unsigned int cmd, void *arg)
{
	struct vireo_create_disk *c = arg;
	struct blk_disk *d;
	int err;

	d = kzalloc(sizeof(*d), GFP_KERNEL_ACCOUNT);
	if (!d)
		return -ENOMEM;
	d->file = fget(c->fd);
	if (!d->file) {
		kfree(d);
		return -EBADF;
	}
	d->vm = object;
	vireo_vm_get(d->vm);
	d->memcg = get_mem_cgroup_from_mm(current->mm);
	d->flags = c->flags;
	spin_lock_init(&d->lock);
	err = disk_open_overlay(d, c) ?: disk_open(d);
	if (!err)
		err = anon_inode_getfd("vireo-disk", &disk_fops, d, O_RDWR | O_CLOEXEC);
	if (err < 0)
		disk_free(d);
	return err;
}
