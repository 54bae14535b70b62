// SPDX-License-Identifier: GPL-2.0
/*
 * The VT-x backend.  Section numbers are those of the Intel Software
 * Developer's Manual, volume 3.
 *
 * The processor is used with EPT, unrestricted guest and virtual NMIs, and
 * without an instruction emulator.  CR3 is the guest's own, and so are CR0 and
 * CR4 but for the bits in the two masks; a write that changes one of those is
 * executed again by the guest once the read shadow agrees with it.
 *
 * A processor holds no more than one VMCS, the current one, which can be read and
 * written there with interrupts off: between load and put, or behind vmcs_begin().
 */
#define pr_fmt(fmt) "vireo: " fmt

#include <linux/smp.h>
#include <asm/debugreg.h>
#include <asm/desc.h>
#include <asm/fsgsbase.h>
#include <asm/perf_event.h>
#include <asm/tlbflush.h>
#include <asm/vmx.h>

#include "../vireo.h"
#include "../compat.h"

/* 29.3.2: write-back, whatever the guest's PAT says; accessed and dirty bits are off. */
#define EPT_LEAF		(VMX_EPTP_MT_WB << VMX_EPT_MT_EPTE_SHIFT | VMX_EPT_IPAT_BIT)

/* 28.2.1: exit qualifications */
#define QUAL_IO_IN		BIT(3)
#define QUAL_IO_STRING		BIT(4)
#define QUAL_IO_PORT_SHIFT	16
#define QUAL_EPT_NMI		BIT(12)
#define QUAL_DEBUG		0x600fULL	/* BS, BD, B3 to B0 */

/* Appendix C */
#define REASON_GETSEC		11
#define REASON_FAILED		0x80000000

static __always_inline u64 vmx_read(unsigned long field)
{
	u64 value;

	asm volatile("vmread %1, %0" : "=r" (value) : "r" (field) : "cc");
	return value;
}

static __always_inline void vmx_write(unsigned long field, u64 value)
{
	asm volatile("vmwrite %1, %0" : : "r" (field), "r" (value) : "cc");
}

/*
 * MSRs of the guest's own: SYSCALL's, which load and put switch and CSTAR does not
 * matter to; KERNEL_GS_BASE, likewise, but without an exit; those of a VMCS field, of
 * which all but the last are without an exit, and have a field for the host, too.
 */
enum { MSR_I_STAR, MSR_I_LSTAR, MSR_I_SFMASK, MSR_I_CSTAR, MSR_I_KERNEL_GS, MSRS_KEPT };

static const struct {
	u32 msr, field, host;
} msrs[] = {
	[MSR_I_STAR] = { MSR_STAR }, [MSR_I_LSTAR] = { MSR_LSTAR },
	[MSR_I_SFMASK] = { MSR_SYSCALL_MASK }, [MSR_I_CSTAR] = { MSR_CSTAR },
	[MSR_I_KERNEL_GS] = { MSR_KERNEL_GS_BASE },
	{ MSR_FS_BASE, GUEST_FS_BASE, HOST_FS_BASE },
	{ MSR_GS_BASE, GUEST_GS_BASE, HOST_GS_BASE },
	{ MSR_IA32_SYSENTER_CS, GUEST_SYSENTER_CS, HOST_IA32_SYSENTER_CS },
	{ MSR_IA32_SYSENTER_ESP, GUEST_SYSENTER_ESP, HOST_IA32_SYSENTER_ESP },
	{ MSR_IA32_SYSENTER_EIP, GUEST_SYSENTER_EIP, HOST_IA32_SYSENTER_EIP },
	{ MSR_IA32_CR_PAT, GUEST_IA32_PAT, HOST_IA32_PAT },
	{ MSR_EFER, GUEST_IA32_EFER, HOST_IA32_EFER },
};

struct vmx_vcpu {
	u32 *vmcs;		/* (i) */
	u64 vmcs_pa;		/* (i) */
	bool launched;		/* (v) VMRESUME, not VMLAUNCH */

	/* (v) what is in the VMCS */
	u64 host_rsp, rsp, rflags;
	u32 blocked;		/* VIREO_BLOCKED_* */
	u32 proc;		/* primary controls */
	struct {
		u64 cr3, cr4, fs, perf;
	} loaded;		/* likewise: see load_host() */
	u64 tsc_offset;		/* likewise */

	/* (v) the guest's */
	u64 cr2;
	unsigned long dr6;
	u64 dr7;		/* while the stay lasts, in the VMCS alone */
	u64 msrs[MSRS_KEPT];	/* KERNEL_GS_BASE: while it is out */
	bool sce;		/* EFER.SCE: it has SYSCALL */

	/* (v) the host's, between load and put */
	u64 host_kernel_gs, host_debugctl;
	struct desc_ptr gdt;	/* of v->cpu */
	u16 ds, es, fs, gs, ldt;
	u16 segs;		/* all of them: mostly 0 */
};

#define CR0_MASK	(X86_CR0_NE | X86_CR0_NW | X86_CR0_CD)

/*
 * Appendix A: what the controls must have and what they get if the processor has
 * it; the low half of a capability MSR must be 1, the high half may be.
 */
#define NO	"this processor's VT-x has no "
enum { CTLS_EPT, CTLS_PROC2, CTLS_PIN, CTLS_PROC, CTLS_EXIT, CTLS_ENTRY, NR_CTLS };

