// SPDX-License-Identifier: GPL-2.0
/*
 * CPUID: what a guest may see of the processor.
 *
 * The default table is the host's, cut down to what this module virtualizes.
 * User space may cut it down further.  What differs between vCPUs is filled
 * in when the guest asks.
 */
#include <linux/kvm_para.h>
#include <linux/log2.h>
#include <linux/slab.h>
#include <asm/cpufeature.h>
#include <asm/fpu/types.h>
#include <asm/fpu/xcr.h>
#include <asm/processor.h>
#include <asm/tsc.h>

#include "vireo.h"

enum { EAX, EBX, ECX, EDX };

/*
 * Feature words: bits of the host's that a guest may have, and bits that it
 * has whatever the host says.  Numbers as in Intel SDM vol. 2 (CPUID) and AMD
 * APM vol. 3, appendix E.
 */
struct feature_word {
	u32 function, index;
	u8 reg;
	u32 allow, force;
	u8 word;		/* of x86_capability, + 1: what the host kernel thinks */
};

static struct feature_word features[] = {
	/* SSE3 PCLMUL SSSE3 FMA CX16 PCID SSE4.1 4.2 MOVBE POPCNT AES XSAVE AVX F16C RDRAND */
	{ 0x1, 0, ECX, 0x76da3203 & ~(BIT(21) | BIT(24) | BIT(27)), BIT(21) | BIT(24) | BIT(31),
	  CPUID_1_ECX + 1 },
	/* all but MCE, MCA, DS, ACPI, SS, TM, IA64, PBE; APIC and MTRR are ours */
	{ 0x1, 0, EDX, 0x0782a97f | BIT(15) | BIT(16) | BIT(23) | BIT(24), BIT(9) | BIT(12),
	  CPUID_1_EDX + 1 },
	{ 0x6, 0, EAX, 0, BIT(2) },			/* APIC timer always runs */
	/* FSGSBASE BMI1 AVX2 SMEP BMI2 ERMS INVPCID AVX512* RDSEED ADX SMAP CLFLUSHOPT CLWB SHA */
	{ 0x7, 0, EBX, 0xf1bf07a9 & ~(BIT(12) | BIT(13) | BIT(14) | BIT(15) | BIT(22) | BIT(25)),
	  BIT(1), CPUID_7_0_EBX + 1 },
	/* VBMI UMIP VBMI2 GFNI VAES VPCLMUL VNNI BITALG VPOPCNTDQ LA57 RDPID MOVDIR* */
	{ 0x7, 0, ECX, 0x18415f46, 0, CPUID_7_ECX + 1 },
	/* 4VNNIW 4FMAPS FSRM VP2INTERSECT MD_CLEAR SERIALIZE FP16 SPEC_CTRL STIBP SSBD */
	{ 0x7, 0, EDX, 0x8c80451c, 0, CPUID_7_EDX + 1 },
	{ 0x7, 1, EAX, 0x00001c30, 0 },			/* AVX-VNNI BF16 FZRM FSRS FSRCS */
	{ 0xd, 1, EAX, 0x0000000f, 0, CPUID_D_1_EAX + 1 },			/* XSAVEOPT XSAVEC XGETBV1 XSAVES */
	/* LAHF CR8 ABM SSE4A MISALIGNSSE PREFETCH XOP FMA4 TBM */
	{ 0x80000001, 0, ECX, 0x002109f1 & ~BIT(7), 0, CPUID_8000_0001_ECX + 1 },
	/* as leaf 1, SYSCALL NX MMXEXT FXSR FFXSR 1GB RDTSCP LM 3DNOW */
	{ 0x80000001, 0, EDX, 0xefd3a97f & ~(BIT(7) | BIT(14)), BIT(9) | BIT(12),
	  CPUID_8000_0001_EDX + 1 },
	{ 0x80000007, 0, EDX, BIT(8), 0 },		/* invariant TSC */
	{ 0x80000008, 0, EBX, 0x0100d205, 0, CPUID_8000_0008_EBX + 1 },	/* CLZERO XSAVEERPTR WBNOINVD IBPB IBRS STIBP SSBD */
	{ 0x80000021, 0, EAX, 0x20000045, 0 },	/* LFENCE serializes, null selectors, SRSO_NO */
	{ KVM_CPUID_FEATURES, 0, EAX, 0,
	  BIT(KVM_FEATURE_CLOCKSOURCE) | BIT(KVM_FEATURE_NOP_IO_DELAY) |
	  BIT(KVM_FEATURE_CLOCKSOURCE2) | BIT(KVM_FEATURE_STEAL_TIME) |
	  BIT(KVM_FEATURE_PV_EOI) | BIT(KVM_FEATURE_PV_UNHALT) |
	  BIT(KVM_FEATURE_PV_TLB_FLUSH) | BIT(KVM_FEATURE_PV_SEND_IPI) |
	  BIT(KVM_FEATURE_MSI_EXT_DEST_ID) },
};

