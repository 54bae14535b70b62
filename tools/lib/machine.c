// SPDX-License-Identifier: GPL-2.0
/*
 * A VM that runs: one thread per vCPU, pause and resume, the end.
 *
 * A thread leaves VIREO_RUN for three reasons: the guest did something that user
 * space answers; the state changed (another thread sets @state under the lock,
 * then immediate_exit, then sends a signal, so that a change is never missed);
 * or the run ended.  The first reason for an end wins.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "libvireo.h"
#include "mmio.h"
#include "util.h"

#define KICK_SIGNAL		SIGUSR1	/* a real-time signal may find no room in the queue */
#define MSR_KVM_SYSTEM_TIME	0x4b564d01U
#define KVM_TIME_ENABLED	1ULL

#define KBC_PORT		0x64	/* keyboard controller: command, status */
#define KBC_RESET		0xfe

static void on_kick(int sig)
{
	(void)sig;	/* its arrival is all that is wanted */
}

/* Get every vCPU out of the guest; called with the lock held. */
static void kick_all(struct vireo_machine *m)
{
	__u32 i;

	for (i = 0; i < m->vcpus; i++) {
		struct vireo_thread *t = &m->thread[i];

		if (!t->started)
			continue;
		__atomic_store_n(&t->vcpu.run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		if (!pthread_equal(t->thread, pthread_self()))
			pthread_kill(t->thread, KICK_SIGNAL);
	}
}

/**
 * vireo_machine_end - end the run; only the first call counts
 * @m: the machine
 * @end: how it ended
 * @vcpu: where, or NULL
 * @fmt: one line that explains
 *
 * May be called from any thread.  The threads end soon after;
 * vireo_machine_join() waits for them.
 */
void vireo_machine_end(struct vireo_machine *m, enum vireo_end end, struct vireo_vcpu *vcpu,
		       const char *fmt, ...)
{
	va_list args;

	pthread_mutex_lock(&m->lock);
	if (m->state != VIREO_MACHINE_ENDED) {
		m->state = VIREO_MACHINE_ENDED;
		m->end = end;
		m->end_vcpu = vcpu ? (int)vcpu->id : -1;
		va_start(args, fmt);
		vsnprintf(m->end_text, sizeof(m->end_text), fmt, args);
		va_end(args);
		kick_all(m);
		pthread_cond_broadcast(&m->cond);
		eventfd_write(m->end_fd, 1);
	}
	pthread_mutex_unlock(&m->lock);
}

/*
 * An unmodified Linux asks for a reset in the same way whether it reboots or has
 * panicked.  But before an orderly reboot it switches the KVM clock off on every
 * vCPU (6.1 and 6.12: kvm_pv_reboot_notify(), before 5.14: kvm_shutdown()),
 * which the emergency restart of a panic (and of SysRq-b) does not.
 */
static void guest_reset(struct vireo_machine *m, struct vireo_vcpu *vcpu)
{
	__u64 clock = 0;

	if (!vireo_vcpu_get_msr(vcpu, MSR_KVM_SYSTEM_TIME, &clock) && (clock & KVM_TIME_ENABLED))
		vireo_machine_end(m, VIREO_END_CRASH, vcpu,
				  "guest kernel crashed (reset without an orderly reboot)");
	else
		vireo_machine_end(m, VIREO_END_RESET, vcpu, "guest rebooted");
}

/* ACPI: sleep control, sleep status, reset */
static void power_write(void *ctx, struct vireo_vcpu *vcpu, __u64 offset, unsigned int width,
			__u64 value)
{
	(void)width;
	if (offset == VIREO_PORT_SLEEP_CTL - VIREO_PORT_SLEEP_CTL &&
	    (value & VIREO_SLEEP_ENABLE) && ((value >> 2) & 7) == VIREO_SLEEP_S5)
		vireo_machine_end(ctx, VIREO_END_POWEROFF, vcpu, "guest powered off");
	if (offset == VIREO_PORT_RESET - VIREO_PORT_SLEEP_CTL && value == VIREO_RESET_VALUE)
		guest_reset(ctx, vcpu);
}

static __u64 power_read(void *ctx, struct vireo_vcpu *vcpu, __u64 offset, unsigned int width)
{
	(void)ctx;
	(void)vcpu;
	(void)offset;
	(void)width;
	return 0;
}

/*
 * What is left of the keyboard controller: the reset line, which a Linux that
 * panics before it has read the ACPI tables uses.  Its status says "ready".
 */
static void kbc_write(void *ctx, struct vireo_vcpu *vcpu, __u64 offset, unsigned int width,
		      __u64 value)
{
	(void)offset;
	(void)width;
	if ((value & 0xff) == KBC_RESET)
		guest_reset(ctx, vcpu);
}

static int add_power(struct vireo_machine *m)
{
	struct vireo_device power = {
		.name = "power", .base = VIREO_PORT_SLEEP_CTL, .len = 3,
		.read = power_read, .write = power_write, .ctx = m,
	};
	struct vireo_device kbc = {
		.name = "reset", .base = KBC_PORT, .len = 1,
		.read = power_read, .write = kbc_write, .ctx = m,
	};
	int ret = vireo_bus_add(&m->ports, &power);

	return ret ? ret : vireo_bus_add(&m->ports, &kbc);
}

static int catch_kick(struct vireo_error *err)
{
	struct sigaction sa = { .sa_handler = on_kick };	/* no SA_RESTART */

	sigemptyset(&sa.sa_mask);
	if (sigaction(KICK_SIGNAL, &sa, NULL))
		return vireo_fail(err, errno, "sigaction: %s", strerror(errno));
	return 0;
}

/**
 * vireo_machine_init - a machine without memory and vCPUs, for a state to be loaded
 * @m: filled in
 * @vcpus: how many it will get, 1 to vireo_info.max_vcpus
 * @err: why not
 *
 * Return: 0, or a negative errno with nothing left open.
 */
int vireo_machine_init(struct vireo_machine *m, __u32 vcpus, struct vireo_error *err)
{
	__u32 i;
	int ret;

	memset(m, 0, sizeof(*m));
	m->vm = (struct vireo_vm){ .fd = -1, .mem_fd = -1 };
	m->end_vcpu = -1;
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->cond, NULL);
	for (i = 0; i < VIREO_MAX_VCPUS; i++)
		m->thread[i].vcpu.fd = -1;

	m->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	m->eject_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ret = m->end_fd < 0 || m->eject_fd < 0 ?
	      vireo_fail(err, errno, "eventfd: %s", strerror(errno)) : 0;
	if (!ret)
		ret = catch_kick(err);
	if (!ret)
		ret = vireo_vm_create(&m->vm, vcpus, err);
	if (!ret) {
		m->cpuids = vireo_cpuid_default(&m->vm.info, vcpus, m->cpuid);
		ret = vireo_vm_set_cpuid(&m->vm, m->cpuid, m->cpuids, err);
	}
	if (!ret)
		ret = add_power(m);
	if (!ret)
		ret = vireo_pci_init(&m->pci, &m->ports, &m->mmio);
	if (!ret)
		ret = vireo_ioapic_init(&m->ioapic, &m->mmio);
	if (ret)
		vireo_machine_destroy(m);
	return ret;
}

