// SPDX-License-Identifier: GPL-2.0
/*
 * Unpack a kernel's payload, in order and once.
 *
 * Pure: bytes in, bytes out through a callback.  The input may be hostile; at
 * most the given limit is ever passed on.  Buffers are as small as the format
 * allows, because touching a page of this process costs as much as copying it:
 * gzip and xz run in pieces through one small buffer, lz4 block by block; zstd
 * keeps all of its output as its window anyway and so gets it as the buffer.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include "libvireo.h"
#include "util.h"

#define CHUNK		(256 * 1024)		/* bytes, piece of gzip and xz */
#define LZ4_BLOCK	(8 * 1024 * 1024)	/* bytes, largest of a legacy frame */
#define BIG_PAGE	(2 * VIREO_MIB)
#define LZ4_MAGIC	0x184c2102U
#define XZ_MEMORY	(128 * VIREO_MIB)	/* most that xz may use; kernels need 33 */

/**
 * struct unpack - one payload on its way
 * @in: packed bytes
 * @in_len: how many
 * @limit: most unpacked bytes that may come
 * @done: how many have come
 * @feed: takes them
 * @ctx: its first argument
 * @err: for the reason of a failure
 */
struct unpack {
	const __u8 *in;
	size_t in_len;
	__u64 limit;
	__u64 done;
	vireo_feed_fn feed;
	void *ctx;
	struct vireo_error *err;
};

static int bad_payload(struct unpack *u, const char *what)
{
	return vireo_fail(u->err, EINVAL, "its %s payload is damaged or truncated", what);
}

static int pass_on(struct unpack *u, const void *data, size_t len)
{
	if (len > u->limit - u->done)
		return vireo_fail(u->err, EFBIG,
				  "its payload unpacks to more than the %llu bytes announced or possible",
				  u->limit);
	u->done += len;
	return len ? u->feed(u->ctx, data, len, u->err) : 0;
}

/* Large buffers in large pages, as far as the system has them; free() frees. */
static void *big_alloc(size_t size)
{
	void *buf;

	if (posix_memalign(&buf, BIG_PAGE, size))
		return NULL;
	madvise(buf, size, MADV_HUGEPAGE);
	return buf;
}

static __u32 get_le32(const __u8 *p)
{
	return p[0] | p[1] << 8 | p[2] << 16 | (__u32)p[3] << 24;
}

static int gzip_pieces(struct unpack *u, z_stream *z, __u8 *buf)
{
	int ret, status;

	do {
		z->next_out = buf;
		z->avail_out = CHUNK;
		status = inflate(z, Z_NO_FLUSH);
		if (status != Z_OK && status != Z_STREAM_END)
			return bad_payload(u, "gzip");
		ret = pass_on(u, buf, CHUNK - z->avail_out);
		if (ret)
			return ret;
	} while (status != Z_STREAM_END);
	return 0;
}

static int unpack_gzip(struct unpack *u)
{
	z_stream z = { .next_in = (Bytef *)u->in, .avail_in = (uInt)u->in_len };
	__u8 *buf;
	int ret;

	if (u->in_len > UINT32_MAX)
		return bad_payload(u, "gzip");
	buf = malloc(CHUNK);
	if (!buf || inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) {
		free(buf);
		return vireo_fail(u->err, ENOMEM, "no memory to unpack it");
	}
	ret = gzip_pieces(u, &z, buf);
	inflateEnd(&z);
	free(buf);
	return ret;
}

static int xz_pieces(struct unpack *u, lzma_stream *xz, __u8 *buf)
{
	lzma_ret status;
	int ret;

	do {
		xz->next_out = buf;
		xz->avail_out = CHUNK;
		status = lzma_code(xz, LZMA_FINISH);
		if (status == LZMA_MEMLIMIT_ERROR || status == LZMA_MEM_ERROR)
			return vireo_fail(u->err, ENOMEM, "no memory to unpack it");
		if (status != LZMA_OK && status != LZMA_STREAM_END)
			return bad_payload(u, "xz");
		ret = pass_on(u, buf, CHUNK - xz->avail_out);
		if (ret)
			return ret;
	} while (status != LZMA_STREAM_END);
	return 0;
}

static int unpack_xz(struct unpack *u)
{
	lzma_stream xz = LZMA_STREAM_INIT;
	__u8 *buf = malloc(CHUNK);
	int ret;

	if (!buf || lzma_stream_decoder(&xz, XZ_MEMORY, 0) != LZMA_OK) {
		free(buf);
		return vireo_fail(u->err, ENOMEM, "no memory to unpack it");
	}
	xz.next_in = u->in;
	xz.avail_in = u->in_len;
	ret = xz_pieces(u, &xz, buf);
	lzma_end(&xz);
	free(buf);
	return ret;
}

