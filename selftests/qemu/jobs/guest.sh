# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# guest [PROGRAM]...: small guests that try one thing each.
#
# tests: guest
# machine: cpus=2 memory=2048 time=600 limit=300

# shellcheck source=lib.sh
. /jobs/lib
[ $# -gt 0 ] || { run_tests guest; exit; }
status=0
for program; do
	run_test "guest/$program" "/selftests/guest/$program" || status=1
done
exit $status
