/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR BSD-2-Clause */
/* Vireo: what stands on the rings of a console. */
#ifndef _UAPI_VIREO_CONSOLE_H
#define _UAPI_VIREO_CONSOLE_H

#include "vireo_ring.h"

#define VIREO_CONSOLE_IN	0U	/* queue: what is typed, for the guest */
#define VIREO_CONSOLE_OUT	1U	/* queue: what the guest prints */
#define VIREO_CONSOLE_QUEUES	2U

#define VIREO_CONSOLE_MAX_BYTES	4096U	/* of an entry's segments */

/**
 * struct vireo_console_sub - a buffer, to be filled or to be printed
 * @reserved0: 0
 * @flags: VIREO_SUB_INDIRECT
 * @nsegs: segments: 1 to VIREO_RING_SEGS inline, to VIREO_RING_INDIRECT in a list
 * @tag: comes back in the completion
 * @reserved1: 0
 * @reserved2: 0
 * @seg: bytes, VIREO_CONSOLE_MAX_BYTES in all
 */
struct vireo_console_sub {
	__u8 reserved0;
	__u8 flags;
	__le16 nsegs;
	__le16 tag;
	__le16 reserved1;
	__le64 reserved2;
	struct vireo_seg seg[VIREO_RING_SEGS];
};

/* Features */
#define VIREO_CONSOLE_F_SIZE	(1ULL << 0)	/* the config part has the terminal's size */

/**
 * struct vireo_console_config - the device's part of BAR 0
 * @columns: of the terminal, 0: not known; may change, with an interrupt
 * @rows: likewise
 */
struct vireo_console_config {
	__le32 columns;
	__le32 rows;
};

#endif /* _UAPI_VIREO_CONSOLE_H */
