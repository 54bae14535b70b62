// SPDX-License-Identifier: GPL-2.0
/* Virtual machines for tests: ioctls, memory, registers and the run loop. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <libvireo.h>

#include "guest.h"
#include "harness.h"
#include "host.h"
#include "vm.h"

u32 guest_is_intel;

const char *vm_mode_name(enum vm_mode mode)
{
	static const char * const names[MODE_COUNT] = {
		[MODE_REAL] = "real",
		[MODE_PROT16] = "protected 16",
		[MODE_PROT32] = "protected 32",
		[MODE_PAGING32] = "paging 32",
		[MODE_PAE32] = "PAE 32",
		[MODE_LONG] = "long",
		[MODE_COMPAT32] = "compatibility 32",
	};

	return names[mode];
}

/* ---- system calls --------------------------------------------------------- */

int do_ioctl(int fd, unsigned long request, const void *arg)
{
	int ret = ioctl(fd, request, arg);

	return ret < 0 ? -errno : ret;
}

s64 do_pread(int fd, void *buf, size_t len, u64 offset)
{
	ssize_t ret = pread(fd, buf, len, offset);

	return ret < 0 ? -errno : ret;
}

s64 do_pwrite(int fd, const void *buf, size_t len, u64 offset)
{
	ssize_t ret = pwrite(fd, buf, len, offset);

	return ret < 0 ? -errno : ret;
}

s64 do_lseek(int fd, s64 offset, int whence)
{
	off_t ret = lseek(fd, offset, whence);

	return ret < 0 ? -errno : ret;
}

