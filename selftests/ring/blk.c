// SPDX-License-Identifier: GPL-2.0
/* A disk's requests: what they do, and which of them are refused. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "host.h"
#include "ring.h"

static u8 buf[1 << 20] __aligned(4096);

/* The same guest on the first kinds of disk */
static void run_on(u32 kinds, void (*guest)(u64),
		   void (*check)(struct test_disk *d, enum backing b))
{
	struct test_disk d;
	enum backing b;

	for (b = 0; b < kinds; b++) {
		if (!disk_boot(&d, b, 1, 0))
			continue;
		vcpu_set_entry(&d.vm.vcpu[0], guest, b);
		vcpu_run_done(&d.vm.vcpu[0]);
		if (check)
			check(&d, b);
		EXPECT_EQ(queue_stat(d.queue).error, 0);
		EXPECT_EQ(queue_stat(d.queue).in_flight, 0);
		disk_close(&d);
	}
}

static void run_on_all(void (*guest)(u64), void (*check)(struct test_disk *d, enum backing b))
{
	run_on(BACKINGS, guest, check);
}

/*
 * Segments smaller than a block are fine with most drivers, but null_blk writes
 * beyond its pages then (all versions so far).
 */
static void run_on_sectors(void (*guest)(u64),
			   void (*check)(struct test_disk *d, enum backing b))
{
	run_on(BACKING_BLOCK_4K, guest, check);
}

/* ---- data -------------------------------------------------------------------------- */

static void guest_write_read(u64 arg)
{
	u8 *data = (u8 *)DATA, *back = (u8 *)DATA + 0x100000;
	struct ring r;
	u32 i;

	ring_open(&r, RING, ENTRIES, DOORBELL);
	for (i = 0; i < 100; i++) {
		u64 sector = (i * 37 % 100) * 8;

		pattern_fill(data, 4096, sector, 1);
		GUEST_EQ(ring_do(&r, VIREO_BLK_WRITE, 0, sector, data, 4096), 0);
	}
	for (i = 0; i < 100; i++) {
		GUEST_EQ(ring_do(&r, VIREO_BLK_READ, 0, i * 8, back, 4096), 0);
		GUEST_TRUE(pattern_is(back, 4096, i * 8, 1));
	}
	/* The largest */
	pattern_fill(data, VIREO_BLK_MAX_BYTES, 2048, 2);
	GUEST_EQ(ring_do(&r, VIREO_BLK_WRITE, VIREO_BLK_FUA, 2048, data, VIREO_BLK_MAX_BYTES), 0);
	GUEST_EQ(ring_do(&r, VIREO_BLK_READ, 0, 2048, back, VIREO_BLK_MAX_BYTES), 0);
	GUEST_TRUE(pattern_is(back, VIREO_BLK_MAX_BYTES, 2048, 2));
	GUEST_EQ(ring_do(&r, VIREO_BLK_FLUSH, 0, 0, NULL, 0), 0);
}

static void check_write_read(struct test_disk *d, enum backing b)
{
	struct vireo_queue_stat s = queue_stat(d->queue);

	backing_read(d->file, buf, 100 * 4096, 0);
	EXPECT_TRUE(pattern_is(buf, 100 * 4096, 0, 1));
	backing_read(d->file, buf, sizeof(buf), 2048 * 512);
	EXPECT_TRUE(pattern_is(buf, sizeof(buf), 2048, 2));
	EXPECT_EQ(s.entries, 203);
	EXPECT_EQ(s.bytes, 200 * 4096 + 2 * VIREO_BLK_MAX_BYTES);
	EXPECT_EQ(s.errors, 0);
	EXPECT_GE(s.doorbells, 1);
	EXPECT_EQ(s.throttled, 0);
}

TEST_LIMIT(write_and_read, 120)
{
	run_on_all(guest_write_read, check_write_read);
}

/* ---- segments ------------------------------------------------------------------------ */

/* Three in place: neither aligned to pages nor of whole blocks, and out of order */
static void guest_segments(u64 arg)
{
	struct vireo_blk_sub *sub;
	struct ring r;
	u8 op;

	ring_open(&r, RING, ENTRIES, DOORBELL);
	pattern_fill((u8 *)DATA + 0x2e00, 512, 16, 3);
	pattern_fill((u8 *)DATA + 0x1000, 4096 + 1024, 17, 3);
	pattern_fill((u8 *)DATA + 0x200, 2560, 27, 3);
	for (op = VIREO_BLK_WRITE;; op = VIREO_BLK_READ) {
		u32 shift = op == VIREO_BLK_READ ? 0x100000 : 0;

		sub = ring_next(&r);
		sub->op = op;
		sub->sector = 16;
		sub->nsegs = 3;
		sub->seg[0] = (struct vireo_seg) { .gpa = DATA + shift + 0x2e00, .len = 512 };
		sub->seg[1] = (struct vireo_seg) { .gpa = DATA + shift + 0x1000, .len = 5120 };
		sub->seg[2] = (struct vireo_seg) { .gpa = DATA + shift + 0x200, .len = 2560 };
		ring_put(&r);
		ring_kick(&r);
		GUEST_EQ(ring_wait(&r).status, 0);
		if (op == VIREO_BLK_READ)
			break;
	}
	GUEST_TRUE(pattern_is((u8 *)DATA + 0x102e00, 512, 16, 3));
	GUEST_TRUE(pattern_is((u8 *)DATA + 0x101000, 5120, 17, 3));
	GUEST_TRUE(pattern_is((u8 *)DATA + 0x100200, 2560, 27, 3));
	GUEST_EQ(*(u64 *)(DATA + 0x100c00), 0);
}

