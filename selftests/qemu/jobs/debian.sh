# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# A Debian on a disk, and an interface to the host: what one boot writes the next
# finds, under another kernel, even if the VMM was killed in between; and disks that
# cannot be a root file system.
#
# guests: 6.1 6.1-cloud 6.12-cloud
# drivers: 6.1 6.1-cloud 6.12-cloud
# guest-modules: ext4 crc32c_generic
# modules: virtio_pci virtio_blk
# disk: debian
# machine: cpus=1 memory=2048 time=1200 limit=300

# shellcheck source=lib.sh
. /jobs/lib

# What each boot begins with
cat >/tmp/begin <<END
served="$(sha256sum </guests/vmlinuz-6.1-cloud)"
END
cat >>/tmp/begin <<'END'
ok() { what=$1; shift; if "$@"; then echo "guest: ok $what"; else echo "guest: not ok $what"; fi; }
same() { [ "$(md5sum </root/$1)" = "$(cat /root/$1.md5)" ]; }
write() { dd if=/dev/urandom of=/root/$1 bs=1M count=$2 status=none; md5sum </root/$1 >/root/$1.md5; sync; }
ok "the root file system is on vireo_blk" grep -q '^/dev/vrda / ext4 rw' /proc/mounts
ok "it is a Debian 12" grep -q '^VERSION_ID="12"' /etc/os-release
ok "an address from the host" sh -c 'ip -o -4 addr | grep -q " 192\.168\.77\.[2-9]/24 "'
ok "downloads a file" wget -q -O /tmp/file http://192.168.77.1/vmlinuz-6.1-cloud
ok "... which is right" test "$(sha256sum </tmp/file)" = "$served"
END

cat /tmp/begin - >/tmp/script1 <<'END'
write a 24
echo "guest: wrote a $(cut -c1-32 /root/a.md5)"
systemctl --no-block poweroff
END
cat /tmp/begin - >/tmp/script2 <<'END'
ok "the file system was unmounted" sh -c '! dmesg | grep -q "EXT4-fs.*recovery"'
ok "a file is as it was written" same a
ok "and has the right sum" echo "guest: found a $(md5sum </root/a | cut -c1-32)"
write b 24
echo "guest: now kill"
sleep 1000
END
cat /tmp/begin - >/tmp/script3 <<'END'
ok "the journal was recovered" sh -c 'dmesg | grep -q "EXT4-fs.*recovery complete"'
ok "the old file is as it was written" same a
ok "what was synced before the VMM was killed, too" same b
ok "so are Debian's own files" sh -c 'cd / && md5sum --quiet --ignore-missing -c /var/lib/dpkg/info/libc6*.md5sums /var/lib/dpkg/info/systemd.md5sums'
ok "the disk and its file system have no errors" sh -c '! dmesg | grep -qE "EXT4-fs (error|warning)|I/O error|Oops|blocked for"'
systemctl --no-block poweroff
END

# boot KERNEL APPEND OPTION...: its exit status; the console is in /tmp/text
boot()
{
	kernel=$1
	append=$2
	shift 2
	timeout -s KILL "$LIMIT" vireo run --name debian --kernel "/guests/vmlinuz-$kernel" \
		--initrd /tmp/initrd --vcpus 2 --memory 512M "$@" \
		--append "quiet loglevel=3 vireo.do=root $append" </dev/null >/tmp/console 2>&1
	status=$?
	tr -d '\r\000' </tmp/console >/tmp/text
}

debian() # NUMBER KERNEL STATUS COUNT
{
	debian_initrd "$2" "/tmp/script$1"
	debian_network "deb$1" &
	network=$!
	boot "$2" root=/dev/vrda --disk /dev/vda --net "deb$1"
	kill $network 2>/dev/null
	kill "$(cat /tmp/udhcpd.pid)" "$(pidof httpd)" 2>/dev/null
	check "$2: ended with status $3" test "$status" = "$3"
	results "$2"
	check "$2: did $4 things" test "$(wc -l </tmp/results)" = "$4"
	if [ "$status" != "$3" ] || grep -q 'guest: not ok' /tmp/text || [ "$(wc -l </tmp/results)" != "$4" ]; then
		quote /tmp/text 60
	fi
}

# The disk is in use: by nobody else. And then it is pulled from under the guest's feet.
killer()
{
	until grep -q 'guest: now kill' /tmp/console; do
		sleep 1
	done
	vireo run --name second --kernel /guests/vmlinuz-6.1-cloud --disk /dev/vda </dev/null >/tmp/second 2>&1
	echo $? >/tmp/second.status
	vireo stop debian --kill && : >/tmp/killed
}

echo "# begin debian"
modprobe -a virtio_pci virtio_blk

debian 1 6.1-cloud 0 5
wrote=$(sed -n 's/^guest: wrote a //p' /tmp/text)
: >/tmp/console
killer &
debian 2 6.12-cloud 137 8
check "it was killed" test -e /tmp/killed
check "the sum that the first boot printed" grep -q "^guest: found a ${wrote:-none}$" /tmp/text
check "the disk cannot be had by two" test "$(cat /tmp/second.status)" = 1
check "... the second is told so" grep -q '/dev/vda is in use' /tmp/second
debian 3 6.1 0 10

debian_initrd 6.1-cloud /dev/null
boot 6.1-cloud root=/dev/vrda
check "no disk: the guest's kernel panics" test $status = 11
check "... and it said why" grep -q '^guest: cannot mount /dev/vrda: No such file' /tmp/text
truncate -s 16M /tmp/blank
boot 6.1-cloud root=/dev/vrda --disk /tmp/blank
check "a disk without file system: likewise" test $status = 11
check "... and says why" grep -q '^guest: cannot mount /dev/vrda: Invalid argument' /tmp/text
boot 6.1-cloud root=/dev/vrda --disk /tmp/none
check "a disk that is not there: an error, no guest" test $status = 1
check "... that names it" grep -q 'vireo: .*/tmp/none.*No such file' /tmp/text

tap_end
status=$?
echo "# end debian status=$status seconds=$(cut -d. -f1 /proc/uptime)"
exit $status
