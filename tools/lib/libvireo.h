/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * libvireo: virtual machines over /dev/vireo, usable on its own.
 *
 * From the bottom up; each part needs only those above it:
 *
 *	error	one line of text for the user, and an errno
 *	vm	device, VM, vCPU and memory fds
 *	clock	what a guest's clocks are made of
 *	lapic	a vCPU's local APIC
 *	reset	power-on, INIT and SIPI
 *	loader	bzImage and ELF kernels (pure: works on a buffer)
 *	acpi	the tables of a hardware-reduced PC (pure)
 *	uart	a 16550A without interrupt (pure)
 *	bus	who answers at which address (pure)
 *	queue	the module's queues
 *	ring	queues that this process serves itself
 *	pci	PCI host bridge, functions with MSI-X (pure)
 *	port	slots for devices that come and go
 *	ioapic	an I/O APIC (pure)
 *	device	registers of a paravirtual device
 *	disk	a file or block device as such a device
 *	net	an interface of the host as such a device
 *	console, rng	the same for a terminal, and for random numbers
 *	boot	puts kernel, initrd, command line and tables into memory
 *	machine	vCPU threads, pause, the end of a run
 *	fork	a machine's state, and the same machine on another VM
 *	snapshot	a machine's state as bytes
 *	store	the directory of a snapshot
 *
 * Unless said otherwise a function returns 0 or a negative errno, and has then
 * written the reason into its struct vireo_error.  "gpa" is a guest physical
 * address in bytes.
 */
#ifndef _LIBVIREO_H
#define _LIBVIREO_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <vireo.h>
#include <vireo_blk.h>
#include <vireo_console.h>
#include <vireo_net.h>
#include <vireo_pci.h>
#include <vireo_rng.h>

#define VIREO_KIB	(1ULL << 10)
#define VIREO_MIB	(1ULL << 20)
#define VIREO_GIB	(1ULL << 30)
#define VIREO_PAGE	4096ULL

#define VIREO_PRINTF(fmt, args)	__attribute__((__format__(__printf__, fmt, args)))

/* ---- error.c --------------------------------------------------------------- */

/**
 * struct vireo_error - why a call failed
 * @code: errno, 0 if nothing failed
 * @text: one line without newline: what is wrong and, if known, how to mend it
 */
struct vireo_error {
	int code;
	char text[300];
};

int vireo_fail(struct vireo_error *err, int code, const char *fmt, ...)
	VIREO_PRINTF(3, 4);
void vireo_error_prefix(struct vireo_error *err, const char *fmt, ...) VIREO_PRINTF(2, 3);

/* ---- cpuid.c --------------------------------------------------------------- */

#define VIREO_STATE_CPUIDS	128	/* entries of a CPUID table at the most */

__u32 vireo_cpuid_default(const struct vireo_info *info, __u32 vcpus,
			  struct vireo_cpuid_entry *entry);

/* ---- clock.c --------------------------------------------------------------- */

/**
 * struct vireo_timebase - what a guest's clocks are made of
 * @tsc_base: the host's TSC when the guest's, and its clock, were 0
 * @boot_ns: the time of day then, nanoseconds since 1970
 * @tsc_khz: kHz that the clock is scaled with, not 0
 */
struct vireo_timebase {
	__u64 tsc_base;
	__u64 boot_ns;
	__u32 tsc_khz;
};

void vireo_clock_now(struct vireo_timebase *clock, __u32 tsc_khz);
int vireo_clock_set(int vm, const struct vireo_timebase *clock);

/* ---- lapic.c --------------------------------------------------------------- */

/**
 * struct vireo_lapic - a vCPU's local APIC; the layout is that of snapshots
 * @size: bytes of this structure
 * @flags: 0
 * @irr: interrupt request register, 256 bits
 * @isr: in-service register, 256 bits
 * @svr: spurious vector register
 * @esr: error status
 * @lvt: timer, thermal, performance, LINT0, LINT1, error; CMCI is not there
 *	and stays masked
 * @timer_initial: initial count
 * @timer_current: current count; ignored by set, see @timer_left
 * @timer_divide: divide configuration
 * @timer_left: ns until the timer fires, ~0 if it is off
 * @tsc_deadline: IA32_TSC_DEADLINE
 * @icr: interrupt command register
 * @requests: VIREO_LAPIC_*: what has come and was not acted upon
 * @sipi_vector: of the last SIPI
 * @esr_next: errors since @esr was latched
 * @reserved: 0
 */
struct vireo_lapic {
	__u32 size;
	__u32 flags;
	__u32 irr[8];
	__u32 isr[8];
	__u32 svr;
	__u32 esr;
	__u32 lvt[7];
	__u32 timer_initial;
	__u32 timer_current;
	__u32 timer_divide;
	__u64 timer_left;
	__u64 tsc_deadline;
	__u64 icr;
	__u32 requests;
	__u32 sipi_vector;
	__u32 esr_next;
	__u32 reserved;
};

int vireo_lapic_get(int vcpu, struct vireo_lapic *l);
int vireo_lapic_set(int vcpu, const struct vireo_lapic *l);
int vireo_lapic_reset(int vcpu);

/* ---- reset.c --------------------------------------------------------------- */

int vireo_vcpu_reset(int vcpu, bool boot);
int vireo_vcpu_init(int vcpu, bool boot);
int vireo_vcpu_sipi(int vcpu, const struct vireo_run *run);

/* ---- vm.c ------------------------------------------------------------------ */

#define VIREO_DEVICE	"/dev/vireo"

/* RAM ends here at the latest and goes on at 4 GiB; devices lie in between. */
#define VIREO_LOW_END	(3 * VIREO_GIB)
#define VIREO_HIGH_BASE	(4 * VIREO_GIB)

