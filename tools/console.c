// SPDX-License-Identifier: GPL-2.0
/*
 * The console: the serial port, and hvc0 if it was asked for.  What the guest
 * sends to either comes out here; input goes to hvc0 where there is one.
 *
 * vCPU threads put what the guest sends into a ring; the main thread writes it
 * out at once after a pause, then every CONSOLE_DELAY ms, so that a burst costs
 * few system calls and none in the vCPU's thread.  If the other side does not
 * read, the ring fills and the guest sees a busy transmitter; nothing blocks.
 *
 * A terminal is in raw mode while the guest runs, and is restored however this
 * process ends (but for SIGKILL).
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "builtin.h"
#include "console.h"

#define RING_MASK	(CONSOLE_RING - 1)
#define WRITE_MAX	2048	/* bytes that never block after POLLOUT */
#define CTRL_A		1

static const char escape_help[] =
	"\r\nCtrl-A x  end the virtual machine\r\n"
	"Ctrl-A b  send a BREAK (Linux: magic SysRq)\r\n"
	"Ctrl-A a  send Ctrl-A (or Ctrl-A twice)\r\n"
	"Ctrl-A h  this help\r\n";

/* ---- the terminal ---- */

static struct termios saved_termios;
static volatile sig_atomic_t termios_is_raw;

static void terminal_restore(void)
{
	if (termios_is_raw) {
		tcsetattr(STDIN_FILENO, TCSANOW, &saved_termios);
		termios_is_raw = 0;
	}
}

static void on_fatal_signal(int sig)
{
	terminal_restore();
	raise(sig);	/* SA_RESETHAND: now with the default action */
}

static void restore_on_every_exit(void)
{
	static const int fatal[] = { SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGXCPU };
	struct sigaction sa = { .sa_handler = on_fatal_signal, .sa_flags = SA_RESETHAND };
	size_t i;

	sigemptyset(&sa.sa_mask);
	for (i = 0; i < ARRAY_SIZE(fatal); i++)
		sigaction(fatal[i], &sa, NULL);
	atexit(terminal_restore);
}

/** console_raw - put the terminal into raw mode, also again after SIGCONT */
void console_raw(struct console *con)
{
	struct termios raw;

	if (!con->tty)
		return;
	raw = saved_termios;
	cfmakeraw(&raw);
	termios_is_raw = 1;
	tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
}

/* SPEC is [serial|hvc][,][WHERE]: the rest */
static const char *where(const char *spec)
{
	size_t n = strcspn(spec, ",");

	if (strncmp(spec, "hvc", n > 3 ? n : 3) && strncmp(spec, "serial", n > 6 ? n : 6))
		return spec;
	return spec[n] ? spec + n + 1 : "stdio";
}

/** console_is_hvc - whether a spec as for console_open() wants hvc0 */
bool console_is_hvc(const char *spec)
{
	return !strncmp(spec, "hvc", 3) && (!spec[3] || spec[3] == ',');
}

/** console_spec_is_valid - whether console_open() understands it */
bool console_spec_is_valid(const char *spec)
{
	const char *to = where(spec);

	return !strcmp(to, "stdio") || !strcmp(to, "none") ||
	       (!strncmp(to, "file:", 5) && to[5]);
}

/**
 * console_environment - the terminal's size and type, for the guest's init
 * @spec: as for console_open()
 * @buf: gets " NAME=VALUE..." to append to a kernel command line, or ""
 * @len: room in @buf
 */
void console_environment(const char *spec, char *buf, size_t len)
{
	const char *term = getenv("TERM");
	struct winsize ws;
	size_t i;

	buf[0] = '\0';
	if (strcmp(where(spec), "stdio") || ioctl(STDIN_FILENO, TIOCGWINSZ, &ws) || !ws.ws_row ||
	    !ws.ws_col)
		return;
	snprintf(buf, len, " LINES=%u COLUMNS=%u", ws.ws_row, ws.ws_col);
	if (!term || !*term || strlen(term) > 40)
		return;
	for (i = 0; term[i]; i++) {
		if (!isalnum((unsigned char)term[i]) && !strchr("._+-", term[i]))
			return;
	}
	snprintf(buf + strlen(buf), len - strlen(buf), " TERM=%s", term);
}

/* ---- output ---- */

