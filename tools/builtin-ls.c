// SPDX-License-Identifier: GPL-2.0
/* vireo ls: the virtual machines that run. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "builtin.h"
#include "control.h"

static const char ls_help[] =
	"usage: vireo ls [--json]\n"
	"\n"
	"List the running virtual machines of this user, each below the one that it was\n"
	"forked from.\n"
	"\n"
	"  -j, --json   as a JSON array\n";

static const struct option ls_options[] = {
	{ "json", no_argument, NULL, 'j' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

static void print_vm(struct json_object *vm, unsigned int depth)
{
	char memory[32], name[128];
	bool clone = json_object_object_get_ex(vm, "parent", NULL);

	snprintf(name, sizeof(name), "%*s%s", (int)(2 * depth), "", info_text(vm, "name"));
	format_size(info_number(vm, "memory"), memory, sizeof(memory));
	printf("%-24s %7llu %-12s %5llu %10s %9.1fs %s\n", name, info_number(vm, "pid"),
	       info_text(vm, "state"), info_number(vm, "vcpus"), memory,
	       (double)info_number(vm, "uptime_ms") / 1000, clone ? info_text(vm, "parent") : "-");
}

/* Those that were forked from @parent, each with its own; NULL: the rest */
static void print_tree(struct json_object *vms, struct json_object *parent, unsigned int depth)
{
	size_t count = json_object_array_length(vms), i, j;
	struct json_object *vm;
	bool fits;

	for (i = 0; i < count; i++) {
		vm = json_object_array_get_idx(vms, i);
		fits = parent && info_is_child(vm, parent);
		if (!parent) {
			for (j = 0; j < count; j++) {
				if (info_is_child(vm, json_object_array_get_idx(vms, j)))
					break;
			}
			fits = j == count;
		}
		if (!fits)
			continue;
		print_vm(vm, depth);
		print_tree(vms, vm, depth + 1);
	}
}

int cmd_ls(int argc, char **argv)
{
	struct json_object *vms = NULL;
	struct vireo_error err;
	bool json = false;
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "jh", ls_options, NULL)) != -1) {
		if (c == 'h') {
			fputs(ls_help, stdout);
			return STATUS_OK;
		}
		if (c == '?')
			return usage_error("ls", "unknown option %s", argv[optind - 1]);
		json = true;
	}
	if (optind < argc)
		return usage_error("ls", "unexpected argument `%s`", argv[optind]);
	if (control_infos(&vms, &err)) {
		complain("%s", err.text);
		json_object_put(vms);
		return STATUS_ERROR;
	}
	if (json) {
		puts(json_object_to_json_string_ext(vms, JSON_C_TO_STRING_PRETTY |
						    JSON_C_TO_STRING_NOSLASHESCAPE));
	} else {
		printf("%-24s %7s %-12s %5s %10s %10s %s\n", "NAME", "PID", "STATE", "VCPUS",
		       "MEMORY", "UPTIME", "FROM");
		print_tree(vms, NULL, 0);
	}
	json_object_put(vms);
	return STATUS_OK;
}
