// SPDX-License-Identifier: GPL-2.0
/* vireo: find the subcommand. */
#include <ctype.h>
#include <errno.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "builtin.h"

static const struct command commands[] = {
	{ "run", cmd_run, "start a virtual machine and stay with it" },
	{ "ls", cmd_ls, "list the running virtual machines" },
	{ "stat", cmd_stat, "show exit counters and memory of one" },
	{ "pause", cmd_pause, "stop its processors for a while" },
	{ "resume", cmd_resume, "let them go on" },
	{ "stop", cmd_stop, "end it" },
	{ "fork", cmd_fork, "make running copies of it" },
	{ "snapshot", cmd_snapshot, "store it in a directory while it runs" },
	{ "restore", cmd_restore, "start one or many from there" },
	{ "template", cmd_template, "likewise, by name" },
	{ "attach", cmd_attach, "give it a disk or an interface while it runs" },
	{ "detach", cmd_detach, "take that away" },
	{ "resize", cmd_resize, "tell it that a disk has another size now" },
	{ "doctor", cmd_doctor, "say what this machine has or lacks, and how to mend it" },
};

/** complain - one line on stderr, with the name of the tool before it */
void complain(const char *fmt, ...)
{
	va_list args;

	fputs("vireo: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
}

/** usage_error - complain about the command line; returns the exit status */
int usage_error(const char *command, const char *fmt, ...)
{
	va_list args;

	fputs("vireo: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "; see `vireo %s%s--help`\n", command, *command ? " " : "");
	return STATUS_USAGE;
}

/** name_is_valid - whether a VM may have that name: [A-Za-z0-9_-][A-Za-z0-9._-]{0,63} */
bool name_is_valid(const char *name)
{
	size_t len = strlen(name), i;

	if (!len || len > 64 || name[0] == '.')
		return false;
	for (i = 0; i < len; i++) {
		if (!isalnum((unsigned char)name[i]) && !strchr("._-", name[i]))
			return false;
	}
	return true;
}

/**
 * parse_size - "512M", "5G", "1T", "65536K"; a bare number is in MiB
 * @text: what the user typed
 * @bytes: the result
 *
 * Return: 0, EINVAL (not a size), ERANGE (does not fit into 64 bits).
 */
int parse_size(const char *text, __u64 *bytes)
{
	static const char units[] = "KMGT";
	const char *unit;
	unsigned int shift = 20;
	char *end;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	*bytes = strtoull(text, &end, 10);
	if (errno)
		return -ERANGE;
	if (*end) {
		unit = strchr(units, toupper((unsigned char)*end));
		if (!unit || (end[1] && strcasecmp(end + 1, "iB") && strcasecmp(end + 1, "B")))
			return -EINVAL;
		shift = 10 * (unsigned int)(unit - units + 1);
	}
	if (*bytes > UINT64_MAX >> shift)
		return -ERANGE;
	*bytes <<= shift;
	return 0;
}

/** parse_number - a decimal number from @min to @max; 0, EINVAL or ERANGE */
int parse_number(const char *text, __u64 min, __u64 max, __u64 *value)
{
	char *end;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	*value = strtoull(text, &end, 10);
	if (*end)
		return -EINVAL;
	return errno || *value < min || *value > max ? -ERANGE : 0;
}

/** format_size - bytes for people: "512 MiB", "1.5 GiB" */
void format_size(__u64 bytes, char *buf, size_t len)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double value = (double)bytes;
	unsigned int i = 0;

	while (value >= 1024 && i < 4) {
		value /= 1024;
		i++;
	}
	snprintf(buf, len, value == (double)(__u64)value ? "%.0f %s" : "%.1f %s", value, units[i]);
}

static void print_help(void)
{
	size_t i;

	puts("usage: vireo COMMAND [OPTION]...\n");
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		printf("  %-8s %s\n", commands[i].name, commands[i].summary);
	puts("\n`vireo COMMAND --help` explains one, vireo(1) all of them.");
}

int main(int argc, char **argv)
{
	size_t i;

	/* Each VM is a process, and there are many: threads need no heap of their own. */
	mallopt(M_ARENA_MAX, 1);
	if (argc < 2) {
		complain("no command; see `vireo --help`");
		return STATUS_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		print_help();
		return STATUS_OK;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		printf("vireo %s (interface %u)\n", VIREO_VERSION, VIREO_API_VERSION);
		return STATUS_OK;
	}
	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].run(argc - 1, argv + 1);
	}
	return usage_error("", "no command `%s`", argv[1]);
}
