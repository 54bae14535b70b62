// SPDX-License-Identifier: GPL-2.0
/*
 * Guest memory: faults, copies, and the memory fd.
 */
#include <linux/cpu.h>
#include <linux/magic.h>
#include <linux/pagemap.h>
#include <linux/shmem_fs.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>

#include "vireo.h"

#define HEADROOM_PAGES	32
/* A 2 MiB page is welcome, not needed. */
#define MEM_GFP_HUGE	(GFP_KERNEL_ACCOUNT | __GFP_NORETRY | __GFP_NOWARN | __GFP_COMP)
#define WALK_STEPS	1024	/* for so long others wait */

/* ---- Faults --------------------------------------------------------------------------- */

static void mem_flush(struct vireo_tree *t)
{
	vireo_vm_flush(container_of(t, struct vireo_vm, mem.tree));
}

/**
 * vireo_mem_headroom() - whether there is room for more than the next page
 * @mem: whose next page it is
 *
 * When the cgroup's limit is near, guest memory ends first: what is left is for
 * the process to say so, instead of meeting the OOM killer at its next page.
 * Context: May sleep.
 * Return: Whether there is.
 */
bool vireo_mem_headroom(struct vireo_mem *mem)
{
	void *room;

	if (mem->small++ % HEADROOM_PAGES)	/* racy, and need not be exact */
		return true;
	room = __vmalloc(2 * HEADROOM_PAGES * PAGE_SIZE, MEM_GFP);
	vfree(room);
	if (!room)
		mem->small = 0;
	return room;
}

static int supply_alloc(struct vireo_mem *mem, struct vireo_supply *s)
{
	gfp_t zero = s->mark == VT_RAM ? __GFP_ZERO : 0;
	struct page *page = NULL;

	/* iTLB multihit: a guest could stop the host where the processor knows large pages. */
	if (s->want && (!boot_cpu_has_bug(X86_BUG_ITLB_MULTIHIT) || cpu_mitigations_off()))
		page = alloc_pages(MEM_GFP_HUGE | zero, s->want);
	s->order = page ? s->want : 0;
	if (!page && vireo_mem_headroom(mem))
		page = alloc_page(MEM_GFP | zero);
	if (!page)
		return -ENOMEM;
	s->page = page_to_phys(page);
	return 0;
}

/* Finds the page that a fault asked for: of the file, for writing a copy. */
static int supply_fill(struct vireo_mem *mem, u64 gpa, bool write, struct vireo_supply *s)
{
	pgoff_t at = gpa >> PAGE_SHIFT;
	struct address_space *mapping;
	struct page *page;
	int err;

	s->readonly = (s->mark & VT_FILE) && !write;
	if (!(s->mark & VT_FILE))
		return supply_alloc(mem, s);
	mapping = mem->file->f_mapping;
	/* shmem has no read_folio; see vireo_mem_set_file() */
	page = mapping->a_ops->read_folio ? read_mapping_page(mapping, at, mem->file) :
					    shmem_read_mapping_page(mapping, at);
	err = PTR_ERR_OR_ZERO(page);
	if (err)	/* what else the file system says means something else here */
		return err == -ENOMEM || err == -EINTR ? err : -EIO;
	if (!write) {
		s->page = page_to_phys(page);
		s->order = 0;
		return 0;
	}
	err = supply_alloc(mem, s);
	if (!err)
		copy_page(__va(s->page), page_address(page));
	put_page(page);
	return err;
}

/**
 * vireo_mem_fault() - make an address accessible to the guest
 * @mem: the VM's memory
 * @gpa: the address
 * @write: for writing
 * Context: May sleep.
 * Return: 0, -ENXIO (no RAM), -ENOMEM; -EIO, -EINTR: of reading the file.
 */
