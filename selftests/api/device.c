// SPDX-License-Identifier: GPL-2.0
/* /dev/vireo itself: information, creation of VMs, CPUID tables. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <libvireo.h>

#include "guest.h"
#include "harness.h"
#include "vm.h"

static struct vireo_cpuid_entry table[VIREO_STATE_CPUIDS];

static int cpuid_set(int vm, u32 count)
{
	struct vireo_cpuid arg = {
		.size = sizeof(arg), .count = count, .entries = (uintptr_t)table,
	};

	return do_ioctl(vm, VIREO_SET_CPUID, &arg);
}

static u32 cpuid_default(int dev)
{
	struct vireo_info info = { .size = sizeof(info) };

	ASSERT_EQ(do_ioctl(dev, VIREO_GET_INFO, &info), 0);
	memset(table, 0, sizeof(table));
	return vireo_cpuid_default(&info, 1, table);
}

static struct vireo_cpuid_entry *cpuid_find(u32 count, u32 function)
{
	u32 i;

	for (i = 0; i < count; i++)
		if (table[i].function == function)
			return &table[i];
	test_fail(__FILE__, __LINE__, "no leaf %#x", function);
	test_end();
}

TEST(info)
{
	struct test_vm vm;

	vm_open(&vm, 1);
	EXPECT_EQ(vm.info.api_version, VIREO_API_VERSION);
	EXPECT_EQ(vm.info.max_vcpus, VIREO_MAX_VCPUS);
	EXPECT_NE(vm.info.features & (VIREO_FEAT_SVM | VIREO_FEAT_VMX), 0);
	EXPECT_GE(vm.info.max_gpa, 1ULL << 32);
	EXPECT_LE(vm.info.max_gpa, VIREO_MAX_GPA);
	EXPECT_GT(vm.info.tsc_khz, 1000);
	EXPECT_GE(vm.info.max_cpuid, 16);
	EXPECT_GE(vm.info.xsave_size, 512);
	EXPECT_EQ(vm.info.xcr0 & 3, 3);
	EXPECT_EQ(vm.info.cpuid[VIREO_HOST_1_EDX] & BIT(5), BIT(5));	/* MSR */
	EXPECT_EQ(vm.info.flags, 0);
}

TEST(device_node)
{
	struct stat st;

	if (stat("/dev/vireo", &st))
		SKIP("no /dev/vireo");
	EXPECT_TRUE(S_ISCHR(st.st_mode));
	EXPECT_EQ(st.st_mode & 07, 0);	/* nothing for others */
}

TEST(create_vm_vcpus)
{
	int dev = dev_open();
	int fd;

	EXPECT_EQ(dev_create_vm(dev, 0), -EINVAL);
	EXPECT_EQ(dev_create_vm(dev, VIREO_MAX_VCPUS + 1), -EINVAL);
	EXPECT_EQ(dev_create_vm(dev, ~0U), -EINVAL);
	fd = dev_create_vm(dev, VIREO_MAX_VCPUS);
	EXPECT_GE(fd, 0);
}

TEST(create_vcpu_ids)
{
	struct test_vm vm;
	u32 i;

	vm_open(&vm, 3);
	EXPECT_EQ(vm_create_vcpu(vm.fd, 3), -EINVAL);
	EXPECT_EQ(vm_create_vcpu(vm.fd, ~0U), -EINVAL);
	for (i = 3; i--;)
		EXPECT_GE(vm_create_vcpu(vm.fd, i), 0);
	for (i = 0; i < 3; i++)
		EXPECT_EQ(vm_create_vcpu(vm.fd, i), -EEXIST);
	EXPECT_EQ(vm_create_vcpu(vm.fd, 3), -EINVAL);
}

TEST(create_all_vcpus)
{
	struct test_vm vm;
	u32 i;

	vm_open(&vm, VIREO_MAX_VCPUS);
	for (i = 0; i < VIREO_MAX_VCPUS; i++)
		vm_vcpu(&vm, i);
	vm_close(&vm);
}

TEST(run_page)
{
	struct test_vcpu *vcpu;
	struct test_vm vm;
	void *p;

	vm_open(&vm, 1);
	vcpu = vm_vcpu(&vm, 0);
	EXPECT_EQ(vcpu->run->exit_reason, VIREO_EXIT_NONE);
	p = mmap(NULL, 8192, PROT_READ, MAP_SHARED, vcpu->fd, 0);
	EXPECT_TRUE(p == MAP_FAILED);
	p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, vcpu->fd, 4096);
	EXPECT_TRUE(p == MAP_FAILED);
	p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, vm.fd, 0);
	EXPECT_TRUE(p == MAP_FAILED);
	p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, vcpu->fd, 0);
	EXPECT_TRUE(p == MAP_FAILED);
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, vcpu->fd, 0);
	EXPECT_TRUE(p == MAP_FAILED);
	/* It outlives the fds */
	close(vcpu->fd);
	close(vm.fd);
	WRITE_ONCE(vcpu->run->immediate_exit, 1);
	EXPECT_EQ(vcpu->run->immediate_exit, 1);
}

