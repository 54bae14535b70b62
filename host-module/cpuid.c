// SPDX-License-Identifier: GPL-2.0
/*
 * CPUID: what a guest is told is user space's table; what differs between vCPUs, or
 * with their state, is filled in when the guest asks.  Nothing here depends on it.
 */
#include <linux/types.h>
#include <asm/processor.h>

#include "vireo.h"

/* Where a leaf is looked up: the ranges' first 64 leaves, and those of Vireo's. */
static u8 *slot(struct vireo_cpuid_table *t, u32 function)
{
	u32 low = function & 0x3fffffff;

	if ((low & ~0x13fU) || function >= 0xc0000000)
		return NULL;
	return &t->first[function >> 30][(low & 0x3f) | (low & 0x100) >> 2];
}

/* Makes the index of a table's entries. */
static int table_index(struct vireo_cpuid_table *t, u32 count)
{
	const struct vireo_cpuid_entry *e = t->e;

	for (; t->count < count; e++) {
		u8 *first = slot(t, e->function);

		if (!first || e->reserved || (e->flags & ~VIREO_CPUID_INDEXED) ||
		    (*first && e->function != e[-1].function))
			return -EINVAL;
		t->varies[t->count++] = (e->flags & VIREO_CPUID_INDEXED) || e->function == 1 ||
					e->function == 7 || e->function == 0xd;
		if (!*first)
			*first = t->count;
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
	int err = -EFAULT;

	if (c->reserved)
		return -EINVAL;
	if (c->count > VIREO_MAX_CPUID)
		return -E2BIG;
	t = kzalloc(sizeof(*t), GFP_KERNEL);
	if (!t)
		return -ENOMEM;
	if (!copy_from_user(t->e, u64_to_user_ptr(c->entries), c->count * sizeof(t->e[0])))
		err = table_index(t, c->count);
	mutex_lock(&vm->lock);
	if (!err && vm->nr_vcpus)
		err = -EBUSY;
	if (!err)
		vm->cpuid = *t;
	mutex_unlock(&vm->lock);
	kfree(t);
	return err;
}

static __always_inline void exec_answer(struct vireo_vcpu *v, const struct vireo_cpuid_entry *e)
{
	v->gpr[VIREO_RAX] = e->eax;
	v->gpr[VIREO_RBX] = e->ebx;
	v->gpr[VIREO_RCX] = e->ecx;
	v->gpr[VIREO_RDX] = e->edx;
}

/* Apart, because of what it has on its stack */
static noinline u64 guest_cr4(struct vireo_vcpu *v)
{
	struct vireo_regs r = {};

	vireo_ops->get_regs(v, &r);
	return r.cr4;
}

/* What differs between vCPUs, or with their state; one that there is none of is 0. */
static noinline void exec_varying(struct vireo_vcpu *v, const u8 *first)
{
	u32 function = v->gpr[VIREO_RAX], index = v->gpr[VIREO_RCX];
	const struct vireo_cpuid_table *t = &v->vm->cpuid;
	struct vireo_cpuid_entry out = {};
	u32 i, unused;

	for (i = first && *first ? *first - 1 : t->count; i < t->count; i++) {
		if (t->e[i].function != function)
			break;
		if (!(t->e[i].flags & VIREO_CPUID_INDEXED) || t->e[i].index == index) {
			out = t->e[i];
			break;
		}
	}
	switch (out.function) {
	case 0x1:
		out.ebx |= v->id << 24;
		if (guest_cr4(v) & X86_CR4_OSXSAVE)
			out.ecx |= BIT(27);
		break;
	case 0x7:
		if ((out.ecx & BIT(3)) && (guest_cr4(v) & X86_CR4_PKE))
			out.ecx |= BIT(4);	/* OSPKE */
		break;
	case 0xb:
		out.edx = v->id;
		break;
	case 0xd:	/* what XCR0 needs, which is the guest's here */
		if (index < 2)
			cpuid_count(0xd, index, &i, &out.ebx, &unused, &unused);
		break;
	}
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
		exec_varying(v, first);
	else
		exec_answer(v, &t->e[*first - 1]);
}
