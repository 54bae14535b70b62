// SPDX-License-Identifier: GPL-2.0
/*
 * The persistent tree.
 *
 * Guest physical memory is a radix tree of four levels, 512 entries each, and
 * the tree is the nested page table itself.  Tables and pages are reference
 * counted, one reference for each entry that points to them, and may be
 * shared between the trees of several VMs.  The rules:
 *
 *  1. A tree's lock (its VM's) is held around every call; nothing but the
 *     comparison locks two trees.  The root belongs to one tree.
 *  2. Only a table that its tree reaches through tables with one reference
 *     each, and that has one reference itself, may be changed, with the one
 *     exception of rule 4.  Nobody but the holder of the tree's lock can raise
 *     such a table's count, so the test is stable.
 *  3. An entry that leads to something shared is read-only.  The hardware
 *     combines permissions down the walk, so clearing the bit in the root
 *     after a fork write-protects everything below in constant time.
 *  4. Who copies a shared table shares its children from then on, so it first
 *     clears the writable bits in the original too.  All paths to the original
 *     are read-only (rule 3), so this changes no translation.  The last owner
 *     of a table can therefore make its own entry writable again: what became
 *     shared meanwhile is protected one level further down.
 *  5. A table or page that left the tree is dropped only when no processor
 *     can have it cached (vireo_supply.old*).
 *
 * An entry that is not present holds either 0, a hole, or a mark: memory that
 * nobody has touched, VT_RAM, which begins as zeros or, with VT_FILE, as what the
 * VM's file holds there.  The mark stands as high in the tree as it can.
 *
 * No kernel dependencies: selftests/unit/test_tree.c runs this in user space.
 */
#include "tree.h"

static unsigned int tree_index(u64 gpa, unsigned int level)
{
	return (gpa >> VT_SHIFT(level)) & (VT_ENTRIES - 1);
}

static bool entry_is_leaf(u64 e, unsigned int level)
{
	return level == 1 || (e & VT_LARGE);
}

static u64 *entry_table(u64 e)
{
	return vireo_pa_to_va(e & VT_ADDR);
}

static void table_put(u64 pa, unsigned int level);

static void entry_put(u64 e, unsigned int level)
{
	if (!(e & VT_READ))
		return;
	if (entry_is_leaf(e, level))
		vireo_page_put(e & VT_ADDR);
	else
		table_put(e & VT_ADDR, level - 1);
}

/* Drops a reference to a table of @level, and with the last all it points to. */
static void table_put(u64 pa, unsigned int level)
{
	u64 *table = vireo_pa_to_va(pa);
	unsigned int i;

	if (!vireo_table_put(pa))
		return;
	for (i = 0; i < VT_ENTRIES; i++)
		entry_put(table[i], level);
	vireo_table_free(pa);
}

/**
 * vireo_tree_init() - an empty tree
 * @t: the tree
 * @leaf: bits that every leaf gets (vireo_tree.leaf)
 * @flush: see vireo_tree.flush
 * Context: May sleep.
 * Return: 0 or -ENOMEM.
 */
int vireo_tree_init(struct vireo_tree *t, u64 leaf,
		    void (*flush)(struct vireo_tree *t))
{
	t->root = vireo_table_alloc();
	t->leaf = leaf;
	t->flush = flush;
	t->tables = 1;
	return t->root ? 0 : -ENOMEM;
}

/**
 * vireo_tree_destroy() - drop all of a tree
 * @t: the tree; nobody walks it any more
 * Context: May sleep.
 */
void vireo_tree_destroy(struct vireo_tree *t)
{
	if (t->root)
		table_put(vireo_va_to_pa(t->root), VT_LEVELS);
	t->root = NULL;
	t->tables = 0;
}

/* Gives a not-present entry a table that says the same for each part. */
static int entry_expand(struct vireo_tree *t, u64 *entry)
{
	u64 e = *entry;
	u64 *table = vireo_table_alloc();
	unsigned int i;

	if (!table)
		return -ENOMEM;
	for (i = 0; e && i < VT_ENTRIES; i++)
		table[i] = e;
	t->tables++;
	WRITE_ONCE(*entry, vireo_va_to_pa(table) | VT_RWX);
	return 0;
}

