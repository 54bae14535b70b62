// SPDX-License-Identifier: GPL-2.0
/*
 * A PCI host bridge in user space, and functions with MSI-X.
 *
 * Configuration space is reached by mechanism #1 (PCI Local Bus 3.0, 3.2.2.3.2)
 * and in memory (PCI Express Base 3.0, 7.2.2).  Functions are on bus 0, or behind
 * a root port that is there (port.c).  A function has a type 0 header, the MSI-X
 * capability (PCI Local Bus 3.0, 6.8.2) and two 32-bit BARs: its registers, and
 * the MSI-X table with the pending bits.  No interrupt pins, no I/O ports, no
 * ROMs.  A guest may move the BARs within the window; what it puts elsewhere is
 * not decoded.  A function can be reset by itself (PCI Express Base 3.0, 6.6.2; on
 * bus 0 by Advanced Capabilities for Conventional PCI).  Pure: what happens behind
 * a register is its owner's.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "libvireo.h"
#include "util.h"

#define CONFIG_ENABLE		0x80000000U
#define CONFIG_BUS(a)		((a) >> 16 & 0xff)
#define CONFIG_DEVFN(a)		((a) >> 8 & 0xff)
#define CONFIG_REG(a)		(((a) & 0xfc) | ((a) >> 16 & 0xf00))	/* AMD's has 12 bits */
#define CONFIG_RESERVED		0x70000000U
#define CONFIG_DATA		4		/* offset of the data port */

#define BARS			2
#define BAR_REGS		0
#define BAR_MSIX		1
#define SLOT_STRIDE		0x4000		/* of the BARs' first addresses */
#define MSIX_CAP		0x40		/* where the capability is */
#define EXPRESS_CAP		0x50
#define AF_CAP			0x50		/* of a function that is not of PCI Express */
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

/* Whether a function decodes @gpa, and by which BAR */
static bool claims(const struct vireo_pci_function *f, __u64 gpa, unsigned int *bar,
		   __u32 *offset)
{
	unsigned int i;
	__u64 base;

	if (!f->vectors || !(get16(f->config + PCI_COMMAND) & PCI_COMMAND_MEMORY))
		return false;
	for (i = 0; i < BARS; i++) {
		base = get32(f->config + PCI_BASE_ADDRESS_0 + 4 * i);
		if (gpa - base < bar_size[i]) {
			*bar = i;
			*offset = (__u32)(gpa - base);
			return true;
		}
	}
	return false;
}

