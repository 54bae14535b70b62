// SPDX-License-Identifier: GPL-2.0
/*
 * `vireo run` gives away what a snapshot is made of, and begins as one.
 *
 * It pauses its VM for no longer than it takes to fork its memory and to store the
 * rest; `vireo snapshot` gets the fork and writes it to disk in its own time.  If that
 * ends before it says so, what it was given goes with it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "builtin.h"
#include "session.h"

#define CHAIN_MAX	64	/* snapshots that build on each other */

/** id_format - a snapshot's id as text; @text has room for 33 characters */
void id_format(const __u8 *id, char *text)
{
	unsigned int i;

	for (i = 0; i < 16; i++)
		snprintf(text + 2 * i, 3, "%02x", id[i]);
}

static void release(struct frozen *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

/** session_forget - let go of the VM as of the last snapshot */
void session_forget(struct session *s)
{
	release(&s->frozen);
	release(&s->writing);
	s->writer = NULL;
}

/** session_client_gone - who writes a snapshot has ended: so does what was given to it */
void session_client_gone(void *ctx, struct control_client *client)
{
	struct session *s = ctx;

	if (client == s->writer) {
		s->writer = NULL;
		release(&s->writing);
	}
}

/* ---- storing ---- */

static void add_number(struct json_object *o, const char *key, __u64 value)
{
	json_object_object_add(o, key, json_object_new_uint64(value));
}

static void add_text(struct json_object *o, const char *key, const char *value)
{
	json_object_object_add(o, key, json_object_new_string(value));
}

static struct json_object *disk_object(const struct vireo_disk_spec *disk)
{
	struct json_object *o = json_object_new_object();
	char *path = realpath(disk->path, NULL);

	add_text(o, "kind", "disk");
	add_text(o, "path", path ? path : disk->path);
	free(path);
	json_object_object_add(o, "readonly", json_object_new_boolean(disk->readonly));
	if (disk->serial)
		add_text(o, "serial", disk->serial);
	add_number(o, "queues", disk->queues);
	add_number(o, "bps", disk->bps);
	add_number(o, "iops", disk->iops);
	return o;
}

static struct json_object *config_object(const struct session *s)
{
	struct json_object *o = json_object_new_object(), *devices = json_object_new_array();
	unsigned int i;

	add_number(o, "version", VIREO_SNAPSHOT_VERSION);
	add_text(o, "name", s->opt.name);
	add_text(o, "kernel", s->opt.kernel);
	add_number(o, "vcpus", s->opt.vcpus);
	add_number(o, "memory", s->opt.memory);
	add_number(o, "slots", s->opt.slots);
	for (i = 0; i < s->opt.devices; i++)
		json_object_array_add(devices, disk_object(&s->opt.device[i].disk));
	json_object_object_add(o, "devices", devices);
	return o;
}

/* The state goes through a file without a name; the fd, or a negative errno */
static int state_file(struct session *s, struct vireo_error *err)
{
	struct vireo_vcpu_state *vcpu = vireo_machine_save(&s->machine, err);
	struct vireo_state state = { .data = NULL };
	int fd = -1, ret;

	if (!vcpu)
		return -err->code;
	ret = vireo_state_store(&state, &s->machine, &s->console.uart, vcpu, err);
	if (!ret) {
		fd = memfd_create("vireo-state", MFD_CLOEXEC);
		if (fd < 0 || write(fd, state.data, state.end) != (ssize_t)state.end)
			ret = vireo_fail(err, errno, "cannot store the state: %s",
					 strerror(errno));
	}
	if (ret && fd >= 0)
		close(fd);
	vireo_state_free(vcpu, s->machine.vcpus);
	vireo_state_close(&state);
	return ret ? ret : fd;
}

static __u64 now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (__u64)now.tv_sec * 1000000000 + (__u64)now.tv_nsec;
}

