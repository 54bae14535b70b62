// SPDX-License-Identifier: GPL-2.0
/*
 * The persistent tree.
 *
 * Guest physical memory is a radix tree of four levels, 512 entries each, and
 * the tree is the nested page table itself.  Tables and pages are reference
 * counted, one reference for each entry that points to them, and may be
 * shared between the trees of several VMs.  Documentation/design.rst, "Guest
 * memory", has the five rules that are named below, and why they are enough.
 *
 * An entry that is not present holds either 0, a hole, or a mark: memory that
 * nobody has touched, VT_RAM, which begins as zeros or, with VT_FILE, as what the
 * VM's file holds there.  The mark stands as high in the tree as it can.
 *
 * No kernel state: selftests/unit/test_tree.c runs this in user space, where
 * selftests/unit/pure.h stands for the kernel.
 */
#include "tree.h"

static unsigned int tree_index(u64 gpa, unsigned int level)
{
	return (gpa >> VT_SHIFT(level)) & (VT_ENTRIES - 1);
}

static bool entry_is_leaf(u64 e, unsigned int level)
{
	return (e & VT_READ) && (level == 1 || (e & VT_LARGE));
}

static bool entry_is_table(u64 e, unsigned int level)
{
	return (e & VT_READ) && !entry_is_leaf(e, level);
}

static u64 *entry_table(u64 e)
{
	return __va(e & VT_ADDR);
}

static struct page *entry_page(u64 e)
{
	return pfn_to_page((e & VT_ADDR) >> PAGE_SHIFT);
}

/* A table has its own count, as its last reference has work to do. */
static atomic_long_t *table_refs(u64 e)
{
	return (atomic_long_t *)&entry_page(e)->private;
}

/* Pairs with the release in entry_put(). */
static bool table_shared(u64 e)
{
	return atomic_long_read_acquire(table_refs(e)) > 1;
}

/* In a file's page cache */
static bool leaf_cached(u64 e)
{
	return READ_ONCE(compound_head(entry_page(e))->mapping);
}

static u64 *table_alloc(void)
{
	struct page *page = alloc_page(MEM_GFP | __GFP_ZERO);

	if (!page)
		return NULL;
	set_page_private(page, 1);
	return page_address(page);
}

/* Drops a reference, and with the last one of a table all that it points to. */
static void entry_put(u64 e, unsigned int level)
{
	unsigned int i;

	if (entry_is_leaf(e, level))
		put_page(entry_page(e));
	if (!entry_is_table(e, level) || !atomic_long_dec_and_test(table_refs(e)))
		return;
	for (i = 0; i < VT_ENTRIES; i++)
		entry_put(entry_table(e)[i], level - 1);
	set_page_private(entry_page(e), 0);
	__free_page(entry_page(e));
	cond_resched();		/* large trees are freed table by table */
}

/* Gives an empty table all that another has; nobody may write to that then (rule 4). */
static void table_share(u64 *from, u64 *to, unsigned int level)
{
	unsigned int i;

	for (i = 0; i < VT_ENTRIES; i++) {
		u64 e = READ_ONCE(from[i]);

		if (e & VT_READ) {
			if (entry_is_leaf(e, level))
				get_page(entry_page(e));
			else
				atomic_long_inc(table_refs(e));
			e &= ~VT_WRITE;
			WRITE_ONCE(from[i], e);
		}
		to[i] = e;
	}
}

/**
 * vireo_tree_init() - a new tree
 * @t: the tree
 * @leaf: bits that every leaf gets (vireo_tree.leaf)
 * @flush: see vireo_tree.flush
 * @parent: a tree that shares all it has, or NULL; the caller has all its processors
 *	forget translations before anything runs again
 * Context: May sleep; the parent's lock is held, no I/O to its pages in flight.
 * Return: 0 or -ENOMEM, nothing changed.
 */