/**
 * vireo_machine_create - a VM with memory, vCPUs and the power ports
 * @m: filled in
 * @vcpus: 1 to vireo_info.max_vcpus
 * @memory: bytes, a multiple of 4096
 * @err: why not
 *
 * Return: 0, or a negative errno with nothing left open.
 */
int vireo_machine_create(struct vireo_machine *m, __u32 vcpus, __u64 memory,
			 struct vireo_error *err)
{
	__u32 i;
	int ret = vireo_machine_init(m, vcpus, err);

	if (ret)
		return ret;
	ret = vireo_vm_add_memory(&m->vm, memory, err);
	for (i = 0; !ret && i < vcpus; i++) {
		m->thread[i].machine = m;
		ret = vireo_vcpu_create(&m->vm, &m->thread[i].vcpu, i, err);
		if (ret)
			break;
		m->vcpus++;
		if (vireo_vcpu_reset(m->thread[i].vcpu.fd, !i))
			ret = vireo_fail(err, errno, "cannot reset vCPU %u: %s", i,
					 strerror(errno));
	}
	if (ret)
		vireo_machine_destroy(m);
	return ret;
}

/**
 * vireo_machine_slots - make slots for devices that are added while it runs
 * @m: the machine, not started
 * @slots: how many, to VIREO_PORTS
 * @err: why not
 */
int vireo_machine_slots(struct vireo_machine *m, unsigned int slots, struct vireo_error *err)
{
	int ret = 0;

	while (m->slots < slots && !ret) {
		ret = vireo_port_init(&m->port[m->slots], &m->pci, &m->vm, m->eject_fd, err);
		if (!ret)
			m->slots++;
	}
	return ret;
}

