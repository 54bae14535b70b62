// SPDX-License-Identifier: GPL-2.0
/* A vCPU's registers as a compact table. */
#include "libvireo.h"
#include "util.h"

/**
 * vireo_regs_brief - print where a vCPU is, in one line
 * @regs: of a vCPU
 * @out: where to
 */
void vireo_regs_brief(const struct vireo_regs *regs, FILE *out)
{
	static const char *const states[] = { "runnable", "halted", "waits for SIPI" };

	fprintf(out, "rip %016llx rsp %016llx rflags %llx cr3 %llx %s\n", regs->rip,
		regs->gpr[VIREO_RSP], regs->rflags, regs->cr3,
		regs->mp_state < ARRAY_SIZE(states) ? states[regs->mp_state] : "?");
}

/**
 * vireo_regs_print - print registers, 80 columns
 * @regs: of a vCPU
 * @out: where to
 */
void vireo_regs_print(const struct vireo_regs *regs, FILE *out)
{
	static const char *const gpr[] = {
		"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
		"r8 ", "r9 ", "r10", "r11", "r12", "r13", "r14", "r15",
	};
	static const char *const seg[VIREO_SEGS] = {
		"es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr", "gdtr", "idtr",
	};
	unsigned int i;

	fprintf(out, "  rip %016llx  rflags %016llx  events %x inject %x error %x\n",
		regs->rip, regs->rflags, regs->events, regs->inject, regs->error_code);
	for (i = 0; i < 16; i++)
		fprintf(out, "  %s %016llx%s", gpr[i], regs->gpr[i], i % 3 == 2 ? "\n" : "");
	fprintf(out, "\n  cr0 %016llx  cr2 %016llx  cr3 %016llx\n", regs->cr0, regs->cr2,
		regs->cr3);
	fprintf(out, "  cr4 %016llx  efer %llx  cr8 %llx  xcr0 %llx  mp_state %u\n", regs->cr4,
		regs->efer, regs->cr8, regs->xcr0, regs->mp_state);
	for (i = 0; i < VIREO_SEGS; i++)
		fprintf(out, "  %-4s %04x base %016llx limit %08x attr %04x\n", seg[i],
			regs->seg[i].selector, regs->seg[i].base, regs->seg[i].limit,
			regs->seg[i].attr);
	fprintf(out, "  dr6 %016llx  dr7 %016llx\n", regs->dr[4], regs->dr[5]);
}