int dev_open(void)
{
	int fd = open("/dev/vireo", O_RDWR | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		SKIP("no /dev/vireo: vireo.ko is not loaded");
	ASSERT_THAT(fd >= 0, "/dev/vireo: %s", strerror(errno));
	return fd;
}

int dev_create_vm(int dev, u32 max_vcpus)
{
	struct vireo_create_vm arg = { .size = sizeof(arg), .max_vcpus = max_vcpus };

	return do_ioctl(dev, VIREO_CREATE_VM, &arg);
}

/* What a guest is shown as long as a test does not say otherwise */
int vm_default_cpuid(int dev, int vm, u32 max_vcpus)
{
	struct vireo_cpuid_entry table[VIREO_STATE_CPUIDS];
	struct vireo_cpuid arg = { .size = sizeof(arg), .entries = (uintptr_t)table };
	struct vireo_info info = { .size = sizeof(info) };

	ASSERT_EQ(do_ioctl(dev, VIREO_GET_INFO, &info), 0);
	arg.count = vireo_cpuid_default(&info, max_vcpus, table);
	return do_ioctl(vm, VIREO_SET_CPUID, &arg);
}

int vm_add_memory(int vm, u64 gpa, u64 bytes)
{
	struct vireo_memory arg = { .size = sizeof(arg), .gpa = gpa, .bytes = bytes };

	return do_ioctl(vm, VIREO_ADD_MEMORY, &arg);
}

int vm_get_memory(int vm)
{
	struct vireo_get_memory arg = { .size = sizeof(arg) };

	return do_ioctl(vm, VIREO_GET_MEMORY, &arg);
}

int vm_fd_fork(int vm)
{
	struct vireo_fork arg = { .size = sizeof(arg) };

	return do_ioctl(vm, VIREO_FORK, &arg);
}

int vm_create_vcpu(int vm, u32 id)
{
	struct vireo_create_vcpu arg = { .size = sizeof(arg), .id = id };

	return do_ioctl(vm, VIREO_CREATE_VCPU, &arg);
}

int vm_inject_msi(int vm, u64 address, u32 data)
{
	struct vireo_msi arg = { .size = sizeof(arg), .address = address, .data = data };

	return do_ioctl(vm, VIREO_INJECT_MSI, &arg);
}

int fd_get_stat(int fd, struct vireo_stat *stat)
{
	memset(stat, 0, sizeof(*stat));
	stat->size = sizeof(*stat);
	return do_ioctl(fd, VIREO_GET_STAT, stat);
}

int vcpu_fd_get_regs(int fd, struct vireo_regs *regs)
{
	memset(regs, 0, sizeof(*regs));
	regs->size = sizeof(*regs);
	return do_ioctl(fd, VIREO_GET_REGS, regs);
}

int vcpu_fd_set_regs(int fd, struct vireo_regs *regs)
{
	regs->size = sizeof(*regs);
	return do_ioctl(fd, VIREO_SET_REGS, regs);
}

/* 1 if the MSR was read, 0 if there is no such MSR */
int vcpu_fd_get_msr(int fd, u32 index, u64 *value)
{
	struct vireo_msr msr = { .index = index };
	struct vireo_msrs arg = {
		.size = sizeof(arg), .count = 1, .entries = (uintptr_t)&msr,
	};
	int ret = do_ioctl(fd, VIREO_GET_MSRS, &arg);

	*value = msr.value;
	return ret;
}

int vcpu_fd_set_msr(int fd, u32 index, u64 value)
{
	struct vireo_msr msr = { .index = index, .value = value };
	struct vireo_msrs arg = {
		.size = sizeof(arg), .count = 1, .entries = (uintptr_t)&msr,
	};

	return do_ioctl(fd, VIREO_SET_MSRS, &arg);
}

/* ---- virtual machines ------------------------------------------------------ */

void vm_open(struct test_vm *vm, u32 max_vcpus)
{
	struct vireo_timebase clock;

	memset(vm, 0, sizeof(*vm));
	vm->dev = dev_open();
	vm->info.size = sizeof(vm->info);
	ASSERT_EQ(do_ioctl(vm->dev, VIREO_GET_INFO, &vm->info), 0);
	vm->fd = dev_create_vm(vm->dev, max_vcpus);
	ASSERT_GE(vm->fd, 0);
	ASSERT_EQ(vm_default_cpuid(vm->dev, vm->fd, max_vcpus), 0);
	vireo_clock_now(&clock, vm->info.tsc_khz);
	ASSERT_EQ(vireo_clock_set(vm->fd, &clock), 0);
	vm->mem = vm_get_memory(vm->fd);
	ASSERT_GE(vm->mem, 0);
}

void vm_close(struct test_vm *vm)
{
	unsigned int i;

	for (i = 0; i < VIREO_MAX_VCPUS; i++) {
		if (!vm->vcpu[i].run)
			continue;
		munmap(vm->vcpu[i].run, VIREO_RUN_SIZE);
		close(vm->vcpu[i].fd);
	}
	close(vm->mem);
	close(vm->fd);
	close(vm->dev);
	memset(vm, 0, sizeof(*vm));
}

void vm_fork(struct test_vm *vm, struct test_vm *child)
{
	memset(child, 0, sizeof(*child));
	child->dev = dup(vm->dev);
	child->info = vm->info;
	child->fd = vm_fd_fork(vm->fd);
	ASSERT_GE(child->fd, 0);
	child->mem = vm_get_memory(child->fd);
	ASSERT_GE(child->mem, 0);
}

/* What is not in the other structures; the clock behind what it is made of */
static const u32 clone_msrs[] = {
	0x10, 0x1b, 0x3b, 0x48, 0x174, 0x175, 0x176, 0x277,
	0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000102, 0xc0000103,
	VIREO_MSR_TSC_OFFSET, 0x4b564d01, 0x4b564d03, 0x4b564d04,
};

_Static_assert(ARRAY_SIZE(clone_msrs) <= VCPU_STATE_MSRS, "they fit");

void vcpu_save(struct test_vcpu *from, struct vcpu_state *s)
{
	u32 bytes = from->vm->info.xsave_size;
	unsigned int i;
	u64 value;

	from->run->immediate_exit = 1;
	ASSERT_EQ(vcpu_run(from), -EINTR);
	from->run->immediate_exit = 0;

	memset(s, 0, sizeof(*s));
	s->data = aligned_alloc(64, (bytes + 63) & ~63ULL);
	s->xsave = (struct vireo_xsave) {
		.size = sizeof(s->xsave), .bytes = bytes, .data = (uintptr_t)s->data,
	};
	ASSERT_EQ(do_ioctl(from->fd, VIREO_GET_XSAVE, &s->xsave), 0);
	vcpu_get_regs(from, &s->regs);
	for (i = 0; i < ARRAY_SIZE(clone_msrs); i++)
		if (vcpu_fd_get_msr(from->fd, clone_msrs[i], &value) == 1)
			s->msr[s->msrs++] = (struct vireo_msr) { clone_msrs[i], 0, value };
	ASSERT_EQ(vireo_lapic_get(from->fd, &s->lapic), 0);
}

void vcpu_restore(struct test_vcpu *to, struct vcpu_state *s)
{
	struct vireo_msrs msrs = {
		.size = sizeof(msrs), .count = s->msrs, .entries = (uintptr_t)s->msr,
	};

	ASSERT_EQ(do_ioctl(to->fd, VIREO_SET_XSAVE, &s->xsave), 0);
	vcpu_set_regs(to, &s->regs);
	ASSERT_EQ(do_ioctl(to->fd, VIREO_SET_MSRS, &msrs), s->msrs);
	ASSERT_EQ(vireo_lapic_set(to->fd, &s->lapic), 0);
}

struct test_vcpu *vcpu_clone(struct test_vcpu *from, struct test_vm *vm)
{
	struct test_vcpu *to = vm_vcpu_empty(vm, from->id);
	struct vcpu_state s;

	vcpu_save(from, &s);
	vcpu_restore(to, &s);
	free(s.data);
	return to;
}

struct test_vcpu *vm_vcpu_empty(struct test_vm *vm, u32 id)
{
	struct test_vcpu *vcpu = &vm->vcpu[id];

	vcpu->vm = vm;
	vcpu->id = id;
	vcpu->fd = vm_create_vcpu(vm->fd, id);
	ASSERT_GE(vcpu->fd, 0);
	vcpu->run = mmap(NULL, VIREO_RUN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			 vcpu->fd, 0);
	ASSERT_THAT(vcpu->run != MAP_FAILED, "mmap of the run page: %s",
		    strerror(errno));
	return vcpu;
}

struct test_vcpu *vm_vcpu(struct test_vm *vm, u32 id)
{
	struct test_vcpu *vcpu = vm_vcpu_empty(vm, id);

	ASSERT_EQ(vireo_vcpu_reset(vcpu->fd, !id), 0);
	return vcpu;
}

void vm_write(struct test_vm *vm, u64 gpa, const void *buf, size_t len)
{
	ASSERT_EQ(do_pwrite(vm->mem, buf, len, gpa), (s64)len);
}

void vm_read(struct test_vm *vm, u64 gpa, void *buf, size_t len)
{
	ASSERT_EQ(do_pread(vm->mem, buf, len, gpa), (s64)len);
}

static void table_gate64(u64 *gate, u64 handler, u64 ist)
{
	/* Present, interrupt gate, callable from ring 3 */
	gate[0] = (handler & 0xffff) | SEL_CODE64 << 16 | ist << 32 |
		  0xee00ULL << 32 | (handler >> 16 & 0xffff) << 48;
	gate[1] = handler >> 32;
}

static void vm_load_idt(struct test_vm *vm)
{
	u64 idt[512];
	unsigned int i;

	for (i = 0; i < 256; i++)
		table_gate64(&idt[2 * i], (uintptr_t)guest_stubs + 16 * i,
			     i == VEC_NMI ? 2 : 1);
	vm_write(vm, VM_IDT, idt, sizeof(idt));
}

static void vm_load_tss(struct test_vm *vm)
{
	struct {
		u32 reserved0;
		u64 rsp[3];
		u64 reserved1;
		u64 ist[7];
		u64 reserved2;
		u16 reserved3;
		u16 iomap;
	} __packed tss = { .iomap = sizeof(tss) };
	unsigned int id;

	for (id = 0; id < VIREO_MAX_VCPUS; id++) {
		tss.ist[0] = VM_IST + id * 0x2000 + 0x1000;
		tss.ist[1] = VM_IST + id * 0x2000 + 0x2000;
		tss.rsp[0] = tss.ist[0];
		vm_write(vm, VM_TSS + id * 0x100, &tss, sizeof(tss));
	}
}

/* Identity page tables for all paging modes, descriptors for all modes */
void vm_load_tables(struct test_vm *vm)
{
	static const u64 gdt[] = {
		[SEL_CODE64 / 8] = 0x00af9b000000ffff,
		[SEL_DATA / 8] = 0x00cf93000000ffff,
		[SEL_CODE32 / 8] = 0x00cf9b000000ffff,
		[SEL_CODE16 / 8] = 0x00009b000000ffff,
		[SEL_USER32 / 8] = 0x00cffb000000ffff,
		[SEL_USER_DATA / 8] = 0x00cff3000000ffff,
		[SEL_USER64 / 8] = 0x00affb000000ffff,
	};
	u64 pml4 = VM_PDPT | 7;
	u64 pdpt[4], pae[4], pd[2048];
	u32 pd32[1024];
	u64 i;

	for (i = 0; i < 4; i++) {
		pdpt[i] = (VM_PD + i * 0x1000) | 7;
		pae[i] = (VM_PD + i * 0x1000) | 1;
	}
	for (i = 0; i < 2048; i++)
		pd[i] = i << 21 | 0xe7;
	for (i = 0; i < 1024; i++)
		pd32[i] = i << 22 | 0xe7;
	vm_write(vm, VM_PML4, &pml4, sizeof(pml4));
	vm_write(vm, VM_PDPT, pdpt, sizeof(pdpt));
	vm_write(vm, VM_PAE, pae, sizeof(pae));
	vm_write(vm, VM_PD, pd, sizeof(pd));
	vm_write(vm, VM_PD32, pd32, sizeof(pd32));
	vm_write(vm, VM_GDT, gdt, sizeof(gdt));
	vm_load_idt(vm);
	vm_load_tss(vm);
}

/* This program as it is now, to the same addresses */
void vm_load_program(struct test_vm *vm)
{
	const Elf64_Phdr *ph = (const void *)getauxval(AT_PHDR);
	unsigned long n = getauxval(AT_PHNUM);

	fflush(stdout);
	guest_is_intel = host_is_intel();
	for (; n; n--, ph++) {
		if (ph->p_type != PT_LOAD)
			continue;
		ASSERT_THAT(ph->p_vaddr >= VM_SCRATCH + VM_SCRATCH_SIZE,
			    "link this program with -static -no-pie");
		vm_write(vm, ph->p_vaddr, (const void *)ph->p_vaddr, ph->p_memsz);
	}
}

void vm_boot(struct test_vm *vm, u32 vcpus, u64 ram)
{
	u32 i;

	vm_open(vm, vcpus);
	ASSERT_EQ(vm_add_memory(vm->fd, 0, ram), 0);
	vm_load_tables(vm);
	vm_load_program(vm);
	for (i = 0; i < vcpus; i++)
		vm_vcpu(vm, i);
}

/* ---- registers ---------------------------------------------------------------- */

void vcpu_get_regs(struct test_vcpu *vcpu, struct vireo_regs *regs)
{
	ASSERT_EQ(vcpu_fd_get_regs(vcpu->fd, regs), 0);
}

void vcpu_set_regs(struct test_vcpu *vcpu, struct vireo_regs *regs)
{
	ASSERT_EQ(vcpu_fd_set_regs(vcpu->fd, regs), 0);
}

u64 vcpu_stat(struct test_vcpu *vcpu, unsigned int counter)
{
	struct vireo_stat stat;

	ASSERT_EQ(fd_get_stat(vcpu->fd, &stat), 0);
	return stat.counters[counter];
}

static void regs_segments(struct vireo_regs *regs, enum vm_mode mode)
{
	static const struct vireo_segment code[MODE_COUNT] = {
		[MODE_REAL] = { VM_CODE >> 4, SEG_CODE16, 0xffff, VM_CODE },
		[MODE_PROT16] = { SEL_CODE16, SEG_CODE16, 0xffff, VM_CODE },
		[MODE_PROT32] = { SEL_CODE32, SEG_CODE32, ~0U, 0 },
		[MODE_PAGING32] = { SEL_CODE32, SEG_CODE32, ~0U, 0 },
		[MODE_PAE32] = { SEL_CODE32, SEG_CODE32, ~0U, 0 },
		[MODE_LONG] = { SEL_CODE64, SEG_CODE64, ~0U, 0 },
		[MODE_COMPAT32] = { SEL_CODE32, SEG_CODE32, ~0U, 0 },
	};
	static const struct vireo_segment real = { 0, SEG_DATA16, 0xffff, 0 };
	static const struct vireo_segment flat = { SEL_DATA, SEG_DATA, ~0U, 0 };
	int i;

	for (i = VIREO_ES; i <= VIREO_GS; i++)
		regs->seg[i] = mode == MODE_REAL ? real : flat;
	regs->seg[VIREO_CS] = code[mode];
	regs->seg[VIREO_LDTR] = (struct vireo_segment) { 0, SEG_LDT, 0xffff, 0 };
}

static void regs_control(struct vireo_regs *regs, enum vm_mode mode, u64 xcr0)
{
	bool paging = mode >= MODE_PAGING32;
	bool wide = mode >= MODE_LONG;

	regs->cr0 = X86_CR0_ET | X86_CR0_NE | X86_CR0_MP;
	if (mode != MODE_REAL)
		regs->cr0 |= X86_CR0_PE;
	if (paging)
		regs->cr0 |= X86_CR0_PG | X86_CR0_WP;
	regs->cr2 = 0;
	regs->cr8 = 0;
	regs->cr3 = wide ? VM_PML4 : mode == MODE_PAE32 ? VM_PAE : VM_PD32;
	regs->cr4 = X86_CR4_OSFXSR | X86_CR4_OSXMM | X86_CR4_PSE;
	if (wide || mode == MODE_PAE32)
		regs->cr4 |= X86_CR4_PAE;
	regs->efer = wide ? X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE | X86_EFER_SCE : 0;
	if (xcr0 & 4) {
		/* The compiler's memcpy() may have chosen AVX */
		regs->cr4 |= X86_CR4_OSXSAVE;
		regs->xcr0 = 7;
	}
}

void vcpu_mode_regs(struct test_vcpu *vcpu, enum vm_mode mode, u64 rip,
		    struct vireo_regs *regs)
{
	vcpu_get_regs(vcpu, regs);
	memset(regs->gpr, 0, sizeof(regs->gpr));
	regs->gpr[VIREO_RSP] = mode < MODE_PROT32 ? 0xfff0 :
			       VM_STACK + (vcpu->id + 1) * 0x8000 - 16;
	regs->rip = rip;
	regs->rflags = 2;
	regs_segments(regs, mode);
	regs_control(regs, mode, vcpu->vm->info.xcr0);
	regs->seg[VIREO_TR] = (struct vireo_segment) {
		SEL_TSS, SEG_TSS64, 0x67, VM_TSS + vcpu->id * 0x100,
	};
	regs->seg[VIREO_GDTR] = (struct vireo_segment) { .base = VM_GDT, .limit = 0x3f };
	if (mode >= MODE_LONG)
		regs->seg[VIREO_IDTR] = (struct vireo_segment) { .base = VM_IDT, .limit = 0xfff };
	else if (mode == MODE_REAL)
		regs->seg[VIREO_IDTR] = (struct vireo_segment) { .base = 0, .limit = 0x3ff };
	else
		regs->seg[VIREO_IDTR] = (struct vireo_segment) {
			.base = VM_IDT32, .limit = 0x7ff,
		};
	regs->mp_state = VIREO_MP_RUNNABLE;
	regs->events = 0;
}

void vcpu_set_entry(struct test_vcpu *vcpu, void (*fn)(u64), u64 arg)
{
	u64 back = (uintptr_t)guest_return;
	struct vireo_regs regs;

	vcpu_mode_regs(vcpu, MODE_LONG, (uintptr_t)fn, &regs);
	regs.gpr[VIREO_RDI] = arg;
	regs.gpr[VIREO_RSP] -= 8;
	vm_write(vcpu->vm, regs.gpr[VIREO_RSP], &back, sizeof(back));
	vcpu_set_regs(vcpu, &regs);
}

void vcpu_set_code(struct test_vcpu *vcpu, enum vm_mode mode, const void *code,
		   size_t len)
{
	struct vireo_regs regs;

	vm_write(vcpu->vm, VM_CODE, code, len);
	vcpu_mode_regs(vcpu, mode, mode < MODE_PROT32 ? 0 : VM_CODE, &regs);
	vcpu_set_regs(vcpu, &regs);
}

/* ---- running ------------------------------------------------------------------- */

/* Signals that came, in this thread */
static __thread volatile sig_atomic_t signals;

/* Whether the exit was INIT or SIPI; they are answered */
static bool vcpu_started(struct test_vcpu *vcpu)
{
	switch (vcpu->run->exit_reason) {
	case VIREO_EXIT_INIT:
		ASSERT_EQ(vireo_vcpu_init(vcpu->fd, !vcpu->id), 0);
		return true;
	case VIREO_EXIT_SIPI:
		ASSERT_EQ(vireo_vcpu_sipi(vcpu->fd, vcpu->run), 0);
		return true;
	}
	return false;
}

/* EINTR counts only if there is a reason for it: the kernel may have its own. */
int vcpu_run(struct test_vcpu *vcpu)
{
	sig_atomic_t before = signals;
	int ret;

	do {
		ret = do_ioctl(vcpu->fd, VIREO_RUN, NULL);
	} while ((!ret && vcpu_started(vcpu)) ||
		 (ret == -EINTR && signals == before && !vcpu->run->immediate_exit));
	return ret;
}

static void vcpu_dump_exit(const struct vireo_run *run)
{
	switch (run->exit_reason) {
	case VIREO_EXIT_IO:
		test_note("io port %#x width %u write %u data %#x", run->io.port,
			  run->io.width, run->io.write, vireo_io_data(run));
		break;
	case VIREO_EXIT_MMIO:
		test_note("mmio gpa %#llx write %u", run->mmio.gpa, run->mmio.write);
		break;
	case VIREO_EXIT_SHUTDOWN:
		test_note("shutdown reason %u info %#llx gpa %#llx", run->end.what,
			  run->end.code, run->end.info);
		break;
	case VIREO_EXIT_FAIL_ENTRY:
		test_note("fail code %#llx check %llu", run->end.code, run->end.info);
		break;
	default:
		break;
	}
}

void vcpu_dump(struct test_vcpu *vcpu)
{
	struct vireo_regs r;

	test_note("vcpu %u: exit_reason %u rip %#llx", vcpu->id, vcpu->run->exit_reason,
		  vcpu->run->rip);
	vcpu_dump_exit(vcpu->run);
	if (vcpu_fd_get_regs(vcpu->fd, &r))
		return;
	test_note("rip %#llx rflags %#llx cr0 %#llx cr2 %#llx cr3 %#llx cr4 %#llx efer %#llx",
		  r.rip, r.rflags, r.cr0, r.cr2, r.cr3, r.cr4, r.efer);
	test_note("rax %#llx rcx %#llx rdx %#llx rbx %#llx rsp %#llx rsi %#llx rdi %#llx",
		  r.gpr[VIREO_RAX], r.gpr[VIREO_RCX], r.gpr[VIREO_RDX],
		  r.gpr[VIREO_RBX], r.gpr[VIREO_RSP], r.gpr[VIREO_RSI],
		  r.gpr[VIREO_RDI]);
	test_note("cs %#x base %#llx attr %#x mp_state %u events %#x",
		  r.seg[VIREO_CS].selector, r.seg[VIREO_CS].base,
		  r.seg[VIREO_CS].attr, r.mp_state, r.events);
}

/* The guest's own report; the strings are at the same addresses here */
static void vcpu_guest_failed(struct test_vcpu *vcpu)
{
	struct guest_failure f = VM_GET(vcpu->vm, guest_failure);

	if (f.vector == ~0U)
		test_fail((const char *)f.file, f.line,
			  "guest expected %s: saw %#llx, expected %#llx",
			  (const char *)f.what, f.seen,
			  f.expected);
	else
		test_fail(__FILE__, __LINE__,
			  "guest took exception %u error %#llx at %#llx cr2 %#llx",
			  f.vector, f.error,
			  f.rip, f.cr2);
	test_end();
}

void vcpu_run_exit(struct test_vcpu *vcpu, u32 reason)
{
	const struct vireo_run *run = vcpu->run;
	int ret;

	do {
		ret = vcpu_run(vcpu);
	} while (ret == -EINTR);
	if (!ret && run->exit_reason == VIREO_EXIT_IO && run->io.port == PORT_FAIL)
		vcpu_guest_failed(vcpu);
	if (!ret && run->exit_reason == reason)
		return;
	test_fail(__FILE__, __LINE__, "run: %s, exit reason %u, expected %u",
		  ret ? strerror(-ret) : "0", run->exit_reason, reason);
	vcpu_dump(vcpu);
	test_end();
}

const struct vireo_mmio *vcpu_run_mmio(struct test_vcpu *vcpu)
{
	int ret;

	do {
		vcpu_run_exit(vcpu, VIREO_EXIT_MMIO);
		ret = vireo_mmio_take(vcpu->run, vcpu->vm->mem, &vcpu->mmio);
	} while (ret == -EAGAIN);
	ASSERT_EQ(ret, 0);
	return &vcpu->mmio;
}

void vcpu_mmio_reply(struct test_vcpu *vcpu, u64 data)
{
	vireo_mmio_reply(vcpu->run, &vcpu->mmio, data);
}

static u32 vcpu_run_port(struct test_vcpu *vcpu, u16 port)
{
	const struct vireo_run *run = vcpu->run;

	vcpu_run_exit(vcpu, VIREO_EXIT_IO);
	if (run->io.port != port || !run->io.write) {
		test_fail(__FILE__, __LINE__, "unexpected port %#x write %u, waiting for %#x",
			  run->io.port, run->io.write, port);
		vcpu_dump(vcpu);
		test_end();
	}
	return vireo_io_data(run);
}

u32 vcpu_run_done(struct test_vcpu *vcpu)
{
	return vcpu_run_port(vcpu, PORT_DONE);
}

u32 vcpu_run_sync(struct test_vcpu *vcpu)
{
	return vcpu_run_port(vcpu, PORT_SYNC);
}

static void *vcpu_thread(void *arg)
{
	struct test_vcpu *vcpu = arg;

	vcpu->result = vcpu_run_done(vcpu);
	return NULL;
}

void vcpu_start(struct test_vcpu *vcpu)
{
	ASSERT_EQ(pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu), 0);
}

u32 vcpu_join(struct test_vcpu *vcpu)
{
	ASSERT_EQ(pthread_join(vcpu->thread, NULL), 0);
	return vcpu->result;
}

static void signal_nothing(int sig)
{
	(void)sig;
	signals++;
}

void signal_install(void)
{
	struct sigaction sa = { .sa_handler = signal_nothing };

	sigaction(SIGUSR1, &sa, NULL);
}

void vcpu_signal(struct test_vcpu *vcpu)
{
	pthread_kill(vcpu->thread, SIGUSR1);
}
