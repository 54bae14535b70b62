// SPDX-License-Identifier: GPL-2.0
/*
 * What a fork costs, by the size of the memory: the call, the end of what it made,
 * and the way to the first instruction of a clone in a process of its own.
 *
 *	bench: NAME vireo=N unit=ticks target=N
 *
 * As in exits.c a tick is an instruction where the host counts them.  The memory
 * is touched in as many places as FILL allows, so that the tree has its tables.
 */
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "guest.h"
#include "harness.h"
#include "vm.h"

#define MIB	(1ULL << 20)
#define FILL	(64 * MIB)	/* in 4 KiB pages and 2 MiB ones, what comes */
#define ROUNDS	25
#define PORT	0x10

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

static void print(const char *name, const char *size, u64 value, u64 target)
{
	printf("bench: %s%s vireo=%llu kvm=- unit=ticks", name, size, value);
	if (target)
		printf(" target=%llu\n", target);
	else
		printf(" target=-\n");
}

static u64 scratch;

/* Writes a word of its own, tells, and once more */
static void guest_write(u64 arg)
{
	for (;;) {
		out8(PORT, 1);
		WRITE_ONCE(scratch, scratch + 1);
	}
}

static void run_to_port(struct test_vcpu *vcpu)
{
	do {
		vcpu_run_exit(vcpu, VIREO_EXIT_IO);
	} while (vcpu->run->io.port != PORT);
}

/* Sparse: every so often a page, so that the whole of it has tables */
static void boot(struct test_vm *vm, u64 ram)
{
	u64 at, step = ram / (FILL / (2 * MIB));

	vm_boot(vm, 1, ram);
	for (at = 16 * MIB; at < ram; at += step)
		vm_write(vm, at, &at, sizeof(at));
	vcpu_set_entry(&vm->vcpu[0], guest_write, 0);
	run_to_port(&vm->vcpu[0]);
}

static void measure_call(struct test_vm *vm, const char *size)
{
	u64 fork_taken[ROUNDS], end_taken[ROUNDS], begin;
	int i, fd;

	for (i = 0; i < ROUNDS; i++) {
		begin = ticks();
		fd = vm_fd_fork(vm->fd);
		fork_taken[i] = ticks() - begin;
		ASSERT_GE(fd, 0);
		begin = ticks();
		close(fd);
		end_taken[i] = ticks() - begin;
	}
	print("fork_call_", size, median(fork_taken), 30000);
	print("fork_end_", size, median(end_taken), 0);
}

/* The first write after a fork, less one that needs no copy; and the second's */
static void measure_write(struct test_vm *vm, const char *size)
{
	u64 first[ROUNDS], second[ROUNDS], begin;
	int i, fd;

	for (i = 0; i < ROUNDS; i++) {
		fd = vm_fd_fork(vm->fd);
		begin = ticks();
		run_to_port(&vm->vcpu[0]);
		first[i] = ticks() - begin;
		begin = ticks();
		run_to_port(&vm->vcpu[0]);
		second[i] = ticks() - begin;
		close(fd);
	}
	print("fork_write_", size, median(first) - median(second), 0);
}

/* As vireo fork does it, from the stopped parent to the clone's first exit */
static void measure_process(struct test_vm *vm, const char *size)
{
	u64 taken[ROUNDS], *end;
	struct test_vm child;
	u64 begin;
	pid_t pid;
	int i;

	end = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(end != MAP_FAILED);
	for (i = 0; i < ROUNDS; i++) {
		begin = ticks();
		vm_fork(vm, &child);
		pid = fork();
		if (!pid) {
			vcpu_clone(&vm->vcpu[0], &child);
			run_to_port(&child.vcpu[0]);
			*end = ticks();
			_exit(0);
		}
		vm_close(&child);
		waitpid(pid, NULL, 0);
		taken[i] = *end - begin;
	}
	munmap(end, 4096);
	print("fork_first_entry_", size, median(taken), 400000);
}

int main(void)
{
	static const struct {
		u64 ram;
		const char *name;
	} sizes[] = { { 128 * MIB, "128M" }, { 1024 * MIB, "1G" }, { 8192 * MIB, "8G" } };
	struct test_vm vm;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		boot(&vm, sizes[i].ram);
		measure_call(&vm, sizes[i].name);
		measure_write(&vm, sizes[i].name);
		measure_process(&vm, sizes[i].name);
		vm_close(&vm);
	}
	return KSFT_PASS;
}