/* Stop the VM for as long as it takes to fork it; the state's fd, or a negative errno */
static int freeze(struct session *s, struct vireo_error *err)
{
	bool paused = s->machine.state == VIREO_MACHINE_PAUSED;
	struct vireo_error why = { .code = 0 };
	__u64 begin = now_ns();
	int ret, fd = -1;

	ret = vireo_machine_can_snapshot(&s->machine, err);
	if (!ret)
		ret = vireo_machine_pause(&s->machine);
	if (ret)
		return ret;
	ret = vireo_machine_suspend(&s->machine, err);
	if (!ret)
		fd = state_file(s, err);
	if (fd >= 0)
		s->writing.fd = vireo_vm_fork(s->machine.vm.fd, err);
	if (vireo_machine_serve(&s->machine, true, &why))
		complain("%s: %s", s->opt.name, why.text);
	if (!paused)
		vireo_machine_resume(&s->machine);
	s->pause_ns = now_ns() - begin;
	if (s->writing.fd >= 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -err->code;
}

/**
 * session_snapshot - give the client that asks what a snapshot is made of
 * @s: the VM's
 * @request: see control.h
 * @reply: filled in
 * @err: why not
 */
int session_snapshot(struct session *s, struct json_object *request, struct json_object *reply,
		     struct vireo_error *err)
{
	static int state = -1;
	struct json_object *incremental = NULL;
	bool wanted = json_object_object_get_ex(request, "incremental", &incremental) &&
		      json_object_get_boolean(incremental);

	if (wanted && s->frozen.fd < 0)
		return vireo_fail(err, ENOENT,
				  "there is no snapshot of it to build on: take one without --incremental first");
	if (s->writer)
		return vireo_fail(err, EBUSY, "another snapshot of it is being written");
	if (state >= 0)
		close(state);
	state = freeze(s, err);
	if (state < 0)
		return state;
	s->writer = s->control.asking;
	s->control.fd[0] = s->writing.fd;
	s->control.fd[1] = state;
	s->control.fd[2] = s->frozen.fd;
	s->control.fds = wanted ? 3 : 2;
	json_object_object_add(reply, "config", config_object(s));
	if (wanted) {
		add_text(reply, "parent", s->frozen.id);
		add_text(reply, "path", s->frozen.path);
	}
	return 0;
}

static const char *get_text(struct json_object *o, const char *key)
{
	struct json_object *value = NULL;

	json_object_object_get_ex(o, key, &value);
	return value && json_object_is_type(value, json_type_string) ?
	       json_object_get_string(value) : "";
}

/** session_snapshot_done - it is on disk: the next may build on it */
int session_snapshot_done(struct session *s, struct json_object *request,
			  struct vireo_error *err)
{
	if (s->writer != s->control.asking || !s->writer)
		return vireo_fail(err, EINVAL, "no snapshot is being written");
	release(&s->frozen);
	s->frozen.fd = s->writing.fd;
	s->writing.fd = -1;
	s->writer = NULL;
	snprintf(s->frozen.id, sizeof(s->frozen.id), "%s", get_text(request, "id"));
	snprintf(s->frozen.path, sizeof(s->frozen.path), "%s", get_text(request, "path"));
	return 0;
}

/* ---- restoring ---- */

/* From the snapshot asked for to the one that all began with */
static struct vireo_store chain[CHAIN_MAX];
static unsigned int links;
static struct vireo_state_head head;
static struct json_object *config;	/* options point into it */

static void close_chain(void)
{
	while (links)
		vireo_store_close(&chain[--links]);
}

/* Relative to where the snapshot is, or not */
static void parent_path(const struct vireo_store *s, const char *path, char *buf, size_t len)
{
	char dir[PATH_MAX + 4];

	if (path[0] == '/') {
		snprintf(buf, len, "%s", path);
		return;
	}
	snprintf(dir, sizeof(dir), "%.4000s/..", s->path);
	snprintf(buf, len, "%s/%s", dir, path);
}

static struct json_object *read_config(struct vireo_store *s, struct vireo_error *err)
{
	char *text = vireo_store_config(s, err);
	struct json_object *o = text ? json_tokener_parse(text) : NULL;

	if (text && (!o || !json_object_is_type(o, json_type_object))) {
		json_object_put(o);
		o = NULL;
		vireo_fail(err, EINVAL, "%s/config.json is not a JSON object", s->path);
	}
	free(text);
	return o;
}

static int open_parent(struct vireo_store *s, const char *path, struct vireo_error *err)
{
	static const __u8 none[16];
	char full[PATH_MAX + 300];
	int ret;

	if (!memcmp(s->parent, none, sizeof(none)))
		return 0;
	if (!*path || links == CHAIN_MAX)
		return vireo_fail(err, EINVAL, "%s/config.json does not say what it builds on",
				  s->path);
	parent_path(s, path, full, sizeof(full));
	ret = vireo_store_open(&chain[links++], full, err);
	if (ret) {
		vireo_error_prefix(err, "%s builds on another", s->path);
		return ret;
	}
	if (memcmp(s->parent, chain[links - 1].id, sizeof(s->parent)))
		return vireo_fail(err, EINVAL,
				  "%s is not the snapshot that %s builds on: it was replaced",
				  full, s->path);
	return 1;
}

static int open_chain(struct session *s, struct vireo_error *err)
{
	struct json_object *o;
	int ret, more = 1;

	links = 1;
	ret = vireo_store_open(&chain[0], s->opt.snapshot, err);
	while (!ret && more) {
		o = read_config(&chain[links - 1], err);
		if (!o)
			return -err->code;
		more = open_parent(&chain[links - 1], get_text(o, "parent"), err);
		if (config)
			json_object_put(o);
		else
			config = o;
		if (more < 0)
			ret = more;
	}
	return ret;
}

static __u64 get_number(struct json_object *o, const char *key)
{
	struct json_object *value = NULL;

	json_object_object_get_ex(o, key, &value);
	return value ? json_object_get_uint64(value) : 0;
}

static int get_device(struct device_spec *spec, struct json_object *o, struct vireo_error *err)
{
	struct json_object *readonly = NULL;

	if (strcmp(get_text(o, "kind"), "disk") || !*get_text(o, "path"))
		return vireo_fail(err, EINVAL,
				  "config.json has a device that this vireo does not know");
	json_object_object_get_ex(o, "readonly", &readonly);
	*spec = (struct device_spec){
		.kind = DEVICE_DISK,
		.disk = {
			.path = get_text(o, "path"), .readonly = json_object_get_boolean(readonly),
			.serial = *get_text(o, "serial") ? get_text(o, "serial") : NULL,
			.queues = (unsigned int)get_number(o, "queues"),
			.bps = get_number(o, "bps"), .iops = get_number(o, "iops"),
		},
	};
	return 0;
}

/* What the machine is like: the state decides, the configuration must agree. */
static int get_options(struct session *s, struct vireo_error *err)
{
	struct json_object *devices = NULL;
	size_t i, count = 0;
	int ret = 0;

	if (get_number(config, "vcpus") != head.vcpus ||
	    get_number(config, "memory") != head.memory)
		return vireo_fail(err, EINVAL, "%s/config.json and state are not of one machine",
				  s->opt.snapshot);
	s->opt.vcpus = head.vcpus;
	s->opt.memory = head.memory;
	s->opt.slots = head.slots;
	s->opt.kernel = get_text(config, "kernel");
	if (json_object_object_get_ex(config, "devices", &devices) &&
	    json_object_is_type(devices, json_type_array))
		count = json_object_array_length(devices);
	if (count > ARRAY_SIZE(s->opt.device))
		return vireo_fail(err, EINVAL, "config.json has too many devices");
	for (i = 0; i < count && !ret; i++)
		ret = get_device(&s->opt.device[i], json_object_array_get_idx(devices, i), err);
	s->opt.devices = (unsigned int)count;
	return ret;
}

static int read_memory(struct session *s, struct vireo_error *err)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < links && !ret && s->opt.verify; i++)
		ret = vireo_store_verify(&chain[i], err);
	if (!ret)
		ret = vireo_store_map(&chain[links - 1], &s->machine.vm, head.memory, s->opt.eager,
				      err);
	for (i = links - 1; i-- && !ret;)
		ret = vireo_store_apply(&chain[i], &s->machine.vm, err);
	return ret;
}

