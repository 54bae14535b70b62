// SPDX-License-Identifier: GPL-2.0
/*
 * What snapshots stand on: memory that begins as a file, where two VMs differ,
 * who has which memory, and the clock.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "guest.h"
#include "harness.h"
#include "host.h"
#include "vm.h"

#define MIB		(1ULL << 20)
#define PAGE		4096ULL
#define FILE_SIZE	(8 * MIB)
#define HOLE		(4 * MIB)	/* from here to HOLE_END the file has nothing */
#define HOLE_END	(6 * MIB)

static u64 random_state = 0x9e3779b97f4a7c15ULL;

static u64 random_next(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static int set_file(int vm, int fd)
{
	struct vireo_set_file arg = { .size = sizeof(arg), .fd = fd };

	return do_ioctl(vm, VIREO_SET_FILE, &arg);
}

static int add_file_memory(int vm, u64 gpa, u64 bytes)
{
	struct vireo_memory arg = {
		.size = sizeof(arg), .flags = VIREO_MEMORY_FILE, .gpa = gpa, .bytes = bytes,
	};

	return do_ioctl(vm, VIREO_ADD_MEMORY, &arg);
}

/* ---- Files: on the root file system, and of tmpfs --------------------------------- */

static const char path[] = "/snapshot-test";
static u64 *image;	/* what it holds; not in the program, which guests have */

static void fill(int fd)
{
	unsigned int i;

	image = image ?: malloc(FILE_SIZE);
	ASSERT_TRUE(image);
	for (i = 0; i < FILE_SIZE / sizeof(*image); i++)
		image[i] = random_next();
	memset((u8 *)image + HOLE, 0, HOLE_END - HOLE);
	ASSERT_EQ(ftruncate(fd, FILE_SIZE), 0);
	ASSERT_EQ(do_pwrite(fd, image, HOLE, 0), HOLE);
	ASSERT_EQ(do_pwrite(fd, (u8 *)image + HOLE_END, FILE_SIZE - HOLE_END, HOLE_END),
		  FILE_SIZE - HOLE_END);
}

/* The file, open for reading and by nobody for writing; @name: its path */
static int make_file(bool tmpfs, char *name, size_t len)
{
	int fd, readable;

	if (tmpfs)
		fd = memfd_create("snapshot", MFD_CLOEXEC);
	else
		fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ASSERT_GE(fd, 0);
	fill(fd);
	snprintf(name, len, "/proc/self/fd/%d", fd);
	readable = open(name, O_RDONLY | O_CLOEXEC);
	ASSERT_GE(readable, 0);
	close(fd);
	snprintf(name, len, "/proc/self/fd/%d", readable);
	return readable;
}

static void expect_image(struct test_vm *vm, const char *who)
{
	u64 *seen = malloc(FILE_SIZE);

	vm_read(vm, 0, seen, FILE_SIZE);
	EXPECT_THAT(!memcmp(seen, image, FILE_SIZE), "%s: memory differs", who);
	free(seen);
}

static void expect_file(int fd)
{
	u64 *seen = malloc(FILE_SIZE);

	ASSERT_EQ(do_pread(fd, seen, FILE_SIZE, 0), FILE_SIZE);
	EXPECT_TRUE(!memcmp(seen, image, FILE_SIZE));
	free(seen);
}

static void random_writes(struct test_vm *vm, unsigned int count)
{
	u64 data = random_next();

	while (count--)
		vm_write(vm, random_next() % (FILE_SIZE - 8), &data, sizeof(data));
}

static int open_for_writing(const char *name)
{
	int fd = open(name, O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd >= 0 ? 0 : -errno;
}

static void file_memory(bool tmpfs)
{
	struct test_vm vm, child, other;
	struct vireo_stat stat;
	char name[32];
	int fd = make_file(tmpfs, name, sizeof(name));

	vm_open(&vm, 1);
	EXPECT_EQ(add_file_memory(vm.fd, 0, PAGE), -EINVAL);
	ASSERT_EQ(set_file(vm.fd, fd), 0);
	EXPECT_EQ(set_file(vm.fd, fd), -EBUSY);
	EXPECT_EQ(add_file_memory(vm.fd, HOLE_END, FILE_SIZE - HOLE_END + PAGE), -EINVAL);
	ASSERT_EQ(add_file_memory(vm.fd, 0, HOLE), 0);
	ASSERT_EQ(vm_add_memory(vm.fd, HOLE, HOLE_END - HOLE), 0);
	ASSERT_EQ(add_file_memory(vm.fd, HOLE_END, FILE_SIZE - HOLE_END), 0);
	EXPECT_EQ(add_file_memory(vm.fd, HOLE - PAGE, 2 * PAGE), -EEXIST);
	EXPECT_EQ(do_lseek(vm.mem, 0, SEEK_HOLE), HOLE);
	EXPECT_EQ(do_lseek(vm.mem, HOLE, SEEK_DATA), HOLE_END);
	ASSERT_EQ(fd_get_stat(vm.fd, &stat), 0);
	EXPECT_EQ(stat.resident_bytes, 0);
	vm_fork(&vm, &child);
	expect_image(&vm, "from the file");
	ASSERT_EQ(fd_get_stat(vm.fd, &stat), 0);
	EXPECT_EQ(stat.file_bytes, FILE_SIZE - (HOLE_END - HOLE));
	EXPECT_EQ(stat.resident_bytes, stat.file_bytes);
	random_writes(&vm, 1000);
	ASSERT_EQ(fd_get_stat(vm.fd, &stat), 0);
	EXPECT_LT(stat.file_bytes, FILE_SIZE - (HOLE_END - HOLE));
	EXPECT_GT(stat.private_bytes, 0);
	expect_file(fd);
	expect_image(&child, "a fork");

	/* Another VM from the same file, while the first has written */
	vm_open(&other, 1);
	ASSERT_EQ(set_file(other.fd, fd), 0);
	ASSERT_EQ(add_file_memory(other.fd, 0, FILE_SIZE), 0);
	expect_image(&other, "another VM");
	random_writes(&other, 1000);
	vm_close(&other);

	/* As long as one is there, nobody writes */
	EXPECT_EQ(open_for_writing(name), -ETXTBSY);
	vm_close(&vm);
	EXPECT_EQ(open_for_writing(name), -ETXTBSY);
	EXPECT_EQ(truncate(name, 0) ? -errno : 0, -ETXTBSY);
	random_writes(&child, 1000);
	expect_file(fd);
	vm_close(&child);
	EXPECT_EQ(open_for_writing(name), 0);
	close(fd);
	unlink(path);
}

TEST(file_on_root)
{
	file_memory(false);
}

TEST(file_on_tmpfs)
{
	file_memory(true);
}

/* The file goes on to exist for a VM when nobody else has it */
TEST(file_unlinked)
{
	struct test_vm vm;
	char name[32];
	int fd = make_file(false, name, sizeof(name));

	vm_open(&vm, 1);
	ASSERT_EQ(set_file(vm.fd, fd), 0);
	ASSERT_EQ(add_file_memory(vm.fd, 0, FILE_SIZE), 0);
	unlink(path);
	close(fd);
	expect_image(&vm, "unlinked");
	random_writes(&vm, 100);
	vm_close(&vm);
}

TEST(file_refused)
{
	struct test_vm vm;
	char name[32];
	int fd = make_file(false, name, sizeof(name)), other, pipes[2];

	vm_open(&vm, 1);
	EXPECT_EQ(set_file(vm.fd, -1), -EBADF);
	EXPECT_EQ(set_file(vm.fd, vm.fd), -EINVAL);
	EXPECT_EQ(set_file(vm.fd, vm.mem), -EINVAL);
	ASSERT_EQ(pipe(pipes), 0);
	EXPECT_EQ(set_file(vm.fd, pipes[0]), -EINVAL);
	other = open("/", O_RDONLY | O_DIRECTORY);
	EXPECT_EQ(set_file(vm.fd, other), -EINVAL);
	close(other);
	other = open("/proc/self/maps", O_RDONLY);
	EXPECT_EQ(set_file(vm.fd, other), -EINVAL);
	close(other);
	other = open(path, O_RDWR);
	EXPECT_EQ(set_file(vm.fd, other), -ETXTBSY);
	EXPECT_EQ(set_file(vm.fd, fd), -ETXTBSY);
	close(other);
	other = open(path, O_WRONLY);
	EXPECT_EQ(set_file(vm.fd, other), -EINVAL);
	close(other);

	/* Who may not write may not keep others from it */
	ASSERT_EQ(chmod(path, 0644), 0);
	ASSERT_EQ(seteuid(65534), 0);
	EXPECT_EQ(set_file(vm.fd, fd), -EACCES);
	ASSERT_EQ(seteuid(0), 0);
	EXPECT_EQ(open_for_writing(path), 0);
	EXPECT_EQ(set_file(vm.fd, fd), 0);
	vm_close(&vm);
	close(pipes[0]);
	close(pipes[1]);
	close(fd);
	unlink(path);
}

/* A guest that runs out of a file: it reads, executes and writes there */
static u64 counter;

static void guest_counts(u64 arg)
{
	u64 i;

	for (i = 0; i < arg; i++)
		WRITE_ONCE(counter, READ_ONCE(counter) + 1);
}

TEST(guest_from_file)
{
	struct test_vm vm, clone[10];
	u8 *ram = malloc(VM_RAM);
	struct vireo_stat stat;
	u64 seen;
	int fd, i;

	vm_boot(&vm, 1, VM_RAM);
	VM_SET(&vm, counter, 1000);
	vm_read(&vm, 0, ram, VM_RAM);
	vm_close(&vm);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ASSERT_EQ(do_pwrite(fd, ram, VM_RAM, 0), VM_RAM);
	close(fd);
	free(ram);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	for (i = 0; i < ARRAY_SIZE(clone); i++) {
		vm_open(&clone[i], 1);
		ASSERT_EQ(set_file(clone[i].fd, fd), 0);
		ASSERT_EQ(add_file_memory(clone[i].fd, 0, VM_RAM), 0);
		vm_vcpu(&clone[i], 0);
		vcpu_set_entry(&clone[i].vcpu[0], guest_counts, 10 + i);
		vcpu_start(&clone[i].vcpu[0]);
	}
	for (i = 0; i < ARRAY_SIZE(clone); i++) {
		EXPECT_EQ(vcpu_join(&clone[i].vcpu[0]), 0);
		seen = VM_GET(&clone[i], counter);
		EXPECT_EQ(seen, 1010 + i);
		memset(&stat, 0, sizeof(stat));
		ASSERT_EQ(fd_get_stat(clone[i].fd, &stat), 0);
		EXPECT_GT(stat.file_bytes, 0);
		EXPECT_LT(stat.private_bytes, 128 * 1024);
		EXPECT_EQ(stat.shared_bytes, 0);
	}
	test_note("each: %llu kB of the file, %llu kB of its own", stat.file_bytes / 1024,
		  stat.private_bytes / 1024);
	for (i = 0; i < ARRAY_SIZE(clone); i++)
		vm_close(&clone[i]);
	close(fd);
	unlink(path);
}

/* ---- Where two VMs differ ------------------------------------------------------------ */

#define AREA		(64 * MIB)

/* The next range, asked for as often as it takes; false: there is none before @end */
static bool next_range(int vm, int other, u64 *start, u64 *end)
{
	struct vireo_diff arg = { .size = sizeof(arg), .fd = other, .start = *start };
	unsigned int calls;

	for (calls = 0; calls < 1000; calls++) {
		ASSERT_EQ(do_ioctl(vm, VIREO_DIFF, &arg), 0);
		*start = arg.start;
		*end = arg.end;
		if (arg.start < arg.end)
			return true;
		if (arg.start >= AREA)
			return false;
	}
	ASSERT_THAT(false, "the comparison does not end");
	return false;
}

/* Marks the pages in which they differ. */
static unsigned int diff(struct test_vm *a, struct test_vm *b, bool *differs)
{
	u64 start, end, at;
	unsigned int n = 0;

	memset(differs, 0, AREA / PAGE);
	for (start = 0; next_range(a->fd, b->mem, &start, &end); start = end) {
		EXPECT_TRUE(start % PAGE == 0 && end % PAGE == 0);
		for (at = start; at < end && at < AREA; at += PAGE, n++)
			differs[at / PAGE] = true;
	}
	return n;
}

TEST(differences)
{
	static bool differs[AREA / PAGE], written[AREA / PAGE];
	static u8 x[PAGE], y[PAGE];
	struct test_vm vm, child;
	unsigned int round, i, n;
	u64 at, data;

	vm_open(&vm, 1);
	ASSERT_EQ(vm_add_memory(vm.fd, 0, AREA), 0);
	for (i = 0; i < 500; i++) {
		data = random_next();
		vm_write(&vm, random_next() % (AREA / PAGE) * PAGE, &data, sizeof(data));
	}
	for (round = 0; round < 5; round++) {
		vm_fork(&vm, &child);
		n = diff(&vm, &child, differs);
		EXPECT_EQ(n, 0);
		memset(written, 0, sizeof(written));
		for (i = 0; i < 100; i++) {
			/* Where there is something, so that no 2 MiB come into being */
			at = do_lseek(vm.mem, random_next() % (AREA - 4 * MIB), SEEK_DATA);
			ASSERT_TRUE(at < AREA);
			at &= ~(PAGE - 1);
			data = random_next();
			vm_write(i & 1 ? &vm : &child, at, &data, sizeof(data));
			written[at / PAGE] = true;
		}
		diff(&vm, &child, differs);
		for (i = 0; i < AREA / PAGE; i++)
			EXPECT_EQ(differs[i], written[i]);
		for (at = 0; at < AREA; at += PAGE) {
			vm_read(&vm, at, x, PAGE);
			vm_read(&child, at, y, PAGE);
			EXPECT_TRUE(!memcmp(x, y, PAGE) || differs[at / PAGE]);
		}
		vm_close(&child);
	}
	vm_close(&vm);
}

static u32 stop;

static void guest_writes(u64 arg)
{
	u64 i;

	for (i = 0; !READ_ONCE(stop); i++)
		((volatile u64 *)VM_SCRATCH)[i % 256 * 512] = i;
}

TEST(differences_of_a_running_vm)
{
	static bool differs[AREA / PAGE];
	struct test_vm vm, child;
	unsigned int i, n = 0;

	vm_boot(&vm, 1, AREA);
	VM_SET(&vm, stop, 0);
	vcpu_set_entry(&vm.vcpu[0], guest_writes, 0);
	vcpu_start(&vm.vcpu[0]);
	for (i = 0; i < 20; i++) {
		vm_fork(&vm, &child);
		usleep(20000);
		n = diff(&vm, &child, differs);
		vm_close(&child);
	}
	EXPECT_GT(n, 0);
	EXPECT_LT(n, 600);
	for (i = 0; i < 256 && !differs[VM_SCRATCH / PAGE + i]; i++)
		;
	EXPECT_LT(i, 256);
	VM_SET(&vm, stop, 1);
	vcpu_join(&vm.vcpu[0]);
	vm_close(&vm);
}

static int diff_error(int vm, int other, u64 start)
{
	struct vireo_diff arg = { .size = sizeof(arg), .fd = other, .start = start };

	return do_ioctl(vm, VIREO_DIFF, &arg);
}

TEST(differences_refused)
{
	struct test_vm vm, child;
	char name[32];
	int fd = make_file(false, name, sizeof(name));

	vm_open(&vm, 1);
	ASSERT_EQ(vm_add_memory(vm.fd, 0, AREA), 0);
	vm_fork(&vm, &child);
	EXPECT_EQ(diff_error(vm.fd, vm.mem, 0), -EINVAL);
	EXPECT_EQ(diff_error(vm.fd, child.fd, 0), -EINVAL);
	EXPECT_EQ(diff_error(vm.fd, -1, 0), -EBADF);
	EXPECT_EQ(diff_error(vm.fd, child.mem, 1), -EINVAL);
	EXPECT_EQ(diff_error(vm.fd, child.mem, VIREO_MAX_GPA + PAGE), -EINVAL);
	EXPECT_EQ(diff_error(vm.fd, child.mem, VIREO_MAX_GPA), 0);
	ASSERT_EQ(set_file(child.fd, fd), 0);
	EXPECT_EQ(diff_error(vm.fd, child.mem, 0), -EINVAL);
	vm_close(&child);
	vm_close(&vm);
	close(fd);
	unlink(path);
}

/* ---- Who has which memory ---------------------------------------------------------- */

TEST(shares)
{
	struct test_vm vm, child;
	struct vireo_stat a, b;
	u64 at, data = 1;

	vm_open(&vm, 1);
	ASSERT_EQ(vm_add_memory(vm.fd, MIB, MIB), 0);	/* no 2 MiB pages there */
	for (at = MIB; at < 2 * MIB; at += PAGE)
		vm_write(&vm, at, &data, sizeof(data));
	ASSERT_EQ(fd_get_stat(vm.fd, &a), 0);
	EXPECT_EQ(a.private_bytes, MIB);
	EXPECT_EQ(a.shared_bytes, 0);
	vm_fork(&vm, &child);
	ASSERT_EQ(fd_get_stat(child.fd, &b), 0);
	EXPECT_EQ(b.private_bytes, 0);
	EXPECT_EQ(b.shared_bytes, MIB);
	for (at = MIB; at < MIB + 10 * PAGE; at += PAGE)
		vm_write(&child, at, &data, sizeof(data));
	ASSERT_EQ(fd_get_stat(child.fd, &b), 0);
	ASSERT_EQ(fd_get_stat(vm.fd, &a), 0);
	EXPECT_EQ(b.private_bytes, 10 * PAGE);
	EXPECT_EQ(b.shared_bytes, MIB - 10 * PAGE);
	EXPECT_EQ(a.private_bytes, 10 * PAGE);
	vm_close(&vm);
	ASSERT_EQ(fd_get_stat(child.fd, &b), 0);
	EXPECT_EQ(b.private_bytes, MIB);
	EXPECT_EQ(b.resident_bytes, MIB);
	vm_close(&child);
}

/* ---- The clock ------------------------------------------------------------------------ */

TEST(clock)
{
	struct vireo_clock clock = {
		.size = sizeof(clock), .tsc_base = 0x123456789abc, .boot_sec = 123456789,
		.tsc_mul = 1, .tsc_shift = -128,
	};
	struct test_vm vm, child;
	u64 offset;
	int fd;

	vm_open(&vm, 1);
	ASSERT_EQ(do_ioctl(vm.fd, VIREO_SET_CLOCK, &clock), 0);
	vm_fork(&vm, &child);
	EXPECT_EQ(vcpu_fd_get_msr(vm_vcpu(&vm, 0)->fd, VIREO_MSR_TSC_OFFSET, &offset), 1);
	EXPECT_EQ(offset, -clock.tsc_base);
	EXPECT_EQ(do_ioctl(vm.fd, VIREO_SET_CLOCK, &clock), -EBUSY);
	EXPECT_EQ(vcpu_fd_get_msr(vm_vcpu(&child, 0)->fd, VIREO_MSR_TSC_OFFSET, &offset), 1);
	EXPECT_EQ(offset, -clock.tsc_base);
	vm_close(&child);

	/* Without one, the TSC is the host's. */
	fd = dev_create_vm(vm.dev, 1);
	ASSERT_GE(fd, 0);
	vm_close(&vm);
	vm.fd = vm_create_vcpu(fd, 0);
	ASSERT_GE(vm.fd, 0);
	EXPECT_EQ(vcpu_fd_get_msr(vm.fd, VIREO_MSR_TSC_OFFSET, &offset), 1);
	EXPECT_EQ(offset, 0);
	close(vm.fd);
	close(fd);
}

TEST_MAIN()
