#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# /init of the first kernel: load a crash kernel, run the workload, which ends in a panic.
export PATH=/bin:/sbin

fail() {
	echo "LAB-FAIL init: $*"
	poweroff -f
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /tmp /mnt/plain /mnt/small-blocks
mount -t tmpfs tmp /tmp
mount -t tmpfs shm /dev/shm

. /lab.conf		# WORKLOAD, ASK_FOR_DUMP, CRASH_COMMAND_LINE

while read -r module; do
	insmod "/modules/$module.ko" || echo "LAB-NOTE insmod $module failed"
done </modules/order

# Disks in the order QEMU is given them: vmcore, records, ext4, ext4 with 1K blocks, swap.
for tries in 1 2 3 4 5 6 7 8 9 10; do
	[ -b /dev/vde ] && break
	sleep 0.5
done
[ -b /dev/vde ] || fail "the virtio disks did not show up: $(ls /dev/vd* 2>&1)"

# Loaded before the workload takes a memory block offline, so that the block stays in the vmcore.
mount -t ext4 -o noinit_itable /dev/vdc /mnt/plain || fail "no ext4 on vdc"
cd /mnt/plain
kexec -p vmlinuz --initrd=initrd --append="$CRASH_COMMAND_LINE" ||
	fail "kexec -p failed; crashkernel= too large or too small?"
cd /
[ "$(cat /sys/kernel/kexec_crash_loaded)" = 1 ] || fail "no crash kernel is loaded"

if [ "$WORKLOAD" != none ]; then
	mount -t ext4 -o noinit_itable /dev/vdd /mnt/small-blocks || echo "LAB-NOTE no ext4 on vdd"
	mkswap /dev/vde >/dev/null && swapon /dev/vde || echo "LAB-NOTE no swap on vde"
fi

echo "LAB-READY"
/workload "$WORKLOAD" /dev/vdb $ASK_FOR_DUMP
fail "the workload came back with status $?"
