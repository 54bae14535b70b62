# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# A thousand clones of a guest with 256 MiB, all of them alive in a host with 4 GiB, and
# each of them has run: it was asleep when it was made, woke up and printed.
#
# guests: 6.1-cloud
# tests: qemu
# machine: cpus=1 memory=4096 time=1800 limit=600 flags=,-erms,-fsrm

# shellcheck source=lib.sh
. /jobs/lib

count=1000
mkdir -p /tmp/work /tmp/log
cat >/tmp/work/script <<'END'
dmesg -n 1
echo "guest: count 1"
sleep 30
echo "guest: count 2"
sleep 100000
END
(cd /tmp/work && echo script | cpio -o -H newc 2>/dev/null) | cat /guests/initrd-shell - >/tmp/initrd

number()
{
	awk -v name="$1:" '$1 == name { print $2 }' /proc/meminfo
}

# counted N: N clones have printed that they count
counted()
{
	for _ in $(seq "$LIMIT"); do
		ran=$(grep -l 'guest: count 2' /tmp/log/*.log | wc -l)
		[ "$ran" -ge "$1" ] && return
		sleep 1
	done
	false
}

vireo run --name web --kernel /guests/vmlinuz-6.1-cloud --initrd /tmp/initrd --memory 256M \
	--append "quiet vireo.do=script" </dev/null >/tmp/web.log 2>&1 &
until grep -q 'guest: count 1' /tmp/web.log; do
	kill -0 $! || exit 1
	sleep 1
done
echo "# it runs"
sleep 2
# Once before: what is allocated once is there then.
vireo fork web --name first --log /tmp >/dev/null
before=$(number MemFree)
begin=$(cut -d' ' -f1 /proc/uptime)
vireo fork web --count $count --log /tmp/log >/tmp/names
check "a thousand clones" test "$(wc -l </tmp/names)" = $count
echo "# in $(echo "$(cut -d' ' -f1 /proc/uptime) - $begin" | bc) seconds"
made=$(((before - $(number MemFree)) / count))
check "each of them has run" counted $count
after=$(number MemFree)
check "all of them are there" test "$(vireo ls | grep -c '^ *web-[0-9]* .* running ')" = $count
echo "bench: clones_alive vireo=$ran unit=clones"
echo "bench: clones_memory_new vireo=$((made * 1024)) unit=bytes"
echo "bench: clones_memory_ran vireo=$(((before - after) / count * 1024)) unit=bytes"
grep -E '^(Mem|AnonPages|Slab|KernelStack|PageTables)' /proc/meminfo | sed 's/^/# /'
check "they end together" vireo stop --tree web
sleep 5
check "all of them" test "$(vireo ls | wc -l)" = 1
check "and give their memory back" test $((before - $(number MemFree))) -lt 16384
tap_end
