// SPDX-License-Identifier: GPL-2.0
/*
 * vireo_blk: disks, /dev/vrda, vrdb, ...
 *
 * Each ring is a hardware queue of blk-mq: first those with interrupts, then
 * those that are polled.  A request is one entry, its tag the entry's.
 *
 * A queue's lock protects its ring and is held neither over the doorbell nor
 * while requests end.  The disk's mutex keeps apart those who take the device
 * down and bring it up: reset, suspend, removal.
 */
#include <linux/blk-mq-pci.h>
#include <linux/dma-mapping.h>
#include <linux/idr.h>
#include <linux/interrupt.h>
#include <linux/mempool.h>
#include <linux/module.h>

#include "../uapi/vireo_blk.h"
#include "compat.h"
#include "ring.h"

#define LIST_SEGS	128U	/* of a request; the list is half a page */
#define LISTS		4	/* always there, so that writing back can go on */
#define NAME_FORMAT	"vrd"
#define RESETS		3	/* a request survives */
#define RETRY_MS	10

static_assert(LIST_SEGS * sizeof(struct vireo_seg) == PAGE_SIZE / 2);
static_assert(LIST_SEGS <= VIREO_RING_INDIRECT);
static_assert(sizeof(struct vireo_blk_sub) == VIREO_RING_ENTRY);

static unsigned int entries = 256;
module_param(entries, uint, 0444);
MODULE_PARM_DESC(entries, "entries of a queue, a power of two (256)");

static unsigned int poll_queues;
module_param(poll_queues, uint, 0444);
MODULE_PARM_DESC(poll_queues, "how many of the queues are polled (0)");

static DEFINE_IDA(disk_ids);

/**
 * struct blk_queue - a hardware queue
 * @q: the ring's
 * @lock: protects @q.ring
 * @disk: whose it is
 * @vector: of its interrupts, or VIREO_PCI_NO_VECTOR: polled
 * @name: of the interrupt
 */
struct blk_queue {
	struct vireo_queue q;
	spinlock_t lock;	/* see above */
	struct blk_disk *disk;
	unsigned int vector;
	char name[24];
} ____cacheline_aligned;

/**
 * struct blk_disk - a disk
 * @vd: its PCI function
 * @gendisk: the disk of the block layer
 * @tags: of its requests
 * @lists: pages for lists of segments
 * @lock: (m) for whoever takes the device down or brings it up
 * @up: (m) the queues are enabled
 * @dead: (m) for good
 * @quiet: (m) blk-mq gives the queues nothing
 * @config_work: the config part changed
 * @reset_work: something is wrong with the device
 * @features: in use
 * @logical_block: bytes
 * @max_seg: bytes of a segment
 * @id: makes its name
 * @nirq: queues with interrupts
 * @npoll: queues without, behind them
 * @serial: as in the config part, and a 0
 * @queues: all of them
 */
struct blk_disk {
	struct vireo_dev vd;
	struct gendisk *gendisk;
	struct blk_mq_tag_set tags;
	mempool_t *lists;
	struct mutex lock;	/* see above */
	bool up;
	bool dead;
	bool quiet;
	struct work_struct config_work;
	struct work_struct reset_work;
	u64 features;
	unsigned int logical_block;
	unsigned int max_seg;
	int id;
	unsigned int nirq;
	unsigned int npoll;
	char serial[VIREO_BLK_SERIAL + 1];
	struct blk_queue queues[];
};

/* A piece of a request's data, as the device sees it */
struct blk_map {
	dma_addr_t addr;
	u32 len;
};

/**
 * struct blk_req - what a request has of ours
 * @map: its pieces: @near, or the first half of @list
 * @near: place for a few
 * @list: a page: pieces, and the list for the device in its second half
 * @list_dma: address of that second half
 * @count: pieces
 * @resets: how many it has seen since it was completed last
 * @status: how it ended
 * @next: ended with it
 */
struct blk_req {
	struct blk_map *map;
	struct blk_map near[VIREO_RING_SEGS];
	struct page *list;
	dma_addr_t list_dma;
	unsigned int count;
	unsigned int resets;
	blk_status_t status;
	struct request *next;
};

/* ---- A request's data -------------------------------------------------------------------- */

static enum dma_data_direction data_dir(struct request *rq)
{
	return rq_data_dir(rq) == WRITE ? DMA_TO_DEVICE : DMA_FROM_DEVICE;
}

static void data_unmap(struct blk_disk *disk, struct request *rq)
{
	struct blk_req *br = blk_mq_rq_to_pdu(rq);
	struct device *dev = &disk->vd.pci->dev;
	unsigned int i;

	if (br->list_dma)
		dma_unmap_single(dev, br->list_dma, PAGE_SIZE / 2, DMA_TO_DEVICE);
	for (i = 0; i < br->count; i++)
		dma_unmap_page(dev, br->map[i].addr, br->map[i].len, data_dir(rq));
	if (br->list)
		mempool_free(br->list, disk->lists);
	br->list = NULL;
	br->list_dma = 0;
	br->count = 0;
}

