// SPDX-License-Identifier: GPL-2.0
/*
 * MMIO: from the exit to an access of the device bus, and back.
 *
 * The module says which guest physical address was touched and what the registers
 * hold.  The instruction is read and decoded here.  Another vCPU may have changed
 * it, or the page tables that lead to it, since the exit: then the guest runs it
 * again, which is what the reply says until vireo_mmio_reply().
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "mmio.h"
#include "util.h"
#include "walk.h"

#define CR0_PE		BIT_ULL(0)
#define RFLAGS_VM	BIT_ULL(17)
#define EFER_LMA	BIT_ULL(10)
#define SEG_L		BIT(9)		/* vireo_segment.attr */
#define SEG_D		BIT(10)
#define PAGE_BYTES	4096

static enum vireo_insn_mode insn_mode(const struct vireo_regs *r)
{
	__u16 cs = r->seg[VIREO_CS].attr;

	if (!(r->cr0 & CR0_PE) || (r->rflags & RFLAGS_VM))
		return VIREO_INSN_16;
	if ((r->efer & EFER_LMA) && (cs & SEG_L))
		return VIREO_INSN_64;
	return cs & SEG_D ? VIREO_INSN_32 : VIREO_INSN_16;
}

static int read_memory(void *ctx, __u64 gpa, void *buf, unsigned int len)
{
	return pread(*(int *)ctx, buf, len, gpa) == (ssize_t)len ? 0 : -EIO;
}

/* The bytes at RIP; as many as the hardware gave, or there are. */
static int fetch(const struct vireo_run *run, int mem_fd, struct vireo_mmio *m)
{
	const struct vireo_regs *r = &run->mmio.regs;
	struct vireo_walk w = {
		.cr0 = r->cr0, .cr3 = r->cr3, .cr4 = r->cr4, .efer = r->efer,
		.read = read_memory, .ctx = &mem_fd,
	};
	__u64 rip = r->rip;
	int n;

	if (run->mmio.insn_len) {
		m->insn_len = min_t(unsigned int, run->mmio.insn_len, VIREO_INSN_MAX);
		memcpy(m->insn, run->mmio.insn, sizeof(m->insn));
		return 0;
	}
	if (insn_mode(r) != VIREO_INSN_64)
		rip = (__u32)(r->seg[VIREO_CS].base + rip);
	n = vireo_walk_fetch(&w, rip, m->insn, VIREO_INSN_MAX);
	if (n <= 0)
		return -EAGAIN;
	m->insn_len = n;
	return 0;
}

/**
 * vireo_mmio_take - find out what the guest does
 * @run: of a vCPU that has left VIREO_RUN with VIREO_EXIT_MMIO
 * @mem_fd: the VM's memory
 * @m: filled in; unless this succeeds @insn alone
 *
 * Return: 0: do it, then vireo_mmio_reply(); -EAGAIN: the instruction has changed,
 * let the guest run on; -EOPNOTSUPP: the guest does what is not supported.
 */
int vireo_mmio_take(const struct vireo_run *run, int mem_fd, struct vireo_mmio *m)
{
	const struct vireo_regs *r = &run->mmio.regs;

	memset(m, 0, sizeof(*m));
	m->gpa = run->mmio.gpa;
	if (r->inject)		/* it is no instruction's doing */
		return -EOPNOTSUPP;
	if (fetch(run, mem_fd, m))
		return -EAGAIN;
	if (vireo_mmio_decode(m->insn, m->insn_len, insn_mode(r), &m->op))
		return -EOPNOTSUPP;
	if (m->op.write != !!run->mmio.write)
		return -EAGAIN;
	m->width = m->op.width;
	m->write = m->op.write;
	m->data = m->write ? vireo_mmio_store(&m->op, r->gpr) : 0;
	return m->gpa % PAGE_BYTES + m->width > PAGE_BYTES ? -EOPNOTSUPP : 0;
}

/**
 * vireo_mmio_reply - say what the instruction has done
 * @run: as vireo_mmio_take() had it
 * @m: what that gave
 * @data: what was read
 */
void vireo_mmio_reply(struct vireo_run *run, const struct vireo_mmio *m, __u64 data)
{
	const struct vireo_regs *r = &run->mmio.regs;
	__u64 next = r->rip + m->op.len;

	if (!m->write) {
		run->reg = m->op.reg;
		run->value = vireo_mmio_load(&m->op, r->gpr[m->op.reg & 15], data);
	}
	run->next_rip = insn_mode(r) == VIREO_INSN_64 ? next : (__u32)next;
}
