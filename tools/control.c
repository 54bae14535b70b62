// SPDX-License-Identifier: GPL-2.0
/*
 * Sockets of running VMs.
 *
 * A socket gets its final name only once it listens, by rename(), and a lock
 * file is held while names are taken or cleaned up: so a name that refuses
 * connections belongs to a process that is dead, and may be removed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "builtin.h"
#include "control.h"

#define SUFFIX		".sock"
#define SUFFIX_LEN	(sizeof(SUFFIX) - 1)
#define REPLY_MAX	(256U * 1024)	/* what a socket holds, and more */
#define ASK_SECONDS	5

static int run_dir(char *buf, size_t len, struct vireo_error *err)
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");
	int n;

	if (!geteuid())
		n = snprintf(buf, len, "/run/vireo");
	else if (xdg && xdg[0] == '/')
		n = snprintf(buf, len, "%s/vireo", xdg);
	else
		n = snprintf(buf, len, "/tmp/vireo-%u", (unsigned int)geteuid());
	if (n < 0 || (size_t)n >= len)
		return vireo_fail(err, ENAMETOOLONG, "XDG_RUNTIME_DIR is too long");
	return 0;
}

static int socket_path(char *buf, size_t len, const char *name, struct vireo_error *err)
{
	char dir[80];
	int n, ret;

	ret = run_dir(dir, sizeof(dir), err);
	if (ret)
		return ret;
	n = snprintf(buf, len, "%s/%s" SUFFIX, dir, name);
	if (n < 0 || (size_t)n >= len)
		return vireo_fail(err, ENAMETOOLONG, "the name %s is too long for %s", name, dir);
	return 0;
}

/* Make the run directory; it must be ours alone. */
static int make_run_dir(char *dir, size_t len, struct vireo_error *err)
{
	struct stat st;
	int ret;

	ret = run_dir(dir, len, err);
	if (ret)
		return ret;
	if (!geteuid())
		mkdir("/run", 0755);
	if (mkdir(dir, 0700) && errno != EEXIST)
		return vireo_fail(err, errno, "cannot create %s: %s", dir, strerror(errno));
	if (lstat(dir, &st))
		return vireo_fail(err, errno, "cannot use %s: %s", dir, strerror(errno));
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022))
		return vireo_fail(err, EPERM, "%s is not a directory of mode 0700 of ours", dir);
	return 0;
}

/* The lock lives as long as the fd. */
static int lock_run_dir(const char *dir, struct vireo_error *err)
{
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	int fd;

	snprintf(path, sizeof(path), "%s/.lock", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return vireo_fail(err, errno, "cannot open %s: %s", path, strerror(errno));
	while (flock(fd, LOCK_EX)) {
		if (errno == EINTR)
			continue;
		close(fd);
		return vireo_fail(err, errno, "cannot lock %s: %s", path, strerror(errno));
	}
	return fd;
}

static void address(struct sockaddr_un *sun, const char *path)
{
	memset(sun, 0, sizeof(*sun));
	sun->sun_family = AF_UNIX;
	snprintf(sun->sun_path, sizeof(sun->sun_path), "%s", path);
}

/* Returns an fd; ECONNREFUSED: its process is dead; ENOENT: no such name */
static int connect_path(const char *path)
{
	struct timeval tv = { .tv_sec = ASK_SECONDS };
	struct sockaddr_un sun;
	int fd, code;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	address(&sun, path);
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun))) {
		code = errno;
		close(fd);
		return -code;
	}
	return fd;
}

/* ---- the serving side ---- */

static int listen_at(const char *path, struct vireo_error *err)
{
	struct sockaddr_un sun;
	mode_t mask;
	int fd, code;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return vireo_fail(err, errno, "socket: %s", strerror(errno));
	address(&sun, path);
	unlink(path);
	mask = umask(0177);
	code = bind(fd, (struct sockaddr *)&sun, sizeof(sun)) || listen(fd, 8) ? errno : 0;
	umask(mask);
	if (!code)
		return fd;
	unlink(path);
	close(fd);
	return vireo_fail(err, code, "cannot listen on %s: %s", path, strerror(code));
}

/* Take the name, unless a living process has it; called with the lock held. */
static int publish(const char *temporary, const char *path, const char *name,
		   struct vireo_error *err)
{
	int fd = connect_path(path);

