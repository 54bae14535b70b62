# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# Rings that guests share with the module's backends, well and badly behaved.
#
# tests: ring
# modules: af_packet bridge
# machine: cpus=2 memory=2048 time=600 limit=300

# shellcheck source=lib.sh
. /jobs/lib
for module in af_packet bridge; do
	modprobe -q $module
done
run_tests ring
