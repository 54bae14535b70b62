// SPDX-License-Identifier: GPL-2.0
/*
 * Instruction decoding, for MMIO.
 *
 * A guest reaches a device register with mov: the hardware reports the guest
 * physical address, so what is left to find is the direction, the width, the
 * register or immediate, and the length. Effective addresses are never
 * computed, and whatever is not one of the mov forms below is refused.
 *
 * The bytes come from the guest, which may rewrite them at any time: the caller
 * hands in a private copy. Everything here is a function of its arguments.
 *
 * Manuals: AMD APM vol. 3 chapter 1 (encoding), MOV, MOVSX, MOVSXD, MOVZX;
 * Intel SDM vol. 2 chapter 2.
 */
#include <errno.h>
#include <string.h>

#include "decode.h"
#include "util.h"

#define REX_W			0x08
#define REX_R			0x04

/* An opcode after the 0f escape, as one number. */
#define TWO_BYTE(opcode)	(0x0f00 | (opcode))

/* The bytes of one instruction and what its prefixes said. */
struct insn {
	const __u8 *bytes;
	unsigned int n;
	unsigned int pos;
	int err;		/* first failure, 0 if none */
	enum vireo_insn_mode mode;
	__u8 rex;			/* 0 if absent or not next to the opcode */
	bool lock_or_rep;
	bool operand_size;	/* 66 */
	bool address_size;	/* 67 */
};

/* The next byte; past the end 0, and the failure sticks in @insn->err. */
static __u8 insn_next(struct insn *insn)
{
	if (insn->pos < min_t(unsigned int, insn->n, VIREO_INSN_MAX))
		return insn->bytes[insn->pos++];

	if (!insn->err)
		insn->err = insn->n < VIREO_INSN_MAX ? -ENODATA : -EOPNOTSUPP;
	return 0;
}

/* The next @count bytes as a little-endian number. */
static __u64 insn_next_le(struct insn *insn, unsigned int count)
{
	unsigned int i;
	__u64 value = 0;

	for (i = 0; i < count; i++)
		value |= (__u64)insn_next(insn) << (8 * i);
	return value;
}

/* Note a legacy prefix; false if @byte is none. */
static bool insn_legacy_prefix(struct insn *insn, __u8 byte)
{
	switch (byte) {
	case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65:
		return true;	/* segment: the hardware has applied it */
	case 0x66:
		insn->operand_size = true;
		return true;
	case 0x67:
		insn->address_size = true;
		return true;
	case 0xf0: case 0xf2: case 0xf3:
		insn->lock_or_rep = true;
		return true;
	default:
		return false;
	}
}

/*
 * Consume the prefixes and return the first opcode byte. A REX prefix counts
 * only directly before the opcode; elsewhere it is ignored (APM vol. 3, 1.2.7).
 * Ends because 0, which is what insn_next() gives at the end, is no prefix.
 */
static __u8 insn_prefixes(struct insn *insn)
{
	for (;;) {
		__u8 byte = insn_next(insn);

		if (insn->mode == VIREO_INSN_64 && (byte & 0xf0) == 0x40)
			insn->rex = byte;
		else if (insn_legacy_prefix(insn, byte))
			insn->rex = 0;
		else
			return byte;
	}
}

static unsigned int insn_operand_bytes(const struct insn *insn)
{
	if (insn->rex & REX_W)
		return 8;
	return (insn->mode == VIREO_INSN_16) == insn->operand_size ? 4 : 2;
}

static unsigned int insn_address_bytes(const struct insn *insn)
{
	if (insn->mode == VIREO_INSN_64)
		return insn->address_size ? 4 : 8;
	return (insn->mode == VIREO_INSN_16) == insn->address_size ? 4 : 2;
}

/* Step over SIB and displacement of a ModRM memory operand. */
static void insn_skip_memory(struct insn *insn, __u8 modrm)
{
	unsigned int address_bytes = insn_address_bytes(insn);
	__u8 mod = modrm >> 6;
	__u8 base = modrm & 7;
	bool absolute;

	if (address_bytes != 2 && base == 4)
		base = insn_next(insn) & 7;

	absolute = mod == 0 && base == (address_bytes == 2 ? 6 : 5);
	if (mod == 1)
		insn_next(insn);
	else if (mod == 2 || absolute)
		insn_next_le(insn, min_t(unsigned int, address_bytes, 4));
}

enum {
	STORE	= 1 << 0,	/* to memory; otherwise from memory */
	MOFFS	= 1 << 1,	/* rAX and an absolute address, no ModRM */
	IMM	= 1 << 2,	/* ModRM.reg = 0 and an immediate */
	WIDEN	= 1 << 3,	/* register wider than memory */
	SIGN	= 1 << 4,	/* and filled with the sign */
};

/* Every form there is. A width of 0 stands for the operand size. */
static const struct form {
	__u16 opcode;
	__u8 width;
	__u8 flags;
} forms[] = {
	{ 0x63, 4, WIDEN | SIGN },
	{ 0x88, 1, STORE },
	{ 0x89, 0, STORE },
	{ 0x8a, 1, 0 },
	{ 0x8b, 0, 0 },
	{ 0xa0, 1, MOFFS },
	{ 0xa1, 0, MOFFS },
	{ 0xa2, 1, MOFFS | STORE },
	{ 0xa3, 0, MOFFS | STORE },
	{ 0xc6, 1, IMM | STORE },
	{ 0xc7, 0, IMM | STORE },
	{ TWO_BYTE(0xb6), 1, WIDEN },
	{ TWO_BYTE(0xb7), 2, WIDEN },
	{ TWO_BYTE(0xbe), 1, WIDEN | SIGN },
	{ TWO_BYTE(0xbf), 2, WIDEN | SIGN },
};

