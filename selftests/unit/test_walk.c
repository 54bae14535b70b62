// SPDX-License-Identifier: GPL-2.0
/*
 * The walk of a guest's page tables: every paging mode and page size, and both
 * reasons to stop at each level.
 */
#include <string.h>

#include "harness.h"

#include "pure.h"
#include "walk.h"

#define PG	BIT_ULL(31)
#define PSE	BIT_ULL(4)
#define PAE	BIT_ULL(5)
#define LA57	BIT_ULL(12)
#define LMA	BIT_ULL(10)
#define NXE	BIT_ULL(11)

#define P	BIT_ULL(0)
#define RW	BIT_ULL(1)
#define US	BIT_ULL(2)
#define PS	BIT_ULL(7)
#define NX	BIT_ULL(63)

/* Guest memory: a few entries or bytes at any address, the rest is 0. */
struct memory {
	struct {
		u64 gpa;
		u64 value;
		unsigned int len;
	} cells[16];
	unsigned int count;
	unsigned int reads;
	u64 fail_at;		/* address of the read that fails, or 0 */
};

static int memory_read(void *ctx, u64 gpa, void *buf, unsigned int len)
{
	struct memory *m = ctx;
	unsigned int i;

	m->reads++;
	if (m->fail_at && gpa <= m->fail_at && m->fail_at < gpa + len)
		return -1;
	EXPECT_EQ((gpa & 4095) + len <= 4096, true);
	memset(buf, 0, len);
	for (i = 0; i < m->count; i++)
		if (m->cells[i].gpa == gpa)
			memcpy(buf, &m->cells[i].value, min(len, m->cells[i].len));
	return 0;
}

static void put(struct memory *m, u64 gpa, u64 value, unsigned int len)
{
	ASSERT_TRUE(m->count < ARRAY_SIZE(m->cells));
	m->cells[m->count].gpa = gpa;
	m->cells[m->count].value = value;
	m->cells[m->count++].len = len;
}

/* One mapping, its entries from the top in m.cells[0] on. */
struct world {
	const char *name;
	u64 cr3, cr4, efer;
	u64 gva, gpa;
	unsigned int entry_len;
	unsigned int levels;
	struct {
		u64 gpa, value;
	} entries[5];
};

#define LONG(...)	.efer = LMA | NXE, .entry_len = 8, __VA_ARGS__

/* Indices of GVA48: 0x0a5, 0x123, 0x0f1, 0x1b7; top bit clear. */
#define GVA48	(0x0a5ULL << 39 | 0x123ULL << 30 | 0x0f1ULL << 21 | 0x1b7ULL << 12 | 0xabc)
#define GVA57	(0x02fULL << 48 | GVA48)
#define UPPER48	(0xffffULL << 48 | 0x1ffULL << 39 | 0x1ffULL << 30)
#define T	(P | RW | US)

