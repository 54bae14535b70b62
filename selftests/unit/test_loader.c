// SPDX-License-Identifier: GPL-2.0
/*
 * The tool's kernel loader: what it must load, and what it must refuse.
 *
 * Images are made here, with the libraries that the real ones are made with.
 * Each is loaded from memory of exactly its size, so that the sanitizer sees
 * every read beyond it, into a sink that checks every write.
 */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include "harness.h"

#include "libvireo.h"

#define LOW		0x100000ULL
#define HIGH		0x4000000ULL
#define TEXT		0x1000000ULL	/* where the test kernel lies */
#define DATA		0x1200000ULL
#define TEXT_LEN	9000
#define DATA_LEN	5000
#define BSS_LEN		70000
#define ELF_LEN		(4096 + TEXT_LEN + DATA_LEN)

/* ---- A sink that remembers ---------------------------------------------------------- */

static struct {
	u8 text[TEXT_LEN], data[DATA_LEN];
	u64 bytes;
	int error;
} got;

/* Keep what of [gpa, gpa + len) lies in [base, base + room). */
static void keep(u8 *to, u64 base, u64 room, u64 gpa, const u8 *from, u64 len)
{
	u64 start = gpa > base ? gpa : base;
	u64 end = gpa + len < base + room ? gpa + len : base + room;

	if (start < end)
		memcpy(to + (start - base), from + (start - gpa), end - start);
}

static int put(void *ctx, __u64 gpa, const void *data, size_t len, struct vireo_error *err)
{
	const u8 *p = data;
	volatile u8 last;

	(void)ctx;
	ASSERT_GE(gpa, LOW);
	ASSERT_TRUE(gpa <= HIGH && len <= HIGH - gpa);
	ASSERT_GE(len, 1);
	last = p[0] ^ p[len - 1];	/* readable from end to end */
	(void)last;
	got.bytes += len;
	keep(got.text, TEXT, TEXT_LEN, gpa, p, len);
	keep(got.data, DATA, DATA_LEN, gpa, p, len);
	return got.error ? vireo_fail(err, got.error, "no more room") : 0;
}

static int load(const void *image, size_t size, struct vireo_kernel *kernel,
		struct vireo_error *err)
{
	const struct vireo_sink sink = { .write = put, .base = LOW, .end = HIGH };
	u8 *copy = malloc(size ? size : 1);
	int ret;

	memcpy(copy, image, size);
	memset(&got.bytes, 0, sizeof(got.bytes));
	memset(got.text, 0, sizeof(got.text));
	memset(got.data, 0, sizeof(got.data));
	memset(err, 0, sizeof(*err));
	ret = vireo_kernel_load(copy, size, &sink, kernel, err);
	if (ret) {
		EXPECT_EQ(err->code, -ret);
		EXPECT_NE(err->text[0], 0);
		EXPECT_THAT(!strchr(err->text, '\n'), "newline in: %s", err->text);
	} else if (kernel->header_len) {
		EXPECT_TRUE(kernel->header == copy + 0x1f1);
		EXPECT_LE(0x1f1 + kernel->header_len, size);
	}
	free(copy);
	return ret;
}

/* ---- Images ------------------------------------------------------------------------- */

static u8 byte_at(unsigned int i)
{
	return (u8)(i * 7 + i / 253 + 1);
}

static Elf64_Ehdr *ehdr(u8 *image)
{
	return (Elf64_Ehdr *)image;
}

static Elf64_Phdr *phdr(u8 *image, unsigned int i)
{
	return (Elf64_Phdr *)(image + sizeof(Elf64_Ehdr)) + i;
}

static void make_elf(u8 *image)
{
	static const struct {
		u32 namesz, descsz, type;
		char name[4];
		u32 entry;
	} __packed note = { 4, 4, 18, "Xen", TEXT + 64 };
	unsigned int i;

	memset(image, 0, 4096);
	*ehdr(image) = (Elf64_Ehdr){
		.e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
		.e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = EV_CURRENT,
		.e_entry = TEXT + 16, .e_phoff = sizeof(Elf64_Ehdr),
		.e_ehsize = sizeof(Elf64_Ehdr), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 3,
	};
	*phdr(image, 0) = (Elf64_Phdr){
		.p_type = PT_LOAD, .p_offset = 4096, .p_paddr = TEXT,
		.p_filesz = TEXT_LEN, .p_memsz = TEXT_LEN,
	};
	*phdr(image, 1) = (Elf64_Phdr){
		.p_type = PT_LOAD, .p_offset = 4096 + TEXT_LEN, .p_paddr = DATA,
		.p_filesz = DATA_LEN, .p_memsz = DATA_LEN + BSS_LEN,
	};
	*phdr(image, 2) = (Elf64_Phdr){
		.p_type = PT_NOTE, .p_offset = 512, .p_filesz = sizeof(note),
		.p_memsz = sizeof(note),
	};
	memcpy(image + 512, &note, sizeof(note));
	for (i = 0; i < TEXT_LEN + DATA_LEN; i++)
		image[4096 + i] = byte_at(i);
}

