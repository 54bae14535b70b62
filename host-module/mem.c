// SPDX-License-Identifier: GPL-2.0
/*
 * Guest memory: faults, copies, and the memory fd.
 */
#include <linux/bvec.h>
#include <linux/cpu.h>
#include <linux/file.h>
#include <linux/magic.h>
#include <linux/pagemap.h>
#include <linux/shmem_fs.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>

#include "vireo.h"

#define HEADROOM_PAGES	32
/* A 2 MiB page is welcome, not needed. */
#define MEM_GFP_HUGE	(GFP_KERNEL_ACCOUNT | __GFP_NORETRY | __GFP_NOWARN | __GFP_COMP)

/* ---- Faults --------------------------------------------------------------------------- */

static void mem_flush(struct vireo_tree *t)
{
	vireo_vm_flush(container_of(t, struct vireo_vm, mem.tree));
}

static void supply_free(struct vireo_supply *s)
{
	if (s->page)
		vireo_page_put(s->page);
	s->page = 0;
}

/*
 * When the cgroup's limit is near, guest memory ends first: what is left is for
 * the process to say so, instead of meeting the OOM killer at its next page.
 */
static bool supply_headroom(struct vireo_mem *mem)
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

/* Nothing but this tells it: what has the address space operations is not exported. */
static bool file_is_shmem(struct file *file)
{
	return file_inode(file)->i_sb->s_magic == TMPFS_MAGIC;
}

static struct page *file_page(struct file *file, u64 gpa)
{
	struct page *page;

	if (file_is_shmem(file))
		page = shmem_read_mapping_page(file->f_mapping, gpa >> PAGE_SHIFT);
	else
		page = read_mapping_page(file->f_mapping, gpa >> PAGE_SHIFT, file);
	/* What the file system says means something else here. */
	if (IS_ERR(page) && PTR_ERR(page) != -ENOMEM && PTR_ERR(page) != -EINTR)
		page = ERR_PTR(-EIO);
	return page;
}

static int supply_alloc(struct vireo_mem *mem, struct vireo_supply *s)
{
	gfp_t zero = s->zero ? __GFP_ZERO : 0;
	struct page *page = NULL;

	/* iTLB multihit: a guest could stop the host where the processor knows large pages. */
	if (s->want && (!boot_cpu_has_bug(X86_BUG_ITLB_MULTIHIT) || cpu_mitigations_off()))
		page = alloc_pages(MEM_GFP_HUGE | zero, s->want);
	s->order = page ? s->want : 0;
	if (!page && supply_headroom(mem))
		page = alloc_page(MEM_GFP | zero);
	if (!page)
		return -ENOMEM;
	s->page = page_to_phys(page);
	return 0;
}

/* Finds the page that a fault asked for: of the file, for writing a copy. */
static int supply_fill(struct vireo_mem *mem, u64 gpa, bool write, struct vireo_supply *s)
{
	struct page *page;
	int err = 0;

	supply_free(s);
	s->readonly = false;
	if (!s->file)
		return supply_alloc(mem, s);
	page = file_page(mem->file, gpa);
	if (IS_ERR(page))
		return PTR_ERR(page);
	if (!write) {
		s->page = page_to_phys(page);
		s->order = 0;
		s->readonly = true;
		return 0;
	}
	err = supply_alloc(mem, s);
	if (!err)
		vireo_page_copy(s->page, page_to_phys(page));
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
		vireo_tree_drop(&mem->tree, &s);
		mutex_unlock(&mem->lock);
		if (err != -EAGAIN)
			break;
		err = supply_fill(mem, gpa, write, &s);
	} while (!err);
	supply_free(&s);
	return err;
}

/*
 * Where a byte of RAM is, and how many follow it there; the lock is held.
 * Returns NULL where nothing is in being yet, or nothing that can be written, and
 * ERR_PTR() of -ENXIO where no RAM is, -EAGAIN where a read needs the file's page.
 */
