// SPDX-License-Identifier: GPL-2.0
/*
 * `vireo run` forks: the asked process pauses its VM, forks the VM's memory, lets
 * the guest go on, and forks itself before any device changes.  The first copy
 * stands still and makes the clones of itself, so the pause is the same for one and
 * for a thousand; it then becomes the last of them, and is who answers `vireo fork`.
 *
 * What is the first process's is its sockets, terminal, signals and eventfds: a
 * clone leaves them before it does anything else.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "builtin.h"
#include "session.h"

#define NUMBERS		100000	/* NAME-1, NAME-2, ... at the most */

/**
 * struct clones - what was asked for, and what there is for it
 * @count: how many
 * @name: of one; of more than one, with a number behind; "": the parent's, with a number
 * @log: directory for their output, or ""
 * @cgroup: where each gets one of its own, "": the parent's
 * @own: what each has of its own
 * @next: number to try first
 * @fd: a VM like the parent's that does not run
 * @state: what its vCPUs hold
 * @out: made: names
 * @error: why one could not be made
 */
struct clones {
	unsigned int count;
	char name[65];
	char log[PATH_MAX - 80];
	char cgroup[PATH_MAX];
	struct vireo_clone own;
	unsigned int next;
	int fd;
	struct vireo_vcpu_state *state;
	struct json_object *out;
	char error[320];
};

/* NAME, or NAME,bridge=BRIDGE */
static int get_net(struct clones *c, size_t i, const char *text, struct vireo_error *err)
{
	size_t len = strcspn(text, ",");
	const char *bridge = text[len] ? text + len + strlen(",bridge=") : "";

	if (text[len] && strncmp(text + len, ",bridge=", strlen(",bridge=")))
		return vireo_fail(err, EINVAL, "--net %s: only bridge= is possible behind the name",
				  text);
	if (!len || len >= sizeof(c->own.net[i].name) ||
	    strlen(bridge) >= sizeof(c->own.net[i].bridge))
		return vireo_fail(err, EINVAL,
				  "--net %s: a name of 1 to 15 characters is needed", text);
	memcpy(c->own.net[i].name, text, len);
	strcpy(c->own.net[i].bridge, bridge);
	return 0;
}

static int get_nets(struct clones *c, struct json_object *request, struct vireo_error *err)
{
	struct json_object *net;
	size_t i, n;
	int ret = 0;

	if (!json_object_object_get_ex(request, "net", &net))
		return 0;
	n = json_object_array_length(net);
	if (n > ARRAY_SIZE(c->own.net))
		return vireo_fail(err, E2BIG, "%zu interfaces: up to %zu are possible", n,
				  ARRAY_SIZE(c->own.net));
	for (i = 0; i < n && !ret; i++)
		ret = get_net(c, i, json_object_get_string(json_object_array_get_idx(net, i)),
			      err);
	return ret;
}

static int get_clones(struct clones *c, const struct session *s, struct json_object *request,
		      struct vireo_error *err)
{
	struct json_object *count, *name, *log, *cgroup, *disks;
	int64_t n = 1;

	memset(c, 0, sizeof(*c));
	if (json_object_object_get_ex(request, "count", &count))
		n = json_object_get_int64(count);
	if (n < 1 || n > CLONES_MAX)
		return vireo_fail(err, EINVAL, "%lld clones: 1 to %u are possible", (long long)n,
				  CLONES_MAX);
	c->count = (unsigned int)n;
	c->next = 1;
	if (json_object_object_get_ex(request, "name", &name)) {
		if (!name_is_valid(json_object_get_string(name)))
			return vireo_fail(err, EINVAL, "not a name");
		strcpy(c->name, json_object_get_string(name));
	}
	if (json_object_object_get_ex(request, "log", &log) &&
	    (size_t)snprintf(c->log, sizeof(c->log), "%s", json_object_get_string(log)) >=
	    sizeof(c->log))
		return vireo_fail(err, ENAMETOOLONG, "the path of the logs is too long");
	if (json_object_object_get_ex(request, "cgroup", &cgroup) &&
	    (size_t)snprintf(c->cgroup, sizeof(c->cgroup), "%s",
			     json_object_get_string(cgroup)) >= sizeof(c->cgroup))
		return vireo_fail(err, ENAMETOOLONG, "the path of the cgroup is too long");
	if (json_object_object_get_ex(request, "disk-dir", &disks))
		c->own.disk_dir = json_object_get_string(disks);
	if (strlen(c->name[0] ? c->name : s->opt.name) > sizeof(c->name) - 8)
		return vireo_fail(err, ENAMETOOLONG,
				  "no room for a number behind the name: choose another --name");
	return get_nets(c, request, err);
}

