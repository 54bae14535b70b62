// SPDX-License-Identifier: GPL-2.0
/*
 * VM and vCPU fds: creation, kicks and the calls on them.
 *
 * A VM is freed with the last of its fds, its vCPUs' and its memory's.  vCPUs live
 * as long as the VM, so the array of them is read without a lock.
 */
#include <linux/log2.h>
#include <asm/apic.h>

#include "vireo.h"

/* ---- Requests --------------------------------------------------------------------------- */

/**
 * vireo_vcpu_request() - ask something of a vCPU, and make it look
 * @v: the vCPU
 * @req: VREQ_*
 * @notify: 0; or v->apic.notify, where all there is to look at is @pir
 * Context: Any, also with interrupts off.
 */
void vireo_vcpu_request(struct vireo_vcpu *v, unsigned int req, u8 notify)
{
	struct task_struct *task;

	set_bit(req, &v->requests);
	smp_mb__after_atomic();	/* pairs with run_guest(): requests, then mode */
	preempt_disable();	/* the processor that it is on stays online */
	task = rcu_dereference_sched(v->task);
	if (READ_ONCE(v->mode) != VCPU_INSIDE) {
		rcuwait_wake_up(&v->wait);
	} else if (notify && task && task != current) {
		v->stat[VIREO_STAT_POSTED]++;
		set_bit(256, v->apic.pir);	/* ON: a notification is outstanding */
		apic->send_IPI_mask(cpumask_of(task_cpu(task)), notify);
	} else if (task && task != current) {
		v->stat[VIREO_STAT_KICKED]++;
		kick_process(task);
	}
	preempt_enable();
}

/**
 * vireo_vm_flush() - have all vCPUs forget the VM's translations
 * @vm: the VM
 *
 * When it returns no processor uses a translation that was looked up before:
 * a vCPU that is inside has left, one that is outside will flush on its way in.
 * Context: May be called with mem->lock held, which the inner loop never takes.
 */
void vireo_vm_flush(struct vireo_vm *vm)
{
	struct vireo_vcpu *v;
	unsigned int i;

	for (i = 0; i < vm->max_vcpus; i++) {
		v = vireo_vcpu_by_id(vm, i);
		if (v)
			vireo_vcpu_request(v, VREQ_FLUSH, 0);
	}
	for (i = 0; i < vm->max_vcpus; i++) {
		v = vireo_vcpu_by_id(vm, i);
		while (v && READ_ONCE(v->mode) == VCPU_INSIDE &&
		       test_bit(VREQ_FLUSH, &v->requests))
			cpu_relax();
	}
}

/* ---- vCPUs ------------------------------------------------------------------------------ */

/* Adds a vCPU's counters; it may be counting meanwhile. */
static long vcpu_get_stat(void *object, unsigned int cmd, void *arg)
{
	struct vireo_vcpu *v = object;
	struct vireo_stat *s = arg;
	unsigned int i;

	for (i = 0; i < VIREO_STAT_COUNT; i++)
		s->counters[i] += READ_ONCE(v->stat[i]);
	return 0;
}

static const struct vireo_call vcpu_calls[] = {
	{ VIREO_GET_STAT, vcpu_get_stat },
	{ VIREO_GET_REGS, vireo_vcpu_regs },
	{ VIREO_SET_REGS, vireo_vcpu_regs },
	{ VIREO_GET_MSRS, vireo_vcpu_msrs },
	{ VIREO_SET_MSRS, vireo_vcpu_msrs },
	{ VIREO_GET_XSAVE, vireo_vcpu_xsave },
	{ VIREO_SET_XSAVE, vireo_vcpu_xsave },
	{}
};

static long vcpu_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct vireo_vcpu *v = file->private_data;
	bool run = cmd == VIREO_RUN;
	long ret;

	/* For other threads while the vCPU runs */
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

static int vcpu_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct vireo_vcpu *v = file->private_data;

	if (vma->vm_pgoff || vma_pages(vma) != 1 ||
	    (vma->vm_flags & (VM_SHARED | VM_EXEC)) != VM_SHARED)
		return -EINVAL;
	return vm_insert_page(vma, vma->vm_start, virt_to_page(v->run));
}

