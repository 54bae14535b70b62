// SPDX-License-Identifier: GPL-2.0
/* Queues: interrupts, doorbells, and their life and end. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "ring.h"

#define VECTOR	0x71

static u32 interrupts;

GUEST_HANDLER
static void guest_on_interrupt(struct guest_frame *frame)
{
	interrupts++;
	guest_eoi();
}

static void guest_interrupts_on(void)
{
	guest_vector[VECTOR] = guest_on_interrupt;
	wrmsr(APIC_SVR, APIC_ENABLED);
}

/* ---- interrupts ------------------------------------------------------------------------ */

/* One for each request, whose completion ends HLT */
static void guest_interrupted(u64 arg)
{
	struct vireo_comp comp;
	struct ring r;
	u32 i;

	guest_interrupts_on();
	ring_open(&r, RING, ENTRIES, DOORBELL);
	for (i = 0; i < 50; i++) {
		WRITE_ONCE(r.ctl->comp_event, r.head);
		ring_request(&r, i, VIREO_BLK_READ, 0, i * 8, (u8 *)DATA, 4096);
		ring_kick(&r);
		while (READ_ONCE(interrupts) <= i)
			guest_halt();
		GUEST_TRUE(ring_take(&r, &comp));
		GUEST_EQ(comp.status | comp.tag << 16, i << 16);
	}
	GUEST_EQ(READ_ONCE(interrupts), 50);
}

TEST_LIMIT(interrupts_arrive, 120)
{
	struct test_disk d;
	enum backing b;

	for (b = 0; b < BACKINGS; b++) {
		if (!disk_boot(&d, b, 1, 0))
			continue;
		ASSERT_EQ(queue_set_msi(d.queue, 0, VECTOR, 0), 0);
		vcpu_set_entry(&d.vm.vcpu[0], guest_interrupted, 0);
		vcpu_run_done(&d.vm.vcpu[0]);
		EXPECT_EQ(queue_stat(d.queue).interrupts, 50);
		disk_close(&d);
	}
}

/* An event behind: silence.  One ahead: an interrupt when it gets there, not before. */
static void guest_events(u64 arg)
{
	struct vireo_comp comp;
	struct ring r;
	u32 i;

	guest_interrupts_on();
	guest_sti();
	ring_open(&r, RING, ENTRIES, DOORBELL);
	for (i = 0; i < 100; i++) {
		WRITE_ONCE(r.ctl->comp_event, r.head - 1);
		GUEST_EQ(ring_do(&r, VIREO_BLK_READ, 0, 0, (u8 *)DATA, 4096), 0);
	}
	GUEST_EQ(READ_ONCE(interrupts), 0);
	WRITE_ONCE(r.ctl->comp_event, r.head + 7);
	for (i = 0; i < 8; i++) {
		GUEST_EQ(READ_ONCE(interrupts), 0);
		ring_request(&r, i, VIREO_BLK_READ, 0, 0, (u8 *)DATA, 4096);
		ring_kick(&r);
		if (i < 7)
			ring_wait(&r);
	}
	guest_cli();	/* else it may come between the look and HLT */
	while (!READ_ONCE(interrupts))
		guest_halt();
	GUEST_TRUE(ring_take(&r, &comp));
	guest_sti();
	for (i = 0; i < 20; i++)
		GUEST_EQ(ring_do(&r, VIREO_BLK_READ, 0, 0, (u8 *)DATA, 4096), 0);
	GUEST_EQ(READ_ONCE(interrupts), 1);
}

TEST(events)
{
	struct test_disk d;

	ASSERT_TRUE(disk_boot(&d, BACKING_FILE, 1, 0));
	ASSERT_EQ(queue_set_msi(d.queue, 0, VECTOR, 0), 0);
	vcpu_set_entry(&d.vm.vcpu[0], guest_events, 0);
	vcpu_run_done(&d.vm.vcpu[0]);
	EXPECT_EQ(queue_stat(d.queue).interrupts, 1);
}

static void guest_masked(u64 arg)
{
	struct ring r;
	u32 i;

	guest_interrupts_on();
	guest_sti();
	ring_open(&r, RING, ENTRIES, DOORBELL);
	for (i = 0; i < 3; i++) {
		WRITE_ONCE(r.ctl->comp_event, r.head);
		GUEST_EQ(ring_do(&r, VIREO_BLK_READ, 0, 0, (u8 *)DATA, 4096), 0);
	}
	GUEST_EQ(READ_ONCE(interrupts), 0);
	guest_sync(0);
	while (READ_ONCE(interrupts) < 1)	/* three became one */
		guest_pause();
	WRITE_ONCE(r.ctl->comp_event, r.head);
	GUEST_EQ(ring_do(&r, VIREO_BLK_READ, 0, 0, (u8 *)DATA, 4096), 0);
	while (READ_ONCE(interrupts) < 2)
		guest_pause();
}

