// SPDX-License-Identifier: GPL-2.0
/*
 * The driver's half of the ring, against a device that keeps the rules and
 * against many that do not.
 */
#include <pthread.h>
#include <string.h>

#include "harness.h"

#include "core.h"

#define N	16U
#define LARGE	VIREO_RING_MAX

static union {
	u8 bytes[VIREO_RING_BYTES(LARGE)];
	struct vireo_ring_ctl ctl;
} shared __aligned(4096);

static void *flight[LARGE];
static int things[LARGE];	/* what cookies point to */

/* The ring as after 2^32 + start entries. */
static void ring_at(struct vireo_ring *r, u32 entries, u32 start)
{
	vireo_ring_init(r, &shared, flight, entries);
	r->sub_tail = start;
	r->sub_told = start;
	r->comp_head = start;
	r->comp_seen = start;
	shared.ctl.sub_tail = start;
	shared.ctl.comp_head = start;
	shared.ctl.comp_event = start;
	shared.ctl.sub_head = start;
	shared.ctl.sub_event = start;
	shared.ctl.comp_tail = start;
}

static int put(struct vireo_ring *r, u32 tag)
{
	u8 entry[VIREO_RING_ENTRY];

	memset(entry, 0x40 + tag, sizeof(entry));
	return vireo_ring_put(r, entry, tag, &things[tag < LARGE ? tag : 0]);
}

/* The device completes @tag. */
static void complete(struct vireo_ring *r, u32 tag, u32 len)
{
	u32 tail = shared.ctl.comp_tail;

	r->comps[tail & (r->entries - 1)] = (struct vireo_comp) { .tag = tag, .len = len };
	shared.ctl.comp_tail = tail + 1;
}

TEST(layout)
{
	EXPECT_EQ(offsetof(struct vireo_ring_ctl, comp_head), 64);
	EXPECT_EQ(offsetof(struct vireo_ring_ctl, sub_head), 128);
	EXPECT_EQ(offsetof(struct vireo_ring_ctl, comp_tail), 192);
	EXPECT_EQ(sizeof(struct vireo_ring_ctl), 256);
	EXPECT_EQ(sizeof(struct vireo_comp), 16);
	EXPECT_EQ(sizeof(struct vireo_seg), 16);
	EXPECT_EQ(VIREO_RING_SUB(N) % VIREO_RING_ENTRY, 0);
}

/* Against the plain meaning: is e one of the indices old .. new - 1? */
TEST(event_arithmetic)
{
	static const u32 bases[] = { 0, 1, 0x7ffffff0, 0x80000000, 0xfffffff0, 0xffffffff };
	unsigned int b;
	int step, e, i;

	for (b = 0; b < ARRAY_SIZE(bases); b++) {
		for (step = 0; step <= 20; step++) {
			for (e = -20; e <= 40; e++) {
				bool passed = false;

				for (i = 0; i < step; i++)
					passed |= i == e;
				EXPECT_EQ(vireo_ring_event(bases[b] + e, bases[b],
							   bases[b] + step), passed);
			}
		}
	}
}

TEST(entries_reach_the_device)
{
	struct vireo_ring r;
	u32 tag;

	ring_at(&r, N, 0);
	for (tag = 0; tag < 3; tag++)
		EXPECT_EQ(put(&r, tag), 0);
	EXPECT_EQ(shared.ctl.sub_tail, 0);	/* not yet */
	EXPECT_EQ(vireo_ring_publish(&r), true);
	EXPECT_EQ(shared.ctl.sub_tail, 3);
	for (tag = 0; tag < 3; tag++) {
		EXPECT_EQ(shared.bytes[VIREO_RING_SUB(N) + 64 * tag], 0x40 + tag);
		EXPECT_EQ(shared.bytes[VIREO_RING_SUB(N) + 64 * tag + 63], 0x40 + tag);
	}
	EXPECT_EQ(vireo_ring_publish(&r), false);	/* nothing new */
}

