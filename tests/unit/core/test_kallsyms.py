"""Decoding the kernel's symbol table, against tables written as scripts/kallsyms.c does."""

from __future__ import annotations

import random
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest

from vmcorefs.core.kallsyms import MAX_SYMBOLS, SymbolTable, expand_names, read_symbols
from vmcorefs.core.kernel_memory import KernelMemory
from vmcorefs.core.notes import ByteOrder
from vmcorefs.core.vmcoreinfo import Vmcoreinfo, parse_vmcoreinfo
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


def test_two_names_written_by_hand() -> None:
    tokens = [b"T", b"pa", b"nic", b"t", b"do_"] + [b""] * 251

    names = expand_names(b"\x03\x00\x01\x02" + b"\x03\x03\x04\x01" + b"rest", 2, tokens)

    assert names == ["Tpanic", "tdo_pa"]


def test_a_two_byte_length_written_by_hand() -> None:
    tokens = [b"x"] * 256

    names = expand_names(b"\x82\x01" + bytes(130) + b"\x02\x00\x00", 2, tokens)

    assert names == ["x" * 130, "xx"]


@pytest.mark.parametrize("offsets_first", [False, True])
@pytest.mark.parametrize("scheme", ["relative", "percpu", "place", "addresses"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_every_kind_of_address_table(
    scheme: str, byte_order: ByteOrder, offsets_first: bool
) -> None:
    symbols = [*PER_CPU, *SYMBOLS] if scheme in ("percpu", "addresses") else SYMBOLS

    kernel = write_kernel(symbols, scheme, byte_order=byte_order, offsets_first=offsets_first)

    assert listed(kernel.read()) == symbols


@pytest.mark.parametrize("scheme", ["relative", "addresses", "place", "absolute"])
def test_32_bits(scheme: str) -> None:
    symbols = [(address & 0xFFFFFFFF, kind, name) for address, kind, name in SYMBOLS]
    kernel = write_kernel(symbols, scheme, byte_order=">", word_size=4, base=0x82000000)

    table = kernel.read()

    assert listed(table) == symbols
    assert table.format().splitlines()[0] == b"81000000 T _stext"


def test_a_kernel_above_the_offsets() -> None:
    kernel = write_kernel(SYMBOLS, "place", base=TEXT - 0x100000)

    assert listed(kernel.read()) == SYMBOLS


def test_a_name_of_more_than_127_codes() -> None:
    letters = random.Random(1)  # noqa: S311 - no secrets here
    name = "".join(letters.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOP0123456789_", k=500))
    symbols = [*SYMBOLS, (TEXT + 0x30000, "t", name), (TEXT + 0x30010, "t", "after")]

    kernel = write_kernel(symbols)

    assert max(map(len, compress([name.encode()])[0])) > 127
    assert listed(kernel.read()) == symbols


def test_a_name_that_is_not_ascii() -> None:
    symbols = [*SYMBOLS, (TEXT + 0x30000, "t", "caf\xe9")]

    table = write_kernel(symbols).read()

    assert table.format().endswith(b" t caf\xe9\n")


def test_many_symbols() -> None:
    symbols = SYMBOLS[:2] + [(TEXT + i, "tTdDbB"[i % 6], f"sym_{i * i:x}") for i in range(1000)]

    assert listed(write_kernel(symbols, "percpu").read()) == symbols


def test_lookup_gives_the_first_of_several() -> None:
    table = write_kernel([*SYMBOLS, (TEXT + 0x30000, "t", "do_exit")]).read()

    assert table.lookup("do_exit") == TEXT + 0x90
    assert table.lookup("do_exi") is None
    assert len(table) == len(SYMBOLS) + 1


def test_the_text_is_that_of_proc_kallsyms() -> None:
    addresses = np.array([0, 0xFFFFFFFF81000040], dtype=np.uint64)

    assert SymbolTable(addresses, "At", ("a", "b")).format() == (
        b"0000000000000000 A a\nffffffff81000040 t b\n"
    )
    assert SymbolTable(addresses, "At", ("a", "b"), module="ext4").format() == (
        b"0000000000000000 A a\t[ext4]\nffffffff81000040 t b\t[ext4]\n"
    )


@pytest.mark.parametrize("count", [0, MAX_SYMBOLS + 1, 0xFFFFFFFF])
def test_an_absurd_number_of_symbols(count: int) -> None:
    kernel = write_kernel(SYMBOLS).patched("kallsyms_num_syms", struct.pack("<I", count))

    with pytest.raises(FormatError, match=f"kallsyms_num_syms is {count}"):
        kernel.read()


def test_more_names_than_there_are() -> None:
    kernel = write_kernel(SYMBOLS).patched("kallsyms_num_syms", struct.pack("<I", 30))

    with pytest.raises(FormatError, match=r"ends behind the table|without a name"):
        kernel.read()


@pytest.mark.parametrize(
    ("symbol", "address", "message"),
    [
        ("kallsyms_names", "ffffffff80000000", "kallsyms_names: .* bytes up to the tokens"),
        ("kallsyms_names", "ffffffffff000000", "kallsyms_names: -.* bytes up to the tokens"),
        ("kallsyms_token_index", "ffffffffff000000", "kallsyms_token_table: .* bytes"),
        ("kallsyms_token_index", "1", "kallsyms_token_table: -.* bytes"),
        ("_stext", "ffffffff81000040", "_stext is at 0xffffffff81000000 or .* expected"),
        ("_stext", "", "VMCOREINFO: SYMBOL\\(_stext\\)"),
        ("kallsyms_num_syms", "", "VMCOREINFO: SYMBOL\\(kallsyms_num_syms\\)"),
        ("kallsyms_offsets", "", "VMCOREINFO: SYMBOL\\(kallsyms_addresses\\)"),
        ("kallsyms_relative_base", "10", "nothing at 0x10"),
    ],
)
def test_what_vmcoreinfo_says_is_checked(symbol: str, address: str, message: str) -> None:
    kernel = write_kernel(SYMBOLS).told(**{symbol: address})

    with pytest.raises(FormatError, match=message):
        kernel.read()


def test_no_stext_among_the_names() -> None:
    kernel = write_kernel(SYMBOLS)
    names = kernel.symbol("kallsyms_names")
    first = kernel.memory.read(names, 1)[0]

    with pytest.raises(FormatError, match="no _stext in 7 names"):
        kernel.patched("kallsyms_names", bytes([first]) + b"d" * first).read()


def test_a_token_index_outside_the_table() -> None:
    kernel = write_kernel(SYMBOLS).patched("kallsyms_token_index", b"\xff\xff")

    with pytest.raises(FormatError, match="0xffff is outside the token table"):
        kernel.read()


def test_a_symbol_without_a_name() -> None:
    with pytest.raises(FormatError, match="without a name"):
        expand_names(b"\x01T", 1, [b"x"] * 256)


@pytest.mark.parametrize("token", [b"a\nb", b"a b", b"\x7f", b"\t"])
def test_a_token_that_would_break_a_line(token: bytes) -> None:
    with pytest.raises(FormatError, match="unprintable token"):
        expand_names(b"\x02\x00\x00", 1, [token] * 256)


def test_names_that_would_fill_memory() -> None:
    with pytest.raises(FormatError, match="bytes expanded"):
        expand_names(b"\xff\x7f" + bytes(0x3FFF), 1, [b"x" * 0xFFFF] * 256)