/**
 * struct vireo_vm - a virtual machine
 * @fd: the VM
 * @mem_fd: its memory; offset = gpa
 * @info: what the module offers
 * @clock: the guest's
 * @memory: RAM, bytes
 * @low_end: end of RAM below 4 GiB, gpa
 * @high_end: end of RAM above 4 GiB, gpa; 4 GiB if there is none
 * @doorbell: those that are taken
 */
struct vireo_vm {
	int fd;
	int mem_fd;
	struct vireo_info info;
	struct vireo_timebase clock;
	__u64 memory;
	__u64 low_end;
	__u64 high_end;
	bool doorbell[VIREO_MAX_QUEUES];
};

/**
 * struct vireo_vcpu - a virtual processor
 * @fd: the vCPU, -1 if it does not exist
 * @id: its number and x2APIC id
 * @run: the page shared with the kernel
 */
struct vireo_vcpu {
	int fd;
	__u32 id;
	struct vireo_run *run;
};

int vireo_device_open(struct vireo_info *info, struct vireo_error *err);
int vireo_vm_create(struct vireo_vm *vm, __u32 max_vcpus, struct vireo_error *err);
int vireo_vm_set_cpuid(struct vireo_vm *vm, const struct vireo_cpuid_entry *entry, __u32 count,
		       struct vireo_error *err);
int vireo_vm_add_memory(struct vireo_vm *vm, __u64 bytes, struct vireo_error *err);
int vireo_vm_write(struct vireo_vm *vm, __u64 gpa, const void *data, size_t len,
		   struct vireo_error *err);
int vireo_vm_write_sparse(struct vireo_vm *vm, __u64 gpa, const void *data, size_t len,
			  struct vireo_error *err);
int vireo_vm_read(struct vireo_vm *vm, __u64 gpa, void *data, size_t len,
		  struct vireo_error *err);
int vireo_vm_stat(struct vireo_vm *vm, struct vireo_stat *stat, struct vireo_error *err);
int vireo_vm_inject_msi(struct vireo_vm *vm, const struct vireo_msi *msi);
void vireo_vm_close(struct vireo_vm *vm);

int vireo_vcpu_create(struct vireo_vm *vm, struct vireo_vcpu *vcpu, __u32 id,
		      struct vireo_error *err);
int vireo_vcpu_get_regs(struct vireo_vcpu *vcpu, struct vireo_regs *regs,
			struct vireo_error *err);
int vireo_vcpu_set_regs(struct vireo_vcpu *vcpu, struct vireo_regs *regs,
			struct vireo_error *err);
int vireo_vcpu_get_msr(struct vireo_vcpu *vcpu, __u32 index, __u64 *value);
void vireo_vcpu_close(struct vireo_vcpu *vcpu);

/* What vireo_vm_stat() makes of the counters, behind them */
enum {
	VIREO_SUM_EXITS = VIREO_STAT_COUNT,	/* all from guest mode */
	VIREO_SUM_FAST,				/* ... resolved with interrupts off */
	VIREO_SUM_COUNT
};

/* Name of VIREO_STAT_* or VIREO_SUM_* number @i for people and JSON, NULL if there is none. */
const char *vireo_stat_name(unsigned int i);

/* ---- loader.c, payload.c --------------------------------------------------- */

/**
 * struct vireo_sink - where a loader puts what it unpacks
 * @write: store @len bytes at @gpa; 0 or a negative errno, which ends the load
 *	with the text in the struct vireo_error
 * @ctx: its first argument
 * @base: first gpa that an image may use
 * @end: first gpa beyond
 */
struct vireo_sink {
	int (*write)(void *ctx, __u64 gpa, const void *data, size_t len,
		     struct vireo_error *err);
	void *ctx;
	__u64 base;
	__u64 end;
};

enum vireo_entry {
	VIREO_ENTRY_LINUX64,	/* Linux 64-bit boot protocol */
	VIREO_ENTRY_PVH,	/* PVH: 32-bit protected mode */
};

/**
 * struct vireo_kernel - what loading a kernel image gave
 * @how: how to enter it
 * @entry: where, gpa
 * @start: start of the memory that it occupies, gpa
 * @end: end of it
 * @header: bzImage: its setup header, which belongs at 0x1f1 of the zero page
 * @header_len: bytes of that, 0 for ELF
 * @cmdline_max: longest command line, bytes without the final NUL
 * @initrd_max: highest gpa that an initrd may occupy
 */
struct vireo_kernel {
	enum vireo_entry how;
	__u64 entry;
	__u64 start;
	__u64 end;
	const __u8 *header;
	size_t header_len;
	__u32 cmdline_max;
	__u64 initrd_max;
};

int vireo_kernel_load(const void *image, size_t size, const struct vireo_sink *sink,
		      struct vireo_kernel *kernel, struct vireo_error *err);

/* payload.c: takes unpacked bytes in order; 0 or a negative errno. */
typedef int (*vireo_feed_fn)(void *ctx, const void *data, size_t len,
			     struct vireo_error *err);

#define VIREO_FEED_HEAD	4096	/* a first feed has at least this much, or all */

int vireo_payload_unpack(const __u8 *data, size_t size, __u64 limit, vireo_feed_fn feed,
			 void *ctx, struct vireo_error *err);

/* ---- acpi.c ---------------------------------------------------------------- */

/* Ports of the machine that the tables announce */
#define VIREO_PORT_COM1		0x3f8	/* 8 ports */
#define VIREO_PORT_SLEEP_CTL	0x600	/* ACPI SLEEP_CONTROL_REG */
#define VIREO_PORT_SLEEP_STS	0x601	/* ACPI SLEEP_STATUS_REG */
#define VIREO_PORT_RESET	0x602	/* ACPI RESET_REG */
#define VIREO_RESET_VALUE	0x01
#define VIREO_SLEEP_ENABLE	0x20	/* SLP_EN; SLP_TYP is bits 4:2 */
#define VIREO_SLEEP_S5		5	/* SLP_TYP of \_S5 */