static const struct {
	u32 msr, field, need, want;
	const char *without;
} ctls[NR_CTLS] = {
	/* The first two are one; apart, for what is said without them. */
	[CTLS_EPT] = { MSR_IA32_VMX_PROCBASED_CTLS2, SECONDARY_VM_EXEC_CONTROL,
		SECONDARY_EXEC_ENABLE_EPT, 0, NO "EPT" },
	[CTLS_PROC2] = { MSR_IA32_VMX_PROCBASED_CTLS2, SECONDARY_VM_EXEC_CONTROL,
		SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_UNRESTRICTED_GUEST,
		SECONDARY_EXEC_ENABLE_RDTSCP | SECONDARY_EXEC_ENABLE_VPID |
		SECONDARY_EXEC_WBINVD_EXITING | SECONDARY_EXEC_ENABLE_INVPCID |
		SECONDARY_EXEC_ENCLS_EXITING | VMCS_CONTROL_BIT(XSAVES), NO "unrestricted guest" },
	[CTLS_PIN] = { MSR_IA32_VMX_TRUE_PINBASED_CTLS, PIN_BASED_VM_EXEC_CONTROL,
		PIN_BASED_EXT_INTR_MASK | PIN_BASED_NMI_EXITING | PIN_BASED_VIRTUAL_NMIS,
		PIN_BASED_VMX_PREEMPTION_TIMER, NO "virtual NMIs" },
	[CTLS_PROC] = { MSR_IA32_VMX_TRUE_PROCBASED_CTLS, CPU_BASED_VM_EXEC_CONTROL,
		CPU_BASED_USE_TSC_OFFSETTING | CPU_BASED_HLT_EXITING |
		CPU_BASED_MWAIT_EXITING | CPU_BASED_RDPMC_EXITING | CPU_BASED_TPR_SHADOW |
		CPU_BASED_MOV_DR_EXITING | CPU_BASED_UNCOND_IO_EXITING |
		CPU_BASED_USE_MSR_BITMAPS | CPU_BASED_MONITOR_EXITING |
		CPU_BASED_ACTIVATE_SECONDARY_CONTROLS, 0, NO "TPR shadow or MSR bitmaps" },
	[CTLS_EXIT] = { MSR_IA32_VMX_TRUE_EXIT_CTLS, VM_EXIT_CONTROLS,
		VM_EXIT_SAVE_DEBUG_CONTROLS | VM_EXIT_HOST_ADDR_SPACE_SIZE |
		VM_EXIT_SAVE_IA32_PAT | VM_EXIT_LOAD_IA32_PAT | VM_EXIT_SAVE_IA32_EFER |
		VM_EXIT_LOAD_IA32_EFER,
		VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL | VM_EXIT_SAVE_VMX_PREEMPTION_TIMER,
		NO "switching of EFER and PAT" },
	[CTLS_ENTRY] = { MSR_IA32_VMX_TRUE_ENTRY_CTLS, VM_ENTRY_CONTROLS,
		VM_ENTRY_LOAD_DEBUG_CONTROLS | VM_ENTRY_LOAD_IA32_PAT | VM_ENTRY_LOAD_IA32_EFER,
		VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL, NO "switching of EFER and PAT" },
};

static unsigned int longest_ms;
module_param(longest_ms, uint, 0444);
MODULE_PARM_DESC(longest_ms, "VT-x: longest stay in a guest, ms, for emulators that lose interrupts there (0: any)");

static unsigned int apicv = 2;
module_param(apicv, uint, 0444);
MODULE_PARM_DESC(apicv, "VT-x: the processor delivers interrupts by itself (1), also those that come while the guest runs (2), if it can");

static DEFINE_PER_CPU(struct vireo_vcpu *, vmcs_here);	/* whose VMCS is current, or NULL */
/* Constant after init: */
static u32 revision;
static u32 ctl[NR_CTLS];
static u64 cr4_mask;		/* CR4 bits that the guest does not own */
static u64 host_sys[MSR_I_CSTAR];
static u32 longest_ticks;	/* of the preemption timer (26.5.1) */
static bool flush_l1d, flush_l1d_always, have_apicv;
static u8 notify;		/* lapic.notify of all vCPUs */
static struct desc_ptr idt;	/* the same on all processors */

static struct vmx_vcpu *to_vmx(struct vireo_vcpu *v)
{
	return v->arch;
}

/* ---- Module ------------------------------------------------------------------------ */

static const char *init_controls(void)
{
	unsigned int i;
	u64 cap;

	for (i = 0; i < NR_CTLS; i++) {
		if (rdmsrl_safe(ctls[i].msr, &cap) || (~(cap >> 32) & ctls[i].need))
			return ctls[i].without;
		ctl[i] = (ctls[i].need | ctls[i].want | (u32)cap) & (cap >> 32);
	}
	if (!(ctl[CTLS_EXIT] & VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL))	/* or nobody puts it back */
		ctl[CTLS_ENTRY] &= ~VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL;
	rdmsrl(MSR_IA32_VMX_MISC, cap);
	longest_ticks = ((u64)min(longest_ms, 1000U) * tsc_khz) >> (cap & 31);
	if (!longest_ticks) {
		ctl[CTLS_PIN] &= ~PIN_BASED_VMX_PREEMPTION_TIMER;
		ctl[CTLS_EXIT] &= ~VM_EXIT_SAVE_VMX_PREEMPTION_TIMER;
	}
	rdmsrl(MSR_IA32_VMX_BASIC, cap);
	revision = vmx_basic_vmcs_revision_id(cap);
	rdmsrl(MSR_IA32_VMX_EPT_VPID_CAP, cap);
	if (~cap & (VMX_EPT_PAGE_WALK_4_BIT | VMX_EPTP_WB_BIT | VMX_EPT_2MB_PAGE_BIT |
		    VMX_EPT_INVEPT_BIT | VMX_EPT_EXTENT_CONTEXT_BIT))
		return "this processor's EPT lacks four levels, write-back, 2 MiB pages or INVEPT";
	return NULL;
}

/* 25.6.9: a bit for each MSR, reads then writes; clear lets the guest through. */
static void msr_allow(u32 msr, bool read, bool write)
{
	u32 bit = (msr & 0x1fff) + (msr >= 0xc0000000 ? 0x2000 : 0);

	if (read)
		clear_bit(bit, vireo_bitmap);
	if (write)
		clear_bit(bit + 0x4000, vireo_bitmap);
}

/*
 * 30.5: the processor reads the APIC's registers from the page itself, and
 * writes these three; it delivers what software tells it to be pending.
 * 30.6: a notification has it look into @pir, too.  With that on, it also takes every
 * other interrupt from the host's APIC before it leaves the guest for it.
 */
