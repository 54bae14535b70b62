// SPDX-License-Identifier: GPL-2.0
/*
 * What exits and life cycle cost, Vireo and KVM side by side on one host.
 *
 *	bench: NAME vireo=N kvm=N unit=ticks target=N
 *
 * Run the host under deterministic instruction counting (QEMU's -icount
 * shift=0,sleep=off, or Bochs): a tick of the time stamp counter is then one
 * instruction.  Elsewhere the figures are only rough.
 *
 * The guest repeats one instruction BATCH times between two OUTs at which the
 * time is taken here; the same loop around a NOP, marks included, is
 * subtracted.  Of ROUNDS such loops the cheapest counts, because a tick of the
 * host's timer may fall into any of them; of the life cycles, the median.
 *
 * Only one hypervisor can hold the processor's extension.  KVM's turn comes
 * when Vireo is closed; KVM_KO in the environment names modules to load then
 * (more than one, in order, if separated by blanks).
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <linux/kvm.h>

#include "harness.h"
#include "host.h"
#include "vireo_hypercall.h"
#include "vm.h"

#define BATCH		200
#define ROUNDS		24
#define LIVES		25
#define RAM		0x200000
#define CODE		0x1000
#define PORT_OUT	0x10
#define PORT_MARK	0x11	/* and following: the marks in order */
#define MARKS		5
#define NONE		(~0ULL)

struct machine {
	int vm;
	int vcpu;
	int mem;
	void *ram;
	void *run;
	size_t run_size;
};

/* What differs between the hypervisors */
struct hypervisor {
	const char *name;
	const char *device;
	unsigned long run;
	void (*create)(struct machine *m);
	void (*populate)(struct machine *m);
	void (*destroy)(struct machine *m);
	u16 (*port)(const struct machine *m);
};

enum { HYPERCALL, CPUID, OUT, CREATE, CREATE_MORE, FIRST_ENTRY, FIGURES };

static const struct {
	const char *name;
	u64 target[2];		/* AMD-V, VT-x */
} figures[FIGURES] = {
	[HYPERCALL] = { "hypercall", { 250, 250 } },
	[CPUID] = { "cpuid", { 300, 250 } },
	[OUT] = { "out", { 900, 980 } },
	[CREATE] = { "create_destroy", { 200000, 200000 } },
	[CREATE_MORE] = { "create_destroy_second", { 0, 0 } },
	[FIRST_ENTRY] = { "create_entry_destroy", { 0, 0 } },
};

/* The bodies have the same number of instructions beside the one measured */
asm(".pushsection .data\n"
	".code16\n"
	"bench_code:\n"
	".macro measure mark, prepare, insn=\n"
	"	mov $200, %si\n"			/* BATCH */
	"1:	\\prepare\n"
	"	\\insn\n"
	"	dec %si\n"
	"	jnz 1b\n"
	"	out %al, $\\mark\n"
	".endm\n"
	"2:	out %al, $0x11\n"
	"	measure 0x12, nop\n"
	"	measure 0x13, \"mov %edi, %eax\", \"bench_hypercall: vmmcall\"\n"
	"	measure 0x14, \"xor %eax, %eax\", cpuid\n"
	"	measure 0x15, nop, \"out %al, $0x10\"\n"
	"	jmp 2b\n"
	"bench_code_end:\n"
	".code64\n"
	".popsection\n");

extern char bench_code[], bench_hypercall[], bench_code_end[];

_Static_assert(BATCH == 200, "the guest's loops count to 200");

static int device;

static void need(bool ok, const char *what)
{
	if (ok)
		return;
	printf("# bench: %s: %s\n", what, strerror(errno));
	exit(KSFT_FAIL);
}

static u64 ticks(void)
{
	return __builtin_ia32_rdtsc();
}

/* ---- Vireo -------------------------------------------------------------------- */

static void vireo_create(struct machine *m)
{
	m->vm = dev_create_vm(device, 1);
	need(m->vm >= 0, "VIREO_CREATE_VM");
	need(!vm_default_cpuid(device, m->vm, 1), "VIREO_SET_CPUID");
	m->vcpu = vm_create_vcpu(m->vm, 0);
	need(m->vcpu >= 0, "VIREO_CREATE_VCPU");
	m->mem = -1;
	m->run = NULL;
}