static void *mem_locate(struct vireo_mem *mem, u64 gpa, bool write, u64 *room)
{
	unsigned int level;
	bool writable;
	u64 e;

	*room = 0;
	if (gpa >= VIREO_MAX_GPA)
		return ERR_PTR(-ENXIO);
	e = vireo_tree_lookup(&mem->tree, gpa, &writable, &level);
	*room = VT_SIZE(level) - (gpa & (VT_SIZE(level) - 1));
	if (!e)
		return ERR_PTR(-ENXIO);
	if ((e & VT_FILE) && !write)
		return ERR_PTR(-EAGAIN);
	if (!(e & VT_READ) || (write && !writable))
		return NULL;
	return __va(e & VT_ADDR) + (gpa & (VT_SIZE(level) - 1));
}

/**
 * vireo_mem_read() - copy guest memory
 * @mem: the VM's memory
 * @gpa: where from
 * @buf: where to
 * @len: bytes; what was never touched reads as zero and stays so
 * Context: May sleep.
 * Return: 0 or -ENXIO, -ENOMEM, -EIO, -EINTR.
 */
int vireo_mem_read(struct vireo_mem *mem, u64 gpa, void *buf, unsigned int len)
{
	int err = 0;

	while (len && !err) {
		unsigned int n;
		u64 room;
		void *p;

		mutex_lock(&mem->lock);
		p = mem_locate(mem, gpa, false, &room);
		n = min_t(u64, len, room);
		err = PTR_ERR_OR_ZERO(p);
		if (!err && p)
			memcpy(buf, p, n);
		else if (!err)
			memset(buf, 0, n);
		mutex_unlock(&mem->lock);
		if (err == -EAGAIN) {
			err = vireo_mem_fault(mem, gpa, false);
			continue;
		}
		gpa += n;
		buf += n;
		len -= n;
	}
	return err;
}

/* Where to write to a page, which stays there until the caller unlocks. */
static void *mem_lock_page(struct vireo_mem *mem, u64 gpa)
{
	for (;;) {
		int err = vireo_mem_fault(mem, gpa, true);
		void *p;
		u64 room;

		if (err)
			return ERR_PTR(err);
		mutex_lock(&mem->lock);
		p = mem_locate(mem, gpa, true, &room);
		if (!IS_ERR_OR_NULL(p))
			return p;
		mutex_unlock(&mem->lock);	/* forked meanwhile */
	}
}

/**
 * vireo_mem_write() - write guest memory
 * @mem: the VM's memory
 * @gpa: where to
 * @buf: where from
 * @len: bytes
 * Context: May sleep.
 * Return: 0, -EINVAL (not within one page), or as vireo_mem_fault().
 */
int vireo_mem_write(struct vireo_mem *mem, u64 gpa, const void *buf, unsigned int len)
{
	void *p;

	if (offset_in_page(gpa) + len > PAGE_SIZE)
		return -EINVAL;
	p = mem_lock_page(mem, gpa);
	if (IS_ERR(p))
		return PTR_ERR(p);
	memcpy(p, buf, len);
	mutex_unlock(&mem->lock);
	return 0;
}

/**
 * vireo_mem_kva() - where the module can write to a guest page
 * @mem: the VM's memory
 * @gpa: the address
 *
 * The pointer holds until the vCPU that asked finds VREQ_FLUSH set.
 * Context: May sleep; in the outer part of the vCPU's run loop.
 * Return: The pointer, or ERR_PTR() as vireo_mem_fault().
 */
void *vireo_mem_kva(struct vireo_mem *mem, u64 gpa)
{
	void *p = mem_lock_page(mem, gpa);

	if (!IS_ERR(p))
		mutex_unlock(&mem->lock);
	return p;
}

/**
 * vireo_mem_pin() - hold on to guest memory for I/O
 * @mem: the VM's memory
 * @gpa: first byte
 * @len: bytes, not 0
 * @write: the I/O will write to it
 * @bv: where it is; put_page(@bv->bv_page) lets go
 * Context: May sleep.
 * Return: Bytes of @bv: @len, or what is left of a 4 KiB or 2 MiB page; or as
 * vireo_mem_fault().
 */