static void init_apicv(void)
{
	const u32 need = SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE |
			 SECONDARY_EXEC_APIC_REGISTER_VIRT | SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY;
	unsigned int i;
	u64 cap;

	rdmsrl(MSR_IA32_VMX_PROCBASED_CTLS2, cap);
	have_apicv = apicv && !(~(cap >> 32) & need);
	if (!have_apicv)
		return;
	ctl[CTLS_PROC2] |= need;
	rdmsrl(ctls[CTLS_PIN].msr, cap);
	if (apicv > 1 && (cap >> 32 & PIN_BASED_POSTED_INTR))
		notify = COMPAT_POSTED_VECTOR;
	if (notify) {
		ctl[CTLS_PIN] |= PIN_BASED_POSTED_INTR;
		ctl[CTLS_EXIT] |= VM_EXIT_ACK_INTR_ON_EXIT;	/* 27.2.1.2: it must */
	}
	for (i = 0; i < 64; i++)
		if (VIREO_APIC_READABLE & BIT_ULL(i))
			msr_allow(0x800 + i, i != 0x39, false);	/* the timer counts */
	msr_allow(0x808, false, true);		/* TPR */
	msr_allow(0x80b, false, true);		/* EOI */
	msr_allow(0x83f, false, true);		/* SELF IPI */
}

static bool l1tf_affected(void)
{
	u64 cap = 0;

	if (!boot_cpu_has_bug(X86_BUG_L1TF) || l1tf_mitigation == L1TF_MITIGATION_OFF)
		return false;
	if (boot_cpu_has(X86_FEATURE_ARCH_CAPABILITIES))
		rdmsrl(MSR_IA32_ARCH_CAPABILITIES, cap);
	if (cap & ARCH_CAP_SKIP_VMENTRY_L1DFLUSH)
		return false;
	if (!boot_cpu_has(X86_FEATURE_FLUSH_L1D))
		pr_warn("L1TF: without newer microcode a guest may read the host's memory\n");
	return boot_cpu_has(X86_FEATURE_FLUSH_L1D);
}

static const char *vmx_init(u64 *features)
{
	const char *why;
	unsigned int i;

	if (!boot_cpu_has(X86_FEATURE_VMX))
		return "firmware has locked VT-x off: enable it in its set-up";
	if (native_read_cr4() & BIT_ULL(32))	/* no IDT: "int $2" does not reach the handler */
		return "FRED is on, which this module does not handle: boot with fred=off";
	why = init_controls();
	if (why)
		return why;
	for (i = MSR_I_KERNEL_GS; i < ARRAY_SIZE(msrs) - 1; i++)
		msr_allow(msrs[i].msr, true, true);
	init_apicv();
	store_idt(&idt);
	for (i = 0; i < ARRAY_SIZE(host_sys); i++)
		rdmsrl(msrs[i].msr, host_sys[i]);
	/* A machine check in the guest is the host's: CR4.MCE stays as the host has it. */
	cr4_mask = ~vireo_regs_cr4() | X86_CR4_MCE;
	flush_l1d = l1tf_affected();	/* at each stay, or as l1tf=full asks for at each entry */
	flush_l1d_always = flush_l1d && l1tf_mitigation >= L1TF_MITIGATION_FULL;
	*features = VIREO_FEAT_VMX | VIREO_FEAT_NEXT_RIP | (have_apicv ? VIREO_FEAT_APICV : 0) |
		    (notify ? VIREO_FEAT_POSTED : 0);
	return NULL;
}

/* ---- Processors ------------------------------------------------------------------------ */

static int vmx_cpu_enable(void)
{
	u32 *vmxon = this_cpu_ptr(vireo_cpu_pages);	/* 25.11.5 */
	u64 pa = slow_virt_to_phys(vmxon);
	bool failed = true;

	if (__read_cr4() & X86_CR4_VMXE)
		return -EBUSY;
	*vmxon = revision;
	intel_pt_handle_vmx(1);
	cr4_set_bits_irqsoff(X86_CR4_VMXE);
	/* 30.2: CF or ZF say that it failed; it faults where firmware has locked it off. */
	asm volatile("1: vmxon %1\n\tsetbe %0\n2:\n" _ASM_EXTABLE(1b, 2b)
		     : "+qm" (failed) : "m" (pa) : "cc", "memory");
	if (!failed)
		return 0;
	cr4_clear_bits_irqsoff(X86_CR4_VMXE);
	intel_pt_handle_vmx(0);
	return -EIO;
}

static void vmx_clear(struct vireo_vcpu *v)
{
	asm volatile("vmclear %0" : : "m" (to_vmx(v)->vmcs_pa) : "cc", "memory");
}

/* Writes the VMCS that is here back to memory (25.11.3), if it is @of's; maybe in an NMI. */
static void vmcs_clear(void *of)
{
	struct vireo_vcpu *v = this_cpu_read(vmcs_here);

	if (!v || v != of)
		return;
	vmx_clear(v);
	to_vmx(v)->launched = false;
	this_cpu_write(vmcs_here, NULL);
	WRITE_ONCE(v->cpu, -1);
}

static void vmx_cpu_disable(void)
{
	if (!(__read_cr4() & X86_CR4_VMXE))
		return;
	vmcs_clear(this_cpu_read(vmcs_here));
	asm volatile("vmxoff" : : : "cc", "memory");
	cr4_clear_bits_irqsoff(X86_CR4_VMXE);
	intel_pt_handle_vmx(0);
}

/* ---- The current VMCS -------------------------------------------------------------------- */

/* The host's part, as far as it is the same for all that runs on this processor (25.5) */
static void vmcs_init_host(struct vmx_vcpu *x)
{
	unsigned int i;
	u64 value;

	for (i = VIREO_ES; i <= VIREO_GS; i++)	/* the rest is put back by hand */
		vmx_write(HOST_ES_SELECTOR + 2 * i, i == VIREO_CS ? __KERNEL_CS :
						    i == VIREO_SS ? __KERNEL_DS : 0);
	for (i = MSRS_KEPT; i < ARRAY_SIZE(msrs); i++) {
		rdmsrl(msrs[i].msr, value);
		vmx_write(msrs[i].host, value);
	}
	native_store_gdt(&x->gdt);
	vmx_write(HOST_GDTR_BASE, x->gdt.address);
	vmx_write(HOST_IDTR_BASE, idt.address);
	vmx_write(HOST_TR_SELECTOR, GDT_ENTRY_TSS * 8);
	vmx_write(HOST_TR_BASE,
		  (unsigned long)&get_cpu_entry_area(smp_processor_id())->tss.x86_tss);
	vmx_write(HOST_CR0, read_cr0());
	vmx_write(HOST_RIP, (unsigned long)vmx_exit_point);
	memset(&x->loaded, 0xff, sizeof(x->loaded));	/* none of it can be that */
}

