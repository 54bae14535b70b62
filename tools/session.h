/* SPDX-License-Identifier: GPL-2.0 */
/* A run of a VM: what its process knows, for builtin-run.c and clone.c. */
#ifndef _VIREO_SESSION_H
#define _VIREO_SESSION_H

#include <limits.h>
#include <sys/types.h>
#include <time.h>

#include "console.h"
#include "control.h"
#include "devices.h"

/**
 * struct run_options - what the user asked for
 * @kernel: path
 * @initrd: path or NULL
 * @append: addition to the command line or NULL
 * @snapshot: directory to restore, or NULL
 * @eager: restore: copy all memory at once
 * @paused: restore: stand still until vireo resume
 * @verify: restore: check the memory's content first
 * @bare: leave the default command line out
 * @stat: print counters at the end
 * @rng: give it random numbers
 * @hvc: restore: it has this console
 * @advance: restore: the guest's time goes on by what has passed since
 * @copy_disks: restore: where blocks cannot be shared
 * @disk_dir: restore: directory for disk images, NULL: that of each when it was stored
 * @vcpus: processors
 * @memory: bytes
 * @console: see console_open()
 * @cgroup: where it gets a cgroup of its own, "": nowhere
 * @slots: for devices that come and go
 * @devices: number of @device
 * @device: disks and interfaces, in the order of their slots
 * @nets: number of @net
 * @net: restore: interfaces, as they are to be named
 * @name: the VM's name; last, beside what else a clone writes
 */
struct run_options {
	const char *kernel;
	const char *initrd;
	const char *append;
	const char *snapshot;
	bool eager;
	bool paused;
	bool verify;
	bool bare;
	bool stat;
	bool rng;
	bool hvc;
	bool advance;
	bool copy_disks;
	const char *disk_dir;
	__u64 vcpus;
	__u64 memory;
	const char *console;
	char cgroup[PATH_MAX];
	__u64 slots;
	unsigned int devices;
	struct device_spec device[VIREO_PCI_SLOTS - 1];
	unsigned int nets;
	struct device_spec net[VIREO_PCI_SLOTS - 1];
	char name[65];
};

/**
 * struct session - a run: what a clone writes is together, on few pages
 * @cmdline: the kernel command line
 * @frozen: the VM as of the last snapshot, which an incremental one compares with
 * @writing: ... of one that @writer has not written yet
 * @opt: what the user asked for
 * @signal_fd: signals that end it, and SIGCONT
 * @watch_fd: changes of the host's interfaces, -1: the VM has none
 * @parent: name of the VM that this one was forked from, or ""
 * @parent_pid: its process then
 * @start_ns: of a clone: from the request on until it ran
 * @pause_ns: how long the last fork stopped it
 * @writer: see @writing
 * @copying: @writer copies disks, and the VM stands still until it has
 * @was_paused: ... and afterwards
 * @begin_ns: ... since then
 * @given: number of @given_fd
 * @given_fd: what @writer was given beside that
 * @left: the user typed Ctrl-A x
 * @start: when it began, CLOCK_MONOTONIC
 * @control: its control socket
 * @machine: the VM
 * @console: its console
 */
struct session {
	char cmdline[8192];
	struct frozen {
		int fd;			/* -1: there is none */
		char id[33];
		char path[PATH_MAX];
	} frozen, writing;
	struct run_options opt;
	int signal_fd;
	int watch_fd;
	char parent[65];
	pid_t parent_pid;
	__u64 start_ns;
	__u64 pause_ns;
	struct control_client *writer;
	bool copying;
	bool was_paused;
	__u64 begin_ns;
	unsigned int given;
	int given_fd[VIREO_STORE_DISKS];
	bool left;
	struct timespec start;
	struct control control;
	struct vireo_machine machine;
	struct console console;
};

/* builtin-run.c */
int catch_signals(struct session *s, struct vireo_error *err);
int watch_nets(struct session *s, struct vireo_error *err);
int add_devices(struct session *s, struct vireo_error *err);
int session_run(struct session *s, void (*ready)(struct session *s));

/* snapshot.c */
void id_format(const __u8 *id, char *text);
void session_forget(struct session *s);
void session_client_gone(void *ctx, struct control_client *client);
int session_snapshot(struct session *s, struct json_object *request, struct json_object *reply,
		     struct vireo_error *err);
int session_snapshot_disks(struct session *s, struct vireo_error *err);
int session_snapshot_done(struct session *s, struct json_object *request,
			  struct vireo_error *err);
int session_open_snapshot(struct session *s, struct vireo_error *err);
int session_restore(struct session *s, struct vireo_error *err);

/* clone.c */
int session_fork(struct session *s, struct json_object *request, struct json_object *reply,
		 struct vireo_error *err);

#endif /* _VIREO_SESSION_H */
