// SPDX-License-Identifier: GPL-2.0
/*
 * The init of the guests that the tests boot. It says that user space was
 * reached and when, loads the drivers of the devices that it finds, then does
 * what `vireo.do=` on the kernel command line asks:
 *
 *	poweroff (default), reboot, panic
 *	hang	sleep for ever
 *	shell	a shell on the console, then power off
 *	script	run /script with that shell, report its status, then power off
 *	test	try processors, clocks and memory, report, then power off
 *	root	go on with the init of the ext4 file system on the disk root=, which
 *		finds /script as /run/script; panic if there is none
 *
 * MODULE.NAME=VALUE	a parameter for a module that it loads
 * vireo.mem=MIB	memory for `test` to fill and verify
 * vireo.size=ROWSxCOLUMNS	of the terminal that `shell` talks to
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define NSEC_PER_SEC	1000000000LL
#define CACHE_LINE	64

static char cmdline[4096];

static void read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, buf, size - 1);

	buf[n > 0 ? n : 0] = '\0';
	if (fd >= 0)
		close(fd);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		printf("guest: cannot write %s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

/* The value of "name=" on the kernel command line, copied into buf. */
static const char *option(const char *name, const char *otherwise, char *buf, size_t size)
{
	size_t len = strlen(name);

	for (const char *p = cmdline; *p; p += strcspn(p, "\n "), p += strspn(p, "\n ")) {
		if (!strncmp(p, name, len) && p[len] == '=') {
			snprintf(buf, size, "%.*s", (int)strcspn(p + len + 1, "\n "), p + len + 1);
			return buf;
		}
	}
	return otherwise;
}

/* MiB of memory that the machine has, whatever the kernel keeps for itself. */
static unsigned long memory_mib(void)
{
	unsigned long long start, end, sum = 0;
	FILE *f = fopen("/proc/iomem", "re");
	char line[256];

	while (f && fgets(line, sizeof(line), f)) {
		if (line[0] != ' ' && strstr(line, ": System RAM") &&
		    sscanf(line, "%llx-%llx", &start, &end) == 2)
			sum += end - start + 1;
	}
	if (f)
		fclose(f);
	return (sum + (1 << 20) - 1) >> 20;
}

/* ---- modules ------------------------------------------------------------- */

/*
 * What modprobe and udev do elsewhere, with depmod's files: each PCI function's
 * modalias finds a module, which is loaded after those that it needs.
 */
static char modules[128];	/* their directory */

/* "MODULE.NAME=VALUE" on the kernel command line is a parameter of that module. */
static void parameters(const char *path, char *buf, size_t size)
{
	const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	size_t len = strcspn(base, "."), at = 0;

	buf[0] = '\0';
	for (const char *p = cmdline; *p; p += strcspn(p, "\n "), p += strspn(p, "\n ")) {
		if (!strncmp(p, base, len) && p[len] == '.' && at < size)
			at += snprintf(buf + at, size - at, "%.*s ",
				       (int)strcspn(p + len + 1, "\n "), p + len + 1);
	}
}

static void insert_module(const char *path)
{
	char full[384], args[256];
	int fd;

	snprintf(full, sizeof(full), "%s/%s", modules, path);
	parameters(path, args, sizeof(args));
	fd = open(full, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || (syscall(SYS_finit_module, fd, args, 0) && errno != EEXIST))
		printf("guest: cannot load %s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

/* One line of modules.dep, "path: needed ...": the last of these first. */
static void load_with_needs(char *line)
{
	char *needs = strchr(line, ':'), *p;

	*needs++ = '\0';
	while ((p = strrchr(needs, ' '))) {
		*p = '\0';
		if (p[1])
			insert_module(p + 1);
	}
	insert_module(line);
}

/* A module's file is called like it, apart from - and _. */
static bool is_file_of(const char *path, const char *module)
{
	const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;

	for (; *module; base++, module++)
		if (*base != *module && !(*base == '-' && *module == '_'))
			return false;
	return !strncmp(base, ".ko", 3);
}

static void load_module(const char *module)
{
	char path[160], line[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/modules.dep", modules);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		char *colon = strchr(line, ':');

		line[strcspn(line, "\n")] = '\0';
		if (!colon)
			continue;
		*colon = '\0';
		if (!is_file_of(line, module))
			continue;
		*colon = ':';
		load_with_needs(line);
		break;
	}
	if (f)
		fclose(f);
}

static void load_alias(const char *alias)
{
	char path[160], line[512], pattern[256], module[64];
	FILE *f;

	snprintf(path, sizeof(path), "%s/modules.alias", modules);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "alias %255s %63s", pattern, module) == 2 &&
		    !fnmatch(pattern, alias, 0))
			load_module(module);
	}
	if (f)
		fclose(f);
}