int vireo_mem_pin(struct vireo_mem *mem, u64 gpa, u32 len, bool write, struct bio_vec *bv)
{
	for (;;) {
		void *p;
		u64 room;
		int err;

		mutex_lock(&mem->lock);
		p = mem_locate(mem, gpa, write, &room);
		if (!IS_ERR_OR_NULL(p)) {
			bv->bv_page = virt_to_page(p);
			bv->bv_offset = offset_in_page(p);
			bv->bv_len = min3((u64)len, room, VT_SIZE(2));
			get_page(bv->bv_page);
		}
		mutex_unlock(&mem->lock);
		if (p == ERR_PTR(-ENXIO))
			return -ENXIO;
		if (!IS_ERR_OR_NULL(p))
			return bv->bv_len;
		err = vireo_mem_fault(mem, gpa, write);
		if (err)
			return err;
	}
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
	struct vireo_supply s = { .page = page_to_phys(page), .zero = true };
	int err = -EEXIST;

	mutex_lock(&mem->lock);
	if (vireo_tree_seek(&mem->tree, gpa, gpa + 1, true) != gpa) {
		err = -ENOSPC;
		if (mem->filled + PAGE_SIZE <= max) {
			err = vireo_tree_fault(&mem->tree, gpa, true, &s);
			vireo_tree_drop(&mem->tree, &s);
		}
		mem->filled += err ? 0 : PAGE_SIZE;
	}
	mutex_unlock(&mem->lock);
	return err;
}

/**
 * vireo_mem_add() - make a range RAM
 * @mem: the VM's memory
 * @gpa: checked: aligned, within VIREO_MAX_GPA
 * @bytes: checked
 * @file: it begins as what the VM's file has there
 * Context: May sleep.
 * Return: 0, -EEXIST, -ENOMEM or -EINVAL (the file ends before).
 */
int vireo_mem_add(struct vireo_mem *mem, u64 gpa, u64 bytes, bool file)
{
	int err = -EINVAL;

	mutex_lock(&mem->lock);
	/* A file that nobody may write keeps its size. */
	if (!file || (mem->file && gpa + bytes <= i_size_read(file_inode(mem->file))))
		err = vireo_tree_add(&mem->tree, gpa, bytes, file ? VT_RAM | VT_FILE : VT_RAM);
	if (!err) {
		mem->end = max(mem->end, gpa + bytes);
		mem->bytes += bytes;
	}
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
	struct vireo_usage usage = {};
	u64 gpa = 0, end;

	do {
		mutex_lock(&mem->lock);
		gpa = vireo_tree_usage(&mem->tree, gpa, &usage);
		end = mem->end;
		stat->memory_bytes = mem->bytes;
		stat->table_bytes = mem->tree.tables * PAGE_SIZE;
		mutex_unlock(&mem->lock);
		cond_resched();
	} while (gpa < end && !fatal_signal_pending(current));
	stat->resident_bytes = usage.private + usage.shared + usage.file;
	stat->huge_bytes = usage.huge;
	stat->private_bytes = usage.private;
	stat->shared_bytes = usage.shared;
	stat->file_bytes = usage.file;
}

static void mem_put_file(struct vireo_mem *mem)
{
	if (!mem->file)
		return;
	allow_write_access(mem->file);
	fput(mem->file);
}

/**
 * vireo_mem_set_file() - what memory added from now on may begin as
 * @mem: the VM's memory
 * @fd: a regular file
 *
 * Nobody can write to it while this VM or a fork of it lives: it opens for
 * writing, as a program that runs does, with ETXTBSY.  So only who may write to
 * it may ask for that.
 * Context: May sleep.
 * Return: 0, -EBADF, -EACCES, -EINVAL, -ETXTBSY (somebody has it open for
 * writing) or -EBUSY (there is a file).
 */