static blk_status_t map_piece(struct blk_disk *disk, struct request *rq, struct bio_vec *bv)
{
	struct blk_req *br = blk_mq_rq_to_pdu(rq);
	unsigned int max = br->list ? LIST_SEGS : VIREO_RING_SEGS;
	unsigned int offset = bv->bv_offset, left = bv->bv_len;

	while (left) {
		struct blk_map *m = &br->map[br->count];

		if (br->count == max)
			return BLK_STS_IOERR;
		m->len = min(left, disk->max_seg);
		m->addr = dma_map_page(&disk->vd.pci->dev, bv->bv_page, offset, m->len,
				       data_dir(rq));
		if (dma_mapping_error(&disk->vd.pci->dev, m->addr))
			return BLK_STS_RESOURCE;
		br->count++;
		offset += m->len;
		left -= m->len;
	}
	return BLK_STS_OK;
}

static void write_segs(struct blk_req *br, struct vireo_seg *seg)
{
	unsigned int i;

	for (i = 0; i < br->count; i++)
		seg[i] = (struct vireo_seg) {
			.gpa = cpu_to_le64(br->map[i].addr),
			.len = cpu_to_le32(br->map[i].len),
		};
}

static blk_status_t write_list(struct blk_disk *disk, struct blk_req *br, struct vireo_blk_sub *sub)
{
	struct vireo_seg *list = page_address(br->list) + PAGE_SIZE / 2;
	dma_addr_t dma;

	write_segs(br, list);
	dma = dma_map_single(&disk->vd.pci->dev, list, PAGE_SIZE / 2, DMA_TO_DEVICE);
	if (dma_mapping_error(&disk->vd.pci->dev, dma))
		return BLK_STS_RESOURCE;
	br->list_dma = dma;
	sub->flags |= VIREO_SUB_INDIRECT;
	sub->seg[0] = (struct vireo_seg) {
		.gpa = cpu_to_le64(dma),
		.len = cpu_to_le32(br->count * sizeof(*list)),
	};
	return BLK_STS_OK;
}

static blk_status_t map_pieces(struct blk_disk *disk, struct request *rq)
{
	struct req_iterator iter;
	blk_status_t status;
	struct bio_vec bv;

	if (blk_rq_nr_phys_segments(rq) == 1) {	/* as in most */
		bv = req_bvec(rq);
		return map_piece(disk, rq, &bv);
	}
	rq_for_each_bvec(bv, rq, iter) {
		status = map_piece(disk, rq, &bv);
		if (status)
			return status;
	}
	return BLK_STS_OK;
}

/* Pieces are remembered in private memory: what the device sees it can change. */
static blk_status_t data_map(struct blk_disk *disk, struct request *rq, struct vireo_blk_sub *sub)
{
	struct blk_req *br = blk_mq_rq_to_pdu(rq);
	blk_status_t status;

	br->map = br->near;
	if (blk_rq_nr_phys_segments(rq) > VIREO_RING_SEGS) {
		br->list = mempool_alloc(disk->lists, GFP_ATOMIC | __GFP_NOWARN);
		if (!br->list)
			return BLK_STS_RESOURCE;
		br->map = page_address(br->list);
	}
	status = map_pieces(disk, rq);
	if (status)
		goto err;
	if (br->list) {
		status = write_list(disk, br, sub);
		if (status)
			goto err;
	} else {
		write_segs(br, sub->seg);
	}
	sub->nsegs = cpu_to_le16(br->count);
	return BLK_STS_OK;

err:
	data_unmap(disk, rq);
	return status;
}

/* ---- Completion -------------------------------------------------------------------------- */

static blk_status_t to_blk_status(u16 status)
{
	switch (status) {
	case VIREO_COMP_OK:
		return BLK_STS_OK;
	case VIREO_COMP_UNSUPPORTED:
		return BLK_STS_NOTSUPP;
	case VIREO_COMP_NOSPC:
		return BLK_STS_NOSPC;
	case VIREO_COMP_READONLY:
		return BLK_STS_TARGET;
	case VIREO_COMP_RETRY:
		return BLK_STS_RESOURCE;
	default:
		return BLK_STS_IOERR;
	}
}