static void write_out(struct console *con)
{
	struct pollfd pfd = { .fd = con->out_fd, .events = POLLOUT };
	unsigned int at, len;
	ssize_t n;

	while (con->head != con->tail && con->out_fd >= 0) {
		if (poll(&pfd, 1, 0) < 1 || !(pfd.revents & (POLLOUT | POLLERR | POLLHUP)))
			return;
		at = con->tail & RING_MASK;
		len = con->head - con->tail;
		if (len > CONSOLE_RING - at)
			len = CONSOLE_RING - at;
		if (len > WRITE_MAX)
			len = WRITE_MAX;
		n = write(con->out_fd, con->ring + at, len);
		if (n > 0) {
			con->last = con->ring[at + (unsigned int)n - 1];
			con->tail += (unsigned int)n;
			continue;
		}
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		con->out_fd = -1;	/* the reader is gone: discard */
	}
	if (con->out_fd < 0)
		con->tail = con->head;
}

static bool uart_ready(void *ctx)
{
	struct console *con = ctx;

	if (con->head - con->tail < CONSOLE_RING)
		return true;
	write_out(con);
	con->busy = con->head - con->tail == CONSOLE_RING;
	return !con->busy;
}

static void uart_interrupt(void *ctx)
{
	struct console *con = ctx;
	struct vireo_msi msi;

	if (con->machine && vireo_ioapic_raise(&con->machine->ioapic, VIREO_PIN_COM1, &msi))
		vireo_vm_inject_msi(&con->machine->vm, &msi);
}

/* Let the main thread know of output. */
static void arm(struct console *con)
{
	if (!con->armed) {
		con->armed = true;
		eventfd_write(con->wake_fd, 1);
	}
}

static bool uart_transmit(void *ctx, __u8 byte)
{
	struct console *con = ctx;

	if (con->out_fd < 0)
		return true;
	if (!uart_ready(con))
		return false;
	con->ring[con->head++ & RING_MASK] = (char)byte;
	arm(con);
	return true;
}

/** console_wake - the main thread saw @wake_fd: write what is there */
void console_wake(struct console *con)
{
	eventfd_t count;

	eventfd_read(con->wake_fd, &count);
	console_flush(con);
}

/** console_flush - write what can be written without waiting */
void console_flush(struct console *con)
{
	bool go_on = false;

	pthread_mutex_lock(&con->lock);
	/* Nothing new for a while: the next byte wakes the main thread again. */
	if (con->head == con->tail)
		con->armed = false;
	else
		write_out(con);
	if (con->stalled && CONSOLE_RING - (con->head - con->tail) >= CONSOLE_RING / 2) {
		con->stalled = false;
		go_on = true;
	}
	if (con->busy && CONSOLE_RING - (con->head - con->tail) >= CONSOLE_RING / 2) {
		con->busy = false;
		vireo_uart_drained(&con->uart);
	}
	pthread_mutex_unlock(&con->lock);
	if (go_on)
		vireo_console_update(con->hvc);
}

/** console_timeout - ms until console_flush() is due, -1: not by itself */
int console_timeout(struct console *con)
{
	int timeout;

	pthread_mutex_lock(&con->lock);
	timeout = con->armed ? CONSOLE_DELAY : -1;
	pthread_mutex_unlock(&con->lock);
	return timeout;
}

/* ---- the guest's side ---- */

static __u64 com1_read(void *ctx, struct vireo_vcpu *vcpu, __u64 offset, unsigned int width)
{
	struct console *con = ctx;
	__u64 value = 0;
	unsigned int i;

	(void)vcpu;
	pthread_mutex_lock(&con->lock);
	for (i = 0; i < width; i++)
		value |= (__u64)vireo_uart_in(&con->uart, (unsigned int)offset + i) << (8 * i);
	if (con->full && vireo_uart_room(&con->uart) >= VIREO_UART_BACKLOG / 2) {
		con->full = false;
		eventfd_write(con->wake_fd, 1);
	}
	pthread_mutex_unlock(&con->lock);
	return value;
}

static void com1_write(void *ctx, struct vireo_vcpu *vcpu, __u64 offset, unsigned int width,
		       __u64 value)
{
	struct console *con = ctx;
	unsigned int i;

	(void)vcpu;
	pthread_mutex_lock(&con->lock);
	for (i = 0; i < width; i++)
		vireo_uart_out(&con->uart, (unsigned int)offset + i, (__u8)(value >> (8 * i)));
	pthread_mutex_unlock(&con->lock);
}

static size_t hvc_input(void *ctx, void *data, size_t len)
{
	struct console *con = ctx;

	pthread_mutex_lock(&con->lock);
	if (len > con->len)
		len = con->len;
	memcpy(data, con->typed, len);
	con->len -= len;
	memmove(con->typed, con->typed + len, con->len);
	if (con->full && len) {
		con->full = false;
		eventfd_write(con->wake_fd, 1);
	}
	pthread_mutex_unlock(&con->lock);
	return len;
}

