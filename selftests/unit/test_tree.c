// SPDX-License-Identifier: GPL-2.0
/*
 * The persistent tree against a model.
 *
 * The model of a VM's memory is an array: for each page hole, RAM, still as in the
 * file, or content.
 * Beneath the tree stands a simulation of tables, pages and of each VM's TLB
 * and paging-structure cache. Guest accesses go through that TLB, so that a
 * missing flush shows as wrong content, as a write to a page that somebody
 * else sees, or as the freeing of something that a processor still has cached.
 */
#include <string.h>

#include "harness.h"

#include "tree.h"

#define TREES		8
#define PAGE		4096ULL
#define LEAF_BITS	BIT_ULL(6)

/* ---- Random numbers ------------------------------------------------------------------- */

static u64 seed = 1;

static u64 rnd(u64 below)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (seed >> 33) % below;
}

/* ---- The address space: windows at the seams of the levels ------------------------------ */

static const struct window {
	u64 start;
	unsigned int pages;
} windows[] = {
	{ 0, 2048 },
	{ (1ULL << 30) - (4 << 20), 2048 },
	{ (1ULL << 39) - (4 << 20), 2048 },
	{ VT_LIMIT - (4 << 20), 1024 },
};

#define PAGES	(2048 + 2048 + 2048 + 1024)

static u64 page_gpa(unsigned int page)
{
	const struct window *w = windows;

	while (page >= w->pages)
		page -= w++->pages;
	return w->start + page * PAGE;
}

/* ---- The simulation beneath the tree ------------------------------------------------------ */

struct vm {
	struct vireo_tree tree;		/* first: flush finds the VM by it */
	bool alive;
	unsigned int busy;		/* faults that are being resolved */
	u64 epoch;			/* what the TLB holds has this number */
	struct {
		u64 epoch;
		u64 pa;
		bool writable;
	} tlb[PAGES];
	struct {
		bool ram;
		bool data;
		bool file;
		u64 content;
	} model[PAGES];
	struct {
		u64 start, end;
	} ranges[64];
	unsigned int range_count;
};

static struct vm vms[TREES];

struct table {
	u64 entries[VT_ENTRIES];	/* first: a table's address is its pa */
	struct page page;
	unsigned int seen;		/* by the accounting */
	u64 cached[TREES];		/* epoch in which a VM walked it */
	struct table *next, **prev;
};

/* What the long test has met, to see that it is worth its time. */
static struct {
	unsigned int forks, copies, splits, large, failures, accesses, files, differences;
} met;

static struct table *tables;
static unsigned int table_allocs;
static int tables_until_failure = -1;	/* -1: never */

/* Frames: singles, then blocks of 512. The references are the first frame's. */
#define SINGLES		131072
#define BLOCKS		512
#define FRAMES		(SINGLES + BLOCKS * VT_ENTRIES)
#define FRAME_BASE	0x100000000ULL

static struct frame {
	struct page page;		/* first: a page's frame is found by it */
	u64 content;
	unsigned int refs;
	unsigned int seen;
	unsigned int leaves;		/* entries that map just this frame */
	u64 cached[TREES];
} *frames;

static unsigned int free_singles[SINGLES], free_blocks[BLOCKS];
static unsigned int free_single_count, free_block_count;

static struct frame *frame(u64 pa)
{
	u64 i = (pa - FRAME_BASE) / PAGE;

	ASSERT_THAT(pa >= FRAME_BASE && i < FRAMES, "pa %#llx is no page", pa);
	return &frames[i];
}

static struct frame *frame_head(u64 pa)
{
	unsigned int i = frame(pa) - frames;

	if (i >= SINGLES)
		i -= (i - SINGLES) % VT_ENTRIES;
	ASSERT_THAT(frames[i].refs, "page %#llx is used after its end", pa);
	return &frames[i];
}

/* The file, page by page, and what of it is in the page cache */
static u64 file_pa[PAGES];

static u64 file_content(unsigned int page)
{
	return 0xf11e000000ULL + page;
}

static void sim_reset(void)
{
	unsigned int i;

	ASSERT_TRUE(!tables);
	free(frames);
	frames = calloc(FRAMES, sizeof(*frames));
	ASSERT_TRUE(frames);
	free_single_count = SINGLES;
	free_block_count = BLOCKS;
	for (i = 0; i < SINGLES; i++)
		free_singles[i] = i;
	for (i = 0; i < BLOCKS; i++)
		free_blocks[i] = SINGLES + i * VT_ENTRIES;
	memset(vms, 0, sizeof(vms));
	memset(file_pa, 0, sizeof(file_pa));
	for (i = 0; i < TREES; i++)
		vms[i].epoch = 1;
	tables_until_failure = -1;
}

/* A page with one reference, or 0. Unless zeroed it has rubbish in it. */
static u64 page_alloc(unsigned int order, bool zero)
{
	unsigned int i, at;

	if (order ? !free_block_count : !free_single_count)
		return 0;
	at = order ? free_blocks[--free_block_count] : free_singles[--free_single_count];
	ASSERT_EQ(frames[at].refs, 0);
	frames[at].refs = 1;
	for (i = 0; i < 1U << order; i++)
		frames[at + i].content = zero ? 0 : 0xbadbadbadULL;
	return FRAME_BASE + at * PAGE;
}

static void page_free(struct frame *head)
{
	unsigned int at = head - frames, count = at < SINGLES ? 1 : VT_ENTRIES;
	unsigned int i, v;

	for (i = 0; i < count; i++)
		for (v = 0; v < TREES; v++)
			ASSERT_THAT(head[i].cached[v] != vms[v].epoch,
				    "page freed that VM %u has in its TLB", v);
	if (count == 1)
		free_singles[free_single_count++] = at;
	else
		free_blocks[free_block_count++] = at;
}