/* What a completion says of its request.  The queue's lock is held. */
static void judge(struct blk_queue *bq, struct request *rq, const struct vireo_comp *comp)
{
	struct blk_req *br = blk_mq_rq_to_pdu(rq);
	u32 len = le32_to_cpu(comp->len);
	u32 room = req_op(rq) == REQ_OP_READ ? blk_rq_bytes(rq) : 0;

	br->resets = 0;
	br->status = to_blk_status(le16_to_cpu(comp->status));
	if (len > room)
		vireo_ring_break(&bq->q.ring, "a completion longer than its buffers");
	if (br->status == BLK_STS_OK && len != room)
		br->status = BLK_STS_IOERR;
}

static void end_all(struct blk_disk *disk, struct request *rq, struct io_comp_batch *iob)
{
	struct request *next;

	for (; rq; rq = next) {
		struct blk_req *br = blk_mq_rq_to_pdu(rq);

		next = br->next;
		data_unmap(disk, rq);
		if (br->status || !blk_mq_add_to_batch(rq, iob, 0, blk_mq_end_request_batch))
			blk_mq_complete_request(rq);
	}
}

/**
 * harvest() - end the requests that the device completed
 * @bq: the queue
 * @iob: batch, or NULL
 * @arm: ask for an interrupt of the next one
 *
 * Not more than the ring has entries: nothing is put meanwhile.
 *
 * Return: how many.
 */
static int harvest(struct blk_queue *bq, struct io_comp_batch *iob, bool arm)
{
	struct vireo_ring *r = &bq->q.ring;
	struct request *first = NULL, **last = &first, *rq;
	struct vireo_comp comp;
	unsigned long flags;
	bool broke = false;
	int n = 0;

	spin_lock_irqsave(&bq->lock, flags);
	if (!r->broken) {
		do {
			while ((rq = vireo_ring_take(r, &comp))) {
				judge(bq, rq, &comp);
				*last = rq;
				last = &((struct blk_req *)blk_mq_rq_to_pdu(rq))->next;
				n++;
			}
			vireo_ring_release(r);
		} while (arm && !r->broken && vireo_ring_arm(r, 1));
		broke = r->broken;
		*last = NULL;
	}
	spin_unlock_irqrestore(&bq->lock, flags);

	if (broke) {
		vireo_queue_report(&bq->q);
		schedule_work(&bq->disk->reset_work);
	}
	end_all(bq->disk, first, iob);
	return n;
}

static irqreturn_t queue_irq(int irq, void *data)
{
	struct blk_queue *bq = data;
	DEFINE_IO_COMP_BATCH(iob);

	harvest(bq, &iob, true);
	if (iob.complete)
		iob.complete(&iob);
	return IRQ_HANDLED;	/* one without need is nothing bad */
}

static irqreturn_t config_irq(int irq, void *data)
{
	struct blk_disk *disk = data;

	schedule_work(&disk->config_work);
	if (disk->queues[0].vector == 0)	/* it has only this vector */
		queue_irq(irq, &disk->queues[0]);
	return IRQ_HANDLED;
}

/* ---- What blk-mq asks for ---------------------------------------------------------------- */

static blk_status_t make_entry(struct blk_disk *disk, struct request *rq, struct vireo_blk_sub *sub)
{
	sub->tag = cpu_to_le16(rq->tag);
	sub->sector = cpu_to_le64(blk_rq_pos(rq));
	switch (req_op(rq)) {
	case REQ_OP_READ:
		sub->op = VIREO_BLK_READ;
		return data_map(disk, rq, sub);
	case REQ_OP_WRITE:
		sub->op = VIREO_BLK_WRITE;
		if (rq->cmd_flags & REQ_FUA)
			sub->flags = VIREO_BLK_FUA;
		return data_map(disk, rq, sub);
	case REQ_OP_FLUSH:
		sub->op = VIREO_BLK_FLUSH;
		sub->sector = 0;
		return BLK_STS_OK;
	case REQ_OP_DISCARD:
		sub->op = VIREO_BLK_DISCARD;
		sub->sectors = cpu_to_le64(blk_rq_sectors(rq));
		return BLK_STS_OK;
	case REQ_OP_WRITE_ZEROES:
		sub->op = VIREO_BLK_WRITE_ZEROES;
		if (rq->cmd_flags & REQ_NOUNMAP)
			sub->flags = VIREO_BLK_NOUNMAP;
		sub->sectors = cpu_to_le64(blk_rq_sectors(rq));
		return BLK_STS_OK;
	default:
		return BLK_STS_NOTSUPP;
	}
}

/*
 * Rings the doorbell.  A device may complete entries before the hypercall
 * returns: for those no interrupt was asked, see publish().
 */
static void kick(struct blk_queue *bq)
{
	DEFINE_IO_COMP_BATCH(iob);

	vireo_queue_kick(&bq->q);
	if (bq->vector == VIREO_PCI_NO_VECTOR)
		return;
	harvest(bq, &iob, true);
	if (iob.complete)
		iob.complete(&iob);
}

