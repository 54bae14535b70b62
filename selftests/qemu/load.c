// SPDX-License-Identifier: GPL-2.0
/*
 * What disks and interfaces cost, in instructions of the whole machine.
 *
 *	load serve DISK		in the guest: do what the other one says
 *	load ask ADDRESS [FIGURE]...	on the host: measure figures, all or these, with that guest
 *	load disk DISK		the figures of a disk alone, on the machine itself
 *
 * It prints a line for each figure, everything per request, packet or KiB:
 *
 *	load: FIGURE instructions=N exits=N interrupts=N vcpu=N io=N
 *
 * The host counts instructions (-icount shift=0): a tick of the time stamp counter
 * and a nanosecond of its clock are one.  The ticks that the processor idled are
 * subtracted: /proc/timer_list has them, to the nanosecond.  "vcpu" is what the
 * threads of process VMM in the environment ran, guest included, and "io" what
 * those called "IO ..." and process HELPER did.  The rest is this program and what
 * the host does beside.  The command EXITS prints the number of exits so far.
 * Interrupts are the guest's, those of its devices.
 *
 * Every figure is taken after a warm-up of an eighth of it.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
#include <x86intrin.h>

#define PORT		5001
#define AREA		(64UL << 20)	/* of the disk that is read */
#define MAX_DEPTH	128
#define CHUNK		(128 << 10)	/* of a TCP stream */
#define SMALL		18		/* a frame of 64 bytes, its checksum included */
#define BATCH		32		/* datagrams of one system call */
#define WINDOW		256		/* datagrams that nobody has confirmed yet */
#define PATIENCE	2		/* seconds, of a thousand million instructions each */

enum kind { READ, TO_HOST, TO_GUEST, STREAM_TO_HOST, STREAM_TO_GUEST, ECHO };

static const struct figure {
	const char *name;
	enum kind kind;
	unsigned int size;
	unsigned int depth;
	unsigned int count;
	unsigned int per;	/* of @count make one of what is printed */
} figures[] = {
	{ "read_4k_qd1", READ, 4096, 1, 2048, 1 },
	{ "read_4k_qd32", READ, 4096, 32, 8192, 1 },
	{ "read_4k_qd128", READ, 4096, 128, 8192, 1 },
	{ "read_1m", READ, 1 << 20, 1, 128, 1 },
	{ "packets_to_host", TO_HOST, SMALL, 0, 8192, 1 },
	{ "packets_to_guest", TO_GUEST, SMALL, 0, 8192, 1 },
	{ "stream_to_host", STREAM_TO_HOST, 0, 0, 16 << 20, 1024 },
	{ "stream_to_guest", STREAM_TO_GUEST, 0, 0, 16 << 20, 1024 },
	{ "request_response", ECHO, 1, 0, 1024, 1 },
};

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define FIGURES		ARRAY_SIZE(figures)

static int disk = -1, udp = -1, stream = -1;
static uint8_t *buffer;		/* MAX_DEPTH pages, or one request of 1 MiB */

