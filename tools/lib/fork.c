// SPDX-License-Identifier: GPL-2.0
/*
 * A machine forks: the state of its vCPUs, the VM that the module makes of its
 * memory, and the same machine again on that in another process.
 *
 * The other process comes from fork(2), which gives it the devices that live in
 * user space.  What is the kernel's and belongs to the first VM (vCPUs, disks,
 * queues) it replaces by its own.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "libvireo.h"
#include "util.h"

/*
 * What a vCPU has beside registers, extended state and APIC.  The TSC's offset
 * comes before the clock that is made of it.  KVM's wall clock is not among
 * them: the guest wants it written once, at a time of its own choosing.
 */
static const __u32 msrs[] = {
	0x3b,						/* TSC_ADJUST */
	0x48,						/* SPEC_CTRL */
	0x174, 0x175, 0x176,				/* SYSENTER */
	0x277,						/* PAT */
	0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084,	/* SYSCALL */
	0xc0000102,					/* KERNEL_GS_BASE */
	0xc0000103,					/* TSC_AUX */
	VIREO_MSR_TSC_OFFSET,
	0x4b564d01, 0x4b564d03, 0x4b564d04,		/* KVM's clock, steal time, EOI */
};

static_assert_that(ARRAY_SIZE(msrs) <= VIREO_STATE_MSRS, "they fit");

static int state_fail(struct vireo_error *err, const struct vireo_vcpu *vcpu, const char *verb)
{
	return vireo_fail(err, errno, "cannot %s vCPU %u: %s", verb, vcpu->id, strerror(errno));
}

/* Those that the processor has: a call ends at one that it has not. */
static int save_msrs(struct vireo_vcpu *vcpu, struct vireo_vcpu_state *s)
{
	struct vireo_msrs arg = { .size = sizeof(arg) };
	unsigned int i;
	int done;

	s->msrs = 0;
	for (i = 0; i < ARRAY_SIZE(msrs); i++)
		s->msr[i] = (struct vireo_msr){ .index = msrs[i] };
	for (i = ARRAY_SIZE(msrs); i; i -= (unsigned int)done) {
		arg.count = i;
		arg.entries = (uintptr_t)&s->msr[s->msrs];
		done = ioctl(vcpu->fd, VIREO_GET_MSRS, &arg);
		if (done < 0)
			return -1;
		s->msrs += (unsigned int)done;
		if ((unsigned int)done == i)
			break;
		i--;
		memmove(&s->msr[s->msrs], &s->msr[s->msrs + 1], (i - (unsigned int)done) *
			sizeof(s->msr[0]));
	}
	return 0;
}

/* Let the vCPU take the reply that it waits for; it does not enter the guest. */
static int complete_exit(struct vireo_vcpu *vcpu)
{
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	return ioctl(vcpu->fd, VIREO_RUN, 0) && errno == EINTR ? 0 : -1;
}

static int save_vcpu(const struct vireo_vm *vm, struct vireo_vcpu *vcpu,
		     struct vireo_vcpu_state *s, struct vireo_error *err)
{
	struct vireo_xsave xsave = { .size = sizeof(xsave), .bytes = vm->info.xsave_size };

	s->xsave = aligned_alloc(64, (xsave.bytes + 63) & ~63ULL);
	if (!s->xsave)
		return vireo_fail(err, ENOMEM, "out of memory");
	xsave.data = (uintptr_t)s->xsave;
	s->regs = (struct vireo_regs){ .size = sizeof(s->regs) };
	if (complete_exit(vcpu) || ioctl(vcpu->fd, VIREO_GET_REGS, &s->regs) ||
	    ioctl(vcpu->fd, VIREO_GET_XSAVE, &xsave) || save_msrs(vcpu, s) ||
	    vireo_lapic_get(vcpu->fd, &s->lapic))
		return state_fail(err, vcpu, "read the state of");
	return 0;
}

static int restore_vcpu(const struct vireo_vm *vm, struct vireo_vcpu *vcpu,
			struct vireo_vcpu_state *s, struct vireo_error *err)
{
	struct vireo_xsave xsave = {
		.size = sizeof(xsave), .bytes = vm->info.xsave_size, .data = (uintptr_t)s->xsave,
	};
	struct vireo_msrs arg = {
		.size = sizeof(arg), .count = s->msrs, .entries = (uintptr_t)s->msr,
	};
	int done;

