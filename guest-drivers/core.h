/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The driver's half of a ring: indices, events, and what is believed of the
 * device.  Nothing in here knows the kernel, so that a unit test can play the
 * device; Documentation/ring.rst is the specification.
 *
 * The shared memory is written by the device at any time.  All that this side
 * relies upon is in struct vireo_ring, and each shared word is read once.
 * Nothing here takes a lock: one thread at a time works on a ring.
 */
#ifndef VIREO_GUEST_CORE_H
#define VIREO_GUEST_CORE_H

#ifdef __KERNEL__

#include <linux/compiler.h>
#include <linux/errno.h>
#include <linux/string.h>
#include <linux/types.h>
#include <asm/barrier.h>
#include <asm/byteorder.h>

/* The device runs on another processor, also where the guest has only one. */
#define vireo_mb()	virt_mb()	/* for the users to say why */
#define vireo_rmb()	virt_rmb()	/* likewise */
#define vireo_wmb()	virt_wmb()	/* likewise */
#define vireo_store_release(p, v)	virt_store_release(p, v)

#else

#include <errno.h>
#include <string.h>

#include "types.h"

#define cpu_to_le32(x)	((__le32)(x))
#define le16_to_cpu(x)	((u16)(x))
#define le32_to_cpu(x)	((u32)(x))
#define vireo_mb()	__atomic_thread_fence(__ATOMIC_SEQ_CST)
#define vireo_rmb()	__atomic_thread_fence(__ATOMIC_ACQUIRE)
#define vireo_wmb()	__atomic_thread_fence(__ATOMIC_RELEASE)
#define vireo_store_release(p, v)	__atomic_store_n(p, v, __ATOMIC_RELEASE)

#endif /* __KERNEL__ */

#include "../uapi/vireo_ring.h"

/**
 * struct vireo_ring - what the driver knows of a ring
 * @ctl: the shared control page
 * @comps: shared completions
 * @subs: shared submissions
 * @flight: what each tag stands for while its entry is outstanding, else NULL
 * @entries: how many there are, a power of two
 * @sub_tail: where the next entry goes
 * @sub_told: @sub_tail as the device knows it
 * @comp_head: the next completion to take
 * @comp_seen: up to where the device said that it has put them
 * @broken: why the ring is not used any more, or NULL
 */
struct vireo_ring {
	struct vireo_ring_ctl *ctl;
	struct vireo_comp *comps;
	u8 *subs;
	void **flight;
	u32 entries;
	u32 sub_tail;
	u32 sub_told;
	u32 comp_head;
	u32 comp_seen;
	const char *broken;
};

/**
 * vireo_ring_init() - begin with an empty ring
 * @r: the ring
 * @shared: its memory, VIREO_RING_BYTES(@entries); will be zeros
 * @flight: array of @entries pointers; likewise
 * @entries: a power of two
 */
static inline void vireo_ring_init(struct vireo_ring *r, void *shared, void **flight, u32 entries)
{
	memset(shared, 0, VIREO_RING_BYTES(entries));
	memset(flight, 0, entries * sizeof(*flight));
	*r = (struct vireo_ring) {
		.ctl = shared,
		.comps = shared + VIREO_RING_COMP,
		.subs = shared + VIREO_RING_SUB(entries),
		.flight = flight,
		.entries = entries,
	};
}

static inline void vireo_ring_break(struct vireo_ring *r, const char *why)
{
	if (!r->broken)
		r->broken = why;
}

/**
 * vireo_ring_room() - how many more entries may be put
 * @r: the ring
 * Return: that number; completions that were not released yet do not count as room.
 */
static inline u32 vireo_ring_room(const struct vireo_ring *r)
{
	return r->entries - (r->sub_tail - r->comp_head);
}

/* Entries that the device knows of and whose completion was not taken */
static inline u32 vireo_ring_outstanding(const struct vireo_ring *r)
{
	return r->sub_told - r->comp_head;
}

/**
 * vireo_ring_put() - write an entry, not yet for the device to see
 * @r: the ring
 * @entry: 64 bytes
 * @tag: the tag in it
 * @cookie: what vireo_ring_take() gives back, not NULL
 * Return: 0, -ENOSPC if the ring is full or the tag in use, -EIO if it is broken.
 */
static inline int vireo_ring_put(struct vireo_ring *r, const void *entry, u32 tag, void *cookie)
{
	if (r->broken)
		return -EIO;
	if (tag >= r->entries || r->flight[tag] || !vireo_ring_room(r))
		return -ENOSPC;
	memcpy(r->subs + VIREO_RING_ENTRY * (r->sub_tail & (r->entries - 1)), entry,
	       VIREO_RING_ENTRY);
	r->flight[tag] = cookie;
	r->sub_tail++;
	return 0;
}

