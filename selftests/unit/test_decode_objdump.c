// SPDX-License-Identifier: GPL-2.0
/*
 * The instruction decoder against binutils: every opcode, ModRM byte and prefix
 * combination of interest is decoded by both, and what objdump says in words
 * must be what the decoder says in numbers.
 */
#include <errno.h>
#include <string.h>

#include "harness.h"

#include "decode.h"

/*
 * An instruction begins at each multiple of 16 and ends before the next, and
 * the filler behind it makes short instructions, so that objdump is in step.
 */
#define SLOT	16
#define FILLER	0x90

static const char * const modes[] = { "i8086", "i386", "i386:x86-64" };

static const char * const prefixes[] = {
	"", "\x66", "\x67", "\x66\x67", "\x2e", "\x64\x66", "\x65\x67",
	"\x40", "\x41", "\x44", "\x48", "\x4f", "\x66\x45", "\x66\x48", "\x67\x4c", "\x66\x67\x4a",
};

struct slots {
	FILE *file;
	unsigned int count;
};

static void put_slot(struct slots *s, const char *prefix, const u8 *insn, unsigned int n)
{
	unsigned int used = strlen(prefix);
	u8 slot[SLOT];

	memset(slot, FILLER, sizeof(slot));
	memcpy(slot, prefix, used);
	memcpy(slot + used, insn, n);
	fwrite(slot, sizeof(slot), 1, s->file);
	s->count++;
}

/* One opcode with every ModRM byte; a SIB byte where there is one. */
static void put_modrm(struct slots *s, const char *prefix, bool escape, u8 opcode)
{
	static const u8 sibs[] = { 0x25, 0x24, 0xcb };
	u8 insn[4] = { 0x0f, opcode };
	unsigned int at = escape ? 2 : 1;
	unsigned int modrm, i;

	insn[at - 1] = opcode;
	for (modrm = 0; modrm < 256; modrm++) {
		insn[at] = modrm;
		for (i = 0; i < ((modrm & 7) == 4 ? ARRAY_SIZE(sibs) : 1); i++) {
			insn[at + 1] = sibs[i];
			put_slot(s, prefix, insn, at + 2);
		}
	}
}

/* All forms the decoder knows with all prefixes, all other opcodes with none. */
static void put_all(struct slots *s)
{
	static const u8 one[] = {
		0x63, 0x88, 0x89, 0x8a, 0x8b, 0xa0, 0xa1, 0xa2, 0xa3, 0xc6, 0xc7,
	};
	static const u8 two[] = { 0xb6, 0xb7, 0xbe, 0xbf };
	unsigned int i, p;

	for (p = 0; p < ARRAY_SIZE(prefixes); p++) {
		for (i = 0; i < ARRAY_SIZE(one); i++)
			put_modrm(s, prefixes[p], false, one[i]);
		for (i = 0; i < ARRAY_SIZE(two); i++)
			put_modrm(s, prefixes[p], true, two[i]);
	}
	for (i = 0; i < 256; i++) {
		put_modrm(s, "", false, i);
		put_modrm(s, "", true, i);
	}
}

/* The number and width of a register by its name; false for other registers. */
static bool parse_register(const char *name, struct vireo_mmio_op *op)
{
	static const char * const names[4][16] = {
		{ "al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil", "r8b", "r9b", "r10b",
		  "r11b", "r12b", "r13b", "r14b", "r15b" },
		{ "ax", "cx", "dx", "bx", "sp", "bp", "si", "di", "r8w", "r9w", "r10w",
		  "r11w", "r12w", "r13w", "r14w", "r15w" },
		{ "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "r8d", "r9d", "r10d",
		  "r11d", "r12d", "r13d", "r14d", "r15d" },
		{ "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10",
		  "r11", "r12", "r13", "r14", "r15" },
	};
	static const char * const high[] = { "ah", "ch", "dh", "bh" };
	int w, r;

	for (w = 0; w < 4; w++) {
		for (r = 0; r < 16; r++) {
			if (strcmp(name, names[w][r]))
				continue;
			op->reg = r;
			op->reg_width = 1 << w;
			return true;
		}
	}
	for (r = 0; r < 4; r++) {
		if (strcmp(name, high[r]))
			continue;
		op->reg = r;
		op->reg_width = 1;
		op->high_byte = true;
		return true;
	}
	return false;
}

static unsigned int suffix_width(char c)
{
	return c == 'b' ? 1 : c == 'w' ? 2 : c == 'l' ? 4 : c == 'q' ? 8 : 0;
}

/* What a mnemonic says; false if it is not a mov that the decoder should know. */
static bool parse_mnemonic(const char *text, struct vireo_mmio_op *op)
{
	unsigned int n = strlen(text);

	if (!strcmp(text, "movsxd")) {
		op->width = 4;
		op->sign_extend = true;
		return true;
	}
	if (!strncmp(text, "movabs", 6) && n == 7)
		text += 3;
	else if (n == 6 && (!strncmp(text, "movz", 4) || !strncmp(text, "movs", 4)))
		op->sign_extend = text[3] == 's';
	else if (n != 4 || strncmp(text, "mov", 3))
		return false;

	/* The first suffix is the one of the memory. */
	op->width = suffix_width(text[n == 6 ? 4 : 3]);
	return op->width;
}

