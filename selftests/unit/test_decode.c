// SPDX-License-Identifier: GPL-2.0
/*
 * The instruction decoder: every form against encodings made by an assembler,
 * every truncation, and invariants over all short openings.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "harness.h"

#include "decode.h"

struct sample {
	const char *text;
	enum vireo_insn_mode mode;
	unsigned int len;
	const char *bytes;
	struct vireo_mmio_op op;
};

#define OP(...)			((struct vireo_mmio_op) { __VA_ARGS__ })
#define STORE(w, r)		OP(.write = true, .width = w, .reg_width = w, .reg = r)
#define STORE_HIGH(r)		OP(.write = true, .width = 1, .reg_width = 1, .reg = r, \
				   .high_byte = true)
#define STORE_IMM(w, i)		OP(.write = true, .width = w, .reg_width = w, .has_imm = true, \
				   .imm = i)
#define LOAD(w, r)		OP(.width = w, .reg_width = w, .reg = r)
#define LOAD_HIGH(r)		OP(.width = 1, .reg_width = 1, .reg = r, .high_byte = true)
#define ZERO(w, rw, r)		OP(.width = w, .reg_width = rw, .reg = r)
#define SIGN(w, rw, r)		OP(.width = w, .reg_width = rw, .reg = r, .sign_extend = true)

#define SAMPLE(mode, text, bytes, ...)	{ text, mode, sizeof(bytes) - 1, bytes, __VA_ARGS__ }
#define S16(...)		SAMPLE(VIREO_INSN_16, __VA_ARGS__)
#define S32(...)		SAMPLE(VIREO_INSN_32, __VA_ARGS__)
#define S64(...)		SAMPLE(VIREO_INSN_64, __VA_ARGS__)

#include "decode_samples.h"

#define PAGE	4096

/* Bytes that end where a page ends that nobody can read behind. */
static const u8 *at_edge(const void *bytes, unsigned int n)
{
	static u8 *page;

	if (!page) {
		page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (page == MAP_FAILED || mprotect(page + PAGE, PAGE, PROT_NONE))
			abort();
	}
	return memcpy(page + PAGE - n, bytes, n);
}

static int decode(const void *bytes, unsigned int n, enum vireo_insn_mode mode,
		  struct vireo_mmio_op *op)
{
	return vireo_mmio_decode(at_edge(bytes, n), n, mode, op);
}

static bool same_op(const struct vireo_mmio_op *a, const struct vireo_mmio_op *b)
{
	return a->len == b->len && a->width == b->width && a->reg == b->reg &&
	       a->reg_width == b->reg_width && a->write == b->write &&
	       a->high_byte == b->high_byte && a->sign_extend == b->sign_extend &&
	       a->has_imm == b->has_imm && a->imm == b->imm;
}

TEST(samples)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(samples); i++) {
		const struct sample *s = &samples[i];
		struct vireo_mmio_op want = s->op, op;
		int err = decode(s->bytes, s->len, s->mode, &op);

		want.len = s->len;
		EXPECT_THAT(!err, "%s: error %d", s->text, err);
		EXPECT_THAT(err || same_op(&op, &want),
			    "%s: len %u width %u reg %u reg_width %u write %d high %d sign %d imm %d %#llx",
			    s->text, op.len, op.width, op.reg, op.reg_width, op.write,
			    op.high_byte, op.sign_extend, op.has_imm, op.imm);
	}
}

TEST(truncated)
{
	unsigned int i, n;

	for (i = 0; i < ARRAY_SIZE(samples); i++) {
		const struct sample *s = &samples[i];
		struct vireo_mmio_op op;

		for (n = 0; n < s->len; n++) {
			int err = decode(s->bytes, n, s->mode, &op);

			EXPECT_THAT(err == -ENODATA, "%s: %d with %u bytes", s->text, err, n);
		}
	}
}

