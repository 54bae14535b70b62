// SPDX-License-Identifier: GPL-2.0
/* Guest memory: adding RAM, and the memory fd. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "guest.h"
#include "harness.h"
#include "vm.h"

#define PAGE	4096ULL
#define MB	BIT_ULL(20)
#define GB	BIT_ULL(30)

static u64 resident(struct test_vm *vm)
{
	struct vireo_stat stat;

	ASSERT_EQ(fd_get_stat(vm->fd, &stat), 0);
	return stat.resident_bytes;
}

static u64 ram(struct test_vm *vm)
{
	struct vireo_stat stat;

	ASSERT_EQ(fd_get_stat(vm->fd, &stat), 0);
	return stat.memory_bytes;
}

static bool all_bytes(const u8 *buf, size_t len, u8 value)
{
	while (len--)
		if (*buf++ != value)
			return false;
	return true;
}

TEST(add_refused)
{
	struct test_vm vm;
	u64 end;

	vm_open(&vm, 1);
	end = vm.info.max_gpa;
	EXPECT_EQ(vm_add_memory(vm.fd, 0, 0), -EINVAL);
	EXPECT_EQ(vm_add_memory(vm.fd, 1, PAGE), -EINVAL);
	EXPECT_EQ(vm_add_memory(vm.fd, 0x800, PAGE), -EINVAL);
	EXPECT_EQ(vm_add_memory(vm.fd, 0, PAGE + 1), -EINVAL);
	EXPECT_EQ(vm_add_memory(vm.fd, 0, PAGE - 1), -EINVAL);
	EXPECT_EQ(vm_add_memory(vm.fd, 0 - PAGE, 2 * PAGE), -EINVAL);
	EXPECT_EQ(vm_add_memory(vm.fd, 0 - PAGE, PAGE), -EINVAL);
	EXPECT_EQ(vm_add_memory(vm.fd, PAGE, 0 - PAGE), -EINVAL);
	EXPECT_EQ(vm_add_memory(vm.fd, 2 * PAGE, 0 - PAGE), -EINVAL);
	EXPECT_EQ(vm_add_memory(vm.fd, end, PAGE), -EINVAL);
	EXPECT_EQ(vm_add_memory(vm.fd, end - PAGE, 2 * PAGE), -EINVAL);
	EXPECT_EQ(vm_add_memory(vm.fd, 0, end + PAGE), -EINVAL);
	EXPECT_EQ(vm_add_memory(vm.fd, BIT_ULL(63), PAGE), -EINVAL);
	EXPECT_EQ(ram(&vm), 0);
	EXPECT_EQ(resident(&vm), 0);
}

TEST(add_up_to_the_end)
{
	struct test_vm vm;
	u64 end;
	u8 byte = 0x5a;

	vm_open(&vm, 1);
	end = vm.info.max_gpa;
	EXPECT_EQ(vm_add_memory(vm.fd, end - PAGE, PAGE), 0);
	EXPECT_EQ(do_pwrite(vm.mem, &byte, 1, end - 1), 1);
	EXPECT_EQ(resident(&vm), PAGE);
	byte = 0;
	EXPECT_EQ(do_pread(vm.mem, &byte, 1, end - 1), 1);
	EXPECT_EQ(byte, 0x5a);
}

TEST(add_overlap)
{
	struct test_vm vm;

	vm_open(&vm, 1);
	ASSERT_EQ(vm_add_memory(vm.fd, 4 * MB, 4 * MB), 0);
	EXPECT_EQ(vm_add_memory(vm.fd, 4 * MB, 4 * MB), -EEXIST);
	EXPECT_EQ(vm_add_memory(vm.fd, 4 * MB, PAGE), -EEXIST);
	EXPECT_EQ(vm_add_memory(vm.fd, 8 * MB - PAGE, PAGE), -EEXIST);
	EXPECT_EQ(vm_add_memory(vm.fd, 8 * MB - PAGE, 2 * PAGE), -EEXIST);
	EXPECT_EQ(vm_add_memory(vm.fd, 4 * MB - PAGE, 2 * PAGE), -EEXIST);
	EXPECT_EQ(vm_add_memory(vm.fd, 0, GB), -EEXIST);
	EXPECT_EQ(vm_add_memory(vm.fd, 5 * MB, PAGE), -EEXIST);
	EXPECT_EQ(ram(&vm), 4 * MB);
	/* Neighbours do not overlap */
	EXPECT_EQ(vm_add_memory(vm.fd, 8 * MB, PAGE), 0);
	EXPECT_EQ(vm_add_memory(vm.fd, 4 * MB - PAGE, PAGE), 0);
	EXPECT_EQ(ram(&vm), 4 * MB + 2 * PAGE);
}

