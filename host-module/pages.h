/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tree stands on, in the kernel; see tree.h.
 *
 * Pages are ordinary kernel pages, charged to the memory cgroup of the task
 * that first touches them.  A leaf counts its references in struct page, a
 * table in page->private, because its last reference has work to do.
 */
#ifndef VIREO_PAGES_H
#define VIREO_PAGES_H

#include <linux/io.h>
#include <linux/mm.h>
#include <linux/sched.h>

/* Fail rather than call the OOM killer: the caller has a use for ENOMEM. */
#define MEM_GFP		(GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)

static inline struct page *vireo_page(u64 pa)
{
	return pfn_to_page(pa >> PAGE_SHIFT);
}

static inline atomic_long_t *vireo_table_refs(u64 pa)
{
	return (atomic_long_t *)&vireo_page(pa)->private;
}

static inline u64 *vireo_table_alloc(void)
{
	struct page *page = alloc_page(MEM_GFP | __GFP_ZERO);

	if (!page)
		return NULL;
	atomic_long_set(vireo_table_refs(page_to_phys(page)), 1);
	return page_address(page);
}

static inline void vireo_table_get(u64 pa)
{
	atomic_long_inc(vireo_table_refs(pa));
}

static inline bool vireo_table_put(u64 pa)
{
	return atomic_long_dec_and_test(vireo_table_refs(pa));
}

static inline void vireo_table_free(u64 pa)
{
	set_page_private(vireo_page(pa), 0);
	__free_page(vireo_page(pa));
	cond_resched();		/* large trees are freed table by table */
}

/* Pairs with the release in vireo_table_put(). */
static inline bool vireo_table_shared(u64 pa)
{
	return atomic_long_read_acquire(vireo_table_refs(pa)) > 1;
}

static inline void vireo_page_get(u64 pa, unsigned int count)
{
	page_ref_add(compound_head(vireo_page(pa)), count);
}

static inline void vireo_page_put(u64 pa)
{
	put_page(vireo_page(pa));
}

static inline bool vireo_page_shared(u64 pa)
{
	return page_count(vireo_page(pa)) > 1;
}

static inline bool vireo_page_cached(u64 pa)
{
	return READ_ONCE(compound_head(vireo_page(pa))->mapping);
}

static inline void vireo_page_copy(u64 to, u64 from)
{
	copy_page(__va(to), __va(from));
}

static inline void *vireo_pa_to_va(u64 pa)
{
	return __va(pa);
}

static inline u64 vireo_va_to_pa(const void *va)
{
	return __pa(va);
}

#endif /* VIREO_PAGES_H */
