# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# A disk and an interface of a guest, under Vireo and under KVM with QEMU, and the
# same disk on the machine itself. The guest is the same, with the drivers of both.
# load.c is what loads them, and says what is counted.
#
# This is for Bochs (`vm -e bochs -i`): under QEMU, which may deliver an interrupt a second
# time, half of the guests are lost (Documentation/testing.rst).
#
# guests: 6.1-cloud
# drivers: 6.1-cloud
# tests: qemu
# modules: kvm_amd null_blk tun vhost_net
# guest-modules: virtio_pci virtio_blk virtio_net
# peer: qemu
# machine: cpus=1 memory=2048 time=700

# shellcheck source=lib.sh
. /jobs/lib

disk=/dev/nullb0
memory=384
load=/selftests/qemu/load
append="quiet mitigations=off lsm= vireo.do=script"	# as the host
limit=20	# seconds of the host for a part, which takes five
failed=

mkdir -p /tmp/work
modprobe null_blk gb=1 memory_backed=1 bs=4096 irqmode=0 hw_queue_depth=128
dd if=/dev/urandom of=$disk bs=1M count=64 oflag=direct 2>/dev/null

cat >/tmp/work/script <<'END'
dmesg -n 1
modprobe -a virtio_blk virtio_net 2>/dev/null
for i in $(seq 100); do
	disk=$(ls /dev/vda /dev/vrda 2>/dev/null)
	[ -n "$disk" ] && [ -e /sys/class/net/eth0 ] && break
	usleep 100000
done
ip link set lo up
ip link set eth0 up
ip addr add 10.1.0.2/24 dev eth0
/load serve "$disk"
END
cp $load /tmp/work/load
(cd /tmp/work && printf 'script\nload\n' | cpio -o -H newc 2>/dev/null) |
	cat /guests/initrd-shell-6.1-cloud - >/tmp/initrd

# part NAME COMMAND...: what the load says is in /tmp/NAME; who fails is named, and the
# rest goes on
part()
{
	part=$1
	shift
	timeout -s KILL $limit "$@" >"/tmp/$part" 2>&1
	status=$?
	sed "s/^/# $part /" "/tmp/$part"
	[ $status = 0 ] && return
	echo "# $part failed, with status $status"
	failed="$failed $part"
	return 1
}

# measure NAME INTERFACE: all figures with a guest; its interface's other end takes an
# address as soon as it is there
measure()
{
	"start_$1"
	for _ in $(seq 100); do
		ip addr add 10.1.0.1/24 dev "$2" 2>/dev/null && break
		kill -0 "$VMM" || break
		usleep 100000
	done
	ip link set "$2" up
	sleep 1
	HELPER=$(pidof "vhost-$VMM")
	part "$1" $load ask 10.1.0.2 || quote "/tmp/console-$1"
	kill -KILL "$VMM"
	wait "$VMM" 2>/dev/null
}
export VMM HELPER EXITS

# shellcheck disable=SC2317 # called by measure
start_vireo()
{
	vireo run --name bench --kernel /guests/vmlinuz-6.1-cloud --initrd /tmp/initrd --vcpus 1 \
		--memory ${memory}M --disk $disk --net io0 --append "$append" \
		</dev/null >/tmp/console-vireo 2>&1 &
	VMM=$!
	EXITS="vireo stat bench | awk '/^  exits/ { print \$2 }'"
}

# shellcheck disable=SC2317 # likewise
start_kvm()
{
	/peer/ld-linux-x86-64.so.2 --library-path /peer /peer/qemu-system-x86_64 -L /peer -accel kvm -cpu max \
		-smp 1 -m $memory -name bench,debug-threads=on -nodefaults -no-user-config -no-reboot \
		-display none -monitor none -serial file:/tmp/console-kvm \
		-kernel /guests/vmlinuz-6.1-cloud -initrd /tmp/initrd \
		-append "console=ttyS0 $append" -object iothread,id=io \
		-drive file=$disk,format=raw,if=none,id=disk,cache=none,aio=native \
		-device virtio-blk-pci,drive=disk,iothread=io,num-queues=1,logical_block_size=4096,physical_block_size=4096 \
		-netdev tap,id=net,ifname=io1,script=no,downscript=no,vhost=on \
		-device virtio-net-pci,netdev=net,romfile= &
	VMM=$!
	EXITS="cat /sys/kernel/debug/kvm/exits"
}

# The three side by side, with what is to be reached
table()
{
	awk '
	{
		n = split(FILENAME, path, "/")
		who = path[n]
		if ($1 != "load:" || $2 == "FAIL")
			next
		if (!($2 in seen))
			order[++figures] = $2
		seen[$2] = 1
		for (i = 3; i <= NF; i++) {
			split($i, kv, "=")
			value[$2, kv[1], who] = kv[2]
		}
	}
	function get(figure, what, who)
	{
		return value[figure, what, who] == "" ? "-" : value[figure, what, who]
	}
	function line(figure, what, target,	name)
	{
		name = figure (what == "instructions" ? "" : "_" what)
		printf "bench: %s vireo=%s kvm=%s", name, get(figure, what, "vireo"), get(figure, what, "kvm")
		if (what == "instructions")
			printf " bare=%s", get(figure, what, "native")
		printf " unit=%s%s\n", what, target ? " target=" target : ""
	}
	END {
		for (f = 1; f <= figures; f++) {
			figure = order[f]
			half = value[figure, "instructions", "kvm"] / 2
			most = 0
			if (figure ~ /qd1$/) {
				half = value[figure, "instructions", "native"] * 1.5
				most = 2
			} else if (figure ~ /qd32/) {
				most = 0.05
			} else if (figure ~ /^packets/) {
				most = 0.1
			} else if (figure !~ /^stream/) {
				half = 0
			}
			line(figure, "instructions", half)
			line(figure, "exits", most)
			line(figure, "interrupts", 0)
			line(figure, "vcpu", 0)
			line(figure, "io", 0)
		}
	}' /tmp/native /tmp/vireo /tmp/kvm
}

: >/tmp/vireo
: >/tmp/kvm
part native $load disk $disk
measure vireo io0
table
rmmod vireo

# With one processor whoever polls keeps those off that it waits for.
modprobe kvm_amd
echo 0 >/sys/module/kvm/parameters/halt_poll_ns
modprobe -a tun vhost_net
mkdir -p /dev/net
[ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200
measure kvm io1
table
[ -z "$failed" ] || echo "# failed:$failed"
[ -z "$failed" ]