/* Returns whether to kick.  The queue's lock is held. */
static bool publish(struct blk_queue *bq)
{
	if (!vireo_ring_publish(&bq->q.ring))
		return false;
	vireo_ring_silence(&bq->q.ring);
	return true;
}

static blk_status_t queue_rq(struct blk_mq_hw_ctx *hctx, const struct blk_mq_queue_data *bd)
{
	struct blk_queue *bq = hctx->driver_data;
	struct vireo_blk_sub sub = {};
	struct request *rq = bd->rq;
	blk_status_t status;
	unsigned long flags;
	bool ring = false;
	int err;

	status = make_entry(bq->disk, rq, &sub);
	if (status)
		return status;
	blk_mq_start_request(rq);

	spin_lock_irqsave(&bq->lock, flags);
	err = vireo_ring_put(&bq->q.ring, &sub, rq->tag, rq);
	if (!err && bd->last)
		ring = publish(bq);
	spin_unlock_irqrestore(&bq->lock, flags);

	if (err) {
		data_unmap(bq->disk, rq);
		return err == -ENOSPC ? BLK_STS_DEV_RESOURCE : BLK_STS_IOERR;
	}
	if (ring)
		kick(bq);
	return BLK_STS_OK;
}

static void commit_rqs(struct blk_mq_hw_ctx *hctx)
{
	struct blk_queue *bq = hctx->driver_data;
	unsigned long flags;
	bool ring;

	spin_lock_irqsave(&bq->lock, flags);
	ring = publish(bq);
	spin_unlock_irqrestore(&bq->lock, flags);
	if (ring)
		kick(bq);
}

static int poll_queue(struct blk_mq_hw_ctx *hctx, struct io_comp_batch *iob)
{
	return harvest(hctx->driver_data, iob, false);
}

static void complete_rq(struct request *rq)
{
	struct blk_req *br = blk_mq_rq_to_pdu(rq);

	if (br->status == BLK_STS_RESOURCE) {	/* the host is short of memory */
		blk_mq_requeue_request(rq, false);
		blk_mq_delay_kick_requeue_list(rq->q, RETRY_MS);
		return;
	}
	blk_mq_end_request(rq, br->status);
}

/*
 * A slow disk is no reason to give its requests up, and a limited one may be
 * very slow; but an interrupt may be lost, and the device may be gone.
 */
static enum blk_eh_timer_return timeout_rq(struct request *rq)
{
	struct blk_queue *bq = rq->mq_hctx->driver_data;
	struct blk_disk *disk = bq->disk;

	harvest(bq, NULL, bq->vector != VIREO_PCI_NO_VECTOR);
	if (blk_mq_request_completed(rq) || !blk_mq_request_started(rq))
		return BLK_EH_DONE;
	if (vireo_dev_gone(&disk->vd) || vireo_dev_failed(&disk->vd))
		schedule_work(&disk->reset_work);
	else
		dev_warn_ratelimited(&disk->vd.pci->dev, "queue %u: request %d takes long\n",
				     bq->q.index, rq->tag);
	return BLK_EH_RESET_TIMER;
}

static int init_hctx(struct blk_mq_hw_ctx *hctx, void *data, unsigned int index)
{
	struct blk_disk *disk = data;

	hctx->driver_data = &disk->queues[index];
	return 0;
}

static int init_request(struct blk_mq_tag_set *set, struct request *rq, unsigned int index,
			unsigned int node)
{
	struct blk_req *br = blk_mq_rq_to_pdu(rq);

	memset(br, 0, sizeof(*br));
	return 0;
}

static void map_queues(struct blk_mq_tag_set *set)
{
	struct blk_disk *disk = set->driver_data;
	struct blk_mq_queue_map *map = &set->map[HCTX_TYPE_DEFAULT];

	map->nr_queues = disk->nirq;
	map->queue_offset = 0;
	if (disk->queues[0].vector)
		blk_mq_pci_map_queues(map, disk->vd.pci, 1);
	else
		blk_mq_map_queues(map);
	if (!disk->npoll)
		return;
	set->map[HCTX_TYPE_READ].nr_queues = 0;
	map = &set->map[HCTX_TYPE_POLL];
	map->nr_queues = disk->npoll;
	map->queue_offset = disk->nirq;
	blk_mq_map_queues(map);
}

static const struct blk_mq_ops blk_ops = {
	.queue_rq = queue_rq,
	.commit_rqs = commit_rqs,
	.timeout = timeout_rq,
	.poll = poll_queue,
	.complete = complete_rq,
	.init_hctx = init_hctx,
	.init_request = init_request,
	.map_queues = map_queues,
};

/* ---- Down and up ------------------------------------------------------------------------- */

