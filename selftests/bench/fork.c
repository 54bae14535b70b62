// SPDX-License-Identifier: GPL-2.0
/*
 * What a fork costs, by the size of the memory: the call, the end of what it made,
 * the way to the first instruction of a clone in a process of its own, what its
 * writes cost, and the memory that a clone takes; and a start from a file instead.
 *
 *	bench: NAME vireo=N kvm=N unit=UNIT target=N
 *
 * Beside it the best that KVM allows, as zeroboot and Firecracker do it: a process
 * that maps the same memory privately, makes a VM and a vCPU, and restores what the
 * stopped vCPU held.  The guest is the same: Vireo's, copied when it has had its turn.
 *
 * As in exits.c a tick is an instruction where the host counts them.  The memory is
 * touched in as many places as FILL allows, so that there are tables for all of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <linux/kvm.h>

#include "guest.h"
#include "harness.h"
#include "host.h"
#include "vm.h"

#define MIB	(1ULL << 20)
#define GIB	(1024 * MIB)
#define FILL	(64 * MIB)	/* in 4 KiB pages and 2 MiB ones, what comes */
#define ROUNDS	25
#define CLONES	100		/* at once, to weigh them */
#define PORT	0x10
#define PAGE	4096
#define PAGES	32		/* that the guest writes in turn */
#define KVM_MSRS 16
#define LOW_END	(3 * GIB)	/* KVM's local APIC has its place above */

/* What the processes share */
struct shared {
	u64 end;		/* ticks */
	u32 ready;
};

/* A way to make a clone of the stopped machine */
struct way {
	const char *name;
	void (*prepare)(void);	/* before the process is made */
	void (*become)(void);	/* in it: a machine */
	void (*next)(void);	/* ... that runs to its next exit */
	void (*done)(void);	/* in the first process: undo prepare() */
};

enum { FIRST_ENTRY, FAULT, BYTES, FIGURES };

static const struct {
	const char *name;
	const char *unit;
	u64 target;
} figures[FIGURES] = {
	[FIRST_ENTRY] = { "first_entry", "ticks", 400000 },
	[FAULT] = { "fault", "ticks", 0 },
	[BYTES] = { "memory", "bytes", 65536 },
};

static const struct {
	u64 ram;
	const char *name;
} sizes[] = { { 128 * MIB, "128M" }, { GIB, "1G" }, { 8 * GIB, "8G" } };

static struct shared *shared;

static void need(bool ok, const char *what)
{
	if (ok)
		return;
	printf("# bench: %s: %s\n", what, strerror(errno));
	exit(KSFT_FAIL);
}

static u64 ticks(void)
{
	return read_tsc();
}

