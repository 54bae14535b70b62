/* SPDX-License-Identifier: GPL-2.0 */
/* The host around a test: modules, /proc and /sys. */
#ifndef SELFTESTS_HOST_H
#define SELFTESTS_HOST_H

#include "types.h"

bool host_is_emulated(void);	/* the host runs in QEMU without acceleration */

bool host_is_bochs(void);	/* ... or in Bochs, under the runner */

bool host_is_checked(void);	/* its kernel has checkers: it is slow, and keeps what is freed */

bool host_is_intel(void);	/* VT-x and VMCALL, not AMD-V and VMMCALL */

/* 0 or -errno; @path NULL is ENOENT */
int module_load(const char *path);
void modules_load(const char *paths);	/* separated by blanks; NULL: none */
int module_unload(const char *name);
bool module_loaded(const char *name);
long module_references(const char *name);	/* -1: not loaded */

/* A number in a file, or behind "NAME:" in it; -1 if there is none */
s64 file_number(const char *path, const char *name);
int file_write(const char *path, const char *text);	/* 0 or -errno */

#endif /* SELFTESTS_HOST_H */
