/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR BSD-2-Clause */
/*
 * Vireo: the ring that a guest's driver and its device share.
 *
 * One ring is one area of guest memory: contiguous, aligned to a page, all
 * little-endian:
 *
 *	0			struct vireo_ring_ctl
 *	VIREO_RING_COMP		entries x struct vireo_comp
 *	behind them		entries x 64 bytes of submissions
 *
 * The indices run freely through 32 bits; an entry's place is its index modulo
 * the number of entries, a power of two.  Each line of the control page has
 * one writer.  The full rules are in Documentation/ring.rst.
 *
 * The driver puts entries at sub_tail and takes completions at comp_head; the
 * device takes entries at sub_head and puts completions at comp_tail.  Every
 * entry taken ends in one completion with its tag, in any order (those of a
 * network receive queue: in the order of posting).  The driver has at most
 * "entries" of them outstanding, counted until it has moved comp_head past the
 * completion, so neither half can overflow.
 */
#ifndef _UAPI_VIREO_RING_H
#define _UAPI_VIREO_RING_H

#include <linux/types.h>

#define VIREO_RING_MIN		16U		/* entries, a power of two */
#define VIREO_RING_MAX		1024U
#define VIREO_RING_ENTRY	64U		/* bytes of a submission */
#define VIREO_RING_COMP		4096U		/* offset of the completions */
#define VIREO_RING_SUB(n)	(VIREO_RING_COMP + 16U * (n))
#define VIREO_RING_BYTES(n)	(VIREO_RING_COMP + (16U + VIREO_RING_ENTRY) * (n))

/**
 * struct vireo_ring_ctl - indices and events
 * @sub_tail: driver: where its next entry goes
 * @comp_head: driver: the next completion it will take
 * @comp_event: driver: interrupt it when the completion of this index is put
 * @sub_head: device: the next entry it will take
 * @sub_event: device: ring the doorbell when the entry of this index is put
 * @comp_tail: device: where its next completion goes
 * @error: device: VIREO_RING_ERROR_*, not 0: the queue is dead until it is reset
 */
struct vireo_ring_ctl {
	__le32 sub_tail;
	__u8 pad0[60];
	__le32 comp_head;
	__le32 comp_event;
	__u8 pad1[56];
	__le32 sub_head;
	__le32 sub_event;
	__u8 pad2[56];
	__le32 comp_tail;
	__le32 error;
	__u8 pad3[56];
};

/* vireo_ring_ctl.error */
#define VIREO_RING_ERROR_INDEX	1U	/* sub_tail or comp_head ran too far */
#define VIREO_RING_ERROR_MEMORY	2U	/* the ring is no longer in RAM */

/**
 * struct vireo_seg - a piece of guest memory
 * @gpa: first byte
 * @len: bytes, not 0
 * @reserved: 0
 */
struct vireo_seg {
	__le64 gpa;
	__le32 len;
	__le32 reserved;
};

#define VIREO_RING_SEGS		3U	/* inline in an entry */
#define VIREO_RING_INDIRECT	256U	/* in a list: seg[0] is where that is, its len is 16 n */

/* A submission begins so: a list of segments instead of inline ones */
#define VIREO_SUB_INDIRECT	0x80U	/* in the second byte, the flags */

/**
 * struct vireo_comp - a completion
 * @tag: of the entry
 * @status: VIREO_COMP_*
 * @len: bytes written to guest memory
 * @info: the device's
 */
struct vireo_comp {
	__le16 tag;
	__le16 status;
	__le32 len;
	__le64 info;
};

/* vireo_comp.status */
#define VIREO_COMP_OK		0U
#define VIREO_COMP_IO		1U	/* the medium failed */
#define VIREO_COMP_INVALID	2U	/* the entry broke a rule; nothing was done */
#define VIREO_COMP_UNSUPPORTED	3U	/* not an operation of this device */
#define VIREO_COMP_NOSPC	4U	/* no space behind the device */
#define VIREO_COMP_READONLY	5U
#define VIREO_COMP_RANGE	6U	/* beyond the end of the device */
#define VIREO_COMP_RETRY	7U	/* no memory just now */

/**
 * vireo_ring_event() - whether going from one index to another passes an event
 * @event: the index that the other side wants to hear of
 * @from: index when this was asked last
 * @to: index now
 *
 * An event of @from - 1 is never passed: how a side asks for silence.
 */
static inline int vireo_ring_event(__u32 event, __u32 from, __u32 to)
{
	return (__u32)(to - event - 1) < (__u32)(to - from);
}

#endif /* _UAPI_VIREO_RING_H */
