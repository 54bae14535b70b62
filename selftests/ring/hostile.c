// SPDX-License-Identifier: GPL-2.0
/*
 * A guest that breaks every rule of the ring.  It may lose its queue, and what
 * is its own; the host, and what lies beyond the disk's end, stay as they are.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "ring.h"

#define LIMIT	8192		/* sectors that the guest may reach */

static u8 buf[1 << 20] __aligned(4096);

static u64 random_next(u64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* A disk of which the guest has the first half; the other half has a pattern */
static bool half_boot(struct test_disk *d, enum backing b, u32 vcpus)
{
	struct vireo_disk set = { .sectors = LIMIT };

	if (!disk_boot(d, b, vcpus, 0))
		return false;
	pattern_fill(buf, sizeof(buf), LIMIT, 1);
	EXPECT_EQ(do_pwrite(d->file, buf, sizeof(buf), LIMIT * 512), sizeof(buf));
	ASSERT_EQ(disk_set(d->disk, &set), 0);
	return true;
}

static void half_check(struct test_disk *d)
{
	backing_read(d->file, buf, sizeof(buf), LIMIT * 512);
	EXPECT_TRUE(pattern_is(buf, sizeof(buf), LIMIT, 1));
}

static void guest_ordinary(u64 arg)
{
	struct ring r;
	u32 i;

	for (i = 0; i < 2048; i++)
		((volatile u64 *)RING)[i] = 0;
	guest_sync(0);
	ring_open(&r, RING, ENTRIES, DOORBELL);
	pattern_fill((u8 *)DATA, 4096, 8, 2);
	GUEST_EQ(ring_do(&r, VIREO_BLK_WRITE, 0, 8, (u8 *)DATA, 4096), 0);
	GUEST_EQ(ring_do(&r, VIREO_BLK_READ, 0, 8, (u8 *)DATA + 4096, 4096), 0);
	GUEST_TRUE(pattern_is((u8 *)DATA + 4096, 4096, 8, 2));
}

/* After what was done to it, a new queue works */
static void expect_usable(struct test_disk *d)
{
	close(d->queue);
	vcpu_set_entry(&d->vm.vcpu[0], guest_ordinary, 0);
	vcpu_run_sync(&d->vm.vcpu[0]);
	d->queue = queue_create(d->disk, DOORBELL, RING, ENTRIES);
	ASSERT_GE(d->queue, 0);
	vcpu_run_done(&d->vm.vcpu[0]);
	EXPECT_EQ(queue_stat(d->queue).error, 0);
}

/* ---- indices --------------------------------------------------------------------------- */

struct lie {
	u32 tail, head;		/* set to these, with @good done before */
	u32 good;
};

static const struct lie lies[] = {
	{ ENTRIES + 1, 0, 0 },
	{ ~0U, 0, 0 },
	{ 1U << 31, 0, 0 },
	{ 10 + ENTRIES, 9, 10 },	/* one more than there is room for */
	{ 9, 10, 10 },			/* backwards */
	{ 11, 11, 10 },			/* takes a completion that is not there */
	{ 20, 20, 10 },
	{ 11, 10 + ENTRIES, 10 },
	{ 11, 10 - ENTRIES, 10 },
	{ 11, 1U << 31, 10 },
};

static void guest_lies(u64 arg)
{
	const struct lie *lie = &lies[arg];
	struct ring r;
	u32 i;

	ring_open(&r, RING, ENTRIES, DOORBELL);
	for (i = 0; i < lie->good; i++)
		GUEST_EQ(ring_do(&r, VIREO_BLK_READ, 0, 0, (u8 *)DATA, 4096), 0);
	GUEST_EQ(r.ctl->error, 0);
	WRITE_ONCE(r.ctl->comp_head, lie->head);
	WRITE_ONCE(r.ctl->sub_tail, lie->tail);
	GUEST_EQ(hypercall(VIREO_HC_DOORBELL, DOORBELL, 0, 0, 0), 0);
	GUEST_EQ(READ_ONCE(r.ctl->error), VIREO_RING_ERROR_INDEX);
	GUEST_EQ(READ_ONCE(r.ctl->sub_head), lie->good);
	/* Dead: the truth comes too late */
	WRITE_ONCE(r.ctl->comp_head, lie->good);
	WRITE_ONCE(r.ctl->sub_tail, lie->good + 1);
	GUEST_EQ(hypercall(VIREO_HC_DOORBELL, DOORBELL, 0, 0, 0), 0);
	GUEST_EQ(READ_ONCE(r.ctl->sub_head), lie->good);
	GUEST_EQ(READ_ONCE(r.ctl->comp_tail), lie->good);
}

TEST_LIMIT(indices, 120)
{
	struct test_disk d;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(lies); i++) {
		ASSERT_TRUE(disk_boot(&d, BACKING_FILE, 1, 0));
		queue_set_msi(d.queue, 0, 0x71, VIREO_MSI_MASKED);
		test_note("tail %#x, head %#x after %u", lies[i].tail, lies[i].head, lies[i].good);
		vcpu_set_entry(&d.vm.vcpu[0], guest_lies, i);
		vcpu_run_done(&d.vm.vcpu[0]);
		EXPECT_EQ(queue_stat(d.queue).error, VIREO_RING_ERROR_INDEX);
		/* the guest is told: an interrupt waits */
		EXPECT_EQ(queue_set_msi(d.queue, 0, 0x71, VIREO_MSI_MASKED), 1);
		expect_usable(&d);
		disk_close(&d);
	}
}

