# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# The slow devices: hvc0 as the console, and random numbers; what is printed and
# typed arrives, however slow the other side is; both are taken away, reset and put
# to sleep, and are there in clones, whose random numbers are their own.
#
# guests: 6.1-cloud 6.12-cloud
# drivers: 6.1-cloud 6.12-cloud
# machine: cpus=2 memory=2048 time=600 limit=150

# shellcheck source=lib.sh
. /jobs/lib

mkdir -p /tmp/work /tmp/log
head -c 200000 /dev/urandom | base64 >/tmp/work/text
sum=$(md5sum </tmp/work/text | cut -d' ' -f1)

# pack SCRIPT: /tmp/initrd-KERNEL run it, and find text and functions
pack()
{
	mkdir -p /tmp/tree
	cp /tmp/work/text /tmp/tree/text
	cat - "$1" >/tmp/tree/script <<-'END'
		ok() { what=$1; shift; if "$@"; then echo "guest: ok $what"; else echo "guest: not ok $what"; fi; }
		fails() { ! "$@" 2>/dev/null; }
		soon() { for i in $(seq 100); do eval "$1" && return; usleep 100000; done; return 1; }
		random() { dd if=/dev/hwrng bs=256 count=16 iflag=fullblock 2>/dev/null | md5sum; }
		numbers() { one=$(random); two=$(random); test -n "$one" -a "$one" != "$two" -a "$one" != "$(dd if=/dev/zero bs=256 count=16 2>/dev/null | md5sum)"; }
		quiet() { dmesg | grep -E 'BUG|WARNING|Oops|Call Trace|blocked for' | sed 's/^/guest: # /'; dmesg | grep -qE 'BUG|WARNING|Oops|Call Trace|blocked for'; }
	END
	for kernel in 6.1-cloud 6.12-cloud; do
		{ cat "/guests/initrd-shell-$kernel"; (cd /tmp/tree && find script text | cpio -o -H newc 2>/dev/null); } \
			>"/tmp/initrd-$kernel"
	done
}

# vm NAME KERNEL OPTION...
vm()
{
	name=$1 kernel=$2
	shift 2
	timeout -s KILL "$LIMIT" vireo run --name "$name" --kernel "/guests/vmlinuz-$kernel" \
		--initrd "/tmp/initrd-$kernel" --memory 256M "$@"
}

shown()
{
	tr -d '\r\000' <"$1" | grep -v '^[A-Za-z0-9+/=]*$' | tail -n 60 | sed 's/^/#   /'
}

judge() # NAME THINGS
{
	tr -d '\r\000' </tmp/console >/tmp/text
	check "$1: powered off" test "$status" = 0
	results "$1"
	check "$1: did $2 things" test "$(wc -l </tmp/results)" = "$2"
	if [ "$status" != 0 ] || grep -q 'guest: not ok' /tmp/text || [ "$(wc -l </tmp/results)" != "$2" ]; then
		shown /tmp/text
	fi
}