struct page *table_page_alloc(void)
{
	struct table *t;

	table_allocs++;
	if (tables_until_failure >= 0 && tables_until_failure-- == 0) {
		met.failures++;
		return NULL;
	}
	t = aligned_alloc(PAGE, 2 * PAGE);
	ASSERT_TRUE(t);
	memset(t, 0, sizeof(*t));
	t->next = tables;
	t->prev = &tables;
	if (tables)
		tables->prev = &t->next;
	tables = t;
	return &t->page;
}

void *page_address(struct page *page)
{
	return (char *)page - offsetof(struct table, page);
}

static struct table *table(u64 pa)
{
	struct table *t = __va(pa);

	ASSERT_TRUE(t->page.private);
	return t;
}

void __free_page(struct page *page)
{
	struct table *t = page_address(page);
	unsigned int v;

	for (v = 0; v < TREES; v++)
		ASSERT_THAT(t->cached[v] != vms[v].epoch, "table freed that VM %u has cached", v);
	*t->prev = t->next;
	if (t->next)
		t->next->prev = t->prev;
	free(t);
}

struct page *pfn_to_page(u64 pfn)
{
	u64 pa = pfn << PAGE_SHIFT;

	if (pa >= FRAME_BASE && pa < FRAME_BASE + FRAMES * PAGE)
		return &frame(pa)->page;
	return &((struct table *)__va(pa))->page;
}

static struct frame *page_head(struct page *page)
{
	return frame_head(FRAME_BASE + ((struct frame *)page - frames) * PAGE);
}

void page_ref_add(struct page *page, unsigned int count)
{
	page_head(page)->refs += count;
	met.splits += count > 1;
}

void put_page(struct page *page)
{
	struct frame *head = page_head(page);

	if (--head->refs == 0)
		page_free(head);
}

unsigned int page_count(struct page *page)
{
	return page_head(page)->refs;
}

static void page_put(u64 pa)
{
	put_page(&frame(pa)->page);
}

/* A page of the file's own with a reference for the caller, or a copy; 0: there is none */
static u64 file_page(unsigned int page, bool copy)
{
	u64 pa;

	if (copy) {
		pa = page_alloc(0, false);
		if (pa)
			frame(pa)->content = file_content(page);
		return pa;
	}
	if (!file_pa[page]) {
		file_pa[page] = page_alloc(0, false);
		if (!file_pa[page])
			return 0;
		frame(file_pa[page])->content = file_content(page);
		frame(file_pa[page])->page.mapping = file_pa;
	}
	get_page(&frame(file_pa[page])->page);
	return file_pa[page];
}

static void file_drop(void)
{
	unsigned int page;

	for (page = 0; page < PAGES; page++) {
		if (!file_pa[page])
			continue;
		ASSERT_EQ(frame(file_pa[page])->content, file_content(page));
		frame(file_pa[page])->page.mapping = NULL;
		page_put(file_pa[page]);
		file_pa[page] = 0;
	}
}

void copy_page(void *to, const void *from)
{
	ASSERT_TRUE(!frame_head(__pa(to))->page.mapping);
	ASSERT_EQ(frame_head(__pa(to))->refs, 1);
	frame_head(__pa(from));
	frame(__pa(to))->content = frame(__pa(from))->content;
	met.copies++;
}

static void flush(struct vireo_tree *t)
{
	((struct vm *)t)->epoch++;
}

/* ---- Operations, on a VM and on its model ------------------------------------------------- */

static bool range_taken(const struct vm *vm, u64 start, u64 end)
{
	unsigned int i;

	for (i = 0; i < vm->range_count; i++)
		if (start < vm->ranges[i].end && vm->ranges[i].start < end)
			return true;
	return false;
}

static int vm_add_mark(struct vm *vm, u64 start, u64 end, u64 mark)
{
	bool taken = range_taken(vm, start, end);
	unsigned int page;
	int err;

	if (vm->range_count == ARRAY_SIZE(vm->ranges))
		return 0;
	err = vireo_tree_add(&vm->tree, start, end - start, mark);
	if (err == -ENOMEM) {
		ASSERT_THAT(!taken && tables_until_failure < 0, "ENOMEM with memory left");
		return err;
	}
	ASSERT_EQ(err, taken ? -EEXIST : 0);
	if (err)
		return err;

	vm->ranges[vm->range_count].start = start;
	vm->ranges[vm->range_count++].end = end;
	for (page = 0; page < PAGES; page++) {
		if (page_gpa(page) < start || page_gpa(page) >= end)
			continue;
		vm->model[page].ram = true;
		vm->model[page].file = mark & VT_FILE;
		vm->model[page].content = mark & VT_FILE ? file_content(page) : 0;
	}
	return 0;
}

static int vm_add(struct vm *vm, u64 start, u64 end)
{
	return vm_add_mark(vm, start, end, VT_RAM);
}

/* All that one entry decides for has come into being, and is accessible. */
static void model_install(struct vm *vm, unsigned int page, bool write)
{
	unsigned int level, i;
	bool writable;
	u64 gpa = page_gpa(page);
	u64 e = vireo_tree_lookup(&vm->tree, gpa, &writable, &level);

	ASSERT_TRUE(e & VT_READ);
	ASSERT_TRUE(writable || !write);
	ASSERT_TRUE(level <= 2);
	if (vm->model[page].data)
		return;
	if (level == 2)
		page -= gpa / PAGE % VT_ENTRIES;
	met.large += level == 2;
	for (i = 0; i < (level == 2 ? VT_ENTRIES : 1); i++) {
		ASSERT_TRUE(vm->model[page + i].ram && !vm->model[page + i].data);
		ASSERT_TRUE(level == 1 || !vm->model[page + i].file);
		vm->model[page + i].data = true;
	}
}

