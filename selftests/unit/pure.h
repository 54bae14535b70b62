/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel's names for the module's tree.c, which holds logic and no kernel
 * state and is compiled here in user space.  What has a prototype each test
 * simulates in its own way; addresses of tables, physical and virtual, are the same.
 */
#ifndef SELFTESTS_PURE_H
#define SELFTESTS_PURE_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "types.h"

#define GENMASK_ULL(h, l)	((~0ULL << (l)) & (~0ULL >> (63 - (h))))
#define min(a, b)		min_t(__typeof__(a), a, b)
#define min_t(type, a, b)	\
	({ type x_ = (a); type y_ = (b); x_ < y_ ? x_ : y_; })

#define PAGE_SHIFT		12
#define __va(pa)		((void *)(uintptr_t)(pa))
#define __pa(va)		((u64)(uintptr_t)(va))

struct page {
	unsigned long private;		/* a table's references */
	void *mapping;			/* of a page in a file's page cache */
};

#define set_page_private(page, value)	\
	__atomic_store_n(&(page)->private, value, __ATOMIC_RELAXED)
#define compound_head(page)	(page)	/* page_ref_add() takes any part */
#define get_page(page)		page_ref_add(page, 1)
#define alloc_page(gfp)		table_page_alloc()	/* zeroed */
#define cond_resched()		do { } while (0)

struct page *table_page_alloc(void);
void *page_address(struct page *page);
void __free_page(struct page *page);
struct page *pfn_to_page(u64 pfn);
void page_ref_add(struct page *page, unsigned int count);
void put_page(struct page *page);
unsigned int page_count(struct page *page);
void copy_page(void *to, const void *from);

#define atomic_long_t		long

#define atomic_long_inc(at)		__atomic_add_fetch(at, 1, __ATOMIC_RELAXED)
#define atomic_long_dec_and_test(at)	(!__atomic_sub_fetch(at, 1, __ATOMIC_ACQ_REL))
#define atomic_long_read_acquire(at)	__atomic_load_n(at, __ATOMIC_ACQUIRE)

#endif /* SELFTESTS_PURE_H */
