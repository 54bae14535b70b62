// SPDX-License-Identifier: GPL-2.0
/* vireo snapshot: store a VM in a directory while it runs. */
#include <errno.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "builtin.h"
#include "session.h"

#define ASK_SECONDS	60

static const char snapshot_help[] =
	"usage: vireo snapshot NAME DIRECTORY [--incremental] [--copy-disks]\n"
	"\n"
	"Store a virtual machine, which runs on, in DIRECTORY, for vireo restore. A\n"
	"snapshot that is there is replaced, but only by a complete one.\n"
	"\n"
	"  -i, --incremental   only what has changed since the last snapshot, which must\n"
	"                      stay where it is\n"
	"      --copy-disks    copy disks that the guest writes to where the file system cannot\n"
	"                      share their blocks (btrfs and XFS can); the machine stands still\n"
	"                      meanwhile\n"
	"\n"
	"Of a disk with an overlay (`,overlay`) what was written is stored. A read-only disk, or\n"
	"that below an overlay, must stay as it is.\n";

enum { OPT_COPY_DISKS = 256 };

static const struct option snapshot_options[] = {
	{ "incremental", no_argument, NULL, 'i' },
	{ "copy-disks", no_argument, NULL, OPT_COPY_DISKS },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

struct options {
	bool incremental;
	bool copy_disks;
	bool check;
};

/* On a terminal, at most ten times a second */
static void show_progress(const struct vireo_store *s)
{
	static struct timespec last;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if ((now.tv_sec - last.tv_sec) * 10 + (now.tv_nsec - last.tv_nsec) / 100000000 < 1 &&
	    s->done < s->total)
		return;
	last = now;
	fprintf(stderr, "\r%3llu%% of %llu MiB%s", s->done * 100 / s->total,
		s->total / VIREO_MIB, s->done < s->total ? "" : "\r\033[K");
}

static int parse_id(const char *text, __u8 *id)
{
	unsigned int i, byte;

	for (i = 0; i < 16; i++) {
		if (sscanf(text + 2 * i, "%2x", &byte) != 1)
			return -EINVAL;
		id[i] = (__u8)byte;
	}
	return 0;
}

/* What an incremental one builds on: by name where it lies beside it, so that both may move */
static int set_parent(struct vireo_store *s, struct json_object *reply,
		      struct json_object *config, struct vireo_error *err)
{
	char dir[PATH_MAX], above[PATH_MAX], parent[PATH_MAX], *full;
	const char *path = info_text(reply, "path");

	if (parse_id(info_text(reply, "parent"), s->parent))
		return vireo_fail(err, EPROTO, "the machine does not say what to build on");
	snprintf(dir, sizeof(dir), "%s", s->path);
	full = realpath(dirname(dir), NULL);
	snprintf(above, sizeof(above), "%s", full ? full : "");
	free(full);
	snprintf(dir, sizeof(dir), "%s", s->path);
	if (!strncmp(path, above, strlen(above)) && path[strlen(above)] == '/' &&
	    !strcmp(path + strlen(above) + 1, basename(dir)))
		return vireo_fail(err, EINVAL,
				  "%s is what the snapshot would build on: choose another directory",
				  s->path);
	snprintf(parent, sizeof(parent), "%s", path);
	if (!strcmp(dirname(parent), above)) {
		snprintf(parent, sizeof(parent), "%s", path);
		path = basename(parent);
	}
	json_object_object_add(config, "parent", json_object_new_string(path));
	return 0;
}

/* Write all but images; @fds as in control.h */
static int write_all(struct vireo_store *s, const int *fds, int base, struct json_object *config,
		     struct vireo_error *err)
{
	const char *text;
	struct stat st;
	void *state;
	int ret;

	ret = vireo_store_memory(s, fds[0], base, err);
	if (ret)
		return ret;
	if (fstat(fds[1], &st))
		return vireo_fail(err, errno, "no state: %s", strerror(errno));
	state = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fds[1], 0);
	if (state == MAP_FAILED)
		return vireo_fail(err, errno, "no state: %s", strerror(errno));
	text = json_object_to_json_string_ext(config, JSON_C_TO_STRING_PRETTY |
					      JSON_C_TO_STRING_NOSLASHESCAPE);
	ret = vireo_store_commit(s, state, (size_t)st.st_size, text, err);
	munmap(state, (size_t)st.st_size);
	return ret;
}

static int ask(int fd, const char *name, const char *command, struct options *o,
	       struct json_object **reply, int *fds, struct vireo_error *err)
{
	struct json_object *request = json_object_new_object();
	unsigned int i;
	int ret;

	for (i = 0; fds && i < CONTROL_FDS; i++)
		fds[i] = -1;
	json_object_object_add(request, "command", json_object_new_string(command));
	json_object_object_add(request, "incremental", json_object_new_boolean(o->incremental));
	json_object_object_add(request, "check", json_object_new_boolean(o->check));
	ret = control_exchange(fd, name, request, ASK_SECONDS, reply, fds, err);
	json_object_put(request);
	return ret;
}

/* Before anything stands still: whether it can be done as it should */
static int check(int fd, const char *name, struct vireo_store *s, struct options o,
		 struct vireo_error *err)
{
	struct json_object *reply, *disks = NULL;
	int fds[CONTROL_FDS], ret;
	size_t i, n;

	o.check = true;
	ret = ask(fd, name, "snapshot", &o, &reply, fds, err);
	if (ret)
		return ret;
	json_object_object_get_ex(reply, "disks", &disks);
	n = disks ? json_object_array_length(disks) : 0;
	for (i = 0; i < n && i < CONTROL_FDS && fds[i] >= 0; i++) {
		if (!ret && !o.copy_disks && !vireo_store_can_share(s, fds[i]))
			ret = vireo_fail(err, EOPNOTSUPP,
					 "%s is writable, and %s cannot share its blocks: use --copy-disks, which stops the machine for as long as that takes, or have both on one file system, of btrfs or XFS, or give the disk with `,overlay`",
					 info_text(json_object_array_get_idx(disks, i), "name"),
					 s->path);
		close(fds[i]);
	}
	json_object_put(reply);
	return ret;
}

