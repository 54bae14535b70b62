// SPDX-License-Identifier: GPL-2.0
/*
 * Random calls from several threads on shared objects, with fixed seeds.
 * Nothing is expected of any one call; the host has to survive, and at the
 * end an ordinary guest must run.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "guest.h"
#include "harness.h"
#include "vm.h"

#define THREADS		4
#define ROUNDS		1500
#define SLOTS		12

static int slots[SLOTS];	/* fds of any kind; threads race for them */
static int device;
static int disk_file;

static u64 random_next(u64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static const unsigned long requests[] = {
	VIREO_GET_INFO, VIREO_CREATE_VM, VIREO_CREATE_VCPU,
	VIREO_CREATE_VCPU, VIREO_ADD_MEMORY, VIREO_ADD_MEMORY, VIREO_GET_MEMORY,
	VIREO_SET_CPUID, VIREO_INJECT_MSI, VIREO_GET_STAT, VIREO_RUN, VIREO_RUN,
	VIREO_RUN, VIREO_GET_REGS, VIREO_SET_REGS, VIREO_SET_REGS, VIREO_GET_MSRS,
	VIREO_SET_MSRS, VIREO_GET_XSAVE, VIREO_SET_XSAVE,
	VIREO_CREATE_DISK,
	VIREO_SET_DISK, VIREO_CREATE_QUEUE, VIREO_CREATE_QUEUE, VIREO_SET_MSI,
	VIREO_GET_QUEUE_STAT, VIREO_CREATE_NET, VIREO_GET_NET, VIREO_SET_NET, VIREO_FORK,
	VIREO_FORK,
};

/* Values near what is sensible, and now and then far from it */
static void random_argument(u64 *state, u8 *arg, u8 *inner, unsigned long request)
{
	u32 size = _IOC_SIZE(request);
	u64 kind = random_next(state);
	u32 i;

	memset(arg, 0, 1024);
	if (kind % 8 == 0)
		for (i = 0; i < 1024; i++)
			arg[i] = random_next(state);
	if (kind % 64)
		memcpy(arg, &size, 4);
	if (kind % 16)
		memset(arg + 4, 0, 4);
	if (size >= 16 && kind % 8)
		arg[8] = random_next(state) % 4;
	switch (request) {
	case VIREO_ADD_MEMORY:
		*(u64 *)(arg + 8) = random_next(state) % 64 << 16;
		*(u64 *)(arg + 16) = (random_next(state) % 32 + 1) << 16;
		break;
	case VIREO_INJECT_MSI:
		*(u64 *)(arg + 8) = 0xfee00000 | (random_next(state) & 0x3fff);
		*(u32 *)(arg + 16) = random_next(state) & 0x4ff;
		break;
	case VIREO_SET_CPUID:
	case VIREO_GET_MSRS:
	case VIREO_SET_MSRS:
		*(u64 *)(arg + 16) = (uintptr_t)inner;
		break;
	case VIREO_CREATE_DISK:
		*(u32 *)(arg + 8) = disk_file;
		break;
	case VIREO_CREATE_NET:
		memcpy(arg + 8, "vrnd%d", 7);
		arg[24] = 2;
		arg[30] = random_next(state) % 3;
		*(u32 *)(arg + 32) = 1500;
		break;
	case VIREO_CREATE_QUEUE:
		*(u32 *)(arg + 12) = random_next(state) % 2 * (random_next(state) % 4);
		*(u64 *)(arg + 16) = random_next(state) % 64 << 16;
		*(u32 *)(arg + 24) = 16 << random_next(state) % 4;
		break;
	case VIREO_GET_XSAVE:
	case VIREO_SET_XSAVE:
		*(u64 *)(arg + 8) = (uintptr_t)inner;
		*(u64 *)(arg + 16) = 0x240 + random_next(state) % 4 * 0x100;
		break;
	default:
		break;
	}
}

/* A new fd takes a slot; what was there is closed, whoever may be using it */
static void slot_put(u64 *state, int fd)
{
	int old = __atomic_exchange_n(&slots[random_next(state) % SLOTS], fd,
				      __ATOMIC_SEQ_CST);

	if (old > 2 && old != device && old != disk_file)
		close(old);
}

static void random_memory(u64 *state, int fd)
{
	u8 buf[512];
	u64 at = random_next(state) % 0x400000;

	switch (random_next(state) % 4) {
	case 0:
		memset(buf, random_next(state), sizeof(buf));
		do_pwrite(fd, buf, sizeof(buf), at);
		break;
	case 1:
		do_pread(fd, buf, sizeof(buf), at);
		break;
	case 2:
		do_lseek(fd, at, SEEK_DATA);
		break;
	default:
		do_lseek(fd, at, SEEK_HOLE);
		break;
	}
}

static void *random_thread(void *seed)
{
	u64 state = (uintptr_t)seed * 0x9e3779b97f4a7c15ULL;
	u8 *inner = calloc(1, 65536);
	u8 *arg = malloc(8192);
	unsigned long request;
	int i, fd, ret;

	for (i = 0; i < ROUNDS; i++) {
		fd = READ_ONCE(slots[random_next(&state) % SLOTS]);
		request = requests[random_next(&state) % ARRAY_SIZE(requests)];
		if (request == VIREO_CREATE_VM)
			fd = device;
		if (random_next(&state) % 8 == 0)
			random_memory(&state, fd);
		/* Real registers first, so that SET_REGS may do something */
		if (request == VIREO_SET_REGS && !vcpu_fd_get_regs(fd, (void *)arg))
			arg[8 + random_next(&state) % 500] ^= random_next(&state) & 3;
		else
			random_argument(&state, arg, inner, request);
		ret = do_ioctl(fd, request, arg);
		if (ret > 2 && request == VIREO_CREATE_VCPU)
			vireo_vcpu_reset(ret, true);
		if (ret > 2 && (request == VIREO_CREATE_VM || request == VIREO_CREATE_VCPU ||
				request == VIREO_GET_MEMORY || request == VIREO_FORK ||
				request == VIREO_CREATE_DISK ||
				request == VIREO_CREATE_QUEUE))
			slot_put(&state, ret);
		else if (random_next(&state) % 64 == 0)
			slot_put(&state, dup(device));
	}
	free(arg);
	free(inner);
	return NULL;
}

static void on_signal(int sig)
{
}

/* Guests that do not end are interrupted, whichever thread runs them */
static void join_all(const pthread_t *threads)
{
	bool ended[THREADS] = { false };
	int i, left = THREADS;

	while (left) {
		for (i = 0; i < THREADS; i++) {
			if (ended[i])
				continue;
			if (!pthread_tryjoin_np(threads[i], NULL)) {
				ended[i] = true;
				left--;
				continue;
			}
			pthread_kill(threads[i], SIGUSR1);
		}
		usleep(2000);
	}
}

static void guest_empty(u64 arg)
{
}

TEST_LIMIT(many_threads, 240)
{
	struct sigaction sa = { .sa_handler = on_signal };
	pthread_t threads[THREADS];
	struct test_vm vm;
	int i, fd;

	device = dev_open();
	disk_file = memfd_create("disk", MFD_CLOEXEC);
	ASSERT_EQ(ftruncate(disk_file, 1 << 20), 0);
	for (i = 0; i < SLOTS; i++) {
		fd = dev_create_vm(device, 1 + i % 4);
		ASSERT_GE(fd, 0);
		slots[i] = fd;
	}
	sigaction(SIGUSR1, &sa, NULL);
	for (i = 0; i < THREADS; i++)
		ASSERT_EQ(pthread_create(&threads[i], NULL, random_thread,
					 (void *)(uintptr_t)(i + 1)), 0);
	join_all(threads);
	for (i = 0; i < SLOTS; i++)
		close(slots[i]);
	vm_boot(&vm, 1, VM_RAM);
	vcpu_set_entry(&vm.vcpu[0], guest_empty, 0);
	EXPECT_EQ(vcpu_run_done(&vm.vcpu[0]), 0);
}

TEST_MAIN()
