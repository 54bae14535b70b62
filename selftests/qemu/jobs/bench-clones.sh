# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# A thousand clones of a guest with 256 MiB, all of them alive in a host with 4 GiB, and
# each of them has run: it was asleep when it was made, woke up and printed. They are made
# of a paused VM after its time to wake up has come, so each does that at once.  Left alone
# it would then wake up 8 times a second; the emulator's one processor has no time for
# a thousand of that, so what wakes it is off: kcompactd, and two watchdogs.
#
# Not with -icount: QEMU then delivers some interrupts twice (Documentation/testing.rst), and
# now and then one of a thousand guests did not run.
#
# guests: 6.1-cloud
# tests: qemu
# machine: cpus=1 memory=4096 time=3600 flags=,-erms,-fsrm

# shellcheck source=lib.sh
. /jobs/lib

count=1000
mkdir -p /tmp/work /tmp/log
cat >/tmp/work/script <<'END'
dmesg -n 1
echo 0 >/proc/sys/vm/compaction_proactiveness
echo "guest: count 1"
read -t 5 line
echo "guest: count 2"
read line
END
(cd /tmp/work && echo script | cpio -o -H newc 2>/dev/null) | cat /guests/initrd-shell - >/tmp/initrd

number()
{
	awk -v name="$1:" '$1 == name { print $2 }' /proc/meminfo
}

now()
{
	cut -d' ' -f1 /proc/uptime
}

# counted N: N clones have printed that they count
counted()
{
	for _ in $(seq 60); do
		ran=$(grep -l 'guest: count 2' /tmp/log/*.log | wc -l)
		echo "# $ran have run after $(now) s"
		[ "$ran" -ge "$1" ] && return
		sleep 3
	done
	for log in $(grep -L 'guest: count 2' /tmp/log/*.log | head -n 3); do
		name=$(basename "$log" .log)
		echo "# $name has not:"
		vireo stat "$name" | sed 's/^/#   /'
		vireo stop "$name"	# which tells its registers
		quote "$log"
	done
	false
}

vireo run --name web --kernel /guests/vmlinuz-6.1-cloud --initrd /tmp/initrd --memory 256M \
	--append "quiet nowatchdog tsc=reliable vireo.do=script" </dev/null >/tmp/web.log 2>&1 &
until grep -q 'guest: count 1' /tmp/web.log; do
	kill -0 $! || exit 1
	sleep 1
done
echo "# it runs"
check "it is paused" vireo pause web
sleep 6
# Once before: what is allocated once is there then.
vireo fork web --name first --log /tmp >/dev/null
sleep 1
before=$(number MemFree)
cat /proc/meminfo >/tmp/before
begin=$(now)
while [ "$(cat /tmp/names 2>/dev/null | wc -l)" -lt $count ]; do
	vireo fork web --count 100 --log /tmp/log >>/tmp/names || break
	echo "# $(wc -l </tmp/names) clones after $(echo "$(now) - $begin" | bc) s, MemFree $(number MemFree) kB"
done
check "$count clones" test "$(wc -l </tmp/names)" = $count
check "each of them has run" counted $count
after=$(number MemFree)
check "all of them are there" test "$(vireo ls | grep -c '^ *web-[0-9]* .* running ')" = $count
echo "bench: clones_alive vireo=$ran unit=clones"
echo "bench: clones_memory_ran vireo=$(((before - after) / count * 1024)) unit=bytes"
# What it is made of, of each clone
awk -v n=$count 'NR == FNR { before[$1] = $2; next }
	{ each = ($2 - before[$1]) / n }
	each * each >= 1 { printf "# each: %s %.1f kB\n", $1, each }' /tmp/before /proc/meminfo
vireo stat web-1 | grep bytes | sed 's/^/# /'
grep -E '^(Rss|Pss|Shared|Private|Anon)' "/proc/$(vireo stat web-1 | awk '$1 == "pid" { print $2 }')/smaps_rollup" |
	sed 's/^/# /'
check "they end together" vireo stop --tree web
for _ in $(seq 60); do
	[ "$(vireo ls | wc -l)" = 1 ] && break
	sleep 1
done
sleep 5
check "all of them" test "$(vireo ls | wc -l)" = 1
check "and give their memory back" test $((before - $(number MemFree))) -lt 16384
tap_end
