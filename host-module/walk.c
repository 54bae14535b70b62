// SPDX-License-Identifier: GPL-2.0
/*
 * Walking a guest's own page tables.
 *
 * Processors without decode assists do not hand over the bytes of an
 * intercepted instruction: they are fetched here, by the virtual address that
 * the guest ran at. The hardware has made the same walk a moment ago, so a
 * fault means that another vCPU changed the tables in between; the caller
 * resumes the guest, which then takes the fault itself.
 *
 * Accessed bits are not set: the hardware has set them, and this walk must not
 * write guest memory. Every entry is read once and every loop is bounded by the
 * number of levels, at most five.
 *
 * Not known here, and so not checked: the guest's MAXPHYADDR (entries with
 * address bits up to 51 are followed; @read refuses what is no memory).
 *
 * Manuals: AMD APM vol. 2 chapter 5; Intel SDM vol. 3 chapter 4.
 */
#include "walk.h"

#define CR0_PG		BIT_ULL(31)
#define CR4_PSE		BIT_ULL(4)
#define CR4_PAE		BIT_ULL(5)
#define CR4_LA57	BIT_ULL(12)
#define CR4_SMEP	BIT_ULL(20)
#define EFER_LMA	BIT_ULL(10)

#define PTE_PRESENT	BIT_ULL(0)
#define PTE_USER	BIT_ULL(2)
#define PTE_LARGE	BIT_ULL(7)	/* above the last level */
#define PTE_NX		BIT_ULL(63)
#define PTE_ADDR	GENMASK_ULL(51, 12)

/* Bits that must be zero where software has none to itself. */
#define PAE_RESERVED	GENMASK_ULL(63, 52)
/* Bits 8:5 are reserved too, but QEMU's TCG sets the accessed bit there. */
#define PDPTE_RESERVED	(PAE_RESERVED | GENMASK_ULL(2, 1))

#define PAGE_BYTES	4096

enum format {
	PAGING_NONE,
	PAGING_32,	/* 2 levels of 1024 entries of 4 bytes */
	PAGING_PAE,	/* 3 levels of 512 entries of 8 bytes, the first of 4 */
	PAGING_LONG,	/* 4 or 5 levels of 512 entries of 8 bytes */
};

static enum format walk_format(const struct vireo_walk *w)
{
	if (!(w->cr0 & CR0_PG))
		return PAGING_NONE;
	if (w->efer & EFER_LMA)
		return PAGING_LONG;
	return w->cr4 & CR4_PAE ? PAGING_PAE : PAGING_32;
}

static unsigned int walk_levels(const struct vireo_walk *w, enum format format)
{
	switch (format) {
	case PAGING_LONG:
		return w->cr4 & CR4_LA57 ? 5 : 4;
	case PAGING_PAE:
		return 3;
	default:
		return 2;
	}
}

/* Address bits below an entry of this level. */
static unsigned int level_shift(enum format format, unsigned int level)
{
	return 12 + (level - 1) * (format == PAGING_32 ? 10 : 9);
}

/* All bits above the highest translated one equal it. */
static bool is_canonical(u64 gva, unsigned int levels)
{
	s64 upper = (s64)gva >> (level_shift(PAGING_LONG, levels + 1) - 1);

	return upper == 0 || upper == -1;
}

static u64 walk_root(const struct vireo_walk *w, enum format format)
{
	switch (format) {
	case PAGING_LONG:
		return w->cr3 & PTE_ADDR;
	case PAGING_PAE:
		return w->cr3 & GENMASK_ULL(31, 5);
	default:
		return w->cr3 & GENMASK_ULL(31, 12);
	}
}

/* Read the entry for @gva in the table at @table, once. */
static int read_entry(const struct vireo_walk *w, enum format format, u64 table,
		      u64 gva, unsigned int level, u64 *entry)
{
	u64 index = gva >> level_shift(format, level);
	u32 entry32 = 0;

	if (format == PAGING_32) {
		index &= 1023;
		if (w->read(w->ctx, table + index * sizeof(entry32), &entry32, sizeof(entry32)))
			return -EIO;
		*entry = entry32;
		return 0;
	}

	index &= 511;	/* the 4 entries of PAE's top level end a 32-bit gva */
	*entry = 0;
	if (w->read(w->ctx, table + index * sizeof(*entry), entry, sizeof(*entry)))
		return -EIO;
	return 0;
}

static bool is_leaf(const struct vireo_walk *w, enum format format, unsigned int level,
		    u64 entry)
{
	if (level == 1)
		return true;
	if (format == PAGING_32 && !(w->cr4 & CR4_PSE))
		return false;
	return entry & PTE_LARGE;
}