/* A range that only overlaps at its end adds nothing of its beginning */
TEST(add_overlap_changes_nothing)
{
	struct test_vm vm;
	u8 byte = 1;

	vm_open(&vm, 1);
	ASSERT_EQ(vm_add_memory(vm.fd, GB, MB), 0);
	EXPECT_EQ(vm_add_memory(vm.fd, 0, GB + PAGE), -EEXIST);
	EXPECT_EQ(do_pwrite(vm.mem, &byte, 1, 0), -ENXIO);
	EXPECT_EQ(do_pwrite(vm.mem, &byte, 1, GB - 1), -ENXIO);
	EXPECT_EQ(vm_add_memory(vm.fd, 0, GB), 0);
}

TEST(add_much)
{
	struct test_vm vm;

	vm_open(&vm, 1);
	EXPECT_EQ(vm_add_memory(vm.fd, 0, 3 * GB), 0);
	EXPECT_EQ(vm_add_memory(vm.fd, 4 * GB, 1024 * GB), 0);
	EXPECT_EQ(ram(&vm), 1027 * GB);
	EXPECT_EQ(resident(&vm), 0);
	vm_close(&vm);
}

TEST(file_size)
{
	struct test_vm vm;

	vm_open(&vm, 1);
	EXPECT_EQ(do_lseek(vm.mem, 0, SEEK_END), 0);
	ASSERT_EQ(vm_add_memory(vm.fd, 2 * MB, PAGE), 0);
	EXPECT_EQ(do_lseek(vm.mem, 0, SEEK_END), 2 * MB + PAGE);
	ASSERT_EQ(vm_add_memory(vm.fd, 0, PAGE), 0);
	EXPECT_EQ(do_lseek(vm.mem, 0, SEEK_END), 2 * MB + PAGE);
}

TEST(across_borders)
{
	static const u64 borders[] = { PAGE, 2 * MB, 4 * MB, GB, 512 * GB };
	static u8 out[3 * PAGE], in[3 * PAGE];
	struct test_vm vm;
	u64 i, at;

	vm_open(&vm, 1);
	ASSERT_EQ(vm_add_memory(vm.fd, 0, 513 * GB), 0);
	for (i = 0; i < sizeof(out); i++)
		out[i] = i * 7 + i / 256;
	for (i = 0; i < ARRAY_SIZE(borders); i++) {
		at = borders[i] - 1234;
		ASSERT_EQ(do_pwrite(vm.mem, out, sizeof(out), at), sizeof(out));
		memset(in, 0xee, sizeof(in));
		ASSERT_EQ(do_pread(vm.mem, in, sizeof(in), at), sizeof(in));
		EXPECT_THAT(!memcmp(in, out, sizeof(in)), "across %#llx: other bytes",
			    borders[i]);
		ASSERT_EQ(do_pread(vm.mem, in, 100, at - 100), 100);
		EXPECT_THAT(all_bytes(in, 100, 0), "bytes before %#llx changed", at);
	}
}

