// SPDX-License-Identifier: GPL-2.0
/* vireo restore: start one VM or many as a snapshot has them. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "builtin.h"
#include "session.h"

static const char restore_help[] =
	"usage: vireo restore DIRECTORY [OPTION]...\n"
	"\n"
	"Start a virtual machine as vireo snapshot has stored it, and stay with it until it\n"
	"ends, as vireo run does; or with --count start many, and print their names.\n"
	"\n"
	"  -n, --name NAME      name (restored-PID); with --count NAME-1, NAME-2, ...\n"
	"  -c, --count N        how many\n"
	"  -l, --log DIRECTORY  with --count: console and messages of each, in NAME.log there\n"
	"  -e, --eager          copy all memory at once; else each has the pages of the file\n"
	"                       until it writes to them, and nobody can write to the file\n"
	"      --advance-clock  the guest's clocks go on by what has passed since the snapshot;\n"
	"                       else its time stood still, and its time of day is late until\n"
	"                       the guest sets it\n"
	"  -p, --paused         stand still until vireo resume\n"
	"      --verify         compare memory and overlays with their checksums first\n"
	"      --net INTERFACE[,bridge=B][,mac=M]  name of its first interface, then of its\n"
	"                       second, and so on; may hold one %d; else as in the snapshot,\n"
	"                       with another number; without mac= the guest's address is random\n"
	"      --disk-dir DIRECTORY  where its disk images are made, as IMAGE.NAME; without\n"
	"                       this each where the first machine has its own\n"
	"      --copy-disks     copy these where the file system cannot share their blocks\n"
	"      --cgroup DIRECTORY  run each in a cgroup of its name below that\n"
	"      --console WHERE  stdio (default), file:PATH (output alone) or none\n"
	"      --stat           print exit counters and memory on stderr at the end\n"
	"\n"
	"Exit status: as vireo run's.\n";

enum {
	OPT_VERIFY = 256,
	OPT_CONSOLE,
	OPT_STAT,
	OPT_NET,
	OPT_DISK_DIR,
	OPT_COPY_DISKS,
	OPT_CGROUP,
	OPT_ADVANCE_CLOCK,
};

static const struct option restore_options[] = {
	{ "name", required_argument, NULL, 'n' },
	{ "count", required_argument, NULL, 'c' },
	{ "log", required_argument, NULL, 'l' },
	{ "eager", no_argument, NULL, 'e' },
	{ "advance-clock", no_argument, NULL, OPT_ADVANCE_CLOCK },
	{ "paused", no_argument, NULL, 'p' },
	{ "verify", no_argument, NULL, OPT_VERIFY },
	{ "net", required_argument, NULL, OPT_NET },
	{ "disk-dir", required_argument, NULL, OPT_DISK_DIR },
	{ "copy-disks", no_argument, NULL, OPT_COPY_DISKS },
	{ "cgroup", required_argument, NULL, OPT_CGROUP },
	{ "console", required_argument, NULL, OPT_CONSOLE },
	{ "stat", no_argument, NULL, OPT_STAT },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

static struct session session;
static const char *log_dir;
static int tell_fd = -1;	/* of one of many: where its name goes when it runs */

/* The rest of an interface is as the guest knows it. */
static int set_net(struct run_options *opt, const char *text)
{
	struct device_spec *spec = &opt->net[opt->nets];
	struct vireo_error err = { .code = 0 };

	if (opt->nets == ARRAY_SIZE(opt->net))
		return usage_error("restore", "too many interfaces: %zu are possible",
				   ARRAY_SIZE(opt->net));
	if (device_parse(spec, DEVICE_NET, text, &err))
		return usage_error("restore", "--net %s: %s", text, err.text);
	if (spec->net.mtu != 1500 || spec->net.pairs || spec->net.filter)
		return usage_error("restore", "--net %s: bridge= and mac= are possible", text);
	opt->nets++;
	return -1;
}