	if (fd >= 0) {
		close(fd);
		return vireo_fail(err, EEXIST,
				  "a virtual machine named %s is running: choose another --name",
				  name);
	}
	if (fd != -ENOENT && fd != -ECONNREFUSED)
		return vireo_fail(err, -fd, "cannot use %s: %s", path, strerror(-fd));
	if (rename(temporary, path))
		return vireo_fail(err, errno, "cannot create %s: %s", path, strerror(errno));
	return 0;
}

/**
 * control_open - take a VM's name and listen
 * @control: @handle and @ctx are set; the rest is filled in
 * @name: valid by name_is_valid()
 * @err: why not; EEXIST: the name is taken
 */
int control_open(struct control *control, const char *name, struct vireo_error *err)
{
	char dir[80], temporary[sizeof(control->path)], path[sizeof(control->path)];
	int lock, ret, i;

	control->name = name;
	control->path[0] = '\0';
	control->listen_fd = -1;
	for (i = 0; i < CONTROL_CLIENTS; i++) {
		if (&control->client[i] != control->asking)
			control->client[i].fd = -1;
	}
	ret = make_run_dir(dir, sizeof(dir), err);
	if (!ret)
		ret = socket_path(path, sizeof(path), name, err);
	if (ret)
		return ret;
	snprintf(temporary, sizeof(temporary), "%s/.%d", dir, getpid());
	lock = lock_run_dir(dir, err);
	if (lock < 0)
		return lock;
	ret = listen_at(temporary, err);
	if (ret >= 0) {
		control->listen_fd = ret;
		ret = publish(temporary, path, name, err);
		if (ret) {
			unlink(temporary);
			close(control->listen_fd);
			control->listen_fd = -1;
		} else {
			memcpy(control->path, path, sizeof(path));
		}
	}
	close(lock);
	return ret;
}

static void client_close(struct control *control, struct control_client *client)
{
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
	if (control->gone)
		control->gone(control->ctx, client);
}

/* One message with the fds that @control->fd has */
static bool send_fds(struct control *control, int fd, const char *text, size_t len)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(control->fd))];
	} u = { .room = "" };
	struct iovec iov = { .iov_base = (char *)(uintptr_t)text, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (control->fds) {
		msg.msg_control = u.room;
		msg.msg_controllen = CMSG_SPACE(control->fds * sizeof(int));
		u.align.cmsg_level = SOL_SOCKET;
		u.align.cmsg_type = SCM_RIGHTS;
		u.align.cmsg_len = CMSG_LEN(control->fds * sizeof(int));
		memcpy(CMSG_DATA(&u.align), control->fd, control->fds * sizeof(int));
	}
	return sendmsg(fd, &msg, MSG_NOSIGNAL) == (ssize_t)len;
}

