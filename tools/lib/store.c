// SPDX-License-Identifier: GPL-2.0
/*
 * A snapshot's directory: `memory`, `state` and `config.json`, as
 * Documentation/snapshot.rst describes them.
 *
 * All is written to PATH.new, which is locked meanwhile, and then takes the place of
 * PATH in one step: who is interrupted leaves PATH as it was, and a PATH.new that the
 * next one removes.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "libvireo.h"
#include "util.h"

#define MAGIC		"VIREOSNP"
#define GAP		(64 * VIREO_KIB)	/* smaller ones are stored as well */
#define CHUNK		VIREO_MIB
#define STATE_MAX	(256 * VIREO_MIB)

struct header {
	char magic[8];
	__u32 version;
	__u32 size;		/* of this */
	__u64 length;		/* of the file */
	__u32 crc;		/* of the file, this field being 0 */
	__u32 flags;		/* 0 */
	__u8 id[16];
	__u8 parent[16];	/* all zero: none */
	__u64 memory;		/* length of the file `memory` */
	__u64 extents;		/* follow, then the machine */
} __packed;

static_assert_that(sizeof(struct header) == 80, "the format never changes");
static_assert_that(sizeof(struct vireo_extent) == 24, "the format never changes");

static int file_fail(struct vireo_error *err, const char *verb, const struct vireo_store *s,
		     const char *file)
{
	return vireo_fail(err, errno, "cannot %s %s/%s: %s", verb, s->path, file,
			  strerror(errno));
}

/* ---- writing ---- */

static void remove_dir(int parent, const char *name)
{
	static const char *const files[] = { "memory", "state", "config.json" };
	int dir = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	size_t i;

	for (i = 0; i < ARRAY_SIZE(files) && dir >= 0; i++)
		unlinkat(dir, files[i], 0);
	if (dir >= 0)
		close(dir);
	unlinkat(parent, name, AT_REMOVEDIR);
}

/* What is there is replaced only if it is a snapshot. */
static int may_replace(const struct vireo_store *s, struct vireo_error *err)
{
	char state[PATH_MAX + 8], magic[8] = "";
	struct stat st;
	int fd;

	if (lstat(s->path, &st))
		return errno == ENOENT ? 0 : vireo_fail(err, errno, "cannot use %s: %s", s->path,
							strerror(errno));
	snprintf(state, sizeof(state), "%s/state", s->path);
	fd = open(state, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && read(fd, magic, sizeof(magic)) < 0)
		magic[0] = '\0';
	if (fd >= 0)
		close(fd);
	return !memcmp(magic, MAGIC, sizeof(magic)) ? 0 :
	       vireo_fail(err, EEXIST, "%s exists and is not a snapshot", s->path);
}

/* Make PATH.new, anew if nobody writes there. */
static int make_new(struct vireo_store *s, struct vireo_error *err)
{
	int dir;

	dir = openat(s->parent_dir, s->new_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir >= 0) {
		if (flock(dir, LOCK_EX | LOCK_NB)) {
			close(dir);
			return vireo_fail(err, EBUSY, "a snapshot is being written to %s", s->path);
		}
		remove_dir(s->parent_dir, s->new_name);
		close(dir);
	}
	if (mkdirat(s->parent_dir, s->new_name, 0700))
		return vireo_fail(err, errno, "cannot create %s.new: %s", s->path, strerror(errno));
	s->dir = openat(s->parent_dir, s->new_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir < 0 || flock(s->dir, LOCK_EX | LOCK_NB))
		return vireo_fail(err, errno, "cannot use %s.new: %s", s->path, strerror(errno));
	return 0;
}

/**
 * vireo_store_create - begin to write a snapshot
 * @s: filled in; vireo_store_close() is due in any case
 * @path: of the directory; replaced if it is a snapshot
 * @err: why not
 */