static void check_segments(struct test_disk *d, enum backing b)
{
	backing_read(d->file, buf, 16384, 0);
	EXPECT_TRUE(pattern_is(buf + 8192, 8192, 16, 3));
	EXPECT_TRUE(!memcmp(buf, buf + 4096, 4096));
}

TEST(segments)
{
	run_on_sectors(guest_segments, check_segments);
}

/* A list of the most there can be, each of which straddles two pages */
static void guest_list(u64 odd)
{
	struct vireo_seg *list = (void *)(DATA + 0x700000);
	u8 *data = (u8 *)DATA + 512;
	struct vireo_blk_sub *sub;
	struct ring r;
	u32 i;
	u8 op;

	ring_open(&r, RING, ENTRIES, DOORBELL);
	/* From the back, with gaps; sizes that no block boundary falls between */
	for (i = 0; i < VIREO_RING_INDIRECT; i++) {
		list[i].gpa = (uintptr_t)data + (255 - i) * 8192;
		list[i].len = i % 2 ? 3584 : 4096 + 512;
		list[i].reserved = 0;
	}
	for (op = VIREO_BLK_WRITE;; op = VIREO_BLK_READ) {
		u64 sector = 800;

		for (i = 0; i < VIREO_RING_INDIRECT; i++) {
			u8 *p = (u8 *)list[i].gpa;

			if (op == VIREO_BLK_WRITE)
				pattern_fill(p, list[i].len, sector, 4);
			else
				*(volatile u64 *)(p + 512) = 0;
			sector += list[i].len / 512;
		}
		sub = ring_next(&r);
		sub->op = op;
		sub->flags = VIREO_SUB_INDIRECT;
		sub->sector = 800;
		sub->nsegs = VIREO_RING_INDIRECT;
		sub->seg[0].gpa = (uintptr_t)list;
		sub->seg[0].len = VIREO_RING_INDIRECT * sizeof(*list);
		ring_put(&r);
		ring_kick(&r);
		GUEST_EQ(ring_wait(&r).status, 0);
		if (op == VIREO_BLK_WRITE)
			continue;
		for (i = 0, sector = 800; i < VIREO_RING_INDIRECT; i++) {
			GUEST_TRUE(pattern_is((u8 *)list[i].gpa, list[i].len, sector, 4));
			sector += list[i].len / 512;
		}
		break;
	}
}

static void check_list(struct test_disk *d, enum backing b)
{
	backing_read(d->file, buf, sizeof(buf) - 8192, 800 * 512);
	EXPECT_TRUE(pattern_is(buf, 256 * 4096 - 8192, 800, 4));
}

TEST_LIMIT(list_of_segments, 120)
{
	run_on_sectors(guest_list, check_list);
}

/* ---- many at a time -------------------------------------------------------------------- */

static u8 seen[ENTRIES];

static void guest_depth(u64 arg)
{
	struct vireo_comp comp;
	struct ring r;
	u32 round, i;

	ring_open(&r, RING, ENTRIES, DOORBELL);
	for (round = 0; round < 20; round++) {
		u8 op = round % 2 ? VIREO_BLK_READ : VIREO_BLK_WRITE;

		for (i = 0; i < ENTRIES; i++) {
			u8 *data = (u8 *)DATA + i * 8192;

			seen[i] = 0;
			if (op == VIREO_BLK_WRITE)
				pattern_fill(data, 8192, i * 16, round);
			else
				*(volatile u64 *)data = 0;
			ring_request(&r, i, op, 0, i * 16, data, 8192);
		}
		ring_kick(&r);
		for (i = 0; i < ENTRIES; i++) {
			comp = ring_wait(&r);
			GUEST_EQ(comp.status, 0);
			GUEST_TRUE(comp.tag < ENTRIES && !seen[comp.tag]);
			seen[comp.tag] = 1;
			if (op == VIREO_BLK_READ)
				GUEST_TRUE(pattern_is((u8 *)DATA + comp.tag * 8192, 8192,
						      comp.tag * 16, round - 1));
		}
	}
}