/**
 * vireo_ring_publish() - show the device what was put
 * @r: the ring
 * Return: whether it wants the doorbell for it.
 */
static inline bool vireo_ring_publish(struct vireo_ring *r)
{
	u32 old = r->sub_told;

	if (old == r->sub_tail || r->broken)
		return false;
	r->sub_told = r->sub_tail;
	vireo_wmb();	/* entries before the index that covers them */
	WRITE_ONCE(r->ctl->sub_tail, cpu_to_le32(r->sub_tail));
	/*
	 * Pairs with the device's barrier between writing sub_event and reading
	 * sub_tail: it sees the entry, or this side sees the event.
	 */
	vireo_mb();
	return vireo_ring_event(le32_to_cpu(READ_ONCE(r->ctl->sub_event)), old, r->sub_tail);
}

/* Whether there is a completion; looks into shared memory only if need be. */
static inline bool vireo_ring_look(struct vireo_ring *r)
{
	if (r->broken)
		return false;
	if (r->comp_seen != r->comp_head)
		return true;
	r->comp_seen = le32_to_cpu(READ_ONCE(r->ctl->comp_tail));
	if (r->comp_seen - r->comp_head > r->sub_told - r->comp_head)
		vireo_ring_break(r, "more completions than entries");
	else if (r->comp_seen == r->comp_head && READ_ONCE(r->ctl->error))
		vireo_ring_break(r, "the device gave up");
	return !r->broken && r->comp_seen != r->comp_head;
}

/**
 * vireo_ring_take() - take the next completion
 * @r: the ring
 * @comp: filled in with a copy of it; @comp->tag is valid, the rest as it came
 * Return: the cookie of its entry, which is outstanding no longer; NULL if there
 * is none or if the ring is broken, perhaps just now.
 */
static inline void *vireo_ring_take(struct vireo_ring *r, struct vireo_comp *comp)
{
	union {
		struct vireo_comp comp;
		u64 word[2];
	} copy, *shared;
	void *cookie;
	u32 tag;

	if (!vireo_ring_look(r))
		return NULL;
	vireo_rmb();	/* the index before what it covers, and the data */
	shared = (void *)&r->comps[r->comp_head & (r->entries - 1)];
	copy.word[0] = READ_ONCE(shared->word[0]);
	copy.word[1] = READ_ONCE(shared->word[1]);
	tag = le16_to_cpu(copy.comp.tag);
	if (tag >= r->entries || !r->flight[tag]) {
		vireo_ring_break(r, "a completion of nothing");
		return NULL;
	}
	cookie = r->flight[tag];
	r->flight[tag] = NULL;
	r->comp_head++;
	*comp = copy.comp;
	return cookie;
}

/**
 * vireo_ring_release() - give the completions that were taken back to the device
 * @r: the ring
 */
static inline void vireo_ring_release(struct vireo_ring *r)
{
	/* They were read before the device writes there again. */
	vireo_store_release(&r->ctl->comp_head, cpu_to_le32(r->comp_head));
}

/**
 * vireo_ring_silence() - ask for no interrupt
 * @r: the ring
 */
static inline void vireo_ring_silence(struct vireo_ring *r)
{
	WRITE_ONCE(r->ctl->comp_event, cpu_to_le32(r->comp_head - 1));
}

/**
 * vireo_ring_arm() - ask for an interrupt, then look once more
 * @r: the ring
 * @ahead: at which completion from here on, 1 for the next
 * Return: whether that one is there already, or the ring in error: there may be
 * no interrupt then.
 */
static inline bool vireo_ring_arm(struct vireo_ring *r, u32 ahead)
{
	u32 tail;

	WRITE_ONCE(r->ctl->comp_event, cpu_to_le32(r->comp_head + ahead - 1));
	/* Pairs with the device's between writing comp_tail and reading comp_event. */
	vireo_mb();
	tail = le32_to_cpu(READ_ONCE(r->ctl->comp_tail));
	return tail - r->comp_head >= ahead || READ_ONCE(r->ctl->error);
}

/**
 * vireo_ring_abandon() - take what the device will never complete
 * @r: the ring, which the device does not touch any more
 * @tag: where to go on, 0 at first
 * Return: the cookie of an outstanding entry, or NULL when there are no more.
 */
static inline void *vireo_ring_abandon(struct vireo_ring *r, u32 *tag)
{
	void *cookie;

	while (*tag < r->entries) {
		cookie = r->flight[*tag];
		r->flight[(*tag)++] = NULL;
		if (cookie)
			return cookie;
	}
	return NULL;
}

#endif /* VIREO_GUEST_CORE_H */
