// SPDX-License-Identifier: GPL-2.0
/* Disks whose changes stay in memory: what is written, what is seen, what is refused. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "host.h"
#include "ring.h"

#define AREA		0x100000	/* of the disk, that guests use */
#define MODEL		((u8 *)DATA + 0x200000)	/* what it should hold */
#define NO_LIMIT	(~0ULL)

/* Not in the program, of which there is a copy in the guest */
static u8 *buf, *other;

/* A disk with an overlay, and the VM that this is in */
struct overlaid {
	struct test_disk d;
	int vm;
	int mem;
};

static int blocks_open(int *mem)
{
	struct test_vm vm;

	vm_open(&vm, 1);
	ASSERT_EQ(vm_add_memory(vm.fd, 0, VIREO_MAX_GPA), 0);
	*mem = vm.mem;
	return vm.fd;
}

static int overlay_create(int vm, int file, u32 flags, int overlay, u64 max)
{
	struct vireo_create_disk arg = {
		.size = sizeof(arg), .flags = flags, .fd = file, .overlay = overlay,
		.overlay_max = max, .block = disk_block(file),
	};

	return do_ioctl(vm, VIREO_CREATE_DISK, &arg);
}

static bool overlaid_boot(struct overlaid *o, enum backing b, u32 vcpus, u64 max)
{
	int file = backing_open(b);

	if (file < 0)
		return false;
	test_note("on %s", backing_name[b]);
	buf = aligned_alloc(4096, AREA);
	other = aligned_alloc(4096, AREA);
	pattern_fill(buf, AREA, 0, 1);
	ASSERT_EQ(do_pwrite(file, buf, AREA, 0), AREA);
	o->d.file = file;
	o->vm = blocks_open(&o->mem);
	vm_boot(&o->d.vm, vcpus, 0x1000000);
	vm_write(&o->d.vm, (uintptr_t)MODEL, buf, AREA);
	o->d.disk = overlay_create(o->d.vm.fd, file, VIREO_DISK_OVERLAY, o->mem, max);
	ASSERT_GE(o->d.disk, 0);
	o->d.queue = queue_create(o->d.disk, DOORBELL, RING, ENTRIES);
	ASSERT_GE(o->d.queue, 0);
	return true;
}

static void overlaid_close(struct overlaid *o)
{
	disk_close(&o->d);
	close(o->mem);
	close(o->vm);
	free(buf);
	free(other);
	buf = NULL;
	other = NULL;
}

static u64 blocks_bytes(const struct overlaid *o)
{
	struct vireo_stat stat;

	ASSERT_EQ(fd_get_stat(o->vm, &stat), 0);
	EXPECT_EQ(stat.huge_bytes, 0);
	return stat.resident_bytes;
}

/* The file is as it was; returns whether the blocks hold what the guest's model says. */
static void expect_base(struct overlaid *o)
{
	u32 at;

	backing_read(o->d.file, buf, AREA, 0);
	EXPECT_TRUE(pattern_is(buf, AREA, 0, 1));
	ASSERT_EQ(do_pread(o->d.vm.mem, other, AREA, (uintptr_t)MODEL), AREA);
	for (at = 0; at < AREA; at += 4096) {
		if (lseek(o->mem, at, SEEK_DATA) == at)
			ASSERT_EQ(do_pread(o->mem, buf + at, 4096, at), 4096);
		if (!EXPECT_THAT(!memcmp(buf + at, other + at, 4096), "block at %#x", at))
			return;
	}
}

/* ---- data --------------------------------------------------------------------------- */

static u64 random_state;

static u32 random_below(u32 n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % n;
}

/* Sectors at random, in units of @unit; what is read is what was written last */
static void guest_random(u64 unit)
{
	u32 i, len, sector;
	struct ring r;
	u8 *data;

	random_state = 0x9e3779b97f4a7c15ULL;
	ring_open(&r, RING, ENTRIES, DOORBELL);
	for (i = 0; i < 400; i++) {
		len = (random_below(i % 10 ? 20 : 200) + 1) * unit;
		sector = random_below(AREA / 512 / unit - len / unit) * unit;
		data = (u8 *)DATA + random_below(8) * 512 * unit;
		if (i % 2) {
			pattern_fill(data, len * 512, sector, i);
			memcpy(MODEL + sector * 512, data, len * 512);
			GUEST_EQ(ring_do(&r, VIREO_BLK_WRITE, i % 3 ? 0 : VIREO_BLK_FUA, sector,
					 data, len * 512), 0);
		} else {
			GUEST_EQ(ring_do(&r, VIREO_BLK_READ, 0, sector, data, len * 512), 0);
			GUEST_EQ(memcmp(data, MODEL + sector * 512, len * 512), 0);
		}
	}
	GUEST_EQ(ring_do(&r, VIREO_BLK_FLUSH, 0, 0, NULL, 0), 0);
}

