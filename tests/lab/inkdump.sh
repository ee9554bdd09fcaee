#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Runs in the crash kernel after the vmcore is copied (see inkdump.py): the words in /command on the
# first extra disk, inside that disk, with the second one as /out.

mount -t ext4 -o ro /dev/vdf /mnt || exit
mount -t ext4 /dev/vdg /mnt/out || exit
mount -o bind /proc /mnt/proc
mount -o bind /dev /mnt/dev
cat /proc/meminfo >/mnt/out/meminfo

export PYTHONPATH=/opt PYTHONDONTWRITEBYTECODE=1 TMPDIR=/out
chroot /mnt $(cat /mnt/command) >/mnt/out/console 2>&1
echo $? >/mnt/out/status
tail -n 20 /mnt/out/console
umount /mnt/out
