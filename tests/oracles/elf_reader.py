"""Reads ELF dumps with ``struct`` alone."""

from __future__ import annotations

import struct
from dataclasses import dataclass

PAGE = 4096


@dataclass(frozen=True)
class ElfFile:
    """A file that a 64-bit little-endian machine wrote."""

    data: bytes

    @property
    def flags(self) -> int:
        value: int = struct.unpack_from("<I", self.data, 48)[0]
        return value

    @property
    def phdrs(self) -> list[tuple[int, ...]]:
        """p_type, p_flags, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align of each."""
        (count,) = struct.unpack_from("<H", self.data, 56)
        return [struct.unpack_from("<IIQQQQQQ", self.data, 64 + 56 * n) for n in range(count)]

    def page(self, pfn: int) -> bytes | None:
        return self.read(pfn * PAGE, PAGE)

    def read(self, paddr: int, size: int) -> bytes | None:
        """Bytes as tools see them; None if no PT_LOAD has them all, or the file ends before."""
        for kind, _flags, offset, _vaddr, start, filesz, memsz, _align in self.phdrs:
            inside = paddr - start
            if kind == 1 and inside >= 0 and inside + size <= filesz:
                stored = self.data[offset + inside : offset + inside + size]
                return stored if len(stored) == size else None
            if kind == 1 and filesz <= inside and inside + size <= memsz:
                return bytes(size)
        return None