TEST_LIMIT(full_ring, 120)
{
	run_on_all(guest_depth, NULL);
}

/* ---- discard, zeroes --------------------------------------------------------------------- */

static void guest_zeroes(u64 arg)
{
	u8 *data = (u8 *)DATA, *back = (u8 *)DATA + 0x100000;
	u16 status;
	struct ring r;
	u32 i;

	ring_open(&r, RING, ENTRIES, DOORBELL);
	pattern_fill(data, 0x40000, 64, 5);
	GUEST_EQ(ring_do(&r, VIREO_BLK_WRITE, 0, 64, data, 0x40000), 0);
	GUEST_EQ(ring_do_range(&r, VIREO_BLK_WRITE_ZEROES, 0, 64, 128), 0);
	status = ring_do_range(&r, VIREO_BLK_WRITE_ZEROES, VIREO_BLK_NOUNMAP, 256, 64);
	GUEST_TRUE(!status || status == VIREO_COMP_UNSUPPORTED);
	if (status)	/* no way to keep the space: an ordinary write does it */
		GUEST_EQ(ring_do(&r, VIREO_BLK_WRITE, 0, 256, (u8 *)DATA + 0x200000, 32768), 0);
	GUEST_EQ(ring_do(&r, VIREO_BLK_READ, 0, 64, back, 0x40000), 0);
	for (i = 0; i < 128 * 512; i++)
		GUEST_EQ(back[i], 0);
	GUEST_TRUE(pattern_is(back + 128 * 512, 64 * 512, 192, 5));
	for (i = 192 * 512; i < 256 * 512; i++)
		GUEST_EQ(back[i], 0);
	GUEST_TRUE(pattern_is(back + 256 * 512, 256 * 512, 320, 5));
	status = ring_do_range(&r, VIREO_BLK_DISCARD, 0, 320, 64);
	GUEST_EQ(status, arg == BACKING_BLOCK_4K ? VIREO_COMP_UNSUPPORTED : 0);
	GUEST_EQ(ring_do(&r, VIREO_BLK_READ, 0, 384, back, 0x10000), 0);
	GUEST_TRUE(pattern_is(back, 0x10000, 384, 5));
}

TEST(zeroes_and_discard)
{
	run_on_all(guest_zeroes, NULL);
}

/* ---- refusals ---------------------------------------------------------------------------- */

#define END	BACKING_SECTORS
#define SEG(g, l)	{ .gpa = (g), .len = (l) }

struct refusal {
	const char *what;
	u16 status;
	struct vireo_blk_sub sub;
};

#define WRITE_OF(...)	{ .op = VIREO_BLK_WRITE, __VA_ARGS__ }
#define LIST		(DATA + 0x700000)	/* zeroes: segments without a length */

