// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzzing of the instruction decoder.
 *
 *	clang -g -O1 -fsanitize=fuzzer,address,undefined -I ../../tools/lib \
 *		fuzz_decode.c ../../tools/lib/decode.c
 *
 * The first byte chooses the mode, the rest is code, in a buffer of just that
 * size. Without libFuzzer (-DSTANDALONE), the program runs
 * over the files that it is given, to repeat a finding.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decode.h"

#define CHECK(cond)	do { if (!(cond)) abort(); } while (0)

static bool is_width(unsigned int width)
{
	return width == 1 || width == 2 || width == 4 || width == 8;
}

static void fuzz_mmio(const __u8 *code, unsigned int n, enum vireo_insn_mode mode)
{
	struct vireo_mmio_op op, again;
	__u64 gpr[16] = { 0x0123456789abcdefULL };
	int err = vireo_mmio_decode(code, n, mode, &op);

	if (err) {
		CHECK(err == -EOPNOTSUPP || (err == -ENODATA && n < VIREO_INSN_MAX));
		return;
	}
	CHECK(op.len && op.len <= n && op.len <= VIREO_INSN_MAX);
	CHECK(is_width(op.width) && is_width(op.reg_width) && op.reg < 16);
	CHECK(vireo_mmio_decode(code, op.len - 1, mode, &again) == -ENODATA);
	CHECK(vireo_mmio_decode(code, op.len, mode, &again) == 0);
	if (op.write)
		CHECK(op.width == 8 || vireo_mmio_store(&op, gpr) >> (8 * op.width) == 0);
	else
		vireo_mmio_load(&op, gpr[0], ~0ULL);
}

int LLVMFuzzerTestOneInput(const __u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const __u8 *data, size_t size)
{
	unsigned int n;
	__u8 *code;

	if (!size || size > 32)
		return 0;

	n = size - 1;
	code = malloc(n ? n : 1);
	CHECK(code);
	memcpy(code, data + 1, n);
	fuzz_mmio(code, n, data[0] % 3);
	free(code);
	return 0;
}

#ifdef STANDALONE
int main(int argc, char **argv)
{
	__u8 data[33];
	int i;

	for (i = 1; i < argc; i++) {
		FILE *file = fopen(argv[i], "rb");

		if (!file) {
			perror(argv[i]);
			return 1;
		}
		LLVMFuzzerTestOneInput(data, fread(data, 1, sizeof(data), file));
		fclose(file);
	}
	return 0;
}
#endif