static int compare_ticks(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static u64 median(u64 *taken)
{
	qsort(taken, ROUNDS, sizeof(taken[0]), compare_ticks);
	return taken[ROUNDS / 2];
}

/* ---- The guest ------------------------------------------------------------------ */

static u8 pages[PAGES][PAGE] __aligned(PAGE);

/* Tells, and writes a page, one after the other */
static void guest_write(u64 arg)
{
	u64 n;

	for (n = 0;; n++) {
		out8(PORT, 1);
		WRITE_ONCE(*(u64 *)pages[n % PAGES], n);
	}
}

/* ---- Vireo ------------------------------------------------------------------------ */

static struct test_vm parent, child;
static struct vcpu_state state;

static void run_to_port(struct test_vcpu *vcpu)
{
	do {
		vcpu_run_exit(vcpu, VIREO_EXIT_IO);
	} while (vcpu->run->io.port != PORT);
}

/* Sparse: every so often a page, so that the whole of it has tables */
static void vireo_set_up(u64 ram)
{
	u64 at, step = ram / (FILL / (2 * MIB));
	int i;

	vm_boot(&parent, 1, ram);
	for (at = 16 * MIB; at < ram; at += step)
		vm_write(&parent, at, &at, sizeof(at));
	vcpu_set_entry(&parent.vcpu[0], guest_write, 0);
	for (i = 0; i <= PAGES; i++)
		run_to_port(&parent.vcpu[0]);
	vcpu_save(&parent.vcpu[0], &state);
}

static void vireo_close(void)
{
	free(state.data);
	vm_close(&parent);
}

static void vireo_prepare(void)
{
	child.info = parent.info;
	child.fd = vm_fd_fork(parent.fd);
	ASSERT_GE(child.fd, 0);
}

static void vireo_become(void)
{
	vcpu_restore(vm_vcpu_empty(&child, 0), &state);
}

static void vireo_next(void)
{
	run_to_port(&child.vcpu[0]);
}

static void vireo_done(void)
{
	close(child.fd);
}

static const struct way vireo = {
	.name = "vireo",
	.prepare = vireo_prepare,
	.become = vireo_become,
	.next = vireo_next,
	.done = vireo_done,
};

static void print_own(const char *name, const char *size, u64 value, const char *target)
{
	printf("bench: %s_%s vireo=%llu kvm=- unit=ticks target=%s\n", name, size, value, target);
}

static void measure_call(const char *size)
{
	u64 fork_taken[ROUNDS], end_taken[ROUNDS], begin;
	int i, fd;

	for (i = 0; i < ROUNDS; i++) {
		begin = ticks();
		fd = vm_fd_fork(parent.fd);
		fork_taken[i] = ticks() - begin;
		ASSERT_GE(fd, 0);
		begin = ticks();
		close(fd);
		end_taken[i] = ticks() - begin;
	}
	print_own("fork_call", size, median(fork_taken), "30000");
	print_own("fork_end", size, median(end_taken), "-");
}

/* The parent's first write after a fork, less one that needs no copy */
static void measure_write(const char *size)
{
	u64 first[ROUNDS], second[ROUNDS], begin;
	int i, j, fd;

	for (i = 0; i < ROUNDS; i++) {
		fd = vm_fd_fork(parent.fd);
		begin = ticks();
		run_to_port(&parent.vcpu[0]);
		first[i] = ticks() - begin;
		for (j = 1; j < PAGES; j++)
			run_to_port(&parent.vcpu[0]);
		begin = ticks();
		run_to_port(&parent.vcpu[0]);
		second[i] = ticks() - begin;
		close(fd);
	}
	print_own("fork_write", size, median(first) - median(second), "-");
}

/* What the guest's memory holds, as a file that nobody has open */
static void copy_memory(const char *path, u64 ram)
{
	static const char zero[PAGE];
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	s64 at = 0, end;
	char page[PAGE];

	need(fd >= 0 && !ftruncate(fd, ram), path);
	while ((at = do_lseek(parent.mem, at, SEEK_DATA)) >= 0) {
		end = do_lseek(parent.mem, at, SEEK_HOLE);
		for (; at < end; at += PAGE) {
			vm_read(&parent, at, page, PAGE);
			if (memcmp(page, zero, PAGE))
				need(do_pwrite(fd, page, PAGE, at) == PAGE, path);
		}
	}
	close(fd);
}

/* A snapshot starts as a machine: nothing is left of the one that it was made of. */
static const char *snapshot;

static void restore_nothing(void)
{
}

static void restore_become(void)
{
	struct vireo_set_file file = { .size = sizeof(file) };
	struct vireo_memory memory = { .size = sizeof(memory), .flags = VIREO_MEMORY_FILE };

	vm_open(&child, 1);
	file.fd = open(snapshot, O_RDONLY | O_CLOEXEC);
	need(!ioctl(child.fd, VIREO_SET_FILE, &file), "VIREO_SET_FILE");
	memory.bytes = lseek(file.fd, 0, SEEK_END);
	need(!ioctl(child.fd, VIREO_ADD_MEMORY, &memory), "VIREO_ADD_MEMORY");
	vireo_become();
}

static const struct way restore = {
	.name = "restore",
	.prepare = restore_nothing,
	.become = restore_become,
	.next = vireo_next,
	.done = restore_nothing,
};

/* ---- KVM ------------------------------------------------------------------------------ */

struct kvm_vm {
	int fd;
	int vcpu;
	u8 *ram;
	struct kvm_run *run;
};

struct kvm_state {
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[128];
	} cpuid;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs;
	struct kvm_xsave xsave;
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entries[KVM_MSRS];
	} msrs;
	struct kvm_vcpu_events events;
	struct kvm_lapic_state lapic;
	struct kvm_mp_state mp;
};

/* What Vireo's guest left for it */
struct image {
	char path[32];
	int fd;
	u64 ram;
	struct vireo_regs regs;
};

