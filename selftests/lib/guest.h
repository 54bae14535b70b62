/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What runs inside the guest: a test program's own functions in long mode at
 * privilege level 0.  They may use nothing of the C library.
 */
#ifndef SELFTESTS_GUEST_H
#define SELFTESTS_GUEST_H

#include <vireo_hypercall.h>

#include "types.h"
#include "vm.h"

#define VEC_DE		0
#define VEC_DB		1
#define VEC_NMI		2
#define VEC_BP		3
#define VEC_OF		4
#define VEC_BR		5
#define VEC_UD		6
#define VEC_NM		7
#define VEC_DF		8
#define VEC_TS		10
#define VEC_NP		11
#define VEC_SS		12
#define VEC_GP		13
#define VEC_PF		14
#define VEC_MF		16
#define VEC_AC		17
#define VEC_XM		19

#define MSR_TSC			0x10
#define MSR_APIC_BASE		0x1b
#define MSR_SYSENTER_CS		0x174
#define MSR_SYSENTER_ESP	0x175
#define MSR_SYSENTER_EIP	0x176
#define MSR_PAT			0x277
#define MSR_TSC_DEADLINE	0x6e0
#define MSR_X2APIC		0x800
#define MSR_EFER		0xc0000080
#define MSR_STAR		0xc0000081
#define MSR_LSTAR		0xc0000082
#define MSR_CSTAR		0xc0000083
#define MSR_SFMASK		0xc0000084
#define MSR_FS_BASE		0xc0000100
#define MSR_GS_BASE		0xc0000101
#define MSR_KERNEL_GS_BASE	0xc0000102
#define MSR_TSC_AUX		0xc0000103

/* x2APIC registers: MSR_X2APIC + offset / 16 of the memory-mapped ones */
#define APIC_ID			0x802
#define APIC_VERSION		0x803
#define APIC_TPR		0x808
#define APIC_PPR		0x80a
#define APIC_EOI		0x80b
#define APIC_LDR		0x80d
#define APIC_SVR		0x80f
#define APIC_ISR		0x810
#define APIC_TMR		0x818
#define APIC_IRR		0x820
#define APIC_ESR		0x828
#define APIC_ICR		0x830
#define APIC_LVTT		0x832
#define APIC_LVT_THERMAL	0x833
#define APIC_LVT_PERF		0x834
#define APIC_LVT_LINT0		0x835
#define APIC_LVT_LINT1		0x836
#define APIC_LVT_ERROR		0x837
#define APIC_TMICT		0x838
#define APIC_TMCCT		0x839
#define APIC_TDCR		0x83e
#define APIC_SELF_IPI		0x83f

#define APIC_ENABLED		0x1ff
#define LVT_MASKED		BIT(16)
#define LVT_PERIODIC		BIT(17)
#define LVT_DEADLINE		(2U << 17)
#define ICR_LOWEST		BIT(8)
#define ICR_NMI			(4U << 8)
#define ICR_INIT		(5U << 8)
#define ICR_SIPI		(6U << 8)
#define ICR_LOGICAL		BIT(11)
#define ICR_ASSERT		BIT(14)
#define ICR_SELF		BIT(18)
#define ICR_ALL			(2U << 18)
#define ICR_OTHERS		(3U << 18)
#define ICR_DEST(id)		((u64)(id) << 32)

/* What the interrupt entry code leaves on the stack */
struct guest_frame {
	u64 r15, r14, r13, r12, r11, r10, r9, r8;
	u64 rdi, rsi, rbp, rbx, rdx, rcx, rax;
	u64 vector;
	u64 error;
	u64 rip, cs, rflags, rsp, ss;
};

struct guest_failure {
	u32 line;
	u32 vector;	/* unexpected exception, else ~0 */
	u64 file;		/* address of the string */
	u64 what;		/* likewise */
	u64 seen;
	u64 expected;
	u64 rip;
	u64 error;
	u64 cr2;
};

/* GUEST_TRY(): where to go on after a fault */
struct guest_extable {
	u64 insn;
	u64 resume;
};

typedef void (*guest_handler_t)(struct guest_frame *frame);

/*
 * Handlers by vector.  Without one an exception is a failure, unless from
 * GUEST_TRY(), and an interrupt is counted in guest_count[] and ended by EOI.
 * The C compiler must not use vector registers there: GUEST_HANDLER.
 */
#define GUEST_HANDLER	__attribute__((target("general-regs-only")))

extern guest_handler_t guest_vector[256];
extern u32 guest_count[256];
extern struct guest_failure guest_failure;

void guest_fail(const char *file, u32 line, const char *what, u64 seen,
		u64 expected) __noreturn;
extern const char guest_stubs[];
extern const struct guest_extable __start_guest_extable[];
extern const struct guest_extable __stop_guest_extable[];
void guest_return(void);
void guest_trap(struct guest_frame *frame);

#define GUEST_EQ(seen, expected) do {					\
	u64 seen_ = (u64)(seen);				\
	u64 expected_ = (u64)(expected);			\
	if (seen_ != expected_)						\
		guest_fail(__FILE__, __LINE__, #seen " == " #expected,	\
			   seen_, expected_);				\
} while (0)

