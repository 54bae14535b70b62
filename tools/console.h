/* SPDX-License-Identifier: GPL-2.0 */
/* The console: a UART, or hvc0 too, on one side, a terminal, pipes or a file on the other. */
#ifndef _VIREO_CONSOLE_H
#define _VIREO_CONSOLE_H

#include <pthread.h>
#include <stdbool.h>

#include "lib/libvireo.h"

#define CONSOLE_RING	(64 * 1024U)	/* bytes, a power of two */
#define CONSOLE_DELAY	20		/* ms that output may wait for more */

/**
 * struct console - the console of a VM; [L] is guarded by @lock
 * @in_fd: input, -1: none (any more)
 * @out_fd: output, -1: none (any more)
 * @tty: input is a terminal, in raw mode
 * @escape: Ctrl-A was typed
 * @wake_fd: eventfd: a vCPU wants the main thread to have a look
 * @wants_hvc: there is to be one
 * @hvc: the paravirtual console, which input goes to, or NULL
 * @lock: guards the rest, and is taken inside the PCI bridge's
 * @len: [L] bytes in @typed
 * @stalled: [L] @hvc has output for which there was no room
 * @armed: [L] the main thread looks at the output every CONSOLE_DELAY ms
 * @full: [L] input waits until the guest has read
 * @busy: [L] @uart has output, maybe, for which there was no room
 * @head: [L] bytes put into @ring, free-running
 * @tail: [L] bytes written
 * @last: [L] last byte written
 * @uart: [L] the guest's side
 * @typed: [L] input for @hvc that the guest has not taken
 * @ring: [L] output that was not written yet
 */
struct console {
	int in_fd;
	int out_fd;
	bool tty;
	bool escape;
	int wake_fd;
	bool wants_hvc;
	struct vireo_machine *machine;
	struct vireo_pv *hvc;
	pthread_mutex_t lock;
	size_t len;
	bool stalled;
	bool armed;
	bool full;
	bool busy;
	unsigned int head;
	unsigned int tail;
	char last;
	struct vireo_uart uart;
	char typed[VIREO_UART_BACKLOG];
	char ring[CONSOLE_RING];
};

int console_open(struct console *con, const char *spec, struct vireo_error *err);
int console_attach(struct console *con, struct vireo_machine *m, struct vireo_error *err);
bool console_spec_is_valid(const char *spec);
bool console_is_hvc(const char *spec);
void console_resize(struct console *con);
void console_raw(struct console *con);
bool console_wants_input(struct console *con);
bool console_input(struct console *con);
void console_wake(struct console *con);
int console_timeout(struct console *con);
void console_flush(struct console *con);
int console_detach(struct console *con, int out_fd, struct vireo_error *err);
void console_close(struct console *con);
void console_environment(const char *spec, char *buf, size_t len);

#endif /* _VIREO_CONSOLE_H */