int vireo_tree_init(struct vireo_tree *t, u64 leaf, void (*flush)(struct vireo_tree *t),
		    struct vireo_tree *parent)
{
	t->root = table_alloc();
	t->leaf = leaf;
	t->flush = flush;
	t->tables = parent ? parent->tables : 1;
	if (parent && t->root)
		table_share(parent->root, t->root, VT_LEVELS);
	return t->root ? 0 : -ENOMEM;
}

/**
 * vireo_tree_destroy() - drop all of a tree
 * @t: the tree; nobody walks it any more
 * Context: May sleep.
 */
void vireo_tree_destroy(struct vireo_tree *t)
{
	entry_put(__pa(t->root) | VT_READ, VT_LEVELS + 1);
}

/* Drops what was replaced, by its level, once no processor has it cached (rule 5). */
static void tree_drop(struct vireo_tree *t, const u64 *old)
{
	unsigned int l;

	for (l = 1; l < VT_LEVELS && !old[l]; l++)
		;
	if (!old[l])
		return;
	t->flush(t);
	for (; l <= VT_LEVELS; l++)
		entry_put(old[l], l);
}

/* Puts a table in the place of what is none: it says the same for each part. */
static int entry_expand(struct vireo_tree *t, u64 *entry, u64 *old)
{
	u64 part = *entry, step = 0, *table = table_alloc();
	unsigned int i;

	if (!table)
		return -ENOMEM;
	if (part & VT_LARGE) {
		page_ref_add(compound_head(entry_page(part)), VT_ENTRIES);
		old[2] = part;
		part &= ~(VT_LARGE | VT_WRITE);
		step = VT_SIZE(1);
	}
	for (i = 0; i < VT_ENTRIES; i++, part += step)
		table[i] = part;
	t->tables++;
	WRITE_ONCE(*entry, __pa(table) | VT_RWX);
	return 0;
}

/* Makes the table behind a read-only entry this tree's alone. */
static int entry_unshare(u64 *entry, unsigned int level, u64 *old)
{
	u64 *table;

	if (!table_shared(*entry)) {
		WRITE_ONCE(*entry, *entry | VT_WRITE);
		return 0;
	}
	table = table_alloc();
	if (!table)
		return -ENOMEM;
	table_share(entry_table(*entry), table, level - 1);
	old[level] = *entry;
	WRITE_ONCE(*entry, __pa(table) | VT_RWX);
	return 0;
}

/*
 * Walks to the highest entry that is no table and lies within @size bytes from @gpa,
 * or is a leaf, creating tables and making all on the way this tree's alone.
 */
static int tree_descend(struct vireo_tree *t, u64 gpa, u64 size, u64 **entry,
			unsigned int *level, u64 *old)
{
	unsigned int l = VT_LEVELS;
	int err = 0;

	for (*entry = t->root; !err; *entry = entry_table(**entry), l--) {
		*entry += tree_index(gpa, l);
		*level = l;
		if (entry_is_leaf(**entry, l))
			break;
		if (!(**entry & VT_READ)) {
			if (!(gpa & (VT_SIZE(l) - 1)) && size >= VT_SIZE(l))
				break;
			err = entry_expand(t, *entry, old);
		} else if (!(**entry & VT_WRITE)) {
			err = entry_unshare(*entry, l, old);
		}
	}
	return err;
}

static u64 tree_top(const struct vireo_tree *t, u64 gpa)
{
	return READ_ONCE(t->root[tree_index(gpa, VT_LEVELS)]);
}

/* The entry below, or what stands for it where there is no table: part of a leaf, a mark. */
static inline u64 entry_below(u64 e, u64 gpa, unsigned int level)
{
	if (!(e & VT_READ))
		return e;
	if (e & VT_LARGE)
		return (e & ~VT_LARGE) + tree_index(gpa, level - 1) * VT_SIZE(level - 1);
	return READ_ONCE(entry_table(e)[tree_index(gpa, level - 1)]);
}