static void vm_disturb(struct vm *vm, unsigned int depth);

/* Resolves a fault as mem.c does; other things happen whenever the lock is free. */
static int vm_fault(struct vm *vm, unsigned int page, bool write, unsigned int depth)
{
	struct vireo_supply s = {};
	unsigned int turns = 0;
	int err;

	vm->busy++;
	do {
		unsigned int want;

		err = vireo_tree_fault(&vm->tree, page_gpa(page), write, &s);
		if (!err)
			model_install(vm, page, write);
		if (err != -EAGAIN)
			break;

		ASSERT_THAT(++turns < 8, "fault does not end");
		if (s.page)
			page_put(s.page);
		want = s.want && rnd(4) ? s.want : 0;
		ASSERT_TRUE(s.want == 0 || s.want == 9);
		ASSERT_TRUE(s.want == 0 || s.mark == VT_RAM);
		ASSERT_TRUE(!(s.mark & VT_FILE) || (!s.want && vm->model[page].file));
		s.readonly = (s.mark & VT_FILE) && !write;
		if (s.mark & VT_FILE)
			s.page = file_page(page, write);
		else
			s.page = rnd(64) ? page_alloc(want, s.mark) : 0;
		met.files += s.readonly;
		s.order = want;
		if (!s.page)
			err = -ENOMEM;
		else if (depth && !rnd(16))
			vm_disturb(vm, depth - 1);
	} while (err == -EAGAIN);
	if (s.page)
		page_put(s.page);
	vm->busy--;
	return err;
}

/* Fills the TLB as a walk does; false if it faults. */
static bool tlb_fill(struct vm *vm, unsigned int page, bool write)
{
	unsigned int v = vm - vms, l;
	u64 gpa = page_gpa(page), e, *at = vm->tree.root;
	bool writable = true;

	for (l = VT_LEVELS;; l--) {
		table(__pa(at))->cached[v] = vm->epoch;
		e = at[gpa >> VT_SHIFT(l) & (VT_ENTRIES - 1)];
		writable &= !!(e & VT_WRITE);
		if (!(e & VT_READ) || (write && !writable))
			return false;
		if (l == 1 || (e & VT_LARGE))
			break;
		at = __va(e & VT_ADDR);
	}
	ASSERT_TRUE(l <= 2);
	ASSERT_TRUE((e & ~VT_ADDR & ~VT_WRITE) ==
		    (VT_READ | VT_EXEC | LEAF_BITS | (l == 2 ? VT_LARGE : 0)));
	vm->tlb[page].pa = (e & VT_ADDR) + (gpa & (VT_SIZE(l) - 1));
	vm->tlb[page].writable = writable;
	vm->tlb[page].epoch = vm->epoch;
	frame(vm->tlb[page].pa)->cached[v] = vm->epoch;
	return true;
}

static bool tlb_hit(const struct vm *vm, unsigned int page, bool write)
{
	return vm->tlb[page].epoch == vm->epoch && (vm->tlb[page].writable || !write);
}

/* The guest reads or writes a page. */
static int vm_access(struct vm *vm, unsigned int page, bool write, unsigned int depth)
{
	unsigned int turns = 0;
	int err;

	while (!tlb_hit(vm, page, write) && !tlb_fill(vm, page, write)) {
		ASSERT_THAT(++turns < 4, "guest does not get on");
		err = vm_fault(vm, page, write, depth);
		if (err == -ENXIO)
			ASSERT_TRUE(!vm->model[page].ram);
		if (err)
			return err;
	}
	met.accesses++;
	ASSERT_TRUE(vm->model[page].data);
	ASSERT_THAT(frame(vm->tlb[page].pa)->content == vm->model[page].content,
		    "VM %u, gpa %#llx: content %#llx instead of %#llx", (unsigned int)(vm - vms),
		    page_gpa(page), frame(vm->tlb[page].pa)->content, vm->model[page].content);
	if (write) {
		vm->model[page].content = seed | 1;
		frame(vm->tlb[page].pa)->content = seed | 1;
	}
	return 0;
}

static int vm_create(struct vm *vm)
{
	int err = vireo_tree_init(&vm->tree, LEAF_BITS, flush, NULL);

	if (err)
		return err;
	memset(vm->model, 0, sizeof(vm->model));
	vm->range_count = 0;
	vm->alive = true;
	return 0;
}

static void vm_destroy(struct vm *vm)
{
	flush(&vm->tree);
	vireo_tree_destroy(&vm->tree);
	vm->alive = false;
}

static int vm_fork(struct vm *vm, struct vm *child)
{
	int err = vireo_tree_init(&child->tree, LEAF_BITS, flush, &vm->tree);

	if (err)
		return err;
	met.forks++;
	flush(&vm->tree);
	memcpy(child->model, vm->model, sizeof(vm->model));
	memcpy(child->ranges, vm->ranges, sizeof(vm->ranges));
	child->range_count = vm->range_count;
	child->alive = true;
	return 0;
}

static unsigned int random_page(void)
{
	static unsigned int last;

	/* Near the last one, to meet in tables and in 2 MiB pages. */
	if (rnd(3))
		last = rnd(PAGES);
	else
		last = (last + rnd(8)) % PAGES;
	return last;
}

