// SPDX-License-Identifier: GPL-2.0
/*
 * The AMD-V backend.  Section numbers are those of the AMD64 Architecture
 * Programmer's Manual, volume 2.
 *
 * The processor is used with nested paging and without an instruction
 * emulator.  CR0, CR3 and CR4 are the guest's own: nothing in the module
 * depends on them beyond what it reads from the VMCB at an exit.
 */
#include <linux/cc_platform.h>
#include <linux/mm.h>
#include <asm/apic.h>
#include <asm/debugreg.h>
#include <asm/msr.h>
#include <asm/processor.h>
#include <asm/svm.h>

#include "../vireo.h"
#include "../compat.h"

/* In vireo_bitmap: for 12 KiB (15.10.1) that all ports exit, then 8 KiB for MSRs (15.11) */
#define MSRPM			(3 * PAGE_SIZE)

/*
 * 15.15.3: the processor may keep all that is seldom written from the last VMRUN of the
 * same VMCB; who writes such a thing makes it 0.  Elsewhere it has no meaning.
 */
#define CLEAN			0x3ffU

/* 15.10.2: EXITINFO1 of an I/O exit; the width is 1, 2 or 4 */
#define IOIO_PORT_SHIFT		16

/* 15.25.6: EXITINFO1 of a nested page fault */
#define NPF_WRITE		BIT_ULL(1)
#define NPF_FETCH		BIT_ULL(4)
#define NPF_WALK		BIT_ULL(33)	/* in the guest's own page tables */

/* NPT leaves: accessed and dirty are set in advance, the walk need not write. */
#define NPT_LEAF		(BIT_ULL(5) | BIT_ULL(6))

/* What a processor needs while the extension is on; its own, interrupts off */
struct svm_cpu {
	u64 host_pa;		/* a VMCB for VMSAVE and VMLOAD of the host's state */
	u64 asid_gen;
	u32 next_asid;
};

struct svm_vcpu {
	struct vmcb *vmcb;	/* (i) */
	u64 vmcb_pa;		/* (i) */
	u64 asid_gen;		/* (v) */
	bool step;		/* (v) single-step over what is at step_rip */
	bool guest_tf;		/* (v) the guest's own RFLAGS.TF meanwhile */
	u64 step_rip;		/* (v) */
};

static DEFINE_PER_CPU(struct svm_cpu, svm_cpus);
static u32 max_asid;		/* constant after init, like all below */
static u32 intercepts[MAX_INTERCEPT];	/* at first: all of exits[] */
static unsigned int nr_switched;
static bool la57;		/* 15.25.3: a page behind the VMCB is the top of five levels */

/* MSRs that VMRUN, VMLOAD and VMSAVE switch: where they are in the save area */
#define SAVED(msr, field)	{ msr, offsetof(struct vmcb_save_area, field) }
static const struct {
	u32 msr;
	u32 offset;
} switched[] = {
	SAVED(MSR_EFER, efer),		/* the first and the last are not always the guest's */
	SAVED(MSR_STAR, star), SAVED(MSR_LSTAR, lstar), SAVED(MSR_CSTAR, cstar),
	SAVED(MSR_SYSCALL_MASK, sfmask), SAVED(MSR_FS_BASE, fs.base),
	SAVED(MSR_GS_BASE, gs.base), SAVED(MSR_KERNEL_GS_BASE, kernel_gs_base),
	SAVED(MSR_IA32_SYSENTER_CS, sysenter_cs), SAVED(MSR_IA32_SYSENTER_ESP, sysenter_esp),
	SAVED(MSR_IA32_SYSENTER_EIP, sysenter_eip), SAVED(MSR_IA32_CR_PAT, g_pat),
	SAVED(MSR_IA32_SPEC_CTRL, spec_ctrl),
};

static struct svm_vcpu *to_svm(struct vireo_vcpu *v)
{
	return v->arch;
}

/*
 * What is intercepted, by the number that is both an intercept's (appendix B) and its
 * exit's (appendix C): what it is, negative if there is more to say, and the
 * instruction's length.
 */
