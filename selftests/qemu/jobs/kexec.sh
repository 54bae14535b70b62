# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# kexec [crash|after]: the host goes over to the same kernel again, without a reset,
# while a guest runs. The extension must be off then: all processors come up, and the
# next kernel's module can have it.
#
# crash: likewise by a panic. The runner takes that for an error (status 125), so it is
# for trying by hand: vm -a crashkernel=256M kexec crash
#
# load: none
# guests: 6.1 6.1-cloud 6.12
# tests: qemu
# machine: cpus=2 memory=2048 time=200

# shellcheck source=lib.sh
. /jobs/lib

# Two processors, and the runner's spare one
up()
{
	grep -c '^processor' /proc/cpuinfo
}

guest()
{
	vireo run --name kexec --kernel /guests/vmlinuz-6.1-cloud --initrd /guests/initrd \
		--vcpus 2 --memory 128M --append "quiet $1" </dev/null >/tmp/console 2>&1
}

if [ "${1:-}" = after ]; then
	echo "# begin kexec/after"
	check "all processors have come up" test "$(up)" = "$(sed 's/.*processors=//; s/ .*//' /proc/cmdline)"
	check "the module loads" modprobe vireo
	check "a guest runs, and powers off" guest vireo.do=poweroff
	quote /tmp/console 5
	tap_end
	status=$?
	echo "# end kexec/after status=$status seconds=$(cut -d' ' -f1 /proc/uptime)"
	exit $status
fi

echo "# begin kexec/before"
if [ ! -e "/guests/vmlinuz-$KERNEL" ]; then
	skip "the host has its kernel at hand" "not this one"
	tap_end
	echo "# end kexec/before status=4 seconds=0"
	exit 4
fi
check "the module loads" modprobe vireo
guest vireo.do=hang &
waited=0
while ! grep -q 'vireo: guest up' /tmp/console 2>/dev/null && [ $waited -lt 300 ]; do
	waited=$((waited + 1))
	sleep 1
done
check "a guest runs" grep -q 'vireo: guest up' /tmp/console
tap_end
echo "# end kexec/before status=$? seconds=$(cut -d' ' -f1 /proc/uptime)"

# What the next one finds: the same, but for the job, and a guest
sed -i 's/^JOB=.*/JOB="kexec after"/' /etc/job
args="$(sed 's/crashkernel=[^ ]*//' /proc/cmdline) processors=$(up)"
[ "${1:-}" = crash ] && args="${args%=*}=1 maxcpus=1"
cd / && printf '%s\n' bin guests init bin/busybox guests/initrd guests/vmlinuz-6.1-cloud \
	"$(find etc jobs lib usr)" | cpio -o -H newc >/tmp/host.img 2>/dev/null
sleep 1
if [ "${1:-}" = crash ]; then
	/selftests/qemu/kexec -p "/guests/vmlinuz-$KERNEL" /tmp/host.img "$args" && echo c >/proc/sysrq-trigger
else
	/selftests/qemu/kexec "/guests/vmlinuz-$KERNEL" /tmp/host.img "$args"
fi
exit 1
