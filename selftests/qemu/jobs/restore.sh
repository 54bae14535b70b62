# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# Snapshots of a guest with disks that it writes to, an interface, random numbers and
# hvc0; what the machines that are restored have of their own, and their time. The guest
# judges itself what it reads.
#
# guests: 6.1-cloud
# drivers: 6.1-cloud
# modules: bridge btrfs loop crc32c_generic
# programs: mkfs.btrfs
# machine: cpus=2 memory=2560 time=1200 limit=300

# shellcheck source=lib.sh
. /jobs/lib
# shellcheck disable=SC2034,SC2317 # lib.sh uses the former, and check calls functions

mkdir -p /tmp/work /tmp/log /tmp/snap /tmp/images.d /tmp/www /mnt

# Copies of its disks in memory: wherever it is restored, they are equal. Downloads of what
# a third disk holds; with another address of the interface comes another one of IP.
cat >/tmp/work/script <<'END'
dmesg -n 1
downloads()
{
	while :; do
		new=$(cat /sys/class/net/eth0/address)
		if [ "$new" != "$mac" ]; then
			mac=$new
			ip addr flush dev eth0
			ip addr add "10.0.$((0x${mac:12:2})).$((0x${mac:15:2} % 250 + 2))/16" dev eth0
			ip link set eth0 up
			echo "guest: address $mac"
		fi
		if timeout 20 wget -q -O /got http://10.0.0.1/data 2>/dev/null && cmp -s /got /dev/vrdc; then
			fetched=$((fetched + 1))
			echo "guest: download $fetched $mac"
		fi
		usleep 100000
	done
}
[ "$(cat /sys/class/tty/console/active)" = hvc0 ] || echo "guest: disk is nothing, nor is the console"
downloads &
for d in a b; do cat /dev/vrd$d >/model$d; done
i=0
while :; do
	i=$((i + 1))
	for d in a b; do
		at=$(($(od -An -N2 -tu2 /dev/urandom) % 60))
		dd if=/dev/urandom of=/block bs=4096 count=5 2>/dev/null
		dd if=/block of=/model$d bs=1k seek=$((at * 64 + 3)) conv=notrunc 2>/dev/null
		dd if=/block of=/dev/vrd$d bs=1k seek=$((at * 64 + 3)) conv=notrunc,fsync 2>/dev/null || echo "guest: disk fails"
	done
	sync
	echo 3 >/proc/sys/vm/drop_caches
	for d in a b; do cmp /model$d /dev/vrd$d || echo "guest: disk $d differs"; done
	echo "guest: random $(dd if=/dev/hwrng bs=16 count=1 2>/dev/null | md5sum | cut -d' ' -f1)"
	echo "guest: time $(date +%s)"
	dmesg | grep -E 'soft lockup|detected stall|self-detected|blocked for more' | sed 's/^/guest: clock: /'
	echo "guest: count $i"
done
END

# said NAME WHAT: the last that a guest has said of it
said()
{
	tr -d '\r' <"/tmp/log/$1.log" | sed -n "s/^guest: $2 //p" | tail -n 1
}

# downloads NAME...: each gets the file twice more
downloads()
{
	for name in "$@"; do
		from=$(grep -c 'guest: download' "/tmp/log/$name.log")
		for i in $(seq "$LIMIT"); do
			[ "$(grep -c 'guest: download' "/tmp/log/$name.log")" -ge $((from + 2)) ] && continue 2
			sleep 1
		done
		quote "/tmp/log/$name.log" 20
		return 1
	done
}

# behind NAME: how many seconds its time of day is behind the host's, as it says it
behind()
{
	lines=$(grep -c '^guest: time' "/tmp/log/$1.log")
	for _ in $(seq $((LIMIT * 10))); do
		usleep 100000
		[ "$(grep -c '^guest: time' "/tmp/log/$1.log")" = "$lines" ] || break
	done
	echo $(($(date +%s) - $(said "$1" time)))
}

# late NAME...: by the time that it did not exist
late()
{
	for name in "$@"; do
		seconds=$(behind "$name")
		[ "$seconds" -ge 4 ] && continue
		echo "# $name is $seconds seconds late"
		return 1
	done
}

# as_late NAME SECONDS: by so much, 3 seconds more or less
as_late()
{
	seconds=$(behind "$1")
	[ "$seconds" -ge $(($2 - 3)) ] && [ "$seconds" -le $(($2 + 3)) ] && return
	echo "# $1 is $seconds seconds late, not $2"
	false
}

damage() # COMMAND...: a copy of the snapshot, changed
{
	rm -rf /mnt/bad
	mkdir /mnt/bad
	cp /mnt/snap/state /mnt/snap/config.json /mnt/snap/disk* /mnt/bad/
	ln /mnt/snap/memory /mnt/bad/memory
	(cd /mnt/bad && "$@")
}

echo "# begin restore"

guest=6.1-cloud
modprobe -a bridge loop
blocks=64
if [ "$EMULATOR" != qemu ]; then
	blocks=4 LIMIT=$((LIMIT * 3))
	sed -i 's/% 60/% 3/' /tmp/work/script
