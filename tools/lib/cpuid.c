// SPDX-License-Identifier: GPL-2.0
/*
 * CPUID: what a guest is shown of the processor.
 *
 * The table is the host's, cut down to what the module virtualizes.  It is policy:
 * nothing in the module depends on what a guest is told.
 */
#include <asm/kvm_para.h>
#include <cpuid.h>

#include "libvireo.h"
#include "util.h"
#include "vireo_hypercall.h"

#define BIT(n)	(1U << (n))

enum { EAX, EBX, ECX, EDX };

/*
 * The leaves of the default table: in each register the host's bits in @allow,
 * then those in @force.  @word names the word of vireo_info.cpuid, + 1, that knows
 * what the host's kernel has switched off.
 * Numbers as in Intel SDM vol. 2 (CPUID) and AMD APM vol. 3, appendix E.
 */
struct leaf {
	__u32 function;
	int index;		/* -1 for leaves without */
	__u32 allow[4], force[4];
	__u8 word[4];
};

#define ALL		~0U
#define HOST		{ ALL, ALL, ALL, ALL }
#define WORD(name)	(VIREO_HOST_ ## name + 1)
#define KVM_FEATURES \
	(BIT(KVM_FEATURE_CLOCKSOURCE) | BIT(KVM_FEATURE_NOP_IO_DELAY) | \
	 BIT(KVM_FEATURE_CLOCKSOURCE2) | BIT(KVM_FEATURE_STEAL_TIME) | \
	 BIT(KVM_FEATURE_PV_EOI) | BIT(KVM_FEATURE_PV_UNHALT) | \
	 BIT(KVM_FEATURE_PV_TLB_FLUSH) | BIT(KVM_FEATURE_PV_SEND_IPI) | \
	 BIT(KVM_FEATURE_MSI_EXT_DEST_ID))

static const struct leaf leaves[] = {
	{ 0x0, -1, { 0, ALL, ALL, ALL }, { 0xd }, { 0 } },
	{ 0x1, -1, {
		ALL, 0xff00,		/* CLFLUSH size */
		/* SSE3 PCLMUL SSSE3 FMA CX16 PCID SSE4.* MOVBE POPCNT AES XSAVE AVX F16C RDRAND */
		0x76da3203 & ~(BIT(21) | BIT(24) | BIT(27)),
		/* all but MCE, MCA, DS, ACPI, SS, TM, IA64, PBE; APIC and MTRR are ours */
		0x0782a97f | BIT(15) | BIT(16) | BIT(23) | BIT(24) },
	  { 0, 0, BIT(21) | BIT(24) | BIT(31), BIT(9) | BIT(12) },
	  { 0, 0, WORD(1_ECX), WORD(1_EDX) } },
	{ 0x6, -1, { 0 }, { BIT(2) }, { 0 } },		/* APIC timer always runs */
	{ 0x7, 0, { 0,
		/* FSGSBASE BMI* AVX* SMEP ERMS INVPCID RDSEED ADX SMAP CLFLUSHOPT CLWB SHA */
		0xf1bf07a9 & ~(BIT(12) | BIT(13) | BIT(14) | BIT(15) | BIT(22) | BIT(25)),
		/* PKU VBMI UMIP VBMI2 GFNI VAES VPCLMUL VNNI BITALG VPOPCNTDQ LA57 RDPID MOVDIR* */
		0x18415f46 | BIT(3),
		/* 4VNNIW 4FMAPS FSRM VP2INTERSECT MD_CLEAR SERIALIZE FP16 SPEC_CTRL STIBP SSBD */
		0x8c80451c },
	  { 1, BIT(1), 0, 0 },				/* highest index, TSC_ADJUST */
	  { 0, WORD(7_EBX), WORD(7_ECX), WORD(7_EDX) } },
	{ 0x7, 1, { 0x00001c30 }, { 0 }, { 0 } },	/* AVX-VNNI BF16 FZRM FSRS FSRCS */
	/* Topology: threads are cores, of one package; the module fills in the id */
	{ 0xb, 0, { 0 }, { 0, 1, 0x100, 0 }, { 0 } },
	{ 0xb, 1, { 0 }, { 0, 0, 0x201, 0 }, { 0 } },
	{ 0xb, 2, { 0 }, { 0, 0, 2, 0 }, { 0 } },
	{ 0xd, 0, { 0 }, { 0 }, { 0 } },		/* see fixup() */
	/* XSAVEOPT XSAVEC XGETBV1 XSAVES; no supervisor state */
	{ 0xd, 1, { 0x0000000f }, { 0 }, { WORD(D_1_EAX) } },
	{ 0xd, 2, HOST, { 0 }, { 0 } }, { 0xd, 3, HOST, { 0 }, { 0 } },
	{ 0xd, 4, HOST, { 0 }, { 0 } }, { 0xd, 5, HOST, { 0 }, { 0 } },
	{ 0xd, 6, HOST, { 0 }, { 0 } }, { 0xd, 7, HOST, { 0 }, { 0 } },
	{ 0xd, 9, HOST, { 0 }, { 0 } },
	{ KVM_CPUID_SIGNATURE, -1, { 0 },		/* KVM_SIGNATURE */
	  { KVM_CPUID_FEATURES, 0x4b4d564b, 0x564b4d56, 0x4d }, { 0 } },
	{ KVM_CPUID_FEATURES, -1, { 0 }, { KVM_FEATURES }, { 0 } },
	{ VIREO_CPUID_BASE, -1, { 0 },
	  { VIREO_CPUID_FEATURES, VIREO_SIGNATURE_EBX, VIREO_SIGNATURE_ECX, VIREO_SIGNATURE_EDX },
	  { 0 } },
	{ VIREO_CPUID_FEATURES, -1, { 0 },
	  { VIREO_API_VERSION, VIREO_GUEST_HYPERCALL | VIREO_GUEST_DOORBELL }, { 0 } },
	{ 0x80000000, -1, { 0, ALL, ALL, ALL }, { 0 }, { 0 } },	/* see fixup() */
	{ 0x80000001, -1, { ALL, ALL,
		/* LAHF CR8 ABM SSE4A MISALIGNSSE PREFETCH XOP FMA4 TBM */
		0x002109f1 & ~BIT(7),
		/* as leaf 1, SYSCALL NX MMXEXT FXSR FFXSR 1GB RDTSCP LM 3DNOW */
		0xefd3a97f & ~(BIT(7) | BIT(14)) },
	  { 0, 0, 0, BIT(9) | BIT(12) },
	  { 0, 0, WORD(80000001_ECX), WORD(80000001_EDX) } },
	{ 0x80000002, -1, HOST, { 0 }, { 0 } }, { 0x80000003, -1, HOST, { 0 }, { 0 } },
	{ 0x80000004, -1, HOST, { 0 }, { 0 } }, { 0x80000005, -1, HOST, { 0 }, { 0 } },
	{ 0x80000006, -1, HOST, { 0 }, { 0 } },
	{ 0x80000007, -1, { ALL, ALL, ALL, BIT(8) }, { 0 }, { 0 } },	/* invariant TSC */
	/* CLZERO XSAVEERPTR WBNOINVD IBPB IBRS STIBP SSBD */
	{ 0x80000008, -1, { 0xffff, 0x0100d205 }, { 0 }, { 0, WORD(80000008_EBX) } },
	/* LFENCE serializes, null selectors, SRSO_NO */
	{ 0x80000021, -1, { 0x20000045 }, { 0 }, { 0 } },
};

