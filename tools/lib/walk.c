// SPDX-License-Identifier: GPL-2.0
/*
 * Walking a guest's own page tables.
 *
 * Processors without decode assists do not hand over the bytes of the
 * instruction that reached MMIO: they are fetched here, by the virtual address
 * that the guest ran at. The hardware has made the same walk a moment ago and has
 * checked permissions, reserved bits and canonical addresses, so only what
 * leads to the bytes is looked at here. If another vCPU has changed the tables
 * since, this is what a TLB that has not been flushed yet would do too; an
 * entry that is gone sends the guest back, which then takes the fault itself.
 *
 * Accessed bits are not set: the hardware has set them, and this walk must not
 * write guest memory. Every entry is read once and the loop is bounded by the
 * number of levels, at most five; @read refuses what is no memory.
 *
 * Manuals: AMD APM vol. 2 chapter 5; Intel SDM vol. 3 chapter 4.
 */
#include <errno.h>
#include <stdbool.h>

#include "util.h"
#include "walk.h"

#define CR0_PG		BIT_ULL(31)
#define CR4_PSE		BIT_ULL(4)
#define CR4_PAE		BIT_ULL(5)
#define CR4_LA57	BIT_ULL(12)
#define EFER_LMA	BIT_ULL(10)

#define PTE_PRESENT	BIT_ULL(0)
#define PTE_LARGE	BIT_ULL(7)	/* above the last level */
#define PTE_ADDR	GENMASK_ULL(51, 12)

#define PAGE_BYTES	4096

/**
 * vireo_walk_gva - translate the address of an instruction
 * @w: the state of the vCPU
 * @gva: linear address, that is with the base of CS added
 * @gpa: the result, undefined unless 0 is returned
 *
 * Outside 64-bit paging the upper half of @gva is ignored, as the processor
 * does.
 * Return: 0; -EFAULT if nothing is mapped there; -EIO if @w->read fails.
 */
int vireo_walk_gva(const struct vireo_walk *w, __u64 gva, __u64 *gpa)
{
	bool lma = w->efer & EFER_LMA, legacy = !lma && !(w->cr4 & CR4_PAE);
	unsigned int bits = legacy ? 10 : 9, size = legacy ? 4 : 8, shift;
	unsigned int level = legacy ? 2 : !lma ? 3 : w->cr4 & CR4_LA57 ? 5 : 4;
	__u64 table = w->cr3 & (lma ? PTE_ADDR : GENMASK_ULL(31, legacy ? 12 : 5));
	__u64 offset, entry;

	if (!(w->cr0 & CR0_PG)) {
		*gpa = (__u32)gva;
		return 0;
	}
	if (!lma)
		gva = (__u32)gva;
	for (;; level--) {
		shift = 12 + (level - 1) * bits;
		entry = 0;
		offset = (gva >> shift & (BIT_ULL(bits) - 1)) * size;
		if (w->read(w->ctx, table + offset, &entry, size))
			return -EIO;
		if (!(entry & PTE_PRESENT))
			return -EFAULT;
		if (level == 1 || ((entry & PTE_LARGE) && (!legacy || (w->cr4 & CR4_PSE))))
			break;
		table = entry & PTE_ADDR;
	}
	offset = gva & (BIT_ULL(shift) - 1);
	/* PSE-36: address bits 39:32 are in bits 20:13 (APM vol. 2, 5.2.3). */
	if (legacy && level == 2)
		entry = (entry & GENMASK_ULL(31, 22)) | (entry & GENMASK_ULL(20, 13)) << 19;
	*gpa = (entry & PTE_ADDR & ~(BIT_ULL(shift) - 1)) | offset;
	return 0;
}

/**
 * vireo_walk_fetch - copy the bytes of an instruction
 * @w: the state of the vCPU
 * @gva: linear address of the first byte
 * @buf: room for @n bytes
 * @n: bytes wanted, at most a page
 *
 * An instruction may end at the end of a page whose successor is not mapped, so
 * fewer bytes than wanted are no error; the decoder says if they are too few.
 * Return: the number of bytes copied, at least 1; or the error of
 * vireo_walk_gva() or -EIO for the first byte; -EINVAL if @n is out of range.
 */
int vireo_walk_fetch(const struct vireo_walk *w, __u64 gva, __u8 *buf, unsigned int n)
{
	unsigned int done = 0;

	if (n == 0 || n > PAGE_BYTES)
		return -EINVAL;

	while (done < n) {
		unsigned int room = PAGE_BYTES - ((gva + done) & (PAGE_BYTES - 1));
		unsigned int part = min_t(unsigned int, n - done, room);
		__u64 gpa;
		int err = vireo_walk_gva(w, gva + done, &gpa);

		if (!err && w->read(w->ctx, gpa, buf + done, part))
			err = -EIO;
		if (err)
			return done ? (int)done : err;
		done += part;
	}
	return done;
}
