// SPDX-License-Identifier: GPL-2.0
/*
 * vireo_rng: random numbers from the host, for the kernel's generator.
 *
 * One entry at a time.  A machine that was copied knows it by the epoch in the
 * config part: its generator is then given new numbers, and reseeded, at once.
 *
 * The mutex keeps apart those who read and those who take the device down and
 * bring it up.  The lock protects the ring.
 */
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/hw_random.h>
#include <linux/interrupt.h>
#include <linux/module.h>
#include <linux/random.h>
#include <linux/slab.h>

#include "../uapi/vireo_rng.h"
#include "compat.h"
#include "ring.h"

#define ENTRIES		16
#define BYTES		512U		/* asked for at once */
#define SEED_BYTES	64U
#define PATIENCE	(5 * HZ)

static_assert(sizeof(struct vireo_rng_sub) == VIREO_RING_ENTRY);
static_assert(BYTES <= VIREO_RNG_MAX_BYTES);

/**
 * struct rng_dev - a source
 * @vd: its PCI function
 * @hw: the source, for the kernel
 * @q: its queue
 * @lock: protects @q.ring
 * @mutex: (m) see above
 * @up: (m) the queue is enabled
 * @dead: (m) for good
 * @vector: of the queue
 * @asked: (m) an entry is outstanding
 * @done: it is no more
 * @got: bytes that it brought
 * @data: its buffer, @got bytes of which are new
 * @dma: address of that
 * @epoch: of the numbers that the generator has
 * @config_work: the config part changed
 * @reset_work: something is wrong with the device
 */
struct rng_dev {
	struct vireo_dev vd;
	struct hwrng hw;
	struct vireo_queue q;
	spinlock_t lock;	/* see above */
	struct mutex mutex;	/* see above */
	bool up;
	bool dead;
	unsigned int vector;
	bool asked;
	struct completion done;
	u32 got;
	void *data;
	dma_addr_t dma;
	u64 epoch;
	struct work_struct config_work;
	struct work_struct reset_work;
};

/* ---- Reading ----------------------------------------------------------------------------- */

/* Take the completion if it is there. */
static void harvest(struct rng_dev *rng)
{
	struct vireo_ring *r = &rng->q.ring;
	struct vireo_comp comp;
	unsigned long flags;
	bool broke;

	spin_lock_irqsave(&rng->lock, flags);
	broke = r->broken;
	do {
		while (vireo_ring_take(r, &comp)) {
			rng->got = le32_to_cpu(comp.len);
			if (rng->got > BYTES)
				vireo_ring_break(r, "a completion longer than its buffer");
			if (r->broken || le16_to_cpu(comp.status) != VIREO_COMP_OK)
				rng->got = 0;
			complete(&rng->done);
		}
		vireo_ring_release(r);
	} while (!r->broken && vireo_ring_arm(r, 1));
	broke = !broke && r->broken;
	spin_unlock_irqrestore(&rng->lock, flags);

	if (broke) {
		complete(&rng->done);
		vireo_queue_report(&rng->q);
		schedule_work(&rng->reset_work);
	}
}

/* Have the buffer filled. */
static int ask(struct rng_dev *rng)
{
	struct vireo_rng_sub sub = {
		.nsegs = cpu_to_le16(1),
		.seg[0] = { .gpa = cpu_to_le64(rng->dma), .len = cpu_to_le32(BYTES) },
	};
	unsigned long flags;
	bool ring;
	int err;

	reinit_completion(&rng->done);
	rng->got = 0;
	spin_lock_irqsave(&rng->lock, flags);
	err = vireo_ring_put(&rng->q.ring, &sub, 0, rng);
	ring = !err && vireo_ring_publish(&rng->q.ring);
	spin_unlock_irqrestore(&rng->lock, flags);
	if (err)
		return -EIO;
	rng->asked = true;
	if (ring)
		vireo_queue_kick(&rng->q);
	harvest(rng);	/* the device may be done already */
	return 0;
}

/* Returns how many new bytes there are in the buffer. */
static int fetch(struct rng_dev *rng, bool wait)
{
	long left;

	lockdep_assert_held(&rng->mutex);
	if (!rng->up || rng->dead)
		return -EIO;
	if (!rng->asked && ask(rng))
		return -EIO;
	if (!try_wait_for_completion(&rng->done)) {
		if (!wait)
			return 0;
		left = wait_for_completion_interruptible_timeout(&rng->done, PATIENCE);
		if (left <= 0)
			return left ?: -ETIMEDOUT;	/* it stays asked for */
	}
	rng->asked = false;
	return rng->got ?: -EIO;
}

static int rng_read(struct hwrng *hw, void *data, size_t max, bool wait)
{
	struct rng_dev *rng = container_of(hw, struct rng_dev, hw);
	int n;

	if (!wait && !mutex_trylock(&rng->mutex))
		return 0;
	if (wait && mutex_lock_interruptible(&rng->mutex))
		return -ERESTARTSYS;
	n = fetch(rng, wait);
	if (n > 0) {
		n = min_t(size_t, n, max);
		memcpy(data, rng->data, n);
		memzero_explicit(rng->data, BYTES);	/* each byte is used once */
	}
	mutex_unlock(&rng->mutex);
	return n;
}