#define VIREO_ACPI_BASE		0xe0000ULL	/* gpa of the RSDP */
#define VIREO_ACPI_SIZE		0x1f000ULL	/* bytes for all tables */
#define VIREO_GENERATION	0xff000ULL	/* gpa of the VM generation id */
#define VIREO_GENERATION_SIZE	16

/**
 * struct vireo_acpi_config - what the tables describe
 * @vcpus: processors, x2APIC ids 0 to @vcpus - 1
 * @buses: of PCI, 1 to VIREO_PCI_BUSES; Linux looks for devices on all of them
 */
struct vireo_acpi_config {
	__u32 vcpus;
	__u32 buses;
};

/* Returns the bytes used of @buf, which starts at VIREO_ACPI_BASE; 0: no room. */
size_t vireo_acpi_build(const struct vireo_acpi_config *config, void *buf, size_t room);

/* ---- uart.c ---------------------------------------------------------------- */

#define VIREO_UART_BACKLOG	4096	/* bytes, a power of two */

/**
 * struct vireo_uart - a 16550A
 * @transmit: takes a byte that the guest sent; false: it cannot now, then the
 *	guest sees a full transmitter
 * @ready: whether @transmit would take a byte; vireo_uart_drained() when it is again
 * @interrupt: the interrupt line rises; may be NULL
 * @ctx: their first argument
 *
 * The rest is private.  Not locked: the caller sees to it that one call runs
 * at a time.
 */
struct vireo_uart {
	bool (*transmit)(void *ctx, __u8 byte);
	bool (*ready)(void *ctx);
	void (*interrupt)(void *ctx);
	void *ctx;
	/* private: */
	__u8 ier, fcr, lcr, mcr, lsr_error, scratch;
	__u8 divisor[2];
	bool thr_event;		/* transmitter became empty, not yet reported */
	unsigned int head, tail;	/* of @backlog, free-running */
	__u8 backlog[VIREO_UART_BACKLOG];
};

void vireo_uart_init(struct vireo_uart *uart);
__u8 vireo_uart_in(struct vireo_uart *uart, unsigned int reg);
void vireo_uart_out(struct vireo_uart *uart, unsigned int reg, __u8 value);
size_t vireo_uart_room(const struct vireo_uart *uart);
size_t vireo_uart_receive(struct vireo_uart *uart, const void *data, size_t len);
void vireo_uart_break(struct vireo_uart *uart);
void vireo_uart_drained(struct vireo_uart *uart);

/* ---- bus.c ----------------------------------------------------------------- */

struct vireo_vcpu;

/**
 * struct vireo_device - something that answers at a range of addresses
 * @name: for messages
 * @base: first address (port or gpa)
 * @len: number of addresses
 * @read: value of @width bytes at @offset from @base
 * @write: store it
 * @ctx: their first argument
 *
 * Called from the thread of the vCPU that accesses.  Either may be NULL: reads
 * as all ones, writes ignored.
 */
struct vireo_device {
	const char *name;
	__u64 base;
	__u64 len;
	__u64 (*read)(void *ctx, struct vireo_vcpu *vcpu, __u64 offset, unsigned int width);
	void (*write)(void *ctx, struct vireo_vcpu *vcpu, __u64 offset, unsigned int width,
		      __u64 value);
	void *ctx;
};

#define VIREO_BUS_DEVICES	16

/**
 * struct vireo_bus - an address space, port I/O or MMIO
 * @device: its devices, the most used first
 * @count: their number
 *
 * Filled before the vCPUs run, then only read.
 */
struct vireo_bus {
	struct vireo_device device[VIREO_BUS_DEVICES];
	unsigned int count;
};

int vireo_bus_add(struct vireo_bus *bus, const struct vireo_device *device);
__u64 vireo_bus_read(struct vireo_bus *bus, struct vireo_vcpu *vcpu, __u64 addr,
		     unsigned int width);
void vireo_bus_write(struct vireo_bus *bus, struct vireo_vcpu *vcpu, __u64 addr,
		     unsigned int width, __u64 value);

/* ---- queue.c --------------------------------------------------------------- */

int vireo_queue_create(int fd, const struct vireo_create_queue *create);
int vireo_queue_set_msi(int queue, const struct vireo_msi *msi);
int vireo_queue_stat(int queue, struct vireo_queue_stat *stat);
void vireo_queue_close(int queue);

/* ---- ring.c ---------------------------------------------------------------- */

/**
 * struct vireo_sring - a ring that this process serves, by way of the memory fd
 * @vm: whose
 * @gpa: where it is
 * @entries: how many it has; 0: there is none
 * @head: the next entry to look at
 * @tail: completions put; equal to @head but while an entry is worked at
 * @shown: of these, those that the driver knows of
 * @error: VIREO_RING_ERROR_*, not 0: it has ended
 * @told: ... and an interrupt said so
 * @stat: counters
 */
struct vireo_sring {
	struct vireo_vm *vm;
	__u64 gpa;
	__u32 entries;
	__u32 head;
	__u32 tail;
	__u32 shown;
	__u32 error;
	bool told;
	struct vireo_queue_stat stat;
};

int vireo_sring_open(struct vireo_sring *r, struct vireo_vm *vm, __u64 gpa, __u32 entries,
		     __u32 start);
bool vireo_sring_next(struct vireo_sring *r, void *entry);
int vireo_sring_segments(struct vireo_sring *r, const void *entry, struct vireo_seg *seg,
			 __u32 max, __u32 *bytes);
void vireo_sring_complete(struct vireo_sring *r, const void *entry, __u16 status, __u32 len,
			  __u32 bytes);