int vireo_store_create(struct vireo_store *s, const char *path, struct vireo_error *err)
{
	char dir[PATH_MAX], name[PATH_MAX];
	size_t len = strlen(path);
	int ret;

	*s = (struct vireo_store){ .dir = -1, .parent_dir = -1, .memory_fd = -1 };
	while (len > 1 && path[len - 1] == '/')
		len--;
	if (!len || len > sizeof(s->path) - 16)
		return vireo_fail(err, ENAMETOOLONG, "`%s` is not a path for a snapshot", path);
	snprintf(s->path, sizeof(s->path), "%.*s", (int)len, path);
	strcpy(dir, s->path);
	strcpy(name, s->path);
	snprintf(s->new_name, sizeof(s->new_name), "%.240s.new", basename(name));
	s->parent_dir = open(dirname(dir), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->parent_dir < 0)
		return vireo_fail(err, errno, "cannot open %s: %s", dir, strerror(errno));
	ret = may_replace(s, err);
	if (!ret)
		ret = make_new(s, err);
	if (ret)
		return ret;
	if (getrandom(s->id, sizeof(s->id), 0) != sizeof(s->id))
		return vireo_fail(err, errno, "getrandom: %s", strerror(errno));
	s->memory_fd = openat(s->dir, "memory", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return s->memory_fd < 0 ? file_fail(err, "create", s, "memory") : 0;
}

static int add_extent(struct vireo_store *s, __u64 start, __u64 end, struct vireo_error *err)
{
	struct vireo_extent *last = s->extents ? &s->extent[s->extents - 1] : NULL, *more;

	if (last && start - (last->gpa + last->bytes) < GAP) {
		last->bytes = end - last->gpa;
		return 0;
	}
	if (!(s->extents & (s->extents - 1))) {
		more = realloc(s->extent, 2 * (s->extents + 1) * sizeof(*more));
		if (!more)
			return vireo_fail(err, ENOMEM, "out of memory");
		s->extent = more;
	}
	s->extent[s->extents++] = (struct vireo_extent){ .gpa = start, .bytes = end - start };
	return 0;
}

/* All that the frozen VM has */
static int find_data(struct vireo_store *s, int memory, struct vireo_error *err)
{
	off_t start = 0, end;
	int ret = 0;

	while (!ret && (start = lseek(memory, start, SEEK_DATA)) >= 0) {
		end = lseek(memory, start, SEEK_HOLE);
		if (end < 0)
			break;
		ret = add_extent(s, (__u64)start, (__u64)end, err);
		start = end;
	}
	if (!ret && errno != ENXIO)
		ret = vireo_fail(err, errno, "cannot read guest memory: %s", strerror(errno));
	return ret;
}

/* What differs from the frozen VM of the snapshot before */
static int find_changes(struct vireo_store *s, int vm, int base, __u64 size,
			struct vireo_error *err)
{
	struct vireo_diff arg = { .size = sizeof(arg), .fd = base };
	int ret = 0;

	while (!ret && arg.start < size) {
		if (ioctl(vm, VIREO_DIFF, &arg))
			return vireo_fail(err, errno, "cannot compare memory: %s", strerror(errno));
		if (arg.end > size)
			arg.end = size;
		if (arg.start < arg.end)
			ret = add_extent(s, arg.start, arg.end, err);
		arg.start = arg.end > arg.start ? arg.end : arg.start;
	}
	return ret;
}

static bool is_zero(const __u8 *p, size_t len)
{
	return !p[0] && !memcmp(p, p + 1, len - 1);
}

/* Write what is not zero: the rest of the file has holes. */
static int write_sparse(struct vireo_store *s, const __u8 *data, size_t len, __u64 at)
{
	size_t start = 0, pos = 0;
	ssize_t n;

	while (pos < len) {
		for (start = pos; start < len && is_zero(data + start, VIREO_PAGE);)
			start += VIREO_PAGE;
		for (pos = start; pos < len && !is_zero(data + pos, VIREO_PAGE);)
			pos += VIREO_PAGE;
		for (; start < pos; start += (size_t)n) {
			n = pwrite(s->memory_fd, data + start, pos - start, (off_t)(at + start));
			if (n < 0)
				return -1;
			s->written += (__u64)n;
		}
	}
	return 0;
}

static int copy_extent(struct vireo_store *s, struct vireo_extent *e, int memory, __u8 *buf,
		       struct vireo_error *err)
{
	uLong crc = crc32(0, NULL, 0);
	__u64 at, n;

	for (at = e->gpa; at < e->gpa + e->bytes; at += n) {
		n = e->gpa + e->bytes - at < CHUNK ? e->gpa + e->bytes - at : CHUNK;
		if (pread(memory, buf, n, (off_t)at) != (ssize_t)n)
			return vireo_fail(err, EIO, "cannot read guest memory at 0x%llx", at);
		if (write_sparse(s, buf, n, at))
			return file_fail(err, "write", s, "memory");
		crc = crc32(crc, buf, (uInt)n);
		s->done += n;
		if (s->progress)
			s->progress(s);
	}
	e->crc = (__u32)crc;
	return 0;
}

/**
 * vireo_store_memory - write the memory of a VM that does not run
 * @s: after vireo_store_create(); with @progress set if it is to be called
 * @vm: the VM
 * @base: one that it has a common ancestor with: only what differs is stored; -1: all
 * @err: why not
 */
int vireo_store_memory(struct vireo_store *s, int vm, int base, struct vireo_error *err)
{
	struct vireo_get_memory get = { .size = sizeof(get) };
	int memory = ioctl(vm, VIREO_GET_MEMORY, &get), ret;
	__u8 *buf = malloc(CHUNK);
	size_t i;

	if (memory < 0 || !buf) {
		ret = vireo_fail(err, ENOMEM, "cannot read guest memory: %s", strerror(errno));
		goto out;
	}
	s->memory = (__u64)lseek(memory, 0, SEEK_END);
	if (ftruncate(s->memory_fd, (off_t)s->memory)) {
		ret = file_fail(err, "write", s, "memory");
		goto out;
	}
	ret = base < 0 ? find_data(s, memory, err) : find_changes(s, vm, base, s->memory, err);
	for (i = 0; i < s->extents; i++)
		s->total += s->extent[i].bytes;
	for (i = 0; i < s->extents && !ret; i++)
		ret = copy_extent(s, &s->extent[i], memory, buf, err);
out:
	if (memory >= 0)
		close(memory);
	free(buf);
	return ret;
}

static int write_file(struct vireo_store *s, const char *name, const void *data, size_t len,
		      struct vireo_error *err)
{
	int fd = openat(s->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), ret = 0;
	size_t at;
	ssize_t n;

	if (fd < 0)
		return file_fail(err, "create", s, name);
	for (at = 0; at < len && !ret; at += (size_t)n) {
		n = write(fd, (const char *)data + at, len - at);
		if (n < 0)
			ret = file_fail(err, "write", s, name);
	}
	if (!ret && fsync(fd))
		ret = file_fail(err, "write", s, name);
	close(fd);
	return ret;
}

static int write_state(struct vireo_store *s, const void *machine, size_t len,
		       struct vireo_error *err)
{
	size_t list = s->extents * sizeof(*s->extent), all = sizeof(struct header) + list + len;
	__u8 *data = malloc(all);
	struct header h = {
		.magic = MAGIC, .version = VIREO_SNAPSHOT_VERSION, .size = sizeof(h),
		.length = all, .memory = s->memory, .extents = s->extents,
	};
	int ret;

	if (!data)
		return vireo_fail(err, ENOMEM, "out of memory");
	memcpy(h.id, s->id, sizeof(h.id));
	memcpy(h.parent, s->parent, sizeof(h.parent));
	memcpy(data, &h, sizeof(h));
	memcpy(data + sizeof(h), s->extent, list);
	memcpy(data + sizeof(h) + list, machine, len);
	h.crc = (__u32)crc32(crc32(0, NULL, 0), data, (uInt)all);
	memcpy(data, &h, sizeof(h));
	ret = write_file(s, "state", data, all, err);
	free(data);
	return ret;
}

/* Put PATH.new in the place of PATH. */
static int take_place(struct vireo_store *s, struct vireo_error *err)
{
	char name[sizeof(s->new_name)];

	snprintf(name, sizeof(name), "%.*s", (int)(strlen(s->new_name) - 4), s->new_name);
	if (renameat2(s->parent_dir, s->new_name, s->parent_dir, name, RENAME_NOREPLACE)) {
		if (errno != EEXIST || may_replace(s, err) ||
		    renameat2(s->parent_dir, s->new_name, s->parent_dir, name, RENAME_EXCHANGE))
			return vireo_fail(err, errno, "cannot replace %s: %s", s->path,
					  strerror(errno));
		remove_dir(s->parent_dir, s->new_name);
	}
	s->new_name[0] = '\0';
	if (fsync(s->parent_dir))
		return vireo_fail(err, errno, "cannot write %s: %s", s->path, strerror(errno));
	return 0;
}

/**
 * vireo_store_commit - write the rest, and let the snapshot take its place
 * @s: after vireo_store_memory()
 * @machine: vireo_state_store()'s bytes
 * @len: how many
 * @config: text of config.json
 * @err: why not
 */
int vireo_store_commit(struct vireo_store *s, const void *machine, size_t len,
		       const char *config, struct vireo_error *err)
{
	int ret = write_state(s, machine, len, err);

	if (!ret)
		ret = write_file(s, "config.json", config, strlen(config), err);
	if (!ret && (fsync(s->memory_fd) || fsync(s->dir)))
		ret = file_fail(err, "write", s, "memory");
	return ret ? ret : take_place(s, err);
}

/** vireo_store_close - close all, and remove what was not committed; may be called twice */
void vireo_store_close(struct vireo_store *s)
{
	if (s->new_name[0] && s->dir >= 0)
		remove_dir(s->parent_dir, s->new_name);
	s->new_name[0] = '\0';
	if (s->memory_fd >= 0)
		close(s->memory_fd);
	if (s->dir >= 0)
		close(s->dir);
	if (s->parent_dir >= 0)
		close(s->parent_dir);
	s->memory_fd = -1;
	s->dir = -1;
	s->parent_dir = -1;
	free(s->extent);
	s->extent = NULL;
	s->extents = 0;
	vireo_state_close(&s->state);
}

/* ---- reading ---- */

static int read_whole(struct vireo_store *s, const char *name, __u8 **data, size_t *len,
		      struct vireo_error *err)
{
	int fd = openat(s->dir, name, O_RDONLY | O_CLOEXEC);
	size_t at = 0;
	struct stat st;
	ssize_t n = -1;

	if (fd < 0 && errno == ENOENT)
		return vireo_fail(err, ENOENT, "%s is not a snapshot: it has no %s", s->path,
				  name);
	if (fd < 0)
		return file_fail(err, "open", s, name);
	*data = NULL;
	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size < (off_t)STATE_MAX)
		*data = malloc((size_t)st.st_size + 1);
	while (*data && at < (size_t)st.st_size) {
		n = read(fd, *data + at, (size_t)st.st_size - at);
		if (n <= 0)
			break;
		at += (size_t)n;
	}
	close(fd);
	*len = at;
	if (!*data || at != (size_t)st.st_size)
		return vireo_fail(err, EIO, "cannot read %s/%s", s->path, name);
	(*data)[at] = '\0';
	return 0;
}