/* What stands behind the instruction does not matter, nor does n. */
TEST(trailing_bytes)
{
	unsigned int i, n;

	for (i = 0; i < ARRAY_SIZE(samples); i++) {
		const struct sample *s = &samples[i];
		u8 bytes[64];

		memset(bytes, 0x66, sizeof(bytes));
		memcpy(bytes, s->bytes, s->len);
		for (n = s->len; n <= sizeof(bytes); n++) {
			struct vireo_mmio_op want = s->op, op;

			want.len = s->len;
			EXPECT_EQ(decode(bytes, n, s->mode, &op), 0);
			EXPECT_THAT(same_op(&op, &want), "%s with %u bytes", s->text, n);
		}
	}
}

/* Adds a prefix of no effect until the instruction is too long. */
TEST(length_limit)
{
	unsigned int i, pad;

	for (i = 0; i < ARRAY_SIZE(samples); i++) {
		const struct sample *s = &samples[i];
		struct vireo_mmio_op op;
		u8 bytes[32];

		for (pad = 0; pad + s->len <= 20; pad++) {
			unsigned int len = pad + s->len;
			int want = len <= VIREO_INSN_MAX ? 0 : -EOPNOTSUPP;

			memset(bytes, 0x2e, pad);
			memcpy(bytes + pad, s->bytes, s->len);
			EXPECT_EQ(decode(bytes, len, s->mode, &op), want);
			if (!want)
				EXPECT_EQ(op.len, len);
			/* Too long already, but that is not known yet. */
			if (want)
				EXPECT_EQ(decode(bytes, 14, s->mode, &op), -ENODATA);
		}
	}
}

struct refusal {
	const char *what;
	enum vireo_insn_mode mode;
	const char *bytes;
	unsigned int len;
};

#define REFUSE(what, mode, bytes)	{ what, VIREO_INSN_##mode, bytes, sizeof(bytes) - 1 }

static const struct refusal refusals[] = {
	REFUSE("register form, 88", 64, "\x88\xc0"),
	REFUSE("register form, 89", 64, "\x89\xc0"),
	REFUSE("register form, 8a", 64, "\x8a\xc0"),
	REFUSE("register form, 8b", 64, "\x8b\xff"),
	REFUSE("register form, c6", 64, "\xc6\xc0\x00"),
	REFUSE("register form, c7", 64, "\xc7\xc0\x00\x00\x00\x00"),
	REFUSE("register form, movzx", 64, "\x0f\xb6\xc0"),
	REFUSE("register form, movsx", 64, "\x0f\xbf\xc0"),
	REFUSE("register form, movsxd", 64, "\x48\x63\xc0"),
	REFUSE("c6 /1", 64, "\xc6\x08\x00"),
	REFUSE("c7 /7", 64, "\xc7\x38\x00\x00\x00\x00"),
	REFUSE("xabort", 64, "\xc6\xf8\x00"),
	REFUSE("xbegin", 64, "\xc7\xf8\x00\x00\x00\x00"),
	REFUSE("movsxd with 16 bits", 64, "\x66\x63\x00"),
	REFUSE("arpl", 32, "\x63\x00"),
	REFUSE("arpl", 16, "\x63\x04"),
	REFUSE("lock", 64, "\xf0\x88\x00"),
	REFUSE("lock, nothing behind it", 64, "\xf0"),
	REFUSE("repne", 32, "\xf2\x88\x00"),
	REFUSE("rep", 16, "\xf3\x88\x00"),
	REFUSE("rep movsb", 64, "\xf3\xa4"),
	REFUSE("movsb", 64, "\xa4"),
	REFUSE("stosl", 64, "\xab"),
	REFUSE("add to memory", 64, "\x01\x08"),
	REFUSE("or immediate", 64, "\x83\x08\x01"),
	REFUSE("xchg", 64, "\x87\x08"),
	REFUSE("push", 64, "\xff\x30"),
	REFUSE("pop", 64, "\x8f\x00"),
	REFUSE("mov from segment", 64, "\x8c\x00"),
	REFUSE("mov to segment", 64, "\x8e\x00"),
	REFUSE("movnti", 64, "\x0f\xc3\x00"),
	REFUSE("movd", 64, "\x66\x0f\x7e\x00"),
	REFUSE("movups", 64, "\x0f\x11\x00"),
	REFUSE("movbe", 64, "\x0f\x38\xf1\x00"),
	REFUSE("cmpxchg8b", 64, "\x0f\xc7\x08"),
	REFUSE("0f 88 is a jump", 64, "\x0f\x88\x00\x00\x00\x00"),
	REFUSE("0f 63 is packsswb", 64, "\x0f\x63\x00"),
	REFUSE("b6 without 0f", 64, "\xb6\x00"),
	REFUSE("vex2", 64, "\xc5\xf8\x11\x00"),
	REFUSE("vex3", 64, "\xc4\xe1\x78\x11\x00"),
	REFUSE("evex", 64, "\x62\xf1\x7c\x48\x11\x00"),
	REFUSE("40 outside 64-bit mode is inc", 32, "\x40\x88\x00"),
	REFUSE("48 outside 64-bit mode is dec", 16, "\x48\x89\x04"),
	REFUSE("nop", 64, "\x90"),
};

