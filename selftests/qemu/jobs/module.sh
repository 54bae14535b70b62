# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# The module's own life: loading, unloading, refusing to be unloaded, and leaving
# nothing behind.
#
# load: none
# guests: 6.1-cloud
# machine: cpus=2 memory=2048 time=300

# shellcheck source=lib.sh
. /jobs/lib

loaded()
{
	grep -q '^vireo ' /proc/modules
}

cycle()
{
	i=0
	while [ $i -lt 20 ]; do
		modprobe vireo && [ -c /dev/vireo ] && rmmod vireo || return 1
		i=$((i + 1))
	done
}

# MiB that are free, once everything that can be dropped is; what lies on the
# processors' own lists, 2 MiB pages too, is free as well
free_memory()
{
	sync
	echo 3 >/proc/sys/vm/drop_caches
	sleep 1
	awk '/^(MemFree|Buffers|Cached):/ { n += $2 } $1 == "count:" { n += 4 * $2 }
	     END { print int(n / 1024) }' /proc/meminfo /proc/zoneinfo
}

# Bochs boots a guest in a minute and more of its time.
wait=60 lives=5
[ "$EMULATOR" = qemu ] || wait=300 lives=1

# Start a guest that stays, in the background; wait for its user space.
start()
{
	: >/tmp/console
	vireo run --name life --kernel /guests/vmlinuz-6.1-cloud --initrd /guests/initrd \
		--vcpus 2 --memory 128M --append "quiet vireo.do=hang" \
		</dev/null >/tmp/console 2>&1 &
	pid=$!
	waited=0
	while ! grep -q 'vireo: guest up' /tmp/console; do
		waited=$((waited + 1))
		[ $waited -lt $wait ] && kill -0 $pid 2>/dev/null || return 1
		sleep 1
	done
}

end()
{
	kill -KILL $pid 2>/dev/null
	wait $pid 2>/dev/null
	return 0
}

exits()
{
	vireo stat life 2>/dev/null | awk '$1 == "exits" { print $2 }'
}

# The host sleeps for two seconds (S3): its processors lose all that they held.
sleeps()
{
	echo 0 >/sys/class/rtc/rtc0/wakealarm
	echo +2 >/sys/class/rtc/rtc0/wakealarm
	echo mem >/sys/power/state
}

# Whether the guest still does something; idle it has a tick now and then.
goes_on()
{
	was=$(exits)
	waited=0
	while [ "$(exits)" = "$was" ]; do
		waited=$((waited + 1))
		[ $waited -lt 20 ] || return 1
		sleep 1
	done
}

# What the kernel leaves open, the tool says, and only that.
leaks()
{
	vireo doctor >/tmp/doctor
	for file in /sys/devices/system/cpu/vulnerabilities/*; do
		name=${file##*/} want=0
		[ "$name" = itlb_multihit ] || ! grep -q ulnerable "$file" || want=1
		[ "$(grep -c "speculation.* $name" /tmp/doctor)" = $want ] || return 1
	done
}

echo "# begin module"
check "loaded and unloaded twenty times" cycle
check "loads" modprobe vireo
check "/dev/vireo is there" test -c /dev/vireo
check "the tool says what the host leaves open to guests" leaks
check "only its owner and group may open it" test "$(stat -c %a /dev/vireo)" = 660
if start; then
	tap ok "a guest runs"
	check "is not unloaded while in use" sh -c '! rmmod vireo 2>/dev/null'
	check "is still loaded" loaded
	if [ "$EMULATOR" = qemu ]; then
		check "the host sleeps and wakes up" sleeps
		check "the guest goes on" goes_on
	else
		tap ok "the host sleeps and wakes up # SKIP not with $EMULATOR"
	fi
	# In the middle of the run, by the signal that no handler sees
	end
	sleep 1
	check "is unloaded when the guest was killed" rmmod vireo
else
	tap "not ok" "a guest runs"
	quote /tmp/console
	end
fi
# From here on: what the kernel keeps after the first guest, it keeps once.
before=$(free_memory)
check "loads again" modprobe vireo
i=0
while [ $i -lt $lives ] && start; do
	end
	i=$((i + 1))
done
check "guests are started and killed, one after the other" test $i = $lives
check "is unloaded" rmmod vireo
check "no slab cache is left" sh -c '! grep -q vireo /proc/slabinfo'
# The debug kernel's KASAN keeps some in quarantine, and its kmemleak finds leaks.
limit=8
[ "$KERNEL" = debug ] && limit=64
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
	after=$(free_memory)
	[ $((before - after)) -lt $limit ] && break
done
check "no memory is lost" test $((before - after)) -lt $limit
echo "# $before MiB free before, $after after"
tap_end
status=$?
echo "# end module status=$status seconds=$(cut -d. -f1 /proc/uptime)"
exit $status
