// SPDX-License-Identifier: GPL-2.0
/* vireo run: start a VM, be its console and its control socket, report its end. */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "builtin.h"
#include "console.h"
#include "control.h"
#include "devices.h"
#include "session.h"

#define MEMORY_MIN	(64 * VIREO_MIB)
#define TIDY_STACK	(32 * VIREO_PAGE)
#define MEMORY_DEFAULT	(256 * VIREO_MIB)

/*
 * Before what the user appends: Linux prints to the serial port, and resets at
 * once when it panics, through the ACPI reset register: on hardware-reduced ACPI
 * it would else try EFI and the BIOS (reboot_init() in arch/x86/kernel/reboot.c).
 * Nothing else is needed: the ACPI tables tell it what is not there.
 */
#define DEFAULT_CMDLINE	"console=ttyS0 panic=-1 reboot=a"

/* hvc0 needs a driver: until that is loaded, the serial port serves. */
#define HVC_CMDLINE	"earlycon=uart8250,io,0x3f8 console=hvc0 panic=-1 reboot=a"

static const char run_help[] =
	"usage: vireo run --kernel FILE [OPTION]...\n"
	"\n"
	"Start a virtual machine and stay with it until it ends.\n"
	"\n"
	"  -k, --kernel FILE    bzImage, or ELF kernel with a PVH entry\n"
	"  -i, --initrd FILE    initial RAM disk\n"
	"  -a, --append STRING  add to the kernel command line \"" DEFAULT_CMDLINE "\"\n"
	"      --no-default-append  the command line is what --append says and no more\n"
	"  -c, --vcpus N        processors (1)\n"
	"  -m, --memory SIZE    memory: 256M, 5G, ...; a bare number is in MiB (256M)\n"
	"  -d, --disk PATH[,ro][,overlay[=SIZE]][,serial=S][,queues=N][,bps=N][,iops=N]\n"
	"                       file or block device as a disk; may be repeated; overlay:\n"
	"                       what the guest writes stays in memory, at most SIZE (1G)\n"
	"      --net NAME[,mac=M][,mtu=N][,queues=N][,filter][,bridge=B]\n"
	"                       make interface NAME, whose other end is the guest's\n"
	"      --rng            a source of random numbers, the host's\n"
	"      --slots N        slots for vireo attach, 0 to 16 (0); what is given here\n"
	"                       gets some, too, and can be detached\n"
	"  -n, --name NAME      name for ls, stat, pause, resume, stop (vm-PID)\n"
	"      --console [serial,|hvc,]WHERE\n"
	"                       stdio (default), file:PATH (output alone) or none;\n"
	"                       hvc alone: hvc,stdio\n"
	"      --cgroup DIRECTORY  run in a cgroup of this name below that\n"
	"      --no-console     the same as --console none\n"
	"      --stat           print exit counters and memory on stderr at the end\n"
	"\n"
	"On a terminal Ctrl-A x ends the machine, Ctrl-A h shows more keys.\n"
	"Exit status: 0 powered off, 10 rebooted, 11 crashed, 12 shut down by the\n"
	"processor, 13 stopped from outside, 14 refused by the processor, 1 error, 2 usage.\n";

enum {
	OPT_NO_DEFAULT_APPEND = 256,
	OPT_CONSOLE,
	OPT_NO_CONSOLE,
	OPT_STAT,
	OPT_NET,
	OPT_SLOTS,
	OPT_CGROUP,
	OPT_RNG,
};

