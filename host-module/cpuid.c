// SPDX-License-Identifier: GPL-2.0
/*
 * CPUID: what a guest may see of the processor.
 *
 * The default table is the host's, cut down to what this module virtualizes.
 * User space replaces it as it likes: nothing here depends on what a guest is
 * told.  What differs between vCPUs is filled in when the guest asks.
 */
#include <linux/log2.h>
#include <asm/fpu/xcr.h>
#include <asm/processor.h>

#include "vireo.h"

enum { EAX, EBX, ECX, EDX };

/*
 * The leaves of the default table: in each register the host's bits in @allow,
 * then those in @force.  @word names the word of x86_capability, + 1, that knows
 * what the host kernel has switched off.
 * Numbers as in Intel SDM vol. 2 (CPUID) and AMD APM vol. 3, appendix E.
 */
struct leaf {
	u32 function;
	int index;		/* -1 for leaves without */
	u32 allow[4], force[4];
	u8 word[4];
};

#define ALL		~0U
#define HOST		{ ALL, ALL, ALL, ALL }
#define KVM_FEATURES \
	(BIT(KVM_FEATURE_CLOCKSOURCE) | BIT(KVM_FEATURE_NOP_IO_DELAY) | \
	 BIT(KVM_FEATURE_CLOCKSOURCE2) | BIT(KVM_FEATURE_STEAL_TIME) | \
	 BIT(KVM_FEATURE_PV_EOI) | BIT(KVM_FEATURE_PV_UNHALT) | \
	 BIT(KVM_FEATURE_PV_TLB_FLUSH) | BIT(KVM_FEATURE_PV_SEND_IPI) | \
	 BIT(KVM_FEATURE_MSI_EXT_DEST_ID))

static const struct leaf leaves[] = {
	{ 0x0, -1, { 0, ALL, ALL, ALL }, { 0xd } },
	{ 0x1, -1, {
		ALL, 0xff00,		/* CLFLUSH size */
		/* SSE3 PCLMUL SSSE3 FMA CX16 PCID SSE4.* MOVBE POPCNT AES XSAVE AVX F16C RDRAND */
		0x76da3203 & ~(BIT(21) | BIT(24) | BIT(27)),
		/* all but MCE, MCA, DS, ACPI, SS, TM, IA64, PBE; APIC and MTRR are ours */
		0x0782a97f | BIT(15) | BIT(16) | BIT(23) | BIT(24) },
	  { 0, 0, BIT(21) | BIT(24) | BIT(31), BIT(9) | BIT(12) },
	  { 0, 0, CPUID_1_ECX + 1, CPUID_1_EDX + 1 } },
	{ 0x6, -1, {}, { BIT(2) } },			/* APIC timer always runs */
	{ 0x7, 0, { 0,
		/* FSGSBASE BMI* AVX* SMEP ERMS INVPCID RDSEED ADX SMAP CLFLUSHOPT CLWB SHA */
		0xf1bf07a9 & ~(BIT(12) | BIT(13) | BIT(14) | BIT(15) | BIT(22) | BIT(25)),
		/* PKU VBMI UMIP VBMI2 GFNI VAES VPCLMUL VNNI BITALG VPOPCNTDQ LA57 RDPID MOVDIR* */
		0x18415f46 | BIT(3),
		/* 4VNNIW 4FMAPS FSRM VP2INTERSECT MD_CLEAR SERIALIZE FP16 SPEC_CTRL STIBP SSBD */
		0x8c80451c },
	  { 1, BIT(1) },				/* highest index, TSC_ADJUST */
	  { 0, CPUID_7_0_EBX + 1, CPUID_7_ECX + 1, CPUID_7_EDX + 1 } },
	{ 0x7, 1, { 0x00001c30 } },			/* AVX-VNNI BF16 FZRM FSRS FSRCS */
	{ 0xb, 0 }, { 0xb, 1 }, { 0xb, 2 },		/* filled in for each vCPU */
	{ 0xd, 0 },					/* see default_fixup() */
	/* XSAVEOPT XSAVEC XGETBV1 XSAVES; no supervisor state */
	{ 0xd, 1, { 0x0000000f }, {}, { CPUID_D_1_EAX + 1 } },
	{ 0xd, 2, HOST }, { 0xd, 3, HOST }, { 0xd, 4, HOST }, { 0xd, 5, HOST },
	{ 0xd, 6, HOST }, { 0xd, 7, HOST }, { 0xd, 9, HOST },
	{ KVM_CPUID_SIGNATURE, -1, {},			/* KVM_SIGNATURE */
	  { KVM_CPUID_FEATURES, 0x4b4d564b, 0x564b4d56, 0x4d } },
	{ KVM_CPUID_FEATURES, -1, {}, { KVM_FEATURES } },
	{ VIREO_CPUID_BASE, -1, {}, { VIREO_CPUID_FEATURES, VIREO_SIGNATURE_EBX,
					 VIREO_SIGNATURE_ECX, VIREO_SIGNATURE_EDX } },
	{ VIREO_CPUID_FEATURES, -1, {},
	  { VIREO_API_VERSION, VIREO_GUEST_HYPERCALL | VIREO_GUEST_DOORBELL } },
	{ 0x80000000, -1, { 0, ALL, ALL, ALL } },	/* see default_fixup() */
	{ 0x80000001, -1, { ALL, ALL,
		/* LAHF CR8 ABM SSE4A MISALIGNSSE PREFETCH XOP FMA4 TBM */
		0x002109f1 & ~BIT(7),
		/* as leaf 1, SYSCALL NX MMXEXT FXSR FFXSR 1GB RDTSCP LM 3DNOW */
		0xefd3a97f & ~(BIT(7) | BIT(14)) },
	  { 0, 0, 0, BIT(9) | BIT(12) },
	  { 0, 0, CPUID_8000_0001_ECX + 1, CPUID_8000_0001_EDX + 1 } },
	{ 0x80000002, -1, HOST }, { 0x80000003, -1, HOST }, { 0x80000004, -1, HOST },
	{ 0x80000005, -1, HOST }, { 0x80000006, -1, HOST },
	{ 0x80000007, -1, { ALL, ALL, ALL, BIT(8) } },	/* invariant TSC */
	/* CLZERO XSAVEERPTR WBNOINVD IBPB IBRS STIBP SSBD */
	{ 0x80000008, -1, { 0xffff, 0x0100d205 }, {}, { 0, CPUID_8000_0008_EBX + 1 } },
	/* LFENCE serializes, null selectors, SRSO_NO */
	{ 0x80000021, -1, { 0x20000045 } },
};