bool vireo_sring_show(struct vireo_sring *r);

/* ---- pci.c ----------------------------------------------------------------- */

#define VIREO_PORT_PCI		0xcf8		/* configuration mechanism #1, 8 ports */
#define VIREO_PCI_SLOTS		32		/* of bus 0; slot 0 is the host bridge */
#define VIREO_PCI_WINDOW	VIREO_LOW_END	/* where BARs may be, gpa */
#define VIREO_PCI_WINDOW_SIZE	(512 * VIREO_MIB)
#define VIREO_PCI_BUSES		32		/* bus 0 and those behind ports */
#define VIREO_PCI_ECAM		0xe0000000ULL	/* configuration space in memory, gpa */
#define VIREO_PCI_ECAM_SIZE	(VIREO_PCI_BUSES * VIREO_MIB)
#define VIREO_PCI_HOST		0x0100		/* device id of the host bridge */
#define VIREO_PCI_PORT		0x0101		/* ... of a root port */

#define VIREO_PCI_CLASS_HOST	0x060000U	/* host bridge */
#define VIREO_PCI_CLASS_PORT	0x060400U	/* PCI-to-PCI bridge */
#define VIREO_PCI_CLASS_BLK	0x018000U	/* mass storage, other */
#define VIREO_PCI_CLASS_NET	0x020000U	/* network, Ethernet */
#define VIREO_PCI_CLASS_CONSOLE	0x078000U	/* communication, other */
#define VIREO_PCI_CLASS_RNG	0x088000U	/* system peripheral, other */

/**
 * struct vireo_pci_ops - what a function does; called with the bridge's lock held
 * @read: 32 bits of BAR 0 at @offset, a multiple of 4
 * @write: store them
 * @route: vector @vector goes elsewhere, or was masked or unmasked: see vireo_pci_route()
 * @pending: whether something waits for vector @vector to be unmasked
 * @reset: as it was to begin with; the vectors and configuration space are next
 * @config: the guest has written configuration space, register @reg; may be NULL
 */
struct vireo_pci_ops {
	__u32 (*read)(void *ctx, __u32 offset);
	void (*write)(void *ctx, __u32 offset, __u32 value);
	void (*route)(void *ctx, unsigned int vector);
	bool (*pending)(void *ctx, unsigned int vector);
	void (*reset)(void *ctx);
	void (*config)(void *ctx, unsigned int reg);
};

struct vireo_port;

/**
 * struct vireo_pci_function - a function; what is not private is set before
 *	vireo_pci_attach()
 * @device: its device id
 * @class: its class code, 24 bits
 * @vectors: of MSI-X, 1 to VIREO_PCI_VECTORS; 0: neither BARs nor MSI-X
 * @ops: what it does
 * @ctx: their first argument
 * @slot: where it is on bus 0, 0: nowhere, or behind a port
 * @port: what it is if it is a root port, else NULL
 */
struct vireo_pci_function {
	__u16 device;
	__u32 class;
	unsigned int vectors;
	const struct vireo_pci_ops *ops;
	void *ctx;
	unsigned int slot;
	struct vireo_port *port;
	/* private: */
	bool express;
	__u8 config[256];
	__u8 writable[256];	/* bits of @config that the guest may write */
	__u8 clear[256];	/* ... and those that it clears by writing 1 */
	struct {
		__u32 address[2];
		__u32 data;
		__u32 control;	/* bit 0: masked */
	} entry[VIREO_PCI_VECTORS];
};

/**
 * struct vireo_pci - a host bridge and its bus 0: [P] is guarded by @lock
 * @lock: also held while a function's operations are called
 * @address: [P] the configuration address register
 * @function: [P] by slot, NULL: empty
 * @host: function 0
 */
struct vireo_pci {
	pthread_mutex_t lock;
	__u32 address;
	struct vireo_pci_function *function[VIREO_PCI_SLOTS];
	struct vireo_pci_function host;
};

int vireo_pci_init(struct vireo_pci *pci, struct vireo_bus *ports, struct vireo_bus *mmio);
void vireo_pci_destroy(struct vireo_pci *pci);
int vireo_pci_attach(struct vireo_pci *pci, struct vireo_pci_function *f,
		     struct vireo_error *err);
void vireo_pci_detach(struct vireo_pci *pci, struct vireo_pci_function *f);
bool vireo_pci_route(const struct vireo_pci_function *f, unsigned int vector,
		     struct vireo_msi *msi);

void vireo_pci_express(struct vireo_pci_function *f, unsigned int cap, unsigned int type);
void vireo_pci_reset(struct vireo_pci_function *f);

/* ---- ioapic.c -------------------------------------------------------------- */

#define VIREO_IOAPIC_BASE	0xfec00000U	/* gpa */
#define VIREO_IOAPIC_PINS	16		/* Linux goes over all of them, several times */
#define VIREO_PIN_COM1		4		/* as in a PC */
#define VIREO_PIN_EVENT		9		/* of ACPI's Generic Event Device */

/**
 * struct vireo_ioapic - an I/O APIC: [L] is guarded by @lock
 * @lock: guards the registers
 * @select: [L] the register that the window shows
 * @id: [L] kept for the guest
 * @entry: [L] by pin
 */
struct vireo_ioapic {
	pthread_mutex_t lock;
	__u32 select;
	__u32 id;
	__u64 entry[VIREO_IOAPIC_PINS];
};

int vireo_ioapic_init(struct vireo_ioapic *io, struct vireo_bus *mmio);
bool vireo_ioapic_raise(struct vireo_ioapic *io, unsigned int pin, struct vireo_msi *msi);

/* ---- port.c ---------------------------------------------------------------- */

#define VIREO_PORTS	16		/* slots for devices that come and go */