/* "%al,0x10(%rax,%rbx,1)": splits at the comma outside the parentheses. */
static char *split_operands(char *text)
{
	int depth = 0;

	for (; *text; text++) {
		depth += (*text == '(') - (*text == ')');
		if (*text == ',' && !depth) {
			*text = 0;
			return text + 1;
		}
	}
	return NULL;
}

static bool is_memory(const char *operand)
{
	return strchr(operand, '(') || strchr(operand, ':') || *operand == '0' || *operand == '-';
}

static bool is_plain_prefix(const char *word)
{
	static const char * const refused[] = {
		"lock", "rep", "repz", "repnz", "xacquire", "xrelease", "bnd", "notrack",
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(refused); i++)
		if (!strcmp(word, refused[i]))
			return false;
	return true;
}

/* The words of one line; false if they are no mov the decoder should know. */
static bool parse_text(char *text, struct vireo_mmio_op *op)
{
	char *word, *from, *to;
	u64 mask;

	for (word = strsep(&text, " "); word && strncmp(word, "mov", 3); word = strsep(&text, " "))
		if (!is_plain_prefix(word))
			return false;
	if (!word || !text || !parse_mnemonic(word, op))
		return false;
	from = text + strspn(text, " ");
	from[strcspn(from, "\n ")] = 0;
	to = split_operands(from);
	if (!to || is_memory(from) == is_memory(to))
		return false;

	if (is_memory(from))
		return *to == '%' && parse_register(to + 1, op);

	op->write = true;
	if (*from == '%')
		return parse_register(from + 1, op);
	if (*from != '$')
		return false;
	mask = ~0ULL >> (64 - 8 * op->width);
	op->has_imm = true;
	op->imm = strtoull(from + 1, NULL, 0) & mask;
	op->reg_width = op->width;
	return true;
}

/* " 10:\t88 00 \tmovb   %al,(%rax)"; false for lines within a slot. */
static bool parse_line(char *line, u64 *address, struct vireo_mmio_op *op, bool *known)
{
	char *bytes = strchr(line, '\t');
	char *text = bytes ? strchr(bytes + 1, '\t') : NULL;
	unsigned int len = 0;
	char *at;

	*address = strtoull(line, NULL, 16);
	if (!text || *address % SLOT)
		return false;

	*text++ = 0;
	for (at = strtok(bytes, "\t "); at; at = strtok(NULL, "\t "))
		len++;
	memset(op, 0, sizeof(*op));
	*known = parse_text(text, op);
	op->len = len;
	return true;
}

static bool same_op(const struct vireo_mmio_op *a, const struct vireo_mmio_op *b)
{
	return a->len == b->len && a->width == b->width && a->reg == b->reg &&
	       a->reg_width == b->reg_width && a->write == b->write &&
	       a->high_byte == b->high_byte && a->sign_extend == b->sign_extend &&
	       a->has_imm == b->has_imm && a->imm == b->imm;
}

/* movsxd to a 16-bit register is refused, though it exists. */
static bool is_refused(const struct vireo_mmio_op *op)
{
	return op->sign_extend && op->width == 4 && op->reg_width == 2;
}

static void compare_line(char *line, const u8 *image, int mode, unsigned int *slots,
			 unsigned int *movs)
{
	struct vireo_mmio_op want, op;
	char text[512];
	bool known;
	u64 address;
	int err;

	snprintf(text, sizeof(text), "%s", line);
	if (!parse_line(line, &address, &want, &known))
		return;

	++*slots;
	err = vireo_mmio_decode(image + address, VIREO_INSN_MAX, mode, &op);
	known = known && !is_refused(&want);
	*movs += known;
	ASSERT_THAT(known == !err, "error %d for %s", err, text);
	ASSERT_THAT(!known || same_op(&op, &want),
		    "len %u width %u reg %u reg_width %u write %d high %d sign %d imm %#llx for %s",
		    op.len, op.width, op.reg, op.reg_width, op.write, op.high_byte,
		    op.sign_extend, op.imm, text);
}

static void compare(int mode)
{
	char command[256], line[512];
	unsigned int slots = 0, movs = 0;
	struct slots s = {};
	u8 *image;
	FILE *out;

	if (system("objdump --version >/dev/null 2>&1"))
		SKIP("no objdump");
	s.file = tmpfile();
	ASSERT_TRUE(s.file);
	put_all(&s);
	rewind(s.file);
	image = malloc(SLOT * s.count);
	ASSERT_TRUE(image && fread(image, SLOT, s.count, s.file) == s.count);

	snprintf(command, sizeof(command),
		 "objdump -D -z -w -b binary -m %s -M att,suffix --insn-width=16 /proc/%d/fd/%d",
		 modes[mode], getpid(), fileno(s.file));
	out = popen(command, "r");
	ASSERT_TRUE(out);
	while (fgets(line, sizeof(line), out))
		compare_line(line, image, mode, &slots, &movs);
	pclose(out);
	fclose(s.file);
	test_note("%u instructions, %u of them mov", slots, movs);
	EXPECT_EQ(slots, s.count);
	EXPECT_GT(movs, 1000);
	free(image);
}

TEST_LIMIT(mode_16, 300)
{
	compare(VIREO_INSN_16);
}

TEST_LIMIT(mode_32, 300)
{
	compare(VIREO_INSN_32);
}

TEST_LIMIT(mode_64, 300)
{
	compare(VIREO_INSN_64);
}

TEST_MAIN()
