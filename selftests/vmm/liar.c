// SPDX-License-Identifier: GPL-2.0
/*
 * A host that lies to its guest's drivers:
 *
 *	liar KERNEL INITRD VCPUS APPEND
 *
 * runs a VM with one device of each kind, which keep the rules until the guest
 * prints a byte of 0x80 + the number of a lie.  Its serial port is standard output;
 * the status is how the VM ended, as vireo-run has it.
 *
 * The devices have nothing behind them: what is read is what was in the buffer,
 * and what is written or sent is thrown away.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include <libvireo.h>

#define ASK		0x80	/* first byte that is not text */
#define SECTORS		8192U

enum lie {			/* jobs/liar.sh counts on their order */
	HONEST,
	WILD,			/* tags that nobody gave */
	TWICE,			/* everything ends twice */
	LONG,			/* longer than its buffers */
	JUMP,			/* comp_tail runs ahead */
	BACK,			/* ... and back */
	ERROR,			/* error is set */
	STATUS,			/* a status that there is not */
	INFO,			/* offloads that make no sense */
	NEVER,			/* nothing ends */
	NOISE,			/* the ring is overwritten, again and again */
	CONFIG,			/* the config part is another at every look */
	REGISTERS,		/* all registers are */
	STORM,			/* interrupts without end */
	LIES,
};

enum { DISK, NET, CONSOLE, RNG, KINDS };

struct liar {
	struct vireo_pv pv;
	int kind;
	struct vireo_pci_ops ops;
	const struct vireo_pci_ops *real;
};

static struct vireo_machine machine;
static struct liar device[KINDS];
static struct vireo_uart uart;
static pthread_mutex_t uart_lock = PTHREAD_MUTEX_INITIALIZER;
static int lie;			/* under the bridge's lock, or it does not matter */

static __u32 number(void)
{
	__u32 value = 0;

	return getrandom(&value, sizeof(value), 0) == sizeof(value) ? value : 0;
}

/* ---- Rings --------------------------------------------------------------------------- */

/* What an honest completion says */
static __u32 honest_len(const struct liar *l, struct vireo_sring *r, unsigned int queue,
			const void *entry)
{
	const struct vireo_blk_sub *sub = entry;
	struct vireo_seg seg[VIREO_RING_INDIRECT];
	struct vireo_error err;
	unsigned int i;
	__u32 sum = 0;

	if (l->kind == NET)
		return queue & 1 ? 0 : 64;
	if (l->kind == CONSOLE)
		return queue == VIREO_CONSOLE_IN;
	if (l->kind == DISK && sub->op != VIREO_BLK_READ)
		return 0;
	if (!(sub->flags & VIREO_SUB_INDIRECT))
		memcpy(seg, sub->seg, sizeof(sub->seg));
	else if (sub->nsegs > VIREO_RING_INDIRECT ||
		 vireo_vm_read(r->vm, sub->seg[0].gpa, seg, sub->nsegs * sizeof(*seg), &err))
		return 0;
	for (i = 0; i < sub->nsegs && (i < VIREO_RING_SEGS || sub->flags); i++)
		sum += seg[i].len;
	return sum;
}

static void overwrite(struct vireo_sring *r)
{
	static __u8 noise[VIREO_RING_BYTES(VIREO_RING_MAX)];
	struct vireo_error err;

	if (getrandom(noise, 256, 0) == 256)
		memcpy(noise + number() % (sizeof(noise) - 256), noise, 256);
	vireo_vm_write(r->vm, r->gpa, noise, VIREO_RING_BYTES(r->entries), &err);
}

static void end(struct liar *l, struct vireo_sring *r, unsigned int queue, void *entry)
{
	struct vireo_blk_sub *sub = entry;	/* the tag is in the same place in all */
	__u32 len = honest_len(l, r, queue, entry);
	__u16 status = VIREO_COMP_OK;
	struct vireo_error err;
	__u8 info[8];

	if (lie == WILD)
		sub->tag = (__u16)number();
	if (lie == LONG)
		len = number() & 1 ? len + 1 : 0xffffffff;
	if (lie == STATUS)
		status = (__u16)(0x1000 | number());
	vireo_sring_complete(r, entry, status, len, 0);
	if (lie == INFO && getrandom(info, sizeof(info), 0) == sizeof(info))
		vireo_vm_write(r->vm, r->gpa + VIREO_RING_COMP +
			       ((r->tail - 1) & (r->entries - 1)) * sizeof(struct vireo_comp) +
			       offsetof(struct vireo_comp, info), info, sizeof(info), &err);
	if (lie == TWICE) {
		vireo_sring_complete(r, entry, status, len, 0);
		r->head--;
	}
}

