// SPDX-License-Identifier: GPL-2.0
/*
 * The device's half of a ring as the tool has it, against the driver's half, and
 * against drivers that do not keep the rules.
 */
#include <errno.h>
#include <string.h>

#include "harness.h"

#include "core.h"
#include "libvireo.h"

#define N	16U
#define RING	0x2000ULL	/* gpa */
#define DATA	0x10000ULL
#define MEMORY	0x20000ULL

static union {
	u8 bytes[MEMORY];
	u64 align;
} ram __aligned(4096);

static u64 hole;	/* nobody can access the page of this gpa, 0: all are there */
static void *flight[VIREO_RING_MAX];
static struct vireo_vm vm = { .low_end = MEMORY, .high_end = VIREO_HIGH_BASE };

static bool reachable(u64 gpa, size_t len)
{
	return gpa < MEMORY && len <= MEMORY - gpa && !(hole && gpa / 4096 == hole / 4096);
}

int vireo_vm_read(struct vireo_vm *v, __u64 gpa, void *data, size_t len, struct vireo_error *err)
{
	(void)v;
	if (!reachable(gpa, len))
		return vireo_fail(err, ENXIO, "not RAM");
	memcpy(data, ram.bytes + gpa, len);
	return 0;
}

int vireo_vm_write(struct vireo_vm *v, __u64 gpa, const void *data, size_t len,
		   struct vireo_error *err)
{
	(void)v;
	if (!reachable(gpa, len))
		return vireo_fail(err, ENXIO, "not RAM");
	memcpy(ram.bytes + gpa, data, len);
	return 0;
}

static struct vireo_ring_ctl *ctl(void)
{
	return (struct vireo_ring_ctl *)(ram.bytes + RING);
}

/* Both halves, as after @start entries */
static void begin(struct vireo_ring *driver, struct vireo_sring *device, u32 start)
{
	hole = 0;
	memset(&ram, 0, sizeof(ram));
	vireo_ring_init(driver, ram.bytes + RING, flight, N);
	driver->sub_tail = start;
	driver->sub_told = start;
	driver->comp_head = start;
	driver->comp_seen = start;
	ctl()->sub_tail = start;
	ctl()->comp_head = start;
	ctl()->comp_event = start;
	ctl()->comp_tail = start;
	ASSERT_EQ(vireo_sring_open(device, &vm, RING, N, start), 0);
}

static int put(struct vireo_ring *driver, u32 tag)
{
	struct vireo_console_sub sub = {
		.nsegs = 1, .tag = (__u16)tag, .seg[0] = { .gpa = DATA + 64 * tag, .len = 64 },
	};

	return vireo_ring_put(driver, &sub, tag, &flight[tag]);
}

TEST(open_checks)
{
	static const struct {
		u64 gpa;
		u32 entries;
	} bad[] = {
		{ RING, 0 }, { RING, 8 }, { RING, 17 }, { RING, 2048 }, { RING, 0x80000000 },
		{ RING + 64, N }, { MEMORY, N }, { MEMORY - 4096, N }, { RING, 0xffffffff },
		{ RING, 1024 + 512 }, { ~0ULL & ~0xfffULL, N }, { 1ULL << 32, N }, { 0x1f000, N },
	};
	struct vireo_sring r;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		EXPECT_THAT(vireo_sring_open(&r, &vm, bad[i].gpa, bad[i].entries, 0) == -EINVAL &&
			    !r.entries, "0x%llx, %u entries: taken", bad[i].gpa, bad[i].entries);
	EXPECT_EQ(vireo_sring_open(&r, &vm, RING, VIREO_RING_MIN, 0), 0);
	EXPECT_EQ(vireo_sring_open(&r, &vm, MEMORY - 4096 - 16 * 80 / 4096 * 4096 - 4096, N, 0), 0);
}