static void client_accept(struct control *control)
{
	int fd = accept4(control->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int i;

	if (fd < 0)
		return;
	for (i = 0; i < CONTROL_CLIENTS; i++) {
		if (control->client[i].fd < 0) {
			control->client[i].fd = fd;
			control->client[i].used = 0;
			return;
		}
	}
	close(fd);
}

/**
 * control_reply - answer the client that asks
 * @control: within its @handle
 * @reply: what to say
 * @ok: whether the request was carried out
 */
void control_reply(struct control *control, struct json_object *reply, bool ok)
{
	struct control_client *client = control->asking;
	const char *text;
	size_t len;

	json_object_object_add(reply, "ok", json_object_new_boolean(ok));
	text = json_object_to_json_string_ext(reply, JSON_C_TO_STRING_PLAIN);
	len = strlen(text);
	/* A reply fits the socket's buffer; a client that does not read loses it. */
	if (!send_fds(control, client->fd, text, len) ||
	    send(client->fd, "\n", 1, MSG_NOSIGNAL) != 1)
		client_close(control, client);
}

static void answer(struct control *control, struct control_client *client, const char *line)
{
	struct json_object *request, *command = NULL, *reply = json_object_new_object();
	const char *text = NULL;
	bool ok = false;

	control->asking = client;
	control->silent = false;
	control->fds = 0;
	request = json_tokener_parse(line);
	if (request && json_object_is_type(request, json_type_object) &&
	    json_object_object_get_ex(request, "command", &command))
		text = json_object_get_string(command);
	if (text)
		ok = control->handle(control->ctx, text, request, reply);
	else
		json_object_object_add(reply, "error",
				       json_object_new_string("not a request"));
	if (control->silent)
		client_close(control, client);
	else
		control_reply(control, reply, ok);
	json_object_put(reply);
	json_object_put(request);
}

static void client_read(struct control *control, struct control_client *client)
{
	char *line = control->line[client - control->client], *end;
	ssize_t n = recv(client->fd, line + client->used, CONTROL_LINE - 1 - client->used, 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		client_close(control, client);
		return;
	}
	client->used += (size_t)n;
	line[client->used] = '\0';
	while (client->fd >= 0) {
		end = memchr(line, '\n', client->used);
		if (!end)
			break;
		*end++ = '\0';
		answer(control, client, line);
		client->used -= (size_t)(end - line);
		memmove(line, end, client->used);
	}
	if (client->fd >= 0 && client->used == CONTROL_LINE - 1)
		client_close(control, client);
}

/** control_poll_fds - fill in what to wait for; returns how many, at most CONTROL_POLL_FDS */
unsigned int control_poll_fds(struct control *control, struct pollfd *pfd)
{
	unsigned int n = 0;
	int i;

	if (control->listen_fd >= 0)
		pfd[n++] = (struct pollfd){ .fd = control->listen_fd, .events = POLLIN };
	for (i = 0; i < CONTROL_CLIENTS; i++) {
		if (control->client[i].fd >= 0)
			pfd[n++] = (struct pollfd){ .fd = control->client[i].fd, .events = POLLIN };
	}
	return n;
}

/** control_poll_done - serve those that poll() found ready */
void control_poll_done(struct control *control, const struct pollfd *pfd, unsigned int count)
{
	unsigned int n;
	int i;

	for (n = 0; n < count; n++) {
		if (!pfd[n].revents)
			continue;
		for (i = 0; i < CONTROL_CLIENTS; i++) {
			if (control->client[i].fd == pfd[n].fd)
				client_read(control, &control->client[i]);
		}
		if (pfd[n].fd == control->listen_fd)
			client_accept(control);
	}
}

/** control_close - give the name back; may be called twice */
void control_close(struct control *control)
{
	int i;

	/* First the name: as long as it is there somebody answers. */
	if (control->path[0])
		unlink(control->path);
	control->path[0] = '\0';
	for (i = 0; i < CONTROL_CLIENTS; i++) {
		if (control->client[i].fd >= 0)
			client_close(control, &control->client[i]);
	}
	if (control->listen_fd >= 0)
		close(control->listen_fd);
	control->listen_fd = -1;
}

/**
 * control_leave - after fork(2): the sockets are the parent's, and so is the name
 * @control: may then be opened under another name
 * @keep_asking: keep the client that asks
 */
void control_leave(struct control *control, bool keep_asking)
{
	int i;

	for (i = 0; i < CONTROL_CLIENTS; i++) {
		if (!keep_asking || &control->client[i] != control->asking)
			client_close(control, &control->client[i]);
	}
	if (control->listen_fd >= 0)
		close(control->listen_fd);
	control->listen_fd = -1;
	control->path[0] = '\0';
}

/* ---- the asking side ---- */

/** control_connect - connect to a VM; the fd, or a negative errno: ENOENT: no such VM */
int control_connect(const char *name, struct vireo_error *err)
{
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	int fd, ret;

	if (!name_is_valid(name))
		return vireo_fail(err, EINVAL, "`%s` is not a name: letters, digits, `.`, `_`, `-`",
				  name);
	ret = socket_path(path, sizeof(path), name, err);
	if (ret)
		return ret;
	fd = connect_path(path);
	if (fd == -ENOENT || fd == -ECONNREFUSED)
		return vireo_fail(err, ENOENT, "no virtual machine named %s is running", name);
	if (fd < 0)
		return vireo_fail(err, -fd, "cannot reach %s: %s", name, strerror(-fd));
	return fd;
}

/* recv() that takes the fds that come along */
static ssize_t receive_fds(int fd, void *buf, size_t len, int *fds)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(CONTROL_FDS * sizeof(int))];
	} u;
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.room,
		.msg_controllen = sizeof(u.room),
	};
	ssize_t n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;

	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	return n;
}

