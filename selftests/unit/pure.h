/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel's names for the module's tree.c, which holds logic and no kernel
 * state and is compiled here in user space.
 */
#ifndef SELFTESTS_PURE_H
#define SELFTESTS_PURE_H

#include <errno.h>
#include <string.h>

#include "types.h"

#define GENMASK_ULL(h, l)	((~0ULL << (l)) & (~0ULL >> (63 - (h))))
#define min(a, b)		min_t(__typeof__(a), a, b)
#define min_t(type, a, b)	\
	({ type x_ = (a); type y_ = (b); x_ < y_ ? x_ : y_; })

#endif /* SELFTESTS_PURE_H */