TEST(masked_and_pending)
{
	struct test_disk d;

	ASSERT_TRUE(disk_boot(&d, BACKING_FILE, 1, 0));
	vcpu_set_entry(&d.vm.vcpu[0], guest_masked, 0);
	EXPECT_EQ(queue_set_msi(d.queue, 0, VECTOR, VIREO_MSI_MASKED), 0);
	vcpu_run_sync(&d.vm.vcpu[0]);
	EXPECT_EQ(queue_stat(d.queue).interrupts, 0);
	EXPECT_EQ(queue_set_msi(d.queue, 0, VECTOR, VIREO_MSI_MASKED), 1);
	EXPECT_EQ(queue_set_msi(d.queue, 0, VECTOR, 0), 0);
	EXPECT_EQ(queue_stat(d.queue).interrupts, 1);
	vcpu_run_done(&d.vm.vcpu[0]);
	EXPECT_EQ(queue_stat(d.queue).interrupts, 2);
}

/* ---- doorbells ------------------------------------------------------------------------- */

static void guest_doorbells(u64 arg)
{
	static const u64 unknown[] = { 0, 4, 6, 255, 256, 257, 261, ~0ULL, 1ULL << 32 | 5 };
	struct ring r;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(unknown); i++)
		GUEST_EQ(hypercall(VIREO_HC_DOORBELL, unknown[i], 0, 0, 0), -2);
	ring_open(&r, RING, ENTRIES, DOORBELL);
	/* Rung for nothing */
	for (i = 0; i < 10; i++)
		GUEST_EQ(hypercall(VIREO_HC_DOORBELL, DOORBELL, 0, 0, 0), 0);
	GUEST_EQ(r.ctl->sub_head, 0);
	GUEST_EQ(r.ctl->comp_tail, 0);
	/* Not before the index that the device names */
	GUEST_TRUE(!vireo_ring_event(r.ctl->sub_event, 0, 0));
	GUEST_EQ(ring_do(&r, VIREO_BLK_READ, 0, 0, (u8 *)DATA, 4096), 0);
	GUEST_EQ(r.ctl->sub_head, 1);
	GUEST_EQ(r.ctl->sub_event, 1);
	guest_sync(0);
	GUEST_EQ(hypercall(VIREO_HC_DOORBELL, DOORBELL, 0, 0, 0), -2);
}

TEST(doorbells)
{
	struct test_disk d;

	ASSERT_TRUE(disk_boot(&d, BACKING_FILE, 1, 0));
	vcpu_set_entry(&d.vm.vcpu[0], guest_doorbells, 0);
	vcpu_run_sync(&d.vm.vcpu[0]);
	EXPECT_EQ(queue_stat(d.queue).doorbells, 11);
	close(d.queue);
	vcpu_run_done(&d.vm.vcpu[0]);
}

/* ---- several ----------------------------------------------------------------------------- */

#define QUEUES	4

/* Queue n has its own ring, data and part of the disk */
static void guest_one_of(u64 n)
{
	u8 *data = (u8 *)DATA + n * 0x100000;
	struct vireo_comp comp;
	struct ring r;
	u32 round, i;

	ring_open(&r, RING + n * 0x10000, 16 << n, 100 + n);
	for (round = 0; round < 30; round++) {
		u8 op = round % 2 ? VIREO_BLK_READ : VIREO_BLK_WRITE;

		for (i = 0; i < 16; i++) {
			if (op == VIREO_BLK_WRITE)
				pattern_fill(data + i * 4096, 4096, n * 1024 + i * 8, round);
			ring_request(&r, i, op, 0, n * 1024 + i * 8, data + i * 4096, 4096);
		}
		ring_kick(&r);
		for (i = 0; i < 16; i++) {
			comp = ring_wait(&r);
			GUEST_EQ(comp.status, 0);
		}
		GUEST_TRUE(pattern_is(data, 65536, n * 1024, round & ~1U));
	}
}

static void queues(enum backing b)
{
	struct test_disk d;
	int queue[QUEUES];
	u32 i;

	if (!disk_boot(&d, b, QUEUES, 0))
		return;
	for (i = 0; i < QUEUES; i++) {
		queue[i] = queue_create(d.disk, 100 + i, RING + i * 0x10000, 16 << i);
		ASSERT_GE(queue[i], 0);
	}
	for (i = 0; i < QUEUES; i++) {
		vcpu_set_entry(&d.vm.vcpu[i], guest_one_of, i);
		vcpu_start(&d.vm.vcpu[i]);
	}
	for (i = 0; i < QUEUES; i++)
		vcpu_join(&d.vm.vcpu[i]);
	for (i = 0; i < QUEUES; i++) {
		EXPECT_EQ(queue_stat(queue[i]).entries, 480);
		EXPECT_EQ(queue_stat(queue[i]).errors, 0);
		close(queue[i]);
	}
	disk_close(&d);
}

TEST_LIMIT(several_queues, 120)
{
	enum backing b;

	for (b = 0; b < BACKINGS; b++)
		queues(b);
}

/* All vCPUs on one queue's doorbell, one of them with work */
static u32 done;

static void guest_rings(u64 arg)
{
	while (!READ_ONCE(done))
		GUEST_EQ(hypercall(VIREO_HC_DOORBELL, DOORBELL, 0, 0, 0), 0);
}