/* Leaves of the default table; an index of -1 for leaves without. */
static const struct {
	u32 function;
	int index;
} leaves[] = {
	{ 0x0, -1 }, { 0x1, -1 }, { 0x6, -1 }, { 0x7, 0 }, { 0x7, 1 },
	{ 0xb, 0 }, { 0xb, 1 }, { 0xb, 2 }, { 0xd, 0 }, { 0xd, 1 },
	{ 0xd, 2 }, { 0xd, 3 }, { 0xd, 4 }, { 0xd, 5 }, { 0xd, 6 }, { 0xd, 7 }, { 0xd, 9 },
	{ KVM_CPUID_SIGNATURE, -1 }, { KVM_CPUID_FEATURES, -1 },
	{ VIREO_CPUID_BASE, -1 }, { VIREO_CPUID_FEATURES, -1 },
	{ 0x80000000, -1 }, { 0x80000001, -1 }, { 0x80000002, -1 }, { 0x80000003, -1 },
	{ 0x80000004, -1 }, { 0x80000005, -1 }, { 0x80000006, -1 }, { 0x80000007, -1 },
	{ 0x80000008, -1 }, { 0x80000021, -1 },
};

static struct vireo_cpuid_table default_table;	/* constant after init */
static u64 xcr0_supported;

/* Where a leaf is looked up: the ranges' first 64 leaves, and those of Vireo's. */
static u8 *slot(struct vireo_cpuid_table *t, u32 function)
{
	u32 low = function & 0x3fffffff;

	if ((low & ~0x13fU) || function >= 0xc0000000)
		return NULL;
	return &t->first[function >> 30][(low & 0x3f) | (low & 0x100) >> 2];
}

/**
 * vireo_cpuid_find() - look up an entry
 * @t: the table
 * @function: EAX
 * @index: ECX
 *
 * Context: Any.
 * Return: The entry or NULL.
 */
const struct vireo_cpuid_entry *vireo_cpuid_find(const struct vireo_cpuid_table *t,
						 u32 function, u32 index)
{
	const u8 *first = slot((struct vireo_cpuid_table *)t, function);
	const struct vireo_cpuid_entry *e, *end = t->e + t->count;

	if (!first || !*first)
		return NULL;
	for (e = &t->e[*first - 1]; e < end && e->function == function; e++)
		if (!(e->flags & VIREO_CPUID_INDEXED) || e->index == index)
			return e;
	return NULL;
}

/**
 * vireo_xcr0_supported() - XCR0 bits that a guest may set
 *
 * Context: Any.
 * Return: The bits.
 */
u64 vireo_xcr0_supported(void)
{
	return xcr0_supported;
}

/**
 * vireo_cpuid_xsave_size() - size of the standard XSAVE format
 * @xcr0: the components
 *
 * Context: Any.
 * Return: Bytes.
 */
u32 vireo_cpuid_xsave_size(u64 xcr0)
{
	u32 size = 512 + 64, i;

	for (i = 2; i < 63; i++) {
		const struct vireo_cpuid_entry *e;

		if (!(xcr0 & BIT_ULL(i)))
			continue;
		e = vireo_cpuid_find(&default_table, 0xd, i);
		if (e)
			size = max(size, e->eax + e->ebx);
	}
	return size;
}

