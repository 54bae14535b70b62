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
	"usage: vireo snapshot NAME DIRECTORY [--incremental]\n"
	"\n"
	"Store a virtual machine, which runs on, in DIRECTORY, for vireo restore. A\n"
	"snapshot that is there is replaced, but only by a complete one.\n"
	"\n"
	"  -i, --incremental   only what has changed since the last snapshot, which must\n"
	"                      stay where it is\n"
	"\n"
	"Disks must be read-only, and stay as they are; network interfaces and devices in\n"
	"slots cannot be in a snapshot.\n";

static const struct option snapshot_options[] = {
	{ "incremental", no_argument, NULL, 'i' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
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

/* Write all of it; @fds as in control.h */
static int write_all(struct vireo_store *s, const int *fds, struct json_object *config,
		     struct vireo_error *err)
{
	const char *text;
	struct stat st;
	void *state;
	int ret;

	if (isatty(STDERR_FILENO))
		s->progress = show_progress;
	ret = vireo_store_memory(s, fds[0], fds[2], err);
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

static int take(int fd, const char *name, struct vireo_store *s, bool incremental,
		struct vireo_error *err)
{
	struct json_object *request = json_object_new_object(), *reply, *config = NULL;
	int fds[CONTROL_FDS] = { -1, -1, -1 }, ret;
	char id[33], size[32];

	json_object_object_add(request, "command", json_object_new_string("snapshot"));
	json_object_object_add(request, "incremental", json_object_new_boolean(incremental));
	ret = control_exchange(fd, name, request, ASK_SECONDS, &reply, fds, err);
	json_object_put(request);
	if (ret)
		return ret;
	if (fds[0] < 0 || fds[1] < 0 || (incremental && fds[2] < 0) ||
	    !json_object_object_get_ex(reply, "config", &config))
		ret = vireo_fail(err, EPROTO, "%s does not answer as expected", name);
	id_format(s->id, id);
	if (!ret)
		json_object_object_add(config, "id", json_object_new_string(id));
	if (!ret && incremental)
		ret = set_parent(s, reply, config, err);
	if (!ret)
		ret = write_all(s, fds, config, err);
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
	bool incremental = false;
	int c, fd, ret;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "ih", snapshot_options, NULL)) != -1) {
		if (c == 'h') {
			fputs(snapshot_help, stdout);
			return STATUS_OK;
		}
		if (c == '?')
			return usage_error("snapshot", "unknown option %s", argv[optind - 1]);
		incremental = true;
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
		ret = take(fd, argv[optind], &store, incremental, &err);
	vireo_store_close(&store);
	close(fd);
	if (ret)
		complain("%s", err.text);
	return ret ? STATUS_ERROR : STATUS_OK;
}
