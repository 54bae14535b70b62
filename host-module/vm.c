// SPDX-License-Identifier: GPL-2.0
/*
 * VM fds: the machine that vCPUs and memory belong to.
 *
 * The VM is freed with the last of its fds, its vCPUs' and its memory's.
 * vCPUs live as long as the VM, so the array of them is read without a lock.
 */
#include <linux/file.h>
#include <linux/vmalloc.h>

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
 * vireo_vm_put() - one fd less; the last frees everything
 * @vm: the VM
 * Context: May sleep.
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
 * Context: May be called with mem->lock held, which the inner loop never takes.
 */
void vireo_vm_flush(struct vireo_vm *vm)
{
	unsigned int i;

	for (i = 0; i < vm->max_vcpus; i++) {
		struct vireo_vcpu *v = vireo_vcpu_by_id(vm, i);

		if (v)
			vireo_vcpu_request(v, VREQ_FLUSH);
	}
	for (i = 0; i < vm->max_vcpus; i++) {
		struct vireo_vcpu *v = vireo_vcpu_by_id(vm, i);

		while (v && READ_ONCE(v->mode) == VCPU_INSIDE &&
		       test_bit(VREQ_FLUSH, &v->requests))
			cpu_relax();
	}
}

static long vm_add_memory(void *object, unsigned int cmd, void *arg)
{
	struct vireo_vm *vm = object;
	struct vireo_memory *m = arg;

	if (!PAGE_ALIGNED(m->gpa) || !PAGE_ALIGNED(m->bytes) || !m->bytes ||
	    m->bytes > VIREO_MAX_GPA || m->gpa > VIREO_MAX_GPA - m->bytes)
		return -EINVAL;
	return vireo_mem_add(&vm->mem, m->gpa, m->bytes, m->flags & VIREO_MEMORY_FILE);
}

static long vm_set_file(void *object, unsigned int cmd, void *arg)
{
	struct vireo_vm *vm = object;
	struct vireo_set_file *s = arg;

	return s->reserved ? -EINVAL : vireo_mem_set_file(&vm->mem, s->fd);
}

static long vm_inject_msi(void *vm, unsigned int cmd, void *arg)
{
	struct vireo_msi *m = arg;

	return m->reserved ? -EINVAL : vireo_lapic_msi(vm, m->address, m->data);
}

static long vm_get_stat(void *object, unsigned int cmd, void *stat)
{
	struct vireo_vm *vm = object;
	unsigned int i;

	vireo_mem_stat(&vm->mem, stat);
	for (i = 0; i < vm->max_vcpus; i++) {
		struct vireo_vcpu *v = vireo_vcpu_by_id(vm, i);

		if (v)
			vireo_vcpu_stat(v, stat);
	}
	return 0;
}

static int vm_open(struct vireo_vm *vm, struct vireo_vm *parent);

static long vm_fork(void *object, unsigned int cmd, void *arg)
{
	struct vireo_vm *parent = object, *vm = kzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);
	int fd;

	if (!vm)
		return -ENOMEM;
	vm->max_vcpus = parent->max_vcpus;
	fd = vm_open(vm, parent);
	if (fd < 0)
		kfree(vm);
	return fd;
}

static const struct file_operations vm_fops;

static long vm_diff(void *object, unsigned int cmd, void *arg)
{
	struct vireo_vm *vm = object, *other;
	struct vireo_diff *d = arg;
	struct file *file = fget(d->fd);
	int err = -EINVAL;

	if (!file)
		return -EBADF;
	other = file->private_data;
	if (file->f_op == &vm_fops && other != vm && !d->reserved && PAGE_ALIGNED(d->start) &&
	    d->start <= VIREO_MAX_GPA)
		err = vireo_mem_diff(&vm->mem, &other->mem, &d->start, &d->end);
	fput(file);
	return err;
}

/* GET or SET: what a snapshot needs to let the guest's clocks go on. */
static long vm_clock(void *object, unsigned int cmd, void *arg)
{
	struct vireo_vm *vm = object;
	struct vireo_clock *c = arg;
	int err = -EINVAL;

	mutex_lock(&vm->lock);
	if (cmd == VIREO_GET_CLOCK) {
		c->tsc_base = vm->tsc_base;
		c->boot_ns = vm->boot_ns;
		c->tsc_khz = vm->tsc_khz;
		err = 0;
	} else if (c->tsc_khz && !c->reserved) {
		err = vm->nr_vcpus ? -EBUSY : 0;
		if (!err) {
			vm->tsc_base = c->tsc_base;
			vm->boot_ns = c->boot_ns;
			vm->tsc_khz = c->tsc_khz;
		}
	}
	mutex_unlock(&vm->lock);
	return err;
}

