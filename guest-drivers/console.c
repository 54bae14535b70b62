// SPDX-License-Identifier: GPL-2.0
/*
 * vireo_console: terminals, /dev/hvc0, hvc1, ..., and the kernel's console on the
 * first of them.
 *
 * What is printed is copied into a buffer and stays there until the device has
 * taken it: when all buffers wait, a writer sleeps, and the kernel, which cannot,
 * waits for a moment and then drops what it has.  Input stays with the device
 * while nobody has the terminal open, or while who has it does not read.
 *
 * The lock protects rings and buffers, and is not held over the doorbell.  The
 * mutex keeps apart those who take the device down and bring it up.  The kernel
 * prints with any lock held, the scheduler's among them, so that path wakes nobody:
 * it leaves that to an irq_work.
 */
#include <linux/console.h>
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/irq_work.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/tty.h>
#include <linux/tty_driver.h>
#include <linux/tty_flip.h>

#include "../uapi/vireo_console.h"
#include "compat.h"
#include "ring.h"

#define CONSOLES	8
#define ENTRIES		16U
#define IN_BYTES	256U	/* of a buffer */
#define OUT_BYTES	1024U
#define PATIENCE_US	1000000
#define STEP_US		50

static_assert(sizeof(struct vireo_console_sub) == VIREO_RING_ENTRY);
static_assert(OUT_BYTES <= VIREO_CONSOLE_MAX_BYTES);

static struct tty_driver *tty_driver;
static DEFINE_MUTEX(table_lock);
static struct con_dev *table[CONSOLES];	/* by the number of the tty; an error: it goes */

/**
 * struct con_buf - a buffer; its number is the tag of its entry
 * @list: on con_dev.free or .waiting
 * @data: its memory
 * @dma: address of that
 * @len: bytes in it
 */
struct con_buf {
	struct list_head list;
	void *data;
	dma_addr_t dma;
	u32 len;
};

/**
 * struct con_dev - a console
 * @vd: its PCI function
 * @port: its terminal; the last reference frees this
 * @console: the kernel's
 * @index: number of the tty
 * @in: queue of what is typed
 * @out: queue of what is printed
 * @memory: of all buffers
 * @dma: address of that
 * @lock: (l) see above
 * @mutex: (m) likewise
 * @up: (l) the queues are enabled
 * @dead: (m) for good; a tty is hung up after that was set
 * @open: (l) somebody reads
 * @throttled: (l) ... but not now
 * @stuck: (l) the device takes nothing: the kernel does not wait for it
 * @queued: (l) bytes that wait
 * @free: (l) buffers to print from
 * @waiting: (l) those with the device, in order
 * @in_buf: buffers for input
 * @out_buf: and for output
 * @vector: of the queues
 * @features: in use
 * @size: of the terminal
 * @config_work: the config part changed
 * @reset_work: something is wrong with the device
 * @later: wakes those who wait for room, or has @reset_work done
 */
struct con_dev {
	struct vireo_dev vd;
	struct tty_port port;
	struct console console;
	unsigned int index;
	struct vireo_queue in;
	struct vireo_queue out;
	void *memory;
	dma_addr_t dma;
	spinlock_t lock;	/* see above */
	struct mutex mutex;	/* see above */
	bool up;
	bool dead;
	bool open;
	bool throttled;
	bool stuck;
	unsigned int queued;
	struct list_head free;
	struct list_head waiting;
	struct con_buf in_buf[ENTRIES];
	struct con_buf out_buf[ENTRIES];
	unsigned int vector;
	u64 features;
	struct winsize size;
	struct work_struct config_work;
	struct work_struct reset_work;
	struct irq_work later;
};

/* ---- Entries ------------------------------------------------------------------------------- */

/* Give a buffer to the device.  The lock is held. */
static int put_buf(struct vireo_queue *q, struct con_buf *buf, unsigned int tag, u32 len)
{
	struct vireo_console_sub sub = {
		.nsegs = cpu_to_le16(1),
		.tag = cpu_to_le16(tag),
		.seg[0] = { .gpa = cpu_to_le64(buf->dma), .len = cpu_to_le32(len) },
	};

	return vireo_ring_put(&q->ring, &sub, tag, buf);
}