/* One that never takes a completion gets as many as the ring holds, and no more */
static void guest_never_takes(u64 arg)
{
	struct ring r;
	u32 i;

	ring_open(&r, RING, ENTRIES, DOORBELL);
	for (i = 0; i < ENTRIES; i++)
		ring_request(&r, i, VIREO_BLK_READ, 0, i * 8, (u8 *)DATA, 4096);
	ring_kick(&r);
	while (READ_ONCE(r.ctl->comp_tail) != ENTRIES)
		guest_pause();
	ring_request(&r, i, VIREO_BLK_READ, 0, 0, (u8 *)DATA, 4096);
	GUEST_EQ(hypercall(VIREO_HC_DOORBELL, DOORBELL, 0, 0, 0), 0);
	GUEST_EQ(READ_ONCE(r.ctl->error), VIREO_RING_ERROR_INDEX);
}

TEST(never_takes)
{
	struct test_disk d;

	ASSERT_TRUE(disk_boot(&d, BACKING_FILE, 1, 0));
	vcpu_set_entry(&d.vm.vcpu[0], guest_never_takes, 0);
	vcpu_run_done(&d.vm.vcpu[0]);
	EXPECT_EQ(queue_stat(d.queue).entries, ENTRIES);
	expect_usable(&d);
}

/* ---- garbage ------------------------------------------------------------------------------ */

#define GARBAGE	3000

static void garbage_entry(struct vireo_blk_sub *sub, u64 *state)
{
	u64 kind = random_next(state);
	u64 *words = (u64 *)sub;
	u32 i;

	for (i = 0; i < 8; i++)
		words[i] = random_next(state);
	if (kind & 1) {		/* nearly right, so that it gets further */
		sub->op = random_next(state) % 5;
		sub->flags &= 0x83;
		sub->nsegs = random_next(state) % 5;
		sub->reserved = 0;
		sub->sector = random_next(state) % (LIMIT + 64);
		for (i = 0; i < 3; i++) {
			sub->seg[i].gpa = DATA + (random_next(state) % 0x900000 & ~511ULL);
			sub->seg[i].len = random_next(state) % 0x20000 & ~511U;
			sub->seg[i].reserved = 0;
		}
		if (kind & 2)
			sub->sectors = random_next(state) % (LIMIT + 64);
		if (sub->flags & VIREO_SUB_INDIRECT && kind & 4)
			sub->seg[0].len = sub->nsegs * 16;
	}
}