static const struct refusal refusals[] = {
	{ "operation 5", VIREO_COMP_UNSUPPORTED, { .op = 5 } },
	{ "operation 255", VIREO_COMP_UNSUPPORTED, { .op = 255, .nsegs = 1 } },
	{ "flag 2", VIREO_COMP_INVALID,
	  WRITE_OF(.flags = 4, .nsegs = 1, .seg = { SEG(DATA, 4096) }) },
	{ "flag 6", VIREO_COMP_INVALID,
	  WRITE_OF(.flags = 0x40, .nsegs = 1, .seg = { SEG(DATA, 4096) }) },
	{ "FUA to read", VIREO_COMP_INVALID,
	  { .flags = VIREO_BLK_FUA, .nsegs = 1, .seg = { SEG(DATA, 4096) } } },
	{ "NOUNMAP to write", VIREO_COMP_INVALID,
	  WRITE_OF(.flags = VIREO_BLK_NOUNMAP, .nsegs = 1, .seg = { SEG(DATA, 4096) }) },
	{ "reserved", VIREO_COMP_INVALID,
	  WRITE_OF(.reserved = 1, .nsegs = 1, .seg = { SEG(DATA, 4096) }) },
	{ "no segment", VIREO_COMP_INVALID, WRITE_OF(.seg = { SEG(DATA, 4096) }) },
	{ "four segments in place", VIREO_COMP_INVALID,
	  WRITE_OF(.nsegs = 4, .seg = { SEG(DATA, 4096), SEG(DATA, 4096), SEG(DATA, 4096) }) },
	{ "65535 segments in place", VIREO_COMP_INVALID,
	  WRITE_OF(.nsegs = 65535, .seg = { SEG(DATA, 4096) }) },
	{ "length 0", VIREO_COMP_INVALID, WRITE_OF(.nsegs = 1, .seg = { SEG(DATA, 0) }) },
	{ "second length 0", VIREO_COMP_INVALID,
	  WRITE_OF(.nsegs = 2, .seg = { SEG(DATA, 4096), SEG(DATA, 0) }) },
	{ "length 4097", VIREO_COMP_INVALID, WRITE_OF(.nsegs = 1, .seg = { SEG(DATA, 4097) }) },
	{ "length 256", VIREO_COMP_INVALID, WRITE_OF(.nsegs = 1, .seg = { SEG(DATA, 256) }) },
	{ "lengths that add up", VIREO_COMP_INVALID,
	  WRITE_OF(.nsegs = 2, .seg = { SEG(DATA, 4000), SEG(DATA, 96) }) },
	{ "address 256", VIREO_COMP_INVALID,
	  WRITE_OF(.nsegs = 1, .seg = { SEG(DATA + 256, 4096) }) },
	{ "segment's reserved", VIREO_COMP_INVALID,
	  WRITE_OF(.nsegs = 1, .seg = { { .gpa = DATA, .len = 4096, .reserved = 1 } }) },
	{ "behind RAM", VIREO_COMP_INVALID,
	  WRITE_OF(.nsegs = 1, .seg = { SEG(0x1000000, 4096) }) },
	{ "over the end of RAM", VIREO_COMP_INVALID,
	  WRITE_OF(.nsegs = 1, .seg = { SEG(0xfff000, 8192) }) },
	{ "second one behind RAM", VIREO_COMP_INVALID,
	  WRITE_OF(.nsegs = 2, .seg = { SEG(DATA, 4096), SEG(VIREO_MAX_GPA - 4096, 4096) }) },
	{ "address 2^64 - 4096", VIREO_COMP_INVALID,
	  WRITE_OF(.nsegs = 1, .seg = { SEG(~0ULL << 12, 8192) }) },
	{ "more than the most", VIREO_COMP_INVALID,
	  WRITE_OF(.nsegs = 2, .seg = { SEG(DATA, VIREO_BLK_MAX_BYTES), SEG(DATA, 4096) }) },
	{ "length 2^32 - 512", VIREO_COMP_INVALID,
	  WRITE_OF(.nsegs = 2, .seg = { SEG(DATA, 4096), SEG(DATA, 0xfffffe00) }) },
	{ "a list of none", VIREO_COMP_INVALID,
	  WRITE_OF(.flags = VIREO_SUB_INDIRECT, .seg = { SEG(LIST, 0) }) },
	{ "a list of 257", VIREO_COMP_INVALID,
	  WRITE_OF(.flags = VIREO_SUB_INDIRECT, .nsegs = 257, .seg = { SEG(LIST, 257 * 16) }) },
	{ "a list of another length", VIREO_COMP_INVALID,
	  WRITE_OF(.flags = VIREO_SUB_INDIRECT, .nsegs = 2, .seg = { SEG(LIST, 16) }) },
	{ "a list behind RAM", VIREO_COMP_INVALID,
	  WRITE_OF(.flags = VIREO_SUB_INDIRECT, .nsegs = 2, .seg = { SEG(0xfffff0, 32) }) },
	{ "a list of lengths 0", VIREO_COMP_INVALID,
	  WRITE_OF(.flags = VIREO_SUB_INDIRECT, .nsegs = 2, .seg = { SEG(LIST, 32) }) },
	{ "behind the end", VIREO_COMP_RANGE,
	  WRITE_OF(.sector = END, .nsegs = 1, .seg = { SEG(DATA, 4096) }) },
	{ "over the end", VIREO_COMP_RANGE,
	  WRITE_OF(.sector = END - 8, .nsegs = 1, .seg = { SEG(DATA, 8192) }) },
	{ "sector 2^64 - 8", VIREO_COMP_RANGE,
	  WRITE_OF(.sector = -8ULL, .nsegs = 1, .seg = { SEG(DATA, 8192) }) },
	{ "sector 2^55", VIREO_COMP_RANGE,
	  WRITE_OF(.sector = 1ULL << 55, .nsegs = 1, .seg = { SEG(DATA, 4096) }) },
	{ "read behind the end", VIREO_COMP_RANGE,
	  { .sector = END, .nsegs = 1, .seg = { SEG(DATA, 4096) } } },
	{ "flush with a segment", VIREO_COMP_INVALID, { .op = VIREO_BLK_FLUSH, .nsegs = 1 } },
	{ "flush of a sector", VIREO_COMP_INVALID, { .op = VIREO_BLK_FLUSH, .sector = 8 } },
	{ "flush with FUA", VIREO_COMP_INVALID,
	  { .op = VIREO_BLK_FLUSH, .flags = VIREO_BLK_FUA } },
	{ "discard of nothing", VIREO_COMP_INVALID, { .op = VIREO_BLK_DISCARD } },
	{ "discard over the end", VIREO_COMP_RANGE,
	  { .op = VIREO_BLK_DISCARD, .sector = END - 8, .sectors = 16 } },
	{ "discard of 2^64 - 8", VIREO_COMP_INVALID,
	  { .op = VIREO_BLK_DISCARD, .sector = 16, .sectors = -8ULL } },
	{ "discard with a list", VIREO_COMP_INVALID,
	  { .op = VIREO_BLK_DISCARD, .flags = VIREO_SUB_INDIRECT, .nsegs = 1, .sectors = 8 } },
	{ "zeroes behind the end", VIREO_COMP_RANGE,
	  { .op = VIREO_BLK_WRITE_ZEROES, .sector = END, .sectors = 8 } },
	{ "zeroes of nothing", VIREO_COMP_INVALID, { .op = VIREO_BLK_WRITE_ZEROES } },
	{ "zeroes with FUA", VIREO_COMP_INVALID,
	  { .op = VIREO_BLK_WRITE_ZEROES, .flags = VIREO_BLK_FUA, .sectors = 8 } },
};

