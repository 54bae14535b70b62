// SPDX-License-Identifier: GPL-2.0
/*
 * VM fds: the machine that vCPUs and memory belong to.
 *
 * The VM is freed with the last of its fds, its vCPUs' and its memory's.
 * vCPUs live as long as the VM, so the array of them is read without a lock.
 */
#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <asm/tsc.h>

#include "vireo.h"

static void vm_free(struct kref *ref)
{
	struct vireo_vm *vm = container_of(ref, struct vireo_vm, ref);
	unsigned int i;

	for (i = 0; i < vm->max_vcpus; i++)
		if (vm->vcpus[i])
			vireo_vcpu_free(vm->vcpus[i]);
	vireo_mem_destroy(&vm->mem);
	mutex_destroy(&vm->lock);
	kfree(vm);
	vireo_hw_put();
}

/**
 * vireo_vm_get() - one more fd refers to the VM
 * @vm: the VM
 *
 * Context: Any.
 * Return: Nothing.
 */
void vireo_vm_get(struct vireo_vm *vm)
{
	kref_get(&vm->ref);
}

/**
 * vireo_vm_put() - one fd less; the last frees everything
 * @vm: the VM
 *
 * Context: May sleep.
 * Return: Nothing.
 */
void vireo_vm_put(struct vireo_vm *vm)
{
	kref_put(&vm->ref, vm_free);
}

/**
 * vireo_vm_flush() - have all vCPUs forget the VM's translations
 * @vm: the VM
 *
 * When it returns no processor uses a translation that was looked up before:
 * a vCPU that is inside has left, one that is outside will flush on its way in.
 *
 * Context: May be called with mem->lock held, which the inner loop never takes.
 * Return: Nothing.
 */
void vireo_vm_flush(struct vireo_vm *vm)
{
	unsigned int i;

	for (i = 0; i < vm->max_vcpus; i++) {
		struct vireo_vcpu *v = smp_load_acquire(&vm->vcpus[i]);

		if (v)
			vireo_vcpu_request(v, VREQ_FLUSH);
	}
	for (i = 0; i < vm->max_vcpus; i++) {
		struct vireo_vcpu *v = smp_load_acquire(&vm->vcpus[i]);

		while (v && READ_ONCE(v->mode) == VCPU_INSIDE &&
		       test_bit(VREQ_FLUSH, &v->requests))
			cpu_relax();
	}
}

static long vm_create_vcpu(struct vireo_vm *vm, void __user *arg)
{
	struct vireo_create_vcpu c;
	int err = vireo_copy_in(&c, sizeof(c), sizeof(c), arg);

	if (err)
		return err;
	if (c.reserved || c.id >= vm->max_vcpus)
		return -EINVAL;
	return vireo_vcpu_create(vm, c.id);
}

static long vm_add_memory(struct vireo_vm *vm, void __user *arg)
{
	struct vireo_memory m;
	int err = vireo_copy_in(&m, sizeof(m), sizeof(m), arg);

	if (err)
		return err;
	if (!PAGE_ALIGNED(m.gpa) || !PAGE_ALIGNED(m.bytes) || !m.bytes ||
	    m.bytes > VIREO_MAX_GPA || m.gpa > VIREO_MAX_GPA - m.bytes)
		return -EINVAL;
	return vireo_mem_add(&vm->mem, m.gpa, m.bytes);
}

static long vm_get_memory(struct vireo_vm *vm, void __user *arg)
{
	struct vireo_get_memory m;
	int err = vireo_copy_in(&m, sizeof(m), sizeof(m), arg);

	return err ?: vireo_mem_open(vm);
}

