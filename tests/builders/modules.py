"""Modules in a kernel's memory, laid out by hand."""

from __future__ import annotations

import struct

import numpy as np

from tests.builders.btf import INT, Writer
from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.core.structures.modules import iter_modules
from vmcorefs.errors import FormatError

HEAD = 0xFFFFFFFF82000000
BASE = 0xFFFFFFFFC0000000
STATE, LIST, NAME, SYMS, NUM_SYMS, KALLSYMS = 0, 8, 24, 80, 88, 96
MODULE_SIZE = 256
Symbol = tuple[int, str, str]


class Machine:
    """Kernel memory with a list of modules in it."""

    def __init__(self, byte_order: ByteOrder = "<", *, relative: bool = True) -> None:
        self.byte_order = byte_order
        self.relative = relative
        self.image = bytearray(1 << 16)
        self.end = 16  # the list's head is at 0, seen at HEAD
        self.last = 0
        self.put(0, "Q", HEAD)

    def put(self, at: int, layout: str, *values: int) -> None:
        struct.pack_into(self.byte_order + layout, self.image, at, *values)

    def store(self, data: bytes) -> int:
        at = self.end
        self.image[at : at + len(data)] = data
        self.end += -(-len(data) // 8) * 8
        return at

    def add(self, name: str, symbols: list[Symbol], exports: dict[str, int], state: int = 0) -> int:
        at = self.store(bytes(MODULE_SIZE))
        self.put(at + STATE, "I", state)
        self.image[at + NAME : at + NAME + len(name)] = name.encode()
        names = b"\0"
        rows = [(0, 0)]
        for address, _, symbol in symbols:
            rows.append((len(names) if symbol else 0, address))
            names += symbol.encode() + b"\0" if symbol else b""
        entries = [struct.pack(f"{self.byte_order}IBBHQQ", n, 0, 0, 1, v, 0) for n, v in rows]
        tables = (
            self.store(b"".join(entries)),
            len(rows),
            self.store(names.ljust(-(-len(names) // 8) * 8, b"\0")),
            self.store(b"?" + "".join(kind for _, kind, _ in symbols).encode()),
        )
        pointer = self.store(bytes(32))
        self.put(
            pointer, "QIIQQ", BASE + tables[0], tables[1], 0, *(BASE + at for at in tables[2:])
        )
        self.put(at + KALLSYMS, "Q", BASE + pointer)
        self.put(at + SYMS, "QI", BASE + self.export(exports), len(exports))
        self.put(self.last, "Q", BASE + at + LIST)
        self.put(at + LIST, "Q", HEAD)
        self.last = at + LIST
        return at

    def export(self, exports: dict[str, int]) -> int:
        named = {self.store(name.encode() + b"\0"): value for name, value in exports.items()}
        table = self.store(bytes((12 if self.relative else 16) * len(named)))
        for row, (name_at, value) in enumerate(named.items()):
            if self.relative:
                place = table + 12 * row
                self.put(place, "iii", value - BASE - place, name_at - place - 4, 0)
            else:
                self.put(table + 16 * row, "QQ", value, BASE + name_at)
        return table

    def read(self, vaddr: int, size: int) -> bytes:
        at = vaddr - HEAD if HEAD <= vaddr < HEAD + 16 else vaddr - BASE
        if not 0 <= at <= at + size <= len(self.image):
            raise FormatError(f"nothing at {vaddr:#x}")
        return bytes(self.image[at : at + size])

    def btf(self) -> bytes:
        return self.types().finish()

    def fields(self) -> dict[str, int]:
        """Members of ``struct module``, and where they are."""
        fields = {"state": STATE, "list": LIST, "name": NAME, "syms": SYMS}
        return fields | {"num_syms": NUM_SYMS, "kallsyms": KALLSYMS}

    def types(self) -> Writer:
        btf = Writer(self.byte_order)
        btf.add(INT, "long", 8, [64])
        btf.add_struct("list_head", 16, [("next", 1, 0), ("prev", 1, 64)])
        members = [(name, 1, at * 8) for name, at in self.fields().items()]
        btf.add_struct("module", MODULE_SIZE, members)
        fields = {"symtab": 0, "num_symtab": 8, "strtab": 16, "typetab": 24}
        btf.add_struct("mod_kallsyms", 32, [(name, 1, at * 8) for name, at in fields.items()])
        relative = [("value_offset", 1, 0), ("name_offset", 1, 32), ("namespace_offset", 1, 64)]
        absolute = [("value", 1, 0), ("name", 1, 64)]
        if self.relative:
            btf.add_struct("kernel_symbol", 12, relative)
        else:
            btf.add_struct("kernel_symbol", 16, absolute)
        return btf

    def text(self) -> str:
        kernel = SymbolTable(np.array([HEAD], dtype=np.uint64), "D", ("modules",))
        memory = KernelMemory(self.read, self.byte_order, 8)
        tables = list(iter_modules(memory, kernel, self.btf()))
        return b"".join(table.format() for table in tables).decode()


EXT4: list[Symbol] = [
    (BASE + 0x8000, "t", "ext4_read"),
    (BASE + 0x8010, "t", ""),
    (BASE + 0x8040, "t", "ext4_exported"),
    (BASE + 0x8040, "t", "ext4_alias"),
    (BASE + 0x9000, "d", "ext4_data"),
]
