# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole kdump services in QEMU: a panic, the service's own dump, and a look at what it left.

debian   Debian 12 with systemd and its kdump-tools, as they come from the archive
dracut   an initramfs made by dracut, with kdump-utils' command line
busybox  the smallest case: busybox and the stand-alone archive of `pydumpfile initramfs`
"""
