#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Started by lab.service once the system is up, kdump-tools loaded: does what lab= on the kernel's
# command line says.  The crash kernel never runs it: kdump-tools boots that into its own unit.
say() {
	echo "$*" >/dev/ttyS0
}

fail() {
	say "LAB-FAIL $*"
	poweroff -f
}

case $(cat /proc/cmdline) in
*lab=settle*)		# the first boot of an image: kdump-tools has made its initrd now
	[ -e /var/lib/kdump/initrd.img ] || fail "kdump-tools made no initrd"
	say "LAB-SETTLED $(systemd-detect-virt), $(dpkg-query -W -f '${Package} ${Version}, ' kdump-tools makedumpfile)"
	systemctl poweroff
	exit
	;;
esac

if [ -e /crashed ]; then	# the second boot: the service has dumped and rebooted
	say "LAB-BACK $(uname -r)"
	ls -lR /var/crash >/dev/ttyS0
	systemctl poweroff
	exit
fi

# What the user does, see docs/kdump-service.md.
cat /opt/lab/kdump-tools.add >>/etc/default/kdump-tools
[ -x /opt/lab/before.sh ] && . /opt/lab/before.sh
touch /crashed
[ "$(cat /sys/kernel/kexec_crash_loaded)" = 1 ] || fail "kdump-tools has not loaded a crash kernel"
say "LAB-READY $(sed -n 's/^MemTotal: *//p' /proc/meminfo)"
kdump-config show >/dev/ttyS0
[ -x /opt/pydumpfile/bin/pydumpfile ] && /opt/pydumpfile/bin/pydumpfile doctor >/var/crash/doctor 2>&1
dd if=/dev/urandom of=/dev/shm/noise bs=1M count=64 2>/dev/null
sync
say "LAB-PANIC-NEXT"
echo 1 >/proc/sys/kernel/sysrq
echo c >/proc/sysrq-trigger
fail "no panic"