/**
 * session_open_snapshot - check a snapshot, and make a machine with its memory
 * @s: with @opt.snapshot; gets the options that the machine has
 * @err: why not; then there is no machine
 */
int session_open_snapshot(struct session *s, struct vireo_error *err)
{
	struct vireo_info info;
	int ret, dev;

	ret = open_chain(s, err);
	dev = ret ? ret : vireo_device_open(&info, err);
	if (dev < 0)
		return dev;
	close(dev);
	ret = vireo_state_head(&chain[0].state, &head, &info, err);
	if (!ret)
		ret = get_options(s, err);
	if (!ret)
		ret = vireo_machine_init(&s->machine, head.vcpus, err);
	if (ret)
		return ret;
	ret = read_memory(s, err);
	if (ret)
		vireo_machine_destroy(&s->machine);
	return ret;
}

/**
 * session_restore - the devices and the state, when the memory is there
 * @s: after session_open_snapshot()
 * @err: why not
 */
int session_restore(struct session *s, struct vireo_error *err)
{
	int ret = add_devices(s, err);
	char *path;

	if (ret)
		return ret;
	/* Last, for it leaves traces: a file, a terminal in raw mode. */
	ret = console_open(&s->console, s->opt.console, err);
	if (ret)
		return ret;
	ret = console_attach(&s->console, &s->machine, err);
	if (!ret) {	/* with the memory as it is stored, and before queues are served */
		s->frozen.fd = vireo_vm_fork(s->machine.vm.fd, err);
		ret = s->frozen.fd < 0 ? -err->code :
		      vireo_state_load(&chain[0].state, &head, &s->machine, &s->console.uart, err);
	}
	if (ret) {
		console_close(&s->console);
		return ret;
	}
	path = realpath(s->opt.snapshot, NULL);
	snprintf(s->frozen.path, sizeof(s->frozen.path), "%s", path ? path : s->opt.snapshot);
	free(path);
	id_format(chain[0].id, s->frozen.id);
	close_chain();
	if (s->opt.paused)
		s->machine.state = VIREO_MACHINE_PAUSED;
	return 0;
}
