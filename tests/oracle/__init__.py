# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps of real kernels, judged by readers that owe pydumpfile nothing, and by the kernel itself.

Nothing in this package takes pydumpfile's word for what a file or a page is: cores and dumps are
parsed anew, libkdumpfile, drgn, crash and makedumpfile are asked, and `groundtruth` goes by what
the dying kernel said of each page in /proc/kpageflags.
"""
