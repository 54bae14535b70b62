# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# What a fork costs, Vireo and KVM side by side; and with the tool: how long a guest
# that reads its disk is stopped, and what a clone of an idle one takes.
#
# Without ERMS and FSRM: the kernel would clear and copy pages with REP STOSB and MOVSB,
# which the emulators count as one instruction for each byte.
#
# guests: 6.1-cloud
# drivers: 6.1-cloud
# tests: bench
# modules: kvm_amd kvm_intel
# machine: cpus=1 memory=1536 time=900 limit=600 flags=,-erms,-fsrm

# shellcheck source=lib.sh
. /jobs/lib

# start NAME OPTION...: a guest in the background, until it has begun
start()
{
	name=$1
	shift
	vireo run --name "$name" --kernel /guests/vmlinuz-6.1-cloud --initrd /tmp/initrd \
		--memory 256M --append "quiet vireo.do=script" "$@" </dev/null >"/tmp/$name.log" 2>&1 &
	until grep -q 'guest: ready' "/tmp/$name.log" 2>/dev/null; do
		if ! kill -0 $!; then
			quote "/tmp/$name.log"
			exit 1
		fi
		usleep 100000
	done
}

# field NAME FIELD: a number that vireo ls shows
field()
{
	vireo ls --json | tr -d ' ,"' | awk -F: -v name="$1" -v field="$2" '
		$1 == "name" { it = $2 == name }
		it && $1 == field { print $2 }'
}

median()
{
	sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

mkdir -p /tmp/work
cat >/tmp/work/script <<'END'
dmesg -n 1
echo "guest: ready"
while [ -e /dev/vrda ]; do
	echo 3 >/proc/sys/vm/drop_caches
	dd if=/dev/vrda of=/dev/null bs=64k 2>/dev/null
done
sleep 100000
END
(cd /tmp/work && echo script | cpio -o -H newc 2>/dev/null) |
	cat /guests/initrd-shell-6.1-cloud - >/tmp/initrd

kvm_modules
run_test bench/fork /selftests/bench/fork || exit 1
[ "$EMULATOR" = qemu ] || exit 0	# Bochs takes long for a Linux guest

# pauses NAME: how long a guest is stopped, and how long it takes until the clone runs,
# while its parent does; a nanosecond is an instruction where they are counted
pauses()
{
	for i in $(seq 7); do
		usleep 50000
		vireo fork "$1" --name "clone$i" >/dev/null || exit 1
		field "$1" pause_ns >>"/tmp/pauses-$1"
		field "clone$i" start_ns >>"/tmp/starts-$1"
		vireo stop "clone$i"
	done
	echo "bench: fork_pause_$1 vireo=$(median <"/tmp/pauses-$1") kvm=- unit=ticks target=100000"
	echo "bench: fork_tool_start_$1 vireo=$(median <"/tmp/starts-$1") kvm=- unit=ticks"
}

# One that reads its disk all the time, and one that sleeps
dd if=/dev/zero of=/tmp/work/disk bs=1M count=4 2>/dev/null
start reading --disk /tmp/work/disk,ro
pauses reading
vireo stop reading
start idle
pauses idle

# What clones of an idle guest take: all that is charged from here on
mkdir /sys/fs/cgroup/clones
field idle pid >/sys/fs/cgroup/clones/cgroup.procs
cd /sys/fs/cgroup/clones || exit 1
vireo fork idle --count 100 >/tmp/names || exit 1
last=$(tail -n 1 /tmp/names)
written=$(vireo stat "$last" | awk '$1 == "exit_page_fault" { print $2 * 4096 }')
all=$(($(cat memory.current) / 100))
echo "bench: clone_memory vireo=$all kvm=- unit=bytes"
echo "bench: clone_memory_unwritten vireo=$((all - written)) kvm=- unit=bytes target=65536"
awk '$2 > 50000 { print "#", $1, int($2 / 100) }' memory.stat
vireo stat "$last" | grep -E 'page_fault|table_bytes' | sed 's/^/# /'