static void guest_garbage(u64 seed)
{
	u64 state = seed * 0x9e3779b97f4a7c15ULL;
	struct vireo_comp comp;
	struct ring r;
	u32 i;

	ring_open(&r, RING, ENTRIES, DOORBELL);
	for (i = 0; i < GARBAGE; i++) {
		garbage_entry(ring_next(&r), &state);
		ring_put(&r);
		if (i % 16 == 15)
			ring_kick(&r);
		while (r.tail - r.head == ENTRIES || (i == GARBAGE - 1 && r.tail != r.head)) {
			ring_kick(&r);
			comp = ring_wait(&r);
			GUEST_TRUE(comp.status <= VIREO_COMP_RETRY && !comp.info);
			GUEST_TRUE(comp.len <= VIREO_BLK_MAX_BYTES);
		}
	}
	GUEST_EQ(r.ctl->error, 0);
}

TEST_LIMIT(garbage, 180)
{
	struct test_disk d;
	enum backing b;

	for (b = 0; b < BACKING_BLOCK_4K; b++) {
		if (!half_boot(&d, b, 1))
			continue;
		vcpu_set_entry(&d.vm.vcpu[0], guest_garbage, b + 1);
		vcpu_run_done(&d.vm.vcpu[0]);
		EXPECT_EQ(queue_stat(d.queue).entries, GARBAGE);
		EXPECT_GT(queue_stat(d.queue).errors, GARBAGE / 2);
		EXPECT_LT(queue_stat(d.queue).errors, GARBAGE);
		half_check(&d);
		expect_usable(&d);
		disk_close(&d);
	}
}

/* ---- rewritten while it is read -------------------------------------------------------------- */

static u32 stop;
static u32 rewriting;

#define LIST	(DATA + 0x700000)

/* Good and bad by turns: the end of the disk, an address, a length, a list */
static void guest_rewrites(u64 arg)
{
	struct vireo_blk_sub *sub = (void *)(RING + VIREO_RING_SUB(ENTRIES));
	struct vireo_seg *list = (void *)LIST;
	u64 state = 77;

	WRITE_ONCE(rewriting, 1);
	while (!READ_ONCE(stop)) {
		volatile struct vireo_blk_sub *s = &sub[random_next(&state) % ENTRIES];
		bool bad = random_next(&state) & 1;

		switch (random_next(&state) % 7) {
		case 0:
			s->sector = bad ? LIMIT : LIMIT - 8;
			break;
		case 1:
			s->seg[0].gpa = bad ? 0x7000000000ULL : DATA;
			break;
		case 2:
			s->seg[0].len = bad ? 0x7ffffe00 : 4096;
			break;
		case 3:
			s->nsegs = bad ? 0xffff : 1;
			break;
		case 4:
			s->flags = bad ? VIREO_SUB_INDIRECT : 0;
			break;
		case 5:
			list[0].len = bad ? 0xfffffe00 : 4096;
			break;
		default:
			list[0].gpa = bad ? ~0ULL << 12 : DATA;
			break;
		}
	}
}

static void guest_rewritten(u64 rounds)
{
	struct vireo_comp comp;
	struct ring r;
	u32 i;

	for (i = 0; i < 256; i++)
		((struct vireo_seg *)LIST)[i] = (struct vireo_seg) { .gpa = DATA, .len = 4096 };
	while (!READ_ONCE(rewriting))
		guest_pause();
	ring_open(&r, RING, ENTRIES, DOORBELL);
	for (i = 0; i < rounds; i++) {
		struct vireo_blk_sub *sub = ring_next(&r);

		sub->op = VIREO_BLK_WRITE;
		sub->sector = LIMIT - 8;
		sub->nsegs = 1;
		sub->seg[0].gpa = i % 2 ? LIST : DATA;
		sub->seg[0].len = i % 2 ? 16 : 4096;
		sub->flags = i % 2 ? VIREO_SUB_INDIRECT : 0;
		ring_put(&r);
		while (r.tail - r.head == ENTRIES || (i == rounds - 1 && r.tail != r.head)) {
			ring_kick(&r);
			comp = ring_wait(&r);
			GUEST_TRUE(comp.status <= VIREO_COMP_RETRY);
		}
	}
	WRITE_ONCE(stop, 1);
	GUEST_EQ(r.ctl->error, 0);
}

