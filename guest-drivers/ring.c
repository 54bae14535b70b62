// SPDX-License-Identifier: GPL-2.0
/*
 * Queues: a ring's memory, and the device told of it.  The rules of the ring
 * are in core.h.
 */
#include <linux/dma-mapping.h>
#include <linux/log2.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "ring.h"

static void __iomem *queue_reg(struct vireo_queue *q, unsigned int reg)
{
	return q->vd->regs + VIREO_REG_QUEUE(q->index) + reg;
}

/**
 * vireo_queue_alloc() - give a queue its memory
 * @q: filled in
 * @vd: the device
 * @index: number of the queue
 * @entries: how many it shall have; less if the device says so
 * Context: May sleep.
 * Return: 0 or a negative errno.
 */
int vireo_queue_alloc(struct vireo_queue *q, struct vireo_dev *vd, unsigned int index,
		      u32 entries)
{
	u32 max;

	q->vd = vd;
	q->index = index;
	max = readl(queue_reg(q, VIREO_QUEUE_MAX));
	if (max < VIREO_RING_MIN || max > VIREO_RING_MAX || !is_power_of_2(max)) {
		dev_err(&vd->pci->dev, "queue %u has %u entries\n", index, max);
		return -EINVAL;
	}
	q->entries = clamp_t(u32, roundup_pow_of_two(max_t(u32, entries, 1)), VIREO_RING_MIN, max);
	q->flight = kvcalloc(q->entries, sizeof(*q->flight), GFP_KERNEL);
	if (!q->flight)
		return -ENOMEM;
	q->shared = dma_alloc_coherent(&vd->pci->dev, VIREO_RING_BYTES(q->entries), &q->dma,
				       GFP_KERNEL);
	if (!q->shared) {
		kvfree(q->flight);
		q->flight = NULL;
		return -ENOMEM;
	}
	vireo_ring_init(&q->ring, q->shared, q->flight, q->entries);
	vireo_ring_break(&q->ring, "not enabled");
	return 0;
}
EXPORT_SYMBOL_GPL(vireo_queue_alloc);

/**
 * vireo_queue_free() - take it back
 * @q: a queue whose device was reset, or one never allocated (zeros)
 * Context: May sleep.
 */
void vireo_queue_free(struct vireo_queue *q)
{
	if (q->shared)
		dma_free_coherent(&q->vd->pci->dev, VIREO_RING_BYTES(q->entries), q->shared,
				  q->dma);
	kvfree(q->flight);
	q->shared = NULL;
	q->flight = NULL;
}
EXPORT_SYMBOL_GPL(vireo_queue_free);

/**
 * vireo_queue_enable() - begin with an empty ring
 * @q: a queue that is not enabled, and that nobody else uses now
 * @vector: of its interrupts, or VIREO_PCI_NO_VECTOR
 * Context: Any.
 * Return: 0, or -EIO if the device does not take it.
 */
int vireo_queue_enable(struct vireo_queue *q, unsigned int vector)
{
	vireo_ring_init(&q->ring, q->shared, q->flight, q->entries);
	writel(q->entries, queue_reg(q, VIREO_QUEUE_ENTRIES));
	writel(lower_32_bits(q->dma), queue_reg(q, VIREO_QUEUE_RING));
	writel(upper_32_bits(q->dma), queue_reg(q, VIREO_QUEUE_RING + 4));
	writel(vector, queue_reg(q, VIREO_QUEUE_VECTOR));
	writel(1, queue_reg(q, VIREO_QUEUE_ENABLE));
	if (readl(queue_reg(q, VIREO_QUEUE_ENABLE)) != 1 ||
	    readl(queue_reg(q, VIREO_QUEUE_VECTOR)) != vector) {
		vireo_ring_break(&q->ring, "not enabled");
		dev_err(&q->vd->pci->dev, "queue %u cannot be enabled\n", q->index);
		return -EIO;
	}
	q->doorbell = readl(queue_reg(q, VIREO_QUEUE_DOORBELL));
	return 0;
}
EXPORT_SYMBOL_GPL(vireo_queue_enable);

/**
 * vireo_queue_report() - say what is wrong with a broken ring
 * @q: the queue
 * Context: Any.
 */
void vireo_queue_report(struct vireo_queue *q)
{
	dev_err_ratelimited(&q->vd->pci->dev, "queue %u is broken: %s\n", q->index,
			    q->ring.broken);
}
EXPORT_SYMBOL_GPL(vireo_queue_report);

MODULE_DESCRIPTION("Vireo guest drivers: rings");
MODULE_LICENSE("GPL");
