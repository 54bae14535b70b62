// SPDX-License-Identifier: GPL-2.0
/* Disks and queues: what they are made of, what is refused, what they tell. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "harness.h"
#include "ring.h"

#define SECTORS	2048

static int file_make(int flags, u64 bytes)
{
	static const char path[] = "/tmp/vireo-api-disk";
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(ftruncate(fd, bytes), 0);
	close(fd);
	fd = open(path, flags);
	ASSERT_GE(fd, 0);
	return fd;
}

static void vm_with_ram(struct test_vm *vm)
{
	vm_open(vm, 1);
	ASSERT_EQ(vm_add_memory(vm->fd, 0, VM_RAM), 0);
}

/* ---- CREATE_DISK ------------------------------------------------------------------------- */

TEST(disk_of_what)
{
	struct test_vm vm;
	int fd, pipes[2];

	vm_with_ram(&vm);
	EXPECT_EQ(disk_create(vm.fd, -1, 0), -EBADF);
	EXPECT_EQ(disk_create(vm.fd, 1000, 0), -EBADF);
	fd = open("/tmp", O_RDONLY | O_DIRECTORY);
	EXPECT_EQ(disk_create(vm.fd, fd, VIREO_DISK_READONLY), -EINVAL);
	close(fd);
	fd = open("/dev/null", O_RDWR);
	EXPECT_EQ(disk_create(vm.fd, fd, 0), -EINVAL);
	close(fd);
	fd = open("/proc/version", O_RDONLY);
	EXPECT_GE(disk_create(vm.fd, fd, VIREO_DISK_READONLY), 0);	/* a file of no size */
	close(fd);
	ASSERT_EQ(pipe(pipes), 0);
	EXPECT_EQ(disk_create(vm.fd, pipes[0], VIREO_DISK_READONLY), -EINVAL);
	EXPECT_EQ(disk_create(vm.fd, vm.fd, 0), -EINVAL);
	EXPECT_EQ(disk_create(vm.fd, vm.mem, 0), -EINVAL);
	fd = disk_create(vm.fd, file_make(O_RDWR, SECTORS * 512), 0);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(disk_create(vm.fd, fd, 0), -EINVAL);
}

TEST(disk_access)
{
	struct test_vm vm;
	int fd;

	vm_with_ram(&vm);
	fd = file_make(O_RDONLY, SECTORS * 512);
	EXPECT_EQ(disk_create(vm.fd, fd, 0), -EACCES);
	EXPECT_GE(disk_create(vm.fd, fd, VIREO_DISK_READONLY), 0);
	fd = file_make(O_WRONLY, SECTORS * 512);
	EXPECT_EQ(disk_create(vm.fd, fd, 0), -EACCES);
	EXPECT_EQ(disk_create(vm.fd, fd, VIREO_DISK_READONLY), -EACCES);
	fd = file_make(O_RDWR | O_APPEND, SECTORS * 512);
	EXPECT_EQ(disk_create(vm.fd, fd, 0), -EINVAL);
	fd = file_make(O_PATH, SECTORS * 512);
	EXPECT_EQ(disk_create(vm.fd, fd, 0), -EBADF);
}

TEST(disk_block)
{
	static const u32 bad[] = { 0, 1, 256, 513, 1536, 8192, ~0U };
	struct vireo_create_disk c = { .size = sizeof(c), .flags = VIREO_DISK_READONLY };
	struct test_vm vm;
	u32 i;

	vm_with_ram(&vm);
	c.fd = file_make(O_RDWR, SECTORS * 512);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		c.block = bad[i];
		EXPECT_THAT(do_ioctl(vm.fd, VIREO_CREATE_DISK, &c) == -EINVAL, "%u", bad[i]);
	}
	for (c.block = 512; c.block <= 4096; c.block *= 2)
		EXPECT_GE(do_ioctl(vm.fd, VIREO_CREATE_DISK, &c), 0);
}

/* ---- SET_DISK ---------------------------------------------------------------------------- */

TEST(disk_limits)
{
	struct vireo_disk d = { .bytes_per_second = ~0ULL, .requests_per_second = 1 };
	struct test_vm vm;
	int file, disk;

	vm_with_ram(&vm);
	file = file_make(O_RDWR, SECTORS * 512 + 511);	/* odd size: the rest is not there */
	disk = disk_create(vm.fd, file, 0);
	ASSERT_GE(disk, 0);
	EXPECT_EQ(disk_set(disk, &d), 0);
	d = (struct vireo_disk) { .sectors = SECTORS };
	EXPECT_EQ(disk_set(disk, &d), 0);
	d.sectors = 1;
	EXPECT_EQ(disk_set(disk, &d), 0);
	d.sectors = SECTORS + 1;
	EXPECT_EQ(disk_set(disk, &d), -EINVAL);
	d.sectors = ~0ULL;
	EXPECT_EQ(disk_set(disk, &d), -EINVAL);
	ASSERT_EQ(ftruncate(file, 4096), 0);
	d.sectors = 8;
	EXPECT_EQ(disk_set(disk, &d), 0);
	d.sectors = 9;
	EXPECT_EQ(disk_set(disk, &d), -EINVAL);
}

/* ---- CREATE_QUEUE ---------------------------------------------------------------------------- */

static int queue_with(int disk, void (*change)(struct vireo_create_queue *q))
{
	struct vireo_create_queue q = {
		.size = sizeof(q), .doorbell = 9, .ring = 0x100000, .entries = 64,
	};

	change(&q);
	return do_ioctl(disk, VIREO_CREATE_QUEUE, &q);
}