/* Replaces a 2 MiB leaf by a table of its parts, all read-only. */
static int entry_split(struct vireo_tree *t, u64 *entry, struct vireo_supply *s)
{
	u64 e = *entry;
	u64 *table = vireo_table_alloc();
	unsigned int i;

	if (!table)
		return -ENOMEM;
	for (i = 0; i < VT_ENTRIES; i++)
		table[i] = ((e & ~(VT_LARGE | VT_WRITE)) + i * VT_SIZE(1));
	vireo_page_get(e & VT_ADDR, VT_ENTRIES - 1);
	t->tables++;
	s->stale = true;
	WRITE_ONCE(*entry, vireo_va_to_pa(table) | VT_RWX);
	return 0;
}

/* Makes the table behind a present, read-only entry this tree's alone. */
static int entry_unshare(u64 *entry, unsigned int level, struct vireo_supply *s)
{
	u64 pa = *entry & VT_ADDR;
	u64 *from = vireo_pa_to_va(pa), *to;
	unsigned int i;

	if (!vireo_table_shared(pa)) {
		WRITE_ONCE(*entry, *entry | VT_WRITE);
		return 0;
	}
	to = vireo_table_alloc();
	if (!to)
		return -ENOMEM;
	for (i = 0; i < VT_ENTRIES; i++) {
		u64 e = READ_ONCE(from[i]);

		if (e & VT_READ) {
			if (entry_is_leaf(e, level - 1))
				vireo_page_get(e & VT_ADDR, 1);
			else
				vireo_table_get(e & VT_ADDR);
			e &= ~VT_WRITE;
			WRITE_ONCE(from[i], e);	/* rule 4 */
		}
		to[i] = e;
	}
	s->old_tables[level - 1] = pa;
	s->stale = true;
	WRITE_ONCE(*entry, vireo_va_to_pa(to) | VT_RWX);
	return 0;
}

/*
 * Walks to the entry for @gpa at @level, creating tables and making all on the
 * way this tree's alone.  Stops early at a leaf.
 */
static u64 *tree_descend(struct vireo_tree *t, u64 gpa, unsigned int *level,
			 struct vireo_supply *s, int *err)
{
	unsigned int l = VT_LEVELS;
	u64 *table = t->root;

	for (;;) {
		u64 *entry = &table[tree_index(gpa, l)];

		*err = 0;
		if (l == *level || ((*entry & VT_READ) && entry_is_leaf(*entry, l))) {
			*level = l;
			return entry;
		}
		if (!(*entry & VT_READ))
			*err = entry_expand(t, entry);
		else if (!(*entry & VT_WRITE))
			*err = entry_unshare(entry, l, s);
		if (*err)
			return NULL;
		table = entry_table(*entry);
		l--;
	}
}

/* The highest level at which one mark at @gpa lies within [gpa, end). */
static unsigned int range_level(const struct vireo_tree *t, u64 gpa, u64 end)
{
	unsigned int l, have;

	/* An empty table may stand where one mark would do: keep it. */
	vireo_tree_lookup(t, gpa, NULL, &have);
	for (l = have; l > 1; l--)
		if (!(gpa & (VT_SIZE(l) - 1)) && end - gpa >= VT_SIZE(l))
			break;
	return l;
}

/**
 * vireo_tree_seek() - the next RAM in being or in the file, or the next place without
 * @t: the tree
 * @gpa: where to begin
 * @end: where to end
 * @data: true to look for pages in being, false for anything else
 * Context: The tree's lock is held.
 * Return: The first address at or after @gpa that fits, or @end.
 */
u64 vireo_tree_seek(const struct vireo_tree *t, u64 gpa, u64 end, bool data)
{
	while (gpa < end) {
		unsigned int level;
		u64 e = vireo_tree_lookup(t, gpa, NULL, &level);

		if (!!(e & (VT_READ | VT_FILE)) == data)
			return gpa;
		gpa = (gpa | (VT_SIZE(level) - 1)) + 1;
	}
	return end;
}

