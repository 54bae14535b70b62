// SPDX-License-Identifier: GPL-2.0
/*
 * What begins a processor: power-on, INIT and SIPI (Intel SDM vol. 3, 10.1.1; AMD APM
 * vol. 2, 14.1).
 */
#include <sys/ioctl.h>

#include "libvireo.h"

#define CR0_ET	0x00000010
#define CR0_NW	0x20000000
#define CR0_CD	0x40000000

static int call(int vcpu, unsigned long request, struct vireo_regs *regs)
{
	regs->size = sizeof(*regs);
	return ioctl(vcpu, request, regs);
}

static int reset(int vcpu, bool boot, __u64 cr0, __u64 xcr0)
{
	const struct vireo_segment data = { .limit = 0xffff, .attr = 0x93 };
	struct vireo_regs regs = {
		.gpr = { [VIREO_RDX] = 0x600 },
		.rip = 0xfff0,
		.rflags = 2,
		.seg = {
			data, { 0xf000, 0x9b, 0xffff, 0xffff0000 }, data, data, data, data,
			[VIREO_LDTR] = { .limit = 0xffff, .attr = 0x82 },
			[VIREO_TR] = { .limit = 0xffff, .attr = 0x8b },
			[VIREO_GDTR] = { .limit = 0xffff }, [VIREO_IDTR] = { .limit = 0xffff },
		},
		.cr0 = cr0 | CR0_ET,
		.xcr0 = xcr0,
		.dr = { [4] = 0xffff0ff0, [5] = 0x400 },
		.mp_state = boot ? VIREO_MP_RUNNABLE : VIREO_MP_INIT,
	};

	return call(vcpu, VIREO_SET_REGS, &regs) || vireo_lapic_reset(vcpu) ? -1 : 0;
}

/**
 * vireo_vcpu_reset - give a new vCPU the state after power-on
 * @vcpu: its fd
 * @boot: the boot processor, which runs at once; others wait for SIPI
 *
 * Return: 0, or -1 with errno set.
 */
int vireo_vcpu_reset(int vcpu, bool boot)
{
	return reset(vcpu, boot, CR0_CD | CR0_NW, 1);
}

/**
 * vireo_vcpu_init - answer VIREO_EXIT_INIT
 * @vcpu: the vCPU's fd
 * @boot: likewise
 *
 * INIT keeps CR0.CD and NW, XCR0 and the extended state.
 * Return: 0, or -1 with errno set.
 */
int vireo_vcpu_init(int vcpu, bool boot)
{
	struct vireo_regs old = { .size = 0 };

	if (call(vcpu, VIREO_GET_REGS, &old))
		return -1;
	return reset(vcpu, boot, old.cr0 & (CR0_CD | CR0_NW), old.xcr0);
}

/**
 * vireo_vcpu_sipi - answer VIREO_EXIT_SIPI: the vCPU begins at the page that it names
 * @vcpu: the vCPU's fd
 * @run: its run page
 *
 * Return: 0, or -1 with errno set.
 */
int vireo_vcpu_sipi(int vcpu, const struct vireo_run *run)
{
	struct vireo_regs regs = { .size = 0 };
	__u8 vector = (__u8)run->value;

	if (call(vcpu, VIREO_GET_REGS, &regs))
		return -1;
	regs.seg[VIREO_CS].selector = (__u16)(vector << 8);
	regs.seg[VIREO_CS].base = (__u64)vector << 12;
	regs.rip = 0;
	regs.mp_state = VIREO_MP_RUNNABLE;
	return call(vcpu, VIREO_SET_REGS, &regs);
}
