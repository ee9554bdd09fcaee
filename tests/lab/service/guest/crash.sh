#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# /init of the crash kernel in the smallest case: busybox, and whatever was appended to the archive.
export PATH=/lab:/bin:/sbin:/usr/bin:/usr/sbin KILL=
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
echo "LAB-CRASH-KERNEL $(uname -r)"

while read -r module; do
	insmod "/modules/$module.ko" || echo "LAB-NOTE insmod $module failed"
done </modules/order

fail() {
	echo "LAB-FAIL $*"
	poweroff -f
}

disk() {		# NAME: waits for a disk
	for tries in 1 2 3 4 5 6 7 8 9 10; do
		[ -b "/dev/$1" ] && return
		sleep 0.5
	done
	fail "no disk $1: $(ls /dev/vd* 2>&1)"
}

# The kernel says so, and boots on with what there was room for.
dmesg | grep "Initramfs unpacking failed" && fail "the initramfs does not fit; crashkernel= too small?"
[ -e /proc/vmcore ] || fail "the crash kernel has no /proc/vmcore"
. /services.sh
. /steps.sh
echo "LAB-DONE"
poweroff -f