static void vm_add_random(struct vm *vm)
{
	static const u64 seams[] = { 0, 1ULL << 20, 1ULL << 21, 1ULL << 30, 2ULL << 30,
				     1ULL << 39, 600ULL << 30, 2ULL << 39, VT_LIMIT - (1ULL << 30),
				     VT_LIMIT };
	u64 start, end;
	unsigned int i;

	i = rnd(ARRAY_SIZE(windows));
	start = windows[i].start + rnd(windows[i].pages) * PAGE;
	end = start + (1 + rnd(700)) * PAGE;
	if (rnd(2)) {
		start &= ~(VT_SIZE(2) - 1);
		end = start + (1 + rnd(4)) * VT_SIZE(2);
	}
	if (!rnd(16)) {
		i = rnd(ARRAY_SIZE(seams) - 1);
		start = seams[i];
		end = seams[i + 1 + rnd(ARRAY_SIZE(seams) - 1 - i)];
	}
	vm_add_mark(vm, start, min(end, VT_LIMIT), rnd(3) ? VT_RAM : VT_RAM | VT_FILE);
}

/* SEEK_DATA and SEEK_HOLE from a page to the end of its window or before. */
static void vm_seek(struct vm *vm, unsigned int page, bool data)
{
	unsigned int last = page + rnd(600), at;
	u64 gpa = page_gpa(page), end;

	while (last >= PAGES || page_gpa(last) != gpa + (last - page) * PAGE)
		last--;
	end = page_gpa(last);
	for (at = page; at < last && (vm->model[at].data || vm->model[at].file) != data; at++)
		;
	ASSERT_EQ(vireo_tree_seek(&vm->tree, gpa, end, VT_DATA, data), page_gpa(at));
}

/* What a page is, by which two VMs have the same */
static u64 identity(const struct vm *vm, u64 gpa)
{
	unsigned int level;
	u64 e = vireo_tree_lookup(&vm->tree, gpa, NULL, &level);

	if ((e & VT_FILE) || ((e & VT_READ) && frame(e & VT_ADDR)->page.mapping))
		return VT_RAM | VT_FILE;
	if (!(e & VT_READ))
		return e;
	return ((e & VT_ADDR) + (gpa & (VT_SIZE(level) - 1))) | VT_READ;
}

/* Two VMs, from a page to the end of its window or before */
static void vm_compare(struct vm *a, struct vm *b, unsigned int page)
{
	unsigned int last = page + rnd(600);
	u64 gpa = page_gpa(page), end = gpa;

	for (; page < last && page < PAGES && page_gpa(page) == gpa; page++, gpa += PAGE) {
		static bool same;

		if (gpa >= end) {
			ASSERT_TRUE(gpa == end || end == page_gpa(page));
			end = vireo_tree_compare(&a->tree, &b->tree, gpa, &same);
			ASSERT_TRUE(end > gpa && end % PAGE == 0);
		}
		ASSERT_THAT(same == (identity(a, gpa) == identity(b, gpa)), "gpa %#llx: %s", gpa,
			    same ? "a difference is not seen" : "no difference");
		ASSERT_TRUE(!same || a->model[page].content == b->model[page].content);
		met.differences += !same;
	}
}

/* What happens to other VMs, and to this one, while its lock is not held. */
static void vm_disturb(struct vm *vm, unsigned int depth)
{
	struct vm *other = rnd(2) ? vm : &vms[rnd(TREES)];

	if (!other->alive) {
		vm_fork(vm, other);
		return;
	}
	if (!other->busy && !rnd(4))
		vm_destroy(other);
	else
		vm_access(other, random_page(), rnd(2), depth);
}

/* ---- What must always hold ------------------------------------------------------------------ */

static unsigned int round_number;

/* Counts how often each table and page is pointed to, and checks a page's entry. */
static unsigned int count_table(u64 pa, unsigned int level)
{
	struct table *t = table(pa);
	unsigned int i, below = 1;
	bool first = t->seen < round_number;

	/* seen: the number of the round plus the references found in it */
	t->seen = first ? round_number + 1 : t->seen + 1;
	for (i = 0; i < VT_ENTRIES; i++) {
		u64 e = t->entries[i];

		if (!(e & VT_READ)) {
			ASSERT_TRUE(e == 0 || e == VT_RAM || e == (VT_RAM | VT_FILE));
			continue;
		}
		if (level > 1 && !(e & VT_LARGE)) {
			ASSERT_TRUE(level > 2 || (e & VT_ADDR) % PAGE == 0);
			if (first)
				below += count_table(e & VT_ADDR, level - 1);
			continue;
		}
		ASSERT_TRUE(level <= 2);
		if (first) {
			struct frame *head = frame_head(e & VT_ADDR);

			ASSERT_TRUE(level == 1 || head == frame(e & VT_ADDR));
			head->seen = head->seen < round_number ? round_number + 1 : head->seen + 1;
		}
	}
	return below;
}

/* Tables reached, each as often as there are ways to it. */
static u64 count_reached(const u64 *entries, unsigned int level)
{
	u64 n = 1;
	unsigned int i;

	for (i = 0; level > 1 && i < VT_ENTRIES; i++)
		if ((entries[i] & VT_READ) && !(entries[i] & VT_LARGE))
			n += count_reached(__va(entries[i] & VT_ADDR), level - 1);
	return n;
}

/* Every reference is an entry and the other way round; nothing is lost. */
static void check_counts(void)
{
	struct table *t;
	unsigned int i;

	round_number += 1 << 20;
	for (i = 0; i < TREES; i++) {
		if (!vms[i].alive)
			continue;
		count_table(__pa(vms[i].tree.root), VT_LEVELS);
		ASSERT_EQ(vms[i].tree.tables, count_reached(vms[i].tree.root, VT_LEVELS));
	}
	for (t = tables; t; t = t->next)
		ASSERT_EQ(t->page.private, t->seen < round_number ? 0 : t->seen - round_number);
	for (i = 0; i < FRAMES; i++)
		if (frames[i].refs || frames[i].seen > round_number)
			ASSERT_EQ(frames[i].refs - !!frames[i].page.mapping,
				  frames[i].seen < round_number ? 0 :
				  frames[i].seen - round_number);
}