static irqreturn_t queue_irq(int irq, void *data)
{
	harvest(data);
	return IRQ_HANDLED;
}

static irqreturn_t config_irq(int irq, void *data)
{
	struct rng_dev *rng = data;

	schedule_work(&rng->config_work);
	harvest(rng);	/* the queue may share this vector */
	return IRQ_HANDLED;
}

/* ---- A machine that was copied ------------------------------------------------------------- */

/*
 * New bytes in the pool are used at the next reseeding, which may be a minute
 * away.  No kernel lets a module ask for it but through the device's file.
 */
static void reseed(struct rng_dev *rng)
{
	struct file *file = filp_open("/dev/urandom", O_RDONLY, 0);

	if (IS_ERR(file))
		return;
	if (vfs_ioctl(file, RNDRESEEDCRNG, 0))
		dev_warn(&rng->vd.pci->dev, "the generator keeps its key\n");
	filp_close(file, NULL);
}

static int read_epoch(struct rng_dev *rng, u64 *epoch)
{
	struct vireo_rng_config c;
	int err = vireo_dev_config(&rng->vd, &c, sizeof(c));

	*epoch = le64_to_cpu(c.epoch);
	return err;
}

static void config_work(struct work_struct *work)
{
	struct rng_dev *rng = container_of(work, struct rng_dev, config_work);
	u64 epoch;
	bool old;
	int n = 0;

	mutex_lock(&rng->mutex);
	if (!rng->up || rng->dead)
		goto out;
	if (vireo_dev_failed(&rng->vd)) {
		schedule_work(&rng->reset_work);
		goto out;
	}
	if (read_epoch(rng, &epoch) || epoch == rng->epoch)
		goto out;
	old = rng->asked;	/* by whom this is a copy of, perhaps */
	n = fetch(rng, true);
	if (n > 0 && old)
		n = fetch(rng, true);
	if (n > 0) {
		rng->epoch = epoch;
		add_device_randomness(rng->data, min_t(u32, n, SEED_BYTES));
		memzero_explicit(rng->data, BYTES);
	}
out:
	mutex_unlock(&rng->mutex);
	if (n <= 0)
		return;
	reseed(rng);
	dev_info(&rng->vd.pci->dev, "the machine was copied: reseeded\n");
}

/* ---- Down and up --------------------------------------------------------------------------- */

static void rng_down(struct rng_dev *rng)
{
	unsigned long flags;
	u32 tag = 0;

	lockdep_assert_held(&rng->mutex);
	rng->up = false;
	vireo_dev_reset(&rng->vd);
	spin_lock_irqsave(&rng->lock, flags);
	vireo_ring_break(&rng->q.ring, "it was reset");
	vireo_ring_abandon(&rng->q.ring, &tag);
	spin_unlock_irqrestore(&rng->lock, flags);
	rng->asked = false;
}

static int rng_up(struct rng_dev *rng)
{
	unsigned long flags;
	int err = -EIO;

	lockdep_assert_held(&rng->mutex);
	if (!rng->dead)
		err = vireo_dev_accept(&rng->vd, 0, 0);
	if (!err) {
		spin_lock_irqsave(&rng->lock, flags);
		err = vireo_queue_enable(&rng->q, rng->vector);
		spin_unlock_irqrestore(&rng->lock, flags);
	}
	rng->up = !err;
	rng->dead |= err;
	return err;
}

/* A device that lies is not asked twice; one that says that it needs a reset gets it. */
static void reset_work(struct work_struct *work)
{
	struct rng_dev *rng = container_of(work, struct rng_dev, reset_work);
	bool gone, failed;

	mutex_lock(&rng->mutex);
	gone = vireo_dev_gone(&rng->vd);
	failed = !gone && vireo_dev_failed(&rng->vd);
	if (rng->up && (gone || failed || READ_ONCE(rng->q.ring.broken))) {
		dev_err(&rng->vd.pci->dev, "%s\n",
			failed ? "failed and is reset" : "cannot be used any more");
		rng->dead |= !failed;
		rng_down(rng);
		if (failed)
			rng_up(rng);
	}
	mutex_unlock(&rng->mutex);
}

/* ---- Life ---------------------------------------------------------------------------------- */

static void free_irqs(struct rng_dev *rng)
{
	if (rng->vector)
		free_irq(pci_irq_vector(rng->vd.pci, 1), rng);
	free_irq(pci_irq_vector(rng->vd.pci, 0), rng);
}

static int request_irqs(struct rng_dev *rng)
{
	struct pci_dev *pci = rng->vd.pci;
	int err = vireo_dev_vectors(&rng->vd, 1, false);

	if (err < 0)
		return err;
	rng->vector = err;
	err = request_irq(pci_irq_vector(pci, 0), config_irq, 0, "vireo_rng", rng);
	if (err || !rng->vector)
		return err;
	err = request_irq(pci_irq_vector(pci, 1), queue_irq, 0, "vireo_rng-q", rng);
	if (err)
		free_irq(pci_irq_vector(pci, 0), rng);
	return err;
}

