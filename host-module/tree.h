/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The persistent tree: guest memory as a nested page table whose tables and
 * pages can be shared between VMs.  See tree.c for the rules.
 */
#ifndef VIREO_TREE_H
#define VIREO_TREE_H

#ifdef __KERNEL__
#include <linux/kernel.h>
#include <linux/string.h>
#else
#include "pure.h"	/* of selftests/unit */
#endif

/*
 * An entry is what the processor's nested page walk reads.  Bits 0-2 and 7
 * mean the same in an NPT (AMD APM vol. 2, 15.25) and in an EPT (Intel SDM
 * vol. 3, 29.3); what differs for leaves is in vireo_tree.leaf.
 */
#define VT_READ		BIT_ULL(0)	/* present (NPT), readable (EPT) */
#define VT_WRITE	BIT_ULL(1)
#define VT_EXEC		BIT_ULL(2)	/* user (NPT), executable (EPT) */
#define VT_LARGE	BIT_ULL(7)	/* a 2 MiB leaf */
#define VT_RAM		BIT_ULL(52)	/* not present yet, but RAM: software bit */
#define VT_FILE		BIT_ULL(53)	/* with VT_RAM: what the VM's file has there */
#define VT_ADDR		0x000ffffffffff000ULL
#define VT_RWX		(VT_READ | VT_WRITE | VT_EXEC)

#define VT_ENTRIES	512
#define VT_LEVELS	4
#define VT_SHIFT(level)	(12 + 9 * ((level) - 1))
#define VT_SIZE(level)	BIT_ULL(VT_SHIFT(level))
#define VT_LIMIT	BIT_ULL(48)	/* bytes that four levels can map */

/**
 * struct vireo_tree - one VM's view
 * @root: level 4 table; never shared
 * @leaf: bits of every leaf beside address, VT_RWX and VT_LARGE
 * @tables: tables reached from @root, shared ones included
 * @flush: has all processors that run this VM forget its translations, and
 *	returns when they have
 */
struct vireo_tree {
	u64 *root;
	u64 leaf;
	u64 tables;
	void (*flush)(struct vireo_tree *t);
};

/**
 * struct vireo_supply - what a fault uses up and what it leaves behind
 * @page: physical address of a page for the fault to install, or 0
 * @order: 0 or 9: pages at @page, a power of two
 * @want: set by -EAGAIN: order of the page that is needed
 * @zero: set by -EAGAIN: the page must be zeroed
 * @file: set by -EAGAIN: the page must hold what the VM's file has there; with
 *	neither it gets a copy
 * @readonly: @page is the file's own: goes in read-only
 * @stale: set when translations changed that processors may have cached
 * @old: page to drop, once nobody can have it cached, or 0
 * @old_tables: tables to drop, likewise, by level
 */
struct vireo_supply {
	u64 page;
	unsigned int order;
	unsigned int want;
	bool zero;
	bool file;
	bool readonly;
	bool stale;
	u64 old;
	u64 old_tables[VT_LEVELS];
};

/* Bytes in being, by who else has them */
struct vireo_usage {
	u64 private;		/* nobody */
	u64 shared;		/* other VMs */
	u64 file;		/* the page cache */
	u64 huge;		/* of all these, in 2 MiB pages */
};

int vireo_tree_init(struct vireo_tree *t, u64 leaf,
		    void (*flush)(struct vireo_tree *t));
void vireo_tree_destroy(struct vireo_tree *t);
int vireo_tree_add(struct vireo_tree *t, u64 gpa, u64 bytes, u64 mark);
u64 vireo_tree_lookup(const struct vireo_tree *t, u64 gpa, bool *writable,
		      unsigned int *level);
int vireo_tree_fault(struct vireo_tree *t, u64 gpa, bool write,
		     struct vireo_supply *s);
void vireo_tree_drop(struct vireo_tree *t, struct vireo_supply *s);
int vireo_tree_fork(struct vireo_tree *t, struct vireo_tree *child);
u64 vireo_tree_seek(const struct vireo_tree *t, u64 gpa, u64 end, bool data);
u64 vireo_tree_compare(const struct vireo_tree *a, const struct vireo_tree *b, u64 gpa,
		       bool *same);
u64 vireo_tree_usage(const struct vireo_tree *t, u64 gpa, struct vireo_usage *usage);

/*
 * What the tree stands on: pages.h in the kernel, a simulation in the unit test.
 * Tables and pages are counted; a new one has one reference.  What puts, frees
 * or allocates may sleep.
 */
#ifdef __KERNEL__
#include "pages.h"
#else
u64 *vireo_table_alloc(void);			/* zeroed; NULL if there is no memory */
void vireo_table_get(u64 pa);
bool vireo_table_put(u64 pa);			/* true: that was the last */
void vireo_table_free(u64 pa);
bool vireo_table_shared(u64 pa);
void vireo_page_get(u64 pa, unsigned int count);	/* any part of a page */
void vireo_page_put(u64 pa);
bool vireo_page_shared(u64 pa);
bool vireo_page_cached(u64 pa);			/* in a file's page cache */
void vireo_page_copy(u64 to, u64 from);		/* 4 KiB */
void *vireo_pa_to_va(u64 pa);
u64 vireo_va_to_pa(const void *va);
#endif

#endif /* VIREO_TREE_H */