static const struct world worlds[] = {
	{ "4-level, 4 KiB", LONG(.cr3 = 0x1000, .cr4 = PAE, .gva = GVA48,
		.gpa = 0x8123456789abcULL, .levels = 4), .entries = {
		{ 0x1000 + 8 * 0x0a5, 0xfffff00002000ULL | T },
		{ 0xfffff00002000ULL + 8 * 0x123, 0x3000 | T },
		{ 0x3000 + 8 * 0x0f1, 0x4000 | T },
		{ 0x4000 + 8 * 0x1b7, 0x8123456789000ULL | T | PS } } },
	{ "4-level, upper half", LONG(.cr3 = 0x1018, .cr4 = PAE, .gva = UPPER48 | 0x1000,
		.gpa = 0x5000, .levels = 4), .entries = {
		{ 0x1000 + 8 * 0x1ff, 0x2000 | T }, { 0x2000 + 8 * 0x1ff, 0x3000 | T },
		{ 0x3000, 0x4000 | T }, { 0x4008, 0x5000 | T } } },
	{ "4-level, 2 MiB", LONG(.cr3 = 0x1000, .cr4 = PAE, .gva = GVA48,
		.gpa = 0x40000000ULL + (0x1b7 << 12) + 0xabc, .levels = 3), .entries = {
		{ 0x1000 + 8 * 0x0a5, 0x2000 | T }, { 0x2000 + 8 * 0x123, 0x3000 | T },
		{ 0x3000 + 8 * 0x0f1, 0x40000000ULL | T | PS | BIT_ULL(12) } } },
	{ "4-level, 1 GiB", LONG(.cr3 = 0x1000, .cr4 = PAE, .gva = GVA48,
		.gpa = 0x140000000ULL + (0x0f1 << 21) + (0x1b7 << 12) + 0xabc, .levels = 2),
		.entries = { { 0x1000 + 8 * 0x0a5, 0x2000 | T },
		{ 0x2000 + 8 * 0x123, 0x140000000ULL | T | PS | BIT_ULL(12) } } },
	{ "5-level, 4 KiB", LONG(.cr3 = 0x1000, .cr4 = PAE | LA57, .gva = GVA57,
		.gpa = 0x6abc, .levels = 5), .entries = {
		{ 0x1000 + 8 * 0x02f, 0x2000 | T },
		{ 0x2000 + 8 * 0x0a5, 0x3000 | T }, { 0x3000 + 8 * 0x123, 0x4000 | T },
		{ 0x4000 + 8 * 0x0f1, 0x5000 | T }, { 0x5000 + 8 * 0x1b7, 0x6000 | T } } },
	{ "5-level, 1 GiB", LONG(.cr3 = 0x1000, .cr4 = PAE | LA57, .gva = GVA57,
		.gpa = 0x140000000ULL + (0x0f1 << 21) + (0x1b7 << 12) + 0xabc, .levels = 3),
		.entries = { { 0x1000 + 8 * 0x02f, 0x2000 | T },
		{ 0x2000 + 8 * 0x0a5, 0x3000 | T },
		{ 0x3000 + 8 * 0x123, 0x140000000ULL | T | PS } } },
	{ "PAE, 4 KiB", .cr3 = 0x1fe0, .cr4 = PAE, .efer = NXE, .entry_len = 8,
		.gva = 0xc0a03abcULL, .gpa = 0x1234567abcULL, .levels = 3, .entries = {
		{ 0x1fe0 + 8 * 3, 0x2000 | P }, { 0x2000 + 8 * 5, 0x3000 | T },
		{ 0x3000 + 8 * 3, 0x1234567000ULL | T } } },
	{ "PAE, 2 MiB", .cr3 = 0x1000, .cr4 = PAE, .entry_len = 8,
		.gva = 0x40a03abcULL, .gpa = 0xf00203abcULL, .levels = 2, .entries = {
		{ 0x1000 + 8, 0x2000 | P }, { 0x2000 + 8 * 5, 0xf00200000ULL | T | PS } } },
	{ "32-bit, 4 KiB", .cr3 = 0x1abc, .cr4 = PSE, .entry_len = 4,
		.gva = 0xffc03abcULL, .gpa = 0xfffffabcULL, .levels = 2, .entries = {
		{ 0x1000 + 4 * 1023, 0x2000 | T }, { 0x2000 + 4 * 3, 0xfffff000ULL | T | PS } } },
	{ "32-bit, PS without PSE", .cr3 = 0x1000, .entry_len = 4,
		.gva = 0x00403abcULL, .gpa = 0x5abc, .levels = 2, .entries = {
		{ 0x1000 + 4, 0x2000 | T | PS }, { 0x2000 + 4 * 3, 0x5000 | T } } },
	{ "32-bit, 4 MiB", .cr3 = 0x1000, .cr4 = PSE, .entry_len = 4,
		.gva = 0x80723abcULL, .gpa = 0xf0323abcULL, .levels = 1, .entries = {
		{ 0x1000 + 4 * 0x201, 0xf0000000ULL | T | PS } } },
	{ "32-bit, 4 MiB, PSE-36", .cr3 = 0x1000, .cr4 = PSE, .entry_len = 4,
		.gva = 0x80723abcULL, .gpa = 0xa5f0323abcULL, .levels = 1, .entries = {
		{ 0x1000 + 4 * 0x201, 0xf0000000ULL | 0xa5 << 13 | BIT_ULL(12) | T | PS } } },
};

static void build(const struct world *world, struct memory *m, struct vireo_walk *w)
{
	unsigned int i;

	memset(m, 0, sizeof(*m));
	for (i = 0; i < world->levels; i++)
		put(m, world->entries[i].gpa, world->entries[i].value, world->entry_len);
	*w = (struct vireo_walk) {
		.cr0 = PG | 1, .cr3 = world->cr3, .cr4 = world->cr4, .efer = world->efer,
		.read = memory_read, .ctx = m,
	};
}