/* Take the name, or the first that is free with a number behind it. */
static int take_name(struct session *s, struct clones *c, struct vireo_error *err)
{
	bool exact = c->name[0] && c->count == 1;
	const char *stem = c->name[0] ? c->name : s->parent;
	int ret;

	for (;; c->next++) {
		if (exact)
			strcpy(s->opt.name, stem);
		else
			snprintf(s->opt.name, sizeof(s->opt.name), "%.57s-%u", stem, c->next);
		ret = control_open(&s->control, s->opt.name, err);
		if (ret != -EEXIST || exact || c->next >= NUMBERS)
			return ret;
	}
}

/* Standard input is empty from now on; output goes to a log, or nowhere. */
static int open_output(struct session *s, const struct clones *c, struct vireo_error *err)
{
	char path[PATH_MAX] = "/dev/null";
	int null, fd;

	if (c->log[0])
		snprintf(path, sizeof(path), "%s/%s.log", c->log, s->opt.name);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW, 0600);
	if (null < 0 || fd < 0)
		return vireo_fail(err, errno, "cannot open %s: %s", fd < 0 ? path : "/dev/null",
				  strerror(errno));
	dup2(null, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	close(null);
	close(fd);
	return console_detach(&s->console, c->log[0] ? STDOUT_FILENO : -1, err);
}

/* Become a VM of its own, and run. */
static int become(struct session *s, struct clones *c, struct vireo_error *err)
{
	bool nets = s->watch_fd >= 0;
	int ret;

	clock_gettime(CLOCK_MONOTONIC, &s->start);
	close(s->signal_fd);
	if (nets)
		close(s->watch_fd);
	s->watch_fd = -1;
	s->left = false;
	session_forget(s);
	ret = catch_signals(s, err);
	if (!ret)
		ret = take_name(s, c, err);
	if (!ret)
		ret = open_output(s, c, err);
	c->own.name = s->opt.name;
	if (!ret && s->opt.cgroup[0])
		ret = cgroup_enter(s->opt.cgroup, s->opt.name, err);
	if (!ret)
		ret = vireo_machine_become(&s->machine, c->fd, c->state, &c->own, err);
	if (!ret && nets)
		ret = watch_nets(s, err);
	if (!ret)
		ret = vireo_machine_start(&s->machine, err);
	return ret;
}

/* The name of a clone that runs, or what went wrong, as it says */
static void hear(struct clones *c, int fd)
{
	char line[320];
	ssize_t n, used = 0;

	while ((n = read(fd, line + used, sizeof(line) - 1 - (size_t)used)) > 0)
		used += n;
	line[used] = '\0';
	if (line[0] == '+')
		json_object_array_add(c->out, json_object_new_string(line + 1));
	else
		snprintf(c->error, sizeof(c->error), "%s",
			 used ? line + 1 : "a clone ended before it ran");
	if (line[0] == '+' && strrchr(line, '-'))
		c->next = (unsigned int)strtoul(strrchr(line, '-') + 1, NULL, 10) + 1;
}

/* Tell it; a line fits the pipe. */
static void say(int fd, const char *mark, const char *text)
{
	dprintf(fd, "%s%s", mark, text);
	close(fd);
}

/* Make one more process; true in that one, which runs. */
static bool spawn(struct session *s, struct clones *c)
{
	struct vireo_error err = { .code = 0 };
	int fds[2], vm;
	pid_t pid = -1;

	vm = vireo_vm_fork(c->fd, &err);
	if (vm < 0 || pipe2(fds, O_CLOEXEC)) {
		snprintf(c->error, sizeof(c->error), "%s", vm < 0 ? err.text : strerror(errno));
		if (vm >= 0)
			close(vm);
		return false;
	}
	pid = fork();
	if (!pid) {
		close(fds[0]);
		close(c->fd);
		c->fd = vm;
		control_leave(&s->control, false);
		s->control.asking = NULL;
		if (become(s, c, &err)) {
			say(fds[1], "-", err.text);
			_exit(STATUS_ERROR);
		}
		say(fds[1], "+", s->opt.name);
		return true;
	}
	close(vm);
	close(fds[1]);
	if (pid < 0)
		snprintf(c->error, sizeof(c->error), "fork: %s", strerror(errno));
	else
		hear(c, fds[0]);
	close(fds[0]);
	return false;
}

