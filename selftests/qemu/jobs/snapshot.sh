# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# Snapshots of Debian guests while they run: restored, one and many, whole and in
# increments; and what is refused, and what an interruption leaves behind. For disks that
# are written to, and other devices, see restore.sh.
#
# guests: 6.1-cloud
# drivers: 6.1-cloud
# modules: loop crc32c_generic ext4
# machine: cpus=2 memory=2560 time=1200 limit=300

# shellcheck source=lib.sh
. /jobs/lib

mkdir -p /tmp/work /tmp/log /tmp/snap

pack_counter 6.1-cloud

start() # NAME OPTION...
{
	name=$1
	shift
	background "$name" vireo run --kernel /guests/vmlinuz-6.1-cloud --initrd /tmp/initrd \
		--memory 128M --append "quiet vireo.do=script" "$@" && counts "$name" 3
}

# stat NAME KEY
stat_of()
{
	vireo stat "$1" --json | sed -n "s/^ *\"$2\": *\([0-9]*\).*/\1/p"
}

damaged() # COMMAND...: a copy of the snapshot, changed
{
	rm -rf /tmp/snap/bad
	mkdir /tmp/snap/bad
	cp /tmp/snap/a/state /tmp/snap/a/config.json /tmp/snap/bad/
	ln /tmp/snap/a/memory /tmp/snap/bad/memory
	(cd /tmp/snap/bad && "$@")
}

own_memory()
{
	rm memory
	cp ../a/memory memory
}

echo "# begin snapshot"

# Bochs, where VT-x is tried, has time for one guest and what is made of it.
if [ "$EMULATOR" != qemu ]; then
	LIMIT=$((LIMIT * 3))
	dd if=/dev/urandom of=/tmp/work/disk bs=64k count=1 2>/dev/null
	check "a guest runs, and reads a disk" start web --vcpus 2 --disk /tmp/work/disk,ro
	before=$(count web)
	check "a snapshot of it" vireo snapshot web /tmp/snap/a
	at=$(count web)
	check "it goes on" goes_on web
	stop web
	check "two are restored" vireo restore /tmp/snap/a --name many --count 2 --log /tmp/log
	check "they go on" goes_on many-1 many-2
	check "from there" from_there many-1 "$before" "$at"
	check "with the file's pages" test "$(stat_of many-1 file_bytes)" -gt 4000000
	check "one of them forks" vireo fork many-1 --name child --log /tmp/log
	before=$(count many-2)
	check "what has changed of the other" vireo snapshot many-2 /tmp/snap/b --incremental
	at=$(count many-2)
	stop many-1 many-2
	check "the child goes on" goes_on child
	stop child
	check "the chain is restored, at once into memory" background eager vireo restore /tmp/snap/b --eager --verify
	check "and goes on from there" from_there eager "$before" "$at"
	check "and on" goes_on eager
	stop eager
	check "none saw anything odd" fine web many-1 many-2 child eager
	check "no VM is left" test "$(vireo ls | wc -l)" = 1
	tap_end
	status=$?
	echo "# end snapshot status=$status seconds=$(cut -d. -f1 /proc/uptime)"
	exit $status
fi

check "a guest runs" start web --vcpus 2 --slots 1
check "a snapshot of it" vireo snapshot web /tmp/snap/a
at=$(count web)
check "it goes on" goes_on web
before=$(count web)
check "another, in the same place" vireo snapshot web /tmp/snap/a
at=$(count web)
check "it is whole" test "$(ls /tmp/snap/a | tr '\n' ' ')$(ls /tmp/snap)" = "config.json memory state a"
vireo ls --json | grep -E '"(name|pause_ns)"' | sed 's/^ */# /'
echo "# $(ls -ls /tmp/snap/a | tr '\n' ';')"
stop web
check "it is restored" background one vireo restore /tmp/snap/a
check "and goes on from there" from_there one "$before" "$at"
check "and on" goes_on one
check "with the file's pages" test "$(stat_of one file_bytes)" -gt 4000000
check "to which nobody can write" refuses 'busy' sh -c 'exec >>/tmp/snap/a/memory'
vireo restore /tmp/snap/a --name many --count 5 --log /tmp/log >/tmp/names
check "five at once" test "$(sort /tmp/names | tr '\n' ' ')" = "many-1 many-2 many-3 many-4 many-5 "
check "they go on" goes_on many-1 many-2 many-3 many-4 many-5
check "from there" from_there many-3 "$before" "$at"
for guest in many-1 many-5; do
	echo "# $guest: private $(stat_of $guest private_bytes) shared $(stat_of $guest shared_bytes) file $(stat_of $guest file_bytes)"
	check "$guest has the file's pages" test "$(stat_of $guest file_bytes)" -gt 4000000