int vireo_mem_set_file(struct vireo_mem *mem, int fd)
{
	struct file *file = fget(fd);
	int err = -EINVAL;

	if (!file)
		return -EBADF;
	if (!(file->f_mode & FMODE_READ) || !S_ISREG(file_inode(file)->i_mode) ||
	    IS_DAX(file_inode(file)) ||
	    !(file->f_mapping->a_ops->read_folio || file_is_shmem(file)))
		goto out;
	err = file_permission(file, MAY_WRITE);
	if (!err || err == -EROFS)
		err = deny_write_access(file);
	if (err)
		goto out;
	mutex_lock(&mem->lock);
	if (mem->file) {
		err = -EBUSY;
		allow_write_access(file);
	} else {
		mem->file = get_file(file);
	}
	mutex_unlock(&mem->lock);
out:
	fput(file);
	return err;
}

/* Locks two VMs' memory, in an order that all agree on. */
static void mem_lock_two(struct vireo_mem *a, struct vireo_mem *b)
{
	mutex_lock(a < b ? &a->lock : &b->lock);
	mutex_lock_nested(a < b ? &b->lock : &a->lock, SINGLE_DEPTH_NESTING);
}

#define COMPARE_STEPS	1024	/* for so long others wait */

/**
 * vireo_mem_diff() - find the next range in which two VMs may differ
 * @mem: one VM's memory
 * @other: the other's, not the same
 * @start: where to begin; then the beginning of the range
 * @end: set to its end; there is more to find from there on
 *
 * An empty range says that there is nothing before its address.
 * Context: May sleep.
 * Return: 0, or -EINVAL (the two do not have the same file).
 */
int vireo_mem_diff(struct vireo_mem *mem, struct vireo_mem *other, u64 *start, u64 *end)
{
	unsigned int steps = COMPARE_STEPS;
	u64 at = *start;
	bool same, found = false;

	mem_lock_two(mem, other);
	if (mem->file == other->file) {
		while (at < max(mem->end, other->end) && steps--) {
			u64 next = vireo_tree_compare(&mem->tree, &other->tree, at, &same);

			if (same && found)
				break;
			if (!same && !found)
				*start = at;
			found |= !same;
			at = next;
		}
	}
	*start = found ? *start : at;
	*end = at;
	mutex_unlock(&mem->lock);
	mutex_unlock(&other->lock);
	return mem->file == other->file ? 0 : -EINVAL;
}

/**
 * vireo_mem_init() - no memory yet
 * @mem: a new VM's
 * Context: May sleep.
 * Return: 0 or -ENOMEM.
 */
int vireo_mem_init(struct vireo_mem *mem)
{
	mutex_init(&mem->lock);
	return vireo_tree_init(&mem->tree, vireo_ops->leaf, mem_flush);
}

/**
 * vireo_mem_fork() - a new VM begins with another's memory
 * @mem: the other's; nothing of it is pinned
 * @child: the new VM's
 *
 * The lock keeps faults and copies out until every vCPU has forgotten that it
 * may write: what is written before that both see, and nothing is after it.
 * Context: May sleep.
 * Return: 0 or -ENOMEM.
 */
int vireo_mem_fork(struct vireo_mem *mem, struct vireo_mem *child)
{
	int err;

	mutex_init(&child->lock);
	mutex_lock(&mem->lock);
	err = vireo_tree_fork(&mem->tree, &child->tree);
	if (!err) {
		mem->tree.flush(&mem->tree);
		child->end = mem->end;
		child->bytes = mem->bytes;
		child->filled = mem->filled;
		child->file = mem->file ? get_file(mem->file) : NULL;
		if (child->file)	/* cannot fail: @mem has done it */
			deny_write_access(child->file);
		child->small = 1;	/* its first pages are few: see supply_headroom() */
	}
	mutex_unlock(&mem->lock);
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
	mem_put_file(mem);
	mutex_destroy(&mem->lock);
}

/* ---- The memory fd ---------------------------------------------------------------------- */

/**
 * vireo_mem_copy() - copy what one leaf holds
 * @mem: the VM's memory
 * @gpa: where
 * @iter: the other side; advanced
 * @write: to guest memory
 *
 * The lock keeps a fork out until it is done.
 * Context: May sleep.
 * Return: Bytes, of a write also 0 (try again); or -ENXIO, -ENOMEM, -EINTR, -EFAULT.
 */
