// SPDX-License-Identifier: GPL-2.0
/*
 * Disks: a guest's requests (uapi/vireo_blk.h) become bios, or direct I/O on a
 * file, on the guest's own pages.
 *
 * A doorbell takes the entries and starts them.  What may stall is left to the
 * disk's workqueue: of a block device zeroes and what it does not take at once, of
 * a file all but the reads that the file system can begin at once, and what is in
 * an overlay.  Whoever ends a request, in any context, completes the entry.
 *
 * A request lives in a slot, of which there are as many as the ring has entries.
 * Free ones come back by a lock-free list to the one who takes entries.
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/falloc.h>
#include <linux/llist.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/uio.h>

#include "vireo.h"
#include "compat.h"
#include "../uapi/vireo_blk.h"

#define INLINE_VECS	8
#define BLOCK_MAX	4096U		/* largest logical block */
#define BURST_NS	(NSEC_PER_SEC / 10)	/* what a limit lets through at once */
#define THREADS		32		/* of a disk: what may stall at the same time */

struct blk_disk {
	struct vireo_device dev;	/* (i) */
	struct file *file;		/* (i) held */
	struct block_device *bdev;	/* (i) NULL: a regular file */
	struct file *overlay;		/* (i) held, or NULL: that of @blocks */
	struct vireo_mem *blocks;	/* (i) what was written, at its offset on the disk */
	u64 max;			/* (i) bytes of @blocks */
	struct workqueue_struct *wq;	/* (i) */
	u32 flags;			/* (i) VIREO_DISK_* */
	u32 block;			/* (i) logical, bytes */
	u32 align;			/* (i) mask: of segments */
	u64 sectors;			/* (a) */
	bool limited;			/* (a) look at the limits */
	spinlock_t lock;		/* the limits, and to write @sectors */
	u64 bps;			/* bytes per second */
	u64 iops;			/* requests per second */
	u64 until;			/* ns: what was used up of both takes so long */
};

struct blk_request {
	struct llist_node free;
	struct vireo_queue *q;		/* (i) */
	struct vireo_blk_sub sub;	/* the entry */
	bool nowait;			/* -EAGAIN is not the end */
	u32 bytes;			/* of data */
	u32 done;			/* of a file's: there already */
	u32 nvecs;
	u64 sector;
	struct bio_vec *vec;		/* pages held; @inl or allocated */
	struct work_struct work;
	union {
		struct bio bio;
		struct kiocb iocb;
	};
	struct bio_vec inl[INLINE_VECS];
};

/* vireo_queue.room; all but @free are (t) */
struct blk_queue {
	struct llist_head free;
	struct llist_node *slots;
	bool dry;			/* waits for a limit */
	struct vireo_seg segs[VIREO_RING_INDIRECT];
	struct blk_request req[];
};

static_assert(sizeof(struct vireo_blk_sub) == VIREO_RING_ENTRY);

/* ---- The end of a request ----------------------------------------------------------------- */

static void blk_end(struct blk_request *req, u16 status)
{
	struct vireo_comp comp = { .tag = req->sub.tag, .status = cpu_to_le16(status) };
	struct vireo_queue *q = req->q;
	struct blk_queue *b = q->room;
	unsigned int i;

	if (!status && req->sub.op == VIREO_BLK_READ)
		comp.len = cpu_to_le32(req->bytes);
	for (i = 0; i < req->nvecs; i++)
		put_page(req->vec[i].bv_page);
	if (req->vec != req->inl)
		kfree(req->vec);
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
	default:
		return VIREO_COMP_IO;
	}
}

/* ---- Block devices ------------------------------------------------------------------------ */

static void blk_later(struct blk_request *req)
{
	const struct blk_disk *d = req->q->dev;

	queue_work(d->wq, &req->work);
}

static void blk_bio_end(struct bio *bio)
{
	struct blk_request *req = bio->bi_private;
	int err = blk_status_to_errno(bio->bi_status);

	bio_uninit(bio);
	if (err == -EAGAIN && req->nowait)
		blk_later(req);
	else
		blk_end(req, blk_status(err));
}