static u16 refused[ARRAY_SIZE(refusals)];

static void guest_refusals(u64 arg)
{
	struct ring r;
	u32 i;

	ring_open(&r, RING, ENTRIES, DOORBELL);
	pattern_fill((u8 *)DATA, 4096, 0, 9);
	for (i = 0; i < ARRAY_SIZE(refusals); i++) {
		*ring_next(&r) = refusals[i].sub;
		ring_put(&r);
		ring_kick(&r);
		refused[i] = ring_wait(&r).status;
	}
	/* and it still works */
	GUEST_EQ(ring_do(&r, VIREO_BLK_READ, 0, END - 8, (u8 *)DATA, 4096), 0);
}

static void check_refusals(struct test_disk *d, enum backing b)
{
	u32 i, offset;

	do_pread(d->vm.mem, refused, sizeof(refused), (uintptr_t)refused);
	for (i = 0; i < ARRAY_SIZE(refusals); i++)
		EXPECT_THAT(refused[i] == refusals[i].status, "%s: status %u, expected %u",
			    refusals[i].what, refused[i], refusals[i].status);
	EXPECT_EQ(queue_stat(d->queue).errors, ARRAY_SIZE(refusals));
	for (offset = 0; offset < END * 512; offset += sizeof(buf)) {
		backing_read(d->file, buf, sizeof(buf), offset);
		for (i = 0; i < sizeof(buf); i++)
			if (buf[i])
				break;
		EXPECT_THAT(i == sizeof(buf), "%#x is not zero", offset + i);
	}
}

/* The disk ends where the test says, also on larger devices */
static void run_refusals(enum backing b)
{
	struct vireo_disk set = { .sectors = END };
	struct test_disk d;

	if (!disk_boot(&d, b, 1, 0))
		return;
	ASSERT_EQ(disk_set(d.disk, &set), 0);
	vcpu_set_entry(&d.vm.vcpu[0], guest_refusals, b);
	vcpu_run_done(&d.vm.vcpu[0]);
	check_refusals(&d, b);
	disk_close(&d);
}

TEST_LIMIT(refusals, 120)
{
	enum backing b;

	for (b = 0; b < BACKINGS; b++)
		run_refusals(b);
}

/* Half a block, where blocks are larger than sectors */
static void guest_blocks(u64 arg)
{
	struct ring r;

	ring_open(&r, RING, ENTRIES, DOORBELL);
	GUEST_EQ(ring_do(&r, VIREO_BLK_READ, 0, 1, (u8 *)DATA, 4096), VIREO_COMP_INVALID);
	GUEST_EQ(ring_do(&r, VIREO_BLK_READ, 0, 8, (u8 *)DATA, 512), VIREO_COMP_INVALID);
	GUEST_EQ(ring_do_range(&r, VIREO_BLK_WRITE_ZEROES, 0, 8, 4), VIREO_COMP_INVALID);
	GUEST_EQ(ring_do(&r, VIREO_BLK_READ, 0, 8, (u8 *)DATA + 512, 4096), 0);
}

TEST(logical_blocks)
{
	struct test_disk d;

	if (!disk_boot(&d, BACKING_BLOCK_4K, 1, 0))
		SKIP("no such device");
	vcpu_set_entry(&d.vm.vcpu[0], guest_blocks, 0);
	vcpu_run_done(&d.vm.vcpu[0]);
}

static void guest_readonly(u64 arg)
{
	struct ring r;

	ring_open(&r, RING, ENTRIES, DOORBELL);
	GUEST_EQ(ring_do(&r, VIREO_BLK_WRITE, 0, 0, (u8 *)DATA, 4096), VIREO_COMP_READONLY);
	GUEST_EQ(ring_do_range(&r, VIREO_BLK_DISCARD, 0, 0, 8), VIREO_COMP_READONLY);
	GUEST_EQ(ring_do_range(&r, VIREO_BLK_WRITE_ZEROES, 0, 0, 8), VIREO_COMP_READONLY);
	GUEST_EQ(ring_do(&r, VIREO_BLK_READ, 0, 0, (u8 *)DATA, 4096), 0);
	GUEST_EQ(ring_do(&r, VIREO_BLK_FLUSH, 0, 0, NULL, 0), 0);
}