ssize_t vireo_mem_copy(struct vireo_mem *mem, u64 gpa, struct iov_iter *iter, bool write)
{
	int err = write ? vireo_mem_fault(mem, gpa, true) : 0;
	size_t n, done = 0;
	u64 room;
	void *p;

	if (err)
		return err;
	if (mutex_lock_killable(&mem->lock))
		return -EINTR;
	p = mem_locate(mem, gpa, write, &room);
	if (p == ERR_PTR(-EAGAIN)) {
		mutex_unlock(&mem->lock);
		return vireo_mem_fault(mem, gpa, false);	/* and once more */
	}
	if (IS_ERR(p))
		p = NULL;
	n = min3((u64)iov_iter_count(iter), room, VT_SIZE(2));
	if (!write)		/* what is not there, or not RAM, reads as zero */
		done = p ? copy_to_iter(p, n, iter) : iov_iter_zero(n, iter);
	else if (p)		/* else forked meanwhile: the caller tries again */
		done = copy_from_iter(p, n, iter);
	mutex_unlock(&mem->lock);
	return done == n || (write && !p) ? done : done ?: -EFAULT;
}

static ssize_t mem_rw(struct kiocb *iocb, struct iov_iter *iter, bool write)
{
	struct vireo_vm *vm = iocb->ki_filp->private_data;
	u64 end = READ_ONCE(vm->mem.end);
	ssize_t done = 0;

	if (iocb->ki_pos < 0)
		return -EINVAL;
	if (!write) {
		if (iocb->ki_pos >= end)
			return 0;
		iov_iter_truncate(iter, end - iocb->ki_pos);
	}
	while (iov_iter_count(iter)) {
		ssize_t n;

		if (write && iocb->ki_pos >= VIREO_MAX_GPA)
			return done ?: -ENXIO;
		n = vireo_mem_copy(&vm->mem, iocb->ki_pos, iter, write);
		if (n < 0)
			return done ?: n;
		iocb->ki_pos += n;
		done += n;
		if (fatal_signal_pending(current))
			return done ?: -EINTR;
		cond_resched();
	}
	return done;
}

static ssize_t mem_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	return mem_rw(iocb, to, false);
}

static ssize_t mem_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	return mem_rw(iocb, from, true);
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
	gpa = vireo_tree_seek(&mem->tree, gpa, end, data);
	mutex_unlock(&mem->lock);
	return gpa;
}

static loff_t mem_llseek(struct file *file, loff_t off, int whence)
{
	struct vireo_vm *vm = file->private_data;
	struct vireo_mem *mem = &vm->mem;
	bool data = whence == SEEK_DATA;
	loff_t end = READ_ONCE(mem->end), pos = -ENXIO;

	if ((data || whence == SEEK_HOLE) && off >= 0 && off < end)
		pos = vireo_mem_seek(mem, off, end, data);
	if (!data && whence != SEEK_HOLE)
		return generic_file_llseek_size(file, off, whence, VIREO_MAX_GPA, end);
	if (pos < 0 || (data && pos >= end))
		return -ENXIO;
	return vfs_setpos(file, pos, VIREO_MAX_GPA);
}

static int mem_release(struct inode *inode, struct file *file)
{
	vireo_vm_put(file->private_data);
	return 0;
}

static const struct file_operations mem_fops = {
	.owner = THIS_MODULE,
	.release = mem_release,
	.llseek = mem_llseek,
	.read_iter = mem_read_iter,
	.write_iter = mem_write_iter,
};

/** vireo_mem_of() - Return: The memory that a file is, or NULL.  Context: Any. */
struct vireo_mem *vireo_mem_of(const struct file *file)
{
	struct vireo_vm *vm = file->private_data;

	return file->f_op == &mem_fops ? &vm->mem : NULL;
}

/**
 * vireo_mem_open() - a memory fd for a VM
 * @vm: the VM
 * Context: May sleep.
 * Return: The fd, or -EMFILE, -ENOMEM...
 */
int vireo_mem_open(struct vireo_vm *vm)
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
	vireo_vm_get(vm);
	file->f_mode |= FMODE_LSEEK | FMODE_PREAD | FMODE_PWRITE;
	fd_install(fd, file);
	return fd;
}
