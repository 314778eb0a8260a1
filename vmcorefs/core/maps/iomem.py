"""/proc/iomem as text, read and written in pieces: a map of a million ranges has 31 MB of it.

kernel/resource.c, ``r_show``: two spaces for each level, at least eight digits, inclusive ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from vmcorefs.core.maps.regions import Region, Regions, RegionTable
from vmcorefs.core.space.ranges import Int64Array
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.errors import FormatError

IOMEM = "/proc/iomem"

MAX_REGIONS = 1 << 22
"""Most regions of a map."""

_ROW = re.compile(rb"^( *)([0-9a-f]+)-([0-9a-f]+) : (.+)$", re.MULTILINE)
_PIECE = 1 << 20  # bytes of text
_ROWS = 1 << 15
_DIGITS = 15  # hexadecimal ones that surely fit into a column
_LEAST_DIGITS = 8
_COMMON = 8  # names that are looked for in all rows at once: most rows have one of a few
_SIXTEENTHS = np.array([16**power for power in range(_LEAST_DIGITS, 16)], dtype=np.int64)

Bytes = npt.NDArray[np.uint8]
Int32Array = npt.NDArray[np.int32]


class _Names:
    """Names in order of appearance, as the text has them."""

    def __init__(self) -> None:
        self.number: dict[bytes, int] = {}

    def numbers(self, chars: Bytes, start: Int64Array, end: Int64Array) -> Int32Array:
        """The number of the name in each ``[start, end)`` of the text, shape ``(n,)``, int32."""
        found = np.empty(len(start), dtype=np.int32)
        length, known, text = end - start, self.number, chars.tobytes()
        rest = np.arange(len(start))
        left = np.ones(len(start), dtype=np.bool_)
        for _ in range(_COMMON):
            if not len(rest):
                return found
            first = rest[0]
            name = chars[start[first] : end[first]]
            alike = rest[length[rest] == len(name)]
            for place, char in enumerate(name.tolist()):
                alike = alike[chars[start[alike] + place] == char]
            found[alike] = known.setdefault(name.tobytes(), len(known))
            left[alike] = False
            rest = np.flatnonzero(left)
        for row in rest.tolist():
            found[row] = known.setdefault(text[start[row] : end[row]], len(known))
        return found

    def decode(self) -> tuple[str, ...]:
        return tuple(name.decode("utf-8", "replace").strip() for name in self.number)


def parse_iomem(text: bytes, dialect: str = IOMEM) -> Regions | None:
    """Read the lines of /proc/iomem; None if there is not a single one.

    Args:
        text: The lines.
        dialect: What they are called, if they have been made of something else.

    Raises:
        FormatError: with its number, if there is a line of something else among them; or if there
            are more than ``MAX_REGIONS``.
    """
    if not _ROW.search(text):
        return None
    names = _Names()
    pieces: list[RegionTable] = []
    start, line, count = 0, 1, 0
    while start < len(text):
        end = text.find(b"\n", min(start + _PIECE, len(text))) + 1 or len(text)
        table, lines = _parse_piece(text[start:end], line, names, dialect)
        pieces.append(table)
        start, line, count = end, line + lines, count + len(table)
        if count > MAX_REGIONS:
            raise FormatError(f"more than {MAX_REGIONS} regions")
    return Regions(RegionTable.join(pieces), names.decode())


def _parse_piece(text: bytes, line: int, names: _Names, dialect: str) -> tuple[RegionTable, int]:
    """The regions of some whole lines, and how many lines there are."""
    chars = np.frombuffer(text, dtype=np.uint8)
    ends = np.flatnonzero(chars == ord("\n"))
    if not text.endswith(b"\n"):
        ends = np.append(ends, len(text))
    starts = np.concatenate(([0], ends[:-1] + 1))
    digits = _digits(chars)
    # past the end there is neither a digit nor a blank
    other = np.append(np.flatnonzero(digits > 15), [len(text)] * 2)
    first = np.append(np.flatnonzero(chars != ord(" ")), len(text))
    first = first[np.searchsorted(first, starts)]
    dash = other[np.searchsorted(other, first)]
    blank = other[np.searchsorted(other, np.minimum(dash + 1, len(text)))]
    padded = np.append(chars, np.zeros(4, dtype=np.uint8))
    good = (first < dash) & (padded[dash] == ord("-")) & (dash + 1 < blank) & (blank + 3 < ends)
    for ahead, char in enumerate(b" : "):
        good &= padded[blank + ahead] == char
    for row in np.flatnonzero(~good).tolist():
        _refuse(text[starts[row] : ends[row]], line + row, dialect)
    numbers = np.flatnonzero(good)
    first, dash, blank = first[good], dash[good], blank[good]
    found = names.numbers(chars, blank + 3, ends[good])
    table = RegionTable(
        _values(text, digits, first, dash),
        _values(text, digits, dash + 1, blank) + 1,
        found,
        ((first - starts[good]) // 2).astype(np.int32),
        (numbers + line).astype(np.int32),
    )
    return table, len(starts)


def _refuse(text: bytes, line: int, dialect: str) -> None:
    shown = text.decode("utf-8", "replace")
    if shown.strip():
        raise FormatError(f"line {line}: {shown[:60]!r} is not a line of {dialect}")


def _digits(chars: Bytes) -> Bytes:
    """What each character is worth as a hexadecimal digit; 255 for those that are none."""
    worth = np.full(256, 255, dtype=np.uint8)
    for value, digit in enumerate(b"0123456789abcdef"):
        worth[digit] = value
    return worth[chars]


def _values(text: bytes, digits: Bytes, start: Int64Array, end: Int64Array) -> Int64Array:
    values = np.zeros(len(start), dtype=np.int64)
    length = np.minimum(end - start, _DIGITS)
    for place in range(int(length.max(initial=0))):
        some = place < length
        values[some] = (values[some] << 4) | digits[start[some] + place]
    for row in np.flatnonzero(end - start > _DIGITS).tolist():
        # firmware may list a region up to the last possible address; RAM is never there
        values[row] = min(int(text[start[row] : end[row]], 16), MAX_ADDRESS - 1)
    return values


def iter_iomem(regions: Regions) -> Iterator[str]:
    """Print regions as /proc/iomem does, in pieces."""
    for first in range(0, len(regions), _ROWS):
        yield "".join(map(_format, regions[first : first + _ROWS]))


def iomem_size(regions: Regions) -> int:
    """Bytes in all that ``iter_iomem`` yields, without making it."""
    t = regions.table
    name = np.array([len(name.encode()) for name in regions.names], dtype=np.int64)
    digits = sum(
        _LEAST_DIGITS + np.searchsorted(_SIXTEENTHS, value, side="right")
        for value in (t.start, t.end - 1)
    )
    size: np.int64 = (digits + 2 * t.depth.astype(np.int64) + len("- : \n") + name[t.name]).sum()
    return int(size)


def _format(region: Region) -> str:
    indent = "  " * region.depth
    return f"{indent}{region.start:08x}-{region.end - 1:08x} : {region.name}\n"
