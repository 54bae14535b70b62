/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the pure files (decode.c, walk.c, tree.c) may use.
 *
 * A pure file holds logic and no kernel state: it is compiled into vireo.ko,
 * and again in user space for unit tests and fuzzing. The names are the
 * kernel's; below they are given to user space as far as they are needed.
 */
#ifndef VIREO_PURE_H
#define VIREO_PURE_H

#ifdef __KERNEL__

#include <linux/bits.h>
#include <linux/compiler.h>
#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/minmax.h>
#include <linux/string.h>
#include <linux/types.h>

#else

#include <errno.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s64 s64;

#define BIT_ULL(n)		(1ULL << (n))
#define GENMASK_ULL(h, l)	((~0ULL << (l)) & (~0ULL >> (63 - (h))))
#define ARRAY_SIZE(a)		(sizeof(a) / sizeof((a)[0]))

#ifndef READ_ONCE	/* the selftests' own types.h may have been here */
#define READ_ONCE(x)		__atomic_load_n(&(x), __ATOMIC_RELAXED)
#define WRITE_ONCE(x, v)	__atomic_store_n(&(x), v, __ATOMIC_RELAXED)
#endif

#define min(a, b)		min_t(__typeof__(a), a, b)
#define min_t(type, a, b)	\
	({ type x_ = (a); type y_ = (b); x_ < y_ ? x_ : y_; })

#endif /* __KERNEL__ */

#endif /* VIREO_PURE_H */