static const struct option run_options[] = {
	{ "kernel", required_argument, NULL, 'k' },
	{ "initrd", required_argument, NULL, 'i' },
	{ "append", required_argument, NULL, 'a' },
	{ "no-default-append", no_argument, NULL, OPT_NO_DEFAULT_APPEND },
	{ "vcpus", required_argument, NULL, 'c' },
	{ "memory", required_argument, NULL, 'm' },
	{ "disk", required_argument, NULL, 'd' },
	{ "net", required_argument, NULL, OPT_NET },
	{ "rng", no_argument, NULL, OPT_RNG },
	{ "slots", required_argument, NULL, OPT_SLOTS },
	{ "name", required_argument, NULL, 'n' },
	{ "cgroup", required_argument, NULL, OPT_CGROUP },
	{ "console", required_argument, NULL, OPT_CONSOLE },
	{ "no-console", no_argument, NULL, OPT_NO_CONSOLE },
	{ "stat", no_argument, NULL, OPT_STAT },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

static int set_memory(struct run_options *opt, const char *text)
{
	if (parse_size(text, &opt->memory))
		return usage_error("run", "`%s` is not a memory size: 256M, 5G, ...", text);
	if (opt->memory < MEMORY_MIN)
		return usage_error("run", "memory of %s: at least 64M are needed", text);
	if (opt->memory % VIREO_PAGE)
		return usage_error("run", "memory of %s: not a multiple of 4K", text);
	return 0;
}

static int set_name(struct run_options *opt, const char *text)
{
	if (!name_is_valid(text))
		return usage_error("run",
				   "`%s` is not a name: 1 to 64 letters, digits, `.`, `_`, `-`, not beginning with `.`",
				   text);
	strcpy(opt->name, text);
	return 0;
}

static int set_device(struct run_options *opt, int kind, const char *text)
{
	struct vireo_error err = { .code = 0 };

	if (opt->devices == ARRAY_SIZE(opt->device))
		return usage_error("run", "too many disks and interfaces: %zu are possible",
				   ARRAY_SIZE(opt->device));
	if (device_parse(&opt->device[opt->devices], kind, text, &err))
		return usage_error("run", "--%s %s: %s", kind == DEVICE_DISK ? "disk" : "net", text,
				   err.text);
	opt->devices++;
	return 0;
}

static int set_option(struct run_options *opt, int c, const char *arg)
{
	switch (c) {
	case 'k':
		opt->kernel = arg;
		return 0;
	case 'i':
		opt->initrd = arg;
		return 0;
	case 'a':
		opt->append = arg;
		return 0;
	case OPT_NO_DEFAULT_APPEND:
		opt->bare = true;
		return 0;
	case 'c':
		if (parse_number(arg, 1, VIREO_MAX_VCPUS, &opt->vcpus))
			return usage_error("run", "`%s` vCPUs: 1 to %u are possible", arg,
					   VIREO_MAX_VCPUS);
		return 0;
	case 'm':
		return set_memory(opt, arg);
	case 'n':
		return set_name(opt, arg);
	case 'd':
		return set_device(opt, DEVICE_DISK, arg);
	case OPT_NET:
		return set_device(opt, DEVICE_NET, arg);
	case OPT_SLOTS:
		if (parse_number(arg, 0, VIREO_PORTS, &opt->slots))
			return usage_error("run", "`%s` slots: 0 to %u are possible", arg,
					   VIREO_PORTS);
		return 0;
	case OPT_CONSOLE:
		opt->console = arg;
		return 0;
	case OPT_CGROUP:
		if (realpath(arg, opt->cgroup))
			return 0;
		return usage_error("run", "--cgroup %s: %s", arg, strerror(errno));
	case OPT_NO_CONSOLE:
		opt->console = "none";
		return 0;
	case OPT_RNG:
		opt->rng = true;
		return 0;
	case OPT_STAT:
		opt->stat = true;
		return 0;
	default:
		return STATUS_USAGE;
	}
}

/* Returns an exit status, or -1: go on. */
static int parse_options(struct run_options *opt, int argc, char **argv)
{
	int c, status;

	*opt = (struct run_options){ .vcpus = 1, .memory = MEMORY_DEFAULT, .console = "stdio" };
	snprintf(opt->name, sizeof(opt->name), "vm-%d", getpid());
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":k:i:a:c:m:d:n:h", run_options, NULL)) != -1) {
		if (c == 'h') {
			fputs(run_help, stdout);
			return STATUS_OK;
		}
		if (c == ':')
			return usage_error("run", "%s needs a value", argv[optind - 1]);
		if (c == '?')
			return usage_error("run", "unknown option %s", argv[optind - 1]);
		status = set_option(opt, c, optarg);
		if (status)
			return status;
	}
	if (optind < argc)
		return usage_error("run", "unexpected argument `%s`", argv[optind]);
	if (!opt->kernel)
		return usage_error("run", "no --kernel");
	if (!console_spec_is_valid(opt->console))
		return usage_error("run",
				   "console `%s`: none, stdio or file:PATH, behind `serial,` or `hvc,`",
				   opt->console);
	return -1;
}

/* ---- control requests ---- */

