// SPDX-License-Identifier: GPL-2.0
/*
 * The device's half of a ring, for devices that are too slow to need the kernel:
 * it is reached through the memory fd.  Documentation/ring.rst is the contract.
 *
 * The ring is the guest's: a word is read once and checked, an entry is copied
 * once.  The indices that count are in struct vireo_sring.  An entry is completed
 * before the next one is taken, so that the number of completions says where a
 * ring is.
 *
 * The two words of each line of the control page are read and written together,
 * as 8 aligned bytes, which the kernel copies by one move: nobody sees half of an
 * index.
 */
#include <errno.h>
#include <string.h>

#include "libvireo.h"
#include "util.h"

#define LINE_SUB	offsetof(struct vireo_ring_ctl, sub_tail)	/* the driver's */
#define LINE_COMP	offsetof(struct vireo_ring_ctl, comp_head)
#define LINE_HEAD	offsetof(struct vireo_ring_ctl, sub_head)	/* the device's */
#define LINE_TAIL	offsetof(struct vireo_ring_ctl, comp_tail)

static_assert_that(offsetof(struct vireo_ring_ctl, comp_event) == LINE_COMP + 4, "one line");
static_assert_that(offsetof(struct vireo_ring_ctl, sub_event) == LINE_HEAD + 4, "one line");
static_assert_that(offsetof(struct vireo_ring_ctl, error) == LINE_TAIL + 4, "one line");

struct pair {
	__u32 first;
	__u32 second;
};

static void die(struct vireo_sring *r, __u32 error)
{
	struct pair line = { r->tail, error };
	struct vireo_error err;

	if (r->error)
		return;
	r->error = error;
	r->stat.error = error;
	vireo_vm_write(r->vm, r->gpa + LINE_TAIL, &line, sizeof(line), &err);
}

static bool get(struct vireo_sring *r, __u64 offset, void *data, size_t len)
{
	struct vireo_error err;

	if (r->error)
		return false;
	if (!vireo_vm_read(r->vm, r->gpa + offset, data, len, &err))
		return true;
	die(r, VIREO_RING_ERROR_MEMORY);
	return false;
}

static bool put(struct vireo_sring *r, __u64 offset, const void *data, size_t len)
{
	struct vireo_error err;

	if (r->error)
		return false;
	if (!vireo_vm_write(r->vm, r->gpa + offset, data, len, &err))
		return true;
	die(r, VIREO_RING_ERROR_MEMORY);
	return false;
}

static bool in_ram(const struct vireo_vm *vm, __u64 gpa, __u64 len)
{
	if (gpa < vm->low_end)
		return len <= vm->low_end - gpa;
	return gpa >= VIREO_HIGH_BASE && gpa < vm->high_end && len <= vm->high_end - gpa;
}

