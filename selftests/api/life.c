// SPDX-License-Identifier: GPL-2.0
/* Life cycle: fds, processes that die, the module's comings and goings. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "guest.h"
#include "harness.h"
#include "host.h"
#include "vm.h"

static u32 spinning;

static void guest_spin(u64 arg)
{
	WRITE_ONCE(spinning, 1);
	for (;;)
		guest_pause();
}

static void guest_empty(u64 arg)
{
}

static void *run_thread(void *arg)
{
	struct test_vcpu *vcpu = arg;

	vcpu->result = vcpu_run(vcpu);
	return NULL;
}

static void wait_spinning(struct test_vm *vm)
{
	int i;

	for (i = 0; i < 1000 && !VM_GET(vm, spinning); i++)
		usleep(10000);
	ASSERT_EQ(VM_GET(vm, spinning), 1);
}

/* References that go away do so from a work item or RCU at times: wait */
static long references_settle(long wanted)
{
	long seen = -1;
	int i;

	for (i = 0; i < 300; i++) {
		seen = module_references("vireo");
		if (seen == wanted)
			break;
		usleep(10000);
	}
	return seen;
}

TEST(references)
{
	long idle = module_references("vireo");
	struct test_vm vm;

	if (idle < 0)
		SKIP("vireo is not a loaded module");
	vm_open(&vm, 1);
	EXPECT_GT(module_references("vireo"), idle);
	vm_vcpu(&vm, 0);
	close(vm.dev);
	close(vm.fd);
	close(vm.mem);
	EXPECT_GT(module_references("vireo"), idle);	/* the vCPU's fd */
	close(vm.vcpu[0].fd);
	munmap(vm.vcpu[0].run, VIREO_RUN_SIZE);
	EXPECT_EQ(references_settle(idle), idle);
}

TEST(close_vm_while_running)
{
	struct test_vm vm;
	u32 value;

	signal_install();
	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_spin, 0);
	ASSERT_EQ(pthread_create(&vm.vcpu[0].thread, NULL, run_thread, &vm.vcpu[0]), 0);
	wait_spinning(&vm);
	close(vm.fd);
	close(vm.dev);
	usleep(50000);
	VM_SET(&vm, spinning, 0);	/* memory still works */
	value = VM_GET(&vm, spinning);
	EXPECT_EQ(value, 0);
	close(vm.mem);
	usleep(50000);
	vcpu_signal(&vm.vcpu[0]);
	pthread_join(vm.vcpu[0].thread, NULL);
	EXPECT_EQ(vm.vcpu[0].result, -EINTR);
}

TEST(close_vcpu_while_running)
{
	struct test_vm vm;

	signal_install();
	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_spin, 0);
	ASSERT_EQ(pthread_create(&vm.vcpu[0].thread, NULL, run_thread, &vm.vcpu[0]), 0);
	wait_spinning(&vm);
	close(vm.vcpu[0].fd);		/* RUN holds the file */
	usleep(50000);
	EXPECT_EQ(vm_create_vcpu(vm.fd, 0), -EEXIST);
	vcpu_signal(&vm.vcpu[0]);
	pthread_join(vm.vcpu[0].thread, NULL);
	EXPECT_EQ(vm.vcpu[0].result, -EINTR);
}

