# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# What clones have of their own: disks, interfaces, addresses, random numbers, control
# groups. Linux guests are forked while they write to a disk and download, and judge what
# they read themselves. And what is refused.
#
# guests: 6.1-cloud 6.1
# drivers: 6.1-cloud 6.1
# modules: bridge btrfs loop crc32c_generic
# programs: mkfs.btrfs
# machine: cpus=2 memory=3072 time=1200 limit=300

# shellcheck source=lib.sh
. /jobs/lib
# shellcheck disable=SC2034,SC2317 # lib.sh uses the former, and check calls functions

mkdir -p /tmp/work /tmp/log /tmp/www

# A disk, and a copy of it in memory: whatever forks the guest, they are equal. Downloads
# of what is known; with another address of the interface comes another one of IP.
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
		got=$(timeout 20 wget -q -O - http://10.0.0.1/data 2>/dev/null | md5sum)
		if [ "$got" = "$(cat /want)" ]; then
			fetched=$((fetched + 1))
			echo "guest: download $fetched $mac"
		fi
		usleep 100000
	done
}
for word in $(cat /proc/cmdline); do
	case $word in
	want=*) echo "${word#want=}  -" >/want ;;
	esac
done
[ -e /sys/class/net/eth0 ] && downloads &
size=$(($(cat /sys/class/block/vrda/size) / 128))
cat /dev/vrda >/model
i=0
while :; do
	i=$((i + 1))
	at=$(($(od -An -N2 -tu2 /dev/urandom) % size))
	dd if=/dev/urandom of=/block bs=4096 count=5 2>/dev/null
	dd if=/block of=/model bs=1k seek=$((at * 64 + 3)) conv=notrunc 2>/dev/null
	dd if=/block of=/dev/vrda bs=1k seek=$((at * 64 + 3)) conv=notrunc,fsync 2>/dev/null || echo "guest: disk fails"
	sync
	echo 3 >/proc/sys/vm/drop_caches
	cmp /model /dev/vrda || echo "guest: disk differs"
	echo "guest: random $(dd if=/dev/urandom bs=16 count=1 2>/dev/null | md5sum | cut -d' ' -f1)"
	echo "guest: forks $(dmesg | grep -c 'crng reseeded due to virtual machine fork')"
	echo "guest: time $(date +%s)"
	echo "guest: count $i"
done
END
blocks=64
if [ "$EMULATOR" != qemu ]; then
	blocks=4 LIMIT=$((LIMIT * 3))
fi
pack_script 6.1-cloud
mv /tmp/initrd /tmp/initrd.cloud
pack_script 6.1
mv /tmp/initrd /tmp/initrd.full
ln -s initrd.cloud /tmp/initrd
dd if=/dev/urandom of=/tmp/www/data bs=64k count=4 2>/dev/null
want=$(md5sum </tmp/www/data | cut -d' ' -f1)
guest=6.1-cloud options="want=$want"

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

# address NAME: that of the interface, as its guest says
address()
{
	sed -n 's/^guest: address \([0-9a-f:]*\).*/\1/p' "/tmp/log/$1.log" | tail -n 1
}

new_image()
{
	dd if=/dev/urandom of=/tmp/work/disk bs=64k count="$blocks" 2>/dev/null
	image=$(md5sum </tmp/work/disk)
}

unchanged()
{
	[ "$(md5sum </tmp/work/disk)" = "$image" ]
}

refuses_hook()
{
	vireo fork web --name hooked --exec false >/tmp/refused 2>&1 && return 1
	vireo stop hooked && grep -q 'hooked: the command of --exec failed' /tmp/refused
}

echo "# begin clones"

new_image
modprobe bridge
ip link add br0 type bridge
ip addr add 10.0.0.1/16 dev br0
ip link set br0 up
httpd -h /tmp/www -p 10.0.0.1:80

# Bochs, where VT-x is tried, has time for one guest and three clones.
if [ "$EMULATOR" != qemu ]; then
	check "a guest writes and downloads" start web --vcpus 2 --disk /tmp/work/disk,overlay --net web0,bridge=br0
	check "as it should" downloads web
	check "two clones" vireo fork web --count 2 --log /tmp/log
	check "all download" downloads web web-1 web-2
	check "and write" goes_on web web-1 web-2
	check "each has an address of its own" test "$(for i in web web-1 web-2; do address $i; done | sort -u | grep -c :)" = 3
	check "a clone of a clone" vireo fork web-1 --name next --log /tmp/log
	vireo stop web-1
	vireo stop web
	check "which outlives its parent" goes_on next web-2
	check "and downloads" downloads next
	vireo stop next
	vireo stop web-2
	check "the image is as it was" unchanged
	check "none saw anything odd" fine web web-1 web-2 next
	check "no VM is left" test "$(vireo ls | wc -l)" = 1
	tap_end
	status=$?
	echo "# end clones status=$status seconds=$(cut -d. -f1 /proc/uptime)"
	exit $status
