# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# What `make run` shows: one guest, a Debian on a disk that asks the host for an
# address and downloads a file; on the terminal, if there is one. On Bochs, which is
# slow and has no such disk, the guest is no more than a kernel and its initramfs.
#
# guests: 6.1-cloud
# drivers: 6.1-cloud
# modules: virtio_pci virtio_blk
# disk: debian
# machine: cpus=2 memory=1536 time=600

# shellcheck source=lib.sh
. /jobs/lib

guest()
{
	vireo run --name demo --kernel /guests/vmlinuz-6.1-cloud --vcpus 2 --memory 512M "$@"
}

if [ "$EMULATOR" != qemu ]; then
	guest --initrd /guests/initrd --append quiet
	exit
fi

cat >/tmp/script <<END
sum="$(sha256sum </guests/vmlinuz-6.1-cloud)"
END
cat >>/tmp/script <<'END'
. /etc/os-release
disk=/dev/$(basename "$(readlink "/sys/dev/block/$(mountpoint -d /)")")
port=$(basename /sys/class/net/e*)
address=$(ip -o -4 addr show dev "$port" | awk '{ print $4 }')
driver() { basename "$(readlink "$1/device/driver")"; }
cd /root
if wget -q http://192.168.77.1/vmlinuz-6.1-cloud && [ "$(sha256sum <vmlinuz-6.1-cloud)" = "$sum" ]; then
	echo "vireo: guest runs: $PRETTY_NAME on $disk ($(driver "/sys/block/${disk#/dev/}"))," \
		"$address by DHCP on $port ($(driver "/sys/class/net/$port"))," \
		"downloaded $(stat -c %s vmlinuz-6.1-cloud) bytes, SHA-256 right"
fi
END
append="quiet loglevel=3 root=/dev/vrda vireo.do=root"
if [ -n "$INTERACTIVE" ]; then
	append="$append systemd.show_status=1"
else
	echo 'systemctl --no-block poweroff' >>/tmp/script
fi
debian_initrd 6.1-cloud /tmp/script
modprobe -a virtio_pci virtio_blk || exit 1
debian_network vireo0 &
guest --initrd /tmp/initrd --disk /dev/vda --net vireo0 --append "$append"
