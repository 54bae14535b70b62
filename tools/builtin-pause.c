// SPDX-License-Identifier: GPL-2.0
/* vireo pause, resume, stop and resize: one request each. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "builtin.h"
#include "control.h"

static const char pause_help[] =
	"usage: vireo pause NAME\n"
	"\n"
	"Stop the processors of a virtual machine; returns when they stand still.\n";

static const char resume_help[] =
	"usage: vireo resume NAME\n"
	"\n"
	"Let a paused virtual machine go on.\n";

static const char stop_help[] =
	"usage: vireo stop NAME [--tree] [--kill]\n"
	"\n"
	"End a virtual machine, as if its power were cut.\n"
	"\n"
	"  -t, --tree   and those that were forked from it, and from these\n"
	"  -k, --kill   kill its process, for one that does not answer\n";

static const char resize_help[] =
	"usage: vireo resize NAME DEVICE\n"
	"\n"
	"Tell a virtual machine that the file or block device behind a disk has another\n"
	"size now. DEVICE is what `vireo stat` calls it: disk0, disk1, ...\n";

static const struct option options[] = {
	{ "kill", no_argument, NULL, 'k' },
	{ "tree", no_argument, NULL, 't' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

static int stop(const char *name, bool force, struct vireo_error *err)
{
	struct json_object *reply = NULL;
	int ret;

	if (force)
		return control_kill(name, err);
	ret = control_ask(name, "stop", NULL, NULL, &reply, err);
	if (!ret)
		json_object_put(reply);
	return ret;
}

/* Whether a VM comes from one that was stopped */
static bool descends(struct json_object *vm, struct json_object *stopped)
{
	size_t i;

	for (i = 0; i < json_object_array_length(stopped); i++) {
		if (info_is_child(vm, json_object_array_get_idx(stopped, i)))
			return true;
	}
	return false;
}

/* The root first; then whatever comes from those stopped, until nothing more does. */
static int stop_tree(const char *name, bool force, struct vireo_error *err)
{
	struct json_object *stopped = json_object_new_array(), *vms = NULL, *vm;
	struct vireo_error why;
	bool found = true;
	size_t i;
	int ret;

	ret = control_ask(name, "info", NULL, NULL, &vm, err);
	if (!ret) {
		json_object_array_add(stopped, vm);
		ret = stop(name, force, err);
	}
	while (!ret && found) {
		found = false;
		ret = control_infos(&vms, err);
		for (i = 0; !ret && i < json_object_array_length(vms); i++) {
			vm = json_object_array_get_idx(vms, i);
			if (!descends(vm, stopped) ||
			    (stop(info_text(vm, "name"), force, &why) && why.code != ENOENT &&
			     why.code != EPIPE))
				continue;
			json_object_array_add(stopped, json_object_get(vm));
			found = true;
		}
		json_object_put(vms);
	}
	json_object_put(stopped);
	return ret;
}

static int request(const char *command, const char *help, int argc, char **argv)
{
	bool stops = !strcmp(command, "stop"), force = false, tree = false;
	bool resize = !strcmp(command, "resize");
	struct json_object *reply = NULL;
	struct vireo_error err;
	int c, ret;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "kth", options, NULL)) != -1) {
		if (c == 'h') {
			fputs(help, stdout);
			return STATUS_OK;
		}
		if (c == '?' || !stops)
			return usage_error(command, "unknown option %s", argv[optind - 1]);
		force |= c == 'k';
		tree |= c == 't';
	}
	if (optind + 1 + resize != argc)
		return usage_error(command, resize ? "NAME and DEVICE are needed" :
						     "one NAME is needed");
	if (stops)
		ret = tree ? stop_tree(argv[optind], force, &err) : stop(argv[optind], force, &err);
	else
		ret = control_ask(argv[optind], command, resize ? "device" : NULL,
				  resize ? argv[optind + 1] : NULL, &reply, &err);
	if (ret) {
		complain("%s", err.text);
		return STATUS_ERROR;
	}
	json_object_put(reply);
	return STATUS_OK;
}

int cmd_pause(int argc, char **argv)
{
	return request("pause", pause_help, argc, argv);
}

int cmd_resume(int argc, char **argv)
{
	return request("resume", resume_help, argc, argv);
}

int cmd_stop(int argc, char **argv)
{
	return request("stop", stop_help, argc, argv);
}

int cmd_resize(int argc, char **argv)
{
	return request("resize", resize_help, argc, argv);
}