static struct vireo_port *empty_slot(struct vireo_machine *m, int slot)
{
	unsigned int i;

	for (i = 0; i < m->slots; i++) {
		if (!m->port[i].child && (slot == VIREO_SLOT_ANY || slot == (int)i))
			return &m->port[i];
	}
	return NULL;
}

/**
 * vireo_machine_add - give a machine a device, which gets the name KINDn
 * @m: the machine, which then owns it
 * @pv: the device; destroyed if this fails
 * @slot: number of the slot that it goes into; VIREO_SLOT_ANY: one that is empty;
 *	VIREO_SLOT_NONE: not into a slot, which it must if the machine runs
 * @err: why not
 */
int vireo_machine_add(struct vireo_machine *m, struct vireo_pv *pv, int slot,
		      struct vireo_error *err)
{
	unsigned int number = 0, place = ARRAY_SIZE(m->device), i;
	struct vireo_port *port = empty_slot(m, slot);
	int ret;

	for (i = 0; i < ARRAY_SIZE(m->device); i++) {
		if (!m->device[i])
			place = place < i ? place : i;
		else if (m->device[i]->ops == pv->ops && m->device[i]->number >= number)
			number = m->device[i]->number + 1;
	}
	pv->number = number;
	snprintf(pv->name, sizeof(pv->name), "%s%u", pv->ops->kind, number);
	if (slot >= 0 && !port)
		ret = vireo_fail(err, EINVAL, "slot %d is not there, or is not empty", slot);
	else if (slot != VIREO_SLOT_NONE && !port)
		ret = vireo_fail(err, ENOSPC,
				 "no slot is empty: detach something, or start the VM with more --slots (it has %u)",
				 m->slots);
	else
		ret = vireo_pv_attach(pv, &m->pci, port, err);
	if (ret) {
		vireo_pv_destroy(pv);
		return ret;
	}
	m->device[place] = pv;	/* there are fewer slots than places */
	return 0;
}

/**
 * vireo_machine_arrange - put the devices of a restored machine where they were
 * @m: the machine, not started, to which nothing but these was added
 * @place: for each of them, in the order in which they were added, its index in @m->device
 * @count: how many there are
 * @err: why not
 */
int vireo_machine_arrange(struct vireo_machine *m, const unsigned int *place,
			  unsigned int count, struct vireo_error *err)
{
	struct vireo_pv *to[ARRAY_SIZE(m->device)] = { NULL };
	unsigned int i;

	for (i = 0; i < count; i++) {
		if (place[i] >= ARRAY_SIZE(to) || to[place[i]])
			return vireo_fail(err, EINVAL, "two devices are in one place");
		to[place[i]] = m->device[i];
	}
	memcpy(m->device, to, sizeof(to));
	return 0;
}

static void remove_device(struct vireo_machine *m, struct vireo_pv *pv)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(m->device); i++) {
		if (m->device[i] == pv)
			m->device[i] = NULL;
	}
	vireo_pv_destroy(pv);
}

/**
 * vireo_machine_detach - take a device away
 * @m: the machine
 * @pv: its device
 * @force: at once; else when the guest has let go of it
 * @err: why not
 */
int vireo_machine_detach(struct vireo_machine *m, struct vireo_pv *pv, bool force,
			 struct vireo_error *err)
{
	if (!strcmp(pv->ops->kind, "console"))
		return vireo_fail(err, EBUSY, "%s cannot be detached", pv->name);
	if (!pv->port && !force)
		return vireo_fail(err, EBUSY,
				  "%s is not in a slot, so the guest cannot be asked to let go of it: pull it with --force, or start the VM with --slots",
				  pv->name);
	if (force)
		remove_device(m, pv);
	else
		vireo_port_press(pv->port);
	return 0;
}

/** vireo_machine_eject - free the devices that the guest has let go of */
void vireo_machine_eject(struct vireo_machine *m)
{
	eventfd_t count;
	unsigned int i;

	eventfd_read(m->eject_fd, &count);
	for (i = 0; i < ARRAY_SIZE(m->device); i++) {
		if (m->device[i] && m->device[i]->port &&
		    vireo_port_released(m->device[i]->port))
			remove_device(m, m->device[i]);
	}
}

