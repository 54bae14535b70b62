/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Walking a guest's own page tables; see walk.c.
 */
#ifndef VIREO_WALK_H
#define VIREO_WALK_H

#include <linux/types.h>

/**
 * struct vireo_walk - what an instruction fetch of a vCPU is translated with
 * @cr0: control registers of the guest, as the hardware saw them at the exit
 * @cr3: likewise
 * @cr4: likewise
 * @efer: likewise
 * @read: copies @len bytes of guest physical memory to @buf; 0 or an error
 * @ctx: first argument of @read
 */
struct vireo_walk {
	__u64 cr0;
	__u64 cr3;
	__u64 cr4;
	__u64 efer;
	int (*read)(void *ctx, __u64 gpa, void *buf, unsigned int len);
	void *ctx;
};

int vireo_walk_gva(const struct vireo_walk *w, __u64 gva, __u64 *gpa);
int vireo_walk_fetch(const struct vireo_walk *w, __u64 gva, __u8 *buf, unsigned int n);

#endif /* VIREO_WALK_H */
