// SPDX-License-Identifier: GPL-2.0
/*
 * Isolation of what the processor keeps outside of the VMCB: x87, SSE and AVX
 * state, and debug registers, between vCPUs, VMs and the host.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "guest.h"
#include "harness.h"
#include "host.h"
#include "vm.h"

struct vectors {
	u8 reg[16][32];
} __aligned(32);

/* Written with AVX if the test says so: then all 32 bytes count, else 16 */
static bool wide;

static void vectors_load(const struct vectors *v, bool avx)
{
	if (avx) {
		asm volatile("vmovdqa 0(%0), %%ymm0; vmovdqa 32(%0), %%ymm1\n"
			     "vmovdqa 64(%0), %%ymm2; vmovdqa 224(%0), %%ymm7\n"
			     "vmovdqa 256(%0), %%ymm8; vmovdqa 480(%0), %%ymm15"
			     : : "r"(v) : "memory");
		return;
	}
	asm volatile("movdqa 0(%0), %%xmm0; movdqa 32(%0), %%xmm1\n"
		     "movdqa 64(%0), %%xmm2; movdqa 224(%0), %%xmm7\n"
		     "movdqa 256(%0), %%xmm8; movdqa 480(%0), %%xmm15"
		     : : "r"(v) : "memory");
}

static void vectors_store(struct vectors *v, bool avx)
{
	if (avx) {
		asm volatile("vmovdqa %%ymm0, 0(%0); vmovdqa %%ymm1, 32(%0)\n"
			     "vmovdqa %%ymm2, 64(%0); vmovdqa %%ymm7, 224(%0)\n"
			     "vmovdqa %%ymm8, 256(%0); vmovdqa %%ymm15, 480(%0)"
			     : : "r"(v) : "memory");
		return;
	}
	asm volatile("movdqa %%xmm0, 0(%0); movdqa %%xmm1, 32(%0)\n"
		     "movdqa %%xmm2, 64(%0); movdqa %%xmm7, 224(%0)\n"
		     "movdqa %%xmm8, 256(%0); movdqa %%xmm15, 480(%0)"
		     : : "r"(v) : "memory");
}

static const u8 used[] = { 0, 1, 2, 7, 8, 15 };

static struct vectors guest_in, guest_out;

/* Fill the registers, leave the guest, and see them again */
static void guest_vectors(u64 arg)
{
	u32 mxcsr = 0x1f80 | (arg & 3) << 13;
	u16 fcw = 0x37f & ~(arg & 1);
	u32 seen_mxcsr;
	u16 seen_fcw;
	u32 round;

	vectors_load(&guest_in, wide);
	asm volatile("fninit; fldcw %0; ldmxcsr %1" : : "m"(fcw), "m"(mxcsr));
	for (round = 0; round < 4; round++) {
		asm volatile("out %%eax, %%dx" : : "a"(round), "d"(PORT_SYNC) : "memory");
		asm volatile("fnstcw %0; stmxcsr %1" : "=m"(seen_fcw), "=m"(seen_mxcsr));
	}
	vectors_store(&guest_out, wide);
	GUEST_EQ(seen_fcw, fcw);
	GUEST_EQ(seen_mxcsr, mxcsr);
}

static bool host_has_avx(struct test_vm *vm)
{
	return vm->info.xcr0 & 4;
}

static void fill(struct vectors *v, u8 seed)
{
	u32 i, j;

	for (i = 0; i < 16; i++)
		for (j = 0; j < 32; j++)
			v->reg[i][j] = seed + i * 16 + j;
}

static bool vectors_equal(const struct vectors *a, const struct vectors *b, bool avx)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(used); i++)
		if (memcmp(a->reg[used[i]], b->reg[used[i]], avx ? 32 : 16))
			return false;
	return true;
}

static void vectors_begin(struct test_vm *vm, struct test_vcpu *vcpu, u8 seed)
{
	struct vectors v;

	fill(&v, seed);
	vm_write(vm, (uintptr_t)&guest_in, &v, sizeof(v));
	VM_SET(vm, wide, host_has_avx(vm));
	vcpu_set_entry(vcpu, guest_vectors, seed);
	EXPECT_EQ(vcpu_run_sync(vcpu), 0);
}

static void vectors_end(struct test_vm *vm, struct test_vcpu *vcpu, u8 seed)
{
	struct vectors v, seen;

	vcpu_run_done(vcpu);
	fill(&v, seed);
	vm_read(vm, (uintptr_t)&guest_out, &seen, sizeof(seen));
	EXPECT_THAT(vectors_equal(&v, &seen, host_has_avx(vm)),
		    "guest %#x sees other vector registers", seed);
}

/* Two VMs in turn on one thread; each keeps its own */
TEST(vms_in_turn)
{
	static struct test_vm vm[2];
	u32 round, i;

	for (i = 0; i < 2; i++) {
		vm_boot(&vm[i], 1, VM_RAM);
		vectors_begin(&vm[i], &vm[i].vcpu[0], 0x11 + 0x62 * i);
	}
	for (round = 1; round < 4; round++)
		for (i = 0; i < 2; i++)
			EXPECT_EQ(vcpu_run_sync(&vm[i].vcpu[0]), round);
	for (i = 0; i < 2; i++)
		vectors_end(&vm[i], &vm[i].vcpu[0], 0x11 + 0x62 * i);
}