/* Around the end of the numbers: each entry once, in order, with its own tag. */
TEST(rounds)
{
	struct vireo_ring driver;
	struct vireo_sring device;
	struct vireo_console_sub entry;
	struct vireo_comp comp;
	u32 i, k, taken = 0;

	begin(&driver, &device, 0xffffffd0);
	for (i = 0; i < 100; i++) {
		for (k = 0; k <= i % N; k++)
			ASSERT_EQ(put(&driver, k), 0);
		vireo_ring_publish(&driver);
		for (k = 0; vireo_sring_next(&device, &entry); k++) {
			EXPECT_EQ(entry.tag, k);
			vireo_sring_complete(&device, &entry, VIREO_COMP_OK, 64, 64);
		}
		EXPECT_EQ(k, i % N + 1);
		EXPECT_TRUE(vireo_sring_show(&device));
		EXPECT_FALSE(vireo_sring_show(&device));
		for (k = 0; vireo_ring_take(&driver, &comp); k++) {
			EXPECT_EQ(comp.tag, k);
			EXPECT_EQ(comp.len, 64);
			taken++;
		}
		vireo_ring_release(&driver);
		EXPECT_FALSE(vireo_ring_arm(&driver, 1));
	}
	EXPECT_EQ(device.stat.entries, taken);
	EXPECT_EQ(device.stat.bytes, 64 * taken);
	EXPECT_EQ(device.stat.errors, 0);
}

/* Rung once when it sleeps, and not while it works or has something lying there. */
TEST(events)
{
	struct vireo_ring driver;
	struct vireo_sring device;
	struct vireo_console_sub entry;

	begin(&driver, &device, 0);
	put(&driver, 0);
	EXPECT_TRUE(vireo_ring_publish(&driver));
	EXPECT_TRUE(vireo_sring_next(&device, &entry));
	put(&driver, 1);
	EXPECT_FALSE(vireo_ring_publish(&driver));
	EXPECT_TRUE(vireo_sring_next(&device, &entry));
	EXPECT_EQ(entry.tag, 0);	/* it was left where it is */
	vireo_sring_complete(&device, &entry, VIREO_COMP_OK, 0, 0);
	EXPECT_TRUE(vireo_sring_next(&device, &entry));
	vireo_sring_complete(&device, &entry, VIREO_COMP_OK, 0, 0);
	EXPECT_FALSE(vireo_sring_next(&device, &entry));
	put(&driver, 2);
	EXPECT_TRUE(vireo_ring_publish(&driver));
	/* A driver that asks for silence is not interrupted. */
	vireo_ring_silence(&driver);
	EXPECT_FALSE(vireo_sring_show(&device));
	EXPECT_EQ(ctl()->comp_tail, 2);
}

TEST(goes_on)
{
	struct vireo_ring driver;
	struct vireo_sring device, clone;
	struct vireo_console_sub entry;
	u32 i;

	begin(&driver, &device, 0);
	for (i = 0; i < 5; i++)
		put(&driver, i);
	vireo_ring_publish(&driver);
	for (i = 0; i < 3 && vireo_sring_next(&device, &entry); i++)
		vireo_sring_complete(&device, &entry, VIREO_COMP_OK, 0, 0);
	vireo_sring_show(&device);
	ASSERT_EQ(vireo_sring_open(&clone, &vm, RING, N, device.tail), 0);
	for (; vireo_sring_next(&clone, &entry); i++) {
		EXPECT_EQ(entry.tag, i);
		vireo_sring_complete(&clone, &entry, VIREO_COMP_OK, 0, 0);
	}
	EXPECT_EQ(i, 5);
}

/* An index that lies is the end, and is told once. */
TEST(bad_indices)
{
	static const struct {
		u32 sub_tail;
		u32 comp_head;
	} bad[] = {
		{ N + 1, 0 }, { 0xffffffff, 0 }, { 0x80000000, 0 }, { 1, 1 }, { 1, 0xfffffff0 },
		{ 16, 0xffffffff }, { 5, 0x80000000 },
	};
	struct vireo_ring driver;
	struct vireo_sring device;
	struct vireo_console_sub entry;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		begin(&driver, &device, 0);
		ctl()->sub_tail = bad[i].sub_tail;
		ctl()->comp_head = bad[i].comp_head;
		EXPECT_THAT(!vireo_sring_next(&device, &entry), "%u: taken", i);
		EXPECT_EQ(ctl()->error, VIREO_RING_ERROR_INDEX);
		EXPECT_TRUE(vireo_sring_show(&device));
		EXPECT_FALSE(vireo_sring_show(&device));
		ctl()->sub_tail = 1;
		ctl()->comp_head = 0;
		EXPECT_FALSE(vireo_sring_next(&device, &entry));
	}
}

