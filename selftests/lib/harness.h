/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A minimal TAP harness in the manner of kselftest_harness.h.
 *
 *	TEST(name) { ... EXPECT_EQ(a, b); ... }
 *	TEST_MAIN()
 *
 * Each test runs in a child of its own with a time limit, so that a crash or
 * a hang fails that test alone.  EXPECT_* notes a failure and goes on,
 * ASSERT_* ends the test, SKIP(reason) ends it as skipped.  The program's
 * status is 0 (passed), 1 (failed) or 4 (all skipped).
 */
#ifndef SELFTESTS_HARNESS_H
#define SELFTESTS_HARNESS_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "types.h"

#define KSFT_PASS	0
#define KSFT_FAIL	1
#define KSFT_SKIP	4

#define TEST_SECONDS	60	/* an emulated host is slow */

struct test {
	const char *name;
	void (*fn)(void);
	unsigned int seconds;
	struct test *next;
};

void test_register(struct test *test);
int test_main(int argc, char **argv);

/* One TAP comment line */
void test_note(const char *fmt, ...) __printf(1, 2);

/* Used by the macros below */
void test_fail(const char *file, int line, const char *fmt, ...)
	__printf(3, 4);
void test_skip(const char *fmt, ...)
	__printf(1, 2) __noreturn;
void test_end(void) __noreturn;
bool test_compare(const char *file, int line, const char *what, const char *op,
		  bool ok, s64 seen, s64 expected);

#define TEST_LIMIT(id, limit)						\
static void test_##id(void);						\
static struct test test_object_##id = {					\
	.name = #id, .fn = test_##id, .seconds = (limit)		\
};									\
static void __constructor test_add_##id(void)		\
{									\
	test_register(&test_object_##id);				\
}									\
static void test_##id(void)

#define TEST(id)	TEST_LIMIT(id, TEST_SECONDS)

#define TEST_MAIN()							\
int main(int argc, char **argv)						\
{									\
	return test_main(argc, argv);					\
}

#define SKIP(...)	test_skip(__VA_ARGS__)

#define COMPARE(seen, op, expected) ({					\
	s64 seen_ = (s64)(seen);				\
	s64 expected_ = (s64)(expected);			\
	test_compare(__FILE__, __LINE__, #seen, #op " " #expected,	\
		     seen_ op expected_, seen_, expected_);		\
})

#define EXPECT_EQ(seen, expected)	COMPARE(seen, ==, expected)
#define EXPECT_NE(seen, expected)	COMPARE(seen, !=, expected)
#define EXPECT_GE(seen, expected)	COMPARE(seen, >=, expected)
#define EXPECT_GT(seen, expected)	COMPARE(seen, >, expected)
#define EXPECT_LE(seen, expected)	COMPARE(seen, <=, expected)
#define EXPECT_LT(seen, expected)	COMPARE(seen, <, expected)
#define EXPECT_TRUE(seen)		COMPARE(!!(seen), ==, true)
#define EXPECT_FALSE(seen)		COMPARE(!!(seen), ==, false)

/* EXPECT_TRUE() with words of its own for the failure; yields the condition */
#define EXPECT_THAT(cond, ...) ({					\
	bool cond_ = (cond);						\
	if (!cond_)							\
		test_fail(__FILE__, __LINE__, __VA_ARGS__);		\
	cond_;								\
})

#define ASSERTED(expectation)	do { if (!(expectation)) test_end(); } while (0)
#define ASSERT_EQ(seen, expected)	ASSERTED(EXPECT_EQ(seen, expected))
#define ASSERT_NE(seen, expected)	ASSERTED(EXPECT_NE(seen, expected))
#define ASSERT_GE(seen, expected)	ASSERTED(EXPECT_GE(seen, expected))
#define ASSERT_TRUE(seen)		ASSERTED(EXPECT_TRUE(seen))
#define ASSERT_THAT(cond, ...)		ASSERTED(EXPECT_THAT(cond, __VA_ARGS__))

#endif /* SELFTESTS_HARNESS_H */