struct vireo_cpuid_table vireo_cpuid_default;
u64 vireo_xcr0;
u32 vireo_xsave_size;

/* Where a leaf is looked up: the ranges' first 64 leaves, and those of Vireo's. */
static u8 *slot(struct vireo_cpuid_table *t, u32 function)
{
	u32 low = function & 0x3fffffff;

	if ((low & ~0x13fU) || function >= 0xc0000000)
		return NULL;
	return &t->first[function >> 30][(low & 0x3f) | (low & 0x100) >> 2];
}

static const struct vireo_cpuid_entry *
find(const struct vireo_cpuid_table *t, u32 function, u32 index)
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

/* Bytes that XSAVE needs for some components, in the standard format or compacted. */
static u32 xsave_size(u64 xcr0, bool compact)
{
	u32 size = 512 + 64, i;

	for (i = 2; i < 63; i++) {
		const struct vireo_cpuid_entry *e;

		if (!(xcr0 & BIT_ULL(i)))
			continue;
		e = find(&vireo_cpuid_default, 0xd, i);
		if (e && compact)	/* they follow each other, some aligned */
			size = (e->ecx & BIT(1) ? ALIGN(size, 64) : size) + e->eax;
		else if (e)
			size = max(size, e->eax + e->ebx);
	}
	return size;
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
	t->varies[t->count] = leaf_varies(e->function) || (e->flags & VIREO_CPUID_INDEXED);
	t->e[t->count++] = *e;
}

/* What depends on more than the leaf's row. */
static void default_fixup(struct vireo_cpuid_entry *e)
{
	bool intel = boot_cpu_data.x86_vendor == X86_VENDOR_INTEL;

	switch (e->function) {
	case 0x7:
		if (!e->index)
			e->eax = 1;	/* the highest index */
		if (!boot_cpu_has(X86_FEATURE_OSPKE))
			e->ecx &= ~BIT(3);
		break;
	case 0xd:
		if (!e->index) {
			e->eax = vireo_xcr0;
			e->edx = vireo_xcr0 >> 32;
		}
		break;
	case KVM_CPUID_FEATURES:
		if (!check_tsc_unstable())
			e->eax |= BIT(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT);
		break;
	case 0x80000000:
		e->eax = intel ? 0x80000008 : 0x80000021;
		break;
	case 0x80000008:
		e->eax = min_t(u32, e->eax & 0xff, 48) | (e->eax & 0xff00);
		break;
	}
}

