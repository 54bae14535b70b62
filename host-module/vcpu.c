// SPDX-License-Identifier: GPL-2.0
/*
 * vCPU fds: creation, kicks and the calls on a vCPU.
 */
#include <linux/file.h>

#include "vireo.h"

/* ---- Requests --------------------------------------------------------------------------- */

/**
 * vireo_vcpu_request() - ask something of a vCPU, and make it look
 * @v: the vCPU
 * @req: VREQ_*
 * Context: Any, also with interrupts off.
 */
void vireo_vcpu_request(struct vireo_vcpu *v, unsigned int req)
{
	struct task_struct *task;

	set_bit(req, &v->requests);
	smp_mb__after_atomic();	/* pairs with run_guest(): requests, then mode */
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

/* ---- Calls ------------------------------------------------------------------------------ */

/**
 * vireo_vcpu_stat() - add a vCPU's counters
 * @v: the vCPU
 * @s: what to add to
 * Context: Any; the counters are read while they may be counting.
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

static long vcpu_get_stat(void *v, unsigned int cmd, void *stat)
{
	vireo_vcpu_stat(v, stat);
	return 0;
}

static const struct vireo_call vcpu_calls[] = {
	{ VIREO_GET_STAT, sizeof(struct vireo_stat), CALL_OUT, vcpu_get_stat },
	{ VIREO_GET_REGS, sizeof(struct vireo_regs), CALL_OUT, vireo_vcpu_regs },
	{ VIREO_SET_REGS, sizeof(struct vireo_regs), CALL_IN, vireo_vcpu_regs },
	{ VIREO_GET_MSRS, sizeof(struct vireo_msrs), CALL_IN, vireo_vcpu_msrs },
	{ VIREO_SET_MSRS, sizeof(struct vireo_msrs), CALL_IN, vireo_vcpu_msrs },
	{ VIREO_GET_XSAVE, sizeof(struct vireo_xsave), CALL_IN, vireo_vcpu_xsave },
	{ VIREO_SET_XSAVE, sizeof(struct vireo_xsave), CALL_IN, vireo_vcpu_xsave },
	{ VIREO_GET_LAPIC, sizeof(struct vireo_lapic), CALL_OUT, vireo_vcpu_lapic },
	{ VIREO_SET_LAPIC, sizeof(struct vireo_lapic), CALL_IN, vireo_vcpu_lapic },
	{}
};

static long vcpu_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct vireo_vcpu *v = file->private_data;
	bool run = cmd == VIREO_RUN;
	long ret;

	/* These two are for other threads while the vCPU runs. */
	if (!run && cmd == VIREO_INJECT_NMI) {
		set_bit(VAPIC_NMI, &v->apic.smi_init);
		vireo_vcpu_request(v, VREQ_EVENT);
		return 0;
	}
	if (!run && cmd == VIREO_GET_STAT)
		return vireo_call(vcpu_calls, v, cmd, (void __user *)arg);

	if (test_and_set_bit_lock(0, &v->mutex))
		return -EBUSY;
	if (run)
		ret = arg ? -EINVAL : vireo_vcpu_run(v);
	else
		ret = vireo_call(vcpu_calls, v, cmd, (void __user *)arg);
	clear_bit_unlock(0, &v->mutex);
	return ret;
}

/* ---- The fd --------------------------------------------------------------------------------- */

static int vcpu_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct vireo_vcpu *v = file->private_data;

	if (vma->vm_pgoff || vma_pages(vma) != 1 ||
	    (vma->vm_flags & (VM_SHARED | VM_EXEC)) != VM_SHARED)
		return -EINVAL;
	return vm_insert_page(vma, vma->vm_start, virt_to_page(v->run));
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

/* ---- Life ------------------------------------------------------------------------------- */

/**
 * vireo_vcpu_free() - free a vCPU
 * @v: of a VM that nobody can reach any more; or half made
 * Context: May sleep.
 */
void vireo_vcpu_free(struct vireo_vcpu *v)
{
	if (v->arch)
		vireo_ops->vcpu_free(v);
	if (v->apic.page)
		hrtimer_cancel(&v->apic.timer);
	free_page((unsigned long)v->apic.page);
	vireo_switch_forget(v);
	kfree(v->fpu);
	free_page((unsigned long)v->run);
	kfree(v);
}

static struct vireo_vcpu *vcpu_alloc(struct vireo_vm *vm, u32 id)
{
	struct vireo_vcpu *v = kzalloc(sizeof(*v), GFP_KERNEL_ACCOUNT);

	if (!v)
		return NULL;
	v->vm = vm;
	v->id = id;
	v->cpu = -1;
	rcuwait_init(&v->wait);
	v->tsc_lost = READ_ONCE(vireo_tsc_lost);
	v->tsc_offset = -vm->tsc_base;
	v->run = (struct vireo_run *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!v->run || vireo_switch_create(v) || vireo_lapic_create(v) ||
	    vireo_ops->vcpu_create(v)) {
		vireo_vcpu_free(v);
		return NULL;
	}
	v->misc_enable = 1;
	v->mtrr_type = 0xc06;	/* enabled, write-back */
	vireo_vcpu_reset(v, false);
	return v;
}

/**
 * vireo_vcpu_create() - VIREO_CREATE_VCPU
 * @object: the VM
 * @cmd: that
 * @arg: struct vireo_create_vcpu
 * Context: May sleep.
 * Return: Its fd, or -EINVAL (no such number), -EEXIST, -ENOMEM, -EMFILE...
 */
long vireo_vcpu_create(void *object, unsigned int cmd, void *arg)
{
	const struct vireo_create_vcpu *c = arg;
	struct vireo_vm *vm = object;
	struct vireo_vcpu *v;
	struct file *file;
	u32 id = c->id;
	int fd, err;

	if (id >= vm->max_vcpus || c->reserved)
		return -EINVAL;
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