/* What disks hold: of images at once, for the machine waits, of overlays when it runs. */
static int store_disks(struct vireo_store *s, struct json_object *disks, const int *fds,
		       __u32 kind, bool copy, unsigned int *count, struct vireo_error *err)
{
	size_t i, n = disks ? json_object_array_length(disks) : 0;
	struct json_object *disk;
	__u32 number;
	int ret = 0;

	*count = 0;
	for (i = 0; i < n && !ret; i++) {
		disk = json_object_array_get_idx(disks, i);
		number = (__u32)info_number(disk, "number");
		if (info_number(disk, "kind") != kind)
			continue;
		++*count;
		if (i >= VIREO_STORE_DISKS || fds[i] < 0)
			ret = vireo_fail(err, EPROTO, "the machine does not give its disks");
		else if (kind == VIREO_CONTENT_IMAGE)
			ret = vireo_store_image(s, number, fds[i], copy, err);
		else
			ret = vireo_store_overlay(s, number, fds[i], err);
	}
	return ret;
}

/* The next one may build on it. */
static int tell_done(int fd, const char *name, struct vireo_store *s, const char *id,
		     struct vireo_error *err)
{
	struct json_object *request = json_object_new_object(), *reply;
	char *path = realpath(s->path, NULL);
	int ret;

	json_object_object_add(request, "command", json_object_new_string("snapshot-done"));
	json_object_object_add(request, "id", json_object_new_string(id));
	json_object_object_add(request, "path", json_object_new_string(path ? path : s->path));
	free(path);
	ret = control_exchange(fd, name, request, ASK_SECONDS, &reply, NULL, err);
	json_object_put(request);
	if (!ret)
		json_object_put(reply);
	return ret;
}

/* @fds: of memory, state, perhaps what to build on, and disks */
static int write_from(int fd, const char *name, struct vireo_store *s, struct options *o,
		      struct json_object **reply, const int *fds, struct vireo_error *err)
{
	struct json_object *config = NULL, *disks = NULL, *more, *pause;
	const int *disk_fds = fds + (o->incremental ? 3 : 2);
	unsigned int count;
	char id[33];
	int ret;

	if (fds[0] < 0 || fds[1] < 0 || (o->incremental && fds[2] < 0) ||
	    !json_object_object_get_ex(*reply, "config", &config))
		return vireo_fail(err, EPROTO, "%s does not answer as expected", name);
	json_object_object_get_ex(*reply, "disks", &disks);
	id_format(s->id, id);
	json_object_object_add(config, "id", json_object_new_string(id));
	ret = o->incremental ? set_parent(s, *reply, config, err) : 0;
	if (!ret)
		ret = store_disks(s, disks, disk_fds, VIREO_CONTENT_IMAGE, o->copy_disks, &count,
				  err);
	if (!ret && count) {
		ret = ask(fd, name, "snapshot-disks", o, &more, NULL, err);
		if (!ret) {	/* which knows how long it stood still */
			pause = json_object_new_uint64(info_number(more, "pause_ns"));
			json_object_object_add(*reply, "pause_ns", pause);
			json_object_put(more);
		}
	}
	if (!ret)
		ret = store_disks(s, disks, disk_fds, VIREO_CONTENT_OVERLAY, false, &count, err);
	return ret ? ret : write_all(s, fds, o->incremental ? fds[2] : -1, config, err);
}

static int take(int fd, const char *name, struct vireo_store *s, struct options o,
		struct vireo_error *err)
{
	struct json_object *reply;
	int fds[CONTROL_FDS], ret;
	char id[33], size[32];

	if (isatty(STDERR_FILENO))
		s->progress = show_progress;
	ret = check(fd, name, s, o, err);
	if (!ret)
		ret = ask(fd, name, "snapshot", &o, &reply, fds, err);
	if (ret)
		return ret;
	ret = write_from(fd, name, s, &o, &reply, fds, err);
	id_format(s->id, id);
	format_size(s->written, size, sizeof(size));
	if (!ret) {
		printf("%s: %s of memory, the machine stood still for %.1f ms\n", s->path, size,
		       (double)info_number(reply, "pause_ns") / 1e6);
		ret = tell_done(fd, name, s, id, err);
	}
	json_object_put(reply);
	return ret;
}

int cmd_snapshot(int argc, char **argv)
{
	static struct vireo_store store;
	struct vireo_error err = { .code = 0 };
	struct options o = { .incremental = false };
	int c, fd, ret;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "ih", snapshot_options, NULL)) != -1) {
		if (c == 'h') {
			fputs(snapshot_help, stdout);
			return STATUS_OK;
		}
		if (c == '?')
			return usage_error("snapshot", "unknown option %s", argv[optind - 1]);
		o.incremental |= c == 'i';
		o.copy_disks |= c == OPT_COPY_DISKS;
	}
	if (optind + 2 != argc)
		return usage_error("snapshot", "NAME and DIRECTORY are needed");
	fd = control_connect(argv[optind], &err);
	if (fd < 0) {
		complain("%s", err.text);
		return STATUS_ERROR;
	}
	ret = vireo_store_create(&store, argv[optind + 1], &err);
	if (!ret)
		ret = take(fd, argv[optind], &store, o, &err);
	vireo_store_close(&store);
	close(fd);
	if (ret)
		complain("%s", err.text);
	return ret ? STATUS_ERROR : STATUS_OK;
}