static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *format, ...)
{
	va_list args;

	printf("load: FAIL ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf(": %s\n", strerror(errno));
	exit(1);
}

static void need(bool ok, const char *what)
{
	if (!ok)
		fail("%s", what);
}

/* ---- Load ------------------------------------------------------------------------------------ */

static uint64_t next_offset(unsigned int size)
{
	static uint64_t state, at;

	if (size > 4096) {	/* one after the other */
		at = (at + size) % AREA;
		return at;
	}
	state = state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (state >> 33) % (AREA / size) * size;
}

/* What has come is asked for anew in one call, so that up to @depth are on their way. */
static void read_disk(unsigned int size, unsigned int depth, unsigned int count)
{
	static struct iocb iocb[MAX_DEPTH], *again[MAX_DEPTH];
	static struct io_event event[MAX_DEPTH];
	unsigned int begun = 0, done = 0;
	static aio_context_t ctx;
	int i, n = depth;

	need(disk >= 0 && depth <= MAX_DEPTH && size * depth <= 1 << 20, "disk");
	need(ctx || !syscall(SYS_io_setup, MAX_DEPTH, &ctx), "io_setup");
	for (i = 0; i < n; i++) {
		iocb[i] = (struct iocb){
			.aio_lio_opcode = IOCB_CMD_PREAD,
			.aio_fildes = disk,
			.aio_buf = (uintptr_t)(buffer + (size_t)i * size),
			.aio_nbytes = size,
		};
		again[i] = &iocb[i];
	}
	while (done < count) {
		if (n > count - begun)
			n = count - begun;
		for (i = 0; i < n; i++)
			again[i]->aio_offset = next_offset(size);
		need(!n || syscall(SYS_io_submit, ctx, n, again) == n, "io_submit");
		begun += n;
		n = syscall(SYS_io_getevents, ctx, 1, MAX_DEPTH, event, NULL);
		need(n > 0, "io_getevents");
		for (i = 0; i < n; i++) {
			need(event[i].res == size, "read");
			again[i] = (struct iocb *)(uintptr_t)event[i].obj;
		}
		done += n;
	}
}

static struct mmsghdr *messages(void)
{
	static struct mmsghdr m[BATCH];
	static struct iovec iov[BATCH];

	for (int i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){ buffer + i * 64, SMALL };
		m[i].msg_hdr.msg_iov = &iov[i];
		m[i].msg_hdr.msg_iovlen = 1;
	}
	return m;
}

/* Nothing is lost: the receiver confirms every half of a window. */
static void send_packets(unsigned int count)
{
	struct mmsghdr *m = messages();
	unsigned int sent = 0, confirmed = 0;
	char c[SMALL];
	int n;

	while (confirmed < count) {
		if (sent - confirmed >= WINDOW || sent == count) {
			need(recv(udp, c, sizeof(c), 0) > 0, "a packet was lost");
			confirmed += WINDOW / 2;
			continue;
		}
		n = sendmmsg(udp, m, BATCH, 0);
		need(n > 0, "sendmmsg");
		sent += n;
	}
}

static void receive_packets(unsigned int count)
{
	struct mmsghdr *m = messages();
	unsigned int got = 0, unconfirmed = 0;
	int n;

	while (got < count) {
		n = recvmmsg(udp, m, BATCH, MSG_WAITFORONE, NULL);
		need(n > 0, "a packet was lost");
		got += n;
		for (unconfirmed += n; unconfirmed >= WINDOW / 2; unconfirmed -= WINDOW / 2)
			need(send(udp, buffer, SMALL, 0) > 0, "send");
	}
}

static void send_stream(size_t bytes)
{
	while (bytes) {
		ssize_t n = write(stream, buffer, bytes < CHUNK ? bytes : CHUNK);

		need(n > 0, "write");
		bytes -= n;
	}
}

static void receive_stream(size_t bytes)
{
	while (bytes) {
		ssize_t n = read(stream, buffer, bytes < CHUNK ? bytes : CHUNK);

		need(n > 0, "read");
		bytes -= n;
	}
}

static void echo(unsigned int count, bool begin)
{
	char c = 0;

	while (count--) {
		need(!begin || write(stream, &c, 1) == 1, "write");
		need(read(stream, &c, 1) == 1, "read");
		need(begin || write(stream, &c, 1) == 1, "write");
	}
}

/* One side's part of a figure */
static void take_part(const struct figure *f, unsigned int count, bool guest)
{
	bool sends = guest ? f->kind == TO_HOST || f->kind == STREAM_TO_HOST :
			     f->kind == TO_GUEST || f->kind == STREAM_TO_GUEST;

	switch (f->kind) {
	case READ:
		if (guest)
			read_disk(f->size, f->depth, count);
		break;
	case TO_HOST:
	case TO_GUEST:
		if (sends)
			send_packets(count);
		else
			receive_packets(count);
		break;
	case STREAM_TO_HOST:
	case STREAM_TO_GUEST:
		if (sends)
			send_stream(count);
		else
			receive_stream(count);
		break;
	case ECHO:
		echo(count, !guest);
		break;
	}
}