TEST(read_only)
{
	struct test_disk d;
	enum backing b;

	for (b = 0; b < BACKINGS; b++) {
		if (!disk_boot(&d, b, 1, VIREO_DISK_READONLY))
			continue;
		vcpu_set_entry(&d.vm.vcpu[0], guest_readonly, 0);
		vcpu_run_done(&d.vm.vcpu[0]);
		disk_close(&d);
	}
}

/* ---- a medium that fails ----------------------------------------------------------------- */

static u16 statuses[4];

static void guest_failing(u64 arg)
{
	u64 sector = arg;
	struct ring r;

	ring_open(&r, RING, ENTRIES, DOORBELL);
	statuses[0] = ring_do(&r, VIREO_BLK_READ, 0, sector, (u8 *)DATA, 16384);
	statuses[1] = ring_do(&r, VIREO_BLK_WRITE, 0, sector, (u8 *)DATA, 16384);
	statuses[2] = ring_do(&r, VIREO_BLK_READ, 0, 0, (u8 *)DATA, 4096);
	statuses[3] = ring_do(&r, VIREO_BLK_WRITE, VIREO_BLK_FUA, 0, (u8 *)DATA, 4096);
}

static void expect_statuses(struct test_disk *d, u16 a, u16 b, u16 c, u16 e)
{
	do_pread(d->vm.mem, statuses, sizeof(statuses), (uintptr_t)statuses);
	EXPECT_EQ(statuses[0], a);
	EXPECT_EQ(statuses[1], b);
	EXPECT_EQ(statuses[2], c);
	EXPECT_EQ(statuses[3], e);
}

#define BADBLOCKS	"/sys/kernel/config/nullb/nullb0/badblocks"

TEST(device_errors)
{
	struct test_disk d;

	if (!disk_boot(&d, BACKING_BLOCK, 1, 0) || file_write(BADBLOCKS, "+1000-1007"))
		SKIP("no device that can fail");
	vcpu_set_entry(&d.vm.vcpu[0], guest_failing, 992);
	vcpu_run_done(&d.vm.vcpu[0]);
	file_write(BADBLOCKS, "-1000-1007");
	expect_statuses(&d, VIREO_COMP_IO, VIREO_COMP_IO, 0, 0);
	EXPECT_EQ(queue_stat(d.queue).errors, 2);
}

/* ---- a device that takes its time ------------------------------------------------------- */

#define SLOW_REQUESTS	16	/* the device has room for a few */

static u64 slow_stall, slow_end;

/* All at once: neither the doorbell nor what is done meanwhile waits for them. */
static void guest_slow(u64 arg)
{
	struct vireo_comp comp;
	u64 start = read_tsc();
	struct ring r;
	u32 i;

	ring_open(&r, RING, ENTRIES, DOORBELL);
	for (i = 0; i < SLOW_REQUESTS; i++)
		ring_request(&r, i, i % 4 ? VIREO_BLK_READ : VIREO_BLK_WRITE, 0, i * 8,
			     (u8 *)DATA + i * 4096, 4096);
	ring_kick(&r);
	slow_stall = read_tsc() - start;
	for (i = 0; i < SLOW_REQUESTS; i++) {
		comp = ring_wait(&r);
		GUEST_EQ(comp.status, 0);
	}
	slow_end = read_tsc() - start;
}

TEST(slow_device)
{
	struct test_disk d;
	u64 stall, end;

	if (!disk_boot(&d, BACKING_SLOW, 1, 0))
		SKIP("no slow device");
	vcpu_set_entry(&d.vm.vcpu[0], guest_slow, 0);
	vcpu_run_done(&d.vm.vcpu[0]);
	stall = VM_GET(&d.vm, slow_stall);
	end = VM_GET(&d.vm, slow_end);
	test_note("the doorbell takes %llu of %llu ticks", stall, end);
	EXPECT_LE(stall, end / 2);	/* all of it, if it waited for the device */
	EXPECT_EQ(queue_stat(d.queue).errors, 0);
}

/* Asks, and waits for nothing. */
static void guest_slow_leaves(u64 arg)
{
	struct ring r;
	u32 i;

	ring_open(&r, RING, ENTRIES, DOORBELL);
	for (i = 0; i < SLOW_REQUESTS; i++)
		ring_request(&r, i, VIREO_BLK_READ, 0, i * 8, (u8 *)DATA + i * 4096, 4096);
	ring_kick(&r);
}

