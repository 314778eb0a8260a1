"""Telling what a file is that is not plain memory."""

from __future__ import annotations

from typing import Final

from vmcorefs.core.formats.foreign.disks import DISKS
from vmcorefs.core.formats.foreign.machines import MACHINES
from vmcorefs.core.formats.foreign.others import OTHERS
from vmcorefs.core.formats.foreign.packed import PACKED
from vmcorefs.core.formats.foreign.signature import HEAD_SIZE, Foreign, ReadAt, Start
from vmcorefs.core.formats.foreign.text import recognise_text

SIGNATURES: Final = (*MACHINES, *PACKED, *DISKS, *OTHERS)
"""Every signature, in the order in which they are tried."""

_SECTOR: Final = 512
_LAST: Final = (
    (b"conectix", Foreign("a disk image (VHD)", "a disk holds files, not memory")),
    (b"koly\0\0\0\4", Foreign("a disk image of macOS (DMG)", "a disk holds files, not memory")),
)


def recognise(read: ReadAt, size: int) -> Foreign | None:
    """Say what a file is that is not plain memory, by its content.

    Memory may begin with anything, so whatever has a short magic must have more that fits it.

    Args:
        read: Reads the file.
        size: Bytes in it.

    Returns:
        None if it is nothing that is known: it may be memory.
    """
    start = Start(read(0, HEAD_SIZE), size)
    text = recognise_text(start, read)
    if text is not None:
        return text
    for one in SIGNATURES:
        if one.fits(start):
            return one.foreign
    last = read(max(size - _SECTOR, 0), _SECTOR)
    return next((foreign for magic, foreign in _LAST if last.startswith(magic)), None)