static void add_number(struct json_object *reply, const char *key, __u64 value)
{
	json_object_object_add(reply, key, json_object_new_uint64(value));
}

static const char *state_name(struct vireo_machine *m)
{
	static const char *const names[] = {
		[VIREO_MACHINE_RUNNING] = "running",
		[VIREO_MACHINE_PAUSED] = "paused",
		[VIREO_MACHINE_ENDED] = "ended",
	};
	const char *name;

	pthread_mutex_lock(&m->lock);
	name = names[m->state];
	pthread_mutex_unlock(&m->lock);
	return name;
}

static void reply_info(struct session *s, struct json_object *reply)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	json_object_object_add(reply, "name", json_object_new_string(s->opt.name));
	add_number(reply, "pid", (__u64)getpid());
	json_object_object_add(reply, "state", json_object_new_string(state_name(&s->machine)));
	add_number(reply, "vcpus", s->opt.vcpus);
	add_number(reply, "memory", s->opt.memory);
	add_number(reply, "uptime_ms",
		   (__u64)((now.tv_sec - s->start.tv_sec) * 1000 +
			   (now.tv_nsec - s->start.tv_nsec) / 1000000));
	json_object_object_add(reply, "kernel", json_object_new_string(s->opt.kernel));
	if (s->opt.snapshot)
		json_object_object_add(reply, "snapshot",
				       json_object_new_string(s->opt.snapshot));
	if (s->pause_ns)
		add_number(reply, "pause_ns", s->pause_ns);
	if (!s->parent[0])
		return;
	add_number(reply, "start_ns", s->start_ns);
	json_object_object_add(reply, "parent", json_object_new_string(s->parent));
	add_number(reply, "parent_pid", (__u64)s->parent_pid);
}

static int add_stat(struct session *s, struct json_object *reply, struct vireo_error *err)
{
	struct json_object *counters;
	struct vireo_stat stat;
	unsigned int i;
	int ret;

	ret = vireo_vm_stat(&s->machine.vm, &stat, err);
	if (ret)
		return ret;
	add_number(reply, "memory_bytes", stat.memory_bytes);
	add_number(reply, "resident_bytes", stat.resident_bytes);
	add_number(reply, "huge_bytes", stat.huge_bytes);
	add_number(reply, "table_bytes", stat.table_bytes);
	add_number(reply, "private_bytes", stat.private_bytes);
	add_number(reply, "shared_bytes", stat.shared_bytes);
	add_number(reply, "file_bytes", stat.file_bytes);
	counters = json_object_new_object();
	for (i = 0; vireo_stat_name(i); i++)
		add_number(counters, vireo_stat_name(i), stat.counters[i]);
	json_object_object_add(reply, "counters", counters);
	json_object_object_add(reply, "devices", device_list(&s->machine));
	return 0;
}

static const char *get_text(struct json_object *request, const char *key)
{
	struct json_object *value = NULL;

	json_object_object_get_ex(request, key, &value);
	return value ? json_object_get_string(value) : "";
}

/**
 * watch_nets - hear of changes to the host's interfaces from now on
 * @s: whose VM has some
 * @err: why not
 */
int watch_nets(struct session *s, struct vireo_error *err)
{
	if (s->watch_fd >= 0)
		return 0;
	s->watch_fd = vireo_net_watch(err);
	if (s->watch_fd < 0)
		return s->watch_fd;
	device_refresh_nets(&s->machine);	/* what changed before */
	return 0;
}

static int attach(struct session *s, int kind, const char *text, struct vireo_error *err)
{
	struct device_spec spec;
	int ret;

	ret = device_parse(&spec, kind, text, err);
	if (!ret)
		ret = device_add(&s->machine, &spec, VIREO_SLOT_ANY, err);
	free(spec.text);
	return ret || kind != DEVICE_NET ? ret : watch_nets(s, err);
}

/* A command about a device */
static int device_command(struct session *s, const char *command, const char *name,
			  struct vireo_error *err)
{
	struct vireo_pv *pv = device_find(&s->machine, name);
	int ret;

	if (!pv)
		return vireo_fail(err, ENOENT, "no device `%s`: vireo stat shows them", name);
	if (!strcmp(command, "resize")) {
		ret = vireo_pv_refresh(pv, err);
		return ret < 0 ? ret : 0;
	}
	return vireo_machine_detach(&s->machine, pv, !strcmp(command, "pull"), err);
}

