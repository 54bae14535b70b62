# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# Small guests that try one thing each.
#
# tests: guest
# machine: cpus=2 memory=2048 time=600 limit=300

# shellcheck source=lib.sh
. /jobs/lib
run_tests guest