/* Whether not to wait for the lock: after an oops, whoever did that may hold it for ever. */
static bool gives_up(void)
{
	cpu_relax();
	return oops_in_progress;
}

static void later(struct irq_work *work)
{
	struct con_dev *c = container_of(work, struct con_dev, later);

	if (c->in.ring.broken || c->out.ring.broken)
		schedule_work(&c->reset_work);
	tty_port_tty_wakeup(&c->port);
}

/* ---- Output -------------------------------------------------------------------------------- */

/* Take back the buffers that were printed; whether there were any.  The lock is held. */
static bool take_out(struct con_dev *c)
{
	struct vireo_ring *r = &c->out.ring;
	struct vireo_comp comp;
	struct con_buf *buf;
	bool any = false;

	do {
		while ((buf = vireo_ring_take(r, &comp))) {
			if (comp.len)
				vireo_ring_break(r, "a completion longer than its buffers");
			list_move_tail(&buf->list, &c->free);
			c->queued -= buf->len;
			c->stuck = false;
			any = true;
		}
		vireo_ring_release(r);
	} while (!r->broken && !list_empty(&c->waiting) && vireo_ring_arm(r, 1));
	return any;
}

static void harvest_out(struct con_dev *c)
{
	unsigned long flags;
	bool any;

	while (!spin_trylock_irqsave(&c->lock, flags))
		if (gives_up())
			return;
	any = !c->out.ring.broken && (take_out(c) || c->out.ring.broken);
	spin_unlock_irqrestore(&c->lock, flags);
	if (any)
		irq_work_queue(&c->later);
}

/* Copy into buffers what they hold; how much.  The lock is held. */
static size_t fill_out(struct con_dev *c, const u8 *data, size_t len)
{
	struct con_buf *buf;
	size_t done = 0;

	while (c->up && done < len && !list_empty(&c->free)) {
		buf = list_first_entry(&c->free, struct con_buf, list);
		buf->len = min_t(size_t, len - done, OUT_BYTES);
		memcpy(buf->data, data + done, buf->len);
		if (put_buf(&c->out, buf, buf - c->out_buf, buf->len))
			break;
		list_move_tail(&buf->list, &c->waiting);
		c->queued += buf->len;
		done += buf->len;
	}
	return done;
}

static size_t print(struct con_dev *c, const u8 *data, size_t len)
{
	unsigned long flags;
	size_t done;
	bool ring;

	while (!spin_trylock_irqsave(&c->lock, flags))
		if (gives_up())
			return 0;
	done = fill_out(c, data, len);
	ring = c->up && vireo_ring_publish(&c->out.ring);
	if (ring)	/* what it takes at once needs no interrupt */
		vireo_ring_silence(&c->out.ring);
	spin_unlock_irqrestore(&c->lock, flags);
	if (ring) {
		vireo_queue_kick(&c->out);
		harvest_out(c);
	}
	return done;
}

/* ---- Input --------------------------------------------------------------------------------- */

/* Give what was typed to the tty; whether there was something.  The lock is held. */
static bool take_in(struct con_dev *c)
{
	struct vireo_ring *r = &c->in.ring;
	struct vireo_comp comp;
	struct con_buf *buf;
	bool any = false;
	u32 len;

	do {
		while (c->open && !c->throttled && (buf = vireo_ring_take(r, &comp))) {
			len = le32_to_cpu(comp.len);
			if (len > IN_BYTES)
				vireo_ring_break(r, "a completion longer than its buffers");
			else if (le16_to_cpu(comp.status) == VIREO_COMP_OK)
				tty_insert_flip_string(&c->port, buf->data, len);
			any = true;
			put_buf(&c->in, buf, buf - c->in_buf, IN_BYTES);
		}
		vireo_ring_release(r);
	} while (c->open && !c->throttled && !r->broken && vireo_ring_arm(r, 1));
	return any;
}

