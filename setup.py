# SPDX-License-Identifier: GPL-2.0-or-later
"""The compiled half of the package; everything else is in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["csrc/build_ffi.py:ffibuilder"])
