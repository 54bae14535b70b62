// SPDX-License-Identifier: GPL-2.0
/*
 * A PCI host bridge with one bus, in user space, and functions with MSI-X.
 *
 * Configuration mechanism #1 alone (PCI Local Bus 3.0, 3.2.2.3.2).  A function
 * has a type 0 header, the MSI-X capability (6.8.2) and two 32-bit BARs: its
 * registers, and the MSI-X table with the pending bits.  No interrupt pins, no
 * I/O ports, no ROMs.  A guest may move the BARs within the window; what it
 * puts elsewhere is not decoded.  Pure: what happens behind a register is its
 * owner's.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "libvireo.h"
#include "util.h"

#define CONFIG_ENABLE		0x80000000U
#define CONFIG_BUS(a)		((a) >> 16 & 0xff)
#define CONFIG_SLOT(a)		((a) >> 11 & 0x1f)
#define CONFIG_FUNCTION(a)	((a) >> 8 & 7)
#define CONFIG_REG(a)		((a) & 0xfc)
#define CONFIG_EXTENDED(a)	((a) >> 24 & 0x7f)	/* AMD's: registers from 0x100 on */
#define CONFIG_DATA		4		/* offset of the data port */

#define BARS			2
#define BAR_REGS		0
#define BAR_MSIX		1
#define SLOT_STRIDE		0x4000		/* of the BARs' first addresses */
#define MSIX_CAP		0x40		/* where the capability is */
#define MSIX_CTRL		(MSIX_CAP + PCI_MSIX_FLAGS)

static const __u32 bar_size[BARS] = { VIREO_PCI_BAR_SIZE, VIREO_PCI_MSIX_SIZE };

static __u64 ones(unsigned int width)
{
	return width >= 8 ? ~0ULL : (1ULL << (8 * width)) - 1;
}

static __u16 get16(const __u8 *p)
{
	return (__u16)(p[0] | p[1] << 8);
}

static __u32 get32(const __u8 *p)
{
	return get16(p) | (__u32)get16(p + 2) << 16;
}

static void put16(__u8 *p, __u16 value)
{
	p[0] = (__u8)value;
	p[1] = (__u8)(value >> 8);
}

static void put32(__u8 *p, __u32 value)
{
	put16(p, (__u16)value);
	put16(p + 2, (__u16)(value >> 16));
}

/* ---- MSI-X ---- */

static bool msix_on(const struct vireo_pci_function *f)
{
	return (get16(f->config + MSIX_CTRL) & (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL)) ==
	       PCI_MSIX_FLAGS_ENABLE;
}

static bool open_vector(const struct vireo_pci_function *f, unsigned int vector)
{
	return msix_on(f) && !(f->entry[vector].control & PCI_MSIX_ENTRY_CTRL_MASKBIT);
}

/**
 * vireo_pci_route - where a vector's interrupts go
 * @f: a function
 * @vector: any number
 * @msi: filled in if the vector is not masked
 *
 * Called with the bridge's lock held.
 *
 * Return: false: nowhere, for it is masked or does not exist.
 */
bool vireo_pci_route(const struct vireo_pci_function *f, unsigned int vector,
		     struct vireo_msi *msi)
{
	if (vector >= f->vectors || !open_vector(f, vector))
		return false;
	*msi = (struct vireo_msi){
		.size = sizeof(*msi),
		.address = f->entry[vector].address[0] | (__u64)f->entry[vector].address[1] << 32,
		.data = f->entry[vector].data,
	};
	return true;
}

static __u32 *entry_field(struct vireo_pci_function *f, __u32 offset)
{
	unsigned int vector = offset / PCI_MSIX_ENTRY_SIZE;

	switch (offset % PCI_MSIX_ENTRY_SIZE) {
	case PCI_MSIX_ENTRY_LOWER_ADDR:
		return &f->entry[vector].address[0];
	case PCI_MSIX_ENTRY_UPPER_ADDR:
		return &f->entry[vector].address[1];
	case PCI_MSIX_ENTRY_DATA:
		return &f->entry[vector].data;
	default:
		return &f->entry[vector].control;
	}
}

