// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause

/* A VM with one vCPU that prints "Hi" and powers itself off. */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "libvireo.h"

#define CODE	0x1000	/* gpa */

static const unsigned char code[] = {
	0xba, 0xe9, 0x00,	/* mov $0xe9, %dx */
	0xb0, 'H', 0xee,	/* mov $'H', %al; out %al, %dx */
	0xb0, 'i', 0xee,
	0xb0, '\n', 0xee,
	0xba, 0x00, 0x06,	/* mov $0x600, %dx: ACPI sleep control */
	0xb0, 0x34, 0xee,	/* S5, go */
	0xf4, 0xeb, 0xfd,	/* hlt, again */
};

static void putc_write(void *ctx, struct vireo_vcpu *vcpu, __u64 offset,
		       unsigned int width, __u64 value)
{
	putchar((int)(value & 0xff));
}

static int prepare(struct vireo_machine *m, struct vireo_error *err)
{
	struct vireo_device port = {
		.name = "putc", .base = 0xe9, .len = 1, .write = putc_write,
	};
	struct vireo_vcpu *vcpu = &m->thread[0].vcpu;
	struct vireo_regs regs;
	int ret;

	ret = vireo_bus_add(&m->ports, &port);
	if (ret)
		return vireo_fail(err, -ret, "port 0xe9: %s", strerror(-ret));
	ret = vireo_vm_write(&m->vm, CODE, code, sizeof(code), err);
	if (!ret)
		ret = vireo_vcpu_get_regs(vcpu, &regs, err);
	if (ret)
		return ret;
	regs.seg[VIREO_CS].selector = 0;
	regs.seg[VIREO_CS].base = 0;
	regs.rip = CODE;
	return vireo_vcpu_set_regs(vcpu, &regs, err);
}

int main(void)
{
	static struct vireo_machine m;
	struct vireo_error err = { .code = 0 };
	struct pollfd end = { .events = POLLIN };
	int ret;

	ret = vireo_machine_create(&m, 1, 16 * VIREO_MIB, &err);
	if (ret) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	ret = prepare(&m, &err);
	if (!ret)
		ret = vireo_machine_start(&m, &err);
	if (ret) {
		fprintf(stderr, "%s\n", err.text);
	} else {
		end.fd = m.end_fd;
		poll(&end, 1, -1);
		vireo_machine_join(&m);
		printf("%s\n", m.end_text);
		ret = m.end != VIREO_END_POWEROFF;
	}
	vireo_machine_destroy(&m);
	return !!ret;
}