static void load_drivers(const char *release)
{
	char path[320], alias[256];
	struct dirent *e;
	DIR *dir;

	snprintf(modules, sizeof(modules), "/lib/modules/%s", release);
	if (access(modules, F_OK))
		return;
	dir = opendir("/sys/bus/pci/devices");
	while (dir && (e = readdir(dir))) {
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/modalias", e->d_name);
		if (e->d_name[0] == '.')
			continue;
		read_file(path, alias, sizeof(alias));
		alias[strcspn(alias, "\n")] = '\0';
		load_alias(alias);
	}
	if (dir)
		closedir(dir);
}

/*
 * Where the console needs one of those drivers there is none at first, and the
 * kernel has opened nothing.
 */
static void hold_stdio(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd < 2);
}

static void open_stdio(void)
{
	int fd = open("/dev/console", O_RDWR | O_NOCTTY);

	for (int i = 0; fd >= 0 && i < 3; i++)
		dup2(fd, i);
}

/* ---- test ---------------------------------------------------------------- */

static bool failed;

static void __attribute__((format(printf, 1, 2))) fail(const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	printf("guest-test: FAIL %s\n", text);
	failed = true;
}

static int64_t now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * NSEC_PER_SEC + t.tv_nsec;
}

static bool run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return !sched_setaffinity(0, sizeof(set), &set) && sched_getcpu() == cpu;
}

static void test_cpus(int online)
{
	long configured = sysconf(_SC_NPROCESSORS_CONF);

	if (online != configured)
		fail("%d of %ld processors online", online, configured);
}

static void test_clock(void)
{
	static const char dir[] = "/sys/devices/system/clocksource/clocksource0/";
	int64_t wall = now(CLOCK_REALTIME), mono = now(CLOCK_MONOTONIC), slept;
	struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 };
	char path[128], source[64];

	snprintf(path, sizeof(path), "%scurrent_clocksource", dir);
	read_file(path, source, sizeof(source));
	source[strcspn(source, "\n")] = '\0';
	/* With an invariant TSC, Linux prefers that one even as a guest of KVM. */
	if (strcmp(source, "kvm-clock") && strcmp(source, "tsc"))
		fail("clocksource is '%s'", source);

	nanosleep(&pause, NULL);
	slept = now(CLOCK_MONOTONIC) - mono;
	if (slept < pause.tv_nsec)
		fail("slept %lld ns instead of %ld", (long long)slept, pause.tv_nsec);
	if (now(CLOCK_REALTIME) <= wall)
		fail("the date does not advance");
	if (wall / NSEC_PER_SEC < 1577836800)	/* 2020-01-01 */
		fail("the date is %lld s after 1970", (long long)wall / NSEC_PER_SEC);
}

/* Time must never step back, not even from one processor to the next. */
static void test_monotonic(int online)
{
	int64_t last = now(CLOCK_MONOTONIC), t;

	for (int round = 0; round < 20; round++) {
		for (int cpu = 0; cpu < online; cpu++) {
			if (!run_on(cpu)) {
				fail("cannot run on processor %d", cpu);
				return;
			}
			t = now(CLOCK_MONOTONIC);
			if (t < last) {
				fail("time went back %lld ns on processor %d",
				     (long long)(last - t), cpu);
				return;
			}
			last = t;
		}
	}
}

/* The same sum and the same floating-point value on every processor. */
static void *busy(void *arg)
{
	int cpu = (intptr_t)arg;
	uint64_t sum = cpu;
	double x = 1.0;

	if (!run_on(cpu))
		return (void *)1;
	for (int i = 0; i < 1000000; i++) {
		sum = sum * 6364136223846793005ULL + 1442695040888963407ULL;
		x = x * 1.0000001;
	}
	for (int i = 0; i < 1000000; i++)	/* and back: exact inverse mod 2^64 */
		sum = (sum - 1442695040888963407ULL) * 0xc097ef87329e28a5ULL;
	return (void *)(intptr_t)(sum != (uint64_t)cpu || x < 1.105170 || x > 1.105172 ||
				  sched_getcpu() != cpu);
}

