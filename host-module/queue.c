// SPDX-License-Identifier: GPL-2.0
/*
 * Rings that a guest shares with a backend (uapi/vireo_ring.h).
 *
 * An entry is copied once and the copy is used; the device's indices are kept
 * here, what is in the ring is only shown.  An index that lies kills the queue.
 *
 * A queue's pages are held as long as it lives.  References: one by the fd, one
 * by each doorbell on its way.  The fd's end stops the backend and waits until
 * nothing is in flight.
 */
#include <linux/log2.h>
#include <linux/memcontrol.h>
#include <linux/sched/mm.h>

#include "vireo.h"

#define KICK_ROUNDS	16	/* of QUEUE_BATCH for one doorbell */
#define BUSY_NS		(200 * NSEC_PER_USEC)	/* between two entries: not a busy driver */
#define BUSY_ROUNDS	4	/* that it has been busy: it need not ring for each any more */
#define BUSY_STEP	8U	/* entries without a doorbell, more with every round */
#define BUSY_AHEAD	24U	/* ... up to so many */

struct workqueue_struct *vireo_wq;	/* for the backends too */

static void *ring_at(const struct vireo_queue *q, u32 offset)
{
	return q->ring[offset >> PAGE_SHIFT] + offset_in_page(offset);
}

static struct vireo_ring_ctl *ring_ctl(const struct vireo_queue *q)
{
	return ring_at(q, 0);
}

/* ---- Entries and completions ------------------------------------------------------------- */

static void queue_interrupt(struct vireo_queue *q)
{
	q->pending = !q->msi_address;
	if (q->pending)
		return;
	q->stat.interrupts++;
	vireo_lapic_msi(q->vm, q->msi_address, q->msi_data);
}

/*
 * Looks how many entries wait; 0 when the queue is dead, which a bad index makes it.  The
 * driver may have as many outstanding as the ring has entries, counted until it has
 * moved comp_head; and that never passes what was completed.  So no more than that
 * are in flight.
 */
static u32 queue_waiting(struct vireo_queue *q)
{
	struct vireo_ring_ctl *ctl = ring_ctl(q);
	/* acquire: the driver moves comp_head before it puts the next entry */
	u32 tail = le32_to_cpu(smp_load_acquire(&ctl->sub_tail));
	/* acquire: it has seen the completions that it takes, q->comp_tail shows them */
	u32 used = q->sub_head - le32_to_cpu(smp_load_acquire(&ctl->comp_head));
	u32 waiting = tail - q->sub_head;

	if ((used > q->entries || used < vireo_queue_in_flight(q) ||
	     waiting > q->entries - used) && !q->stat.error) {
		spin_lock_irq(&q->comp_lock);
		WRITE_ONCE(q->stat.error, VIREO_RING_ERROR_INDEX);
		WRITE_ONCE(ring_ctl(q)->error, cpu_to_le32(VIREO_RING_ERROR_INDEX));
		queue_interrupt(q);
		spin_unlock_irq(&q->comp_lock);
	}
	if (q->stat.error)
		waiting = 0;
	q->sub_tail = q->sub_head + waiting;
	return waiting;
}

/**
 * vireo_queue_take() - take the next of the entries that waited when the kick began
 * @q: the queue
 * @entry: a copy of it, VIREO_RING_ENTRY bytes
 * Context: Any; one caller at a time.
 * Return: Whether there was one.  It must be completed.
 */
bool vireo_queue_take(struct vireo_queue *q, void *entry)
{
	u32 slot = q->sub_head & (q->entries - 1);

	if (q->sub_head == q->sub_tail)
		return false;
	memcpy(entry, ring_at(q, VIREO_RING_SUB(q->entries) + slot * VIREO_RING_ENTRY),
	       VIREO_RING_ENTRY);
	barrier();	/* from here on the copy alone is looked at */
	q->stat.entries++;
	WRITE_ONCE(q->sub_head, q->sub_head + 1);
	WRITE_ONCE(ring_ctl(q)->sub_head, cpu_to_le32(q->sub_head));
	return true;
}

/*
 * How many entries a driver may put without ringing: some once it has put many in
 * a short time.  They are looked at when it rings, when a vCPU halts, or after
 * BUSY_NS.  If there is no more than one by then, nothing was saved: that ends it.
 */
