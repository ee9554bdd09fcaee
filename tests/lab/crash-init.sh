#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# /init of the crash kernel: copy /proc/vmcore to the first disk and power off.
export PATH=/bin:/sbin

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
echo "LAB-CRASH-KERNEL $(uname -r)"

while read -r module; do
	insmod "/modules/$module.ko" || echo "LAB-NOTE insmod $module failed"
done </modules/order
for tries in 1 2 3 4 5 6 7 8 9 10; do
	[ -b /dev/vda ] && break
	sleep 0.5
done

if [ -e /proc/vmcore ]; then
	/vmcopy /proc/vmcore /dev/vda
else
	echo "LAB-FAIL crash-init: no /proc/vmcore"
fi
[ -x /after-copy.sh ] && /after-copy.sh
poweroff -f
