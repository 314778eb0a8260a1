"""Decoding the kernel's symbol table, against tables written as scripts/kallsyms.c does."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest

from tests.builders.kallsyms import (
    PER_CPU,
    SYMBOLS,
    TEXT,
    compress,
    listed,
    write_kernel,
)
from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.structures.kallsyms import (
    MAX_SYMBOLS,
    SymbolTable,
    expand_names,
    find_tables,
)
from vmcorefs.errors import FormatError


def test_two_names_written_by_hand() -> None:
    tokens = [b"T", b"pa", b"nic", b"t", b"do_"] + [b""] * 251

    found = expand_names(b"\x03\x00\x01\x02" + b"\x03\x03\x04\x01" + b"rest", 2, tokens)

    assert found == ("Tt", ("panic", "do_pa"))


def test_a_two_byte_length_written_by_hand() -> None:
    tokens = [b"x"] * 256

    found = expand_names(b"\x82\x01" + bytes(130) + b"\x02\x00\x00", 2, tokens)

    assert found == ("xx", ("x" * 129, "x"))


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

    with pytest.raises(FormatError, match=r"ends past the table|without a name"):
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


@pytest.mark.parametrize("offsets_first", [False, True])
def test_the_tables_that_are_not_among_the_symbols(offsets_first: bool) -> None:
    symbols = [*SYMBOLS, *((TEXT + 16 * n, "t", f"f{n}") for n in range(1000))]
    kernel = write_kernel(symbols, offsets_first=offsets_first)

    found = find_tables(kernel.vmcoreinfo, kernel.memory)

    told = {key[7:-1] for key in kernel.vmcoreinfo.values if "kallsyms" in key}
    assert found.keys() == told | {"kallsyms_markers"}
    assert found["kallsyms_names"] == kernel.symbol("kallsyms_names")
    # where every 256th name starts
    first, second, *_ = kernel.memory.integers(found["kallsyms_markers"], 3, 4).tolist()
    _, tokens = compress([(kind + name).encode() for _, kind, name in symbols])
    names = kernel.memory.read(found["kallsyms_names"] + second, 64)
    assert first == 0
    assert expand_names(names, 1, tokens) == ("t", (symbols[256][2],))


def test_others_have_no_type() -> None:
    others = {"kallsyms_names": TEXT, "top": 1 << 64, SYMBOLS[0][2]: 0}
    table = write_kernel(SYMBOLS).read().with_others(others)

    assert listed(table)[-2:] == [(TEXT, "?", "kallsyms_names"), (0, "?", "top")]
    assert listed(table)[:-2] == SYMBOLS
    assert table.lookup("kallsyms_names") == TEXT
