// SPDX-License-Identifier: GPL-2.0
/* The tool's PCI bus and the registers of its devices, over queues that are made up. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <sys/eventfd.h>

#include "harness.h"

#include "libvireo.h"

#define DATA		(VIREO_PORT_PCI + 4)
#define MSIX_CAP	0x40
#define CAP2		0x50	/* the capability behind MSI-X */
#define QUEUES		3
#define MSI_ADDRESS	0xfee01000U

/* ---- A module that is made up ------------------------------------------------------- */

static struct {
	bool open;
	bool masked;
	bool waits;
	u64 address;
	u32 data;
	struct vireo_create_queue create;
} queue[VIREO_MAX_QUEUES];

static struct {
	int fail;		/* errno for the next queue */
	unsigned int open;	/* queues */
	unsigned int routes;	/* calls of vireo_queue_set_msi() */
	unsigned int injected;
	struct vireo_msi msi;
	unsigned int writes;	/* to guest memory: 4 bytes */
	u64 written_at;
	u32 written;
	int refuse;		/* features: accept() fails */
	bool up;
	u64 features;
	u32 at;			/* index in every ring */
	bool unreadable;
	u32 property;		/* what refresh() finds */
	unsigned int destroyed;
} fake;

int vireo_queue_create(int fd, const struct vireo_create_queue *create)
{
	u32 n = create->doorbell;

	EXPECT_EQ(fd, 42);
	ASSERT_TRUE(n < VIREO_MAX_QUEUES);
	EXPECT_THAT(!queue[n].open, "doorbell %u is given twice", n);
	if (fake.fail)
		return -fake.fail;
	/* What the module checks itself */
	if (create->ring % 4096 || create->entries < VIREO_RING_MIN ||
	    create->entries > VIREO_RING_MAX || create->entries & (create->entries - 1))
		return -EINVAL;
	memset(&queue[n], 0, sizeof(queue[n]));
	queue[n].open = true;
	queue[n].masked = true;
	queue[n].create = *create;
	fake.open++;
	return 1000 + (int)n;
}

int vireo_queue_set_msi(int fd, const struct vireo_msi *msi)
{
	unsigned int n = (unsigned int)fd - 1000;

	ASSERT_TRUE(n < VIREO_MAX_QUEUES && queue[n].open);
	fake.routes++;
	if (msi && msi->address >> 20 != 0xfee)
		return -EINVAL;
	queue[n].masked = !msi;
	if (msi) {
		queue[n].address = msi->address;
		queue[n].data = msi->data;
		queue[n].waits = false;
	}
	return queue[n].waits;
}

int vireo_queue_stat(int fd, struct vireo_queue_stat *stat)
{
	memset(stat, 0, sizeof(*stat));
	stat->entries = (u64)fd;
	return 0;
}

void vireo_queue_close(int fd)
{
	unsigned int n = (unsigned int)fd - 1000;

	ASSERT_TRUE(n < VIREO_MAX_QUEUES && queue[n].open);
	queue[n].open = false;
	fake.open--;
}

int vireo_vm_inject_msi(struct vireo_vm *vm, const struct vireo_msi *msi)
{
	(void)vm;
	fake.injected++;
	fake.msi = *msi;
	return 1;
}

/* Rings alone are read: where the device is */
int vireo_vm_read(struct vireo_vm *vm, __u64 gpa, void *data, size_t len,
		  struct vireo_error *err)
{
	(void)vm;
	if (fake.unreadable)
		return vireo_fail(err, EFAULT, "unreadable");
	EXPECT_EQ(gpa % 4096, offsetof(struct vireo_ring_ctl, comp_tail));
	EXPECT_EQ(len, 4);
	memcpy(data, &fake.at, sizeof(fake.at));
	return 0;
}

/* That a queue has ended: the module serves all here, see test_sring.c for the others. */
int vireo_vm_write(struct vireo_vm *vm, __u64 gpa, const void *data, size_t len,
		   struct vireo_error *err)
{
	(void)vm;
	(void)err;
	EXPECT_EQ(len, 4);
	memcpy(&fake.written, data, sizeof(fake.written));
	fake.written_at = gpa;
	fake.writes++;
	return 0;
}

static int pv_accept(struct vireo_pv *pv, bool up, __u64 features)
{
	(void)pv;
	if (up && fake.refuse)
		return -fake.refuse;
	fake.up = up;
	fake.features = features;
	return 0;
}

static int pv_refresh(struct vireo_pv *pv, void *config, struct vireo_error *err)
{
	(void)pv;
	(void)err;
	memcpy(config, &fake.property, sizeof(fake.property));
	return 0;
}

static void pv_destroy(struct vireo_pv *pv)
{
	(void)pv;
	fake.destroyed++;
}

static const struct vireo_pv_ops disk_ops = {
	.kind = "disk", .accept = pv_accept, .refresh = pv_refresh, .destroy = pv_destroy,
};

static const struct vireo_pv_ops net_ops = {
	.kind = "net", .accept = pv_accept, .refresh = pv_refresh, .destroy = pv_destroy,
};

/* ---- A machine ---------------------------------------------------------------------- */

static struct vireo_vm vm;
static struct vireo_pci pci;
static struct vireo_bus ports, mmio;
static struct vireo_error err;
static struct vireo_pv first;

static int add(struct vireo_pv *pv, const struct vireo_pv_ops *ops, unsigned int queues)
{
	memset(pv, 0, sizeof(*pv));
	pv->ops = ops;
	pv->vm = &vm;
	pv->fd = 42;
	pv->offered = 0x800000000000000fULL;
	pv->queues = queues;
	pv->queue_max = VIREO_RING_MAX;
	pv->one_index = ops == &disk_ops;
	pv->config_len = 16;
	return vireo_pv_attach(pv, &pci, NULL, &err);
}

static void bus(void)
{
	memset(&vm, 0, sizeof(vm));
	memset(&ports, 0, sizeof(ports));
	memset(&mmio, 0, sizeof(mmio));
	memset(queue, 0, sizeof(queue));
	memset(&fake, 0, sizeof(fake));
	ASSERT_EQ(vireo_pci_init(&pci, &ports, &mmio), 0);
}

static u32 in(u16 port, unsigned int width)
{
	return (u32)vireo_bus_read(&ports, NULL, port, width);
}

static void out(u16 port, unsigned int width, u32 value)
{
	vireo_bus_write(&ports, NULL, port, width, value);
}

static void select_reg(unsigned int slot, unsigned int reg)
{
	out(VIREO_PORT_PCI, 4, 0x80000000U | slot << 11 | (reg & 0xfc));
}

static u32 config_read(unsigned int slot, unsigned int reg, unsigned int width)
{
	select_reg(slot, reg);
	return in(DATA + (reg & 3), width);
}

static void config_write(unsigned int slot, unsigned int reg, unsigned int width, u32 value)
{
	select_reg(slot, reg);
	out(DATA + (reg & 3), width, value);
}

static u64 bar(unsigned int slot, unsigned int i)
{
	return config_read(slot, PCI_BASE_ADDRESS_0 + 4 * i, 4);
}

static u32 get(u64 gpa)
{
	return (u32)vireo_bus_read(&mmio, NULL, gpa, 4);
}

static void set(u64 gpa, u32 value)
{
	vireo_bus_write(&mmio, NULL, gpa, 4, value);
}

