// SPDX-License-Identifier: GPL-2.0
/*
 * `vireo run` gives away what a snapshot is made of, and begins as one.
 *
 * It pauses its VM for no longer than it takes to fork its memory and to store the
 * rest; `vireo snapshot` gets the fork and writes it to disk in its own time.  If that
 * ends before it says so, what it was given goes with it.  Images of disks it is given
 * themselves, so the VM stands still until it has its own of them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
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
	if (f->fd < 0)
		return;
	close(f->fd);
	f->fd = -1;
}

/* What a writer had beside the VM */
static void take_back(struct session *s)
{
	while (s->given)
		close(s->given_fd[--s->given]);
}

/** session_forget - let go of the VM as of the last snapshot */
void session_forget(struct session *s)
{
	release(&s->frozen);
	release(&s->writing);
	take_back(s);
	s->writer = NULL;
}

static __u64 now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (__u64)now.tv_sec * 1000000000 + (__u64)now.tv_nsec;
}

/* The end of freeze() */
static void go_on(struct session *s)
{
	struct vireo_error why = { .code = 0 };

	s->copying = false;
	if (s->machine.state != VIREO_MACHINE_PAUSED)
		return;		/* it has ended */
	if (vireo_machine_serve(&s->machine, true, &why))
		complain("%s: %s", s->opt.name, why.text);
	if (!s->was_paused)
		vireo_machine_resume(&s->machine);
	s->pause_ns = now_ns() - s->begin_ns;
}

