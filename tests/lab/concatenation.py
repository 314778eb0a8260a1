"""The other ways in which tools write a machine's memory to a file."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.snapshot import Snapshot

_BLOCK: Final = 1 << 20


def concatenate(snapshot: Snapshot, path: Path) -> None:
    """Write a guest's System RAM ranges one behind the other, as LiME does with ``format=raw``.

    Nothing in the file tells where a range begins. LiME goes by the kernel's iomem_resource, to
    the byte: a range that ends within a page is not filled up (LiME's src/main.c).

    Args:
        snapshot: whose memory to take.
        path: the file to make, sparse where the memory file is.
    """
    with snapshot.ram.open("rb") as ram, path.open("wb") as out:
        place = 0
        for start, end in system_ram(snapshot.text("iomem")):
            (piece,) = (p for p in snapshot.pieces if p.paddr <= start and end <= p.end)
            moved = place - piece.offset_of(start)
            for offset, size in _data(ram.fileno(), piece.offset_of(start), end - start):
                os.pwrite(out.fileno(), os.pread(ram.fileno(), size, offset), offset + moved)
            place += end - start
        out.truncate(place)


def system_ram(iomem: str) -> list[tuple[int, int]]:
    """Return the System RAM ranges of the text of ``/proc/iomem``, half-open, in its order."""
    lines = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) : System RAM$", iomem, re.MULTILINE)
    return [(int(first, 16), int(last, 16) + 1) for first, last in lines]


def _data(file: int, offset: int, size: int) -> Iterator[tuple[int, int]]:
    """Give what a file holds in a range, without its holes: offsets and sizes of small blocks."""
    end = offset + size
    while offset < end:
        try:
            offset = os.lseek(file, offset, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole from here on
            return
        hole = min(os.lseek(file, offset, os.SEEK_HOLE), end)
        while offset < hole:
            block = min(_BLOCK, hole - offset)
            yield offset, block
            offset += block
