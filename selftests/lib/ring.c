// SPDX-License-Identifier: GPL-2.0
/* Disks and queues for tests: see ring.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "harness.h"
#include "ring.h"

#define WAIT_TICKS	60000000000ULL

int disk_create(int vm, int file, u32 flags)
{
	struct vireo_create_disk arg = {
		.size = sizeof(arg), .flags = flags, .fd = file, .block = disk_block(file),
	};

	return do_ioctl(vm, VIREO_CREATE_DISK, &arg);
}

u32 disk_block(int file)
{
	int block;

	return ioctl(file, BLKSSZGET, &block) ? 512 : block;
}

int disk_set(int disk, struct vireo_disk *d)
{
	d->size = sizeof(*d);
	return do_ioctl(disk, VIREO_SET_DISK, d);
}

int queue_create(int disk, u32 doorbell, u64 ring, u32 entries)
{
	struct vireo_create_queue arg = {
		.size = sizeof(arg), .doorbell = doorbell, .ring = ring, .entries = entries,
	};

	return do_ioctl(disk, VIREO_CREATE_QUEUE, &arg);
}

int queue_resume(int disk, u32 doorbell, u64 ring, u32 entries, u32 start)
{
	struct vireo_create_queue arg = {
		.size = sizeof(arg), .flags = VIREO_QUEUE_RESUME, .doorbell = doorbell,
		.ring = ring, .entries = entries, .start = start,
	};

	return do_ioctl(disk, VIREO_CREATE_QUEUE, &arg);
}

int queue_set_msi(int queue, u32 vcpu, u8 vector, u32 flags)
{
	struct vireo_queue_msi arg = {
		.size = sizeof(arg), .flags = flags, .address = 0xfee00000 | vcpu << 12,
		.data = vector,
	};

	return do_ioctl(queue, VIREO_SET_MSI, &arg);
}

struct vireo_queue_stat queue_stat(int queue)
{
	struct vireo_queue_stat stat = { .size = sizeof(stat) };

	ASSERT_EQ(do_ioctl(queue, VIREO_GET_QUEUE_STAT, &stat), 0);
	return stat;
}

void queue_wait_entries(int queue, u64 entries)
{
	while (queue_stat(queue).entries < entries)
		usleep(1000);
}

/* ---- Disks ------------------------------------------------------------------------ */

const char * const backing_name[BACKINGS + 1] = {
	"a file", "a file by direct I/O", "a block device", "a block device of 4 KiB blocks",
	"a slow block device",
};

static const char * const backing_path[BACKINGS + 1] = {
	"/tmp/vireo-disk", "/mnt/vireo-disk", "/dev/nullb0", "/dev/nullb1", "/dev/nullb3",
};

static u8 zeroes[1 << 20] __aligned(4096);

int backing_open(enum backing b)
{
	int flags = O_RDWR | O_CLOEXEC | (b == BACKING_FILE ? 0 : O_DIRECT);
	u32 offset;
	int fd;

	if (b <= BACKING_DIRECT)
		flags |= O_CREAT | O_TRUNC;
	fd = open(backing_path[b], flags, 0600);
	if (fd < 0) {
		test_note("no %s: %s: %s", backing_name[b], backing_path[b], strerror(errno));
		return -1;
	}
	for (offset = 0; offset < BACKING_SECTORS * 512; offset += sizeof(zeroes))
		ASSERT_EQ(do_pwrite(fd, zeroes, sizeof(zeroes), offset), sizeof(zeroes));
	return fd;
}

/* @buf aligned to 4096, like @len and @offset */
void backing_read(int file, void *buf, u32 len, u64 offset)
{
	ASSERT_EQ(do_pread(file, buf, len, offset), len);
}

bool disk_boot(struct test_disk *d, enum backing b, u32 vcpus, u32 flags)
{
	d->file = backing_open(b);
	if (d->file < 0)
		return false;
	test_note("on %s", backing_name[b]);
	vm_boot(&d->vm, vcpus, 0x1000000);
	d->disk = disk_create(d->vm.fd, d->file, flags);
	ASSERT_GE(d->disk, 0);
	d->queue = queue_create(d->disk, DOORBELL, RING, ENTRIES);
	ASSERT_GE(d->queue, 0);
	return true;
}

void disk_close(struct test_disk *d)
{
	close(d->queue);
	close(d->disk);
	close(d->file);
	vm_close(&d->vm);
}