done
check "one of them forks" vireo fork many-1 --name child --log /tmp/log
stop many-1 many-2 many-3 many-4 many-5
check "the child goes on" goes_on child
stop child
check "none saw anything odd" fine web one many-1 many-2 many-3 many-4 many-5 child

# Increments
check "what has changed since" vireo snapshot one /tmp/snap/b --incremental
check "it goes on" goes_on one
vireo pause one
check "and what since then" vireo snapshot one /tmp/snap/c --incremental
check "all of it" vireo snapshot one /tmp/snap/all
at=$(count one)
stop one
echo "# $(cd /tmp/snap && du -sk a b c all | tr '\n' ';')"
check "they are smaller" test "$(du -sk /tmp/snap/c | cut -f1)" -lt "$(($(du -sk /tmp/snap/all | cut -f1) / 2))"
check "the chain is restored" vireo restore /tmp/snap/c --paused --name chain --count 1 --log /tmp/log
check "and stored as one" vireo snapshot chain-1 /tmp/snap/merged
pages=$(cmp -l /tmp/snap/merged/memory /tmp/snap/all/memory | awk '{print int(($1 - 1) / 4096)}' | uniq | wc -l)
check "its memory is that of the whole snapshot, but for the generation id" test "$pages" -le 1
check "it runs" vireo resume chain-1
check "and goes on" counts chain-1 $((at + 3))
check "from there" from_there chain-1 "$at" "$at"
stop chain-1
check "all at once into memory" background eager vireo restore /tmp/snap/c --eager --verify
check "goes on from there" from_there eager "$at" "$at"
check "without the file" test "$(stat_of eager file_bytes)" = 0
check "to which one can write" sh -c ': >>/tmp/snap/a/memory'
stop eager
check "none saw anything odd, either" fine one chain-1 eager

# Refused
check "no such machine" refuses 'no virtual machine named web' vireo snapshot web /tmp/snap/x
check "no such directory" refuses 'cannot open /tmp/nowhere' vireo restore /tmp/nowhere
check "what is not a snapshot" refuses 'is not a snapshot: it has no state' vireo restore /tmp/log
check "a good copy" sh -c "rm -rf /tmp/snap/bad; cp -r /tmp/snap/a /tmp/snap/bad"
check "is good" complete /tmp/snap/bad
damaged sh -c 'truncate -s $(($(wc -c <state) - 1)) state'
check "a truncated state" refuses 'state is truncated' vireo restore /tmp/snap/bad
damaged truncate -s 10 state
check "a short state" refuses "state is not a snapshot's" vireo restore /tmp/snap/bad
for offset in 17 40 90 300 2000 9000; do
	damaged flip state $offset
	check "a changed byte at $offset" refuses 'state is \(damaged\|truncated\)' vireo restore /tmp/snap/bad