TEST_LIMIT(rewritten, 180)
{
	struct test_disk d;
	enum backing b;

	for (b = 0; b < BACKINGS; b++) {
		if (!half_boot(&d, b, 2))
			continue;
		vcpu_set_entry(&d.vm.vcpu[0], guest_rewritten, 3000);
		vcpu_set_entry(&d.vm.vcpu[1], guest_rewrites, 0);
		vcpu_start(&d.vm.vcpu[1]);
		vcpu_start(&d.vm.vcpu[0]);
		vcpu_join(&d.vm.vcpu[0]);
		vcpu_join(&d.vm.vcpu[1]);
		half_check(&d);
		expect_usable(&d);
		disk_close(&d);
	}
}

/* The disk itself writes the ring: entries, indices and all */
static void guest_ring_as_target(u64 arg)
{
	struct ring r;
	u32 i;

	ring_open(&r, RING, ENTRIES, DOORBELL);
	for (i = 0; i < 8192; i++)
		((u8 *)DATA)[i] = i * 37 + 5;
	GUEST_EQ(ring_do(&r, VIREO_BLK_WRITE, 0, 0, (u8 *)DATA, 8192), 0);
	for (i = 0; i < 8; i++)
		ring_request(&r, i, VIREO_BLK_READ, 0, 0, (u8 *)RING, 8192);
	ring_kick(&r);
	for (i = 0; i < 100; i++)
		hypercall(VIREO_HC_DOORBELL, DOORBELL, 0, 0, 0);
}

TEST(ring_as_target)
{
	struct test_disk d;
	enum backing b;

	for (b = 0; b < BACKINGS; b++) {
		if (!half_boot(&d, b, 1))
			continue;
		vcpu_set_entry(&d.vm.vcpu[0], guest_ring_as_target, 0);
		vcpu_run_done(&d.vm.vcpu[0]);
		half_check(&d);
		expect_usable(&d);
		disk_close(&d);
	}
}

/* ---- never lets up ------------------------------------------------------------------ */

/* One vCPU has entries and completions without end, the others doorbells without pause */
static void guest_endless(u64 arg)
{
	struct ring r = { 0 };

	if (!arg)
		ring_open(&r, RING, ENTRIES, DOORBELL);
	for (;;) {
		if (!arg) {
			WRITE_ONCE(r.ctl->comp_head, READ_ONCE(r.ctl->comp_tail));
			WRITE_ONCE(r.ctl->sub_tail, READ_ONCE(r.ctl->comp_head) + ENTRIES);
		} else {
			hypercall(VIREO_HC_DOORBELL, DOORBELL, 0, 0, 0);
		}
	}
}

static void *run_thread(void *arg)
{
	struct test_vcpu *vcpu = arg;

	vcpu->result = vcpu_run(vcpu);
	return NULL;
}

/* Its vCPUs still answer to a signal */
TEST_LIMIT(endless, 120)
{
	struct test_disk d;
	u32 i;

	signal_install();
	ASSERT_TRUE(disk_boot(&d, BACKING_FILE, 3, 0));
	for (i = 0; i < 3; i++) {
		struct test_vcpu *vcpu = &d.vm.vcpu[i];

		vcpu_set_entry(vcpu, guest_endless, i);
		ASSERT_EQ(pthread_create(&vcpu->thread, NULL, run_thread, vcpu), 0);
	}
	queue_wait_entries(d.queue, 2000);
	for (i = 0; i < 3; i++) {
		while (pthread_tryjoin_np(d.vm.vcpu[i].thread, NULL)) {
			vcpu_signal(&d.vm.vcpu[i]);
			usleep(10000);
		}
		EXPECT_EQ(d.vm.vcpu[i].result, -EINTR);
	}
	EXPECT_EQ(queue_stat(d.queue).error, 0);
	expect_usable(&d);
}

TEST_MAIN()
