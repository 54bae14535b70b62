// SPDX-License-Identifier: GPL-2.0
/* vireo template: snapshots that have a name instead of a place. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "builtin.h"

static const char template_help[] =
	"usage: vireo template create TEMPLATE NAME [OPTION]...\n"
	"       vireo template run TEMPLATE [OPTION]...\n"
	"       vireo template list\n"
	"       vireo template remove TEMPLATE\n"
	"\n"
	"Make a template of the running virtual machine NAME, and start others from it;\n"
	"the options are those of vireo snapshot and vireo restore. Templates are snapshots in\n"
	"/var/lib/vireo/templates or, of other users than root, below $XDG_STATE_HOME\n"
	"(~/.local/state).\n";

static int templates_dir(char *buf, size_t len)
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	int n;

	if (!geteuid())
		n = snprintf(buf, len, "/var/lib/vireo/templates");
	else if (state && state[0] == '/')
		n = snprintf(buf, len, "%s/vireo/templates", state);
	else
		n = snprintf(buf, len, "%s/.local/state/vireo/templates", home ? home : "");
	return n < 0 || (size_t)n >= len ? -ENAMETOOLONG : 0;
}

/* Make all of a path that is not there. */
static int make_dirs(const char *path)
{
	char part[PATH_MAX];
	char *p;

	snprintf(part, sizeof(part), "%s", path);
	for (p = part + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(part, 0755) && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(part, 0700) && errno != EEXIST ? -errno : 0;
}

static int list(const char *dir)
{
	struct dirent **entry;
	int n = scandir(dir, &entry, NULL, alphasort), i;
	char path[PATH_MAX + 300];

	for (i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%s/%s/state", dir, entry[i]->d_name);
		if (name_is_valid(entry[i]->d_name) && !access(path, F_OK))
			puts(entry[i]->d_name);
		free(entry[i]);
	}
	if (n >= 0)
		free(entry);
	return STATUS_OK;
}

/* VMs that run from it keep what they need. */
static int remove_template(const char *path, const char *name)
{
	struct vireo_error err;

	if (!vireo_store_remove(path, &err))
		return STATUS_OK;
	if (err.code == ENOENT)
		complain("no template %s", name);
	else
		complain("%s", err.text);
	return STATUS_ERROR;
}

/* @argv: create, the template's name, the machine's name, perhaps options */
static int store_template(const char *dir, char *path, int argc, char **argv)
{
	int ret = make_dirs(dir);

	if (ret) {
		complain("cannot use %s: %s", dir, strerror(-ret));
		return STATUS_ERROR;
	}
	argv[1] = argv[2];
	argv[2] = path;
	return cmd_snapshot(argc, argv);
}

int cmd_template(int argc, char **argv)
{
	char dir[PATH_MAX - 100], path[PATH_MAX];

	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		fputs(template_help, stdout);
		return STATUS_OK;
	}
	if (templates_dir(dir, sizeof(dir))) {
		complain("XDG_STATE_HOME is too long");
		return STATUS_ERROR;
	}
	if (argc == 2 && !strcmp(argv[1], "list"))
		return list(dir);
	if (argc < 3)
		return usage_error("template",
				   "create, run, list or remove, and a name are needed");
	if (!name_is_valid(argv[2]))
		return usage_error("template", "`%s` is not a name", argv[2]);
	snprintf(path, sizeof(path), "%s/%s", dir, argv[2]);
	if (argc >= 4 && !strcmp(argv[1], "create"))
		return store_template(dir, path, argc - 1, argv + 1);
	if (argc == 3 && !strcmp(argv[1], "remove"))
		return remove_template(path, argv[2]);
	if (strcmp(argv[1], "run"))
		return usage_error("template", "cannot %s", argv[1]);
	argv[2] = path;
	return cmd_restore(argc - 1, argv + 1);
}