static int read_reply(int fd, const char *name, struct json_object **reply, int *fds,
		      struct vireo_error *err)
{
	char *buf = malloc(REPLY_MAX);
	size_t used = 0;
	ssize_t n;
	int ret = 0;

	if (!buf)
		return vireo_fail(err, ENOMEM, "out of memory");
	do {
		n = fds ? receive_fds(fd, buf + used, REPLY_MAX - 1 - used, fds) :
			  recv(fd, buf + used, REPLY_MAX - 1 - used, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			ret = vireo_fail(err, n ? errno : EPIPE, "%s does not answer%s", name,
					 n ? ": vireo stop --kill ends it" :
					     ": it has just ended");
			goto out;
		}
		used += (size_t)n;
		buf[used] = '\0';
	} while (!memchr(buf, '\n', used) && used < REPLY_MAX - 1);
	*reply = json_tokener_parse(buf);
	if (!*reply || !json_object_is_type(*reply, json_type_object)) {
		json_object_put(*reply);
		ret = vireo_fail(err, EPROTO, "%s answers with what is no JSON object", name);
	}
out:
	free(buf);
	return ret;
}

/**
 * control_exchange - send a request to a VM and wait for its reply
 * @fd: control_connect()'s
 * @name: of the VM
 * @request: see control.h
 * @seconds: how long it may take
 * @reply: for the caller to json_object_put()
 * @fds: CONTROL_FDS of them, -1: gets those that come with the reply; or NULL
 * @err: why not
 */
int control_exchange(int fd, const char *name, struct json_object *request, unsigned int seconds,
		     struct json_object **reply, int *fds, struct vireo_error *err)
{
	struct json_object *ok = NULL, *text = NULL;
	struct timeval tv = { .tv_sec = seconds };
	char line[CONTROL_LINE + 1];
	int len, ret;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	len = snprintf(line, sizeof(line), "%s\n",
		       json_object_to_json_string_ext(request, JSON_C_TO_STRING_PLAIN));
	if (len >= CONTROL_LINE)
		ret = vireo_fail(err, E2BIG, "the request is too long");
	else if (send(fd, line, (size_t)len, MSG_NOSIGNAL) != len)
		ret = vireo_fail(err, errno, "cannot ask %s: %s", name, strerror(errno));
	else
		ret = read_reply(fd, name, reply, fds, err);
	if (ret)
		return ret;
	if (json_object_object_get_ex(*reply, "ok", &ok) && json_object_get_boolean(ok))
		return 0;
	json_object_object_get_ex(*reply, "error", &text);
	vireo_fail(err, EIO, "%s: %s", name, text ? json_object_get_string(text) : "refused");
	json_object_put(*reply);
	return -EIO;
}

/**
 * control_request - send a request to a VM and wait for its reply
 * @name: of the VM
 * @request: see control.h
 * @seconds: how long it may take
 * @reply: for the caller to json_object_put()
 * @err: why not; ENOENT: no such VM
 */
int control_request(const char *name, struct json_object *request, unsigned int seconds,
		    struct json_object **reply, struct vireo_error *err)
{
	int fd = control_connect(name, err), ret;

	if (fd < 0)
		return fd;
	ret = control_exchange(fd, name, request, seconds, reply, NULL, err);
	close(fd);
	return ret;
}

/**
 * control_ask - send a command to a VM and wait for its reply, up to 5 s
 * @name: of the VM
 * @command: one of those in control.h
 * @key: of an argument, or NULL
 * @value: of it
 * @reply: for the caller to json_object_put()
 * @err: why not; ENOENT: no such VM
 */
int control_ask(const char *name, const char *command, const char *key, const char *value,
		struct json_object **reply, struct vireo_error *err)
{
	struct json_object *request = json_object_new_object();
	int ret;

	json_object_object_add(request, "command", json_object_new_string(command));
	if (key)
		json_object_object_add(request, key, json_object_new_string(value));
	ret = control_request(name, request, ASK_SECONDS, reply, err);
	json_object_put(request);
	return ret;
}