/* A queue that is closed meanwhile has ended when the call returns. */
TEST(slow_device_closed)
{
	struct test_disk d;
	int fork;

	if (!disk_boot(&d, BACKING_SLOW, 1, 0))
		SKIP("no slow device");
	vcpu_set_entry(&d.vm.vcpu[0], guest_slow_leaves, 0);
	vcpu_run_done(&d.vm.vcpu[0]);
	EXPECT_GT(queue_stat(d.queue).in_flight, 0);
	EXPECT_EQ(vm_fd_fork(d.vm.fd), -EBUSY);
	close(d.queue);
	d.queue = -1;
	fork = vm_fd_fork(d.vm.fd);
	EXPECT_GE(fork, 0);
	close(fork);
}

/* Shorter than it was: what is left can be read, a write grows it again */
TEST(file_cut_short)
{
	struct test_disk d;

	ASSERT_TRUE(disk_boot(&d, BACKING_FILE, 1, 0));
	ASSERT_EQ(ftruncate(d.file, 8192), 0);
	vcpu_set_entry(&d.vm.vcpu[0], guest_failing, 8);
	vcpu_run_done(&d.vm.vcpu[0]);
	expect_statuses(&d, VIREO_COMP_IO, 0, 0, 0);
}

TEST(no_space)
{
	struct test_disk d;
	int fd = open("/small/disk", O_RDWR | O_CREAT | O_TRUNC, 0600);

	if (fd < 0)
		SKIP("no small file system");
	ASSERT_EQ(ftruncate(fd, 16 << 20), 0);
	d.file = fd;
	vm_boot(&d.vm, 1, 0x1000000);
	d.disk = disk_create(d.vm.fd, fd, 0);
	ASSERT_GE(d.disk, 0);
	d.queue = queue_create(d.disk, DOORBELL, RING, ENTRIES);
	memset(buf, 1, sizeof(buf));
	while (do_pwrite(fd, buf, 65536, lseek(fd, 0, SEEK_CUR)) == 65536)
		lseek(fd, 65536, SEEK_CUR);
	vcpu_set_entry(&d.vm.vcpu[0], guest_failing, 24000);
	vcpu_run_done(&d.vm.vcpu[0]);
	expect_statuses(&d, 0, VIREO_COMP_NOSPC, 0, 0);
	disk_close(&d);
	unlink("/small/disk");
}

/* ---- size ---------------------------------------------------------------------------------- */

static void guest_probe(u64 sector)
{
	struct ring r;

	/* where the last one stopped */
	ring_open(&r, RING, ENTRIES, DOORBELL);
	r.tail = r.ctl->sub_tail;
	r.told = r.tail;
	r.head = r.ctl->comp_tail;
	statuses[0] = ring_do(&r, VIREO_BLK_READ, 0, sector, (u8 *)DATA, 4096);
}

static u16 probe(struct test_disk *d, u64 sector)
{
	vcpu_set_entry(&d->vm.vcpu[0], guest_probe, sector);
	vcpu_run_done(&d->vm.vcpu[0]);
	do_pread(d->vm.mem, statuses, sizeof(statuses), (uintptr_t)statuses);
	return statuses[0];
}

TEST(resize)
{
	struct vireo_disk set = { .sectors = 0 };
	struct test_disk d;

	ASSERT_TRUE(disk_boot(&d, BACKING_FILE, 1, 0));
	EXPECT_EQ(probe(&d, END - 8), 0);
	EXPECT_EQ(probe(&d, END), VIREO_COMP_RANGE);
	ASSERT_EQ(ftruncate(d.file, (END + 8) * 512 + 100), 0);
	EXPECT_EQ(probe(&d, END), VIREO_COMP_RANGE);	/* until it is said */
	ASSERT_EQ(disk_set(d.disk, &set), 0);
	EXPECT_EQ(probe(&d, END), 0);
	EXPECT_EQ(probe(&d, END + 1), VIREO_COMP_RANGE);
	set.sectors = 16;
	ASSERT_EQ(disk_set(d.disk, &set), 0);
	EXPECT_EQ(probe(&d, 8), 0);
	EXPECT_EQ(probe(&d, 16), VIREO_COMP_RANGE);
	EXPECT_EQ(queue_stat(d.queue).errors, 4);
}

/* ---- durable ------------------------------------------------------------------------------ */

static void guest_flush(u64 fua)
{
	struct ring r;

	ring_open(&r, RING, ENTRIES, DOORBELL);
	pattern_fill((u8 *)DATA, 65536, 0, 6);
	GUEST_EQ(ring_do(&r, VIREO_BLK_WRITE, fua ? VIREO_BLK_FUA : 0, 0, (u8 *)DATA, 65536), 0);
	if (!fua)
		GUEST_EQ(ring_do(&r, VIREO_BLK_FLUSH, 0, 0, NULL, 0), 0);
}