/* Each page of a VM as the model says; notes in the frames who sees them. */
static void check_content(struct vm *vm)
{
	unsigned int page, level;
	bool writable;

	for (page = 0; page < PAGES; page++) {
		u64 gpa = page_gpa(page);
		u64 e = vireo_tree_lookup(&vm->tree, gpa, &writable, &level);
		struct frame *f;

		ASSERT_EQ(!!e, vm->model[page].ram);
		ASSERT_EQ(!!(e & VT_FILE), vm->model[page].file && !vm->model[page].data);
		ASSERT_EQ(!!(e & VT_READ), vm->model[page].data);
		if (!(e & VT_READ))
			continue;
		f = frame((e & VT_ADDR) + (gpa & (VT_SIZE(level) - 1)));
		ASSERT_EQ(f->content, vm->model[page].content);
		f->leaves += writable ? 1 << 16 : 1;
		if (tlb_hit(vm, page, true))
			ASSERT_TRUE(writable && frame(vm->tlb[page].pa) == f);
		if (tlb_hit(vm, page, false))
			ASSERT_EQ(frame(vm->tlb[page].pa)->content, f->content);
	}
}

/* What is counted as one VM's alone nobody else sees; nothing is left out. */
static void check_usage(struct vm *vm)
{
	u64 gpa, end, ram = 0, all = 0, file = 0, alone = 0;
	struct vireo_stat u = {};
	unsigned int i, page, level;

	for (i = 0; i < vm->range_count; i++)
		ram += vm->ranges[i].end - vm->ranges[i].start;
	for (gpa = 0; gpa < VT_LIMIT; gpa = end) {
		end = vireo_tree_usage(&vm->tree, gpa, &u);
		ASSERT_TRUE(end > gpa && end % PAGE == 0);
	}
	for (page = 0; page < PAGES; page++) {
		u64 e = vireo_tree_lookup(&vm->tree, page_gpa(page), NULL, &level);
		struct frame *f;

		if (!(e & VT_READ))
			continue;
		f = frame((e & VT_ADDR) + (page_gpa(page) & (VT_SIZE(level) - 1)));
		all += PAGE;
		file += f->page.mapping ? PAGE : 0;
		alone += f->leaves == 1 || f->leaves == 1 << 16 ? PAGE : 0;
	}
	ASSERT_EQ(u.memory_bytes, ram);
	ASSERT_EQ(u.private_bytes + u.shared_bytes + u.file_bytes, all);
	ASSERT_EQ(u.resident_bytes, all);
	ASSERT_EQ(u.file_bytes, file);
	ASSERT_TRUE(u.private_bytes <= alone && u.huge_bytes <= all);
}

/* Who may write a page is the only one who sees it. */
static void check_all(void)
{
	unsigned int i;

	check_counts();
	for (i = 0; i < FRAMES; i++)
		frames[i].leaves = 0;
	for (i = 0; i < TREES; i++)
		if (vms[i].alive)
			check_content(&vms[i]);
	for (i = 0; i < FRAMES; i++)
		ASSERT_TRUE(frames[i].leaves < 1 << 16 ||
			    (frames[i].leaves == 1 << 16 && !frames[i].page.mapping));
	for (i = 0; i < TREES; i++)
		if (vms[i].alive)
			check_usage(&vms[i]);
}

static void destroy_all(void)
{
	unsigned int i;

	for (i = 0; i < TREES; i++)
		if (vms[i].alive)
			vm_destroy(&vms[i]);
	file_drop();
	ASSERT_TRUE(!tables);
	ASSERT_EQ(free_single_count, SINGLES);
	ASSERT_EQ(free_block_count, BLOCKS);
}

/* ---- The tests ------------------------------------------------------------------------------ */

/* The first VM, with RAM from address 0 on. */
static struct vm *simple_vm(u64 bytes)
{
	sim_reset();
	ASSERT_EQ(vm_create(&vms[0]), 0);
	ASSERT_EQ(vm_add(&vms[0], 0, bytes), 0);
	return &vms[0];
}

TEST(empty)
{
	struct vm *vm = simple_vm(PAGE);
	struct vireo_supply s = {};
	unsigned int level;

	EXPECT_EQ(vireo_tree_lookup(&vm->tree, 0, NULL, &level), VT_RAM);
	EXPECT_EQ(level, 1);
	EXPECT_EQ(vireo_tree_lookup(&vm->tree, PAGE, NULL, &level), 0);
	EXPECT_EQ(vireo_tree_fault(&vm->tree, PAGE, true, &s), -ENXIO);
	EXPECT_EQ(vireo_tree_fault(&vm->tree, VT_LIMIT - PAGE, false, &s), -ENXIO);
	EXPECT_EQ(vm_add(vm, 0, PAGE), -EEXIST);
	EXPECT_EQ(vireo_tree_seek(&vm->tree, 0, VT_LIMIT, VT_DATA, true), VT_LIMIT);
	EXPECT_EQ(vireo_tree_seek(&vm->tree, 0, VT_LIMIT, VT_DATA, false), 0);
	EXPECT_EQ(vireo_tree_seek(&vm->tree, PAGE, PAGE, VT_DATA, true), PAGE);
	destroy_all();
}

/* Marks stand as high as they can: no tables for memory nobody has touched. */
TEST(untouched_memory_is_free)
{
	struct vm *vm;

	sim_reset();
	vm = &vms[0];
	ASSERT_EQ(vm_create(vm), 0);
	EXPECT_EQ(vm_add(vm, 0, 4ULL << 39), 0);
	EXPECT_EQ(vm->tree.tables, 1);
	EXPECT_EQ(vm_add(vm, 4ULL << 39, (4ULL << 39) + (2ULL << 30)), 0);
	EXPECT_EQ(vm->tree.tables, 2);
	EXPECT_EQ(vm_access(vm, 5, true, 0), 0);
	EXPECT_LE(vm->tree.tables, 5);
	check_all();
	destroy_all();
}

