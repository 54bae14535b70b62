# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# The ioctl interface, good input and bad.
#
# tests: api
# modules: kvm_amd kvm_intel
# machine: cpus=2 memory=2048 time=600 limit=300

# shellcheck source=lib.sh
. /jobs/lib
kvm_modules
run_tests api
