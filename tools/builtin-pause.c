// SPDX-License-Identifier: GPL-2.0
/* vireo pause, resume, stop and resize: one request each. */
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
	"usage: vireo stop NAME [--kill]\n"
	"\n"
	"End a virtual machine, as if its power were cut.\n"
	"\n"
	"  -k, --kill   kill its process, for one that does not answer\n";

static const char resize_help[] =
	"usage: vireo resize NAME DEVICE\n"
	"\n"
	"Tell a virtual machine that the file or block device behind a disk has another\n"
	"size now. DEVICE is what `vireo stat` calls it: disk0, disk1, ...\n";

static const struct option options[] = {
	{ "kill", no_argument, NULL, 'k' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

static int request(const char *command, const char *help, int argc, char **argv)
{
	bool may_kill = !strcmp(command, "stop"), force = false;
	bool resize = !strcmp(command, "resize");
	struct json_object *reply = NULL;
	struct vireo_error err;
	int c, ret;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "kh", options, NULL)) != -1) {
		if (c == 'h') {
			fputs(help, stdout);
			return STATUS_OK;
		}
		if (c == '?' || !may_kill)
			return usage_error(command, "unknown option %s", argv[optind - 1]);
		force = true;
	}
	if (optind + 1 + resize != argc)
		return usage_error(command, resize ? "NAME and DEVICE are needed" :
						     "one NAME is needed");
	if (force)
		ret = control_kill(argv[optind], &err);
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
