#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# /init of a guest that is measured while it runs (see live.py): what /command says on the sixth disk.
export PATH=/bin:/sbin

fail() {
	echo "LAB-FAIL live-init: $*"
	poweroff -f
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev

. /lab.conf		# CRASH_COMMAND_LINE, empty if there is to be no crash kernel

while read -r module; do
	insmod "/modules/$module.ko" || echo "LAB-NOTE insmod $module failed"
done </modules/order
for tries in 1 2 3 4 5 6 7 8 9 10; do
	[ -b /dev/vdf ] && break
	sleep 0.5
done
mount -t ext4 -o ro /dev/vdf /mnt || fail "no Python on vdf"
mount -t ext4 -o noinit_itable /dev/vdc /mnt/plain || fail "no ext4 on vdc"
mount -t ext4 -o noinit_itable /dev/vdd /mnt/small-blocks || fail "no ext4 on vdd"
for directory in proc sys dev; do
	mount -o bind "/$directory" "/mnt/$directory"
done
mount -t tmpfs tmp /mnt/tmp

if [ -n "$CRASH_COMMAND_LINE" ]; then
	cd /mnt/plain
	kexec -p vmlinuz --initrd=initrd --append="$CRASH_COMMAND_LINE" || fail "kexec -p failed"
	cd /
fi

export PYTHONPATH=/opt PYTHONDONTWRITEBYTECODE=1
chroot /mnt $(cat /mnt/command)
fail "the program came back with status $?"