/* Whoever the device left behind: again later, or an error. */
static void fail_all(struct blk_queue *bq, bool again)
{
	struct vireo_ring *r = &bq->q.ring;
	struct request *rq;
	unsigned long flags;
	u32 tag = 0;

	for (;;) {
		struct blk_req *br;

		spin_lock_irqsave(&bq->lock, flags);
		rq = vireo_ring_abandon(r, &tag);
		spin_unlock_irqrestore(&bq->lock, flags);
		if (!rq)
			break;
		br = blk_mq_rq_to_pdu(rq);
		data_unmap(bq->disk, rq);
		if (again && br->resets++ < RESETS) {
			blk_mq_requeue_request(rq, false);
			continue;
		}
		br->resets = 0;
		br->status = BLK_STS_IOERR;
		blk_mq_complete_request(rq);
	}
}

/*
 * Resets the device: its queues are empty after this and take nothing.
 * @again: requests in flight are repeated when it is up again; each may have
 * been carried out already, which for all operations is the same as once more.
 */
static void disk_down(struct blk_disk *disk, bool again)
{
	unsigned long flags;
	unsigned int i;

	lockdep_assert_held(&disk->lock);
	if (!disk->up)
		return;
	disk->up = false;
	if (!disk->quiet)
		blk_mq_quiesce_queue(disk->gendisk->queue);
	disk->quiet = true;
	vireo_dev_reset(&disk->vd);
	for (i = 0; i < disk->nirq + disk->npoll; i++) {
		struct blk_queue *bq = &disk->queues[i];

		harvest(bq, NULL, false);	/* what is complete is complete */
		spin_lock_irqsave(&bq->lock, flags);
		vireo_ring_break(&bq->q.ring, "it was reset");
		spin_unlock_irqrestore(&bq->lock, flags);
		fail_all(bq, again);
	}
}

/* The other way.  If it fails, or @disk->dead, all requests do. */
static int disk_up(struct blk_disk *disk)
{
	unsigned long flags;
	unsigned int i;
	int err = -EIO;

	lockdep_assert_held(&disk->lock);
	if (!disk->dead)
		err = vireo_dev_accept(&disk->vd, disk->features, 0);
	for (i = 0; !err && i < disk->nirq + disk->npoll; i++) {
		struct blk_queue *bq = &disk->queues[i];

		spin_lock_irqsave(&bq->lock, flags);
		err = vireo_queue_enable(&bq->q, bq->vector);
		spin_unlock_irqrestore(&bq->lock, flags);
	}
	disk->up = true;	/* and so to be taken down */
	if (err) {
		disk->dead = true;
		disk_down(disk, false);
	}
	return err;
}

/* Lets requests in again. */
static void disk_open(struct blk_disk *disk)
{
	if (disk->quiet)
		blk_mq_unquiesce_queue(disk->gendisk->queue);
	disk->quiet = false;
	blk_mq_kick_requeue_list(disk->gendisk->queue);
}

static bool any_broken(struct blk_disk *disk)
{
	unsigned int i;

	for (i = 0; i < disk->nirq + disk->npoll; i++)
		if (READ_ONCE(disk->queues[i].q.ring.broken))
			return true;
	return false;
}

/*
 * A ring is broken, the device failed, or it is gone.  One that lies is not
 * asked twice; one that says itself that it needs a reset gets it.
 */
static void reset_work(struct work_struct *work)
{
	struct blk_disk *disk = container_of(work, struct blk_disk, reset_work);
	bool failed, gone;

	mutex_lock(&disk->lock);
	gone = vireo_dev_gone(&disk->vd);
	failed = !gone && vireo_dev_failed(&disk->vd);
	if (!disk->up || !(gone || failed || any_broken(disk)))
		goto out;
	dev_err(&disk->vd.pci->dev, "%s: %s\n", disk->gendisk->disk_name,
		failed ? "failed and is reset" : "cannot be used any more");
	disk->dead |= !failed;
	disk_down(disk, failed);
	if (failed)
		disk_up(disk);
	disk_open(disk);
out:
	mutex_unlock(&disk->lock);
}

/* ---- The config part --------------------------------------------------------------------- */

static int read_config(struct blk_disk *disk, struct vireo_blk_config *c)
{
	u32 logical, physical;
	int err;

	err = vireo_dev_config(&disk->vd, c, sizeof(*c));
	if (err)
		return err;
	logical = le32_to_cpu(c->logical_block);
	physical = le32_to_cpu(c->physical_block);
	if (logical < SECTOR_SIZE || logical > PAGE_SIZE || !is_power_of_2(logical) ||
	    physical < logical || !is_power_of_2(physical) ||
	    le32_to_cpu(c->max_bytes) < PAGE_SIZE ||
	    le64_to_cpu(c->sectors) > LLONG_MAX >> SECTOR_SHIFT ||
	    le64_to_cpu(c->sectors) % (logical >> SECTOR_SHIFT)) {
		dev_err(&disk->vd.pci->dev, "%llu sectors, blocks of %u and %u, requests of %u\n",
			le64_to_cpu(c->sectors), logical, physical, le32_to_cpu(c->max_bytes));
		return -EINVAL;
	}
	return 0;
}