TEST(doorbell_only_when_wanted)
{
	struct vireo_ring r;

	ring_at(&r, N, 0xfffffffe);
	shared.ctl.sub_event = 0xfffffffe - 1;	/* silence */
	put(&r, 0);
	EXPECT_EQ(vireo_ring_publish(&r), false);
	shared.ctl.sub_event = 1;		/* the third from here */
	put(&r, 1);
	EXPECT_EQ(vireo_ring_publish(&r), false);
	put(&r, 2);
	EXPECT_EQ(vireo_ring_publish(&r), false);
	put(&r, 3);
	EXPECT_EQ(vireo_ring_publish(&r), true);
	put(&r, 4);
	EXPECT_EQ(vireo_ring_publish(&r), false);
}

TEST(full_and_empty_at_the_wrap)
{
	static const u32 starts[] = { 0, 5, 0xfffffff8, 0xffffffff };
	struct vireo_comp c;
	struct vireo_ring r;
	unsigned int s, i;
	u32 tag;

	for (s = 0; s < ARRAY_SIZE(starts); s++) {
		ring_at(&r, N, starts[s]);
		for (i = 0; i < 100; i++) {
			for (tag = 0; tag < N; tag++)
				EXPECT_EQ(put(&r, tag), 0);
			EXPECT_EQ(vireo_ring_room(&r), 0);
			EXPECT_EQ(put(&r, 0), -ENOSPC);
			vireo_ring_publish(&r);
			for (tag = N; tag-- > 0;)
				complete(&r, tag, tag * 3);
			for (tag = N; tag-- > 0;) {
				EXPECT_EQ(vireo_ring_take(&r, &c) == &things[tag], true);
				EXPECT_EQ(c.tag, tag);
				EXPECT_EQ(c.len, tag * 3);
			}
			EXPECT_EQ(!vireo_ring_take(&r, &c), true);
			EXPECT_EQ(!r.broken, true);
			vireo_ring_release(&r);
			EXPECT_EQ(shared.ctl.comp_head, r.sub_tail);
		}
	}
}

TEST(tags_are_used_once)
{
	struct vireo_comp c;
	struct vireo_ring r;

	ring_at(&r, N, 0);
	EXPECT_EQ(put(&r, 7), 0);
	EXPECT_EQ(put(&r, 7), -ENOSPC);
	EXPECT_EQ(put(&r, N), -ENOSPC);
	EXPECT_EQ(put(&r, 0xffff), -ENOSPC);
	EXPECT_EQ(vireo_ring_outstanding(&r), 0);
	vireo_ring_publish(&r);
	EXPECT_EQ(vireo_ring_outstanding(&r), 1);
	complete(&r, 7, 0);
	EXPECT_EQ(vireo_ring_take(&r, &c) == &things[7], true);
	EXPECT_EQ(put(&r, 7), 0);
}

TEST(arm_looks_again)
{
	struct vireo_ring r;

	ring_at(&r, N, 0xffffffff);
	put(&r, 1);
	put(&r, 2);
	vireo_ring_publish(&r);
	vireo_ring_silence(&r);
	EXPECT_EQ(vireo_ring_event(shared.ctl.comp_event, 0xffffffff, 1), false);
	EXPECT_EQ(vireo_ring_arm(&r, 1), false);
	EXPECT_EQ(vireo_ring_event(shared.ctl.comp_event, 0xffffffff, 0), true);
	EXPECT_EQ(vireo_ring_arm(&r, 2), false);
	EXPECT_EQ(vireo_ring_event(shared.ctl.comp_event, 0xffffffff, 0), false);
	EXPECT_EQ(vireo_ring_event(shared.ctl.comp_event, 0, 1), true);
	complete(&r, 1, 0);
	EXPECT_EQ(vireo_ring_arm(&r, 2), false);
	EXPECT_EQ(vireo_ring_arm(&r, 1), true);
	complete(&r, 2, 0);
	EXPECT_EQ(vireo_ring_arm(&r, 2), true);
}

/* ---- Devices that lie ------------------------------------------------------------------ */

/* From now on the ring is dead, and nothing of the driver's is lost or doubled. */
static void expect_broken(struct vireo_ring *r, unsigned int left)
{
	struct vireo_comp c;
	unsigned int found = 0;
	u32 tag = 0;

	EXPECT_EQ(!vireo_ring_take(r, &c), true);
	EXPECT_EQ(!!r->broken, true);
	complete(r, 1, 0);
	EXPECT_EQ(!vireo_ring_take(r, &c), true);
	EXPECT_EQ(put(r, 9), -EIO);
	EXPECT_EQ(vireo_ring_publish(r), false);
	while (vireo_ring_abandon(r, &tag))
		found++;
	EXPECT_EQ(found, left);
	EXPECT_EQ(!vireo_ring_abandon(r, &tag), true);
}

