// SPDX-License-Identifier: GPL-2.0
/*
 * The persistent tree from several threads: related VMs fault, fork and end at
 * the same time, each under its own lock only, as the rules in tree.c promise
 * is enough. Built by hand with -fsanitize=thread it also proves the ordering.
 */
#include <pthread.h>
#include <string.h>

#include "harness.h"

#include "tree.h"

#define VMS		8
#define THREADS		4
#define PAGES		2048U		/* 8 MiB of RAM */
#define PAGE		4096ULL
#define STEPS		500000

/* ---- Tables and pages -------------------------------------------------------------------- */

#define SINGLES		(VMS * PAGES * 2)
#define BLOCKS		64U
#define FRAMES		(SINGLES + BLOCKS * VT_ENTRIES)
#define FRAME_BASE	0x100000000ULL

struct table {
	u64 entries[VT_ENTRIES];
	struct page page;
};

static struct frame {
	struct page page;	/* first: a page's frame is found by it */
	u64 content;
	unsigned int refs;	/* the first frame's, in a block */
} frames[FRAMES];

static unsigned int free_frames[SINGLES + BLOCKS];	/* singles, then blocks */
static unsigned int single_count, block_count;
static pthread_mutex_t frames_lock = PTHREAD_MUTEX_INITIALIZER;
static int live_tables;

static struct frame *frame(u64 pa)
{
	return &frames[(pa - FRAME_BASE) / PAGE];
}

static struct frame *head(struct page *page)
{
	unsigned int i = (struct frame *)page - frames;

	return &frames[i < SINGLES ? i : i - (i - SINGLES) % VT_ENTRIES];
}

static u64 page_alloc(bool large)
{
	unsigned int at = 0, i, count = large ? VT_ENTRIES : 1;

	pthread_mutex_lock(&frames_lock);
	if (large && block_count)
		at = free_frames[SINGLES + --block_count];
	else if (!large && single_count)
		at = free_frames[--single_count];
	else
		count = 0;
	pthread_mutex_unlock(&frames_lock);
	for (i = 0; i < count; i++)
		frames[at + i].content = 0;
	if (count)
		__atomic_store_n(&frames[at].refs, 1, __ATOMIC_RELAXED);
	return count ? FRAME_BASE + at * PAGE : 0;
}

struct page *table_page_alloc(void)
{
	struct table *t = aligned_alloc(PAGE, 2 * PAGE);

	ASSERT_TRUE(t);
	memset(t, 0, sizeof(*t));
	__atomic_add_fetch(&live_tables, 1, __ATOMIC_RELAXED);
	return &t->page;
}

void *page_address(struct page *page)
{
	return (char *)page - offsetof(struct table, page);
}

void __free_page(struct page *page)
{
	free(page_address(page));
	__atomic_sub_fetch(&live_tables, 1, __ATOMIC_RELAXED);
}

struct page *pfn_to_page(u64 pfn)
{
	u64 pa = pfn << PAGE_SHIFT;

	if (pa >= FRAME_BASE && pa < FRAME_BASE + FRAMES * PAGE)
		return &frame(pa)->page;
	return &((struct table *)__va(pa))->page;
}

void page_ref_add(struct page *page, unsigned int count)
{
	__atomic_add_fetch(&head(page)->refs, count, __ATOMIC_RELAXED);
}

void put_page(struct page *page)
{
	unsigned int at = head(page) - frames;

	if (__atomic_sub_fetch(&frames[at].refs, 1, __ATOMIC_ACQ_REL))
		return;
	pthread_mutex_lock(&frames_lock);
	if (at < SINGLES)
		free_frames[single_count++] = at;
	else
		free_frames[SINGLES + block_count++] = at;
	pthread_mutex_unlock(&frames_lock);
}

unsigned int page_count(struct page *page)
{
	return __atomic_load_n(&head(page)->refs, __ATOMIC_ACQUIRE);
}

void copy_page(void *to, const void *from)
{
	frame(__pa(to))->content = frame(__pa(from))->content;
}

static void flush(struct vireo_tree *t)
{
}