static void vireo_populate(struct machine *m)
{
	struct vireo_regs regs;

	need(!vm_add_memory(m->vm, 0, RAM), "VIREO_ADD_MEMORY");
	m->mem = vm_get_memory(m->vm);
	need(m->mem >= 0, "VIREO_GET_MEMORY");
	need(pwrite(m->mem, bench_code, bench_code_end - bench_code, CODE) > 0, "pwrite");
	m->run_size = VIREO_RUN_SIZE;
	m->run = mmap(NULL, m->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, m->vcpu, 0);
	need(m->run != MAP_FAILED, "mmap");
	need(!vireo_vcpu_reset(m->vcpu, true), "VIREO_SET_MSRS");
	need(!vcpu_fd_get_regs(m->vcpu, &regs), "VIREO_GET_REGS");
	regs.seg[VIREO_CS].base = 0;
	regs.seg[VIREO_CS].selector = 0;
	regs.rip = CODE;
	regs.gpr[VIREO_RDI] = VIREO_HC_NOP;
	need(!vcpu_fd_set_regs(m->vcpu, &regs), "VIREO_SET_REGS");
}

static void vireo_destroy(struct machine *m)
{
	if (m->run)
		munmap(m->run, m->run_size);
	if (m->mem >= 0)
		close(m->mem);
	close(m->vcpu);
	close(m->vm);
}

static u16 vireo_port(const struct machine *m)
{
	const struct vireo_run *run = m->run;

	return run->exit_reason == VIREO_EXIT_IO ? run->io.port : 0;
}

static const struct hypervisor vireo = {
	.name = "vireo",
	.device = "/dev/vireo",
	.run = VIREO_RUN,
	.create = vireo_create,
	.populate = vireo_populate,
	.destroy = vireo_destroy,
	.port = vireo_port,
};

/* ---- KVM ------------------------------------------------------------------------- */

static void kvm_create(struct machine *m)
{
	m->vm = ioctl(device, KVM_CREATE_VM, 0);
	need(m->vm >= 0, "KVM_CREATE_VM");
	m->vcpu = ioctl(m->vm, KVM_CREATE_VCPU, 0);
	need(m->vcpu >= 0, "KVM_CREATE_VCPU");
	m->run = NULL;
}