/* Returns an exit status, or -1: go on. */
static int set_option(struct run_options *opt, __u64 *count, int c, const char *arg)
{
	switch (c) {
	case 'n':
		if (!name_is_valid(arg) || strlen(arg) > sizeof(opt->name) - 8)
			return usage_error("restore", "`%s` is not a name", arg);
		strcpy(opt->name, arg);
		return -1;
	case 'c':
		if (parse_number(arg, 1, CLONES_MAX, count))
			return usage_error("restore", "`%s` machines: 1 to %u are possible", arg,
					   CLONES_MAX);
		return -1;
	case 'l':
		log_dir = arg;
		return -1;
	case 'e':
		opt->eager = true;
		return -1;
	case 'p':
		opt->paused = true;
		return -1;
	case OPT_ADVANCE_CLOCK:
		opt->advance = true;
		return -1;
	case OPT_VERIFY:
		opt->verify = true;
		return -1;
	case OPT_NET:
		return set_net(opt, arg);
	case OPT_DISK_DIR:
		opt->disk_dir = arg;
		return -1;
	case OPT_COPY_DISKS:
		opt->copy_disks = true;
		return -1;
	case OPT_CGROUP:
		if (realpath(arg, opt->cgroup))
			return -1;
		return usage_error("restore", "--cgroup %s: %s", arg, strerror(errno));
	case OPT_CONSOLE:
		opt->console = arg;
		return -1;
	case OPT_STAT:
		opt->stat = true;
		return -1;
	default:
		fputs(restore_help, stdout);
		return STATUS_OK;
	}
}

static int parse(struct run_options *opt, __u64 *count, int argc, char **argv)
{
	int c, status;

	*opt = (struct run_options){ .console = "stdio" };
	snprintf(opt->name, sizeof(opt->name), "restored-%d", getpid());
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":n:c:l:eph", restore_options, NULL)) != -1) {
		if (c == ':')
			return usage_error("restore", "%s needs a value", argv[optind - 1]);
		if (c == '?')
			return usage_error("restore", "unknown option %s", argv[optind - 1]);
		status = set_option(opt, count, c, optarg);
		if (status >= 0)
			return status;
	}
	if (optind + 1 != argc)
		return usage_error("restore", "one DIRECTORY is needed");
	opt->snapshot = argv[optind];
	if (log_dir && !*count)
		return usage_error("restore", "--log goes with --count");
	return -1;
}

/* One of many runs: its name to who waits, and from now on what it says to its log. */
static void ready(struct session *s)
{
	dprintf(tell_fd, "%s\n", s->opt.name);
	close(tell_fd);
	dup2(STDOUT_FILENO, STDERR_FILENO);
}

/* In a process of its own */
static int run_one(struct session *s, const char *stem, __u64 number)
{
	char path[PATH_MAX] = "/dev/null";
	int null, fd;

	setsid();
	snprintf(s->opt.name, sizeof(s->opt.name), "%.57s-%llu", stem, number);
	if (log_dir && (size_t)snprintf(path, sizeof(path), "%s/%s.log", log_dir, s->opt.name) >=
	    sizeof(path))
		return STATUS_ERROR;
	null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW, 0600);
	if (null < 0 || fd < 0) {
		complain("cannot open %s: %s", path, strerror(errno));
		return STATUS_ERROR;
	}
	dup2(null, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	close(null);
	close(fd);
	return session_run(s, ready);
}

static bool is_taken(struct json_object *names, const char *stem, __u64 number)
{
	char name[80];
	size_t i;

	snprintf(name, sizeof(name), "%.57s-%llu", stem, number);
	for (i = 0; i < json_object_array_length(names); i++) {
		if (!strcmp(name, json_object_get_string(json_object_array_get_idx(names, i))))
			return true;
	}
	return false;
}

/* Print the names of those that run, as they come; how many there are */
static __u64 hear(int fd)
{
	FILE *in = fdopen(fd, "r");
	char line[128];
	__u64 n = 0;

	for (; in && fgets(line, sizeof(line), in); n++)
		fputs(line, stdout);
	if (in)
		fclose(in);
	return n;
}

static int run_many(struct session *s, __u64 count)
{
	struct json_object *names = NULL;
	struct vireo_error err;
	char stem[sizeof(s->opt.name)];
	__u64 i, number = 1;
	int fds[2];

	strcpy(stem, s->opt.name);
	if (control_list(&names, &err) || pipe2(fds, O_CLOEXEC)) {
		complain("cannot start: %s", names ? err.text : strerror(errno));
		return STATUS_ERROR;
	}
	for (i = 0; i < count; i++, number++) {
		while (is_taken(names, stem, number))
			number++;
		switch (fork()) {
		case 0:
			close(fds[0]);
			tell_fd = fds[1];
			_exit(run_one(s, stem, number));
		case -1:
			complain("fork: %s", strerror(errno));
			count = i;
			break;
		}
	}
	close(fds[1]);
	json_object_put(names);
	return hear(fds[0]) == count && count ? STATUS_OK : STATUS_ERROR;
}

int cmd_restore(int argc, char **argv)
{
	__u64 count = 0;
	int status;

	status = parse(&session.opt, &count, argc, argv);
	if (status >= 0)
		return status;
	return count ? run_many(&session, count) : session_run(&session, NULL);
}
