// SPDX-License-Identifier: GPL-2.0
/*
 * kexec [-p] KERNEL INITRAMFS ARGUMENTS
 *
 * Go over to another kernel without a reset; with -p make it ready for when this
 * one crashes. Returns only if that fails, or with -p.
 */
#include <fcntl.h>
#include <linux/kexec.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CMD_KEXEC	0x45584543

int main(int argc, char **argv)
{
	int crash = argc > 1 && !strcmp(argv[1], "-p"), kernel, initrd;

	argv += crash;
	if (argc - crash != 4) {
		fprintf(stderr, "usage: kexec [-p] KERNEL INITRAMFS ARGUMENTS\n");
		return 2;
	}
	kernel = open(argv[1], O_RDONLY);
	initrd = open(argv[2], O_RDONLY);
	if (kernel < 0 || initrd < 0 ||
	    syscall(SYS_kexec_file_load, kernel, initrd, strlen(argv[3]) + 1, argv[3],
		    crash ? KEXEC_FILE_ON_CRASH : 0)) {
		perror("kexec: cannot load");
		return 1;
	}
	if (crash)
		return 0;
	reboot(CMD_KEXEC);
	perror("kexec");
	return 1;
}