TEST_LIMIT(random_sectors, 120)
{
	struct overlaid o;
	enum backing b;

	for (b = 0; b < BACKINGS; b++) {
		if (!overlaid_boot(&o, b, 1, NO_LIMIT))
			continue;
		vcpu_set_entry(&o.d.vm.vcpu[0], guest_random, b == BACKING_BLOCK_4K ? 8 : 1);
		vcpu_run_done(&o.d.vm.vcpu[0]);
		expect_base(&o);
		EXPECT_GT(blocks_bytes(&o), 0);
		EXPECT_EQ(queue_stat(o.d.queue).errors, 0);
		overlaid_close(&o);
	}
}

/* Single sectors of one block at the same time: none is lost */
static void guest_neighbours(u64 arg)
{
	u32 block, i, done;
	struct ring r;

	ring_open(&r, RING, ENTRIES, DOORBELL);
	pattern_fill((u8 *)DATA, AREA, 0, 7);
	for (block = 0; block < 200; block += 8) {
		for (i = 0; i < 64; i++) {
			u32 sector = block * 8 + i % 8 * 8 + i / 8;

			ring_request(&r, i, VIREO_BLK_WRITE, 0, sector, (u8 *)DATA + sector * 512,
				     512);
		}
		ring_kick(&r);
		for (done = 0; done < 64; done++)
			GUEST_EQ(ring_wait(&r).status, 0);
	}
	GUEST_EQ(ring_do(&r, VIREO_BLK_READ, 0, 0, MODEL, 200 * 4096), 0);
	GUEST_TRUE(pattern_is(MODEL, 200 * 4096, 0, 7));
}

TEST_LIMIT(neighbours, 120)
{
	struct overlaid o;

	ASSERT_TRUE(overlaid_boot(&o, BACKING_FILE, 1, NO_LIMIT));
	vcpu_set_entry(&o.d.vm.vcpu[0], guest_neighbours, 0);
	vcpu_run_done(&o.d.vm.vcpu[0]);
	expect_base(&o);
	EXPECT_EQ(blocks_bytes(&o), 200 * 4096);
}

/* ---- forks --------------------------------------------------------------------------- */

static u64 seed;

static void guest_fork(u64 arg)
{
	u8 *data = (u8 *)DATA;
	struct ring r;
	u32 i;

	ring_open(&r, RING, ENTRIES, DOORBELL);
	for (i = 0; i < 32; i++) {
		pattern_fill(data, 512, i * 16, 2);
		GUEST_EQ(ring_do(&r, VIREO_BLK_WRITE, 0, i * 16, data, 512), 0);
	}
	guest_sync(r.tail);
	/* Half of what was written, and as much that was not */
	for (i = 16; i < 48; i++) {
		pattern_fill(data, 1024, i * 16, READ_ONCE(seed));
		GUEST_EQ(ring_do(&r, VIREO_BLK_WRITE, 0, i * 16, data, 1024), 0);
	}
	for (i = 0; i < 48; i++) {
		GUEST_EQ(ring_do(&r, VIREO_BLK_READ, 0, i * 16, data, 4096), 0);
		GUEST_TRUE(pattern_is(data, 512, i * 16, i < 16 ? 2 : READ_ONCE(seed)));
		GUEST_TRUE(pattern_is(data + 512, 512, i * 16 + 1, i < 16 ? 1 : READ_ONCE(seed)));
		GUEST_TRUE(pattern_is(data + 1024, 3072, i * 16 + 2, 1));
	}
}

/* The clone's disk is its parent's, as that was; afterwards each has its own. */
TEST(forks)
{
	struct overlaid parent, child;
	u32 start;

	ASSERT_TRUE(overlaid_boot(&parent, BACKING_FILE, 1, NO_LIMIT));
	vcpu_set_entry(&parent.d.vm.vcpu[0], guest_fork, 0);
	start = vcpu_run_sync(&parent.d.vm.vcpu[0]);
	close(parent.d.queue);
	child.vm = vm_fd_fork(parent.vm);
	ASSERT_GE(child.vm, 0);
	child.mem = vm_get_memory(child.vm);
	vm_fork(&parent.d.vm, &child.d.vm);
	vcpu_clone(&parent.d.vm.vcpu[0], &child.d.vm);
	EXPECT_EQ(blocks_bytes(&child), 32 * 4096);
	child.d.file = dup(parent.d.file);
	child.d.disk = overlay_create(child.d.vm.fd, child.d.file, VIREO_DISK_OVERLAY, child.mem,
				      NO_LIMIT);
	ASSERT_GE(child.d.disk, 0);
	parent.d.queue = queue_resume(parent.d.disk, DOORBELL, RING, ENTRIES, start);
	child.d.queue = queue_resume(child.d.disk, DOORBELL, RING, ENTRIES, start);
	ASSERT_GE(parent.d.queue, 0);
	ASSERT_GE(child.d.queue, 0);
	VM_SET(&parent.d.vm, seed, 3);
	VM_SET(&child.d.vm, seed, 4);
	EXPECT_EQ(vcpu_run_done(&parent.d.vm.vcpu[0]), 0);
	EXPECT_EQ(blocks_bytes(&parent), 48 * 4096);
	EXPECT_EQ(blocks_bytes(&child), 32 * 4096);
	overlaid_close(&parent);
	EXPECT_EQ(vcpu_run_done(&child.d.vm.vcpu[0]), 0);
	overlaid_close(&child);
}