/* Two vCPUs of one VM: the second begins when the first has loaded its own */
TEST(vcpus_in_turn)
{
	struct test_vm vm;
	u32 round, i;

	vm_boot(&vm, 2, VM_RAM);
	vectors_begin(&vm, &vm.vcpu[0], 0x21);
	vectors_begin(&vm, &vm.vcpu[1], 0x92);
	for (round = 1; round < 4; round++)
		for (i = 0; i < 2; i++)
			EXPECT_EQ(vcpu_run_sync(&vm.vcpu[i]), round);
	vectors_end(&vm, &vm.vcpu[1], 0x92);
	vectors_end(&vm, &vm.vcpu[0], 0x21);
}

/* Nothing but the call between load and store: the compiler knows no vectors here */
static int host_run(int fd)
{
	int ret;

	asm volatile("syscall" : "=a"(ret)
		     : "a"(16), "D"(fd), "S"(VIREO_RUN), "d"(0)
		     : "rcx", "r11", "memory");
	return ret;
}

TEST(host_keeps_its_own)
{
	struct vectors before, after;
	struct test_vcpu *vcpu;
	u32 mxcsr = 0x3f80, mxcsr_after = 0, mxcsr_default = 0x1f80;
	u16 fcw = 0x27f, fcw_after = 0;
	struct test_vm vm;
	bool avx;
	int ret;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	avx = host_has_avx(&vm);
	vectors_begin(&vm, vcpu, 0x77);
	fill(&before, 0xa3);
	asm volatile("fldcw %0; ldmxcsr %1" : : "m"(fcw), "m"(mxcsr));
	do {	/* the kernel may have work for this thread */
		vectors_load(&before, avx);
		ret = host_run(vcpu->fd);
		vectors_store(&after, avx);
	} while (ret == -EINTR);
	asm volatile("fnstcw %0; stmxcsr %1" : "=m"(fcw_after), "=m"(mxcsr_after));
	asm volatile("fninit; ldmxcsr %0" : : "m"(mxcsr_default));
	EXPECT_EQ(ret, 0);
	EXPECT_EQ(fcw_after, 0x27f);
	EXPECT_EQ(mxcsr_after, 0x3f80);
	EXPECT_TRUE(vectors_equal(&before, &after, avx));
	vcpu_run_sync(vcpu);
	vcpu_run_sync(vcpu);
	vectors_end(&vm, vcpu, 0x77);
}

/* What the host had in its registers does not show in a new vCPU */
static void guest_fresh(u64 arg)
{
	vectors_store(&guest_out, false);
}

TEST(new_vcpu_is_clean)
{
	struct vectors secret, seen, zero;
	struct test_vm vm;
	int ret;

	memset(&zero, 0, sizeof(zero));
	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_fresh, 0);
	fill(&secret, 0x5e);
	do {
		vectors_load(&secret, false);
		ret = host_run(vm.vcpu[0].fd);
	} while (ret == -EINTR);
	EXPECT_EQ(ret, 0);
	vm_read(&vm, (uintptr_t)&guest_out, &seen, sizeof(seen));
	EXPECT_TRUE(vectors_equal(&seen, &zero, false));
}

/* ---- protection keys --------------------------------------------------------------------- */

static u32 read_pkru(void)
{
	u32 value;

	asm volatile("rdpkru" : "=a"(value) : "c"(0) : "rdx");
	return value;
}

static void write_pkru(u32 value)
{
	asm volatile("wrpkru" : : "a"(value), "c"(0), "d"(0) : "memory");
}

static void guest_keys(u64 id)
{
	u32 mine = 0x1230 << (4 * id);

	write_cr4(read_cr4() | X86_CR4_PKE);
	GUEST_EQ(read_pkru(), 0);
	write_pkru(mine);
	guest_sync(1);
	GUEST_EQ(read_pkru(), mine);
}

static void two_vcpus(void (*fn)(u64))
{
	struct test_vm vm;

	vm_boot(&vm, 2, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], fn, 0);
	vcpu_set_entry(&vm.vcpu[1], fn, 1);
	EXPECT_EQ(vcpu_run_sync(&vm.vcpu[0]), 1);
	EXPECT_EQ(vcpu_run_sync(&vm.vcpu[1]), 1);
	vcpu_run_done(&vm.vcpu[0]);
	vcpu_run_done(&vm.vcpu[1]);
	vm_close(&vm);
}

TEST(protection_keys)
{
	struct test_vm vm;
	bool have;

	vm_boot(&vm, 1, VM_RAM);
	/* OSPKE: the host's kernel has them on, without which no guest may */
	have = vm.info.xcr0 & BIT(9) && cpuid(7, 0).ecx & BIT(4);
	vm_close(&vm);
	if (!have)
		SKIP("this host has no protection keys");
	write_pkru(0x55555510);
	two_vcpus(guest_keys);
	EXPECT_EQ(read_pkru(), 0x55555510);
}

