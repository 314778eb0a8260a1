"""BTF, written by hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from vmcorefs.core.elf.notes import ByteOrder

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST = range(1, 11)
RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(11, 20)
Member = tuple[str, int, int]  # name, type, offset in bits


class Writer:
    """Encodes types in the order of the calls; the first is type 1.

    Those of a module go on where the kernel's end, which have ``names`` bytes of names.
    """

    def __init__(self, byte_order: ByteOrder = "<", names: int = 0) -> None:
        self.byte_order = byte_order
        self.before = names
        self.strings = b"" if names else b"\0"
        self.types = b""

    def add(
        self,
        kind: int,
        name: str,
        size: int,
        tail: Sequence[int] = (),
        vlen: int = 0,
        flag: int = 0,
    ) -> None:
        words = (self.name(name), flag << 31 | kind << 24 | vlen, size, *tail)
        self.types += struct.pack(f"{self.byte_order}{len(words)}I", *words)

    def add_struct(
        self, name: str, size: int, members: Sequence[Member], kind: int = STRUCT, flag: int = 0
    ) -> None:
        tail = [
            word for text, type_id, bits in members for word in (self.name(text), type_id, bits)
        ]
        self.add(kind, name, size, tail, len(members), flag)

    def add_list(
        self,
        kind: int,
        name: str,
        size: int,
        rows: Sequence[tuple[str, *tuple[int, ...]]],
        flag: int = 0,
    ) -> None:
        """An enumeration or a prototype: names and what belongs to each."""
        tail = [word for text, *words in rows for word in (self.name(text), *words)]
        self.add(kind, name, size, tail, len(rows), flag)

    def name(self, text: str) -> int:
        if not text:
            return 0
        self.strings += text.encode() + b"\0"
        return self.before + len(self.strings) - len(text) - 1

    def finish(self) -> bytes:
        header = struct.pack(
            f"{self.byte_order}HBBIIIII",
            *(0xEB9F, 1, 0, 24, 0, len(self.types), len(self.types), len(self.strings)),
        )
        return header + self.types + self.strings
