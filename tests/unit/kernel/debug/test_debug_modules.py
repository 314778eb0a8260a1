"""Debug files of modules, of a kernel whose memory is laid out by hand."""

from __future__ import annotations

import io
import logging
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tests.builders.btf import FUNC, FUNC_PROTO, PTR, Writer
from tests.builders.module_parts import ARCH, BTF_MODULES, CODE, DATA, PERCPU, SYMBOLS, PartsMachine
from tests.builders.modules import BASE, HEAD
from vmcorefs.core.elf.elf import EM_X86_64
from vmcorefs.core.elf.vmcoreinfo import parse_vmcoreinfo
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.errors import FormatError
from vmcorefs.kernel.debug import debug_modules
from vmcorefs.kernel.debug.debug_modules import DebugModules
from vmcorefs.kernel.debug.debug_vmlinux import NEEDED
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.kernel.symbols import find_symbols

OFFSETS = BASE + 0xE000
OWN = SymbolTable(
    np.array([HEAD, BTF_MODULES, OFFSETS], dtype=np.uint64),
    "ddd",
    ("modules", "btf_modules", "__per_cpu_offset"),
)
LONG, TYPES = 1, 16  # of the kernel's types: one, and how many


def module_types(own: Writer, types: int) -> bytes:
    """A structure and a function of the module's own."""
    btf = Writer(names=len(own.strings))
    btf.add_struct("ext4_inode", 16, [("size", LONG, 0), ("self", types + 1, 64)])
    btf.add(PTR, "", types)
    btf.add_list(FUNC_PROTO, "", LONG, [("inode", types + 1)])
    btf.add(FUNC, "ext4_write", types + 2)
    return btf.finish()


def machine(*, newer: bool = False, describe: bool = True) -> tuple[PartsMachine, int]:
    made = PartsMachine(newer=newer)
    at = made.add("ext4", SYMBOLS, {})
    made.dress(at)
    if describe:
        own = made.types()
        made.describe(at, module_types(own, TYPES), TYPES, len(own.strings))
    return made, at


def modules(made: PartsMachine, available: int | None = None) -> DebugModules:
    memory = KernelMemory(made.read, "<", 8)
    kernel = SimpleNamespace(
        virtual=memory,
        image=memory,
        word_size=8,
        symbol=OWN.require,
        symbols=OWN,
        machine=EM_X86_64,
        byte_order="<",
        vmcoreinfo=parse_vmcoreinfo(b"OSRELEASE=6.1.0\n"),
    )
    symbols = find_symbols(OWN, (made.btf(), ""), memory)
    return DebugModules(cast("Kernel", kernel), symbols, available)


def make(made: PartsMachine, available: int | None = None) -> ELFFile:
    return ELFFile(io.BytesIO(modules(made, available).make("ext4")))


@pytest.mark.parametrize("newer", [False, True])
def test_types_functions_and_code(*, newer: bool) -> None:
    made, _ = machine(newer=newer)
    made.image[CODE - BASE : CODE - BASE + 4] = b"code"

    elf = make(made)

    (unit,) = elf.get_dwarf_info().iter_CUs()
    dies = {
        die.attributes["DW_AT_name"].value: die
        for die in unit.get_top_DIE().iter_children()
        if "DW_AT_name" in die.attributes
    }
    assert set(dies) == {b"long", b"ext4_inode", b"ext4_write"}  # no other type of the kernel's
    assert [d.attributes["DW_AT_name"].value for d in dies[b"ext4_write"].iter_children()] == [
        b"inode"
    ]
    assert dies[b"ext4_write"].attributes["DW_AT_high_pc"].value == 0x60
    text = elf.get_section_by_name(".text")
    assert text is not None
    assert text.data()[:4] == b"code"
    symtab = elf.get_section_by_name(".symtab")
    assert isinstance(symtab, SymbolTableSection)
    assert symtab.get_symbol_by_name("ext4_data") is not None


def test_per_cpu_variables_are_those_of_cpu_0() -> None:
    made = PartsMachine()
    at = made.add("ext4", [*SYMBOLS, (0x34010, "a", "ext4_counters")], {})
    made.dress(at)
    made.put(at + PERCPU, "QI", 0x34000, 0x40)
    area = made.store(b"cpu 0".ljust(0x40, b"\0"))
    made.put(OFFSETS - BASE, "Q", (BASE + area - 0x34000) % 2**64)

    section = make(made).get_section_by_name(".data..percpu")

    assert section is not None
    assert section.data() == b"cpu 0".ljust(0x40, b"\0")


