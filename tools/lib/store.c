// SPDX-License-Identifier: GPL-2.0
/*
 * A snapshot's directory: `memory`, `state`, `config.json` and perhaps disks, as
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
#include <linux/fs.h>
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
#define GAP		(64 * VIREO_KIB)	/* of memory: smaller ones are stored as well */
#define CHUNK		VIREO_MIB
#define STATE_MAX	(256 * VIREO_MIB)
#define PART_CONTENT	8		/* the last parts of the state are ours */

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

/* A part of the state: what a disk's file holds; the extents follow. */
struct content_part {
	__u32 part;
	__u32 number;
	__u64 length;		/* of what follows */
	__u32 kind;
	__u32 reserved;
	__u64 bytes;
	__u64 extents;
} __packed;

static_assert_that(sizeof(struct header) == 80, "the format never changes");
static_assert_that(sizeof(struct content_part) == 40, "the format never changes");
static_assert_that(sizeof(struct vireo_extent) == 24, "the format never changes");

static int file_fail(struct vireo_error *err, const char *verb, const struct vireo_store *s,
		     const char *file)
{
	return vireo_fail(err, errno, "cannot %s %s/%s: %s", verb, s->path, file,
			  strerror(errno));
}

/* ---- writing ---- */

static int remove_dir(int parent, const char *name)
{
	static const char *const files[] = { "state", "memory", "config.json" };
	int dir = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	char disk[sizeof(((struct vireo_content *)0)->name)];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(files) && dir >= 0; i++)
		unlinkat(dir, files[i], 0);
	for (i = 0; i < VIREO_STORE_DISKS && dir >= 0; i++) {
		snprintf(disk, sizeof(disk), "disk%u", i);
		unlinkat(dir, disk, 0);
	}
	if (dir >= 0)
		close(dir);
	return unlinkat(parent, name, AT_REMOVEDIR);
}

/**
 * vireo_store_remove - remove a snapshot; VMs that run from it keep what they need
 * @path: of its directory, which nothing else may be in
 * @err: why not
 */