static u32 queue_ahead(struct vireo_queue *q)
{
	u32 n = q->sub_head - q->rest_head;
	u64 now = ktime_get_ns();

	if (now - q->rest_ns >= max(n, 1U) * BUSY_NS)
		q->busy = 0;
	else if (n)
		q->busy++;
	if (n) {
		q->rest_ns = now;
		q->rest_head = q->sub_head;
	}
	if (q->busy < BUSY_ROUNDS) {
		clear_bit(q->doorbell, q->vm->busy_queues);
		return 0;
	}
	set_bit(q->doorbell, q->vm->busy_queues);
	hrtimer_start(&q->overdue, ns_to_ktime(BUSY_NS), HRTIMER_MODE_REL);
	return min3(BUSY_STEP * (q->busy - BUSY_ROUNDS + 1), BUSY_AHEAD, q->entries / 4);
}

/*
 * The backend looks once, then a doorbell is asked for; whether there are so many
 * entries already that none will come.
 */
static bool queue_look(struct vireo_queue *q)
{
	u32 ahead;

	queue_waiting(q);
	ahead = q->ops->kick(q);
	if (ahead == QUEUE_ADAPT)
		ahead = queue_ahead(q);
	WRITE_ONCE(ring_ctl(q)->sub_event, cpu_to_le32(q->sub_head + ahead));
	smp_mb();	/* pairs with the driver's between sub_tail and sub_event */
	return queue_waiting(q) > ahead;
}

/**
 * vireo_queue_complete() - complete entries, and interrupt the guest if it asked
 * @q: the queue
 * @comp: tag, status, length and info of each
 * @n: how many
 * Context: Any.  The queue may be gone when this returns, unless more is in flight.
 */
void vireo_queue_complete(struct vireo_queue *q, const struct vireo_comp *comp, unsigned int n)
{
	u32 tail, old, base = VIREO_RING_COMP;
	unsigned long flags;

	spin_lock_irqsave(&q->comp_lock, flags);
	old = q->comp_tail;
	for (tail = old; tail != old + n; tail++, comp++) {
		u32 slot = tail & (q->entries - 1);

		*(struct vireo_comp *)ring_at(q, base + slot * sizeof(*comp)) = *comp;
		q->stat.errors += !!comp->status;
	}
	WRITE_ONCE(q->comp_tail, tail);
	/* release: the completions, then the index that shows them */
	smp_store_release(&ring_ctl(q)->comp_tail, cpu_to_le32(tail));
	smp_mb();	/* pairs with the driver's between comp_event and comp_tail */
	if (vireo_ring_event(le32_to_cpu(READ_ONCE(ring_ctl(q)->comp_event)), old, tail))
		queue_interrupt(q);
	if (wq_has_sleeper(&q->idle) && !vireo_queue_in_flight(q))
		wake_up_all(&q->idle);
	spin_unlock_irqrestore(&q->comp_lock, flags);
}

/**
 * vireo_queue_segs() - the segments of an entry
 * @q: the queue
 * @entry: a copy that begins as all do: flags in byte 1, nsegs, then 12 bytes
 * @segs: where to, little-endian still; VIREO_RING_INDIRECT of them
 * @align: mask of what addresses and lengths are multiples of
 * @max: bytes of all, no more
 * Context: May sleep.
 * Return: Bytes of all nsegs of them, or -EINVAL: the entry breaks a rule.
 */
int vireo_queue_segs(struct vireo_queue *q, const void *entry, struct vireo_seg *segs,
		     u32 align, u32 max)
{
	bool list = ((const u8 *)entry)[1] & VIREO_SUB_INDIRECT;
	unsigned int i, n = le16_to_cpup(entry + 2);
	const struct vireo_seg *seg = entry + 16;
	u32 len, bytes = 0;

	if (!n || n > (list ? VIREO_RING_INDIRECT : VIREO_RING_SEGS))
		return -EINVAL;
	if (list &&
	    (seg->reserved || le32_to_cpu(seg->len) != n * sizeof(*seg) ||
	     vireo_mem_rw(&q->vm->mem, le64_to_cpu(seg->gpa), segs, n * sizeof(*seg), false)))
		return -EINVAL;
	for (i = 0; i < n; i++, bytes += len) {
		if (!list)
			segs[i] = seg[i];
		len = le32_to_cpu(segs[i].len);
		if (!len || len > max - bytes || segs[i].reserved ||
		    (le64_to_cpu(segs[i].gpa) | len) & align)
			return -EINVAL;
	}
	return bytes;
}

/* ---- Doorbells ------------------------------------------------------------------------------ */