/* Has the processor that holds a VMCS write it back; one that has gone offline has. */
static void vmcs_release(struct vireo_vcpu *v)
{
	int cpu = READ_ONCE(v->cpu);

	if (cpu >= 0)
		smp_call_function_single(cpu, vmcs_clear, v, 1);
}

/* Makes a VMCS current where the thread is, unless the extension is off there. */
static void vmx_migrate(struct vireo_vcpu *v)
{
	struct vmx_vcpu *x = to_vmx(v);
	unsigned long flags;

	vmcs_release(v);
	local_irq_save(flags);
	if (this_cpu_read(vireo_cpu_enabled)) {
		vmcs_clear(this_cpu_read(vmcs_here));
		this_cpu_write(vmcs_here, v);	/* first: see vmcs_clear() */
		vmx_clear(v);			/* 25.11.3: before its first use */
		asm volatile("vmptrld %0" : : "m" (x->vmcs_pa) : "cc", "memory");
		v->cpu = smp_processor_id();
		v->flush = true;
		vmcs_init_host(x);
	}
	local_irq_restore(flags);
}

/*
 * A VMCS is current, in the inner loop or out of it, until local_irq_restore().
 * Returns false where the extension is off for good.
 */
static bool vmcs_begin(struct vireo_vcpu *v, unsigned long *flags)
{
	while (!READ_ONCE(vireo_down)) {
		if (READ_ONCE(v->cpu) != raw_smp_processor_id())
			vmx_migrate(v);
		local_irq_save(*flags);
		if (likely(READ_ONCE(v->cpu) == smp_processor_id()))
			return true;
		local_irq_restore(*flags);
		/* The thread has moved, or is on a processor that goes offline. */
		schedule_timeout_uninterruptible(1);
	}
	return false;
}

/* ---- vCPU ------------------------------------------------------------------------------ */

static void set_proc(struct vmx_vcpu *x, u32 proc)
{
	if (x->proc != proc) {
		x->proc = proc;
		vmx_write(CPU_BASED_VM_EXEC_CONTROL, proc);
	}
}

static int vmx_vcpu_create(struct vireo_vcpu *v)
{
	struct vmx_vcpu *x = kzalloc(sizeof(*x), GFP_KERNEL_ACCOUNT);
	unsigned long flags;
	unsigned int i;

	v->arch = x;
	if (!x)
		return -ENOMEM;
	x->dr6 = DR6_RESERVED;
	v->apic.delivers = have_apicv;
	v->apic.notify = notify;
	x->vmcs = (u32 *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!x->vmcs)
		return -ENOMEM;
	*x->vmcs = revision;
	x->vmcs_pa = __pa(x->vmcs);
	if (!vmcs_begin(v, &flags))
		return -EIO;
	for (i = 0; i < NR_CTLS; i++)
		vmx_write(ctls[i].field, ctl[i]);
	x->proc = ctl[CTLS_PROC];
	/* #DB and #AC can loop in delivery, out of reach of any interrupt; #MC is the host's. */
	vmx_write(EXCEPTION_BITMAP, BIT(X86_TRAP_DB) | BIT(X86_TRAP_AC) | BIT(X86_TRAP_MC));
	vmx_write(CR0_GUEST_HOST_MASK, CR0_MASK);
	vmx_write(CR4_GUEST_HOST_MASK, cr4_mask);
	vmx_write(MSR_BITMAP, __pa(vireo_bitmap));
	vmx_write(VIRTUAL_APIC_PAGE_ADDR, __pa(v->apic.page));
	vmx_write(EPT_POINTER, __pa(v->vm->mem.tree.root) | VMX_EPTP_MT_WB | VMX_EPTP_PWL_4);
	vmx_write(TSC_OFFSET, 0);	/* as x->tsc_offset */
	vmx_write(VMCS_LINK_POINTER, ~0ULL);
	vmx_write(GUEST_IA32_DEBUGCTL, 0);
	vmx_write(GUEST_IA32_PAT, VIREO_PAT_RESET);
	/* 29.4.1: the EPT pointer tags translations, too; this tells a VM's vCPUs apart. */
	vmx_write(VIRTUAL_PROCESSOR_ID, v->id + 1);
	/* A processor that lacks one of these fields ignores it. */
	vmx_write(POSTED_INTR_NV, notify);
	vmx_write(POSTED_INTR_DESC_ADDR, __pa(v->apic.pir));
	vmx_write(XSS_EXIT_BITMAP, 0);
	vmx_write(ENCLS_EXITING_BITMAP, ~0ULL);
	vmx_write(GUEST_IA32_PERF_GLOBAL_CTRL, 0);
	local_irq_restore(flags);
	return 0;
}

static void vmx_vcpu_free(struct vireo_vcpu *v)
{
	vmcs_release(v);
	free_page((unsigned long)to_vmx(v)->vmcs);
	kfree(to_vmx(v));
}

static void vmx_get_regs(struct vireo_vcpu *v, struct vireo_regs *r)
{
	struct vmx_vcpu *x = to_vmx(v);
	unsigned long flags;
	unsigned int i;

	if (!vmcs_begin(v, &flags))
		return;
	for (i = 0; i < VIREO_SEGS; i++) {
		u32 ar;

		r->seg[i].base = vmx_read(GUEST_ES_BASE + 2 * i);
		r->seg[i].limit = vmx_read(GUEST_ES_LIMIT + 2 * i);
		if (i >= VIREO_GDTR)
			continue;
		ar = vmx_read(GUEST_ES_AR_BYTES + 2 * i);
		r->seg[i].selector = vmx_read(GUEST_ES_SELECTOR + 2 * i);
		r->seg[i].attr = (ar & 0xff) | (ar >> 4 & 0xf00);
		if (ar & VMX_AR_UNUSABLE_MASK)
			r->seg[i].attr &= ~BIT(7);
	}
	r->cr0 = (vmx_read(GUEST_CR0) & ~CR0_MASK) | (vmx_read(CR0_READ_SHADOW) & CR0_MASK);
	r->cr2 = x->cr2;
	r->cr3 = vmx_read(GUEST_CR3);
	r->cr4 = (vmx_read(GUEST_CR4) & ~cr4_mask) | (vmx_read(CR4_READ_SHADOW) & cr4_mask);
	r->efer = vmx_read(GUEST_IA32_EFER);
	r->dr[4] = x->dr6;
	r->dr[5] = vmx_read(GUEST_DR7);
	local_irq_restore(flags);
}