/** vireo_store_config - the text of config.json, to be freed; NULL: see @err */
char *vireo_store_config(struct vireo_store *s, struct vireo_error *err)
{
	__u8 *data = NULL;
	size_t len;

	if (read_whole(s, "config.json", &data, &len, err)) {
		free(data);
		return NULL;
	}
	return (char *)data;
}

static int bad_state(struct vireo_store *s, const char *why, struct vireo_error *err)
{
	return vireo_fail(err, EINVAL, "%s/state %s", s->path, why);
}

static int check_header(struct vireo_store *s, const __u8 *data, size_t len, struct header *h,
			struct vireo_error *err)
{
	static const __u8 zero[4];
	uLong crc;

	if (len < sizeof(*h) || memcmp(data, MAGIC, 8))
		return bad_state(s, "is not a snapshot's", err);
	memcpy(h, data, sizeof(*h));
	if (h->version != VIREO_SNAPSHOT_VERSION)
		return vireo_fail(err, EINVAL,
				  "%s/state has version %u, this vireo knows version %u: use a newer one",
				  s->path, h->version, VIREO_SNAPSHOT_VERSION);
	if (h->length != len)
		return bad_state(s, "is truncated", err);
	crc = crc32(crc32(0, NULL, 0), data, offsetof(struct header, crc));
	crc = crc32(crc, zero, sizeof(zero));
	crc = crc32(crc, data + offsetof(struct header, flags),
		    (uInt)(len - offsetof(struct header, flags)));
	if (crc != h->crc || h->size != sizeof(*h) || h->flags)
		return bad_state(s, "is damaged: its checksum is wrong", err);
	return 0;
}