/* All but WRITE_ZEROES; without @nowait it may sleep. */
static void blk_submit(struct blk_request *req, bool nowait)
{
	static const blk_opf_t ops[] = {
		[VIREO_BLK_READ] = REQ_OP_READ,
		[VIREO_BLK_WRITE] = REQ_OP_WRITE | REQ_SYNC | REQ_IDLE,
		[VIREO_BLK_FLUSH] = REQ_OP_WRITE | REQ_PREFLUSH | REQ_SYNC,
		[VIREO_BLK_DISCARD] = REQ_OP_DISCARD,
	};
	const struct blk_disk *d = req->q->dev;
	struct bio *bio = &req->bio;

	/* The guest has merged, and the block layer splits what is too much for the device. */
	bio_init(bio, d->bdev, req->vec, req->nvecs, ops[req->sub.op] |
		 (bdev_nonrot(d->bdev) ? REQ_NOMERGE : 0) | (nowait ? REQ_NOWAIT : 0) |
		 (req->sub.flags & VIREO_BLK_FUA ? REQ_FUA : 0));
	bio->bi_vcnt = req->nvecs;
	bio->bi_iter.bi_sector = req->sector;
	bio->bi_iter.bi_size = req->bytes;
	if (req->sub.op == VIREO_BLK_DISCARD)
		bio->bi_iter.bi_size = le64_to_cpu(req->sub.sectors) << SECTOR_SHIFT;
	bio->bi_private = req;
	bio->bi_end_io = blk_bio_end;
	req->nowait = nowait;
	submit_bio(bio);
}

/* ---- Files -------------------------------------------------------------------------------- */

static void blk_file_end(struct blk_request *req, long ret)
{
	if (ret > 0)
		req->done += ret;
	if ((ret > 0 && req->done < req->bytes) || (ret == -EAGAIN && req->nowait))
		blk_later(req);
	else	/* nothing at all: the file has become shorter */
		blk_end(req, blk_status(ret > 0 ? 0 : ret ?: -EIO));
}

static void blk_file_complete(struct kiocb *iocb, long ret)
{
	struct blk_request *req = container_of(iocb, struct blk_request, iocb);

	if (req->sub.op == VIREO_BLK_WRITE)
		compat_iocb_write_end(iocb);
	blk_file_end(req, ret);
}

static void blk_iter(struct blk_request *req, struct iov_iter *iter)
{
	iov_iter_bvec(iter, req->sub.op == VIREO_BLK_WRITE ? ITER_SOURCE : ITER_DEST, req->vec,
		      req->nvecs, req->bytes);
}

static void blk_file_data(struct blk_request *req, bool nowait)
{
	bool write = req->sub.op == VIREO_BLK_WRITE;
	const struct blk_disk *d = req->q->dev;
	struct iov_iter iter;
	ssize_t ret;

	blk_iter(req, &iter);
	iov_iter_advance(&iter, req->done);
	req->nowait = nowait;
	req->iocb = (struct kiocb) {
		.ki_filp = d->file,
		.ki_pos = (req->sector << SECTOR_SHIFT) + req->done,
		.ki_complete = blk_file_complete,
		.ki_flags = (d->file->f_iocb_flags & (IOCB_DIRECT | IOCB_DSYNC | IOCB_SYNC)) |
			    (nowait ? IOCB_NOWAIT : 0) | (write ? IOCB_WRITE : 0) |
			    (req->sub.flags & VIREO_BLK_FUA ? IOCB_DSYNC : 0),
		.ki_ioprio = get_current_ioprio(),
	};
	/* The file stays: the doorbell holds its queue, or disk_free() waits for this work. */
	if (write)
		ret = compat_iocb_write(d->file, &req->iocb, &iter);
	else
		ret = vfs_iocb_iter_read(d->file, &req->iocb, &iter);
	if (ret != -EIOCBQUEUED)
		blk_file_end(req, ret);
}

/*
 * ---- Overlays: what a guest writes stays in memory, that of a VM that does not run ----------
 *
 * A block of 4 KiB comes into being with all of its content and does not go.  Who finds one
 * may use it, and who finds none may read the file: no lock is held in between.
 */