static void config_work(struct work_struct *work)
{
	struct blk_disk *disk = container_of(work, struct blk_disk, config_work);
	struct vireo_blk_config c;

	mutex_lock(&disk->lock);
	if (!disk->up)
		goto out;
	if (vireo_dev_failed(&disk->vd))
		schedule_work(&disk->reset_work);
	else if (!read_config(disk, &c) && le32_to_cpu(c.logical_block) == disk->logical_block)
		set_capacity_and_notify(disk->gendisk, le64_to_cpu(c.sectors));
out:
	mutex_unlock(&disk->lock);
}

/* ---- The disk ---------------------------------------------------------------------------- */

static void disk_free(struct gendisk *gendisk)
{
	struct blk_disk *disk = gendisk->private_data;

	ida_free(&disk_ids, disk->id);
	kfree(disk);
}

static const struct block_device_operations disk_ops = {
	.owner = THIS_MODULE,
	.free_disk = disk_free,
};

static ssize_t serial_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct blk_disk *disk = dev_to_disk(dev)->private_data;

	return sysfs_emit(buf, "%s\n", disk->serial);
}
static DEVICE_ATTR_RO(serial);

static struct attribute *disk_attrs[] = {
	&dev_attr_serial.attr,
	NULL,
};
ATTRIBUTE_GROUPS(disk);

/* a .. z, aa .. zz, aaa ...: the letters behind "vrd" */
static void disk_name(char *name, int id)
{
	char letters[8];
	unsigned int i = sizeof(letters) - 1;

	letters[i] = '\0';
	for (id++; id && i; id = (id - 1) / 26)
		letters[--i] = 'a' + (id - 1) % 26;
	snprintf(name, DISK_NAME_LEN, NAME_FORMAT "%s", &letters[i]);
}

static void disk_limits(struct blk_disk *disk, const struct vireo_blk_config *c,
			struct compat_limits *cl)
{
	u32 max = round_down(min_t(u32, le32_to_cpu(c->max_bytes), SZ_16M), PAGE_SIZE);
	u32 range = round_down(min_t(u32, le32_to_cpu(c->max_discard), UINT_MAX >> SECTOR_SHIFT),
			       disk->logical_block >> SECTOR_SHIFT);
	u32 align = le32_to_cpu(c->discard_align);

	*cl = (struct compat_limits) {
		.logical_block = disk->logical_block,
		.physical_block = min_t(u32, le32_to_cpu(c->physical_block), SZ_1M),
		.max_sectors = max >> SECTOR_SHIFT,
		.max_segments = LIST_SEGS,
		.max_segment_size = disk->max_seg,
		.max_discard = disk->features & VIREO_BLK_F_DISCARD ? range : 0,
		.discard_granularity = align && align % disk->logical_block == 0 ?
			align : disk->logical_block,
		.max_zeroes = disk->features & VIREO_BLK_F_ZEROES ? range : 0,
		.cache = disk->features & VIREO_BLK_F_FLUSH,
	};
}

static int make_disk(struct blk_disk *disk, const struct vireo_blk_config *c)
{
	struct compat_limits cl;
	struct gendisk *gendisk;

	disk_limits(disk, c, &cl);
	gendisk = compat_alloc_disk(&disk->tags, &cl, disk);
	if (IS_ERR(gendisk))
		return PTR_ERR(gendisk);
	disk->gendisk = gendisk;
	disk_name(gendisk->disk_name, disk->id);
	gendisk->private_data = disk;
	gendisk->fops = &disk_ops;
	if (disk->features & VIREO_BLK_F_READONLY)
		set_disk_ro(gendisk, true);
	set_capacity(gendisk, le64_to_cpu(c->sectors));
	return 0;
}

static int make_tags(struct blk_disk *disk)
{
	struct blk_mq_tag_set *set = &disk->tags;
	unsigned int i;

	set->ops = &blk_ops;
	set->nr_hw_queues = disk->nirq + disk->npoll;
	set->nr_maps = disk->npoll ? HCTX_MAX_TYPES : 1;
	set->numa_node = dev_to_node(&disk->vd.pci->dev);
	set->cmd_size = sizeof(struct blk_req);
	/* The host has a scheduler of its own for what is behind the disk. */
	set->flags = BLK_MQ_F_SHOULD_MERGE | BLK_MQ_F_NO_SCHED_BY_DEFAULT;
	set->driver_data = disk;
	set->queue_depth = disk->queues[0].q.entries;
	for (i = 1; i < set->nr_hw_queues; i++)
		set->queue_depth = min(set->queue_depth, disk->queues[i].q.entries);
	return blk_mq_alloc_tag_set(set);
}

