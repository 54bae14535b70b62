// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause

/* The same guest, driven by the ioctls alone. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vireo.h>

#define CODE	0x1000	/* gpa */

static const unsigned char code[] = {
	0xba, 0xe9, 0x00,	/* mov $0xe9, %dx */
	0xb0, 'H', 0xee,	/* mov $'H', %al; out %al, %dx */
	0xb0, 'i', 0xee,
	0xb0, '\n', 0xee,
	0xba, 0x00, 0x06,	/* mov $0x600, %dx */
	0xb0, 0x34, 0xee,
};

static int check(int ret, const char *what)
{
	if (ret < 0) {
		perror(what);
		exit(1);
	}
	return ret;
}

int main(void)
{
	struct vireo_info info = { .size = sizeof(info) };
	struct vireo_create_vm create = { .size = sizeof(create), .max_vcpus = 1 };
	struct vireo_memory memory = { .size = sizeof(memory), .bytes = 1 << 20 };
	struct vireo_get_memory get = { .size = sizeof(get) };
	struct vireo_create_vcpu boot = { .size = sizeof(boot), .id = 0 };
	struct vireo_regs regs = { .size = sizeof(regs) };
	struct vireo_run *run;
	int dev, vm, mem, vcpu, i;

	dev = check(open("/dev/vireo", O_RDWR | O_CLOEXEC), "/dev/vireo");
	check(ioctl(dev, VIREO_GET_INFO, &info), "VIREO_GET_INFO");
	if (info.api_version != VIREO_API_VERSION) {
		fprintf(stderr, "another version of the interface\n");
		return 1;
	}
	vm = check(ioctl(dev, VIREO_CREATE_VM, &create), "VIREO_CREATE_VM");
	check(ioctl(vm, VIREO_ADD_MEMORY, &memory), "VIREO_ADD_MEMORY");
	mem = check(ioctl(vm, VIREO_GET_MEMORY, &get), "VIREO_GET_MEMORY");
	check(pwrite(mem, code, sizeof(code), CODE), "pwrite");

	vcpu = check(ioctl(vm, VIREO_CREATE_VCPU, &boot), "VIREO_CREATE_VCPU");
	run = mmap(NULL, VIREO_RUN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	check(ioctl(vcpu, VIREO_GET_REGS, &regs), "VIREO_GET_REGS");
	for (i = VIREO_ES; i <= VIREO_TR; i++)		/* real mode */
		regs.seg[i] = (struct vireo_segment){ .attr = 0x93, .limit = 0xffff };
	regs.seg[VIREO_CS].attr = 0x9b;
	regs.seg[VIREO_TR].attr = 0x8b;
	regs.seg[VIREO_LDTR].attr = 0x82;
	regs.rip = CODE;
	check(ioctl(vcpu, VIREO_SET_REGS, &regs), "VIREO_SET_REGS");

	for (;;) {
		if (ioctl(vcpu, VIREO_RUN, 0)) {
			if (errno == EINTR)
				continue;
			perror("VIREO_RUN");
			return 1;
		}
		if (run->exit_reason != VIREO_EXIT_IO) {
			fprintf(stderr, "exit %u at %#llx\n", run->exit_reason,
				(unsigned long long)run->rip);
			return 1;
		}
		if (!run->io.write)
			run->value |= ~0ULL >> (64 - 8 * run->io.width); /* nobody answers */
		else if (run->io.port == 0xe9)
			putchar((int)(run->value & 0xff));
		else if (run->io.port == 0x600)
			return 0;			/* the guest powers off */
	}
}