static int kvm = -1;
static struct image *image;
static struct kvm_vm kvm_parent, kvm_child;
static struct kvm_state kvm_state = {
	.cpuid.head.nent = 128,
	.msrs = { .head.nmsrs = 12, .entries = {
		{ .index = 0x10 }, { .index = 0x174 }, { .index = 0x175 }, { .index = 0x176 },
		{ .index = 0x1a0 }, { .index = 0x277 }, { .index = 0xc0000081 },
		{ .index = 0xc0000082 }, { .index = 0xc0000083 }, { .index = 0xc0000084 },
		{ .index = 0xc0000102 }, { .index = 0x4b564d01 },
	} },
};

static void need_call(int fd, unsigned long call, const void *arg, const char *what)
{
	int ret = ioctl(fd, call, arg);

	/* MSRs: how many were done */
	need(ret >= 0 && (call != KVM_SET_MSRS || ret == kvm_state.msrs.head.nmsrs), what);
}

#define CALL(fd, call, arg)	need_call(fd, call, arg, #call)

static void kvm_slot(struct kvm_vm *m, u32 slot, u64 from, u64 to)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot, .guest_phys_addr = from, .memory_size = to - from,
		.userspace_addr = (uintptr_t)m->ram + from,
	};

	CALL(m->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

static void kvm_make(struct kvm_vm *m, int map)
{
	struct kvm_enable_cap apic = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };

	m->fd = ioctl(kvm, KVM_CREATE_VM, 0);
	need(m->fd >= 0, "KVM_CREATE_VM");
	CALL(m->fd, KVM_ENABLE_CAP, &apic);
	m->ram = mmap(NULL, image->ram, PROT_READ | PROT_WRITE, map | MAP_NORESERVE, image->fd, 0);
	need(m->ram != MAP_FAILED, "mmap");
	kvm_slot(m, 0, 0, image->ram < LOW_END ? image->ram : LOW_END);
	if (image->ram > 4 * GIB)
		kvm_slot(m, 1, 4 * GIB, image->ram);
	m->vcpu = ioctl(m->fd, KVM_CREATE_VCPU, 0);
	need(m->vcpu >= 0, "KVM_CREATE_VCPU");
	m->run = mmap(NULL, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE,
		      MAP_SHARED, m->vcpu, 0);
	need(m->run != MAP_FAILED, "mmap");
	CALL(m->vcpu, KVM_SET_CPUID2, &kvm_state.cpuid);
}

static void kvm_run_to_port(struct kvm_vm *m)
{
	do {
		CALL(m->vcpu, KVM_RUN, NULL);
	} while (m->run->exit_reason == KVM_EXIT_INTR);
	if (m->run->exit_reason == KVM_EXIT_IO && m->run->io.port == PORT)
		return;
	printf("# bench: KVM: exit %u\n", m->run->exit_reason);
	exit(KSFT_FAIL);
}

static struct kvm_segment kvm_segment(const struct vireo_segment *s)
{
	return (struct kvm_segment) {
		.base = s->base, .limit = s->limit, .selector = s->selector,
		.type = s->attr & 15, .s = s->attr >> 4 & 1, .dpl = s->attr >> 5 & 3,
		.present = s->attr >> 7 & 1, .l = s->attr >> 9 & 1, .db = s->attr >> 10 & 1,
		.g = s->attr >> 11 & 1,
	};
}

/* Registers as Vireo's guest had them */
static void kvm_adopt(struct kvm_vm *m, const struct vireo_regs *r)
{
	struct kvm_regs regs = {
		r->gpr[VIREO_RAX], r->gpr[VIREO_RBX], r->gpr[VIREO_RCX], r->gpr[VIREO_RDX],
		r->gpr[VIREO_RSI], r->gpr[VIREO_RDI], r->gpr[VIREO_RSP], r->gpr[VIREO_RBP],
		r->gpr[VIREO_R8], r->gpr[VIREO_R9], r->gpr[VIREO_R10], r->gpr[VIREO_R11],
		r->gpr[VIREO_R12], r->gpr[VIREO_R13], r->gpr[VIREO_R14], r->gpr[VIREO_R15],
		r->rip, r->rflags,
	};
	struct kvm_sregs s;

	CALL(m->vcpu, KVM_GET_SREGS, &s);
	s.es = kvm_segment(&r->seg[VIREO_ES]);
	s.cs = kvm_segment(&r->seg[VIREO_CS]);
	s.ss = kvm_segment(&r->seg[VIREO_SS]);
	s.ds = kvm_segment(&r->seg[VIREO_DS]);
	s.fs = kvm_segment(&r->seg[VIREO_FS]);
	s.gs = kvm_segment(&r->seg[VIREO_GS]);
	s.ldt = kvm_segment(&r->seg[VIREO_LDTR]);
	s.tr = kvm_segment(&r->seg[VIREO_TR]);
	s.gdt.base = r->seg[VIREO_GDTR].base;
	s.gdt.limit = r->seg[VIREO_GDTR].limit;
	s.idt.base = r->seg[VIREO_IDTR].base;
	s.idt.limit = r->seg[VIREO_IDTR].limit;
	s.cr0 = r->cr0;
	s.cr3 = r->cr3;
	s.cr4 = r->cr4;
	s.efer = r->efer;
	s.apic_base |= 0xc00;	/* x2APIC, as Vireo has it */
	CALL(m->vcpu, KVM_SET_SREGS, &s);
	CALL(m->vcpu, KVM_SET_REGS, &regs);
}