TEST(refused)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(refusals); i++) {
		const struct refusal *r = &refusals[i];
		struct vireo_mmio_op op;
		int err = decode(r->bytes, r->len, r->mode, &op);

		EXPECT_THAT(err == -EOPNOTSUPP, "%s: %d", r->what, err);
	}
}

static void expect_op(const char *bytes, unsigned int len, enum vireo_insn_mode mode,
		      struct vireo_mmio_op want)
{
	struct vireo_mmio_op op;

	want.len = len;
	if (EXPECT_EQ(decode(bytes, len, mode, &op), 0))
		EXPECT_THAT(same_op(&op, &want), "%02x %02x %02x: width %u reg %u reg_width %u",
			    (u8)bytes[0], (u8)bytes[1], (u8)bytes[2], op.width, op.reg,
			    op.reg_width);
}

#define EXPECT_OP(bytes, mode, want) \
	expect_op(bytes, sizeof(bytes) - 1, VIREO_INSN_##mode, want)

TEST(prefixes)
{
	/* REX counts only before the opcode, and the last one alone. */
	EXPECT_OP("\x48\x66\x89\x00", 64, STORE(2, 0));
	EXPECT_OP("\x48\x2e\x89\x00", 64, STORE(4, 0));
	EXPECT_OP("\x4c\x67\x88\x20", 64, STORE_HIGH(0));
	EXPECT_OP("\x48\x44\x89\x00", 64, STORE(4, 8));
	EXPECT_OP("\x44\x48\x89\x00", 64, STORE(8, 0));
	/* REX.W beats 66; 66 twice is 66 once. */
	EXPECT_OP("\x66\x48\x89\x00", 64, STORE(8, 0));
	EXPECT_OP("\x66\x66\x89\x00", 64, STORE(2, 0));
	EXPECT_OP("\x66\x66\x89\x04", 16, STORE(4, 0));
	/* Any REX makes byte registers 4 to 7 the low ones. */
	EXPECT_OP("\x40\x88\x20", 64, STORE(1, 4));
	EXPECT_OP("\x88\x20", 64, STORE_HIGH(0));
	/* Byte forms do not heed the operand size. */
	EXPECT_OP("\x66\x48\x8a\x00", 64, LOAD(1, 0));
	EXPECT_OP("\x66\xc6\x00\xff", 32, STORE_IMM(1, 0xff));
	/* All segments, both sizes, in any order. */
	EXPECT_OP("\x26\x2e\x36\x3e\x64\x65\x66\x67\x8b\x00", 32, LOAD(2, 0));
	EXPECT_OP("\x67\x65\x66\x64\x3e\x36\x2e\x26\x8b\x00", 32, LOAD(2, 0));
	/* 67 decides the size of a moffs, REX.B does not change its register. */
	EXPECT_OP("\x67\xa1\x11\x22", 32, LOAD(4, 0));
	EXPECT_OP("\x67\xa1\x11\x22\x33\x44", 16, LOAD(2, 0));
	EXPECT_OP("\x67\x4d\xa3\x11\x22\x33\x44", 64, STORE(8, 0));
	/* An immediate of 4 bytes with REX.W is extended with its sign. */
	EXPECT_OP("\x48\xc7\x00\x00\x00\x00\x80", 64, STORE_IMM(8, 0xffffffff80000000ULL));
	EXPECT_OP("\x48\xc7\x00\xff\xff\xff\x7f", 64, STORE_IMM(8, 0x7fffffffULL));
	EXPECT_OP("\xc7\x00\x00\x00\x00\x80", 64, STORE_IMM(4, 0x80000000ULL));
}

/* Checks one decoded or refused opening, followed by filler up to the limit. */
static bool opening_is_sound(const u8 *bytes, enum vireo_insn_mode mode)
{
	struct vireo_mmio_op op, again;
	int err = decode(bytes, VIREO_INSN_MAX, mode, &op);

	if (err)
		return err == -EOPNOTSUPP;

	return op.len >= 2 && op.len <= VIREO_INSN_MAX &&
	       (op.width == 1 || op.width == 2 || op.width == 4 || op.width == 8) &&
	       (op.reg_width == 1 || op.reg_width == 2 || op.reg_width == 4 ||
		op.reg_width == 8) &&
	       op.reg_width >= op.width && (op.width < 8 || mode == VIREO_INSN_64) &&
	       op.reg < (mode == VIREO_INSN_64 ? 16 : 8) &&
	       (!op.high_byte || (op.reg < 4 && op.reg_width == 1)) &&
	       (!op.has_imm || (op.write && !op.reg)) &&
	       (!op.write || op.width == op.reg_width) &&
	       (op.width == 8 || op.imm >> (8 * op.width) == 0) &&
	       decode(bytes, op.len, mode, &again) == 0 && same_op(&op, &again) &&
	       decode(bytes, op.len - 1, mode, &again) == -ENODATA;
}

static bool prefixed_opening_is_sound(const char *prefix, u32 opening,
				      enum vireo_insn_mode mode)
{
	unsigned int n = strlen(prefix);
	u8 bytes[VIREO_INSN_MAX];

	memset(bytes, 0x9a, sizeof(bytes));
	memcpy(bytes, prefix, n);
	bytes[n] = opening;
	bytes[n + 1] = opening >> 8;
	bytes[n + 2] = opening >> 16;
	return opening_is_sound(bytes, mode);
}

/* 1 and 2 byte openings are among those of 3 bytes, and so are the prefixes. */
TEST_LIMIT(sweep_three_bytes, 300)
{
	int mode;
	u32 opening;

	for (mode = VIREO_INSN_16; mode <= VIREO_INSN_64; mode++)
		for (opening = 0; opening < 1 << 24; opening++)
			ASSERT_THAT(prefixed_opening_is_sound("", opening, mode),
				    "mode %d, opening (last first) %06x", mode, opening);
}

TEST_LIMIT(sweep_prefixes, 300)
{
	static const char * const prefixes[] = {
		"\x66", "\x67", "\x66\x67", "\x67\x66\x2e", "\x40", "\x44", "\x48", "\x4f",
		"\x66\x48", "\x67\x45", "\x66\x67\x4c", "\x48\x66", "\x48\x41", "\x64\x67\x66\x4f",
		"\x2e\x2e\x2e\x2e\x2e\x2e\x2e\x2e", "\x66\x66\x66\x66\x66\x66\x66\x66\x48",
		"\x67\x67\x67\x67\x67\x67\x67\x67\x67\x48", "\xf0", "\xf2\x66", "\xf3\x48",
	};
	u32 opening;
	int mode;
	int i;

	for (i = 0; i < ARRAY_SIZE(prefixes); i++)
		for (mode = VIREO_INSN_16; mode <= VIREO_INSN_64; mode++)
			/* Third byte: SIB with and without a displacement. */
			for (opening = 0; opening < 1 << 16; opening++)
				ASSERT_THAT(prefixed_opening_is_sound(prefixes[i], opening, mode) &&
					    prefixed_opening_is_sound(prefixes[i],
								      opening | 0x250000, mode),
					    "mode %d, prefixes %d, opening %04x", mode, i, opening);
}

/* An answer other than "need more" stays the same however many bytes follow. */
TEST_LIMIT(random_bytes, 300)
{
	u64 seed = 0x1234567887654321ULL;
	unsigned int i, n;

	for (i = 0; i < 2000000; i++) {
		enum vireo_insn_mode mode = i % 3;
		struct vireo_mmio_op op, last;
		u8 bytes[VIREO_INSN_MAX + 1];
		int err, before = -ENODATA;

		for (n = 0; n < sizeof(bytes); n++) {
			seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
			bytes[n] = seed >> 56;
		}
		bytes[1 + i % 2] = samples[i % ARRAY_SIZE(samples)].bytes[0];
		for (n = 0; n <= sizeof(bytes); n++) {
			err = decode(bytes, n, mode, &op);
			ASSERT_TRUE(before == -ENODATA || before == err);
			ASSERT_TRUE(before != 0 || same_op(&op, &last));
			before = err;
			last = op;
		}
		ASSERT_NE(before, -ENODATA);
	}
}

#define OLD	0x1122334455667788ULL
#define DATA	0xf1e2d3c4b5a69788ULL

TEST(load)
{
	static const struct {
		struct vireo_mmio_op op;
		u64 want;
	} loads[] = {
		{ LOAD(1, 0), 0x1122334455667788ULL },
		{ LOAD_HIGH(0), 0x1122334455668888ULL },
		{ LOAD(2, 0), 0x1122334455669788ULL },
		{ LOAD(4, 0), 0x00000000b5a69788ULL },
		{ LOAD(8, 0), DATA },
		{ ZERO(1, 2, 0), 0x1122334455660088ULL },
		{ ZERO(1, 4, 0), 0x88 },
		{ ZERO(1, 8, 0), 0x88 },
		{ ZERO(2, 4, 0), 0x9788 },
		{ ZERO(2, 8, 0), 0x9788 },
		{ SIGN(1, 2, 0), 0x112233445566ff88ULL },
		{ SIGN(1, 4, 0), 0x00000000ffffff88ULL },
		{ SIGN(1, 8, 0), 0xffffffffffffff88ULL },
		{ SIGN(2, 4, 0), 0x00000000ffff9788ULL },
		{ SIGN(2, 8, 0), 0xffffffffffff9788ULL },
		{ SIGN(4, 8, 0), 0xffffffffb5a69788ULL },
		{ SIGN(4, 4, 0), 0x00000000b5a69788ULL },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(loads); i++)
		EXPECT_EQ(vireo_mmio_load(&loads[i].op, OLD, DATA), loads[i].want);

	EXPECT_EQ(vireo_mmio_load(&SIGN(1, 8, 0), OLD, 0x7f), 0x7f);
	EXPECT_EQ(vireo_mmio_load(&SIGN(4, 8, 0), OLD, 0x80000000ULL), 0xffffffff80000000ULL);
}

TEST(store)
{
	u64 gpr[16] = { [3] = DATA, [15] = OLD };

	EXPECT_EQ(vireo_mmio_store(&STORE(1, 3), gpr), 0x88);
	EXPECT_EQ(vireo_mmio_store(&STORE_HIGH(3), gpr), 0x97);
	EXPECT_EQ(vireo_mmio_store(&STORE(2, 3), gpr), 0x9788);
	EXPECT_EQ(vireo_mmio_store(&STORE(4, 3), gpr), 0xb5a69788ULL);
	EXPECT_EQ(vireo_mmio_store(&STORE(8, 3), gpr), DATA);
	EXPECT_EQ(vireo_mmio_store(&STORE(8, 15), gpr), OLD);
	EXPECT_EQ(vireo_mmio_store(&STORE_IMM(4, 77), gpr), 77);
}

TEST_MAIN()
