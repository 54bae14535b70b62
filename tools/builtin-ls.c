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
	"List the running virtual machines of this user.\n"
	"\n"
	"  -j, --json   as a JSON array\n";

static const struct option ls_options[] = {
	{ "json", no_argument, NULL, 'j' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

static const char *get_text(struct json_object *vm, const char *key)
{
	struct json_object *value = NULL;

	json_object_object_get_ex(vm, key, &value);
	return value ? json_object_get_string(value) : "?";
}

static __u64 get_number(struct json_object *vm, const char *key)
{
	struct json_object *value = NULL;

	json_object_object_get_ex(vm, key, &value);
	return value ? json_object_get_uint64(value) : 0;
}

/* Ask each; one that ends meanwhile is left out, one that hangs is shown as such. */
static struct json_object *ask_all(struct json_object *names)
{
	struct json_object *vms = json_object_new_array(), *reply;
	struct vireo_error err;
	const char *name;
	size_t i;

	for (i = 0; i < json_object_array_length(names); i++) {
		name = json_object_get_string(json_object_array_get_idx(names, i));
		if (control_ask(name, "info", NULL, NULL, &reply, &err)) {
			if (err.code == ENOENT || err.code == EPIPE)
				continue;
			reply = json_object_new_object();
			json_object_object_add(reply, "name", json_object_new_string(name));
			json_object_object_add(reply, "state",
					       json_object_new_string("unresponsive"));
		}
		json_object_object_del(reply, "ok");
		json_object_array_add(vms, reply);
	}
	return vms;
}

static void print_table(struct json_object *vms)
{
	struct json_object *vm;
	char memory[32];
	size_t i;

	printf("%-24s %7s %-12s %5s %10s %10s\n", "NAME", "PID", "STATE", "VCPUS", "MEMORY",
	       "UPTIME");
	for (i = 0; i < json_object_array_length(vms); i++) {
		vm = json_object_array_get_idx(vms, i);
		format_size(get_number(vm, "memory"), memory, sizeof(memory));
		printf("%-24s %7llu %-12s %5llu %10s %9.1fs\n", get_text(vm, "name"),
		       get_number(vm, "pid"), get_text(vm, "state"), get_number(vm, "vcpus"),
		       memory, (double)get_number(vm, "uptime_ms") / 1000);
	}
}

int cmd_ls(int argc, char **argv)
{
	struct json_object *names = NULL, *vms;
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
	if (control_list(&names, &err)) {
		complain("%s", err.text);
		json_object_put(names);
		return STATUS_ERROR;
	}
	vms = ask_all(names);
	if (json)
		puts(json_object_to_json_string_ext(vms, JSON_C_TO_STRING_PRETTY |
						    JSON_C_TO_STRING_NOSLASHESCAPE));
	else
		print_table(vms);
	json_object_put(vms);
	json_object_put(names);
	return STATUS_OK;
}