static_assert_that(ARRAY_SIZE(leaves) <= VIREO_STATE_CPUIDS, "they fit");

/* For others the processor gives what it has for another leaf. */
static bool host_has(const struct vireo_info *info, __u32 function, int index)
{
	if (function == 0xd && index > 1 && !(info->xcr0 >> index & 1))
		return false;
	return function <= __get_cpuid_max(function & 0x80000000, NULL);
}

static unsigned int log2_up(unsigned int n)
{
	unsigned int bits = 0;

	while (BIT(bits) < n)
		bits++;
	return bits;
}

/* What depends on more than the leaf's row */
static void fixup(const struct vireo_info *info, __u32 vcpus, struct vireo_cpuid_entry *e)
{
	bool intel = info->features & VIREO_FEAT_VMX;

	switch (e->function) {
	case 0x1:
		e->ebx |= vcpus << 16;
		if (vcpus > 1)
			e->edx |= BIT(28);	/* HTT: the count above is valid */
		break;
	case 0x7:
		if (!(info->cpuid[VIREO_HOST_7_ECX] & BIT(4)))
			e->ecx &= ~BIT(3);	/* PKU is nothing without OSPKE */
		break;
	case 0xb:
		if (e->index == 1) {
			e->eax = log2_up(vcpus);
			e->ebx = vcpus;
		}
		break;
	case 0xd:
		if (!e->index) {
			e->eax = (__u32)info->xcr0;
			e->ecx = info->xsave_size;
			e->edx = (__u32)(info->xcr0 >> 32);
		}
		break;
	case KVM_CPUID_FEATURES:
		if (info->features & VIREO_FEAT_TSC_STABLE)
			e->eax |= BIT(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT);
		break;
	case 0x80000000:
		e->eax = intel ? 0x80000008 : 0x80000021;
		break;
	case 0x80000001:
		if (vcpus > 1 && !intel)
			e->ecx |= BIT(1);	/* the threads of leaf 1 are cores */
		break;
	case 0x80000008:
		if ((e->eax & 0xff) > 48)
			e->eax = (e->eax & ~0xffU) | 48;
		if (!intel)
			e->ecx = (vcpus - 1) | log2_up(vcpus) << 12;
		break;
	}
}

/**
 * vireo_cpuid_default - all that a guest of this host can be shown
 * @info: the module's
 * @vcpus: vCPUs that the VM may get: its topology
 * @entry: room for VIREO_STATE_CPUIDS
 *
 * Return: how many there are.
 */
__u32 vireo_cpuid_default(const struct vireo_info *info, __u32 vcpus,
			  struct vireo_cpuid_entry *entry)
{
	bool xsave = info->cpuid[VIREO_HOST_1_ECX] & BIT(26);
	const struct leaf *l;
	unsigned int r;
	__u32 n = 0;

	for (l = leaves; l < leaves + ARRAY_SIZE(leaves); l++) {
		struct vireo_cpuid_entry *e = &entry[n];
		__u32 reg[4] = { 0 };

		if (l->function == 0xd && !xsave)
			continue;
		*e = (struct vireo_cpuid_entry){ .function = l->function };
		if (l->index >= 0) {
			e->index = (__u32)l->index;
			e->flags = VIREO_CPUID_INDEXED;
		}
		if (host_has(info, l->function, l->index))
			__cpuid_count(e->function, e->index, reg[EAX], reg[EBX], reg[ECX],
				      reg[EDX]);
		for (r = EAX; r <= EDX; r++) {
			if (l->word[r])
				reg[r] &= info->cpuid[l->word[r] - 1];
			reg[r] = (reg[r] & l->allow[r]) | l->force[r];
		}
		e->eax = reg[EAX];
		e->ebx = reg[EBX];
		e->ecx = reg[ECX];
		e->edx = reg[EDX];
		fixup(info, vcpus, e);
		n++;
	}
	return n;
}