/**
 * vireo_cpuid_xsave_offset() - place of a component in the standard format
 * @component: its number, of those a guest may have
 *
 * Context: Any.
 * Return: Bytes.
 */
u32 vireo_cpuid_xsave_offset(unsigned int component)
{
	return vireo_cpuid_find(&default_table, 0xd, component)->ebx;
}

/**
 * vireo_cpuid_default() - the widest table a guest can have
 *
 * Context: Any.
 * Return: The table.
 */
const struct vireo_cpuid_table *vireo_cpuid_default(void)
{
	return &default_table;
}

static u32 *entry_reg(struct vireo_cpuid_entry *e, u8 reg)
{
	return &e->eax + reg;
}

/* Leaves that exec_fixup() knows. */
static bool leaf_varies(u32 function)
{
	return function == 0x1 || function == 0x7 || function == 0xb || function == 0xd ||
	       function == 0x80000001 || function == 0x80000008;
}

static void table_add(struct vireo_cpuid_table *t, const struct vireo_cpuid_entry *e)
{
	u8 *first = slot(t, e->function);

	if (!*first)
		*first = t->count + 1;
	t->varies[t->count] = leaf_varies(e->function);
	t->e[t->count++] = *e;
}

/* Leaves that are not the host's, or not as the host has them. */
static void default_fixup(struct vireo_cpuid_entry *e)
{
	switch (e->function) {
	case 0x0:
		e->eax = 0xd;
		break;
	case 0x1:
		e->ebx &= 0xff00;	/* CLFLUSH size */
		break;
	case 0x6:
	case 0x7:
	case KVM_CPUID_FEATURES:
		if (e->function != 0x7 || e->index)
			e->eax = 0;
		else
			e->eax = 1;	/* highest index */
		e->ebx = 0;
		e->ecx = 0;
		e->edx = 0;
		break;
	case 0xb:			/* filled in for each vCPU */
		e->eax = 0;
		e->ebx = 0;
		e->ecx = 0;
		e->edx = 0;
		break;
	case 0xd:
		if (e->index == 0) {
			e->eax = xcr0_supported;
			e->edx = xcr0_supported >> 32;
			e->ecx = 0;
			e->ebx = 0;
		} else if (e->index == 1) {
			e->ebx = 0;
			e->ecx = 0;	/* no supervisor state */
			e->edx = 0;
		} else if (!(xcr0_supported & BIT_ULL(e->index))) {
			e->eax = 0;
			e->ebx = 0;
			e->ecx = 0;
			e->edx = 0;
		}
		break;
	case KVM_CPUID_SIGNATURE:
		e->eax = KVM_CPUID_FEATURES;
		e->ebx = 0x4b4d564b;	/* KVM_SIGNATURE */
		e->ecx = 0x564b4d56;
		e->edx = 0x4d;
		break;
	case VIREO_CPUID_BASE:
		e->eax = VIREO_CPUID_FEATURES;
		e->ebx = VIREO_SIGNATURE_EBX;
		e->ecx = VIREO_SIGNATURE_ECX;
		e->edx = VIREO_SIGNATURE_EDX;
		break;
	case VIREO_CPUID_FEATURES:
		e->eax = VIREO_API_VERSION;
		e->ebx = VIREO_GUEST_HYPERCALL;
		e->ecx = 0;
		e->edx = 0;
		break;
	case 0x80000000:
		e->eax = boot_cpu_data.x86_vendor == X86_VENDOR_INTEL ? 0x80000008 : 0x80000021;
		break;
	case 0x80000008:
		e->eax = min_t(u32, e->eax & 0xff, 48) | (e->eax & 0xff00);
		e->ecx = 0;
		e->edx = 0;
		break;
	case 0x80000021:
		e->ebx = 0;
		e->ecx = 0;
		e->edx = 0;
		break;
	}
}

static bool is_host_leaf(u32 function)
{
	if (function == KVM_CPUID_SIGNATURE || function == KVM_CPUID_FEATURES ||
	    (function & ~0xffU) == VIREO_CPUID_BASE)
		return false;
	return function <= cpuid_eax(function & 0x80000000);
}

