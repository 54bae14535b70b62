/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Instruction decoding: the mov forms that reach MMIO, and nothing else; see
 * decode.c.
 */
#ifndef VIREO_DECODE_H
#define VIREO_DECODE_H

#include <linux/types.h>
#include <stdbool.h>

/* No x86 instruction is longer (APM vol. 3, 1.1; longer ones raise #GP). */
#define VIREO_INSN_MAX	15

/**
 * enum vireo_insn_mode - default operand and address size of the code segment
 * @VIREO_INSN_16: real mode, virtual 8086 mode, or CS.D = 0
 * @VIREO_INSN_32: CS.D = 1 outside 64-bit mode
 * @VIREO_INSN_64: EFER.LMA = 1 and CS.L = 1
 */
enum vireo_insn_mode {
	VIREO_INSN_16,
	VIREO_INSN_32,
	VIREO_INSN_64,
};

/**
 * struct vireo_mmio_op - one decoded mov between a register and memory
 * @len: length of the instruction in bytes, 1 to VIREO_INSN_MAX
 * @width: bytes accessed in memory: 1, 2, 4 or 8
 * @reg: register number in hardware order (rax, rcx, rdx, rbx, rsp, rbp, rsi,
 *	rdi, r8 to r15); 0 if @has_imm
 * @reg_width: bytes of the register a load defines: 1, 2, 4 or 8, where 4
 *	also clears the upper half; equals @width for a store
 * @write: memory is written
 * @high_byte: the register is AH, CH, DH or BH, that is bits 15:8 of @reg
 * @sign_extend: a load widens @width to @reg_width with the sign bit
 * @has_imm: a store takes @imm and not a register
 * @imm: the value to write, already extended or cut to @width bytes
 */
struct vireo_mmio_op {
	__u8 len;
	__u8 width;
	__u8 reg;
	__u8 reg_width;
	bool write;
	bool high_byte;
	bool sign_extend;
	bool has_imm;
	__u64 imm;
};

int vireo_mmio_decode(const __u8 *bytes, unsigned int n, enum vireo_insn_mode mode,
		      struct vireo_mmio_op *op);
__u64 vireo_mmio_load(const struct vireo_mmio_op *op, __u64 old_reg, __u64 data);
__u64 vireo_mmio_store(const struct vireo_mmio_op *op, const __u64 gpr[16]);

#endif /* VIREO_DECODE_H */