TEST(memory_gone)
{
	struct vireo_ring driver;
	struct vireo_sring device;
	struct vireo_console_sub entry;

	begin(&driver, &device, 0);
	put(&driver, 0);
	vireo_ring_publish(&driver);
	EXPECT_TRUE(vireo_sring_next(&device, &entry));
	hole = RING + 4096;
	vireo_sring_complete(&device, &entry, VIREO_COMP_OK, 0, 0);
	EXPECT_EQ(device.error, VIREO_RING_ERROR_MEMORY);
	EXPECT_EQ(ctl()->error, VIREO_RING_ERROR_MEMORY);
	EXPECT_TRUE(vireo_sring_show(&device));
	begin(&driver, &device, 0);
	hole = RING;
	EXPECT_FALSE(vireo_sring_next(&device, &entry));
	EXPECT_EQ(device.error, VIREO_RING_ERROR_MEMORY);
}

static int segments(struct vireo_sring *r, struct vireo_console_sub *sub, u32 *bytes)
{
	struct vireo_seg seg[VIREO_RING_INDIRECT];

	return vireo_sring_segments(r, sub, seg, 4096, bytes);
}

TEST(segment_rules)
{
	static const struct vireo_console_sub good = {
		.nsegs = 2, .seg = { { .gpa = DATA, .len = 4000 }, { .gpa = DATA + 1, .len = 96 } },
	};
	struct vireo_console_sub s;
	struct vireo_ring driver;
	struct vireo_sring r;
	u32 bytes = 0;

	begin(&driver, &r, 0);
	s = good;
	EXPECT_EQ(segments(&r, &s, &bytes), 2);
	EXPECT_EQ(bytes, 4096);
#define BAD(change) do { s = good; change; EXPECT_EQ(segments(&r, &s, &bytes), -EINVAL); } while (0)
	BAD(s.nsegs = 0);
	BAD(s.nsegs = 3);		/* the third is empty */
	BAD(s.nsegs = 4);
	BAD(s.nsegs = 0xffff);
	BAD(s.flags = 1);
	BAD(s.reserved0 = 1);
	BAD(s.reserved1 = 1);
	BAD(s.reserved2 = 1);
	BAD(s.seg[0].reserved = 1);
	BAD(s.seg[1].len = 97);
	BAD(s.seg[1].len = 0xffffffff);
	BAD(s.seg[0].len = 0);
	BAD(s.seg[1].gpa = MEMORY);
	BAD(s.seg[1].gpa = MEMORY - 95);
	BAD(s.seg[1].gpa = ~0ULL);
	BAD(s.seg[1].gpa = VIREO_HIGH_BASE);
#undef BAD
}

TEST(list_rules)
{
	static const struct vireo_console_sub good = {
		.nsegs = 256, .flags = VIREO_SUB_INDIRECT,
		.seg[0] = { .gpa = DATA, .len = 4096 },
	};
	struct vireo_seg *list = (struct vireo_seg *)(ram.bytes + DATA);
	struct vireo_console_sub s;
	struct vireo_ring driver;
	struct vireo_sring r;
	u32 bytes = 0, i;

	begin(&driver, &r, 0);
	for (i = 0; i < 256; i++)
		list[i] = (struct vireo_seg){ .gpa = DATA + 4096 + 16 * i, .len = 16 };
	s = good;
	EXPECT_EQ(segments(&r, &s, &bytes), 256);
	EXPECT_EQ(bytes, 4096);
#define BAD(change) do { s = good; change; EXPECT_EQ(segments(&r, &s, &bytes), -EINVAL); } while (0)
	BAD(s.nsegs = 257);
	BAD(s.nsegs = 255);
	BAD(s.nsegs = 0; s.seg[0].len = 0);
	BAD(s.seg[0].len = 4095);
	BAD(s.seg[0].gpa += 8);
	BAD(s.seg[0].gpa += 16);	/* over the end of a page */
	BAD(s.seg[0].reserved = 1);
	BAD(s.seg[0].gpa = MEMORY);
	BAD(s.seg[0].gpa = ~0xfffULL);
#undef BAD
	list[255].len = 17;
	EXPECT_EQ(segments(&r, (s = good, &s), &bytes), -EINVAL);
	list[255].len = 0;
	EXPECT_EQ(segments(&r, (s = good, &s), &bytes), -EINVAL);
}

TEST_MAIN()
