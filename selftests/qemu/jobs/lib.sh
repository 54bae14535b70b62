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

# Guests that run a script which counts, each with what it prints in /tmp/log.

# pack_script KERNEL: make /tmp/initrd, with /tmp/work/script
pack_script()
{
	(cd /tmp/work && echo script | cpio -o -H newc 2>/dev/null) >/tmp/work/script.cpio
	cat "/guests/initrd-shell-$1" /tmp/work/script.cpio >/tmp/initrd
}

# pack_counter KERNEL: likewise, of a guest that counts, hashes what it wrote before, and reads
# its disk if there is one; less of it where the emulator is slow
pack_counter()
{
	cat >/tmp/work/script <<'END'
dmesg -n 1
dd if=/dev/urandom of=/a bs=64k count=64 2>/dev/null
want=$(md5sum </a)
[ -e /dev/vrda ] && disk=$(md5sum </dev/vrda)
i=0
while :; do
	i=$((i + 1))
	old=$now now=$(cut -d' ' -f1 /proc/uptime)
	[ "$(printf '%s\n' $old $now | sort -n | head -n 1)" = "${old:-$now}" ] || echo "guest: clock went back: $old $now"
	[ "$(md5sum </a)" = "$want" ] || echo "guest: memory changed"
	if [ -e /dev/vrda ]; then
		echo 3 >/proc/sys/vm/drop_caches
		[ "$(md5sum </dev/vrda)" = "$disk" ] || echo "guest: disk changed"
	fi
	dd if=/dev/urandom of=/b bs=64k count=8 2>/dev/null
	echo "guest: count $i"
	usleep 100000
done
END
	[ "$EMULATOR" = qemu ] || sed -i 's/count=64/count=4/; s/count=8/count=1/' /tmp/work/script
	pack_script "$1"
}

# start NAME OPTION...: a guest in the background, until it counts; with the kernel
# $guest, to which $options is passed
guest='' options=''
start()
{
	name=$1
	shift
	vireo run --name "$name" --kernel "/guests/vmlinuz-$guest" --initrd /tmp/initrd --memory 256M \
		--append "quiet vireo.do=script $options" "$@" </dev/null >"/tmp/log/$name.log" 2>&1 &
	counts "$name" 3
}

# The last number that a guest has printed
count()
{
	sed -n 's/^guest: count \([0-9]*\).*/\1/p' "/tmp/log/$1.log" 2>/dev/null | tail -n 1
}

# counts NAME N: wait until it has come to N
counts()
{
	for _ in $(seq "$LIMIT"); do
		[ "$(count "$1")" -ge "$2" ] 2>/dev/null && return
		sleep 1
	done
	quote "/tmp/log/$1.log" 20
	false
}

# goes_on NAME...: each counts three further
goes_on()
{
	for name in "$@"; do
		from=$(count "$name")
		counts "$name" $((${from:-0} + 3)) || return
	done
}

# says NAME PATTERN: wait until it has
says()
{
	for _ in $(seq "$LIMIT"); do
		grep -q "$2" "/tmp/log/$1.log" && return
		sleep 1
	done
	quote "/tmp/log/$1.log" 20
	false
}

# listed NAME FROM: vireo ls shows it so
listed()
{
	vireo ls | grep -qE "^ *$1 +.* $2\$"
}

refuses() # PATTERN COMMAND...
{
	pattern=$1
	shift
	if timeout 60 "$@" >/tmp/refused 2>&1 || [ "$(wc -l </tmp/refused)" != 1 ] || ! grep -q "$pattern" /tmp/refused; then
		quote /tmp/refused
		false
	fi
}

# background NAME COMMAND...: a guest in the background, until it counts
background()
{
	name=$1
	shift
	"$@" --name "$name" </dev/null >"/tmp/log/$name.log" 2>&1 &
	counts "$name" 1
}

# The first number that one has printed
first()
{
	sed -n 's/^guest: count \([0-9]*\).*/\1/p' "/tmp/log/$1.log" 2>/dev/null | head -n 1
}

# From a snapshot a guest goes on from what it had counted to then, which is between
# what was seen before and behind it.
from_there() # NAME BEFORE BEHIND
{
	number=$(first "$1")
	[ "$number" -gt "$2" ] && [ "$number" -le $(($3 + 1)) ] && return
	echo "# $1 begins at $number, not behind $2 to $3"
	false
}

# stop NAME...: end them, and wait for their processes
stop()
{
	for name in "$@"; do
		vireo stop "$name"
	done
	sleep 1
}

# flip FILE OFFSET: change a byte
flip()
{
	byte=$(dd if="$1" bs=1 skip="$2" count=1 2>/dev/null | hexdump -v -e '1/1 "%u"')
	printf "\\$(printf %o $(((byte + 1) % 256)))" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}

# complete DIRECTORY OPTION...: what is there can be restored
complete()
{
	vireo restore "$@" --verify --paused --name complete --count 1 >/tmp/complete 2>&1 || {
		quote /tmp/complete
		return 1
	}
	vireo stop "$(cat /tmp/complete)"
}

# on_time NAME: the guest's clock is that of the host
on_time()
{
	now=$(date +%s)
	says "$1" "guest: time" && goes_on "$1" || return
	then=$(sed -n 's/^guest: time \([0-9]*\).*/\1/p' "/tmp/log/$1.log" | tail -n 1)
	[ "$then" -ge $((now - 2)) ] && [ "$then" -le $(($(date +%s) + 2)) ] && return
	echo "# $then, not $now"
	false
}

# fine NAME...: none has printed that something is odd
fine()
{
	for name in "$@"; do
		grep -E 'guest: (clock|memory|disk)|differ|BUG|Oops|WARNING|stall' "/tmp/log/$name.log" && return 1
	done
	true
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