int vireo_mem_fault(struct vireo_mem *mem, u64 gpa, bool write)
{
	struct vireo_supply s = {};
	int err;

	if (gpa >= VIREO_MAX_GPA)
		return -ENXIO;
	do {
		mutex_lock(&mem->lock);
		err = vireo_tree_fault(&mem->tree, gpa, write, &s);
		mutex_unlock(&mem->lock);
		if (s.page)
			put_page(pfn_to_page(PHYS_PFN(s.page)));
		s.page = 0;
	} while (err == -EAGAIN && !(err = supply_fill(mem, gpa, write, &s)));
	return err;
}

/*
 * Where a byte of RAM is, and how many follow it there; locks unless it fails.  To
 * read what need not be @there yet, returns NULL where nothing is, RAM or not.
 */
static void *mem_lock_at(struct vireo_mem *mem, u64 gpa, bool write, bool there, u64 *room)
{
	unsigned int level;
	bool writable;
	int err;
	u64 e;

	if (gpa >= VIREO_MAX_GPA)
		return ERR_PTR(-ENXIO);
	do {
		if (mutex_lock_killable(&mem->lock))
			return ERR_PTR(-EINTR);
		e = vireo_tree_lookup(&mem->tree, gpa, &writable, &level);
		*room = VT_SIZE(level) - (gpa & (VT_SIZE(level) - 1));
		if ((e & VT_READ) && (writable || !write))
			return __va(e & VT_ADDR) + (gpa & (VT_SIZE(level) - 1));
		if (!(e & VT_DATA) && !write && !there)
			return NULL;
		mutex_unlock(&mem->lock);
		err = vireo_mem_fault(mem, gpa, write);
	} while (!err);
	return ERR_PTR(err);
}

/**
 * vireo_mem_rw() - read or write guest memory
 * @mem: the VM's memory
 * @gpa: where
 * @buf: the other side
 * @len: bytes
 * @write: to guest memory
 * Context: May sleep.
 * Return: 0, or as vireo_mem_fault().
 */
int vireo_mem_rw(struct vireo_mem *mem, u64 gpa, void *buf, u64 len, bool write)
{
	u64 n;

	for (; len; gpa += n, buf += n, len -= n) {
		void *p = mem_lock_at(mem, gpa, write, true, &n);

		if (IS_ERR(p))
			return PTR_ERR(p);
		n = min(n, len);
		memcpy(write ? p : buf, write ? buf : p, n);
		mutex_unlock(&mem->lock);
	}
	return 0;
}

/**
 * vireo_mem_pin() - hold on to guest memory for I/O
 * @mem: the VM's memory
 * @gpa: first byte
 * @len: bytes, not 0
 * @write: the I/O will write to it
 * @bv: where it is; put_page(@bv->bv_page) lets go.  A vCPU that asks in the outer part of
 *	its run loop may do that at once, and use it until it finds VREQ_FLUSH set.
 * @seen: NULL, or MEM_LEAVES of a queue, whose VM is not forked: so what may be written to
 *	stays where it is, and is found again without the tree and its lock.  One at a time.
 * Context: May sleep.
 * Return: Bytes of @bv: @len, or what is left of a 4 KiB or 2 MiB page; or as
 * vireo_mem_fault().
 */
int vireo_mem_pin(struct vireo_mem *mem, u64 gpa, u32 len, bool write, struct bio_vec *bv,
		  struct vireo_leaf *seen)
{
	struct vireo_leaf *l = seen ? &seen[gpa >> VT_SHIFT(2) & (MEM_LEAVES - 1)] : NULL;
	bool known = l && gpa - l->gpa < l->bytes;
	u64 room = known ? l->bytes - (gpa - l->gpa) : 0;
	void *p = known ? l->at + (gpa - l->gpa) : mem_lock_at(mem, gpa, write, true, &room);

	if (IS_ERR(p))
		return PTR_ERR(p);
	bv->bv_page = virt_to_page(p);
	bv->bv_offset = offset_in_page(p);
	bv->bv_len = min_t(u64, len, room);
	get_page(bv->bv_page);
	if (known)
		return bv->bv_len;
	if (l && write)
		*l = (struct vireo_leaf) { gpa, room, p };
	mutex_unlock(&mem->lock);
	return bv->bv_len;
}

