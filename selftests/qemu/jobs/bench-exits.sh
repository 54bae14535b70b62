# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# What exits cost, with KVM at hand for when Vireo has let go of the processor.
#
# tests: bench
# modules: kvm_amd kvm_intel
# machine: cpus=1 memory=1024 time=900 limit=600

# shellcheck source=lib.sh
. /jobs/lib

kvm_modules
run_test bench/exits /selftests/bench/exits