static void harvest_in(struct con_dev *c)
{
	bool any, broke, ring = false;
	unsigned long flags;

	spin_lock_irqsave(&c->lock, flags);
	broke = c->in.ring.broken;
	any = !broke && take_in(c);
	if (any)
		ring = vireo_ring_publish(&c->in.ring);
	broke = !broke && c->in.ring.broken;
	spin_unlock_irqrestore(&c->lock, flags);
	if (broke)
		irq_work_queue(&c->later);
	if (ring)
		vireo_queue_kick(&c->in);
	if (any)
		tty_flip_buffer_push(&c->port);
}

static irqreturn_t queue_irq(int irq, void *data)
{
	harvest_out(data);
	harvest_in(data);
	return IRQ_HANDLED;	/* one without need is nothing bad */
}

static irqreturn_t config_irq(int irq, void *data)
{
	struct con_dev *c = data;

	schedule_work(&c->config_work);
	if (!c->vector)	/* the queues have only this one */
		queue_irq(irq, data);
	return IRQ_HANDLED;
}

/* ---- The terminal -------------------------------------------------------------------------- */

static struct con_dev *to_con(struct tty_port *port)
{
	return container_of(port, struct con_dev, port);
}

/* The first to open it */
static int port_activate(struct tty_port *port, struct tty_struct *tty)
{
	struct con_dev *c = to_con(port);

	if (c->size.ws_col)
		tty->winsize = c->size;
	spin_lock_irq(&c->lock);
	c->open = true;
	c->throttled = false;
	spin_unlock_irq(&c->lock);
	harvest_in(c);
	return 0;
}

/* The last to close it */
static void port_shutdown(struct tty_port *port)
{
	struct con_dev *c = to_con(port);

	spin_lock_irq(&c->lock);
	c->open = false;
	spin_unlock_irq(&c->lock);
}

static void port_destruct(struct tty_port *port)
{
	kfree(to_con(port));
}

static const struct tty_port_operations port_ops = {
	.activate = port_activate,
	.shutdown = port_shutdown,
	.destruct = port_destruct,
};

/* A tty holds its console from here until con_cleanup(). */
static int con_install(struct tty_driver *driver, struct tty_struct *tty)
{
	struct con_dev *c;
	int err;

	mutex_lock(&table_lock);
	c = table[tty->index];
	if (!IS_ERR_OR_NULL(c))
		tty_port_get(&c->port);
	mutex_unlock(&table_lock);
	if (IS_ERR_OR_NULL(c))
		return -ENODEV;
	tty->driver_data = c;
	err = tty_port_install(&c->port, driver, tty);
	if (err)
		tty_port_put(&c->port);
	return err;
}

static void con_cleanup(struct tty_struct *tty)
{
	struct con_dev *c = tty->driver_data;

	tty_port_put(&c->port);
}

/*
 * A tty that was hung up is opened again as long as anybody holds it, also when its
 * device is gone and another one has its number.
 */
static int con_open(struct tty_struct *tty, struct file *file)
{
	struct con_dev *c = tty->driver_data;

	if (READ_ONCE(c->dead))
		return -EIO;
	return tty_port_open(&c->port, tty, file);
}

static void con_close(struct tty_struct *tty, struct file *file)
{
	struct con_dev *c = tty->driver_data;

	tty_port_close(&c->port, tty, file);
}

static void con_hangup(struct tty_struct *tty)
{
	struct con_dev *c = tty->driver_data;

	tty_port_hangup(&c->port);
}

static compat_written con_write(struct tty_struct *tty, const u8 *data, compat_count count)
{
	struct con_dev *c = tty->driver_data;

	return READ_ONCE(c->dead) ? -EIO : print(c, data, count);
}

static unsigned int con_write_room(struct tty_struct *tty)
{
	struct con_dev *c = tty->driver_data;
	unsigned int room = 0;
	struct con_buf *buf;
	unsigned long flags;

	spin_lock_irqsave(&c->lock, flags);
	if (c->up)
		list_for_each_entry(buf, &c->free, list)
			room += OUT_BYTES;
	spin_unlock_irqrestore(&c->lock, flags);
	return room;
}

