"""VMCOREINFO: the ``KEY=value`` lines that a kernel leaves for the tools that open its dump.

Keys and their formats: kernel/vmcore_info.c and arch/*/kernel/vmcore_info*.c.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from vmcorefs.core.space.units import PAGE_SIZE
from vmcorefs.errors import FormatError

NOTE_NAME = b"VMCOREINFO"

MAX_STRUCT = 1 << 16
"""Above the size, in bytes, of any structure that VMCOREINFO gives the size of."""

_PAGE_SIZES = frozenset(1 << shift for shift in range(12, 19))
_RELEASE = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})")
_NUMBER = re.compile(r"-?[0-9]{1,20}|0x[0-9a-f]{1,16}")


class Vmcoreinfo(msgspec.Struct, frozen=True):
    """The text of a VMCOREINFO note and its lines.

    Attributes:
        text: The note's descriptor, byte for byte.
        values: Its lines, key to value; the last one if a key is repeated.
    """

    text: bytes
    values: dict[str, str]

    @property
    def release(self) -> str | None:
        """OSRELEASE, such as ``6.1.0-56-cloud-amd64``."""
        return self.values.get("OSRELEASE")

    @property
    def release_version(self) -> tuple[int, int] | None:
        """Major and minor number of OSRELEASE."""
        match = _RELEASE.match(self.release or "")
        return (int(match[1]), int(match[2])) if match else None

    @property
    def page_size(self) -> int:
        """PAGESIZE in bytes; 4096 if it is missing or absurd."""
        value = self._integer("PAGESIZE")
        return value if value in _PAGE_SIZES else PAGE_SIZE

    @property
    def pointer_bits(self) -> Literal[32, 64] | None:
        """Bits in a pointer, as the second of two in a row says; None if it does not."""
        known: dict[str, Literal[32, 64]] = {"4": 32, "8": 64}
        return known.get(self.values.get("OFFSET(list_head.prev)", ""))

    @property
    def crash_time(self) -> int | None:
        """CRASHTIME, seconds since 1970; None in an image that was not taken after a panic."""
        value = self._integer("CRASHTIME")
        return value if value is not None and 0 < value < 2**33 else None

    def number(self, name: str, *, default: int | None = None) -> int:
        """NUMBER(name), which may be negative: decimal, or hexadecimal with 0x.

        Raises:
            FormatError: if it is not a number, or it is missing and there is no ``default``.
        """
        value = self.values.get(f"NUMBER({name})")
        if value is None and default is not None:
            return default
        if value is None or not _NUMBER.fullmatch(value):
            raise FormatError(f"VMCOREINFO: NUMBER({name}) is {value!r}, expected a number")
        return int(value, 16 if value.startswith("0x") else 10)

    def symbol(self, name: str) -> int:
        """SYMBOL(name), a virtual address.

        Raises:
            FormatError: if it is missing or not a number.
        """
        return self._number(f"SYMBOL({name})", 16)

    def address(self, key: str) -> int:
        """A line that is an address alone, such as KERNELOFFSET; raises as ``symbol`` does."""
        return self._number(key, 16)

    def size(self, name: str) -> int:
        """SIZE(name) in bytes, at least 1; raises ``FormatError`` as ``symbol`` does."""
        value = self._number(f"SIZE({name})", 10)
        if not 0 < value < MAX_STRUCT:
            raise FormatError(f"VMCOREINFO: SIZE({name}) is {value}")
        return value

    def offset(self, name: str) -> int:
        """OFFSET(name) in bytes; raises ``FormatError`` as ``symbol`` does."""
        value = self._number(f"OFFSET({name})", 10)
        if value >= MAX_STRUCT:
            raise FormatError(f"VMCOREINFO: OFFSET({name}) is {value}")
        return value

    def length(self, name: str) -> int:
        """LENGTH(name), elements of an array; raises ``FormatError`` as ``symbol`` does."""
        return self._number(f"LENGTH({name})", 10)

    def _number(self, key: str, base: int) -> int:
        value = self.values.get(key)
        digits = "0-9a-f" if base == 16 else "0-9"
        if value is None or not re.fullmatch(f"[{digits}]{{1,19}}", value):
            raise FormatError(f"VMCOREINFO: {key} is {value!r}, expected a number")
        return int(value, base)

    def _integer(self, key: str) -> int | None:
        value = self.values.get(key, "")
        return int(value) if re.fullmatch(r"[0-9]{1,19}", value) else None


def parse_vmcoreinfo(text: bytes) -> Vmcoreinfo:
    """Read VMCOREINFO lines; others than ``KEY=value`` are skipped, as every consumer does."""
    values: dict[str, str] = {}
    for line in text.split(b"\n"):
        key, separator, value = line.partition(b"=")
        if separator:
            values[key.decode("ascii", "replace")] = value.decode("ascii", "replace")
    return Vmcoreinfo(text, values)