static void bell(struct vireo_pv *pv, unsigned int queue)
{
	struct liar *l = (struct liar *)pv;
	struct vireo_sring *r = &pv->queue[queue].sring;
	struct vireo_error err;
	__u8 entry[VIREO_RING_ENTRY];
	__u32 error = 77;
	/* Few of what is received, so that there are always some */
	unsigned int left = (l->kind == NET || l->kind == CONSOLE) && !(queue & 1) ? 2 : 64;

	if (lie == NEVER || !r->entries)
		return;
	while (left-- && vireo_sring_next(r, entry))
		end(l, r, queue, entry);
	if (lie == JUMP)
		r->tail += 1000;
	if (lie == BACK)
		r->tail -= 2;
	vireo_sring_show(r);
	if (lie == ERROR)
		vireo_vm_write(r->vm, r->gpa + offsetof(struct vireo_ring_ctl, error), &error,
			       sizeof(error), &err);
	if (lie == NOISE)
		overwrite(r);
	vireo_pv_interrupt(pv, queue);
}

/* Sending makes something come. */
static void doorbell(struct vireo_pv *pv, unsigned int queue)
{
	bell(pv, queue);
	if ((((struct liar *)pv)->kind == NET || ((struct liar *)pv)->kind == CONSOLE) &&
	    (queue & 1))
		bell(pv, queue - 1);
}

/* ---- Registers ----------------------------------------------------------------------- */

static __u32 bar_read(void *ctx, __u32 offset)
{
	struct liar *l = (struct liar *)ctx;

	if (lie == REGISTERS || (lie == CONFIG && offset >= VIREO_REG_CONFIG &&
				 offset < VIREO_REG_QUEUE(0)))
		return number() & 1 ? number() : number() & 0x1fff;
	return l->real->read(ctx, offset);
}

static int refresh(struct vireo_pv *pv, void *config, struct vireo_error *err)
{
	(void)err;
	memcpy(config, pv->config, sizeof(pv->config));
	return 0;
}

static void destroy(struct vireo_pv *pv)
{
	(void)pv;
}

#define OPS(name)	{ .kind = name, .refresh = refresh, .doorbell = doorbell, \
			  .destroy = destroy }

static const struct vireo_pv_ops pv_ops[KINDS] = {
	OPS("disk"), OPS("net"), OPS("console"), OPS("rng")
};

static int add(int kind, struct vireo_error *err)
{
	struct vireo_blk_config disk = {
		.sectors = SECTORS, .logical_block = 512, .physical_block = 4096,
		.max_bytes = VIREO_BLK_MAX_BYTES, .max_discard = 1024, .discard_align = 4096,
	};
	struct vireo_net_config net = {
		.mac = { 2, 0, 0, 0, 0, 1 }, .link = 1, .mtu = 1500, .max_packet = 65550,
	};
	struct liar *l = &device[kind];
	int ret;

	l->kind = kind;
	l->pv.ops = &pv_ops[kind];
	l->pv.vm = &machine.vm;
	l->pv.fd = -1;
	l->pv.queues = kind == DISK || kind == RNG ? 1 : 2;
	l->pv.queue_max = 256;
	l->pv.config_len = VIREO_PV_CONFIG;
	if (kind == DISK) {
		l->pv.offered = VIREO_BLK_F_FLUSH | VIREO_BLK_F_DISCARD | VIREO_BLK_F_ZEROES;
		memcpy(l->pv.config, &disk, sizeof(disk));
	} else if (kind == NET) {
		l->pv.offered = VIREO_NET_F_CSUM | VIREO_NET_F_TSO | VIREO_NET_F_RX_CSUM |
				VIREO_NET_F_RX_TSO;
		memcpy(l->pv.config, &net, sizeof(net));
	} else if (kind == CONSOLE) {
		l->pv.offered = VIREO_CONSOLE_F_SIZE;
	}
	ret = vireo_machine_add(&machine, &l->pv, VIREO_SLOT_NONE, err);
	if (ret)
		return ret;
	l->real = l->pv.function.ops;
	l->ops = *l->real;
	l->ops.read = bar_read;
	l->pv.function.ops = &l->ops;
	return 0;
}