static const struct vireo_call vm_calls[] = {
	{ VIREO_CREATE_VCPU, sizeof(struct vireo_create_vcpu), CALL_IN, vireo_vcpu_create },
	{ VIREO_ADD_MEMORY, sizeof(struct vireo_memory), CALL_IN, vm_add_memory,
	  VIREO_MEMORY_FILE },
	{ VIREO_GET_MEMORY, sizeof(struct vireo_get_memory), CALL_IN, vireo_mem_open },
	{ VIREO_SET_CPUID, sizeof(struct vireo_cpuid), CALL_IN, vireo_cpuid_set },
	{ VIREO_FORK, sizeof(struct vireo_fork), CALL_IN, vm_fork },
	{ VIREO_SET_FILE, sizeof(struct vireo_set_file), CALL_IN, vm_set_file },
	{ VIREO_DIFF, sizeof(struct vireo_diff), CALL_BOTH, vm_diff },
	{ VIREO_GET_CLOCK, sizeof(struct vireo_clock), CALL_OUT, vm_clock },
	{ VIREO_SET_CLOCK, sizeof(struct vireo_clock), CALL_IN, vm_clock },
	{ VIREO_INJECT_MSI, sizeof(struct vireo_msi), CALL_IN, vm_inject_msi },
	{ VIREO_GET_STAT, sizeof(struct vireo_stat), CALL_OUT, vm_get_stat },
	{ VIREO_CREATE_DISK, sizeof(struct vireo_create_disk), CALL_IN, vireo_disk_create,
	  VIREO_DISK_READONLY | VIREO_DISK_OVERLAY },
	{ VIREO_CREATE_NET, sizeof(struct vireo_create_net), CALL_IN, vireo_net_create,
	  VIREO_NET_FILTER },
	{}
};

DEFINE_VIREO_FD(vm, file->private_data, vireo_vm_put);

/* Nothing of the parent's memory may be pinned; the lock keeps new queues out. */
static int vm_inherit(struct vireo_vm *vm, struct vireo_vm *parent)
{
	int err = -EBUSY;

	mutex_lock(&parent->lock);
	vm->cpuid = parent->cpuid;
	vm->tsc_base = parent->tsc_base;
	vm->boot_ns = parent->boot_ns;
	vm->tsc_khz = parent->tsc_khz;
	if (!atomic_read(&parent->nr_queues))
		err = vireo_mem_init(&vm->mem, &parent->mem);
	mutex_unlock(&parent->lock);
	return err;
}

/* A new VM's memory, empty or another's, and its fd; the caller frees it if this fails. */
static int vm_open(struct vireo_vm *vm, struct vireo_vm *parent)
{
	int err;

	kref_init(&vm->ref);
	mutex_init(&vm->lock);
	err = vireo_hw_get();
	if (err)
		return err;
	err = parent ? vm_inherit(vm, parent) : vireo_mem_init(&vm->mem, NULL);
	if (err)
		goto fail_hw;
	err = anon_inode_getfd("vireo-vm", &vm_fops, vm, O_RDWR | O_CLOEXEC);
	if (err >= 0)
		return err;
	vireo_mem_destroy(&vm->mem);
fail_hw:
	vireo_hw_put();
	return err;
}

/**
 * vireo_vm_create() - VIREO_CREATE_VM
 * @unused: NULL
 * @cmd: that
 * @arg: struct vireo_create_vm
 * Context: May sleep.
 * Return: The VM's fd, or -EINVAL, -EBUSY, -ENOMEM, -EMFILE...
 */
long vireo_vm_create(void *unused, unsigned int cmd, void *arg)
{
	const struct vireo_create_vm *c = arg;
	struct vireo_vm *vm;
	int fd;

	if (c->reserved || !c->max_vcpus || c->max_vcpus > VIREO_MAX_VCPUS)
		return -EINVAL;
	vm = kzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);
	if (!vm)
		return -ENOMEM;
	vm->max_vcpus = c->max_vcpus;
	vm->cpuid = vireo_cpuid_default;
	vm->tsc_base = rdtsc();
	vm->boot_ns = ktime_get_real_ns();
	vm->tsc_khz = tsc_khz;
	fd = vm_open(vm, NULL);
	if (fd < 0)
		kfree(vm);
	return fd;
}