/* Moves all of @len bytes, from the file or from or to the blocks. */
static int overlay_move(const struct blk_disk *d, bool file, u64 pos, struct iov_iter *iter,
			size_t len)
{
	size_t after = iov_iter_count(iter) - len;
	loff_t at = pos;
	ssize_t n;

	iov_iter_truncate(iter, len);
	n = file ? vfs_iter_read(d->file, iter, &at, 0) : vireo_mem_copy(d->blocks, pos, iter);
	iov_iter_reexpand(iter, iov_iter_count(iter) + after);
	return n == len ? 0 : n < 0 ? n : -EIO;	/* the file has become shorter */
}

/* Makes a block; what is not written to it is as it was, or zero behind the file's end. */
static int overlay_add(const struct blk_disk *d, u64 pos, struct iov_iter *iter, size_t len)
{
	struct bio_vec bv = { .bv_len = PAGE_SIZE };
	loff_t block = pos & PAGE_MASK, at = block;
	struct iov_iter fill;
	ssize_t err = 0;

	if (vireo_mem_headroom(d->blocks))
		bv.bv_page = alloc_page(MEM_GFP | __GFP_ZERO);
	if (!bv.bv_page)
		return -ENOMEM;
	if (len < PAGE_SIZE) {
		iov_iter_bvec(&fill, ITER_DEST, &bv, 1, PAGE_SIZE);
		err = vfs_iter_read(d->file, &fill, &at, 0);
	}
	if (err >= 0)
		err = copy_from_iter_full(page_address(bv.bv_page) + (pos - block), len, iter) ?
		      vireo_mem_fill(d->blocks, block, bv.bv_page, d->max) : -EFAULT;
	if (err == -EEXIST)
		iov_iter_revert(iter, len);
	if (err)
		put_page(bv.bv_page);
	return err;
}

static int overlay_rw(struct blk_request *req)
{
	u64 pos = req->sector << SECTOR_SHIFT, end = pos + req->bytes, next, limit = end;
	bool write = req->sub.op == VIREO_BLK_WRITE, there;
	const struct blk_disk *d = req->q->dev;
	struct iov_iter iter;
	int err = 0;

	blk_iter(req, &iter);
	for (; pos < end && !err; pos = next) {
		if (write)
			limit = min(end, (pos | ~PAGE_MASK) + 1);
		next = vireo_mem_seek(d->blocks, pos, limit, true);
		there = next == pos;
		if (there)
			next = vireo_mem_seek(d->blocks, pos, limit, false);
		else if (write)
			err = overlay_add(d, pos, &iter, next - pos);
		if (there || !write || err == -EEXIST)
			err = overlay_move(d, !there && !write, pos, &iter, next - pos);
	}
	return write && err == -ENOMEM ? -ENOSPC : err;	/* else the guest would try for ever */
}

/* Reads of what was not written need no overlay. */
static bool overlay_has(const struct blk_request *req)
{
	u64 pos = req->sector << SECTOR_SHIFT, end = pos + req->bytes;
	const struct blk_disk *d = req->q->dev;

	return req->sub.op != VIREO_BLK_READ || vireo_mem_seek(d->blocks, pos, end, true) < end;
}

/* ---- What sleeps -------------------------------------------------------------------------- */

/* Also a file's DISCARD, which has no flags. */
static int blk_zero(struct blk_request *req)
{
	bool keep = req->sub.flags & VIREO_BLK_NOUNMAP;
	u64 sectors = le64_to_cpu(req->sub.sectors);
	const struct blk_disk *d = req->q->dev;

	if (d->bdev)
		return blkdev_issue_zeroout(d->bdev, req->sector, sectors, GFP_KERNEL,
					    keep ? BLKDEV_ZERO_NOUNMAP : 0);
	return vfs_fallocate(d->file, (keep ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE) |
			     FALLOC_FL_KEEP_SIZE, req->sector << SECTOR_SHIFT,
			     sectors << SECTOR_SHIFT);
}