/**
 * struct vireo_port - a PCI Express root port with a slot: [P] is guarded by the
 *	bridge's lock
 * @function: its own
 * @pci: the bridge
 * @vm: gets its interrupts
 * @eject_fd: eventfd, written when the guest has let go of what is in the slot
 * @child: [P] what is in the slot, or NULL
 * @pressed: [P] the guest was asked to let go
 * @released: [P] it has
 * @asserted: [P] the interrupt of what is in the slot status was sent
 */
struct vireo_port {
	struct vireo_pci_function function;
	struct vireo_pci *pci;
	struct vireo_vm *vm;
	int eject_fd;
	struct vireo_pci_function *child;
	bool pressed;
	bool released;
	bool asserted;
};

int vireo_port_init(struct vireo_port *port, struct vireo_pci *pci, struct vireo_vm *vm,
		    int eject_fd, struct vireo_error *err);
void vireo_port_plug(struct vireo_port *port, struct vireo_pci_function *f);
void vireo_port_press(struct vireo_port *port);
bool vireo_port_leaving(struct vireo_port *port);
bool vireo_port_released(struct vireo_port *port);
void vireo_port_unplug(struct vireo_port *port);
struct vireo_pci_function *vireo_port_config(struct vireo_port *port, unsigned int bus,
					     unsigned int devfn);
bool vireo_port_forwards(const struct vireo_port *port, __u64 gpa);

/* ---- device.c -------------------------------------------------------------- */

#define VIREO_PV_CONFIG		(VIREO_REG_QUEUE(0) - VIREO_REG_CONFIG)	/* bytes */

struct vireo_pv;
struct vireo_clone;

/**
 * struct vireo_pv_ops - what distinguishes one kind of device from another
 * @kind: "disk", "net", "console", "rng"
 * @accept: the driver is ready and takes these features, or (0, with @up false)
 *	was reset; a negative errno: the device does not agree.  May be NULL
 * @refresh: read the properties of what is behind it again, into @config
 * @can_fork: whether a clone of the machine could have one like it; NULL: no
 * @freeze: with the machine suspended: keep what clones begin with; may be NULL
 * @thaw: where @freeze was called, the clones having been told: forget that; may be NULL
 * @fork: in a clone: replace the module's part by one of its own VM
 * @doorbell: the guest rings for a queue, or it may have; called with the bridge's
 *	lock held, or while no vCPU runs.  NULL: the module serves the queues
 * @destroy: free it
 */
struct vireo_pv_ops {
	const char *kind;
	int (*accept)(struct vireo_pv *pv, bool up, __u64 features);
	int (*refresh)(struct vireo_pv *pv, void *config, struct vireo_error *err);
	int (*can_fork)(struct vireo_pv *pv, struct vireo_error *err);
	int (*freeze)(struct vireo_pv *pv, struct vireo_error *err);
	void (*thaw)(struct vireo_pv *pv);
	int (*fork)(struct vireo_pv *pv, const struct vireo_clone *clone, struct vireo_error *err);
	void (*doorbell)(struct vireo_pv *pv, unsigned int queue);
	void (*destroy)(struct vireo_pv *pv);
};

/**
 * struct vireo_pv - a paravirtual device, as vireo_pci.h has it; what is not
 *	private is set before vireo_pv_attach(), [P] is guarded by the bridge's lock
 * @ops: its kind
 * @vm: whose
 * @fd: the module's disk or interface
 * @number: of its kind in the machine
 * @name: for people, "disk0"
 * @backing: for people: path or interface
 * @offered: features
 * @queues: how many it has
 * @queue_max: entries that one may have at the most
 * @one_index: all queues are equal: vireo_create_queue.index is 0
 * @config_len: bytes of @config, a multiple of 4
 * @config: [P] its part of BAR 0
 */
struct vireo_pv {
	const struct vireo_pv_ops *ops;
	struct vireo_vm *vm;
	int fd;
	unsigned int number;
	char name[16];
	char backing[200];
	__u64 offered;
	unsigned int queues;
	__u32 queue_max;
	bool one_index;
	size_t config_len;
	__u8 config[VIREO_PV_CONFIG];
	/* private: */
	struct vireo_pci *pci;
	struct vireo_port *port;	/* whose slot it is in, NULL: on bus 0 */
	struct vireo_pci_function function;
	unsigned int doorbell;	/* of queue 0; the others follow */
	__u32 status;		/* [P] from here on */
	__u32 generation;
	__u64 accepted;
	__u32 vector;		/* of a config change */
	bool changed;		/* one waits for its vector to be unmasked */
	struct vireo_pv_queue {
		int fd;		/* -1: not served by the module */
		struct vireo_sring sring;	/* served here */
		bool waits;	/* ... its interrupt, for its vector to be unmasked */
		__u32 entries;
		__u64 ring;
		__u32 vector;
		bool suspended;	/* not served for a while */
		__u32 start;	/* then: where it goes on */
	} queue[VIREO_PCI_QUEUES];
};

int vireo_pv_attach(struct vireo_pv *pv, struct vireo_pci *pci, struct vireo_port *port,
		    struct vireo_error *err);
void vireo_pv_lift(struct vireo_pv *pv);
bool vireo_pv_settle(struct vireo_pv *pv);
int vireo_pv_refresh(struct vireo_pv *pv, struct vireo_error *err);
void vireo_pv_interrupt(struct vireo_pv *pv, unsigned int queue);
int vireo_pv_stat(struct vireo_pv *pv, unsigned int queue, struct vireo_queue_stat *stat);
int vireo_pv_suspend(struct vireo_pv *pv, struct vireo_error *err);
int vireo_pv_resume(struct vireo_pv *pv, struct vireo_error *err);
void vireo_pv_inherit(struct vireo_pv *pv);
void vireo_pv_destroy(struct vireo_pv *pv);

/* ---- disk.c ---------------------------------------------------------------- */