static void vcpu_close(struct vireo_vcpu *v)
{
	vireo_vm_put(v->vm);
}

DEFINE_VIREO_FILE(vcpu, vcpu_close, .unlocked_ioctl = vcpu_ioctl, .mmap = vcpu_mmap,
		  .compat_ioctl = compat_ptr_ioctl);

/* NULL, half made, or one that nobody can reach any more */
static void vcpu_free(struct vireo_vcpu *v)
{
	if (!v)
		return;
	if (v->arch)
		vireo_ops->vcpu_free(v);
	if (v->apic.timer.function)
		hrtimer_cancel(&v->apic.timer);
	free_page((unsigned long)v->apic.page);
	kfree(v->fpu);
	free_page((unsigned long)v->run);
	kfree(v);
}

static atomic64_t vcpus;	/* made so far, on this host */

static struct vireo_vcpu *vcpu_alloc(struct vireo_vm *vm, u32 id)
{
	/* A power of two is aligned to itself: @pir and XSAVE want 64. */
	struct vireo_vcpu *v = kzalloc(roundup_pow_of_two(sizeof(*v)), GFP_KERNEL_ACCOUNT);
	struct vireo_regs none = { .xcr0 = XFEATURE_MASK_FP };

	if (!v)
		return NULL;
	v->vm = vm;
	v->id = id;
	v->cpu = -1;
	rcuwait_init(&v->wait);
	v->tsc_lost = READ_ONCE(vireo_tsc_lost);
	v->tsc_offset = -vm->clock.tsc_base;
	v->serial = atomic64_inc_return(&vcpus);
	v->run = (struct vireo_run *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	v->fpu = kzalloc(roundup_pow_of_two(vireo_xsave_size), GFP_KERNEL_ACCOUNT);
	v->apic.page = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!v->run || !v->fpu || !v->apic.page || vireo_ops->vcpu_create(v)) {
		vcpu_free(v);
		return NULL;
	}
	vireo_lapic_create(v);
	v->fpu->i387.cwd = 0x37f;
	v->fpu->i387.mxcsr = MXCSR_DEFAULT;
	vireo_vcpu_regs(v, VIREO_SET_REGS, &none);
	return v;
}

/* ---- VMs -------------------------------------------------------------------------------- */

static long vm_create_vcpu(void *object, unsigned int cmd, void *arg)
{
	const struct vireo_create_vcpu *c = arg;
	struct vireo_vm *vm = object;
	struct vireo_vcpu *v;
	struct file *file;
	u32 id = c->id;
	int fd;

	if (id >= vm->max_vcpus || c->reserved)
		return -EINVAL;
	mutex_lock(&vm->lock);
	fd = vm->vcpus[id] ? -EEXIST : get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		goto out;
	v = vcpu_alloc(vm, id);
	file = v ? anon_inode_getfile("vireo-vcpu", &vcpu_fops, v, O_RDWR) : ERR_PTR(-ENOMEM);
	if (IS_ERR(file)) {
		vcpu_free(v);
		put_unused_fd(fd);
		fd = PTR_ERR(file);
		goto out;
	}
	kref_get(&vm->ref);
	/* Known to flushes and interrupts before anybody can run it. */
	smp_store_release(&vm->vcpus[id], v);
	vm->nr_vcpus++;
	fd_install(fd, file);
out:
	mutex_unlock(&vm->lock);
	return fd;
}

static long vm_inject_msi(void *vm, unsigned int cmd, void *arg)
{
	struct vireo_msi *m = arg;

	return m->reserved ? -EINVAL : vireo_lapic_msi(vm, m->address, m->data);
}

static long vm_get_stat(void *object, unsigned int cmd, void *stat)
{
	struct vireo_vm *vm = object;
	struct vireo_vcpu *v;
	unsigned int i;

	vireo_mem_stat(&vm->mem, stat);
	for (i = 0; i < vm->max_vcpus; i++) {
		v = vireo_vcpu_by_id(vm, i);
		if (v)
			vcpu_get_stat(v, cmd, stat);
	}
	return 0;
}

