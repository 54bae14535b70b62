// SPDX-License-Identifier: GPL-2.0
/*
 * A machine that is paused stands still: none of its vCPUs is entered before it goes on,
 * although their threads are still on their way to sleep, or wake each other, when its
 * state is read.  And it is paused whatever they do, also where no signal can be queued.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <libvireo.h>

#define VCPUS		8
#define ROUNDS		300
#define SECONDS		100		/* what goes wrong may wait for ever */
#define CODE		0x1000U

/* All vCPUs run @code, in real mode. */
static int make(struct vireo_machine *m, const void *code, size_t len, struct vireo_error *err)
{
	struct vireo_regs regs;
	unsigned int i;
	int ret;

	ret = vireo_machine_create(m, VCPUS, VIREO_MIB, err);
	if (ret)
		return ret;
	ret = vireo_vm_write(&m->vm, CODE, code, len, err);
	for (i = 0; i < VCPUS && !ret; i++) {
		ret = vireo_vcpu_get_regs(&m->thread[i].vcpu, &regs, err);
		regs.seg[VIREO_CS].selector = CODE >> 4;
		regs.seg[VIREO_CS].base = CODE;
		regs.rip = 0;
		regs.mp_state = VIREO_MP_RUNNABLE;
		if (!ret)
			ret = vireo_vcpu_set_regs(&m->thread[i].vcpu, &regs, err);
	}
	if (!ret)
		ret = vireo_machine_start(m, err);
	if (ret)
		vireo_machine_destroy(m);
	return ret;
}

/* Whoever uses a vCPU of a paused machine keeps it from being entered like this. */
static int keeps_out(struct vireo_machine *m, struct vireo_error *err)
{
	unsigned int i;

	for (i = 0; i < m->vcpus; i++)
		__atomic_store_n(&m->thread[i].vcpu.run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	usleep(1000);		/* time for the threads that are on their way */
	for (i = 0; i < m->vcpus; i++) {
		if (!__atomic_load_n(&m->thread[i].vcpu.run->immediate_exit, __ATOMIC_SEQ_CST))
			return vireo_fail(err, EBUSY, "vCPU %u would be entered", i);
	}
	return 0;
}

static int pause_often(struct vireo_machine *m, struct vireo_error *err)
{
	struct vireo_vcpu_state *state;
	unsigned int i;

	for (i = 0; i < ROUNDS; i++) {
		if (vireo_machine_pause(m))
			return vireo_fail(err, ESRCH, "round %u: %s", i, m->end_text);
		state = i % 3 && keeps_out(m, err) ? NULL : vireo_machine_save(m, err);
		if (!state) {
			vireo_error_prefix(err, "round %u", i);
			return -1;
		}
		vireo_state_free(state, m->vcpus);
		vireo_machine_resume(m);
		if (i % 2)		/* else it is paused again at once */
			usleep(1000);
	}
	return 0;
}

static int try(unsigned int number, const char *what, const void *code, size_t len)
{
	static struct vireo_machine m;
	struct vireo_error err = { .code = 0 };
	int ret = make(&m, code, len, &err);

	if (!ret) {
		ret = pause_often(&m, &err);
		vireo_machine_destroy(&m);
	}
	printf("%sok %u its state is read %d times while %s\n", ret ? "not " : "", number, ROUNDS,
	       what);
	if (ret)
		printf("# %s\n", err.text);
	return ret;
}

int main(void)
{
	/* One that is entered leaves at once, or never. */
	static const __u8 io[] = { 0xe6, 0x80, 0xeb, 0xfc };	/* out %al, $0x80; jmp back */
	static const __u8 halt[] = { 0xfa, 0xf4 };		/* cli; hlt */
	static const struct rlimit none = { 0 };
	int failed;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("1..2\n");
	alarm(SECONDS);
	failed = try(1, "all vCPUs do I/O", io, sizeof(io));
	setrlimit(RLIMIT_SIGPENDING, &none);
	failed |= try(2, "all have halted, and no signal can be queued", halt, sizeof(halt));
	return !!failed;
}