TEST(holes_read_as_zero)
{
	static u8 buf[4 * MB];
	struct test_vm vm;

	vm_open(&vm, 1);
	ASSERT_EQ(vm_add_memory(vm.fd, 0, 64 * MB), 0);
	memset(buf, 0xee, sizeof(buf));
	ASSERT_EQ(do_pread(vm.mem, buf, sizeof(buf), MB), sizeof(buf));
	EXPECT_TRUE(all_bytes(buf, sizeof(buf), 0));
	EXPECT_EQ(resident(&vm), 0);
	/* A touched page is zero but for what was written */
	ASSERT_EQ(do_pwrite(vm.mem, "x", 1, 5 * MB + 17), 1);
	EXPECT_GE(resident(&vm), PAGE);
	EXPECT_LE(resident(&vm), 2 * MB);
	ASSERT_EQ(do_pread(vm.mem, buf, sizeof(buf), 4 * MB), sizeof(buf));
	EXPECT_EQ(buf[MB + 17], 'x');
	buf[MB + 17] = 0;
	EXPECT_TRUE(all_bytes(buf, sizeof(buf), 0));
}

TEST(huge_pages)
{
	static u8 buf[2 * MB];
	struct vireo_stat stat;
	struct test_vm vm;

	vm_open(&vm, 1);
	ASSERT_EQ(vm_add_memory(vm.fd, PAGE, 2 * MB), 0);
	ASSERT_EQ(do_pwrite(vm.mem, "x", 1, PAGE), 1);
	ASSERT_EQ(fd_get_stat(vm.fd, &stat), 0);
	EXPECT_EQ(stat.huge_bytes, 0);		/* no aligned 2 MiB there */
	EXPECT_EQ(stat.resident_bytes, PAGE);
	ASSERT_EQ(vm_add_memory(vm.fd, 4 * MB, 2 * MB), 0);
	ASSERT_EQ(do_pwrite(vm.mem, buf, sizeof(buf), 4 * MB), sizeof(buf));
	ASSERT_EQ(fd_get_stat(vm.fd, &stat), 0);
	EXPECT_EQ(stat.resident_bytes, 2 * MB + PAGE);
	EXPECT_TRUE(stat.huge_bytes == 0 || stat.huge_bytes == 2 * MB);
	EXPECT_GT(stat.table_bytes, 0);
}

TEST(outside_ram)
{
	u8 buf[2 * PAGE];
	struct test_vm vm;

	vm_open(&vm, 1);
	ASSERT_EQ(vm_add_memory(vm.fd, 0, PAGE), 0);
	ASSERT_EQ(vm_add_memory(vm.fd, 2 * PAGE, PAGE), 0);
	memset(buf, 0x11, sizeof(buf));
	EXPECT_EQ(do_pwrite(vm.mem, buf, 16, PAGE), -ENXIO);
	EXPECT_EQ(do_pwrite(vm.mem, buf, 16, 2 * PAGE - 16), -ENXIO);
	EXPECT_EQ(do_pwrite(vm.mem, buf, 16, 3 * PAGE), -ENXIO);
	EXPECT_EQ(do_pwrite(vm.mem, buf, 16, vm.info.max_gpa), -ENXIO);
	EXPECT_EQ(do_pwrite(vm.mem, buf, 16, BIT_ULL(62)), -ENXIO);
	EXPECT_EQ(resident(&vm), 0);
	/* What begins in RAM is written up to its end */
	EXPECT_EQ(do_pwrite(vm.mem, buf, sizeof(buf), 16), PAGE - 16);
	EXPECT_EQ(resident(&vm), PAGE);
	EXPECT_EQ(do_pread(vm.mem, buf, sizeof(buf), 4 * PAGE), 0);	/* end of file */
	EXPECT_EQ(do_pread(vm.mem, buf, sizeof(buf), 2 * PAGE + 16), PAGE - 16);
	EXPECT_EQ(do_pread(vm.mem, buf, 1, -1ULL), -EINVAL);
	EXPECT_EQ(do_pwrite(vm.mem, buf, 1, -1ULL), -EINVAL);
}

