# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds pydumpfile._pagescan from the C in this folder; setup.py names it to setuptools.

The headers named in _DECLARED are at once what the C includes and, less their preprocessor lines,
what cffi reads.
"""

import os
import pathlib

from cffi import FFI

_HERE = pathlib.Path(__file__).resolve().parent
_DECLARED = ("vmcore_pfn_lists.h", "pagescan.h")
# Of <linux/types.h>, which cffi does not read.
_TYPES = "typedef unsigned int __u32; typedef unsigned long long __u64;\n"
_DECLARATIONS = _TYPES + "".join(
    line
    for name in _DECLARED
    for line in (_HERE / name).read_text(encoding="ascii").splitlines(keepends=True)
    if not line.startswith("#")
)
# setuptools wants source paths relative to setup.py.
_SOURCES = [
    os.path.join("csrc", f"{name}.c")
    for name in ("batch", "classify", "decode", "encode", "group", "records", "variant", "zero")
]
_HEADERS = [
    os.path.join("csrc", name)
    for name in ("group.h", "page_judge.h", "page_words.h", "window.h", "words.h", *_DECLARED)
]

ffibuilder = FFI()
ffibuilder.cdef(_DECLARATIONS)
ffibuilder.set_source(
    "pydumpfile._pagescan",
    '#include "pagescan.h"',
    sources=_SOURCES,
    include_dirs=["csrc"],
    depends=_HEADERS,
    extra_compile_args=["-O3", "-std=gnu11"],
)