TEST(large_pages)
{
	struct vm *vm = simple_vm(4 << 20);
	struct vireo_supply s = {};
	unsigned int level;
	bool writable;

	/* Asked for 2 MiB, takes 2 MiB. */
	EXPECT_EQ(vireo_tree_fault(&vm->tree, 5 * PAGE, false, &s), -EAGAIN);
	EXPECT_EQ(s.want, 9);
	EXPECT_EQ(s.mark, VT_RAM);
	s.order = 9;
	s.page = page_alloc(9, true);
	EXPECT_EQ(vireo_tree_fault(&vm->tree, 5 * PAGE, false, &s), 0);
	EXPECT_EQ(s.page, 0);
	EXPECT_TRUE(vireo_tree_lookup(&vm->tree, 0, &writable, &level) & VT_LARGE);
	EXPECT_EQ(level, 2);
	EXPECT_TRUE(writable);

	/* Takes 4 KiB in its place, and asks for no more than that beside it. */
	EXPECT_EQ(vireo_tree_fault(&vm->tree, 515 * PAGE, true, &s), -EAGAIN);
	EXPECT_EQ(s.want, 9);
	s.order = 0;
	s.page = page_alloc(0, true);
	EXPECT_EQ(vireo_tree_fault(&vm->tree, 515 * PAGE, true, &s), 0);
	EXPECT_EQ(s.page, 0);
	EXPECT_EQ(vireo_tree_fault(&vm->tree, 516 * PAGE, true, &s), -EAGAIN);
	EXPECT_EQ(s.want, 0);
	EXPECT_EQ(vireo_tree_seek(&vm->tree, 0, 4 << 20, VT_DATA, false), VT_SIZE(2));
	EXPECT_EQ(vireo_tree_seek(&vm->tree, VT_SIZE(2), 4 << 20, VT_DATA, true), 515 * PAGE);
	destroy_all();
}

/* A 2 MiB page for what has become a 4 KiB hole meanwhile is not swallowed. */
TEST(large_page_comes_late)
{
	struct vm *vm = simple_vm(2 << 20);
	struct vireo_supply first = {}, second = {};

	EXPECT_EQ(vireo_tree_fault(&vm->tree, 0, true, &first), -EAGAIN);
	EXPECT_EQ(first.want, 9);
	EXPECT_EQ(vireo_tree_fault(&vm->tree, PAGE, true, &second), -EAGAIN);
	second.page = page_alloc(0, true);
	EXPECT_EQ(vireo_tree_fault(&vm->tree, PAGE, true, &second), 0);
	first.page = page_alloc(9, true);
	first.order = 9;
	EXPECT_EQ(vireo_tree_fault(&vm->tree, 0, true, &first), -EAGAIN);
	EXPECT_EQ(first.want, 0);
	EXPECT_NE(first.page, 0);

	/* Nor for a 4 KiB copy. */
	ASSERT_EQ(vireo_tree_init(&vms[1].tree, LEAF_BITS, flush, &vm->tree), 0);
	vms[1].alive = true;
	EXPECT_EQ(vireo_tree_fault(&vm->tree, PAGE, true, &first), -EAGAIN);
	EXPECT_EQ(first.want, 0);
	EXPECT_EQ(first.mark, 0);
	EXPECT_NE(first.page, 0);
	page_put(first.page);
	destroy_all();
}

/* With a page at hand, one call splits and copies, and just the part asked for. */
TEST(split_at_once)
{
	struct vm *vm = simple_vm(2 << 20);
	struct vireo_supply s = { .page = page_alloc(9, true), .order = 9, .mark = VT_RAM };
	unsigned int level;
	bool writable;

	ASSERT_EQ(vireo_tree_fault(&vm->tree, 0, true, &s), 0);
	ASSERT_EQ(vireo_tree_init(&vms[1].tree, LEAF_BITS, flush, &vm->tree), 0);
	vms[1].alive = true;
	s = (struct vireo_supply) { .page = page_alloc(0, false) };
	EXPECT_EQ(vireo_tree_fault(&vm->tree, 77 * PAGE, true, &s), 0);
	EXPECT_EQ(s.page, 0);
	vireo_tree_lookup(&vm->tree, 77 * PAGE, &writable, &level);
	EXPECT_TRUE(writable);
	EXPECT_EQ(level, 1);
	vireo_tree_lookup(&vm->tree, 0, &writable, &level);
	EXPECT_TRUE(!writable);
	vireo_tree_lookup(&vms[1].tree, 77 * PAGE, &writable, &level);
	EXPECT_TRUE(!writable);
	EXPECT_EQ(level, 2);
	destroy_all();
}

/* The guest writes to the pages from @first to before @end. */
static void write_pages(struct vm *vm, unsigned int first, unsigned int end)
{
	unsigned int page;

	for (page = first; page < end; page++)
		while (vm_access(vm, page, true, 0))
			;
}