fi

# ---- Disks whose changes stay in memory
check "a guest writes to an overlay" start disk --vcpus 2 --disk /tmp/work/disk,overlay
for i in 1 2 3; do
	check "it is forked while it writes, $i" vireo fork disk --log /tmp/log
done
check "it and its clones find what they wrote" goes_on disk disk-1 disk-2 disk-3
check "a clone of a clone" vireo fork disk-2 --name next --log /tmp/log
vireo stop disk-2
vireo stop disk
check "which outlives its parent" goes_on next disk-1 disk-3
vireo stat --json next >/tmp/stat
check "stat shows what the overlay holds" grep -q overlay_bytes /tmp/stat
grep -E 'overlay_bytes|resident_bytes' /tmp/stat | sed 's/^ */# /'
check "the image may be another's as well, with a small overlay" start full --disk /tmp/work/disk,overlay=128K
check "which that finds full" says full "disk fails"
vireo fork full --log /tmp/log >/dev/null
check "and so does its clone" says full-1 "disk fails"
check "both go on" goes_on full full-1
check "but the image may not be written" refuses 'is in use by another VM' vireo run --kernel /guests/vmlinuz-6.1-cloud --disk /tmp/work/disk
for i in next disk-1 disk-3 full full-1; do
	vireo stop $i
done
check "the image is as it was" unchanged
check "none saw anything odd" fine disk disk-1 disk-2 disk-3 next
check "either ro or overlay" refuses 'either .ro. or .overlay.' vireo run --kernel /guests/vmlinuz-6.1-cloud --disk /tmp/work/disk,ro,overlay
check "an overlay of no size" refuses 'a size is needed' vireo run --kernel /guests/vmlinuz-6.1-cloud --disk /tmp/work/disk,overlay=0

# ---- Interfaces
mkdir /sys/fs/cgroup/vms
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
echo +memory >/sys/fs/cgroup/vms/cgroup.subtree_control
check "a guest writes and downloads" start web --vcpus 2 --disk /tmp/work/disk,overlay --net web0,bridge=br0 --cgroup /sys/fs/cgroup/vms
check "as it should" downloads web
# shellcheck disable=SC2016 # for the hook
vireo fork web --count 3 --log /tmp/log --exec 'echo "$VIREO_NAME of $VIREO_PARENT: $VIREO_NET $VIREO_MAC"' >/tmp/names
check "three clones" test "$(grep -v of /tmp/names | tr '\n' ' ')" = "web-1 web-2 web-3 "
sed 's/^/# /' /tmp/names
check "all download" downloads web web-1 web-2 web-3
check "and write" goes_on web web-1 web-2 web-3
check "each has an address of its own" test "$(for i in web web-1 web-2 web-3; do address $i; done | sort -u | grep -c :)" = 4
check "and an interface" test "$(ls /sys/class/net/br0/brif | tr '\n' ' ')" = "web0 web1 web2 web3 "
check "as the hooks were told" test "$(sed -n 's/^web-. of web: web[0-9] //p' /tmp/names | sort | tr '\n' ' ')" = "$(for i in web-1 web-2 web-3; do address $i; done | sort | tr '\n' ' ')"
for i in web-1 web-2 web-3; do
	check "$i has a cgroup" grep -qx "$(vireo ls --json | tr -d ' ,"' | grep -A1 "^name:$i$" | sed -n 's/^pid://p')" /sys/fs/cgroup/vms/$i/cgroup.procs
	check "to which its memory is charged" test "$(cat /sys/fs/cgroup/vms/$i/memory.current)" -gt 1000000
