# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# Does the runner itself work? Needs neither the module nor the tool.
#
# load: none
# modules: kvm_amd
# machine: cpus=2 memory=1024 time=60

# shellcheck source=lib.sh
. /jobs/lib

inside()
{
	check "two processors" test "$(nproc)" = 2
	check "kvm_amd loads" modprobe kvm_amd
	check "/dev/kvm is there" test -e /dev/kvm
	tap_end
}

echo "# begin smoke"
inside
status=$?
echo "# end smoke status=$status seconds=0"
exit $status