TEST(fork_costs_one_table)
{
	/* The last 16 pages can only be small ones. */
	struct vm *vm = simple_vm((6 << 20) + 16 * PAGE);
	unsigned int page, before, singles;

	write_pages(vm, 0, 1552);
	before = table_allocs;
	singles = free_single_count;
	ASSERT_EQ(vm_fork(vm, &vms[1]), 0);
	EXPECT_EQ(table_allocs - before, 1);
	check_all();

	/* Reads cost nothing, a write the path and the page. */
	for (page = 0; page < 1552; page++)
		EXPECT_EQ(vm_access(&vms[1], page, false, 0), 0);
	EXPECT_EQ(table_allocs - before, 1);
	write_pages(&vms[1], 7, 8);
	EXPECT_LE(table_allocs - before, 4);
	EXPECT_EQ(singles - free_single_count, 1);
	write_pages(&vms[1], 1540, 1541);
	EXPECT_LE(table_allocs - before, 5);
	EXPECT_EQ(singles - free_single_count, 2);
	check_all();

	/* The last owner gets its pages back without a copy. */
	vm_destroy(&vms[1]);
	singles = free_single_count;
	before = table_allocs;
	met.copies = 0;
	write_pages(vm, 0, 1552);
	EXPECT_EQ(table_allocs, before);
	EXPECT_EQ(free_single_count, singles);
	EXPECT_EQ(met.copies, 0);
	destroy_all();
}

/* What the file holds comes from the page cache, and is copied when written. */
TEST(file)
{
	struct vm *vm = simple_vm(2 << 20), *child = &vms[1];
	struct vireo_supply s = {};
	struct vireo_stat u = {};
	bool writable, same;
	unsigned int level;

	ASSERT_EQ(vm_add_mark(vm, 2 << 20, 8 << 20, VT_RAM | VT_FILE), 0);
	EXPECT_EQ(vireo_tree_seek(&vm->tree, 0, 8 << 20, VT_DATA, true), 2 << 20);
	EXPECT_EQ(vireo_tree_seek(&vm->tree, 2 << 20, 8 << 20, VT_DATA, false), 8 << 20);
	EXPECT_EQ(vm_access(vm, 600, false, 0), 0);
	EXPECT_EQ(vm_access(vm, 601, true, 0), 0);
	EXPECT_TRUE(file_pa[600] && !file_pa[601]);
	vireo_tree_lookup(&vm->tree, 600 * PAGE, &writable, &level);
	EXPECT_TRUE(!writable);
	EXPECT_EQ(level, 1);

	/* The file's own page is no place for a copy. */
	s = (struct vireo_supply) { .page = file_page(600, false), .readonly = true,
				    .mark = VT_RAM | VT_FILE };
	EXPECT_EQ(vireo_tree_fault(&vm->tree, 600 * PAGE, true, &s), -EAGAIN);
	EXPECT_TRUE(!s.mark && s.page == file_pa[600]);
	page_put(s.page);
	EXPECT_EQ(vireo_tree_usage(&vm->tree, 600 * PAGE, &u), 601 * PAGE);
	EXPECT_EQ(vireo_tree_usage(&vm->tree, 601 * PAGE, &u), 602 * PAGE);
	EXPECT_EQ(u.file_bytes, PAGE);
	EXPECT_EQ(u.private_bytes, PAGE);

	ASSERT_EQ(vm_fork(vm, child), 0);
	EXPECT_EQ(vm_access(child, 600, true, 0), 0);
	EXPECT_EQ(vm_access(child, 700, false, 0), 0);
	vireo_tree_compare(&vm->tree, &child->tree, 700 * PAGE, &same);
	EXPECT_TRUE(same);
	vireo_tree_compare(&vm->tree, &child->tree, 600 * PAGE, &same);
	EXPECT_TRUE(!same);
	EXPECT_EQ(vm_access(vm, 700, true, 0), 0);
	EXPECT_EQ(vm_access(vm, 600, false, 0), 0);
	check_all();
	vm_destroy(vm);
	EXPECT_EQ(vm_access(child, 601, true, 0), 0);
	check_all();
	destroy_all();
}

/* A comparison skips what two trees share, whatever its size. */
TEST(compare_skips)
{
	struct vm *vm = simple_vm(64ULL << 39), *child = &vms[1];
	unsigned int steps = 0, found = 0;
	u64 gpa, next;
	bool same;

	write_pages(vm, 0, 2048);
	ASSERT_EQ(vm_fork(vm, child), 0);
	for (gpa = 0; gpa < VT_LIMIT; gpa = next, steps++) {
		next = vireo_tree_compare(&vm->tree, &child->tree, gpa, &same);
		EXPECT_TRUE(same);
	}
	EXPECT_EQ(steps, VT_ENTRIES);
	EXPECT_EQ(vm_access(vm, 777, true, 0), 0);
	EXPECT_EQ(vm_access(child, 1000, true, 0), 0);
	EXPECT_EQ(vm_access(child, 2050, false, 0), 0);	/* a zero page the other has not */
	for (gpa = 0, steps = 0; gpa < VT_LIMIT; gpa = next, steps++) {
		next = vireo_tree_compare(&vm->tree, &child->tree, gpa, &same);
		if (same)
			continue;
		EXPECT_TRUE(gpa == 777 * PAGE || gpa == 1000 * PAGE ||
			    (gpa >= page_gpa(2048) && next <= page_gpa(2048 + 1024)));
		found++;
	}
	EXPECT_EQ(found, 3);
	EXPECT_LE(steps, 6 * VT_ENTRIES);
	destroy_all();
}

/* A failed add may leave empty tables; a later one must live with them. */
TEST(add_after_failure)
{
	struct vm *vm = &vms[0];
	int fail;

	for (fail = 0; fail < 4; fail++) {
		sim_reset();
		ASSERT_EQ(vm_create(vm), 0);
		tables_until_failure = fail;
		EXPECT_EQ(vm_add(vm, PAGE, 2 * PAGE), fail < 3 ? -ENOMEM : 0);
		tables_until_failure = -1;
		check_all();
		EXPECT_EQ(vm_add(vm, 0, 2ULL << 39), fail < 3 ? 0 : -EEXIST);
		check_all();
		vm_access(vm, 1, true, 0);
		vm_access(vm, 2048, true, 0);
		check_all();
		destroy_all();
	}
}

