// SPDX-License-Identifier: GPL-2.0
/*
 * The PCI function of a device: found, checked, brought up and reset.
 */
#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/module.h>
#include <linux/processor.h>

#include "ring.h"

#define CONFIG_TRIES	16

static u64 read64(struct vireo_dev *vd, unsigned int reg)
{
	return readl(vd->regs + reg) | (u64)readl(vd->regs + reg + 4) << 32;
}

static void write64(struct vireo_dev *vd, unsigned int reg, u64 value)
{
	writel(lower_32_bits(value), vd->regs + reg);
	writel(upper_32_bits(value), vd->regs + reg + 4);
}

/*
 * Whether the hypercall for doorbells is there: anywhere else the instruction
 * does something different, or is undefined.
 */
static bool doorbell_exists(void)
{
	u32 eax, ebx, ecx, edx;

	if (!boot_cpu_has(X86_FEATURE_HYPERVISOR))
		return false;
	cpuid(VIREO_CPUID_BASE, &eax, &ebx, &ecx, &edx);
	if (eax < VIREO_CPUID_FEATURES || ebx != VIREO_SIGNATURE_EBX ||
	    ecx != VIREO_SIGNATURE_ECX || edx != VIREO_SIGNATURE_EDX)
		return false;
	cpuid(VIREO_CPUID_FEATURES, &eax, &ebx, &ecx, &edx);
	return ebx & VIREO_GUEST_DOORBELL;
}

/* Looks at the device for the first time. */
static int dev_check(struct vireo_dev *vd)
{
	struct device *dev = &vd->pci->dev;
	u32 magic = readl(vd->regs + VIREO_REG_MAGIC);
	u32 version = readl(vd->regs + VIREO_REG_VERSION);

	if (magic != VIREO_PCI_MAGIC || version != VIREO_PCI_VERSION) {
		dev_err(dev, "magic 0x%x, version %u: not known here\n", magic, version);
		return -ENODEV;
	}
	vireo_dev_reset(vd);
	vd->offered = read64(vd, VIREO_REG_OFFERED);
	vd->nqueues = readl(vd->regs + VIREO_REG_QUEUES);
	if (!vd->nqueues || vd->nqueues > VIREO_PCI_QUEUES) {
		dev_err(dev, "%u queues\n", vd->nqueues);
		return -EINVAL;
	}
	return 0;
}

/**
 * vireo_dev_open() - take a PCI function into use
 * @vd: filled in
 * @pci: the function
 *
 * The device is reset, and what it offers is known.
 *
 * Context: May sleep.
 * Return: 0 or a negative errno; -ENODEV if this is not Vireo.
 */
int vireo_dev_open(struct vireo_dev *vd, struct pci_dev *pci)
{
	int err;

	if (!doorbell_exists()) {
		dev_info(&pci->dev, "no doorbell: this is not Vireo\n");
		return -ENODEV;
	}
	vd->pci = pci;
	err = pci_enable_device_mem(pci);
	if (err)
		return err;
	err = pci_request_regions(pci, "vireo");
	if (err)
		goto err_disable;
	err = -ENODEV;
	if (pci_resource_len(pci, 0) < VIREO_PCI_BAR_SIZE)
		goto err_regions;
	vd->regs = pci_iomap(pci, 0, VIREO_PCI_BAR_SIZE);
	if (!vd->regs)
		goto err_regions;
	err = dma_set_mask_and_coherent(&pci->dev, DMA_BIT_MASK(64));
	if (err)
		goto err_unmap;
	err = dev_check(vd);
	if (err)
		goto err_unmap;
	pci_set_master(pci);
	return 0;

err_unmap:
	pci_iounmap(pci, vd->regs);
err_regions:
	pci_release_regions(pci);
err_disable:
	pci_disable_device(pci);
	return err;
}
EXPORT_SYMBOL_GPL(vireo_dev_open);

/**
 * vireo_dev_close() - reset the device and leave it
 * @vd: the device; its interrupts are free and its vectors not yet
 * Context: May sleep.
 */
void vireo_dev_close(struct vireo_dev *vd)
{
	vireo_dev_reset(vd);
	pci_clear_master(vd->pci);
	pci_free_irq_vectors(vd->pci);
	pci_iounmap(vd->pci, vd->regs);
	pci_release_regions(vd->pci);
	pci_disable_device(vd->pci);
}
EXPORT_SYMBOL_GPL(vireo_dev_close);

