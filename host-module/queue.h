/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a backend (blk.c, net.c) sees of a ring; see queue.c.  Letters as in
 * vireo.h, and:
 *	(t) whoever takes entries: kick_lock, or the backend's own rule
 *	(c) comp_lock
 */
#ifndef VIREO_QUEUE_H
#define VIREO_QUEUE_H

#include <linux/bvec.h>
#include <linux/file.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "vireo.h"
#include "../uapi/vireo_ring.h"

struct vireo_queue;

#define QUEUE_BATCH	64	/* entries that a look takes, no more */
#define QUEUE_PAGES	DIV_ROUND_UP(VIREO_RING_BYTES(VIREO_RING_MAX), PAGE_SIZE)

/* All in process context; not two of them at a time for one queue. */
struct vireo_queue_ops {
	int (*start)(struct vireo_queue *q);	/* claim q->index; 0 or -errno */
	/*
	 * There may be entries: look.  Returns how many may be put from now on without
	 * a doorbell; QUEUE_ADAPT: some, by a driver that rings often.  Where more than
	 * so many are there already, this is called again.
	 */
	u32 (*kick)(struct vireo_queue *q);
#define QUEUE_ADAPT	U32_MAX
	/*
	 * Take nothing more, and complete what may wait for ever; what is on its
	 * way may complete later.  After that nothing else is called.  NULL: done
	 */
	void (*stop)(struct vireo_queue *q);
};

/* What an object begins with whose fd makes queues */
struct vireo_device {
	struct vireo_vm *vm;		/* (i) held */
	const struct vireo_queue_ops *ops;	/* (i) */
	u32 queues;			/* (i) queues are numbered below that */
};

struct vireo_queue {
	struct kref ref;
	struct rcu_head rcu;
	const struct vireo_queue_ops *ops;	/* (i) */
	struct vireo_vm *vm;		/* (i) */
	struct file *owner;		/* (i) held, and so is its VM */
	void *dev;			/* (i) what @owner stands for: a vireo_device */
	struct mem_cgroup *memcg;	/* (i) held: whose all memory is */
	void *room;			/* the backend's; kvfree()d when nothing is in flight */
	u32 doorbell;			/* (i) */
	u32 index;			/* (i) */
	u32 entries;			/* (i) */
	struct page *page[QUEUE_PAGES];	/* (i) the ring's, held */

	struct mutex kick_lock;		/* serialises the operations */
	bool kicked;			/* (a) look (again) */
	struct delayed_work again;	/* kicks; pending: holds a reference */
	bool stopped;			/* kick_lock */
	u32 sub_head;			/* (t) entries taken, ever */
	u32 busy;			/* (t) how often in a row entries came quickly */
	u32 rest_head;			/* (t) sub_head when the driver was last asked to ring */
	u64 rest_ns;			/* (t) and when that was */
	struct hrtimer overdue;		/* kicks if nobody does, while it is busy */

	spinlock_t comp_lock;		/* all that is (c) */
	u32 comp_tail;			/* (c) completions put, ever */
	bool pending;			/* (c) an interrupt waits for the mask */
	u32 msi_data;			/* (c) */
	u64 msi_address;		/* (c) 0: masked */
	wait_queue_head_t idle;		/* nothing is in flight */
	/* error, to write, errors and interrupts: (c); entries, bytes and throttled: (t) */
	struct vireo_queue_stat stat;
	atomic64_t doorbells;
};

extern struct workqueue_struct *vireo_wq;

long vireo_queue_create(void *owner, unsigned int cmd, void *arg);
int vireo_queue_ring(struct vireo_vm *vm, u64 doorbell, bool rung);
void vireo_queue_defer(struct vireo_queue *q, unsigned long delay);
bool vireo_queue_take(struct vireo_queue *q, void *entry);
void vireo_queue_complete(struct vireo_queue *q, const struct vireo_comp *comp, unsigned int n);
int vireo_queue_segs(struct vireo_queue *q, const void *entry, struct vireo_seg *segs,
		     u32 align, u32 max);

/* Entries that are taken and not completed; exact when nothing is taken meanwhile. */
static inline u32 vireo_queue_in_flight(const struct vireo_queue *q)
{
	return READ_ONCE(q->sub_head) - READ_ONCE(q->comp_tail);
}

/* The last @n of them are not taken after all; (t). */
static inline void vireo_queue_untake(struct vireo_queue *q, u32 n)
{
	q->stat.entries -= n;
	WRITE_ONCE(q->sub_head, q->sub_head - n);
}

#endif /* VIREO_QUEUE_H */