static __u32 pending_bits(struct vireo_pci_function *f, unsigned int first)
{
	unsigned int vector;
	__u32 bits = 0;

	for (vector = first; vector < f->vectors && vector < first + 32; vector++) {
		if (!open_vector(f, vector) && f->ops->pending(f->ctx, vector))
			bits |= 1U << (vector - first);
	}
	return bits;
}

static __u32 msix_read(struct vireo_pci_function *f, __u32 offset)
{
	if (offset < f->vectors * PCI_MSIX_ENTRY_SIZE)
		return *entry_field(f, offset);
	if (offset == VIREO_PCI_PBA || offset == VIREO_PCI_PBA + 4)
		return pending_bits(f, 8 * (offset - VIREO_PCI_PBA));
	return 0;
}

static void msix_write(struct vireo_pci_function *f, __u32 offset, __u32 value)
{
	unsigned int vector = offset / PCI_MSIX_ENTRY_SIZE;
	bool was_open;
	__u32 *field;

	if (vector >= f->vectors)
		return;
	was_open = open_vector(f, vector);
	field = entry_field(f, offset);
	if (field == &f->entry[vector].control)
		value &= PCI_MSIX_ENTRY_CTRL_MASKBIT;
	if (field == &f->entry[vector].address[0])
		value &= ~3U;
	if (*field == value)
		return;
	*field = value;
	if (was_open || open_vector(f, vector))
		f->ops->route(f->ctx, vector);
}

/* ---- memory ---- */

/* The function that decodes @gpa, and which of its BARs */
static struct vireo_pci_function *decode(struct vireo_pci *pci, __u64 gpa, unsigned int *bar,
					 __u32 *offset)
{
	struct vireo_pci_function *f;
	unsigned int slot, i;
	__u64 base;

	for (slot = 1; slot < VIREO_PCI_SLOTS; slot++) {
		f = pci->function[slot];
		if (!f || !f->vectors || !(get16(f->config + PCI_COMMAND) & PCI_COMMAND_MEMORY))
			continue;
		for (i = 0; i < BARS; i++) {
			base = get32(f->config + PCI_BASE_ADDRESS_0 + 4 * i);
			if (gpa - base < bar_size[i]) {
				*bar = i;
				*offset = (__u32)(gpa - base);
				return f;
			}
		}
	}
	return NULL;
}

/* Whether a BAR may be accessed so: 32 bits; tables also by 64 (6.8.2) */
static bool may_access(unsigned int bar, __u32 offset, unsigned int width)
{
	return (width == 4 || (width == 8 && bar == BAR_MSIX)) && !(offset % width);
}

static __u32 bar_read(struct vireo_pci_function *f, unsigned int bar, __u32 offset)
{
	return bar == BAR_MSIX ? msix_read(f, offset) : f->ops->read(f->ctx, offset);
}

static void bar_write(struct vireo_pci_function *f, unsigned int bar, __u32 offset, __u32 value)
{
	if (bar == BAR_MSIX)
		msix_write(f, offset, value);
	else
		f->ops->write(f->ctx, offset, value);
}

static __u64 window_read(void *ctx, struct vireo_vcpu *vcpu, __u64 offset, unsigned int width)
{
	struct vireo_pci *pci = ctx;
	struct vireo_pci_function *f;
	__u64 value = ones(width);
	unsigned int bar;
	__u32 reg;

	(void)vcpu;
	pthread_mutex_lock(&pci->lock);
	f = decode(pci, VIREO_PCI_WINDOW + offset, &bar, &reg);
	if (f && may_access(bar, reg, width)) {
		value = bar_read(f, bar, reg);
		if (width == 8)
			value |= (__u64)bar_read(f, bar, reg + 4) << 32;
	}
	pthread_mutex_unlock(&pci->lock);
	return value;
}

