#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# /init of the first kernel: loads what is to be tried, uses some memory, panics.
export PATH=/bin:/sbin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /noise
mount -t tmpfs -o size=50% noise /noise
. /lab.conf		# CRASH_COMMAND_LINE, NOISE_MIB

dd if=/dev/urandom of=/noise/noise bs=1M count="$NOISE_MIB" 2>/dev/null
kexec -p /crash-kernel --initrd=/crash-initrd --append="$CRASH_COMMAND_LINE" || {
	echo "LAB-FAIL kexec -p failed; crashkernel= too small?"
	poweroff -f
}
rm /crash-kernel /crash-initrd
echo "LAB-PANIC-NEXT"
# From the first CPU: a crash kernel that runs on another one and starts that resets the machine.
taskset 1 sh -c 'echo c >/proc/sysrq-trigger'
echo "LAB-FAIL no panic"
poweroff -f