/** session_client_gone - who writes a snapshot has ended: so does what was given to it */
void session_client_gone(void *ctx, struct control_client *client)
{
	struct session *s = ctx;

	if (client == s->writer) {
		s->writer = NULL;
		release(&s->writing);
		take_back(s);
		if (s->copying)
			go_on(s);
	} else if (!s->writer) {
		take_back(s);
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

static const char *disk_kind(struct vireo_pv *pv)
{
	switch (vireo_disk_content(pv)) {
	case VIREO_CONTENT_OVERLAY:
		return "overlay";
	case VIREO_CONTENT_IMAGE:
		return "image";
	default:
		return "disk";
	}
}

static void add_disk(struct json_object *o, struct vireo_pv *pv,
		     const struct vireo_disk_spec *disk)
{
	char *path = realpath(disk->path, NULL);
	struct stat st;

	add_text(o, "kind", disk_kind(pv));
	add_number(o, "number", pv->number);
	add_text(o, "path", path ? path : disk->path);
	json_object_object_add(o, "block", json_object_new_boolean(!stat(disk->path, &st) &&
								   S_ISBLK(st.st_mode)));
	free(path);
	json_object_object_add(o, "readonly", json_object_new_boolean(disk->readonly));
	if (disk->overlay)
		add_number(o, "overlay", disk->overlay_max);
	add_text(o, "serial", disk->serial);
	add_number(o, "queues", disk->queues);
	add_number(o, "bps", disk->bps);
	add_number(o, "iops", disk->iops);
}

static void add_net(struct json_object *o, const struct vireo_net_spec *net)
{
	char mac[18];

	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", net->mac[0], net->mac[1],
		 net->mac[2], net->mac[3], net->mac[4], net->mac[5]);
	add_text(o, "kind", "net");
	add_text(o, "name", net->name);
	add_text(o, "mac", mac);
	add_number(o, "mtu", net->mtu);
	add_number(o, "queues", net->pairs);
	json_object_object_add(o, "filter", json_object_new_boolean(net->filter));
	if (net->bridge)
		add_text(o, "bridge", net->bridge);
}

/* A device as it is now, which is not always what the user asked for */
static struct json_object *device_object(const struct vireo_machine *m, unsigned int place)
{
	struct vireo_pv *pv = m->device[place];
	struct json_object *o = json_object_new_object();
	struct vireo_disk_spec disk;
	struct vireo_net_spec net;

	if (vireo_disk_describe(pv, &disk))
		add_disk(o, pv, &disk);
	else if (vireo_net_describe(pv, &net))
		add_net(o, &net);
	else
		add_text(o, "kind", pv->ops->kind);
	add_number(o, "place", place);
	if (pv->port)
		add_number(o, "slot", (__u64)(pv->port - m->port));
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
	add_number(o, "slots", s->machine.slots);
	for (i = 0; i < ARRAY_SIZE(s->machine.device); i++) {
		if (s->machine.device[i])
			json_object_array_add(devices, device_object(&s->machine, i));
	}
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

/* Give the client what disks hold: all of it, or the images alone. */
static int give_disks(struct session *s, bool all, struct json_object *list,
		      struct vireo_error *err)
{
	struct json_object *o;
	unsigned int i;
	char name[300];
	__u32 kind;
	int fd;

	for (i = 0; i < ARRAY_SIZE(s->machine.device); i++) {
		struct vireo_pv *pv = s->machine.device[i];

		kind = pv ? vireo_disk_content(pv) : 0;
		if (!kind || (!all && kind != VIREO_CONTENT_IMAGE))
			continue;
		fd = vireo_disk_content_fd(pv, err);
		if (fd < 0)
			return fd;
		s->given_fd[s->given++] = fd;
		s->control.fd[s->control.fds++] = fd;
		s->copying |= all && kind == VIREO_CONTENT_IMAGE;
		o = json_object_new_object();
		snprintf(name, sizeof(name), "%s (%s)", pv->name, pv->backing);
		add_text(o, "name", name);
		add_number(o, "number", pv->number);
		add_number(o, "kind", kind);
		json_object_array_add(list, o);
	}
	return 0;
}

/*
 * Stop the VM for as long as it takes to fork it, or if it has images until somebody
 * has copied these; the state's fd, or a negative errno
 */
static int freeze(struct session *s, struct json_object *disks, struct vireo_error *err)
{
	int ret, fd = -1;

	s->was_paused = s->machine.state == VIREO_MACHINE_PAUSED;
	s->begin_ns = now_ns();
	ret = vireo_machine_pause(&s->machine);
	if (ret)
		return ret;
	ret = vireo_machine_suspend(&s->machine, err);
	if (!ret)
		fd = state_file(s, err);
	if (fd >= 0)
		s->writing.fd = vireo_vm_fork(s->machine.vm.fd, err);
	if (s->writing.fd >= 0)
		ret = give_disks(s, true, disks, err);
	else
		ret = -err->code;
	if (ret || !s->copying)
		go_on(s);
	s->pause_ns = now_ns() - s->begin_ns;
	if (!ret)
		return fd;
	take_back(s);
	release(&s->writing);
	if (fd >= 0)
		close(fd);
	return ret;
}

static bool get_flag(struct json_object *o, const char *key)
{
	struct json_object *value = NULL;

	return json_object_object_get_ex(o, key, &value) && json_object_get_boolean(value);
}

/* Whether a snapshot is possible; with the images, for the client to see what it can do */
static int check(struct session *s, bool incremental, struct vireo_error *err)
{
	if (incremental && s->frozen.fd < 0)
		return vireo_fail(err, ENOENT,
				  "there is no snapshot of it to build on: take one without --incremental first");
	if (s->writer)
		return vireo_fail(err, EBUSY, "another snapshot of it is being written");
	take_back(s);
	return vireo_machine_can_snapshot(&s->machine, err);
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
	bool incremental = get_flag(request, "incremental");
	struct json_object *disks;
	int ret;

	ret = check(s, incremental, err);
	if (ret)
		return ret;
	disks = json_object_new_array();
	json_object_object_add(reply, "disks", disks);
	if (get_flag(request, "check"))
		return give_disks(s, false, disks, err);
	s->control.fds = incremental ? 3 : 2;	/* before those of the disks */
	if (state >= 0)
		close(state);
	state = freeze(s, disks, err);
	if (state < 0) {
		s->control.fds = 0;
		return state;
	}
	s->writer = s->control.asking;
	s->control.fd[0] = s->writing.fd;
	s->control.fd[1] = state;
	if (incremental)
		s->control.fd[2] = s->frozen.fd;
	json_object_object_add(reply, "config", config_object(s));
	if (incremental) {
		add_text(reply, "parent", s->frozen.id);
		add_text(reply, "path", s->frozen.path);
	}
	return 0;
}

/** session_snapshot_disks - its disks are copied: the VM goes on */
int session_snapshot_disks(struct session *s, struct vireo_error *err)
{
	if (s->writer != s->control.asking || !s->copying)
		return vireo_fail(err, EINVAL, "no disks are being copied");
	go_on(s);
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
	if (s->copying)
		go_on(s);
	take_back(s);
	release(&s->frozen);
	s->frozen.fd = s->writing.fd;
	s->writing.fd = -1;
	s->writer = NULL;
	snprintf(s->frozen.id, sizeof(s->frozen.id), "%s", get_text(request, "id"));
	snprintf(s->frozen.path, sizeof(s->frozen.path), "%s", get_text(request, "path"));
	return 0;
}

/* ---- restoring ---- */

/* From the snapshot asked for to the one that all began with: CHAIN_MAX, while needed */
static struct vireo_store *chain;
static unsigned int links;
static struct vireo_state_head head;
static struct json_object *config;	/* options point into it */

/* Where the devices were among all of the machine's */
static struct {
	unsigned int spec[VIREO_PCI_SLOTS + 1];	/* and behind these the other two */
	unsigned int rng;
	unsigned int console;
} places;

static void close_chain(void)
{
	while (links)
		vireo_store_close(&chain[--links]);
	free(chain);
	chain = NULL;
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

	chain = calloc(CHAIN_MAX, sizeof(*chain));
	if (!chain)
		return vireo_fail(err, ENOMEM, "out of memory");
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

static int no_disk(const char *kind, unsigned int number, struct vireo_error *err)
{
	return vireo_fail(err, EINVAL, "config.json has %s %u, and state has not", kind, number);
}

static int get_disk(struct session *s, struct device_spec *spec, struct json_object *o,
		    struct vireo_error *err)
{
	__u32 number = (__u32)get_number(o, "number");
	const char *kind = get_text(o, "kind");
	struct vireo_disk_spec *disk = &spec->disk;

	*spec = (struct device_spec){
		.kind = DEVICE_DISK,
		.disk = {
			.path = get_text(o, "path"), .readonly = get_flag(o, "readonly"),
			.overlay_max = get_number(o, "overlay"),
			.serial = *get_text(o, "serial") ? get_text(o, "serial") : NULL,
			.queues = (unsigned int)get_number(o, "queues"),
			.bps = get_number(o, "bps"), .iops = get_number(o, "iops"),
		},
	};
	if (!strcmp(kind, "overlay")) {
		disk->overlay = true;
		disk->store = &chain[0];
		disk->eager = s->opt.eager;
		disk->content = vireo_store_disk(&chain[0], number, VIREO_CONTENT_OVERLAY);
		return disk->content ? 0 : no_disk(kind, number, err);
	}
	if (!strcmp(kind, "image")) {
		spec->image = vireo_store_disk(&chain[0], number, VIREO_CONTENT_IMAGE);
		if (!spec->image)
			return no_disk(kind, number, err);
		if (get_flag(o, "block") && !s->opt.disk_dir)
			return vireo_fail(err, EINVAL,
					  "%s was a block device: say where its image is to be, with --disk-dir",
					  disk->path);
	}
	return 0;
}

/* A name like the first machine's and another address, unless the user has chosen */
static int get_net(struct session *s, struct device_spec *spec, struct json_object *o,
		   unsigned int number, struct vireo_error *err)
{
	const char *bridge = get_text(o, "bridge");
	const struct vireo_net_spec *own = NULL;

	if (number < s->opt.nets)
		own = &s->opt.net[number].net;
	*spec = (struct device_spec){
		.kind = DEVICE_NET, .text = calloc(1, 16),
		.net = {
			.mtu = (__u32)get_number(o, "mtu"), .filter = get_flag(o, "filter"),
			.pairs = (unsigned int)get_number(o, "queues"),
			.bridge = *bridge ? bridge : NULL,
		},
	};
	if (!spec->text)
		return vireo_fail(err, ENOMEM, "out of memory");
	snprintf(spec->text, 16, "%s", own ? own->name : get_text(o, "name"));
	if (!own)
		vireo_net_derive_name(spec->text);
	spec->net.name = spec->text;
	if (own && own->bridge)
		spec->net.bridge = own->bridge;
	if (own)
		memcpy(spec->net.mac, own->mac, sizeof(own->mac));
	return 0;
}

/* A small number; @none if it is not told */
static int get_index(struct json_object *o, const char *key, int none)
{
	__u64 value = get_number(o, key);

	if (!json_object_object_get_ex(o, key, NULL))
		return none;
	return value < 0xff ? (int)value : 0xff;
}

/* A disk or an interface */
static int get_spec(struct session *s, struct json_object *o, unsigned int *nets,
		    struct vireo_error *err)
{
	struct device_spec *spec = &s->opt.device[s->opt.devices];
	const char *kind = get_text(o, "kind");
	int ret;

	if (!strcmp(kind, "net"))
		ret = get_net(s, spec, o, (*nets)++, err);
	else if (*get_text(o, "path") && (!strcmp(kind, "disk") || !strcmp(kind, "overlay") ||
					  !strcmp(kind, "image")))
		ret = get_disk(s, spec, o, err);
	else
		return vireo_fail(err, EINVAL,
				  "config.json has a device that this vireo does not know");
	spec->slot = get_index(o, "slot", VIREO_SLOT_NONE);
	s->opt.devices++;
	return ret;
}

/* Where it was is told, or else the order. */
static int get_device(struct session *s, struct json_object *o, unsigned int index,
		      unsigned int *nets, struct vireo_error *err)
{
	const char *kind = get_text(o, "kind");
	unsigned int at = (unsigned int)get_index(o, "place", (int)index);

	if (!strcmp(kind, "console") && !s->opt.hvc) {
		s->opt.hvc = true;
		places.console = at;
		return 0;
	}
	if (!strcmp(kind, "rng") && !s->opt.rng) {
		s->opt.rng = true;
		places.rng = at;
		return 0;
	}
	if (s->opt.devices == ARRAY_SIZE(s->opt.device))
		return vireo_fail(err, EINVAL, "config.json has too many devices");
	places.spec[s->opt.devices] = at;
	return get_spec(s, o, nets, err);
}

static int get_devices(struct session *s, struct vireo_error *err)
{
	struct json_object *devices = NULL;
	unsigned int nets = 0;
	size_t i, count = 0;
	int ret = 0;

	if (json_object_object_get_ex(config, "devices", &devices) &&
	    json_object_is_type(devices, json_type_array))
		count = json_object_array_length(devices);
	for (i = 0; i < count && !ret; i++)
		ret = get_device(s, json_object_array_get_idx(devices, i), (unsigned int)i, &nets,
				 err);
	if (!ret && nets < s->opt.nets)
		ret = vireo_fail(err, EINVAL,
				 "the snapshot has %u interfaces, and --net was given %u times",
				 nets, s->opt.nets);
	return ret;
}

/* What the machine is like: the state decides, the configuration must agree. */
static int get_options(struct session *s, struct vireo_error *err)
{
	if (get_number(config, "vcpus") != head.vcpus ||
	    get_number(config, "memory") != head.memory)
		return vireo_fail(err, EINVAL, "%s/config.json and state are not of one machine",
				  s->opt.snapshot);
	s->opt.vcpus = head.vcpus;
	s->opt.memory = head.memory;
	s->opt.slots = head.slots;
	s->opt.kernel = get_text(config, "kernel");
	return get_devices(s, err);
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
	head.advance = s->opt.advance;
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

/* An image for each disk that has one, named after it and the machine */
static int give_image(struct session *s, struct device_spec *spec, struct vireo_error *err)
{
	const char *path = spec->disk.path, *slash = strrchr(path, '/'), *dir = s->opt.disk_dir;

	if (asprintf(&spec->text, "%s%s%s.%s", dir ? dir : "", dir ? "/" : "",
		     dir && slash ? slash + 1 : path, s->opt.name) < 0) {
		spec->text = NULL;
		return vireo_fail(err, ENOMEM, "out of memory");
	}
	spec->disk.path = spec->text;
	return vireo_store_give_image(&chain[0], spec->image, spec->text, s->opt.copy_disks, err);
}

/* Of a machine that does not come to be */
static void remove_images(struct session *s, unsigned int count)
{
	while (count--) {
		if (s->opt.device[count].image)
			unlink(s->opt.device[count].disk.path);
	}
}

static int give_images(struct session *s, struct vireo_error *err)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < s->opt.devices && !ret; i++) {
		if (s->opt.device[i].image)
			ret = give_image(s, &s->opt.device[i], err);
	}
	if (ret)
		remove_images(s, i - 1);
	return ret;
}

/* In the order in which they were made */
static int arrange(struct session *s, struct vireo_error *err)
{
	unsigned int count = s->opt.devices;

	if (s->opt.rng)
		places.spec[count++] = places.rng;
	if (s->opt.hvc)
		places.spec[count++] = places.console;
	return vireo_machine_arrange(&s->machine, places.spec, count, err);
}

/* With its console, which is there already */
static int load(struct session *s, struct vireo_error *err)
{
	int ret;

	s->console.wants_hvc = s->opt.hvc;
	ret = console_attach(&s->console, &s->machine, err);
	if (!ret)
		ret = arrange(s, err);
	if (ret)
		return ret;
	/* with the memory as it is stored, and before queues are served */
	s->frozen.fd = vireo_vm_fork(s->machine.vm.fd, err);
	return s->frozen.fd < 0 ? -err->code :
	       vireo_state_load(&chain[0].state, &head, &s->machine, &s->console.uart, err);
}

/**
 * session_restore - the devices and the state, when the memory is there
 * @s: after session_open_snapshot()
 * @err: why not
 */
int session_restore(struct session *s, struct vireo_error *err)
{
	int ret = give_images(s, err);
	char *path;

	if (ret)
		return ret;
	ret = add_devices(s, err);
	/* Last, for it leaves traces: a file, a terminal in raw mode. */
	if (!ret)
		ret = console_open(&s->console, s->opt.console, err);
	if (!ret) {
		ret = load(s, err);
		if (ret)
			console_close(&s->console);
	}
	if (ret) {
		remove_images(s, s->opt.devices);
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
