# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# Rings that guests share with the module's backends: disks on a file, a file
# system's direct I/O and a block device; network interfaces.
#
# tests: ring
# modules: configfs null_blk ext4 crc32c_generic crc32c_intel af_packet bridge
# machine: cpus=2 memory=2048 time=600 limit=300

# shellcheck source=lib.sh
. /jobs/lib

# null NAME MIB [ATTRIBUTE=VALUE]...: a block device in memory
null()
{
	dir=/sys/kernel/config/nullb/$1
	mkdir "$dir" && echo "$2" >"$dir/size" && echo 1 >"$dir/memory_backed" || return 1
	shift 2
	for pair in "$@"; do
		echo "${pair#*=}" >"$dir/${pair%%=*}" || echo "# no null_blk attribute $pair"
	done
	echo 1 >"$dir/power"
}

modprobe configfs 2>/dev/null
mount -t configfs config /sys/kernel/config
modprobe null_blk nr_devices=0
null nullb0 32 discard=1 cache_size=4
null nullb1 16 blocksize=4096
null nullb2 32 cache_size=4
null nullb3 16 irqmode=2 completion_nsec=50000000 hw_queue_depth=2 submit_queues=1
modprobe crc32c_generic 2>/dev/null
modprobe ext4 2>/dev/null
mkdir -p /mnt
mke2fs /dev/nullb2 >/dev/null && mount -t ext4 /dev/nullb2 /mnt || echo "# no file system"
mkdir -p /small
mount -t tmpfs -o size=1m small /small
modprobe af_packet 2>/dev/null
modprobe bridge 2>/dev/null
run_tests ring