static const struct svm_exit {
	s8 kind;
	u8 len;
} exits[256] = {
	[INTERCEPT_DR0_READ ... INTERCEPT_EXCEPTION_OFFSET - 1] = { -VEXIT_DR },
	/* The first two can loop in delivery, out of reach of any interrupt; #MC is the host's. */
	[INTERCEPT_EXCEPTION_OFFSET + X86_TRAP_DB] = { -VEXIT_EXCEPTION },
	[INTERCEPT_EXCEPTION_OFFSET + X86_TRAP_AC] = { -VEXIT_EXCEPTION },
	[INTERCEPT_EXCEPTION_OFFSET + X86_TRAP_MC] = { VEXIT_MC },
	[INTERCEPT_INTR ... INTERCEPT_NMI] = { VEXIT_INTR },
	[INTERCEPT_SMI ... INTERCEPT_INIT] = { VEXIT_RESUME },	/* pending, taken by STGI */
	[INTERCEPT_RDPMC] = { VEXIT_GP },
	[INTERCEPT_CPUID] = { VEXIT_CPUID, 2 },
	[INTERCEPT_INVD] = { VEXIT_SKIP, 2 },
	[INTERCEPT_HLT] = { VEXIT_HLT, 1 },
	[INTERCEPT_INVLPGA] = { VEXIT_UD },
	[INTERCEPT_IOIO_PROT] = { -VEXIT_IO },
	[INTERCEPT_MSR_PROT] = { -VEXIT_RDMSR, 2 },
	[INTERCEPT_SHUTDOWN] = { VEXIT_SHUTDOWN },
	[INTERCEPT_VMRUN] = { VEXIT_UD },
	[INTERCEPT_VMMCALL] = { -VEXIT_HYPERCALL, 3 },
	[INTERCEPT_VMLOAD ... INTERCEPT_SKINIT] = { VEXIT_UD },
	[INTERCEPT_WBINVD] = { VEXIT_SKIP, 2 },
	[INTERCEPT_MONITOR ... INTERCEPT_MWAIT] = { VEXIT_UD },
	[INTERCEPT_XSETBV] = { VEXIT_XSETBV, 3 },
	[INTERCEPT_RDPRU] = { VEXIT_UD },
	[INTERCEPT_INVLPGB ... INTERCEPT_INVLPGB_ILLEGAL] = { VEXIT_UD },
	[INTERCEPT_MCOMMIT ... INTERCEPT_TLBSYNC] = { VEXIT_UD },
};

/* ---- Module and processors -------------------------------------------------------- */

/* 15.11: two bits for each MSR, read and write; clear lets the guest through. */
static void msrpm_allow(u32 msr)
{
	u32 base = msr >= 0xc0010000 ? 0x1000 : msr >= 0xc0000000 ? 0x800 : 0;
	u32 bit = (msr & 0x1fff) * 2;

	clear_bit(bit, vireo_bitmap + MSRPM + base);
	clear_bit(bit + 1, vireo_bitmap + MSRPM + base);
}

static const char *svm_init(u64 *features)
{
	unsigned int i;
	u64 vm_cr;

	if (!boot_cpu_has(X86_FEATURE_NPT))
		return "this processor has no nested paging";
	if (!rdmsrl_safe(MSR_VM_CR, &vm_cr) && (vm_cr & SVM_VM_CR_SVM_DIS_MASK))
		return "firmware has locked AMD-V off: enable SVM in its set-up";
	if (cc_platform_has(CC_ATTR_MEM_ENCRYPT))
		return "memory encryption (SME) is on, not supported: boot with mem_encrypt=off";
	max_asid = cpuid_ebx(0x8000000a) - 1;
	nr_switched = ARRAY_SIZE(switched) - !boot_cpu_has(X86_FEATURE_V_SPEC_CTRL);
	for (i = 1; i < nr_switched; i++)
		msrpm_allow(switched[i].msr);
	for (i = 0; i < 32 * MAX_INTERCEPT; i++)
		if (exits[i].kind)
			intercepts[i / 32] |= BIT(i % 32);
	la57 = __read_cr4() & X86_CR4_LA57;
	*features = VIREO_FEAT_SVM | (boot_cpu_has(X86_FEATURE_NRIPS) ? VIREO_FEAT_NEXT_RIP : 0);
	return NULL;
}

static int svm_cpu_enable(void)
{
	struct svm_cpu *c = this_cpu_ptr(&svm_cpus);
	void *pages = this_cpu_ptr(vireo_cpu_pages);
	u64 efer;

	rdmsrl(MSR_EFER, efer);
	if (efer & EFER_SVME)
		return -EBUSY;
	wrmsrl(MSR_EFER, efer | EFER_SVME);
	wrmsrl(MSR_VM_HSAVE_PA, slow_virt_to_phys(pages));	/* 15.30.4 */
	c->host_pa = slow_virt_to_phys(pages + PAGE_SIZE);
	c->asid_gen++;
	c->next_asid = max_asid + 1;	/* the first guest flushes what was there */
	compat_srso(true);
	return 0;
}