/* ---- Interrupts and queues --------------------------------------------------------------- */

static void free_irqs(struct blk_disk *disk, unsigned int count)
{
	while (count--)
		free_irq(pci_irq_vector(disk->vd.pci, count),
			 count ? (void *)&disk->queues[count - 1] : disk);
}

/* Vectors that the disk has: one for the config part, and the queues' */
static unsigned int vector_count(struct blk_disk *disk)
{
	return disk->queues[0].vector ? disk->nirq + 1 : 1;
}

static int request_irqs(struct blk_disk *disk)
{
	struct pci_dev *pci = disk->vd.pci;
	unsigned int i;
	int err;

	for (i = 0; i < vector_count(disk); i++) {
		struct blk_queue *bq = &disk->queues[i ? i - 1 : 0];

		if (i) {
			snprintf(bq->name, sizeof(bq->name), "vireo_blk%d-%u", disk->id, i - 1);
			err = request_irq(pci_irq_vector(pci, i), queue_irq, 0, bq->name, bq);
		} else {
			err = request_irq(pci_irq_vector(pci, 0), config_irq, 0, "vireo_blk", disk);
		}
		if (err) {
			free_irqs(disk, i);
			return err;
		}
	}
	return 0;
}

static void free_queues(struct blk_disk *disk)
{
	unsigned int i;

	for (i = 0; i < disk->nirq + disk->npoll; i++)
		vireo_queue_free(&disk->queues[i].q);
}

/* Polled queues come off the end of what the device has; one stays in any case. */
static int make_queues(struct blk_disk *disk)
{
	unsigned int n = disk->vd.nqueues, i;
	int got, err;

	disk->npoll = min3(poll_queues, n - 1, num_possible_cpus());
	got = vireo_dev_vectors(&disk->vd, min(n - disk->npoll, num_possible_cpus()), true);
	if (got < 0)
		return got;
	disk->nirq = max(got, 1);
	for (i = 0; i < disk->nirq + disk->npoll; i++) {
		struct blk_queue *bq = &disk->queues[i];

		spin_lock_init(&bq->lock);
		bq->disk = disk;
		bq->vector = i >= disk->nirq ? VIREO_PCI_NO_VECTOR : got ? i + 1 : 0;
		err = vireo_queue_alloc(&bq->q, &disk->vd, i, entries);
		if (err) {
			free_queues(disk);
			return err;
		}
	}
	return 0;
}

/* ---- Life -------------------------------------------------------------------------------- */

static int disk_probe(struct blk_disk *disk)
{
	struct vireo_blk_config c;
	size_t max_seg = dma_max_mapping_size(&disk->vd.pci->dev);
	int err;

	err = read_config(disk, &c);
	if (err)
		return err;
	disk->features = disk->vd.offered & (VIREO_BLK_F_FLUSH | VIREO_BLK_F_DISCARD |
					     VIREO_BLK_F_ZEROES | VIREO_BLK_F_READONLY);
	disk->logical_block = le32_to_cpu(c.logical_block);
	disk->max_seg = round_down(min_t(size_t, max_seg, SZ_16M), PAGE_SIZE);
	memcpy(disk->serial, c.serial, VIREO_BLK_SERIAL);
	disk->lists = mempool_create_page_pool(LISTS, 0);
	if (!disk->lists)
		return -ENOMEM;
	err = make_queues(disk);
	if (err)
		goto err_lists;
	err = make_tags(disk);
	if (err)
		goto err_queues;
	err = make_disk(disk, &c);
	if (err)
		goto err_tags;
	err = request_irqs(disk);
	if (err)
		goto err_disk;
	return 0;

err_disk:
	put_disk(disk->gendisk);
err_tags:
	blk_mq_free_tag_set(&disk->tags);
err_queues:
	free_queues(disk);
err_lists:
	mempool_destroy(disk->lists);
	return err;
}

/*
 * Undoes disk_probe(), when the device was reset and the block layer no longer
 * has the disk, which is the last to be put.  If it never had it: the first.
 */
static void disk_release(struct blk_disk *disk, bool added)
{
	struct gendisk *gendisk = disk->gendisk;

	free_irqs(disk, vector_count(disk));
	cancel_work_sync(&disk->config_work);
	cancel_work_sync(&disk->reset_work);
	if (!added)
		put_disk(gendisk);
	blk_mq_free_tag_set(&disk->tags);
	free_queues(disk);
	mempool_destroy(disk->lists);
	vireo_dev_close(&disk->vd);
	if (added)
		put_disk(gendisk);	/* and with it @disk */
}

