// SPDX-License-Identifier: GPL-2.0
/* vireo fork: have a VM make clones of itself, and print their names. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "builtin.h"
#include "control.h"

static const char fork_help[] =
	"usage: vireo fork NAME [--count N] [--name CLONE] [--log DIRECTORY] [--net INTERFACE[,bridge=B]]...\n"
	"                  [--disk-dir DIRECTORY] [--cgroup DIRECTORY] [--exec COMMAND]\n"
	"\n"
	"Make clones of a virtual machine, which go on from where it is; it goes on too.\n"
	"Prints their names.\n"
	"\n"
	"  -c, --count N        how many (1)\n"
	"  -n, --name CLONE     the clone's name; with --count CLONE-1, CLONE-2, ...;\n"
	"                       without this NAME-1, NAME-2, ..., the first that are free\n"
	"  -l, --log DIRECTORY  console and messages of each, in CLONE.log there; without\n"
	"                       this they go nowhere\n"
	"      --net INTERFACE[,bridge=B]  name of its first interface, then of its second, and\n"
	"                       so on; may hold one %d; else as its own, with another number\n"
	"      --disk-dir DIRECTORY  where its disk images are made, on the file system of\n"
	"                       NAME's; without this each next to the one that it is a copy of\n"
	"      --cgroup DIRECTORY  run each in a cgroup of its name below that; else where\n"
	"                       NAME has its own\n"
	"  -e, --exec COMMAND   run this for each, when all run: a line for sh, with VIREO_NAME,\n"
	"                       VIREO_PARENT, VIREO_PID, VIREO_NET (interfaces), VIREO_MAC\n"
	"                       (the guest's addresses on these) in its environment\n"
	"\n"
	"Disks must be read-only (`,ro`), have an overlay (`,overlay`), or be files on a file\n"
	"system that can share blocks (btrfs, XFS): the copy is IMAGE.CLONE, and stays.\n";

enum { OPT_NET = 256, OPT_DISK_DIR, OPT_CGROUP };

static const struct option fork_options[] = {
	{ "count", required_argument, NULL, 'c' },
	{ "name", required_argument, NULL, 'n' },
	{ "log", required_argument, NULL, 'l' },
	{ "net", required_argument, NULL, OPT_NET },
	{ "disk-dir", required_argument, NULL, OPT_DISK_DIR },
	{ "cgroup", required_argument, NULL, OPT_CGROUP },
	{ "exec", required_argument, NULL, 'e' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

/* The other process has a working directory of its own. */
static int add_path(struct json_object *request, const char *key, const char *path)
{
	char *full = realpath(path, NULL);

	if (!full) {
		complain("cannot use %s for --%s: %s", path, key, strerror(errno));
		return STATUS_ERROR;
	}
	json_object_object_add(request, key, json_object_new_string(full));
	free(full);
	return 0;
}

static void add_net(struct json_object *request, const char *name)
{
	struct json_object *nets;

	if (!json_object_object_get_ex(request, "net", &nets)) {
		nets = json_object_new_array();
		json_object_object_add(request, "net", nets);
	}
	json_object_array_add(nets, json_object_new_string(name));
}

/* Returns an exit status, or 0: go on. */
static int parse(struct json_object *request, __u64 *count, const char **exec, int argc,
		 char **argv)
{
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":c:n:l:e:", fork_options, NULL)) != -1) {
		if (c == ':')
			return usage_error("fork", "%s needs a value", argv[optind - 1]);
		if (c == '?')
			return usage_error("fork", "unknown option %s", argv[optind - 1]);
		if (c == 'c' && parse_number(optarg, 1, CLONES_MAX, count))
			return usage_error("fork", "`%s` clones: 1 to %u are possible", optarg,
					   CLONES_MAX);
		if (c == 'n' && !name_is_valid(optarg))
			return usage_error("fork", "`%s` is not a name", optarg);
		if (c == 'n')
			json_object_object_add(request, "name", json_object_new_string(optarg));
		if (c == OPT_NET)
			add_net(request, optarg);
		if (c == 'e')
			*exec = optarg;
		if ((c == OPT_DISK_DIR && add_path(request, "disk-dir", optarg)) ||
		    (c == 'l' && add_path(request, "log", optarg)) ||
		    (c == OPT_CGROUP && add_path(request, "cgroup", optarg)))
			return STATUS_ERROR;
	}
	if (optind + 1 != argc)
		return usage_error("fork", "one NAME is needed");
	return 0;
}

/* Those that a key of the interfaces has, with blanks in between */
static void set_nets(const char *variable, struct json_object *devices, const char *key)
{
	char text[4096] = "";
	struct json_object *device, *value;
	size_t i, used = 0;

	for (i = 0; i < json_object_array_length(devices); i++) {
		device = json_object_array_get_idx(devices, i);
		if (strcmp(info_text(device, "kind"), "net") ||
		    !json_object_object_get_ex(device, key, &value) || used >= sizeof(text))
			continue;
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", used ? " " : "",
					 json_object_get_string(value));
	}
	setenv(variable, text, 1);
}

/* Run the user's command for a clone. */
static int run_hook(const char *command, const char *name, const char *parent)
{
	struct json_object *reply, *devices;
	struct vireo_error err;
	char pid[24];
	int status;

	if (control_ask(name, "stat", NULL, NULL, &reply, &err)) {
		complain("%s", err.text);
		return STATUS_ERROR;
	}
	snprintf(pid, sizeof(pid), "%llu", info_number(reply, "pid"));
	setenv("VIREO_NAME", name, 1);
	setenv("VIREO_PARENT", parent, 1);
	setenv("VIREO_PID", pid, 1);
	if (json_object_object_get_ex(reply, "devices", &devices)) {
		set_nets("VIREO_NET", devices, "backing");
		set_nets("VIREO_MAC", devices, "mac");
	}
	json_object_put(reply);
	fflush(stdout);
	status = system(command);
	if (!status)
		return STATUS_OK;
	complain("%s: the command of --exec failed", name);
	return STATUS_ERROR;
}

int cmd_fork(int argc, char **argv)
{
	struct json_object *request = json_object_new_object(), *reply, *clones = NULL;
	struct vireo_error err;
	const char *exec = NULL, *name;
	__u64 count = 1;
	int status;
	size_t i;

	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		fputs(fork_help, stdout);
		return STATUS_OK;
	}
	json_object_object_add(request, "command", json_object_new_string("fork"));
	status = parse(request, &count, &exec, argc, argv);
	if (status)
		goto out;
	json_object_object_add(request, "count", json_object_new_uint64(count));
	status = STATUS_ERROR;
	if (control_request(argv[optind], request, 30 + (unsigned int)count, &reply, &err)) {
		complain("%s", err.text);
		goto out;
	}
	json_object_object_get_ex(reply, "clones", &clones);
	status = STATUS_OK;
	for (i = 0; clones && i < json_object_array_length(clones); i++) {
		name = json_object_get_string(json_object_array_get_idx(clones, i));
		puts(name);
		if (exec && run_hook(exec, name, argv[optind]))
			status = STATUS_ERROR;
	}
	json_object_put(reply);
out:
	json_object_put(request);
	return status;
}