/**
 * vireo_dev_accept() - agree on features; queues may be enabled then
 * @vd: the device, reset
 * @features: which of those offered are used
 * @vector: of config changes
 * Context: May sleep.
 * Return: 0, or -EIO if the device does not agree.
 */
int vireo_dev_accept(struct vireo_dev *vd, u64 features, unsigned int vector)
{
	write64(vd, VIREO_REG_ACCEPTED, features);
	writel(vector, vd->regs + VIREO_REG_VECTOR);
	writel(VIREO_STATUS_OK, vd->regs + VIREO_REG_STATUS);
	if (readl(vd->regs + VIREO_REG_STATUS) == VIREO_STATUS_OK &&
	    readl(vd->regs + VIREO_REG_VECTOR) == vector)
		return 0;
	dev_err(&vd->pci->dev, "features 0x%llx of 0x%llx are not agreed to\n", features,
		vd->offered);
	return -EIO;
}
EXPORT_SYMBOL_GPL(vireo_dev_accept);

/**
 * vireo_dev_reset() - make the device forget everything
 * @vd: the device
 *
 * All memory that its queues had is the guest's again.
 *
 * Context: Any; an exit to user space of the host.
 */
void vireo_dev_reset(struct vireo_dev *vd)
{
	writel(VIREO_STATUS_RESET, vd->regs + VIREO_REG_STATUS);
	readl(vd->regs + VIREO_REG_STATUS);
}
EXPORT_SYMBOL_GPL(vireo_dev_reset);

/**
 * vireo_dev_gone() - whether the function was taken away
 * @vd: the device
 * Context: Any.
 * Return: whether nobody answers.
 */
bool vireo_dev_gone(struct vireo_dev *vd)
{
	return readl(vd->regs + VIREO_REG_MAGIC) != VIREO_PCI_MAGIC;
}
EXPORT_SYMBOL_GPL(vireo_dev_gone);

/**
 * vireo_dev_failed() - whether only a reset helps
 * @vd: the device
 * Context: Any.
 * Return: that.
 */
bool vireo_dev_failed(struct vireo_dev *vd)
{
	return readl(vd->regs + VIREO_REG_STATUS) != VIREO_STATUS_OK;
}
EXPORT_SYMBOL_GPL(vireo_dev_failed);

/**
 * vireo_dev_config() - copy the device's part of the registers, all of one time
 * @vd: the device
 * @config: where to
 * @len: bytes, a multiple of 4
 * Context: Any.
 * Return: 0, or -EIO if it does not come to rest.
 */
int vireo_dev_config(struct vireo_dev *vd, void *config, size_t len)
{
	unsigned int try, i;
	u32 generation;

	for (try = 0; try < CONFIG_TRIES; try++) {
		generation = readl(vd->regs + VIREO_REG_GENERATION);
		for (i = 0; i < len; i += 4)
			*(__le32 *)(config + i) =
				cpu_to_le32(readl(vd->regs + VIREO_REG_CONFIG + i));
		if (readl(vd->regs + VIREO_REG_GENERATION) == generation)
			return 0;
	}
	return -EIO;
}
EXPORT_SYMBOL_GPL(vireo_dev_config);

/**
 * vireo_dev_vectors() - get interrupts: vector 0 for the config part, others for queues
 * @vd: the device
 * @want: how many for queues
 * @managed: spread them over the processors once and for all
 * Context: May sleep.
 * Return: how many there are for queues, vectors 1 to that; 0: queues share
 * vector 0; or a negative errno.
 */
int vireo_dev_vectors(struct vireo_dev *vd, unsigned int want, bool managed)
{
	struct irq_affinity affinity = { .pre_vectors = 1 };
	unsigned int flags = PCI_IRQ_MSIX | (managed ? PCI_IRQ_AFFINITY : 0);
	int n;

	n = pci_alloc_irq_vectors_affinity(vd->pci, 1, want + 1, flags,
					   managed ? &affinity : NULL);
	return n < 0 ? n : n - 1;
}
EXPORT_SYMBOL_GPL(vireo_dev_vectors);
