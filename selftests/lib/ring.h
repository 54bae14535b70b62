/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Disks and queues for tests: the ioctls, and a driver's half of a ring that
 * runs inside the guest.
 */
#ifndef SELFTESTS_RING_H
#define SELFTESTS_RING_H

#include <vireo_blk.h>

#include "guest.h"

/* The results of these are those of the system call, or -errno */
int disk_create(int vm, int file, u32 flags);
int disk_set(int disk, struct vireo_disk *d);
int queue_create(int disk, u32 doorbell, u64 ring, u32 entries);
int queue_resume(int disk, u32 doorbell, u64 ring, u32 entries, u32 start);
int queue_set_msi(int queue, u32 vcpu, u8 vector, u32 flags);

/* The block of a device, of anything else 512 */
u32 disk_block(int file);

/* Ends the test if it does not work */
struct vireo_queue_stat queue_stat(int queue);

/* Wait until so many have been taken; the test's time limit ends it */
void queue_wait_entries(int queue, u64 entries);

/* What disks are made of in jobs/ring.sh */
enum backing {
	BACKING_FILE,		/* tmpfs, through its page cache */
	BACKING_DIRECT,		/* a file by direct I/O */
	BACKING_BLOCK,		/* a block device with a cache and discard */
	BACKING_BLOCK_4K,	/* one with blocks of 4096 bytes */
	BACKINGS,
	BACKING_SLOW = BACKINGS	/* a block device, slow and with room for a few requests */
};

#define BACKING_SECTORS		16384	/* what each has at least */

extern const char * const backing_name[BACKINGS + 1];

/* Open it, all zero; -1 if this host does not have it */
int backing_open(enum backing b);
void backing_read(int file, void *buf, u32 len, u64 offset);

/* A VM with one vCPU, RAM of 16 MiB, a disk and one queue, doorbell 5, at RING */
struct test_disk {
	struct test_vm vm;
	int file;
	int disk;
	int queue;
};

#define RING		VM_SCRATCH
#define DATA		0x800000	/* of the guest, 8 MiB */
#define DOORBELL	5
#define ENTRIES		64

bool disk_boot(struct test_disk *d, enum backing b, u32 vcpus, u32 flags);
void disk_close(struct test_disk *d);

/* ---- Inside the guest --------------------------------------------------------- */

struct ring {
	struct vireo_ring_ctl *ctl;
	struct vireo_comp *comp;
	struct vireo_blk_sub *sub;
	u32 entries;
	u32 doorbell;
	u32 tail;		/* put */
	u32 told;		/* of these, when the device was told last */
	u32 head;		/* completions taken */
};

void ring_open(struct ring *r, u64 gpa, u32 entries, u32 doorbell);

/* The next entry, cleared; ring_put() after it is filled in */
struct vireo_blk_sub *ring_next(struct ring *r);
void ring_put(struct ring *r);

/* Ring the doorbell if the device asks for it; whether it did */
bool ring_kick(struct ring *r);

bool ring_take(struct ring *r, struct vireo_comp *comp);
struct vireo_comp ring_wait(struct ring *r);

/* A request with one segment; and all the way to its completion: the status */
void ring_request(struct ring *r, u16 tag, u8 op, u8 flags, u64 sector, void *data, u32 len);
u16 ring_do(struct ring *r, u8 op, u8 flags, u64 sector, void *data, u32 len);
u16 ring_do_range(struct ring *r, u8 op, u8 flags, u64 sector, u64 sectors);

/* A pattern that tells each 8 bytes of a disk from all others */
void pattern_fill(void *data, u32 len, u64 sector, u64 seed);
bool pattern_is(const void *data, u32 len, u64 sector, u64 seed);

#endif /* SELFTESTS_RING_H */
