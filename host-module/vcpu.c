// SPDX-License-Identifier: GPL-2.0
/*
 * vCPU fds: creation, kicks and the calls on a vCPU.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "vireo.h"
#include "compat.h"

/* ---- Kicks --------------------------------------------------------------------------- */

/**
 * vireo_vcpu_kick() - make a vCPU look at its requests
 * @v: the vCPU
 *
 * Context: Any, also with interrupts off.
 * Return: Nothing.
 */
void vireo_vcpu_kick(struct vireo_vcpu *v)
{
	struct task_struct *task;

	if (READ_ONCE(v->mode) != VCPU_INSIDE) {
		rcuwait_wake_up(&v->wait);
		return;
	}
	rcu_read_lock();
	task = rcu_dereference(v->task);
	if (task && task != current) {
		vireo_stat_inc(v, VIREO_STAT_KICKED);
		kick_process(task);
	}
	rcu_read_unlock();
}

/**
 * vireo_vcpu_request() - ask something of a vCPU
 * @v: the vCPU
 * @req: VREQ_*
 *
 * Context: Any, also with interrupts off.
 * Return: Nothing.
 */
void vireo_vcpu_request(struct vireo_vcpu *v, unsigned int req)
{
	set_bit(req, &v->requests);
	smp_mb__after_atomic();	/* pairs with run_guest(): requests, then mode */
	vireo_vcpu_kick(v);
}

/* ---- Calls ------------------------------------------------------------------------------ */

static long vcpu_get_regs(struct vireo_vcpu *v, void __user *arg)
{
	struct vireo_regs r;
	int err = vireo_copy_in(&r, sizeof(r), sizeof(r), arg);
	u32 size = r.size;

	if (err)
		return err;
	memset(&r, 0, sizeof(r));
	vireo_regs_get(v, &r);
	r.size = size;
	return vireo_copy_out(arg, &r, sizeof(r));
}

static long vcpu_set_regs(struct vireo_vcpu *v, void __user *arg)
{
	struct vireo_regs r;
	int err = vireo_copy_in(&r, sizeof(r), sizeof(r), arg);

	return err ?: vireo_regs_set(v, &r);
}

static long vcpu_msrs(struct vireo_vcpu *v, void __user *arg, bool set)
{
	struct vireo_msr __user *to;
	struct vireo_msrs m;
	struct vireo_msr e;
	int err = vireo_copy_in(&m, sizeof(m), sizeof(m), arg);
	u32 i;

	if (err)
		return err;
	if (m.reserved)
		return -EINVAL;
	if (m.count > VIREO_MAX_MSRS)
		return -E2BIG;
	to = u64_to_user_ptr(m.entries);
	for (i = 0; i < m.count; i++) {
		if (copy_from_user(&e, &to[i], sizeof(e)))
			return -EFAULT;
		if (e.reserved)
			return -EINVAL;
		err = set ? vireo_msr_set(v, e.index, e.value, true) :
			    vireo_msr_get(v, e.index, &e.value);
		if (err)
			break;
		if (!set && put_user(e.value, &to[i].value))
			return -EFAULT;
	}
	return i;
}

static long vcpu_xsave(struct vireo_vcpu *v, void __user *arg, bool set)
{
	struct vireo_xsave x;
	int err = vireo_copy_in(&x, sizeof(x), sizeof(x), arg);

	if (err)
		return err;
	if (x.bytes != vireo_cpuid_xsave_size(vireo_xcr0_supported()))
		return -EINVAL;
	return set ? vireo_fpu_set(v, u64_to_user_ptr(x.data)) :
		     vireo_fpu_get(v, u64_to_user_ptr(x.data));
}

static long vcpu_get_lapic(struct vireo_vcpu *v, void __user *arg)
{
	struct vireo_lapic l;
	int err = vireo_copy_in(&l, sizeof(l), sizeof(l), arg);
	u32 size = l.size;

	if (err)
		return err;
	memset(&l, 0, sizeof(l));
	vireo_lapic_get(v, &l);
	l.size = size;
	return vireo_copy_out(arg, &l, sizeof(l));
}

static long vcpu_set_lapic(struct vireo_vcpu *v, void __user *arg)
{
	struct vireo_lapic l;
	int err = vireo_copy_in(&l, sizeof(l), sizeof(l), arg);

	return err ?: vireo_lapic_set(v, &l);
}

/**
 * vireo_vcpu_stat() - add a vCPU's counters
 * @v: the vCPU
 * @s: what to add to
 *
 * Context: Any; the counters are read while they may be counting.
 * Return: Nothing.
 */
