// SPDX-License-Identifier: GPL-2.0
/* Memory is charged to the cgroup of whoever touches it, and bounded by it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "guest.h"
#include "harness.h"
#include "host.h"
#include "ring.h"
#include "vm.h"

#define MOUNT	"/sys/fs/cgroup"
#define GROUP	MOUNT "/vireo-selftest"
#define MB	BIT_ULL(20)

static void group_enter(const char *limit)
{
	dev_open();
	if (access(MOUNT "/cgroup.controllers", R_OK))
		mount("cgroup2", MOUNT, "cgroup2", 0, NULL);
	file_write(MOUNT "/cgroup.subtree_control", "+memory");
	mkdir(GROUP, 0755);
	if (access(GROUP "/memory.max", W_OK))
		SKIP("no cgroup v2 memory controller");
	ASSERT_EQ(file_write(GROUP "/memory.max", limit), 0);
	file_write(GROUP "/memory.swap.max", "0");
	ASSERT_EQ(file_write(GROUP "/cgroup.procs", "0"), 0);
}

static void group_leave(void)
{
	int i;

	file_write(MOUNT "/cgroup.procs", "0");
	for (i = 0; i < 100 && rmdir(GROUP); i++)
		usleep(20000);
}

static s64 group_usage(void)
{
	return file_number(GROUP "/memory.current", NULL);
}

static s64 group_kills(void)
{
	return file_number(GROUP "/memory.events", "oom_kill");
}

TEST(charged_and_returned)
{
	static u8 buf[MB];
	s64 before, during, after = 0;
	struct test_vm vm;
	u64 at;
	int i;

	group_enter("max");
	memset(buf, 1, sizeof(buf));
	before = group_usage();
	vm_open(&vm, 1);
	ASSERT_EQ(vm_add_memory(vm.fd, 0, 64 * MB), 0);
	for (at = 0; at < 32 * MB; at += MB)
		ASSERT_EQ(do_pwrite(vm.mem, buf, MB, at), (s64)MB);
	during = group_usage();
	EXPECT_GE(during - before, 31 * MB);
	EXPECT_LE(during - before, 36 * MB);
	vm_close(&vm);
	for (i = 0; i < 100; i++) {
		after = group_usage();
		if (after - before < 2 * MB)
			break;
		usleep(50000);
	}
	EXPECT_LT(after - before, 2 * MB);
	group_leave();
}

TEST(write_beyond_limit)
{
	static u8 buf[MB];
	struct test_vm vm;
	s64 ret = 0;
	u64 at;

	group_enter("24M");
	memset(buf, 1, sizeof(buf));
	vm_open(&vm, 1);
	ASSERT_EQ(vm_add_memory(vm.fd, 0, 64 * MB), 0);
	for (at = 0; at < 64 * MB; at += MB) {
		ret = do_pwrite(vm.mem, buf, MB, at);
		if (ret != (s64)MB)
			break;
	}
	EXPECT_LT(at, 24 * MB);
	EXPECT_GT(at, 8 * MB);
	if (ret >= 0)		/* a partial write comes first */
		ret = do_pwrite(vm.mem, buf, MB, at + ret);
	EXPECT_EQ(ret, -ENOMEM);
	EXPECT_EQ(group_kills(), 0);
	/* What is there still works */
	EXPECT_EQ(do_pread(vm.mem, buf, MB, 0), (s64)MB);
	EXPECT_EQ(buf[0], 1);
	vm_close(&vm);
	group_leave();
}

static u64 touched;

static void guest_touch(u64 bytes)
{
	u64 at;

	for (at = VM_RAM; at < bytes; at += 4096) {
		WRITE_ONCE(*(u64 *)at, at);
		WRITE_ONCE(touched, at);
	}
}