static void svm_cpu_disable(void)
{
	u64 efer;

	wrmsrl(MSR_VM_HSAVE_PA, 0);
	rdmsrl(MSR_EFER, efer);
	if (!(efer & EFER_SVME))
		return;
	/* In a crash this may be an NMI that VMRUN's clear GIF let in late. */
	asm volatile("stgi");
	wrmsrl(MSR_EFER, efer & ~EFER_SVME);
	compat_srso(false);
}

/* ---- vCPU ------------------------------------------------------------------------------ */

static void intercept(struct svm_vcpu *s, unsigned int bit, bool on)
{
	u32 *word = &s->vmcb->control.intercepts[bit / 32];
	u32 was = *word;

	*word = on ? was | BIT(bit % 32) : was & ~BIT(bit % 32);
	if (*word != was)
		s->vmcb->control.clean = 0;
}

static void intercept_dr(struct svm_vcpu *s, bool on)
{
	s->vmcb->control.intercepts[1] = on ? ~0U : 0;
	s->vmcb->control.clean = 0;
}

static int svm_vcpu_create(struct vireo_vcpu *v)
{
	struct svm_vcpu *s = kzalloc(sizeof(*s), GFP_KERNEL_ACCOUNT);
	struct vmcb *vmcb;
	u64 *top;

	v->arch = s;
	if (!s)
		return -ENOMEM;
	vmcb = (struct vmcb *)__get_free_pages(GFP_KERNEL_ACCOUNT | __GFP_ZERO, la57);
	s->vmcb = vmcb;
	if (!vmcb)
		return -ENOMEM;
	s->vmcb_pa = __pa(vmcb);
	memcpy(vmcb->control.intercepts, intercepts, sizeof(intercepts));
	vmcb->control.iopm_base_pa = __pa(vireo_bitmap);
	vmcb->control.msrpm_base_pa = __pa(vireo_bitmap + MSRPM);
	vmcb->control.int_ctl = V_INTR_MASKING_MASK;
	vmcb->control.nested_ctl = SVM_NESTED_CTL_NP_ENABLE;
	vmcb->control.nested_cr3 = __pa(v->vm->mem.tree.root);
	if (la57) {
		top = (void *)vmcb + PAGE_SIZE;
		top[0] = vmcb->control.nested_cr3 | VT_RWX;
		vmcb->control.nested_cr3 = __pa(top);
	}
	vmcb->save.g_pat = VIREO_PAT_RESET;
	return 0;
}

static void svm_vcpu_free(struct vireo_vcpu *v)
{
	free_pages((unsigned long)to_svm(v)->vmcb, la57);
	kfree(to_svm(v));
}

/* The save area begins with what is in vireo_regs.seg[], in another order. */
static struct vireo_segment *save_seg(struct vmcb_save_area *save, unsigned int i)
{
	static const u8 at[VIREO_SEGS] = { 0, 1, 2, 3, 4, 5, 7, 9, 6, 8 };

	static_assert(!offsetof(struct vmcb_save_area, es));
	return (struct vireo_segment *)save + at[i];
}

static void svm_get_regs(struct vireo_vcpu *v, struct vireo_regs *r)
{
	struct vmcb_save_area *save = &to_svm(v)->vmcb->save;
	unsigned int i;

	for (i = 0; i < VIREO_SEGS; i++) {
		r->seg[i] = *save_seg(save, i);
		r->seg[i].attr &= 0xfff;
	}
	/* SYSRET leaves SS as it is, and the CPL apart from it. */
	r->seg[VIREO_SS].attr &= ~SVM_SELECTOR_DPL_MASK;
	r->seg[VIREO_SS].attr |= save->cpl << SVM_SELECTOR_DPL_SHIFT;
	r->seg[VIREO_GDTR].limit &= 0xffff;
	r->seg[VIREO_IDTR].limit &= 0xffff;
	r->cr0 = save->cr0;
	r->cr2 = save->cr2;
	r->cr3 = save->cr3;
	r->cr4 = save->cr4;
	r->efer = save->efer & ~EFER_SVME;
	r->dr[4] = save->dr6;
	r->dr[5] = save->dr7;
}