/**
 * vireo_mem_fill() - put a page where none is yet
 * @mem: the VM's memory
 * @gpa: where, a multiple of 4096
 * @page: with its content; @mem's if this succeeds
 * @max: bytes that may have been put in so afterwards
 * Context: May sleep.
 * Return: 0, -EEXIST, -ENOSPC, -ENXIO (no RAM) or -ENOMEM.
 */
int vireo_mem_fill(struct vireo_mem *mem, u64 gpa, struct page *page, u64 max)
{
	struct vireo_supply s = { .page = page_to_phys(page), .mark = VT_RAM };
	unsigned int level;
	int err = -EEXIST;

	mutex_lock(&mem->lock);
	if (!(vireo_tree_lookup(&mem->tree, gpa, NULL, &level) & VT_DATA))
		err = mem->filled + PAGE_SIZE > max ? -ENOSPC :
		      vireo_tree_fault(&mem->tree, gpa, true, &s);
	mem->filled += err ? 0 : PAGE_SIZE;
	mutex_unlock(&mem->lock);
	return err;
}

/**
 * vireo_mem_add() - VIREO_ADD_MEMORY
 * @vm: the VM
 * @cmd: that
 * @arg: struct vireo_memory
 * Context: May sleep.
 * Return: 0, -EINVAL, -EEXIST or -ENOMEM.
 */
long vireo_mem_add(void *vm, unsigned int cmd, void *arg)
{
	struct vireo_mem *mem = &((struct vireo_vm *)vm)->mem;
	struct vireo_memory *m = arg;
	bool file = m->flags & VIREO_MEMORY_FILE;
	u64 end = m->gpa + m->bytes;
	int err = -EINVAL;

	if (!PAGE_ALIGNED(m->gpa | m->bytes) || m->gpa >= end || end > VIREO_MAX_GPA)
		return -EINVAL;
	mutex_lock(&mem->lock);
	/* A file that nobody may write keeps its size. */
	if (!file || (mem->file && end <= i_size_read(file_inode(mem->file))))
		err = vireo_tree_add(&mem->tree, m->gpa, m->bytes,
				     file ? VT_RAM | VT_FILE : VT_RAM);
	if (!err)
		mem->end = max(mem->end, end);
	mutex_unlock(&mem->lock);
	return err;
}

/**
 * vireo_mem_stat() - fill in the memory part of the counters
 * @mem: the VM's memory
 * @stat: where to
 * Context: May sleep.
 */
void vireo_mem_stat(struct vireo_mem *mem, struct vireo_stat *stat)
{
	u64 gpa = 0, end = READ_ONCE(mem->end);

	while (gpa < end && !fatal_signal_pending(current)) {
		unsigned int steps = WALK_STEPS;

		mutex_lock(&mem->lock);
		while (gpa < end && steps--)
			gpa = vireo_tree_usage(&mem->tree, gpa, stat);
		mutex_unlock(&mem->lock);
		cond_resched();
	}
	stat->table_bytes = READ_ONCE(mem->tree.tables) * PAGE_SIZE;
}

/**
 * vireo_mem_set_file() - VIREO_SET_FILE: what memory added from now on may begin as
 * @vm: the VM
 * @cmd: that
 * @arg: struct vireo_set_file
 * Context: May sleep.
 * Return: 0, -EBADF, -EACCES, -EINVAL, -ETXTBSY or -EBUSY (there is a file).
 */
long vireo_mem_set_file(void *vm, unsigned int cmd, void *arg)
{
	struct vireo_mem *mem = &((struct vireo_vm *)vm)->mem;
	struct vireo_set_file *s = arg;
	struct file *file = fget(s->fd);
	int err = -EINVAL;

	if (!file)
		return -EBADF;
	/* Of shmem nothing but the number is exported. */
	if (!s->reserved && (file->f_mode & FMODE_READ) && S_ISREG(file_inode(file)->i_mode) &&
	    !IS_DAX(file_inode(file)) &&
	    (file->f_mapping->a_ops->read_folio ||
	     file_inode(file)->i_sb->s_magic == TMPFS_MAGIC))
		err = file_permission(file, MAY_WRITE);	/* nobody else can, from now on */
	if (!err || err == -EROFS)
		err = deny_write_access(file);
	if (!err && cmpxchg(&mem->file, NULL, file)) {
		allow_write_access(file);
		err = -EBUSY;
	}
	if (err)
		fput(file);
	return err;
}