/**
 * vireo_tree_lookup() - what stands at an address
 * @t: the tree
 * @gpa: the address
 * @writable: if not NULL, set to whether the processor may write there
 * @level: set to the level of the entry: it decides for VT_SIZE(@level) bytes
 * Context: The tree's lock is held.
 * Return: The last entry of the walk: a leaf, a mark or 0.
 */
u64 vireo_tree_lookup(const struct vireo_tree *t, u64 gpa, bool *writable, unsigned int *level)
{
	u64 e = tree_top(t, gpa), all = e;
	unsigned int l;

	for (l = VT_LEVELS; entry_is_table(e, l); l--) {
		e = entry_below(e, gpa, l);
		all &= e;
	}
	if (writable)
		*writable = all & VT_WRITE;
	*level = l;
	return e;
}

/**
 * vireo_tree_seek() - the next place that is, or is not, of a kind
 * @t: the tree
 * @gpa: where to begin
 * @end: where to end
 * @bits: the kind: entries that have one of these
 * @is: it is
 * Context: The tree's lock is held.
 * Return: The first address at or after @gpa that fits, or @end.
 */
u64 vireo_tree_seek(const struct vireo_tree *t, u64 gpa, u64 end, u64 bits, bool is)
{
	while (gpa < end) {
		unsigned int level;

		if (!!(vireo_tree_lookup(t, gpa, NULL, &level) & bits) == is)
			return gpa;
		gpa = (gpa | (VT_SIZE(level) - 1)) + 1;
	}
	return end;
}

/**
 * vireo_tree_add() - make a range RAM
 * @t: the tree
 * @gpa: first address, a multiple of 4 KiB
 * @bytes: length, a multiple of 4 KiB; the range lies below VT_LIMIT
 * @mark: VT_RAM, or with VT_FILE
 * Context: May sleep; the tree's lock is held.
 * Return: 0, -EEXIST (part of it is RAM already) or -ENOMEM, nothing changed.
 */
int vireo_tree_add(struct vireo_tree *t, u64 gpa, u64 bytes, u64 mark)
{
	u64 end = gpa + bytes, at, *entry;
	unsigned int pass, level;
	int err;

	if (vireo_tree_seek(t, gpa, end, ~0ULL, true) != end)
		return -EEXIST;

	/* First all the tables, which may fail, then the marks, which cannot. */
	for (pass = 0; pass < 2; pass++) {
		for (at = gpa; at < end; at += VT_SIZE(level)) {
			u64 old[VT_LEVELS + 1] = {};

			err = tree_descend(t, at, end - at, &entry, &level, old);
			tree_drop(t, old);
			if (err)
				return err;
			if (pass)
				WRITE_ONCE(*entry, mark);
		}
	}
	return 0;
}

/* Installs the page if it is what is needed here, or asks for what is. */
static int fault_install(struct vireo_tree *t, u64 *entry, unsigned int level,
			 struct vireo_supply *s, u64 *old)
{
	u64 mark = *entry & (VT_RAM | VT_FILE);

	s->want = level == 2 ? 9 : 0;
	if (!s->page || s->order != s->want || s->mark != mark) {
		s->mark = mark;
		return -EAGAIN;
	}
	if (!mark) {
		copy_page(__va(s->page), __va(*entry & VT_ADDR));
		old[level] = *entry;
	}
	WRITE_ONCE(*entry, s->page | t->leaf | VT_READ | VT_EXEC |
			   (s->readonly ? 0 : VT_WRITE) | (s->order ? VT_LARGE : 0));
	s->page = 0;
	return 0;
}

/**
 * vireo_tree_fault() - make an address accessible
 * @t: the tree
 * @gpa: the address
 * @write: for writing
 * @s: a page to use, if one is there; see struct vireo_supply
 *
 * Called with @s->page 0 first.  On -EAGAIN the caller finds a page as @s says and
 * calls again, and maybe again; order 0 is taken too where 9 was wanted.  A page that
 * is still in @s after success is the caller's.
 * Context: May sleep; the tree's lock is held.
 * Return: 0, -ENXIO (no RAM), -ENOMEM, -EAGAIN.
 */