static unsigned int con_chars_in_buffer(struct tty_struct *tty)
{
	struct con_dev *c = tty->driver_data;

	return READ_ONCE(c->queued);
}

static void con_throttle(struct tty_struct *tty)
{
	struct con_dev *c = tty->driver_data;

	spin_lock_irq(&c->lock);
	c->throttled = true;
	spin_unlock_irq(&c->lock);
}

static void con_unthrottle(struct tty_struct *tty)
{
	struct con_dev *c = tty->driver_data;

	spin_lock_irq(&c->lock);
	c->throttled = false;
	spin_unlock_irq(&c->lock);
	harvest_in(c);
}

static const struct tty_operations con_ops = {
	.install = con_install,
	.cleanup = con_cleanup,
	.open = con_open,
	.close = con_close,
	.hangup = con_hangup,
	.write = con_write,
	.write_room = con_write_room,
	.chars_in_buffer = con_chars_in_buffer,
	.throttle = con_throttle,
	.unthrottle = con_unthrottle,
};

/* ---- The kernel's console ------------------------------------------------------------------- */

/* Print, and wait for a moment where there is no room; whether all was printed. */
static bool print_all(struct con_dev *c, const u8 *data, size_t len)
{
	unsigned int waited = 0;
	size_t done;

	while (len) {
		done = print(c, data, len);
		data += done;
		len -= done;
		if (done) {
			waited = 0;
			continue;
		}
		if (!READ_ONCE(c->up) || READ_ONCE(c->stuck))
			return false;
		if (waited >= PATIENCE_US) {
			WRITE_ONCE(c->stuck, true);	/* until it takes something */
			return false;
		}
		udelay(STEP_US);
		waited += STEP_US;
		harvest_out(c);
	}
	return true;
}

static void console_print(struct console *console, const char *text, unsigned int len)
{
	u8 chunk[128];
	unsigned int n;

	while (len) {
		for (n = 0; len && n < sizeof(chunk) - 1; len--) {
			if (*text == '\n')
				chunk[n++] = '\r';
			chunk[n++] = *text++;
		}
		if (!print_all(console->data, chunk, n))
			return;
	}
}

static struct tty_driver *console_tty(struct console *console, int *index)
{
	*index = console->index;
	return tty_driver;
}

/* ---- Down and up ---------------------------------------------------------------------------- */

/* What was not printed stays, and is put again when the device is up. */
static void con_down(struct con_dev *c)
{
	struct vireo_queue *queue[2] = { &c->in, &c->out };
	unsigned int i;
	u32 tag;

	lockdep_assert_held(&c->mutex);
	vireo_dev_reset(&c->vd);
	spin_lock_irq(&c->lock);
	if (c->up) {	/* what is complete is complete */
		take_out(c);
		c->throttled = false;
		take_in(c);
	}
	c->up = false;
	for (i = 0; i < 2; i++) {
		tag = 0;
		vireo_ring_break(&queue[i]->ring, "it was reset");
		while (vireo_ring_abandon(&queue[i]->ring, &tag))
			continue;
	}
	if (c->dead) {
		list_splice_init(&c->waiting, &c->free);
		c->queued = 0;
	}
	spin_unlock_irq(&c->lock);
	tty_flip_buffer_push(&c->port);
	tty_port_tty_wakeup(&c->port);
}

/* All buffers for input, and what waits to be printed.  The lock is held. */
static void put_all(struct con_dev *c)
{
	struct con_buf *buf;
	unsigned int i;

	for (i = 0; i < ENTRIES; i++)
		put_buf(&c->in, &c->in_buf[i], i, IN_BYTES);
	list_for_each_entry(buf, &c->waiting, list)
		put_buf(&c->out, buf, buf - c->out_buf, buf->len);
	vireo_ring_publish(&c->in.ring);
	vireo_ring_publish(&c->out.ring);
	c->up = true;
}