/**
 * struct vireo_disk_spec - a disk to make
 * @path: regular file or block device
 * @readonly: the guest may not write
 * @overlay: what it writes is kept in memory, not in @path
 * @overlay_max: bytes of that
 * @store: what it holds at first is from there, NULL: it is empty
 * @content: ... vireo_store_disk()'s
 * @eager: ... copied at once
 * @serial: serial number, NULL: from @path
 * @queues: 1 to VIREO_PCI_QUEUES
 * @bps: limit, bytes per second, 0: none
 * @iops: limit, requests per second, 0: none
 */
struct vireo_disk_spec {
	const char *path;
	bool readonly;
	bool overlay;
	__u64 overlay_max;
	struct vireo_store *store;
	struct vireo_content *content;
	bool eager;
	const char *serial;
	unsigned int queues;
	__u64 bps;
	__u64 iops;
};

struct vireo_pv *vireo_disk_create(struct vireo_vm *vm, const struct vireo_disk_spec *spec,
				   struct vireo_error *err);

/* Bytes that the overlay of a disk holds; 0 of any other device */
__u64 vireo_disk_overlay(struct vireo_pv *pv);

/* For snapshots: as it was created; false: it is another device */
bool vireo_disk_describe(struct vireo_pv *pv, struct vireo_disk_spec *spec);

/* ... what the guest has written, if not to where it stays: VIREO_CONTENT_*, 0: nothing */
__u32 vireo_disk_content(struct vireo_pv *pv);
int vireo_disk_content_fd(struct vireo_pv *pv, struct vireo_error *err);

/* ---- net.c ----------------------------------------------------------------- */

#define VIREO_NET_PAIRS		16		/* of queues at the most */
#define VIREO_NET_MTU_MIN	68U
#define VIREO_NET_MTU_MAX	65521U

/**
 * struct vireo_net_spec - a network interface to make
 * @name: of the host's end; may hold one %d
 * @mac: the guest's address; all zero: a random one
 * @mtu: bytes
 * @pairs: of queues, 1 to VIREO_NET_PAIRS
 * @filter: drop what is not for the guest
 * @bridge: of the host, which the interface becomes a port of, and is set up; or NULL
 */
struct vireo_net_spec {
	const char *name;
	__u8 mac[6];
	__u32 mtu;
	unsigned int pairs;
	bool filter;
	const char *bridge;
};

struct vireo_pv *vireo_net_create(struct vireo_vm *vm, const struct vireo_net_spec *spec,
				  struct vireo_error *err);
int vireo_net_watch(struct vireo_error *err);
void vireo_net_watch_read(int fd);

/* As it was created, if it is an interface; name and bridge live as long as it */
bool vireo_net_describe(struct vireo_pv *pv, struct vireo_net_spec *spec);

/* The pattern that names of copies of an interface have; @name has room for 16 bytes */
void vireo_net_derive_name(char *name);

/* ---- console.c ------------------------------------------------------------- */

/**
 * struct vireo_console_spec - a console to make
 * @input: put up to @len bytes for the guest into @data; how many there were
 * @room: how many bytes @output would take
 * @output: take what the guest prints, not more than @room has said
 * @ctx: their first argument
 *
 * Called from any vCPU's thread, and from vireo_console_update(), one at a time;
 * with the bridge's lock held.
 */
struct vireo_console_spec {
	size_t (*input)(void *ctx, void *data, size_t len);
	size_t (*room)(void *ctx);
	void (*output)(void *ctx, const void *data, size_t len);
	void *ctx;
};

struct vireo_pv *vireo_console_create(struct vireo_vm *vm, const struct vireo_console_spec *spec,
				      struct vireo_error *err);
void vireo_console_update(struct vireo_pv *pv);
void vireo_console_resize(struct vireo_pv *pv, __u32 columns, __u32 rows);

/* ---- rng.c ----------------------------------------------------------------- */

struct vireo_pv *vireo_rng_create(struct vireo_vm *vm, struct vireo_error *err);

/* ---- boot.c ---------------------------------------------------------------- */

/**
 * struct vireo_boot - what to boot
 * @kernel: path of a bzImage or an ELF kernel with a PVH entry
 * @initrd: path of an initial RAM disk, or NULL
 * @cmdline: the whole kernel command line
 * @vcpus: processors
 * @slots: see vireo_machine_slots()
 */
struct vireo_boot {
	const char *kernel;
	const char *initrd;
	const char *cmdline;
	__u32 vcpus;
	__u32 slots;
};

int vireo_boot(struct vireo_vm *vm, struct vireo_vcpu *vcpu, const struct vireo_boot *boot,
	       struct vireo_error *err);

/* ---- machine.c ------------------------------------------------------------- */

/* How a run ended; the values are vireo-run's exit statuses. */
enum vireo_end {
	VIREO_END_POWEROFF = 0,		/* the guest powered off */
	VIREO_END_ERROR = 1,		/* not the guest's doing */
	VIREO_END_RESET = 10,		/* the guest rebooted */
	VIREO_END_CRASH = 11,		/* the guest's kernel panicked */
	VIREO_END_SHUTDOWN = 12,	/* the processor gave up: triple fault */
	VIREO_END_STOPPED = 13,		/* stopped from outside */
	VIREO_END_FAIL_ENTRY = 14,	/* the processor refused the guest's state */
};

enum vireo_machine_state {
	VIREO_MACHINE_RUNNING,
	VIREO_MACHINE_PAUSED,
	VIREO_MACHINE_ENDED,
};

struct vireo_machine;

/* private to machine.c */
struct vireo_thread {
	struct vireo_machine *machine;
	struct vireo_vcpu vcpu;
	pthread_t thread;
	bool started;
	bool parked;	/* [L] not in VIREO_RUN, waits */
};