/* Bits that the host kernel has switched off although CPUID shows them. */
static void features_trim(void)
{
	struct feature_word *w;

	for (w = features; w < features + ARRAY_SIZE(features); w++) {
		if (w->word)
			w->allow &= boot_cpu_data.x86_capability[w->word - 1];
		if (w->function == 0x7 && w->reg == ECX && boot_cpu_has(X86_FEATURE_OSPKE))
			w->allow |= BIT(3);		/* PKU */
		if (w->function == KVM_CPUID_FEATURES && !check_tsc_unstable())
			w->force |= BIT(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT);
	}
}

/* No MPX, which is dead, and no AMX, which a task has to ask for. */
static u64 host_xcr0(void)
{
	const u64 mask = XFEATURE_MASK_FPSSE | XFEATURE_MASK_YMM | XFEATURE_MASK_OPMASK |
			 XFEATURE_MASK_ZMM_Hi256 | XFEATURE_MASK_Hi16_ZMM | XFEATURE_MASK_PKRU;

	if (!boot_cpu_has(X86_FEATURE_XSAVE))
		return XFEATURE_MASK_FPSSE;
	return mask & xgetbv(XCR_XFEATURE_ENABLED_MASK);
}

/**
 * vireo_cpuid_init() - make the default table
 *
 * Context: Module load.
 * Return: Nothing.
 */
void vireo_cpuid_init(void)
{
	unsigned int i;

	xcr0_supported = host_xcr0();
	features_trim();
	for (i = 0; i < ARRAY_SIZE(leaves); i++) {
		struct vireo_cpuid_entry e = { .function = leaves[i].function };
		const struct feature_word *w;

		if (leaves[i].index >= 0) {
			e.index = leaves[i].index;
			e.flags = VIREO_CPUID_INDEXED;
		}
		if (is_host_leaf(e.function))
			cpuid_count(e.function, e.index, &e.eax, &e.ebx, &e.ecx, &e.edx);
		for (w = features; w < features + ARRAY_SIZE(features); w++)
			if (w->function == e.function && w->index == e.index)
				*entry_reg(&e, w->reg) &= w->allow;
		default_fixup(&e);
		for (w = features; w < features + ARRAY_SIZE(features); w++)
			if (w->function == e.function && w->index == e.index)
				*entry_reg(&e, w->reg) |= w->force;
		table_add(&default_table, &e);
	}
}

/* Whether every feature bit of an entry is in the default table's too. */
static bool entry_allowed(const struct vireo_cpuid_entry *e)
{
	const struct vireo_cpuid_entry *d = vireo_cpuid_find(&default_table, e->function, e->index);
	const struct feature_word *w;

	for (w = features; w < features + ARRAY_SIZE(features); w++) {
		if (w->function != e->function || w->index != e->index)
			continue;
		if (*entry_reg((void *)e, w->reg) & ~(d ? *entry_reg((void *)d, w->reg) : 0))
			return false;
	}
	if (e->function == 0xd && e->index != 1)
		return d && !(e->eax & ~d->eax) && !(e->edx & ~d->edx);
	return true;
}

/**
 * vireo_cpuid_set() - replace a VM's table
 * @vm: the VM, without vCPUs; vm->lock is held
 * @e: entries, unchecked; those of one function stand together
 * @n: how many, at most VIREO_MAX_CPUID
 *
 * Context: May sleep.
 * Return: 0, -EINVAL or -ENOMEM, nothing changed.
 */
int vireo_cpuid_set(struct vireo_vm *vm, const struct vireo_cpuid_entry *e, unsigned int n)
{
	struct vireo_cpuid_table *t = kzalloc(sizeof(*t), GFP_KERNEL_ACCOUNT);
	unsigned int i;
	int err = 0;

	if (!t)
		return -ENOMEM;
	for (i = 0; i < n && !err; i++) {
		bool follows = i && e[i].function == e[i - 1].function;

		if (!slot(t, e[i].function) || (e[i].flags & ~VIREO_CPUID_INDEXED) ||
		    e[i].reserved || !entry_allowed(&e[i]) ||
		    (!(e[i].flags & VIREO_CPUID_INDEXED) && (e[i].index || follows)) ||
		    vireo_cpuid_find(t, e[i].function, e[i].index) ||
		    (!follows && *slot(t, e[i].function)))
			err = -EINVAL;
		else
			table_add(t, &e[i]);
	}
	if (!err)
		vm->cpuid = *t;
	kfree(t);
	return err;
}

