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
	"usage: vireo fork NAME [--count N] [--name CLONE] [--log DIRECTORY]\n"
	"\n"
	"Make clones of a virtual machine, which go on from where it is; it goes on too.\n"
	"Prints their names.\n"
	"\n"
	"  -c, --count N        how many (1)\n"
	"  -n, --name CLONE     the clone's name; with --count CLONE-1, CLONE-2, ...;\n"
	"                       without this NAME-1, NAME-2, ..., the first that are free\n"
	"  -l, --log DIRECTORY  console and messages of each, in CLONE.log there; without\n"
	"                       this they go nowhere\n"
	"\n"
	"Disks must be read-only (`,ro`); network interfaces cannot be cloned yet.\n";

static const struct option fork_options[] = {
	{ "count", required_argument, NULL, 'c' },
	{ "name", required_argument, NULL, 'n' },
	{ "log", required_argument, NULL, 'l' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

/* The other process has a working directory of its own. */
static int add_log(struct json_object *request, const char *path)
{
	char *full = realpath(path, NULL);

	if (!full) {
		complain("cannot use %s for logs: %s", path, strerror(errno));
		return STATUS_ERROR;
	}
	json_object_object_add(request, "log", json_object_new_string(full));
	free(full);
	return 0;
}

/* Returns an exit status, or 0: go on. */
static int parse(struct json_object *request, __u64 *count, int argc, char **argv)
{
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":c:n:l:", fork_options, NULL)) != -1) {
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
		if (c == 'l' && add_log(request, optarg))
			return STATUS_ERROR;
	}
	if (optind + 1 != argc)
		return usage_error("fork", "one NAME is needed");
	return 0;
}

int cmd_fork(int argc, char **argv)
{
	struct json_object *request = json_object_new_object(), *reply, *clones = NULL;
	struct vireo_error err;
	__u64 count = 1;
	int status;
	size_t i;

	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		fputs(fork_help, stdout);
		return STATUS_OK;
	}
	json_object_object_add(request, "command", json_object_new_string("fork"));
	status = parse(request, &count, argc, argv);
	if (status)
		goto out;
	json_object_object_add(request, "count", json_object_new_uint64(count));
	status = STATUS_ERROR;
	if (control_request(argv[optind], request, 30 + (unsigned int)count, &reply, &err)) {
		complain("%s", err.text);
		goto out;
	}
	json_object_object_get_ex(reply, "clones", &clones);
	for (i = 0; clones && i < json_object_array_length(clones); i++)
		puts(json_object_get_string(json_object_array_get_idx(clones, i)));
	json_object_put(reply);
	status = STATUS_OK;
out:
	json_object_put(request);
	return status;
}