TEST(run_beyond_limit)
{
	struct test_vm vm;
	u64 stopped;
	int ret;

	group_enter("24M");
	vm_boot(&vm, 1, 64 * MB);
	vcpu_set_entry(&vm.vcpu[0], guest_touch, 64 * MB);
	ret = vcpu_run(&vm.vcpu[0]);
	EXPECT_EQ(ret, -ENOMEM);
	stopped = VM_GET(&vm, touched);
	EXPECT_GT(stopped, VM_RAM);
	EXPECT_LT(stopped, 32 * MB);
	EXPECT_EQ(group_kills(), 0);
	/* Nothing is lost: with more memory the guest goes on where it was */
	ASSERT_EQ(file_write(GROUP "/memory.max", "max"), 0);
	EXPECT_EQ(vcpu_run_done(&vm.vcpu[0]), 0);
	EXPECT_EQ(VM_GET(&vm, touched), 64 * MB - 4096);
	vm_close(&vm);
	group_leave();
}

static u64 written;
static u16 ended;

/* Megabytes, up to so many; the ring is another one each time */
static void guest_fill(u64 requests)
{
	struct ring r;

	ring_open(&r, RING + (written ? 0x10000 : 0), ENTRIES, DOORBELL);
	while (written < requests && !ended) {
		ended = ring_do(&r, VIREO_BLK_WRITE, 0, written * 2048, (u8 *)DATA, MB);
		written += !ended;
	}
}

/* What a guest writes to an overlay is charged to who made the disk, though others copy it. */
TEST(overlay_beyond_limit)
{
	struct vireo_create_disk create = { .size = sizeof(create), .flags = VIREO_DISK_OVERLAY };
	struct test_disk d;
	struct test_vm blocks;
	char limit[32];
	s64 before;
	int max;

	group_enter("max");
	vm_boot(&d.vm, 1, 0x1000000);
	vm_open(&blocks, 1);
	ASSERT_EQ(vm_add_memory(blocks.fd, 0, 64 * MB), 0);
	create.fd = memfd_create("base", MFD_CLOEXEC);
	ASSERT_EQ(ftruncate(create.fd, 64 * MB), 0);
	create.block = disk_block(create.fd);
	create.overlay = blocks.mem;
	create.overlay_max = 64 * MB;
	d.disk = do_ioctl(d.vm.fd, VIREO_CREATE_DISK, &create);
	ASSERT_GE(d.disk, 0);
	d.queue = queue_create(d.disk, DOORBELL, RING, ENTRIES);
	ASSERT_GE(d.queue, 0);
	vcpu_set_entry(&d.vm.vcpu[0], guest_fill, 2);	/* touches what it needs */
	vcpu_run_done(&d.vm.vcpu[0]);
	before = group_usage();
	snprintf(limit, sizeof(limit), "%lld", before + 8 * MB);
	max = open(GROUP "/memory.max", O_WRONLY | O_CLOEXEC);
	ASSERT_GE(write(max, limit, strlen(limit)), 1);
	close(d.queue);
	d.queue = queue_create(d.disk, DOORBELL, RING + 0x10000, ENTRIES);
	vcpu_set_entry(&d.vm.vcpu[0], guest_fill, 64);
	vcpu_run_done(&d.vm.vcpu[0]);
	/*
	 * What the worker's processor keeps in stock of the group's charge is not always
	 * given back in time for this process: it needs a new file no sooner than now.
	 */
	ASSERT_EQ(pwrite(max, "max", 3, 0), 3);
	close(max);
	EXPECT_EQ(VM_GET(&d.vm, ended), VIREO_COMP_NOSPC);
	EXPECT_GE(VM_GET(&d.vm, written), 5);
	EXPECT_LE(VM_GET(&d.vm, written), 11);
	EXPECT_GE(group_usage() - before, 3 * MB);
	EXPECT_EQ(group_kills(), 0);
	close(d.queue);
	close(d.disk);
	vm_close(&blocks);
	vm_close(&d.vm);
	group_leave();
}

TEST_MAIN()
