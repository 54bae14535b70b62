// SPDX-License-Identifier: GPL-2.0
/* The host around a test: see host.h. */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host.h"

bool host_is_emulated(void)
{
	u32 eax, ebx, ecx, edx;

	__cpuid(1, eax, ebx, ecx, edx);
	if (!(ecx & BIT(31)))
		return false;
	__cpuid(0x40000000, eax, ebx, ecx, edx);
	return ebx == 0x54474354;	/* "TCGT" */
}

bool host_is_bochs(void)
{
	const char *emulator = getenv("EMULATOR");	/* from the runner */

	return emulator && !strncmp(emulator, "bochs", 5);
}

bool host_is_checked(void)
{
	return !access("/sys/kernel/debug/kmemleak", F_OK);
}

bool host_is_intel(void)
{
	u32 eax, ebx, ecx, edx;

	__cpuid(0, eax, ebx, ecx, edx);
	return ebx == 0x756e6547;	/* "Genu" */
}

int module_load(const char *path)
{
	int fd, ret;

	if (!path)
		return -ENOENT;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = syscall(SYS_finit_module, fd, "", 0) ? -errno : 0;
	close(fd);
	return ret;
}

void modules_load(const char *paths)
{
	char *list = strdup(paths ?: ""), *path, *state;
	int ret;

	for (path = strtok_r(list, " ", &state); path; path = strtok_r(NULL, " ", &state)) {
		ret = module_load(path);
		if (ret && ret != -EEXIST)
			printf("# %s: %s\n", path, strerror(-ret));
	}
	free(list);
}

int module_unload(const char *name)
{
	return syscall(SYS_delete_module, name, O_NONBLOCK) ? -errno : 0;
}

long module_references(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/module/%s/refcnt", name);
	return file_number(path, NULL);
}

bool module_loaded(const char *name)
{
	return module_references(name) >= 0;
}

s64 file_number(const char *path, const char *name)
{
	size_t len = name ? strlen(name) : 0;
	FILE *f = fopen(path, "re");
	char line[512];
	s64 value = -1;

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		if (len && (strncmp(line, name, len) ||
			    (line[len] != ':' && line[len] != ' ')))
			continue;
		value = strtoll(line + len + (len && line[len] == ':'), NULL, 0);
		break;
	}
	fclose(f);
	return value;
}

int file_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}
