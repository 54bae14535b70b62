/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR BSD-2-Clause */
/* Vireo: what stands on the ring of a block device. */
#ifndef _UAPI_VIREO_BLK_H
#define _UAPI_VIREO_BLK_H

#include "vireo_ring.h"

enum {				/* vireo_blk_sub.op */
	VIREO_BLK_READ,
	VIREO_BLK_WRITE,
	VIREO_BLK_FLUSH,	/* no range, no segments */
	VIREO_BLK_DISCARD,
	VIREO_BLK_WRITE_ZEROES,
};

#define VIREO_BLK_FUA		0x01U	/* WRITE: durable before it completes */
#define VIREO_BLK_NOUNMAP	0x02U	/* WRITE_ZEROES: keep the space allocated */

/**
 * struct vireo_blk_sub - a request
 * @op: VIREO_BLK_*
 * @flags: VIREO_BLK_FUA, _NOUNMAP, VIREO_SUB_INDIRECT
 * @nsegs: segments: 1 to VIREO_RING_SEGS inline, to VIREO_RING_INDIRECT in a list;
 *	0 for an @op without data
 * @tag: comes back in the completion
 * @reserved: 0
 * @sector: first, in units of 512 bytes, a multiple of the logical block
 * @seg: data; each starts and ends at a multiple of 512 bytes
 * @sectors: DISCARD and WRITE_ZEROES: how many, instead of segments
 */
struct vireo_blk_sub {
	__u8 op;
	__u8 flags;
	__le16 nsegs;
	__le16 tag;
	__le16 reserved;
	__le64 sector;
	union {
		struct vireo_seg seg[VIREO_RING_SEGS];
		__le64 sectors;
	};
};

/* Features (struct vireo_pci_regs) */
#define VIREO_BLK_F_FLUSH	(1ULL << 0)	/* has a volatile cache: FLUSH and FUA */
#define VIREO_BLK_F_DISCARD	(1ULL << 1)
#define VIREO_BLK_F_ZEROES	(1ULL << 2)
#define VIREO_BLK_F_READONLY	(1ULL << 3)

#define VIREO_BLK_SERIAL	32	/* bytes */
#define VIREO_BLK_MAX_BYTES	(1U << 20)	/* the largest max_bytes */
#define VIREO_BLK_MAX_DISCARD	(1U << 22)	/* likewise of max_discard */

/**
 * struct vireo_blk_config - the device's part of BAR 0
 * @sectors: capacity, units of 512 bytes; may change, with an interrupt
 * @logical_block: bytes, a power of two, 512 to 4096
 * @physical_block: bytes, likewise, at least @logical_block
 * @max_bytes: of one request's data
 * @max_discard: sectors of one DISCARD or WRITE_ZEROES
 * @discard_align: granularity of DISCARD, bytes
 * @reserved: 0
 * @serial: padded with zeros
 */
struct vireo_blk_config {
	__le64 sectors;
	__le32 logical_block;
	__le32 physical_block;
	__le32 max_bytes;
	__le32 max_discard;
	__le32 discard_align;
	__le32 reserved;
	__u8 serial[VIREO_BLK_SERIAL];
};

#endif /* _UAPI_VIREO_BLK_H */