static void guest_works(u64 arg)
{
	struct ring r;
	u32 i;

	ring_open(&r, RING, ENTRIES, DOORBELL);
	for (i = 0; i < 300; i++)
		GUEST_EQ(ring_do(&r, VIREO_BLK_READ, 0, i * 8, (u8 *)DATA, 4096), 0);
	WRITE_ONCE(done, 1);
}

TEST_LIMIT(rung_by_many, 120)
{
	struct test_disk d;
	u32 i;

	ASSERT_TRUE(disk_boot(&d, BACKING_FILE, 3, 0));
	for (i = 0; i < 3; i++) {
		vcpu_set_entry(&d.vm.vcpu[i], i ? guest_rings : guest_works, 0);
		vcpu_start(&d.vm.vcpu[i]);
	}
	for (i = 0; i < 3; i++)
		vcpu_join(&d.vm.vcpu[i]);
	EXPECT_EQ(queue_stat(d.queue).entries, 300);
}

/* ---- ends -------------------------------------------------------------------------------- */

/* Keeps the ring full until the doorbell is gone; then waits for the next one */
static void guest_load(u64 arg)
{
	struct vireo_comp comp;
	struct ring r;
	u32 i;

	for (;;) {
		for (i = 0; i < VIREO_RING_BYTES(ENTRIES) / 8; i++)
			((volatile u64 *)RING)[i] = 0;
		ring_open(&r, RING, ENTRIES, DOORBELL);
		guest_sync(1);	/* the ring is clean: a queue may be made of it */
		for (;;) {
			while (r.tail - r.head < ENTRIES)
				ring_request(&r, r.tail, r.tail % 3 ? VIREO_BLK_WRITE : 0, 0,
					     r.tail % 100 * 8, (u8 *)DATA, 4096);
			if (hypercall(VIREO_HC_DOORBELL, DOORBELL, 0, 0, 0))
				break;
			while (ring_take(&r, &comp))
				GUEST_EQ(comp.status, 0);
		}
		guest_sync(0);	/* what is in flight may still complete */
	}
}

static void *close_later(void *arg)
{
	struct test_disk *d = arg;

	queue_wait_entries(d->queue, 200);
	close(d->queue);
	return NULL;
}

static void close_under_load(enum backing b)
{
	struct test_disk d;
	pthread_t thread;
	int i;

	if (!disk_boot(&d, b, 1, 0))
		return;
	vcpu_set_entry(&d.vm.vcpu[0], guest_load, 0);
	vcpu_run_sync(&d.vm.vcpu[0]);
	for (i = 0; i < 15; i++) {
		ASSERT_EQ(pthread_create(&thread, NULL, close_later, &d), 0);
		EXPECT_EQ(vcpu_run_sync(&d.vm.vcpu[0]), 0);
		pthread_join(thread, NULL);
		EXPECT_EQ(vcpu_run_sync(&d.vm.vcpu[0]), 1);
		d.queue = queue_create(d.disk, DOORBELL, RING, ENTRIES);
		ASSERT_GE(d.queue, 0);
	}
	disk_close(&d);
}

TEST_LIMIT(closed_under_load, 180)
{
	enum backing b;

	for (b = 0; b < BACKINGS; b++)
		close_under_load(b);
}

/* The queue holds what it needs: disk, file and VM may be closed before it */
TEST(closed_in_any_order)
{
	struct test_disk d;

	ASSERT_TRUE(disk_boot(&d, BACKING_FILE, 1, 0));
	close(d.disk);
	close(d.file);
	vcpu_set_entry(&d.vm.vcpu[0], guest_works, 0);
	vcpu_run_done(&d.vm.vcpu[0]);
	EXPECT_EQ(queue_stat(d.queue).entries, 300);
	vm_close(&d.vm);
	EXPECT_EQ(queue_stat(d.queue).in_flight, 0);
	close(d.queue);
}

/* What was in flight when the process died is not lost on the way */
static void guest_fills(u64 arg)
{
	struct ring r;
	u32 i;

	ring_open(&r, RING, ENTRIES, DOORBELL);
	for (i = 0; i < ENTRIES; i++) {
		pattern_fill((u8 *)DATA + i * 65536, 65536, i * 128, 8);
		ring_request(&r, i, VIREO_BLK_WRITE, 0, i * 128, (u8 *)DATA + i * 65536, 65536);
	}
	ring_kick(&r);
	guest_sync(0);
}

TEST(closed_with_writes_in_flight)
{
	static u8 buf[65536] __aligned(4096);
	struct test_disk d;
	enum backing b;
	u32 i;

	for (b = 0; b < BACKINGS; b++) {
		if (!disk_boot(&d, b, 1, 0))
			continue;
		vcpu_set_entry(&d.vm.vcpu[0], guest_fills, 0);
		vcpu_run_sync(&d.vm.vcpu[0]);
		close(d.queue);
		for (i = 0; i < ENTRIES; i++) {
			backing_read(d.file, buf, sizeof(buf), i * 65536);
			EXPECT_TRUE(pattern_is(buf, sizeof(buf), i * 128, 8));
		}
		d.queue = -1;
		disk_close(&d);
	}
}

TEST_MAIN()
