/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR BSD-2-Clause */
/* Vireo: what stands on the ring of a source of entropy. */
#ifndef _UAPI_VIREO_RNG_H
#define _UAPI_VIREO_RNG_H

#include "vireo_ring.h"

#define VIREO_RNG_MAX_BYTES	4096U	/* of an entry's segments */

/**
 * struct vireo_rng_sub - a buffer to be filled
 * @reserved0: 0
 * @flags: VIREO_SUB_INDIRECT
 * @nsegs: segments: 1 to VIREO_RING_SEGS inline, to VIREO_RING_INDIRECT in a list
 * @tag: comes back in the completion
 * @reserved1: 0
 * @reserved2: 0
 * @seg: bytes, VIREO_RNG_MAX_BYTES in all
 */
struct vireo_rng_sub {
	__u8 reserved0;
	__u8 flags;
	__le16 nsegs;
	__le16 tag;
	__le16 reserved1;
	__le64 reserved2;
	struct vireo_seg seg[VIREO_RING_SEGS];
};

/**
 * struct vireo_rng_config - the device's part of BAR 0
 * @epoch: changes, with an interrupt, when the machine was copied: what it
 *	knows others know too, and its generator needs new bytes at once
 */
struct vireo_rng_config {
	__le64 epoch;
};

#endif /* _UAPI_VIREO_RNG_H */