/* Wait while the machine is paused; false once it has ended. */
static bool may_run(struct vireo_thread *t)
{
	struct vireo_machine *m = t->machine;
	bool run;

	pthread_mutex_lock(&m->lock);
	while (m->state == VIREO_MACHINE_PAUSED) {
		if (!t->parked) {
			t->parked = true;
			pthread_cond_broadcast(&m->cond);
		}
		pthread_cond_wait(&m->cond, &m->lock);
	}
	t->parked = false;
	run = m->state == VIREO_MACHINE_RUNNING;
	/*
	 * Who changes @state, with the lock held, sets this again.  Not before: while it
	 * is paused somebody else may rely on it, see complete_exit().
	 */
	if (run)
		__atomic_store_n(&t->vcpu.run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&m->lock);
	return run;
}

static void handle_io(struct vireo_machine *m, struct vireo_vcpu *vcpu, struct vireo_run *run)
{
	if (!run->io.width)
		vireo_machine_end(m, VIREO_END_SHUTDOWN, vcpu,
				  "guest shut down: I/O by an instruction that is not supported at rip 0x%llx (port 0x%x)",
				  run->rip, run->io.port);
	else if (run->io.write)
		vireo_bus_write(&m->ports, vcpu, run->io.port, run->io.width,
				vireo_io_data(run));
	else
		vireo_io_reply(run, (__u32)vireo_bus_read(&m->ports, vcpu, run->io.port,
							  run->io.width));
}

/* The guest's end: it does I/O in a way that no device has. */
static void bad_mmio(struct vireo_machine *m, struct vireo_vcpu *vcpu,
		     const struct vireo_run *run, const struct vireo_mmio *mmio)
{
	char insn[3 * VIREO_INSN_MAX + 1] = "";
	unsigned int i;

	for (i = 0; i < mmio->insn_len; i++)
		snprintf(insn + 3 * i, 4, " %02x", mmio->insn[i]);
	vireo_machine_end(m, VIREO_END_SHUTDOWN, vcpu,
			  "guest shut down: I/O by an instruction that is not supported at rip 0x%llx (gpa 0x%llx, instruction%s)",
			  run->rip, mmio->gpa, insn);
}

static void handle_mmio(struct vireo_machine *m, struct vireo_vcpu *vcpu, struct vireo_run *run)
{
	struct vireo_mmio mmio;
	__u64 data = 0;
	int ret = vireo_mmio_take(run, m->vm.mem_fd, &mmio);

	if (ret == -EOPNOTSUPP)
		bad_mmio(m, vcpu, run, &mmio);
	if (ret)
		return;
	if (mmio.write)
		vireo_bus_write(&m->mmio, vcpu, mmio.gpa, mmio.width, mmio.data);
	else
		data = vireo_bus_read(&m->mmio, vcpu, mmio.gpa, mmio.width);
	vireo_mmio_reply(run, &mmio, data);
}

static void handle_system(struct vireo_machine *m, struct vireo_vcpu *vcpu,
			  const struct vireo_run *run)
{
	switch (run->end.what) {
	case VIREO_SYSTEM_POWEROFF:
		vireo_machine_end(m, VIREO_END_POWEROFF, vcpu, "guest powered off");
		break;
	case VIREO_SYSTEM_RESET:
		vireo_machine_end(m, VIREO_END_RESET, vcpu, "guest rebooted");
		break;
	default:
		vireo_machine_end(m, VIREO_END_CRASH, vcpu, "guest kernel crashed (code 0x%llx)",
				  run->end.code);
	}
}

static void handle_shutdown(struct vireo_machine *m, struct vireo_vcpu *vcpu,
			    const struct vireo_run *run)
{
	static const char *const reasons[] = {
		[VIREO_SHUTDOWN_TRIPLE_FAULT] = "triple fault",
		[VIREO_SHUTDOWN_FETCH] = "instruction cannot be read",
		[VIREO_SHUTDOWN_EXIT] = "unknown exit",
	};
	__u32 reason = run->end.what;

	vireo_machine_end(m, VIREO_END_SHUTDOWN, vcpu,
			  "guest shut down: %s at rip 0x%llx (exit 0x%llx, gpa 0x%llx)",
			  reason < ARRAY_SIZE(reasons) ? reasons[reason] : "unknown reason",
			  run->rip, run->end.code, run->end.info);
}

static void handle_init(struct vireo_machine *m, struct vireo_vcpu *vcpu, int failed)
{
	if (failed)
		vireo_machine_end(m, VIREO_END_ERROR, vcpu, "vCPU %u cannot be started: %s",
				  vcpu->id, strerror(errno));
}