fi
pack_script 6.1-cloud
ip link add br0 type bridge
ip addr add 10.0.0.1/16 dev br0
ip link set br0 up
httpd -h /tmp/www -p 10.0.0.1:80
for i in /tmp/work/overlay /tmp/work/image /tmp/www/data; do dd if=/dev/urandom of=$i bs=64k count=$blocks 2>/dev/null; done
md5sum /tmp/work/overlay /tmp/www/data >/tmp/images

# Bochs, where VT-x is tried, has time for one guest and two that are restored; the debug
# kernel has no file system that shares blocks.
if [ "$EMULATOR" != qemu ] || [ "$KERNEL" = debug ]; then
	check "a guest with all devices" start all --vcpus 2 --rng --console hvc --net all0,bridge=br0 \
		--disk /tmp/work/overlay,overlay --disk /tmp/work/image,overlay --disk /tmp/www/data,ro
	check "works" downloads all
	before=$(count all)
	check "stored" vireo snapshot all /tmp/snap/all
	at=$(count all)
	check "it goes on" goes_on all
	check "and downloads" downloads all
	stop all
	check "two are restored" vireo restore /tmp/snap/all --count 2 --name two --log /tmp/log
	check "find what was written, and write" goes_on two-1 two-2
	check "from there" from_there two-1 "$before" "$at"
	check "and download" downloads two-1 two-2
	check "each has an address of its own" test "$(for i in all two-1 two-2; do said $i address; done | sort -u | grep -c :)" = 3
	stop two-1 two-2
	check "none saw anything odd" fine all two-1 two-2
	check "images that are read stay as they are" md5sum -sc /tmp/images
	check "no VM is left" test "$(vireo ls | wc -l)" = 1
	tap_end
	status=$?
	echo "# end restore status=$status seconds=$(cut -d. -f1 /proc/uptime)"
	exit $status
fi

modprobe crc32c_generic 2>/dev/null
modprobe btrfs
truncate -s 448M /tmp/work/btrfs
mkfs.btrfs -q /tmp/work/btrfs >/dev/null && mount -t btrfs -o loop /tmp/work/btrfs /mnt
cp /tmp/work/image /mnt/image

# All devices at once
check "a guest with two disks to write to, and all else" start all --vcpus 2 --slots 1 --rng --console hvc --net all0,bridge=br0 \
	--disk /tmp/work/overlay,overlay --disk /mnt/image --disk /tmp/www/data,ro
check "works" downloads all
check "an image elsewhere is refused" refuses 'disk1 .* is writable, and /tmp/snap/all .*: use --copy-disks' vireo snapshot all /tmp/snap/all
check "and leaves nothing" test ! -e /tmp/snap/all.new
before=$(count all)
check "stored, with blocks that the file system shares" vireo snapshot all /mnt/snap
at=$(count all)
check "it goes on" goes_on all
check "and downloads" downloads all
echo "# $(ls -ls /mnt/snap | tr '\n' ';')"
check "no name for an interface" refuses 'is not a name' vireo restore /mnt/snap --net a/b
check "not twice one interface" refuses 'has 1 interfaces, and --net was given 2 times' vireo restore /mnt/snap --net a --net b
check "an interface that exists" refuses 'interface br0 exists' vireo restore /mnt/snap --name none --net br0
check "which leaves no image" test ! -e /mnt/image.none
check "an image elsewhere" refuses 'cannot share its blocks with .*--copy-disks' vireo restore /mnt/snap --name none --disk-dir /tmp/images.d
check "which leaves none, either" test -z "$(ls /tmp/images.d)"
sleep 5
check "two at once" vireo restore /mnt/snap --count 2 --name two --log /tmp/log
check "find what they wrote, and write" goes_on two-1 two-2
check "from there" from_there two-1 "$before" "$at"
check "and download, as the first does" downloads two-1 two-2 all
stop all
check "each has an address of its own" test "$(for i in all two-1 two-2; do said $i address; done | sort -u | grep -c :)" = 3
check "and an interface" test "$(ls /sys/class/net/br0/brif | tr '\n' ' ')" = "all1 all2 "
check "and an image" test -s /mnt/image.two-1 -a -s /mnt/image.two-2
# The kernel of each had read up to 64 bytes of /dev/hwrng ahead, four of these; a fifth was
# perhaps about to be printed.
counts two-1 $((at + 10)) && counts two-2 $((at + 10))
for i in two-1 two-2; do grep 'guest: random' /tmp/log/$i.log | tail -n +6; done >/tmp/random
check "and other random numbers" test "$(sort /tmp/random | uniq -d | tee /dev/stderr | wc -l)" = 0 -a -s /tmp/random
vireo stat --json two-1 | grep -E 'overlay_bytes|file_bytes' | sed 's/^ */# /'
check "their time of day is late" late two-1 two-2
check "a clone of one" vireo fork two-1 --name child --log /tmp/log
vireo stop two-1
check "works without it" goes_on child
check "and downloads" downloads child
seconds_late=$(behind two-2)
check "a snapshot of one, incremental" vireo snapshot two-2 /mnt/next --incremental
stop two-2 child
date -s "@$(($(date +%s) + 86400))" >/dev/null
check "restored a day later, at once into memory, by another name" background next vireo restore /mnt/next --eager --verify \
	--advance-clock --net front,mac=02:00:00:00:00:07