#define CHANGE(name, line)						\
static void change_##name(struct vireo_create_queue *q)			\
{									\
	line;								\
}

CHANGE(doorbell, q->doorbell = VIREO_MAX_QUEUES)
CHANGE(doorbell_most, q->doorbell = ~0U)
CHANGE(index, q->index = 1)
CHANGE(none, q->entries = 0)
CHANGE(few, q->entries = 8)
CHANGE(many, q->entries = 2048)
CHANGE(odd, q->entries = 48)
CHANGE(misaligned, q->ring = 0x100800)
CHANGE(no_ram, q->ring = VM_RAM)
CHANGE(end_of_ram, q->ring = VM_RAM - 4096)
CHANGE(end_of_gpa, q->ring = VIREO_MAX_GPA - 4096)
CHANGE(end_of_u64, q->ring = ~0ULL << 12)
CHANGE(largest, q->entries = VIREO_RING_MAX; q->doorbell = VIREO_MAX_QUEUES - 1)
CHANGE(smallest, q->entries = VIREO_RING_MIN; q->doorbell = 0; q->ring = VM_RAM - 8192)

static const struct {
	const char *what;
	void (*change)(struct vireo_create_queue *q);
	int err;
} refusals[] = {
	{ "a doorbell too high", change_doorbell, -EINVAL },
	{ "doorbell 2^32 - 1", change_doorbell_most, -EINVAL },
	{ "an index", change_index, -EINVAL },
	{ "no entries", change_none, -EINVAL },
	{ "few entries", change_few, -EINVAL },
	{ "many entries", change_many, -EINVAL },
	{ "no power of two", change_odd, -EINVAL },
	{ "half a page off", change_misaligned, -EINVAL },
	{ "no RAM", change_no_ram, -ENXIO },
	{ "not all in RAM", change_end_of_ram, -ENXIO },
	{ "beyond the address space", change_end_of_gpa, -ENXIO },
	{ "around its end", change_end_of_u64, -ENXIO },
	{ "the largest", change_largest, 0 },
	{ "the smallest", change_smallest, 0 },
};

TEST(queue_arguments)
{
	struct test_vm vm;
	int disk, ret;
	u32 i;

	vm_with_ram(&vm);
	disk = disk_create(vm.fd, file_make(O_RDWR, SECTORS * 512), 0);
	ASSERT_GE(disk, 0);
	for (i = 0; i < ARRAY_SIZE(refusals); i++) {
		ret = queue_with(disk, refusals[i].change);
		EXPECT_THAT(refusals[i].err ? ret == refusals[i].err : ret >= 0,
			    "%s: %d, expected %d", refusals[i].what, ret, refusals[i].err);
	}
}

TEST(queue_twice)
{
	struct test_vm vm;
	int disk, other, queue;

	vm_with_ram(&vm);
	disk = disk_create(vm.fd, file_make(O_RDWR, SECTORS * 512), 0);
	other = disk_create(vm.fd, file_make(O_RDWR, SECTORS * 512), 0);
	queue = queue_create(disk, 3, 0x100000, 16);
	ASSERT_GE(queue, 0);
	EXPECT_EQ(queue_create(disk, 3, 0x200000, 16), -EBUSY);
	EXPECT_EQ(queue_create(other, 3, 0x200000, 16), -EBUSY);
	EXPECT_GE(queue_create(other, 4, 0x200000, 16), 0);
	close(queue);
	EXPECT_GE(queue_create(other, 3, 0x100000, 16), 0);
}

TEST(queue_all_doorbells)
{
	struct test_vm vm;
	int disk;
	u32 i;

	vm_with_ram(&vm);
	disk = disk_create(vm.fd, file_make(O_RDWR, SECTORS * 512), 0);
	for (i = 0; i < VIREO_MAX_QUEUES; i++)
		EXPECT_GE(queue_create(disk, i, 0x100000 + i * 0x2000, 16), 0);
	EXPECT_EQ(queue_create(disk, 0, 0x100000, 16), -EBUSY);
}

TEST(queue_msi)
{
	struct vireo_queue_msi m = { .size = sizeof(m), .address = 0xfee00000, .data = 0x40 };
	struct test_vm vm;
	int queue;

	vm_with_ram(&vm);
	queue = queue_create(disk_create(vm.fd, file_make(O_RDWR, SECTORS * 512), 0), 0,
			     0x100000, 16);
	ASSERT_GE(queue, 0);
	EXPECT_EQ(do_ioctl(queue, VIREO_SET_MSI, &m), 0);
	m.address = 0xfed00000;
	EXPECT_EQ(do_ioctl(queue, VIREO_SET_MSI, &m), -EINVAL);
	m.flags = VIREO_MSI_MASKED;		/* whatever is written there */
	EXPECT_EQ(do_ioctl(queue, VIREO_SET_MSI, &m), 0);
	m.flags = 0;
	m.address = 0xfee00000;
	m.data = 5;				/* not a vector */
	EXPECT_EQ(do_ioctl(queue, VIREO_SET_MSI, &m), -EINVAL);
}

TEST(queue_counters)
{
	struct vireo_queue_stat s;
	struct test_vm vm;
	int queue;

	vm_with_ram(&vm);
	queue = queue_create(disk_create(vm.fd, file_make(O_RDWR, SECTORS * 512), 0), 0,
			     0x100000, 16);
	ASSERT_GE(queue, 0);
	s = queue_stat(queue);
	EXPECT_EQ(s.error | s.in_flight, 0);
	EXPECT_EQ(s.entries | s.bytes | s.errors | s.doorbells | s.interrupts | s.throttled, 0);
}

TEST_MAIN()
