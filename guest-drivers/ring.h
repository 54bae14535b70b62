/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What vireo_ring.ko gives to the drivers: a device found and brought up
 * (pci.c), and its queues (ring.c).
 */
#ifndef VIREO_GUEST_RING_H
#define VIREO_GUEST_RING_H

#include <linux/io.h>
#include <linux/kvm_para.h>
#include <linux/pci.h>

#include "../uapi/vireo_hypercall.h"
#include "../uapi/vireo_pci.h"
#include "core.h"

/**
 * struct vireo_dev - a PCI function of Vireo's
 * @pci: the function
 * @regs: BAR 0
 * @offered: features of the device
 * @nqueues: how many queues it has
 */
struct vireo_dev {
	struct pci_dev *pci;
	void __iomem *regs;
	u64 offered;
	unsigned int nqueues;
};

/**
 * struct vireo_queue - one of its queues
 * @ring: the ring; the driver's lock protects it
 * @vd: the device
 * @shared: the ring's memory
 * @dma: its address for the device
 * @flight: the ring's
 * @entries: how many it has
 * @index: number of the queue
 * @doorbell: for VIREO_HC_DOORBELL, or VIREO_DOORBELL_HERE
 */
struct vireo_queue {
	struct vireo_ring ring;
	struct vireo_dev *vd;
	void *shared;
	dma_addr_t dma;
	void **flight;
	u32 entries;
	unsigned int index;
	u32 doorbell;
};

/* pci.c */
int vireo_dev_open(struct vireo_dev *vd, struct pci_dev *pci);
void vireo_dev_close(struct vireo_dev *vd);
int vireo_dev_accept(struct vireo_dev *vd, u64 features, unsigned int vector);
void vireo_dev_reset(struct vireo_dev *vd);
bool vireo_dev_gone(struct vireo_dev *vd);
bool vireo_dev_failed(struct vireo_dev *vd);
int vireo_dev_config(struct vireo_dev *vd, void *config, size_t len);
int vireo_dev_vectors(struct vireo_dev *vd, unsigned int want, bool managed);

/* ring.c */
int vireo_queue_alloc(struct vireo_queue *q, struct vireo_dev *vd, unsigned int index,
		      u32 entries);
void vireo_queue_free(struct vireo_queue *q);
int vireo_queue_enable(struct vireo_queue *q, unsigned int vector);
void vireo_queue_report(struct vireo_queue *q);

/**
 * vireo_queue_kick() - ring the doorbell
 * @q: a queue
 *
 * The device may carry out entries before this returns, so no lock that it
 * would not be good to hold for that long is held.  A device that does not serve the
 * queue just now, because the machine is being forked, finds the entries when it does again.
 *
 * Context: Any.
 */
static inline void vireo_queue_kick(const struct vireo_queue *q)
{
	if (q->doorbell == VIREO_DOORBELL_HERE)
		writel(0, q->vd->regs + VIREO_REG_QUEUE(q->index) + VIREO_QUEUE_DOORBELL);
	else
		kvm_hypercall1(VIREO_HC_DOORBELL, q->doorbell);
}

#endif /* VIREO_GUEST_RING_H */