/* In order, of whole pages, within the file */
static bool extents_are_valid(const struct vireo_store *s)
{
	__u64 at = 0;
	size_t i;

	for (i = 0; i < s->extents; i++) {
		const struct vireo_extent *e = &s->extent[i];

		if (e->gpa < at || !e->bytes || (e->gpa | e->bytes) % VIREO_PAGE ||
		    e->gpa > s->memory || e->bytes > s->memory - e->gpa)
			return false;
		at = e->gpa + e->bytes;
	}
	return true;
}

static int read_state(struct vireo_store *s, struct vireo_error *err)
{
	struct header h = { .version = 0 };
	size_t len, list;
	int ret;

	ret = read_whole(s, "state", &s->state.data, &len, err);
	if (!ret)
		ret = check_header(s, s->state.data, len, &h, err);
	if (ret)
		return ret;
	memcpy(s->id, h.id, sizeof(s->id));
	memcpy(s->parent, h.parent, sizeof(s->parent));
	s->memory = h.memory;
	s->extents = h.extents;
	if (h.extents > (len - sizeof(h)) / sizeof(*s->extent))
		return bad_state(s, "is not a snapshot's", err);
	list = h.extents * sizeof(*s->extent);
	s->extent = malloc(list + 1);
	if (!s->extent)
		return vireo_fail(err, ENOMEM, "out of memory");
	memcpy(s->extent, s->state.data + sizeof(h), list);
	if (!extents_are_valid(s))
		return bad_state(s, "is not a snapshot's", err);
	len -= sizeof(h) + list;
	memmove(s->state.data, s->state.data + sizeof(h) + list, len);
	s->state.end = len;
	s->state.load = true;
	return 0;
}