static void handle_exit(struct vireo_machine *m, struct vireo_vcpu *vcpu)
{
	struct vireo_run *run = vcpu->run;

	switch (run->exit_reason) {
	case VIREO_EXIT_IO:
		handle_io(m, vcpu, run);
		break;
	case VIREO_EXIT_MMIO:
		handle_mmio(m, vcpu, run);
		break;
	case VIREO_EXIT_INTR:
		break;
	case VIREO_EXIT_SYSTEM:
		handle_system(m, vcpu, run);
		break;
	case VIREO_EXIT_SHUTDOWN:
		handle_shutdown(m, vcpu, run);
		break;
	case VIREO_EXIT_INIT:
		handle_init(m, vcpu, vireo_vcpu_init(vcpu->fd, !vcpu->id));
		break;
	case VIREO_EXIT_SIPI:
		handle_init(m, vcpu, vireo_vcpu_sipi(vcpu->fd, run));
		break;
	case VIREO_EXIT_FAIL_ENTRY:
		vireo_machine_end(m, VIREO_END_FAIL_ENTRY, vcpu,
				  "the processor refused to enter the guest (code 0x%llx, check %llu)",
				  run->end.code, run->end.info);
		break;
	default:
		vireo_machine_end(m, VIREO_END_ERROR, vcpu,
				  "unknown exit %u: tool and module do not match",
				  run->exit_reason);
	}
}

static void wait_held(struct vireo_machine *m)
{
	pthread_mutex_lock(&m->lock);
	while (m->held)
		pthread_cond_wait(&m->cond, &m->lock);
	pthread_mutex_unlock(&m->lock);
}

/* Whether the vCPU may go on without a look at the state. */
static bool run_once(struct vireo_thread *t)
{
	struct vireo_machine *m = t->machine;
	int code = ioctl(t->vcpu.fd, VIREO_RUN, 0) ? errno : 0;

	if (__atomic_load_n(&m->held, __ATOMIC_ACQUIRE))
		wait_held(m);
	if (!code) {
		handle_exit(m, &t->vcpu);
		return !__atomic_load_n(&t->vcpu.run->immediate_exit, __ATOMIC_RELAXED);
	}
	if (code == EINTR)
		return false;
	if (code == ENOMEM)
		vireo_machine_end(m, VIREO_END_ERROR, &t->vcpu,
				  "out of memory for the guest: raise the memory limit of this cgroup");
	else if (code == EIO)
		vireo_machine_end(m, VIREO_END_ERROR, &t->vcpu,
				  "a page of the snapshot that it runs from cannot be read, or the host goes down: %s",
				  strerror(code));
	else
		vireo_machine_end(m, VIREO_END_ERROR, &t->vcpu, "vCPU %u cannot run: %s",
				  t->vcpu.id, strerror(code));
	return false;
}

static void *vcpu_thread(void *arg)
{
	struct vireo_thread *t = arg;
	struct vireo_machine *m = t->machine;

	while (may_run(t)) {
		while (run_once(t))
			continue;
	}
	pthread_mutex_lock(&m->lock);
	m->live--;
	pthread_cond_broadcast(&m->cond);
	pthread_mutex_unlock(&m->lock);
	return NULL;
}