static void put32(u8 *p, u32 v)
{
	memcpy(p, &v, 4);
}

enum packing { GZIP, XZ, LZ4, ZSTD, PACKINGS };

static size_t pack(enum packing how, const u8 *in, size_t len, u8 *out, size_t room)
{
	z_stream z = { .next_in = (u8 *)in, .avail_in = len, .next_out = out, .avail_out = room };
	size_t n = 0;

	switch (how) {
	case GZIP:
		ASSERT_EQ(deflateInit2(&z, 9, Z_DEFLATED, 31, 9, 0), Z_OK);
		ASSERT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
		n = z.total_out;
		deflateEnd(&z);
		break;
	case XZ:
		ASSERT_EQ(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC32, NULL, in, len, out, &n,
						  room), LZMA_OK);
		break;
	case LZ4:
		put32(out, 0x184c2102);
		n = LZ4_compress_default((const char *)in, (char *)out + 8, len, room - 8);
		put32(out + 4, n);
		n += 8;
		break;
	default:
		n = ZSTD_compress(out, room, in, len, 19);
		ASSERT_TRUE(!ZSTD_isError(n));
	}
	if (how != GZIP) {
		put32(out + n, len);
		n += 4;
	}
	return n;
}

#define SETUP		1024	/* two sectors of real-mode code */
#define BZ_ROOM		(1 << 17)
#define PAYLOAD_AT	32

/* Put a header before the payload of @len bytes that is in its place; returns the size. */
static size_t finish_bz(u8 *image, size_t len)
{
	memset(image, 0, SETUP + PAYLOAD_AT);
	image[0x1f1] = 1;
	image[0x1fe] = 0x55;
	image[0x1ff] = 0xaa;
	image[0x201] = 0x6a;
	memcpy(image + 0x202, "HdrS", 4);
	image[0x206] = 0x0f;
	image[0x207] = 0x02;
	put32(image + 0x22c, 0x7fffffff);
	image[0x236] = 1;
	put32(image + 0x238, 2047);
	put32(image + 0x248, PAYLOAD_AT);
	put32(image + 0x24c, len);
	return SETUP + PAYLOAD_AT + len;
}

static size_t make_bz(u8 *image, enum packing how, const u8 *elf, size_t elf_len)
{
	u8 *payload = image + SETUP + PAYLOAD_AT;

	return finish_bz(image, pack(how, elf, elf_len, payload,
				     BZ_ROOM - SETUP - PAYLOAD_AT - 4));
}

static void expect_content(void)
{
	unsigned int i, bad = 0;

	for (i = 0; i < TEXT_LEN; i++)
		bad += got.text[i] != byte_at(i);
	for (i = 0; i < DATA_LEN; i++)
		bad += got.data[i] != byte_at(TEXT_LEN + i);
	EXPECT_EQ(bad, 0);
	EXPECT_EQ(got.bytes, TEXT_LEN + DATA_LEN);
}

static u8 elf[ELF_LEN], bz[BZ_ROOM];

/* ---- What must load ----------------------------------------------------------------- */

TEST(elf_by_pvh)
{
	struct vireo_kernel kernel;
	struct vireo_error err;

	make_elf(elf);
	ASSERT_EQ(load(elf, ELF_LEN, &kernel, &err), 0);
	expect_content();
	EXPECT_EQ(kernel.how, VIREO_ENTRY_PVH);
	EXPECT_EQ(kernel.entry, TEXT + 64);
	EXPECT_EQ(kernel.start, TEXT);
	EXPECT_EQ(kernel.end, DATA + DATA_LEN + BSS_LEN);
	EXPECT_EQ(kernel.header_len, 0);
}

TEST(bzimage_in_every_packing)
{
	struct vireo_kernel kernel;
	struct vireo_error err;
	enum packing how;
	size_t size;

	make_elf(elf);
	for (how = GZIP; how < PACKINGS; how++) {
		size = make_bz(bz, how, elf, ELF_LEN);
		ASSERT_THAT(!load(bz, size, &kernel, &err), "packing %d: %s", how, err.text);
		expect_content();
		EXPECT_EQ(kernel.how, VIREO_ENTRY_LINUX64);
		EXPECT_EQ(kernel.entry, TEXT + 16);
		EXPECT_EQ(kernel.cmdline_max, 2047);
		EXPECT_EQ(kernel.initrd_max, 0x7fffffff);
		EXPECT_EQ(kernel.header_len, 0x26c - 0x1f1);
	}
}

