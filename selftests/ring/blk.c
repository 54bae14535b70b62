// SPDX-License-Identifier: GPL-2.0
/* A disk's requests: what they do, and which of them are refused. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "ring.h"

static u8 buf[1 << 20] __aligned(4096);

/* The same guest on each kind of disk */
static void run_on_all(void (*guest)(u64), void (*check)(struct test_disk *d, enum backing b))
{
	struct test_disk d;
	enum backing b;

	for (b = 0; b < BACKINGS; b++) {
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

TEST_MAIN()