/* While somebody copies the disks all that could change them or the machine waits. */
static bool must_wait(const struct session *s, const char *command)
{
	return s->copying && strcmp(command, "stat") && strcmp(command, "info") &&
	       strcmp(command, "stop") && strncmp(command, "snapshot", 8);
}

static int do_command(struct session *s, const char *command, struct json_object *request,
		      struct json_object *reply, struct vireo_error *err)
{
	int ret = 0;

	if (must_wait(s, command))
		ret = vireo_fail(err, EBUSY,
				 "its disks are being copied for a snapshot: try again when that is done");
	else if (!strcmp(command, "stat"))
		ret = add_stat(s, reply, err);
	else if (!strcmp(command, "attach-disk"))
		ret = attach(s, DEVICE_DISK, get_text(request, "device"), err);
	else if (!strcmp(command, "attach-net"))
		ret = attach(s, DEVICE_NET, get_text(request, "device"), err);
	else if (!strcmp(command, "resize") || !strcmp(command, "detach") ||
		 !strcmp(command, "pull"))
		ret = device_command(s, command, get_text(request, "device"), err);
	else if (!strcmp(command, "fork"))
		ret = session_fork(s, request, reply, err);
	else if (!strcmp(command, "snapshot"))
		ret = session_snapshot(s, request, reply, err);
	else if (!strcmp(command, "snapshot-disks"))
		ret = session_snapshot_disks(s, err);
	else if (!strcmp(command, "snapshot-done"))
		ret = session_snapshot_done(s, request, err);
	else if (!strcmp(command, "pause"))
		ret = vireo_machine_pause(&s->machine);
	else if (!strcmp(command, "resume"))
		ret = vireo_machine_resume(&s->machine);
	else if (!strcmp(command, "stop"))
		vireo_machine_end(&s->machine, VIREO_END_STOPPED, NULL, "stopped by vireo stop");
	else if (strcmp(command, "info"))
		ret = vireo_fail(err, EINVAL, "unknown command");
	if (ret && !err->code)
		vireo_fail(err, -ret, "it has just ended");
	return ret;
}

static bool handle_request(void *ctx, const char *command, struct json_object *request,
			   struct json_object *reply)
{
	struct vireo_error err = { .code = 0 };

	if (do_command(ctx, command, request, reply, &err)) {
		json_object_object_add(reply, "error", json_object_new_string(err.text));
		return false;
	}
	reply_info(ctx, reply);
	return true;
}

/* ---- the run ---- */

/**
 * catch_signals - have signals come through an fd, for the main thread alone
 * @s: gets it
 * @err: why not
 *
 * A broken pipe is an error; nobody waits for clones.
 */
int catch_signals(struct session *s, struct vireo_error *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGCONT);
	sigaddset(&set, SIGWINCH);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signal_fd < 0)
		return vireo_fail(err, errno, "signalfd: %s", strerror(errno));
	return 0;
}

static void read_signals(struct session *s)
{
	struct signalfd_siginfo si;

	while (read(s->signal_fd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGCONT)
			console_raw(&s->console);
		else if (si.ssi_signo == SIGWINCH)
			console_resize(&s->console);
		else
			vireo_machine_end(&s->machine, VIREO_END_STOPPED, NULL,
					  "stopped by SIG%s", sigabbrev_np((int)si.ssi_signo));
	}
}

enum { POLL_END, POLL_SIGNAL, POLL_WATCH, POLL_EJECT, POLL_WAKE, POLL_INPUT, POLL_CONTROL };

/*
 * Give back what has been of use on the way here and is not any more: of the heap, and
 * of the stack all below the page that comes after this one.
 */
static void tidy(void)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0) & ~(uintptr_t)(VIREO_PAGE - 1);

	malloc_trim(0);
	madvise((void *)(here - TIDY_STACK - VIREO_PAGE), TIDY_STACK, MADV_DONTNEED);
}