static int con_up(struct con_dev *c)
{
	int err = -EIO;

	lockdep_assert_held(&c->mutex);
	if (!c->dead)
		err = vireo_dev_accept(&c->vd, c->features, 0);
	spin_lock_irq(&c->lock);
	if (!err)
		err = vireo_queue_enable(&c->in, c->vector);
	if (!err)
		err = vireo_queue_enable(&c->out, c->vector);
	if (!err)
		put_all(c);
	spin_unlock_irq(&c->lock);
	if (err) {
		c->dead = true;
		con_down(c);
		return err;
	}
	vireo_queue_kick(&c->in);
	vireo_queue_kick(&c->out);
	harvest_out(c);
	harvest_in(c);
	tty_port_tty_wakeup(&c->port);
	return 0;
}

static void hang_up(struct con_dev *c)
{
	struct tty_struct *tty = tty_port_tty_get(&c->port);

	if (tty)
		tty_vhangup(tty);
	tty_kref_put(tty);
}

/* A device that lies is not asked twice; one that says that it needs a reset gets it. */
static void reset_work(struct work_struct *work)
{
	struct con_dev *c = container_of(work, struct con_dev, reset_work);
	bool gone, failed;

	mutex_lock(&c->mutex);
	gone = vireo_dev_gone(&c->vd);
	failed = !gone && vireo_dev_failed(&c->vd);
	if (c->up && (gone || failed || READ_ONCE(c->in.ring.broken) ||
		      READ_ONCE(c->out.ring.broken))) {
		if (c->in.ring.broken)
			vireo_queue_report(&c->in);
		if (c->out.ring.broken)
			vireo_queue_report(&c->out);
		c->dead |= !failed;
		con_down(c);
		if (failed)
			con_up(c);
		dev_err(&c->vd.pci->dev, "hvc%u: %s\n", c->index,
			failed ? "failed and was reset" : "cannot be used any more");
		if (c->dead)
			hang_up(c);
	}
	mutex_unlock(&c->mutex);
}

static int read_size(struct con_dev *c)
{
	struct vireo_console_config config;
	int err;

	if (!(c->features & VIREO_CONSOLE_F_SIZE))
		return 0;
	err = vireo_dev_config(&c->vd, &config, sizeof(config));
	if (err)
		return err;
	c->size.ws_col = min_t(u32, le32_to_cpu(config.columns), U16_MAX);
	c->size.ws_row = min_t(u32, le32_to_cpu(config.rows), U16_MAX);
	return 0;
}

static void config_work(struct work_struct *work)
{
	struct con_dev *c = container_of(work, struct con_dev, config_work);
	struct tty_struct *tty;

	mutex_lock(&c->mutex);
	if (!c->up)
		goto out;
	if (vireo_dev_failed(&c->vd)) {
		schedule_work(&c->reset_work);
		goto out;
	}
	tty = tty_port_tty_get(&c->port);
	if (!read_size(c) && tty)
		tty_do_resize(tty, &c->size);
	tty_kref_put(tty);
out:
	mutex_unlock(&c->mutex);
}

/* ---- Interrupts and buffers ------------------------------------------------------------------ */

static void free_irqs(struct con_dev *c)
{
	if (c->vector)
		free_irq(pci_irq_vector(c->vd.pci, 1), c);
	free_irq(pci_irq_vector(c->vd.pci, 0), c);
}

static int request_irqs(struct con_dev *c)
{
	struct pci_dev *pci = c->vd.pci;
	int err = vireo_dev_vectors(&c->vd, 1, false);

	if (err < 0)
		return err;
	c->vector = err;
	err = request_irq(pci_irq_vector(pci, 0), config_irq, 0, "vireo_console", c);
	if (err || !c->vector)
		return err;
	err = request_irq(pci_irq_vector(pci, 1), queue_irq, 0, "vireo_console-q", c);
	if (err)
		free_irq(pci_irq_vector(pci, 0), c);
	return err;
}

static void free_buffers(struct con_dev *c)
{
	vireo_queue_free(&c->in);
	vireo_queue_free(&c->out);
	if (c->memory)
		dma_free_coherent(&c->vd.pci->dev, ENTRIES * (IN_BYTES + OUT_BYTES), c->memory,
				  c->dma);
}