void vireo_vcpu_stat(struct vireo_vcpu *v, struct vireo_stat *s)
{
	u64 exits = 0;
	unsigned int i;

	for (i = 0; i < VIREO_STAT_COUNT; i++) {
		u64 n = READ_ONCE(v->stat[i]);

		s->counters[i] += n;
		if (i >= VIREO_STAT_EXIT_INTR && i <= VIREO_STAT_EXIT_OTHER &&
		    i != VIREO_STAT_EXIT_MMIO && i != VIREO_STAT_EXIT_ICR &&
		    i != VIREO_STAT_EXIT_EOI && i != VIREO_STAT_EXIT_TIMER)
			exits += n;
	}
	s->counters[VIREO_STAT_EXITS] += exits;
	s->counters[VIREO_STAT_FAST] += exits - READ_ONCE(v->slow_exits);
}

static long vcpu_get_stat(struct vireo_vcpu *v, void __user *arg)
{
	struct vireo_stat *s = kzalloc(sizeof(*s), GFP_KERNEL);
	int err;

	if (!s)
		return -ENOMEM;
	err = vireo_copy_in(s, sizeof(*s), sizeof(*s), arg);
	if (!err) {
		*s = (struct vireo_stat) { .size = s->size };
		vireo_vcpu_stat(v, s);
		err = vireo_copy_out(arg, s, sizeof(*s));
	}
	kfree(s);
	return err;
}

static long vcpu_inject_nmi(struct vireo_vcpu *v)
{
	set_bit(VAPIC_NMI, &v->apic.smi_init);
	vireo_vcpu_request(v, VREQ_EVENT);
	return 0;
}

static long vcpu_call(struct vireo_vcpu *v, unsigned int cmd, void __user *p)
{
	switch (cmd) {
	case VIREO_GET_REGS:
		return vcpu_get_regs(v, p);
	case VIREO_SET_REGS:
		return vcpu_set_regs(v, p);
	case VIREO_GET_MSRS:
		return vcpu_msrs(v, p, false);
	case VIREO_SET_MSRS:
		return vcpu_msrs(v, p, true);
	case VIREO_GET_XSAVE:
		return vcpu_xsave(v, p, false);
	case VIREO_SET_XSAVE:
		return vcpu_xsave(v, p, true);
	case VIREO_GET_LAPIC:
		return vcpu_get_lapic(v, p);
	case VIREO_SET_LAPIC:
		return vcpu_set_lapic(v, p);
	}
	return -ENOTTY;
}

static long vcpu_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct vireo_vcpu *v = file->private_data;
	long ret;

	/* These two are for other threads while the vCPU runs. */
	if (cmd == VIREO_INJECT_NMI)
		return vcpu_inject_nmi(v);
	if (cmd == VIREO_GET_STAT)
		return vcpu_get_stat(v, (void __user *)arg);

	if (!mutex_trylock(&v->mutex))
		return -EBUSY;
	if (cmd == VIREO_RUN)
		ret = arg ? -EINVAL : vireo_vcpu_run(v);
	else
		ret = vcpu_call(v, cmd, (void __user *)arg);
	mutex_unlock(&v->mutex);
	return ret;
}

/* ---- The fd --------------------------------------------------------------------------------- */

static vm_fault_t vcpu_mmap_fault(struct vm_fault *vmf)
{
	struct vireo_vcpu *v = vmf->vma->vm_file->private_data;

	if (vmf->pgoff)
		return VM_FAULT_SIGBUS;
	vmf->page = virt_to_page(v->run);
	get_page(vmf->page);
	return 0;
}

static const struct vm_operations_struct vcpu_vm_ops = {
	.fault = vcpu_mmap_fault,
};

static int vcpu_mmap(struct file *file, struct vm_area_struct *vma)
{
	if (vma->vm_pgoff || vma_pages(vma) != 1 || !(vma->vm_flags & VM_SHARED) ||
	    (vma->vm_flags & VM_EXEC))
		return -EINVAL;
	vma->vm_ops = &vcpu_vm_ops;
	return 0;
}

static int vcpu_release(struct inode *inode, struct file *file)
{
	struct vireo_vcpu *v = file->private_data;

	vireo_vm_put(v->vm);
	return 0;
}

static const struct file_operations vcpu_fops = {
	.owner = THIS_MODULE,
	.release = vcpu_release,
	.unlocked_ioctl = vcpu_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = vcpu_mmap,
	.llseek = noop_llseek,
};

/* ---- Life --------------------------------------------------------------------------------------- */

/**
 * vireo_vcpu_reset() - the state after power-on or INIT
 * @v: the vCPU
 * @init: INIT: registers that it leaves alone are left alone
 *
 * Intel SDM vol. 3, 10.1.1; AMD APM vol. 2, 14.1.
 *
 * Context: Process context, the vCPU's mutex held.
 * Return: Nothing.
 */
