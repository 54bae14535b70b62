// SPDX-License-Identifier: GPL-2.0
/*
 * ticks FILE COMMAND [ARGUMENT]...
 *
 * Run a command and write to FILE how far the time stamp counter got from
 * before its start to after its end. The status is the command's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

int main(int argc, char **argv)
{
	unsigned long long start, end;
	int status;
	FILE *f;
	pid_t pid;

	if (argc < 3) {
		fprintf(stderr, "usage: ticks FILE COMMAND [ARGUMENT]...\n");
		return 2;
	}
	start = __rdtsc();
	pid = fork();
	if (pid < 0) {
		perror("ticks: fork");
		return 125;
	}
	if (!pid) {
		execvp(argv[2], argv + 2);
		perror(argv[2]);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) != pid)
		;
	end = __rdtsc();

	f = fopen(argv[1], "we");
	if (!f || fprintf(f, "%llu\n", end - start) < 0 || fclose(f)) {
		perror(argv[1]);
		return 125;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
