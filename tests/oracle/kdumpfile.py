# SPDX-License-Identifier: GPL-2.0-or-later
"""libkdumpfile, the reader behind drgn and crash-python, asked for single pages.

The installed library is called through its C interface (libkdumpfile/kdumpfile.h of version 0.5).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cffi

LIBRARY = "libkdumpfile.so.10"
PACKAGE = "libkdumpfile10"
PAGE_SIZE = 4096
NO_DATA = 3  # KDUMP_ERR_NODATA: "Data is not stored in the dump file"
_MACHINE_PHYSICAL = 1  # KDUMP_MACHPHYSADDR
_STRING = 4  # KDUMP_STRING

_ffi: Any = cffi.FFI()  # its stubs know no functions but those of cffi itself
_ffi.cdef("""
    typedef struct _kdump_ctx kdump_ctx_t;
    typedef struct { int type; union { uint64_t number; const char *string; } val; } kdump_attr_t;
    kdump_ctx_t *kdump_new(void);
    void kdump_free(kdump_ctx_t *ctx);
    int kdump_open_fdset(kdump_ctx_t *ctx, unsigned nfds, const int *fds);
    const char *kdump_get_err(kdump_ctx_t *ctx);
    int kdump_read(kdump_ctx_t *ctx, int as, uint64_t addr, void *buffer, size_t *plength);
    int kdump_get_attr(kdump_ctx_t *ctx, const char *key, kdump_attr_t *valp);
""")


class KdumpfileError(Exception):
    """libkdumpfile refused; `status` is its kdump_status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"libkdumpfile: status {status}: {message}")
        self.status = status


class KdumpFile:
    """A dump, or all parts of a split one in any order, opened by libkdumpfile.

    :raises OSError: the library is not installed.
    :raises KdumpfileError: it does not open the file.
    """

    def __init__(self, *paths: Path) -> None:
        self._lib = _ffi.dlopen(LIBRARY)
        self._context = self._lib.kdump_new()
        self._fds = [os.open(path, os.O_RDONLY) for path in paths]
        self._buffer = _ffi.new("char[]", PAGE_SIZE)
        self._length = _ffi.new("size_t *")
        try:
            self._check(self._lib.kdump_open_fdset(self._context, len(self._fds), self._fds))
        except KdumpfileError:
            self.close()
            raise

    def close(self) -> None:
        self._lib.kdump_free(self._context)
        for fd in self._fds:
            os.close(fd)

    def __enter__(self) -> KdumpFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def page(self, pfn: int) -> bytes:
        """The bytes of a page frame; KdumpfileError of status NO_DATA if it was left out."""
        self._length[0] = PAGE_SIZE
        self._check(
            self._lib.kdump_read(
                self._context, _MACHINE_PHYSICAL, pfn * PAGE_SIZE, self._buffer, self._length
            )
        )
        return bytes(_ffi.buffer(self._buffer, self._length[0]))

    def text(self, key: str) -> str:
        """A string attribute, such as "linux.uts.release"."""
        attribute = _ffi.new("kdump_attr_t *")
        self._check(self._lib.kdump_get_attr(self._context, key.encode(), attribute))
        if attribute.type != _STRING:
            raise KdumpfileError(0, f"{key} is no string")
        return bytes(_ffi.string(attribute.val.string)).decode()

    def _check(self, status: int) -> None:
        if status:
            message = bytes(_ffi.string(self._lib.kdump_get_err(self._context))).decode()
            raise KdumpfileError(status, message)