static void set_segment(unsigned int i, const struct vireo_segment *seg)
{
	u32 ar = (seg->attr & 0xff) | (seg->attr & 0xf00) << 4;

	if (!(ar & BIT(7)))
		ar |= VMX_AR_UNUSABLE_MASK;
	vmx_write(GUEST_ES_BASE + 2 * i, seg->base);
	vmx_write(GUEST_ES_LIMIT + 2 * i, seg->limit);
	if (i >= VIREO_GDTR)
		return;
	vmx_write(GUEST_ES_SELECTOR + 2 * i, seg->selector);
	vmx_write(GUEST_ES_AR_BYTES + 2 * i, ar);
}

static void vmx_set_regs(struct vireo_vcpu *v, const struct vireo_regs *r)
{
	struct vmx_vcpu *x = to_vmx(v);
	unsigned long flags;
	u64 pdpte[4] = {};
	unsigned int i;

	/* With PAE paging the processor holds these four (27.3.1.6). */
	if ((r->cr0 & X86_CR0_PG) && (r->cr4 & X86_CR4_PAE) && !(r->efer & EFER_LMA))
		vireo_mem_rw(&v->vm->mem, r->cr3 & 0xffffffe0, pdpte, sizeof(pdpte), false);
	if (!vmcs_begin(v, &flags))
		return;
	for (i = 0; i < VIREO_SEGS; i++)
		set_segment(i, &r->seg[i]);
	for (i = 0; i < ARRAY_SIZE(pdpte); i++)
		vmx_write(GUEST_PDPTR0 + 2 * i, pdpte[i]);
	vmx_write(GUEST_CR0, (r->cr0 & ~(X86_CR0_CD | X86_CR0_NW)) | X86_CR0_NE);
	vmx_write(CR0_READ_SHADOW, r->cr0);
	vmx_write(GUEST_CR3, r->cr3);
	vmx_write(GUEST_CR4, (r->cr4 & ~cr4_mask) | X86_CR4_VMXE | (__read_cr4() & X86_CR4_MCE));
	vmx_write(CR4_READ_SHADOW, r->cr4);
	vmx_write(GUEST_IA32_EFER, r->efer);
	vmx_write(VM_ENTRY_CONTROLS,
		  ctl[CTLS_ENTRY] | (r->efer & EFER_LMA ? VM_ENTRY_IA32E_MODE : 0));
	x->sce = r->efer & EFER_SCE;
	x->cr2 = r->cr2;
	x->dr6 = r->dr[4];
	x->dr7 = r->dr[5];
	vmx_write(GUEST_DR7, r->dr[5]);
	vmx_write(GUEST_PENDING_DBG_EXCEPTIONS, 0);
	vmx_write(GUEST_ACTIVITY_STATE, GUEST_ACTIVITY_ACTIVE);
	x->blocked = 0;		/* run_enter() writes what it is */
	vmx_write(GUEST_INTERRUPTIBILITY_INFO, 0);
	v->flush = true;
	local_irq_restore(flags);
}

static int vmx_msr(struct vireo_vcpu *v, u32 index, u64 *value, bool write)
{
	struct vmx_vcpu *x = to_vmx(v);
	unsigned long flags;
	unsigned int i;

	for (i = 0; msrs[i].msr != index; i++)
		if (i == ARRAY_SIZE(msrs) - 1)
			return -ENOENT;
	if (write && index == MSR_EFER)
		x->sce = *value & EFER_SCE;
	if (i < MSRS_KEPT && write) {
		x->msrs[i] = *value;
	} else if (i < MSRS_KEPT) {
		*value = x->msrs[i];
	} else if (vmcs_begin(v, &flags)) {
		if (write)
			vmx_write(msrs[i].field, *value);
		else
			*value = vmx_read(msrs[i].field);
		local_irq_restore(flags);
	}
	return 0;
}

/* DR6 is in the processor, or waits to be there. */
static void change_dr6(struct vireo_vcpu *v, u64 clear, u64 set)
{
	struct vmx_vcpu *x = to_vmx(v);

	if (v->dr_loaded)
		get_debugreg(x->dr6, 6);
	x->dr6 = (x->dr6 & ~clear) | set;
	if (v->dr_loaded)
		set_debugreg(x->dr6, 6);
}

static void vmx_set_bs(struct vireo_vcpu *v)
{
	change_dr6(v, 0, DR_STEP);
}

/*
 * 25.4.2: the guest interrupt status, for a processor that delivers by itself.  26.2: the
 * interrupt window does not look at the TPR.  An interrupt that the TPR keeps out waits
 * for it to fall below the threshold instead.
 */
static void vmx_apic_changed(struct vireo_vcpu *v, u16 status, u8 vector, bool nmi)
{
	const u32 windows = CPU_BASED_INTR_WINDOW_EXITING | CPU_BASED_NMI_WINDOW_EXITING;
	bool below = vector && vector >> 4 <= *vireo_lapic_tpr(v) >> 4;
	struct vmx_vcpu *x = to_vmx(v);

	if (v->apic.delivers)
		vmx_write(GUEST_INTR_STATUS, status);
	vmx_write(TPR_THRESHOLD, below ? vector >> 4 : 0);
	set_proc(x, (x->proc & ~windows) |
		 (vector && !below ? CPU_BASED_INTR_WINDOW_EXITING : 0) |
		 (nmi ? CPU_BASED_NMI_WINDOW_EXITING : 0));
}

/* ---- A stay on a processor ------------------------------------------------------------------ */