static void test_busy(int online)
{
	pthread_t threads[online];
	void *bad;

	for (int cpu = 0; cpu < online; cpu++) {
		if (pthread_create(&threads[cpu], NULL, busy, (void *)(intptr_t)cpu)) {
			fail("cannot create a thread");
			online = cpu;
		}
	}
	for (int cpu = 0; cpu < online; cpu++) {
		pthread_join(threads[cpu], &bad);
		if (bad)
			fail("wrong result on processor %d", cpu);
	}
}

struct echo {
	int in, out, cpu;
};

static void *echo(void *arg)
{
	struct echo *e = arg;
	char c;

	run_on(e->cpu);
	while (read(e->in, &c, 1) == 1 && write(e->out, &c, 1) == 1)
		;
	return NULL;
}

/* Wake an idle processor and be woken by it: HLT and IPIs. */
static void test_wakeup(int online)
{
	for (int cpu = 1; cpu < online; cpu++) {
		int ping[2], pong[2];
		struct echo e = { .cpu = cpu };
		pthread_t thread;
		char c = cpu;

		run_on(0);
		if (pipe(ping) || pipe(pong)) {
			fail("cannot create a pipe");
			return;
		}
		e.in = ping[0];
		e.out = pong[1];
		if (pthread_create(&thread, NULL, echo, &e)) {
			fail("cannot create a thread");
			return;
		}
		for (int i = 0; i < 50; i++) {
			if (write(ping[1], &c, 1) != 1 || read(pong[0], &c, 1) != 1 || c != cpu) {
				fail("no echo from processor %d", cpu);
				break;
			}
		}
		close(ping[1]);
		pthread_join(thread, NULL);
		close(ping[0]);
		close(pong[0]);
		close(pong[1]);
	}
}

static void test_memory(unsigned long mib)
{
	size_t words = (mib << 20) / sizeof(uint64_t);
	size_t step = CACHE_LINE / sizeof(uint64_t);
	uint64_t *p = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		fail("no %lu MiB of memory", mib);
		return;
	}
	for (size_t i = 0; i < words; i += step) {
		if (p[i]) {
			fail("memory not zero at %zu", i * sizeof(*p));
			return;
		}
		p[i] = i * 0x9e3779b97f4a7c15ULL + 1;
	}
	for (size_t i = 0; i < words; i += step) {
		if (p[i] != i * 0x9e3779b97f4a7c15ULL + 1) {
			fail("memory differs at %zu", i * sizeof(*p));
			return;
		}
	}
	munmap(p, mib << 20);
}

static void do_test(int online)
{
	char value[32];
	unsigned long mib = strtoul(option("vireo.mem", "0", value, sizeof(value)), NULL, 0);

	test_cpus(online);
	test_clock();
	test_monotonic(online);
	test_busy(online);
	test_wakeup(online);
	if (mib)
		test_memory(mib);
	if (!failed)
		printf("guest-test: ok\n");
}

/* ---- shell --------------------------------------------------------------- */

/* Make the console's own terminal the controlling one: job control needs it. */
static void open_terminal(void)
{
	char list[128], path[160], size[32];
	struct winsize ws = { 0 };
	struct termios t;
	char *name;
	int fd;

	read_file("/sys/class/tty/console/active", list, sizeof(list));
	list[strcspn(list, "\n")] = '\0';
	name = strrchr(list, ' ') ? strrchr(list, ' ') + 1 : list;
	snprintf(path, sizeof(path), "/dev/%s", name);
	setsid();
	fd = open(path, O_RDWR);
	if (fd < 0)
		return;
	ioctl(fd, TIOCSCTTY, 1);
	if (!tcgetattr(fd, &t)) {
		t.c_iflag |= ICRNL;
		t.c_oflag |= OPOST | ONLCR;
		t.c_lflag |= ISIG | ICANON | ECHO | ECHOE | ECHOK;
		tcsetattr(fd, TCSANOW, &t);
	}
	if (sscanf(option("vireo.size", "", size, sizeof(size)), "%hux%hu", &ws.ws_row,
		   &ws.ws_col) == 2)
		ioctl(fd, TIOCSWINSZ, &ws);
	for (int i = 0; i < 3; i++)
		dup2(fd, i);
}

static void install_busybox(void)
{
	setenv("PATH", "/bin", 1);
	setenv("HOME", "/", 1);
	if (!fork()) {
		execl("/bin/busybox", "busybox", "--install", "-s", "/bin", NULL);
		_exit(1);
	}
	wait(NULL);
}