static void blk_work(struct work_struct *work)
{
	struct blk_request *req = container_of(work, struct blk_request, work);
	struct mem_cgroup *old = set_active_memcg(req->q->memcg);
	const struct blk_disk *d = req->q->dev;
	u8 op = req->sub.op;
	int err = -EIOCBQUEUED;	/* ends by itself, and may be gone */

	if (d->blocks)
		err = op == VIREO_BLK_FLUSH ? 0 : overlay_rw(req);
	else if (op == VIREO_BLK_WRITE_ZEROES || (op == VIREO_BLK_DISCARD && !d->bdev))
		err = blk_zero(req);
	else if (d->bdev)
		blk_submit(req, false);
	else if (op == VIREO_BLK_FLUSH)
		err = vfs_fsync(d->file, 1);
	else
		blk_file_data(req, false);
	if (err != -EIOCBQUEUED)
		blk_end(req, blk_status(err));
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
static u16 blk_pin(struct blk_request *req, const struct vireo_seg *seg)
{
	const struct vireo_seg *end = seg + le16_to_cpu(req->sub.nsegs);
	/* There may be a part of a page at both ends of each. */
	unsigned int max = (req->bytes >> PAGE_SHIFT) + 2 * (end - seg);
	struct bio_vec *vec;
	int got;

	for (; seg < end; seg++) {
		u64 gpa = le64_to_cpu(seg->gpa);
		u32 len = le32_to_cpu(seg->len);

		for (; len; gpa += got, len -= got) {
			if (req->nvecs == INLINE_VECS) {
				vec = kmalloc_array(max, sizeof(*vec),
						    GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
				if (!vec)
					return VIREO_COMP_RETRY;
				req->vec = memcpy(vec, req->inl, sizeof(req->inl));
			}
			got = vireo_mem_pin(&req->q->vm->mem, gpa, len,
					    req->sub.op == VIREO_BLK_READ, &req->vec[req->nvecs],
					    req->q->leaf);
			if (got < 0)
				return got == -ENOMEM ? VIREO_COMP_RETRY : VIREO_COMP_INVALID;
			req->nvecs++;
		}
	}
	return VIREO_COMP_OK;
}

static u16 blk_parse(struct blk_request *req)
{
	static const u8 flags[] = {
		[VIREO_BLK_READ] = VIREO_SUB_INDIRECT,
		[VIREO_BLK_WRITE] = VIREO_SUB_INDIRECT | VIREO_BLK_FUA,
		[VIREO_BLK_WRITE_ZEROES] = VIREO_BLK_NOUNMAP,
	};
	const struct blk_disk *d = req->q->dev;
	struct blk_queue *b = req->q->room;
	u8 op = req->sub.op;
	int bytes;

	if (op >= ARRAY_SIZE(flags) || (d->blocks && op > VIREO_BLK_FLUSH))
		return VIREO_COMP_UNSUPPORTED;
	if (req->sub.flags & ~flags[op] || req->sub.reserved)
		return VIREO_COMP_INVALID;
	if (d->flags & VIREO_DISK_READONLY && op != VIREO_BLK_READ && op != VIREO_BLK_FLUSH)
		return VIREO_COMP_READONLY;
	if (op == VIREO_BLK_READ || op == VIREO_BLK_WRITE) {
		bytes = vireo_queue_segs(req->q, &req->sub, b->segs, d->align,
					 VIREO_BLK_MAX_BYTES);
		if (bytes < 0)
			return VIREO_COMP_INVALID;
		req->bytes = bytes;
		return blk_check_range(d, req->sector, bytes >> SECTOR_SHIFT) ?:
		       blk_pin(req, b->segs);
	}
	if (req->sub.nsegs)
		return VIREO_COMP_INVALID;
	if (op == VIREO_BLK_FLUSH)
		return req->sector ? VIREO_COMP_INVALID : VIREO_COMP_OK;
	if (le64_to_cpu(req->sub.sectors) > VIREO_BLK_MAX_DISCARD)
		return VIREO_COMP_INVALID;
	return blk_check_range(d, req->sector, le64_to_cpu(req->sub.sectors));
}

/* ---- Limits --------------------------------------------------------------------------------- */

/* Of both limits a request counts for the one that it uses up more of. */
static void blk_use(struct blk_disk *d, u32 bytes)
{
	spin_lock(&d->lock);
	d->until = max(d->until, ktime_get_ns() - BURST_NS) +
		   max(bytes * NSEC_PER_SEC / d->bps, NSEC_PER_SEC / d->iops);
	spin_unlock(&d->lock);
}

/* Whether the queue has to wait: something looks again when it need not. */
static bool blk_dry(struct vireo_queue *q)
{
	struct blk_queue *b = q->room;
	const struct blk_disk *d = q->dev;
	s64 wait = READ_ONCE(d->until) - ktime_get_ns();

	q->stat.throttled += wait > 0 && !b->dry;
	b->dry = wait > 0;
	if (b->dry)	/* not too late, because a limit may be lifted meanwhile */
		vireo_queue_defer(q, min_t(u64, nsecs_to_jiffies64(wait) + 1, HZ / 4));
	return b->dry;
}

/* ---- The queue's operations --------------------------------------------------------------- */

static void blk_start_one(struct blk_request *req)
{
	struct vireo_queue *q = req->q;
	struct blk_disk *d = q->dev;
	u8 op = req->sub.op;
	u16 status;

	req->sector = le64_to_cpu(req->sub.sector);
	req->bytes = 0;
	req->done = 0;
	req->nvecs = 0;
	req->vec = req->inl;
	status = blk_parse(req);
	q->stat.bytes += req->bytes;
	if (READ_ONCE(d->limited))
		blk_use(d, req->bytes);
	if (status)
		blk_end(req, status);
	else if (d->blocks && overlay_has(req))
		blk_later(req);
	else if (d->bdev && op != VIREO_BLK_WRITE_ZEROES && bdev_nowait(d->bdev))
		blk_submit(req, true);
	else if (!d->bdev && op == VIREO_BLK_READ && d->file->f_mode & FMODE_NOWAIT)
		blk_file_data(req, true);
	else
		blk_later(req);
}

static u32 blk_kick(struct vireo_queue *q)
{
	struct blk_queue *b = q->room;
	struct blk_disk *d = q->dev;
	struct blk_request *req;
	struct blk_plug plug;
	unsigned int n;
	bool dry;

	for (n = 0; n < QUEUE_BATCH; n++) {
		dry = READ_ONCE(d->limited) && blk_dry(q);
		if (!b->slots)
			b->slots = llist_del_all(&b->free);
		/* No slot is free: as many are in flight as may be, and there is no entry. */
		req = llist_entry(b->slots, struct blk_request, free);
		if (dry || !b->slots || !vireo_queue_take(q, &req->sub))
			break;
		b->slots = b->slots->next;
		if (n == 1)	/* one alone is on its way sooner without */
			blk_start_plug(&plug);
		blk_start_one(req);
	}
	if (n > 1)
		blk_finish_plug(&plug);
	return dry ? q->entries : 0;	/* no doorbell meanwhile */
}

static int blk_start(struct vireo_queue *q)
{
	struct blk_queue *b;
	unsigned int i;

	b = kvzalloc(struct_size(b, req, q->entries), GFP_KERNEL_ACCOUNT);
	if (!b)
		return -ENOMEM;
	for (i = 0; i < q->entries; i++) {
		b->req[i].q = q;
		INIT_WORK(&b->req[i].work, blk_work);
		llist_add(&b->req[i].free, &b->free);
	}
	q->room = b;
	return 0;
}

static const struct vireo_queue_ops blk_queue_ops = {
	.start = blk_start,
	.kick = blk_kick,
	/* Nothing that was taken waits for ever, and what was not is the guest's still. */
};

/* ---- The disk's fd --------------------------------------------------------------------------- */

static u64 disk_sectors(const struct blk_disk *d)
{
	return i_size_read(d->file->f_mapping->host) >> SECTOR_SHIFT;
}

static long disk_set(void *object, unsigned int cmd, void *arg)
{
	struct blk_disk *d = ((struct file *)object)->private_data;
	u64 end = disk_sectors(d);
	struct vireo_disk *s = arg;

	if (s->sectors > end)
		return -EINVAL;
	spin_lock(&d->lock);
	d->bps = s->bytes_per_second ?: U64_MAX;
	d->iops = s->requests_per_second ?: U64_MAX;
	d->until = 0;
	WRITE_ONCE(d->limited, s->bytes_per_second || s->requests_per_second);
	WRITE_ONCE(d->sectors, s->sectors ?: end);
	spin_unlock(&d->lock);
	return 0;
}

static const struct vireo_call disk_calls[] = {
	{ VIREO_SET_DISK, disk_set },
	{ VIREO_CREATE_QUEUE, vireo_queue_create, VIREO_QUEUE_RESUME },
	{}
};

static void disk_free(struct blk_disk *d)
{
	if (d->wq)
		destroy_workqueue(d->wq);
	if (d->overlay)
		fput(d->overlay);
	if (d->file)
		fput(d->file);
	vireo_vm_put(d->dev.vm);
	kfree(d);
}

DEFINE_VIREO_FD(disk, file, disk_free);

static int disk_open(struct blk_disk *d, const struct vireo_create_disk *c)
{
	fmode_t need = FMODE_READ | (d->flags ? 0 : FMODE_WRITE);
	struct inode *inode;

	d->file = fget(c->fd);
	if (!d->file)
		return -EBADF;
	inode = d->file->f_mapping->host;
	if ((!S_ISBLK(inode->i_mode) && !S_ISREG(inode->i_mode)) ||
	    d->file->f_flags & O_APPEND || !is_power_of_2(c->block) ||
	    c->block < SECTOR_SIZE || c->block > BLOCK_MAX || c->reserved)
		return -EINVAL;
	if ((d->file->f_mode & need) != need)
		return -EACCES;
	d->block = c->block;
	d->align = SECTOR_SIZE - 1;
	d->sectors = disk_sectors(d);
	if (S_ISREG(inode->i_mode))
		return 0;
	d->bdev = I_BDEV(inode);
	d->align |= bdev_dma_alignment(d->bdev);
	if (bdev_is_zoned(d->bdev) || d->block < bdev_logical_block_size(d->bdev))
		return -EINVAL;
	if (bdev_read_only(d->bdev) && !d->blocks)
		d->flags |= VIREO_DISK_READONLY;
	/* Requests go past the page cache: what is dirty there comes first. */
	return filemap_write_and_wait(d->file->f_mapping);
}

static int disk_open_overlay(struct blk_disk *d, const struct vireo_create_disk *c)
{
	if (!d->flags || d->flags == VIREO_DISK_READONLY)
		return c->overlay || c->overlay_max ? -EINVAL : 0;
	d->overlay = fget(c->overlay);
	if (!d->overlay)
		return -EBADF;
	d->blocks = vireo_mem_of(d->overlay);
	d->max = c->overlay_max;
	return d->blocks && d->flags == VIREO_DISK_OVERLAY ? 0 : -EINVAL;
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
	struct blk_disk *d = kzalloc(sizeof(*d), GFP_KERNEL_ACCOUNT);
	struct vireo_create_disk *c = arg;
	int err;

	if (!d)
		return -ENOMEM;
	d->dev = (struct vireo_device) { .vm = object, .ops = &blk_queue_ops, .queues = 1 };
	kref_get(&d->dev.vm->ref);
	d->flags = c->flags;
	spin_lock_init(&d->lock);
	err = disk_open_overlay(d, c) ?: disk_open(d, c);
	if (!err) {
		d->wq = alloc_workqueue("vireo-disk", WQ_UNBOUND, THREADS);
		err = d->wq ? anon_inode_getfd("vireo-disk", &disk_fops, d, O_RDWR | O_CLOEXEC) :
			      -ENOMEM;
	}
	if (err < 0)
		disk_free(d);
	return err;
}
