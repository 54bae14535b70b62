/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR BSD-2-Clause */
/*
 * Vireo: a device as its guest finds it: a PCI function.
 *
 * The ids are not registered with the PCI-SIG; they are safe to use where only
 * Vireo makes the machine.  BAR 0 holds the registers below, BAR 1 the MSI-X
 * table and, 2 KiB behind it, the pending bits.  Interrupts are MSI-X alone.
 */
#ifndef _UAPI_VIREO_PCI_H
#define _UAPI_VIREO_PCI_H

#include <linux/types.h>

#define VIREO_PCI_VENDOR	0x5652
#define VIREO_PCI_BLK		0x0001
#define VIREO_PCI_NET		0x0002
#define VIREO_PCI_CONSOLE	0x0003
#define VIREO_PCI_RNG		0x0004

#define VIREO_PCI_BAR_SIZE	0x2000		/* bytes of BAR 0 */
#define VIREO_PCI_MSIX_SIZE	0x1000		/* bytes of BAR 1 */
#define VIREO_PCI_PBA		0x800		/* offset of the pending bits in BAR 1 */
#define VIREO_PCI_VECTORS	64		/* MSI-X vectors at the most */
#define VIREO_PCI_QUEUES	63		/* queues at the most */
#define VIREO_PCI_NO_VECTOR	0xffffffffU

/* Registers: 32 bits each, aligned accesses of 32 bits, little-endian. */
#define VIREO_REG_MAGIC		0x00	/* r: VIREO_PCI_MAGIC */
#define VIREO_REG_VERSION	0x04	/* r: VIREO_PCI_VERSION */
#define VIREO_REG_STATUS	0x08	/* rw: VIREO_STATUS_*; see there */
#define VIREO_REG_GENERATION	0x0c	/* r: changes whenever the config part does */
#define VIREO_REG_OFFERED	0x10	/* r: 64 bits of features */
#define VIREO_REG_ACCEPTED	0x18	/* rw: 64 bits, a subset; before VIREO_STATUS_OK */
#define VIREO_REG_QUEUES	0x20	/* r: number of queues */
#define VIREO_REG_VECTOR	0x24	/* rw: MSI-X vector of a config change */
#define VIREO_REG_CONFIG	0x40	/* r: the device's part, to 0xff */
#define VIREO_REG_QUEUE(n)	(0x100 + 0x20 * (n))
#define VIREO_QUEUE_MAX		0x00	/* r: most entries that it may have */
#define VIREO_QUEUE_ENTRIES	0x04	/* rw: how many it has */
#define VIREO_QUEUE_RING	0x08	/* rw: 64 bits: gpa of the ring */
#define VIREO_QUEUE_VECTOR	0x10	/* rw: MSI-X vector of its completions */
#define VIREO_QUEUE_ENABLE	0x14	/* rw: 1: serve it; reads 1 if that worked */
#define VIREO_QUEUE_DOORBELL	0x18	/* r: number for VIREO_HC_DOORBELL, or _HERE */

/* VIREO_QUEUE_DOORBELL: no hypercall; writing anything to this register rings */
#define VIREO_DOORBELL_HERE	0xffffffffU

#define VIREO_PCI_MAGIC		0x6f726956U	/* "Viro" */
#define VIREO_PCI_VERSION	1U

/*
 * Writing 0 resets the device: its queues end, in-flight requests are done or
 * dropped, and when the write returns nothing of the guest's memory is touched
 * any more.  OK: the driver has read the config part and accepted features;
 * reads back as OK if the device agrees.  FAILED is set by the device: only a
 * reset helps.
 */
#define VIREO_STATUS_RESET	0U
#define VIREO_STATUS_OK		1U
#define VIREO_STATUS_FAILED	2U

#endif /* _UAPI_VIREO_PCI_H */