/* Start one thread; no signal but the kick and those of a fault may reach it. */
static int start_thread(struct vireo_thread *t)
{
	sigset_t block, old;
	int ret;

	sigfillset(&block);
	sigdelset(&block, KICK_SIGNAL);
	sigdelset(&block, SIGSEGV);
	sigdelset(&block, SIGBUS);
	sigdelset(&block, SIGILL);
	sigdelset(&block, SIGFPE);
	sigdelset(&block, SIGABRT);
	pthread_sigmask(SIG_SETMASK, &block, &old);
	ret = pthread_create(&t->thread, NULL, vcpu_thread, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return ret;
}

/**
 * vireo_machine_start - let all vCPUs run, each in a thread
 * @m: with vCPU 0 made ready, see vireo_boot()
 * @err: why not
 *
 * Return: 0, or a negative errno; vireo_machine_destroy() is due in any case.
 */
int vireo_machine_start(struct vireo_machine *m, struct vireo_error *err)
{
	int code = 0;
	__u32 i;

	/* Held until all are started, so that kick_all() sees all or none. */
	pthread_mutex_lock(&m->lock);
	for (i = 0; i < m->vcpus && !code; i++) {
		code = start_thread(&m->thread[i]);
		if (!code) {
			m->thread[i].started = true;
			m->live++;
		}
	}
	pthread_mutex_unlock(&m->lock);
	if (!code)
		return 0;
	vireo_machine_end(m, VIREO_END_ERROR, NULL, "cannot create a thread: %s", strerror(code));
	return vireo_fail(err, code, "cannot create a thread: %s", strerror(code));
}

static bool all_parked(const struct vireo_machine *m)
{
	__u32 i;

	for (i = 0; i < m->vcpus; i++) {
		if (m->thread[i].started && !m->thread[i].parked)
			return false;
	}
	return true;
}

/**
 * vireo_machine_pause - stop all vCPUs, and wait until they have stopped
 * @m: the machine
 *
 * Return: 0 (also if it was paused), ESRCH if the run has ended.
 */
int vireo_machine_pause(struct vireo_machine *m)
{
	int ret;

	pthread_mutex_lock(&m->lock);
	if (m->state == VIREO_MACHINE_RUNNING) {
		m->state = VIREO_MACHINE_PAUSED;
		kick_all(m);
	}
	while (m->state == VIREO_MACHINE_PAUSED && !all_parked(m))
		pthread_cond_wait(&m->cond, &m->lock);
	ret = m->state == VIREO_MACHINE_PAUSED ? 0 : -ESRCH;
	pthread_mutex_unlock(&m->lock);
	return ret;
}

/**
 * vireo_machine_resume - let paused vCPUs go on
 * @m: the machine
 *
 * Return: 0 (also if it was running), ESRCH if the run has ended.
 */
int vireo_machine_resume(struct vireo_machine *m)
{
	int ret = 0;

	pthread_mutex_lock(&m->lock);
	if (m->state == VIREO_MACHINE_PAUSED) {
		m->state = VIREO_MACHINE_RUNNING;
		pthread_cond_broadcast(&m->cond);
	} else if (m->state == VIREO_MACHINE_ENDED) {
		ret = -ESRCH;
	}
	pthread_mutex_unlock(&m->lock);
	return ret;
}

/**
 * vireo_machine_hold - have all that vCPUs ask of user space wait, or go on
 * @m: the machine
 * @hold: from now on, if it is paused; else what waits goes on
 *
 * The guest may run meanwhile, while the devices stay as they are: for fork(2).
 */
void vireo_machine_hold(struct vireo_machine *m, bool hold)
{
	pthread_mutex_lock(&m->lock);
	__atomic_store_n(&m->held, hold, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&m->cond);
	pthread_mutex_unlock(&m->lock);
}

/** vireo_machine_join - wait until the run has ended and its threads too */
void vireo_machine_join(struct vireo_machine *m)
{
	__u32 i;

	for (i = 0; i < m->vcpus; i++) {
		if (m->thread[i].started)
			pthread_join(m->thread[i].thread, NULL);
		m->thread[i].started = false;
	}
}

/**
 * vireo_machine_dump - print the registers of the vCPU where the run ended, and
 *	a line for each of the others
 * @m: after vireo_machine_join()
 * @out: where to
 */
void vireo_machine_dump(struct vireo_machine *m, FILE *out)
{
	struct vireo_error err;
	struct vireo_regs regs;
	__u32 i;

	for (i = 0; i < m->vcpus; i++) {
		fprintf(out, "vCPU %u: ", i);
		if (vireo_vcpu_get_regs(&m->thread[i].vcpu, &regs, &err)) {
			fprintf(out, "%s\n", err.text);
		} else if ((int)i == m->end_vcpu) {
			fputc('\n', out);
			vireo_regs_print(&regs, out);
		} else {
			vireo_regs_brief(&regs, out);
		}
	}
}

/** vireo_machine_destroy - end the run if it has not ended, and free everything */
void vireo_machine_destroy(struct vireo_machine *m)
{
	__u32 i;

	vireo_machine_end(m, VIREO_END_STOPPED, NULL, "destroyed");
	vireo_machine_join(m);
	for (i = 0; i < ARRAY_SIZE(m->device); i++) {
		if (m->device[i])
			remove_device(m, m->device[i]);
	}
	vireo_pci_destroy(&m->pci);
	for (i = 0; i < VIREO_MAX_VCPUS; i++)
		vireo_vcpu_close(&m->thread[i].vcpu);
	vireo_vm_close(&m->vm);
	if (m->end_fd >= 0)
		close(m->end_fd);
	if (m->eject_fd >= 0)
		close(m->eject_fd);
	m->end_fd = -1;
	m->eject_fd = -1;
	pthread_cond_destroy(&m->cond);
	pthread_mutex_destroy(&m->lock);
}