static void queue_free(struct kref *ref)
{
	struct vireo_queue *q = container_of(ref, struct vireo_queue, ref);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(q->ring) && q->ring[i]; i++)
		put_page(virt_to_page(q->ring[i]));
	atomic_dec(&q->vm->nr_queues);
	kvfree(q->room);
	mem_cgroup_put(q->memcg);
	fput(q->owner);
	kfree_rcu(q, rcu);
}

/* Has the backend look, now or when it is done with the last look. */
static void queue_kick(struct vireo_queue *q)
{
	unsigned int rounds = KICK_ROUNDS;
	bool more;

	smp_store_mb(q->kicked, true);	/* whoever holds the lock sees that before it leaves */
	do {
		if (!mutex_trylock(&q->kick_lock))
			return;
		smp_store_mb(q->kicked, false);	/* then the look at the ring */
		more = !q->stopped && queue_look(q);
		mutex_unlock(&q->kick_lock);
		cond_resched();
		smp_mb();	/* the unlock, then the look at @kicked */
	} while ((more || READ_ONCE(q->kicked)) && --rounds);
	if (!rounds && !READ_ONCE(q->stopped))	/* nobody keeps this vCPU here */
		vireo_queue_defer(q, 0);
}

static void queue_again(struct work_struct *work)
{
	struct vireo_queue *q = container_of(to_delayed_work(work), struct vireo_queue, again);
	struct mem_cgroup *old = set_active_memcg(q->memcg);

	queue_kick(q);
	set_active_memcg(old);
	kref_put(&q->ref, queue_free);
}

/**
 * vireo_queue_defer() - kick a queue from the workqueue
 * @q: the queue
 * @delay: jiffies from now, in place of what was asked for before
 * Context: Any, with a reference.
 */
void vireo_queue_defer(struct vireo_queue *q, unsigned long delay)
{
	kref_get(&q->ref);
	if (mod_delayed_work(vireo_wq, &q->again, delay))
		kref_put(&q->ref, queue_free);	/* it has one already */
}

/* Nobody has looked for a while. */
static enum hrtimer_restart queue_overdue(struct hrtimer *timer)
{
	vireo_queue_defer(container_of(timer, struct vireo_queue, overdue), 0);
	return HRTIMER_NORESTART;
}

/**
 * vireo_queue_ring() - kick the queue of a doorbell
 * @vm: the guest's
 * @doorbell: its number, the guest's to choose
 * @rung: VIREO_HC_DOORBELL; else a vCPU halts, and the queue is busy
 * Context: Process context; the backend may sleep in it.
 * Return: 0 or -ENOENT.
 */
int vireo_queue_ring(struct vireo_vm *vm, u64 doorbell, bool rung)
{
	struct vireo_queue *q;

	if (doorbell >= VIREO_MAX_QUEUES)
		return -ENOENT;
	rcu_read_lock();
	q = rcu_dereference(vm->queues[array_index_nospec(doorbell, VIREO_MAX_QUEUES)]);
	if (q && !kref_get_unless_zero(&q->ref))
		q = NULL;
	rcu_read_unlock();
	if (!q)
		return -ENOENT;
	if (rung)
		atomic64_inc(&q->doorbells);
	queue_kick(q);
	kref_put(&q->ref, queue_free);
	return 0;
}

/* ---- The fd ------------------------------------------------------------------------------- */

static long queue_set_msi(void *object, unsigned int cmd, void *arg)
{
	const struct vireo_queue_msi *m = arg;
	bool masked = m->flags & VIREO_MSI_MASKED;
	struct vireo_queue *q = object;
	bool pending;

	if (m->reserved || (!masked && vireo_lapic_msi(NULL, m->address, m->data)))
		return -EINVAL;
	spin_lock_irq(&q->comp_lock);
	q->msi_address = masked ? 0 : m->address;
	q->msi_data = m->data;
	if (q->pending)
		queue_interrupt(q);
	pending = q->pending;
	spin_unlock_irq(&q->comp_lock);
	return pending;
}

static long queue_get_stat(void *object, unsigned int cmd, void *arg)
{
	struct vireo_queue_stat *s = arg;
	struct vireo_queue *q = object;

	*s = q->stat;
	s->in_flight = vireo_queue_in_flight(q);
	s->doorbells = atomic64_read(&q->doorbells);
	return 0;
}

static const struct vireo_call queue_calls[] = {
	{ VIREO_SET_MSI, queue_set_msi, VIREO_MSI_MASKED },
	{ VIREO_GET_QUEUE_STAT, queue_get_stat },
	{}
};