/**
 * vireo_mem_init() - a new VM's memory: none yet, or another's
 * @mem: the new VM's
 * @parent: the other's, nothing of which is pinned; or NULL
 *
 * The parent's lock keeps faults and copies out until every vCPU has forgotten that it
 * may write: what is written before that both see, and nothing is after it.
 * Context: May sleep.
 * Return: 0 or -ENOMEM.
 */
int vireo_mem_init(struct vireo_mem *mem, struct vireo_mem *parent)
{
	int err;

	mutex_init(&mem->lock);
	if (!parent)
		return vireo_tree_init(&mem->tree, vireo_ops->leaf, mem_flush, NULL);
	mutex_lock(&parent->lock);
	err = vireo_tree_init(&mem->tree, vireo_ops->leaf, mem_flush, &parent->tree);
	if (!err) {
		mem_flush(&parent->tree);
		mem->end = parent->end;
		mem->filled = parent->filled;
		mem->file = parent->file ? get_file(parent->file) : NULL;
		if (mem->file)	/* cannot fail: @parent has done it */
			deny_write_access(mem->file);
		mem->small = 1;	/* its first pages are few: see vireo_mem_headroom() */
	}
	mutex_unlock(&parent->lock);
	return err;
}

/**
 * vireo_mem_destroy() - give all memory back
 * @mem: a VM's that nobody can reach any more
 * Context: May sleep.
 */
void vireo_mem_destroy(struct vireo_mem *mem)
{
	vireo_tree_destroy(&mem->tree);
	if (mem->file) {
		allow_write_access(mem->file);
		fput(mem->file);
	}
}

/* ---- The memory fd ---------------------------------------------------------------------- */

/**
 * vireo_mem_copy() - copy to or from guest memory
 * @mem: the VM's memory
 * @gpa: where
 * @iter: the other side; it says the direction, and is advanced
 *
 * The lock keeps a fork out of what one leaf holds.  What is not RAM reads as zero.
 * Context: May sleep.
 * Return: Bytes, fewer at an error or a signal that kills; if none -EFAULT, -EINTR or as
 * vireo_mem_fault().
 */
ssize_t vireo_mem_copy(struct vireo_mem *mem, u64 gpa, struct iov_iter *iter)
{
	bool write = iov_iter_rw(iter) == WRITE;
	ssize_t done = 0;
	size_t n;

	for (; iov_iter_count(iter) && !fatal_signal_pending(current); done += n) {
		u64 room;
		void *p = mem_lock_at(mem, gpa + done, write, false, &room);

		if (IS_ERR(p))
			return done ?: PTR_ERR(p);
		n = min3((u64)iov_iter_count(iter), room, VT_SIZE(2));
		if (write)
			n = copy_from_iter(p, n, iter);
		else
			n = p ? copy_to_iter(p, n, iter) : iov_iter_zero(n, iter);
		mutex_unlock(&mem->lock);
		if (!n)
			return done ?: -EFAULT;
		cond_resched();
	}
	return done || !iov_iter_count(iter) ? done : -EINTR;
}

static ssize_t mem_rw_iter(struct kiocb *iocb, struct iov_iter *iter)
{
	struct vireo_vm *vm = iocb->ki_filp->private_data;
	u64 end = READ_ONCE(vm->mem.end);
	ssize_t n;

	if (iov_iter_rw(iter) == READ)
		iov_iter_truncate(iter, end > iocb->ki_pos ? end - iocb->ki_pos : 0);
	n = vireo_mem_copy(&vm->mem, iocb->ki_pos, iter);
	iocb->ki_pos += max_t(ssize_t, n, 0);
	return n;
}