static pid_t spin_in_child(void)
{
	struct test_vm vm;
	int pipe_fd[2];
	pid_t pid;
	char c;

	ASSERT_EQ(pipe(pipe_fd), 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		vm_boot(&vm, 1, VM_RAM);
		vcpu_set_entry(&vm.vcpu[0], guest_spin, 0);
		pthread_create(&vm.vcpu[0].thread, NULL, run_thread, &vm.vcpu[0]);
		wait_spinning(&vm);
		if (write(pipe_fd[1], "x", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	close(pipe_fd[1]);
	ASSERT_EQ(read(pipe_fd[0], &c, 1), 1);
	close(pipe_fd[0]);
	return pid;
}

TEST(kill_in_the_middle)
{
	long idle;
	pid_t pid;
	int i, status;

	close(dev_open());
	idle = module_references("vireo");
	for (i = 0; i < 5; i++) {
		pid = spin_in_child();
		kill(pid, SIGKILL);
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		EXPECT_TRUE(WIFSIGNALED(status));
	}
	EXPECT_EQ(references_settle(idle), idle);
}

/* fds that a fork shares: the VM goes with the last */
TEST(inherited_fds)
{
	struct test_vm vm;
	int status;
	pid_t pid;

	vm_boot(&vm, 1, VM_RAM);
	pid = fork();
	if (!pid) {
		vm_close(&vm);
		_exit(0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	vcpu_set_entry(&vm.vcpu[0], guest_empty, 0);
	EXPECT_EQ(vcpu_run_done(&vm.vcpu[0]), 0);
}

static void one_life(void)
{
	struct test_vm vm;

	vm_boot(&vm, 2, 64 << 20);
	vcpu_set_entry(&vm.vcpu[0], guest_empty, 0);
	vcpu_run_done(&vm.vcpu[0]);
	vm_close(&vm);
}

/* Objects of the module's own caches; 0 if they cannot be told */
static s64 slab_objects(void)
{
	s64 total = 0, active;
	FILE *f = fopen("/proc/slabinfo", "re");
	char line[512], name[64];

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%63s %lld", name, &active) == 2 &&
		    !strncmp(name, "vireo", 5))
			total += active;
	fclose(f);
	return total;
}

TEST_LIMIT(two_hundred_vms, 300)
{
	s64 before, after = 0, slabs;
	int i;

	for (i = 0; i < 20; i++)
		one_life();		/* what is allocated once is now there */
	usleep(200000);
	before = file_number("/proc/meminfo", "MemAvailable");
	slabs = slab_objects();
	for (i = 0; i < 200; i++)
		one_life();
	for (i = 0; i < 50; i++) {
		after = file_number("/proc/meminfo", "MemAvailable");
		if (before - after < 8192)
			break;
		usleep(100000);
	}
	/* A page per VM would be 800 kB, but so would noise: allow 40 per VM */
	EXPECT_LT(before - after, 8192 * 4);
	EXPECT_LE(slab_objects() - slabs, 20);
}

TEST_LIMIT(two_hundred_at_once, 300)
{
	static struct { int vm, vcpu; } alive[200];
	int dev = dev_open();
	int i, ret;

	for (i = 0; i < 200; i++) {
		alive[i].vm = dev_create_vm(dev, 1);
		ASSERT_GE(alive[i].vm, 0);
		EXPECT_EQ(vm_add_memory(alive[i].vm, 0, 1 << 30), 0);
		alive[i].vcpu = vm_create_vcpu(alive[i].vm, 0);
		ASSERT_GE(alive[i].vcpu, 0);
		ASSERT_EQ(vireo_vcpu_reset(alive[i].vcpu, true), 0);
	}
	for (i = 0; i < 200; i++) {
		do {	/* the kernel may have work for this thread, as vcpu_run() knows */
			ret = do_ioctl(alive[i].vcpu, VIREO_RUN, NULL);
		} while (ret == -EINTR);
		EXPECT_EQ(ret, 0);
		close(alive[i].vm);
	}
	for (i = 0; i < 200; i++)
		close(alive[i].vcpu);
}

/* rmmod: EBUSY while in use, at once when idle, and the module comes back */
TEST(unload)
{
	const char *path = getenv("VIREO_KO");
	struct test_vm vm;

	if (!path || access(path, R_OK))
		SKIP("VIREO_KO does not name the module");
	vm_open(&vm, 1);
	EXPECT_EQ(module_unload("vireo"), -EWOULDBLOCK);
	close(vm.dev);
	close(vm.fd);
	EXPECT_EQ(module_unload("vireo"), -EWOULDBLOCK);	/* the memory fd */
	close(vm.mem);
	ASSERT_EQ(references_settle(0), 0);
	ASSERT_EQ(module_unload("vireo"), 0);
	EXPECT_FALSE(module_loaded("vireo"));
	EXPECT_NE(access("/dev/vireo", F_OK), 0);
	ASSERT_EQ(module_load(path), 0);
	EXPECT_EQ(module_load(path), -EEXIST);
	one_life();
}

TEST_MAIN()
