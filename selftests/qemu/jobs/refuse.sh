# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# refuse WHAT: a processor that will not do. The module says why not, and so does the
# tool; the machine is none the worse.
#
# load: none
# machine: cpus=1 memory=512 time=60

# shellcheck source=lib.sh
. /jobs/lib

case $1 in
ept) want="VT-x has no EPT" ;;
unrestricted) want="VT-x has no unrestricted guest" ;;
locked) want="firmware has locked" ;;
esac

loads()
{
	modprobe vireo 2>/dev/null
}

echo "# begin refuse/$1"
check "the module does not load" test "$(loads && echo yes)" != yes
check "the kernel's log says: $want" sh -c "dmesg | grep -q 'vireo: .*$want'"
check "there is no /dev/vireo" test ! -e /dev/vireo
vireo doctor >/tmp/doctor
check "vireo doctor says: $want" grep -q "$want" /tmp/doctor
quote /tmp/doctor
tap_end
status=$?
echo "# end refuse/$1 status=$status seconds=$(cut -d. -f1 /proc/uptime)"
exit $status
