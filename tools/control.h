/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How `vireo stat` and its kin talk to `vireo run`: a Unix socket per VM,
 * RUNDIR/NAME.sock, one JSON object per line each way.
 *
 *	{"command": "info" | "stat" | "pause" | "resume" | "stop"}
 *	{"command": "resize" | "detach" | "pull", "device": NAME}
 *	{"command": "attach-disk" | "attach-net", "device": as for vireo run}
 *	{"command": "fork", "count": N, "name": NAME, "log": DIRECTORY, "net": [NAME, ...],
 *		"disk-dir": DIRECTORY, "cgroup": DIRECTORY}, all but the first optional;
 *		in the reply "clones": [NAME, ...]
 *	{"command": "snapshot", "incremental": BOOL}: the reply comes with the fds
 *		of a copy of the VM, of its state, with true of the VM as of the
 *		last snapshot, which "parent" and "path" tell, and of what its
 *		disks hold, which "disks" tells; then, on the same connection,
 *		if there are images, {"command": "snapshot-disks"}, as soon as
 *		they are copied: it stands still until then; and at the end
 *		{"command": "snapshot-done", "id": ID, "path": PATH}
 *	{"command": "snapshot", "check": true, "incremental": BOOL}: whether one is
 *		possible; the reply comes with the fds of images alone
 *	{"ok": true, ...} or {"ok": false, "error": "one line"}
 */
#ifndef _VIREO_CONTROL_H
#define _VIREO_CONTROL_H

#include <poll.h>
#include <stdbool.h>
#include <sys/types.h>

#include <json-c/json.h>

#include "lib/libvireo.h"

#define CONTROL_CLIENTS	8
#define CONTROL_FDS	(3 + VIREO_STORE_DISKS)	/* that may go with a reply */
#define CONTROL_LINE	8192	/* longest request, bytes */
#define CLONES_MAX	1000	/* of one request */

/**
 * struct control - the serving side
 * @name: the VM's
 * @path: of the socket; "": none
 * @listen_fd: -1: none
 * @client: connections, fd -1 where there is none
 * @line: what each has sent; not beside the fds, which a clone writes
 * @handle: fills @reply in for @command of @request; false: @reply's "error" says why not
 * @ctx: its first argument
 * @asking: the client whose request @handle has
 * @silent: set by @handle: another process answers
 * @gone: called when a client has been closed; may be NULL
 * @fds: set by @handle: number of @fd that go with the reply
 * @fd: the caller's
 */
struct control {
	const char *name;
	char path[108];
	int listen_fd;
	struct control_client {
		int fd;
		size_t used;
	} client[CONTROL_CLIENTS];
	bool (*handle)(void *ctx, const char *command, struct json_object *request,
		       struct json_object *reply);
	void *ctx;
	struct control_client *asking;
	bool silent;
	void (*gone)(void *ctx, struct control_client *client);
	unsigned int fds;
	int fd[CONTROL_FDS];
	char line[CONTROL_CLIENTS][CONTROL_LINE];
};

int control_open(struct control *control, const char *name, struct vireo_error *err);
unsigned int control_poll_fds(struct control *control, struct pollfd *pfd);
void control_poll_done(struct control *control, const struct pollfd *pfd, unsigned int count);
void control_close(struct control *control);
void control_leave(struct control *control, bool keep_asking);
void control_reply(struct control *control, struct json_object *reply, bool ok);

#define CONTROL_POLL_FDS	(CONTROL_CLIENTS + 1)

/* The asking side; the reply belongs to the caller (json_object_put), @request too. */
int control_request(const char *name, struct json_object *request, unsigned int seconds,
		    struct json_object **reply, struct vireo_error *err);
int control_connect(const char *name, struct vireo_error *err);
int control_exchange(int fd, const char *name, struct json_object *request, unsigned int seconds,
		     struct json_object **reply, int *fds, struct vireo_error *err);
int control_ask(const char *name, const char *command, const char *key, const char *value,
		struct json_object **reply, struct vireo_error *err);
int control_kill(const char *name, struct vireo_error *err);

/* Names of the VMs that run, sorted, in a JSON array; stale sockets are removed. */
int control_list(struct json_object **names, struct vireo_error *err);

/* What each of them says to "info"; one that hangs has the state "unresponsive". */
int control_infos(struct json_object **vms, struct vireo_error *err);

const char *info_text(struct json_object *vm, const char *key);
__u64 info_number(struct json_object *vm, const char *key);
bool info_is_child(struct json_object *vm, struct json_object *parent);

#endif /* _VIREO_CONTROL_H */
