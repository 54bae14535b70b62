// SPDX-License-Identifier: GPL-2.0
/* A vCPU's state: registers, MSRs, extended state, local APIC. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "guest.h"
#include "harness.h"
#include "vm.h"

static struct test_vcpu *one_vcpu(struct test_vm *vm)
{
	vm_open(vm, 2);
	ASSERT_EQ(vm_add_memory(vm->fd, 0, VM_RAM), 0);
	vm_load_tables(vm);
	return vm_vcpu(vm, 0);
}

/* A new one has no state to run with: that ends this guest, and no more */
TEST(no_state)
{
	struct vireo_regs regs;
	struct test_vm vm;
	u64 value;
	int fd;

	vm_open(&vm, 1);
	fd = vm_create_vcpu(vm.fd, 0);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(vcpu_fd_get_regs(fd, &regs), 0);
	EXPECT_EQ(regs.rip | regs.cr0 | regs.cr4 | regs.efer | regs.seg[VIREO_CS].attr, 0);
	EXPECT_EQ(regs.rflags, 2);
	EXPECT_EQ(regs.xcr0, 1);
	EXPECT_EQ(vcpu_fd_get_msr(fd, 0x80f, &value), 1);
	EXPECT_EQ(value, 0);
	EXPECT_EQ(vcpu_fd_set_regs(fd, &regs), 0);
	vm.vcpu[0] = (struct test_vcpu) { .fd = fd, .vm = &vm };
	vm.vcpu[0].run = mmap(NULL, VIREO_RUN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_THAT(vm.vcpu[0].run != MAP_FAILED, "mmap of the run page");
	ASSERT_EQ(vcpu_run(&vm.vcpu[0]), 0);
	EXPECT_TRUE(vm.vcpu[0].run->exit_reason == VIREO_EXIT_SHUTDOWN ||
		    vm.vcpu[0].run->exit_reason == VIREO_EXIT_FAIL_ENTRY);
	vm_close(&vm);
}

TEST(reset_state)
{
	struct test_vcpu *vcpu, *ap;
	struct vireo_regs regs;
	struct test_vm vm;

	vcpu = one_vcpu(&vm);
	vcpu_get_regs(vcpu, &regs);
	EXPECT_EQ(regs.rip, 0xfff0);
	EXPECT_EQ(regs.seg[VIREO_CS].base, 0xffff0000);
	EXPECT_EQ(regs.seg[VIREO_CS].selector, 0xf000);
	EXPECT_EQ(regs.rflags, 2);
	EXPECT_EQ(regs.cr0, X86_CR0_ET | X86_CR0_NW | X86_CR0_CD);
	EXPECT_EQ(regs.cr4, 0);
	EXPECT_EQ(regs.efer, 0);
	EXPECT_EQ(regs.xcr0, 1);
	EXPECT_EQ(regs.dr[4], 0xffff0ff0);
	EXPECT_EQ(regs.dr[5], 0x400);
	EXPECT_EQ(regs.mp_state, VIREO_MP_RUNNABLE);
	EXPECT_EQ(regs.events, 0);
	ap = vm_vcpu(&vm, 1);
	vcpu_get_regs(ap, &regs);
	EXPECT_EQ(regs.mp_state, VIREO_MP_INIT);
}

TEST(regs_round_trip)
{
	struct vireo_regs set, get;
	struct test_vcpu *vcpu;
	struct test_vm vm;
	int i;

	vcpu = one_vcpu(&vm);
	vcpu_mode_regs(vcpu, MODE_LONG, 0xffff800000001234, &set);
	for (i = 0; i < 16; i++)
		set.gpr[i] = 0x1111111111111111ULL * i + i;
	set.rflags = 0x200ed7;
	for (i = VIREO_ES; i <= VIREO_GS; i++)
		if (i != VIREO_CS)
			set.seg[i].selector = 0x10 + i;
	set.seg[VIREO_FS].base = 0xffff888000000000;
	set.seg[VIREO_GS].base = 0x00007fff00000000;
	set.seg[VIREO_LDTR] = (struct vireo_segment) { 0x48, SEG_LDT, 0xfff, 0x5000 };
	set.seg[VIREO_GDTR].base = 0xffffffff81000000;
	set.cr2 = 0xdeadbeef0000;
	set.cr8 = 9;
	for (i = 0; i < 4; i++)
		set.dr[i] = 0xffff800000000000 + i;
	set.dr[4] = 0xffff0ff5;
	set.dr[5] = 0x455;
	set.mp_state = VIREO_MP_HALTED;
	vcpu_set_regs(vcpu, &set);
	vcpu_get_regs(vcpu, &get);
	for (i = 0; i < (int)sizeof(set); i++)
		EXPECT_THAT(((u8 *)&set)[i] == ((u8 *)&get)[i],
			    "byte %d of vireo_regs: set %#x, got %#x", i,
			    ((u8 *)&set)[i], ((u8 *)&get)[i]);
}

TEST(events_round_trip)
{
	struct vireo_regs set, get;
	struct test_vcpu *vcpu;
	struct test_vm vm;

	vcpu = one_vcpu(&vm);
	vcpu_mode_regs(vcpu, MODE_LONG, 0, &set);
	set.events = VIREO_EVENT_NMI | VIREO_EVENT_NMI_MASKED;
	set.inject = VIREO_INJECT_EXCEPTION | VIREO_INJECT_ERROR_CODE | VEC_PF;
	set.error_code = 0x15;
	vcpu_set_regs(vcpu, &set);
	vcpu_get_regs(vcpu, &get);
	EXPECT_EQ(get.events, set.events);
	EXPECT_EQ(get.inject, set.inject);
	EXPECT_EQ(get.error_code, 0x15);
	set.events = VIREO_EVENT_SHADOW;
	set.rflags = 0x202;
	set.inject = VIREO_INJECT_INTERRUPT | 0x31;
	vcpu_set_regs(vcpu, &set);
	vcpu_get_regs(vcpu, &get);
	EXPECT_EQ(get.events, set.events);
	EXPECT_EQ(get.inject, set.inject);
}

/* ---- what SET_REGS refuses ------------------------------------------------------- */

struct refusal {
	const char *what;
	u32 offset;
	u32 bytes;		/* of the field */
	u64 set;		/* bits to set */
	u64 clear;		/* and, before that, to clear */
};

#define CHANGE(name, field, set, clear)					\
	{ name, offsetof(struct vireo_regs, field),			\
	  sizeof(((struct vireo_regs *)0)->field), set, clear }

static const struct refusal refusals[] = {
	CHANGE("CR0.NW without CD", cr0, X86_CR0_NW, X86_CR0_CD),
	CHANGE("CR0 bit 32", cr0, BIT_ULL(32), 0),
	CHANGE("CR0 bit 63", cr0, BIT_ULL(63), 0),
	CHANGE("CR0.PG without PE", cr0, 0, X86_CR0_PE),
	CHANGE("CR3 beyond the physical addresses", cr3, BIT_ULL(52), 0),
	CHANGE("CR3 bit 63", cr3, BIT_ULL(63), 0),
	CHANGE("CR4 bit 15", cr4, BIT_ULL(15), 0),
	CHANGE("CR4 bit 31", cr4, BIT_ULL(31), 0),
	CHANGE("CR4 bit 32", cr4, BIT_ULL(32), 0),
	CHANGE("CR4.VMXE", cr4, BIT_ULL(13), 0),
	CHANGE("long mode without PAE", cr4, 0, X86_CR4_PAE),
	CHANGE("CR8 above 15", cr8, 16, 0),
	CHANGE("EFER bit 1", efer, BIT_ULL(1), 0),
	CHANGE("EFER bit 9", efer, BIT_ULL(9), 0),
	CHANGE("EFER.SVME", efer, BIT_ULL(12), 0),
	CHANGE("EFER bit 63", efer, BIT_ULL(63), 0),
	CHANGE("EFER.LMA without LME", efer, 0, X86_EFER_LME),
	CHANGE("DR6 bit 32", dr[4], BIT_ULL(32), 0),
	CHANGE("DR6 bit 63", dr[4], BIT_ULL(63), 0),
	CHANGE("DR7 bit 32", dr[5], BIT_ULL(32), 0),
	CHANGE("DR7 bit 63", dr[5], BIT_ULL(63), 0),
	CHANGE("CS.L and CS.D", seg[VIREO_CS].attr, 0x400, 0),
	CHANGE("segment attribute bit 12", seg[VIREO_DS].attr, 0x1000, 0),
	CHANGE("segment attribute bit 15", seg[VIREO_DS].attr, 0x8000, 0),
	CHANGE("XCR0 without x87", xcr0, 0, 1),
	CHANGE("XCR0 AVX without SSE", xcr0, 4, 2),
	CHANGE("XCR0 bit 62", xcr0, BIT_ULL(62), 0),
	CHANGE("non-canonical RIP", rip, BIT_ULL(47), 0),
	CHANGE("non-canonical RIP (high)", rip, BIT_ULL(63), 0),
	CHANGE("non-canonical FS base", seg[VIREO_FS].base, BIT_ULL(47), 0),
	CHANGE("non-canonical GS base", seg[VIREO_GS].base, BIT_ULL(62), 0),
	CHANGE("non-canonical LDTR base", seg[VIREO_LDTR].base, BIT_ULL(62), 0),
	CHANGE("non-canonical TR base", seg[VIREO_TR].base, BIT_ULL(62), 0),
	CHANGE("non-canonical GDT base", seg[VIREO_GDTR].base, BIT_ULL(47), 0),
	CHANGE("non-canonical IDT base", seg[VIREO_IDTR].base, BIT_ULL(62), 0),
	CHANGE("GDT limit above 0xffff", seg[VIREO_GDTR].limit, 0x10000, 0),
	CHANGE("IDT limit above 0xffff", seg[VIREO_IDTR].limit, 0x80000000, 0),
	CHANGE("GDT selector", seg[VIREO_GDTR].selector, 1, 0),
	CHANGE("IDT attributes", seg[VIREO_IDTR].attr, 1, 0),
	CHANGE("mp_state 3", mp_state, 3, 0),
	CHANGE("mp_state 2^31", mp_state, BIT(31), 0),
	CHANGE("unknown event", events, BIT(6), 0),
	CHANGE("unknown event 31", events, BIT(31), 0),
	CHANGE("unknown event 0", events, BIT(0), 0),
	CHANGE("error code without exception", inject, VIREO_INJECT_ERROR_CODE, 0),
	CHANGE("interrupt with error code", inject, VIREO_INJECT_INTERRUPT |
	       VIREO_INJECT_ERROR_CODE | 0x40, 0),
	CHANGE("interrupt 15", inject, VIREO_INJECT_INTERRUPT | 15, 0),
	CHANGE("vector alone", inject, 0x40, 0),
	CHANGE("NMI as exception", inject, 0x80000202, 0),
	CHANGE("software interrupt", inject, 0x80000480, 0),
	CHANGE("reserved bit of what is injected", inject, VIREO_INJECT_EXCEPTION | BIT(12) | 6, 0),
};

static void field_change(struct vireo_regs *regs, const struct refusal *r)
{
	void *field = (u8 *)regs + r->offset;
	u64 value = 0;

	memcpy(&value, field, r->bytes);
	value = (value & ~r->clear) | r->set;
	memcpy(field, &value, r->bytes);
}

static void expect_refused(struct test_vcpu *vcpu, struct vireo_regs *regs, const char *what)
{
	struct vireo_regs before, after;
	int ret;

	vcpu_get_regs(vcpu, &before);
	regs->gpr[VIREO_RAX] ^= 0x55aa;		/* would show if anything were taken */
	ret = vcpu_fd_set_regs(vcpu->fd, regs);
	EXPECT_THAT(ret == -EINVAL, "%s: %d, expected EINVAL", what, ret);
	vcpu_get_regs(vcpu, &after);
	EXPECT_THAT(!memcmp(&before, &after, sizeof(before)), "%s: state has changed", what);
	vcpu_set_regs(vcpu, &before);
}

TEST(regs_refused)
{
	struct test_vcpu *vcpu;
	struct vireo_regs regs;
	struct test_vm vm;
	unsigned int i;

	vcpu = one_vcpu(&vm);
	vcpu_mode_regs(vcpu, MODE_LONG, 0x1000, &regs);
	vcpu_set_regs(vcpu, &regs);
	for (i = 0; i < ARRAY_SIZE(refusals); i++) {
		vcpu_get_regs(vcpu, &regs);
		field_change(&regs, &refusals[i]);
		expect_refused(vcpu, &regs, refusals[i].what);
	}
}

TEST(regs_refused_events)
{
	struct test_vcpu *vcpu;
	struct vireo_regs regs;
	struct test_vm vm;

	vcpu = one_vcpu(&vm);
	vcpu_mode_regs(vcpu, MODE_LONG, 0x1000, &regs);
	vcpu_set_regs(vcpu, &regs);
	regs.inject = VIREO_INJECT_EXCEPTION | 32;
	expect_refused(vcpu, &regs, "exception 32");
	regs.inject = VIREO_INJECT_EXCEPTION | 255;
	expect_refused(vcpu, &regs, "exception 255");
	regs.inject = VIREO_INJECT_EXCEPTION | VEC_NMI;
	expect_refused(vcpu, &regs, "exception 2, which is the NMI");
}

TEST(regs_refused_modes)
{
	struct test_vcpu *vcpu;
	struct vireo_regs regs;
	struct test_vm vm;

	vcpu = one_vcpu(&vm);
	vcpu_mode_regs(vcpu, MODE_PAGING32, 0x1000, &regs);
	vcpu_set_regs(vcpu, &regs);
	regs.efer |= X86_EFER_LME;		/* with paging on, without PAE */
	expect_refused(vcpu, &regs, "LME and PG without PAE");
	vcpu_get_regs(vcpu, &regs);
	regs.cr0 &= ~X86_CR0_PE;
	expect_refused(vcpu, &regs, "PG without PE");
	vcpu_mode_regs(vcpu, MODE_LONG, 0x1000, &regs);
	regs.cr0 &= ~X86_CR0_PE;
	expect_refused(vcpu, &regs, "LME and PG without PE");
}

TEST(regs_modes_accepted)
{
	struct test_vcpu *vcpu;
	struct vireo_regs regs;
	struct test_vm vm;
	unsigned int mode;

	vcpu = one_vcpu(&vm);
	for (mode = 0; mode < MODE_COUNT; mode++) {
		vcpu_mode_regs(vcpu, mode, 0x1000, &regs);
		EXPECT_THAT(!vcpu_fd_set_regs(vcpu->fd, &regs), "%s refused",
			    vm_mode_name(mode));
	}
}

/* ---- MSRs ---------------------------------------------------------------------- */

static const struct { u32 index; u64 value; } msr_values[] = {
	{ MSR_SYSENTER_CS, 0x10 },
	{ MSR_SYSENTER_ESP, 0xffff888000001000 },
	{ MSR_SYSENTER_EIP, 0xffffffff81000000 },
	{ MSR_PAT, 0x0007010600070106 },
	{ MSR_STAR, 0x0023001000000000 },
	{ MSR_LSTAR, 0xffffffff81800000 },
	{ MSR_CSTAR, 0xffffffff81800100 },
	{ MSR_SFMASK, 0x47700 },
	{ MSR_KERNEL_GS_BASE, 0xffff88807fc00000 },
	{ MSR_TSC_AUX, 0x1003 },
	{ 0x4b564d00, 0 },
	{ 0x4b564d01, 0 },
	{ 0x4b564d03, 0 },
	{ 0x4b564d04, 0 },
};

TEST(msrs_round_trip)
{
	struct test_vcpu *vcpu;
	struct test_vm vm;
	unsigned int i;
	u64 value;

	vcpu = one_vcpu(&vm);
	for (i = 0; i < ARRAY_SIZE(msr_values); i++) {
		EXPECT_THAT(vcpu_fd_set_msr(vcpu->fd, msr_values[i].index,
					    msr_values[i].value) == 1,
			    "SET_MSRS %#x", msr_values[i].index);
		EXPECT_THAT(vcpu_fd_get_msr(vcpu->fd, msr_values[i].index, &value) == 1,
			    "GET_MSRS %#x", msr_values[i].index);
		EXPECT_THAT(value == msr_values[i].value, "MSR %#x: %#llx, expected %#llx",
			    msr_values[i].index, value, msr_values[i].value);
	}
	ASSERT_EQ(vcpu_fd_get_msr(vcpu->fd, MSR_APIC_BASE, &value), 1);
	EXPECT_EQ(value, 0xfee00d00);
}

TEST(msrs_refused)
{
	struct test_vcpu *vcpu;
	struct test_vm vm;
	u64 value;

	vcpu = one_vcpu(&vm);
	EXPECT_EQ(vcpu_fd_get_msr(vcpu->fd, 0xdeadbeef, &value), 0);
	EXPECT_EQ(vcpu_fd_set_msr(vcpu->fd, 0xdeadbeef, 0), 0);
	EXPECT_EQ(vcpu_fd_set_msr(vcpu->fd, MSR_LSTAR, BIT_ULL(60)), 0);
	EXPECT_EQ(vcpu_fd_set_msr(vcpu->fd, MSR_KERNEL_GS_BASE, BIT_ULL(63)), 0);
	EXPECT_EQ(vcpu_fd_set_msr(vcpu->fd, MSR_PAT, 2), 0);
	EXPECT_EQ(vcpu_fd_set_msr(vcpu->fd, MSR_PAT, 0xff), 0);
	EXPECT_EQ(vcpu_fd_get_msr(vcpu->fd, MSR_PAT, &value), 1);
	EXPECT_EQ(value, 0x0007040600070406);
}

/* A list ends at the first entry refused, and its number comes back */
TEST(msrs_list)
{
	struct vireo_msr list[VIREO_MAX_MSRS + 1] = {
		{ .index = MSR_LSTAR, .value = 0x1000 },
		{ .index = 0xdeadbeef },
		{ .index = MSR_CSTAR, .value = 0x2000 },
	};
	struct vireo_msrs arg = { .size = sizeof(arg), .entries = (uintptr_t)list };
	struct test_vcpu *vcpu;
	struct test_vm vm;
	u64 value;

	vcpu = one_vcpu(&vm);
	arg.count = 3;
	EXPECT_EQ(do_ioctl(vcpu->fd, VIREO_SET_MSRS, &arg), 1);
	EXPECT_EQ(vcpu_fd_get_msr(vcpu->fd, MSR_LSTAR, &value), 1);
	EXPECT_EQ(value, 0x1000);
	EXPECT_EQ(vcpu_fd_get_msr(vcpu->fd, MSR_CSTAR, &value), 1);
	EXPECT_EQ(value, 0);
	arg.count = 0;
	EXPECT_EQ(do_ioctl(vcpu->fd, VIREO_SET_MSRS, &arg), 0);
	arg.count = VIREO_MAX_MSRS + 1;
	EXPECT_LT(do_ioctl(vcpu->fd, VIREO_SET_MSRS, &arg), 0);
	EXPECT_LT(do_ioctl(vcpu->fd, VIREO_GET_MSRS, &arg), 0);
	arg.count = ~0U;
	EXPECT_LT(do_ioctl(vcpu->fd, VIREO_GET_MSRS, &arg), 0);
	arg.count = 1;
	list[0].reserved = 1;
	EXPECT_EQ(do_ioctl(vcpu->fd, VIREO_SET_MSRS, &arg), -EINVAL);
}

/* ---- extended state ---------------------------------------------------------------- */

static u8 area[65536] __aligned(64);

static int xsave_call(struct test_vcpu *vcpu, unsigned long request, u64 bytes)
{
	struct vireo_xsave arg = {
		.size = sizeof(arg), .data = (uintptr_t)area, .bytes = bytes,
	};

	return do_ioctl(vcpu->fd, request, &arg);
}

TEST(xsave_round_trip)
{
	struct test_vcpu *vcpu;
	struct test_vm vm;
	u32 size, i;

	vcpu = one_vcpu(&vm);
	size = vm.info.xsave_size;
	ASSERT_TRUE(size < sizeof(area));
	memset(area, 0xee, sizeof(area));
	ASSERT_EQ(xsave_call(vcpu, VIREO_GET_XSAVE, size), 0);
	EXPECT_EQ(area[size], 0xee);
	EXPECT_EQ(*(u32 *)(area + 24), 0x1f80);		/* MXCSR */
	EXPECT_EQ(*(u16 *)area & 0x1f3f, 0x37f & 0x1f3f); /* FCW, or 0x40 at reset */
	memset(area, 0, size);
	*(u16 *)area = 0x27f;				/* FCW */
	*(u32 *)(area + 24) = 0x9fc0;
	for (i = 0; i < 256; i++)
		area[160 + i] = i ^ 0x5a;		/* XMM0 to XMM15 */
	area[512] = 3;					/* x87 and SSE are there */
	ASSERT_EQ(xsave_call(vcpu, VIREO_SET_XSAVE, size), 0);
	memset(area, 0, sizeof(area));
	ASSERT_EQ(xsave_call(vcpu, VIREO_GET_XSAVE, size), 0);
	EXPECT_EQ(*(u16 *)area, 0x27f);
	EXPECT_EQ(*(u32 *)(area + 24), 0x9fc0);
	for (i = 0; i < 256; i++)
		EXPECT_EQ(area[160 + i], (u8)(i ^ 0x5a));
}

TEST(xsave_refused)
{
	struct test_vcpu *vcpu;
	struct test_vm vm;
	u32 size;

	vcpu = one_vcpu(&vm);
	size = vm.info.xsave_size;
	EXPECT_EQ(xsave_call(vcpu, VIREO_GET_XSAVE, size - 1), -EINVAL);
	EXPECT_EQ(xsave_call(vcpu, VIREO_GET_XSAVE, size + 1), -EINVAL);
	EXPECT_EQ(xsave_call(vcpu, VIREO_SET_XSAVE, 0), -EINVAL);
	ASSERT_EQ(xsave_call(vcpu, VIREO_GET_XSAVE, size), 0);
	*(u32 *)(area + 24) = BIT(31);			/* reserved in MXCSR */
	EXPECT_EQ(xsave_call(vcpu, VIREO_SET_XSAVE, size), -EINVAL);
	ASSERT_EQ(xsave_call(vcpu, VIREO_GET_XSAVE, size), 0);
	EXPECT_EQ(*(u32 *)(area + 24), 0x1f80);
	area[519] = 0x40;				/* unknown component 62 */
	EXPECT_EQ(xsave_call(vcpu, VIREO_SET_XSAVE, size), -EINVAL);
	ASSERT_EQ(xsave_call(vcpu, VIREO_GET_XSAVE, size), 0);
	area[512 + 24] = 1;				/* reserved in the header */
	EXPECT_EQ(xsave_call(vcpu, VIREO_SET_XSAVE, size), -EINVAL);
	ASSERT_EQ(xsave_call(vcpu, VIREO_GET_XSAVE, size), 0);
	area[527] = 0x80;				/* compacted format */
	EXPECT_EQ(xsave_call(vcpu, VIREO_SET_XSAVE, size), -EINVAL);
}

/* ---- local APIC ------------------------------------------------------------------- */

TEST(lapic_round_trip)
{
	struct vireo_lapic set, get;
	struct test_vcpu *vcpu;
	struct test_vm vm;
	int i;

	vcpu = one_vcpu(&vm);
	ASSERT_EQ(vireo_lapic_get(vcpu->fd, &set), 0);
	EXPECT_EQ(set.svr, 0xff);
	for (i = 0; i < 7; i++)
		EXPECT_EQ(set.lvt[i] & LVT_MASKED, LVT_MASKED);
	EXPECT_EQ(set.timer_left, ~0ULL);
	set.irr[2] = BIT(3);
	set.isr[4] = BIT(1) | BIT(31);
	set.svr = 0x1fe;
	set.lvt[0] = LVT_MASKED | 0x55;
	set.lvt[3] = 0x700;
	set.timer_divide = 0xb;
	set.icr = ICR_DEST(1) | 0x4031;
	ASSERT_EQ(vireo_lapic_set(vcpu->fd, &set), 0);
	ASSERT_EQ(vireo_lapic_get(vcpu->fd, &get), 0);
	for (i = 0; i < (int)sizeof(set); i++)
		EXPECT_THAT(((u8 *)&set)[i] == ((u8 *)&get)[i],
			    "byte %d of vireo_lapic: set %#x, got %#x", i,
			    ((u8 *)&set)[i], ((u8 *)&get)[i]);
}

static void lapic_refused(struct test_vcpu *vcpu, struct vireo_lapic *lapic, const char *what)
{
	struct vireo_lapic before, after;
	int ret;

	ASSERT_EQ(vireo_lapic_get(vcpu->fd, &before), 0);
	ret = vireo_lapic_set(vcpu->fd, lapic) ? errno : 0;
	EXPECT_THAT(ret == EINVAL, "%s: %d, expected EINVAL", what, ret);
	ASSERT_EQ(vireo_lapic_get(vcpu->fd, &after), 0);
	EXPECT_THAT(!memcmp(&before, &after, sizeof(before)), "%s: state has changed", what);
}

TEST(lapic_refused)
{
	struct vireo_lapic lapic;
	struct test_vcpu *vcpu;
	struct test_vm vm;

	vcpu = one_vcpu(&vm);
	ASSERT_EQ(vireo_lapic_get(vcpu->fd, &lapic), 0);
	lapic.irr[0] = 1;
	lapic_refused(vcpu, &lapic, "vector 0 requested");
	ASSERT_EQ(vireo_lapic_get(vcpu->fd, &lapic), 0);
	lapic.isr[0] = BIT(15);
	lapic_refused(vcpu, &lapic, "vector 15 in service");
	ASSERT_EQ(vireo_lapic_get(vcpu->fd, &lapic), 0);
	lapic.svr = BIT(31);
	lapic_refused(vcpu, &lapic, "reserved bit of SVR");
	ASSERT_EQ(vireo_lapic_get(vcpu->fd, &lapic), 0);
	lapic.lvt[0] |= BIT(31);
	lapic_refused(vcpu, &lapic, "reserved bit of LVT");
	ASSERT_EQ(vireo_lapic_get(vcpu->fd, &lapic), 0);
	lapic.timer_divide = BIT(31);
	lapic_refused(vcpu, &lapic, "reserved bit of the divider");
}

/* What only the processor refuses ends the run, not the host. */
TEST(entry_refused)
{
	static const u8 out[] = { 0xe6, 0x10 };
	u64 pdpte[4] = { ~0ULL, ~0ULL, ~0ULL, ~0ULL };
	struct vireo_regs regs;
	struct test_vcpu *vcpu;
	struct test_vm vm;

	vm_boot(&vm, 1, VM_RAM);
	vcpu = &vm.vcpu[0];
	if (!(vm.info.features & VIREO_FEAT_VMX))
		SKIP("AMD-V does not look at these when it enters");
	vcpu_set_code(vcpu, MODE_PAE32, out, sizeof(out));
	vcpu_get_regs(vcpu, &regs);
	regs.cr3 = VM_SCRATCH;
	vm_write(&vm, VM_SCRATCH, pdpte, sizeof(pdpte));
	vcpu_set_regs(vcpu, &regs);
	vcpu_run_exit(vcpu, VIREO_EXIT_FAIL_ENTRY);
	EXPECT_EQ(vcpu->run->end.code, 0x80000021);
	EXPECT_EQ(vcpu->run->end.info, VIREO_CHECK_PDPTE);

	vcpu_set_code(vcpu, MODE_COMPAT32, out, sizeof(out));
	vcpu_get_regs(vcpu, &regs);
	regs.rip |= 1ULL << 32;
	vcpu_set_regs(vcpu, &regs);
	vcpu_run_exit(vcpu, VIREO_EXIT_FAIL_ENTRY);
	EXPECT_EQ(vcpu->run->end.code, 0x80000021);

	/* And it goes on with good registers */
	vcpu_set_code(vcpu, MODE_LONG, out, sizeof(out));
	vcpu_run_exit(vcpu, VIREO_EXIT_IO);
}

TEST_MAIN()