/* ---- Inside the guest --------------------------------------------------------- */

void ring_open(struct ring *r, u64 gpa, u32 entries, u32 doorbell)
{
	r->ctl = (void *)gpa;
	r->comp = (void *)(gpa + VIREO_RING_COMP);
	r->sub = (void *)(gpa + VIREO_RING_SUB(entries));
	r->entries = entries;
	r->doorbell = doorbell;
	r->tail = 0;
	r->told = 0;
	r->head = 0;
}

struct vireo_blk_sub *ring_next(struct ring *r)
{
	struct vireo_blk_sub *sub = &r->sub[r->tail & (r->entries - 1)];
	volatile u64 *p = (void *)sub;
	u32 i;

	for (i = 0; i < sizeof(*sub) / 8; i++)
		p[i] = 0;
	return sub;
}

void ring_put(struct ring *r)
{
	r->tail++;
	__atomic_store_n(&r->ctl->sub_tail, r->tail, __ATOMIC_RELEASE);
}

bool ring_kick(struct ring *r)
{
	u32 old = r->told;

	r->told = r->tail;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!vireo_ring_event(READ_ONCE(r->ctl->sub_event), old, r->tail))
		return false;
	GUEST_EQ(hypercall(VIREO_HC_DOORBELL, r->doorbell, 0, 0, 0), 0);
	return true;
}

bool ring_take(struct ring *r, struct vireo_comp *comp)
{
	if (__atomic_load_n(&r->ctl->comp_tail, __ATOMIC_ACQUIRE) == r->head)
		return false;
	*comp = r->comp[r->head & (r->entries - 1)];
	r->head++;
	__atomic_store_n(&r->ctl->comp_head, r->head, __ATOMIC_RELEASE);
	return true;
}

struct vireo_comp ring_wait(struct ring *r)
{
	u64 begin = read_tsc();
	struct vireo_comp comp;

	while (!ring_take(r, &comp)) {
		guest_pause();
		if (read_tsc() - begin > WAIT_TICKS)
			guest_fail(__FILE__, __LINE__, "a completion", r->head, r->tail);
	}
	return comp;
}

void ring_request(struct ring *r, u16 tag, u8 op, u8 flags, u64 sector, void *data, u32 len)
{
	struct vireo_blk_sub *sub = ring_next(r);

	sub->op = op;
	sub->flags = flags;
	sub->tag = tag;
	sub->sector = sector;
	if (len) {
		sub->nsegs = 1;
		sub->seg[0].gpa = (uintptr_t)data;
		sub->seg[0].len = len;
	}
	ring_put(r);
}

static u16 ring_end(struct ring *r, u16 tag, u32 len)
{
	struct vireo_comp comp;

	ring_kick(r);
	comp = ring_wait(r);
	GUEST_EQ(comp.tag, tag);
	GUEST_EQ(comp.len, comp.status ? 0 : len);
	return comp.status;
}

u16 ring_do(struct ring *r, u8 op, u8 flags, u64 sector, void *data, u32 len)
{
	u16 tag = r->tail * 3;

	ring_request(r, tag, op, flags, sector, data, len);
	return ring_end(r, tag, op == VIREO_BLK_READ ? len : 0);
}

u16 ring_do_range(struct ring *r, u8 op, u8 flags, u64 sector, u64 sectors)
{
	struct vireo_blk_sub *sub = ring_next(r);

	sub->op = op;
	sub->flags = flags;
	sub->tag = 7;
	sub->sector = sector;
	sub->sectors = sectors;
	ring_put(r);
	return ring_end(r, 7, 0);
}

static u64 pattern(u64 at, u64 seed)
{
	u64 x = (at + 1) * 0x9e3779b97f4a7c15ULL ^ seed * 0xff51afd7ed558ccdULL;

	return x ^ x >> 29;
}

void pattern_fill(void *data, u32 len, u64 sector, u64 seed)
{
	u64 *p = data;
	u32 i;

	for (i = 0; i < len / 8; i++)
		p[i] = pattern(sector * 64 + i, seed);
}

bool pattern_is(const void *data, u32 len, u64 sector, u64 seed)
{
	const u64 *p = data;
	u32 i;

	for (i = 0; i < len / 8; i++)
		if (p[i] != pattern(sector * 64 + i, seed))
			return false;
	return true;
}
