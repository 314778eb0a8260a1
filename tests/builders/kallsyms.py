"""A kernel's symbol table, written as scripts/kallsyms.c does."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo, parse_vmcoreinfo
from vmcorefs.core.structures.kallsyms import SymbolTable, read_symbols
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.errors import FormatError

Symbol = tuple[int, str, str]

TEXT = 0xFFFFFFFF81000000
SYMBOLS: list[Symbol] = [
    (TEXT, "T", "_stext"),
    (TEXT, "T", "_text"),
    (TEXT + 0x40, "t", "do_one_initcall"),
    (TEXT + 0x90, "T", "do_exit"),
    (TEXT + 0x1000, "W", "arch_do_signal"),
    (TEXT + 0x1FFF, "d", "done.1"),
    (TEXT + 0x20000, "B", "_end"),
]
PER_CPU: list[Symbol] = [(0, "A", "fixed_percpu_data"), (0x1F0, "A", "cpu_tss_rw")]


def make_table(rows: Sequence[Symbol]) -> SymbolTable:
    """The decoded table of these symbols."""
    addresses, types, names = zip(*rows, strict=True)
    return SymbolTable(np.array(addresses, dtype=np.uint64), "".join(types), names)


def compress(entries: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Names and the 256 tokens, as ``optimize_result`` of scripts/kallsyms.c chooses them."""
    used = set(b"".join(entries))
    tokens = [bytes([code]) if code in used else b"" for code in range(256)]
    coded = [list(entry) for entry in entries]
    for code in (code for code in range(255, 0, -1) if code not in used):
        pairs = Counter(pair for name in coded for pair in pairwise(name))
        if not pairs:
            break
        (left, right), profit = pairs.most_common(1)[0]
        if profit < 2:
            break
        tokens[code] = tokens[left] + tokens[right]
        coded = [_substitute(name, left, right, code) for name in coded]
    return [bytes(name) for name in coded], tokens


def _substitute(name: list[int], left: int, right: int, code: int) -> list[int]:
    result: list[int] = []
    for value in name:
        if result and (result[-1], value) == (left, right):
            result[-1] = code
        else:
            result.append(value)
    return result


def length_bytes(name: bytes) -> bytes:
    if len(name) < 0x80:
        return bytes([len(name)])
    return bytes([len(name) & 0x7F | 0x80, len(name) >> 7])


def stored_offset(scheme: str, number: int, text: int, here: int) -> int:
    if scheme == "relative":
        return number - text
    if scheme == "percpu" and number >= 1 << 31:
        return text - 1 - number
    return number - here if scheme == "place" else number


@dataclass(frozen=True)
class Kernel:
    """A kernel's kallsyms tables in memory, and what VMCOREINFO says of them."""

    vmcoreinfo: Vmcoreinfo
    image: bytes
    base: int
    byte_order: ByteOrder
    word_size: int

    @property
    def memory(self) -> KernelMemory:
        def read(vaddr: int, size: int) -> bytes:
            start = vaddr - self.base
            if not 0 <= start <= start + size <= len(self.image):
                raise FormatError(f"nothing at {vaddr:#x}")
            return self.image[start : start + size]

        return KernelMemory(read, self.byte_order, self.word_size)

    def read(self) -> SymbolTable:
        return read_symbols(self.vmcoreinfo, self.memory)

    def symbol(self, name: str) -> int:
        return self.vmcoreinfo.symbol(name)

    def patched(self, name: str, data: bytes) -> Kernel:
        """The same with ``data`` where the symbol ``name`` points."""
        start = self.symbol(name) - self.base
        image = self.image[:start] + data + self.image[start + len(data) :]
        return replace(self, image=image)

    def told(self, **values: str) -> Kernel:
        """The same with other symbols in VMCOREINFO; an empty value takes one away."""
        merged = self.vmcoreinfo.values | {f"SYMBOL({k})": v for k, v in values.items()}
        lines = "".join(f"{key}={value}\n" for key, value in merged.items() if value)
        return replace(self, vmcoreinfo=parse_vmcoreinfo(lines.encode()))


def write_kernel(
    symbols: Sequence[Symbol],
    scheme: str = "relative",
    *,
    byte_order: ByteOrder = "<",
    word_size: int = 8,
    offsets_first: bool = False,
    base: int = TEXT + 0x1000000,
) -> Kernel:
    """Lay the tables out as ``write_src`` of scripts/kallsyms.c does: offsets last since 6.4."""
    coded, tokens = compress([(kind + name).encode("latin-1") for _, kind, name in symbols])
    text = next(address for address, _, name in symbols if name == "_stext")
    numbers = [address for address, _, _ in symbols]
    word = "Q" if word_size == 8 else "I"
    token_at = [sum(len(token) + 1 for token in tokens[:code]) for code in range(256)]
    stream = [length_bytes(name) + name for name in coded]
    markers = [sum(map(len, stream[:number])) for number in range(0, len(stream), 256)]
    where: dict[str, int] = {}
    image = bytearray()

    def put(name: str, data: bytes) -> None:
        image.extend(bytes(-len(image) % 8))
        where[name] = base + len(image)
        image.extend(data)

    def put_offsets() -> None:
        if scheme == "addresses":
            put("kallsyms_addresses", struct.pack(f"{byte_order}{len(numbers)}{word}", *numbers))
            return
        here = base + len(image) + -len(image) % 8
        stored = [
            stored_offset(scheme, number, text, here + 4 * row) & 0xFFFFFFFF
            for row, number in enumerate(numbers)
        ]
        put("kallsyms_offsets", struct.pack(f"{byte_order}{len(stored)}I", *stored))
        if scheme in ("relative", "percpu"):
            put("kallsyms_relative_base", struct.pack(byte_order + word, text))

    if offsets_first:
        put_offsets()
    put("kallsyms_num_syms", struct.pack(byte_order + "I", len(symbols)))
    put("kallsyms_names", b"".join(stream))
    put("kallsyms_markers", struct.pack(f"{byte_order}{len(markers)}I", *markers))
    put("kallsyms_token_table", b"".join(token + b"\0" for token in tokens))
    put("kallsyms_token_index", struct.pack(f"{byte_order}256H", *token_at))
    if not offsets_first:
        put_offsets()
    del where["kallsyms_markers"]  # VMCOREINFO does not tell it
    lines = "".join(f"SYMBOL({name})={at:x}\n" for name, at in ({"_stext": text} | where).items())
    return Kernel(parse_vmcoreinfo(lines.encode()), bytes(image), base, byte_order, word_size)


def listed(table: SymbolTable) -> list[Symbol]:
    return list(zip(table.addresses.tolist(), table.types, table.names, strict=True))