/* The pieces in which a large kernel arrives fit together. */
TEST(large_kernel_in_pieces)
{
	const size_t len = 12 << 20, room = len + 4096;
	u8 *big = calloc(1, room), *image = malloc(2 * room);
	struct vireo_kernel kernel;
	struct vireo_error err;
	u64 half = len / 2;
	size_t n, at = 4;
	unsigned int i;

	make_elf(big);
	for (i = 0; i < len; i += 64)
		big[4096 + i] = byte_at(i / 64);
	phdr(big, 0)->p_filesz = len;
	phdr(big, 0)->p_memsz = len;
	phdr(big, 1)->p_type = PT_NULL;
	for (i = 0; i < PACKINGS; i++) {
		n = pack(i, big, room, image + SETUP + PAYLOAD_AT,
			 2 * room - SETUP - PAYLOAD_AT - 4);
		if (i == LZ4) {		/* two blocks, as the kernel's build makes them */
			u8 *p = image + SETUP + PAYLOAD_AT;

			n = LZ4_compress_default((char *)big, (char *)p + at + 4, half, room);
			put32(p + at, n);
			at += 4 + n;
			n = LZ4_compress_default((char *)big + half, (char *)p + at + 4,
						 room - half, room);
			put32(p + at, n);
			at += 4 + n;
			put32(p + at, room);
			n = at + 4;
		}
		n = finish_bz(image, n);
		ASSERT_THAT(!load(image, n, &kernel, &err), "packing %u: %s", i, err.text);
		EXPECT_EQ(got.bytes, len);
		EXPECT_EQ(got.text[64], byte_at(1));
	}
	free(image);
	free(big);
}

/* ---- What must not ------------------------------------------------------------------ */

static void refuse(const void *image, size_t size, int code, const char *what)
{
	struct vireo_kernel kernel;
	struct vireo_error err;
	int ret = load(image, size, &kernel, &err);

	EXPECT_THAT(ret == -code, "%s: %d (%s), not %d", what, ret, err.text, -code);
}

TEST(garbage)
{
	static u8 junk[8192];
	unsigned int i;

	refuse("", 0, ENOEXEC, "empty");
	refuse(junk, sizeof(junk), ENOEXEC, "zeros");
	for (i = 0; i < sizeof(junk); i++)
		junk[i] = byte_at(i);
	refuse(junk, sizeof(junk), ENOEXEC, "pattern");
	refuse("#!/bin/sh\n", 10, ENOEXEC, "script");
	refuse("\177ELF", 4, ENOEXEC, "magic alone");
}

TEST(every_truncation)
{
	struct vireo_kernel kernel;
	struct vireo_error err;
	enum packing how;
	size_t size, n;

	make_elf(elf);
	for (n = 0; n < ELF_LEN; n += n < 600 ? 1 : 37)
		EXPECT_THAT(load(elf, n, &kernel, &err), "ELF cut to %zu loads", n);
	for (how = GZIP; how < PACKINGS; how++) {
		size = make_bz(bz, how, elf, ELF_LEN);
		for (n = 0; n < size; n += n < 1100 ? 1 : 13)
			EXPECT_THAT(load(bz, n, &kernel, &err), "bzImage %d cut to %zu", how, n);
		refuse(bz, size - 1, EINVAL, "last byte missing");
	}
}

/* A payload that was cut, while the header says that it is complete */
TEST(cut_payload)
{
	struct vireo_kernel kernel;
	struct vireo_error err;
	enum packing how;
	size_t size, cut;

	make_elf(elf);
	for (how = GZIP; how < PACKINGS; how++) {
		size = make_bz(bz, how, elf, ELF_LEN) - SETUP - PAYLOAD_AT;
		for (cut = 1; cut < size; cut += 11) {
			finish_bz(bz, size - cut);
			put32(bz + SETUP + PAYLOAD_AT + size - cut - 4, ELF_LEN);
			EXPECT_THAT(load(bz, SETUP + PAYLOAD_AT + size - cut, &kernel, &err),
				    "packing %d cut by %zu loads", how, cut);
			make_bz(bz, how, elf, ELF_LEN);
		}
	}
}