/* Entry number @i of all the worlds' entries; false behind the last. */
static bool entry_at(unsigned int i, const struct world **world, unsigned int *level)
{
	const struct world *w = worlds;

	for (; w < worlds + ARRAY_SIZE(worlds); i -= w++->levels) {
		*world = w;
		*level = i;
		if (i < w->levels)
			return true;
	}
	return false;
}

#define for_each_entry(i, world, level) \
	for ((i) = 0; entry_at(i, &(world), &(level)); (i)++)

TEST(translations)
{
	const struct world *world;
	struct vireo_walk w;
	struct memory m;

	for (world = worlds; world < worlds + ARRAY_SIZE(worlds); world++) {
		u64 gpa = 0;
		int err;

		build(world, &m, &w);
		err = vireo_walk_gva(&w, world->gva, &gpa);
		EXPECT_THAT(!err && gpa == world->gpa, "%s: error %d, gpa %#llx",
			    world->name, err, gpa);
		EXPECT_EQ(m.reads, world->levels);
	}
}

TEST(not_present)
{
	const struct world *world;
	struct vireo_walk w;
	struct memory m;
	unsigned int i, l;

	for_each_entry(i, world, l) {
		u64 gpa;

		build(world, &m, &w);
		m.cells[l].value &= ~P;
		EXPECT_EQ(vireo_walk_gva(&w, world->gva, &gpa), -EFAULT);
		EXPECT_EQ(m.reads, l + 1);
	}
}

/* Permissions and reserved bits were the processor's to check: none misleads. */
TEST(other_bits)
{
	const struct world *world;
	struct vireo_walk w;
	struct memory m;
	unsigned int i, l;

	for_each_entry(i, world, l) {
		u64 gpa = 0;

		if (world->entry_len == 4)
			continue;
		build(world, &m, &w);
		m.cells[l].value = (m.cells[l].value | NX | GENMASK_ULL(62, 52)) & ~(RW | US);
		EXPECT_EQ(vireo_walk_gva(&w, world->gva, &gpa), 0);
		EXPECT_EQ(gpa, world->gpa);
	}
}

TEST(read_fails)
{
	const struct world *world;
	struct vireo_walk w;
	struct memory m;
	unsigned int i, l;

	for_each_entry(i, world, l) {
		u64 gpa;

		build(world, &m, &w);
		m.fail_at = world->entries[l].gpa;
		EXPECT_EQ(vireo_walk_gva(&w, world->gva, &gpa), -EIO);
		EXPECT_EQ(m.reads, l + 1);
	}
}

TEST(paging_off)
{
	struct memory m = {};
	struct vireo_walk w = { .cr0 = 0x11, .cr3 = ~0ULL, .cr4 = PAE,
				.read = memory_read, .ctx = &m };
	u64 gpa = 0;

	EXPECT_EQ(vireo_walk_gva(&w, 0xfffffff0, &gpa), 0);
	EXPECT_EQ(gpa, 0xfffffff0);
	EXPECT_EQ(vireo_walk_gva(&w, 0x1234500001000ULL, &gpa), 0);
	EXPECT_EQ(gpa, 0x1000);
	EXPECT_EQ(m.reads, 0);
}

/* The upper half of an address does not exist outside 64-bit paging. */
TEST(upper_half_ignored)
{
	const struct world *world;
	struct vireo_walk w;
	struct memory m;
	u64 gpa;

	for (world = worlds; world < worlds + ARRAY_SIZE(worlds); world++) {
		if (world->efer & LMA)
			continue;
		build(world, &m, &w);
		gpa = 0;
		EXPECT_EQ(vireo_walk_gva(&w, world->gva | 0xdeadbeefULL << 32, &gpa), 0);
		EXPECT_EQ(gpa, world->gpa);
	}
}

