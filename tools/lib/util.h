/* SPDX-License-Identifier: GPL-2.0 */
/* What the kernel has and user space has not. */
#ifndef _VIREO_UTIL_H
#define _VIREO_UTIL_H

#ifndef ARRAY_SIZE
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#endif
#ifndef __packed
#define __packed	__attribute__((__packed__))
#endif
#ifndef __aligned
#define __aligned(n)	__attribute__((__aligned__(n)))
#endif
#ifndef BIT
#define BIT(n)		(1U << (n))
#endif
#ifndef BIT_ULL
#define BIT_ULL(n)	(1ULL << (n))
#endif
#ifndef GENMASK_ULL
#define GENMASK_ULL(h, l)	((~0ULL << (l)) & (~0ULL >> (63 - (h))))
#endif
#define min_t(type, a, b)	\
	({ type x_ = (a); type y_ = (b); x_ < y_ ? x_ : y_; })
#define static_assert_that(what, why)	_Static_assert(what, why)

#endif /* _VIREO_UTIL_H */