static void kvm_registers(struct machine *m)
{
	struct kvm_regs regs = { .rip = CODE, .rflags = 2, .rdi = 100 };
	struct kvm_sregs sregs;
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[128];
	} cpuid = { .head.nent = 128 };

	/* Without a table KVM would not answer CPUID at its usual cost */
	need(!ioctl(device, KVM_GET_SUPPORTED_CPUID, &cpuid), "KVM_GET_SUPPORTED_CPUID");
	need(!ioctl(m->vcpu, KVM_SET_CPUID2, &cpuid), "KVM_SET_CPUID2");
	need(!ioctl(m->vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	need(!ioctl(m->vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	need(!ioctl(m->vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

static void kvm_populate(struct machine *m)
{
	struct kvm_userspace_memory_region region = { .memory_size = RAM };

	m->ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	need(m->ram != MAP_FAILED, "mmap");
	memcpy(m->ram + CODE, bench_code, bench_code_end - bench_code);
	region.userspace_addr = (uintptr_t)m->ram;
	need(!ioctl(m->vm, KVM_SET_USER_MEMORY_REGION, &region),
	     "KVM_SET_USER_MEMORY_REGION");
	m->run_size = ioctl(device, KVM_GET_VCPU_MMAP_SIZE, 0);
	m->run = mmap(NULL, m->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, m->vcpu, 0);
	need(m->run != MAP_FAILED, "mmap");
	kvm_registers(m);
}

static void kvm_destroy(struct machine *m)
{
	if (m->run) {
		munmap(m->run, m->run_size);
		munmap(m->ram, RAM);
	}
	close(m->vcpu);
	close(m->vm);
}

static u16 kvm_port(const struct machine *m)
{
	const struct kvm_run *run = m->run;

	return run->exit_reason == KVM_EXIT_IO ? run->io.port : 0;
}

static const struct hypervisor kvm = {
	.name = "kvm",
	.device = "/dev/kvm",
	.run = KVM_RUN,
	.create = kvm_create,
	.populate = kvm_populate,
	.destroy = kvm_destroy,
	.port = kvm_port,
};

/* ---- measuring ------------------------------------------------------------------- */

/* Run up to the next mark; the time at which it came */
static u64 run_to_mark(const struct hypervisor *h, const struct machine *m, u16 mark)
{
	u16 port;

	do {
		need(!ioctl(m->vcpu, h->run, 0), h->name);
		port = h->port(m);
	} while (port == PORT_OUT);
	if (port != mark) {
		printf("# bench: %s: exit at port %#x, expected %#x\n", h->name, port, mark);
		exit(KSFT_FAIL);
	}
	return ticks();
}

static void measure_exits(const struct hypervisor *h, u64 *result)
{
	u64 best[MARKS] = { NONE, NONE, NONE, NONE, NONE };
	struct machine m;
	u64 last, now;
	int round, i;

	h->create(&m);
	h->populate(&m);
	for (round = 0; round < ROUNDS; round++) {
		last = run_to_mark(h, &m, PORT_MARK);
		for (i = 1; i < MARKS; i++) {
			now = run_to_mark(h, &m, PORT_MARK + i);
			if (now - last < best[i])
				best[i] = now - last;
			last = ticks();
		}
	}
	h->destroy(&m);
	result[HYPERCALL] = (best[2] - best[1]) / BATCH;
	result[CPUID] = (best[3] - best[1]) / BATCH;
	result[OUT] = (best[4] - best[1]) / BATCH;
}

static int compare_ticks(const void *a, const void *b)
{
	u64 x = *(const u64 *)a;
	u64 y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static u64 measure_lives(const struct hypervisor *h, bool enter)
{
	u64 taken[LIVES];
	struct machine m;
	u64 begin;
	int i;

	for (i = 0; i < LIVES; i++) {
		begin = ticks();
		h->create(&m);
		if (enter) {
			h->populate(&m);
			run_to_mark(h, &m, PORT_MARK);
		}
		h->destroy(&m);
		taken[i] = ticks() - begin;
	}
	qsort(taken, LIVES, sizeof(taken[0]), compare_ticks);
	return taken[LIVES / 2];
}

static bool measure(const struct hypervisor *h, u64 *result)
{
	struct machine other;
	int i;

	for (i = 0; i < FIGURES; i++)
		result[i] = NONE;
	device = open(h->device, O_RDWR | O_CLOEXEC);
	if (device < 0) {
		printf("# bench: %s: %s\n", h->device, strerror(errno));
		return false;
	}
	measure_exits(h, result);
	result[CREATE] = measure_lives(h, false);
	result[FIRST_ENTRY] = measure_lives(h, true);
	h->create(&other);
	result[CREATE_MORE] = measure_lives(h, false);
	h->destroy(&other);
	close(device);
	return true;
}

static void print_value(const char *name, u64 value)
{
	if (value == NONE)
		printf(" %s=-", name);
	else
		printf(" %s=%llu", name, value);
}

int main(void)
{
	u64 ours[FIGURES], theirs[FIGURES];
	cpu_set_t cpu;
	bool any;
	int i;

	CPU_ZERO(&cpu);
	CPU_SET(0, &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
	if (host_is_intel())
		bench_hypercall[2] = 0xc1;	/* VMCALL */
	any = measure(&vireo, ours);
	modules_load(getenv("KVM_KO"));
	any |= measure(&kvm, theirs);
	for (i = 0; i < FIGURES; i++) {
		printf("bench: %s", figures[i].name);
		print_value("vireo", ours[i]);
		print_value("kvm", theirs[i]);
		printf(" unit=ticks");
		print_value("target", figures[i].target[host_is_intel()] ?: NONE);
		printf("\n");
	}
	return any ? KSFT_PASS : KSFT_SKIP;
}
