// SPDX-License-Identifier: GPL-2.0
/*
 * Who owns the processor: KVM and Vireo exclude each other, and processors
 * come and go.  KVM_KO names KVM's modules, in order and separated by blanks,
 * unless they are loaded.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>

#include <linux/kvm.h>

#include "guest.h"
#include "harness.h"
#include "host.h"
#include "vm.h"

#define CPU1	"/sys/devices/system/cpu/cpu1/online"

static int load_list(const char *variable)
{
	const char *value = getenv(variable);
	char *list, *path, *state;
	int ret = -ENOENT;

	if (!value)
		return ret;
	list = strdup(value);
	for (path = strtok_r(list, " ", &state); path; path = strtok_r(NULL, " ", &state))
		ret = module_load(path);
	free(list);
	return ret == -EEXIST ? 0 : ret;
}

static void unload_kvm(void)
{
	module_unload(host_is_intel() ? "kvm_intel" : "kvm_amd");
	module_unload("kvm");
}

/* An fd of a KVM VM, or -errno */
static int kvm_vm(int *kvm)
{
	int vm;

	*kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (*kvm < 0)
		return -errno;
	vm = ioctl(*kvm, KVM_CREATE_VM, 0);
	return vm < 0 ? -errno : vm;
}

static void guest_empty(u64 arg)
{
}

static void vireo_works(void)
{
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_empty, 0);
	EXPECT_EQ(vcpu_run_done(&vm.vcpu[0]), 0);
	vm_close(&vm);
}

TEST(kvm_first)
{
	int dev = dev_open();
	int kvm, vm;

	load_list("KVM_KO");
	vm = kvm_vm(&kvm);
	if (vm < 0)
		SKIP("KVM cannot be used: %s", strerror(-vm));
	EXPECT_EQ(dev_create_vm(dev, 1), -EBUSY);
	EXPECT_EQ(dev_create_vm(dev, 1), -EBUSY);
	/* KVM has not noticed */
	EXPECT_GE(ioctl(vm, KVM_CREATE_VCPU, 0), 0);
	/* A bad argument is still a bad argument */
	EXPECT_EQ(dev_create_vm(dev, 0), -EINVAL);
	close(vm);
	close(kvm);
}

/* Newer KVMs hold the extension from load to unload: see that it is let go */
TEST(kvm_gone)
{
	dev_open();
	unload_kvm();
	if (module_loaded("kvm"))
		SKIP("KVM cannot be unloaded");
	vireo_works();
}

/*
 * Since 6.6, and on VT-x with updates of older kernels, there is one place for who
 * switches off in a crash: KVM warns if it is taken.
 */
static bool kvm_warns(void)
{
	unsigned int major = 0, minor = 0;
	struct utsname name;

	uname(&name);
	sscanf(name.release, "%u.%u", &major, &minor);
	if (major > 6 || (major == 6 && minor >= 6))
		return true;
	return host_is_intel() &&
	       !system("grep -q cpu_emergency_register_virt_callback /proc/kallsyms");
}

TEST(vireo_first)
{
	struct test_vm vm;
	int kvm, fd, ret;

	if (kvm_warns())
		SKIP("this kernel's KVM warns, before it is refused");
	vm_boot(&vm, 1, VM_RAM);
	ret = load_list("KVM_KO");
	if (ret == -ENOENT && access("/dev/kvm", F_OK))
		SKIP("no KVM modules");
	fd = kvm_vm(&kvm);
	EXPECT_THAT(fd < 0, "KVM made a VM although Vireo holds the processors");
	/* Vireo has not noticed */
	vcpu_set_entry(&vm.vcpu[0], guest_empty, 0);
	EXPECT_EQ(vcpu_run_done(&vm.vcpu[0]), 0);
	vm_close(&vm);
	if (kvm >= 0)
		close(kvm);
	unload_kvm();
	vireo_works();
}

/* ---- processors that come and go ------------------------------------------------------ */

static u64 turns;

static void guest_turn(u64 arg)
{
	for (;;) {
		WRITE_ONCE(turns, turns + 1);
		cpuid(0, 0);
	}
}

static void *run_thread(void *arg)
{
	struct test_vcpu *vcpu = arg;

	vcpu->result = vcpu_run(vcpu);
	return NULL;
}

static void expect_progress(struct test_vm *vm)
{
	u64 before = VM_GET(vm, turns);
	int i;

	for (i = 0; i < 500 && VM_GET(vm, turns) == before; i++)
		usleep(10000);
	EXPECT_GT(VM_GET(vm, turns), before);
}

TEST_LIMIT(hotplug_while_running, 120)
{
	struct test_vm vm;
	cpu_set_t set;
	int i;

	dev_open();
	if (access(CPU1, W_OK))
		SKIP("no second processor to take away");
	signal_install();
	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_turn, 0);
	ASSERT_EQ(pthread_create(&vm.vcpu[0].thread, NULL, run_thread, &vm.vcpu[0]), 0);
	CPU_ZERO(&set);
	CPU_SET(1, &set);
	pthread_setaffinity_np(vm.vcpu[0].thread, sizeof(set), &set);
	for (i = 0; i < 3; i++) {
		expect_progress(&vm);
		ASSERT_EQ(file_write(CPU1, "0"), 0);
		expect_progress(&vm);
		ASSERT_EQ(file_write(CPU1, "1"), 0);
		CPU_SET(1, &set);
		pthread_setaffinity_np(vm.vcpu[0].thread, sizeof(set), &set);
	}
	expect_progress(&vm);
	vcpu_signal(&vm.vcpu[0]);
	pthread_join(vm.vcpu[0].thread, NULL);
	EXPECT_EQ(vm.vcpu[0].result, -EINTR);
	vm_close(&vm);
}

/* Offline when the first VM is made, online while it lives */
TEST_LIMIT(hotplug_between, 120)
{
	struct test_vm vm;
	cpu_set_t set;

	dev_open();
	if (access(CPU1, W_OK))
		SKIP("no second processor to take away");
	ASSERT_EQ(file_write(CPU1, "0"), 0);
	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_empty, 0);
	EXPECT_EQ(vcpu_run_done(&vm.vcpu[0]), 0);
	ASSERT_EQ(file_write(CPU1, "1"), 0);
	CPU_ZERO(&set);
	CPU_SET(1, &set);
	ASSERT_EQ(sched_setaffinity(0, sizeof(set), &set), 0);
	vcpu_set_entry(&vm.vcpu[0], guest_empty, 0);
	EXPECT_EQ(vcpu_run_done(&vm.vcpu[0]), 0);
	vm_close(&vm);
	vireo_works();
}

TEST_MAIN()
