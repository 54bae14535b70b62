// SPDX-License-Identifier: GPL-2.0
/*
 * A PCI Express root port with a slot, for devices that come and go while the
 * guest runs (PCI Express Base 3.0, 6.7 and 7.8).
 *
 * What is put into the slot has power and a link at once.  To take it out, the
 * attention button is pressed: the guest lets go of the device and switches the
 * power indicator off, which is the sign.  It may also be pulled out, with the
 * loss that this means.  The port's only interrupt is one MSI.
 */
#include <linux/pci_regs.h>
#include <string.h>
#include <sys/eventfd.h>

#include "libvireo.h"
#include "util.h"

#define EXPRESS		0x40		/* where the capabilities are */
#define MSI		0x80
#define WINDOW		VIREO_MIB	/* memory behind a port, to begin with */
#define WINDOW_BASE	(VIREO_PCI_WINDOW + VIREO_PCI_WINDOW_SIZE / 2)

#define SLTSTA_EVENTS	(PCI_EXP_SLTSTA_ABP | PCI_EXP_SLTSTA_PFD | PCI_EXP_SLTSTA_MRLSC | \
			 PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_CC | PCI_EXP_SLTSTA_DLLSC)

static __u16 get16(const struct vireo_port *port, unsigned int reg)
{
	return (__u16)(port->function.config[reg] | port->function.config[reg + 1] << 8);
}

static void put16(__u8 *p, unsigned int value)
{
	p[0] = (__u8)value;
	p[1] = (__u8)(value >> 8);
}

static void set16(struct vireo_port *port, unsigned int reg, unsigned int bits, bool on)
{
	put16(port->function.config + reg, on ? get16(port, reg) | bits :
						get16(port, reg) & ~bits);
}

/* Whether an event that the guest wants to hear of has not been acknowledged */
static bool wants_interrupt(const struct vireo_port *port)
{
	__u16 status = get16(port, EXPRESS + PCI_EXP_SLTSTA);
	__u16 control = get16(port, EXPRESS + PCI_EXP_SLTCTL);

	return (control & PCI_EXP_SLTCTL_HPIE) &&
	       (((status & PCI_EXP_SLTSTA_ABP) && (control & PCI_EXP_SLTCTL_ABPE)) ||
		((status & PCI_EXP_SLTSTA_PDC) && (control & PCI_EXP_SLTCTL_PDCE)) ||
		((status & PCI_EXP_SLTSTA_DLLSC) && (control & PCI_EXP_SLTCTL_DLLSCE)));
}

/* Send an interrupt when there begins to be a reason for one. */
static void update_interrupt(struct vireo_port *port)
{
	bool assert = wants_interrupt(port) && (get16(port, MSI + PCI_MSI_FLAGS) &
						PCI_MSI_FLAGS_ENABLE);
	struct vireo_msi msi = {
		.size = sizeof(msi),
		.address = get16(port, MSI + PCI_MSI_ADDRESS_LO) |
			   (__u64)get16(port, MSI + PCI_MSI_ADDRESS_LO + 2) << 16 |
			   (__u64)get16(port, MSI + PCI_MSI_ADDRESS_HI) << 32 |
			   (__u64)get16(port, MSI + PCI_MSI_ADDRESS_HI + 2) << 48,
		.data = get16(port, MSI + PCI_MSI_DATA_64),
	};

	if (assert && !port->asserted)
		vireo_vm_inject_msi(port->vm, &msi);
	port->asserted = assert;
}

static void raise_event(struct vireo_port *port, unsigned int events)
{
	set16(port, EXPRESS + PCI_EXP_SLTSTA, events, true);
	update_interrupt(port);
}

static void port_config(void *ctx, unsigned int reg)
{
	struct vireo_port *port = ctx;

	/* The four bytes from here on are SLTCTL and SLTSTA. */
	if ((reg & ~3U) == EXPRESS + PCI_EXP_SLTCTL && port->pressed && port->child &&
	    (get16(port, EXPRESS + PCI_EXP_SLTCTL) & PCI_EXP_SLTCTL_PIC) ==
	    PCI_EXP_SLTCTL_PWR_IND_OFF) {
		port->pressed = false;
		port->released = true;
		eventfd_write(port->eject_fd, 1);
	}
	update_interrupt(port);
}

