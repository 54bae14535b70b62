// SPDX-License-Identifier: GPL-2.0
/*
 * The first guests: each step needs a little more of the module than the one
 * before, so the first that fails says what to mend.
 */
#include "guest.h"
#include "harness.h"

TEST(create)
{
	struct test_vm vm;

	vm_open(&vm, 1);
	ASSERT_EQ(vm_add_memory(vm.fd, 0, VM_RAM), 0);
	vm_load_tables(&vm);
	vm_load_program(&vm);
	vm_vcpu(&vm, 0);
	vm_close(&vm);
}

/* mov $0x5a, %al; out %al, $0x10; out %al, $0x11; hlt */
static const u8 real_out[] = { 0xb0, 0x5a, 0xe6, 0x10, 0xe6, 0x11, 0xf4 };

TEST(real_mode_out)
{
	struct test_vcpu *vcpu;
	struct test_vm vm;

	vm_open(&vm, 1);
	ASSERT_EQ(vm_add_memory(vm.fd, 0, VM_RAM), 0);
	vcpu = vm_vcpu(&vm, 0);
	vcpu_set_code(vcpu, MODE_REAL, real_out, sizeof(real_out));
	vcpu_run_exit(vcpu, VIREO_EXIT_IO);
	EXPECT_EQ(vcpu->run->io.port, 0x10);
	EXPECT_EQ(vcpu->run->io.width, 1);
	EXPECT_EQ(vcpu->run->io.write, 1);
	EXPECT_EQ(vireo_io_data(vcpu->run), 0x5a);
	vcpu_run_exit(vcpu, VIREO_EXIT_IO);
	EXPECT_EQ(vcpu->run->io.port, 0x11);
}

/* mov $0x11223344, %eax; mov $0x1234, %edx; out %eax, %dx */
static const u8 long_out[] = {
	0xb8, 0x44, 0x33, 0x22, 0x11, 0xba, 0x34, 0x12, 0x00, 0x00, 0xef,
};

TEST(every_mode_out)
{
	struct test_vcpu *vcpu;
	struct test_vm vm;
	u8 code[16];
	unsigned int mode, len;

	vm_open(&vm, 1);
	ASSERT_EQ(vm_add_memory(vm.fd, 0, VM_RAM), 0);
	vm_load_tables(&vm);
	vcpu = vm_vcpu(&vm, 0);
	for (mode = MODE_PROT32; mode < MODE_COUNT; mode++) {
		for (len = 0; len < sizeof(long_out); len++)
			code[len] = long_out[len];
		vcpu_set_code(vcpu, mode, code, len);
		vcpu_run_exit(vcpu, VIREO_EXIT_IO);
		EXPECT_THAT(vcpu->run->io.port == 0x1234 && vcpu->run->io.width == 4 &&
			    vireo_io_data(vcpu->run) == 0x11223344, "%s: port %#x data %#x",
			    vm_mode_name(mode), vcpu->run->io.port, vireo_io_data(vcpu->run));
	}
}

static void guest_out(u64 arg)
{
	guest_done(arg + 1);
}

TEST(long_mode_out)
{
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_out, 41);
	EXPECT_EQ(vcpu_run_done(&vm.vcpu[0]), 42);
	vm_close(&vm);
}

static void guest_in(u64 arg)
{
	GUEST_EQ(in32(0x600), 0xcafe0000 + arg);
}

TEST(long_mode_in)
{
	struct test_vcpu *vcpu;
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	vcpu_set_entry(vcpu, guest_in, 7);
	vcpu_run_exit(vcpu, VIREO_EXIT_IO);
	EXPECT_EQ(vcpu->run->io.port, 0x600);
	EXPECT_EQ(vcpu->run->io.write, 0);
	vireo_io_reply(vcpu->run, 0xcafe0007);
	vcpu_run_done(vcpu);
}

static void guest_nop(u64 arg)
{
	GUEST_EQ(hypercall(VIREO_HC_NOP, 0, 0, 0, 0), 0);
}

TEST(hypercall)
{
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_nop, 0);
	vcpu_run_done(&vm.vcpu[0]);
	EXPECT_EQ(vcpu_stat(&vm.vcpu[0], VIREO_STAT_EXIT_HYPERCALL), 1);
}

static void guest_mmio(u64 arg)
{
	u32 *mmio = (void *)arg;

	WRITE_ONCE(mmio[0], 0x12345678);
	GUEST_EQ(READ_ONCE(mmio[1]), 0x9abcdef0);
}

TEST(mmio)
{
	const struct vireo_mmio *m;
	struct test_vcpu *vcpu;
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	vcpu_set_entry(vcpu, guest_mmio, VM_MMIO);
	m = vcpu_run_mmio(vcpu);
	EXPECT_EQ(m->gpa, VM_MMIO);
	EXPECT_EQ(m->width, 4);
	EXPECT_EQ(m->write, 1);
	EXPECT_EQ(m->data, 0x12345678);
	vcpu_mmio_reply(vcpu, 0);
	m = vcpu_run_mmio(vcpu);
	EXPECT_EQ(m->gpa, VM_MMIO + 4);
	EXPECT_EQ(m->write, 0);
	vcpu_mmio_reply(vcpu, 0x9abcdef0);
	vcpu_run_done(vcpu);
}

static void guest_ud(u64 arg)
{
	GUEST_EQ(GUEST_FAULT_OF("ud2"), GUEST_FAULT | VEC_UD);
}

TEST(exception)
{
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_ud, 0);
	vcpu_run_done(&vm.vcpu[0]);
}

/* cs data16 rex.W cpuid; out %al, $0x99 */
static const u8 long_cpuid[] = { 0x2e, 0x66, 0x48, 0x0f, 0xa2, 0xe6, 0x99 };

/* Where the hardware says where an instruction ends, prefixes are stepped over too */
TEST(prefixes)
{
	struct test_vcpu *vcpu;
	struct vireo_regs regs;
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	if ((vm.info.features & (VIREO_FEAT_SVM | VIREO_FEAT_NEXT_RIP)) == VIREO_FEAT_SVM)
		SKIP("no NRIP save");
	vcpu = &vm.vcpu[0];
	vcpu_set_code(vcpu, MODE_LONG, long_cpuid, sizeof(long_cpuid));
	vcpu_get_regs(vcpu, &regs);
	regs.gpr[VIREO_RAX] = VIREO_CPUID_BASE;
	vcpu_set_regs(vcpu, &regs);
	vcpu_run_exit(vcpu, VIREO_EXIT_IO);
	EXPECT_EQ(vcpu->run->io.port, 0x99);
	vcpu_get_regs(vcpu, &regs);
	EXPECT_EQ(regs.gpr[VIREO_RBX], VIREO_SIGNATURE_EBX);
}

/* The guest tells that it is about to halt; the MSI wakes it */
static void guest_wait(u64 arg)
{
	wrmsr(APIC_SVR, APIC_ENABLED);
	guest_sync(1);
	while (!READ_ONCE(guest_count[arg]))
		guest_halt();
	GUEST_EQ(READ_ONCE(guest_count[arg]), 1);
}

TEST(halt_and_msi)
{
	struct test_vcpu *vcpu;
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	vcpu_set_entry(vcpu, guest_wait, 0x41);
	EXPECT_EQ(vcpu_run_sync(vcpu), 1);
	vcpu_start(vcpu);
	usleep(50000);
	EXPECT_EQ(vm_inject_msi(vm.fd, 0xfee00000, 0x41), 1);
	vcpu_join(vcpu);
	EXPECT_GE(vcpu_stat(vcpu, VIREO_STAT_EXIT_HLT), 1);
}

TEST_MAIN()
