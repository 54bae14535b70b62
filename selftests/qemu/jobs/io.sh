# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# Disk and network of a Debian guest, by the tools that people trust: fio that
# verifies, a host's device that records what was flushed when, iperf3 both ways with
# and without offloads, XDP at both ends, tcpdump, a bridge and a network namespace.
#
# tests: vmm
# guests: 6.1-cloud
# drivers: 6.1-cloud
# guest-modules: ext4 crc32c_generic
# modules: virtio_pci virtio_blk ext4 crc32c_generic brd dm_mod dm_log_writes bridge
# disk: debian
# machine: cpus=2 memory=2560 time=1200 limit=800

# shellcheck source=lib.sh
. /jobs/lib

cat >/tmp/script <<'END'
ok() { what=$1; shift; if "$@"; then echo "guest: ok $what"; else echo "guest: not ok $what"; fi; }
soon() { for i in $(seq 60); do eval "$1" && return; sleep 0.5; done; return 1; }
port=$(basename /sys/class/net/e*)
verify() { fio --name=v --filename=/dev/vrdb --direct=1 --ioengine=libaio --verify=crc32c --verify_fatal=1 "$@" >/tmp/fio 2>&1 || { tail -n 20 /tmp/fio | sed 's/^/guest: # /'; false; }; }
ok "fio: random writes, four jobs, verified" verify --rw=randwrite --bsrange=4k-64k --iodepth=16 --numjobs=4 --offset_increment=4m --size=4m
ok "fio: odd blocks, verified" verify --rw=randwrite --bs=512 --iodepth=32 --size=1m
ok "fio: reads and writes mixed, verified" verify --rw=randrw --bs=8k --iodepth=8 --size=8m --fsync=16
ok "the disk has a polled queue" test "$(cat /sys/block/vrdb/queue/io_poll)" = 1
ok "fio: polled, verified" verify --ioengine=io_uring --hipri=1 --rw=randrw --bs=4k --iodepth=8 --size=2m
i=0
while [ $i -lt 16 ]; do
	yes "block $i" | head -c 4096 >/tmp/page
	dd if=/tmp/page of=/dev/vrdc bs=4096 seek=$i oflag=direct conv=fsync,notrunc status=none
	i=$((i + 1))
done
i=0
while [ $i -lt 16 ]; do
	yes "block $i" | head -c 4096 >/tmp/page
	dd if=/tmp/page of=/dev/vrdc bs=4096 seek=$((256 + i)) oflag=direct,dsync conv=notrunc status=none
	i=$((i + 1))
done
pings() { ping -c 1 -W 1 192.168.77.1 >/dev/null 2>&1; }
flow() { iperf3 -c 192.168.77.1 -n 16M "$@" >/tmp/iperf 2>&1 || { tail -n 20 /tmp/iperf | sed 's/^/guest: # /'; false; }; }
errors() { test "$(cat /sys/class/net/$port/statistics/*_errors | sort -u)" = 0; }
ok "iperf3: sends" flow
ok "iperf3: receives" flow -R
ok "offloads are switched off" ethtool -K $port tx off rx off tso off gro off
ok "... and are off" sh -c "ethtool -k $port | grep -q '^tx-checksumming: off' && ethtool -k $port | grep -q '^tcp-segmentation-offload: off'"
ok "iperf3: sends without" flow
ok "iperf3: receives without" flow -R
ok "offloads are switched on" ethtool -K $port tx on rx on tso on gro on
ok "iperf3: sends with them again, in four streams" flow -P 4
ok "no errors counted" errors
counter() { ethtool -S $port | sed -n "s/^ *$1: //p"; }
ok "ethtool -S: what each queue did" test "$(counter 0_tx_packets)" -gt 0 -a "$(counter 1_rx_packets)" -gt 0
ok "ethtool -L: one pair" sh -c "ethtool -L $port combined 1 && ethtool -l $port | tail -n 2 | grep -q 'Combined:.*1'"
ok "... works" soon flow
ok "... three there are not" sh -c "! ethtool -L $port combined 3 2>/dev/null"
ethtool -L $port combined 2
ok "ethtool -G: other rings" sh -c "ethtool -G $port rx 1024 tx 64 && ethtool -g $port | grep -q '^TX:.*64$'"
ok "... work" soon flow
ok "... too small a one is refused" sh -c "! ethtool -G $port rx 8 2>/dev/null"
wget -q -O /tmp/xdp http://192.168.77.1/xdp && chmod +x /tmp/xdp
ok "XDP in the driver: passes" sh -c "/tmp/xdp $port pass && ping -c 2 -W 2 192.168.77.1 >/dev/null"
ok "... drops" sh -c "/tmp/xdp $port drop && ! ping -c 2 -W 1 192.168.77.1 >/dev/null"
ok "... is gone" sh -c "/tmp/xdp $port off && ping -c 2 -W 2 192.168.77.1 >/dev/null"
echo "guest: now drop"
ok "XDP at the host's end: drops" soon '! pings'
echo "guest: now pass"
ok "... is gone" soon pings
echo "guest: now bridge"
ok "through a bridge of the host" soon 'pings && test -n "$(ip neigh show 192.168.77.1 | grep "$(wget -q -O - http://192.168.77.1/bridge.mac)")"'
echo "guest: now namespace"
ok "into a network namespace" soon '! pings'
# Without a carrier the lease was dropped, and there is nobody to renew it.
ok "... where it is answered" soon "ip addr add 192.168.77.50/24 dev $port 2>/dev/null; pings"
complaints() { dmesg | grep -E "BUG|WARNING|Oops|Call Trace|I/O error|blocked for" | head -n 5 | sed "s/^/guest: # /" | grep .; }
if complaints; then ok "nothing to complain of" false; else ok "nothing to complain of" true; fi
systemctl --no-block poweroff
END