static void window_write(void *ctx, struct vireo_vcpu *vcpu, __u64 offset, unsigned int width,
			 __u64 value)
{
	struct vireo_pci *pci = ctx;
	struct vireo_pci_function *f;
	unsigned int bar;
	__u32 reg;

	(void)vcpu;
	pthread_mutex_lock(&pci->lock);
	f = decode(pci, VIREO_PCI_WINDOW + offset, &bar, &reg);
	if (f && may_access(bar, reg, width)) {
		bar_write(f, bar, reg, (__u32)value);
		if (width == 8)
			bar_write(f, bar, reg + 4, (__u32)(value >> 32));
	}
	pthread_mutex_unlock(&pci->lock);
}

/* ---- configuration space ---- */

static void config_write(struct vireo_pci_function *f, unsigned int reg, unsigned int width,
			 __u32 value)
{
	bool was_on = f->vectors && msix_on(f);
	unsigned int i;

	for (i = 0; i < width; i++, value >>= 8)
		f->config[reg + i] = (__u8)((f->config[reg + i] & ~f->writable[reg + i]) |
					    (value & f->writable[reg + i]));
	if (!f->vectors || was_on == msix_on(f))
		return;
	for (i = 0; i < f->vectors; i++) {
		if (!(f->entry[i].control & PCI_MSIX_ENTRY_CTRL_MASKBIT))
			f->ops->route(f->ctx, i);
	}
}

/* The function that the address register means, and which of its bytes */
static struct vireo_pci_function *config_find(struct vireo_pci *pci, __u64 offset,
					      unsigned int width, unsigned int *reg)
{
	__u32 a = pci->address;

	if (!(a & CONFIG_ENABLE) || CONFIG_BUS(a) || CONFIG_FUNCTION(a) || CONFIG_EXTENDED(a) ||
	    offset < CONFIG_DATA || offset + width > CONFIG_DATA + 4)
		return NULL;
	*reg = (unsigned int)(CONFIG_REG(a) + offset - CONFIG_DATA);
	return pci->function[CONFIG_SLOT(a)];
}

static __u64 port_read(void *ctx, struct vireo_vcpu *vcpu, __u64 offset, unsigned int width)
{
	struct vireo_pci *pci = ctx;
	struct vireo_pci_function *f;
	__u64 value = ones(width);
	unsigned int reg;
	__u8 word[4];

	(void)vcpu;
	pthread_mutex_lock(&pci->lock);
	f = config_find(pci, offset, width, &reg);
	if (!offset && width == 4) {
		value = pci->address;
	} else if (f) {
		memset(word, 0, sizeof(word));
		memcpy(word, f->config + reg, width);
		value = get32(word);
	}
	pthread_mutex_unlock(&pci->lock);
	return value;
}

static void port_write(void *ctx, struct vireo_vcpu *vcpu, __u64 offset, unsigned int width,
		       __u64 value)
{
	struct vireo_pci *pci = ctx;
	struct vireo_pci_function *f;
	unsigned int reg;

	(void)vcpu;
	pthread_mutex_lock(&pci->lock);
	f = config_find(pci, offset, width, &reg);
	if (!offset && width == 4)
		pci->address = (__u32)value & ~3U;
	else if (f)
		config_write(f, reg, width, (__u32)value);
	pthread_mutex_unlock(&pci->lock);
}