/* Whether an entry that is present stops the fetch at once. */
static bool entry_faults(enum format format, unsigned int level, bool leaf, u64 entry)
{
	/* Without EFER.NXE the bit is reserved, and faults as well. */
	if (entry & PTE_NX)
		return true;
	if (format == PAGING_PAE && level == 3)
		return entry & PDPTE_RESERVED;
	if (format == PAGING_PAE && (entry & PAE_RESERVED))
		return true;
	if (!leaf || level == 1)
		return false;

	/* A large page: no such level, or address bits below its size. */
	if (format == PAGING_32)
		return entry & BIT_ULL(21);
	return level > 3 || (entry & GENMASK_ULL(level_shift(format, level) - 1, 13));
}

static u64 leaf_address(enum format format, unsigned int level, u64 entry, u64 gva)
{
	unsigned int shift = level_shift(format, level);
	u64 offset = gva & (BIT_ULL(shift) - 1);

	/* PSE-36: address bits 39:32 are in bits 20:13 (APM vol. 2, 5.2.3). */
	if (format == PAGING_32 && level == 2)
		return (entry & GENMASK_ULL(31, 22)) | (entry & GENMASK_ULL(20, 13)) << 19 | offset;

	return (entry & PTE_ADDR & ~(BIT_ULL(shift) - 1)) | offset;
}

/* From the root to the leaf that maps @gva. */
static int walk_tables(const struct vireo_walk *w, enum format format, u64 gva, u64 *gpa)
{
	unsigned int level = walk_levels(w, format);
	u64 table = walk_root(w, format);
	bool user_page = true;
	bool leaf = false;
	u64 entry;

	for (; !leaf; level--) {
		int err = read_entry(w, format, table, gva, level, &entry);

		if (err)
			return err;
		if (!(entry & PTE_PRESENT))
			return -EFAULT;
		leaf = is_leaf(w, format, level, entry);
		if (entry_faults(format, level, leaf, entry))
			return -EFAULT;
		if (!(format == PAGING_PAE && level == 3))
			user_page = user_page && (entry & PTE_USER);
		table = entry & PTE_ADDR;
		if (leaf)
			*gpa = leaf_address(format, level, entry, gva);
	}

	if (w->user ? !user_page : user_page && (w->cr4 & CR4_SMEP))
		return -EFAULT;
	return 0;
}

/**
 * vireo_walk_gva() - translate the address of an instruction
 * @w: the state of the vCPU
 * @gva: linear address, that is with the base of CS added
 * @gpa: the result, undefined unless 0 is returned
 *
 * Outside 64-bit paging the upper half of @gva is ignored, as the processor
 * does. Permissions are those of an instruction fetch.
 *
 * Context: that of @w->read.
 * Return: 0; -EFAULT if the guest would take a page fault or @gva is not
 * canonical; -EIO if @w->read fails.
 */
int vireo_walk_gva(const struct vireo_walk *w, u64 gva, u64 *gpa)
{
	enum format format = walk_format(w);

	if (format != PAGING_LONG)
		gva = (u32)gva;

	if (format == PAGING_NONE) {
		*gpa = gva;
		return 0;
	}
	if (format == PAGING_LONG && !is_canonical(gva, walk_levels(w, format)))
		return -EFAULT;
	return walk_tables(w, format, gva, gpa);
}

/**
 * vireo_walk_fetch() - copy the bytes of an instruction
 * @w: the state of the vCPU
 * @gva: linear address of the first byte
 * @buf: room for @n bytes
 * @n: bytes wanted, at most a page
 *
 * An instruction may end at the end of a page whose successor is not mapped, so
 * fewer bytes than wanted are no error; the decoder says if they are too few.
 *
 * Context: that of @w->read.
 * Return: the number of bytes copied, at least 1; or the error of
 * vireo_walk_gva() or -EIO for the first byte; -EINVAL if @n is out of range.
 */
int vireo_walk_fetch(const struct vireo_walk *w, u64 gva, u8 *buf, unsigned int n)
{
	unsigned int done = 0;

	if (n == 0 || n > PAGE_BYTES)
		return -EINVAL;

	while (done < n) {
		unsigned int room = PAGE_BYTES - ((gva + done) & (PAGE_BYTES - 1));
		unsigned int part = min_t(unsigned int, n - done, room);
		u64 gpa;
		int err = vireo_walk_gva(w, gva + done, &gpa);

		if (!err && w->read(w->ctx, gpa, buf + done, part))
			err = -EIO;
		if (err)
			return done ? (int)done : err;
		done += part;
	}
	return done;
}