/* Nobody uses the disk, or will. */
static void blk_stop(struct blk_disk *disk)
{
	mutex_lock(&disk->lock);
	disk->dead = true;
	disk->up = false;
	vireo_dev_reset(&disk->vd);
	mutex_unlock(&disk->lock);
}

static int blk_probe(struct pci_dev *pci, const struct pci_device_id *id)
{
	struct blk_disk *disk;
	int err;

	disk = kzalloc(struct_size(disk, queues, VIREO_PCI_QUEUES), GFP_KERNEL);
	if (!disk)
		return -ENOMEM;
	mutex_init(&disk->lock);
	INIT_WORK(&disk->config_work, config_work);
	INIT_WORK(&disk->reset_work, reset_work);
	disk->id = ida_alloc(&disk_ids, GFP_KERNEL);
	if (disk->id < 0) {
		err = disk->id;
		goto err_free;
	}
	err = vireo_dev_open(&disk->vd, pci);
	if (err)
		goto err_id;
	pci_set_drvdata(pci, disk);
	err = disk_probe(disk);
	if (err)
		goto err_close;
	mutex_lock(&disk->lock);
	err = disk_up(disk);
	mutex_unlock(&disk->lock);
	if (!err)
		err = device_add_disk(&pci->dev, disk->gendisk, disk_groups);
	if (!err)
		return 0;

	blk_stop(disk);
	disk_release(disk, false);
	goto err_id;
err_close:
	vireo_dev_close(&disk->vd);
err_id:
	ida_free(&disk_ids, disk->id);
err_free:
	kfree(disk);
	return err;
}

static void blk_remove(struct pci_dev *pci)
{
	struct blk_disk *disk = pci_get_drvdata(pci);

	if (vireo_dev_gone(&disk->vd)) {	/* nothing will complete any more */
		blk_mark_disk_dead(disk->gendisk);
		mutex_lock(&disk->lock);
		disk->dead = true;
		if (disk->up) {
			disk_down(disk, false);
			disk_open(disk);
		}
		mutex_unlock(&disk->lock);
	}
	del_gendisk(disk->gendisk);
	blk_stop(disk);
	disk_release(disk, true);
}

/* The machine ends, or another kernel takes over: no more access to memory. */
static void blk_shutdown(struct pci_dev *pci)
{
	struct blk_disk *disk = pci_get_drvdata(pci);

	mutex_lock(&disk->lock);
	disk_down(disk, true);
	disk->dead = true;
	mutex_unlock(&disk->lock);
}

/* Nothing is in flight while the machine sleeps. */
static int blk_suspend(struct device *dev)
{
	struct blk_disk *disk = dev_get_drvdata(dev);

	blk_mq_freeze_queue(disk->gendisk->queue);
	mutex_lock(&disk->lock);
	disk_down(disk, true);
	mutex_unlock(&disk->lock);
	return 0;
}

static int blk_resume(struct device *dev)
{
	struct blk_disk *disk = dev_get_drvdata(dev);
	int err;

	mutex_lock(&disk->lock);
	vireo_dev_reset(&disk->vd);
	err = disk_up(disk);
	disk_open(disk);
	mutex_unlock(&disk->lock);
	blk_mq_unfreeze_queue(disk->gendisk->queue);
	return err;
}

static DEFINE_SIMPLE_DEV_PM_OPS(pm_ops, blk_suspend, blk_resume);

/* Somebody resets the function by PCI's means (sysfs). */
static void reset_prepare(struct pci_dev *pci)
{
	struct blk_disk *disk = pci_get_drvdata(pci);

	mutex_lock(&disk->lock);
	disk_down(disk, true);
}

static void reset_done(struct pci_dev *pci)
{
	struct blk_disk *disk = pci_get_drvdata(pci);

	disk_up(disk);
	disk_open(disk);
	mutex_unlock(&disk->lock);
}

static const struct pci_error_handlers error_handlers = {
	.reset_prepare = reset_prepare,
	.reset_done = reset_done,
};

static const struct pci_device_id ids[] = {
	{ PCI_DEVICE(VIREO_PCI_VENDOR, VIREO_PCI_BLK) },
	{}
};
MODULE_DEVICE_TABLE(pci, ids);

static struct pci_driver blk_driver = {
	.name = "vireo_blk",
	.id_table = ids,
	.probe = blk_probe,
	.remove = blk_remove,
	.shutdown = blk_shutdown,
	.driver.pm = pm_sleep_ptr(&pm_ops),
	.err_handler = &error_handlers,
};
module_pci_driver(blk_driver);

MODULE_DESCRIPTION("Vireo guest drivers: disks");
MODULE_LICENSE("GPL");