/**
 * vireo_store_open - open a snapshot to read it, and check all but the memory's content
 * @s: filled in; vireo_store_close() is due in any case
 * @path: of the directory
 * @err: why not
 */
int vireo_store_open(struct vireo_store *s, const char *path, struct vireo_error *err)
{
	struct stat st;
	int ret;

	*s = (struct vireo_store){ .dir = -1, .parent_dir = -1, .memory_fd = -1 };
	if ((size_t)snprintf(s->path, sizeof(s->path), "%s", path) >= sizeof(s->path))
		return vireo_fail(err, ENAMETOOLONG, "the path is too long");
	s->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir < 0)
		return vireo_fail(err, errno, "cannot open %s: %s", path, strerror(errno));
	ret = read_state(s, err);
	if (ret)
		return ret;
	s->memory_fd = openat(s->dir, "memory", O_RDONLY | O_CLOEXEC);
	if (s->memory_fd < 0 || fstat(s->memory_fd, &st))
		return file_fail(err, "open", s, "memory");
	if (!S_ISREG(st.st_mode) || (__u64)st.st_size != s->memory)
		return vireo_fail(err, EINVAL, "%s/memory has %lld bytes instead of %llu", s->path,
				  (long long)st.st_size, s->memory);
	return 0;
}

/* Read all content, check it, and give it to a VM if there is one. */
static int read_content(struct vireo_store *s, struct vireo_vm *vm, struct vireo_error *err)
{
	__u8 *buf = malloc(CHUNK);
	int ret = buf ? 0 : vireo_fail(err, ENOMEM, "out of memory");
	__u64 at, end, n;
	uLong crc;
	size_t i;

	for (i = 0; i < s->extents && !ret; i++) {
		end = s->extent[i].gpa + s->extent[i].bytes;
		crc = crc32(0, NULL, 0);
		for (at = s->extent[i].gpa; at < end && !ret; at += n) {
			n = end - at < CHUNK ? end - at : CHUNK;
			if (pread(s->memory_fd, buf, n, (off_t)at) != (ssize_t)n)
				ret = file_fail(err, "read", s, "memory");
			else if (vm && s->plain)
				ret = vireo_vm_write_sparse(vm, at, buf, n, err);
			else if (vm)
				ret = vireo_vm_write(vm, at, buf, n, err);
			crc = crc32(crc, buf, (uInt)n);
		}
		if (!ret && crc != s->extent[i].crc)
			ret = vireo_fail(err, EINVAL,
					 "%s/memory is damaged between 0x%llx and 0x%llx", s->path,
					 s->extent[i].gpa, end);
	}
	free(buf);
	return ret;
}

