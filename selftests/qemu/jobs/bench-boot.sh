# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# A whole run of the cloud kernel to its init, from the start of the tool on.
# `bench` gives the figure of the bare machine beside it.
#
# guests: 6.1-cloud
# tests: qemu
# machine: cpus=1 memory=1024 time=900

# shellcheck source=lib.sh
. /jobs/lib

# The first run brings the files into memory and is not counted.
for i in 1 2; do
	/selftests/qemu/ticks /tmp/ticks vireo run --name bench --kernel /guests/vmlinuz-6.1-cloud \
		--initrd /guests/initrd --vcpus 1 --memory 256M --no-default-append --append "$BENCH_APPEND" \
		</dev/null >/tmp/console 2>&1
	status=$?
	if [ $status != 0 ] || ! grep -q 'vireo: guest up' /tmp/console; then
		echo "# run $i: exit status $status"
		quote /tmp/console
		exit 1
	fi
done
echo "bench: boot vireo=$(cat /tmp/ticks) unit=instructions"