	if (ioctl(vcpu->fd, VIREO_SET_REGS, &s->regs) ||
	    ioctl(vcpu->fd, VIREO_SET_XSAVE, &xsave))
		return state_fail(err, vcpu, "set the state of");
	done = ioctl(vcpu->fd, VIREO_SET_MSRS, &arg);
	if (done < 0 || vireo_lapic_set(vcpu->fd, &s->lapic))
		return state_fail(err, vcpu, "set the state of");
	if ((unsigned int)done < s->msrs)
		return vireo_fail(err, EINVAL, "vCPU %u does not take MSR 0x%x", vcpu->id,
				  s->msr[done].index);
	return 0;
}

/**
 * vireo_machine_save - the state of all vCPUs
 * @m: the machine, paused
 * @err: why not
 *
 * Return: an array by vCPU for vireo_state_free(), or NULL.
 */
struct vireo_vcpu_state *vireo_machine_save(struct vireo_machine *m, struct vireo_error *err)
{
	struct vireo_vcpu_state *state = calloc(m->vcpus, sizeof(*state));
	__u32 i;

	if (!state)
		vireo_fail(err, ENOMEM, "out of memory");
	for (i = 0; state && i < m->vcpus; i++) {
		if (!save_vcpu(&m->vm, &m->thread[i].vcpu, &state[i], err))
			continue;
		vireo_state_free(state, m->vcpus);
		state = NULL;
	}
	return state;
}

/** vireo_state_free - free the state of that many vCPUs; NULL is none */
void vireo_state_free(struct vireo_vcpu_state *state, __u32 vcpus)
{
	__u32 i;

	for (i = 0; state && i < vcpus; i++)
		free(state[i].xsave);
	free(state);
}

/**
 * vireo_vm_fork - a VM with the memory of another
 * @vm: the other fd
 * @err: why not; EBUSY: a queue is served
 *
 * Return: its fd, or a negative errno.
 */
int vireo_vm_fork(int vm, struct vireo_error *err)
{
	struct vireo_fork arg = { .size = sizeof(arg) };
	int fd = ioctl(vm, VIREO_FORK, &arg);

	if (fd >= 0)
		return fd;
	if (errno == ENOTTY)
		return vireo_fail(err, errno,
				  "the module cannot fork: install module and tool from one release");
	return vireo_fail(err, errno, "cannot fork the memory: %s", strerror(errno));
}

/**
 * vireo_machine_can_fork - whether a clone could have all devices that the machine has
 * @m: the machine
 * @err: what stands in the way
 */
int vireo_machine_can_fork(struct vireo_machine *m, struct vireo_error *err)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < ARRAY_SIZE(m->device) && !ret; i++) {
		struct vireo_pv *pv = m->device[i];

		if (!pv)
			continue;
		if (pv->ops->can_fork)
			ret = pv->ops->can_fork(pv, err);
		else
			ret = vireo_fail(err, EOPNOTSUPP, "%s (%s) cannot be forked", pv->name,
					 pv->backing);
	}
	return ret;
}

/**
 * vireo_machine_suspend - have nobody but the vCPUs use guest memory
 * @m: the machine, paused
 * @err: why not; vireo_machine_serve() is due all the same
 *
 * Returns when no I/O is in flight.
 */
int vireo_machine_suspend(struct vireo_machine *m, struct vireo_error *err)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < ARRAY_SIZE(m->device) && !ret; i++) {
		if (m->device[i])
			ret = vireo_pv_suspend(m->device[i], err);
	}
	return ret;
}

/**
 * vireo_machine_freeze - keep what is behind the devices as it is now, for clones
 * @m: the machine, suspended
 * @err: why not; vireo_machine_thaw() is due all the same
 */
int vireo_machine_freeze(struct vireo_machine *m, struct vireo_error *err)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < ARRAY_SIZE(m->device) && !ret; i++) {
		if (m->device[i] && m->device[i]->ops->freeze)
			ret = m->device[i]->ops->freeze(m->device[i], err);
	}
	return ret;
}

/** vireo_machine_thaw - forget it; clones have it from fork(2) */
void vireo_machine_thaw(struct vireo_machine *m)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(m->device); i++) {
		if (m->device[i] && m->device[i]->ops->thaw)
			m->device[i]->ops->thaw(m->device[i]);
	}
}

/**
 * vireo_machine_serve - undo vireo_machine_suspend(); also in a clone
 * @m: the machine, paused or held
 * @here: also the queues that this process serves: their devices change with that
 * @err: which queue cannot be served
 */
int vireo_machine_serve(struct vireo_machine *m, bool here, struct vireo_error *err)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < ARRAY_SIZE(m->device); i++) {
		if (m->device[i] && (here || !m->device[i]->ops->doorbell) &&
		    vireo_pv_resume(m->device[i], err))
			ret = -EIO;
	}
	return ret;
}

