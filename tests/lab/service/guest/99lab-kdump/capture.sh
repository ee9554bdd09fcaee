#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# What kdump-utils does with a local file system (mounted on /sysroot here) and its core_collector.

capture() {
	directory=/sysroot/var/crash/127.0.0.1-$(date +%F-%T)
	incomplete=$directory/vmcore-incomplete
	mkdir -p "$directory"
	threads=
	[ "$(nproc)" -gt 1 ] && threads=--num-threads=$(nproc)
	# shellcheck disable=SC2046,SC2086
	set -- $(cat /etc/core_collector) $threads
	echo "LAB-RUN $* /proc/vmcore $incomplete" >/dev/ttyS0
	"$@" /proc/vmcore "$incomplete" >/dev/console 2>&1
	status=$?
	if [ $status -eq 0 ]; then
		sync -f "$incomplete" && mv "$incomplete" "$directory/vmcore" && sync -f "$directory/vmcore"
		status=$?
	fi
	echo "LAB-STATUS capture $status" >/dev/ttyS0
}

echo "LAB-CRASH-KERNEL $(uname -r)" >/dev/ttyS0
capture
umount /sysroot
echo "LAB-DONE" >/dev/ttyS0
reboot -f