/* Serve console and control socket until the run has ended. */
static void serve(struct session *s)
{
	struct pollfd pfd[POLL_CONTROL + CONTROL_POLL_FDS];
	unsigned int controls;
	pid_t pid = 0;
	int ready;

	for (;;) {
		if (pid != getpid()) {	/* at first, and in a clone */
			pid = getpid();
			tidy();
		}
		pfd[POLL_END] = (struct pollfd){ s->machine.end_fd, POLLIN, 0 };
		pfd[POLL_SIGNAL] = (struct pollfd){ s->signal_fd, POLLIN, 0 };
		pfd[POLL_WATCH] = (struct pollfd){ s->watch_fd, POLLIN, 0 };
		pfd[POLL_EJECT] = (struct pollfd){ s->machine.eject_fd, POLLIN, 0 };
		pfd[POLL_WAKE] = (struct pollfd){ s->console.wake_fd, POLLIN, 0 };
		pfd[POLL_INPUT] = (struct pollfd){
			console_wants_input(&s->console) ? s->console.in_fd : -1, POLLIN, 0,
		};
		controls = control_poll_fds(&s->control, pfd + POLL_CONTROL);
		ready = poll(pfd, POLL_CONTROL + controls, console_timeout(&s->console));
		if (ready < 0 && errno != EINTR)
			vireo_machine_end(&s->machine, VIREO_END_ERROR, NULL, "poll: %s",
					  strerror(errno));
		if (ready <= 0) {
			console_flush(&s->console);
			continue;
		}
		if (pfd[POLL_WAKE].revents)
			console_wake(&s->console);
		if (pfd[POLL_SIGNAL].revents)
			read_signals(s);
		if (pfd[POLL_WATCH].revents) {
			vireo_net_watch_read(s->watch_fd);
			device_refresh_nets(&s->machine);
		}
		if (pfd[POLL_EJECT].revents)
			vireo_machine_eject(&s->machine);
		if (pfd[POLL_INPUT].revents && console_input(&s->console)) {
			s->left = true;
			vireo_machine_end(&s->machine, VIREO_END_STOPPED, NULL,
					  "stopped by Ctrl-A x");
		}
		control_poll_done(&s->control, pfd + POLL_CONTROL, controls);
		if (pfd[POLL_END].revents)
			return;
	}
}

static int build_cmdline(struct session *s, struct vireo_error *err)
{
	const char *begin = console_is_hvc(s->opt.console) ? HVC_CMDLINE : DEFAULT_CMDLINE;
	const char *append = s->opt.append ? s->opt.append : "";
	char environment[128] = "";
	int n;

	if (!s->opt.bare)
		console_environment(s->opt.console, environment, sizeof(environment));
	n = snprintf(s->cmdline, sizeof(s->cmdline), "%s%s%s%s",
		     s->opt.bare ? "" : begin, environment,
		     s->opt.bare || !*append ? "" : " ", append);
	if (n < 0 || (size_t)n >= sizeof(s->cmdline))
		return vireo_fail(err, E2BIG, "the kernel command line is too long");
	return 0;
}

/*
 * Who wants slots wants to take the disks and interfaces away, too: they get slots of their
 * own, as many as there can be.  Those that get none come first, for the guest finds them
 * first.
 */
static void choose_slots(struct run_options *opt)
{
	unsigned int own = opt->slots ? VIREO_PORTS - (unsigned int)opt->slots : 0, i;

	if (own > opt->devices)
		own = opt->devices;
	for (i = 0; i < opt->devices; i++)
		opt->device[i].slot = i + own >= opt->devices ? VIREO_SLOT_ANY : VIREO_SLOT_NONE;
	opt->slots += own;
}

/**
 * add_devices - make the disks and interfaces, then see what the latter do
 * @s: with its machine
 * @err: why not
 */
int add_devices(struct session *s, struct vireo_error *err)
{
	bool nets = false;
	unsigned int i;
	int ret;

	s->watch_fd = -1;
	ret = vireo_machine_slots(&s->machine, (unsigned int)s->opt.slots, err);
	for (i = 0; i < s->opt.devices && !ret; i++) {
		nets |= s->opt.device[i].kind == DEVICE_NET;
		ret = device_add(&s->machine, &s->opt.device[i], s->opt.device[i].slot, err);
	}
	if (!ret && s->opt.rng)
		ret = device_add_rng(&s->machine, err);
	return ret || !nets ? ret : watch_nets(s, err);
}

