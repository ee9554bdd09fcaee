# SPDX-License-Identifier: GPL-2.0-or-later
# Steps of the crash kernel: everything that can go wrong with a dump, one after the other.
#
# Disks: vda takes what is to be looked at, vdb is too small, vdc will be detached, vdd takes a copy
# of the vmcore, eight sectors of which then cannot be read (device mapper's error target).
BYTES=1500000		# written before a signal, or a detached disk

insmod /modules/dm-mod.ko || fail "no device mapper"
for name in vda vdb vdc vdd; do
	disk $name
done
mkdir -p /out /full /gone
mount -t ext4 /dev/vda /out || fail "no ext4 on vda"

case_is() {		# NAME COMMAND...
	echo "LAB-CASE $1"
	shift
	"$@"
	echo "LAB-STATUS $?"
}

clean() {		# DIRECTORY: nothing of the case before
	rm -rf "${1:?}"/*
	sync
}

keep() {		# DIRECTORY NAME: for the host to look at
	mkdir -p "/out/$2"
	cp "$1"/* "/out/$2/" 2>/dev/null
}

detach() {		# when enough is written: FILE
	until [ "$(stat -c %s "$1" 2>/dev/null || echo 0)" -ge $BYTES ]; do
		sleep 0.1
	done
	echo 1 >/sys/block/vdc/device/../remove
}

case_is whole kdump_utils /out/whole
case_is whole-tools kdump_tools /out/whole-tools

mount -t ext4 /dev/vdb /full || fail "no ext4 on vdb"
case_is full-utils kdump_utils /full/utils
keep /full/utils full-utils
clean /full
case_is full-tools kdump_tools /full/tools
keep /full/tools full-tools
clean /full
mount -o remount,ro /full
case_is read-only-utils kdump_utils /full
case_is read-only-tools kdump_tools /full
umount /full

for signal in 15 9; do
	KILL="-k $signal:$BYTES"
	case_is signal-$signal-utils kdump_utils /out/signal-$signal-utils
	case_is signal-$signal-pipe kdump_utils_pipe /out/signal-$signal-pipe cat
	case_is signal-$signal-tools kdump_tools /out/signal-$signal-tools
	case_is signal-$signal-tools-pipefail kdump_tools /out/signal-$signal-tools-pipefail pipefail
done
KILL=

case_is closed-pipe kdump_utils_pipe /out/closed-pipe head -c $BYTES
case_is closed-tools kdump_tools /out/closed-tools "" head -c $BYTES
case_is closed-tools-pipefail kdump_tools /out/closed-tools-pipefail pipefail head -c $BYTES

mkdir /copy
mount -t ext4 /dev/vdd /copy || fail "no ext4 on vdd"
dd if=/proc/vmcore of=/copy/vmcore bs=1M 2>/dev/null || fail "no copy of the vmcore"
umount /copy
size=$(cat /sys/block/vdd/size) bad=819200	# 400 MiB in: the content of a page of the dead kernel
dmsetup create failing --noudevsync <<END
0 $bad linear /dev/vdd 0
$bad 8 error
$((bad + 8)) $((size - bad - 8)) linear /dev/vdd $((bad + 8))
END
mount -t ext4 -o ro,noload /dev/dm-0 /copy || fail "no ext4 on the failing disk"
mkdir -p /out/unreadable /out/unreadable-read
KILL="-t 150"		# before Linux 6.9 populating a mapping of it never ends
case_is unreadable-read makedumpfile --non-mmap -z -d 0 /copy/vmcore /out/unreadable-read/vmcore-incomplete
case_is unreadable makedumpfile -z -d 0 /copy/vmcore /out/unreadable/vmcore-incomplete
umount /copy
KILL=

# Last, and with everything else safe on its disk: a driver that lost its disk may wait for ever.
ls -lR /out
umount /out
mount -t ext4 /dev/vdc /gone || fail "no ext4 on vdc"
detach /gone/vmcore-incomplete &
(
	sleep 90
	for process in /proc/[0-9]*; do
		grep -q '^State:.D' "$process/status" 2>/dev/null || continue
		echo "LAB-NOTE stuck: $(tr '\0' ' ' <"$process/cmdline") $(cat "$process/comm")"
		cat "$process/stack"
	done
	echo "LAB-STATUS 255"		# that is, none
	echo "LAB-DONE"
	poweroff -f
) &
case_is vanished-utils kdump_utils /gone