done
damaged flip state 8
check "a version of the future" refuses 'has version 2, .* use a newer' vireo restore /tmp/snap/bad
damaged flip state 0
check "somebody else's file" refuses "state is not a snapshot's" vireo restore /tmp/snap/bad
damaged sh -c 'rm memory && truncate -s 4096 memory'
check "a truncated memory" refuses 'memory has 4096 bytes instead of' vireo restore /tmp/snap/bad
damaged rm memory
check "no memory" refuses 'cannot open .*memory' vireo restore /tmp/snap/bad
damaged sh -c 'sed -i s/134217728/268435456/ config.json'
check "another machine's configuration" refuses 'not of one machine' vireo restore /tmp/snap/bad
damaged sh -c 'echo nonsense >config.json'
check "no configuration" refuses 'not a JSON object' vireo restore /tmp/snap/bad
damaged own_memory
flip /tmp/snap/bad/memory 1052672
check "changed memory is found by --verify" refuses 'memory is damaged between' vireo restore /tmp/snap/bad --verify --paused
mv /tmp/snap/b /tmp/snap/b.old
check "a parent that is gone" refuses 'builds on another: cannot open' vireo restore /tmp/snap/c
cp -r /tmp/snap/a /tmp/snap/b
check "a parent that is another" refuses 'is not the snapshot that .* builds on' vireo restore /tmp/snap/c
rm -rf /tmp/snap/b /tmp/snap/bad /tmp/snap/all /tmp/snap/merged
mv /tmp/snap/b.old /tmp/snap/b
exec 9>>/tmp/snap/a/memory
check "a file that somebody writes" refuses 'is open for writing' vireo restore /tmp/snap/a
exec 9>&-

# Interrupted
check "a guest runs again" start web
check "nothing to build on" refuses 'no snapshot of it to build on' vireo snapshot web /tmp/snap/x --incremental
check "a directory of others" refuses 'exists and is not a snapshot' vireo snapshot web /tmp/log
mkdir /tmp/full
mount -t tmpfs -o size=120M none /tmp/full
check "a small disk" vireo snapshot web /tmp/full/a
md5sum /tmp/full/a/* >/tmp/sums
dd if=/dev/zero of=/tmp/full/ballast bs=1M count=200 2>/dev/null
check "is full" refuses 'No space left on device' vireo snapshot web /tmp/full/a
check "and has the old one" md5sum -sc /tmp/sums
check "and nothing else" test "$(ls /tmp/full | tr '\n' ' ')" = "a ballast "
check "the guest goes on" goes_on web
umount /tmp/full
for i in 1 2 3 4 5 6; do
	vireo snapshot web /tmp/snap/a >/tmp/killed 2>&1 &
	usleep $((i * 60000))
	kill -9 $! 2>/dev/null
	wait $!
	check "killed, $i: a complete one is there" complete /tmp/snap/a
done
check "and the next" vireo snapshot web /tmp/snap/a
check "leaves nothing behind" test ! -e /tmp/snap/a.new
check "the guest goes on, too" goes_on web

# A disk that fails below the file that is a guest's memory
truncate -s 160M /tmp/work/ext2
mke2fs -F /tmp/work/ext2 >/dev/null
modprobe -a loop crc32c_generic ext4
mkdir -p /bad
mount -t ext2 -o loop,noatime /tmp/work/ext2 /bad
check "stored on a disk" vireo snapshot web /bad/a
sync
check "restored, but not begun" vireo restore /bad/a --paused --name broken --count 1 --log /tmp/log
check "nobody can truncate the file" refuses 'busy' truncate -s 4096 /bad/a/memory
echo 3 >/proc/sys/vm/drop_caches
cat /bad/a/state /bad/a/config.json >/dev/null
truncate -s 20M /tmp/work/ext2
case $(uname -r) in
6.1.*)
	skip "the disk fails" "6.1's loop device reads zeros behind the end of its file"
	vireo stop broken-1
	;;
*)
	check "the disk fails" refuses 'cannot read /bad/a/memory: Input/output error' vireo restore /bad/a --verify
	vireo resume broken-1
	check "a guest runs until it needs what cannot be read" says broken-1 'a page of the snapshot that it runs from cannot be read'
	;;
esac
umount /bad
rm /tmp/work/ext2

# Too little memory
mkdir /sys/fs/cgroup/vms
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
echo +memory >/sys/fs/cgroup/vms/cgroup.subtree_control
echo 20M >/sys/fs/cgroup/vms/memory.max
check "all at once does not fit" refuses 'out of memory while filling guest memory: raise the memory limit' \
	vireo restore /tmp/snap/a --eager --cgroup /sys/fs/cgroup/vms --name small
check "page by page it does" background small vireo restore /tmp/snap/a --cgroup /sys/fs/cgroup/vms
stop small
rmdir /sys/fs/cgroup/vms/small /sys/fs/cgroup/vms

# What version 1 has written: a guest that counts, see fixture/counter.S. The rate of the
# TSC is made this processor's, for the guest does not care.
bytes() # FILE OFFSET OF-FILE OFFSET: copy four
{
	dd if="$3" bs=1 skip="$4" count=4 2>/dev/null | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}

# as_here STATE LIKE: with the rate of LIKE, and its checksum
as_here()
{
	extents=$(hexdump -s 72 -n 4 -e '1/4 "%u"' "$2")
	bytes "$1" 156 "$2" $((132 + 24 * extents))
	bytes "$1" 24 /dev/zero 0
	gzip -c "$1" | tail -c 8 >/tmp/work/crc
	bytes "$1" 24 /tmp/work/crc 0
}

counted()
{
	x=1 n=0
	sed -n 2,101p "$1" >/tmp/numbers	# the first may be half of one
	[ "$(sed -n 's/^count \(48[0-9]\|49[0-9]\|50[0-9]\) .*/\1/p' /tmp/numbers | wc -l)" -gt 1 ] || return
	while read -r _ count number; do
		while [ $n -lt "$count" ]; do
			n=$((n + 1)) x=$(((x * 1664525 + 1013904223) & 0xffffffff))
		done
		[ "$x" = "$number" ] || return
	done </tmp/numbers
	[ "$(wc -l </tmp/numbers)" = 100 ]
}