/* A legacy frame: the magic, then blocks of a 32-bit length and that many bytes. */
static int lz4_blocks(struct unpack *u, char *buf, int room)
{
	size_t pos = 4;
	__u32 len;
	int n, ret;

	while (pos < u->in_len) {
		if (u->in_len - pos < 4)
			return bad_payload(u, "lz4");
		len = get_le32(u->in + pos);
		pos += 4;
		if (len == LZ4_MAGIC)
			continue;
		if (!len || len > u->in_len - pos || len > LZ4_COMPRESSBOUND(LZ4_BLOCK))
			return bad_payload(u, "lz4");
		n = LZ4_decompress_safe((const char *)u->in + pos, buf, (int)len, room);
		if (n <= 0)
			return bad_payload(u, "lz4");
		ret = pass_on(u, buf, (size_t)n);
		if (ret)
			return ret;
		pos += len;
	}
	return u->done ? 0 : bad_payload(u, "lz4");
}

static int unpack_lz4(struct unpack *u)
{
	int room = u->limit < LZ4_BLOCK ? (int)u->limit : LZ4_BLOCK;
	char *buf = big_alloc((size_t)room);
	int ret;

	if (!buf)
		return vireo_fail(u->err, ENOMEM, "no memory to unpack it");
	ret = lz4_blocks(u, buf, room);
	free(buf);
	return ret;
}

static int unpack_zstd(struct unpack *u)
{
	size_t room = u->limit, n;
	void *buf = big_alloc(room);
	int ret;

	if (!buf)
		return vireo_fail(u->err, ENOMEM, "no memory to unpack it");
	n = ZSTD_decompress(buf, room, u->in, u->in_len);
	if (ZSTD_isError(n))
		ret = bad_payload(u, "zstd");
	else
		ret = pass_on(u, buf, n);
	free(buf);
	return ret;
}

static const struct {
	const char *name;
	__u8 magic[6];
	size_t magic_len;
	bool sized;	/* the kernel's build appends the length, 4 bytes */
	int (*unpack)(struct unpack *u);
} formats[] = {
	{ "gzip", { 0x1f, 0x8b }, 2, false, unpack_gzip },
	{ "xz", { 0xfd, '7', 'z', 'X', 'Z', 0 }, 6, true, unpack_xz },
	{ "lz4", { 0x02, 0x21, 0x4c, 0x18 }, 4, true, unpack_lz4 },
	{ "zstd", { 0x28, 0xb5, 0x2f, 0xfd }, 4, true, unpack_zstd },
	{ "bzip2", { 'B', 'Z', 'h' }, 3, true, NULL },
	{ "lzma", { 0x5d, 0, 0 }, 3, true, NULL },
	{ "lzo", { 0x89, 'L', 'Z', 'O' }, 4, true, NULL },
};

/**
 * vireo_payload_unpack - unpack what a bzImage carries
 * @data: the payload; its last four bytes are its unpacked length
 * @size: bytes
 * @limit: most bytes that may come out
 * @feed: takes them in order; the first time at least VIREO_FEED_HEAD or all
 * @ctx: its first argument
 * @err: why not
 *
 * Return: 0, what @feed returned, EINVAL (damaged), EFBIG (larger than @limit
 * or than announced), EOPNOTSUPP (format), ENOMEM.
 */
int vireo_payload_unpack(const __u8 *data, size_t size, __u64 limit, vireo_feed_fn feed,
			 void *ctx, struct vireo_error *err)
{
	struct unpack u = { .in = data, .limit = limit, .feed = feed, .ctx = ctx, .err = err };
	__u32 announced;
	size_t i;
	int ret;

	if (size < 16)
		return vireo_fail(err, EINVAL, "its payload is empty");
	announced = get_le32(data + size - 4);
	if (!announced || announced > limit)
		return vireo_fail(err, EFBIG,
				  "its payload unpacks to %u bytes, guest memory has room for %llu",
				  announced, limit);
	u.limit = announced;

	for (i = 0; i < ARRAY_SIZE(formats); i++) {
		if (memcmp(data, formats[i].magic, formats[i].magic_len))
			continue;
		if (!formats[i].unpack)
			return vireo_fail(err, EOPNOTSUPP,
					  "its payload is %s: only gzip, xz, lz4 and zstd are supported",
					  formats[i].name);
		u.in_len = formats[i].sized ? size - 4 : size;
		ret = formats[i].unpack(&u);
		if (!ret && u.done != announced)
			ret = bad_payload(&u, formats[i].name);
		return ret;
	}
	return vireo_fail(err, EOPNOTSUPP, "its payload is of an unknown format");
}
