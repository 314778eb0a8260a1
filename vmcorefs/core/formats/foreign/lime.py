"""LiME's format, which AVML 1 writes too, and AVML 2: ranges of memory, each behind a header.

A header has 32 bytes, little-endian: a magic number, a version, the first and the last physical
address of the range, and 8 bytes for nothing. LiME's range follows as it was (LiME's
doc/README.md); AVML 2 compresses it, and says how long it became only behind it (avml,
src/image.rs).
"""

from __future__ import annotations

import shlex
import struct
from bisect import bisect
from typing import Final

import msgspec

from vmcorefs.core.formats.foreign.signature import FILE, NEW, Foreign, ReadAt
from vmcorefs.core.space.units import MAX_ADDRESS, counted, format_range

_HEADER: Final = struct.Struct("<4sIQQ8x")
_LIME, _AVML = (b"EMiL", 1), (b"AVML", 2)
_MOST_RANGES: Final = 1 << 12
_SHOWN: Final = 12


class Range(msgspec.Struct, frozen=True):
    """A range of memory in a LiME file.

    Attributes:
        start: Its first physical address.
        end: One past the last.
        offset: Where it begins in the file.
        held: Bytes of it that the file has: fewer than all if the file was cut short.
    """

    start: int
    end: int
    offset: int
    held: int


class Lime(msgspec.Struct, frozen=True):
    """What the headers of a LiME file say.

    Attributes:
        ranges: In the file's order.
        why_not: Why the rest of the file cannot be followed; empty if all can.
    """

    ranges: tuple[Range, ...]
    why_not: str = ""

    @property
    def cut(self) -> Range | None:
        """The range that the file ends within."""
        last = self.ranges[-1] if self.ranges else None
        return last if last is not None and last.held < last.end - last.start else None


def recognise_lime(read: ReadAt, size: int, name: str) -> Foreign | None:
    """Say what a file is whose first header is LiME's or AVML's; None if it is not."""
    head = read(0, 8)
    found = (head[:4], int.from_bytes(head[4:], "little"))
    if found == _LIME:
        return _describe(read_lime(read, size), size, name)
    if found == _AVML:
        advice = f"make a LiME file of it first: avml-convert {FILE} {NEW}"
        return Foreign("an AVML 2 file, which is compressed", advice)
    if found[0] in (_LIME[0], _AVML[0]):
        return Foreign(f"a LiME or AVML file of unknown version {found[1]}")
    return None


def read_lime(read: ReadAt, size: int) -> Lime:
    """Follow the headers of a LiME file to its end."""
    ranges: list[Range] = []
    seen: list[tuple[int, int]] = []  # their addresses, in order
    offset = 0
    while offset < size:
        if len(ranges) == _MOST_RANGES:
            return Lime(tuple(ranges), f"there are more than {_MOST_RANGES} ranges")
        raw = read(offset, _HEADER.size)
        if len(raw) < _HEADER.size:
            return Lime(tuple(ranges), f"the file ends within the header at {offset:#x}")
        magic, version, start, last = _HEADER.unpack(raw)
        if (magic, version) != _LIME or not start <= last < MAX_ADDRESS:
            return Lime(tuple(ranges), f"there is no valid header at {offset:#x}")
        place = bisect(seen, (start, last))
        if any(one[0] <= last and start < one[1] for one in seen[max(place - 1, 0) : place + 1]):
            where = format_range(start, last + 1)
            return Lime(tuple(ranges), f"the header at {offset:#x} has {where} again")
        offset += _HEADER.size
        held = min(last + 1 - start, size - offset)
        seen.insert(place, (start, last + 1))
        ranges.append(Range(start, last + 1, offset, held))
        offset += last + 1 - start
    return Lime(tuple(ranges))


def _describe(lime: Lime, size: int, name: str) -> Foreign:
    what = "a LiME file, as LiME and AVML 1 write"
    cut = lime.cut
    if cut is not None:
        what += (
            f"; its end is lost: of the range {format_range(cut.start, cut.end)} it lacks"
            f" {format_range(cut.start + cut.held, cut.end)}, as the file ends at {size:#x}"
        )
    if lime.why_not:  # bytes that are not understood may be anything: no advice on these
        return Foreign(f"{what}; {lime.why_not}")
    held = [one for one in lime.ranges if one.held]
    if len(held) > _SHOWN:
        rule = f"{FILE}@START:OFFSET+SIZE"
        return Foreign(f"{what}, of {counted(len(held), 'range')}", f"give each as a piece: {rule}")
    path = shlex.quote(name)
    pieces = (f"{path}@{one.start:#x}:{one.offset:#x}+{one.held:#x}" for one in held)
    return Foreign(what, f"give the memory in it as pieces: {' '.join(pieces)}")