static struct vireo_pci_function *decode(struct vireo_pci *pci, __u64 gpa, unsigned int *bar,
					 __u32 *offset)
{
	struct vireo_pci_function *f;
	unsigned int slot;

	for (slot = 1; slot < VIREO_PCI_SLOTS; slot++) {
		f = pci->function[slot];
		if (f && f->port)
			f = vireo_port_forwards(f->port, gpa) ? f->port->child : NULL;
		if (f && claims(f, gpa, bar, offset))
			return f;
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

/* The function of that number, or NULL */
static struct vireo_pci_function *config_find(struct vireo_pci *pci, unsigned int bus,
					      unsigned int devfn)
{
	struct vireo_pci_function *f = NULL;
	unsigned int slot;

	if (!bus)
		return devfn & 7 ? NULL : pci->function[devfn >> 3];
	for (slot = 1; slot < VIREO_PCI_SLOTS && !f; slot++) {
		if (pci->function[slot] && pci->function[slot]->port)
			f = vireo_port_config(pci->function[slot]->port, bus, devfn);
	}
	return f;
}

static void write_bytes(struct vireo_pci_function *f, unsigned int reg, unsigned int width,
			__u32 value)
{
	unsigned int i;
	__u8 byte;

	for (i = reg; i < reg + width; i++, value >>= 8) {
		byte = (__u8)value;
		f->config[i] = (__u8)((f->config[i] & ~f->writable[i]) | (byte & f->writable[i]));
		f->config[i] &= (__u8)~(byte & f->clear[i]);
	}
}

/* Whether a write asks for a function level reset */
static bool is_reset(const struct vireo_pci_function *f, unsigned int reg, unsigned int width,
		     __u32 value)
{
	unsigned int at = AF_CAP + PCI_AF_CTRL, bit = PCI_AF_CTRL_FLR;

	if (f->express) {
		at = EXPRESS_CAP + PCI_EXP_DEVCTL + 1;
		bit = PCI_EXP_DEVCTL_BCR_FLR >> 8;
	}
	return f->vectors && at >= reg && at < reg + width && (value >> 8 * (at - reg) & bit);
}

static void config_write(struct vireo_pci *pci, unsigned int bus, unsigned int devfn,
			 unsigned int reg, unsigned int width, __u32 value)
{
	struct vireo_pci_function *f = config_find(pci, bus, devfn);
	bool was_on;
	unsigned int i;

	if (!f || reg + width > sizeof(f->config))
		return;
	if (is_reset(f, reg, width, value)) {
		f->ops->reset(f->ctx);
		vireo_pci_reset(f);
		return;
	}
	was_on = f->vectors && msix_on(f);
	write_bytes(f, reg, width, value);
	for (i = 0; i < f->vectors && was_on != msix_on(f); i++) {
		if (!(f->entry[i].control & PCI_MSIX_ENTRY_CTRL_MASKBIT))
			f->ops->route(f->ctx, i);
	}
	if (f->ops && f->ops->config)
		f->ops->config(f->ctx, reg);
}

static __u32 config_read(struct vireo_pci *pci, unsigned int bus, unsigned int devfn,
			 unsigned int reg, unsigned int width)
{
	struct vireo_pci_function *f = config_find(pci, bus, devfn);
	__u8 word[4] = { 0 };

	if (!f)
		return (__u32)ones(width);
	if (reg + width > sizeof(f->config))	/* an end of the list of capabilities */
		return f->express ? 0 : (__u32)ones(width);
	memcpy(word, f->config + reg, width);
	return get32(word);
}

/* Whether an access to the ports goes to configuration space */
static bool port_to_config(const struct vireo_pci *pci, __u64 offset, unsigned int width)
{
	return (pci->address & CONFIG_ENABLE) && !(pci->address & CONFIG_RESERVED) &&
	       offset >= CONFIG_DATA && offset + width <= CONFIG_DATA + 4;
}

static __u64 port_read(void *ctx, struct vireo_vcpu *vcpu, __u64 offset, unsigned int width)
{
	struct vireo_pci *pci = ctx;
	__u64 value = ones(width);
	__u32 a;

	(void)vcpu;
	pthread_mutex_lock(&pci->lock);
	a = pci->address;
	if (!offset && width == 4)
		value = a;
	else if (port_to_config(pci, offset, width))
		value = config_read(pci, CONFIG_BUS(a), CONFIG_DEVFN(a),
				    CONFIG_REG(a) + (unsigned int)offset - CONFIG_DATA, width);
	pthread_mutex_unlock(&pci->lock);
	return value;
}

static void port_write(void *ctx, struct vireo_vcpu *vcpu, __u64 offset, unsigned int width,
		       __u64 value)
{
	struct vireo_pci *pci = ctx;
	__u32 a;

	(void)vcpu;
	pthread_mutex_lock(&pci->lock);
	a = pci->address;
	if (!offset && width == 4)
		pci->address = (__u32)value & ~3U;
	else if (port_to_config(pci, offset, width))
		config_write(pci, CONFIG_BUS(a), CONFIG_DEVFN(a),
			     CONFIG_REG(a) + (unsigned int)offset - CONFIG_DATA, width,
			     (__u32)value);
	pthread_mutex_unlock(&pci->lock);
}

static __u64 ecam_read(void *ctx, struct vireo_vcpu *vcpu, __u64 offset, unsigned int width)
{
	struct vireo_pci *pci = ctx;
	__u64 value = ones(width);

	(void)vcpu;
	pthread_mutex_lock(&pci->lock);
	if (width <= 4 && !(offset % width))
		value = config_read(pci, (unsigned int)(offset >> 20), offset >> 12 & 0xff,
				    offset & 0xfff, width);
	pthread_mutex_unlock(&pci->lock);
	return value;
}

static void ecam_write(void *ctx, struct vireo_vcpu *vcpu, __u64 offset, unsigned int width,
		       __u64 value)
{
	struct vireo_pci *pci = ctx;

	(void)vcpu;
	pthread_mutex_lock(&pci->lock);
	if (width <= 4 && !(offset % width))
		config_write(pci, (unsigned int)(offset >> 20), offset >> 12 & 0xff,
			     offset & 0xfff, width, (__u32)value);
	pthread_mutex_unlock(&pci->lock);
}

/**
 * vireo_pci_express - give a function the PCI Express capability
 * @f: a function, @f->config being filled in
 * @cap: where
 * @type: PCI_EXP_TYPE_*
 */
void vireo_pci_express(struct vireo_pci_function *f, unsigned int cap, unsigned int type)
{
	__u8 *c = f->config + cap, *w = f->writable + cap;

	f->express = true;
	c[0] = PCI_CAP_ID_EXP;
	put16(c + PCI_EXP_FLAGS, (__u16)(2 | type << 4));
	put32(c + PCI_EXP_DEVCAP, PCI_EXP_DEVCAP_RBER);
	put16(w + PCI_EXP_DEVCTL, (__u16)~PCI_EXP_DEVCTL_BCR_FLR);
	put32(c + PCI_EXP_LNKCAP, PCI_EXP_LNKCAP_SLS_2_5GB | 1 << 4);
	put16(c + PCI_EXP_LNKSTA, PCI_EXP_LNKSTA_CLS_2_5GB | PCI_EXP_LNKSTA_NLW_X1);
}

/**
 * vireo_pci_reset - a function's configuration space and vectors as they begin
 * @f: with its public part set
 */
void vireo_pci_reset(struct vireo_pci_function *f)
{
	__u8 *c = f->config, *w = f->writable;
	unsigned int i;

	memset(c, 0, sizeof(f->config));
	memset(w, 0, sizeof(f->writable));
	memset(f->clear, 0, sizeof(f->clear));
	memset(f->entry, 0, sizeof(f->entry));
	for (i = 0; i < f->vectors; i++)
		f->entry[i].control = PCI_MSIX_ENTRY_CTRL_MASKBIT;
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
	if (f->express) {
		c[MSIX_CAP + PCI_CAP_LIST_NEXT] = EXPRESS_CAP;
		vireo_pci_express(f, EXPRESS_CAP, PCI_EXP_TYPE_ENDPOINT);
		c[EXPRESS_CAP + PCI_EXP_DEVCAP + 3] |= PCI_EXP_DEVCAP_FLR >> 24;
	} else {
		c[MSIX_CAP + PCI_CAP_LIST_NEXT] = AF_CAP;
		c[AF_CAP] = PCI_CAP_ID_AF;
		c[AF_CAP + PCI_AF_LENGTH] = PCI_CAP_AF_SIZEOF;
		c[AF_CAP + PCI_AF_CAP] = PCI_AF_CAP_TP | PCI_AF_CAP_FLR;
	}
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
	struct vireo_device ecam = {
		.name = "pci", .base = VIREO_PCI_ECAM, .len = VIREO_PCI_ECAM_SIZE,
		.read = ecam_read, .write = ecam_write, .ctx = pci,
	};
	int ret;

	memset(pci, 0, sizeof(*pci));
	pthread_mutex_init(&pci->lock, NULL);
	/* Linux believes in mechanism #1 only if it finds one of these. */
	pci->host.device = VIREO_PCI_HOST;
	pci->host.class = VIREO_PCI_CLASS_HOST;
	vireo_pci_reset(&pci->host);
	pci->function[0] = &pci->host;
	ret = vireo_bus_add(ports, &config);
	if (!ret)
		ret = vireo_bus_add(mmio, &window);
	return ret ? ret : vireo_bus_add(mmio, &ecam);
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
		vireo_pci_reset(f);
		base = (__u32)(VIREO_PCI_WINDOW + slot * SLOT_STRIDE);
		for (i = 0; f->vectors && i < BARS; base += bar_size[i++])
			put32(f->config + PCI_BASE_ADDRESS_0 + 4 * i, base);
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
