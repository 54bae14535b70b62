// SPDX-License-Identifier: GPL-2.0
/* A file or block device of the host as a disk of the guest. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "libvireo.h"
#include "util.h"

#define SECTOR		512U
#define BLOCK_MAX	4096U	/* of a disk */

static_assert_that(sizeof(struct vireo_blk_config) <= VIREO_PV_CONFIG, "the config part fits");
static_assert_that(sizeof(struct vireo_blk_config) % 4 == 0, "whole registers");

/**
 * struct disk - a disk
 * @pv: its device
 * @path: of the image, as it was given
 * @file: the image; its lock goes with it
 * @overlay: the guest writes to @blocks, and @file is not written
 * @overlay_max: bytes of that
 * @stored: ... that it began with
 * @blocks: a VM that does not run, whose memory at an offset is the disk's there
 * @frozen: of an overlay such a VM, of an image such a file, as clones find it, or -1
 * @block: bytes that requests are multiples of
 * @readonly: the guest may not write
 * @bps: limit
 * @iops: limit
 * @serial: padded with zeros
 */
struct disk {
	struct vireo_pv pv;
	char *path;
	int file;
	bool overlay;
	__u64 overlay_max;
	__u64 stored;
	struct vireo_vm blocks;
	int frozen;
	__u32 block;
	bool readonly;
	__u64 bps;
	__u64 iops;
	char serial[VIREO_BLK_SERIAL + 1];
};

static struct disk *to_disk(struct vireo_pv *pv)
{
	return (struct disk *)((char *)pv - offsetof(struct disk, pv));
}

static int busy(struct vireo_error *err, const char *path)
{
	return vireo_fail(err, EBUSY,
			  "disk %s is in use by another VM or program: stop that, or give both the disk with `,ro` or `,overlay`",
			  path);
}

/* Whether the guest's writes reach the image */
static bool writes(const struct vireo_disk_spec *spec)
{
	return !spec->readonly && !spec->overlay;
}

/* An open file description holds the lock, and so do all that are made of it. */
static int lock_image(int fd, const struct vireo_disk_spec *spec, struct vireo_error *err)
{
	struct flock fl = {
		.l_type = writes(spec) ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET,
	};

	if (!fcntl(fd, F_OFD_SETLK, &fl))
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return busy(err, spec->path);
	return vireo_fail(err, errno, "cannot lock disk %s: %s", spec->path, strerror(errno));
}

static int open_fail(const struct vireo_disk_spec *spec, int code, struct vireo_error *err)
{
	switch (code) {
	case EBUSY:
		return busy(err, spec->path);
	case EACCES:
	case EPERM:
	case EROFS:
		if (writes(spec))
			return vireo_fail(err, code,
					  "may not write disk %s (%s): change its owner or mode, or add `,ro` or `,overlay`",
					  spec->path, strerror(code));
		/* fall through */
	default:
		return vireo_fail(err, code, "cannot open disk %s: %s", spec->path,
				  strerror(code));
	}
}

static int open_image(const struct vireo_disk_spec *spec, struct vireo_error *err)
{
	int flags = (writes(spec) ? O_RDWR : O_RDONLY) | O_CLOEXEC, fd, ret;
	struct stat st;

	/* First what it is: opening a FIFO would wait. */
	if (stat(spec->path, &st))
		return open_fail(spec, errno, err);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return vireo_fail(err, EINVAL,
				  "disk %s is neither a regular file nor a block device",
				  spec->path);
	if (S_ISBLK(st.st_mode) && writes(spec))
		flags |= O_EXCL;	/* not mounted, and not another's */
	fd = open(spec->path, flags | O_DIRECT);
	if (fd < 0 && errno == EINVAL)
		fd = open(spec->path, flags);
	if (fd < 0)
		return open_fail(spec, errno, err);
	ret = lock_image(fd, spec, err);
	if (ret) {
		close(fd);
		return ret;
	}
	return fd;
}

/**
 * struct image - what a file or device is like
 * @features: VIREO_BLK_F_*
 * @sectors: its size now
 * @block: bytes that requests must be multiples of
 * @physical: bytes that they had better be multiples of
 * @discard: likewise of DISCARD
 */
struct image {
	__u64 features;
	__u64 sectors;
	__u32 block;
	__u32 physical;
	__u32 discard;
};