/* ---- Counters -------------------------------------------------------------------------------- */

struct counters {
	uint64_t exits, idle, vcpu, io, ticks;
};

static uint64_t idle_ticks(void)
{
	FILE *f = fopen("/proc/timer_list", "re");
	unsigned long long value = 0;
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "  .idle_sleeptime : %llu", &value) == 1)
			break;
	need(f && !fclose(f), "/proc/timer_list");
	return value;
}

/* The first line of a file, empty if there is none */
static void first_line(const char *path, char *line, size_t size)
{
	FILE *f = fopen(path, "re");

	if (!f || !fgets(line, size, f))
		*line = '\0';
	if (f)
		fclose(f);
}

/* What the threads of a process have run: those for I/O, or the others */
static uint64_t run_ticks(const char *variable, bool io)
{
	const char *process = getenv(variable);
	char path[400], line[100];
	struct dirent *e;
	uint64_t sum = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%s/task", process && *process ? process : "-");
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/%s/task/%s/comm", process, e->d_name);
		first_line(path, line, sizeof(line));
		if (io != (!strncmp(line, "IO ", 3) || !strncmp(line, "vhost", 5)))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/task/%s/schedstat", process, e->d_name);
		first_line(path, line, sizeof(line));
		sum += strtoull(line, NULL, 10);
	}
	if (dir)
		closedir(dir);
	return sum;
}

static uint64_t exits(void)
{
	const char *command = getenv("EXITS");
	unsigned long long value = 0;
	FILE *f;

	if (!command)
		return 0;
	f = popen(command, "r");
	need(f && fscanf(f, "%llu", &value) == 1, command);
	pclose(f);
	return value;
}

/* Interrupts of the devices, as this machine counts them */
static uint64_t irq_count(void)
{
	FILE *f = fopen("/proc/interrupts", "re");
	unsigned long long value, sum = 0;
	char line[512];

	while (f && fgets(line, sizeof(line), f))
		if (strstr(line, "MSI") && sscanf(line, " %*[^:]: %llu", &value) == 1)
			sum += value;
	if (f)
		fclose(f);
	return sum;
}

static void count(struct counters *c)
{
	c->exits = exits();
	c->vcpu = run_ticks("VMM", false);
	c->io = run_ticks("VMM", true) + run_ticks("HELPER", true);
	c->idle = idle_ticks();
	c->ticks = __rdtsc();
}

static void count_end(struct counters *c)
{
	uint64_t ticks = __rdtsc();

	c->ticks = ticks - c->ticks;
	c->idle = idle_ticks() - c->idle;
	c->vcpu = run_ticks("VMM", false) - c->vcpu;
	c->io = run_ticks("VMM", true) + run_ticks("HELPER", true) - c->io;
	c->exits = exits() - c->exits;
}

static void report(const struct figure *f, const struct counters *c, uint64_t irqs)
{
	double n = (double)f->count / f->per;

	printf("load: %s instructions=%.1f exits=%.3f interrupts=%.3f vcpu=%.1f io=%.1f\n",
	       f->name, (c->ticks - c->idle) / n, c->exits / n, irqs / n, c->vcpu / n, c->io / n);
	fflush(stdout);
}

/* ---- Who is who ------------------------------------------------------------------------------ */

static void open_disk(const char *path)
{
	disk = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	need(disk >= 0, path);
}