/* Ask for a doorbell at the next entry. */
static bool arm(struct vireo_sring *r)
{
	struct pair line = { r->head, r->head };
	bool ok = put(r, LINE_HEAD, &line, sizeof(line));

	/* Pairs with the driver's between writing sub_tail and reading sub_event. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return ok;
}

/**
 * vireo_sring_open - begin to serve a ring
 * @r: filled in
 * @vm: whose
 * @gpa: where it is
 * @entries: how many it has
 * @start: where to begin: 0, or the number of completions that were put before
 *
 * Return: 0, or EINVAL: not a ring, or not in RAM.
 */
int vireo_sring_open(struct vireo_sring *r, struct vireo_vm *vm, __u64 gpa, __u32 entries,
		     __u32 start)
{
	memset(r, 0, sizeof(*r));
	if (entries < VIREO_RING_MIN || entries > VIREO_RING_MAX || (entries & (entries - 1)) ||
	    gpa % VIREO_PAGE || !in_ram(vm, gpa, VIREO_RING_BYTES(entries)))
		return -EINVAL;
	*r = (struct vireo_sring){
		.vm = vm, .gpa = gpa, .entries = entries,
		.head = start, .tail = start, .shown = start,
	};
	arm(r);
	return 0;
}

/* How many entries wait; a bad index is the ring's end. */
static __u32 waiting(struct vireo_sring *r)
{
	struct pair sub, comp;

	if (!get(r, LINE_SUB, &sub, sizeof(sub)))
		return 0;
	/* Acquire: the index before the entries, and before the newer comp_head. */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (!get(r, LINE_COMP, &comp, sizeof(comp)))
		return 0;
	if (r->head - comp.first <= r->entries && sub.first - comp.first <= r->entries &&
	    sub.first - r->head <= r->entries)
		return sub.first - r->head;
	die(r, VIREO_RING_ERROR_INDEX);
	return 0;
}

/**
 * vireo_sring_next - look at the next entry
 * @r: the ring
 * @entry: gets a copy, VIREO_RING_ENTRY bytes
 *
 * Return: true: it is to be completed, or left where it is; false: there is none,
 * and the doorbell was asked for, or the ring has ended.
 */
bool vireo_sring_next(struct vireo_sring *r, void *entry)
{
	__u32 slot = r->head & (r->entries - 1);

	if (!waiting(r) && (!arm(r) || !waiting(r)))
		return false;
	return get(r, VIREO_RING_SUB(r->entries) + slot * VIREO_RING_ENTRY, entry,
		   VIREO_RING_ENTRY);
}

static int get_list(struct vireo_sring *r, const struct vireo_seg *where, unsigned int n,
		    struct vireo_seg *seg)
{
	struct vireo_error err;
	__u64 gpa = where->gpa;

	if (!n || n > VIREO_RING_INDIRECT || where->len != n * sizeof(*seg) || where->reserved ||
	    gpa % sizeof(*seg) || gpa / VIREO_PAGE != (gpa + where->len - 1) / VIREO_PAGE ||
	    vireo_vm_read(r->vm, gpa, seg, where->len, &err))
		return -EINVAL;
	return 0;
}

/**
 * vireo_sring_segments - the segments of an entry, checked
 * @r: its ring
 * @entry: the copy
 * @seg: gets them, room for VIREO_RING_INDIRECT
 * @max: bytes that they may have in all
 * @bytes: gets how many they have
 *
 * Return: their number, or EINVAL: the entry breaks a rule.
 */
int vireo_sring_segments(struct vireo_sring *r, const void *entry, struct vireo_seg *seg,
			 __u32 max, __u32 *bytes)
{
	struct vireo_console_sub sub;	/* all that have nothing but segments look like it */
	unsigned int i;
	__u64 sum = 0;

	memcpy(&sub, entry, sizeof(sub));
	if (sub.reserved0 || sub.reserved1 || sub.reserved2 || (sub.flags & ~VIREO_SUB_INDIRECT))
		return -EINVAL;
	if (sub.flags & VIREO_SUB_INDIRECT) {
		if (get_list(r, &sub.seg[0], sub.nsegs, seg))
			return -EINVAL;
	} else {
		if (!sub.nsegs || sub.nsegs > VIREO_RING_SEGS)
			return -EINVAL;
		memcpy(seg, sub.seg, sizeof(sub.seg));
	}
	for (i = 0; i < sub.nsegs; i++) {
		sum += seg[i].len;
		if (!seg[i].len || seg[i].reserved || !in_ram(r->vm, seg[i].gpa, seg[i].len))
			return -EINVAL;
	}
	if (sum > max)
		return -EINVAL;
	*bytes = (__u32)sum;
	return sub.nsegs;
}

/**
 * vireo_sring_complete - complete the entry that was looked at
 * @r: the ring
 * @entry: the copy
 * @status: VIREO_COMP_*
 * @len: bytes that were written to the guest
 * @bytes: for the statistics
 */
void vireo_sring_complete(struct vireo_sring *r, const void *entry, __u16 status, __u32 len,
			  __u32 bytes)
{
	const struct vireo_console_sub *sub = entry;
	struct vireo_comp comp = { .tag = sub->tag, .status = status, .len = len };
	__u32 slot = r->tail & (r->entries - 1);

	if (!put(r, VIREO_RING_COMP + slot * sizeof(comp), &comp, sizeof(comp)))
		return;
	r->head++;
	r->tail++;
	r->stat.entries++;
	r->stat.bytes += bytes;
	r->stat.errors += status != VIREO_COMP_OK;
}

/**
 * vireo_sring_show - let the driver see the completions
 * @r: the ring
 *
 * Return: whether an interrupt is due: for them, or because the ring has ended.
 */
bool vireo_sring_show(struct vireo_sring *r)
{
	struct pair line = { r->tail, 0 }, comp;
	__u32 old = r->shown;
	bool due = false;

	if (old != r->tail) {
		r->shown = r->tail;
		__atomic_thread_fence(__ATOMIC_RELEASE);
		put(r, LINE_TAIL, &line, sizeof(line));
		/* Pairs with the driver's between writing comp_event and reading comp_tail. */
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		due = get(r, LINE_COMP, &comp, sizeof(comp)) &&
		      vireo_ring_event(comp.second, old, r->tail);
	}
	if (r->error && !r->told) {
		r->told = true;
		due = true;
	}
	return due;
}