/* A line about the request queue of a device, or of that which it is a part of; "" */
static void queue_text(dev_t dev, const char *name, char *text, int size)
{
	static const char * const where[] = { "queue", "../queue" };
	char path[128];
	FILE *f = NULL;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(where) && !f; i++) {
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/%s", major(dev), minor(dev),
			 where[i], name);
		f = fopen(path, "re");
	}
	if (!f || !fgets(text, size, f))
		text[0] = 0;
	if (f)
		fclose(f);
}

static int look_at_device(int fd, dev_t dev, struct image *im)
{
	int block = 0, readonly = 0;
	__u64 bytes = 0;
	char text[32];

	if (ioctl(fd, BLKGETSIZE64, &bytes) || ioctl(fd, BLKSSZGET, &block) ||
	    ioctl(fd, BLKPBSZGET, &im->physical) || ioctl(fd, BLKROGET, &readonly))
		return -1;
	im->sectors = bytes / SECTOR;
	im->block = (__u32)block;
	im->features = VIREO_BLK_F_ZEROES | (readonly ? VIREO_BLK_F_READONLY : 0);
	queue_text(dev, "write_cache", text, sizeof(text));
	if (strcmp(text, "write through\n"))	/* if it is not known, there is one */
		im->features |= VIREO_BLK_F_FLUSH;
	queue_text(dev, "discard_max_bytes", text, sizeof(text));
	if (strtoull(text, NULL, 10))
		im->features |= VIREO_BLK_F_DISCARD;
	queue_text(dev, "discard_granularity", text, sizeof(text));
	im->discard = (__u32)strtoul(text, NULL, 10);
	return 0;
}

static int look_at_file(int fd, const struct stat *st, struct image *im)
{
	struct statx x;

	im->sectors = (__u64)st->st_size / SECTOR;
	im->block = SECTOR;
	if (fcntl(fd, F_GETFL) & O_DIRECT &&
	    !statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &x) && x.stx_mask & STATX_DIOALIGN &&
	    x.stx_dio_offset_align > SECTOR)
		im->block = x.stx_dio_offset_align;
	im->physical = (__u32)st->st_blksize;
	im->discard = im->physical;
	im->features = VIREO_BLK_F_FLUSH;
	/* What is behind its end can be punched without harm. */
	if (!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		       (st->st_size | 4095) + 1, 4096))
		im->features |= VIREO_BLK_F_DISCARD | VIREO_BLK_F_ZEROES;
	return 0;
}

/* What the file or device is like now, checked */
static int look_at(struct disk *d, struct image *im, struct vireo_error *err)
{
	struct stat st;

	memset(im, 0, sizeof(*im));
	if (fstat(d->file, &st) || (S_ISBLK(st.st_mode) ? look_at_device(d->file, st.st_rdev, im) :
							  look_at_file(d->file, &st, im)))
		return vireo_fail(err, errno, "no properties of disk %s: %s", d->pv.backing,
				  strerror(errno));
	if (S_ISREG(st.st_mode) && st.st_size % SECTOR)
		return vireo_fail(err, EINVAL,
				  "disk %s has %lld bytes, which is not a multiple of 512: truncate --size=%%512 %s",
				  d->pv.backing, (long long)st.st_size, d->pv.backing);
	if (!im->sectors)
		return vireo_fail(err, EINVAL,
				  "disk %s is empty: give it a size, with truncate --size=10G %s",
				  d->pv.backing, d->pv.backing);
	if (im->sectors % (im->block / SECTOR))
		return vireo_fail(err, EINVAL,
				  "disk %s has %llu bytes, which is not a multiple of its blocks of %u: truncate --size=%%%u %s",
				  d->pv.backing, im->sectors * SECTOR, im->block, im->block,
				  d->pv.backing);
	if (d->readonly)
		im->features |= VIREO_BLK_F_READONLY;
	if (d->overlay) {
		im->features = 0;
		im->physical = BLOCK_MAX;
	}
	if (im->physical < im->block)
		im->physical = im->block;
	if (im->physical > BLOCK_MAX)
		im->physical = BLOCK_MAX;
	if (im->discard < im->block)
		im->discard = im->block;
	return 0;
}