int vireo_tree_fault(struct vireo_tree *t, u64 gpa, bool write, struct vireo_supply *s)
{
	unsigned int level;
	bool writable;
	u64 *entry, old[VT_LEVELS + 1] = {}, e = vireo_tree_lookup(t, gpa, &writable, &level);
	int err;

	if (!e)
		return -ENXIO;
	if ((e & VT_READ) && (writable || !write))
		return 0;

	/* A hole becomes a 2 MiB page if one can be had. */
	level = !(e & (VT_READ | VT_FILE)) && level > 1 && !(s->page && !s->order) ? 2 : 1;
	err = tree_descend(t, gpa & ~(VT_SIZE(level) - 1), VT_SIZE(level), &entry, &level, old);
	if (!err && (*entry & VT_READ) && page_count(entry_page(*entry)) == 1) {
		/* What nobody else has, the path down to it included, is made writable. */
		WRITE_ONCE(*entry, *entry | VT_WRITE);
		goto out;
	}
	if (!err && (*entry & VT_READ) && level == 2) {
		err = entry_expand(t, entry, old);
		entry = entry_table(*entry) + tree_index(gpa, 1);
		level = 1;
	}
	if (!err)
		err = fault_install(t, entry, level, s, old);
out:
	tree_drop(t, old);
	return err;
}

/* Whether it stands for what the VM's file has there: nobody can have written that. */
static bool entry_is_file(u64 e, unsigned int level)
{
	return (e & VT_FILE) || (entry_is_leaf(e, level) && leaf_cached(e));
}

/**
 * vireo_tree_compare() - whether two trees have the same at an address
 * @a: one tree
 * @b: the other; their marks with VT_FILE stand for the same file
 * @gpa: the address, a multiple of 4 KiB
 * @same: set to whether they do: what they share is the same, so trees that one
 *	fork came between differ in what either has touched since
 * Context: The locks of both are held.
 * Return: The address up to which that holds.
 */
u64 vireo_tree_compare(const struct vireo_tree *a, const struct vireo_tree *b, u64 gpa,
		       bool *same)
{
	u64 x = tree_top(a, gpa), y = tree_top(b, gpa);
	unsigned int l;

	/* What is shared is in the same place, and nobody can write it. */
	for (l = VT_LEVELS;; l--) {
		*same = !((x ^ y) & (VT_READ | VT_ADDR | VT_LARGE | VT_RAM | VT_FILE)) ||
			(entry_is_file(x, l) && entry_is_file(y, l));
		if (*same || !(entry_is_table(x, l) || entry_is_table(y, l)))
			break;
		x = entry_below(x, gpa, l);
		y = entry_below(y, gpa, l);
	}
	return (gpa | (VT_SIZE(l) - 1)) + 1;
}

/**
 * vireo_tree_usage() - count what RAM there is, and is in being, at an address
 * @t: the tree
 * @gpa: the address, a multiple of 4 KiB
 * @stat: added to; the parts of a 2 MiB page that was split count as shared
 * Context: The tree's lock is held.
 * Return: The address up to which was counted.
 */
u64 vireo_tree_usage(const struct vireo_tree *t, u64 gpa, struct vireo_stat *stat)
{
	u64 e = tree_top(t, gpa);
	bool shared = false;
	unsigned int l;

	for (l = VT_LEVELS; entry_is_table(e, l); l--) {
		shared |= table_shared(e);
		e = entry_below(e, gpa, l);
	}
	stat->memory_bytes += e ? VT_SIZE(l) : 0;
	if (e & VT_READ) {
		shared |= page_count(entry_page(e)) > 1;
		*(leaf_cached(e) ? &stat->file_bytes :
		  shared ? &stat->shared_bytes : &stat->private_bytes) += VT_SIZE(l);
		stat->resident_bytes += VT_SIZE(l);
		stat->huge_bytes += l == 2 ? VT_SIZE(l) : 0;
	}
	return (gpa | (VT_SIZE(l) - 1)) + 1;
}