static size_t hvc_room(void *ctx)
{
	struct console *con = ctx;
	size_t room;

	pthread_mutex_lock(&con->lock);
	room = CONSOLE_RING - (con->head - con->tail);
	if (room < VIREO_CONSOLE_MAX_BYTES) {
		write_out(con);
		room = CONSOLE_RING - (con->head - con->tail);
		con->stalled = room < VIREO_CONSOLE_MAX_BYTES;
	}
	if (con->stalled)
		room = 0;	/* console_flush() goes on */
	pthread_mutex_unlock(&con->lock);
	return room;
}

static void hvc_output(void *ctx, const void *data, size_t len)
{
	struct console *con = ctx;
	const char *p = data;

	pthread_mutex_lock(&con->lock);
	if (con->out_fd >= 0) {
		while (len--)
			con->ring[con->head++ & RING_MASK] = *p++;
		arm(con);
	}
	pthread_mutex_unlock(&con->lock);
}

/** console_resize - the terminal may have another size: tell the guest */
void console_resize(struct console *con)
{
	struct winsize ws;

	if (con->hvc && con->tty && !ioctl(STDIN_FILENO, TIOCGWINSZ, &ws))
		vireo_console_resize(con->hvc, ws.ws_col, ws.ws_row);
}

/**
 * console_attach - give the guest its side
 * @con: opened
 * @m: the VM, not started
 * @err: why not
 */
int console_attach(struct console *con, struct vireo_machine *m, struct vireo_error *err)
{
	struct vireo_device com1 = {
		.name = "COM1", .base = VIREO_PORT_COM1, .len = 8,
		.read = com1_read, .write = com1_write, .ctx = con,
	};
	struct vireo_console_spec spec = {
		.input = hvc_input, .room = hvc_room, .output = hvc_output, .ctx = con,
	};
	struct vireo_pv *pv;
	int ret;

	con->machine = m;
	ret = vireo_bus_add(&m->ports, &com1);
	if (ret || !con->wants_hvc)
		return ret;
	pv = vireo_console_create(&m->vm, &spec, err);
	if (!pv)
		return -err->code;
	ret = vireo_machine_add(m, pv, VIREO_SLOT_NONE, err);
	if (ret)
		return ret;
	con->hvc = pv;
	console_resize(con);
	return 0;
}

/* ---- input ---- */

static size_t input_room(const struct console *con)
{
	return con->hvc ? sizeof(con->typed) - con->len : vireo_uart_room(&con->uart);
}

static void receive(struct console *con, const char *data, size_t len)
{
	if (!con->hvc) {
		vireo_uart_receive(&con->uart, data, len);
		return;
	}
	if (len > input_room(con))
		len = input_room(con);
	memcpy(con->typed + con->len, data, len);
	con->len += len;
}

/** console_wants_input - whether to wait for input */
bool console_wants_input(struct console *con)
{
	bool wants;

	if (con->in_fd < 0)
		return false;
	pthread_mutex_lock(&con->lock);
	wants = con->tty || input_room(con) >= 256;
	con->full = !wants;
	pthread_mutex_unlock(&con->lock);
	return wants;
}

/* A byte after Ctrl-A; true: end the VM. */
static bool escape_byte(struct console *con, char c)
{
	static const char ctrl_a = CTRL_A;

	con->escape = false;
	switch (c) {
	case 'x':
	case 'X':
	case 'x' & 0x1f:
		return true;
	case 'a':
	case CTRL_A:
		receive(con, &ctrl_a, 1);
		break;
	case 'b':
		vireo_uart_break(&con->uart);
		break;
	case 'h':
	case '?':
		if (write(STDOUT_FILENO, escape_help, sizeof(escape_help) - 1) < 0)
			con->out_fd = -1;
		break;
	default:
		break;
	}
	return false;
}

/**
 * console_input - read what is there and give it to the guest
 *
 * What a terminal's user types into a guest that does not read is dropped when
 * the backlog is full, so that Ctrl-A x always works; a pipe has to wait.
 *
 * Return: true if the user wants the VM to end.
 */