/* ---- debug registers --------------------------------------------------------------------- */

static u32 hits;

GUEST_HANDLER
static void guest_on_db(struct guest_frame *frame)
{
	hits++;
	asm volatile("mov %0, %%dr6" : : "r"(0xffff0ff0ULL));
	frame->rflags |= BIT(16);	/* RF: go on behind the breakpoint */
}

/*
 * Breakpoints on the execution of one of these.  QEMU's TCG neither loads nor
 * unloads breakpoints with VMRUN and VMEXIT (they outlive the guest and hit
 * the host), so there only the registers' values are looked at.
 */
static __attribute__((noinline)) void place_a(void)
{
	asm volatile("nop; nop" : : : "memory");
}

static __attribute__((noinline)) void place_b(void)
{
	asm volatile("nop; nop; nop" : : : "memory");
}

static void guest_debug(u64 id)
{
	void (*mine)(void) = id ? place_b : place_a;
	void (*other)(void) = id ? place_a : place_b;
	u64 value;

	guest_vector[VEC_DB] = guest_on_db;
	asm volatile("mov %0, %%dr0" : : "r"(mine));
	asm volatile("mov %0, %%dr7" : : "r"(0x402ULL));
	guest_sync(1);
	asm volatile("mov %%dr7, %0" : "=r"(value));
	GUEST_EQ(value, 0x402);
	WRITE_ONCE(hits, 0);
	other();
	GUEST_EQ(READ_ONCE(hits), 0);
	mine();
	GUEST_EQ(READ_ONCE(hits), 1);
	asm volatile("mov %0, %%dr7" : : "r"(0x400ULL));
	mine();
	GUEST_EQ(READ_ONCE(hits), 1);
}

static void guest_debug_values(u64 id)
{
	u64 base = 0x1000 * (id + 1), value;

	asm volatile("mov %0, %%dr0; mov %1, %%dr1; mov %2, %%dr2; mov %3, %%dr3"
		     : : "r"(base), "r"(base + 1), "r"(base + 2), "r"(base + 3));
	guest_sync(1);
	asm volatile("mov %%dr0, %0" : "=r"(value));
	GUEST_EQ(value, base);
	asm volatile("mov %%dr1, %0" : "=r"(value));
	GUEST_EQ(value, base + 1);
	asm volatile("mov %%dr2, %0" : "=r"(value));
	GUEST_EQ(value, base + 2);
	asm volatile("mov %%dr3, %0" : "=r"(value));
	GUEST_EQ(value, base + 3);
	asm volatile("mov %%dr6, %0" : "=r"(value));
	GUEST_EQ(value, 0xffff0ff0);
	asm volatile("mov %%dr7, %0" : "=r"(value));
	GUEST_EQ(value, 0x400);
	/* DR4 and DR5 are not there with CR4.DE */
	write_cr4(read_cr4() | X86_CR4_DE);
	GUEST_EQ(GUEST_FAULT_OF("mov %%db4, %%rax"), GUEST_FAULT | VEC_UD);
}

TEST(debug_registers)
{
	two_vcpus(guest_debug_values);
}

TEST(guest_breakpoints)
{
	if (host_is_emulated())
		SKIP("this emulator does not switch breakpoints");
	two_vcpus(guest_debug);
}

/*
 * A hardware breakpoint that a debugger has set on this process works as
 * before after the guest used the registers, and does not fire in the guest.
 */
static void traced_child(void)
{
	struct test_vm vm;

	ptrace(PTRACE_TRACEME, 0, 0, 0);
	raise(SIGSTOP);			/* the parent sets the breakpoint */
	vm_boot(&vm, 2, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_debug_values, 1);
	vcpu_run_sync(&vm.vcpu[0]);
	vcpu_run_done(&vm.vcpu[0]);
	raise(SIGUSR2);			/* to here without a hit */
	place_a();			/* and now one */
	_exit(0);
}

static int next_stop(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return -1;
	if (WIFEXITED(status))
		return 1000 + WEXITSTATUS(status);
	return WIFSTOPPED(status) ? WSTOPSIG(status) : -2;
}

TEST(host_breakpoint)
{
	size_t dr = offsetof(struct user, u_debugreg);
	pid_t pid;

	dev_open();
	pid = fork();
	if (!pid)
		traced_child();
	ASSERT_EQ(next_stop(pid), SIGSTOP);
	ASSERT_EQ(ptrace(PTRACE_POKEUSER, pid, dr, place_a), 0);
	ASSERT_EQ(ptrace(PTRACE_POKEUSER, pid, dr + 7 * sizeof(long), 1UL), 0);
	ptrace(PTRACE_CONT, pid, 0, 0);
	ASSERT_EQ(next_stop(pid), SIGUSR2);
	ptrace(PTRACE_CONT, pid, 0, 0);
	EXPECT_EQ(next_stop(pid), SIGTRAP);
	ptrace(PTRACE_CONT, pid, 0, 0);
	EXPECT_EQ(next_stop(pid), 1000);
}

TEST_MAIN()