static int rng_start(struct rng_dev *rng)
{
	int err;

	err = read_epoch(rng, &rng->epoch);
	if (err)
		return err;
	rng->data = dma_alloc_coherent(&rng->vd.pci->dev, BYTES, &rng->dma, GFP_KERNEL);
	if (!rng->data)
		return -ENOMEM;
	err = vireo_queue_alloc(&rng->q, &rng->vd, 0, ENTRIES);
	if (err)
		goto err_data;
	err = request_irqs(rng);
	if (err)
		goto err_queue;
	mutex_lock(&rng->mutex);
	err = rng_up(rng);
	mutex_unlock(&rng->mutex);
	if (!err)
		err = hwrng_register(&rng->hw);
	if (!err)
		return 0;

	vireo_dev_reset(&rng->vd);
	free_irqs(rng);
	cancel_work_sync(&rng->config_work);
	cancel_work_sync(&rng->reset_work);
err_queue:
	vireo_queue_free(&rng->q);
err_data:
	dma_free_coherent(&rng->vd.pci->dev, BYTES, rng->data, rng->dma);
	return err;
}

static int rng_probe(struct pci_dev *pci, const struct pci_device_id *id)
{
	struct rng_dev *rng = kzalloc(sizeof(*rng), GFP_KERNEL);
	int err;

	if (!rng)
		return -ENOMEM;
	mutex_init(&rng->mutex);
	spin_lock_init(&rng->lock);
	init_completion(&rng->done);
	INIT_WORK(&rng->config_work, config_work);
	INIT_WORK(&rng->reset_work, reset_work);
	rng->hw.name = "vireo_rng";
	rng->hw.read = rng_read;
	rng->hw.quality = 1000;	/* of 1024: the host's are as good as any */
	err = vireo_dev_open(&rng->vd, pci);
	if (err)
		goto err_free;
	pci_set_drvdata(pci, rng);
	err = rng_start(rng);
	if (!err)
		return 0;

	vireo_dev_close(&rng->vd);
err_free:
	kfree(rng);
	return err;
}

static void rng_remove(struct pci_dev *pci)
{
	struct rng_dev *rng = pci_get_drvdata(pci);

	complete(&rng->done);	/* who waits for a device that is gone need not */
	hwrng_unregister(&rng->hw);
	mutex_lock(&rng->mutex);
	rng->dead = true;
	rng_down(rng);
	mutex_unlock(&rng->mutex);
	free_irqs(rng);
	cancel_work_sync(&rng->config_work);
	cancel_work_sync(&rng->reset_work);
	vireo_queue_free(&rng->q);
	dma_free_coherent(&pci->dev, BYTES, rng->data, rng->dma);
	vireo_dev_close(&rng->vd);
	kfree(rng);
}

/* The machine ends, or another kernel takes over: no more access to memory. */
static void rng_shutdown(struct pci_dev *pci)
{
	struct rng_dev *rng = pci_get_drvdata(pci);

	mutex_lock(&rng->mutex);
	rng_down(rng);
	rng->dead = true;
	mutex_unlock(&rng->mutex);
}

static int rng_suspend(struct device *dev)
{
	struct rng_dev *rng = dev_get_drvdata(dev);

	mutex_lock(&rng->mutex);
	rng_down(rng);
	mutex_unlock(&rng->mutex);
	return 0;
}

static int rng_resume(struct device *dev)
{
	struct rng_dev *rng = dev_get_drvdata(dev);
	int err;

	mutex_lock(&rng->mutex);
	vireo_dev_reset(&rng->vd);
	err = rng_up(rng);
	mutex_unlock(&rng->mutex);
	schedule_work(&rng->config_work);
	return err;
}

static DEFINE_SIMPLE_DEV_PM_OPS(pm_ops, rng_suspend, rng_resume);

/* Somebody resets the function by PCI's means (sysfs). */
static void reset_prepare(struct pci_dev *pci)
{
	struct rng_dev *rng = pci_get_drvdata(pci);

	mutex_lock(&rng->mutex);
	rng_down(rng);
}

static void reset_done(struct pci_dev *pci)
{
	struct rng_dev *rng = pci_get_drvdata(pci);

	rng_up(rng);
	mutex_unlock(&rng->mutex);
}

static const struct pci_error_handlers error_handlers = {
	.reset_prepare = reset_prepare,
	.reset_done = reset_done,
};

static const struct pci_device_id ids[] = {
	{ PCI_DEVICE(VIREO_PCI_VENDOR, VIREO_PCI_RNG) },
	{}
};
MODULE_DEVICE_TABLE(pci, ids);

static struct pci_driver rng_driver = {
	.name = "vireo_rng",
	.id_table = ids,
	.probe = rng_probe,
	.remove = rng_remove,
	.shutdown = rng_shutdown,
	.driver.pm = pm_sleep_ptr(&pm_ops),
	.err_handler = &error_handlers,
};
module_pci_driver(rng_driver);

MODULE_DESCRIPTION("Vireo guest drivers: random numbers");
MODULE_LICENSE("GPL");
