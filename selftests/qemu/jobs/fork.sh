# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# Debian guests that are forked while they run: all go on, each its own machine,
# and none minds how the others end. And what is refused.
#
# guests: 6.1-cloud
# drivers: 6.1-cloud
# tests: vmm
# machine: cpus=2 memory=2048 time=900 limit=300

# shellcheck source=lib.sh
. /jobs/lib

mkdir -p /tmp/work /tmp/log

# Bochs, where VT-x is tried, has time for fewer guests.
guests="1 2" clones="disk-1 disk-2 disk-3"
if [ "$EMULATOR" != qemu ]; then
	guests=2 clones=disk-1 LIMIT=$((LIMIT * 3))
fi
pack_counter 6.1-cloud
guest=6.1-cloud

if [ "$EMULATOR" = qemu ]; then	# it tries the tool's library, not the processor
	run_test vmm/pause /selftests/vmm/pause || tap_failed=1
fi

echo "# begin fork"

for vcpus in $guests; do
	check "$vcpus vCPUs: a guest runs" start "web$vcpus" --vcpus $vcpus
	vireo fork "web$vcpus" --count 3 --log /tmp/log >/tmp/names
	check "$vcpus vCPUs: three clones" test "$(tr '\n' ' ' </tmp/names)" = "web$vcpus-1 web$vcpus-2 web$vcpus-3 "
	check "$vcpus vCPUs: they and their parent go on" goes_on "web$vcpus" "web$vcpus-1" "web$vcpus-2" "web$vcpus-3"
	check "$vcpus vCPUs: ls says who came from whom" listed "web$vcpus-2" "web$vcpus"
	vireo ls --json | grep -E '"(name|pause_ns|start_ns)"' | sed 's/^ */# /'
	check "$vcpus vCPUs: a clone of a clone" vireo fork "web$vcpus-2" --name "next$vcpus" --log /tmp/log
	check "$vcpus vCPUs: it goes on" goes_on "next$vcpus"
	check "$vcpus vCPUs: one is stopped" vireo stop "web$vcpus-2"
	check "$vcpus vCPUs: its clone goes on" goes_on "next$vcpus" "web$vcpus"
	check "$vcpus vCPUs: the numbers that are free are used" test "$(vireo fork "web$vcpus" --log /tmp/log)" = "web$vcpus-2"
	check "$vcpus vCPUs: a tree is stopped" vireo stop --tree "web$vcpus"
	sleep 1
	check "$vcpus vCPUs: all of it" test "$(vireo ls | grep -c "^ *web$vcpus")" = 0
	check "$vcpus vCPUs: what had lost its parent is another's" goes_on "next$vcpus"
	vireo stop "next$vcpus"
	check "$vcpus vCPUs: none saw anything odd" fine "web$vcpus" "web$vcpus-1" "web$vcpus-3" "next$vcpus"
done

# A disk that all read
dd if=/dev/urandom of=/tmp/work/disk bs=1M count=4 2>/dev/null
check "a guest reads a disk" start disk --vcpus 2 --disk /tmp/work/disk,ro
for i in $clones; do
	check "it is forked while it reads: $i" vireo fork disk --log /tmp/log
done
# shellcheck disable=SC2086 # several words
check "it and its clones go on" goes_on disk $clones
# shellcheck disable=SC2086
check "none saw anything odd, either" fine disk $clones
vireo stop --tree disk
if [ "$EMULATOR" = qemu ]; then
	check "a guest writes a disk" start rw --disk /tmp/work/disk
	check "which is refused" refuses 'disk0 .* is writable' vireo fork rw
	vireo stop rw
fi
check "no such machine" refuses 'no virtual machine named net' vireo fork net
check "no clones" refuses '1 to 1000 are possible' vireo fork net --count 0
check "no such directory" refuses 'cannot use /nowhere' vireo fork net --log /nowhere

# A paused one is a template.
check "a template" start template
vireo pause template
check "gives clones" vireo fork template --count 2 --log /tmp/log
check "that run" goes_on template-1 template-2
check "a name that is taken is refused" refuses 'named template is running' vireo fork template --name template
check "and stands still" listed template -
check "as before" sh -c 'vireo ls | grep -q "^template .* paused "'
vireo stop --tree template
sleep 1
check "no VM is left" test "$(vireo ls | wc -l)" = 1

tap_end
status=$?
echo "# end fork status=$status seconds=$(cut -d. -f1 /proc/uptime)"
exit $status