static long vm_set_cpuid(struct vireo_vm *vm, void __user *arg)
{
	struct vireo_cpuid_entry *e;
	struct vireo_cpuid c;
	int err = vireo_copy_in(&c, sizeof(c), sizeof(c), arg);

	if (err)
		return err;
	if (c.reserved)
		return -EINVAL;
	if (c.count > VIREO_MAX_CPUID)
		return -E2BIG;
	e = vmemdup_user(u64_to_user_ptr(c.entries), c.count * sizeof(*e));
	if (IS_ERR(e))
		return PTR_ERR(e);
	mutex_lock(&vm->lock);
	err = vm->nr_vcpus ? -EBUSY : vireo_cpuid_set(vm, e, c.count);
	mutex_unlock(&vm->lock);
	kvfree(e);
	return err;
}

static long vm_inject_msi(struct vireo_vm *vm, void __user *arg)
{
	struct vireo_msi m;
	int err = vireo_copy_in(&m, sizeof(m), sizeof(m), arg);

	if (err)
		return err;
	return m.reserved ? -EINVAL : vireo_lapic_msi(vm, m.address, m.data);
}

static long vm_get_stat(struct vireo_vm *vm, void __user *arg)
{
	struct vireo_stat *s = kzalloc(sizeof(*s), GFP_KERNEL);
	unsigned int i;
	u32 size;
	int err;

	if (!s)
		return -ENOMEM;
	err = vireo_copy_in(s, sizeof(*s), sizeof(*s), arg);
	if (err)
		goto out;
	size = s->size;
	memset(s, 0, sizeof(*s));
	s->size = size;
	vireo_mem_stat(&vm->mem, s);
	for (i = 0; i < vm->max_vcpus; i++) {
		struct vireo_vcpu *v = smp_load_acquire(&vm->vcpus[i]);

		if (v)
			vireo_vcpu_stat(v, s);
	}
	err = vireo_copy_out(arg, s, sizeof(*s));
out:
	kfree(s);
	return err;
}

static long vm_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct vireo_vm *vm = file->private_data;
	void __user *p = (void __user *)arg;

	switch (cmd) {
	case VIREO_CREATE_VCPU:
		return vm_create_vcpu(vm, p);
	case VIREO_ADD_MEMORY:
		return vm_add_memory(vm, p);
	case VIREO_GET_MEMORY:
		return vm_get_memory(vm, p);
	case VIREO_SET_CPUID:
		return vm_set_cpuid(vm, p);
	case VIREO_INJECT_MSI:
		return vm_inject_msi(vm, p);
	case VIREO_GET_STAT:
		return vm_get_stat(vm, p);
	}
	return -ENOTTY;
}

static int vm_release(struct inode *inode, struct file *file)
{
	vireo_vm_put(file->private_data);
	return 0;
}

static const struct file_operations vm_fops = {
	.owner = THIS_MODULE,
	.release = vm_release,
	.unlocked_ioctl = vm_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

/**
 * vireo_vm_create() - make a VM
 * @args: checked arguments
 *
 * Context: May sleep.
 * Return: The VM's fd, or -EBUSY, -ENOMEM, -EMFILE...
 */
int vireo_vm_create(const struct vireo_create_vm *args)
{
	struct vireo_vm *vm;
	int err;

	vm = kzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);
	if (!vm)
		return -ENOMEM;
	kref_init(&vm->ref);
	mutex_init(&vm->lock);
	vm->max_vcpus = args->max_vcpus;
	vm->cpuid = *vireo_cpuid_default();
	vm->tsc_base = rdtsc();
	vm->boot_ns = ktime_get_real_ns();
	vm->tsc_khz = tsc_khz;

	err = vireo_hw_get();
	if (err)
		goto fail_free;
	err = vireo_mem_init(&vm->mem);
	if (err)
		goto fail_hw;
	err = anon_inode_getfd("vireo-vm", &vm_fops, vm, O_RDWR | O_CLOEXEC);
	if (err < 0)
		goto fail_mem;
	return err;

fail_mem:
	vireo_mem_destroy(&vm->mem);
fail_hw:
	vireo_hw_put();
fail_free:
	kfree(vm);
	return err;
}
