// SPDX-License-Identifier: GPL-2.0
/*
 * What an exit is answered with.
 *
 * vireo_exit_fast() runs in the inner loop with interrupts off and resolves
 * what needs no sleep; vireo_exit_slow() does the rest, or fills in the run
 * page for user space.
 */
#include "vireo.h"
#include "queue.h"
#include "trace.h"

static void inject_gp(struct vireo_vcpu *v)
{
	v->inject = vireo_event(VEVENT_EXCEPTION, X86_TRAP_GP);
	v->inject.has_error = true;
}

/* Steps over the intercepted instruction, whose end is known. */
static inline void exit_skip(struct vireo_vcpu *v)
{
	v->rip = v->next_rip;
	v->blocked &= ~VIREO_BLOCKED_SHADOW;
	v->rflags &= ~X86_EFLAGS_RF;
	if (unlikely(v->rflags & X86_EFLAGS_TF)) {
		vireo_ops->set_bs(v);
		v->inject = vireo_event(VEVENT_EXCEPTION, X86_TRAP_DB);
	}
}

/* ---- Hypercalls ------------------------------------------------------------------------ */

static long hypercall_kick(struct vireo_vcpu *v, u64 id)
{
	struct vireo_vcpu *to = vireo_vcpu_by_id(v->vm, id);

	if (to) {
		set_bit(VAPIC_UNHALT, &to->apic.smi_init);
		vireo_vcpu_request(to, VREQ_EVENT);
	}
	return 0;
}

/* Returns false for what may sleep or has to go to user space. */
static bool exit_hypercall(struct vireo_vcpu *v)
{
	u64 mask = v->exit.wide ? ~0ULL : U32_MAX;
	u64 nr = v->gpr[VIREO_RAX] & mask;
	u64 a0 = v->gpr[VIREO_RBX] & mask, a1 = v->gpr[VIREO_RCX] & mask;
	u64 a2 = v->gpr[VIREO_RDX] & mask, a3 = v->gpr[VIREO_RSI] & mask;
	long ret;

	switch (v->exit.cpl ? ~0ULL : nr) {
	case VIREO_HC_NOP:
		ret = 0;
		break;
	case VIREO_HC_SYSTEM:
	case VIREO_HC_DOORBELL:
		return false;
	case KVM_HC_KICK_CPU:
		ret = hypercall_kick(v, a1);
		break;
	case KVM_HC_SEND_IPI:
		ret = vireo_lapic_pv_ipi(v, a0, a1, a2, a3);
		break;
	default:
		ret = v->exit.cpl ? -KVM_EPERM : -KVM_ENOSYS;
	}
	v->gpr[VIREO_RAX] = ret & mask;
	exit_skip(v);
	return true;
}

/* ---- MSRs and XSETBV ------------------------------------------------------------------------ */

static void exit_rdmsr(struct vireo_vcpu *v)
{
	u64 value;

	if (vireo_msr_get(v, v->gpr[VIREO_RCX], &value)) {
		inject_gp(v);
		return;
	}
	v->gpr[VIREO_RAX] = (u32)value;
	v->gpr[VIREO_RDX] = value >> 32;
	exit_skip(v);
}

/* An MSR write may need guest memory and so end in -ENOMEM. */
static int exit_wrmsr(struct vireo_vcpu *v)
{
	u64 value = (u32)v->gpr[VIREO_RAX] | v->gpr[VIREO_RDX] << 32;
	int err = vireo_msr_set(v, v->gpr[VIREO_RCX], value, false);

	if (err == -ENOMEM)
		return err;
	if (err)
		inject_gp(v);
	else
		exit_skip(v);
	return 0;
}

/* MSRs that never sleep: the APIC's. */
static bool msr_is_fast(u32 index)
{
	return (index >= 0x800 && index < 0x900) || index == MSR_IA32_TSC_DEADLINE;
}

static void exit_xsetbv(struct vireo_vcpu *v)
{
	u64 value = (u32)v->gpr[VIREO_RAX] | v->gpr[VIREO_RDX] << 32;

	struct vireo_regs r = {};

	vireo_ops->get_regs(v, &r);
	if ((u32)v->gpr[VIREO_RCX] || (r.seg[VIREO_SS].attr >> 5 & 3) ||
	    vireo_vcpu_set_xcr0(v, value))
		inject_gp(v);
	else
		exit_skip(v);
}

/* ---- The fast half ------------------------------------------------------------------------- */

/**
 * vireo_exit_fast() - resolve an exit without sleeping
 * @v: the vCPU
 * @exit: what happened
 * Context: The inner loop, interrupts off.
 * Return: Whether it is resolved.
 */