static const struct vireo_pci_ops port_ops = { .config = port_config };

static void fill_config(struct vireo_port *port, unsigned int number)
{
	struct vireo_pci_function *f = &port->function;
	__u8 *c = f->config, *w = f->writable;
	unsigned int base = (unsigned int)((WINDOW_BASE + number * WINDOW) >> 16);

	put16(w + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
			       PCI_COMMAND_INTX_DISABLE);
	put16(c + PCI_STATUS, PCI_STATUS_CAP_LIST);
	w[PCI_CACHE_LINE_SIZE] = 0xff;
	w[PCI_INTERRUPT_LINE] = 0xff;
	c[PCI_HEADER_TYPE] = PCI_HEADER_TYPE_BRIDGE;
	c[PCI_SECONDARY_BUS] = (__u8)number;
	c[PCI_SUBORDINATE_BUS] = (__u8)number;
	memset(w + PCI_PRIMARY_BUS, 0xff, 3);
	put16(c + PCI_MEMORY_BASE, base);
	put16(c + PCI_MEMORY_LIMIT, base);
	put16(w + PCI_MEMORY_BASE, 0xfff0);
	put16(w + PCI_MEMORY_LIMIT, 0xfff0);
	put16(w + PCI_BRIDGE_CONTROL, PCI_BRIDGE_CTL_PARITY | PCI_BRIDGE_CTL_SERR);
	/* These registers are the subsystem ids of a type 0 header. */
	put16(c + PCI_PREF_LIMIT_UPPER32, 0);
	put16(c + PCI_PREF_LIMIT_UPPER32 + 2, 0);

	c[PCI_CAPABILITY_LIST] = EXPRESS;
	vireo_pci_express(f, EXPRESS, PCI_EXP_TYPE_ROOT_PORT);
	c[EXPRESS + PCI_CAP_LIST_NEXT] = MSI;
	c[EXPRESS + PCI_EXP_FLAGS + 1] |= PCI_EXP_FLAGS_SLOT >> 8;
	c[EXPRESS + PCI_EXP_LNKCAP + 2] |= PCI_EXP_LNKCAP_DLLLARC >> 16;
	c[EXPRESS + PCI_EXP_LNKCAP + 3] = (__u8)number;
	put16(c + EXPRESS + PCI_EXP_SLTCAP, PCI_EXP_SLTCAP_ABP | PCI_EXP_SLTCAP_PIP |
					    PCI_EXP_SLTCAP_HPC | PCI_EXP_SLTCAP_HPS);
	put16(c + EXPRESS + PCI_EXP_SLTCAP + 2, PCI_EXP_SLTCAP_NCCS >> 16 | number << 3);
	put16(c + EXPRESS + PCI_EXP_SLTCTL, PCI_EXP_SLTCTL_PWR_IND_OFF);
	put16(w + EXPRESS + PCI_EXP_SLTCTL, 0x17ff);	/* all but the interlock */
	put16(f->clear + EXPRESS + PCI_EXP_SLTSTA, SLTSTA_EVENTS);
	w[EXPRESS + PCI_EXP_RTCTL] = 0x1f;

	c[MSI] = PCI_CAP_ID_MSI;
	put16(c + MSI + PCI_MSI_FLAGS, PCI_MSI_FLAGS_64BIT);
	put16(w + MSI + PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE);
	memset(w + MSI + PCI_MSI_ADDRESS_LO, 0xff, 10);
	w[MSI + PCI_MSI_ADDRESS_LO] = 0xfc;
}

/**
 * vireo_port_init - make a port with an empty slot, on bus 0
 * @port: filled in
 * @pci: the bridge
 * @vm: whose
 * @eject_fd: see struct vireo_port
 * @err: why not
 */
