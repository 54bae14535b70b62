/* SPDX-License-Identifier: GPL-2.0 */
/* What the subcommands of vireo share. */
#ifndef _VIREO_BUILTIN_H
#define _VIREO_BUILTIN_H

#include <stdbool.h>

#include "lib/libvireo.h"
#include "lib/util.h"

#ifndef VIREO_VERSION
#define VIREO_VERSION	"0.1.0"
#endif

/* Exit statuses beside those of enum vireo_end */
#define STATUS_OK	0
#define STATUS_ERROR	1
#define STATUS_USAGE	2

/**
 * struct command - a subcommand
 * @name: what the user types
 * @run: does it; returns the exit status
 * @summary: one line for `vireo --help`
 */
struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary;
};

int cmd_run(int argc, char **argv);
int cmd_ls(int argc, char **argv);
int cmd_stat(int argc, char **argv);
int cmd_pause(int argc, char **argv);
int cmd_resume(int argc, char **argv);
int cmd_stop(int argc, char **argv);
int cmd_resize(int argc, char **argv);
int cmd_attach(int argc, char **argv);
int cmd_detach(int argc, char **argv);
int cmd_fork(int argc, char **argv);
int cmd_snapshot(int argc, char **argv);
int cmd_restore(int argc, char **argv);
int cmd_template(int argc, char **argv);
int cmd_doctor(int argc, char **argv);

/* cgroup.c */
int cgroup_enter(const char *dir, const char *name, struct vireo_error *err);

/* vireo.c */
void complain(const char *fmt, ...) VIREO_PRINTF(1, 2);
int usage_error(const char *command, const char *fmt, ...) VIREO_PRINTF(2, 3);
bool name_is_valid(const char *name);
int parse_size(const char *text, __u64 *bytes);
int parse_number(const char *text, __u64 min, __u64 max, __u64 *value);
void format_size(__u64 bytes, char *buf, size_t len);

#endif /* _VIREO_BUILTIN_H */