/**
 * struct vireo_machine - a VM that runs: [L] is guarded by @lock
 * @port: slots for devices that are added while it runs
 * @cpuids: number of @cpuid
 * @cpuid: what its guest is shown
 * @ports: port I/O
 * @mmio: memory-mapped I/O
 * @pci: the PCI bus
 * @device: what is on it, NULL where there is none; the main thread's
 * @ioapic: the I/O APIC
 * @vm: its VM; from here on what a clone writes
 * @slots: number of @port
 * @eject_fd: eventfd, readable when a device was let go of: vireo_machine_eject()
 * @end_fd: eventfd, readable when the run has ended
 * @vcpus: processors
 * @lock: guards state
 * @cond: state changed
 * @state: [L] what it does
 * @held: [L] exits to user space wait; read without it
 * @live: [L] threads that have not ended
 * @end: [L] how it ended, from the first that said so
 * @end_vcpu: [L] where, -1: nowhere
 * @end_text: [L] one line of explanation
 * @thread: the processors' threads
 */
struct vireo_machine {
	struct vireo_port port[VIREO_PORTS];
	__u32 cpuids;
	struct vireo_cpuid_entry cpuid[VIREO_STATE_CPUIDS];
	struct vireo_bus ports;
	struct vireo_bus mmio;
	struct vireo_pci pci;
	struct vireo_pv *device[VIREO_PCI_SLOTS + VIREO_PORTS];
	struct vireo_ioapic ioapic;
	struct vireo_vm vm;
	unsigned int slots;
	int eject_fd;
	int end_fd;
	__u32 vcpus;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	enum vireo_machine_state state;
	bool held;
	unsigned int live;
	enum vireo_end end;
	int end_vcpu;
	char end_text[300];
	struct vireo_thread thread[VIREO_MAX_VCPUS];
};

int vireo_machine_create(struct vireo_machine *m, __u32 vcpus, __u64 memory,
			 struct vireo_error *err);
int vireo_machine_init(struct vireo_machine *m, __u32 vcpus, struct vireo_error *err);
int vireo_machine_slots(struct vireo_machine *m, unsigned int slots, struct vireo_error *err);

/* Instead of a slot's number */
#define VIREO_SLOT_NONE		(-1)
#define VIREO_SLOT_ANY		(-2)

int vireo_machine_add(struct vireo_machine *m, struct vireo_pv *pv, int slot,
		      struct vireo_error *err);
int vireo_machine_arrange(struct vireo_machine *m, const unsigned int *place,
			  unsigned int count, struct vireo_error *err);
int vireo_machine_detach(struct vireo_machine *m, struct vireo_pv *pv, bool force,
			 struct vireo_error *err);
void vireo_machine_eject(struct vireo_machine *m);
int vireo_machine_start(struct vireo_machine *m, struct vireo_error *err);
int vireo_machine_pause(struct vireo_machine *m);
int vireo_machine_resume(struct vireo_machine *m);
void vireo_machine_hold(struct vireo_machine *m, bool hold);
void vireo_machine_end(struct vireo_machine *m, enum vireo_end end, struct vireo_vcpu *vcpu,
		       const char *fmt, ...) VIREO_PRINTF(4, 5);
void vireo_machine_join(struct vireo_machine *m);
void vireo_machine_dump(struct vireo_machine *m, FILE *out);
void vireo_machine_destroy(struct vireo_machine *m);

/* ---- fork.c ---------------------------------------------------------------- */

#define VIREO_STATE_MSRS	64

/**
 * struct vireo_vcpu_state - all that a vCPU holds
 * @regs: registers
 * @lapic: its APIC and timer
 * @xsave: extended state, vireo_info.xsave_size bytes
 * @msrs: number of @msr
 * @msr: in the order in which they are to be set
 */
struct vireo_vcpu_state {
	struct vireo_regs regs;
	struct vireo_lapic lapic;
	void *xsave;
	unsigned int msrs;
	struct vireo_msr msr[VIREO_STATE_MSRS];
};

/**
 * struct vireo_clone - what a clone is to have of its own
 * @name: its name
 * @disk_dir: directory for its disk images, NULL: each next to the one that it is of
 * @net: its first interface, the second and so on: a name, which may hold one %d, "": as
 *	the machine's own, with the first number that is free; and a bridge, "": that
 *	of the machine's own
 */
struct vireo_clone {
	const char *name;
	const char *disk_dir;
	struct {
		char name[16];
		char bridge[16];
	} net[VIREO_PCI_SLOTS + VIREO_PORTS];
};

int vireo_machine_can_fork(struct vireo_machine *m, struct vireo_error *err);
int vireo_machine_suspend(struct vireo_machine *m, struct vireo_error *err);
int vireo_machine_freeze(struct vireo_machine *m, struct vireo_error *err);
void vireo_machine_thaw(struct vireo_machine *m);
int vireo_machine_serve(struct vireo_machine *m, bool here, struct vireo_error *err);
struct vireo_vcpu_state *vireo_machine_save(struct vireo_machine *m, struct vireo_error *err);
void vireo_state_free(struct vireo_vcpu_state *state, __u32 vcpus);
int vireo_machine_load(struct vireo_machine *m, struct vireo_vcpu_state *state,
		       struct vireo_error *err);
int vireo_vm_fork(int vm, struct vireo_error *err);
void vireo_machine_inherit(struct vireo_machine *m);
int vireo_vm_become(struct vireo_vm *vm, int fd, struct vireo_error *err);
int vireo_machine_renew_identity(struct vireo_machine *m, struct vireo_error *err);
int vireo_machine_become(struct vireo_machine *m, int fd, struct vireo_vcpu_state *state,
			 const struct vireo_clone *clone, struct vireo_error *err);

/* ---- snapshot.c ------------------------------------------------------------ */