TEST(bad_buffers)
{
	u8 *page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct test_vm vm;
	u8 byte;

	munmap(page + PAGE, PAGE);
	vm_open(&vm, 1);
	ASSERT_EQ(vm_add_memory(vm.fd, 0, MB), 0);
	EXPECT_EQ(do_pwrite(vm.mem, NULL, 16, 0), -EFAULT);
	EXPECT_EQ(do_pread(vm.mem, NULL, 16, 0), -EFAULT);
	EXPECT_EQ(do_pread(vm.mem, (void *)BIT(63), 16, 0), -EFAULT);
	/* Half a buffer is half a transfer */
	memset(page, 0x22, PAGE);
	EXPECT_EQ(do_pwrite(vm.mem, page + PAGE - 8, 16, 100), 8);
	EXPECT_EQ(do_pread(vm.mem, &byte, 1, 107), 1);
	EXPECT_EQ(byte, 0x22);
	EXPECT_EQ(do_pread(vm.mem, &byte, 1, 108), 1);
	EXPECT_EQ(byte, 0);
	EXPECT_EQ(do_pwrite(vm.mem, page, 0, 0), 0);
}

TEST(vectors)
{
	char a[3] = "abc", b[5] = "defgh", in[8];
	struct iovec out[2] = { { a, 3 }, { b, 5 } };
	struct test_vm vm;

	vm_open(&vm, 1);
	ASSERT_EQ(vm_add_memory(vm.fd, 0, MB), 0);
	EXPECT_EQ(pwritev(vm.mem, out, 2, PAGE - 4), 8);
	EXPECT_EQ(do_pread(vm.mem, in, 8, PAGE - 4), 8);
	EXPECT_EQ(memcmp(in, "abcdefgh", 8), 0);
	/* read() and write() have a position as in any file */
	EXPECT_EQ(do_lseek(vm.mem, PAGE, SEEK_SET), PAGE);
	EXPECT_EQ(read(vm.mem, in, 2), 2);
	EXPECT_EQ(memcmp(in, "ef", 2), 0);
	EXPECT_EQ(write(vm.mem, "XY", 2), 2);
	EXPECT_EQ(do_lseek(vm.mem, 0, SEEK_CUR), PAGE + 4);
}

TEST(seek_empty)
{
	struct test_vm vm;

	vm_open(&vm, 1);
	EXPECT_EQ(do_lseek(vm.mem, 0, SEEK_DATA), -ENXIO);
	ASSERT_EQ(vm_add_memory(vm.fd, 0, 8 * MB), 0);
	EXPECT_EQ(do_lseek(vm.mem, 0, SEEK_DATA), -ENXIO);
	EXPECT_EQ(do_lseek(vm.mem, 0, SEEK_HOLE), 0);
	EXPECT_EQ(do_lseek(vm.mem, 5 * MB, SEEK_HOLE), 5 * MB);
	EXPECT_EQ(do_lseek(vm.mem, 8 * MB, SEEK_HOLE), -ENXIO);
	EXPECT_EQ(do_lseek(vm.mem, 8 * MB, SEEK_DATA), -ENXIO);
	EXPECT_LT(do_lseek(vm.mem, -1, SEEK_DATA), 0);
	EXPECT_LT(do_lseek(vm.mem, -1, SEEK_SET), 0);
	EXPECT_EQ(do_lseek(vm.mem, 0, 77), -EINVAL);
}

