# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# What the jobs share. They run under busybox sh, inside the emulated host.

# run_tests DIRECTORY: every program there, each between marker lines that
# `test` understands, and known to the kernel log so that a splat has an owner.
run_tests()
{
	failed=0
	for program in /selftests/"$1"/*; do
		[ -x "$program" ] || continue
		run_test "$1/${program##*/}" "$program" || failed=1
	done
	return $failed
}

# run_test NAME COMMAND...
run_test()
{
	test_name=$1
	shift
	echo "<6>vireo-vm: test $test_name" >/dev/kmsg
	echo "# begin $test_name"
	started=$(cut -d' ' -f1 /proc/uptime)
	timeout -s KILL "${LIMIT:-120}" "$@" </dev/null
	test_status=$?
	echo "# end $test_name status=$test_status seconds=$(echo "$(cut -d' ' -f1 /proc/uptime) - $started" | bc)"
	[ $test_status = 0 ] || [ $test_status = 4 ]
}

# KVM_KO: KVM's modules, in order, for programs that load them when they want to
kvm_modules()
{
	vendor=amd
	grep -q GenuineIntel /proc/cpuinfo && vendor=intel
	KVM_KO=$(modprobe -D kvm_$vendor | sed -n 's/^insmod \([^ ]*\).*/\1/p' | tr '\n' ' ')
	export KVM_KO
}

# For jobs that are tests themselves: TAP.
tap_count=0
tap_failed=0

# tap ok|"not ok" DESCRIPTION
tap()
{
	tap_count=$((tap_count + 1))
	echo "$1 $tap_count $2"
	[ "$1" = ok ] || tap_failed=1
}

# check DESCRIPTION COMMAND...: ok if the command succeeds
check()
{
	what=$1
	shift
	if "$@"; then
		tap ok "$what"
	else
		tap "not ok" "$what"
	fi
}

skip()
{
	tap ok "$1 # SKIP $2"
}

# Print the plan; the status of the job.
tap_end()
{
	echo "1..$tap_count"
	return $tap_failed
}

# Show a captured file as TAP diagnostics.
quote()
{
	tr -d '\r\000' <"$1" | tail -n "${2:-60}" | sed 's/^/#   /'
}

# results PREFIX: what the guest itself has judged, in /tmp/text
results()
{
	grep -o 'guest: \(not \)\{0,1\}ok .*' /tmp/text >/tmp/results
	while read -r _ result; do
		case $result in
		ok*) tap ok "$1: ${result#ok }" ;;
		*) tap "not ok" "$1: ${result#not ok }" ;;
		esac
	done </tmp/results
}

# Debian on a disk (`# disk: debian`), with an interface to the host.

# debian_initrd KERNEL SCRIPT: make /tmp/initrd; what is booted with it runs SCRIPT
debian_initrd()
{
	mkdir -p /tmp/initrd.tree
	cp "$2" /tmp/initrd.tree/script
	{ cat "/guests/initrd-$1"; (cd /tmp/initrd.tree && echo script | cpio -o -H newc 2>/dev/null); } >/tmp/initrd
}

# debian_network INTERFACE: once it is there, addresses for it, and the guests'
# kernels to download from http://192.168.77.1/
debian_network()
{
	cat >/tmp/udhcpd.conf <<-END
		start 192.168.77.2
		end 192.168.77.9
		interface $1
		opt subnet 255.255.255.0
		lease_file /tmp/udhcpd.leases
		pidfile /tmp/udhcpd.pid
	END
	: >/tmp/udhcpd.leases
	while ! ip addr add 192.168.77.1/24 dev "$1" 2>/dev/null; do
		sleep 1
	done
	ip link set "$1" up
	httpd -h /guests -p 192.168.77.1:80
	udhcpd -f -a 200 /tmp/udhcpd.conf 2>/tmp/udhcpd.log
}