/** vireo_store_verify - compare the memory's content with its checksums */
int vireo_store_verify(struct vireo_store *s, struct vireo_error *err)
{
	return read_content(s, NULL, err);
}

static int add_ram(struct vireo_vm *vm, __u64 start, __u64 end, __u32 flags,
		   struct vireo_error *err)
{
	struct vireo_memory memory = {
		.size = sizeof(memory), .flags = flags, .gpa = start, .bytes = end - start,
	};

	if (start >= end || !ioctl(vm->fd, VIREO_ADD_MEMORY, &memory))
		return 0;
	return vireo_fail(err, errno, "cannot add RAM at 0x%llx: %s", start, strerror(errno));
}

/* RAM from @start to @end: what the file has is the file's, the rest is empty */
static int map_range(struct vireo_store *s, struct vireo_vm *vm, __u64 start, __u64 end,
		     struct vireo_error *err)
{
	__u64 from, to;
	size_t i;
	int ret = 0;

	for (i = 0; i < s->extents && !ret; i++) {
		from = s->extent[i].gpa;
		to = from + s->extent[i].bytes;
		if (from >= end || to <= start)
			continue;
		from = from < start ? start : from;
		to = to > end ? end : to;
		ret = add_ram(vm, start, from, 0, err);
		if (!ret)
			ret = add_ram(vm, from, to, VIREO_MEMORY_FILE, err);
		start = to;
	}
	return ret ? ret : add_ram(vm, start, end, 0, err);
}

static int set_file(struct vireo_store *s, struct vireo_vm *vm, struct vireo_error *err)
{
	struct vireo_set_file arg = { .size = sizeof(arg), .fd = s->memory_fd };

	if (!ioctl(vm->fd, VIREO_SET_FILE, &arg))
		return 0;
	switch (errno) {
	case ETXTBSY:
		return vireo_fail(err, errno, "%s/memory is open for writing", s->path);
	case EACCES:
		return vireo_fail(err, errno,
				  "%s/memory is not yours to hold others from writing: use --eager, or copy it",
				  s->path);
	default:
		return vireo_fail(err, errno, "cannot use %s/memory (--eager reads it): %s",
				  s->path, strerror(errno));
	}
}

/**
 * vireo_store_map - give a VM the memory of a snapshot without a parent
 * @s: the snapshot
 * @vm: without memory
 * @bytes: of RAM
 * @eager: copy all now; else the VM has the file's pages until it writes to them
 * @err: why not
 */
int vireo_store_map(struct vireo_store *s, struct vireo_vm *vm, __u64 bytes, bool eager,
		    struct vireo_error *err)
{
	__u64 low = bytes < VIREO_LOW_END ? bytes : VIREO_LOW_END;
	int ret;

	if (eager) {
		s->plain = true;
		ret = vireo_vm_add_memory(vm, bytes, err);
		return ret ? ret : read_content(s, vm, err);
	}
	ret = set_file(s, vm, err);
	if (!ret)
		ret = map_range(s, vm, 0, low, err);
	if (!ret && bytes > low)
		ret = map_range(s, vm, VIREO_HIGH_BASE, VIREO_HIGH_BASE + bytes - low, err);
	vm->memory = bytes;
	vm->low_end = low;
	vm->high_end = VIREO_HIGH_BASE + bytes - low;
	return ret;
}

/** vireo_store_apply - write what a snapshot with a parent holds over the parent's memory */
int vireo_store_apply(struct vireo_store *s, struct vireo_vm *vm, struct vireo_error *err)
{
	return read_content(s, vm, err);
}
