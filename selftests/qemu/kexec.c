// SPDX-License-Identifier: GPL-2.0
/*
 * kexec [-p] KERNEL INITRAMFS ARGUMENTS
 *
 * Go over to another kernel of the same version without a reset; with -p make it ready
 * for when this one crashes. Returns only if that fails, or with -p.
 */
#include <fcntl.h>
#include <linux/kexec.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CMD_KEXEC	0x45584543
#define PAGE		4096UL
#define ALIGN(x)	(((x) + PAGE - 1) & ~(PAGE - 1))

struct file {
	unsigned char *data;
	size_t size;
};

static int map(const char *path, struct file *f)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return -1;
	f->size = st.st_size;
	f->data = mmap(NULL, ALIGN(f->size), PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	return f->data == MAP_FAILED ? -1 : 0;
}

static void put(unsigned char *zero_page, size_t offset, uint32_t value)
{
	memcpy(zero_page + offset, &value, sizeof(value));
}

/*
 * By hand, for kexec_file_load() has all memory of the next kernel hashed twice, which
 * takes Bochs four minutes. The offsets are those of the kernel's Documentation/x86/boot.rst
 * and zero-page.rst.
 */
static long load(const char *kernel, const char *initrd, const char *args)
{
	enum { ZERO_PAGE = 0x90000, ARGUMENTS = 0x91000, ENTRY = 0x92000 };
	static unsigned char zero_page[PAGE], entry[] = {
		0x48, 0xbe, 0, 0, 9, 0, 0, 0, 0, 0,	/* mov $ZERO_PAGE, %rsi */
		0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0,	/* mov $..., %rax */
		0xff, 0xe0,				/* jmp *%rax */
	};
	uint64_t at, start;
	uint32_t memory;
	struct file k, i;
	size_t setup;
	int fd;

	fd = open("/sys/kernel/boot_params/data", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, zero_page, PAGE) != PAGE || map(kernel, &k) || map(initrd, &i))
		return -1;
	close(fd);
	setup = (k.data[0x1f1] + 1) * 512;
	memcpy(&at, k.data + 0x258, sizeof(at));
	memcpy(&memory, k.data + 0x260, sizeof(memory));
	start = at + 0x200;			/* the 64-bit entry */
	memcpy(entry + 12, &start, sizeof(start));

	struct kexec_segment segments[] = {
		{ zero_page, PAGE, (void *)ZERO_PAGE, PAGE },
		{ args, strlen(args) + 1, (void *)ARGUMENTS, PAGE },
		{ entry, sizeof(entry), (void *)ENTRY, PAGE },
		{ k.data + setup, k.size - setup, (void *)at, ALIGN(memory) },
		{ i.data, i.size, (void *)(at + ALIGN(memory)), ALIGN(i.size) },
	};

	zero_page[0x210] = 0xff;			/* the loader: another */
	put(zero_page, 0x218, at + ALIGN(memory));	/* the initramfs, and its size */
	put(zero_page, 0x21c, i.size);
	put(zero_page, 0x228, ARGUMENTS);
	memset(zero_page + 0xc0, 0, 12);		/* their upper halves */
	memset(zero_page + 0x250, 0, 8);		/* what the last loader had to say */
	return syscall(SYS_kexec_load, (long)ENTRY, 5L, segments, (long)KEXEC_ARCH_X86_64);
}

static long load_crash(const char *kernel, const char *initrd, const char *args)
{
	int k = open(kernel, O_RDONLY | O_CLOEXEC), i = open(initrd, O_RDONLY | O_CLOEXEC);

	if (k < 0 || i < 0)
		return -1;
	return syscall(SYS_kexec_file_load, k, i, strlen(args) + 1, args,
		       (long)KEXEC_FILE_ON_CRASH);
}

int main(int argc, char **argv)
{
	int crash = argc > 1 && !strcmp(argv[1], "-p");

	argv += crash;
	if (argc - crash != 4) {
		fprintf(stderr, "usage: kexec [-p] KERNEL INITRAMFS ARGUMENTS\n");
		return 2;
	}
	if (crash ? load_crash(argv[1], argv[2], argv[3]) : load(argv[1], argv[2], argv[3])) {
		perror("kexec: cannot load");
		return 1;
	}
	if (crash)
		return 0;
	reboot(CMD_KEXEC);
	perror("kexec");
	return 1;
}