/* Extended topology: one thread a core, one package. Intel SDM vol. 2, leaf 0BH. */
static void exec_topology(struct vireo_vcpu *v, u32 index, u32 out[4])
{
	unsigned int n = v->vm->max_vcpus;

	out[EAX] = index == 1 ? order_base_2(n) : 0;
	out[EBX] = index == 0 ? 1 : index == 1 ? n : 0;
	out[ECX] = index | (index < 2 ? (index + 1) << 8 : 0);
	out[EDX] = v->id;
}

/* Size of the compacted format: components follow each other, some aligned. */
static u32 xsave_compact_size(u64 xcr0)
{
	u32 size = 512 + 64, i;

	for (i = 2; i < 63; i++) {
		const struct vireo_cpuid_entry *e;

		if (!(xcr0 & BIT_ULL(i)))
			continue;
		e = vireo_cpuid_find(&default_table, 0xd, i);
		if (e)
			size = (e->ecx & BIT(1) ? ALIGN(size, 64) : size) + e->eax;
	}
	return size;
}

/* What differs between vCPUs, or with their state. */
static void exec_fixup(struct vireo_vcpu *v, u32 function, u32 index, u32 out[4])
{
	unsigned int n = v->vm->max_vcpus;

	switch (function) {
	case 0x1:
		out[EBX] |= v->id << 24 | n << 16;
		if (n > 1)
			out[EDX] |= BIT(28);	/* HTT: the count above is valid */
		if (vireo_ops->get_cr4(v) & X86_CR4_OSXSAVE)
			out[ECX] |= BIT(27);
		break;
	case 0x7:
		if (!index && (out[ECX] & BIT(3)) && (vireo_ops->get_cr4(v) & X86_CR4_PKE))
			out[ECX] |= BIT(4);	/* OSPKE */
		break;
	case 0xb:
		exec_topology(v, index, out);
		break;
	case 0xd:
		if (index == 0) {
			out[EBX] = v->xsave_size;
			out[ECX] = vireo_cpuid_xsave_size(out[EAX] | (u64)out[EDX] << 32);
		} else if (index == 1) {
			out[EBX] = xsave_compact_size(v->xcr0);
		}
		break;
	case 0x80000001:
		if (n > 1 && boot_cpu_data.x86_vendor != X86_VENDOR_INTEL)
			out[ECX] |= BIT(1);	/* the threads of leaf 1 are cores */
		break;
	case 0x80000008:
		if (boot_cpu_data.x86_vendor != X86_VENDOR_INTEL)
			out[ECX] = (n - 1) | order_base_2(n) << 12;
		break;
	}
}

/**
 * vireo_cpuid_exec() - the CPUID instruction
 * @v: the vCPU
 *
 * Context: The inner loop.
 * Return: Nothing.
 */
void vireo_cpuid_exec(struct vireo_vcpu *v)
{
	u32 function = v->gpr[VIREO_RAX], index = v->gpr[VIREO_RCX];
	const struct vireo_cpuid_entry *e = vireo_cpuid_find(&v->vm->cpuid, function, index);
	u32 out[4] = {};

	if (likely(e)) {
		v->gpr[VIREO_RAX] = e->eax;
		v->gpr[VIREO_RBX] = e->ebx;
		v->gpr[VIREO_RCX] = e->ecx;
		v->gpr[VIREO_RDX] = e->edx;
		if (!v->vm->cpuid.varies[e - v->vm->cpuid.e])
			return;
		memcpy(out, &e->eax, sizeof(out));
		exec_fixup(v, function, index, out);
	} else if (function == 0xb) {
		exec_topology(v, index, out);
	}
	v->gpr[VIREO_RAX] = out[EAX];
	v->gpr[VIREO_RBX] = out[EBX];
	v->gpr[VIREO_RCX] = out[ECX];
	v->gpr[VIREO_RDX] = out[EDX];
}