static void svm_set_regs(struct vireo_vcpu *v, const struct vireo_regs *r)
{
	struct svm_vcpu *s = to_svm(v);
	struct vmcb_save_area *save = &s->vmcb->save;
	unsigned int i;

	for (i = 0; i < VIREO_SEGS; i++)
		*save_seg(save, i) = r->seg[i];
	save->cpl = r->seg[VIREO_SS].attr >> SVM_SELECTOR_DPL_SHIFT & 3;
	save->cr0 = r->cr0;
	save->cr2 = r->cr2;
	save->cr3 = r->cr3;
	save->cr4 = r->cr4;
	save->efer = r->efer | EFER_SVME;
	save->dr6 = r->dr[4];
	save->dr7 = r->dr[5];

	s->step = false;
	intercept(s, INTERCEPT_IRET, r->events & VIREO_EVENT_NMI_MASKED);
	v->flush = true;
	s->vmcb->control.clean = 0;
}

static int svm_msr(struct vireo_vcpu *v, u32 index, u64 *value, bool write)
{
	u64 svme = index == MSR_EFER ? EFER_SVME : 0;
	struct svm_vcpu *s = to_svm(v);
	unsigned int i;
	u64 *field;

	for (i = 0; switched[i].msr != index; i++)
		if (i == nr_switched - 1)
			return -ENOENT;
	field = (void *)&s->vmcb->save + switched[i].offset;
	if (write) {
		*field = *value | svme;
		s->vmcb->control.clean = 0;
	} else {
		*value = *field & ~svme;
	}
	return 0;
}

static void svm_set_bs(struct vireo_vcpu *v)
{
	to_svm(v)->vmcb->save.dr6 |= DR_STEP;
	to_svm(v)->vmcb->control.clean = 0;
}

/*
 * 15.21.4: a virtual interrupt with its intercept exits when it could be
 * taken.  NMIs have no window: the end of the handler is the intercepted IRET,
 * and that is single-stepped; so is what an interrupt shadow covers.
 */
static void svm_apic_changed(struct vireo_vcpu *v, u16 status, u8 vector, bool nmi)
{
	struct svm_vcpu *s = to_svm(v);
	u32 ctl = V_INTR_MASKING_MASK | *vireo_lapic_tpr(v) >> 4;

	if (vector)
		ctl |= V_IRQ_MASK | (vector >> 4) << V_INTR_PRIO_SHIFT;
	if (s->vmcb->control.int_ctl != ctl) {
		s->vmcb->control.int_ctl = ctl;
		s->vmcb->control.clean = 0;
	}
	intercept(s, INTERCEPT_VINTR, vector);

	if (nmi && v->inject.info) {
		/* Behind another event: the IPI makes it try again as soon as that is in. */
		set_bit(VREQ_EVENT, &v->requests);
		apic->send_IPI_self(RESCHEDULE_VECTOR);
	} else if (nmi && !(v->blocked & VIREO_BLOCKED_NMI)) {
		s->step = true;
		s->step_rip = v->rip;
	}
}

/* ---- The inner loop ------------------------------------------------------------------------- */

static void new_asid(struct vireo_vcpu *v, struct svm_cpu *c)
{
	struct svm_vcpu *s = to_svm(v);

	if (c->next_asid > max_asid) {
		c->asid_gen++;
		c->next_asid = 1;
		s->vmcb->control.tlb_ctl = TLB_CONTROL_FLUSH_ALL_ASID;
	}
	s->vmcb->control.asid = c->next_asid++;
	s->asid_gen = c->asid_gen;
	v->flush = false;
	s->vmcb->control.clean = 0;
}

static void svm_migrate(struct vireo_vcpu *v)
{
	v->cpu = smp_processor_id();
	v->flush = true;	/* and so a new ASID, and all is loaded */
}

static void load_debug(struct vireo_vcpu *v)
{
	vireo_switch_dr(v, true);
	intercept_dr(to_svm(v), false);
}

static void svm_load(struct vireo_vcpu *v)
{
	struct svm_cpu *c = this_cpu_ptr(&svm_cpus);
	struct svm_vcpu *s = to_svm(v);

	asm volatile("vmsave %0" : : "a" (c->host_pa) : "memory");
	if (v->flush || s->asid_gen != c->asid_gen)
		new_asid(v, c);
	if (s->vmcb->control.tsc_offset != v->tsc_offset) {
		s->vmcb->control.tsc_offset = v->tsc_offset;
		s->vmcb->control.clean = 0;
	}
	if (unlikely(s->vmcb->save.dr7 & 0xff))
		load_debug(v);
}