static void two_out(struct vireo_ring *r)
{
	ring_at(r, N, 0xfffffffd);
	put(r, 1);
	put(r, 2);
	vireo_ring_publish(r);
}

TEST(lie_more_completions_than_entries)
{
	struct vireo_ring r;

	two_out(&r);
	shared.ctl.comp_tail += 3;
	expect_broken(&r, 2);
}

TEST(lie_completion_of_what_was_not_published)
{
	struct vireo_ring r;

	two_out(&r);
	put(&r, 3);
	shared.ctl.comp_tail += 3;
	expect_broken(&r, 3);
}

TEST(lie_tail_goes_back)
{
	struct vireo_ring r;

	two_out(&r);
	shared.ctl.comp_tail -= 1;
	expect_broken(&r, 2);
}

TEST(lie_unknown_tags)
{
	static const u32 tags[] = { 0, 3, N - 1, N, N + 1, 0x7fff, 0xffff };
	struct vireo_ring r;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(tags); i++) {
		two_out(&r);
		complete(&r, tags[i], 0);
		expect_broken(&r, 2);
	}
}

TEST(lie_completes_twice)
{
	struct vireo_comp c;
	struct vireo_ring r;

	two_out(&r);
	complete(&r, 1, 0);
	complete(&r, 1, 0);
	EXPECT_EQ(vireo_ring_take(&r, &c) == &things[1], true);
	expect_broken(&r, 1);
}

TEST(lie_error)
{
	struct vireo_comp c;
	struct vireo_ring r;

	two_out(&r);
	complete(&r, 2, 0);
	shared.ctl.error = VIREO_RING_ERROR_INDEX;
	/* What was completed before counts. */
	EXPECT_EQ(vireo_ring_take(&r, &c) == &things[2], true);
	EXPECT_EQ(vireo_ring_arm(&r, 1), true);
	expect_broken(&r, 1);
}

/* It may scribble over the driver's own words: they are not read. */
TEST(lie_scribbles)
{
	struct vireo_comp c;
	struct vireo_ring r;

	two_out(&r);
	memset(&shared.ctl.sub_tail, 0xa5, 64);
	memset(&shared.ctl.comp_head, 0x5a, 64);
	memset(shared.bytes + VIREO_RING_SUB(N), 0xff, 64 * N);
	complete(&r, 2, 0);
	complete(&r, 1, 0);
	EXPECT_EQ(vireo_ring_take(&r, &c) == &things[2], true);
	EXPECT_EQ(vireo_ring_take(&r, &c) == &things[1], true);
	EXPECT_EQ(!vireo_ring_take(&r, &c), true);
	EXPECT_EQ(!r.broken, true);
	EXPECT_EQ(vireo_ring_room(&r), N);
}

static u32 seed = 1;

static u32 noise(void)
{
	seed = seed * 1664525 + 1013904223;
	return seed >> 8;
}

/* Whatever it writes, whenever: each entry comes back at most once, or is abandoned. */
TEST(lie_noise)
{
	static unsigned int out[N];
	struct vireo_comp c;
	struct vireo_ring r;
	u32 round, step, tag;
	int *thing;

	for (round = 0; round < 3000; round++) {
		ring_at(&r, N, noise() * 0x1001);
		memset(out, 0, sizeof(out));
		for (step = 0; step < 200 && !r.broken; step++) {
			tag = noise() % N;
			switch (noise() % 8) {
			case 0 ... 2:
				if (!put(&r, tag))
					out[tag]++;
				break;
			case 3:
				vireo_ring_publish(&r);
				break;
			case 4 ... 5:
				complete(&r, tag, noise());
				break;
			case 6:
				if (noise() % 16 == 0)
					shared.bytes[noise() % VIREO_RING_SUB(N)] = noise();
				break;
			default:
				while ((thing = vireo_ring_take(&r, &c))) {
					EXPECT_EQ(out[thing - things], 1);
					out[thing - things]--;
				}
				vireo_ring_release(&r);
				EXPECT_EQ(vireo_ring_room(&r) <= N, true);
			}
		}
		tag = 0;
		while ((thing = vireo_ring_abandon(&r, &tag))) {
			EXPECT_EQ(out[thing - things], 1);
			out[thing - things]--;
		}
		for (tag = 0; tag < N; tag++)
			ASSERT_TRUE(!out[tag]);
	}
}