/** control_kill - SIGKILL the process that serves a VM */
int control_kill(const char *name, struct vireo_error *err)
{
	struct ucred peer = { .pid = 0 };
	socklen_t len = sizeof(peer);
	int fd, ret = 0;

	fd = control_connect(name, err);
	if (fd < 0)
		return fd;
	/* Who called listen(); alive, or the connection had been refused. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) || peer.pid <= 0)
		ret = vireo_fail(err, ESRCH, "cannot tell which process runs %s", name);
	else if (kill(peer.pid, SIGKILL))
		ret = vireo_fail(err, errno, "cannot kill process %d: %s", peer.pid,
				 strerror(errno));
	close(fd);
	return ret;
}

/* Whether somebody listens; a dead one's socket is removed. */
static bool is_alive(const char *dir, const char *path)
{
	int fd = connect_path(path), lock;

	if (fd >= 0) {
		close(fd);
		return true;
	}
	if (fd == -ECONNREFUSED) {
		lock = lock_run_dir(dir, NULL);
		fd = connect_path(path);	/* once more, now that none can appear */
		if (fd == -ECONNREFUSED)
			unlink(path);
		if (fd >= 0)
			close(fd);
		if (lock >= 0)
			close(lock);
	}
	return false;
}

static int by_name(const void *a, const void *b)
{
	struct json_object *const *x = a, *const *y = b;

	return strcmp(json_object_get_string(*x), json_object_get_string(*y));
}

int control_list(struct json_object **names, struct vireo_error *err)
{
	char dir[80], path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	struct dirent *entry;
	size_t len;
	DIR *d;
	int ret;

	*names = json_object_new_array();
	ret = run_dir(dir, sizeof(dir), err);
	if (ret)
		return ret;
	d = opendir(dir);
	if (!d)
		return errno == ENOENT ? 0 : vireo_fail(err, errno, "cannot read %s: %s", dir,
							strerror(errno));
	while ((entry = readdir(d))) {
		len = strlen(entry->d_name);
		if (len <= SUFFIX_LEN || strcmp(entry->d_name + len - SUFFIX_LEN, SUFFIX))
			continue;
		entry->d_name[len - SUFFIX_LEN] = '\0';
		if (name_is_valid(entry->d_name) &&
		    !socket_path(path, sizeof(path), entry->d_name, NULL) && is_alive(dir, path))
			json_object_array_add(*names, json_object_new_string(entry->d_name));
	}
	closedir(d);
	json_object_array_sort(*names, by_name);
	return 0;
}

/** info_text - a string in a VM's answer, "?" if it is not there */
const char *info_text(struct json_object *vm, const char *key)
{
	struct json_object *value = NULL;

	json_object_object_get_ex(vm, key, &value);
	return value ? json_object_get_string(value) : "?";
}

/** info_number - a number in a VM's answer, 0 if it is not there */
__u64 info_number(struct json_object *vm, const char *key)
{
	struct json_object *value = NULL;

	json_object_object_get_ex(vm, key, &value);
	return value ? json_object_get_uint64(value) : 0;
}

/** info_is_child - whether one VM was forked from another, which is still the same one */
bool info_is_child(struct json_object *vm, struct json_object *parent)
{
	return !strcmp(info_text(vm, "parent"), info_text(parent, "name")) &&
	       info_number(vm, "parent_pid") == info_number(parent, "pid");
}

int control_infos(struct json_object **vms, struct vireo_error *err)
{
	struct json_object *names, *reply;
	struct vireo_error why;
	const char *name;
	size_t i;
	int ret;

	*vms = json_object_new_array();
	ret = control_list(&names, err);
	for (i = 0; !ret && i < json_object_array_length(names); i++) {
		name = json_object_get_string(json_object_array_get_idx(names, i));
		if (control_ask(name, "info", NULL, NULL, &reply, &why)) {
			if (why.code == ENOENT || why.code == EPIPE)
				continue;	/* it has just ended */
			reply = json_object_new_object();
			json_object_object_add(reply, "name", json_object_new_string(name));
			json_object_object_add(reply, "state",
					       json_object_new_string("unresponsive"));
		}
		json_object_object_del(reply, "ok");
		json_object_array_add(*vms, reply);
	}
	json_object_put(names);
	return ret;
}