static __always_inline void host_set(u64 *was, unsigned long field, u64 value)
{
	if (*was != value) {
		*was = value;
		vmx_write(field, value);
	}
}

/* What an entry and an exit load from the VMCS, where it has changed since the last stay */
static void load_host(struct vireo_vcpu *v, struct vmx_vcpu *x)
{
	host_set(&x->tsc_offset, TSC_OFFSET, v->tsc_offset);
	host_set(&x->loaded.cr3, HOST_CR3, __native_read_cr3());
	host_set(&x->loaded.cr4, HOST_CR4, __read_cr4());
	host_set(&x->loaded.fs, HOST_FS_BASE,
		 static_cpu_has(X86_FEATURE_FSGSBASE) ? rdfsbase() : x86_fsbase_read_cpu());
	/* The host's counters and PEBS, which writes to memory, stop in the guest. */
	if (static_cpu_has(X86_FEATURE_ARCH_PERFMON) &&
	    (ctl[CTLS_EXIT] & VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL))
		host_set(&x->loaded.perf, HOST_IA32_PERF_GLOBAL_CTRL,
			 __rdmsr(MSR_CORE_PERF_GLOBAL_CTRL));
}

/* An exit leaves null selectors: a 64-bit program mostly had them anyway. */
static void load_segs(struct vmx_vcpu *x)
{
	savesegment(ds, x->ds);
	savesegment(es, x->es);
	savesegment(fs, x->fs);
	savesegment(gs, x->gs);
	store_ldt(x->ldt);
	x->segs = x->ds | x->es | x->fs | x->gs | x->ldt;
}

static void put_segs(struct vmx_vcpu *x)
{
	asm volatile("lldt %0" : : "m" (x->ldt));
	loadsegment(ds, x->ds);
	loadsegment(es, x->es);
	loadsegment(fs, x->fs);
	wrmsrl(MSR_FS_BASE, x->loaded.fs);
	load_gs_index(x->gs);
	wrmsrl(MSR_KERNEL_GS_BASE, x->host_kernel_gs);
}

static void load_debug(struct vireo_vcpu *v)
{
	struct vmx_vcpu *x = to_vmx(v);

	vireo_switch_dr(v, true);
	set_debugreg(x->dr6, 6);
	set_proc(x, x->proc & ~CPU_BASED_MOV_DR_EXITING);
}

static noinline void put_debug(struct vmx_vcpu *x)
{
	get_debugreg(x->dr6, 6);
	set_debugreg(DR6_RESERVED, 6);
	x->dr7 = vmx_read(GUEST_DR7);
	set_proc(x, x->proc | CPU_BASED_MOV_DR_EXITING);
}

/* From one set of SYSCALL's registers to the other; STAR and the mask are often the same. */
static void switch_sys(const u64 *from, const u64 *to)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(host_sys); i++)
		if (from[i] != to[i])
			native_wrmsrl(msrs[i].msr, to[i]);
}

static void vmx_load(struct vireo_vcpu *v)
{
	struct vmx_vcpu *x = to_vmx(v);

	load_host(v, x);
	load_segs(x);
	x->host_debugctl = __rdmsr(MSR_IA32_DEBUGCTLMSR);
	x->host_kernel_gs = __rdmsr(MSR_KERNEL_GS_BASE);
	if (x->msrs[MSR_I_KERNEL_GS] != x->host_kernel_gs)
		native_wrmsrl(MSR_KERNEL_GS_BASE, x->msrs[MSR_I_KERNEL_GS]);
	if (x->sce)
		switch_sys(host_sys, x->msrs);
	if (unlikely(x->dr7 & 0xff))
		load_debug(v);
	if (unlikely(longest_ticks))	/* of the stay: exits save what is left */
		vmx_write(VMX_PREEMPTION_TIMER_VALUE, longest_ticks);
	if (flush_l1d)
		native_wrmsrl(MSR_IA32_FLUSH_CMD, L1D_FLUSH);
}

static void vmx_put(struct vireo_vcpu *v)
{
	struct vmx_vcpu *x = to_vmx(v);

	if (unlikely(v->dr_loaded))
		put_debug(x);
	if (x->sce)
		switch_sys(x->msrs, host_sys);
	x->msrs[MSR_I_KERNEL_GS] = __rdmsr(MSR_KERNEL_GS_BASE);
	if (x->msrs[MSR_I_KERNEL_GS] != x->host_kernel_gs)
		native_wrmsrl(MSR_KERNEL_GS_BASE, x->host_kernel_gs);
	/* An exit leaves limits of 64 KiB, and 67H for the TSS (28.5.2). */
	native_load_gdt(&x->gdt);
	if (unlikely(x->segs))
		put_segs(x);
	this_cpu_write(__tss_limit_invalid, true);	/* looked at on the way to user space */
	if (unlikely(x->host_debugctl))
		native_wrmsrl(MSR_IA32_DEBUGCTLMSR, x->host_debugctl);
}

/* What blocks events is not what the VMCS says. */
static void set_blocked(struct vireo_vcpu *v, struct vmx_vcpu *x)
{
	u32 was = x->blocked & VIREO_BLOCKED_SHADOW, shadow = v->blocked & VIREO_BLOCKED_SHADOW;

	if (shadow == VIREO_BLOCKED_SHADOW)	/* one of the two: STI only with IF */
		shadow = v->rflags & X86_EFLAGS_IF ? GUEST_INTR_STATE_STI :
						     GUEST_INTR_STATE_MOV_SS;
	x->blocked = (v->blocked & VIREO_BLOCKED_NMI) | shadow;
	vmx_write(GUEST_INTERRUPTIBILITY_INFO, x->blocked);
	/* 27.3.1.5: a single step is pending there, or it is not */
	if (!shadow != !was)
		vmx_write(GUEST_PENDING_DBG_EXCEPTIONS,
			  shadow && (v->rflags & X86_EFLAGS_TF) ? DR_STEP : 0);
}

/* ---- Exits ------------------------------------------------------------------------------ */

