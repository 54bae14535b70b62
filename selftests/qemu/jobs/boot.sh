# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# Distribution kernels as guests, unmodified: every kernel, processors from 1 to
# 16, memory from 72 MiB to above the 4 GiB hole, and every way to end. Fewer of
# them on the slower emulator.
#
# guests: 6.1 6.1-cloud 6.12 6.12-cloud
# machine: cpus=2 memory=3072 time=900 limit=90

# shellcheck source=lib.sh
. /jobs/lib

# boot KERNEL VCPUS MEMORY APPEND: its exit status; the console is in /tmp/console
boot()
{
	timeout -s KILL "$LIMIT" vireo run --name "boot-$tap_count" --kernel "/guests/vmlinuz-$1" \
		--initrd /guests/initrd --vcpus "$2" --memory "$3M" \
		--append "$4" </dev/null >/tmp/console 2>&1
	status=$?
	tr -d '\r\000' </tmp/console >/tmp/text
	up=$(grep -o 'vireo: guest up: .*' /tmp/text)
}

# expect DESCRIPTION STATUS [PATTERN]: judge the last boot
expect()
{
	if [ "$status" = "$2" ] && grep -qE -- "${3:-vireo: guest up}" /tmp/text; then
		tap ok "$1"
		[ -z "$up" ] || echo "# $up"
	else
		tap "not ok" "$1"
		echo "# exit status $status, expected $2 and '${3:-}'; its console:"
		quote /tmp/text
	fi
}

works() # KERNEL VCPUS MEMORY MEMORY-TO-TRY
{
	boot "$1" "$2" "$3" "quiet vireo.do=test vireo.mem=$4"
	expect "$1 boots with $2 vCPUs, $3 MiB" 0 '^guest-test: ok'
	case $up in
	*" vcpus=$2 memory=$3M "*) tap ok "$1 sees $2 vCPUs, $3 MiB" ;;
	*) tap "not ok" "$1 sees $2 vCPUs, $3 MiB" ;;
	esac
}

echo "# begin boot"

# Bochs, where VT-x is tried, takes half a minute and more for each
if [ "$EMULATOR" != qemu ]; then
	LIMIT=$((LIMIT * 3))
	works 6.1-cloud 1 256 64
	works 6.12-cloud 2 256 64
	boot 6.1-cloud 1 256 "quiet vireo.do=reboot"
	expect "reboot ends the run with its own status" 10
	tap_end
	status=$?
	echo "# end boot status=$status seconds=$(cut -d. -f1 /proc/uptime)"
	exit $status
fi

# The cloud kernels are the small ones. They keep 44 MiB for themselves before
# anything runs; with 64 MiB they have too little left for their own drivers.
works 6.1-cloud 1 256 64
works 6.1-cloud 1 72 8
works 6.1-cloud 4 512 128
works 6.12-cloud 2 256 64
works 6.1 2 512 64
works 6.12 4 512 64
works 6.12-cloud 16 1024 256
works 6.1-cloud 2 6144 64

boot 6.1-cloud 1 256 "quiet vireo.do=reboot"
expect "reboot ends the run with its own status" 10
boot 6.1-cloud 1 256 "quiet vireo.do=panic"
expect "panic ends the run with its own status" 11 'Kernel panic'

# Nothing of a guest stays behind.
check "no VM is left" test -z "$(vireo ls | grep boot-)"

tap_end
status=$?
echo "# end boot status=$status seconds=$(cut -d. -f1 /proc/uptime)"
exit $status
