#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A dracut module that stands for the part of kdump-utils that runs in the crash kernel.

check() {
	return 255	# only if it is asked for
}

depends() {
	echo base
}

install() {
	inst_multiple cat date mkdir mv nproc reboot sync umount uname
	inst_hook pre-pivot 99 "$moddir/capture.sh"
	inst_simple "$moddir/footprint" /usr/bin/footprint
	inst_simple "$moddir/core_collector" /etc/core_collector
}