/* No doorbell finds it any more, the backend lets go, and what is in flight ends. */
static void queue_close(struct vireo_queue *q)
{
	mutex_lock(&q->vm->lock);
	RCU_INIT_POINTER(q->vm->queues[q->doorbell], NULL);
	mutex_unlock(&q->vm->lock);

	mutex_lock(&q->kick_lock);
	WRITE_ONCE(q->stopped, true);
	if (q->ops->stop)
		q->ops->stop(q);
	mutex_unlock(&q->kick_lock);
	clear_bit(q->doorbell, q->vm->busy_queues);
	hrtimer_cancel(&q->overdue);
	if (cancel_delayed_work_sync(&q->again))
		kref_put(&q->ref, queue_free);

	wait_event(q->idle, !vireo_queue_in_flight(q));
	/* Whoever completed the last entry has left when it has let go of the lock. */
	spin_lock_irq(&q->comp_lock);
	q->msi_address = 0;
	spin_unlock_irq(&q->comp_lock);
	kref_put(&q->ref, queue_free);
}

DEFINE_VIREO_FD(queue, file->private_data, queue_close);

static int queue_pin(struct vireo_queue *q, u64 gpa)
{
	unsigned int i, n = DIV_ROUND_UP(VIREO_RING_BYTES(q->entries), PAGE_SIZE);

	for (i = 0; i < n; i++) {
		struct bio_vec bv;
		int err = vireo_mem_pin(&q->vm->mem, gpa + i * PAGE_SIZE, PAGE_SIZE, true, &bv,
					q->leaf);

		if (err < 0)
			return err;
		q->ring[i] = bvec_virt(&bv);
	}
	return 0;
}

/**
 * vireo_queue_create() - VIREO_CREATE_QUEUE
 * @owner: the disk's or interface's file, which the queue keeps
 * @cmd: that
 * @arg: struct vireo_create_queue
 * Context: May sleep.
 * Return: The queue's fd, or -EINVAL, -EBUSY, -ENXIO, -ENOMEM, -EMFILE...
 */
long vireo_queue_create(void *owner, unsigned int cmd, void *arg)
{
	struct vireo_device *dev = ((struct file *)owner)->private_data;
	const struct vireo_create_queue *c = arg;
	struct vireo_vm *vm = dev->vm;
	struct vireo_queue *q;
	int err;

	if ((c->start && !c->flags) || c->doorbell >= VIREO_MAX_QUEUES ||
	    c->index >= dev->queues || !PAGE_ALIGNED(c->ring) || !is_power_of_2(c->entries) ||
	    c->entries < VIREO_RING_MIN || c->entries > VIREO_RING_MAX)
		return -EINVAL;
	q = kzalloc(sizeof(*q), GFP_KERNEL_ACCOUNT);
	if (!q)
		return -ENOMEM;
	kref_init(&q->ref);
	mutex_init(&q->kick_lock);
	spin_lock_init(&q->comp_lock);
	init_waitqueue_head(&q->idle);
	INIT_DELAYED_WORK(&q->again, queue_again);
	hrtimer_init(&q->overdue, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	q->overdue.function = queue_overdue;
	q->ops = dev->ops;
	q->vm = vm;
	q->owner = get_file(owner);
	q->dev = dev;
	q->memcg = get_mem_cgroup_from_mm(current->mm);
	q->doorbell = c->doorbell;
	q->index = c->index;
	q->entries = c->entries;
	q->sub_head = c->start;
	q->sub_tail = c->start;
	q->rest_head = c->start;
	q->comp_tail = c->start;
	mutex_lock(&vm->lock);	/* not while it is forked */
	atomic_inc(&vm->nr_queues);
	err = rcu_access_pointer(vm->queues[q->doorbell]) ? -EBUSY : queue_pin(q, c->ring);
	if (!err)
		err = q->ops->start(q);
	if (!err)
		rcu_assign_pointer(vm->queues[q->doorbell], q);
	mutex_unlock(&vm->lock);
	if (err) {
		kref_put(&q->ref, queue_free);
		return err;
	}
	if (c->flags & VIREO_QUEUE_RESUME)
		vireo_queue_defer(q, 0);
	err = anon_inode_getfd("vireo-queue", &queue_fops, q, O_RDWR | O_CLOEXEC);
	if (err < 0)
		queue_close(q);
	return err;
}