static void patience(int fd)
{
	struct timeval t = { .tv_sec = PATIENCE };
	int one = 1;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void open_udp(const struct sockaddr_in *peer)
{
	struct sockaddr_in own = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	struct sockaddr_in to = *peer;
	int room = 4 << 20;

	to.sin_port = htons(PORT);
	udp = socket(AF_INET, SOCK_DGRAM, 0);
	setsockopt(udp, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	need(!bind(udp, (struct sockaddr *)&own, sizeof(own)), "bind");
	need(!connect(udp, (struct sockaddr *)&to, sizeof(to)), "connect");
	patience(udp);
}

/* Orders: the figure and how much of it; the answer: how many interrupts it took. */
struct order {
	uint32_t figure;
	uint32_t count;
};

static int serve(void)
{
	struct sockaddr_in own = { .sin_family = AF_INET, .sin_port = htons(PORT) }, peer;
	int one = 1, control, fd = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t len = sizeof(peer);
	struct order o;
	uint64_t irqs;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	need(!bind(fd, (struct sockaddr *)&own, sizeof(own)) && !listen(fd, 2), "listen");
	control = accept(fd, (struct sockaddr *)&peer, &len);
	need(control >= 0, "accept");
	stream = accept(fd, NULL, NULL);
	need(stream >= 0, "accept");
	patience(stream);
	patience(control);
	open_udp(&peer);
	need(write(control, "", 1) == 1, "write");
	while (recv(control, &o, sizeof(o), MSG_WAITALL) == sizeof(o)) {
		need(o.figure < FIGURES, "order");
		irqs = irq_count();
		take_part(&figures[o.figure], o.count, true);
		irqs = irq_count() - irqs;
		need(write(control, &irqs, sizeof(irqs)) == sizeof(irqs), "write");
	}
	return 0;
}

static uint64_t ask_for(int control, unsigned int i, unsigned int count)
{
	struct order o = { i, count };
	uint64_t irqs;

	need(write(control, &o, sizeof(o)) == sizeof(o), "write");
	take_part(&figures[i], count, false);
	need(recv(control, &irqs, sizeof(irqs), MSG_WAITALL) == sizeof(irqs), "no answer");
	return irqs;
}

static int connect_to(const struct sockaddr_in *peer)
{
	int fd, tries = 100;

	while (tries--) {
		fd = socket(AF_INET, SOCK_STREAM, 0);
		if (!connect(fd, (const struct sockaddr *)peer, sizeof(*peer))) {
			patience(fd);
			return fd;
		}
		close(fd);
		usleep(300000);
	}
	fail("connect");
}

static bool wanted(const char *name, char **only)
{
	bool all = !*only;

	while (*only && strcmp(*only, name))
		only++;
	return all || *only;
}

static int ask(const char *address, char **only)
{
	struct sockaddr_in peer = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	struct counters c;
	uint64_t irqs;
	int control;
	char ready;

	need(inet_aton(address, &peer.sin_addr), address);
	control = connect_to(&peer);
	stream = connect_to(&peer);
	open_udp(&peer);
	need(read(control, &ready, 1) == 1, "the guest is not ready");
	for (unsigned int i = 0; i < FIGURES; i++) {
		if (!wanted(figures[i].name, only))
			continue;
		ask_for(control, i, figures[i].count / 8);
		count(&c);
		irqs = ask_for(control, i, figures[i].count);
		count_end(&c);
		report(&figures[i], &c, irqs);
	}
	return 0;
}

static int disk_alone(void)
{
	struct counters c;

	for (unsigned int i = 0; i < FIGURES; i++) {
		if (figures[i].kind != READ)
			continue;
		take_part(&figures[i], figures[i].count / 8, true);
		count(&c);
		take_part(&figures[i], figures[i].count, true);
		count_end(&c);
		report(&figures[i], &c, 0);
	}
	return 0;
}

int main(int argc, char **argv)
{
	buffer = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	need(buffer != MAP_FAILED, "mmap");
	if (argc >= 2 && !strcmp(argv[1], "serve")) {
		if (argc == 3)
			open_disk(argv[2]);
		return serve();
	}
	if (argc >= 3 && !strcmp(argv[1], "ask"))
		return ask(argv[2], argv + 3);
	if (argc == 3 && !strcmp(argv[1], "disk")) {
		open_disk(argv[2]);
		return disk_alone();
	}
	fprintf(stderr, "usage: load serve [DISK] | ask ADDRESS [FIGURE]... | disk DISK\n");
	return 2;
}
