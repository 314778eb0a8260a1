"""Whatever memory and VMCOREINFO hold, decoding symbols ends, in a table or in an error of ours."""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import replace

import numpy as np
from hypothesis import given, strategies as st

from tests.unit.core.test_kallsyms import SYMBOLS, TEXT, listed, write_kernel
from tests.unit.core.test_modules import BASE, EXT4, HEAD, Machine
from vmcorefs.core.btf import check_btf, read_structs
from vmcorefs.core.kallsyms import SymbolTable, expand_names
from vmcorefs.core.kernel_memory import KernelMemory
from vmcorefs.core.modules import iter_modules
from vmcorefs.core.orc import ENTRY_DTYPE as ORC_ENTRY, make_debug_frame, read_debug_frame
from vmcorefs.core.vmlinux import make_vmlinux
from vmcorefs.errors import FormatError, VmcorefsError

NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=200)
SCHEMES = st.sampled_from(["relative", "percpu", "place", "addresses"])


@given(st.lists(st.tuples(st.integers(0, 1 << 30), st.sampled_from("TtDdBbWV"), NAMES)), SCHEMES)
def test_a_written_table_is_read_back(rows: list[tuple[int, str, str]], scheme: str) -> None:
    symbols = [(TEXT, "T", "_stext"), *((TEXT + at, kind, name) for at, kind, name in rows)]

    assert listed(write_kernel(symbols, scheme).read()) == symbols


@given(st.binary(max_size=300), st.integers(1, 100), st.lists(st.binary(max_size=9)))
def test_arbitrary_names(data: bytes, count: int, some: list[bytes]) -> None:
    tokens = [some[code % len(some)] if some else b"x" for code in range(256)]
    with suppress(VmcorefsError):
        assert len(expand_names(data, count, tokens)) == count


@given(SCHEMES, st.integers(0, 1 << 14), st.binary(min_size=1, max_size=64))
def test_a_table_with_other_bytes_in_it(scheme: str, at: int, data: bytes) -> None:
    kernel = write_kernel(SYMBOLS, scheme)
    at %= len(kernel.image)
    image = (kernel.image[:at] + data + kernel.image[at + len(data) :])[: len(kernel.image)]
    with suppress(VmcorefsError):
        table = replace(kernel, image=image).read()
        assert table.format().count(b"\n") == len(SYMBOLS) == len(table)
        make_vmlinux(table, machine=62, byte_order="<")


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "_stext",
                *("kallsyms_" + part for part in ("names", "num_syms", "token_table")),
                *("kallsyms_" + part for part in ("token_index", "offsets", "relative_base")),
            ]
        ),
        st.one_of(
            st.integers(0, (1 << 64) - 1), st.integers(TEXT + 0x1000000, TEXT + 0x1001000)
        ).map("{:x}".format),
    )
)
def test_arbitrary_addresses_in_vmcoreinfo(values: dict[str, str]) -> None:
    with suppress(VmcorefsError):
        write_kernel(SYMBOLS).told(**values).read()


@given(st.one_of(st.binary(), st.binary(max_size=40).map(b"\x9f\xeb\x01\x00\x18\0\0\0".__add__)))
def test_arbitrary_btf(data: bytes) -> None:
    with suppress(VmcorefsError):
        assert data.startswith(check_btf(data, "<"))


@given(st.binary(max_size=200), st.integers(0, 200), st.booleans())
def test_arbitrary_types(types: bytes, cut: int, sound: bool) -> None:
    at = min(cut, len(types)) if not sound else len(types) // 2
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, at, at, len(types) - at)
    with suppress(VmcorefsError):
        read_structs(header + types, "<", ["module"])


@given(st.integers(0, 1 << 10), st.binary(min_size=1, max_size=16), st.booleans())
def test_modules_with_other_bytes_in_them(at: int, data: bytes, in_btf: bool) -> None:
    machine = Machine()
    machine.add("ext4", EXT4, {"ext4_exported": EXT4[2][0]})
    machine.add("jbd2", [(BASE + 0xA000, "t", "jbd2_start")], {})
    btf = bytearray(machine.btf())
    changed = btf if in_btf else machine.image
    at %= (len(btf) if in_btf else machine.end) - len(data)
    changed[at : at + len(data)] = data
    kernel = SymbolTable(np.array([HEAD], dtype=np.uint64), "D", ("modules",))
    with suppress(VmcorefsError):
        for table in iter_modules(KernelMemory(machine.read, "<", 8), kernel, bytes(btf)):
            assert table.format().count(b"\n") == len(table)


@given(st.lists(st.tuples(st.integers(0, 1 << 33), st.binary(min_size=6, max_size=6)), min_size=2))
def test_arbitrary_orc_entries(rows: list[tuple[int, bytes]]) -> None:
    where = np.sort(np.array([at for at, _ in rows], dtype=np.uint64))
    table = np.frombuffer(b"".join(entry for _, entry in rows), dtype=ORC_ENTRY)
    with suppress(VmcorefsError):
        data = make_debug_frame(where, table)
        assert len(data) % 8 == 0


@given(st.integers(-5, 9), st.binary(min_size=100, max_size=100), st.integers(0, 99))
def test_arbitrary_orc_in_memory(count: int, image: bytes, crash_kexec: int) -> None:
    names = ("__start_orc_unwind_ip", "__stop_orc_unwind_ip", "__start_orc_unwind")
    at = [TEXT, TEXT + 4 * count, TEXT + 40, TEXT + crash_kexec]

    def read(vaddr: int, size: int) -> bytes:
        if not TEXT <= vaddr <= vaddr + size <= TEXT + len(image):
            raise FormatError(f"nothing at {vaddr:#x}")
        return image[vaddr - TEXT : vaddr - TEXT + size]

    kernel = SymbolTable(np.array(at, dtype=np.uint64), "RRRT", (*names, "__crash_kexec"))
    with suppress(VmcorefsError):
        read_debug_frame(kernel, KernelMemory(read, "<", 8))
