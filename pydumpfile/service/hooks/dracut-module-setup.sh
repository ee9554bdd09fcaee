#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# dracut module of pydumpfile: puts the dumper into the initramfs of a crash kernel.
# Written by `pydumpfile initramfs --install dracut`; write it anew when pydumpfile has moved.
# It runs after the modules of the kdump services (99kdump, 99kdumpbase), whose makedumpfile it is
# to replace if that was asked for.

check() {
    # kdump-utils' mkdumprd says that this is for a crash kernel, openSUSE's asks for module kdump.
    [[ ${IN_KDUMP:-} == 1 ]] && return 0
    case " ${add_dracutmodules:-} ${dracutmodules:-} " in
        *" kdump "* | *" kdumpbase "*) return 0 ;;
    esac
    return 255 # otherwise only by --add pydumpfile
}

depends() {
    return 0
}

install() {
    # dracut finds libraries last of all; those of the shell can be shared if they are there now.
    DRACUT_RESOLVE_DEPS=1 inst_binary sh
    # shellcheck disable=SC2154 # dracut sets initdir
    @COMMAND@ initramfs --tree "$initdir" @OPTIONS@ || {
        derror "pydumpfile could not be put into the initramfs: a crash will not be dumped by it"
        return 1
    }
}