static int make_buffers(struct con_dev *c)
{
	unsigned int i;
	int err;

	err = vireo_queue_alloc(&c->in, &c->vd, VIREO_CONSOLE_IN, ENTRIES);
	if (!err)
		err = vireo_queue_alloc(&c->out, &c->vd, VIREO_CONSOLE_OUT, ENTRIES);
	if (!err)
		c->memory = dma_alloc_coherent(&c->vd.pci->dev, ENTRIES * (IN_BYTES + OUT_BYTES),
					       &c->dma, GFP_KERNEL);
	if (!c->memory) {
		free_buffers(c);
		return err ?: -ENOMEM;
	}
	for (i = 0; i < ENTRIES; i++) {
		c->in_buf[i].data = c->memory + i * IN_BYTES;
		c->in_buf[i].dma = c->dma + i * IN_BYTES;
		c->out_buf[i].data = c->memory + ENTRIES * IN_BYTES + i * OUT_BYTES;
		c->out_buf[i].dma = c->dma + ENTRIES * IN_BYTES + i * OUT_BYTES;
		list_add_tail(&c->out_buf[i].list, &c->free);
	}
	return 0;
}

/* ---- Life ------------------------------------------------------------------------------------ */

/* A number, and with it a name */
static int take_index(struct con_dev *c)
{
	unsigned int i;

	mutex_lock(&table_lock);
	for (i = 0; i < CONSOLES && table[i]; i++)
		continue;
	if (i < CONSOLES)
		table[i] = c;
	mutex_unlock(&table_lock);
	c->index = i;
	return i < CONSOLES ? 0 : -ENOSPC;
}

static void set_index(struct con_dev *c, struct con_dev *to)
{
	mutex_lock(&table_lock);
	table[c->index] = to;
	mutex_unlock(&table_lock);
}

static void make_console(struct con_dev *c)
{
	strscpy(c->console.name, "hvc", sizeof(c->console.name));
	c->console.write = console_print;
	c->console.device = console_tty;
	c->console.flags = CON_PRINTBUFFER;
	c->console.index = c->index;
	c->console.data = c;
}

static int con_start(struct con_dev *c)
{
	struct device *dev;
	int err;

	c->features = c->vd.offered & VIREO_CONSOLE_F_SIZE;
	err = read_size(c);
	if (!err)
		err = make_buffers(c);
	if (err)
		return err;
	err = request_irqs(c);
	if (err)
		goto err_buffers;
	mutex_lock(&c->mutex);
	err = con_up(c);
	mutex_unlock(&c->mutex);
	if (!err)
		err = take_index(c);
	if (err)
		goto err_down;
	dev = tty_port_register_device(&c->port, tty_driver, c->index, &c->vd.pci->dev);
	if (!IS_ERR(dev)) {
		make_console(c);
		register_console(&c->console);
		return 0;
	}
	err = PTR_ERR(dev);
	set_index(c, NULL);
err_down:
	mutex_lock(&c->mutex);
	c->dead = true;
	con_down(c);
	mutex_unlock(&c->mutex);
	free_irqs(c);
	irq_work_sync(&c->later);
	cancel_work_sync(&c->config_work);
	cancel_work_sync(&c->reset_work);
err_buffers:
	free_buffers(c);
	return err;
}

static int con_probe(struct pci_dev *pci, const struct pci_device_id *id)
{
	struct con_dev *c = kzalloc(sizeof(*c), GFP_KERNEL);
	int err;

	if (!c)
		return -ENOMEM;
	tty_port_init(&c->port);
	c->port.ops = &port_ops;
	mutex_init(&c->mutex);
	spin_lock_init(&c->lock);
	INIT_LIST_HEAD(&c->free);
	INIT_LIST_HEAD(&c->waiting);
	INIT_WORK(&c->config_work, config_work);
	INIT_WORK(&c->reset_work, reset_work);
	init_irq_work(&c->later, later);
	err = vireo_dev_open(&c->vd, pci);
	if (err)
		goto err_put;
	pci_set_drvdata(pci, c);
	err = con_start(c);
	if (!err)
		return 0;

	vireo_dev_close(&c->vd);
err_put:
	tty_port_put(&c->port);
	return err;
}

