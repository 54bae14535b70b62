// SPDX-License-Identifier: GPL-2.0
/* vireo attach and detach: devices of a VM that runs. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "builtin.h"
#include "control.h"

#define DETACH_SECONDS	20	/* a Linux guest takes 5 before it begins */
#define POLL_NS		100000000L

static const char attach_help[] =
	"usage: vireo attach NAME --disk PATH[,OPTION]... | --net INTERFACE[,OPTION]...\n"
	"\n"
	"Put a disk or an interface into an empty slot of a running virtual machine; it\n"
	"has those that `vireo run --slots` gave it. The options are those of `vireo run`.\n";

static const char detach_help[] =
	"usage: vireo detach NAME DEVICE [--force]\n"
	"\n"
	"Have a running virtual machine let go of a device that was attached, and take it\n"
	"away. DEVICE is what `vireo stat` calls it: disk1, net0, ...\n"
	"\n"
	"  -f, --force   do not ask: what the guest has not written is lost\n";

static const struct option attach_options[] = {
	{ "disk", required_argument, NULL, 'd' },
	{ "net", required_argument, NULL, 'n' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

static const struct option detach_options[] = {
	{ "force", no_argument, NULL, 'f' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

/* The other process may be in another directory: make the path one from the root. */
static int absolute(const char *text, char *buf, size_t room)
{
	char dir[2048];
	size_t used = 0;
	const char *p;

	if (*text && *text != '/' && getcwd(dir, sizeof(dir))) {
		for (p = dir; *p && used + 3 < room; p++) {
			buf[used++] = *p;
			if (*p == ',')
				buf[used++] = *p;
		}
		if (used > 1)
			buf[used++] = '/';
	}
	if (used + strlen(text) >= room)
		return -ENAMETOOLONG;
	strcpy(buf + used, text);
	return 0;
}

static int ask(const char *name, const char *command, const char *device)
{
	struct json_object *reply;
	struct vireo_error err;

	if (control_ask(name, command, "device", device, &reply, &err)) {
		complain("%s", err.text);
		return STATUS_ERROR;
	}
	json_object_put(reply);
	return STATUS_OK;
}

int cmd_attach(int argc, char **argv)
{
	const char *disk = NULL, *net = NULL;
	char path[CONTROL_LINE / 2];
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":d:h", attach_options, NULL)) != -1) {
		switch (c) {
		case 'd':
			disk = optarg;
			break;
		case 'n':
			net = optarg;
			break;
		case 'h':
			fputs(attach_help, stdout);
			return STATUS_OK;
		case ':':
			return usage_error("attach", "%s needs a value", argv[optind - 1]);
		default:
			return usage_error("attach", "unknown option %s", argv[optind - 1]);
		}
	}
	if (optind + 1 != argc)
		return usage_error("attach", "one NAME is needed");
	if (!disk == !net)
		return usage_error("attach", "one --disk or one --net is needed");
	if (net)
		return ask(argv[optind], "attach-net", net);
	if (absolute(disk, path, sizeof(path)))
		return usage_error("attach", "the path is too long");
	return ask(argv[optind], "attach-disk", path);
}

/* Whether a VM has a device of that name; not, if it has ended */
static bool is_there(const char *name, const char *device)
{
	struct json_object *reply, *devices, *one, *text;
	struct vireo_error err;
	bool found = false;
	size_t i;

	if (control_ask(name, "stat", NULL, NULL, &reply, &err))
		return false;
	if (json_object_object_get_ex(reply, "devices", &devices)) {
		for (i = 0; i < json_object_array_length(devices) && !found; i++) {
			one = json_object_array_get_idx(devices, i);
			found = json_object_object_get_ex(one, "name", &text) &&
				!strcmp(json_object_get_string(text), device);
		}
	}
	json_object_put(reply);
	return found;
}

static int wait_until_gone(const char *name, const char *device)
{
	struct timespec delay = { .tv_nsec = POLL_NS };
	int tries;

	for (tries = 0; tries < DETACH_SECONDS * 10; tries++) {
		if (!is_there(name, device))
			return STATUS_OK;
		nanosleep(&delay, NULL);
	}
	complain("%s: the guest does not let go of %s: is it in use? --force takes it away", name,
		 device);
	return STATUS_ERROR;
}

int cmd_detach(int argc, char **argv)
{
	bool force = false;
	int c, status;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "fh", detach_options, NULL)) != -1) {
		if (c == 'h') {
			fputs(detach_help, stdout);
			return STATUS_OK;
		}
		if (c == '?')
			return usage_error("detach", "unknown option %s", argv[optind - 1]);
		force = true;
	}
	if (optind + 2 != argc)
		return usage_error("detach", "NAME and DEVICE are needed");
	status = ask(argv[optind], force ? "pull" : "detach", argv[optind + 1]);
	if (status != STATUS_OK || force)
		return status;
	return wait_until_gone(argv[optind], argv[optind + 1]);
}