mkdir /tmp/snap/v1
grep -v '^#' /jobs/snapshot-v1 | base64 -d | xz -d | tar -x -C /tmp/snap/v1 -f -
truncate -s 64M /tmp/snap/v1/memory
as_here /tmp/snap/v1/state /tmp/snap/a/state
vireo restore /tmp/snap/v1 --verify --name v1 --console file:/tmp/log/v1 </dev/null >/tmp/log/v1.log 2>&1 &
for i in $(seq "$LIMIT"); do
	[ "$(wc -l </tmp/log/v1)" -gt 101 ] && break
	sleep 1
done 2>/dev/null
check "a snapshot of version 1 goes on" counted /tmp/log/v1
tail -n 2 /tmp/log/v1 | sed 's/^/# /'
stop v1

# Templates
check "a template" vireo template create base web
stop web
check "is listed" test "$(vireo template list)" = base
vireo template run base --name worker --count 2 --log /tmp/log >/tmp/names
check "gives machines" test "$(sort /tmp/names | tr '\n' ' ')" = "worker-1 worker-2 "
check "that go on" goes_on worker-1 worker-2
check "also when it is removed" vireo template remove base
check "is gone" refuses 'cannot open' vireo template run base
check "has been removed once" refuses 'no template base' vireo template remove base
check "is no path" refuses 'is not a name' vireo template remove ../log
check "and they go on" goes_on worker-1 worker-2
stop worker-1 worker-2
check "and saw nothing odd" fine web

# Devices
dd if=/dev/urandom of=/tmp/work/disk bs=1M count=4 2>/dev/null
check "a guest reads a disk" start disk --vcpus 2 --disk /tmp/work/disk,ro
before=$(count disk)
check "it is stored while it reads" vireo snapshot disk /tmp/snap/disk
at=$(count disk)
stop disk
check "restored" background disk2 vireo restore /tmp/snap/disk
check "it goes on from there" from_there disk2 "$before" "$at"
check "and on, and reads" goes_on disk2
check "and sees what it saw" fine disk disk2
stop disk2
check "no VM is left" test "$(vireo ls | wc -l)" = 1

tap_end
status=$?
echo "# end snapshot status=$status seconds=$(cut -d. -f1 /proc/uptime)"
exit $status