static void fill_config(const struct disk *d, const struct image *im, struct vireo_blk_config *c)
{
	memset(c, 0, sizeof(*c));
	c->sectors = im->sectors;
	c->logical_block = im->block;
	c->physical_block = im->physical;
	c->max_bytes = VIREO_BLK_MAX_BYTES;
	c->max_discard = VIREO_BLK_MAX_DISCARD;
	c->discard_align = im->discard;
	memcpy(c->serial, d->serial, sizeof(c->serial));
}

/* The size as it is now, and the limits */
static int set_disk(struct disk *d, struct vireo_error *err)
{
	struct vireo_disk disk = {
		.size = sizeof(disk), .bytes_per_second = d->bps, .requests_per_second = d->iops,
	};

	if (ioctl(d->pv.fd, VIREO_SET_DISK, &disk))
		return vireo_fail(err, errno, "cannot set the size and limits of disk %s: %s",
				  d->pv.backing, strerror(errno));
	return 0;
}

static int disk_refresh(struct vireo_pv *pv, void *config, struct vireo_error *err)
{
	struct disk *d = to_disk(pv);
	struct image im;
	int ret;

	ret = look_at(d, &im, err);
	if (!ret)
		ret = set_disk(d, err);
	if (!ret)
		fill_config(d, &im, config);
	return ret;
}

static void disk_destroy(struct vireo_pv *pv)
{
	struct disk *d = to_disk(pv);

	if (pv->fd >= 0)
		close(pv->fd);
	if (d->file >= 0)
		close(d->file);
	if (d->frozen >= 0)
		close(d->frozen);
	vireo_vm_close(&d->blocks);
	free(d->path);
	free(d);
}

/* The module's part */
static int make_disk(struct disk *d, struct vireo_error *err)
{
	struct vireo_create_disk create = {
		.size = sizeof(create), .flags = d->readonly ? VIREO_DISK_READONLY : 0,
		.fd = d->file, .block = d->block,
	};

	if (d->overlay) {
		create.flags = VIREO_DISK_OVERLAY;
		create.overlay = d->blocks.mem_fd;
		/* What it began with does not count there; 0 bytes would be no limit's. */
		create.overlay_max = d->overlay_max > d->stored ? d->overlay_max - d->stored : 1;
	}
	d->pv.fd = ioctl(d->pv.vm->fd, VIREO_CREATE_DISK, &create);
	if (d->pv.fd >= 0)
		return 0;
	if (errno == ENOTTY)
		return vireo_fail(err, ENOTTY,
				  "the module has no disks: install module and tool from one release");
	return vireo_fail(err, errno, "cannot make a disk of %s: %s", d->pv.backing,
			  strerror(errno));
}

/* All of it is RAM: what is not touched costs nothing. */
static int make_blocks(struct disk *d, const struct vireo_disk_spec *spec,
		       struct vireo_error *err)
{
	struct vireo_memory memory = { .size = sizeof(memory), .bytes = VIREO_MAX_GPA };
	int ret = vireo_vm_create(&d->blocks, 1, err);
	size_t i;

	if (!ret && spec->store) {
		for (i = 0; i < spec->content->extents; i++)
			d->stored += spec->content->extent[i].bytes;
		return vireo_store_map_overlay(spec->store, spec->content, &d->blocks, spec->eager,
					       err);
	}
	if (ret || !ioctl(d->blocks.fd, VIREO_ADD_MEMORY, &memory))
		return ret;
	return vireo_fail(err, errno, "cannot make an overlay for disk %s: %s", d->pv.backing,
			  strerror(errno));
}

/* Whether the guest's writes reach an image, of which each clone needs its own */
static bool has_image(const struct disk *d)
{
	return !d->overlay && !d->readonly;
}

static int not_shared(struct vireo_pv *pv, struct vireo_error *err)
{
	return vireo_fail(err, EOPNOTSUPP,
			  "%s (%s) is writable, and is not a file that can share its blocks with a copy: give it with `,ro` or `,overlay`, or put it on btrfs or XFS",
			  pv->name, pv->backing);
}

static int disk_can_fork(struct vireo_pv *pv, struct vireo_error *err)
{
	struct stat st;

	if (!has_image(to_disk(pv)))
		return 0;
	return !fstat(to_disk(pv)->file, &st) && S_ISREG(st.st_mode) ? 0 : not_shared(pv, err);
}