/* What an exit is, if that is all there is to say of it */
static const u8 exits[256] = {
	[EXIT_REASON_TRIPLE_FAULT] = VEXIT_SHUTDOWN,
	[EXIT_REASON_INIT_SIGNAL] = VEXIT_RESUME,
	[EXIT_REASON_INTERRUPT_WINDOW ... EXIT_REASON_NMI_WINDOW] = VEXIT_WINDOW,
	[EXIT_REASON_CPUID] = VEXIT_CPUID,
	[REASON_GETSEC] = VEXIT_UD,
	[EXIT_REASON_HLT] = VEXIT_HLT,
	[EXIT_REASON_INVD] = VEXIT_SKIP,
	[EXIT_REASON_RDPMC] = VEXIT_GP,
	[EXIT_REASON_VMCLEAR ... EXIT_REASON_VMON] = VEXIT_UD,
	[EXIT_REASON_MSR_READ] = VEXIT_RDMSR,
	[EXIT_REASON_MSR_WRITE] = VEXIT_WRMSR,
	[EXIT_REASON_MWAIT_INSTRUCTION] = VEXIT_UD,
	[EXIT_REASON_MONITOR_INSTRUCTION] = VEXIT_UD,
	[EXIT_REASON_TPR_BELOW_THRESHOLD] = VEXIT_WINDOW,
	[EXIT_REASON_INVEPT] = VEXIT_UD,
	[EXIT_REASON_PREEMPTION_TIMER] = VEXIT_INTR,
	[EXIT_REASON_INVVPID] = VEXIT_UD,
	[EXIT_REASON_WBINVD] = VEXIT_SKIP,
	[EXIT_REASON_XSETBV] = VEXIT_XSETBV,
	[EXIT_REASON_ENCLS] = VEXIT_UD,
};

/* In 64-bit mode */
static bool wide(void)
{
	return (vmx_read(GUEST_CS_AR_BYTES) & VMX_AR_L_MASK) &&
	       (vmx_read(GUEST_IA32_EFER) & EFER_LMA);
}

static void exit_io(struct vireo_vcpu *v)
{
	u32 qual = vmx_read(EXIT_QUALIFICATION);

	v->exit.port = qual >> QUAL_IO_PORT_SHIFT;
	v->exit.width = qual & QUAL_IO_STRING ? 0 : (qual & 7) + 1;
	v->exit.write = !(qual & QUAL_IO_IN);
}

/* An IRET that faulted has unblocked NMIs already (28.2.3); it will run again. */
static void exit_ept(struct vireo_vcpu *v)
{
	u64 qual = vmx_read(EXIT_QUALIFICATION);

	v->exit.gpa = vmx_read(GUEST_PHYSICAL_ADDRESS);
	v->exit.write = qual & EPT_VIOLATION_ACC_WRITE;
	/* The address valid but not translated: the walk of the guest's own tables */
	v->exit.fetch = (qual & EPT_VIOLATION_ACC_INSTR) ||
			((qual & EPT_VIOLATION_GVA_IS_VALID) &&
			 !(qual & EPT_VIOLATION_GVA_TRANSLATED));
	if ((qual & QUAL_EPT_NMI) && !v->inject.info)
		v->blocked |= VIREO_BLOCKED_NMI;
}

/*
 * A write to CR0 or CR4 that changes a bit of the masks.  The read shadow is
 * made to agree, and the guest runs it again: the processor does all the rest.
 */
static enum vireo_exit exit_cr(struct vireo_vcpu *v)
{
	u32 qual = vmx_read(EXIT_QUALIFICATION);
	u64 value = v->gpr[qual >> 8 & 15];

	if (!wide())
		value = (u32)value;
	switch (qual & 0x3f) {
	case 0:
		if ((value & X86_CR0_NW) && !(value & X86_CR0_CD))
			return VEXIT_GP;
		vmx_write(CR0_READ_SHADOW, value);
		return VEXIT_RESUME;
	case 4:
		if (value & ~vireo_regs_cr4())
			return VEXIT_GP;
		vmx_write(CR4_READ_SHADOW, value);
		return VEXIT_RESUME;
	}
	return VEXIT_UNKNOWN;
}

/* An exception or NMI; those that are the host's are its handlers' to deal with. */
static enum vireo_exit exit_exception(struct vireo_vcpu *v)
{
	u32 info = vmx_read(VM_EXIT_INTR_INFO), type = info & INTR_INFO_INTR_TYPE_MASK;
	u64 qual = vmx_read(EXIT_QUALIFICATION);
	u8 vector = info & INTR_INFO_VECTOR_MASK;

	if (type == INTR_TYPE_NMI_INTR) {
		asm volatile("int $2");	/* NMIs are blocked until its IRET */
		return VEXIT_INTR;
	}
	if (vector == X86_TRAP_MC)
		return VEXIT_MC;
	if ((info & INTR_INFO_UNBLOCK_NMI) && !v->inject.info)
		v->blocked |= VIREO_BLOCKED_NMI;
	/* INT1's is one of its own type, but delivered as any other. */
	v->exit.event.info = info & VEVENT_BITS;
	v->exit.event.type = VEVENT_EXCEPTION;
	if (v->exit.event.has_error)
		v->exit.event.error = vmx_read(VM_EXIT_INTR_ERROR_CODE);
	if (vector != X86_TRAP_DB)
		return VEXIT_EXCEPTION;
	/* 28.2.1: the exit comes before DR6 and DR7 change. */
	if (type == INTR_TYPE_PRIV_SW_EXCEPTION)
		v->rip = v->next_rip;
	else
		change_dr6(v, DR_TRAP_BITS, qual & QUAL_DEBUG);
	if (qual & DR6_BD)
		vmx_write(GUEST_DR7, vmx_read(GUEST_DR7) & ~(u64)DR7_GD);
	return VEXIT_EXCEPTION;
}

static enum vireo_exit exit_decode(struct vireo_vcpu *v, u64 reason)
{
	unsigned int kind = exits[(u8)reason];
	u32 len = vmx_read(VM_EXIT_INSTRUCTION_LEN);	/* if it is an instruction's */
	u64 next = v->rip + len;