bool vireo_exit_fast(struct vireo_vcpu *v, enum vireo_exit exit)
{
	/* The hottest first: a switch is a chain of branches. */
	if (exit == VEXIT_CPUID) {
		vireo_cpuid_exec(v);
		exit_skip(v);
		return true;
	}
	if (exit == VEXIT_HYPERCALL)
		return exit_hypercall(v);
	switch (exit) {
	case VEXIT_WRMSR:
		if (!msr_is_fast(v->gpr[VIREO_RCX]))
			return false;
		exit_wrmsr(v);
		return true;
	case VEXIT_RDMSR:
		if (!msr_is_fast(v->gpr[VIREO_RCX]))
			return false;
		exit_rdmsr(v);
		return true;
	case VEXIT_HLT:
		if (v->pv.eoi_pending)
			vireo_pv_eoi_sync(v);
		if (!vireo_lapic_wakeup(v))
			return false;
		clear_bit(VAPIC_UNHALT, &v->apic.smi_init);
		set_bit(VREQ_EVENT, &v->requests);
		break;
	case VEXIT_SKIP:
		break;
	case VEXIT_DR:
		return true;
	default:	/* XSETBV takes effect when the inner loop is entered again */
		return false;
	}
	exit_skip(v);
	return true;
}

/* ---- Ends of a guest --------------------------------------------------------------------- */

static int exit_shutdown(struct vireo_vcpu *v, u32 reason)
{
	v->run->exit_reason = VIREO_EXIT_SHUTDOWN;
	v->run->shutdown.reason = reason;
	v->run->shutdown.reserved = 0;
	v->run->shutdown.info = v->exit.code;
	v->run->shutdown.gpa = v->exit.gpa;
	return 1;
}

/* ---- I/O --------------------------------------------------------------------------------- */

static int exit_io(struct vireo_vcpu *v)
{
	const struct vireo_exit_info *e = &v->exit;
	struct vireo_run *run = v->run;

	if (e->string)
		return exit_shutdown(v, VIREO_SHUTDOWN_INSTRUCTION);
	run->exit_reason = VIREO_EXIT_IO;
	*(u32 *)&run->io = e->io;
	if (e->write) {
		run->io.data = v->gpr[VIREO_RAX] & (U32_MAX >> (32 - 8 * e->width));
		exit_skip(v);
	} else {
		run->io.data = 0;
		v->io_width = e->width;
		v->pending_io = VIO_PORT;
	}
	return 1;
}

/*
 * User space finds out which instruction it is, and does it: there is no decoder
 * here.  Until it replies, the guest would run it again.
 */
static noinline int exit_mmio(struct vireo_vcpu *v)
{
	const struct vireo_exit_info *e = &v->exit;
	struct vireo_regs regs = { .size = sizeof(regs) };
	struct vireo_run *run = v->run;

	if (e->fetch)
		return exit_shutdown(v, VIREO_SHUTDOWN_FETCH);
	/* It is no instruction's doing when an event's delivery hits MMIO. */
	if (v->inject.info)
		return exit_shutdown(v, VIREO_SHUTDOWN_INSTRUCTION);
	v->stat[VIREO_STAT_EXIT_MMIO]++;
	vireo_regs_get(v, &regs);
	run->exit_reason = VIREO_EXIT_MMIO;
	run->mmio.gpa = e->gpa;
	run->mmio.write = e->write;
	run->mmio.insn_len = e->insn_len;
	run->mmio.reserved = 0;
	memcpy(run->mmio.insn, e->insn, sizeof(e->insn));
	run->mmio.regs = regs;
	run->mmio.reg = VIREO_MMIO_NO_REG;
	run->mmio.value = 0;
	run->mmio.next_rip = v->rip;
	v->pending_io = VIO_MMIO;
	return 1;
}

static int complete_mmio(struct vireo_vcpu *v)
{
	u64 rip = READ_ONCE(v->run->mmio.next_rip), value = READ_ONCE(v->run->mmio.value);
	u32 reg = READ_ONCE(v->run->mmio.reg);

	if (rip == v->rip)
		return 0;
	if (reg > VIREO_MMIO_NO_REG || !vireo_regs_rip_ok(v, rip))
		return -EINVAL;
	if (reg != VIREO_MMIO_NO_REG)
		v->gpr[reg & 15] = value;
	v->next_rip = rip;
	exit_skip(v);
	return 0;
}

static void complete_io(struct vireo_vcpu *v)
{
	u64 mask = GENMASK_ULL(v->io_width * 8 - 1, 0);
	u64 data = READ_ONCE(v->run->io.data) & mask;

	if (v->io_width == 4)	/* as every 32-bit result: upper half 0 */
		v->gpr[VIREO_RAX] = data;
	else
		v->gpr[VIREO_RAX] = (v->gpr[VIREO_RAX] & ~mask) | data;
	exit_skip(v);
}

