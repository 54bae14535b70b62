// SPDX-License-Identifier: GPL-2.0
/*
 * An I/O APIC (Intel 82093AA, 3.2), for the interrupts that are neither a device's
 * message nor of the local APIC: those of the serial port and of ACPI events.
 *
 * Edges alone: an interrupt that comes while its pin is masked is lost, and nothing
 * waits for an end of interrupt.  A pin's message goes to the module as an MSI.
 */
#include <string.h>

#include "libvireo.h"
#include "util.h"

#define REG_SELECT	0x00
#define REG_WINDOW	0x10

#define REG_ID		0x00
#define REG_VERSION	0x01
#define REG_ENTRY	0x10	/* two for each pin */

#define VERSION		0x11
#define ID_BITS		0x0f000000U
#define ENTRY_BITS	0xff0000000001afffULL	/* the others are read-only */
#define ENTRY_MASKED	(1ULL << 16)

#define MSI_ADDRESS	0xfee00000ULL

static __u32 reg_read(const struct vireo_ioapic *io)
{
	unsigned int pin = (io->select - REG_ENTRY) / 2;

	switch (io->select) {
	case REG_ID:
		return io->id;
	case REG_VERSION:
		return VERSION | (VIREO_IOAPIC_PINS - 1) << 16;
	default:
		if (io->select < REG_ENTRY || pin >= VIREO_IOAPIC_PINS)
			return 0;
		return (__u32)(io->entry[pin] >> (io->select & 1 ? 32 : 0));
	}
}

static void reg_write(struct vireo_ioapic *io, __u32 value)
{
	unsigned int pin = (io->select - REG_ENTRY) / 2, shift = io->select & 1 ? 32 : 0;
	__u64 *entry;

	if (io->select == REG_ID)
		io->id = value & ID_BITS;
	if (io->select < REG_ENTRY || pin >= VIREO_IOAPIC_PINS)
		return;
	entry = &io->entry[pin];
	*entry = ((*entry & ~(0xffffffffULL << shift)) | (__u64)value << shift) & ENTRY_BITS;
}

static __u64 ioapic_read(void *ctx, struct vireo_vcpu *vcpu, __u64 offset, unsigned int width)
{
	struct vireo_ioapic *io = ctx;
	__u64 value = 0;

	(void)vcpu;
	pthread_mutex_lock(&io->lock);
	if (width == 4 && offset == REG_SELECT)
		value = io->select;
	else if (width == 4 && offset == REG_WINDOW)
		value = reg_read(io);
	pthread_mutex_unlock(&io->lock);
	return value;
}

static void ioapic_write(void *ctx, struct vireo_vcpu *vcpu, __u64 offset, unsigned int width,
			 __u64 value)
{
	struct vireo_ioapic *io = ctx;

	(void)vcpu;
	pthread_mutex_lock(&io->lock);
	if (width == 4 && offset == REG_SELECT)
		io->select = value & 0xff;
	else if (width == 4 && offset == REG_WINDOW)
		reg_write(io, (__u32)value);
	pthread_mutex_unlock(&io->lock);
}

/**
 * vireo_ioapic_raise - an edge on a pin
 * @io: the I/O APIC
 * @pin: below VIREO_IOAPIC_PINS
 * @msi: filled in with what is to be sent
 *
 * Return: whether it is to be sent.
 */
bool vireo_ioapic_raise(struct vireo_ioapic *io, unsigned int pin, struct vireo_msi *msi)
{
	__u64 entry;

	pthread_mutex_lock(&io->lock);
	entry = io->entry[pin];
	pthread_mutex_unlock(&io->lock);
	*msi = (struct vireo_msi){
		.size = sizeof(*msi),
		/* Destination and its mode; vector and delivery mode */
		.address = MSI_ADDRESS | (entry >> 56) << 12 | (entry >> 11 & 1) << 2,
		.data = entry & 0x7ff,
	};
	return !(entry & ENTRY_MASKED);
}

/**
 * vireo_ioapic_init - make it, all pins masked, and put it on the bus
 * @io: filled in
 * @mmio: the bus
 */
int vireo_ioapic_init(struct vireo_ioapic *io, struct vireo_bus *mmio)
{
	struct vireo_device device = {
		.name = "ioapic", .base = VIREO_IOAPIC_BASE, .len = 0x20,
		.read = ioapic_read, .write = ioapic_write, .ctx = io,
	};
	unsigned int i;

	memset(io, 0, sizeof(*io));
	pthread_mutex_init(&io->lock, NULL);
	for (i = 0; i < VIREO_IOAPIC_PINS; i++)
		io->entry[i] = ENTRY_MASKED;
	return vireo_bus_add(mmio, &device);
}
