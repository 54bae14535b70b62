# SPDX-License-Identifier: GPL-2.0
# tests: guest
# machine: cpus=2 memory=2048 time=100 limit=20
. /jobs/lib
LIMIT=20
run_test guest/smoke /selftests/guest/smoke
ls /sys/kernel/tracing/events/vireo


LIMIT=60
run_test guest/end /selftests/guest/end