#define VIREO_SNAPSHOT_VERSION	1

/**
 * struct vireo_state - bytes that a state is stored in or loaded from
 * @data: the bytes
 * @end: how many
 * @at: those that are done
 * @room: storing: how many @data can hold
 * @load: direction
 * @bad: it cannot be: see vireo_state_done()
 */
struct vireo_state {
	__u8 *data;
	size_t end;
	size_t at;
	size_t room;
	bool load;
	bool bad;
};

/**
 * struct vireo_state_head - what must be known before there is a machine
 * @vcpus: processors
 * @slots: see vireo_machine_slots()
 * @memory: bytes of RAM
 * @vendor: VIREO_FEAT_SVM or VIREO_FEAT_VMX
 * @xcr0: of the host
 * @xsave_size: of the host
 * @host_khz: rate of the host's TSC
 * @host_tsc: then
 * @real_ns: time of day then
 * @clock: the guest's
 * @advance: not stored: the guest's time goes on as if it had run since
 */
struct vireo_state_head {
	__u32 vcpus;
	__u32 slots;
	__u64 memory;
	__u64 vendor;
	__u64 xcr0;
	__u32 xsave_size;
	__u32 host_khz;
	__u64 host_tsc;
	__u64 real_ns;
	struct vireo_timebase clock;
	bool advance;
};

int vireo_machine_can_snapshot(struct vireo_machine *m, struct vireo_error *err);
int vireo_state_store(struct vireo_state *s, struct vireo_machine *m, struct vireo_uart *uart,
		      struct vireo_vcpu_state *vcpu, struct vireo_error *err);
int vireo_state_head(struct vireo_state *s, struct vireo_state_head *h,
		     const struct vireo_info *info, struct vireo_error *err);
int vireo_state_load(struct vireo_state *s, const struct vireo_state_head *h,
		     struct vireo_machine *m, struct vireo_uart *uart, struct vireo_error *err);
int vireo_state_done(const struct vireo_state *s, struct vireo_error *err);
void vireo_state_close(struct vireo_state *s);

/* ---- store.c --------------------------------------------------------------- */

/* A range of memory that is stored; crc: CRC-32 of its content */
struct vireo_extent {
	__u64 gpa;
	__u64 bytes;
	__u32 crc;
	__u32 reserved;
};

#define VIREO_STORE_DISKS	(VIREO_PCI_SLOTS + VIREO_PORTS)

#define VIREO_CONTENT_OVERLAY	1	/* blocks that stand for those of an image */
#define VIREO_CONTENT_IMAGE	2	/* a whole disk, without extents */

/**
 * struct vireo_content - a file of a snapshot that holds memory, or a disk
 * @name: in the directory
 * @kind: of a disk: VIREO_CONTENT_*
 * @number: ... which
 * @fd: the file
 * @bytes: its length
 * @extents: number of @extent
 * @extent: what is stored
 */
struct vireo_content {
	char name[16];
	__u32 kind;
	__u32 number;
	int fd;
	__u64 bytes;
	size_t extents;
	struct vireo_extent *extent;
};

/**
 * struct vireo_store - a snapshot's directory, being written or read
 * @path: of it
 * @id: of the snapshot
 * @parent: of the one that it is an increment of; all zero: none
 * @memory: the memory
 * @disks: number of @disk
 * @disk: disks that it holds
 * @state: reading: the machine
 * @progress: writing: called now and then; may be NULL
 * @total: bytes to write, of what has begun
 * @done: ... that were written
 * @written: ... that were not zero, but for images
 */
struct vireo_store {
	char path[4096];
	__u8 id[16];
	__u8 parent[16];
	struct vireo_content memory;
	unsigned int disks;
	struct vireo_content disk[VIREO_STORE_DISKS];
	struct vireo_state state;
	void (*progress)(const struct vireo_store *s);
	__u64 total;
	__u64 done;
	__u64 written;
	/* private: */
	int dir;
	int parent_dir;
	char new_name[256];
};

int vireo_store_create(struct vireo_store *s, const char *path, struct vireo_error *err);
int vireo_store_memory(struct vireo_store *s, int vm, int base, struct vireo_error *err);
int vireo_store_overlay(struct vireo_store *s, __u32 number, int vm, struct vireo_error *err);
bool vireo_store_can_share(struct vireo_store *s, int image);
int vireo_store_image(struct vireo_store *s, __u32 number, int image, bool copy,
		      struct vireo_error *err);
int vireo_store_commit(struct vireo_store *s, const void *machine, size_t len,
		       const char *config, struct vireo_error *err);
int vireo_store_open(struct vireo_store *s, const char *path, struct vireo_error *err);
char *vireo_store_config(struct vireo_store *s, struct vireo_error *err);
int vireo_store_verify(struct vireo_store *s, struct vireo_error *err);
int vireo_store_map(struct vireo_store *s, struct vireo_vm *vm, __u64 bytes, bool eager,
		    struct vireo_error *err);
int vireo_store_apply(struct vireo_store *s, struct vireo_vm *vm, struct vireo_error *err);
struct vireo_content *vireo_store_disk(struct vireo_store *s, __u32 number, __u32 kind);
int vireo_store_map_overlay(struct vireo_store *s, struct vireo_content *c, struct vireo_vm *vm,
			    bool eager, struct vireo_error *err);
int vireo_store_give_image(struct vireo_store *s, struct vireo_content *c, const char *path,
			   bool copy, struct vireo_error *err);
int vireo_store_remove(const char *path, struct vireo_error *err);
void vireo_store_close(struct vireo_store *s);

/* ---- regs.c ---------------------------------------------------------------- */

void vireo_regs_brief(const struct vireo_regs *regs, FILE *out);
void vireo_regs_print(const struct vireo_regs *regs, FILE *out);

#endif /* _LIBVIREO_H */
