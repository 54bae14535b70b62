# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# What `make run` shows: one guest, on the terminal.
#
# guests: 6.1-cloud
# machine: cpus=2 memory=1536 time=600

initrd=/guests/initrd
append=quiet
if [ -n "$INTERACTIVE" ]; then
	initrd=/guests/initrd-shell
	append="$append vireo.do=shell vireo.size=${HEIGHT}x${WIDTH} TERM=$TERM"
fi
exec vireo run --name demo --kernel /guests/vmlinuz-6.1-cloud --initrd $initrd \
	--vcpus 2 --memory 512M --append "$append"