# The console itself: all that follows comes through it, to one who reads slowly.
console()
{
	cat >/tmp/work/script <<-'END'
		ok "the console is hvc0" test "$(cat /sys/class/tty/console/active)" = hvc0
		ok "drivers loaded by modalias" grep -q '^vireo_rng ' /proc/modules
		ok "the kernel has a source of random numbers" test "$(cat /sys/class/misc/hw_random/rng_current)" = vireo_rng
		ok "... which gives some" numbers
		echo "guest: text"
		cat /text
		echo "guest: end"
		stty raw -echo
		echo "guest: type"
		sleep 3
		ok "input waits" test "$(head -c 8000 | md5sum)" = "$(head -c 8000 /text | md5sum)"
		stty sane
		echo 4 >/proc/sys/kernel/printk
		for i in $(seq 200); do echo "<3>guest-kernel: $i"; done >/dev/kmsg
		ok "nothing to complain of" fails quiet
	END
	pack /tmp/work/script
	rm -f /tmp/fifo
	mkfifo /tmp/fifo
	: >/tmp/console
	{ until grep -q 'guest: type' /tmp/console; do sleep 1; done; head -c 8000 /tmp/work/text; } |
		vm con "$1" --vcpus "$2" --console hvc --rng --append "quiet printk.devkmsg=on vireo.do=script" >/tmp/fifo 2>/tmp/error &
	pid=$!
	sleep 4
	while dd bs=1k count=32 2>/dev/null | tee /tmp/chunk && [ -s /tmp/chunk ]; do
		usleep 20000
	done </tmp/fifo >/tmp/console
	wait $pid
	status=$?
	judge "$1" 6
	check "$1: all that was printed, in order" test "$(sed -n '/^guest: text/,/^guest: end/p' /tmp/text |
		sed '1d;$d' | md5sum | cut -d' ' -f1)" = "$sum"
	check "$1: all that the kernel printed" test "$(grep -o 'guest-kernel: .*' /tmp/text | md5sum)" = \
		"$(seq 200 | sed 's/^/guest-kernel: /' | md5sum)"
	check "$1: early messages through the serial port" grep -q 'Linux version' /tmp/text
}


# Taken away, put to sleep and unloaded while they are used; the console is the serial
# port, and what was found comes at the end, when nobody prints to hvc0 any more.
devices()
{
	cat >/tmp/work/script <<-'END'
		exec 3>&1 >/found
		unset LINES COLUMNS	# which busybox takes for the size, whatever the terminal says
		dmesg -n 1
		terminal=$(basename /sys/bus/pci/drivers/vireo_console/0*)
		source=$(basename /sys/bus/pci/drivers/vireo_rng/0*)
		mknod /hvc c $(tr : ' ' </sys/class/tty/hvc0/dev)	# the other node comes and goes
		prints() { while :; do head -c 3000 /text >/hvc; usleep 10000; done 2>/dev/null; }
		types() { while :; do cat /hvc >/dev/null; usleep 10000; done 2>/dev/null; }
		asks() { while :; do random; done >/dev/null 2>&1; }
		answers() { echo "hvc: $1" >/dev/hvc0; }
		prints & a=$!
		types & b=$!
		asks & c=$!
		for i in 1 2 3; do
			usleep 400000
			echo $terminal >/sys/bus/pci/drivers/vireo_console/unbind
			echo $source >/sys/bus/pci/drivers/vireo_rng/unbind
			usleep 100000
			echo $terminal >/sys/bus/pci/drivers/vireo_console/bind
			echo $source >/sys/bus/pci/drivers/vireo_rng/bind
		done
		ok "unbound and bound under load" answers bound
		ok "so is the source" numbers
		if echo devices 2>/dev/null >/sys/power/pm_test; then
			for i in 1 2 3; do echo freeze >/sys/power/state; done
		fi
		ok "puts to sleep under load" answers slept
		ok "the source, too" numbers
		kill $a $b $c
		killall -q cat dd head
		wait
		ok "unloads" soon 'rmmod vireo_console 2>/dev/null'
		ok "and the source" soon 'rmmod vireo_rng 2>/dev/null'
		insmod /lib/modules/*/updates/vireo_rng.ko
		insmod /lib/modules/*/updates/vireo_console.ko
		ok "loads again" answers loaded
		ok "and gives numbers" numbers
		ok "its size is the terminal's" soon 'test "$(stty size </dev/hvc0)" = "33 77"'
		ok "the serial port has an interrupt" grep -q 'IO-APIC.* ttyS0' /proc/interrupts
		interrupts() { awk '/LOC:/ { for (i = 2; $i ~ /^[0-9]+$/; i++) n += $i } END { print n }' /proc/interrupts; }
		before=$(interrupts)
		sleep 3
		woken=$(($(interrupts) - before))
		ok "nobody polls: woken $woken times in 3 seconds" test $woken -lt 120
		ok "nothing to complain of" fails quiet
		exec >&3
		cat /found
		echo "guest: now resize"
		ok "it follows" soon 'test "$(stty size </dev/hvc0)" = "44 99"'
		dmesg -c >/dev/null
		echo "guest: now copy"
		ok "a source that was copied is asked" soon 'dmesg | grep -q "vireo_rng.*reseeded"'
	END
	pack /tmp/work/script
	stty -F /dev/ttyS0 rows 33 cols 77
	: >/tmp/console
	{
		until grep -q 'guest: now resize' /tmp/console; do sleep 1; done
		stty -F /dev/ttyS0 rows 44 cols 99
		until grep -q 'guest: now copy' /tmp/console; do sleep 1; done
		vireo stat dev --json >/tmp/stat
		vireo resize dev rng0
	} &
	# Standard input is what a terminal is known by.
	vm dev "$1" --vcpus "$2" --console hvc --rng --append "console=ttyS0 quiet vireo.do=script" \
		</dev/ttyS0 >/tmp/console 2>/tmp/error
	status=$?
	stty -F /dev/ttyS0 rows 24 cols 80
	judge "$1" 14
	for what in bound slept loaded; do
		check "$1: prints what it says: $what" grep -q "hvc: $what" /tmp/text
	done
	check "$1: stat shows both" sh -c 'grep -q console0 /tmp/stat && grep -q rng0 /tmp/stat'
}