static bool range_is_empty(const struct vireo_tree *t, u64 gpa, u64 end)
{
	while (gpa < end) {
		unsigned int level;

		if (vireo_tree_lookup(t, gpa, NULL, &level))
			return false;
		gpa = (gpa | (VT_SIZE(level) - 1)) + 1;
	}
	return true;
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
	struct vireo_supply s = {};
	u64 end = gpa + bytes, at;
	int pass, err;

	if (!range_is_empty(t, gpa, end))
		return -EEXIST;

	/* First all the tables, which may fail, then the marks, which cannot. */
	for (pass = 0; pass < 2; pass++) {
		for (at = gpa; at < end;) {
			unsigned int level = range_level(t, at, end);
			u64 *entry = tree_descend(t, at, &level, &s, &err);

			vireo_tree_drop(t, &s);
			if (!entry)
				return err;
			if (pass)
				WRITE_ONCE(*entry, mark);
			at += VT_SIZE(level);
		}
	}
	return 0;
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
u64 vireo_tree_lookup(const struct vireo_tree *t, u64 gpa, bool *writable,
		      unsigned int *level)
{
	unsigned int l = VT_LEVELS;
	u64 *table = t->root;
	bool w = true;
	u64 e;

	for (;; l--) {
		e = READ_ONCE(table[tree_index(gpa, l)]);
		w &= !!(e & VT_WRITE);
		if (!(e & VT_READ) || entry_is_leaf(e, l))
			break;
		table = entry_table(e);
	}
	if (writable)
		*writable = w;
	*level = l;
	return e;
}

/* Installs the supplied page where nothing was; takes the page over. */
static int fault_install(struct vireo_tree *t, u64 *entry, unsigned int level,
			 struct vireo_supply *s)
{
	u64 large = level == 2 ? VT_LARGE : 0;
	unsigned int order = level == 2 ? 9 : 0;
	bool file = *entry & VT_FILE;

	if (!s->page || s->order != order || !(file ? s->file : s->zero)) {
		s->want = order;
		s->zero = !file;
		s->file = file;
		return -EAGAIN;
	}
	WRITE_ONCE(*entry, s->page | t->leaf | (s->readonly ? VT_READ | VT_EXEC : VT_RWX) | large);
	s->page = 0;
	return 0;
}

/* Makes a read-only 4 KiB leaf writable, by a copy if somebody shares it. */
static int fault_copy(struct vireo_tree *t, u64 *entry, struct vireo_supply *s)
{
	u64 pa = *entry & VT_ADDR;

	if (!vireo_page_shared(pa)) {
		WRITE_ONCE(*entry, *entry | VT_WRITE);
		return 0;
	}
	if (!s->page || s->order || s->readonly) {
		s->want = 0;
		s->zero = false;
		s->file = false;
		return -EAGAIN;
	}
	vireo_page_copy(s->page, pa);
	WRITE_ONCE(*entry, s->page | t->leaf | VT_RWX);
	s->page = 0;
	s->old = pa;
	s->stale = true;
	return 0;
}

/**
 * vireo_tree_fault() - make an address accessible
 * @t: the tree
 * @gpa: the address
 * @write: for writing
 * @s: a page to use, if one is there; see struct vireo_supply
 *
 * Called with @s->page 0 first.  On -EAGAIN the caller finds a page of order
 * @s->want and calls again: order 0 is taken too where 9 was wanted, any other
 * gets -EAGAIN again, and so does one with @s->readonly that comes for a copy.  A
 * page that is still in @s after success is the caller's.
 * Whatever the result, it calls vireo_tree_drop() before it lets go of the lock.
 * Context: May sleep; the tree's lock is held.
 * Return: 0, -ENXIO (no RAM), -ENOMEM, -EAGAIN.
 */
int vireo_tree_fault(struct vireo_tree *t, u64 gpa, bool write,
		     struct vireo_supply *s)
{
	unsigned int level;
	bool writable;
	u64 *entry;
	u64 e;
	int err;

	e = vireo_tree_lookup(t, gpa, &writable, &level);
	if (!e)
		return -ENXIO;
	if ((e & VT_READ) && (writable || !write))
		return 0;

	/* A hole becomes a 2 MiB page if one can be had. */
	level = !(e & (VT_READ | VT_FILE)) && level > 1 && !(s->page && !s->order) ? 2 : 1;
	entry = tree_descend(t, gpa, &level, s, &err);
	if (!entry)
		return err;
	if (!(*entry & VT_READ))
		return fault_install(t, entry, level, s);

	if (level == 2) {
		if (!vireo_page_shared(*entry & VT_ADDR)) {
			WRITE_ONCE(*entry, *entry | VT_WRITE);
			return 0;
		}
		err = entry_split(t, entry, s);
		if (err)
			return err;
		entry = entry_table(*entry) + tree_index(gpa, 1);
	}
	return fault_copy(t, entry, s);
}

/**
 * vireo_tree_drop() - drop what a fault replaced
 * @t: the tree; flushed first if need be
 * @s: the fault's
 * Context: May sleep; the tree's lock is held.
 */
void vireo_tree_drop(struct vireo_tree *t, struct vireo_supply *s)
{
	unsigned int l;

	if (!s->stale)
		return;
	t->flush(t);
	for (l = 1; l < VT_LEVELS; l++)
		if (s->old_tables[l])
			table_put(s->old_tables[l], l);
	memset(s->old_tables, 0, sizeof(s->old_tables));
	if (s->old)
		vireo_page_put(s->old);
	s->old = 0;
	s->stale = false;
}

/**
 * vireo_tree_fork() - share all of a tree
 * @t: the tree; the caller has all its processors forget translations before
 *	anything runs again
 * @child: becomes a tree of the same content
 *
 * Costs the same whatever the size: only the root's entries are touched.
 * Context: May sleep; the lock of @t is held, no I/O to its pages in flight.
 * Return: 0 or -ENOMEM, nothing changed.
 */
int vireo_tree_fork(struct vireo_tree *t, struct vireo_tree *child)
{
	unsigned int i;
	int err = vireo_tree_init(child, t->leaf, t->flush);

	if (err)
		return err;
	for (i = 0; i < VT_ENTRIES; i++) {
		u64 e = t->root[i];

		if (e & VT_READ) {
			vireo_table_get(e & VT_ADDR);
			e &= ~VT_WRITE;
			WRITE_ONCE(t->root[i], e);
		}
		child->root[i] = e;
	}
	child->tables = t->tables;
	return 0;
}

static bool entry_is_table(u64 e, unsigned int level)
{
	return (e & VT_READ) && !entry_is_leaf(e, level);
}

/* The entry below, or what stands for it where there is no table: part of a leaf, a mark. */
static u64 entry_below(u64 e, u64 gpa, unsigned int level)
{
	if (!(e & VT_READ))
		return e;
	if (e & VT_LARGE)
		return (e & ~VT_LARGE) + tree_index(gpa, level - 1) * VT_SIZE(level - 1);
	return READ_ONCE(entry_table(e)[tree_index(gpa, level - 1)]);
}

/* Whether it stands for what the VM's file has there: nobody can have written that. */
static bool entry_is_file(u64 e, unsigned int level)
{
	return (e & VT_FILE) ||
	       ((e & VT_READ) && entry_is_leaf(e, level) && vireo_page_cached(e & VT_ADDR));
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
	u64 x = READ_ONCE(a->root[tree_index(gpa, VT_LEVELS)]);
	u64 y = READ_ONCE(b->root[tree_index(gpa, VT_LEVELS)]);
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

static void usage_add(u64 e, unsigned int level, bool shared, struct vireo_usage *u)
{
	u64 size = VT_SIZE(level);

	if (vireo_page_cached(e & VT_ADDR))
		u->file += size;
	else if (shared || vireo_page_shared(e & VT_ADDR))
		u->shared += size;
	else
		u->private += size;
	u->huge += level == 2 ? size : 0;
}

/**
 * vireo_tree_usage() - count what is in being
 * @t: the tree
 * @gpa: where, a multiple of 2 MiB
 * @usage: added to; the parts of a 2 MiB page that was split count as shared
 * Context: The tree's lock is held.
 * Return: The address up to which was counted: 2 MiB or, of nothing, more.
 */
u64 vireo_tree_usage(const struct vireo_tree *t, u64 gpa, struct vireo_usage *usage)
{
	const u64 *table = t->root;
	unsigned int l = VT_LEVELS, i;
	bool shared = false;
	u64 e;

	for (;; l--) {
		e = READ_ONCE(table[tree_index(gpa, l)]);
		if (!entry_is_table(e, l))
			break;
		shared |= vireo_table_shared(e & VT_ADDR);
		table = entry_table(e);
		if (l > 2)
			continue;
		for (i = 0; i < VT_ENTRIES; i++)
			if (table[i] & VT_READ)
				usage_add(table[i], 1, shared, usage);
		break;
	}
	if ((e & VT_READ) && entry_is_leaf(e, l))
		usage_add(e, l, shared, usage);
	return (gpa | (VT_SIZE(l) - 1)) + 1;
}