# Programs of that Debian, for the host
programs()
{
	mkdir -p /mnt /peer
	mount -t ext4 -o ro,noload /dev/vda /mnt || return
	for program in /usr/bin/iperf3 /usr/bin/tcpdump; do
		for file in "$program" $(chroot /mnt ldd "$program" | grep -o '/[^ ]*'); do
			chroot /mnt cat "$file" >"/peer/${file##*/}"	# links are Debian's
		done
	done
	chmod +x /peer/*
	umount /mnt
	cat /selftests/vmm/xdp >/guests/xdp
}

peer() # PROGRAM ARGUMENT...
{
	program=$1
	shift
	/peer/ld-linux-x86-64.so.2 --library-path /peer "/peer/$program" "$@"
}

to_bridge()
{
	ip link add name br0 type bridge
	ip link set br0 up
	ip addr del 192.168.77.1/24 dev io0
	ip link set io0 master br0
	cat /sys/class/net/br0/address >/guests/bridge.mac
	ip addr add 192.168.77.1/24 dev br0
}

to_namespace()
{
	ip link set io0 nomaster
	unshare -n sleep 600 &
	holder=$!
	sleep 3		# which the guest is to notice
	ip link set io0 netns $holder
	nsenter -t $holder -n sh -c 'ip link set io0 up; ip addr add 192.168.77.1/24 dev io0'
}

# Answers the guest's wishes.
serve()
{
	tail -n +1 -f /tmp/console 2>/dev/null | while read -r line; do
		case $line in
		*'guest: ok fio: polled'*) vireo stat io --json >/tmp/stat ;;
		*'guest: now drop'*) /selftests/vmm/xdp io0 drop generic ;;
		*'guest: now pass'*) /selftests/vmm/xdp io0 off generic ;;
		*'guest: now bridge'*) to_bridge ;;
		*'guest: now namespace'*) to_namespace ;;
		*'nothing to complain of'*) break ;;
		esac
	done
}

echo "# begin io"
modprobe -a virtio_pci virtio_blk crc32c_generic ext4 dm_mod dm_log_writes bridge
modprobe brd rd_nr=2 rd_size=65536
check "programs for the host" programs
recorder=$(/selftests/vmm/dmlog create /dev/ram0 /dev/ram1 131072)
check "a disk that records" test -b "${recorder:-none}"
truncate -s 32M /tmp/disk
debian_initrd 6.1-cloud /tmp/script
: >/tmp/console
serve &
debian_network io0 &
{
	until ip -o addr show io0 2>/dev/null | grep -q 192.168.77.1; do
		sleep 1
	done
	peer iperf3 -s >/tmp/iperf.log 2>&1 &
	exec /peer/ld-linux-x86-64.so.2 --library-path /peer /peer/tcpdump -Z root -n -l -i io0 icmp >/tmp/dump 2>/tmp/dump.error
} &
timeout -s KILL "$LIMIT" vireo run --name io --kernel /guests/vmlinuz-6.1-cloud --initrd /tmp/initrd \
	--vcpus 2 --memory 512M --disk /dev/vda --disk /tmp/disk --disk "$recorder" --net io0 \
	--append "quiet loglevel=3 vireo.do=root root=/dev/vrda vireo_blk.poll_queues=1" </dev/null >/tmp/console 2>&1
status=$?
tr -d '\r\000' </tmp/console >/tmp/text
check "powered off" test $status = 0
results guest
check "did 30 things" test "$(wc -l </tmp/results)" = 30
if [ $status != 0 ] || grep -q 'guest: not ok' /tmp/text; then
	quote /tmp/text 60
fi
/selftests/vmm/dmlog remove
check "what the guest was told to be durable was flushed before" /selftests/vmm/dmlog check /dev/ram1 16
# Of the second disk's two queues
check "what was polled for went through a queue without interrupts" awk '
	/"name":"disk1"/ { on = 1 }
	on && /"queue":1/ { queue = 1 }
	queue && /"entries":/ { entries = $0; gsub(/[^0-9]/, "", entries) }
	queue && /"interrupts":/ { interrupts = $0; gsub(/[^0-9]/, "", interrupts); exit }
	END { exit !(entries + 0 > 500 && interrupts == "0") }' /tmp/stat
check "tcpdump sees both directions" sh -c 'grep -q "ICMP echo request" /tmp/dump && grep -q "ICMP echo reply" /tmp/dump'
[ -s /tmp/dump ] || quote /tmp/dump.error
tap_end
status=$?
echo "# end io status=$status seconds=$(cut -d. -f1 /proc/uptime)"
exit $status
