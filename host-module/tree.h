/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The persistent tree: guest memory as a nested page table whose tables and
 * pages can be shared between VMs.  See tree.c for the rules.
 */
#ifndef VIREO_TREE_H
#define VIREO_TREE_H

#ifdef __KERNEL__
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/sched.h>
#else
#include "pure.h"	/* of selftests/unit */
#endif
#include "../uapi/vireo.h"

/* Fail rather than call the OOM killer: the caller has a use for ENOMEM. */
#define MEM_GFP		(GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)

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
#define VT_DATA		(VT_READ | VT_FILE)	/* in being, or in the file */

#define VT_ENTRIES	512
#define VT_LEVELS	4
#define VT_SHIFT(level)	(12 + 9 * ((level) - 1))
#define VT_SIZE(level)	BIT_ULL(VT_SHIFT(level))
#define VT_LIMIT	BIT_ULL(48)	/* bytes that four levels can map */

/* One VM's view */
struct vireo_tree {
	u64 *root;		/* level 4 table; never shared */
	u64 leaf;		/* bits of every leaf beside address, VT_RWX and VT_LARGE */
	u64 tables;		/* reached from @root, shared ones included */
	/* All processors that run this VM have forgotten its translations when it returns. */
	void (*flush)(struct vireo_tree *t);
};

/* A page for a fault to install; the last two say what that needs, with -EAGAIN */
struct vireo_supply {
	u64 page;		/* its physical address, or 0 */
	unsigned int order;	/* 0 or 9: pages there, a power of two */
	bool readonly;		/* it is the file's own: goes in read-only */
	unsigned int want;	/* order */
	u64 mark;		/* what it replaces, so has to hold; 0: it gets a copy */
};

int vireo_tree_init(struct vireo_tree *t, u64 leaf, void (*flush)(struct vireo_tree *t),
		    struct vireo_tree *parent);
void vireo_tree_destroy(struct vireo_tree *t);
int vireo_tree_add(struct vireo_tree *t, u64 gpa, u64 bytes, u64 mark);
u64 vireo_tree_lookup(const struct vireo_tree *t, u64 gpa, bool *writable, unsigned int *level);
int vireo_tree_fault(struct vireo_tree *t, u64 gpa, bool write, struct vireo_supply *s);
u64 vireo_tree_seek(const struct vireo_tree *t, u64 gpa, u64 end, u64 bits, bool is);
u64 vireo_tree_compare(const struct vireo_tree *a, const struct vireo_tree *b, u64 gpa,
		       bool *same);
u64 vireo_tree_usage(const struct vireo_tree *t, u64 gpa, struct vireo_stat *stat);

#endif /* VIREO_TREE_H */
