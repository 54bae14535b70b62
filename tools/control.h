/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How `vireo stat` and its kin talk to `vireo run`: a Unix socket per VM,
 * RUNDIR/NAME.sock, one JSON object per line each way.
 *
 *	{"command": "info" | "stat" | "pause" | "resume" | "stop"}
 *	{"command": "resize" | "detach" | "pull", "device": NAME}
 *	{"command": "attach-disk" | "attach-net", "device": as for vireo run}
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
#define CONTROL_LINE	8192	/* longest request, bytes */

/**
 * struct control - the serving side
 * @name: the VM's
 * @path: of the socket; "": none
 * @listen_fd: -1: none
 * @client: connections, fd -1 where there is none
 * @handle: fills @reply in for @command of @request; false: @reply's "error" says why not
 * @ctx: its first argument
 */
struct control {
	const char *name;
	char path[108];
	int listen_fd;
	struct control_client {
		int fd;
		size_t used;
		char line[CONTROL_LINE];
	} client[CONTROL_CLIENTS];
	bool (*handle)(void *ctx, const char *command, struct json_object *request,
		       struct json_object *reply);
	void *ctx;
};

int control_open(struct control *control, const char *name, struct vireo_error *err);
unsigned int control_poll_fds(struct control *control, struct pollfd *pfd);
void control_poll_done(struct control *control, const struct pollfd *pfd, unsigned int count);
void control_close(struct control *control);

#define CONTROL_POLL_FDS	(CONTROL_CLIENTS + 1)

/* The asking side; the reply belongs to the caller (json_object_put). */
int control_ask(const char *name, const char *command, const char *key, const char *value,
		struct json_object **reply, struct vireo_error *err);
int control_kill(const char *name, struct vireo_error *err);

/* Names of the VMs that run, sorted, in a JSON array; stale sockets are removed. */
int control_list(struct json_object **names, struct vireo_error *err);

#endif /* _VIREO_CONTROL_H */