static void con_remove(struct pci_dev *pci)
{
	struct con_dev *c = pci_get_drvdata(pci);

	unregister_console(&c->console);
	set_index(c, ERR_PTR(-ENODEV));	/* nobody opens it any more */
	mutex_lock(&c->mutex);
	c->dead = true;
	con_down(c);
	mutex_unlock(&c->mutex);
	hang_up(c);
	tty_port_unregister_device(&c->port, tty_driver, c->index);
	set_index(c, NULL);
	free_irqs(c);
	irq_work_sync(&c->later);
	cancel_work_sync(&c->config_work);
	cancel_work_sync(&c->reset_work);
	free_buffers(c);
	vireo_dev_close(&c->vd);
	tty_port_put(&c->port);	/* who has the tty has the rest of @c */
}

/* The machine ends, or another kernel takes over: no more access to memory. */
static void con_shutdown(struct pci_dev *pci)
{
	struct con_dev *c = pci_get_drvdata(pci);

	mutex_lock(&c->mutex);
	con_down(c);
	c->dead = true;
	mutex_unlock(&c->mutex);
}

static int con_suspend(struct device *dev)
{
	struct con_dev *c = dev_get_drvdata(dev);

	mutex_lock(&c->mutex);
	con_down(c);
	mutex_unlock(&c->mutex);
	return 0;
}

static int con_resume(struct device *dev)
{
	struct con_dev *c = dev_get_drvdata(dev);
	int err;

	mutex_lock(&c->mutex);
	vireo_dev_reset(&c->vd);
	err = con_up(c);
	mutex_unlock(&c->mutex);
	schedule_work(&c->config_work);
	return err;
}

static DEFINE_SIMPLE_DEV_PM_OPS(pm_ops, con_suspend, con_resume);

/* Somebody resets the function by PCI's means (sysfs). */
static void reset_prepare(struct pci_dev *pci)
{
	struct con_dev *c = pci_get_drvdata(pci);

	mutex_lock(&c->mutex);
	con_down(c);
}

static void reset_done(struct pci_dev *pci)
{
	struct con_dev *c = pci_get_drvdata(pci);

	con_up(c);
	mutex_unlock(&c->mutex);
}

static const struct pci_error_handlers error_handlers = {
	.reset_prepare = reset_prepare,
	.reset_done = reset_done,
};

static const struct pci_device_id ids[] = {
	{ PCI_DEVICE(VIREO_PCI_VENDOR, VIREO_PCI_CONSOLE) },
	{}
};
MODULE_DEVICE_TABLE(pci, ids);

static struct pci_driver con_driver = {
	.name = "vireo_console",
	.id_table = ids,
	.probe = con_probe,
	.remove = con_remove,
	.shutdown = con_shutdown,
	.driver.pm = pm_sleep_ptr(&pm_ops),
	.err_handler = &error_handlers,
};

static int __init con_init(void)
{
	int err;

	tty_driver = tty_alloc_driver(CONSOLES, TTY_DRIVER_REAL_RAW | TTY_DRIVER_RESET_TERMIOS |
				      TTY_DRIVER_DYNAMIC_DEV);
	if (IS_ERR(tty_driver))
		return PTR_ERR(tty_driver);
	tty_driver->driver_name = "vireo_console";
	tty_driver->name = "hvc";
	tty_driver->type = TTY_DRIVER_TYPE_SYSTEM;
	tty_driver->init_termios = tty_std_termios;
	tty_set_operations(tty_driver, &con_ops);
	err = tty_register_driver(tty_driver);
	if (err)
		goto err_put;
	err = pci_register_driver(&con_driver);
	if (!err)
		return 0;

	tty_unregister_driver(tty_driver);
err_put:
	tty_driver_kref_put(tty_driver);
	return err;
}
module_init(con_init);

static void __exit con_exit(void)
{
	pci_unregister_driver(&con_driver);
	tty_unregister_driver(tty_driver);
	tty_driver_kref_put(tty_driver);
}
module_exit(con_exit);

MODULE_DESCRIPTION("Vireo guest drivers: consoles");
MODULE_LICENSE("GPL");