/* Reaps until that one ends; returns its status as a shell has it. */
static int wait_for(pid_t pid)
{
	int status = 0;
	pid_t ended;

	do {
		ended = waitpid(-1, &status, 0);
	} while (pid > 0 && ended != pid && (ended > 0 || errno != ECHILD));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void do_shell(void)
{
	pid_t pid = fork();

	if (!pid) {
		open_terminal();
		setenv("PS1", "guest# ", 1);
		install_busybox();
		printf("Type `exit` to power the guest off.\n");
		execl("/bin/busybox", "sh", NULL);
		printf("guest: no shell here: %s\n", strerror(errno));
		_exit(1);
	}
	wait_for(pid);
}

static void do_script(void)
{
	pid_t pid;

	install_busybox();
	pid = fork();
	if (!pid) {
		execl("/bin/busybox", "sh", "/script", NULL);
		_exit(127);
	}
	printf("guest-script: status %d\n", wait_for(pid));
}

/* ---- root ---------------------------------------------------------------- */

/* What was mounted here goes there; /script too, if there is one. */
static void move_mounts(void)
{
	static const char * const mounts[] = { "/proc", "/sys", "/dev" };
	char to[32];

	for (int i = 0; i < 3; i++) {
		snprintf(to, sizeof(to), "/root%s", mounts[i]);
		mount(mounts[i], to, NULL, MS_MOVE, NULL);
	}
	mount("run", "/root/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755");
	close(open("/root/run/script", O_WRONLY | O_CREAT | O_CLOEXEC, 0755));
	if (mount("/script", "/root/run/script", NULL, MS_BIND, NULL))
		unlink("/root/run/script");
}

/* Returns if it cannot be done. The kernel then panics, for want of an init. */
static void do_root(void)
{
	char device[64];
	const char *root = option("root", "/dev/vrda", device, sizeof(device));

	load_module("crc32c_generic");
	load_module("ext4");
	mkdir("/root", 0755);
	for (int i = 0; i < 50 && access(root, F_OK); i++)
		usleep(100 * 1000);
	if (mount(root, "/root", "ext4", 0, NULL)) {
		printf("guest: cannot mount %s: %s\n", root, strerror(errno));
		return;
	}
	move_mounts();
	if (chdir("/root") || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/") ||
	    execl("/sbin/init", "init", NULL))
		printf("guest: cannot start the init of %s: %s\n", root, strerror(errno));
}

/* -------------------------------------------------------------------------- */

/*
 * Without an interrupt of its own the serial port is polled, and what it has not
 * sent by then is lost with the machine.
 */
static void drain(void)
{
	fflush(stdout);
	tcdrain(STDOUT_FILENO);
}

static void do_panic(void)
{
	drain();
	write_file("/proc/sysrq-trigger", "c");
}

int main(void)
{
	unsigned long long tsc = __rdtsc();	/* before anything else */
	char value[32];
	const char *what;
	struct utsname u;
	int online;
	bool late;

	setvbuf(stdout, NULL, _IOLBF, 0);
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sys", "/sys", "sysfs", 0, NULL);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	read_file("/proc/cmdline", cmdline, sizeof(cmdline));
	uname(&u);
	online = sysconf(_SC_NPROCESSORS_ONLN);
	late = fcntl(STDOUT_FILENO, F_GETFD) < 0;
	if (late) {
		hold_stdio();
		load_drivers(u.release);
		open_stdio();
	}

	printf("vireo: guest up: kernel=%s vcpus=%d memory=%luM boot_instructions=%llu\n",
	       u.release, online, memory_mib(), tsc);

	if (!late)
		load_drivers(u.release);
	what = option("vireo.do", "poweroff", value, sizeof(value));
	if (!strcmp(what, "test"))
		do_test(online);
	else if (!strcmp(what, "shell"))
		do_shell();
	else if (!strcmp(what, "script"))
		do_script();
	else if (!strcmp(what, "root"))
		do_root();
	else if (!strcmp(what, "panic"))
		do_panic();
	else if (!strcmp(what, "hang"))
		for (;;)
			pause();

	drain();
	if (!strcmp(what, "root"))
		return 1;
	sync();
	reboot(!strcmp(what, "reboot") ? RB_AUTOBOOT : RB_POWER_OFF);
	printf("guest: cannot power off: %s\n", strerror(errno));
	for (;;)
		pause();
}