/* The same in a table that is shared: the other VM does not see it. */
TEST(add_after_fork)
{
	struct vm *vm = simple_vm(2 << 20), *child = &vms[1];

	write_pages(vm, 0, 3);
	ASSERT_EQ(vm_fork(vm, child), 0);
	EXPECT_EQ(vm_access(vm, 0, false, 0), 0);
	EXPECT_EQ(vm_add(vm, 2 << 20, 4 << 20), 0);
	EXPECT_EQ(vm_access(child, 600, false, 0), -ENXIO);
	vm_destroy(child);
	EXPECT_EQ(vm_access(vm, 1, false, 0), 0);
	write_pages(vm, 0, 1024);
	check_all();
	destroy_all();
}

/* A chain of forks, each writing, all different to the end. */
TEST(generations)
{
	unsigned int i, g, page;
	struct vm *vm = simple_vm(6 << 20);

	for (g = 0; g < 200; g++) {
		struct vm *child = &vms[(g + 1) % TREES];

		for (i = 0; i < 40; i++) {
			page = rnd(1536);
			vm_access(vm, page, true, 0);
		}
		if (child->alive)
			vm_destroy(child);
		ASSERT_EQ(vm_fork(vm, child), 0);
		for (i = 0; i < 40; i++)
			vm_access(rnd(2) ? vm : child, rnd(1536), rnd(2), 0);
		check_all();
		vm = child;
	}
	destroy_all();
}

/* One operation of the long test. */
static void random_step(unsigned int writes)
{
	struct vm *vm = &vms[rnd(TREES)];
	unsigned int what = rnd(8000);

	if (!rnd(16))
		tables_until_failure = rnd(3);
	if (!vm->alive) {
		struct vm *parent = &vms[rnd(TREES)];

		if (parent->alive && rnd(8))
			vm_fork(parent, vm);
		else if (!rnd(4))
			vm_create(vm);
	} else if (what < 4) {
		vm_destroy(vm);
	} else if (what < 100) {
		vm_add_random(vm);
	} else if (what < 1000) {
		vm_seek(vm, random_page(), rnd(2));
	} else if (what < 1100) {
		struct vm *other = &vms[rnd(TREES)];

		if (other->alive && other != vm)
			vm_compare(vm, other, random_page());
	} else {
		vm_access(vm, random_page(), what < writes, 3);
	}
	tables_until_failure = -1;
}

TEST_LIMIT(random_operations, 600)
{
	unsigned int i;

	sim_reset();
	for (i = 0; i < 1000000; i++) {
		random_step(i & 1 << 16 ? 3000 : 7000);
		if (i % 5000 == 0)
			check_all();
	}
	check_all();
	destroy_all();
	test_note("%u accesses, %u forks, %u copies, %u large pages, %u split, %u failures",
		  met.accesses, met.forks, met.copies, met.large, met.splits, met.failures);
	test_note("%u pages of the file, %u differences", met.files, met.differences);
	EXPECT_GT(met.forks, 1000);
	EXPECT_GT(met.copies, 10000);
	EXPECT_GT(met.splits, 100);
	EXPECT_GT(met.failures, 100);
	EXPECT_GT(met.files, 1000);
	EXPECT_GT(met.differences, 10000);
}

/* Short lives, so that the first steps are met in all combinations. */
TEST_LIMIT(random_short, 600)
{
	unsigned int i, j;

	sim_reset();
	for (i = 0; i < 300; i++) {
		seed = i * 7919;
		vm_create(&vms[0]);
		for (j = 0; j < 200; j++)
			random_step(6000);
		check_all();
		destroy_all();
	}
}

/* A fixed story; @fail is the number of the table that cannot be had. */
static bool story(int fail)
{
	static const struct {
		u8 vm;
		char what;
		unsigned int page;
	} steps[] = {
		{ 0, 'w', 3 }, { 0, 'w', 600 }, { 0, 'w', 2048 }, { 0, 'f', 1 }, { 1, 'w', 4 },
		{ 0, 'w', 4 }, { 1, 'f', 2 }, { 2, 'a', 0 }, { 2, 'w', 2049 }, { 2, 'w', 5000 },
		{ 1, 'f', 3 }, { 3, 'w', 601 }, { 0, 'w', 602 }, { 1, 'w', 3 }, { 2, 'r', 1500 },
	};
	unsigned int i, failed = 0;

	sim_reset();
	ASSERT_EQ(vm_create(&vms[0]), 0);
	ASSERT_EQ(vm_add(&vms[0], 0, (1ULL << 30) + (2 << 20)), 0);
	tables_until_failure = fail;
	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		struct vm *vm = &vms[steps[i].vm];
		int err;

		do {
			bool failing = tables_until_failure >= 0;

			seed = i;	/* pages of the same sizes whatever fails */
			if (steps[i].what == 'f')
				err = vm_fork(vm, &vms[steps[i].page]);
			else if (steps[i].what == 'a')
				err = vm_add(vm, (2ULL << 39) - PAGE, (2ULL << 39) + PAGE);
			else
				err = vm_access(vm, steps[i].page, steps[i].what == 'w', 0);
			failed += failing && tables_until_failure < 0;
			check_all();
		} while (err == -ENOMEM);
		ASSERT_THAT(err == 0 || err == -ENXIO, "step %u: %d", i, err);
	}
	tables_until_failure = -1;
	destroy_all();
	return failed;
}

TEST_LIMIT(every_allocation_fails_once, 300)
{
	int fail = 0;

	while (story(fail))
		fail++;
	test_note("%d tables", fail);
	EXPECT_GT(fail, 20);
}

TEST_MAIN()