/* The blocks of the image now, in a file without a name next to it */
static int freeze_image(struct disk *d, struct vireo_error *err)
{
	char *path = strdup(d->path);

	if (path)
		d->frozen = open(dirname(path), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	free(path);
	if (d->frozen >= 0 && !ioctl(d->frozen, FICLONE, d->file))
		return 0;
	if (d->frozen >= 0 && errno != ENOSPC && errno != EDQUOT && errno != EIO)
		return not_shared(&d->pv, err);
	return vireo_fail(err, errno, "cannot keep %s (%s) as it is for clones: %s", d->pv.name,
			  d->pv.backing, strerror(errno));
}

static int disk_freeze(struct vireo_pv *pv, struct vireo_error *err)
{
	struct disk *d = to_disk(pv);

	if (has_image(d))
		return freeze_image(d, err);
	if (!d->overlay)
		return 0;
	d->frozen = vireo_vm_fork(d->blocks.fd, err);
	if (d->frozen >= 0)
		return 0;
	vireo_error_prefix(err, "the overlay of %s", pv->name);
	return -err->code;
}

static void disk_thaw(struct vireo_pv *pv)
{
	struct disk *d = to_disk(pv);

	if (d->frozen >= 0)
		close(d->frozen);
	d->frozen = -1;
}

/* An image of the clone's own, named after both, which shares all blocks that stay equal */
static int copy_image(struct disk *d, const struct vireo_clone *clone, struct vireo_error *err)
{
	struct vireo_disk_spec spec = { .path = NULL };
	const char *slash = strrchr(d->path, '/');
	char *path;
	int ret = 0, fd;

	if (asprintf(&path, "%s%s%s.%s", clone->disk_dir ? clone->disk_dir : "",
		     clone->disk_dir ? "/" : "",
		     clone->disk_dir && slash ? slash + 1 : d->path, clone->name) < 0)
		return vireo_fail(err, ENOMEM, "out of memory");
	free(d->path);
	d->path = path;
	spec.path = path;
	snprintf(d->pv.backing, sizeof(d->pv.backing), "%s", path);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return vireo_fail(err, errno, "cannot make disk %s: %s", path, strerror(errno));
	if (ioctl(fd, FICLONE, d->frozen))
		ret = vireo_fail(err, errno, "cannot share blocks with disk %s: %s", path,
				 strerror(errno));
	close(fd);
	if (!ret) {
		close(d->file);
		d->file = open_image(&spec, err);
		ret = d->file < 0 ? d->file : 0;
	}
	if (ret)
		unlink(path);
	return ret;
}

/* The file and its lock are shared, and the overlay until somebody writes to it. */
static int disk_fork(struct vireo_pv *pv, const struct vireo_clone *clone, struct vireo_error *err)
{
	struct disk *d = to_disk(pv);
	int fd, ret = 0;

	close(pv->fd);
	pv->fd = -1;
	if (d->overlay) {
		fd = vireo_vm_fork(d->frozen, err);
		ret = fd < 0 ? fd : vireo_vm_become(&d->blocks, fd, err);
	} else if (!d->readonly) {
		ret = copy_image(d, clone, err);
	}
	disk_thaw(pv);
	if (!ret)
		ret = make_disk(d, err);
	return ret ? ret : set_disk(d, err);
}

/** vireo_disk_overlay - bytes that the overlay of a disk holds; 0: there is none */
__u64 vireo_disk_overlay(struct vireo_pv *pv)
{
	struct vireo_stat stat = { .resident_bytes = 0 };
	struct vireo_error err;

	if (pv->ops->fork == disk_fork && to_disk(pv)->overlay)
		vireo_vm_stat(&to_disk(pv)->blocks, &stat, &err);
	return stat.resident_bytes;
}

/**
 * vireo_disk_describe - what a disk was created as, for another that is like it
 * @pv: any device
 * @spec: filled in; its texts live as long as the device
 *
 * Return: whether it is a disk.
 */
bool vireo_disk_describe(struct vireo_pv *pv, struct vireo_disk_spec *spec)
{
	struct disk *d = to_disk(pv);

	if (pv->ops->fork != disk_fork)
		return false;
	*spec = (struct vireo_disk_spec){
		.path = d->path, .readonly = !d->overlay && !has_image(d),
		.overlay = d->overlay, .overlay_max = d->overlay_max, .serial = d->serial,
		.queues = pv->queues, .bps = d->bps, .iops = d->iops,
	};
	return true;
}

/** vireo_disk_content - of a disk, where the guest's writes go: VIREO_CONTENT_*; else 0 */
__u32 vireo_disk_content(struct vireo_pv *pv)
{
	if (pv->ops->fork != disk_fork)
		return 0;
	if (to_disk(pv)->overlay)
		return VIREO_CONTENT_OVERLAY;
	return has_image(to_disk(pv)) ? VIREO_CONTENT_IMAGE : 0;
}

/**
 * vireo_disk_content_fd - what a disk holds
 * @pv: a disk with vireo_disk_content()
 * @err: why not
 *
 * Return: an fd: of an overlay, a VM with its blocks as they are now; of an image, that
 * for reading; or a negative errno.
 */
int vireo_disk_content_fd(struct vireo_pv *pv, struct vireo_error *err)
{
	struct disk *d = to_disk(pv);
	char path[32];
	int fd;

	if (d->overlay)
		return vireo_vm_fork(d->blocks.fd, err);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", d->file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 ? fd : vireo_fail(err, errno, "cannot read %s (%s): %s", pv->name,
					 pv->backing, strerror(errno));
}