static void svm_put(struct vireo_vcpu *v)
{
	struct svm_vcpu *s = to_svm(v);

	if (unlikely(v->dr_loaded))
		intercept_dr(s, true);
	if (unlikely(s->vmcb->save.dr6 != DR6_RESERVED))
		set_debugreg(DR6_RESERVED, 6);
}

static void exit_ioio(struct vireo_vcpu *v, const struct vmcb_control_area *c)
{
	u64 info = c->exit_info_1;

	v->next_rip = c->exit_info_2;
	v->exit.port = info >> IOIO_PORT_SHIFT;
	v->exit.width = info & SVM_IOIO_STR_MASK ? 0 : info >> SVM_IOIO_SIZE_SHIFT & 7;
	v->exit.write = !(info & SVM_IOIO_TYPE_MASK);
}

static void exit_npf(struct vireo_vcpu *v, const struct vmcb_control_area *c)
{
	v->exit.gpa = c->exit_info_2;
	v->exit.write = c->exit_info_1 & NPF_WRITE;
	v->exit.fetch = c->exit_info_1 & (NPF_FETCH | NPF_WALK);
	v->exit.insn_len = boot_cpu_has(X86_FEATURE_DECODEASSISTS) ?
			   min_t(u8, c->insn_len, sizeof(c->insn_bytes)) : 0;
	memcpy(v->exit.insn, c->insn_bytes, v->exit.insn_len);
}

static enum vireo_exit exit_exception(struct vireo_vcpu *v, struct svm_vcpu *s)
{
	u8 vector = v->exit.code - SVM_EXIT_EXCP_BASE;

	s->vmcb->control.clean = 0;
	if (vector == X86_TRAP_DB && s->step && !s->guest_tf) {
		s->vmcb->save.dr6 &= ~(u64)DR_STEP;
		return VEXIT_WINDOW;
	}
	if (vector == X86_TRAP_DB && (s->vmcb->save.dr6 & DR6_BD))
		s->vmcb->save.dr7 &= ~(u64)DR7_GD;	/* as its delivery does (13.1.1.4) */
	v->exit.event = vireo_event(VEVENT_EXCEPTION, vector);
	v->exit.event.has_error = vector == X86_TRAP_AC;
	return VEXIT_EXCEPTION;
}

/*
 * 15.7.1: an intercepted instruction ends at the next RIP.  What does not save
 * that, which is emulators, is taken to have met the instruction without prefixes:
 * none of them means anything here.
 */
static enum vireo_exit exit_decode(struct vireo_vcpu *v, struct svm_vcpu *s)
{
	const struct vmcb *vmcb = s->vmcb;
	u64 code = v->exit.code;
	const struct svm_exit *e = &exits[(u8)code];	/* of the others: nothing */

	v->next_rip = static_cpu_has(X86_FEATURE_NRIPS) ?
		      vmcb->control.next_rip : v->rip + e->len;
	/* The hottest first: a switch is a chain of branches. */
	if (e->kind > 0)
		return e->kind;
	if (code == SVM_EXIT_VMMCALL) {
		v->exit.cpl = vmcb->save.cpl;
		v->exit.wide = (vmcb->save.efer & EFER_LMA) &&
			       (vmcb->save.cs.attrib & SVM_SELECTOR_L_MASK);
		return VEXIT_HYPERCALL;
	}
	switch (code) {
	case SVM_EXIT_MSR:
		return vmcb->control.exit_info_1 ? VEXIT_WRMSR : VEXIT_RDMSR;
	case SVM_EXIT_IOIO:
		exit_ioio(v, &vmcb->control);
		return VEXIT_IO;
	case SVM_EXIT_NPF:
		exit_npf(v, &vmcb->control);
		return VEXIT_FAULT;
	case SVM_EXIT_READ_DR0 ... SVM_EXIT_WRITE_DR7:
		load_debug(v);
		return VEXIT_DR;
	case SVM_EXIT_EXCP_BASE ... SVM_EXIT_LAST_EXCP:
		return exit_exception(v, s);
	case SVM_EXIT_IRET:
		intercept(s, INTERCEPT_IRET, false);
		s->step = true;
		s->step_rip = v->rip;
		s->guest_tf = v->rflags & X86_EFLAGS_TF;
		return VEXIT_RESUME;
	case SVM_EXIT_VINTR:
		return VEXIT_WINDOW;
	case SVM_EXIT_ERR:
		return VEXIT_FAIL;
	}
	return VEXIT_UNKNOWN;
}