/* ---- Both sides at once ---------------------------------------------------------------- */

#define TOTAL	200000U

/* What a notification sets and a sleeper waits for; each is a counter. */
static u32 doorbells, interrupts;
static bool quit;

static bool wait_past(u32 *counter, u32 seen)
{
	u32 spins;

	for (spins = 0; __atomic_load_n(counter, __ATOMIC_ACQUIRE) == seen; spins++) {
		if (__atomic_load_n(&quit, __ATOMIC_RELAXED) || spins > 50000000)
			return false;
		if (spins % 64 == 63)
			sched_yield();
	}
	return true;
}

/* After a batch, and before sleeping, as a device does */
static void tell(u32 *told, u32 tail)
{
	vireo_mb();
	if (vireo_ring_event(READ_ONCE(shared.ctl.comp_event), *told, tail))
		__atomic_add_fetch(&interrupts, 1, __ATOMIC_RELEASE);
	*told = tail;
}

/* Arms and looks again; false: time to end. */
static bool sleep_for(u32 head, u32 *seen)
{
	u32 rung = __atomic_load_n(&doorbells, __ATOMIC_ACQUIRE);

	WRITE_ONCE(shared.ctl.sub_event, head);
	vireo_mb();
	*seen = READ_ONCE(shared.ctl.sub_tail);
	if (head == *seen && !wait_past(&doorbells, rung))
		return false;
	*seen = READ_ONCE(shared.ctl.sub_tail);
	WRITE_ONCE(shared.ctl.sub_event, head - 1);
	return true;
}

static void *honest_device(void *arg)
{
	struct vireo_ring *r = arg;	/* for its constants */
	u32 i, told = 0, seen = 0;

	for (i = 0; i != TOTAL; i++) {
		while (i == seen) {
			tell(&told, i);
			if (!sleep_for(i, &seen))
				return NULL;
		}
		vireo_rmb();
		r->comps[i % r->entries] = (struct vireo_comp) {
			.tag = r->subs[VIREO_RING_ENTRY * (i % r->entries)] - 0x40,
			.info = i,
		};
		vireo_wmb();
		WRITE_ONCE(shared.ctl.comp_tail, i + 1);
		if (i % 3 == 2)
			tell(&told, i + 1);
	}
	tell(&told, i);
	return NULL;
}

/* No wake-up is lost, in either direction; the order is kept. */
TEST(two_threads)
{
	u32 sent = 0, done = 0, seen;
	struct vireo_comp c;
	struct vireo_ring r;
	pthread_t device;

	ring_at(&r, N, 0);
	ASSERT_TRUE(!pthread_create(&device, NULL, honest_device, &r));
	while (done != TOTAL) {
		seen = __atomic_load_n(&interrupts, __ATOMIC_ACQUIRE);
		while (sent != TOTAL && vireo_ring_room(&r) && !put(&r, sent % N))
			sent++;
		if (vireo_ring_publish(&r))
			__atomic_add_fetch(&doorbells, 1, __ATOMIC_RELEASE);
		while (vireo_ring_take(&r, &c)) {
			ASSERT_TRUE(c.info == done);
			done++;
		}
		ASSERT_TRUE(!r.broken);
		vireo_ring_release(&r);
		if (done == TOTAL || (sent != TOTAL && vireo_ring_room(&r)))
			continue;
		if (!vireo_ring_arm(&r, 1) && !wait_past(&interrupts, seen)) {
			EXPECT_EQ(done, TOTAL);
			break;
		}
		vireo_ring_silence(&r);
	}
	__atomic_store_n(&quit, true, __ATOMIC_RELAXED);
	pthread_join(device, NULL);
	test_note("%u entries, %u doorbells, %u interrupts", done, doorbells, interrupts);
}

TEST_MAIN()