static const struct vireo_pv_ops disk_ops = {
	.kind = "disk",
	.refresh = disk_refresh,
	.can_fork = disk_can_fork,
	.freeze = disk_freeze,
	.thaw = disk_thaw,
	.fork = disk_fork,
	.destroy = disk_destroy,
};

/* A serial number of printable characters; without one, the name of the file */
static void set_serial(struct disk *d, const struct vireo_disk_spec *spec)
{
	const char *slash = strrchr(spec->path, '/');
	const char *text = spec->serial ? spec->serial : slash ? slash + 1 : spec->path;
	size_t i;

	for (i = 0; i < VIREO_BLK_SERIAL && text[i]; i++)
		d->serial[i] = text[i] > ' ' && text[i] < 0x7f ? text[i] : '_';
}

static int disk_init(struct disk *d, const struct vireo_disk_spec *spec, struct vireo_error *err)
{
	struct image im;
	int ret;

	if (spec->readonly && spec->overlay)
		return vireo_fail(err, EINVAL, "disk %s: either `ro` or `overlay`", spec->path);
	d->file = open_image(spec, err);
	if (d->file < 0)
		return d->file;
	ret = look_at(d, &im, err);
	if (ret)
		return ret;
	d->block = im.block;
	d->readonly = im.features & VIREO_BLK_F_READONLY;
	d->pv.offered = im.features;
	fill_config(d, &im, (struct vireo_blk_config *)d->pv.config);
	if (d->overlay)
		ret = make_blocks(d, spec, err);
	if (!ret)
		ret = make_disk(d, err);
	return ret ? ret : set_disk(d, err);
}

/**
 * vireo_disk_create - make a disk of a file or block device, and lock that
 * @vm: whose
 * @spec: what
 * @err: why not
 *
 * Return: a device for vireo_pv_attach(), or NULL.
 */
struct vireo_pv *vireo_disk_create(struct vireo_vm *vm, const struct vireo_disk_spec *spec,
				   struct vireo_error *err)
{
	struct disk *d = calloc(1, sizeof(*d));

	if (!d) {
		vireo_fail(err, ENOMEM, "out of memory");
		return NULL;
	}
	d->file = -1;
	d->frozen = -1;
	d->blocks = (struct vireo_vm){ .fd = -1, .mem_fd = -1 };
	d->overlay = spec->overlay;
	d->readonly = spec->readonly;
	d->overlay_max = spec->overlay_max;
	d->bps = spec->bps;
	d->iops = spec->iops;
	d->pv.ops = &disk_ops;
	d->pv.vm = vm;
	d->pv.fd = -1;
	d->pv.queues = spec->queues;
	d->pv.queue_max = VIREO_RING_MAX;
	d->pv.one_index = true;
	d->path = strdup(spec->path);
	d->pv.config_len = sizeof(struct vireo_blk_config);
	snprintf(d->pv.backing, sizeof(d->pv.backing), "%s", spec->path);
	set_serial(d, spec);
	if (!d->path)
		vireo_fail(err, ENOMEM, "out of memory");
	if (!d->path || disk_init(d, spec, err)) {
		disk_destroy(&d->pv);
		return NULL;
	}
	return &d->pv;
}