TEST(cpuid_default)
{
	int dev = dev_open();
	struct vireo_cpuid_entry *e;
	u32 count = cpuid_default(dev);

	EXPECT_GE(count, 8);
	EXPECT_EQ(cpuid_find(count, 0xb)->ecx, 0x100);
	e = cpuid_find(count, 0x40000000);
	EXPECT_EQ(e->ebx, 0x4b4d564b);		/* KVMKVMKVM */
	EXPECT_EQ(e->ecx, 0x564b4d56);
	EXPECT_EQ(e->edx, 0x4d);
	e = cpuid_find(count, VIREO_CPUID_BASE);
	EXPECT_EQ(e->ebx, VIREO_SIGNATURE_EBX);
	EXPECT_EQ(e->ecx, VIREO_SIGNATURE_ECX);
	EXPECT_EQ(e->edx, VIREO_SIGNATURE_EDX);
	e = cpuid_find(count, 1);
	EXPECT_EQ(e->ecx & (BIT(5) | BIT(3)), 0);	/* VMX, MONITOR */
	EXPECT_EQ(e->ecx & (BIT(21) | BIT(31)), BIT(21) | BIT(31)); /* x2APIC, guest */
	e = cpuid_find(count, 0x80000001);
	EXPECT_EQ(e->ecx & BIT(2), 0);			/* SVM */
}

TEST(cpuid_replaced)
{
	struct test_vm vm;
	u32 count;

	vm_open(&vm, 1);
	count = cpuid_default(vm.dev);
	EXPECT_EQ(cpuid_set(vm.fd, count), 0);
	cpuid_find(count, 1)->ecx &= ~BIT(30);		/* RDRAND: may be taken away */
	EXPECT_EQ(cpuid_set(vm.fd, count), 0);
	EXPECT_EQ(cpuid_set(vm.fd, vm.info.max_cpuid + 1), -E2BIG);
	EXPECT_EQ(cpuid_set(vm.fd, ~0U), -E2BIG);
}

/* What could not be looked up, or means nothing */
TEST(cpuid_set_malformed)
{
	struct vireo_cpuid_entry e;
	struct test_vm vm;
	u32 count;

	vm_open(&vm, 1);
	count = cpuid_default(vm.dev);
	cpuid_find(count, 1)->function = 0x40000200;	/* beyond all ranges */
	EXPECT_EQ(cpuid_set(vm.fd, count), -EINVAL);
	count = cpuid_default(vm.dev);
	cpuid_find(count, 1)->function = 0xc0000000;
	EXPECT_EQ(cpuid_set(vm.fd, count), -EINVAL);
	count = cpuid_default(vm.dev);
	cpuid_find(count, 1)->flags |= 2;
	EXPECT_EQ(cpuid_set(vm.fd, count), -EINVAL);
	count = cpuid_default(vm.dev);
	cpuid_find(count, 1)->reserved = 1;
	EXPECT_EQ(cpuid_set(vm.fd, count), -EINVAL);
	count = cpuid_default(vm.dev);		/* one function in two places */
	e = table[1];
	table[1] = table[count - 1];
	table[count - 1] = e;
	table[0] = e;
	EXPECT_EQ(cpuid_set(vm.fd, count), -EINVAL);
	/* Nothing has changed: the default is still taken */
	count = cpuid_default(vm.dev);
	EXPECT_EQ(cpuid_set(vm.fd, count), 0);
}

TEST(cpuid_set_after_vcpu)
{
	struct test_vm vm;
	u32 count;

	vm_open(&vm, 1);
	count = cpuid_default(vm.dev);
	vm_vcpu(&vm, 0);
	EXPECT_EQ(cpuid_set(vm.fd, count), -EBUSY);
}

static struct cpuid_result guest_seen;

static void guest_leaf(u64 arg)
{
	guest_seen = cpuid(arg, 0);
}

TEST(cpuid_seen_by_guest)
{
	struct cpuid_result before, after;
	struct test_vm vm;
	u32 count;

	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_leaf, 0x80000001);
	vcpu_run_done(&vm.vcpu[0]);
	before = VM_GET(&vm, guest_seen);
	vm_close(&vm);

	vm_open(&vm, 1);
	count = cpuid_default(vm.dev);
	cpuid_find(count, 0x80000001)->ecx &= ~1U;	/* LAHF */
	cpuid_find(count, 0x80000001)->ecx |= BIT(2);	/* SVM: more than there is */
	ASSERT_EQ(cpuid_set(vm.fd, count), 0);
	ASSERT_EQ(vm_add_memory(vm.fd, 0, VM_RAM), 0);
	vm_load_tables(&vm);
	vm_load_program(&vm);
	vm_vcpu(&vm, 0);
	vcpu_set_entry(&vm.vcpu[0], guest_leaf, 0x80000001);
	vcpu_run_done(&vm.vcpu[0]);
	after = VM_GET(&vm, guest_seen);
	EXPECT_EQ(before.ecx & 1, 1);
	EXPECT_EQ(after.ecx, (before.ecx & ~1U) | BIT(2));
	EXPECT_EQ(after.edx, before.edx);
}

/* A table that was never set, or is empty, has nothing in it */
TEST(cpuid_empty)
{
	struct cpuid_result seen;
	struct test_vm vm;

	vm_open(&vm, 1);
	ASSERT_EQ(cpuid_set(vm.fd, 0), 0);
	ASSERT_EQ(vm_add_memory(vm.fd, 0, VM_RAM), 0);
	vm_load_tables(&vm);
	vm_load_program(&vm);
	vm_vcpu(&vm, 0);
	vcpu_set_entry(&vm.vcpu[0], guest_leaf, 0);
	vcpu_run_done(&vm.vcpu[0]);
	seen = VM_GET(&vm, guest_seen);
	EXPECT_EQ(seen.eax | seen.ebx | seen.ecx | seen.edx, 0);
}

TEST_MAIN()