/**
 * vireo_machine_inherit - first of all in a process made by fork(2)
 * @m: the other's, suspended, or held since then
 *
 * Until this has been done the other process cannot close a queue.
 */
void vireo_machine_inherit(struct vireo_machine *m)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(m->device); i++) {
		if (m->device[i])
			vireo_pv_inherit(m->device[i]);
	}
}

/**
 * vireo_vm_become - replace a VM by another
 * @vm: the VM
 * @fd: the other's, which @vm owns from now on
 * @err: why not
 */
int vireo_vm_become(struct vireo_vm *vm, int fd, struct vireo_error *err)
{
	struct vireo_get_memory get = { .size = sizeof(get) };

	vireo_vm_close(vm);
	vm->fd = fd;
	vm->mem_fd = ioctl(fd, VIREO_GET_MEMORY, &get);
	return vm->mem_fd < 0 ?
	       vireo_fail(err, errno, "no memory fd: %s", strerror(errno)) : 0;
}

/* Other processes share what fork(2) has left; nobody holds a lock of theirs here. */
static int renew(struct vireo_machine *m, struct vireo_error *err)
{
	unsigned int i;

	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->cond, NULL);
	close(m->end_fd);
	close(m->eject_fd);
	m->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	m->eject_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->end_fd < 0 || m->eject_fd < 0)
		return vireo_fail(err, errno, "eventfd: %s", strerror(errno));
	for (i = 0; i < m->slots; i++)
		m->port[i].eject_fd = m->eject_fd;
	m->state = VIREO_MACHINE_RUNNING;
	m->held = false;
	m->live = 0;
	return 0;
}

/**
 * vireo_machine_renew_identity - tell the guest that it is a clone
 * @m: the machine, which does not run
 * @err: why not
 *
 * It finds another VM generation id; a Linux that knows this takes it into its random
 * numbers at once.
 */
int vireo_machine_renew_identity(struct vireo_machine *m, struct vireo_error *err)
{
	__u8 id[VIREO_GENERATION_SIZE];
	struct vireo_msi msi;
	int ret;

	if (getrandom(id, sizeof(id), 0) != sizeof(id))
		return vireo_fail(err, errno, "no random numbers: %s", strerror(errno));
	ret = vireo_vm_write(&m->vm, VIREO_GENERATION, id, sizeof(id), err);
	if (!ret && vireo_ioapic_raise(&m->ioapic, VIREO_PIN_EVENT, &msi))
		vireo_vm_inject_msi(&m->vm, &msi);
	return ret;
}

/**
 * vireo_machine_load - give a machine its vCPUs, with what they hold
 * @m: the machine; its number of vCPUs is set
 * @state: by vCPU
 * @err: why not
 */
int vireo_machine_load(struct vireo_machine *m, struct vireo_vcpu_state *state,
		       struct vireo_error *err)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < m->vcpus && !ret; i++) {
		m->thread[i].machine = m;
		ret = vireo_vcpu_create(&m->vm, &m->thread[i].vcpu, i, err);
		if (!ret)
			ret = restore_vcpu(&m->vm, &m->thread[i].vcpu, &state[i], err);
	}
	return ret;
}

/**
 * vireo_machine_become - in a process made by fork(2): run on another VM
 * @m: the machine, after vireo_machine_inherit()
 * @fd: vireo_vm_fork()'s; @m owns it from now on
 * @state: what its vCPUs hold
 * @clone: what it has of its own
 * @err: why not
 *
 * Afterwards it can be started, or destroyed; the other process's is untouched.
 */
int vireo_machine_become(struct vireo_machine *m, int fd, struct vireo_vcpu_state *state,
			 const struct vireo_clone *clone, struct vireo_error *err)
{
	unsigned int i;
	int ret;

	for (i = 0; i < m->vcpus; i++) {
		m->thread[i].started = false;
		m->thread[i].parked = false;
		vireo_vcpu_close(&m->thread[i].vcpu);
	}
	ret = vireo_vm_become(&m->vm, fd, err);
	if (!ret)
		ret = renew(m, err);
	if (!ret)
		ret = vireo_machine_load(m, state, err);
	if (!ret)
		ret = vireo_machine_renew_identity(m, err);
	for (i = 0; i < ARRAY_SIZE(m->device) && !ret; i++) {
		if (m->device[i])
			ret = m->device[i]->ops->fork(m->device[i], clone, err);
	}
	return ret ? ret : vireo_machine_serve(m, true, err);
}