	if (unlikely((u32)next < len) && !wide())
		next = (u32)next;	/* beyond 4 GiB comes 0 */
	v->next_rip = next;
	v->exit.gpa = 0;
	/* The hottest first: a switch is a chain of branches. */
	if (kind)
		return kind;
	if (reason == EXIT_REASON_VMCALL) {
		v->exit.cpl = VMX_AR_DPL(vmx_read(GUEST_SS_AR_BYTES));
		v->exit.wide = wide();
		return VEXIT_HYPERCALL;
	}
	switch (reason) {
	case EXIT_REASON_EXTERNAL_INTERRUPT:
		if (notify)
			v->exit.handler = gate_offset((gate_desc *)idt.address +
						      (u8)vmx_read(VM_EXIT_INTR_INFO));
		return VEXIT_INTR;
	case EXIT_REASON_IO_INSTRUCTION:
		exit_io(v);
		return VEXIT_IO;
	case EXIT_REASON_EPT_VIOLATION:
		exit_ept(v);
		return VEXIT_FAULT;
	case EXIT_REASON_DR_ACCESS:
		load_debug(v);
		return VEXIT_DR;
	case EXIT_REASON_EXCEPTION_NMI:
		return exit_exception(v);
	case EXIT_REASON_CR_ACCESS:
		return exit_cr(v);
	case EXIT_REASON_APIC_WRITE:	/* a SELF IPI of a vector below 16 */
		vireo_lapic_write(v, 0x83f, vmx_read(EXIT_QUALIFICATION) == 0x3f0 ? 0 : 0x100,
				  false);
		return VEXIT_RESUME;
	}
	return VEXIT_UNKNOWN;	/* a task switch, for one */
}

/* 27.8: the guest did not run; 31.4 has the numbers of the errors. */
static enum vireo_exit exit_failed(struct vireo_vcpu *v, u32 reason, bool failed)
{
	v->exit.gpa = failed ? 0 : vmx_read(EXIT_QUALIFICATION);
	v->exit.code = failed ? vmx_read(VM_INSTRUCTION_ERROR) : reason;
	vmx_write(VM_ENTRY_INTR_INFO_FIELD, 0);
	return reason == (REASON_FAILED | EXIT_REASON_MCE_DURING_VMENTRY) ? VEXIT_MC : VEXIT_FAIL;
}

/* What an entry seldom has; apart, because INVEPT's descriptor costs a stack guard. */
static noinline void enter_rare(struct vireo_vcpu *v, struct vmx_vcpu *x)
{
	u64 desc[2] = { vmx_read(EPT_POINTER) };
	struct vireo_event *e = &v->inject;
	u64 type = VMX_EPT_EXTENT_CONTEXT;

	if (e->info) {
		/* 27.2.1.3: in real mode there are no error codes. */
		if (e->has_error && !(vmx_read(GUEST_CR0) & X86_CR0_PE))
			e->has_error = false;
		vmx_write(VM_ENTRY_EXCEPTION_ERROR_CODE, e->error);
		vmx_write(VM_ENTRY_INTR_INFO_FIELD, e->info);
		e->info = 0;
		v->blocked &= ~VIREO_BLOCKED_SHADOW;	/* its delivery ends that */
	}
	if (v->blocked != x->blocked)
		set_blocked(v, x);
	if (v->flush)
		asm volatile("invept %0, %1" : : "m" (desc), "r" (type)
			     : "cc", "memory");
	v->flush = false;
	if (flush_l1d_always)
		native_wrmsrl(MSR_IA32_FLUSH_CMD, L1D_FLUSH);
}

static enum vireo_exit vmx_run(struct vireo_vcpu *v)
{
	struct vmx_vcpu *x = to_vmx(v);
	u32 guest_spec = 0, host_spec = 0, failed, info;
	u64 reason;

	vmx_write(GUEST_RIP, v->rip);
	if (unlikely(v->rflags != x->rflags))
		vmx_write(GUEST_RFLAGS, v->rflags);
	if (unlikely(v->gpr[VIREO_RSP] != x->rsp))
		vmx_write(GUEST_RSP, v->gpr[VIREO_RSP]);
	if (unlikely(v->inject.info | v->blocked | x->blocked | v->flush | flush_l1d_always))
		enter_rare(v, x);
	if (cpu_feature_enabled(X86_FEATURE_MSR_SPEC_CTRL)) {
		guest_spec = v->spec_ctrl;
		host_spec = this_cpu_read(x86_spec_ctrl_current);
	}
	compat_clear_mmio_buffers();
	if (native_read_cr2() != x->cr2)
		native_write_cr2(x->cr2);

	failed = vmx_enter(v->gpr, &x->host_rsp, guest_spec, host_spec, x->launched);

	x->cr2 = native_read_cr2();
	reason = vmx_read(VM_EXIT_REASON) | failed;
	v->exit.code = reason;
	v->rip = vmx_read(GUEST_RIP);
	v->rflags = vmx_read(GUEST_RFLAGS);
	x->rflags = v->rflags;
	v->gpr[VIREO_RSP] = vmx_read(GUEST_RSP);
	x->rsp = v->gpr[VIREO_RSP];
	if (unlikely(reason & REASON_FAILED))
		return exit_failed(v, reason, failed);
	x->launched = true;
	x->blocked = vmx_read(GUEST_INTERRUPTIBILITY_INFO);
	v->blocked = x->blocked;
	info = vmx_read(IDT_VECTORING_INFO_FIELD);
	if (unlikely(info & INTR_INFO_VALID_MASK))
		vireo_event_again(v, info, vmx_read(IDT_VECTORING_ERROR_CODE));
	return exit_decode(v, reason);
}

const struct vireo_ops vmx_ops = {
	.name = "VT-x",
	.leaf = EPT_LEAF,
	.init = vmx_init,
	.cpu_enable = vmx_cpu_enable,
	.cpu_disable = vmx_cpu_disable,
	.vcpu_create = vmx_vcpu_create,
	.vcpu_free = vmx_vcpu_free,
	.get_regs = vmx_get_regs,
	.set_regs = vmx_set_regs,
	.msr = vmx_msr,
	.migrate = vmx_migrate,
	.load = vmx_load,
	.put = vmx_put,
	.run = vmx_run,
	.apic_changed = vmx_apic_changed,
	.set_bs = vmx_set_bs,
};