TEST(seek_data_and_holes)
{
	struct test_vm vm;
	s64 data, hole;

	vm_open(&vm, 1);
	/* Ranges too small for 2 MiB pages */
	ASSERT_EQ(vm_add_memory(vm.fd, 0, MB), 0);
	ASSERT_EQ(vm_add_memory(vm.fd, 600 * GB, MB), 0);
	ASSERT_EQ(do_pwrite(vm.mem, "x", 1, 5 * PAGE + 9), 1);
	ASSERT_EQ(do_pwrite(vm.mem, "x", 1, 6 * PAGE), 1);
	ASSERT_EQ(do_pwrite(vm.mem, "x", 1, 600 * GB + 3 * PAGE), 1);
	EXPECT_EQ(do_lseek(vm.mem, 0, SEEK_DATA), 5 * PAGE);
	EXPECT_EQ(do_lseek(vm.mem, 5 * PAGE + 100, SEEK_DATA), 5 * PAGE + 100);
	EXPECT_EQ(do_lseek(vm.mem, 0, SEEK_HOLE), 0);
	EXPECT_EQ(do_lseek(vm.mem, 5 * PAGE, SEEK_HOLE), 7 * PAGE);
	data = do_lseek(vm.mem, 7 * PAGE, SEEK_DATA);
	EXPECT_EQ(data, 600 * GB + 3 * PAGE);
	hole = do_lseek(vm.mem, data, SEEK_HOLE);
	EXPECT_EQ(hole, 600 * GB + 4 * PAGE);
	EXPECT_EQ(do_lseek(vm.mem, hole, SEEK_DATA), -ENXIO);
	/* The last page: its hole is the end of the file */
	ASSERT_EQ(do_pwrite(vm.mem, "x", 1, 600 * GB + MB - 1), 1);
	EXPECT_EQ(do_lseek(vm.mem, 600 * GB + MB - 1, SEEK_HOLE), 600 * GB + MB);
}

static u8 guest_cell;

static void guest_store(u64 arg)
{
	WRITE_ONCE(*(u8 *)arg, READ_ONCE(guest_cell) + 1);
}

/* Guest and memory fd see the same bytes */
TEST(shared_with_guest)
{
	struct test_vm vm;
	u64 before;
	u8 byte = 0;

	vm_boot(&vm, 1, 64 * MB);
	VM_SET(&vm, guest_cell, 0x33);
	vcpu_set_entry(&vm.vcpu[0], guest_store, 48 * MB);
	before = resident(&vm);
	vcpu_run_done(&vm.vcpu[0]);
	EXPECT_GT(resident(&vm), before);
	EXPECT_EQ(do_pread(vm.mem, &byte, 1, 48 * MB), 1);
	EXPECT_EQ(byte, 0x34);
	EXPECT_EQ(do_lseek(vm.mem, 32 * MB, SEEK_DATA) <= 48 * MB, true);
}

/* A memory fd lives on without the VM's fd, also after a guest has run */
TEST(outlives_vm)
{
	struct test_vm vm;
	u8 byte = 0;

	vm_boot(&vm, 1, 64 * MB);
	vcpu_set_entry(&vm.vcpu[0], guest_store, VM_SCRATCH);
	vcpu_run_done(&vm.vcpu[0]);
	munmap(vm.vcpu[0].run, VIREO_RUN_SIZE);
	close(vm.vcpu[0].fd);
	close(vm.fd);
	close(vm.dev);
	EXPECT_EQ(do_pread(vm.mem, &byte, 1, VM_SCRATCH), 1);
	EXPECT_EQ(byte, 1);
	EXPECT_EQ(do_pwrite(vm.mem, &byte, 1, VM_SCRATCH + 5), 1);
	close(vm.mem);
}

/* Memory of one VM does not show in the next */
TEST(no_leak_between_vms)
{
	static u8 buf[4 * MB];
	struct test_vm vm;
	int i;

	for (i = 0; i < 8; i++) {
		vm_open(&vm, 1);
		ASSERT_EQ(vm_add_memory(vm.fd, 0, 8 * MB), 0);
		/* The first byte of each page, so that all come into being */
		ASSERT_EQ(do_pwrite(vm.mem, "", 1, 0), 1);
		ASSERT_EQ(do_pread(vm.mem, buf, sizeof(buf), 0), sizeof(buf));
		ASSERT_TRUE(all_bytes(buf, sizeof(buf), 0));
		memset(buf, 0xaa, sizeof(buf));
		ASSERT_EQ(do_pwrite(vm.mem, buf, sizeof(buf), 0), sizeof(buf));
		vm_close(&vm);
	}
}

TEST(no_mmap)
{
	struct test_vm vm;

	vm_open(&vm, 1);
	ASSERT_EQ(vm_add_memory(vm.fd, 0, MB), 0);
	EXPECT_TRUE(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, vm.mem, 0) == MAP_FAILED);
	EXPECT_NE(ftruncate(vm.mem, 0), 0);
}

TEST_MAIN()