TEST(hostile_elf_header)
{
	make_elf(elf);
	ehdr(elf)->e_machine = EM_386;
	refuse(elf, ELF_LEN, ENOEXEC, "machine");
	make_elf(elf);
	elf[EI_CLASS] = ELFCLASS32;
	refuse(elf, ELF_LEN, ENOEXEC, "class");
	make_elf(elf);
	elf[EI_DATA] = ELFDATA2MSB;
	refuse(elf, ELF_LEN, ENOEXEC, "byte order");
	make_elf(elf);
	ehdr(elf)->e_type = ET_REL;
	refuse(elf, ELF_LEN, ENOEXEC, "an object file");
	make_elf(elf);
	ehdr(elf)->e_phnum = 0;
	refuse(elf, ELF_LEN, ENOEXEC, "no program header");
	ehdr(elf)->e_phnum = 0xffff;
	refuse(elf, ELF_LEN, ENOEXEC, "65535 program headers");
	make_elf(elf);
	ehdr(elf)->e_phentsize = 0;
	refuse(elf, ELF_LEN, ENOEXEC, "program headers of no size");
	make_elf(elf);
	ehdr(elf)->e_phoff = ~0ULL - 8;
	refuse(elf, ELF_LEN, ENOEXEC, "program headers that wrap");
	ehdr(elf)->e_phoff = ELF_LEN - 8;
	refuse(elf, ELF_LEN, ENOEXEC, "program headers beyond the end");
	make_elf(elf);
	phdr(elf, 0)->p_type = PT_NULL;
	phdr(elf, 1)->p_type = PT_NULL;
	refuse(elf, ELF_LEN, ENOEXEC, "nothing to load");
}

TEST(hostile_segment)
{
	static const struct {
		const char *what;
		u64 offset, paddr, filesz, memsz;
		int code;
	} bad[] = {
		{ "larger in the file", 4096, TEXT, 2, 1, ENOEXEC },
		{ "offset wraps", ~0ULL - 4, TEXT, 16, 16, ENOEXEC },
		{ "offset beyond the end", 1ULL << 40, TEXT, 16, 16, EINVAL },
		{ "file size beyond the end", 4096, TEXT, ELF_LEN, ELF_LEN, EINVAL },
		{ "below 1 MiB", 4096, LOW - 1, 16, 16, ENOMEM },
		{ "at 0", 4096, 0, 16, 16, ENOMEM },
		{ "beyond RAM", 4096, HIGH, 16, 16, ENOMEM },
		{ "across the end of RAM", 4096, HIGH - 8, 16, 16, ENOMEM },
		{ "bss beyond RAM", 4096, TEXT, 16, 1ULL << 62, ENOMEM },
		{ "bss wraps", 4096, TEXT, 16, ~0ULL, ENOMEM },
		{ "all wrap", ~0ULL, ~0ULL, ~0ULL, ~0ULL, ENOEXEC },
		{ "address wraps", 4096, ~0ULL - 4, 16, 16, ENOMEM },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		make_elf(elf);
		phdr(elf, 1)->p_offset = bad[i].offset;
		phdr(elf, 1)->p_paddr = bad[i].paddr;
		phdr(elf, 1)->p_filesz = bad[i].filesz;
		phdr(elf, 1)->p_memsz = bad[i].memsz;
		refuse(elf, ELF_LEN, bad[i].code, bad[i].what);
	}
}

TEST(hostile_entry)
{
	size_t size;

	make_elf(elf);
	put32(elf + 512 + 16, 0x2000);
	refuse(elf, ELF_LEN, ENOEXEC, "PVH entry outside");
	make_elf(elf);
	put32(elf + 512 + 8, 17);
	refuse(elf, ELF_LEN, ENOEXEC, "no PVH entry");
	make_elf(elf);
	put32(elf + 512, 0xfffffffe);
	refuse(elf, ELF_LEN, ENOEXEC, "a note's name that wraps");
	make_elf(elf);
	put32(elf + 512 + 4, 0xfffffffe);
	refuse(elf, ELF_LEN, ENOEXEC, "a note's value that wraps");
	make_elf(elf);
	phdr(elf, 2)->p_offset = ~0ULL;
	refuse(elf, ELF_LEN, ENOEXEC, "notes beyond the end");
	make_elf(elf);
	ehdr(elf)->e_entry = 0;
	size = make_bz(bz, LZ4, elf, ELF_LEN);
	refuse(bz, size, ENOEXEC, "entry outside");
}