def test_sections_for_a_command_line() -> None:
    assert modules(machine()[0]).sections("ext4") == [
        (".text", CODE),
        (".exit.text", CODE + 0x80),
        (".rodata", 0xFFFFFFFFC0009000),
        (".data", DATA),
    ]


@pytest.mark.parametrize("name", ["../x", "..", ".x", "a/b", "a b", 'a"', "a;b"])
def test_a_name_that_no_file_may_have_is_left_out(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = PartsMachine()
    if " " not in name:  # what no symbol may have ends the list
        made.add(name, [], {})
    made.add("ext4", SYMBOLS, {})

    with caplog.at_level(logging.WARNING):
        assert list(modules(made).tables) == ["ext4"]
    assert " " in name or f"no file for a module of the name {name!r}" in caplog.text


def test_of_several_modules_of_one_name_there_is_the_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = PartsMachine()
    at = made.add("ext4", SYMBOLS, {})
    made.add("ext4", [], {})

    with caplog.at_level(logging.WARNING):
        assert modules(made).tables["ext4"].module_at == BASE + at
    assert "only the first of several modules named ext4" in caplog.text


def test_without_btf_there_are_symbols(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        elf = make(machine(describe=False)[0])

    assert elf.get_section_by_name(".debug_info") is None
    assert elf.get_section_by_name(".symtab") is not None
    assert "modules: ext4: no types: it has no BTF" in caplog.text


def test_the_types_of_all_modules(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = machine()
    made.add("xfs", [], {})

    with caplog.at_level(logging.WARNING):
        (own,) = modules(made).iter_types()
        monkeypatch.setattr(debug_modules, "MAX_BTF", 100)
        assert list(modules(made).iter_types()) == []

    assert (own.module, own.first) == ("ext4", TYPES)
    assert own.table.text(int(own.table.name[TYPES])) == "ext4_inode"
    assert "modules: xfs: no types: it has no BTF" in caplog.text
    assert "modules: ext4: no types: those of all modules have more than 100 bytes" in caplog.text


def test_types_that_contradict_the_kernels_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    made, at = machine(describe=False)
    btf = Writer(names=len(made.types().strings))
    btf.add(PTR, "", 0xFFFF)
    made.describe(at, btf.finish(), TYPES, len(made.types().strings))

    with caplog.at_level(logging.WARNING):
        assert make(made).get_section_by_name(".debug_info") is None
    assert "type 16 refers to one past the last, 16" in caplog.text


def test_code_and_unwind_tables_that_cannot_be_read_are_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made, at = machine(newer=True)
    made.dress(at, [(".text", 0xFFFFFFFFC1000000)], code=(0xFFFFFFFFC1000000, 0x100))
    made.put(at + ARCH, "QQQ", 12, 0x500, 0x600)

    with caplog.at_level(logging.WARNING):
        text = make(made).get_section_by_name(".text")

    assert text is not None
    assert text["sh_type"] == "SHT_NOBITS"
    assert "modules: ext4: no bytes in .text: nothing at" in caplog.text
    assert "modules: ext4: no unwind tables: nothing at" in caplog.text


def test_a_module_that_has_no_sections_yet_has_no_file() -> None:
    made = PartsMachine()
    made.add("ext4", SYMBOLS, {})

    with pytest.raises(FormatError, match="it has no sections yet"):
        modules(made).make("ext4")


@pytest.mark.parametrize(("available", "whole"), [(NEEDED - 1, False), (NEEDED, True)])
def test_where_memory_is_short_the_files_are_small(available: int, *, whole: bool) -> None:
    elf = make(machine()[0], available)

    assert (elf.get_section_by_name(".debug_info") is not None) is whole
    text = elf.get_section_by_name(".text")
    assert text is not None
    assert (text["sh_type"] == "SHT_PROGBITS") is whole


def test_all_files_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debug_modules, "MAX_FILES", 5000)
    many = modules(machine()[0])
    made_before = 5000 // len(many.make("ext4"))
    for _ in range(made_before - 1):
        many.make("ext4")

    with pytest.raises(FormatError, match="their files have more than 5000 bytes"):
        many.make("ext4")