/* The machine that is cloned, stopped behind an exit, and what its vCPU holds */
static void kvm_set_up(void)
{
	struct kvm_vm *m = &kvm_parent;
	int i;

	CALL(kvm, KVM_GET_SUPPORTED_CPUID, &kvm_state.cpuid);
	kvm_make(m, MAP_SHARED);
	kvm_adopt(m, &image->regs);
	for (i = 0; i <= PAGES; i++)
		kvm_run_to_port(m);
	m->run->immediate_exit = 1;	/* only to complete the OUT */
	need(ioctl(m->vcpu, KVM_RUN, 0) && errno == EINTR, "KVM_RUN");
	CALL(m->vcpu, KVM_GET_REGS, &kvm_state.regs);
	CALL(m->vcpu, KVM_GET_SREGS, &kvm_state.sregs);
	CALL(m->vcpu, KVM_GET_XCRS, &kvm_state.xcrs);
	CALL(m->vcpu, KVM_GET_XSAVE, &kvm_state.xsave);
	CALL(m->vcpu, KVM_GET_MSRS, &kvm_state.msrs);
	CALL(m->vcpu, KVM_GET_VCPU_EVENTS, &kvm_state.events);
	CALL(m->vcpu, KVM_GET_LAPIC, &kvm_state.lapic);
	CALL(m->vcpu, KVM_GET_MP_STATE, &kvm_state.mp);
}

static void kvm_close(void)
{
	struct kvm_vm *m = &kvm_parent;

	munmap(m->run, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
	munmap(m->ram, image->ram);
	close(m->vcpu);
	close(m->fd);
}

static void kvm_nothing(void)
{
}

static void kvm_become(void)
{
	struct kvm_vm *m = &kvm_child;

	kvm_make(m, MAP_PRIVATE);
	CALL(m->vcpu, KVM_SET_SREGS, &kvm_state.sregs);
	CALL(m->vcpu, KVM_SET_REGS, &kvm_state.regs);
	if (kvm_state.xcrs.nr_xcrs)
		CALL(m->vcpu, KVM_SET_XCRS, &kvm_state.xcrs);
	CALL(m->vcpu, KVM_SET_XSAVE, &kvm_state.xsave);
	CALL(m->vcpu, KVM_SET_MSRS, &kvm_state.msrs);
	CALL(m->vcpu, KVM_SET_VCPU_EVENTS, &kvm_state.events);
	CALL(m->vcpu, KVM_SET_LAPIC, &kvm_state.lapic);
	CALL(m->vcpu, KVM_SET_MP_STATE, &kvm_state.mp);
}

static void kvm_next(void)
{
	kvm_run_to_port(&kvm_child);
}

static const struct way kvm_way = {
	.name = "kvm",
	.prepare = kvm_nothing,
	.become = kvm_become,
	.next = kvm_next,
	.done = kvm_nothing,
};

/* ---- Both ------------------------------------------------------------------------------- */

/* From the stopped machine to the clone's first exit, in a process made by fork(2) */
static u64 first_entry(const struct way *w)
{
	u64 begin, taken[ROUNDS];
	pid_t pid;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		begin = ticks();
		w->prepare();
		pid = fork();
		if (!pid) {
			w->become();
			w->next();
			shared->end = ticks();
			_exit(0);
		}
		w->done();
		waitpid(pid, NULL, 0);
		taken[i] = shared->end - begin;
	}
	return median(taken);
}