#define GUEST_TRUE(cond) do {						\
	if (!(cond))							\
		guest_fail(__FILE__, __LINE__, #cond, 0, 1);		\
} while (0)

/*
 * An instruction that may fault: R11 is 0 after it, or GUEST_FAULT | vector
 * with the error code in bits 63:32.  Name "r11" as clobbered.
 */
#define GUEST_FAULT	0x100
#define GUEST_TRY(insn)							\
	"xor %%r11d, %%r11d\n1:\t" insn "\n2:\n"			\
	".pushsection guest_extable, \"aw\"\n"				\
	"\t.quad 1b, 2b\n"						\
	".popsection\n"

/* Run one instruction without operands that matter; what it raised, or 0 */
#define GUEST_FAULT_OF(insn) ({						\
	u64 fault_;						\
	asm volatile(GUEST_TRY(insn) "mov %%r11, %0"			\
		     : "=r"(fault_) : : "rax", "rbx", "rcx", "rdx", "r11", \
		       "memory", "cc");					\
	fault_;								\
})

static inline void out8(u16 port, u8 value)
{
	asm volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void out32(u16 port, u32 value)
{
	asm volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline u32 in32(u16 port)
{
	u32 value;

	asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline void guest_done(u32 value)
{
	out32(PORT_DONE, value);
}

static inline void guest_sync(u32 value)
{
	out32(PORT_SYNC, value);
}

static inline u64 rdmsr(u32 index)
{
	u32 low, high;

	asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index) : "memory");
	return low | (u64)high << 32;
}

static inline void wrmsr(u32 index, u64 value)
{
	asm volatile("wrmsr" : : "c"(index), "a"((u32)value),
		     "d"((u32)(value >> 32)) : "memory");
}

/* 0, or what GUEST_TRY() says */
static inline u64 rdmsr_try(u32 index, u64 *value)
{
	u32 low = 0, high = 0;
	u64 fault;

	asm volatile(GUEST_TRY("rdmsr") "mov %%r11, %2"
		     : "+a"(low), "+d"(high), "=r"(fault)
		     : "c"(index) : "r11", "memory", "cc");
	*value = low | (u64)high << 32;
	return fault;
}

static inline u64 wrmsr_try(u32 index, u64 value)
{
	u64 fault;

	asm volatile(GUEST_TRY("wrmsr") "mov %%r11, %0"
		     : "=r"(fault)
		     : "c"(index), "a"((u32)value), "d"((u32)(value >> 32))
		     : "r11", "memory", "cc");
	return fault;
}

struct cpuid_result {
	u32 eax, ebx, ecx, edx;
};

static inline struct cpuid_result cpuid(u32 function, u32 index)
{
	struct cpuid_result r;

	asm volatile("cpuid"
		     : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
		     : "a"(function), "c"(index) : "memory");
	return r;
}

static inline u64 read_tsc(void)
{
	u32 low, high;

	asm volatile("lfence; rdtsc; lfence" : "=a"(low), "=d"(high) : : "memory");
	return low | (u64)high << 32;
}

#define GUEST_CR(n)							\
static inline u64 read_cr##n(void)					\
{									\
	u64 value;							\
									\
	asm volatile("mov %%cr" #n ", %0" : "=r"(value) : : "memory");	\
	return value;							\
}									\
									\
static inline void write_cr##n(u64 value)				\
{									\
	asm volatile("mov %0, %%cr" #n : : "r"(value) : "memory");	\
}

GUEST_CR(0)
GUEST_CR(2)
GUEST_CR(3)
GUEST_CR(4)
GUEST_CR(8)

/* Each vendor has its own instruction; set before the guest's copy is made. */
extern u32 guest_is_intel;

static inline s64 hypercall(u64 nr, u64 a, u64 b, u64 c, u64 d)
{
	s64 ret;

	if (guest_is_intel)
		asm volatile("vmcall" : "=a"(ret)
			     : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
	else
		asm volatile("vmmcall" : "=a"(ret)
			     : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
	return ret;
}

static inline void guest_sti(void)
{
	asm volatile("sti; nop" : : : "memory");
}

static inline void guest_cli(void)
{
	asm volatile("cli" : : : "memory");
}

/* Wait with interrupts on, without a gap between STI and HLT */
static inline void guest_halt(void)
{
	asm volatile("sti; hlt; cli" : : : "memory");
}

static inline void guest_pause(void)
{
	asm volatile("pause" : : : "memory");
}

static inline void guest_eoi(void)
{
	wrmsr(APIC_EOI, 0);
}

static inline u32 guest_apic_id(void)
{
	return rdmsr(APIC_ID);
}

/* The bit of a vector in the 256-bit register at MSR @base */
static inline bool guest_apic_bit(u32 base, u32 vector)
{
	return rdmsr(base + vector / 32) >> (vector % 32) & 1;
}

#endif /* SELFTESTS_GUEST_H */