check "goes on" goes_on next
check "as late as that one was, not a day" as_late next "$seconds_late"
check "downloads" downloads next
check "by that address" test "$(said next address)" = 02:00:00:00:00:07
check "a disk is put into its empty slot" vireo attach next --disk /tmp/www/data,ro,queues=1
check "stored with it" vireo snapshot next /mnt/more
vireo detach next disk3 >/dev/null 2>&1 &
sleep 1
check "not while it is taken out" refuses 'disk3 .* is being detached: wait' vireo snapshot next /mnt/more
wait $!
check "restored it has the disk" vireo restore /mnt/more --name more --count 1 --log /tmp/log
check "in a slot" sh -c 'vireo stat --json more-1 | grep -A 4 disk3 | grep -q removable.*true'
check "and goes on" goes_on more-1
check "and downloads" downloads more-1
check "and lets go of it" vireo detach more-1 disk3
damage_more() { sed -i 's/"slot": *3/"slot": 2/' /mnt/more/config.json; }
damage_more
check "two devices in one slot" refuses 'slot 2 is not there, or is not empty' vireo restore /mnt/more --name none
stop more-1
stop next

# What is damaged, or not what it was
damage true
flip /mnt/bad/disk0 $(($(hexdump -v -e '1/1 "%u\n"' /mnt/bad/disk0 | grep -n -m 1 '^[1-9]' | cut -d: -f1) - 1))
check "an overlay that was changed is found by --verify" refuses 'disk0 is damaged between' vireo restore /mnt/bad --verify
damage truncate -s 4096 disk0
check "a truncated one at once" refuses 'disk0 has 4096 bytes instead of' vireo restore /mnt/bad
damage rm disk1
check "no image" refuses 'cannot open .*disk1' vireo restore /mnt/bad
damage sed -i 's/"overlay",/"image",/' config.json
check "an image that is none" refuses 'config.json has image 0, and state has not' vireo restore /mnt/bad
mv /tmp/work/overlay /tmp/work/other
check "no image below the overlay" refuses 'cannot open disk .*/overlay' vireo restore /mnt/snap --name none
truncate -s 2M /tmp/work/overlay
check "a shorter one" refuses 'disk0 .* has 4096 sectors, and had 8192' vireo restore /mnt/snap --name none
check "which leaves no image, either" test ! -e /mnt/image.none
mv /tmp/work/other /tmp/work/overlay
# Linux has one flag for RCU's stalls and for lockups: who looks second does not find it.
sed -i '/soft lockup/d' /tmp/log/next.log /tmp/log/more-1.log	# a copy of it
check "none saw anything odd with disks" fine all two-1 two-2 child next more-1
check "images that are read stay as they are" md5sum -sc /tmp/images

# Images that are copied: the machine stands still
cp /tmp/work/overlay /tmp/work/copied
dd if=/dev/zero of=/tmp/work/large bs=1M count=64 2>/dev/null
check "a guest with its disks elsewhere" start copy --disk /tmp/work/copied --disk /tmp/work/overlay,overlay --disk /tmp/www/data,ro --disk /tmp/work/large --console hvc --net all0,bridge=br0
check "stored, with copies" vireo snapshot copy /tmp/snap/copy --copy-disks
check "it goes on" goes_on copy
vireo snapshot copy /tmp/snap/copy --copy-disks >/dev/null 2>&1 &
for i in $(seq 10000); do
	[ -e /tmp/snap/copy.new/disk3 ] && break
	usleep 1000
done
kill -STOP $!
check "meanwhile it stands still" refuses 'its disks are being copied' vireo resume copy
check "a second one waits" refuses 'another snapshot of it is being written' vireo snapshot copy /tmp/snap/second --copy-disks
kill -9 $!
wait $! 2>/dev/null
check "it goes on if who copies is killed" goes_on copy
check "what was there is whole" complete /tmp/snap/copy --copy-disks --disk-dir /tmp/images.d
check "without a disk before others" vireo detach copy disk3 --force
check "stored" vireo snapshot copy /tmp/snap/copy --copy-disks
stop copy
vireo restore /tmp/snap/copy --copy-disks --disk-dir /tmp/images.d --name copied --count 2 --log /tmp/log >/tmp/names
check "two that are restored" goes_on copied-1 copied-2
check "download" downloads copied-1 copied-2
check "with images" test -s /tmp/images.d/copied.copied-1 -a -s /tmp/images.d/copied.copied-2
stop copied-1 copied-2
check "saw nothing odd" fine copy copied-1 copied-2
umount /mnt
check "no VM is left" test "$(vireo ls | wc -l)" = 1

tap_end
status=$?
echo "# end restore status=$status seconds=$(cut -d. -f1 /proc/uptime)"
exit $status