/* A machine with one device in slot 1, its memory switched on; returns BAR 0. */
static u64 with_device(const struct vireo_pv_ops *ops)
{
	bus();
	ASSERT_EQ(add(&first, ops, QUEUES), 0);
	config_write(1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	return bar(1, 0);
}

static void msix(u16 flags)
{
	config_write(1, MSIX_CAP + PCI_MSIX_FLAGS, 2, flags);
}

static void entry(unsigned int vector, u32 address, u32 data, bool masked)
{
	u64 at = bar(1, 1) + 16 * vector;

	set(at, address);
	set(at + 4, 0);
	set(at + 8, data);
	set(at + 12, masked);
}

/* What a driver does: accept, then make a queue. */
static void start(u64 regs)
{
	set(regs + VIREO_REG_STATUS, VIREO_STATUS_RESET);
	set(regs + VIREO_REG_ACCEPTED, 3);
	set(regs + VIREO_REG_ACCEPTED + 4, 0);
	set(regs + VIREO_REG_STATUS, VIREO_STATUS_OK);
	ASSERT_EQ(get(regs + VIREO_REG_STATUS), VIREO_STATUS_OK);
}

static void enable(u64 regs, unsigned int n, u32 vector)
{
	u64 q = regs + VIREO_REG_QUEUE(n);

	set(q + VIREO_QUEUE_ENTRIES, 64);
	set(q + VIREO_QUEUE_RING, 0x10000);
	set(q + VIREO_QUEUE_RING + 4, 1);
	set(q + VIREO_QUEUE_VECTOR, vector);
	set(q + VIREO_QUEUE_ENABLE, 1);
}

/* ---- Configuration space ------------------------------------------------------------ */

/* What pci_check_type1() and pci_sanity_check() of Linux do */
TEST(linux_finds_mechanism_1)
{
	bus();
	out(0xcfb, 1, 1);
	out(0xcf8, 4, 0x80000000U);
	EXPECT_EQ(in(0xcf8, 4), 0x80000000U);
	EXPECT_EQ(config_read(0, PCI_CLASS_DEVICE, 2), 0x0600);
	EXPECT_EQ(config_read(0, PCI_VENDOR_ID, 2), VIREO_PCI_VENDOR);
	EXPECT_EQ(config_read(0, PCI_HEADER_TYPE, 1), 0);
}

TEST(nothing_elsewhere)
{
	unsigned int slot;

	with_device(&disk_ops);
	for (slot = 2; slot < 32; slot++)
		EXPECT_EQ(config_read(slot, 0, 4), 0xffffffff);
	out(VIREO_PORT_PCI, 4, 0x80010000U);			/* bus 1 */
	EXPECT_EQ(in(DATA, 4), 0xffffffff);
	out(VIREO_PORT_PCI, 4, 0x80000100U);			/* function 1 */
	EXPECT_EQ(in(DATA, 4), 0xffffffff);
	out(VIREO_PORT_PCI, 4, 0x81000000U);			/* register 0x100 */
	EXPECT_EQ(in(DATA, 4), 0xffffffff);
	out(VIREO_PORT_PCI, 4, 0);				/* not enabled */
	EXPECT_EQ(in(DATA, 4), 0xffffffff);
	select_reg(0, 0);
	EXPECT_EQ(in(DATA + 1, 4), 0xffffffff);		/* beyond the port */
	EXPECT_EQ(in(DATA + 3, 2), 0xffff);
	EXPECT_EQ(in(VIREO_PORT_PCI, 1), 0xff);
	EXPECT_EQ(in(VIREO_PORT_PCI + 2, 4), 0xffffffff);
}

TEST(header)
{
	with_device(&disk_ops);
	EXPECT_EQ(config_read(1, PCI_VENDOR_ID, 4), VIREO_PCI_BLK << 16 | VIREO_PCI_VENDOR);
	EXPECT_EQ(config_read(1, PCI_CLASS_REVISION, 4), 0x01800001);
	EXPECT_EQ(config_read(1, PCI_CLASS_DEVICE + 1, 1), 0x01);
	EXPECT_EQ(config_read(1, PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
	EXPECT_EQ(config_read(1, PCI_INTERRUPT_PIN, 1), 0);
	EXPECT_EQ(config_read(1, PCI_CAPABILITY_LIST, 1), MSIX_CAP);
	EXPECT_EQ(config_read(1, MSIX_CAP, 4), (QUEUES << 16) | CAP2 << 8 | PCI_CAP_ID_MSIX);
	EXPECT_EQ(config_read(1, MSIX_CAP + PCI_MSIX_TABLE, 4), 1);
	EXPECT_EQ(config_read(1, MSIX_CAP + PCI_MSIX_PBA, 4), VIREO_PCI_PBA + 1);
	/* Ids are not to be written. */
	config_write(1, PCI_VENDOR_ID, 4, 0);
	config_write(1, PCI_CLASS_REVISION, 4, 0);
	EXPECT_EQ(config_read(1, PCI_VENDOR_ID, 4), VIREO_PCI_BLK << 16 | VIREO_PCI_VENDOR);
	EXPECT_EQ(config_read(1, PCI_CLASS_REVISION, 4), 0x01800001);
	config_write(1, PCI_COMMAND, 2, 0xffff);
	EXPECT_EQ(config_read(1, PCI_COMMAND, 2),
		  PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
}

TEST(bar_sizes)
{
	static const u32 sizes[6] = { VIREO_PCI_BAR_SIZE, VIREO_PCI_MSIX_SIZE };
	unsigned int i;

	with_device(&net_ops);
	for (i = 0; i < 6; i++) {
		u32 was = (u32)bar(1, i);

		config_write(1, PCI_BASE_ADDRESS_0 + 4 * i, 4, 0xffffffff);
		EXPECT_EQ(bar(1, i), sizes[i] ? (u32)-sizes[i] : 0);
		config_write(1, PCI_BASE_ADDRESS_0 + 4 * i, 4, was);
		EXPECT_EQ(bar(1, i), was);
	}
	config_write(1, PCI_ROM_ADDRESS, 4, 0xffffffff);
	EXPECT_EQ(config_read(1, PCI_ROM_ADDRESS, 4), 0);
}

TEST(bars_move)
{
	u64 regs = with_device(&disk_ops);

	EXPECT_TRUE(regs >= VIREO_PCI_WINDOW && regs < VIREO_PCI_WINDOW + VIREO_PCI_WINDOW_SIZE);
	EXPECT_EQ(get(regs), VIREO_PCI_MAGIC);
	config_write(1, PCI_BASE_ADDRESS_0, 4, 0xd0000000);
	EXPECT_EQ(get(0xd0000000), VIREO_PCI_MAGIC);
	EXPECT_EQ(get(regs), 0xffffffff);
	/* Half written, half moved */
	config_write(1, PCI_BASE_ADDRESS_0 + 2, 1, 0x12);
	EXPECT_EQ(get(0xd0120000), VIREO_PCI_MAGIC);
	config_write(1, PCI_COMMAND, 1, 0);
	EXPECT_EQ(get(0xd0120000), 0xffffffff);
	config_write(1, PCI_COMMAND, 1, PCI_COMMAND_MEMORY);
	EXPECT_EQ(get(0xd0120000), VIREO_PCI_MAGIC);
	/* Out of the window: nobody answers. */
	config_write(1, PCI_BASE_ADDRESS_0, 4, 0xfee00000);
	EXPECT_EQ(get(0xfee00000), 0xffffffff);
	config_write(1, PCI_BASE_ADDRESS_0, 4, 0);
	EXPECT_EQ(get(0), 0xffffffff);
	/* The last bytes of the window, and an access beyond them */
	config_write(1, PCI_BASE_ADDRESS_0, 4, 0xdfffe000);
	EXPECT_EQ(get(0xdfffe000), VIREO_PCI_MAGIC);
	EXPECT_EQ(vireo_bus_read(&mmio, NULL, 0xdffffffe, 4), 0xffffffff);
}

TEST(bars_do_not_overlap)
{
	static struct vireo_pv pv[VIREO_PCI_SLOTS];
	unsigned int slot, other, i;
	u64 end = 0;

	bus();
	for (slot = 1; slot < VIREO_PCI_SLOTS; slot++)
		ASSERT_EQ(add(&pv[slot], &disk_ops, 1), 0);
	EXPECT_EQ(add(&pv[0], &disk_ops, 1), -ENOSPC);
	for (slot = 1; slot < VIREO_PCI_SLOTS; slot++) {
		for (i = 0; i < 2; i++) {
			EXPECT_TRUE(bar(slot, i) >= end);
			end = bar(slot, i) + (i ? VIREO_PCI_MSIX_SIZE : VIREO_PCI_BAR_SIZE);
		}
		config_write(slot, PCI_COMMAND, 1, PCI_COMMAND_MEMORY);
	}
	for (slot = 1; slot < VIREO_PCI_SLOTS; slot++) {
		for (other = 1; other < slot; other++)
			EXPECT_NE(get(bar(slot, 0) + VIREO_REG_QUEUE(0) + VIREO_QUEUE_DOORBELL),
				  get(bar(other, 0) + VIREO_REG_QUEUE(0) + VIREO_QUEUE_DOORBELL));
	}
	for (slot = 1; slot < VIREO_PCI_SLOTS; slot++)
		vireo_pv_destroy(&pv[slot]);
	EXPECT_EQ(fake.destroyed, VIREO_PCI_SLOTS - 1);
	EXPECT_EQ(config_read(1, 0, 4), 0xffffffff);
}

/* ---- Registers ---------------------------------------------------------------------- */

TEST(registers)
{
	u64 regs = with_device(&disk_ops);

	EXPECT_EQ(get(regs + VIREO_REG_MAGIC), VIREO_PCI_MAGIC);
	EXPECT_EQ(get(regs + VIREO_REG_VERSION), VIREO_PCI_VERSION);
	EXPECT_EQ(get(regs + VIREO_REG_STATUS), VIREO_STATUS_RESET);
	EXPECT_EQ(get(regs + VIREO_REG_OFFERED), 0xf);
	EXPECT_EQ(get(regs + VIREO_REG_OFFERED + 4), 0x80000000U);
	EXPECT_EQ(get(regs + VIREO_REG_QUEUES), QUEUES);
	EXPECT_EQ(get(regs + VIREO_REG_VECTOR), VIREO_PCI_NO_VECTOR);
	EXPECT_EQ(get(regs + VIREO_REG_QUEUE(0)), VIREO_RING_MAX);
	EXPECT_EQ(get(regs + VIREO_REG_QUEUE(QUEUES)), 0);
	set(regs + VIREO_REG_OFFERED, 0);
	set(regs + VIREO_REG_MAGIC, 0);
	set(regs + VIREO_REG_QUEUES, 60);
	set(regs + VIREO_REG_CONFIG, 1);
	set(regs + VIREO_REG_QUEUE(0) + VIREO_QUEUE_DOORBELL, 7);
	EXPECT_EQ(get(regs + VIREO_REG_OFFERED), 0xf);
	EXPECT_EQ(get(regs + VIREO_REG_MAGIC), VIREO_PCI_MAGIC);
	EXPECT_EQ(get(regs + VIREO_REG_QUEUES), QUEUES);
	EXPECT_EQ(get(regs + VIREO_REG_CONFIG), 0);
	EXPECT_EQ(get(regs + VIREO_REG_QUEUE(0) + VIREO_QUEUE_DOORBELL), 0);
	/* Neither halves nor doubles of a register */
	EXPECT_EQ(vireo_bus_read(&mmio, NULL, regs, 1), 0xff);
	EXPECT_EQ(vireo_bus_read(&mmio, NULL, regs, 2), 0xffff);
	EXPECT_EQ(vireo_bus_read(&mmio, NULL, regs, 8), -1);
	EXPECT_EQ(vireo_bus_read(&mmio, NULL, regs + 2, 4), 0xffffffff);
}

TEST(status)
{
	u64 regs = with_device(&net_ops);

	/* More than was offered */
	set(regs + VIREO_REG_ACCEPTED, 0x10);
	set(regs + VIREO_REG_STATUS, VIREO_STATUS_OK);
	EXPECT_EQ(get(regs + VIREO_REG_STATUS), VIREO_STATUS_RESET);
	EXPECT_EQ(fake.up, false);
	set(regs + VIREO_REG_ACCEPTED, 5);
	set(regs + VIREO_REG_ACCEPTED + 4, 0x80000000U);
	set(regs + VIREO_REG_STATUS, VIREO_STATUS_FAILED);
	EXPECT_EQ(get(regs + VIREO_REG_STATUS), VIREO_STATUS_RESET);
	set(regs + VIREO_REG_STATUS, VIREO_STATUS_OK);
	EXPECT_EQ(get(regs + VIREO_REG_STATUS), VIREO_STATUS_OK);
	EXPECT_EQ(fake.up, true);
	EXPECT_EQ(fake.features, 0x8000000000000005ULL);
	/* Too late */
	set(regs + VIREO_REG_ACCEPTED, 1);
	EXPECT_EQ(get(regs + VIREO_REG_ACCEPTED), 5);
	set(regs + VIREO_REG_STATUS, VIREO_STATUS_RESET);
	EXPECT_EQ(fake.up, false);
	EXPECT_EQ(get(regs + VIREO_REG_ACCEPTED), 0);
	EXPECT_EQ(get(regs + VIREO_REG_ACCEPTED + 4), 0);
	/* The device does not agree. */
	fake.refuse = EIO;
	set(regs + VIREO_REG_STATUS, VIREO_STATUS_OK);
	EXPECT_EQ(get(regs + VIREO_REG_STATUS), VIREO_STATUS_FAILED);
	fake.refuse = 0;
	set(regs + VIREO_REG_STATUS, VIREO_STATUS_OK);
	EXPECT_EQ(get(regs + VIREO_REG_STATUS), VIREO_STATUS_FAILED);
	enable(regs, 0, 0);
	EXPECT_EQ(fake.open, 0);
	set(regs + VIREO_REG_STATUS, VIREO_STATUS_RESET);
	start(regs);
}

TEST(queues)
{
	u64 regs = with_device(&net_ops), q = regs + VIREO_REG_QUEUE(1);

	enable(regs, 1, 0);
	EXPECT_EQ(get(q + VIREO_QUEUE_ENABLE), 0);	/* not before OK */
	start(regs);
	enable(regs, 1, 0);
	EXPECT_EQ(get(q + VIREO_QUEUE_ENABLE), 1);
	ASSERT_EQ(fake.open, 1);
	EXPECT_EQ(queue[1].create.index, 1);
	EXPECT_EQ(queue[1].create.ring, 0x100010000ULL);
	EXPECT_EQ(queue[1].create.entries, 64);
	EXPECT_EQ(queue[1].masked, true);
	/* Served: it stands still. */
	set(q + VIREO_QUEUE_ENTRIES, 128);
	set(q + VIREO_QUEUE_RING, 0x20000);
	set(q + VIREO_QUEUE_RING + 4, 0);
	set(q + VIREO_QUEUE_ENABLE, 1);
	set(q + VIREO_QUEUE_ENABLE, 2);
	EXPECT_EQ(get(q + VIREO_QUEUE_ENTRIES), 64);
	EXPECT_EQ(get(q + VIREO_QUEUE_RING), 0x10000);
	EXPECT_EQ(get(q + VIREO_QUEUE_RING + 4), 1);
	EXPECT_EQ(fake.open, 1);
	set(q + VIREO_QUEUE_ENABLE, 0);
	EXPECT_EQ(fake.open, 0);
	EXPECT_EQ(get(q + VIREO_QUEUE_ENABLE), 0);
	/* The module refuses. */
	set(q + VIREO_QUEUE_ENTRIES, 65);
	set(q + VIREO_QUEUE_ENABLE, 1);
	EXPECT_EQ(get(q + VIREO_QUEUE_ENABLE), 0);
	set(q + VIREO_QUEUE_ENTRIES, 64);
	fake.fail = ENXIO;
	set(q + VIREO_QUEUE_ENABLE, 1);
	EXPECT_EQ(get(q + VIREO_QUEUE_ENABLE), 0);
	fake.fail = 0;
	enable(regs, 0, 0);
	enable(regs, 1, 0);
	enable(regs, 2, 0);
	enable(regs, 3, 0);
	EXPECT_EQ(fake.open, QUEUES);
	set(regs + VIREO_REG_STATUS, VIREO_STATUS_RESET);
	EXPECT_EQ(fake.open, 0);
	EXPECT_EQ(get(q + VIREO_QUEUE_ENTRIES), VIREO_RING_MAX);
	EXPECT_EQ(get(q + VIREO_QUEUE_RING), 0);
	EXPECT_EQ(get(q + VIREO_QUEUE_VECTOR), VIREO_PCI_NO_VECTOR);
}

/* The queues of a disk are equal. */
TEST(disk_queues)
{
	struct vireo_queue_stat stat;
	u64 regs = with_device(&disk_ops);

	start(regs);
	enable(regs, 2, 0);
	EXPECT_EQ(queue[2].create.index, 0);
	EXPECT_EQ(vireo_pv_stat(&first, 2, &stat), 0);
	EXPECT_EQ(stat.entries, 1002);
	EXPECT_EQ(vireo_pv_stat(&first, 1, &stat), -ENOENT);
	EXPECT_EQ(vireo_pv_stat(&first, 99, &stat), -ENOENT);
	vireo_pv_destroy(&first);
	EXPECT_EQ(fake.open, 0);
	EXPECT_EQ(fake.destroyed, 1);
}

/* Those that were served are again, where the ring says, and no other. */
TEST(suspend)
{
	u64 regs = with_device(&disk_ops);
	struct vireo_error err;

	msix(PCI_MSIX_FLAGS_ENABLE);
	entry(0, MSI_ADDRESS, 0x44, false);
	start(regs);
	enable(regs, 0, 0);
	enable(regs, 2, 0);
	fake.at = 0xfffffff0;
	EXPECT_EQ(vireo_pv_suspend(&first, &err), 0);
	EXPECT_EQ(fake.open, 0);
	EXPECT_EQ(vireo_pv_resume(&first, &err), 0);
	EXPECT_EQ(fake.open, 2);
	EXPECT_EQ(queue[2].create.flags, VIREO_QUEUE_RESUME);
	EXPECT_EQ(queue[2].create.start, 0xfffffff0U);
	EXPECT_EQ(queue[2].create.ring, 0x100010000ULL);
	EXPECT_EQ(vireo_pv_resume(&first, &err), 0);
	EXPECT_EQ(fake.open, 2);
	fake.unreadable = true;
	EXPECT_EQ(vireo_pv_suspend(&first, &err), -EFAULT);
	fake.unreadable = false;

	/* The first, which alone was stopped, cannot be: it has ended, and its driver is told. */
	EXPECT_EQ(fake.writes, 0);
	fake.injected = 0;
	fake.fail = ENOMEM;
	EXPECT_EQ(vireo_pv_resume(&first, &err), -ENOMEM);
	EXPECT_EQ(fake.open, 1);
	EXPECT_EQ(fake.writes, 1);
	EXPECT_EQ(fake.written_at, 0x100010000ULL + offsetof(struct vireo_ring_ctl, error));
	EXPECT_EQ(fake.written, VIREO_RING_ERROR_MEMORY);
	EXPECT_EQ(fake.injected, 1);
	EXPECT_EQ(fake.msi.data, 0x44);
	EXPECT_EQ(get(regs + VIREO_REG_QUEUE(0) + VIREO_QUEUE_ENABLE), 0);
	EXPECT_EQ(get(regs + VIREO_REG_QUEUE(2) + VIREO_QUEUE_ENABLE), 1);
	vireo_pv_destroy(&first);
	EXPECT_EQ(fake.open, 0);
}

/* A restored machine has its devices where they were, which is not always close together. */
TEST(settle)
{
	static struct vireo_pv pv[2];

	bus();
	ASSERT_EQ(add(&pv[0], &disk_ops, 3), 0);
	ASSERT_EQ(add(&pv[1], &disk_ops, 2), 0);
	vireo_pv_lift(&pv[0]);
	vireo_pv_lift(&pv[1]);
	EXPECT_EQ(config_read(1, 0, 4), 0xffffffff);
	pv[0].number = 4;
	pv[0].doorbell = 1;
	pv[0].function.slot = 2;
	EXPECT_TRUE(vireo_pv_settle(&pv[0]));
	EXPECT_TRUE(!strcmp(pv[0].name, "disk4"));
	EXPECT_EQ(config_read(1, 0, 4), 0xffffffff);
	EXPECT_EQ(config_read(2, 0, 4), VIREO_PCI_BLK << 16 | VIREO_PCI_VENDOR);

	/* Not where another one is, nor where there is nothing */
	pv[1].doorbell = 3;
	pv[1].function.slot = 1;
	EXPECT_FALSE(vireo_pv_settle(&pv[1]));
	pv[1].doorbell = VIREO_MAX_QUEUES - 1;
	pv[1].function.slot = 1;
	EXPECT_FALSE(vireo_pv_settle(&pv[1]));
	pv[1].doorbell = ~0U;
	pv[1].function.slot = 1;
	EXPECT_FALSE(vireo_pv_settle(&pv[1]));
	pv[1].doorbell = 4;
	pv[1].function.slot = 2;
	EXPECT_FALSE(vireo_pv_settle(&pv[1]));
	pv[1].function.slot = VIREO_PCI_SLOTS;
	EXPECT_FALSE(vireo_pv_settle(&pv[1]));
	pv[1].function.slot = 3;
	EXPECT_TRUE(vireo_pv_settle(&pv[1]));

	vireo_pv_destroy(&pv[0]);
	ASSERT_EQ(add(&pv[0], &disk_ops, 4), 0);
	EXPECT_EQ(pv[0].doorbell, 0U);
	EXPECT_EQ(pv[0].function.slot, 1U);
	vireo_pv_destroy(&pv[0]);
	vireo_pv_destroy(&pv[1]);
}

TEST(doorbells)
{
	static struct vireo_pv pv[6];
	unsigned int i;

	bus();
	for (i = 0; i < 4; i++)
		ASSERT_EQ(add(&pv[i], &net_ops, VIREO_PCI_QUEUES), 0);
	EXPECT_EQ(add(&pv[4], &net_ops, VIREO_PCI_QUEUES), -ENOSPC);
	EXPECT_EQ(add(&pv[4], &net_ops, VIREO_MAX_QUEUES - 4 * VIREO_PCI_QUEUES), 0);
	EXPECT_EQ(add(&pv[5], &net_ops, 1), -ENOSPC);
	vireo_pv_destroy(&pv[2]);
	EXPECT_EQ(add(&pv[5], &net_ops, VIREO_PCI_QUEUES), 0);
	EXPECT_EQ(pv[5].doorbell, 2 * VIREO_PCI_QUEUES);
	EXPECT_EQ(add(&pv[2], &net_ops, 0), -EINVAL);
	EXPECT_EQ(add(&pv[2], &net_ops, VIREO_PCI_QUEUES + 1), -EINVAL);
}

/* ---- Interrupts --------------------------------------------------------------------- */

TEST(vectors)
{
	u64 regs = with_device(&disk_ops), table = bar(1, 1);

	start(regs);
	entry(1, MSI_ADDRESS, 0x41, false);
	enable(regs, 0, 1);
	enable(regs, 1, 1);
	enable(regs, 2, 2);
	EXPECT_TRUE(queue[0].masked);		/* MSI-X is off */
	msix(PCI_MSIX_FLAGS_ENABLE);
	EXPECT_FALSE(queue[0].masked);
	EXPECT_FALSE(queue[1].masked);
	EXPECT_TRUE(queue[2].masked);
	EXPECT_EQ(queue[1].address, MSI_ADDRESS);
	EXPECT_EQ(queue[1].data, 0x41);
	msix(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	EXPECT_TRUE(queue[0].masked);
	msix(PCI_MSIX_FLAGS_ENABLE);
	EXPECT_FALSE(queue[0].masked);

	/* As Linux moves an interrupt: mask, address and data, unmask */
	set(table + 16 + 12, 1);
	EXPECT_TRUE(queue[0].masked);
	fake.routes = 0;
	set(table + 16, MSI_ADDRESS + 0x1000);
	set(table + 16 + 8, 0x42);
	EXPECT_EQ(fake.routes, 0);
	set(table + 16 + 12, 0);
	EXPECT_EQ(fake.routes, 2);
	EXPECT_EQ(queue[0].address, MSI_ADDRESS + 0x1000);
	EXPECT_EQ(queue[1].data, 0x42);
	EXPECT_TRUE(queue[2].masked);
	/* Or all at once, unmasked */
	set(table + 16 + 8, 0x43);
	EXPECT_EQ(queue[0].data, 0x43);
	/* What is no message */
	set(table + 16, 0x1000);
	EXPECT_TRUE(queue[0].masked);
	set(table + 16, MSI_ADDRESS);
	EXPECT_FALSE(queue[0].masked);

	/* A queue that is served keeps its vector; there are not more than there are. */
	set(regs + VIREO_REG_QUEUE(2) + VIREO_QUEUE_VECTOR, 1);
	EXPECT_EQ(get(regs + VIREO_REG_QUEUE(2) + VIREO_QUEUE_VECTOR), 2);
	set(regs + VIREO_REG_QUEUE(2) + VIREO_QUEUE_ENABLE, 0);
	enable(regs, 2, 1);
	EXPECT_FALSE(queue[2].masked);
	set(regs + VIREO_REG_QUEUE(2) + VIREO_QUEUE_ENABLE, 0);
	enable(regs, 2, QUEUES + 1);
	EXPECT_EQ(get(regs + VIREO_REG_QUEUE(2) + VIREO_QUEUE_VECTOR), VIREO_PCI_NO_VECTOR);
	EXPECT_TRUE(queue[2].masked);

	/* The table outlives the device's reset. */
	set(regs + VIREO_REG_STATUS, VIREO_STATUS_RESET);
	EXPECT_EQ(get(table + 16), MSI_ADDRESS);
	EXPECT_EQ(get(table + 16 + 12), 0);
}

TEST(pending)
{
	u64 regs = with_device(&disk_ops), table = bar(1, 1);

	start(regs);
	entry(1, MSI_ADDRESS, 0x41, true);
	enable(regs, 0, 1);
	msix(PCI_MSIX_FLAGS_ENABLE);
	EXPECT_EQ(get(table + VIREO_PCI_PBA), 0);
	queue[0].waits = true;
	EXPECT_EQ(get(table + VIREO_PCI_PBA), 1 << 1);
	EXPECT_EQ(vireo_bus_read(&mmio, NULL, table + VIREO_PCI_PBA, 8), 1 << 1);
	EXPECT_EQ(get(table + VIREO_PCI_PBA + 4), 0);
	set(table + VIREO_PCI_PBA, 0);		/* read-only */
	EXPECT_EQ(get(table + VIREO_PCI_PBA), 1 << 1);
	set(table + 16 + 12, 0);
	EXPECT_FALSE(queue[0].waits);
	EXPECT_EQ(get(table + VIREO_PCI_PBA), 0);
}

TEST(config_change)
{
	u64 regs = with_device(&net_ops), table = bar(1, 1);
	u32 generation = get(regs + VIREO_REG_GENERATION);

	start(regs);
	set(regs + VIREO_REG_VECTOR, 0);
	entry(0, MSI_ADDRESS, 0x50, false);
	msix(PCI_MSIX_FLAGS_ENABLE);
	EXPECT_EQ(vireo_pv_refresh(&first, &err), 0);
	EXPECT_EQ(fake.injected, 0);
	fake.property = 77;
	EXPECT_EQ(vireo_pv_refresh(&first, &err), 1);
	EXPECT_EQ(fake.injected, 1);
	EXPECT_EQ(fake.msi.size, sizeof(fake.msi));
	EXPECT_EQ(fake.msi.address, MSI_ADDRESS);
	EXPECT_EQ(fake.msi.data, 0x50);
	EXPECT_EQ(get(regs + VIREO_REG_CONFIG), 77);
	EXPECT_NE(get(regs + VIREO_REG_GENERATION), generation);

	/* Masked, it waits. */
	set(table + 12, 1);
	fake.property = 78;
	vireo_pv_refresh(&first, &err);
	EXPECT_EQ(fake.injected, 1);
	EXPECT_EQ(get(table + VIREO_PCI_PBA), 1);
	set(table + 12, 0);
	EXPECT_EQ(fake.injected, 2);
	EXPECT_EQ(get(table + VIREO_PCI_PBA), 0);
	set(table + 12, 1);
	set(table + 12, 0);
	EXPECT_EQ(fake.injected, 2);
	/* Without a vector too, until the reset */
	set(regs + VIREO_REG_VECTOR, VIREO_PCI_NO_VECTOR);
	fake.property = 79;
	vireo_pv_refresh(&first, &err);
	set(regs + VIREO_REG_VECTOR, 0);
	EXPECT_EQ(fake.injected, 3);
}

/* ---- Configuration space in memory -------------------------------------------------- */

static u64 ecam(unsigned int bus_number, unsigned int slot, unsigned int reg)
{
	return VIREO_PCI_ECAM + (bus_number << 20 | slot << 15 | reg);
}

TEST(memory_mapped_configuration)
{
	with_device(&disk_ops);
	EXPECT_EQ(get(ecam(0, 1, 0)), VIREO_PCI_BLK << 16 | VIREO_PCI_VENDOR);
	EXPECT_EQ(vireo_bus_read(&mmio, NULL, ecam(0, 1, PCI_DEVICE_ID), 2), VIREO_PCI_BLK);
	EXPECT_EQ(vireo_bus_read(&mmio, NULL, ecam(0, 1, PCI_VENDOR_ID + 1), 1), 0x56);
	vireo_bus_write(&mmio, NULL, ecam(0, 1, PCI_COMMAND), 2, PCI_COMMAND_MASTER);
	EXPECT_EQ(config_read(1, PCI_COMMAND, 2), PCI_COMMAND_MASTER);
	/* Neither across a boundary, nor 64 bits, nor where nothing is */
	EXPECT_EQ(vireo_bus_read(&mmio, NULL, ecam(0, 1, 1), 2), 0xffff);
	EXPECT_EQ(vireo_bus_read(&mmio, NULL, ecam(0, 1, 2), 4), 0xffffffff);
	EXPECT_EQ(vireo_bus_read(&mmio, NULL, ecam(0, 1, 0), 8), -1);
	EXPECT_EQ(get(ecam(0, 1, 0x100)), 0xffffffff);
	EXPECT_EQ(get(ecam(0, 1, 0xffc)), 0xffffffff);
	EXPECT_EQ(get(ecam(0, 2, 0)), 0xffffffff);
	EXPECT_EQ(get(ecam(0, 1, 0x1000)), 0xffffffff);		/* function 1 */
	EXPECT_EQ(get(ecam(VIREO_PCI_BUSES - 1, 31, 0xffc)), 0xffffffff);
}

/* ---- Slots -------------------------------------------------------------------------- */

#define EXPRESS		0x40
#define SLTCTL		(EXPRESS + PCI_EXP_SLTCTL)
#define SLTSTA		(EXPRESS + PCI_EXP_SLTSTA)
#define LNKSTA		(EXPRESS + PCI_EXP_LNKSTA)
#define MSI		0x80
#define HOTPLUG		(PCI_EXP_SLTCTL_ABPE | PCI_EXP_SLTCTL_DLLSCE | PCI_EXP_SLTCTL_HPIE)

static struct vireo_port port, port2;
static int eject_fd;

/* A machine with two slots, as the guest's driver has set up the first one */
static void with_slots(void)
{
	bus();
	eject_fd = eventfd(0, EFD_NONBLOCK);
	ASSERT_EQ(vireo_port_init(&port, &pci, &vm, eject_fd, &err), 0);
	ASSERT_EQ(vireo_port_init(&port2, &pci, &vm, eject_fd, &err), 0);
	config_write(1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	config_write(1, MSI + PCI_MSI_ADDRESS_LO, 4, MSI_ADDRESS);
	config_write(1, MSI + PCI_MSI_DATA_64, 2, 0x61);
	config_write(1, MSI + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
	config_write(1, SLTCTL, 2, HOTPLUG | PCI_EXP_SLTCTL_PWR_IND_OFF);
}

static int plug(struct vireo_pv *pv)
{
	memset(pv, 0, sizeof(*pv));
	pv->ops = &disk_ops;
	pv->vm = &vm;
	pv->fd = 42;
	pv->offered = 3;
	pv->queues = 2;
	pv->queue_max = VIREO_RING_MAX;
	return vireo_pv_attach(pv, &pci, &port, &err);
}

TEST(port_header)
{
	with_slots();
	EXPECT_EQ(config_read(1, PCI_CLASS_REVISION, 4), 0x06040001);
	EXPECT_EQ(config_read(1, PCI_HEADER_TYPE, 1), PCI_HEADER_TYPE_BRIDGE);
	EXPECT_EQ(config_read(1, PCI_PRIMARY_BUS, 4), 0x00010100);
	EXPECT_EQ(config_read(2, PCI_PRIMARY_BUS, 4), 0x00020200);
	EXPECT_EQ(config_read(1, PCI_PREF_LIMIT_UPPER32, 4), 0);
	EXPECT_EQ(config_read(1, EXPRESS, 4), 0x01428010);
	EXPECT_EQ(config_read(1, SLTCTL - 4, 4) >> 19, 1);
	EXPECT_EQ(config_read(2, SLTCTL - 4, 4) >> 19, 2);
	EXPECT_EQ(config_read(1, SLTSTA, 2), 0);
	EXPECT_EQ(get(ecam(0, 1, 0x100)), 0);		/* no extended capabilities */
	/* No windows but the one for memory; no BARs */
	config_write(1, PCI_IO_BASE, 2, 0xffff);
	config_write(1, PCI_PREF_MEMORY_BASE, 4, 0xffffffff);
	config_write(1, PCI_BASE_ADDRESS_0, 4, 0xffffffff);
	config_write(1, PCI_MEMORY_BASE, 4, 0xffffffff);
	EXPECT_EQ(config_read(1, PCI_IO_BASE, 2), 0);
	EXPECT_EQ(config_read(1, PCI_PREF_MEMORY_BASE, 4), 0);
	EXPECT_EQ(config_read(1, PCI_BASE_ADDRESS_0, 4), 0);
	EXPECT_EQ(config_read(1, PCI_MEMORY_BASE, 4), 0xfff0fff0);
}

TEST(slot)
{
	u64 base;

	with_slots();
	EXPECT_EQ(get(ecam(1, 0, 0)), 0xffffffff);
	EXPECT_EQ(plug(&first), 0);
	EXPECT_EQ(fake.injected, 1);
	EXPECT_EQ(fake.msi.address, MSI_ADDRESS);
	EXPECT_EQ(fake.msi.data, 0x61);
	EXPECT_EQ(config_read(1, SLTSTA, 2),
		  PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_PDS | PCI_EXP_SLTSTA_DLLSC);
	EXPECT_TRUE(config_read(1, LNKSTA, 2) & PCI_EXP_LNKSTA_DLLLA);
	config_write(1, SLTSTA, 2, 0xffff);
	EXPECT_EQ(config_read(1, SLTSTA, 2), PCI_EXP_SLTSTA_PDS);
	EXPECT_EQ(fake.injected, 1);

	/* It is on the bus behind the port, as device 0, and nowhere else. */
	EXPECT_EQ(get(ecam(1, 0, 0)), VIREO_PCI_BLK << 16 | VIREO_PCI_VENDOR);
	EXPECT_EQ(get(ecam(1, 1, 0)), 0xffffffff);
	EXPECT_EQ(get(ecam(2, 0, 0)), 0xffffffff);
	EXPECT_EQ(get(ecam(1, 0, MSIX_CAP)) >> 8 & 0xff, 0x50);
	config_write(1, PCI_SECONDARY_BUS, 1, 7);
	EXPECT_EQ(get(ecam(1, 0, 0)), 0xffffffff);
	EXPECT_NE(get(ecam(7, 0, 0)), 0xffffffff);
	config_write(1, PCI_SECONDARY_BUS, 1, 1);

	/* Its memory is reached through the port's window. */
	base = (u64)(config_read(1, PCI_MEMORY_BASE, 2) & 0xfff0) << 16;
	set(ecam(1, 0, PCI_BASE_ADDRESS_0), (u32)base);
	set(ecam(1, 0, PCI_COMMAND), PCI_COMMAND_MEMORY);
	EXPECT_EQ(get(base), VIREO_PCI_MAGIC);
	config_write(1, PCI_COMMAND, 2, 0);
	EXPECT_EQ(get(base), 0xffffffff);
	config_write(1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	set(ecam(1, 0, PCI_BASE_ADDRESS_0), (u32)base - 0x10000);
	EXPECT_EQ(get(base - 0x10000), 0xffffffff);
	set(ecam(1, 0, PCI_BASE_ADDRESS_0), (u32)base);

	/* Pulled out with a queue in use */
	start(base);
	enable(base, 0, 0);
	EXPECT_EQ(fake.open, 1);
	vireo_pv_destroy(&first);
	EXPECT_EQ(fake.open, 0);
	EXPECT_EQ(get(base), 0xffffffff);
	EXPECT_EQ(get(ecam(1, 0, 0)), 0xffffffff);
	EXPECT_EQ(fake.injected, 2);
	EXPECT_EQ(config_read(1, SLTSTA, 2), PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_DLLSC);
	EXPECT_FALSE(config_read(1, LNKSTA, 2) & PCI_EXP_LNKSTA_DLLLA);
}

TEST(attention_button)
{
	eventfd_t count;

	with_slots();
	vireo_port_press(&port);		/* an empty slot */
	EXPECT_EQ(fake.injected, 0);
	plug(&first);
	config_write(1, SLTSTA, 2, 0xffff);
	config_write(1, SLTCTL, 2, HOTPLUG | PCI_EXP_SLTCTL_PWR_IND_ON);
	vireo_port_press(&port);
	EXPECT_EQ(fake.injected, 2);
	EXPECT_EQ(config_read(1, SLTSTA, 2), PCI_EXP_SLTSTA_PDS | PCI_EXP_SLTSTA_ABP);
	config_write(1, SLTSTA, 2, PCI_EXP_SLTSTA_ABP);
	vireo_port_press(&port);		/* once is enough */
	EXPECT_EQ(fake.injected, 2);
	config_write(1, SLTCTL, 2, HOTPLUG | PCI_EXP_SLTCTL_PWR_IND_BLINK);
	EXPECT_FALSE(vireo_port_released(&port));
	EXPECT_TRUE(eventfd_read(eject_fd, &count) < 0);
	config_write(1, SLTCTL, 2, HOTPLUG | PCI_EXP_SLTCTL_PWR_IND_OFF);
	EXPECT_TRUE(vireo_port_released(&port));
	EXPECT_EQ(eventfd_read(eject_fd, &count), 0);
	vireo_pv_destroy(&first);
	EXPECT_FALSE(vireo_port_released(&port));
	/* Off without having been asked: nothing */
	plug(&first);
	config_write(1, SLTCTL, 2, HOTPLUG | PCI_EXP_SLTCTL_PWR_IND_ON);
	config_write(1, SLTCTL, 2, HOTPLUG | PCI_EXP_SLTCTL_PWR_IND_OFF);
	EXPECT_FALSE(vireo_port_released(&port));
}

/* An event that came while its interrupt was off is told when that is switched on. */
TEST(slot_interrupt_later)
{
	with_slots();
	config_write(1, SLTCTL, 2, 0);
	plug(&first);
	EXPECT_EQ(fake.injected, 0);
	config_write(1, SLTCTL, 2, HOTPLUG);
	EXPECT_EQ(fake.injected, 1);
	config_write(1, MSI + PCI_MSI_FLAGS, 2, 0);
	config_write(1, MSI + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
	EXPECT_EQ(fake.injected, 2);
}

TEST(random_slots)
{
	static struct vireo_pv pv;
	unsigned int i, plugged = 0, width;
	bool in_slot = false;
	u64 seed = 2;
	u32 value;

	with_slots();
	for (i = 0; i < 500000; i++) {
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		value = (u32)(seed >> 20) >> (seed >> 55 & 31);
		width = 1U << (seed >> 62) % 3;
		switch (seed >> 10 & 7) {
		case 0:
			if (in_slot)
				vireo_pv_destroy(&pv);
			else if (!plug(&pv))
				plugged++;
			in_slot = !in_slot;
			break;
		case 1:
			vireo_port_press(&port);
			config_write(1, MSI + PCI_MSI_FLAGS, 2, value & 1);
			config_write(1, SLTCTL, 2, value);
			break;
		case 2:
			set(VIREO_PCI_WINDOW + (value & 0x1ffffffc), value);
			break;
		case 3:
			get(ecam(value & 3, seed >> 40 & 3, seed >> 44 & 0xfff));
			break;
		case 4:
			vireo_bus_write(&mmio, NULL, ecam(1, 0, seed >> 44 & 0xff), width, value);
			break;
		default:
			vireo_bus_write(&mmio, NULL, ecam(0, 1 + (value & 1), seed >> 44 & 0xff),
					width, value);
		}
	}
	test_note("%u times plugged in, %u interrupts", plugged, fake.injected);
	EXPECT_GT(plugged, 1000);
	if (in_slot)
		vireo_pv_destroy(&pv);
	EXPECT_EQ(fake.open, 0);
}

/* ---- Function level reset ----------------------------------------------------------- */

/* Of a device on bus 0: it is as it was before it had a driver, but for its counters. */
TEST(function_level_reset)
{
	u64 regs = with_device(&net_ops), at = bar(1, 1);

	EXPECT_EQ(config_read(1, MSIX_CAP + 1, 1), CAP2);
	EXPECT_EQ(config_read(1, CAP2, 4), 0x03060013);
	start(regs);
	msix(PCI_MSIX_FLAGS_ENABLE);
	entry(0, MSI_ADDRESS, 0x51, false);
	enable(regs, 0, 0);
	EXPECT_EQ(fake.open, 1);
	config_write(1, CAP2 + PCI_AF_CTRL, 1, 0xfe);		/* not so */
	config_write(1, CAP2, 4, 0xffffffff);
	EXPECT_EQ(fake.open, 1);
	config_write(1, CAP2 + PCI_AF_CTRL, 1, PCI_AF_CTRL_FLR);
	EXPECT_EQ(fake.open, 0);
	EXPECT_EQ(fake.up, false);
	EXPECT_EQ(get(regs + VIREO_REG_MAGIC), 0xffffffff);
	EXPECT_EQ(config_read(1, PCI_VENDOR_ID, 4), VIREO_PCI_NET << 16 | VIREO_PCI_VENDOR);
	EXPECT_EQ(config_read(1, PCI_COMMAND, 2), 0);
	EXPECT_EQ(config_read(1, MSIX_CAP, 4), (QUEUES << 16) | CAP2 << 8 | PCI_CAP_ID_MSIX);
	EXPECT_EQ(config_read(1, CAP2 + PCI_AF_CTRL, 2), 0);	/* done */
	/* What was saved is brought back. */
	config_write(1, PCI_BASE_ADDRESS_0, 4, (u32)regs);
	config_write(1, PCI_BASE_ADDRESS_1, 4, (u32)at);
	config_write(1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	EXPECT_EQ(get(at + 12), 1);				/* masked */
	EXPECT_EQ(get(at), 0);
	start(regs);
	enable(regs, 0, 0);
	EXPECT_EQ(fake.open, 1);
}

/* The same of one in a slot, which stays in it; the port cannot be reset. */
TEST(function_level_reset_in_slot)
{
	u64 base;

	with_slots();
	ASSERT_EQ(plug(&first), 0);
	EXPECT_TRUE(get(ecam(1, 0, CAP2 + PCI_EXP_DEVCAP)) & PCI_EXP_DEVCAP_FLR);
	EXPECT_FALSE(config_read(1, EXPRESS + PCI_EXP_DEVCAP, 4) & PCI_EXP_DEVCAP_FLR);
	base = (u64)(config_read(1, PCI_MEMORY_BASE, 2) & 0xfff0) << 16;
	set(ecam(1, 0, PCI_BASE_ADDRESS_0), (u32)base);
	set(ecam(1, 0, PCI_COMMAND), PCI_COMMAND_MEMORY);
	start(base);
	enable(base, 0, 0);
	set(ecam(1, 0, CAP2 + PCI_EXP_DEVCTL), ~(u32)PCI_EXP_DEVCTL_BCR_FLR);
	config_write(1, EXPRESS + PCI_EXP_DEVCTL, 2, 0xffff);
	EXPECT_EQ(fake.open, 1);
	set(ecam(1, 0, CAP2 + PCI_EXP_DEVCTL), PCI_EXP_DEVCTL_BCR_FLR);
	EXPECT_EQ(fake.open, 0);
	EXPECT_EQ(get(base), 0xffffffff);
	EXPECT_EQ(get(ecam(1, 0, 0)), VIREO_PCI_BLK << 16 | VIREO_PCI_VENDOR);
	EXPECT_EQ(get(ecam(1, 0, CAP2 + PCI_EXP_DEVCTL)), 0);
	EXPECT_TRUE(config_read(1, SLTSTA, 2) & PCI_EXP_SLTSTA_PDS);
}

/* ---- What no driver does ------------------------------------------------------------ */

static void every_access(u64 base, u32 size, u64 value)
{
	unsigned int width;
	u32 offset;

	for (offset = 0; offset < size + 16; offset++) {
		for (width = 1; width <= 8; width *= 2) {
			vireo_bus_read(&mmio, NULL, base + offset, width);
			vireo_bus_write(&mmio, NULL, base + offset, width, value);
		}
	}
}

TEST(any_offset_any_width)
{
	static const u64 values[] = { 0, 1, 2, 0x40, ~0ULL, 0xfee00000fee00000ULL };
	u64 regs = with_device(&disk_ops), table = bar(1, 1);
	unsigned int i, reg, width;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		start(regs);
		enable(regs, 0, 1);
		every_access(regs, VIREO_PCI_BAR_SIZE, values[i]);
		every_access(table, VIREO_PCI_MSIX_SIZE, values[i]);
		set(regs + VIREO_REG_STATUS, VIREO_STATUS_RESET);
		EXPECT_EQ(fake.open, 0);
	}
	for (i = 0; i < ARRAY_SIZE(values); i++) {
		for (reg = 0; reg < 256; reg++) {
			for (width = 1; width <= 4; width *= 2) {
				config_read(1, reg, width);
				config_write(1, reg, width, (u32)values[i]);
			}
		}
		EXPECT_EQ(config_read(1, 0, 2), VIREO_PCI_VENDOR);
	}
}

TEST_LIMIT(random_accesses, 120)
{
	static struct vireo_pv pv[3];
	u64 seed = 1, gpa;
	unsigned int i, j, open, width;
	u32 value, offset;

	bus();
	ASSERT_EQ(add(&pv[0], &disk_ops, 4), 0);
	ASSERT_EQ(add(&pv[1], &net_ops, VIREO_PCI_QUEUES), 0);
	ASSERT_EQ(add(&pv[2], &disk_ops, 1), 0);
	for (i = 0; i < 2000000; i++) {
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		width = 1U << (seed >> 62 & (seed >> 61 & 1 ? 3 : 2));
		if (seed >> 60 & 1)
			width = 4;
		value = (u32)(seed >> 20) >> (seed >> 55 & 31);
		if (!(seed >> 50 & 7))
			value = MSI_ADDRESS;
		offset = (u32)(seed >> 30) & 0x3fff;
		if (seed >> 40 & 1)
			offset &= 0x3fc;	/* where the most is */
		gpa = VIREO_PCI_WINDOW + 0x4000 * (1 + (seed >> 33) % 3) + offset;
		fake.fail = seed >> 45 & 3 ? 0 : ENXIO;
		fake.property = (u32)(seed >> 58);
		switch (seed >> 10 & 15) {
		case 0:
			out(VIREO_PORT_PCI, 4, 0x80000000U | (value & 0x1fff));
			break;
		case 1:
			out(VIREO_PORT_PCI + (offset & 7), width & 7 ? width : 4, value);
			break;
		case 2:
			in(VIREO_PORT_PCI + (offset & 7), width & 7 ? width : 4);
			break;
		case 3:
			vireo_pv_refresh(&pv[seed >> 47 & 1], &err);
			break;
		case 4:		/* let it come back to where it is hit */
			config_write(1 + value % 3, PCI_BASE_ADDRESS_0, 4,
				     (u32)(VIREO_PCI_WINDOW + 0x4000 * (1 + value % 3)));
			config_write(1 + value % 3, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
			config_write(1 + value % 3, MSIX_CAP + PCI_MSIX_FLAGS, 2,
				     (u16)(seed >> 44));
			break;
		case 5:
			set(gpa & ~0x3fffULL, VIREO_PCI_MAGIC);
			set((gpa & ~0x3fffULL) + VIREO_REG_ACCEPTED, 0);
			set((gpa & ~0x3fffULL) + VIREO_REG_ACCEPTED + 4, 0);
			set((gpa & ~0x3fffULL) + VIREO_REG_STATUS, VIREO_STATUS_OK);
			set((gpa & ~0x3fffULL) + VIREO_REG_VECTOR, value & 1);
			break;
		case 6:
			enable(gpa & ~0x3fffULL, value % 64, offset & 7);
			break;
		case 7:
		case 8:
		case 9:
			vireo_bus_read(&mmio, NULL, gpa, width);
			break;
		default:
			if (offset == VIREO_REG_STATUS && seed >> 48 & 3)
				break;
			vireo_bus_write(&mmio, NULL, gpa, width, value);
		}
	}
	open = 0;
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(config_read(i + 1, 0, 2), VIREO_PCI_VENDOR);
		for (j = 0; j < pv[i].queues; j++)
			open += pv[i].queue[j].fd >= 0;
	}
	EXPECT_EQ(open, fake.open);
	test_note("%u queues were open in the end, %u routes, %u interrupts", open, fake.routes,
		  fake.injected);
	EXPECT_GT(fake.routes, 1000);
	for (i = 0; i < 3; i++)
		vireo_pv_destroy(&pv[i]);
	EXPECT_EQ(fake.open, 0);
	for (i = 0; i < VIREO_MAX_QUEUES; i++)
		EXPECT_FALSE(vm.doorbell[i]);
}

TEST_MAIN()