TEST(hostile_bzimage)
{
	size_t size;

	make_elf(elf);
	size = make_bz(bz, LZ4, elf, ELF_LEN);
	bz[0x206] = 0x0b;
	refuse(bz, size, ENOEXEC, "old protocol");
	size = make_bz(bz, LZ4, elf, ELF_LEN);
	bz[0x236] = 0;
	refuse(bz, size, ENOEXEC, "32-bit kernel");
	size = make_bz(bz, LZ4, elf, ELF_LEN);
	put32(bz + 0x248, 0xffffffff);
	refuse(bz, size, EINVAL, "payload offset");
	size = make_bz(bz, LZ4, elf, ELF_LEN);
	put32(bz + 0x24c, 0xffffffff);
	refuse(bz, size, EINVAL, "payload length");
	put32(bz + 0x24c, 0);
	refuse(bz, size, EINVAL, "no payload");
	size = make_bz(bz, LZ4, elf, ELF_LEN);
	bz[0x1f1] = 0xff;
	refuse(bz, size, EINVAL, "setup sectors");
	size = make_bz(bz, LZ4, elf, ELF_LEN);
	memcpy(bz + SETUP + PAYLOAD_AT, "BZh9", 4);
	refuse(bz, size, EOPNOTSUPP, "bzip2");
	memcpy(bz + SETUP + PAYLOAD_AT, "\0\0\0\0", 4);
	refuse(bz, size, EOPNOTSUPP, "no packing");
	size = make_bz(bz, ZSTD, (const u8 *)"This is no ELF file at all.", 27);
	refuse(bz, size, ENOEXEC, "payload is no ELF");
}

TEST(bombs)
{
	const size_t len = 80 << 20;
	u8 *zeros = calloc(1, len), *image = malloc(1 << 20);
	u8 *payload = image + SETUP + PAYLOAD_AT;
	enum packing how;
	size_t n, size;

	make_elf(zeros);
	for (how = GZIP; how < PACKINGS; how++) {
		n = pack(how, zeros, len, payload, (1 << 20) - SETUP - PAYLOAD_AT - 4);
		size = finish_bz(image, n);
		refuse(image, size, EFBIG, "says that it is too large");
		/* With a lie about its size */
		if (how == GZIP)
			continue;	/* the size is part of the format */
		put32(image + size - 4, ELF_LEN);
		refuse(image, size, how == XZ ? EFBIG : EINVAL, "does not say so");
	}
	free(image);
	free(zeros);
}

TEST(sink_error)
{
	struct vireo_kernel kernel;
	struct vireo_error err;
	enum packing how;
	size_t size;

	make_elf(elf);
	got.error = ENOMEM;
	refuse(elf, ELF_LEN, ENOMEM, "ELF");
	for (how = GZIP; how < PACKINGS; how++) {
		size = make_bz(bz, how, elf, ELF_LEN);
		EXPECT_EQ(load(bz, size, &kernel, &err), -ENOMEM);
		EXPECT_EQ(strcmp(err.text, "no more room"), 0);
	}
	got.error = 0;
}

/* ---- Chance ------------------------------------------------------------------------- */

static u64 seed = 1;

static u32 rnd(u32 below)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (u32)(seed >> 33) % below;
}

static void mutate(u8 *image, size_t size, size_t hot)
{
	static const u32 edges[] = { 0, 1, 4095, 4096, 0x7fffffff, 0x80000000, 0xffffffff };
	unsigned int n = 1 + rnd(4);
	size_t at;

	while (n--) {
		at = rnd(2) ? rnd(hot) : rnd(size);
		if (rnd(2) && at + 4 <= size)
			put32(image + at, edges[rnd(ARRAY_SIZE(edges))]);
		else
			image[at] ^= 1 << rnd(8);
	}
}

TEST_LIMIT(mutations, 300)
{
	static u8 image[BZ_ROOM];
	struct vireo_kernel kernel;
	struct vireo_error err;
	unsigned int i, loaded = 0;
	size_t size[PACKINGS];
	static u8 good[PACKINGS][BZ_ROOM];
	enum packing how;

	make_elf(elf);
	for (how = GZIP; how < PACKINGS; how++)
		size[how] = make_bz(good[how], how, elf, ELF_LEN);
	for (i = 0; i < 4000; i++) {
		memcpy(image, elf, ELF_LEN);
		mutate(image, ELF_LEN, 600);
		loaded += !load(image, ELF_LEN, &kernel, &err);
		how = i % PACKINGS;
		memcpy(image, good[how], size[how]);
		mutate(image, size[how], SETUP + PAYLOAD_AT + 64);
		loaded += !load(image, size[how], &kernel, &err);
		/* The ELF file within, hostile but well packed */
		memcpy(image, elf, ELF_LEN);
		mutate(image, ELF_LEN, 300);
		load(bz, make_bz(bz, LZ4, image, ELF_LEN), &kernel, &err);
	}
	test_note("%u of %u mutants load", loaded, 2 * i);
}

TEST_MAIN()
