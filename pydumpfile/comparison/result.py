# SPDX-License-Identifier: GPL-2.0-or-later
"""What a comparison found, and the same as JSON."""

from __future__ import annotations

import json
from typing import NamedTuple, Optional

from pydumpfile.errors import FormatError

VERSION = 1
READING, JUDGING, DUMPING = "reading mem_map", "judging all pages", "whole dump"
FAILED = "failed: "
"""What :attr:`Found.missing` begins with where a way is here, and does not work."""
STEPS = (READING, JUDGING, DUMPING)


class Found(NamedTuple):
    """One way of doing a step."""

    step: str
    """One of :data:`STEPS`."""
    way: str
    ns: tuple[int, ...] = ()
    """Nanoseconds of each round, or where those are counted so, instructions; none: not here."""
    bitmap: str = ""
    """SHA-256 of the 2nd bitmap without the zeros at its end; none where none is made."""
    differing: Optional[int] = None
    """Pages by which makedumpfile's bitmap differs from ours; None: not counted."""
    missing: str = ""
    """Why it is not here."""


class Comparison(NamedTuple):
    """All of them, and what they were done to."""

    release: str
    """Of the kernel that died."""
    level: int
    pages: int
    """Of the dead machine's memory."""
    kept: int
    """Pages that the level keeps, zero pages included."""
    mem_map_size: int
    """Bytes of struct pages."""
    mem_map_extents: int
    """Places in the file those lie in."""
    direct_mapping: Optional[bool]
    """Whether read(2) goes through the direct mapping; None: the kernel cannot be asked."""
    found: tuple[Found, ...]

    @property
    def same_bitmaps(self) -> bool:
        """Whether all ways of ours that make a bitmap make the same."""
        return len({one.bitmap for one in self.found if one.bitmap and _is_ours(one)}) <= 1

    @property
    def succeeded(self) -> bool:
        """Whether bitmaps are the same, and no dump of ours failed."""
        failed = any(one.missing.startswith(FAILED) and _is_ours(one) for one in self.found)
        return self.same_bitmaps and not failed

    def of(self, step: str, way: str) -> Optional[Found]:
        """One of those found, if it was looked for."""
        return next((one for one in self.found if (one.step, one.way) == (step, way)), None)

    def to_json(self) -> str:
        """One line of text."""
        fields = {**self._asdict(), "found": [one._asdict() for one in self.found]}
        return json.dumps({"version": VERSION, **fields})

    @classmethod
    def from_json(cls, text: str, path: str = "comparison") -> Comparison:
        """What :meth:`to_json` made; ``path`` is what messages call it.

        :raises FormatError: it is something else.
        """
        try:
            fields = json.loads(text)
            version = fields.pop("version")
            if version != VERSION:
                raise FormatError(path, 0, f"a comparison of version {VERSION}", repr(version))
            found = [Found(**{**one, "ns": tuple(one["ns"])}) for one in fields.pop("found")]
            return cls(**fields, found=tuple(found))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise FormatError(path, 0, "a comparison as JSON", repr(text[:40])) from error


def _is_ours(one: Found) -> bool:
    return not one.way.startswith("makedumpfile")