# numbers_of NAME...: those that the guests have printed
numbers_of()
{
	for guest in "$@"; do
		tr -d '\r' <"/tmp/log/$guest.log" | sed -n 's/^guest: number //p'
	done
}

# counts NAME N: wait until it has printed N numbers
counts()
{
	tries=0
	while [ $((tries += 1)) -le "$LIMIT" ]; do
		[ "$(numbers_of "$1" | wc -l)" -ge "$2" ] && return
		sleep 1
	done
	quote "/tmp/log/$1.log" 20
	false
}

# clones NAME OPTION...: two clones of a guest; numbers that were had twice in /tmp/twice
clones()
{
	name=$1
	shift
	vm "$name" 6.1-cloud "$@" --append "loglevel=7 vireo.do=script" </dev/null >"/tmp/log/$name.log" 2>&1 &
	check "$name: a guest prints random numbers" counts "$name" 5
	check "$name: two clones" vireo fork "$name" --count 2 --log /tmp/log
	for guest in "$name-1" "$name-2"; do
		check "$name: $guest prints" counts "$guest" 8
	done
	vireo stop --tree "$name"
	numbers_of "$name" "$name-1" "$name-2" | sort | uniq -d >/tmp/twice
}

copies()
{
	cat >/tmp/work/script <<-'END'
		while :; do
			echo "guest: number $(head -c 16 /dev/urandom | xxd -p)"
			usleep 200000
		done
	END
	pack /tmp/work/script
	clones own --console hvc --rng
	for guest in own-1 own-2; do
		check "$guest: has reseeded" grep -q 'vireo_rng.*reseeded' "/tmp/log/$guest.log"
	done
	check "its parent was not asked to" sh -c '! grep -q reseeded /tmp/log/own.log'
	check "numbers of its own from the first on, or the second" test "$(wc -l </tmp/twice)" -le 1
}

refuses() # PATTERN COMMAND...
{
	pattern=$1
	shift
	if "$@" </dev/null >/tmp/refused 2>&1 || ! grep -q "$pattern" /tmp/refused; then
		quote /tmp/refused
		false
	fi
}

echo "# begin console"
console 6.1-cloud 1
console 6.12-cloud 2
devices 6.1-cloud 2
devices 6.12-cloud 1
copies
check "no such console" refuses 'console .hvd.' vm none 6.1-cloud --console hvd
check "nowhere" refuses 'console .hvc,.' vm none 6.1-cloud --console hvc,
check "no such file" refuses 'cannot open the console' vm none 6.1-cloud --console hvc,file:/nowhere/file
tap_end
status=$?
echo "# end console status=$status seconds=$(cut -d. -f1 /proc/uptime)"
exit $status