/* ---- Ports --------------------------------------------------------------------------- */

static bool transmit(void *ctx, __u8 byte)
{
	(void)ctx;
	if (byte >= ASK)
		lie = byte - ASK < LIES ? byte - ASK : HONEST;
	else if (write(STDOUT_FILENO, &byte, 1) != 1)
		return true;	/* nobody reads it */
	return true;
}

static bool ready(void *ctx)
{
	(void)ctx;
	return true;
}

static void interrupt(void *ctx)
{
	struct vireo_msi msi;

	(void)ctx;
	if (vireo_ioapic_raise(&machine.ioapic, VIREO_PIN_COM1, &msi))
		vireo_vm_inject_msi(&machine.vm, &msi);
}

static __u64 com1_read(void *ctx, struct vireo_vcpu *vcpu, __u64 offset, unsigned int width)
{
	__u64 value;

	(void)ctx;
	(void)vcpu;
	(void)width;
	pthread_mutex_lock(&uart_lock);
	value = vireo_uart_in(&uart, (unsigned int)offset);
	pthread_mutex_unlock(&uart_lock);
	return value;
}

static void com1_write(void *ctx, struct vireo_vcpu *vcpu, __u64 offset, unsigned int width,
		       __u64 value)
{
	(void)ctx;
	(void)vcpu;
	(void)width;
	pthread_mutex_lock(&uart_lock);
	vireo_uart_out(&uart, (unsigned int)offset, (__u8)value);
	pthread_mutex_unlock(&uart_lock);
}

static int add_com1(void)
{
	struct vireo_device com1 = {
		.name = "COM1", .base = VIREO_PORT_COM1, .len = 8,
		.read = com1_read, .write = com1_write,
	};

	uart.transmit = transmit;
	uart.ready = ready;
	uart.interrupt = interrupt;
	vireo_uart_init(&uart);
	return vireo_bus_add(&machine.ports, &com1);
}

/* ---- The run ------------------------------------------------------------------------- */

/* What happens without the guest's doing */
static void disturb(void)
{
	static int last;
	unsigned int i, q;

	pthread_mutex_lock(&machine.pci.lock);
	for (i = 0; i < KINDS; i++) {
		struct vireo_pv *pv = &device[i].pv;

		for (q = 0; q < pv->queues && pv->queue[q].sring.entries; q++) {
			if (lie == NOISE)
				overwrite(&pv->queue[q].sring);
			if (lie == NOISE || lie == STORM)
				vireo_pv_interrupt(pv, q);
			if (lie == HONEST && last == NEVER)
				bell(pv, q);
		}
		if (lie == CONFIG || lie == REGISTERS || lie == STORM) {
			pv->changed = true;
			pv->function.ops->route(pv, pv->vector);
		}
	}
	last = lie;
	pthread_mutex_unlock(&machine.pci.lock);
}

static int run(char **argv, struct vireo_error *err)
{
	struct vireo_boot boot = {
		.kernel = argv[1], .initrd = argv[2], .cmdline = argv[4],
		.vcpus = (__u32)atoi(argv[3]),
	};
	int ret, kind;

	ret = vireo_machine_create(&machine, boot.vcpus, 256 * VIREO_MIB, err);
	if (ret)
		return ret;
	ret = add_com1();
	for (kind = 0; kind < KINDS && !ret; kind++)
		ret = add(kind, err);
	if (!ret)
		ret = vireo_boot(&machine.vm, &machine.thread[0].vcpu, &boot, err);
	return ret ? ret : vireo_machine_start(&machine, err);
}

int main(int argc, char **argv)
{
	struct vireo_error err = { .code = 0 };
	struct pollfd pfd = { .events = POLLIN };
	int ret;

	if (argc != 5) {
		fprintf(stderr, "usage: liar KERNEL INITRD VCPUS APPEND\n");
		return 2;
	}
	ret = run(argv, &err);
	if (ret) {
		fprintf(stderr, "liar: %s\n", err.code ? err.text : strerror(-ret));
		return 1;
	}
	pfd.fd = machine.end_fd;
	while (poll(&pfd, 1, 2) <= 0)
		disturb();
	vireo_machine_join(&machine);
	fprintf(stderr, "liar: %s\n", machine.end_text);
	ret = (int)machine.end;
	vireo_machine_destroy(&machine);
	return ret;
}