/* For others the processor gives what it has for another leaf. */
static bool is_host_leaf(u32 function, u32 index)
{
	if (function == 0xd && index > 1 && !(vireo_xcr0 & BIT_ULL(index)))
		return false;
	return function <= cpuid_eax(function & 0x80000000);
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
 * Context: Module load.
 */
void vireo_cpuid_init(void)
{
	const struct leaf *l;
	unsigned int r;

	vireo_xcr0 = host_xcr0();
	for (l = leaves; l < leaves + ARRAY_SIZE(leaves); l++) {
		struct vireo_cpuid_entry e = { .function = l->function };
		u32 *reg = &e.eax;

		if (l->index >= 0) {
			e.index = l->index;
			e.flags = VIREO_CPUID_INDEXED;
		}
		if (is_host_leaf(e.function, e.index))
			cpuid_count(e.function, e.index, &e.eax, &e.ebx, &e.ecx, &e.edx);
		for (r = EAX; r <= EDX; r++) {
			if (l->word[r])
				reg[r] &= boot_cpu_data.x86_capability[l->word[r] - 1];
			reg[r] = (reg[r] & l->allow[r]) | l->force[r];
		}
		default_fixup(&e);
		table_add(&vireo_cpuid_default, &e);
	}
	vireo_xsave_size = xsave_size(vireo_xcr0, false);
}

static int table_fill(struct vireo_cpuid_table *t, const struct vireo_cpuid_entry *e,
		      unsigned int n)
{
	const struct vireo_cpuid_entry *end = e + n;
	u32 last = ~0U;

	for (; e < end; last = e++->function) {
		const u8 *first = slot(t, e->function);

		if (!first || (*first && e->function != last) || e->reserved ||
		    (e->flags & ~VIREO_CPUID_INDEXED))
			return -EINVAL;
		table_add(t, e);
	}
	return 0;
}

/**
 * vireo_cpuid_set() - VIREO_SET_CPUID
 * @object: the VM
 * @cmd: that
 * @arg: struct vireo_cpuid; entries of one function stand together
 * Context: May sleep.
 * Return: 0, -EINVAL, -E2BIG, -EFAULT, -EBUSY (there is a vCPU) or -ENOMEM.
 */
long vireo_cpuid_set(void *object, unsigned int cmd, void *arg)
{
	const struct vireo_cpuid *c = arg;
	struct vireo_cpuid_table *t;
	struct vireo_vm *vm = object;
	struct vireo_cpuid_entry *e;
	int err = -ENOMEM;

	if (c->reserved)
		return -EINVAL;
	if (c->count > VIREO_MAX_CPUID)
		return -E2BIG;
	e = memdup_user(u64_to_user_ptr(c->entries), c->count * sizeof(*e));
	if (IS_ERR(e))
		return PTR_ERR(e);
	t = kzalloc(sizeof(*t), GFP_KERNEL_ACCOUNT);
	if (t)
		err = table_fill(t, e, c->count);
	mutex_lock(&vm->lock);
	if (!err && vm->nr_vcpus)
		err = -EBUSY;
	if (!err)
		vm->cpuid = *t;
	mutex_unlock(&vm->lock);
	kfree(t);
	kfree(e);
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
			out[EBX] = xsave_size(v->xcr0, false);
			out[ECX] = xsave_size(out[EAX] | (u64)out[EDX] << 32, false);
		} else if (index == 1) {
			out[EBX] = xsave_size(v->xcr0, true);
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

static __always_inline void exec_answer(struct vireo_vcpu *v, const struct vireo_cpuid_entry *e)
{
	v->gpr[VIREO_RAX] = e->eax;
	v->gpr[VIREO_RBX] = e->ebx;
	v->gpr[VIREO_RCX] = e->ecx;
	v->gpr[VIREO_RDX] = e->edx;
}

static noinline void exec_varying(struct vireo_vcpu *v)
{
	u32 function = v->gpr[VIREO_RAX], index = v->gpr[VIREO_RCX];
	const struct vireo_cpuid_entry *e = find(&v->vm->cpuid, function, index);
	struct vireo_cpuid_entry out = {};

	if (e)
		out = *e;
	if (e || function == 0xb)
		exec_fixup(v, function, index, &out.eax);
	exec_answer(v, &out);
}

/**
 * vireo_cpuid_exec() - the CPUID instruction
 * @v: the vCPU
 * Context: The inner loop.
 */
void vireo_cpuid_exec(struct vireo_vcpu *v)
{
	struct vireo_cpuid_table *t = &v->vm->cpuid;
	const u8 *first = slot(t, v->gpr[VIREO_RAX]);

	if (unlikely(!first || !*first || t->varies[*first - 1]))
		exec_varying(v);
	else
		exec_answer(v, &t->e[*first - 1]);
}