#define TRACING		"/sys/kernel/tracing/"
#define BIO_EVENT	TRACING "events/block/block_bio_queue/enable"

/* Whether the trace has a bio of this kind: F before W: flush, behind: FUA */
static bool traced(const char *kind)
{
	FILE *f = fopen(TRACING "trace", "re");
	bool found = false;
	char line[512];

	while (f && fgets(line, sizeof(line), f))
		found |= strstr(line, "block_bio_queue") && strstr(line, kind);
	if (f)
		fclose(f);
	return found;
}

static void durable(enum backing b, bool fua)
{
	struct test_disk d;

	if (!disk_boot(&d, b, 1, 0))
		return;
	vcpu_set_entry(&d.vm.vcpu[0], guest_flush, fua);
	file_write(TRACING "trace", "\n");
	ASSERT_EQ(file_write(BIO_EVENT, "1"), 0);
	vcpu_run_done(&d.vm.vcpu[0]);
	file_write(BIO_EVENT, "0");
	EXPECT_THAT(traced(" FW") || (fua && traced(" WF")), "%s: no %s reached the device",
		    backing_name[b], fua ? "FUA" : "flush");
	backing_read(d.file, buf, 65536, 0);
	EXPECT_TRUE(pattern_is(buf, 65536, 0, 6));
	disk_close(&d);
}

TEST(flush_reaches_the_device)
{
	if (access(BIO_EVENT, W_OK))
		SKIP("no block events");
	durable(BACKING_DIRECT, false);
	durable(BACKING_BLOCK, false);
}

TEST(fua_reaches_the_device)
{
	if (access(BIO_EVENT, W_OK))
		SKIP("no block events");
	durable(BACKING_DIRECT, true);
	durable(BACKING_BLOCK, true);
}

/* ---- limits --------------------------------------------------------------------------------- */

static void guest_limited(u64 requests)
{
	struct ring r;
	u32 i;

	ring_open(&r, RING, ENTRIES, DOORBELL);
	for (i = 0; i < requests; i++)
		ring_request(&r, i, VIREO_BLK_READ, 0, i * 8, (u8 *)DATA, 4096);
	ring_kick(&r);
	guest_sync(0);
	for (i = 0; i < requests; i++)
		GUEST_EQ(ring_wait(&r).status, 0);
}

/* One at once, the others not before the limit is lifted */
static void limited(struct vireo_disk *set)
{
	struct vireo_queue_stat s;
	struct test_disk d;

	ASSERT_TRUE(disk_boot(&d, BACKING_FILE, 1, 0));
	ASSERT_EQ(disk_set(d.disk, set), 0);
	vcpu_set_entry(&d.vm.vcpu[0], guest_limited, 16);
	vcpu_run_sync(&d.vm.vcpu[0]);
	s = queue_stat(d.queue);
	EXPECT_EQ(s.entries, 1);
	EXPECT_EQ(s.throttled, 1);
	*set = (struct vireo_disk) { .sectors = 0 };
	ASSERT_EQ(disk_set(d.disk, set), 0);
	vcpu_run_done(&d.vm.vcpu[0]);
	EXPECT_EQ(queue_stat(d.queue).entries, 16);
	EXPECT_EQ(queue_stat(d.queue).throttled, 1);
	disk_close(&d);
}

TEST(limit_of_requests)
{
	struct vireo_disk set = { .requests_per_second = 1 };

	limited(&set);
	set = (struct vireo_disk) { .requests_per_second = 1, .bytes_per_second = ~0ULL };
	limited(&set);
}

TEST(limit_of_bytes)
{
	struct vireo_disk set = { .bytes_per_second = 1 };

	limited(&set);
}

/* Slow, but it gets there by itself; and closing does not wait for it */
TEST(limit_goes_on)
{
	struct vireo_disk set = { .requests_per_second = 100 };
	struct test_disk d;

	ASSERT_TRUE(disk_boot(&d, BACKING_FILE, 1, 0));
	ASSERT_EQ(disk_set(d.disk, &set), 0);
	vcpu_set_entry(&d.vm.vcpu[0], guest_limited, 40);
	vcpu_run_sync(&d.vm.vcpu[0]);
	vcpu_run_done(&d.vm.vcpu[0]);
	EXPECT_GE(queue_stat(d.queue).throttled, 1);
	disk_close(&d);

	ASSERT_TRUE(disk_boot(&d, BACKING_FILE, 1, 0));
	set.requests_per_second = 1;
	set.bytes_per_second = 1;
	ASSERT_EQ(disk_set(d.disk, &set), 0);
	vcpu_set_entry(&d.vm.vcpu[0], guest_limited, 40);
	vcpu_run_sync(&d.vm.vcpu[0]);
	disk_close(&d);
}

TEST_MAIN()