done
check "a hook that fails" refuses_hook
check "no cgroup" refuses 'is not a cgroup' vireo fork web --name none --cgroup /tmp/work
ip link add br1 type bridge
check "a clone with an interface of a name, on another bridge" vireo fork web-2 --name named --net front,bridge=br1 --log /tmp/log
check "where it is" test -e /sys/class/net/br1/brif/front
ip link set front nomaster
ip link set front master br0
vireo stop web-2
check "downloads, without its parent" downloads named
check "by that interface" test -e /sys/class/net/br0/brif/front
check "an interface that exists is refused" refuses 'interface br0 exists' vireo fork web --net br0
check "no name for an interface" refuses 'is not a name' vireo fork web --net a/b
check "no option for an interface" refuses 'only bridge= is possible' vireo fork web --net a,mtu=1500
check "no bridge" refuses 'cannot make a a port of' vireo fork web --net a,bridge=nowhere
check "the others go on" downloads web web-1 web-3
vireo stop --tree web
check "a bridge that is none" refuses 'cannot make .* a port of' vireo run --kernel /guests/vmlinuz-6.1-cloud --net web9,bridge=lo
vireo stop named
sleep 1
check "their cgroups are empty" rmdir /sys/fs/cgroup/vms/web-1 /sys/fs/cgroup/vms/named /sys/fs/cgroup/vms/web
check "no interface is left" test "$(ls /sys/class/net/br0/brif | wc -l)" = 0
check "none saw anything odd here" fine web web-1 web-2 web-3 named

# ---- Images that share blocks
if [ "$KERNEL" = debug ]; then
	skip "images that share blocks" "the debug kernel has no btrfs"
else
	truncate -s 256M /tmp/work/btrfs
	modprobe loop
	modprobe crc32c_generic 2>/dev/null
	modprobe btrfs
	mkdir -p /mnt
	mkfs.btrfs -q /tmp/work/btrfs >/dev/null && mount -t btrfs -o loop /tmp/work/btrfs /mnt
	mkdir /mnt/clones
	cp /tmp/work/disk /mnt/disk
	check "a guest writes to its image" start rw --disk /mnt/disk
	check "two clones, on a file system that can share" vireo fork rw --count 2 --log /tmp/log
	check "it and they find what they wrote" goes_on rw rw-1 rw-2
	check "a clone of a clone, in a directory" vireo fork rw-1 --name deep --disk-dir /mnt/clones --log /tmp/log
	vireo stop rw-1
	check "without its parent" goes_on deep rw-2
	check "each has an image" test -s /mnt/disk.rw-1 -a -s /mnt/disk.rw-2 -a -s /mnt/clones/disk.rw-1.deep
	check "an image that exists is not overwritten" refuses 'cannot make disk /mnt/disk.rw-1: File exists' vireo fork rw --name rw-1
	check "and they go on" goes_on rw
	vireo stop --tree rw
	vireo stop deep
	check "none saw anything odd with images" fine rw rw-1 rw-2 deep
	sleep 1
	umount /mnt
fi
check "a guest writes to an image elsewhere" start tmp --disk /tmp/work/disk
check "which is refused" refuses 'disk0 .* is writable' vireo fork tmp
check "and it goes on" goes_on tmp
vireo stop tmp

# ---- Identity: a kernel that knows what a fork is
ln -sf initrd.full /tmp/initrd
guest=6.1
new_image
check "a guest with random numbers" start self --vcpus 2 --disk /tmp/work/disk,overlay
check "which has not been forked" says self 'forks 0'
vireo pause self
sleep 10
check "three clones of one moment" vireo fork self --count 3 --log /tmp/log
check "go on" goes_on self-1 self-2 self-3
for i in 1 2 3; do
	check "its kernel has heard of it, $i" says self-$i 'forks 1'
	# The first may have been read before.
	sed -n 's/^guest: random \([0-9a-f]*\).*/\1/p' /tmp/log/self-$i.log | sed -n 2,4p
	check "the clock is right, $i" on_time self-$i
done >/tmp/work/result
grep -v '^[0-9a-f]*$' /tmp/work/result
check "no random number comes twice" test "$(grep -c '^[0-9a-f]*$' /tmp/work/result)" = "$(grep '^[0-9a-f]*$' /tmp/work/result | sort -u | wc -l)"
check "a clone of a clone hears of it, too" sh -c 'vireo fork self-1 --name twice --log /tmp/log >/dev/null'
check "once more" says twice 'forks 2'
vireo resume self
check "the parent does not" goes_on self
check "hear of any" sh -c "! grep -q 'forks [1-9]' /tmp/log/self.log"
vireo stop --tree self

tap_end
status=$?
echo "# end clones status=$status seconds=$(cut -d. -f1 /proc/uptime)"
exit $status
