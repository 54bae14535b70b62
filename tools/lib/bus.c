// SPDX-License-Identifier: GPL-2.0
/* Who answers at which address.  Nobody: reads as all ones, writes ignored. */
#include <errno.h>

#include "libvireo.h"

static struct vireo_device *find(struct vireo_bus *bus, __u64 addr)
{
	unsigned int i;

	for (i = 0; i < bus->count; i++) {
		if (addr - bus->device[i].base < bus->device[i].len)
			return &bus->device[i];
	}
	return NULL;
}

/**
 * vireo_bus_add - put a device on a bus, before the vCPUs run
 * @bus: which
 * @device: copied
 *
 * Return: 0, EINVAL (empty or wraps), EEXIST (overlaps another), ENOSPC.
 */
int vireo_bus_add(struct vireo_bus *bus, const struct vireo_device *device)
{
	__u64 last = device->base + device->len - 1;
	unsigned int i;

	if (!device->len || last < device->base)
		return -EINVAL;
	for (i = 0; i < bus->count; i++) {
		struct vireo_device *other = &bus->device[i];

		if (device->base <= other->base + other->len - 1 && other->base <= last)
			return -EEXIST;
	}
	if (bus->count == VIREO_BUS_DEVICES)
		return -ENOSPC;
	bus->device[bus->count++] = *device;
	return 0;
}

static __u64 all_ones(unsigned int width)
{
	return width >= 8 ? ~0ULL : (1ULL << (8 * width)) - 1;
}

/**
 * vireo_bus_read - a vCPU reads
 * @bus: port I/O or MMIO
 * @vcpu: who
 * @addr: port or gpa
 * @width: 1, 2, 4 or 8 bytes
 *
 * Return: what it sees.
 */
__u64 vireo_bus_read(struct vireo_bus *bus, struct vireo_vcpu *vcpu, __u64 addr,
		     unsigned int width)
{
	struct vireo_device *device = find(bus, addr);

	if (!device || !device->read)
		return all_ones(width);
	return device->read(device->ctx, vcpu, addr - device->base, width);
}

/**
 * vireo_bus_write - a vCPU writes
 * @bus: port I/O or MMIO
 * @vcpu: who
 * @addr: port or gpa
 * @width: 1, 2, 4 or 8 bytes
 * @value: what
 */
void vireo_bus_write(struct vireo_bus *bus, struct vireo_vcpu *vcpu, __u64 addr,
		     unsigned int width, __u64 value)
{
	struct vireo_device *device = find(bus, addr);

	if (device && device->write)
		device->write(device->ctx, vcpu, addr - device->base, width, value);
}