/**
 * vireo_exit_complete() - take user space's reply to the last exit
 * @v: the vCPU
 * Context: The vCPU's mutex is held.
 * Return: 0, or -EINVAL: the reply is refused, another may be tried.
 */
int vireo_exit_complete(struct vireo_vcpu *v)
{
	int err = 0;

	if (v->pending_io == VIO_PORT)
		complete_io(v);
	else
		err = complete_mmio(v);
	if (!err)
		v->pending_io = VIO_NONE;
	return err;
}

/* ---- The slow half ----------------------------------------------------------------------- */

static int exit_fault(struct vireo_vcpu *v)
{
	int err = vireo_mem_fault(&v->vm->mem, v->exit.gpa, v->exit.write);

	trace_vireo_fault(v, err);
	return err == -ENXIO ? exit_mmio(v) : err;
}

/* The hypercalls that may sleep, or go to user space. */
static int exit_hypercall_slow(struct vireo_vcpu *v)
{
	u64 mask = v->exit.wide ? ~0ULL : U32_MAX;
	u64 type = v->gpr[VIREO_RBX] & mask, code = v->gpr[VIREO_RCX] & mask;
	bool doorbell = (u32)v->gpr[VIREO_RAX] == VIREO_HC_DOORBELL;
	int ret = doorbell ? vireo_queue_doorbell(v->vm, type) :
		  type > VIREO_SYSTEM_CRASH ? -KVM_EINVAL : 0;

	v->gpr[VIREO_RAX] = ret & mask;
	exit_skip(v);
	if (doorbell || ret)
		return 0;
	v->run->exit_reason = VIREO_EXIT_SYSTEM;
	v->run->system.type = type;
	v->run->system.reserved = 0;
	v->run->system.code = code;
	return 1;
}

static int exit_fail(struct vireo_vcpu *v)
{
	v->run->exit_reason = VIREO_EXIT_FAIL_ENTRY;
	v->run->fail.code = v->exit.code;
	v->run->fail.check = v->exit.check;
	v->run->fail.reserved = 0;
	return 1;
}

static int exit_slow_skip(struct vireo_vcpu *v, enum vireo_exit exit)
{
	switch (exit) {
	case VEXIT_HYPERCALL:
		return exit_hypercall_slow(v);
	case VEXIT_RDMSR:
		exit_rdmsr(v);
		return 0;
	case VEXIT_WRMSR:
		return exit_wrmsr(v);
	case VEXIT_XSETBV:
		exit_xsetbv(v);
		return 0;
	default:		/* VEXIT_HLT */
		exit_skip(v);
		v->mp_state = VIREO_MP_HALTED;
		return 0;
	}
}

/* Apart, because what it has on its stack costs its caller a stack guard. */
static noinline int exit_others(struct vireo_vcpu *v, enum vireo_exit exit)
{
	switch (exit) {
	case VEXIT_INTR:
	case VEXIT_RESUME:
		return 0;
	/*
	 * These can follow each other without an instruction in between, and so
	 * without an end that a host interrupt could bring (#AC or #DB in the
	 * delivery of itself): not for the inner loop.
	 */
	case VEXIT_WINDOW:
		set_bit(VREQ_EVENT, &v->requests);
		return 0;
	case VEXIT_EXCEPTION:
		v->inject = v->exit.event;
		return 0;
	case VEXIT_UD:
		v->inject = vireo_event(VEVENT_EXCEPTION, X86_TRAP_UD);
		return 0;
	case VEXIT_GP:
		inject_gp(v);
		return 0;
	case VEXIT_FAULT:
		return exit_fault(v);
	case VEXIT_CPUID ... VEXIT_SKIP:
		return exit_slow_skip(v, exit);
	case VEXIT_SHUTDOWN:
		return exit_shutdown(v, VIREO_SHUTDOWN_TRIPLE_FAULT);
	case VEXIT_FAIL:
		return exit_fail(v);
	default:
		return exit_shutdown(v, VIREO_SHUTDOWN_EXIT);
	}
}

/**
 * vireo_exit_slow() - resolve an exit, or hand it to user space
 * @v: the vCPU
 * @exit: what happened
 * Context: Process context, interrupts on; may sleep.
 * Return: 0 to run on, 1 with v->run filled in, or -ENOMEM.
 */
int vireo_exit_slow(struct vireo_vcpu *v, enum vireo_exit exit)
{
	return exit == VEXIT_IO ? exit_io(v) : exit_others(v, exit);	/* the hottest first */
}
