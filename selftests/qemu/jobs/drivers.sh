# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# The guest drivers, in guests of several kernels: a disk and an interface that
# work, and then are taken away, reset, resized and put to sleep under load.
#
# guests: 6.1 6.1-cloud 6.12-cloud
# drivers: 6.1 6.1-cloud 6.12-cloud
# guest-modules: ext4 crc32c_generic
# machine: cpus=2 memory=3072 time=900 limit=200

# shellcheck source=lib.sh
. /jobs/lib

# What the guest runs. It prints "guest: ok WHAT" or "guest: not ok WHAT", and
# "guest: now WHAT" when the host is to do something.
mkdir -p /tmp/work/www
cat >/tmp/work/script <<'END'
ok() { what=$1; shift; if "$@"; then echo "guest: ok $what"; else echo "guest: not ok $what"; fi; }
fails() { ! "$@" 2>/dev/null; }
sum() { dd if="$1" bs=64k ${2:+count=$2} iflag=direct 2>/dev/null | md5sum; }
soon() { for i in $(seq 100); do eval "$1" && return; usleep 200000; done; return 1; }
dmesg -n 1

ok "modules loaded by modalias" grep -q '^vireo_blk ' /proc/modules
ok "the disk has its serial number" grep -qx hello /sys/block/vrda/serial
ok "the disk has a cache to flush" grep -qx 'write back' /sys/block/vrda/queue/write_cache
ok "a read-only disk is one" test "$(cat /sys/block/vrdb/ro)" = 1
ok "a read-only disk is not written" fails dd if=/dev/zero of=/dev/vrdb bs=4k count=1

dd if=/dev/urandom of=/a bs=64k count=128 2>/dev/null
want=$(md5sum </a)
for bs in 512 4k 1M; do
	dd if=/a of=/dev/vrda bs=$bs oflag=direct conv=fsync 2>/dev/null
	ok "written by $bs, read back" test "$(sum /dev/vrda 128)" = "$want"
	dd if=/dev/zero of=/dev/vrda bs=1M count=8 oflag=direct 2>/dev/null
done
mkdir -p /mnt
modprobe -a crc32c_generic ext4 2>/dev/null
mke2fs /dev/vrda >/dev/null 2>&1 && mount /dev/vrda /mnt && cp /a /mnt/a && umount /mnt && mount /dev/vrda /mnt
ok "a file system keeps its files" test "$(md5sum </mnt/a)" = "$want"
umount /mnt
ok "discards" blkdiscard /dev/vrda

