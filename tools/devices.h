/* SPDX-License-Identifier: GPL-2.0 */
/* Devices of a VM, as the user names them and as the other commands see them. */
#ifndef _VIREO_DEVICES_H
#define _VIREO_DEVICES_H

#include <json-c/json.h>

#include "lib/libvireo.h"

enum { DEVICE_DISK, DEVICE_NET };

/**
 * struct device_spec - what --disk or --net asks for
 * @kind: DEVICE_*
 * @text: the option's value, cut into the strings that @disk and @net point to
 * @disk: a disk; 0 queues: as many as suit the VM
 * @net: an interface; 0 pairs: likewise
 * @image: restore: what @disk is to be made of, or NULL
 * @slot: restore: the slot that it is in, or VIREO_SLOT_NONE
 */
struct device_spec {
	int kind;
	char *text;
	struct vireo_disk_spec disk;
	struct vireo_net_spec net;
	struct vireo_content *image;
	int slot;
};

int device_parse(struct device_spec *spec, int kind, const char *text, struct vireo_error *err);
int device_add(struct vireo_machine *m, struct device_spec *spec, int slot,
	       struct vireo_error *err);
int device_add_rng(struct vireo_machine *m, struct vireo_error *err);
struct vireo_pv *device_find(struct vireo_machine *m, const char *name);
void device_refresh_nets(struct vireo_machine *m);
struct json_object *device_list(struct vireo_machine *m);

#endif /* _VIREO_DEVICES_H */
