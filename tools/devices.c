// SPDX-License-Identifier: GPL-2.0
/* Devices of a VM: the values of --disk and --net, and what `vireo stat` shows. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "builtin.h"
#include "devices.h"

#define DISK_QUEUES	8	/* without queues= at the most */
#define PAIRS		4	/* likewise */
#define OVERLAY_MAX	VIREO_GIB	/* without a size */

/* Cut the next field off *@rest at a comma; two commas are one that is meant. */
static char *next_field(char **rest)
{
	char *start = *rest, *from = start, *to = start;

	if (!start)
		return NULL;
	for (; *from; from++) {
		if (*from == ',' && *++from != ',') {
			*to = '\0';
			*rest = from;
			return start;
		}
		*to++ = *from;
	}
	*to = '\0';
	*rest = NULL;
	return start;
}

/* The value if @field is "@name=value", else NULL */
static const char *value_of(const char *field, const char *name)
{
	size_t len = strlen(name);

	return !strncmp(field, name, len) && field[len] == '=' ? field + len + 1 : NULL;
}

static int get_number(const char *option, const char *value, __u64 min, __u64 max, __u64 *number,
		      struct vireo_error *err)
{
	if (!parse_number(value, min, max, number))
		return 0;
	return vireo_fail(err, EINVAL, "%s=%s: a number from %llu to %llu is needed", option,
			  value, min, max);
}

/* Bytes per second: a bare number is in bytes. */
static int get_rate(const char *value, __u64 *rate, struct vireo_error *err)
{
	if (!parse_number(value, 1, ~0ULL, rate) || (!parse_size(value, rate) && *rate))
		return 0;
	return vireo_fail(err, EINVAL, "bps=%s: bytes per second are needed, as 1000000 or 100M",
			  value);
}

static int disk_option(struct vireo_disk_spec *disk, const char *field, struct vireo_error *err)
{
	const char *value;
	__u64 number;
	int ret;

	if (!strcmp(field, "ro")) {
		disk->readonly = true;
		return 0;
	}
	if (!strcmp(field, "overlay")) {
		disk->overlay = true;
		disk->overlay_max = OVERLAY_MAX;
		return 0;
	}
	value = value_of(field, "overlay");
	if (value) {
		disk->overlay = true;
		if (!parse_size(value, &disk->overlay_max) && disk->overlay_max)
			return 0;
		return vireo_fail(err, EINVAL, "overlay=%s: a size is needed, as 512M or 2G",
				  value);
	}
	value = value_of(field, "serial");
	if (value) {
		disk->serial = value;
		if (*value && strlen(value) <= VIREO_BLK_SERIAL)
			return 0;
		return vireo_fail(err, EINVAL, "serial=%s: 1 to %u characters are possible", value,
				  VIREO_BLK_SERIAL);
	}
	value = value_of(field, "queues");
	if (value) {
		ret = get_number("queues", value, 1, VIREO_PCI_QUEUES, &number, err);
		disk->queues = (unsigned int)number;
		return ret;
	}
	value = value_of(field, "bps");
	if (value)
		return get_rate(value, &disk->bps, err);
	value = value_of(field, "iops");
	if (value)
		return get_number("iops", value, 1, ~0ULL, &disk->iops, err);
	return vireo_fail(err, EINVAL,
			  "no option `%s`: ro, overlay, serial=, queues=, bps=, iops= are possible",
			  field);
}

static int get_mac(const char *value, __u8 *mac, struct vireo_error *err)
{
	unsigned int byte[6], i;
	char end;

	if (sscanf(value, "%2x:%2x:%2x:%2x:%2x:%2x%c", &byte[0], &byte[1], &byte[2], &byte[3],
		   &byte[4], &byte[5], &end) != 6 || strlen(value) != 17)
		return vireo_fail(err, EINVAL, "mac=%s: six bytes are needed, as 02:00:00:12:34:56",
				  value);
	if (byte[0] & 1 || !(byte[0] | byte[1] | byte[2] | byte[3] | byte[4] | byte[5]))
		return vireo_fail(err, EINVAL,
				  "mac=%s: no address of a single interface: the first byte must be even",
				  value);
	for (i = 0; i < 6; i++)
		mac[i] = (__u8)byte[i];
	return 0;
}

static int name_check(const char *name, struct vireo_error *err)
{
	size_t len = strlen(name);

	if (!len || len > 15 || strpbrk(name, "/: \t\n") || !strcmp(name, ".") ||
	    !strcmp(name, ".."))
		return vireo_fail(err, EINVAL,
				  "`%s` is not a name for an interface: 1 to 15 characters, no `/`, `:` or blanks",
				  name);
	return 0;
}

static int net_option(struct vireo_net_spec *net, const char *field, struct vireo_error *err)
{
	const char *value;
	__u64 number;
	int ret;

	if (!strcmp(field, "filter")) {
		net->filter = true;
		return 0;
	}
	value = value_of(field, "bridge");
	if (value) {
		net->bridge = value;
		return name_check(value, err);
	}
	value = value_of(field, "mac");
	if (value)
		return get_mac(value, net->mac, err);
	value = value_of(field, "mtu");
	if (value) {
		ret = get_number("mtu", value, VIREO_NET_MTU_MIN, VIREO_NET_MTU_MAX, &number, err);
		net->mtu = (__u32)number;
		return ret;
	}
	value = value_of(field, "queues");
	if (value) {
		ret = get_number("queues", value, 1, VIREO_NET_PAIRS, &number, err);
		net->pairs = (unsigned int)number;
		return ret;
	}
	return vireo_fail(err, EINVAL,
			  "no option `%s`: mac=, mtu=, queues=, filter, bridge= are possible",
			  field);
}

