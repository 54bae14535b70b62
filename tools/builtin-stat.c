// SPDX-License-Identifier: GPL-2.0
/* vireo stat: exit counters and memory of one virtual machine. */
#include <getopt.h>
#include <stdio.h>

#include "builtin.h"
#include "control.h"

static const char stat_help[] =
	"usage: vireo stat NAME [--json]\n"
	"\n"
	"Show the exit counters, the memory and the devices of a running virtual machine.\n"
	"\n"
	"  -j, --json   as a JSON object\n";

static const struct option stat_options[] = {
	{ "json", no_argument, NULL, 'j' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

static void print_one(const char *key, struct json_object *value, const char *indent)
{
	printf("%s%-16s %s\n", indent, key, json_object_get_string(value));
}

/* A line for each device and one for each of its queues */
static void print_devices(struct json_object *devices)
{
	struct json_object *device, *queues, *queue, *field;
	size_t i, q;

	for (i = 0; i < json_object_array_length(devices); i++) {
		device = json_object_array_get_idx(devices, i);
		json_object_object_get_ex(device, "name", &field);
		printf("%s", json_object_get_string(field));
		json_object_object_get_ex(device, "backing", &field);
		printf(" %s\n", json_object_get_string(field));
		json_object_object_get_ex(device, "queues", &queues);
		for (q = 0; q < json_object_array_length(queues); q++) {
			queue = json_object_array_get_idx(queues, q);
			json_object_object_foreach(queue, key, value)
				printf(" %s %s", key, json_object_get_string(value));
			printf("\n");
		}
	}
}

static void print_stat(struct json_object *reply)
{
	json_object_object_foreach(reply, key, value) {
		if (json_object_is_type(value, json_type_array)) {
			print_devices(value);
			continue;
		}
		if (!json_object_is_type(value, json_type_object)) {
			print_one(key, value, "");
			continue;
		}
		printf("%s\n", key);
		json_object_object_foreach(value, name, count)
			print_one(name, count, "  ");
	}
}

int cmd_stat(int argc, char **argv)
{
	struct json_object *reply;
	struct vireo_error err;
	bool json = false;
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "jh", stat_options, NULL)) != -1) {
		if (c == 'h') {
			fputs(stat_help, stdout);
			return STATUS_OK;
		}
		if (c == '?')
			return usage_error("stat", "unknown option %s", argv[optind - 1]);
		json = true;
	}
	if (optind + 1 != argc)
		return usage_error("stat", "one NAME is needed");
	if (control_ask(argv[optind], "stat", NULL, NULL, &reply, &err)) {
		complain("%s", err.text);
		return STATUS_ERROR;
	}
	json_object_object_del(reply, "ok");
	if (json)
		puts(json_object_to_json_string_ext(reply, JSON_C_TO_STRING_PRETTY |
						    JSON_C_TO_STRING_NOSLASHESCAPE));
	else
		print_stat(reply);
	json_object_put(reply);
	return STATUS_OK;
}