static long vm_set_clock(void *object, unsigned int cmd, void *arg)
{
	const struct vireo_clock *c = arg;
	struct vireo_vm *vm = object;
	int err = -EBUSY;

	if (c->reserved)
		return -EINVAL;
	mutex_lock(&vm->lock);
	if (!vm->nr_vcpus) {
		vm->clock = *c;
		err = 0;
	}
	mutex_unlock(&vm->lock);
	return err;
}

static const struct vireo_call vm_calls[] = {
	{ VIREO_CREATE_VCPU, vm_create_vcpu },
	{ VIREO_ADD_MEMORY, vireo_mem_add, VIREO_MEMORY_FILE },
	{ VIREO_GET_MEMORY, vireo_mem_open },
	{ VIREO_SET_CPUID, vireo_cpuid_set },
	{ VIREO_FORK, vireo_vm_create },
	{ VIREO_SET_FILE, vireo_mem_set_file },
	{ VIREO_DIFF, vireo_mem_diff },
	{ VIREO_SET_CLOCK, vm_set_clock },
	{ VIREO_INJECT_MSI, vm_inject_msi },
	{ VIREO_GET_STAT, vm_get_stat },
	{ VIREO_CREATE_DISK, vireo_disk_create, VIREO_DISK_READONLY | VIREO_DISK_OVERLAY },
	{ VIREO_CREATE_NET, vireo_net_create, VIREO_NET_FILTER },
	{}
};

DEFINE_VIREO_FD(vm, file->private_data, vireo_vm_put);

static void vm_free(struct kref *ref)
{
	struct vireo_vm *vm = container_of(ref, struct vireo_vm, ref);
	unsigned int i;

	for (i = 0; i < vm->max_vcpus; i++)
		vcpu_free(vm->vcpus[i]);
	vireo_mem_destroy(&vm->mem);
	kfree(vm);
	vireo_hw_put();
}

/**
 * vireo_vm_put() - one fd less; the last frees everything
 * @vm: the VM
 * Context: May sleep.
 */
void vireo_vm_put(struct vireo_vm *vm)
{
	kref_put(&vm->ref, vm_free);
}

/* Nothing of the parent's memory may be pinned; the lock keeps new queues out. */
static int vm_inherit(struct vireo_vm *vm, struct vireo_vm *parent)
{
	int err = -EBUSY;

	mutex_lock(&parent->lock);
	vm->max_vcpus = parent->max_vcpus;
	vm->cpuid = parent->cpuid;
	vm->clock = parent->clock;
	if (!atomic_read(&parent->nr_queues))
		err = vireo_mem_init(&vm->mem, &parent->mem);
	mutex_unlock(&parent->lock);
	return err;
}

/**
 * vireo_vm_create() - VIREO_CREATE_VM, VIREO_FORK
 * @parent: the VM that is forked, or NULL
 * @cmd: which of them
 * @arg: struct vireo_create_vm, if there is no parent
 * Context: May sleep.
 * Return: The VM's fd, or -EINVAL, -EBUSY, -ENOMEM, -EMFILE...
 */
long vireo_vm_create(void *parent, unsigned int cmd, void *arg)
{
	const struct vireo_create_vm *c = arg;
	struct vireo_vm *vm;
	int ret;

	if (!parent && (c->reserved || !c->max_vcpus || c->max_vcpus > VIREO_MAX_VCPUS))
		return -EINVAL;
	ret = vireo_hw_get();
	if (ret)
		return ret;
	vm = kzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);
	ret = !vm ? -ENOMEM : parent ? vm_inherit(vm, parent) : vireo_mem_init(&vm->mem, NULL);
	if (ret) {
		kfree(vm);
		vireo_hw_put();
		return ret;
	}
	if (!parent)
		vm->max_vcpus = c->max_vcpus;
	kref_init(&vm->ref);
	mutex_init(&vm->lock);
	ret = anon_inode_getfd("vireo-vm", &vm_fops, vm, O_RDWR | O_CLOEXEC);
	if (ret < 0)
		vireo_vm_put(vm);
	return ret;
}