/**
 * device_parse - understand the value of --disk or --net
 * @spec: filled in; @spec->text is to be freed
 * @kind: DEVICE_*
 * @text: PATH or NAME, then options, with commas in between
 * @err: what is wrong with it
 */
int device_parse(struct device_spec *spec, int kind, const char *text, struct vireo_error *err)
{
	char *rest, *field;
	int ret = 0;

	*spec = (struct device_spec){ .kind = kind, .text = strdup(text), .net.mtu = 1500 };
	rest = spec->text;
	if (!rest)
		return vireo_fail(err, ENOMEM, "out of memory");
	field = next_field(&rest);
	spec->disk.path = field;
	spec->net.name = field;
	if (kind == DEVICE_NET)
		ret = name_check(field, err);
	else if (!*field)
		ret = vireo_fail(err, EINVAL, "a PATH is needed");
	while (!ret) {
		field = next_field(&rest);
		if (!field)
			break;
		if (kind == DEVICE_DISK)
			ret = disk_option(&spec->disk, field, err);
		else
			ret = net_option(&spec->net, field, err);
	}
	return ret;
}

/**
 * device_add - make a device and give it to a VM
 * @m: the VM
 * @spec: what
 * @slot: see vireo_machine_add()
 * @err: why not
 */
int device_add(struct vireo_machine *m, struct device_spec *spec, int slot,
	       struct vireo_error *err)
{
	struct vireo_pv *pv;

	if (!spec->disk.queues)
		spec->disk.queues = m->vcpus < DISK_QUEUES ? m->vcpus : DISK_QUEUES;
	if (!spec->net.pairs)
		spec->net.pairs = m->vcpus < PAIRS ? m->vcpus : PAIRS;
	if (spec->kind == DEVICE_DISK)
		pv = vireo_disk_create(&m->vm, &spec->disk, err);
	else
		pv = vireo_net_create(&m->vm, &spec->net, err);
	return pv ? vireo_machine_add(m, pv, slot, err) : -err->code;
}

/** device_add_rng - give a VM that does not run a source of random numbers */
int device_add_rng(struct vireo_machine *m, struct vireo_error *err)
{
	struct vireo_pv *pv = vireo_rng_create(&m->vm, err);

	return pv ? vireo_machine_add(m, pv, VIREO_SLOT_NONE, err) : -err->code;
}

/** device_find - a VM's device of that name, or NULL */
struct vireo_pv *device_find(struct vireo_machine *m, const char *name)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(m->device); i++) {
		if (m->device[i] && !strcmp(m->device[i]->name, name))
			return m->device[i];
	}
	return NULL;
}

/** device_refresh_nets - interfaces of the host have changed: tell the guest */
void device_refresh_nets(struct vireo_machine *m)
{
	struct vireo_error err;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(m->device); i++) {
		if (m->device[i] && !strcmp(m->device[i]->ops->kind, "net"))
			vireo_pv_refresh(m->device[i], &err);
	}
}

/* ---- statistics ---- */

static void add_number(struct json_object *object, const char *key, __u64 value)
{
	json_object_object_add(object, key, json_object_new_uint64(value));
}

static struct json_object *queue_object(unsigned int index, const struct vireo_queue_stat *stat)
{
	struct json_object *queue = json_object_new_object();

	add_number(queue, "queue", index);
	add_number(queue, "entries", stat->entries);
	add_number(queue, "bytes", stat->bytes);
	add_number(queue, "errors", stat->errors);
	add_number(queue, "in_flight", stat->in_flight);
	add_number(queue, "doorbells", stat->doorbells);
	add_number(queue, "interrupts", stat->interrupts);
	add_number(queue, "throttled", stat->throttled);
	add_number(queue, "dead", stat->error);
	return queue;
}

/* The guest's address, from the config part that it sees */
static void add_mac(struct json_object *device, const struct vireo_pv *pv)
{
	const __u8 *mac = ((const struct vireo_net_config *)pv->config)->mac;
	char text[18];

	snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		 mac[3], mac[4], mac[5]);
	json_object_object_add(device, "mac", json_object_new_string(text));
}

/** device_list - a VM's devices and the counters of the queues that are served */
struct json_object *device_list(struct vireo_machine *m)
{
	struct json_object *list = json_object_new_array(), *device, *queues;
	struct vireo_queue_stat stat;
	unsigned int i, q;

	for (i = 0; i < ARRAY_SIZE(m->device); i++) {
		struct vireo_pv *pv = m->device[i];

		if (!pv)
			continue;
		device = json_object_new_object();
		queues = json_object_new_array();
		json_object_object_add(device, "name", json_object_new_string(pv->name));
		json_object_object_add(device, "kind", json_object_new_string(pv->ops->kind));
		json_object_object_add(device, "backing", json_object_new_string(pv->backing));
		json_object_object_add(device, "removable",
				       json_object_new_boolean(!!pv->port));
		if (!strcmp(pv->ops->kind, "net"))
			add_mac(device, pv);
		if (vireo_disk_overlay(pv))
			add_number(device, "overlay_bytes", vireo_disk_overlay(pv));
		for (q = 0; q < pv->queues; q++) {
			if (!vireo_pv_stat(pv, q, &stat))
				json_object_array_add(queues, queue_object(q, &stat));
		}
		json_object_object_add(device, "queues", queues);
		json_object_array_add(list, device);
	}
	return list;
}