static void config_init(struct vireo_pci_function *f)
{
	__u8 *c = f->config, *w = f->writable;
	unsigned int i;

	memset(c, 0, sizeof(f->config));
	memset(w, 0, sizeof(f->writable));
	put16(c + PCI_VENDOR_ID, VIREO_PCI_VENDOR);
	put16(c + PCI_DEVICE_ID, f->device);
	put32(c + PCI_CLASS_REVISION, f->class << 8 | VIREO_PCI_VERSION);
	put16(c + PCI_SUBSYSTEM_VENDOR_ID, VIREO_PCI_VENDOR);
	put16(c + PCI_SUBSYSTEM_ID, f->device);
	if (!f->vectors)
		return;
	put16(w + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
	put16(c + PCI_STATUS, PCI_STATUS_CAP_LIST);
	w[PCI_CACHE_LINE_SIZE] = 0xff;
	w[PCI_INTERRUPT_LINE] = 0xff;
	for (i = 0; i < BARS; i++)
		put32(w + PCI_BASE_ADDRESS_0 + 4 * i, ~(bar_size[i] - 1));
	c[PCI_CAPABILITY_LIST] = MSIX_CAP;
	c[MSIX_CAP] = PCI_CAP_ID_MSIX;
	put16(c + MSIX_CTRL, (__u16)(f->vectors - 1));
	put16(w + MSIX_CTRL, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	put32(c + MSIX_CAP + PCI_MSIX_TABLE, BAR_MSIX);
	put32(c + MSIX_CAP + PCI_MSIX_PBA, VIREO_PCI_PBA | BAR_MSIX);
}

/* ---- life ---- */

/**
 * vireo_pci_init - make the host bridge and put it on the buses
 * @pci: filled in
 * @ports: gets the configuration ports
 * @mmio: gets the window
 */
int vireo_pci_init(struct vireo_pci *pci, struct vireo_bus *ports, struct vireo_bus *mmio)
{
	struct vireo_device config = {
		.name = "pci", .base = VIREO_PORT_PCI, .len = 8,
		.read = port_read, .write = port_write, .ctx = pci,
	};
	struct vireo_device window = {
		.name = "pci", .base = VIREO_PCI_WINDOW, .len = VIREO_PCI_WINDOW_SIZE,
		.read = window_read, .write = window_write, .ctx = pci,
	};
	int ret;

	memset(pci, 0, sizeof(*pci));
	pthread_mutex_init(&pci->lock, NULL);
	/* Linux believes in mechanism #1 only if it finds one of these. */
	pci->host.device = VIREO_PCI_HOST;
	pci->host.class = VIREO_PCI_CLASS_HOST;
	config_init(&pci->host);
	pci->function[0] = &pci->host;
	ret = vireo_bus_add(ports, &config);
	return ret ? ret : vireo_bus_add(mmio, &window);
}

/** vireo_pci_destroy - when no vCPU runs any more */
void vireo_pci_destroy(struct vireo_pci *pci)
{
	pthread_mutex_destroy(&pci->lock);
}

/**
 * vireo_pci_attach - put a function into the first empty slot
 * @pci: the bridge
 * @f: with its public part set
 * @err: why not; ENOSPC: all slots are taken
 */
int vireo_pci_attach(struct vireo_pci *pci, struct vireo_pci_function *f,
		     struct vireo_error *err)
{
	unsigned int slot, i;
	__u32 base;

	pthread_mutex_lock(&pci->lock);
	for (slot = 1; slot < VIREO_PCI_SLOTS && pci->function[slot]; slot++)
		continue;
	if (slot < VIREO_PCI_SLOTS) {
		config_init(f);
		base = (__u32)(VIREO_PCI_WINDOW + slot * SLOT_STRIDE);
		for (i = 0; i < BARS; base += bar_size[i++])
			put32(f->config + PCI_BASE_ADDRESS_0 + 4 * i, base);
		memset(f->entry, 0, sizeof(f->entry));
		for (i = 0; i < f->vectors; i++)
			f->entry[i].control = PCI_MSIX_ENTRY_CTRL_MASKBIT;
		f->slot = slot;
		pci->function[slot] = f;
	}
	pthread_mutex_unlock(&pci->lock);
	if (slot < VIREO_PCI_SLOTS)
		return 0;
	return vireo_fail(err, ENOSPC, "too many devices: at most %u are possible",
			  VIREO_PCI_SLOTS - 1);
}

/** vireo_pci_detach - take a function away; nothing of it is called after that */
void vireo_pci_detach(struct vireo_pci *pci, struct vireo_pci_function *f)
{
	pthread_mutex_lock(&pci->lock);
	if (f->slot)
		pci->function[f->slot] = NULL;
	f->slot = 0;
	pthread_mutex_unlock(&pci->lock);
}