/**
 * vireo_mem_seek() - the next memory in being, or the next that is not
 * @mem: the VM's memory
 * @gpa: where to begin
 * @end: where to end
 * @data: in being
 * Context: May sleep.
 * Return: Where it is, or @end.
 */
u64 vireo_mem_seek(struct vireo_mem *mem, u64 gpa, u64 end, bool data)
{
	mutex_lock(&mem->lock);
	gpa = vireo_tree_seek(&mem->tree, gpa, end, VT_DATA, data);
	mutex_unlock(&mem->lock);
	return gpa;
}

static loff_t mem_llseek(struct file *file, loff_t off, int whence)
{
	struct vireo_vm *vm = file->private_data;
	loff_t end = READ_ONCE(vm->mem.end);

	if ((whence == SEEK_DATA || whence == SEEK_HOLE) && off >= 0 && off < end) {
		off = vireo_mem_seek(&vm->mem, off, end, whence == SEEK_DATA);
		if (whence == SEEK_HOLE)
			whence = SEEK_SET;	/* found, be it at the end */
	}
	return generic_file_llseek_size(file, off, whence, VIREO_MAX_GPA, end);
}

DEFINE_VIREO_FILE(mem, vireo_vm_put, .llseek = mem_llseek, .read_iter = mem_rw_iter,
		  .write_iter = mem_rw_iter);

/** vireo_mem_of() - Return: The memory that a file is, or NULL.  Context: Any. */
struct vireo_mem *vireo_mem_of(const struct file *file)
{
	struct vireo_vm *vm = file->private_data;

	return file->f_op == &mem_fops ? &vm->mem : NULL;
}

/**
 * vireo_mem_diff() - VIREO_DIFF
 * @vm: one VM
 * @cmd: that
 * @arg: struct vireo_diff
 * Context: May sleep.
 * Return: 0, -EBADF or -EINVAL.
 */
long vireo_mem_diff(void *vm, unsigned int cmd, void *arg)
{
	struct vireo_mem *mem = &((struct vireo_vm *)vm)->mem, *other, *first;
	struct vireo_diff *d = arg;
	struct file *file = fget(d->fd);
	unsigned int steps = WALK_STEPS;
	int err = -EINVAL;
	u64 next, last;
	bool same;

	if (!file)
		return -EBADF;
	other = vireo_mem_of(file);
	if (!other || other == mem || d->reserved || !PAGE_ALIGNED(d->start) ||
	    d->start > VIREO_MAX_GPA)
		goto out;
	first = mem < other ? mem : other;	/* an order that all agree on */
	mutex_lock(&first->lock);
	mutex_lock_nested(first == mem ? &other->lock : &mem->lock, SINGLE_DEPTH_NESTING);
	if (READ_ONCE(mem->file) == READ_ONCE(other->file))
		err = 0;
	last = err ? 0 : max(mem->end, other->end);
	for (d->end = d->start; d->end < last && steps--; d->end = next) {
		next = vireo_tree_compare(&mem->tree, &other->tree, d->end, &same);
		if (same && d->end > d->start)
			break;
		if (same)
			d->start = next;
	}
	mutex_unlock(&mem->lock);
	mutex_unlock(&other->lock);
out:
	fput(file);
	return err;
}

/**
 * vireo_mem_open() - VIREO_GET_MEMORY
 * @vm: the VM
 * @cmd: that
 * @arg: struct vireo_get_memory
 * Context: May sleep.
 * Return: The memory fd, or -EMFILE, -ENOMEM...
 */
long vireo_mem_open(void *vm, unsigned int cmd, void *arg)
{
	struct file *file;
	int fd = get_unused_fd_flags(O_CLOEXEC);

	if (fd < 0)
		return fd;
	file = anon_inode_getfile("vireo-memory", &mem_fops, vm, O_RDWR);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		return PTR_ERR(file);
	}
	kref_get(&((struct vireo_vm *)vm)->ref);
	file->f_mode |= FMODE_LSEEK | FMODE_PREAD | FMODE_PWRITE;
	fd_install(fd, file);
	return fd;
}