int vireo_store_remove(const char *path, struct vireo_error *err)
{
	char state[PATH_MAX + 8];

	snprintf(state, sizeof(state), "%s/state", path);
	if (access(state, F_OK) || remove_dir(AT_FDCWD, path))
		return vireo_fail(err, errno, "cannot remove %s: %s", path, strerror(errno));
	return 0;
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

static int create_content(struct vireo_store *s, struct vireo_content *c, const char *name,
			  struct vireo_error *err)
{
	snprintf(c->name, sizeof(c->name), "%s", name);
	c->fd = openat(s->dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return c->fd < 0 ? file_fail(err, "create", s, name) : 0;
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

	*s = (struct vireo_store){ .dir = -1, .parent_dir = -1, .memory.fd = -1 };
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
	return create_content(s, &s->memory, "memory", err);
}

/* Ranges with less than @gap in between are one. */
static int add_extent(struct vireo_content *c, __u64 start, __u64 end, __u64 gap,
		      struct vireo_error *err)
{
	struct vireo_extent *last = c->extents ? &c->extent[c->extents - 1] : NULL, *more;

	if (last && start - (last->gpa + last->bytes) < gap) {
		last->bytes = end - last->gpa;
		return 0;
	}
	if (!(c->extents & (c->extents - 1))) {
		more = realloc(c->extent, 2 * (c->extents + 1) * sizeof(*more));
		if (!more)
			return vireo_fail(err, ENOMEM, "out of memory");
		c->extent = more;
	}
	c->extent[c->extents++] = (struct vireo_extent){ .gpa = start, .bytes = end - start };
	return 0;
}

/* All that the frozen VM has */
static int find_data(struct vireo_content *c, int memory, __u64 gap, struct vireo_error *err)
{
	off_t start = 0, end;
	int ret = 0;

	while (!ret && (start = lseek(memory, start, SEEK_DATA)) >= 0) {
		end = lseek(memory, start, SEEK_HOLE);
		if (end < 0)
			break;
		ret = add_extent(c, (__u64)start, (__u64)end, gap, err);
		start = end;
	}
	if (!ret && errno != ENXIO)
		ret = vireo_fail(err, errno, "cannot read guest memory: %s", strerror(errno));
	return ret;
}

static int memory_of(int vm, struct vireo_error *err)
{
	struct vireo_get_memory get = { .size = sizeof(get) };
	int memory = ioctl(vm, VIREO_GET_MEMORY, &get);

	return memory >= 0 ? memory :
	       vireo_fail(err, errno, "cannot read guest memory: %s", strerror(errno));
}

/* What differs from the frozen VM of the snapshot before */
static int find_changes(struct vireo_content *c, int vm, int base, __u64 size,
			struct vireo_error *err)
{
	struct vireo_diff arg = { .size = sizeof(arg), .fd = memory_of(base, err) };
	int ret = arg.fd < 0 ? arg.fd : 0;

	while (!ret && arg.start < size) {
		if (ioctl(vm, VIREO_DIFF, &arg)) {
			ret = vireo_fail(err, errno, "cannot compare memory: %s", strerror(errno));
			break;
		}
		if (arg.end > size)
			arg.end = size;
		if (arg.start < arg.end)
			ret = add_extent(c, arg.start, arg.end, GAP, err);
		arg.start = arg.end > arg.start ? arg.end : arg.start;
	}
	if (arg.fd >= 0)
		close(arg.fd);
	return ret;
}

static bool is_zero(const __u8 *p, size_t len)
{
	return !p[0] && !memcmp(p, p + 1, len - 1);
}

/* Write what is not zero: the rest of the file has holes. */
static int write_sparse(struct vireo_store *s, int fd, const __u8 *data, size_t len, __u64 at)
{
	size_t start = 0, pos = 0;
	ssize_t n;

	while (pos < len) {
		for (start = pos; start < len && is_zero(data + start, VIREO_PAGE);)
			start += VIREO_PAGE;
		for (pos = start; pos < len && !is_zero(data + pos, VIREO_PAGE);)
			pos += VIREO_PAGE;
		for (; start < pos; start += (size_t)n) {
			n = pwrite(fd, data + start, pos - start, (off_t)(at + start));
			if (n < 0)
				return -1;
			s->written += (__u64)n;
		}
	}
	return 0;
}

static int copy_extent(struct vireo_store *s, struct vireo_content *c, struct vireo_extent *e,
		       int memory, __u8 *buf, struct vireo_error *err)
{
	uLong crc = crc32(0, NULL, 0);
	__u64 at, n;

	for (at = e->gpa; at < e->gpa + e->bytes; at += n) {
		n = e->gpa + e->bytes - at < CHUNK ? e->gpa + e->bytes - at : CHUNK;
		if (pread(memory, buf, n, (off_t)at) != (ssize_t)n)
			return vireo_fail(err, EIO, "cannot read what is to be %s/%s at 0x%llx",
					  s->path, c->name, at);
		if (write_sparse(s, c->fd, buf, n, at))
			return file_fail(err, "write", s, c->name);
		crc = crc32(crc, buf, (uInt)n);
		s->done += n;
		if (s->progress)
			s->progress(s);
	}
	e->crc = (__u32)crc;
	return 0;
}

/* Write all extents of a VM that does not run. */
static int copy_content(struct vireo_store *s, struct vireo_content *c, int memory,
			struct vireo_error *err)
{
	__u8 *buf = malloc(CHUNK);
	int ret = buf ? 0 : vireo_fail(err, ENOMEM, "out of memory");
	size_t i;

	if (!ret && ftruncate(c->fd, (off_t)c->bytes))
		ret = file_fail(err, "write", s, c->name);
	for (i = 0; i < c->extents; i++)
		s->total += c->extent[i].bytes;
	for (i = 0; i < c->extents && !ret; i++)
		ret = copy_extent(s, c, &c->extent[i], memory, buf, err);
	free(buf);
	return ret;
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
	struct vireo_content *c = &s->memory;
	int memory = memory_of(vm, err), ret;

	if (memory < 0)
		return memory;
	c->bytes = (__u64)lseek(memory, 0, SEEK_END);
	if (base < 0)
		ret = find_data(c, memory, GAP, err);
	else
		ret = find_changes(c, vm, base, c->bytes, err);
	if (!ret)
		ret = copy_content(s, c, memory, err);
	close(memory);
	return ret;
}

/* ---- disks ---- */

static struct vireo_content *new_disk(struct vireo_store *s, __u32 number, __u32 kind,
				      struct vireo_error *err)
{
	struct vireo_content *c = &s->disk[s->disks];
	char name[sizeof(c->name)];

	if (s->disks == VIREO_STORE_DISKS || number >= VIREO_STORE_DISKS) {
		vireo_fail(err, E2BIG, "too many disks");
		return NULL;
	}
	*c = (struct vireo_content){ .kind = kind, .number = number, .fd = -1 };
	s->disks++;
	snprintf(name, sizeof(name), "disk%u", number);
	return create_content(s, c, name, err) ? NULL : c;
}

/**
 * vireo_store_overlay - write what a disk's overlay holds
 * @s: as for vireo_store_memory()
 * @number: of the disk
 * @vm: whose memory it is; it does not run
 * @err: why not
 *
 * A block that is zero is not the same as one that is not there: unlike memory, all
 * that is there is in an extent, and nothing else.
 */
int vireo_store_overlay(struct vireo_store *s, __u32 number, int vm, struct vireo_error *err)
{
	struct vireo_content *c = new_disk(s, number, VIREO_CONTENT_OVERLAY, err);
	int memory = c ? memory_of(vm, err) : -err->code, ret;

	if (memory < 0)
		return memory;
	ret = find_data(c, memory, 1, err);
	if (c->extents)
		c->bytes = c->extent[c->extents - 1].gpa + c->extent[c->extents - 1].bytes;
	if (!ret)
		ret = copy_content(s, c, memory, err);
	close(memory);
	return ret;
}

/* Copy what is not a hole. */
static int copy_file(struct vireo_store *s, int to, int from, off_t size)
{
	__u8 *buf = malloc(CHUNK);
	off_t at = 0, end;
	ssize_t n = buf ? 0 : -1;

	s->total += (__u64)size;
	while (n >= 0 && at < size) {
		end = lseek(from, at, SEEK_DATA);
		end = end < 0 && errno == ENXIO ? size : end < 0 ? at : end;
		s->done += (__u64)(end - at);
		at = end;
		end = lseek(from, at, SEEK_HOLE);
		for (end = end < 0 ? size : end; n >= 0 && at < end; at += n) {
			n = pread(from, buf, end - at < (off_t)CHUNK ? (size_t)(end - at) : CHUNK,
				  at);
			if (!n)		/* it has become shorter */
				errno = EIO;
			n = n > 0 ? pwrite(to, buf, (size_t)n, at) : -1;
			s->done += n > 0 ? (__u64)n : 0;
			if (s->progress)
				s->progress(s);
		}
	}
	free(buf);
	return n < 0 ? -errno : 0;
}

/* Have @to be what @from is: with the same blocks, or if @copy with others. */
static int clone_file(struct vireo_store *s, int to, int from, bool copy)
{
	off_t size = lseek(from, 0, SEEK_END);

	if (!ioctl(to, FICLONE, from))
		return 0;
	if (!copy || size < 0)
		return -errno;
	return ftruncate(to, size) ? -errno : copy_file(s, to, from, size);
}

/**
 * vireo_store_can_share - whether the snapshot can have a disk's blocks without copying them
 * @s: after vireo_store_create()
 * @image: the disk, open for reading; it may be written to
 *
 * Tries it.
 */
bool vireo_store_can_share(struct vireo_store *s, int image)
{
	int fd = openat(s->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	bool can = fd >= 0 && !ioctl(fd, FICLONE, image);

	if (fd >= 0)
		close(fd);
	return can;
}

/**
 * vireo_store_image - keep a disk as it is
 * @s: after vireo_store_create(); with @progress set if it is to be called
 * @number: of the disk
 * @image: it, open for reading; nobody writes to it meanwhile
 * @copy: where its blocks cannot be shared
 * @err: why not
 */
int vireo_store_image(struct vireo_store *s, __u32 number, int image, bool copy,
		      struct vireo_error *err)
{
	struct vireo_content *c = new_disk(s, number, VIREO_CONTENT_IMAGE, err);
	int ret;

	if (!c)
		return -err->code;
	c->bytes = (__u64)lseek(image, 0, SEEK_END);
	ret = clone_file(s, c->fd, image, copy);
	errno = -ret;
	return ret ? file_fail(err, "write", s, c->name) : 0;
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

static __u8 *put(__u8 *at, const void *data, size_t len)
{
	if (len)
		memcpy(at, data, len);
	return at + len;
}

static size_t extents_size(const struct vireo_content *c)
{
	return c->extents * sizeof(*c->extent);
}

static __u8 *put_content(__u8 *at, const struct vireo_content *c)
{
	struct content_part part = {
		.part = PART_CONTENT, .number = c->number, .kind = c->kind, .bytes = c->bytes,
		.extents = c->extents,
	};

	part.length = sizeof(part) - offsetof(struct content_part, kind) + extents_size(c);
	at = put(at, &part, sizeof(part));
	return put(at, c->extent, extents_size(c));
}

static int write_state(struct vireo_store *s, const void *machine, size_t len,
		       struct vireo_error *err)
{
	struct header h = {
		.magic = MAGIC, .version = VIREO_SNAPSHOT_VERSION, .size = sizeof(h),
		.memory = s->memory.bytes, .extents = s->memory.extents,
	};
	__u8 *data, *at;
	unsigned int i;
	int ret;

	h.length = sizeof(h) + extents_size(&s->memory) + len;
	for (i = 0; i < s->disks; i++)
		h.length += sizeof(struct content_part) + extents_size(&s->disk[i]);
	data = malloc(h.length);
	if (!data)
		return vireo_fail(err, ENOMEM, "out of memory");
	memcpy(h.id, s->id, sizeof(h.id));
	memcpy(h.parent, s->parent, sizeof(h.parent));
	at = put(data, &h, sizeof(h));
	at = put(at, s->memory.extent, extents_size(&s->memory));
	at = put(at, machine, len);
	for (i = 0; i < s->disks; i++)
		at = put_content(at, &s->disk[i]);
	h.crc = (__u32)crc32(crc32(0, NULL, 0), data, (uInt)h.length);
	put(data, &h, sizeof(h));
	ret = write_file(s, "state", data, h.length, err);
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
	unsigned int i;

	if (!ret)
		ret = write_file(s, "config.json", config, strlen(config), err);
	for (i = 0; i < s->disks && !ret; i++) {
		if (fsync(s->disk[i].fd))
			ret = file_fail(err, "write", s, s->disk[i].name);
	}
	if (!ret && (fsync(s->memory.fd) || fsync(s->dir)))
		ret = file_fail(err, "write", s, "memory");
	return ret ? ret : take_place(s, err);
}

static void close_content(struct vireo_content *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	free(c->extent);
	c->extent = NULL;
	c->extents = 0;
}

/** vireo_store_close - close all, and remove what was not committed; may be called twice */
void vireo_store_close(struct vireo_store *s)
{
	if (s->new_name[0] && s->dir >= 0)
		remove_dir(s->parent_dir, s->new_name);
	s->new_name[0] = '\0';
	close_content(&s->memory);
	while (s->disks)
		close_content(&s->disk[--s->disks]);
	if (s->dir >= 0)
		close(s->dir);
	if (s->parent_dir >= 0)
		close(s->parent_dir);
	s->dir = -1;
	s->parent_dir = -1;
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
static bool extents_are_valid(const struct vireo_content *c)
{
	__u64 at = 0;
	size_t i;

	for (i = 0; i < c->extents; i++) {
		const struct vireo_extent *e = &c->extent[i];

		if (e->gpa < at || !e->bytes || (e->gpa | e->bytes) % VIREO_PAGE ||
		    e->gpa > c->bytes || e->bytes > c->bytes - e->gpa)
			return false;
		at = e->gpa + e->bytes;
	}
	return true;
}

/* Take @count extents from @data, which has @len bytes. */
static int take_extents(struct vireo_store *s, struct vireo_content *c, const __u8 *data,
			size_t len, __u64 count, struct vireo_error *err)
{
	if (count > len / sizeof(*c->extent))
		return bad_state(s, "is not a snapshot's", err);
	c->extent = malloc(count * sizeof(*c->extent) + 1);
	if (!c->extent)
		return vireo_fail(err, ENOMEM, "out of memory");
	c->extents = count;
	memcpy(c->extent, data, extents_size(c));
	return extents_are_valid(c) ? 0 : bad_state(s, "is not a snapshot's", err);
}

static int take_disk(struct vireo_store *s, const __u8 *data, size_t len,
		     struct vireo_error *err)
{
	struct vireo_content *c = &s->disk[s->disks];
	struct content_part part;
	int ret;

	if (len < sizeof(part) || s->disks == VIREO_STORE_DISKS)
		return bad_state(s, "is not a snapshot's", err);
	memcpy(&part, data, sizeof(part));
	*c = (struct vireo_content){
		.kind = part.kind, .number = part.number, .bytes = part.bytes, .fd = -1,
	};
	s->disks++;
	snprintf(c->name, sizeof(c->name), "disk%u", part.number);
	ret = take_extents(s, c, data + sizeof(part), len - sizeof(part), part.extents, err);
	if (!ret && (part.reserved || part.number >= VIREO_STORE_DISKS ||
		     len != sizeof(part) + extents_size(c)))
		ret = bad_state(s, "is not a snapshot's", err);
	return ret;
}

/* What follows the machine's own parts is ours. */
static int take_disks(struct vireo_store *s, struct vireo_error *err)
{
	const size_t head = offsetof(struct content_part, kind);
	size_t at = 0, own = 0, len;
	struct content_part part;
	int ret = 0;

	while (!ret && s->state.end - at >= head) {
		memcpy(&part, s->state.data + at, head);
		if (part.length > s->state.end - at - head)
			break;		/* loading the machine says so */
		len = head + part.length;
		if (part.part == PART_CONTENT)
			ret = take_disk(s, s->state.data + at, len, err);
		at += len;
		if (!s->disks)
			own = at;
	}
	if (s->disks && at == s->state.end)
		s->state.end = own;
	return ret;
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
	s->memory.bytes = h.memory;
	len -= sizeof(h);
	ret = take_extents(s, &s->memory, s->state.data + sizeof(h), len, h.extents, err);
	if (ret)
		return ret;
	list = extents_size(&s->memory);
	len -= list;
	memmove(s->state.data, s->state.data + sizeof(h) + list, len);
	s->state.end = len;
	s->state.load = true;
	return take_disks(s, err);
}

static int open_content(struct vireo_store *s, struct vireo_content *c, struct vireo_error *err)
{
	struct stat st;

	c->fd = openat(s->dir, c->name, O_RDONLY | O_CLOEXEC);
	if (c->fd < 0 || fstat(c->fd, &st))
		return file_fail(err, "open", s, c->name);
	if (S_ISREG(st.st_mode) && (__u64)st.st_size == c->bytes)
		return 0;
	return vireo_fail(err, EINVAL, "%s/%s has %lld bytes instead of %llu", s->path, c->name,
			  (long long)st.st_size, c->bytes);
}

/**
 * vireo_store_open - open a snapshot to read it, and check all but the memory's content
 * @s: filled in; vireo_store_close() is due in any case
 * @path: of the directory
 * @err: why not
 */
int vireo_store_open(struct vireo_store *s, const char *path, struct vireo_error *err)
{
	unsigned int i;
	int ret;

	*s = (struct vireo_store){ .dir = -1, .parent_dir = -1, .memory.fd = -1 };
	strcpy(s->memory.name, "memory");
	if ((size_t)snprintf(s->path, sizeof(s->path), "%s", path) >= sizeof(s->path))
		return vireo_fail(err, ENAMETOOLONG, "the path is too long");
	s->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir < 0)
		return vireo_fail(err, errno, "cannot open %s: %s", path, strerror(errno));
	ret = read_state(s, err);
	if (!ret)
		ret = open_content(s, &s->memory, err);
	for (i = 0; i < s->disks && !ret; i++)
		ret = open_content(s, &s->disk[i], err);
	return ret;
}

/* Read all content, check it, and give it to a VM if there is one, which is empty if @plain. */
static int read_content(struct vireo_store *s, struct vireo_content *c, struct vireo_vm *vm,
			bool plain, struct vireo_error *err)
{
	__u8 *buf = malloc(CHUNK);
	int ret = buf ? 0 : vireo_fail(err, ENOMEM, "out of memory");
	__u64 at, end, n;
	uLong crc;
	size_t i;

	for (i = 0; i < c->extents && !ret; i++) {
		end = c->extent[i].gpa + c->extent[i].bytes;
		crc = crc32(0, NULL, 0);
		for (at = c->extent[i].gpa; at < end && !ret; at += n) {
			n = end - at < CHUNK ? end - at : CHUNK;
			if (pread(c->fd, buf, n, (off_t)at) != (ssize_t)n)
				ret = file_fail(err, "read", s, c->name);
			else if (vm && plain)
				ret = vireo_vm_write_sparse(vm, at, buf, n, err);
			else if (vm)
				ret = vireo_vm_write(vm, at, buf, n, err);
			crc = crc32(crc, buf, (uInt)n);
		}
		if (!ret && crc != c->extent[i].crc)
			ret = vireo_fail(err, EINVAL,
					 "%s/%s is damaged between 0x%llx and 0x%llx", s->path,
					 c->name, c->extent[i].gpa, end);
	}
	free(buf);
	return ret;
}

/** vireo_store_verify - compare memory and overlays with their checksums */
int vireo_store_verify(struct vireo_store *s, struct vireo_error *err)
{
	int ret = read_content(s, &s->memory, NULL, false, err);
	unsigned int i;

	for (i = 0; i < s->disks && !ret; i++)
		ret = read_content(s, &s->disk[i], NULL, false, err);
	return ret;
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

/* RAM from @start to @end: what the file has gets @flags, the rest is empty */
static int map_range(const struct vireo_content *c, struct vireo_vm *vm, __u64 start, __u64 end,
		     __u32 flags, struct vireo_error *err)
{
	__u64 from, to;
	size_t i;
	int ret = 0;

	for (i = 0; i < c->extents && !ret; i++) {
		from = c->extent[i].gpa;
		to = from + c->extent[i].bytes;
		if (from >= end || to <= start)
			continue;
		from = from < start ? start : from;
		to = to > end ? end : to;
		ret = add_ram(vm, start, from, 0, err);
		if (!ret)
			ret = add_ram(vm, from, to, flags, err);
		start = to;
	}
	return ret ? ret : add_ram(vm, start, end, 0, err);
}

static int set_file(struct vireo_store *s, const struct vireo_content *c, struct vireo_vm *vm,
		    struct vireo_error *err)
{
	struct vireo_set_file arg = { .size = sizeof(arg), .fd = c->fd };

	if (!ioctl(vm->fd, VIREO_SET_FILE, &arg))
		return 0;
	switch (errno) {
	case ETXTBSY:
		return vireo_fail(err, errno, "%s/%s is open for writing", s->path, c->name);
	case EACCES:
		return vireo_fail(err, errno,
				  "%s/%s is not yours to hold others from writing: use --eager, or copy it",
				  s->path, c->name);
	default:
		return vireo_fail(err, errno, "cannot use %s/%s (--eager reads it): %s", s->path,
				  c->name, strerror(errno));
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
		ret = vireo_vm_add_memory(vm, bytes, err);
		return ret ? ret : read_content(s, &s->memory, vm, true, err);
	}
	ret = set_file(s, &s->memory, vm, err);
	if (!ret)
		ret = map_range(&s->memory, vm, 0, low, VIREO_MEMORY_FILE, err);
	if (!ret && bytes > low)
		ret = map_range(&s->memory, vm, VIREO_HIGH_BASE, VIREO_HIGH_BASE + bytes - low,
				VIREO_MEMORY_FILE, err);
	vm->memory = bytes;
	vm->low_end = low;
	vm->high_end = VIREO_HIGH_BASE + bytes - low;
	return ret;
}

/** vireo_store_apply - write what a snapshot with a parent holds over the parent's memory */
int vireo_store_apply(struct vireo_store *s, struct vireo_vm *vm, struct vireo_error *err)
{
	return read_content(s, &s->memory, vm, false, err);
}

/** vireo_store_disk - what a snapshot has of a disk, or NULL */
struct vireo_content *vireo_store_disk(struct vireo_store *s, __u32 number, __u32 kind)
{
	unsigned int i;

	for (i = 0; i < s->disks; i++) {
		if (s->disk[i].number == number && s->disk[i].kind == kind)
			return &s->disk[i];
	}
	return NULL;
}

/**
 * vireo_store_map_overlay - give a VM that is a disk's overlay what was stored of it
 * @s: the snapshot
 * @c: vireo_store_disk()'s
 * @vm: without memory
 * @eager: as for vireo_store_map()
 * @err: why not
 *
 * What is copied is RAM of its own beside the rest, too: else a page of 2 MiB could come
 * into being, and all of that would stand for what the image has there.
 */
int vireo_store_map_overlay(struct vireo_store *s, struct vireo_content *c, struct vireo_vm *vm,
			    bool eager, struct vireo_error *err)
{
	int ret = 0;

	if (c->extents && !eager)
		ret = set_file(s, c, vm, err);
	if (!ret)
		ret = map_range(c, vm, 0, VIREO_MAX_GPA, eager ? 0 : VIREO_MEMORY_FILE, err);
	return ret || !eager ? ret : read_content(s, c, vm, false, err);
}

/**
 * vireo_store_give_image - make an image for a VM of what was stored of a disk
 * @s: the snapshot
 * @c: vireo_store_disk()'s
 * @path: of the image, which must not exist
 * @copy: where blocks cannot be shared
 * @err: why not
 */
int vireo_store_give_image(struct vireo_store *s, struct vireo_content *c, const char *path,
			   bool copy, struct vireo_error *err)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600), ret;

	if (fd < 0)
		return vireo_fail(err, errno, "cannot make disk %s: %s", path, strerror(errno));
	ret = clone_file(s, fd, c->fd, copy);
	close(fd);
	if (!ret)
		return 0;
	unlink(path);
	if (copy || ret == -ENOSPC || ret == -EDQUOT || ret == -EIO)
		return vireo_fail(err, -ret, "cannot make disk %s: %s", path, strerror(-ret));
	return vireo_fail(err, -ret,
			  "disk %s cannot share its blocks with %s/%s: put it on the same file system, of btrfs or XFS (--disk-dir), or use --copy-disks",
			  path, s->path, c->name);
}