ip link set lo up
ip link set eth0 up && ip addr add 10.1.0.2/24 dev eth0
ok "there is a link" soon 'ping -c 1 -W 1 10.1.0.1 >/dev/null'
get() { wget -q -O /b http://10.1.0.1/file && test "$(md5sum </b)" = "$(wget -q -O - http://10.1.0.1/sum)"; }
ok "downloads a file" get
ok "sends what comes back" test "$(nc 10.1.0.1 7 </a | md5sum)" = "$want"
ok "pings of all sizes" sh -c 'for s in 0 1 17 18 19 100 1400 1472 1473 4000 9000 60000; do ping -c 1 -W 5 -s $s 10.1.0.1 >/dev/null || exit 1; done'
ip link set eth0 mtu 600
ok "a small MTU" get
ip link set eth0 mtu 1500

disk=$(basename "$(readlink /sys/block/vrda/device)")
nic=$(basename "$(readlink /sys/class/net/eth0/device)")
dd if=/a of=/dev/vrda bs=64k oflag=direct 2>/dev/null
load() { while :; do dd if=/dev/$1 of=/dev/null bs=4k count=512 iflag=direct 2>/dev/null; done; }
for i in 1 2 3; do
	load vrda & a=$!
	load vrda & b=$!
	usleep 500000
	echo "$disk" >/sys/bus/pci/drivers/vireo_blk/unbind
	kill $a $b; wait $a $b 2>/dev/null
	echo "$disk" >/sys/bus/pci/drivers/vireo_blk/bind
done
ok "the disk is unbound under load, and bound again" test "$(sum /dev/vrda 128)" = "$want"
for i in 1 2 3; do
	(wget -q -O /c http://10.1.0.1/file; ping -f -c 200 10.1.0.1) >/dev/null 2>&1 & a=$!
	usleep 300000
	echo "$nic" >/sys/bus/pci/drivers/vireo_net/unbind
	kill $a 2>/dev/null; wait $a
	echo "$nic" >/sys/bus/pci/drivers/vireo_net/bind
	ip link set eth0 up && ip addr add 10.1.0.2/24 dev eth0
done
ok "so is the interface" get
# More often than a request survives; none may fail.
resets() { for i in 1 2 3 4 5 6; do usleep 300000; echo 1 >/sys/bus/pci/devices/$1/reset || return; done; }
reads() { while [ ! -e /stop ]; do dd if=/dev/$1 of=/dev/null bs=4k count=512 iflag=direct 2>/dev/null || : >/failed; done; }
writes() { while [ ! -e /stop ]; do dd if=/a of=/dev/$1 bs=64k oflag=direct 2>/dev/null || : >/failed; done; }
reads vrda & a=$!
writes vrda & b=$!
ok "the disk's function is reset under load" resets "$disk"
: >/stop
wait $a $b
ok "... no request fails" test ! -e /failed
ok "... nothing is lost" test "$(sum /dev/vrda 128)" = "$want"
(while [ ! -e /stopped ]; do wget -q -T 2 -O /c http://10.1.0.1/file; done; ping -f -c 200 10.1.0.1) >/dev/null 2>&1 & a=$!
ok "so is the interface's" resets "$nic"
: >/stopped
wait $a
ok "... it keeps its address" soon get
ok "a reset is 1" sh -c "! echo 0 2>/dev/null >/sys/bus/pci/devices/$disk/reset"
for i in 1 2 3 4 5; do
	ip link set eth0 down; ip link set eth0 up
done
ok "down and up" soon get

load vrda & a=$!
echo "guest: now resize"
ok "the disk grows under load" soon 'test "$(cat /sys/block/vrda/size)" = 262144'
if echo devices 2>/dev/null >/sys/power/pm_test; then
	for i in 1 2 3; do echo freeze >/sys/power/state; done
	ok "sleeps and wakes under load" test "$(sum /dev/vrda 128)" = "$want"
	ok "so does the interface" soon get
fi
kill $a; wait $a 2>/dev/null
soon 'rmmod vireo_blk 2>/dev/null'	# the last dd of the load may still have it
insmod /lib/modules/*/updates/vireo_blk.ko poll_queues=1 entries=16
ok "16 entries" test "$(sum /dev/vrda 128)" = "$want"
ok "a polled queue" test "$(cat /sys/block/vrda/queue/io_poll)" = 1
ok "and what is written so" sh -c 'dd if=/a of=/dev/vrda bs=1M oflag=direct conv=fsync 2>/dev/null'
ok "... right" test "$(sum /dev/vrda 128)" = "$want"

echo "guest: now attach"
ok "a disk comes" soon 'test -e /sys/block/vrdc'
dd if=/a of=/dev/vrdc bs=64k oflag=direct 2>/dev/null
ok "and is a disk" test "$(sum /dev/vrdc 128)" = "$want"
load vrdc & a=$!
load vrda & b=$!
ok "... which can be reset" resets "$(basename "$(readlink /sys/block/vrdc/device)")"
ok "... and is the same" test "$(sum /dev/vrdc 128)" = "$want"
echo "guest: now pull"
ok "it is pulled under load" soon 'test ! -e /sys/block/vrdc'
kill $a $b; wait $a $b 2>/dev/null
ok "the other works on" test "$(sum /dev/vrda 128)" = "$want"
ok "the interface works on" get
echo "guest: now detach"
ok "a disk of the command line goes" soon 'test ! -e /sys/block/vrdb'
ok "the first works on" test "$(sum /dev/vrda 128)" = "$want"
rmmod vireo_net
soon 'rmmod vireo_blk 2>/dev/null'
rmmod vireo_ring
ok "all modules are unloaded" fails grep -q '^vireo_' /proc/modules
dmesg | grep vireo_ | grep -vE 'taint|enabling' | tail -n 20 | sed 's/^/guest: # /'
ok "the kernel has nothing to complain of" fails grep -qE 'BUG|WARNING|Oops|Call Trace|blocked for' <<X
$(dmesg)
X
END

# Bochs, where VT-x is tried, has time for one guest, and for less to copy.
blocks=256
if [ "$EMULATOR" != qemu ]; then
	blocks=16 LIMIT=$((LIMIT * 5))
	sed -i 's/count=128/count=8/; s/ 128)"/ 8)"/' /tmp/work/script
fi
dd if=/dev/urandom of=/tmp/work/www/file bs=64k count=$blocks 2>/dev/null
md5sum </tmp/work/www/file >/tmp/work/www/sum
(cd /tmp/work && echo script | cpio -o -H newc 2>/dev/null) >/tmp/work/script.cpio

# The host's end of the interface, when there is one
network()
{
	while ! ip addr add 10.1.0.1/24 dev drv0 2>/dev/null; do
		sleep 1
	done
	ip link set drv0 up
	ip link set lo up
	[ -e /tmp/work/served ] && return
	httpd -h /tmp/work/www -p 80
	nc -ll -p 7 -e cat &
	: >/tmp/work/served
}

# Answers the guest's wishes.
serve() # NAME
{
	tail -n +1 -f /tmp/console 2>/dev/null | while read -r line; do
		case $line in
		*'guest: now resize'*)
			truncate -s 128M /tmp/work/disk
			vireo resize "$1" disk0
			;;
		*'guest: now attach'*) vireo attach "$1" --disk /tmp/work/more ;;
		*'guest: now pull'*) vireo detach --force "$1" disk2 ;;
		*'guest: now detach'*) vireo detach "$1" disk1 ;;
		*'guest-script: '*) break ;;
		esac
	done
}

# drivers KERNEL VCPUS
drivers()
{
	rm -f /tmp/work/disk /tmp/work/ro /tmp/work/more
	truncate -s 64M /tmp/work/disk
	truncate -s 1M /tmp/work/ro
	truncate -s 32M /tmp/work/more
	cat "/guests/initrd-shell-$1" /tmp/work/script.cpio >/tmp/work/initrd
	: >/tmp/console
	serve "drv-$1" &
	server=$!
	network &
	timeout -s KILL "$LIMIT" vireo run --name "drv-$1" --kernel "/guests/vmlinuz-$1" \
		--initrd /tmp/work/initrd --vcpus "$2" --memory 384M --disk /tmp/work/disk,serial=hello,queues=2 \
		--disk /tmp/work/ro,ro --net drv0 --slots 2 --append "quiet vireo.do=script" \
		</dev/null >/tmp/console 2>&1
	status=$?
	kill $server 2>/dev/null
	tr -d '\r\000' </tmp/console >/tmp/text
	check "$1: powered off" test $status = 0
	results "$1"
	check "$1: ran to its end" grep -q 'guest-script: status 0' /tmp/text
	if [ $status != 0 ] || grep -q '^not ok' /tmp/results || grep -q 'guest: not ok' /tmp/text; then
		quote /tmp/text 100
	fi
}

# Without slots the guest cannot be asked, and finds that its disk is gone.
bare()
{
	cat >/tmp/work/script <<-'END'
		ok() { what=$1; shift; if "$@"; then echo "guest: ok $what"; else echo "guest: not ok $what"; fi; }
		reads() { dd if=/dev/$1 of=/dev/null bs=4k count=16 iflag=direct 2>/dev/null; }
		ok "both disks are read" eval 'reads vrda && reads vrdb'
		echo "guest: now pull"
		while reads vrdb; do :; done
		ok "the other is read on" reads vrda
		ok "the kernel has nothing to complain of" sh -c '! dmesg | grep -qE "BUG|WARNING|Oops|Call Trace|blocked for"'
	END
	(cd /tmp/work && echo script | cpio -o -H newc 2>/dev/null) >/tmp/work/script.cpio
	cat "/guests/initrd-shell-$1" /tmp/work/script.cpio >/tmp/work/initrd
	truncate -s 64M /tmp/work/disk
	truncate -s 32M /tmp/work/more
	: >/tmp/console
	{
		until grep -q 'guest: now pull' /tmp/console; do sleep 1; done
		vireo detach bare disk1 >/tmp/refused 2>&1 && : >/tmp/detached
		vireo detach bare disk1 --force
	} &
	timeout -s KILL "$LIMIT" vireo run --name bare --kernel "/guests/vmlinuz-$1" --initrd /tmp/work/initrd \
		--disk /tmp/work/disk --disk /tmp/work/more --append "quiet vireo.do=script" \
		</dev/null >/tmp/console 2>&1
	status=$?
	tr -d '\r\000' </tmp/console >/tmp/text
	check "no slots: powered off" test $status = 0
	results "no slots"
	check "no slots: the guest cannot be asked" test ! -e /tmp/detached
	check "... and that is said" grep -q 'disk1 is not in a slot' /tmp/refused
	check "... but the disk can be pulled" test "$(wc -l </tmp/results)" = 3
}

# wrong PATTERN OPTION...: no guest, and one line that says why
wrong()
{
	pattern=$1
	shift
	check "refused: $*" refuses "$pattern" vireo run --name wrong --kernel /guests/vmlinuz-6.1-cloud "$@"
}

# Disks and interfaces that cannot be had, beside a guest that has some
refusals()
{
	truncate -s 1M /tmp/work/disk
	truncate -s 1000 /tmp/work/odd
	: >/tmp/work/empty
	vireo run --name first --kernel /guests/vmlinuz-6.1-cloud --initrd /guests/initrd --disk /tmp/work/disk \
		--net drv1 --slots 1 --append "quiet vireo.do=hang" </dev/null >/dev/null 2>&1 &
	first=$!
	for _ in $(seq 60); do
		vireo stat first >/dev/null 2>&1 && break
		sleep 1
	done
	wrong 'cannot open disk /none: No such file' --disk /none
	wrong 'disk /tmp/work/disk is in use by another VM' --disk /tmp/work/disk
	wrong 'disk /tmp/work/more is in use' --disk /tmp/work/more --disk /tmp/work/more
	wrong '1000 bytes, which is not a multiple of 512: truncate' --disk /tmp/work/odd
	wrong 'is empty: give it a size' --disk /tmp/work/empty
	wrong 'neither a regular file nor a block device' --disk /dev/null
	wrong 'queues=64: a number from 1 to 63' --disk /tmp/work/more,queues=64
	wrong 'interface drv1 exists' --net drv1
	wrong 'interface lo exists' --net lo
	wrong 'not a name for an interface' --net a/b
	wrong 'cannot make drv2 a port of none' --net drv2,bridge=none
	check "... nothing of it stays" test ! -e /sys/class/net/drv2
	check "attached: no such disk" refuses 'cannot open disk /none' vireo attach first --disk /none
	check "attached: an interface that exists" refuses 'interface drv1 exists' vireo attach first --net drv1
	check "a device that there is not" refuses 'disk7' vireo resize first disk7
	check "the first runs on" vireo stop first
	wait $first
	check "its interface is gone" test ! -e /sys/class/net/drv1
}

echo "# begin drivers"
drivers 6.1-cloud 2
if [ "$EMULATOR" = qemu ]; then
	drivers 6.12-cloud 4
	drivers 6.1 1
	bare 6.1-cloud
	refusals
fi
tap_end
status=$?
echo "# end drivers status=$status seconds=$(cut -d. -f1 /proc/uptime)"
exit $status