int vireo_port_init(struct vireo_port *port, struct vireo_pci *pci, struct vireo_vm *vm,
		    int eject_fd, struct vireo_error *err)
{
	unsigned int number = 1, slot;
	int ret;

	for (slot = 1; slot < VIREO_PCI_SLOTS; slot++) {
		if (pci->function[slot] && pci->function[slot]->port)
			number++;
	}
	*port = (struct vireo_port){
		.pci = pci, .vm = vm, .eject_fd = eject_fd,
		.function = {
			.device = VIREO_PCI_PORT, .class = VIREO_PCI_CLASS_PORT,
			.ops = &port_ops, .ctx = port, .port = port,
		},
	};
	ret = vireo_pci_attach(pci, &port->function, err);
	if (ret)
		return ret;
	pthread_mutex_lock(&pci->lock);
	fill_config(port, number);
	pthread_mutex_unlock(&pci->lock);
	return 0;
}

/** vireo_port_plug - put a function into an empty slot */
void vireo_port_plug(struct vireo_port *port, struct vireo_pci_function *f)
{
	pthread_mutex_lock(&port->pci->lock);
	f->express = true;
	vireo_pci_reset(f);
	port->child = f;
	port->pressed = false;
	port->released = false;
	set16(port, EXPRESS + PCI_EXP_LNKSTA, PCI_EXP_LNKSTA_DLLLA, true);
	set16(port, EXPRESS + PCI_EXP_SLTSTA, PCI_EXP_SLTSTA_PDS, true);
	raise_event(port, PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_DLLSC);
	pthread_mutex_unlock(&port->pci->lock);
}

/** vireo_port_press - ask the guest to let go of what is in the slot */
void vireo_port_press(struct vireo_port *port)
{
	pthread_mutex_lock(&port->pci->lock);
	/* Once more would call it off. */
	if (port->child && !port->pressed && !port->released) {
		port->pressed = true;
		raise_event(port, PCI_EXP_SLTSTA_ABP);
	}
	pthread_mutex_unlock(&port->pci->lock);
}

/** vireo_port_leaving - whether the guest was asked to let go of what is in the slot */
bool vireo_port_leaving(struct vireo_port *port)
{
	bool leaving;

	pthread_mutex_lock(&port->pci->lock);
	leaving = port->pressed || port->released;
	pthread_mutex_unlock(&port->pci->lock);
	return leaving;
}

/** vireo_port_released - whether the guest has let go of what is in the slot */
bool vireo_port_released(struct vireo_port *port)
{
	bool released;

	pthread_mutex_lock(&port->pci->lock);
	released = port->released;
	pthread_mutex_unlock(&port->pci->lock);
	return released;
}

/** vireo_port_unplug - empty a slot; nothing of what was in it is called after that */
void vireo_port_unplug(struct vireo_port *port)
{
	pthread_mutex_lock(&port->pci->lock);
	port->child = NULL;
	port->pressed = false;
	port->released = false;
	set16(port, EXPRESS + PCI_EXP_LNKSTA, PCI_EXP_LNKSTA_DLLLA, false);
	set16(port, EXPRESS + PCI_EXP_SLTSTA, PCI_EXP_SLTSTA_PDS, false);
	raise_event(port, PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_DLLSC);
	pthread_mutex_unlock(&port->pci->lock);
}

/**
 * vireo_port_config - what is behind a port
 * @port: a port
 * @bus: number, not 0
 * @devfn: likewise
 *
 * Called with the bridge's lock held.
 */
struct vireo_pci_function *vireo_port_config(struct vireo_port *port, unsigned int bus,
					     unsigned int devfn)
{
	return bus == port->function.config[PCI_SECONDARY_BUS] && !devfn ? port->child : NULL;
}

/** vireo_port_forwards - whether an access to memory goes through a port to its slot */
bool vireo_port_forwards(const struct vireo_port *port, __u64 gpa)
{
	__u64 base = (__u64)(get16(port, PCI_MEMORY_BASE) & 0xfff0) << 16;
	__u64 limit = (__u64)(get16(port, PCI_MEMORY_LIMIT) & 0xfff0) << 16 | 0xfffff;

	return port->child && (get16(port, PCI_COMMAND) & PCI_COMMAND_MEMORY) && gpa >= base &&
	       gpa <= limit;
}