static const struct form *find_form(const struct insn *insn, __u16 opcode)
{
	unsigned int i;

	/*
	 * Outside 64-bit mode 63 is ARPL. With a 16-bit operand the vendors
	 * differ about the width of the access, and no compiler emits it.
	 */
	if (opcode == 0x63 &&
	    (insn->mode != VIREO_INSN_64 || insn_operand_bytes(insn) == 2))
		return NULL;

	for (i = 0; i < ARRAY_SIZE(forms); i++) {
		if (forms[i].opcode == opcode)
			return &forms[i];
	}
	return NULL;
}

/* Cut @value to its low @width bytes. */
static __u64 zero_extend(__u64 value, unsigned int width)
{
	return value & GENMASK_ULL(8 * width - 1, 0);
}

/* Spread the sign of the low @width bytes of @value over the rest. */
static __u64 sign_extend(__u64 value, unsigned int width)
{
	__u64 sign = BIT_ULL(8 * width - 1);

	return (zero_extend(value, width) ^ sign) - sign;
}

/* The ModRM byte and all that follows it; false for what is not a mov. */
static bool decode_modrm(struct insn *insn, const struct form *form,
			 struct vireo_mmio_op *op)
{
	unsigned int bytes = min_t(unsigned int, op->width, 4);
	__u8 modrm = insn_next(insn);
	__u8 reg = (modrm >> 3) & 7;

	if (modrm >> 6 == 3 || ((form->flags & IMM) && reg != 0))
		return false;

	insn_skip_memory(insn, modrm);
	if (form->flags & IMM) {	/* has 4 bytes at most and is extended with its sign */
		op->has_imm = true;
		op->imm = sign_extend(insn_next_le(insn, bytes), bytes);
		op->imm = zero_extend(op->imm, op->width);
		return true;
	}
	op->reg = reg | (insn->rex & REX_R ? 8 : 0);
	/* Without REX, byte registers 4 to 7 are AH to BH. */
	if (op->reg_width == 1 && !insn->rex && reg >= 4) {
		op->reg = reg - 4;
		op->high_byte = true;
	}
	return true;
}

/**
 * vireo_mmio_decode - decode a mov between memory and a register
 * @bytes: the instruction, in memory that the guest cannot write
 * @n: number of valid bytes; those beyond VIREO_INSN_MAX are not looked at
 * @mode: default sizes of the code segment
 * @op: the result, undefined unless 0 is returned
 *
 * Knows mov (88 to 8b, a0 to a3, c6, c7), movsx, movsxd and movzx with a memory
 * operand, with any prefixes but lock and rep.
 * Return: 0; -ENODATA if all @n bytes belong to an instruction that goes on
 * behind them; -EOPNOTSUPP if it is none of the above or has too many bytes.
 */
int vireo_mmio_decode(const __u8 *bytes, unsigned int n, enum vireo_insn_mode mode,
		      struct vireo_mmio_op *op)
{
	struct insn insn = { .bytes = bytes, .n = n, .mode = mode };
	const struct form *form;
	__u16 opcode;

	opcode = insn_prefixes(&insn);
	if (opcode == 0x0f)
		opcode = TWO_BYTE(insn_next(&insn));
	if (insn.lock_or_rep)
		return -EOPNOTSUPP;
	if (insn.err)
		return insn.err;

	form = find_form(&insn, opcode);
	if (!form)
		return -EOPNOTSUPP;

	memset(op, 0, sizeof(*op));
	op->write = form->flags & STORE;
	op->sign_extend = form->flags & SIGN;
	op->width = form->width ? form->width : insn_operand_bytes(&insn);
	op->reg_width = form->flags & WIDEN ? insn_operand_bytes(&insn) : op->width;

	if (form->flags & MOFFS)
		insn_next_le(&insn, insn_address_bytes(&insn));
	else if (!decode_modrm(&insn, form, op) && !insn.err)
		return -EOPNOTSUPP;
	if (insn.err)
		return insn.err;

	op->len = insn.pos;
	return 0;
}

/**
 * vireo_mmio_load - register value after a load
 * @op: the decoded instruction, a load
 * @old_reg: the 64-bit register @op->reg before it
 * @data: what was read; bits above @op->width are ignored
 *
 * Byte and word registers keep the bits around them; a doubleword clears the
 * upper half (APM vol. 1, 3.1.2).
 * Return: the new value of the 64-bit register @op->reg.
 */
__u64 vireo_mmio_load(const struct vireo_mmio_op *op, __u64 old_reg, __u64 data)
{
	unsigned int shift = op->high_byte ? 8 : 0;
	__u64 keep;

	if (op->sign_extend)
		data = sign_extend(data, op->width);
	else
		data = zero_extend(data, op->width);
	data = zero_extend(data, op->reg_width);

	if (op->reg_width >= 4)
		return data;

	keep = ~(zero_extend(~0ULL, op->reg_width) << shift);
	return (old_reg & keep) | (data << shift);
}

/**
 * vireo_mmio_store - value that a store writes
 * @op: the decoded instruction, a store
 * @gpr: the general registers in hardware order, see &struct vireo_mmio_op
 * Return: the value to write, zero above @op->width bytes.
 */
__u64 vireo_mmio_store(const struct vireo_mmio_op *op, const __u64 gpr[16])
{
	if (op->has_imm)
		return op->imm;
	return zero_extend(gpr[op->reg & 15] >> (op->high_byte ? 8 : 0), op->width);
}
