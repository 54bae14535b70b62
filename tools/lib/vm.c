// SPDX-License-Identifier: GPL-2.0
/* The objects of /dev/vireo, with errors that say what to do. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "libvireo.h"

static int device_fail(struct vireo_error *err, int code)
{
	switch (code) {
	case ENOENT:
	case ENXIO:
		return vireo_fail(err, code, "no " VIREO_DEVICE
				  ": load the module (modprobe vireo), see `vireo doctor`");
	case EACCES:
	case EPERM:
		return vireo_fail(err, code, "may not open " VIREO_DEVICE
				  ": become a member of the group vireo, or root");
	default:
		return vireo_fail(err, code, "cannot open " VIREO_DEVICE ": %s", strerror(code));
	}
}

/**
 * vireo_device_open - open /dev/vireo and ask what it offers
 * @info: filled in
 * @err: why not
 *
 * Return: the fd, or a negative errno; EPROTO if the module speaks another
 * version of the interface.
 */
int vireo_device_open(struct vireo_info *info, struct vireo_error *err)
{
	int fd, code;

	fd = open(VIREO_DEVICE, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return device_fail(err, errno);

	memset(info, 0, sizeof(*info));
	info->size = sizeof(*info);
	if (ioctl(fd, VIREO_GET_INFO, info)) {
		code = errno;
		close(fd);
		return vireo_fail(err, code, VIREO_DEVICE " does not answer: %s", strerror(code));
	}
	if (info->api_version != VIREO_API_VERSION) {
		close(fd);
		return vireo_fail(err, EPROTO,
				  "the module speaks interface %u and this tool %u: install both from one release",
				  info->api_version, VIREO_API_VERSION);
	}
	return fd;
}

static int create_fail(struct vireo_error *err, int code)
{
	switch (code) {
	case EBUSY:
		return vireo_fail(err, code,
				  "another hypervisor holds the processor's extension: rmmod kvm_amd (or kvm_intel)");
	case ENODEV:
	case EOPNOTSUPP:
		return vireo_fail(err, code,
				  "the processor has no usable AMD-V or VT-x, or the firmware locked it: see `vireo doctor`");
	case ENOMEM:
		return vireo_fail(err, code,
				  "not enough memory to create a VM: raise the memory limit of this cgroup");
	default:
		return vireo_fail(err, code, "cannot create a VM: %s", strerror(code));
	}
}

/**
 * vireo_vm_create - make a VM without memory and vCPUs
 * @vm: filled in
 * @max_vcpus: vCPUs that it may get, 1 to vireo_info.max_vcpus
 * @err: why not
 *
 * Return: 0, or a negative errno (EBUSY, ENODEV, EINVAL, ENOMEM, ...) with
 * nothing left open.
 */
int vireo_vm_create(struct vireo_vm *vm, __u32 max_vcpus, struct vireo_error *err)
{
	struct vireo_create_vm create = { .size = sizeof(create), .max_vcpus = max_vcpus };
	struct vireo_get_memory get = { .size = sizeof(get) };
	int dev, code;

	*vm = (struct vireo_vm){ .fd = -1, .mem_fd = -1 };
	dev = vireo_device_open(&vm->info, err);
	if (dev < 0)
		return dev;
	if (!max_vcpus || max_vcpus > vm->info.max_vcpus) {
		close(dev);
		return vireo_fail(err, EINVAL, "%u vCPUs: 1 to %u are possible", max_vcpus,
				  vm->info.max_vcpus);
	}

	vm->fd = ioctl(dev, VIREO_CREATE_VM, &create);
	code = errno;
	close(dev);
	if (vm->fd < 0)
		return create_fail(err, code);

	vm->mem_fd = ioctl(vm->fd, VIREO_GET_MEMORY, &get);
	if (vm->mem_fd < 0) {
		code = errno;
		vireo_vm_close(vm);
		return vireo_fail(err, code, "no memory fd: %s", strerror(code));
	}
	vireo_clock_now(&vm->clock, vm->info.tsc_khz);
	if (vireo_clock_set(vm->fd, &vm->clock)) {
		code = errno;
		vireo_vm_close(vm);
		return vireo_fail(err, code, "cannot set the clock: %s", strerror(code));
	}
	return 0;
}

static int add_range(struct vireo_vm *vm, __u64 gpa, __u64 bytes, struct vireo_error *err)
{
	struct vireo_memory memory = { .size = sizeof(memory), .gpa = gpa, .bytes = bytes };

	if (!ioctl(vm->fd, VIREO_ADD_MEMORY, &memory))
		return 0;
	if (errno == ENOMEM)
		return vireo_fail(err, ENOMEM,
				  "not enough memory for %llu MiB of RAM: raise the memory limit of this cgroup",
				  bytes / VIREO_MIB);
	return vireo_fail(err, errno, "cannot add %llu bytes of RAM at 0x%llx: %s", bytes, gpa,
			  strerror(errno));
}

/**
 * vireo_vm_add_memory - give a VM its RAM: below 3 GiB, the rest from 4 GiB on
 * @vm: without RAM so far
 * @bytes: a multiple of 4096
 * @err: why not
 */
int vireo_vm_add_memory(struct vireo_vm *vm, __u64 bytes, struct vireo_error *err)
{
	__u64 low = bytes < VIREO_LOW_END ? bytes : VIREO_LOW_END;
	int ret;

	if (!bytes || bytes % VIREO_PAGE)
		return vireo_fail(err, EINVAL, "memory of %llu bytes: not a multiple of 4 KiB",
				  bytes);
	if (bytes > vm->info.max_gpa ||
	    (bytes > low && bytes - low > vm->info.max_gpa - VIREO_HIGH_BASE))
		return vireo_fail(err, EINVAL, "memory of %llu MiB: at most %llu MiB are possible",
				  bytes / VIREO_MIB,
				  (vm->info.max_gpa - VIREO_HIGH_BASE + VIREO_LOW_END) / VIREO_MIB);

	ret = add_range(vm, 0, low, err);
	if (!ret && bytes > low)
		ret = add_range(vm, VIREO_HIGH_BASE, bytes - low, err);
	if (ret)
		return ret;
	vm->memory = bytes;
	vm->low_end = low;
	vm->high_end = VIREO_HIGH_BASE + (bytes - low);
	return 0;
}

static int memory_fail(struct vireo_error *err, const char *verb, __u64 gpa, int code)
{
	if (code == ENOMEM)
		return vireo_fail(err, code,
				  "out of memory while filling guest memory: raise the memory limit of this cgroup");
	return vireo_fail(err, code, "cannot %s guest memory at 0x%llx: %s", verb, gpa,
			  strerror(code));
}

/**
 * vireo_vm_write - write guest memory
 * @vm: whose
 * @gpa: where; all of it must be RAM
 * @data: what
 * @len: bytes
 * @err: why not; ENXIO: not RAM
 */
int vireo_vm_write(struct vireo_vm *vm, __u64 gpa, const void *data, size_t len,
		   struct vireo_error *err)
{
	ssize_t n;

	while (len) {
		n = pwrite(vm->mem_fd, data, len, (off_t)gpa);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return memory_fail(err, "write", gpa, n ? errno : ENXIO);
		data = (const __u8 *)data + n;
		gpa += (__u64)n;
		len -= (size_t)n;
	}
	return 0;
}

static bool is_zero(const __u8 *p, size_t len)
{
	return !p[0] && !memcmp(p, p + 1, len - 1);
}

/**
 * vireo_vm_write_sparse - write guest memory that reads as zero so far
 * @vm: whose
 * @gpa: where
 * @data: what; its pages that hold nothing but zeros are left out
 * @len: bytes
 * @err: why not
 */
int vireo_vm_write_sparse(struct vireo_vm *vm, __u64 gpa, const void *data, size_t len,
			  struct vireo_error *err)
{
	const __u8 *p = data;
	size_t start = 0, pos = 0, step;
	int ret;

	while (pos < len) {
		step = VIREO_PAGE - ((gpa + pos) & (VIREO_PAGE - 1));
		if (step > len - pos)
			step = len - pos;
		if (is_zero(p + pos, step)) {
			ret = vireo_vm_write(vm, gpa + start, p + start, pos - start, err);
			if (ret)
				return ret;
			start = pos + step;
		}
		pos += step;
	}
	return vireo_vm_write(vm, gpa + start, p + start, len - start, err);
}

/**
 * vireo_vm_read - read guest memory; what was never touched reads as zero
 * @vm: whose
 * @gpa: where; all of it must be RAM
 * @data: where to
 * @len: bytes
 * @err: why not
 */
int vireo_vm_read(struct vireo_vm *vm, __u64 gpa, void *data, size_t len,
		  struct vireo_error *err)
{
	ssize_t n;

	while (len) {
		n = pread(vm->mem_fd, data, len, (off_t)gpa);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return memory_fail(err, "read", gpa, n ? errno : ENXIO);
		data = (__u8 *)data + n;
		gpa += (__u64)n;
		len -= (size_t)n;
	}
	return 0;
}

/** vireo_vm_stat - exit counters, VIREO_SUM_* among them, and memory of a VM, at any time */
int vireo_vm_stat(struct vireo_vm *vm, struct vireo_stat *stat, struct vireo_error *err)
{
	__u64 *exits = &stat->counters[VIREO_SUM_EXITS];
	unsigned int i;

	memset(stat, 0, sizeof(*stat));
	stat->size = sizeof(*stat);
	if (ioctl(vm->fd, VIREO_GET_STAT, stat))
		return vireo_fail(err, errno, "no statistics: %s", strerror(errno));
	for (i = VIREO_STAT_EXIT_INTR; i <= VIREO_STAT_EXIT_OTHER; i++)
		*exits += stat->counters[i];
	stat->counters[VIREO_SUM_FAST] = *exits - stat->counters[VIREO_STAT_EXIT_SLOW];
	return 0;
}

/**
 * vireo_vm_set_cpuid - what a VM's guest is shown; nothing, unless this is called
 * @vm: the VM, without vCPUs
 * @entry: the table
 * @count: of its entries
 * @err: why not
 */
int vireo_vm_set_cpuid(struct vireo_vm *vm, const struct vireo_cpuid_entry *entry, __u32 count,
		       struct vireo_error *err)
{
	struct vireo_cpuid arg = {
		.size = sizeof(arg), .count = count, .entries = (uintptr_t)entry,
	};

	if (!ioctl(vm->fd, VIREO_SET_CPUID, &arg))
		return 0;
	return vireo_fail(err, errno, "cannot set the CPUID table: %s", strerror(errno));
}

/** vireo_vm_inject_msi - send a message; how many vCPUs took it, or a negative errno */
int vireo_vm_inject_msi(struct vireo_vm *vm, const struct vireo_msi *msi)
{
	int ret = ioctl(vm->fd, VIREO_INJECT_MSI, msi);

	return ret < 0 ? -errno : ret;
}

/** vireo_vm_close - close a VM's fds; may be called twice */
void vireo_vm_close(struct vireo_vm *vm)
{
	if (vm->mem_fd >= 0)
		close(vm->mem_fd);
	if (vm->fd >= 0)
		close(vm->fd);
	vm->mem_fd = -1;
	vm->fd = -1;
}

/**
 * vireo_vcpu_create - make a vCPU, whose state is yet to be set, and map its run page
 * @vm: whose
 * @vcpu: filled in
 * @id: number, below the VM's max_vcpus; 0 is the boot processor
 * @err: why not
 */
int vireo_vcpu_create(struct vireo_vm *vm, struct vireo_vcpu *vcpu, __u32 id,
		      struct vireo_error *err)
{
	struct vireo_create_vcpu create = { .size = sizeof(create), .id = id };
	void *run;
	int code;

	*vcpu = (struct vireo_vcpu){ .fd = -1, .id = id };
	vcpu->fd = ioctl(vm->fd, VIREO_CREATE_VCPU, &create);
	if (vcpu->fd < 0)
		return vireo_fail(err, errno, "cannot create vCPU %u: %s", id, strerror(errno));

	run = mmap(NULL, VIREO_RUN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (run == MAP_FAILED) {
		code = errno;
		vireo_vcpu_close(vcpu);
		return vireo_fail(err, code, "cannot map vCPU %u: %s", id, strerror(code));
	}
	vcpu->run = run;
	return 0;
}

/** vireo_vcpu_get_regs - read a vCPU's registers; EBUSY while it runs */
int vireo_vcpu_get_regs(struct vireo_vcpu *vcpu, struct vireo_regs *regs,
			struct vireo_error *err)
{
	memset(regs, 0, sizeof(*regs));
	regs->size = sizeof(*regs);
	if (ioctl(vcpu->fd, VIREO_GET_REGS, regs))
		return vireo_fail(err, errno, "cannot read the registers of vCPU %u: %s",
				  vcpu->id, strerror(errno));
	return 0;
}

/** vireo_vcpu_set_regs - set a vCPU's registers; EINVAL: not a state it can have */
int vireo_vcpu_set_regs(struct vireo_vcpu *vcpu, struct vireo_regs *regs,
			struct vireo_error *err)
{
	regs->size = sizeof(*regs);
	if (ioctl(vcpu->fd, VIREO_SET_REGS, regs))
		return vireo_fail(err, errno, "cannot set the registers of vCPU %u: %s",
				  vcpu->id, strerror(errno));
	return 0;
}

/** vireo_vcpu_get_msr - read one MSR; -ENOENT if the vCPU has no such MSR */
int vireo_vcpu_get_msr(struct vireo_vcpu *vcpu, __u32 index, __u64 *value)
{
	struct vireo_msr msr = { .index = index };
	struct vireo_msrs msrs = {
		.size = sizeof(msrs), .count = 1, .entries = (uintptr_t)&msr,
	};
	int done = ioctl(vcpu->fd, VIREO_GET_MSRS, &msrs);

	if (done < 0)
		return -errno;
	if (done != 1)
		return -ENOENT;
	*value = msr.value;
	return 0;
}

/** vireo_vcpu_close - give a vCPU back; may be called twice */
void vireo_vcpu_close(struct vireo_vcpu *vcpu)
{
	if (vcpu->run)
		munmap(vcpu->run, VIREO_RUN_SIZE);
	if (vcpu->fd >= 0)
		close(vcpu->fd);
	vcpu->run = NULL;
	vcpu->fd = -1;
}

static const char *const stat_names[VIREO_SUM_COUNT] = {
	[VIREO_SUM_EXITS] = "exits",
	[VIREO_SUM_FAST] = "fast",
	[VIREO_STAT_EXIT_SLOW] = "exit_slow",
	[VIREO_STAT_EXIT_USER] = "exit_user",
	[VIREO_STAT_EXIT_INTR] = "exit_intr",
	[VIREO_STAT_EXIT_CPUID] = "exit_cpuid",
	[VIREO_STAT_EXIT_HYPERCALL] = "exit_hypercall",
	[VIREO_STAT_EXIT_IO] = "exit_io",
	[VIREO_STAT_EXIT_MMIO] = "exit_mmio",
	[VIREO_STAT_EXIT_PAGE_FAULT] = "exit_page_fault",
	[VIREO_STAT_EXIT_MSR_READ] = "exit_msr_read",
	[VIREO_STAT_EXIT_MSR_WRITE] = "exit_msr_write",
	[VIREO_STAT_EXIT_ICR] = "exit_icr",
	[VIREO_STAT_EXIT_EOI] = "exit_eoi",
	[VIREO_STAT_EXIT_TIMER] = "exit_timer",
	[VIREO_STAT_EXIT_HLT] = "exit_hlt",
	[VIREO_STAT_EXIT_WINDOW] = "exit_window",
	[VIREO_STAT_EXIT_EXCEPTION] = "exit_exception",
	[VIREO_STAT_EXIT_DR] = "exit_dr",
	[VIREO_STAT_EXIT_OTHER] = "exit_other",
	[VIREO_STAT_BLOCKED] = "blocked",
	[VIREO_STAT_POLLED] = "polled",
	[VIREO_STAT_KICKED] = "kicked",
	[VIREO_STAT_INJECTED] = "injected",
	[VIREO_STAT_TLB_FLUSH] = "tlb_flush",
	[VIREO_STAT_POSTED] = "posted",
};

const char *vireo_stat_name(unsigned int i)
{
	return i < VIREO_SUM_COUNT ? stat_names[i] : NULL;
}