/* In the first copy: returns in each clone, whose reply @reply is for the last alone. */
static int make_clones(struct session *s, struct clones *c, struct json_object *reply,
		       struct vireo_error *err)
{
	unsigned int i;
	int ret;

	setsid();
	snprintf(s->parent, sizeof(s->parent), "%s", s->opt.name);
	s->parent_pid = getppid();
	if (c->cgroup[0])
		strcpy(s->opt.cgroup, c->cgroup);
	control_leave(&s->control, true);
	c->out = json_object_new_array();
	for (i = 1; i < c->count && !c->error[0]; i++) {
		if (spawn(s, c)) {
			s->control.silent = true;
			return 0;
		}
	}
	ret = c->error[0] ? vireo_fail(err, EIO, "%s", c->error) : become(s, c, err);
	if (!ret)
		json_object_array_add(c->out, json_object_new_string(s->opt.name));
	json_object_object_add(reply, "clones", c->out);
	vireo_state_free(c->state, s->machine.vcpus);
	if (!ret)
		return 0;
	if (json_object_array_length(c->out))
		vireo_error_prefix(err, "after %zu clones",
				   json_object_array_length(c->out));
	json_object_object_add(reply, "error", json_object_new_string(err->text));
	control_reply(&s->control, reply, false);
	control_close(&s->control);
	_exit(STATUS_ERROR);
}

/* With the machine paused: what its vCPUs hold, and the VM's copy */
static int fork_machine(struct session *s, struct clones *c, struct vireo_error *err)
{
	c->state = vireo_machine_save(&s->machine, err);
	if (!c->state || vireo_machine_freeze(&s->machine, err))
		return -1;
	c->fd = vireo_vm_fork(s->machine.vm.fd, err);
	return c->fd < 0 ? c->fd : 0;
}

/* With the machine held: the process's copy; its id in one, 0 in the other */
static pid_t fork_process(struct session *s, struct vireo_error *err)
{
	char byte;
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return vireo_fail(err, errno, "cannot make a pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		vireo_fail(err, errno, "cannot fork: %s", strerror(errno));
	if (!pid)
		vireo_machine_inherit(&s->machine);
	close(fds[1]);
	/* Until the copy has let go of the queues, which is when it closes its end */
	if (pid > 0 && read(fds[0], &byte, 1))
		complain("%s: a pipe is not empty", s->opt.name);
	close(fds[0]);
	return pid;
}

static __u64 now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (__u64)now.tv_sec * 1000000000 + (__u64)now.tv_nsec;
}

/**
 * session_fork - make clones of a VM, each with a process of its own
 * @s: the VM's
 * @request: see control.h
 * @reply: filled in by the process that answers
 * @err: why not; then nothing has changed
 *
 * Returns in the asked process, with s->control.silent set, and in each clone.
 */
int session_fork(struct session *s, struct json_object *request, struct json_object *reply,
		 struct vireo_error *err)
{
	bool paused = s->machine.state == VIREO_MACHINE_PAUSED;
	__u64 begin = now_ns();
	struct vireo_error why = { .code = 0 };
	static struct clones c;
	pid_t pid = -1;
	int ret;

	ret = get_clones(&c, s, request, err);
	if (!ret)
		ret = vireo_machine_can_fork(&s->machine, err);
	if (!ret)
		ret = vireo_machine_pause(&s->machine);
	if (ret)
		return ret;
	c.fd = -1;
	ret = vireo_machine_suspend(&s->machine, err);
	if (!ret)
		ret = fork_machine(s, &c, err);
	/* The guest goes on, and what it asks of this process waits: see fork(2). */
	vireo_machine_hold(&s->machine, true);
	if (!paused)
		vireo_machine_resume(&s->machine);
	s->pause_ns = now_ns() - begin;
	if (vireo_machine_serve(&s->machine, false, &why))
		complain("%s: %s", s->opt.name, why.text);
	if (!ret)
		pid = fork_process(s, err);
	if (!pid) {
		ret = make_clones(s, &c, reply, err);
		s->start_ns = now_ns() - begin;
		s->pause_ns = 0;
		return ret;
	}
	if (vireo_machine_serve(&s->machine, true, &why))
		complain("%s: %s", s->opt.name, why.text);
	vireo_machine_hold(&s->machine, false);
	vireo_machine_thaw(&s->machine);
	vireo_state_free(c.state, s->machine.vcpus);
	if (c.fd >= 0)
		close(c.fd);
	s->control.silent = pid > 0;
	return pid > 0 ? 0 : -EIO;
}
