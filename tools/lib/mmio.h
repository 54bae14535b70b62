/* SPDX-License-Identifier: GPL-2.0 */
/* The instruction of a VIREO_EXIT_MMIO: what it does, and doing it; see mmio.c. */
#ifndef VIREO_MMIO_H
#define VIREO_MMIO_H

#include <vireo.h>

#include "decode.h"

/**
 * struct vireo_mmio - an access to what is not RAM
 * @gpa: first byte
 * @data: what is written
 * @width: 1, 2, 4 or 8 bytes, all on one page
 * @write: of memory
 * @insn: the instruction
 * @insn_len: bytes of it that are known, 0 to VIREO_INSN_MAX
 * @op: the instruction, decoded
 */
struct vireo_mmio {
	__u64 gpa;
	__u64 data;
	unsigned int width;
	bool write;
	__u8 insn[16];
	unsigned int insn_len;
	struct vireo_mmio_op op;
};

/* The data of an OUT */
static inline __u32 vireo_io_data(const struct vireo_run *run)
{
	return (__u32)(run->value & ((1ULL << 8 * run->io.width) - 1));
}

/* Those of an IN, as the processor would put them into RAX */
static inline void vireo_io_reply(struct vireo_run *run, __u32 data)
{
	__u32 mask = ~0U >> (32 - 8 * run->io.width);

	run->value = (data & mask) | (run->io.width == 4 ? 0 : run->value & ~(__u64)mask);
}

int vireo_mmio_take(const struct vireo_run *run, int mem_fd, struct vireo_mmio *m);
void vireo_mmio_reply(struct vireo_run *run, const struct vireo_mmio *m, __u64 data);

#endif /* VIREO_MMIO_H */
