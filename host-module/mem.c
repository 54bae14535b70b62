// SPDX-License-Identifier: GPL-2.0
/*
 * Guest memory: faults, copies, and the memory fd.
 */
#include <linux/bvec.h>
#include <linux/file.h>
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

/* Finds the page that a fault asked for. */
static int supply_fill(struct vireo_mem *mem, struct vireo_supply *s)
{
	gfp_t zero = s->zero ? __GFP_ZERO : 0;
	struct page *page = NULL;

	supply_free(s);
	if (s->want)
		page = alloc_pages(MEM_GFP_HUGE | zero, s->want);
	s->order = page ? s->want : 0;
	if (!page && supply_headroom(mem))
		page = alloc_page(MEM_GFP | zero);
	if (!page)
		return -ENOMEM;
	s->page = page_to_phys(page);
	return 0;
}

/**
 * vireo_mem_fault() - make an address accessible to the guest
 * @mem: the VM's memory
 * @gpa: the address
 * @write: for writing
 * Context: May sleep.
 * Return: 0, -ENXIO (no RAM) or -ENOMEM.
 */
int vireo_mem_fault(struct vireo_mem *mem, u64 gpa, bool write)
{
	struct vireo_supply s = {};
	int err;

	if (gpa >= VIREO_MAX_GPA)
		return -ENXIO;
	do {
		u64 had;

		mutex_lock(&mem->lock);
		had = s.page;
		err = vireo_tree_fault(&mem->tree, gpa, write, &s);
		vireo_tree_drop(&mem->tree, &s);
		if (had && !s.page && s.zero) {
			mem->resident += PAGE_SIZE << s.order;
			mem->huge += s.order ? PAGE_SIZE << s.order : 0;
		}
		mem->huge -= s.split ? VT_SIZE(2) : 0;
		s.split = false;
		mutex_unlock(&mem->lock);
		if (err == -EAGAIN && supply_fill(mem, &s))
			err = -ENOMEM;
	} while (err == -EAGAIN);
	supply_free(&s);
	return err;
}

/*
 * Where a byte of RAM is, and how many follow it there; the lock is held.
 * Returns NULL where nothing is in being yet, or nothing that can be written,
 * and ERR_PTR(-ENXIO) where no RAM is.
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
 * Return: 0 or -ENXIO.
 */
int vireo_mem_read(struct vireo_mem *mem, u64 gpa, void *buf, unsigned int len)
{
	void *p = NULL;

	mutex_lock(&mem->lock);
	while (len) {
		u64 room;
		unsigned int n;

		p = mem_locate(mem, gpa, false, &room);
		if (IS_ERR(p))
			break;
		n = min_t(u64, len, room);
		if (p)
			memcpy(buf, p, n);
		else
			memset(buf, 0, n);
		gpa += n;
		buf += n;
		len -= n;
	}
	mutex_unlock(&mem->lock);
	return PTR_ERR_OR_ZERO(p);
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
 * Return: 0, -EINVAL (not within one page), -ENXIO or -ENOMEM.
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
 * Return: The pointer, or ERR_PTR() of -ENXIO (no RAM) or -ENOMEM.
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
 * Return: Bytes of @bv: @len, or what is left of a 4 KiB or 2 MiB page; or
 * -ENXIO (no RAM) or -ENOMEM.
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
		if (IS_ERR(p))
			return PTR_ERR(p);
		if (p)
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
 * @max: bytes that may be in being afterwards
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
		if (mem->resident + PAGE_SIZE <= max) {
			err = vireo_tree_fault(&mem->tree, gpa, true, &s);
			vireo_tree_drop(&mem->tree, &s);
		}
		mem->resident += err ? 0 : PAGE_SIZE;
	}
	mutex_unlock(&mem->lock);
	return err;
}

/**
 * vireo_mem_add() - make a range RAM
 * @mem: the VM's memory
 * @gpa: checked: aligned, within VIREO_MAX_GPA
 * @bytes: checked
 * Context: May sleep.
 * Return: 0, -EEXIST or -ENOMEM.
 */
int vireo_mem_add(struct vireo_mem *mem, u64 gpa, u64 bytes)
{
	int err;

	mutex_lock(&mem->lock);
	err = vireo_tree_add(&mem->tree, gpa, bytes);
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
	mutex_lock(&mem->lock);
	stat->memory_bytes = mem->bytes;
	stat->resident_bytes = mem->resident;
	stat->huge_bytes = mem->huge;
	stat->table_bytes = mem->tree.tables * PAGE_SIZE;
	mutex_unlock(&mem->lock);
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
		child->resident = mem->resident;
		child->huge = mem->huge;
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