void vireo_vcpu_reset(struct vireo_vcpu *v, bool init)
{
	struct vireo_regs r = {
		.rip = 0xfff0,
		.rflags = X86_EFLAGS_FIXED,
		.gdt = { .limit = 0xffff },
		.idt = { .limit = 0xffff },
		.cr0 = X86_CR0_CD | X86_CR0_NW | X86_CR0_ET,
		.xcr0 = XFEATURE_MASK_FP,
		.dr = { [4] = 0xffff0ff0, [5] = 0x400 },
	};
	struct vireo_regs old;
	unsigned int i;

	r.gpr[VIREO_RDX] = 0x600;
	for (i = 0; i < VIREO_SEGS; i++)
		r.seg[i] = (struct vireo_segment) { .limit = 0xffff, .attr = 0x93 };
	r.seg[VIREO_CS].attr = 0x9b;
	r.seg[VIREO_CS].selector = 0xf000;
	r.seg[VIREO_CS].base = 0xffff0000;
	r.seg[VIREO_LDTR].attr = 0x82;
	r.seg[VIREO_TR].attr = 0x8b;

	if (init) {		/* INIT keeps CR0.CD, NW, XCR0 and the FPU */
		vireo_regs_get(v, &old);
		r.cr0 = (old.cr0 & (X86_CR0_CD | X86_CR0_NW)) | X86_CR0_ET;
		r.xcr0 = old.xcr0;
		vireo_lapic_reset(v);
	}
	r.mp_state = v->id ? VIREO_MP_INIT : VIREO_MP_RUNNABLE;
	vireo_regs_load(v, &r);
}

/**
 * vireo_vcpu_sipi() - start at the page that a start-up IPI names
 * @v: a vCPU in VIREO_MP_INIT
 * @vector: bits 19:12 of the address
 *
 * Context: Process context, the vCPU's mutex held.
 * Return: Nothing.
 */
void vireo_vcpu_sipi(struct vireo_vcpu *v, u32 vector)
{
	struct vireo_regs r = {};

	vireo_regs_get(v, &r);
	r.seg[VIREO_CS].selector = vector << 8;
	r.seg[VIREO_CS].base = vector << 12;
	r.rip = 0;
	r.mp_state = VIREO_MP_RUNNABLE;
	vireo_regs_load(v, &r);
}

/**
 * vireo_vcpu_free() - free a vCPU
 * @v: of a VM that nobody can reach any more
 *
 * Context: May sleep.
 * Return: Nothing.
 */
void vireo_vcpu_free(struct vireo_vcpu *v)
{
	vireo_lapic_free(v);
	vireo_ops->vcpu_free(v);
	vireo_fpu_free(v);
	free_page((unsigned long)v->run);
	mutex_destroy(&v->mutex);
	kfree(v);
}

static struct vireo_vcpu *vcpu_alloc(struct vireo_vm *vm, u32 id)
{
	struct vireo_vcpu *v = kzalloc(sizeof(*v), GFP_KERNEL_ACCOUNT);

	if (!v)
		return NULL;
	v->vm = vm;
	v->id = id;
	mutex_init(&v->mutex);
	rcuwait_init(&v->wait);
	v->tsc_lost = READ_ONCE(vireo_tsc_lost);
	v->tsc_offset = -vm->tsc_base;
	v->run = (struct vireo_run *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!v->run)
		goto fail_free;
	if (vireo_fpu_create(v))
		goto fail_run;
	vireo_lapic_init(v);
	if (vireo_ops->vcpu_create(v))
		goto fail_fpu;
	v->misc_enable = 1;
	v->mtrr[27] = 0xc06;	/* MTRRdefType: enabled, write-back */
	vireo_vcpu_reset(v, false);
	return v;

fail_fpu:
	vireo_lapic_free(v);
	vireo_fpu_free(v);
fail_run:
	free_page((unsigned long)v->run);
fail_free:
	kfree(v);
	return NULL;
}

/**
 * vireo_vcpu_create() - make a vCPU
 * @vm: its VM
 * @id: its number, below vm->max_vcpus
 *
 * Context: May sleep.
 * Return: Its fd, or -EEXIST, -ENOMEM, -EMFILE...
 */
int vireo_vcpu_create(struct vireo_vm *vm, u32 id)
{
	struct vireo_vcpu *v;
	struct file *file;
	int fd, err;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	mutex_lock(&vm->lock);
	err = -EEXIST;
	if (vm->vcpus[id])
		goto fail;
	err = -ENOMEM;
	v = vcpu_alloc(vm, id);
	if (!v)
		goto fail;
	file = anon_inode_getfile("vireo-vcpu", &vcpu_fops, v, O_RDWR);
	if (IS_ERR(file)) {
		err = PTR_ERR(file);
		vireo_vcpu_free(v);
		goto fail;
	}
	vireo_vm_get(vm);
	/* Known to flushes and interrupts before anybody can run it. */
	smp_store_release(&vm->vcpus[id], v);
	vm->nr_vcpus++;
	mutex_unlock(&vm->lock);
	fd_install(fd, file);
	return fd;

fail:
	mutex_unlock(&vm->lock);
	put_unused_fd(fd);
	return err;
}