/* A clone's write to a page that it shares, where the tables are its own; less one to its own */
static u64 fault(const struct way *w)
{
	u64 taken[ROUNDS], begin, own;
	pid_t pid;
	int i;

	w->prepare();
	pid = fork();
	if (!pid) {
		w->become();
		for (i = 0; i < PAGES - ROUNDS; i++)
			w->next();
		for (i = 0; i < ROUNDS; i++) {
			begin = ticks();
			w->next();
			taken[i] = ticks() - begin;
		}
		shared->end = median(taken);
		for (i = 0; i < ROUNDS; i++) {
			begin = ticks();
			w->next();
			taken[i] = ticks() - begin;
		}
		own = median(taken);
		shared->end -= own;
		_exit(0);
	}
	w->done();
	waitpid(pid, NULL, 0);
	return shared->end;
}

/* From now on all memory is charged to a new cgroup, whose usage is in this file. */
static const char *enter_cgroup(void)
{
	static char path[64];
	static int number;

	snprintf(path, sizeof(path), "/sys/fs/cgroup/bench%d", ++number);
	mkdir(path, 0755);
	strcat(path, "/cgroup.procs");
	need(!file_write(path, "0"), path);
	strcpy(strrchr(path, '/'), "/memory.current");
	return path;
}

/* What a clone takes that has run to its first exit, process and written pages included */
static u64 bytes(const struct way *w)
{
	const char *usage = enter_cgroup();
	pid_t pid[CLONES];
	s64 before, after;
	int i;

	shared->ready = 0;
	before = file_number(usage, NULL);
	for (i = 0; i < CLONES; i++) {
		w->prepare();
		pid[i] = fork();
		if (!pid[i]) {
			w->become();
			w->next();
			WRITE_ONCE(shared->ready, i + 1);
			for (;;)
				pause();
		}
		w->done();
		while (READ_ONCE(shared->ready) <= (u32)i) {
			need(!waitpid(pid[i], NULL, WNOHANG), "a clone");
			usleep(1000);
		}
	}
	after = file_number(usage, NULL);
	for (i = 0; i < CLONES; i++) {
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
	}
	file_write("/sys/fs/cgroup/cgroup.procs", "0");
	return (after - before) / CLONES;
}

static void measure(const struct way *w, u64 *result)
{
	result[FIRST_ENTRY] = first_entry(w);
	result[FAULT] = fault(w);
	result[BYTES] = bytes(w);
}

/* KVM knows one way only: what it is forked from is a file. */
static void print(const char *verb, const char *size, const u64 *ours, const u64 *theirs)
{
	u64 target;
	int i;

	for (i = 0; i < FIGURES; i++) {
		printf("bench: %s_%s_%s vireo=%llu", verb, figures[i].name, size, ours[i]);
		target = figures[i].target;
		if (kvm >= 0) {
			printf(" kvm=%llu", theirs[i]);
			if (i == FIRST_ENTRY && theirs[i] / 10 < target)
				target = theirs[i] / 10;
		}
		printf(" unit=%s", figures[i].unit);
		if (target)
			printf(" target=%llu", target);
		printf("\n");
	}
}

static void measure_vireo(unsigned int i, struct image *image, u64 *forked, u64 *restored)
{
	const char *size = sizes[i].name;

	image->ram = sizes[i].ram;
	snprintf(image->path, sizeof(image->path), "/tmp/memory-%s", size);
	vireo_set_up(image->ram);
	copy_memory(image->path, image->ram);
	image->regs = state.regs;
	measure_call(size);
	measure_write(size);
	measure(&vireo, forked);
	snapshot = image->path;
	measure(&restore, restored);
	vireo_close();
}

static void measure_kvm(struct image *of, u64 *result)
{
	image = of;
	image->fd = open(image->path, O_RDWR | O_CLOEXEC);
	need(image->fd >= 0, image->path);
	kvm_set_up();
	measure(&kvm_way, result);
	kvm_close();
	close(image->fd);
}

int main(void)
{
	u64 theirs[FIGURES] = {};
	u64 ours[ARRAY_SIZE(sizes)][2][FIGURES];
	struct image images[ARRAY_SIZE(sizes)];
	unsigned int i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	need(shared != MAP_FAILED, "mmap");
	mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, NULL);
	file_write("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		measure_vireo(i, &images[i], ours[i][0], ours[i][1]);
	modules_load(getenv("KVM_KO"));
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		if (kvm >= 0)
			measure_kvm(&images[i], theirs);
		print("fork", sizes[i].name, ours[i][0], theirs);
		print("restore", sizes[i].name, ours[i][1], theirs);
		unlink(images[i].path);
	}
	return KSFT_PASS;
}
