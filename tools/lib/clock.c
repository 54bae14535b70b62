// SPDX-License-Identifier: GPL-2.0
/* What a guest's clocks are made of; the module takes it as KVM's clock has it. */
#include <errno.h>
#include <sys/ioctl.h>
#include <time.h>

#include "libvireo.h"

#define SECOND	1000000000ULL	/* ns */

/**
 * vireo_clock_now - clocks that begin now
 * @clock: filled in
 * @tsc_khz: rate of the TSC
 */
void vireo_clock_now(struct vireo_timebase *clock, __u32 tsc_khz)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	*clock = (struct vireo_timebase){
		.tsc_base = __builtin_ia32_rdtsc(), .tsc_khz = tsc_khz,
		.boot_ns = (__u64)now.tv_sec * SECOND + (__u64)now.tv_nsec,
	};
}

/**
 * vireo_clock_set - give a VM without vCPUs its clocks
 * @vm: its fd
 * @clock: what they are made of
 *
 * Return: 0, or -1 with errno set.
 */
int vireo_clock_set(int vm, const struct vireo_timebase *clock)
{
	struct vireo_clock arg = {
		.size = sizeof(arg), .tsc_base = clock->tsc_base,
		.boot_sec = clock->boot_ns / SECOND,
		.boot_nsec = (__u32)(clock->boot_ns % SECOND),
	};
	__u64 hz = clock->tsc_khz * 1000ULL;

	if (!hz) {
		errno = EINVAL;
		return -1;
	}
	for (; hz > 2 * SECOND; hz >>= 1)
		arg.tsc_shift--;
	for (; hz <= SECOND; hz <<= 1)
		arg.tsc_shift++;
	arg.tsc_mul = (__u32)((SECOND << 32) / hz);
	return ioctl(vm, VIREO_SET_CLOCK, &arg);
}
