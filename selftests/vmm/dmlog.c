// SPDX-License-Identifier: GPL-2.0
/*
 * A block device that records what is written to it, and when it was flushed
 * (dm-log-writes):
 *
 *	dmlog create DATA LOG SECTORS	make it; prints its path
 *	dmlog remove
 *	dmlog check LOG COUNT		read the log of a guest that has written, one
 *		after the other, a page of "block I\n" at page I, with a flush, and
 *		then with FUA at page 256 + I, for I from 0 to COUNT - 1
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define NAME		"recorder"
#define MAGIC		0x6a736677736872ULL
#define SECTOR		512U
#define PAGE_SECTORS	8U
#define FUA_PAGE	256U

/* What an entry's flags say */
#define LOG_FLUSH	1U
#define LOG_FUA		2U
#define LOG_DISCARD	4U

struct super {
	uint64_t magic, version, entries;
	uint32_t sector_size;
};

struct entry {
	uint64_t sector, sectors, flags, data_len;
};

static int dm(unsigned long request, struct dm_ioctl *io, size_t size)
{
	int fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC), ret;

	if (fd < 0)
		return -1;
	io->version[0] = DM_VERSION_MAJOR;
	io->data_size = (uint32_t)size;
	io->data_start = sizeof(*io);
	strcpy(io->name, NAME);
	ret = ioctl(fd, request, io);
	close(fd);
	return ret;
}

static int create(const char *data, const char *log, unsigned long long sectors)
{
	struct {
		struct dm_ioctl io;
		struct dm_target_spec spec;
		char params[128];
	} table = {
		.io.target_count = 1,
		.spec = { .length = sectors, .target_type = "log-writes" },
	};
	struct dm_ioctl io = { .flags = 0 }, resume = { .flags = 0 };

	snprintf(table.params, sizeof(table.params), "%s %s", data, log);
	if (dm(DM_DEV_CREATE, &io, sizeof(io)) || dm(DM_TABLE_LOAD, &table.io, sizeof(table)) ||
	    dm(DM_DEV_SUSPEND, &resume, sizeof(resume))) {
		fprintf(stderr, "dmlog: %s\n", strerror(errno));
		return 1;
	}
	printf("/dev/dm-%u\n", minor(io.dev));
	return 0;
}

/* The page that an entry writes, if it is one of those; else -1 */
static int page_of(const struct entry *e, const char *data)
{
	char text[32];
	uint64_t page = e->sector / PAGE_SECTORS;

	if (e->sectors != PAGE_SECTORS || e->sector % PAGE_SECTORS)
		return -1;
	snprintf(text, sizeof(text), "block %llu\n", (unsigned long long)(page % FUA_PAGE));
	return strncmp(data, text, strlen(text)) ? -1 : (int)page;
}

/*
 * Each page was told to be durable before the next was written: a flush, or the
 * page's own FUA, stands between the two in the log.
 */
static int check(FILE *f, unsigned int count)
{
	unsigned int next = 0, fua = 0, flushes = 0, bad = 0;
	bool durable = true;
	char sector[SECTOR], data[SECTOR * PAGE_SECTORS];
	struct super super;
	uint64_t have, some;
	struct entry e;
	int page;

	if (fread(sector, SECTOR, 1, f) != 1)
		return 1;
	memcpy(&super, sector, sizeof(super));
	if (super.magic != MAGIC || super.sector_size != SECTOR) {
		fprintf(stderr, "dmlog: not a log\n");
		return 1;
	}
	for (; super.entries && fread(sector, SECTOR, 1, f) == 1; super.entries--) {
		memcpy(&e, sector, sizeof(e));
		memset(data, 0, sizeof(data));
		have = e.flags & LOG_DISCARD ? 0 : e.sectors;
		some = have < PAGE_SECTORS ? have : PAGE_SECTORS;
		if (fread(data, SECTOR, some, f) != some ||
		    fseek(f, (long)(have - some) * SECTOR, SEEK_CUR))
			return 1;
		page = page_of(&e, data);
		if (e.flags & LOG_FLUSH) {
			flushes++;
			durable = true;
		}
		if (page < 0)
			continue;
		if (page != (int)(next < count ? next : next - count + FUA_PAGE) || !durable) {
			printf("# page %d is the %u. in the log%s\n", page, next,
			       durable ? "" : ", and the one before was not durable");
			bad++;
		}
		next++;
		durable = e.flags & LOG_FUA;
		fua += page >= (int)FUA_PAGE && (e.flags & LOG_FUA);
	}
	printf("# %u pages, %u flushes, %u with FUA\n", next, flushes, fua);
	return bad || !durable || next != 2 * count || fua != count || flushes < count;
}

int main(int argc, char **argv)
{
	struct dm_ioctl io = { .flags = 0 };
	FILE *f;

	if (argc == 5 && !strcmp(argv[1], "create"))
		return create(argv[2], argv[3], strtoull(argv[4], NULL, 0));
	if (argc == 2 && !strcmp(argv[1], "remove"))
		return !!dm(DM_DEV_REMOVE, &io, sizeof(io));
	if (argc == 4 && !strcmp(argv[1], "check")) {
		f = fopen(argv[2], "re");
		if (f)
			return check(f, (unsigned int)atoi(argv[3]));
	}
	fprintf(stderr, "usage: dmlog create DATA LOG SECTORS | remove | check LOG COUNT\n");
	return 2;
}