bool console_input(struct console *con)
{
	char buf[256];
	bool end = false;
	ssize_t n, i;

	n = read(con->in_fd, buf, sizeof(buf));
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return false;
	if (n <= 0) {
		con->in_fd = -1;	/* the VM runs on without input */
		return false;
	}
	pthread_mutex_lock(&con->lock);
	if (!con->tty)
		receive(con, buf, (size_t)n);
	for (i = 0; con->tty && i < n && !end; i++) {
		if (con->escape)
			end = escape_byte(con, buf[i]);
		else if (buf[i] == CTRL_A)
			con->escape = true;
		else
			receive(con, &buf[i], 1);
	}
	pthread_mutex_unlock(&con->lock);
	if (con->hvc)
		vireo_console_update(con->hvc);
	return end;
}

/* ---- life ---- */

static int open_spec(struct console *con, const char *spec, struct vireo_error *err)
{
	if (!strcmp(spec, "none"))
		return 0;
	if (!strcmp(spec, "stdio")) {
		con->in_fd = STDIN_FILENO;
		con->out_fd = STDOUT_FILENO;
		con->tty = !tcgetattr(STDIN_FILENO, &saved_termios);
		return 0;
	}
	if (strncmp(spec, "file:", 5) || !spec[5])
		return vireo_fail(err, EINVAL, "console `%s`: none, stdio or file:PATH", spec);
	con->out_fd = open(spec + 5, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0600);
	if (con->out_fd < 0)
		return vireo_fail(err, errno, "cannot open the console %s: %s", spec + 5,
				  strerror(errno));
	return 0;
}

/**
 * console_open - open what the user asked for; the terminal is left as it is
 * @con: filled in
 * @spec: "none", "stdio" or "file:PATH", behind "serial," or "hvc,"; or "serial" or
 *	"hvc" alone, which is "stdio"
 * @err: why not
 */
int console_open(struct console *con, const char *spec, struct vireo_error *err)
{
	int ret;

	memset(con, 0, sizeof(*con));
	con->in_fd = -1;
	con->out_fd = -1;
	con->last = '\n';
	con->uart.transmit = uart_transmit;
	con->uart.ready = uart_ready;
	con->uart.interrupt = uart_interrupt;
	con->uart.ctx = con;
	con->wants_hvc = console_is_hvc(spec);
	vireo_uart_init(&con->uart);
	ret = open_spec(con, where(spec), err);
	if (ret)
		return ret;
	con->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (con->wake_fd < 0)
		return vireo_fail(err, errno, "eventfd: %s", strerror(errno));
	pthread_mutex_init(&con->lock, NULL);
	if (con->tty)
		restore_on_every_exit();
	return 0;
}

/**
 * console_detach - in a clone: leave the terminal to the other process
 * @con: the other's; the output that waits is the other's too
 * @out_fd: where output goes from now on, -1: nowhere
 * @err: why not
 */
int console_detach(struct console *con, int out_fd, struct vireo_error *err)
{
	termios_is_raw = 0;
	if (con->out_fd > STDERR_FILENO)
		close(con->out_fd);
	close(con->wake_fd);
	con->in_fd = -1;
	con->out_fd = out_fd;
	con->tty = false;
	con->escape = false;
	con->armed = false;
	con->full = false;
	con->stalled = false;
	con->len = 0;
	con->tail = con->head;
	con->last = '\n';
	pthread_mutex_init(&con->lock, NULL);
	con->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return con->wake_fd < 0 ? vireo_fail(err, errno, "eventfd: %s", strerror(errno)) : 0;
}

/* Whether the message that comes next would go on in the guest's last line */
static bool line_is_open(const struct console *con)
{
	struct stat out, err;

	if (con->out_fd != STDOUT_FILENO || con->last == '\n')
		return false;
	return !fstat(STDOUT_FILENO, &out) && !fstat(STDERR_FILENO, &err) &&
	       out.st_dev == err.st_dev && out.st_ino == err.st_ino;
}

/**
 * console_close - after the guest: write the rest, restore the terminal
 *
 * Waits up to a second for a reader that is slow.
 */
void console_close(struct console *con)
{
	struct pollfd pfd = { .events = POLLOUT };
	unsigned int tries;

	for (tries = 0; tries < 10; tries++) {
		console_flush(con);
		if (con->head == con->tail || con->out_fd < 0)
			break;
		pfd.fd = con->out_fd;
		poll(&pfd, 1, 100);
	}
	if (line_is_open(con) && write(con->out_fd, "\r\n", 2) < 0)
		con->out_fd = -1;
	terminal_restore();
	if (con->out_fd > STDERR_FILENO)
		close(con->out_fd);
	close(con->wake_fd);
	pthread_mutex_destroy(&con->lock);
}
