"""The table in a directory of files that Qualcomm's tools received from a phone: dump_info.txt.

Each line has a preference, an address, a size, what it is, and the file's name; those of 1 are
memory, and of these the files DDRCS* (EBI* on older chips) are RAM (as crash and Qualcomm's
linux-ramdump-parser take them).
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.errors import FormatError

TABLE: Final = "dump_info.txt"

_MOST: Final = 1 << 8
_LINE: Final = re.compile(
    rb"\s*1\s+0x([0-9a-f]{1,16})\s+(\d{1,20})\s.*\s((?:DDRCS|EBI)\w*\.BIN)\s*", re.IGNORECASE
)


class Part(msgspec.Struct, frozen=True):
    """A file with RAM.

    Attributes:
        name: Its name in the directory.
        paddr: The physical address of its first byte.
        size: Bytes in it.
    """

    name: str
    paddr: int
    size: int


def parse_table(text: bytes) -> tuple[Part, ...]:
    """Read the table: its RAM, in order of address.

    Raises:
        FormatError: if it has none, or it cannot be true.
    """
    parts: list[Part] = []
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            continue
        paddr, size = int(found[1], 16), int(found[2])
        if not size or paddr + size > MAX_ADDRESS or len(parts) == _MOST:
            raise FormatError(f"{TABLE}: {size} bytes of RAM at {paddr:#x}")
        parts.append(Part(found[3].decode("ascii"), paddr, size))
    if not parts:
        raise FormatError(f"{TABLE}: no file with RAM (DDRCS*.BIN) is in it")
    return tuple(sorted(parts, key=lambda part: part.paddr))
