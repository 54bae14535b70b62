// SPDX-License-Identifier: GPL-2.0
/* One line for the user and an errno for the program. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "libvireo.h"

/**
 * vireo_fail - note why a call failed
 * @err: where to, may be NULL
 * @code: a positive errno
 * @fmt: one line without newline
 *
 * Return: -@code, for `return vireo_fail(...)`.
 */
int vireo_fail(struct vireo_error *err, int code, const char *fmt, ...)
{
	va_list args;

	if (err) {
		err->code = code;
		va_start(args, fmt);
		vsnprintf(err->text, sizeof(err->text), fmt, args);
		va_end(args);
	}
	return -code;
}

/**
 * vireo_error_prefix - say what a failure was about
 * @err: a failure
 * @fmt: goes before its text, with ": " in between
 */
void vireo_error_prefix(struct vireo_error *err, const char *fmt, ...)
{
	char text[sizeof(err->text)], prefix[sizeof(err->text)];
	va_list args;

	if (!err)
		return;
	va_start(args, fmt);
	vsnprintf(prefix, sizeof(prefix), fmt, args);
	va_end(args);
	memcpy(text, err->text, sizeof(text));
	if (snprintf(err->text, sizeof(err->text), "%.140s: %.150s", prefix, text) < 0)
		err->text[0] = '\0';
}