/* 32-bit paging with two pages: 0xfffff000 is at 0x10000, 0 is at 0x20000. */
static void build_wrap(struct memory *m, struct vireo_walk *w)
{
	memset(m, 0, sizeof(*m));
	*w = (struct vireo_walk) { .cr0 = PG | 1, .cr3 = 0x1000, .read = memory_read, .ctx = m };
	put(m, 0x1000 + 4 * 1023, 0x2000 | T, 4);
	put(m, 0x1000, 0x3000 | T, 4);
	put(m, 0x2000 + 4 * 1023, 0x10000 | T, 4);
	put(m, 0x3000, 0x20000 | T, 4);
	put(m, 0x10ffc, 0x44332211, 4);
	put(m, 0x10fff, 0x44, 1);
	put(m, 0x20000, 0x8877665544332211ULL, 8);
}

TEST(fetch)
{
	struct vireo_walk w;
	struct memory m;
	u8 buf[15];

	build_wrap(&m, &w);
	EXPECT_EQ(vireo_walk_fetch(&w, 0, buf, 8), 8);
	EXPECT_TRUE(!memcmp(buf, "\x11\x22\x33\x44\x55\x66\x77\x88", 8));
	EXPECT_EQ(vireo_walk_fetch(&w, 0, buf, 1), 1);

	/* Across the end of a page, and of the address space. */
	memset(buf, 0xcc, sizeof(buf));
	EXPECT_EQ(vireo_walk_fetch(&w, 0xfffffffcULL, buf, 12), 12);
	EXPECT_TRUE(!memcmp(buf, "\x11\x22\x33\x44\x11\x22\x33\x44\x55\x66\x77\x88\xcc", 13));

	/* Up to the end needs one translation only. */
	m.reads = 0;
	EXPECT_EQ(vireo_walk_fetch(&w, 0xfffffffcULL, buf, 4), 4);
	EXPECT_EQ(m.reads, 3);
}

TEST(fetch_fails)
{
	u8 page[4097];
	struct vireo_walk w;
	struct memory m;

	build_wrap(&m, &w);
	EXPECT_EQ(vireo_walk_fetch(&w, 0, page, 0), -EINVAL);
	EXPECT_EQ(vireo_walk_fetch(&w, 0, page, 4097), -EINVAL);
	EXPECT_EQ(vireo_walk_fetch(&w, 0, page, 4096), 4096);
	EXPECT_EQ(vireo_walk_fetch(&w, 0x5000, page, 15), -EFAULT);
	EXPECT_EQ(vireo_walk_fetch(&w, 0xffe, page, 15), 2);	/* 0x1000 is not mapped */
	m.fail_at = 0x20000;
	EXPECT_EQ(vireo_walk_fetch(&w, 0, page, 15), -EIO);
	EXPECT_EQ(vireo_walk_fetch(&w, 0xfffffffdULL, page, 15), 3);
	m.fail_at = 0x1000;
	EXPECT_EQ(vireo_walk_fetch(&w, 0, page, 15), -EIO);
}

/* Entries that are a function of their address; the guest's worst. */
static int random_read(void *ctx, u64 gpa, void *buf, unsigned int len)
{
	u64 *reads = ctx;
	u64 value = (gpa + *reads) * 0x9e3779b97f4a7c15ULL;

	ASSERT_TRUE(len == 4 || len == 8);
	ASSERT_TRUE(gpa % len == 0);
	++*reads;
	value ^= value >> 29;
	value = value & (value >> 17 & 1 ? ~(NX | GENMASK_ULL(62, 52)) : ~NX);
	value |= value >> 18 & 3 ? T : 0;
	memcpy(buf, &value, len);
	return value >> 40 & 31 ? 0 : -1;
}

TEST_LIMIT(random_tables, 300)
{
	u64 seed = 42, reads = 0, good = 0;
	unsigned int i;

	for (i = 0; i < 2000000; i++) {
		struct vireo_walk w = { .read = random_read, .ctx = &reads };
		u64 gpa = 0, before = reads;
		int err;

		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		w.cr0 = seed >> 60 ? PG : 0;
		w.cr4 = (seed >> 20 & (PAE | PSE)) | (seed >> 33 & LA57);
		w.efer = seed >> 40 & LMA;
		w.cr3 = seed * 3;
		err = vireo_walk_gva(&w, (s64)(seed * 7) >> (seed >> 58 & 31), &gpa);
		ASSERT_TRUE(err == 0 || err == -EFAULT || err == -EIO);
		ASSERT_TRUE(reads - before <= 5);
		ASSERT_TRUE(gpa < BIT_ULL(52));
		good += !err;
	}
	EXPECT_GT(good, 1000);
}

TEST_MAIN()