/* ---- what is refused ------------------------------------------------------------------ */

static void guest_limit(u64 blocks)
{
	struct ring r;
	u64 i;

	ring_open(&r, RING, ENTRIES, DOORBELL);
	for (i = 0; i < blocks; i++)
		GUEST_EQ(ring_do(&r, VIREO_BLK_WRITE, 0, i * 8, (u8 *)DATA, 512), 0);
	GUEST_EQ(ring_do(&r, VIREO_BLK_WRITE, 0, i * 8, (u8 *)DATA, 4096), VIREO_COMP_NOSPC);
	GUEST_EQ(ring_do(&r, VIREO_BLK_WRITE, 0, i * 8, (u8 *)DATA, 512), VIREO_COMP_NOSPC);
	/* What is there can be written, and all can be read. */
	GUEST_EQ(ring_do(&r, VIREO_BLK_WRITE, 0, 0, (u8 *)DATA, blocks * 4096), 0);
	GUEST_EQ(ring_do(&r, VIREO_BLK_READ, 0, 0, (u8 *)DATA, blocks * 4096 + 4096), 0);
	GUEST_EQ(ring_do_range(&r, VIREO_BLK_DISCARD, 0, 0, 8), VIREO_COMP_UNSUPPORTED);
	GUEST_EQ(ring_do_range(&r, VIREO_BLK_WRITE_ZEROES, 0, 0, 8), VIREO_COMP_UNSUPPORTED);
	GUEST_EQ(ring_do(&r, VIREO_BLK_WRITE, 0, BACKING_SECTORS * 100, (u8 *)DATA, 512),
		 VIREO_COMP_RANGE);
}

TEST(limit)
{
	struct overlaid o;

	ASSERT_TRUE(overlaid_boot(&o, BACKING_FILE, 1, 10 * 4096));
	vcpu_set_entry(&o.d.vm.vcpu[0], guest_limit, 10);
	vcpu_run_done(&o.d.vm.vcpu[0]);
	EXPECT_EQ(blocks_bytes(&o), 10 * 4096);
	backing_read(o.d.file, buf, AREA, 0);
	EXPECT_TRUE(pattern_is(buf, AREA, 0, 1));
}

static void guest_nowhere(u64 arg)
{
	struct ring r;

	ring_open(&r, RING, ENTRIES, DOORBELL);
	GUEST_EQ(ring_do(&r, VIREO_BLK_WRITE, 0, 0, (u8 *)DATA, 4096), VIREO_COMP_IO);
	GUEST_EQ(ring_do(&r, VIREO_BLK_READ, 0, 0, (u8 *)DATA, 4096), 0);
}

/* An overlay whose VM has no RAM has room for nothing. */
TEST(no_ram)
{
	struct test_disk d;
	struct test_vm vm;

	d.file = backing_open(BACKING_FILE);
	vm_open(&vm, 1);
	vm_boot(&d.vm, 1, 0x1000000);
	d.disk = overlay_create(d.vm.fd, d.file, VIREO_DISK_OVERLAY, vm.mem, NO_LIMIT);
	ASSERT_GE(d.disk, 0);
	d.queue = queue_create(d.disk, DOORBELL, RING, ENTRIES);
	vcpu_set_entry(&d.vm.vcpu[0], guest_nowhere, 0);
	vcpu_run_done(&d.vm.vcpu[0]);
}

TEST(refusals)
{
	int file = backing_open(BACKING_FILE), mem, vm = blocks_open(&mem), ro, disk;
	const u32 overlay = VIREO_DISK_OVERLAY;

	EXPECT_EQ(overlay_create(vm, file, overlay, -1, NO_LIMIT), -EBADF);
	EXPECT_EQ(overlay_create(vm, file, overlay, file, NO_LIMIT), -EINVAL);
	EXPECT_EQ(overlay_create(vm, file, overlay, vm, NO_LIMIT), -EINVAL);
	EXPECT_EQ(overlay_create(vm, file, overlay | VIREO_DISK_READONLY, mem, NO_LIMIT), -EINVAL);
	EXPECT_EQ(overlay_create(vm, file, 0, mem, 0), -EINVAL);
	EXPECT_EQ(overlay_create(vm, file, 0, 0, 1), -EINVAL);
	EXPECT_EQ(overlay_create(vm, mem, overlay, mem, NO_LIMIT), -EINVAL);
	/* The file need not be writable, nor the overlay's VM be another. */
	ro = open("/tmp/vireo-disk", O_RDONLY);
	disk = overlay_create(vm, ro, overlay, mem, NO_LIMIT);
	EXPECT_GE(disk, 0);
	close(vm);
	close(mem);
	EXPECT_EQ(close(disk), 0);
}

TEST_MAIN()
