# SPDX-License-Identifier: GPL-2.0
# guests: 6.1-cloud 6.12
# tests: guest
# machine: cpus=2 memory=3072 time=300 limit=20
. /jobs/lib
for k in 6.1-cloud; do
for n in 1 2; do
echo "== $k $n"
timeout -s KILL 45 vireo run --name x --kernel "/guests/vmlinuz-$k" --initrd /guests/initrd --vcpus $n --memory 1024M --append "console=ttyS0 panic=-1 earlyprintk=serial vireo.do=test" </dev/null >/tmp/con 2>&1
echo status $?
grep -E "guest-test|guest up|WARN|BUG|Call Trace|unstable|powered" /tmp/con
done
done
grep -i -A3 tsc .tmp.con