static int prepare(struct session *s, struct vireo_error *err)
{
	struct vireo_boot boot = {
		.kernel = s->opt.kernel, .initrd = s->opt.initrd, .cmdline = s->cmdline,
		.vcpus = (__u32)s->opt.vcpus,
	};
	int ret;

	if (s->opt.snapshot)
		return session_restore(s, err);
	ret = build_cmdline(s, err);
	choose_slots(&s->opt);
	if (!ret)
		ret = add_devices(s, err);
	boot.slots = s->machine.slots;
	if (!ret)
		ret = vireo_boot(&s->machine.vm, &s->machine.thread[0].vcpu, &boot, err);
	/* Last, for it leaves traces: a file, a terminal in raw mode. */
	if (!ret)
		ret = console_open(&s->console, s->opt.console, err);
	if (ret)
		return ret;
	ret = console_attach(&s->console, &s->machine, err);
	if (ret)
		console_close(&s->console);
	return ret;
}

static void print_stat(struct session *s)
{
	struct vireo_error err;
	struct vireo_stat stat;
	unsigned int i;

	if (vireo_vm_stat(&s->machine.vm, &stat, &err)) {
		complain("%s: %s", s->opt.name, err.text);
		return;
	}
	fprintf(stderr, "  resident %llu huge %llu tables %llu bytes\n", stat.resident_bytes,
		stat.huge_bytes, stat.table_bytes);
	for (i = 0; vireo_stat_name(i); i++) {
		if (stat.counters[i])
			fprintf(stderr, "  %-16s %llu\n", vireo_stat_name(i), stat.counters[i]);
	}
}

/* Registers help where something is wrong; not whoever just leaves the console. */
static bool wants_dump(const struct session *s)
{
	return s->machine.end != VIREO_END_POWEROFF && s->machine.end != VIREO_END_RESET &&
	       !s->left;
}

/* The machine exists; returns the exit status. */
static int run_machine(struct session *s, void (*ready)(struct session *s))
{
	struct vireo_error err = { .code = 0 };
	int ret;

	ret = prepare(s, &err);
	if (!ret) {
		console_raw(&s->console);
		ret = vireo_machine_start(&s->machine, &err);
		if (ret)
			console_close(&s->console);
	}
	if (ret) {
		complain("%s", err.code ? err.text : strerror(-ret));
		return STATUS_ERROR;
	}
	if (ready)
		ready(s);
	serve(s);
	vireo_machine_join(&s->machine);
	console_close(&s->console);

	complain("%s: %s", s->opt.name, s->machine.end_text);
	if (wants_dump(s))
		vireo_machine_dump(&s->machine, stderr);
	if (s->opt.stat)
		print_stat(s);
	return (int)s->machine.end;
}

/**
 * session_run - the whole life of a VM
 * @s: with its options
 * @ready: called when it runs; may be NULL
 *
 * Return: an exit status.
 */
int session_run(struct session *s, void (*ready)(struct session *s))
{
	struct vireo_error err = { .code = 0 };
	int ret, status;

	clock_gettime(CLOCK_MONOTONIC, &s->start);
	s->control.handle = handle_request;
	s->control.gone = session_client_gone;
	s->control.ctx = s;
	s->frozen.fd = -1;
	s->writing.fd = -1;
	if (!s->opt.snapshot && access(s->opt.kernel, R_OK)) {
		complain("cannot open the kernel %s: %s", s->opt.kernel, strerror(errno));
		return STATUS_ERROR;
	}
	ret = catch_signals(s, &err);
	if (!ret)
		ret = control_open(&s->control, s->opt.name, &err);
	if (!ret && s->opt.cgroup[0])
		ret = cgroup_enter(s->opt.cgroup, s->opt.name, &err);
	if (!ret && s->opt.snapshot)
		ret = session_open_snapshot(s, &err);
	else if (!ret)
		ret = vireo_machine_create(&s->machine, (__u32)s->opt.vcpus, s->opt.memory, &err);
	if (ret) {
		control_close(&s->control);
		complain("%s", err.code ? err.text : strerror(-ret));
		return STATUS_ERROR;
	}
	status = run_machine(s, ready);
	control_close(&s->control);
	vireo_machine_destroy(&s->machine);
	return status;
}

int cmd_run(int argc, char **argv)
{
	static struct session session;
	int status;

	status = parse_options(&session.opt, argc, argv);
	return status >= 0 ? status : session_run(&session, NULL);
}