/* ---- VMs, and the threads that use them ------------------------------------------------------ */

static struct vm {
	pthread_mutex_t lock;
	struct vireo_tree tree;
	bool alive;
	u64 model[PAGES];
} vms[VMS];

static bool failed;

static u64 rnd(u64 *seed, u64 below)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (*seed >> 33) % below;
}

static void vm_access(struct vm *vm, unsigned int page, bool write, u64 *seed)
{
	struct vireo_supply s = {};
	unsigned int level;
	struct frame *f;
	int err;
	u64 e;

	while ((err = vireo_tree_fault(&vm->tree, page * PAGE, write, &s)) == -EAGAIN) {
		if (s.page)
			put_page(&frame(s.page)->page);
		s.order = 0;
		s.page = s.want && rnd(seed, 2) ? page_alloc(true) : 0;
		if (s.page)
			s.order = 9;
		else
			s.page = page_alloc(false);
		if (!s.page)
			return;
	}
	if (s.page)
		put_page(&frame(s.page)->page);

	e = vireo_tree_lookup(&vm->tree, page * PAGE, NULL, &level);
	f = frame((e & VT_ADDR) + (page * PAGE & (VT_SIZE(level) - 1)));
	if (err || f->content != vm->model[page])
		WRITE_ONCE(failed, true);
	if (write) {
		vm->model[page] = *seed | 1;
		f->content = *seed | 1;
	}
}

static void vm_create(struct vm *vm)
{
	ASSERT_EQ(vireo_tree_init(&vm->tree, 0, flush, NULL), 0);
	ASSERT_EQ(vireo_tree_add(&vm->tree, 0, PAGES * PAGE, VT_RAM), 0);
	memset(vm->model, 0, sizeof(vm->model));
	vm->alive = true;
}

static void vm_fork(struct vm *vm, struct vm *child)
{
	if (child == vm || pthread_mutex_trylock(&child->lock))
		return;
	if (!child->alive) {
		ASSERT_EQ(vireo_tree_init(&child->tree, 0, flush, &vm->tree), 0);
		memcpy(child->model, vm->model, sizeof(vm->model));
		child->alive = true;
	}
	pthread_mutex_unlock(&child->lock);
}

static void *work(void *arg)
{
	u64 seed = (uintptr_t)arg;
	unsigned int i;

	for (i = 0; i < STEPS && !READ_ONCE(failed); i++) {
		struct vm *vm = &vms[rnd(&seed, VMS)];
		unsigned int what = rnd(&seed, 400);

		pthread_mutex_lock(&vm->lock);
		if (!vm->alive && !what) {
			vm_create(vm);
		} else if (vm->alive && what < 8) {
			vm_fork(vm, &vms[rnd(&seed, VMS)]);
		} else if (vm->alive && what == 8) {
			vireo_tree_destroy(&vm->tree);
			vm->alive = false;
		} else if (vm->alive) {
			/* Few pages, for many meetings */
			vm_access(vm, rnd(&seed, 4) * 512 + rnd(&seed, 16), what & 1, &seed);
		}
		pthread_mutex_unlock(&vm->lock);
	}
	return NULL;
}

TEST_LIMIT(related_vms, 300)
{
	pthread_t threads[THREADS];
	unsigned int i;

	for (i = 0; i < SINGLES; i++)
		free_frames[single_count++] = i;
	for (i = 0; i < BLOCKS; i++)
		free_frames[SINGLES + block_count++] = SINGLES + i * VT_ENTRIES;
	for (i = 0; i < VMS; i++)
		pthread_mutex_init(&vms[i].lock, NULL);
	vm_create(&vms[0]);

	for (i = 0; i < THREADS; i++)
		ASSERT_EQ(pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)(i + 1)), 0);
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	EXPECT_TRUE(!failed);

	for (i = 0; i < VMS; i++)
		if (vms[i].alive)
			vireo_tree_destroy(&vms[i].tree);
	EXPECT_EQ(live_tables, 0);
	EXPECT_EQ(single_count, SINGLES);
	EXPECT_EQ(block_count, BLOCKS);
}

TEST_MAIN()
