// SPDX-License-Identifier: GPL-2.0
/* TAP harness: see harness.h. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "harness.h"

static struct test *tests;
static struct test **tests_tail = &tests;
static int failed;	/* in the child: expectations that failed */

void test_register(struct test *test)
{
	*tests_tail = test;
	tests_tail = &test->next;
}

void test_note(const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	printf("# %s\n", line);
	fflush(stdout);
}

void test_fail(const char *file, int line, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	failed++;
	test_note("%s:%d: %s", file, line, text);
}

void test_skip(const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	test_note("skipped: %s", text);
	_exit(failed ? KSFT_FAIL : KSFT_SKIP);
}

void test_end(void)
{
	fflush(stdout);
	_exit(failed ? KSFT_FAIL : KSFT_PASS);
}

bool test_compare(const char *file, int line, const char *what, const char *op,
		  bool ok, s64 seen, s64 expected)
{
	if (ok)
		return true;
	test_fail(file, line, "expected %s %s, which is %lld (%#llx); saw %lld (%#llx)",
		  what, op, (long long)expected, (unsigned long long)expected,
		  (long long)seen, (unsigned long long)seen);
	return false;
}

/* Wait for the child; false if its time was up */
static bool test_wait(pid_t pid, unsigned int seconds, int *status)
{
	struct pollfd pfd = { .events = POLLIN };
	int ready;

	pfd.fd = syscall(SYS_pidfd_open, pid, 0);
	if (pfd.fd < 0) {
		waitpid(pid, status, 0);
		return true;
	}
	do {
		ready = poll(&pfd, 1, seconds * 1000);
	} while (ready < 0 && errno == EINTR);
	close(pfd.fd);
	if (!ready)
		kill(-pid, SIGKILL);
	waitpid(pid, status, 0);
	return ready;
}

static int test_run(const struct test *test, int number)
{
	bool in_time;
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0) {
		printf("not ok %d %s # fork: %s\n", number, test->name, strerror(errno));
		return KSFT_FAIL;
	}
	if (!pid) {
		setpgid(0, 0);
		test->fn();
		test_end();
	}
	setpgid(pid, pid);
	in_time = test_wait(pid, test->seconds, &status);
	kill(-pid, SIGKILL);		/* what the test may have left running */
	if (!in_time)
		printf("# %s: no end after %u s\n", test->name, test->seconds);
	else if (WIFSIGNALED(status))
		printf("# %s: killed by signal %d\n", test->name, WTERMSIG(status));
	if (in_time && WIFEXITED(status) && WEXITSTATUS(status) == KSFT_SKIP) {
		printf("ok %d %s # SKIP\n", number, test->name);
		return KSFT_SKIP;
	}
	if (!in_time || !WIFEXITED(status) || WEXITSTATUS(status)) {
		printf("not ok %d %s\n", number, test->name);
		return KSFT_FAIL;
	}
	printf("ok %d %s\n", number, test->name);
	return KSFT_PASS;
}

static bool test_chosen(const struct test *test, int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++)
		if (!strcmp(test->name, argv[i]))
			return true;
	return argc < 2;
}

/* Arguments are names of tests; without any, all are run */
int test_main(int argc, char **argv)
{
	int count[KSFT_SKIP + 1] = { 0 };
	const struct test *test;
	int planned = 0;
	int number = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (test = tests; test; test = test->next)
		planned += test_chosen(test, argc, argv);
	printf("TAP version 13\n1..%d\n", planned);
	for (test = tests; test; test = test->next)
		if (test_chosen(test, argc, argv))
			count[test_run(test, ++number)]++;
	printf("# pass:%d fail:%d skip:%d\n", count[KSFT_PASS], count[KSFT_FAIL],
	       count[KSFT_SKIP]);
	fflush(stdout);
	if (!planned || count[KSFT_FAIL])
		return KSFT_FAIL;
	return count[KSFT_PASS] ? KSFT_PASS : KSFT_SKIP;
}