/* Whether the instruction at step_rip is done.  An IRET has then brought its own flags. */
static void step_finish(struct vireo_vcpu *v, struct svm_vcpu *s)
{
	bool done = v->rip != s->step_rip;

	if (!s->guest_tf && !(done && (v->blocked & VIREO_BLOCKED_NMI)))
		v->rflags &= ~(u64)X86_EFLAGS_TF;
	if (!done)
		return;
	v->blocked &= ~VIREO_BLOCKED_NMI;
	s->step = false;
	set_bit(VREQ_EVENT, &v->requests);
}

static enum vireo_exit svm_run(struct vireo_vcpu *v)
{
	struct svm_vcpu *s = to_svm(v);
	struct vmcb *vmcb = s->vmcb;
	u32 guest_spec = 0, host_spec = 0;
	enum vireo_exit exit;

	vmcb->save.rip = v->rip;
	vmcb->save.rflags = v->rflags;
	vmcb->save.rax = v->gpr[VIREO_RAX];
	vmcb->save.rsp = v->gpr[VIREO_RSP];
	vmcb->control.int_state = v->blocked & SVM_INTERRUPT_SHADOW_MASK;
	if (unlikely(v->inject.info)) {
		vmcb->control.event_inj = v->inject.info;
		vmcb->control.event_inj_err = v->inject.error;
		if (v->inject.type == VEVENT_NMI) {
			v->blocked |= VIREO_BLOCKED_NMI;
			intercept(s, INTERCEPT_IRET, true);
		}
		v->inject.info = 0;
	}
	if (unlikely(s->step)) {
		s->guest_tf = v->rflags & X86_EFLAGS_TF;
		vmcb->save.rflags |= X86_EFLAGS_TF;
	}
	if (cpu_feature_enabled(X86_FEATURE_MSR_SPEC_CTRL) &&
	    !cpu_feature_enabled(X86_FEATURE_V_SPEC_CTRL)) {
		guest_spec = v->spec_ctrl;
		host_spec = this_cpu_read(x86_spec_ctrl_current);
	}
	if (unlikely(v->flush))		/* asked for since svm_load() */
		new_asid(v, this_cpu_ptr(&svm_cpus));

	svm_enter(v->gpr, s->vmcb_pa, this_cpu_read(svm_cpus.host_pa), guest_spec, host_spec);

	v->rip = vmcb->save.rip;
	v->rflags = vmcb->save.rflags;
	v->gpr[VIREO_RAX] = vmcb->save.rax;
	v->gpr[VIREO_RSP] = vmcb->save.rsp;
	v->blocked = (v->blocked & VIREO_BLOCKED_NMI) |
		     (vmcb->control.int_state & SVM_INTERRUPT_SHADOW_MASK);
	*vireo_lapic_tpr(v) = vmcb->control.int_ctl << 4;
	v->exit.code = *(u64 *)&vmcb->control.exit_code;	/* and exit_code_hi */
	v->exit.gpa = 0;
	vmcb->control.clean = CLEAN;
	vmcb->control.event_inj = 0;
	vmcb->control.tlb_ctl = 0;
	if (unlikely(vmcb->control.exit_int_info & SVM_EXITINTINFO_VALID)) {
		vireo_event_again(v, vmcb->control.exit_int_info, vmcb->control.exit_int_info_err);
		intercept(s, INTERCEPT_IRET, v->blocked & VIREO_BLOCKED_NMI);
	}
	exit = exit_decode(v, s);
	if (unlikely(s->step))
		step_finish(v, s);
	return exit;
}

const struct vireo_ops svm_ops = {
	.name = "AMD-V",
	.leaf = NPT_LEAF,
	.init = svm_init,
	.cpu_enable = svm_cpu_enable,
	.cpu_disable = svm_cpu_disable,
	.vcpu_create = svm_vcpu_create,
	.vcpu_free = svm_vcpu_free,
	.get_regs = svm_get_regs,
	.set_regs = svm_set_regs,
	.msr = svm_msr,
	.migrate = svm_migrate,
	.load = svm_load,
	.put = svm_put,
	.run = svm_run,
	.apic_changed = svm_apic_changed,
	.set_bs = svm_set_bs,
};
