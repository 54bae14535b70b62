# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# A host that lies to the drivers of its guest, in every way that it knows: the guest
# sees it and gives the device up, or bears it, and works again with a host that is
# honest.
#
# tests: vmm
# guests: 6.1-cloud 6.12-cloud
# drivers: 6.1-cloud 6.12-cloud
# machine: cpus=2 memory=2048 time=600 limit=200

# shellcheck source=lib.sh
. /jobs/lib

mkdir -p /tmp/work

# Bytes that are not text tell the host to lie; the lies are those of liar.c.
cat >/tmp/work/script <<'END'
ok() { what=$1; shift; if "$@"; then echo "guest: ok $what"; else echo "guest: not ok $what"; fi; }
fails() { ! "$@" 2>/dev/null; }
dmesg -n 1
mknod /hvc c $(tr : ' ' </sys/class/tty/hvc0/dev)	# the other node comes and goes
stty raw -echo </dev/ttyS0
tell() { printf "\\$(printf %o $((128 + $1)))" >/dev/ttyS0; usleep 100000; }
drivers="vireo_blk vireo_net vireo_console vireo_rng"
for driver in $drivers; do
	eval "$driver=$(basename /sys/bus/pci/drivers/$driver/0*)"
done
each() { # bind|unbind
	for driver in $drivers; do
		eval "echo \$$driver" >/sys/bus/pci/drivers/$driver/$1
	done 2>/dev/null
}
background() { "$@" >/dev/null 2>&1 & users="$users $!"; }
use() {
	users=
	background dd if=/dev/vrda of=/dev/null bs=16k count=16 iflag=direct
	background dd if=/dev/zero of=/dev/vrda bs=64k count=16 oflag=direct
	background sh -c 'ip link set eth0 up; ip addr add 10.1.0.2/24 dev eth0; arp -s 10.1.0.3 02:00:00:00:00:03
		for i in $(seq 20); do ping -c 1 -W 1 10.1.0.3 & done; wait'
	background sh -c 'for i in 1 2 3 4 5 6; do echo $i >/hvc; done'
	background cat /hvc
	background dd if=/dev/hwrng of=/dev/null bs=64 count=16
	usleep 700000
}
rest() { kill -9 $users; wait; } 2>/dev/null
bad() { dmesg | grep -E 'BUG|WARNING|Oops|Call Trace|general protection|blocked for|refcount|list_(add|del)'; }
# How many drivers say so; which queue and why has a rate limit.
broken() { dmesg | grep -oE 'vireo_[a-z]* .*(is broken|cannot be used|failed and)' | cut -d' ' -f1 | sort -u | wc -l; }
try() { what=$1; shift; "$@" 2>/what || { echo "guest: # $what: $(cat /what)"; dmesg | tail -n 5; false; }; }
honest() {
	try disk dd if=/dev/vrda of=/dev/null bs=4k count=16 iflag=direct &&
		try numbers dd if=/dev/hwrng of=/dev/null bs=64 count=1 &&
		try console sh -c 'echo honest >/hvc' && try interface ip link set eth0 up
}
ok "all drivers have a device" test -n "$vireo_blk" -a -n "$vireo_net" -a -n "$vireo_console" -a -n "$vireo_rng"
ok "which works" honest
n=0
for lie in "wild tags" "ends twice" "too long" "runs ahead" "runs back" error status info never noise config registers storm; do
	n=$((n + 1))
	dmesg -c >/dev/null
	tell $n
	use
	case $n in
	1 | 3 | 4 | 6) all=1 ;;
	*) all= ;;
	esac
	i=0
	while [ -n "$all" ] && [ "$(broken)" != 4 ] && [ $((i += 1)) -lt 50 ]; do
		usleep 100000
	done
	dmesg | grep -oE 'vireo_[a-z]* .*(is broken: .*|cannot be used.*)' | sort | uniq -c | sed 's/^/guest: # /'
	seen=$(broken)
	if [ "$lie" = never ]; then	# a disk is not left before it is done
		tell 0
		usleep 200000
	fi
	each unbind
	each bind		# to a host that lies from the first moment on
	usleep 100000
	each unbind
	tell 0
	rest
	[ -z "$all" ] || ok "$lie: all four see it" test "$seen" = 4
	ok "$lie: the kernel has nothing to complain of" fails bad
	each bind
	ok "$lie: works again" honest
done
END
(cd /tmp/work && echo script | cpio -o -H newc 2>/dev/null) >/tmp/work/script.cpio

echo "# begin liar"
liar()
{
	cat "/guests/initrd-shell-$1" /tmp/work/script.cpio >/tmp/work/initrd
	timeout -s KILL "$LIMIT" /selftests/vmm/liar "/guests/vmlinuz-$1" /tmp/work/initrd "$2" \
		"console=ttyS0 panic=-1 reboot=a quiet vireo.do=script" </dev/null >/tmp/console 2>&1
	status=$?
	tr -d '\r\000' </tmp/console >/tmp/text
	check "$1: powered off" test $status = 0
	results "$1"
	grep -o 'guest: # .*' /tmp/text | sort | uniq -c | sed 's/^ *[0-9]* guest: //'
	check "$1: did 32 things" test "$(wc -l </tmp/results)" = 32
	if [ $status != 0 ] || grep -q 'guest: not ok' /tmp/text || [ "$(wc -l </tmp/results)" != 32 ]; then
		quote /tmp/text 80
	fi
}

liar 6.1-cloud 2
liar 6.12-cloud 1
tap_end
status=$?
echo "# end liar status=$status seconds=$(cut -d. -f1 /proc/uptime)"
exit $status
