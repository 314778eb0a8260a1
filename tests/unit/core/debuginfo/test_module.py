"""The made debug file of a module, judged by pyelftools."""

from __future__ import annotations

import io

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import NoteSection, SymbolTableSection

from tests.builders.btf import FUNC, FUNC_PROTO, INT, VAR, Writer
from tests.builders.kallsyms import make_table
from tests.builders.module_parts import CODE, CONSTANTS, DATA, SYMBOLS
from tests.builders.orc import CALL, SP
from vmcorefs.core.debuginfo.dwarf import Places, make_dwarf
from vmcorefs.core.debuginfo.elf_file import Contents, Section
from vmcorefs.core.debuginfo.module import code_of, lay_out, make_module
from vmcorefs.core.debuginfo.orc import ENTRY_DTYPE, make_debug_frame
from vmcorefs.core.elf.elf import EM_AARCH64, EM_X86_64
from vmcorefs.core.structures.module_parts import ModuleParts, Region
from vmcorefs.core.structures.types.btf_table import read_types
from vmcorefs.errors import UnsupportedError

NOTHING = Contents()
PER_CPU = 0x34000
PARTS = ModuleParts(
    regions=(
        Region(CODE, 0x100, is_code=True, is_written=False),
        Region(CONSTANTS, 0x100, is_code=False, is_written=False),
        Region(DATA, 0x100, is_code=False, is_written=True),
    ),
    sections=(
        (".text", CODE),
        (".exit.text", CODE + 0x80),
        (".rodata", CONSTANTS),
        ("__param", CONSTANTS + 0x40),
        (".data", DATA),
        (".init.text", CODE + 0x7000),
        (".debug_info", DATA + 0x80),
    ),
    per_cpu=(PER_CPU, 0x20),
)
TABLE = make_table([*SYMBOLS, (PER_CPU + 8, "d", "ext4_per_cpu"), (0xFFFF0000, "a", "elsewhere")])


def make(contents: Contents = NOTHING, machine: int = EM_X86_64) -> ELFFile:
    sections = lay_out(PARTS, TABLE)
    return ELFFile(
        io.BytesIO(make_module(TABLE, sections, contents, machine=machine, byte_order="<"))
    )


def symbol(elf: ELFFile, name: str) -> tuple[int, int, str]:
    """Value, size and section of a symbol."""
    table = elf.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    (found,) = table.get_symbol_by_name(name) or []
    index = found["st_shndx"]
    section = index if isinstance(index, str) else elf.get_section(index).name
    return found["st_value"], found["st_size"], section


def test_sections_reach_to_the_next_one() -> None:
    """Of those without code or symbols nobody asks anything, and what is freed is not there."""
    assert [(s.name, s.addr, s.size, s.flags) for s in lay_out(PARTS, TABLE)] == [
        (".data..percpu", PER_CPU, 0x20, 3),
        (".text", CODE, 0x80, 6),
        (".exit.text", CODE + 0x80, 0x80, 6),
        (".rodata", CONSTANTS, 0x40, 2),
        (".data", DATA, 0x100, 3),
    ]


def test_code_is_one_range() -> None:
    assert code_of(lay_out(PARTS, TABLE)) == (CODE, 0x100)
    assert code_of([Section(".data", 8, 3, DATA, 0x100)]) == (0, 0)


def test_all_is_relative_to_sections() -> None:
    elf = make()

    assert elf.header["e_type"] == "ET_REL"
    assert elf.num_segments() == 0
    assert {section["sh_addr"] for section in elf.iter_sections()} == {0}
    assert symbol(elf, "ext4_write") == (0x20, 0x60, ".text")
    assert symbol(elf, "ext4_exit") == (0, 0x80, ".exit.text")
    assert symbol(elf, "ext4_data") == (0x10, 0xF0, ".data")
    assert symbol(elf, "ext4_per_cpu") == (8, 0x18, ".data..percpu")
    assert symbol(elf, "elsewhere") == (0xFFFF0000, 0, "SHN_ABS")


@pytest.mark.parametrize(("machine", "kind"), [(EM_X86_64, 1), (EM_AARCH64, 257)])
def test_addresses_in_dwarf_are_relocated(machine: int, kind: int) -> None:
    btf = Writer()
    btf.add(INT, "int", 4, [1 << 24 | 32])
    btf.add_list(FUNC_PROTO, "", 1, [("inode", 1)])
    btf.add(FUNC, "ext4_exit", 2)
    btf.add(VAR, "ext4_per_cpu", 1, [0])
    places = Places(
        {"ext4_exit": (CODE + 0x90, 0x10)},
        {"ext4_per_cpu": PER_CPU + 8},
        {},
        (CODE, 0x100),
        "ext4.ko",
    )
    types = read_types(btf.finish(), "<")
    dwarf = make_dwarf(types, places, {}, byte_order="<", char_is_signed=True)

    elf = make(Contents(dwarf=dwarf), machine)

    relocations = elf.get_section_by_name(".rela.debug_info")
    assert isinstance(relocations, RelocationSection)
    symbols = elf.get_section(relocations["sh_link"])
    assert isinstance(symbols, SymbolTableSection)
    assert elf.get_section(relocations["sh_info"]).name == ".debug_info"
    raw = elf.get_section(relocations["sh_info"]).data()
    found = set()
    for entry in relocations.iter_relocations():
        assert entry["r_info_type"] == kind
        assert raw[entry["r_offset"] :][:8] == bytes(8)  # readers may add to what is there
        section = symbols.get_symbol(entry["r_info_sym"])
        assert section["st_info"]["type"] == "STT_SECTION"
        found.add((elf.get_section(section["st_shndx"]).name, entry["r_addend"]))
    assert found == {(".text", 0), (".exit.text", 0x10), (".data..percpu", 8)}
    info = elf.get_dwarf_info(relocate_dwarf_sections=True)
    (unit,) = info.iter_CUs()
    assert unit.get_top_DIE().attributes["DW_AT_name"].value == b"ext4.ko"
    (function,) = [d for d in unit.iter_DIEs() if d.tag == "DW_TAG_subprogram"]
    assert function.attributes["DW_AT_name"].value == b"ext4_exit"
    assert function.attributes["DW_AT_low_pc"].value == 0x10


def test_debug_str_has_only_what_is_named() -> None:
    btf = Writer()
    btf.add(INT, "int", 4, [1 << 24 | 32])
    btf.name("nobody")
    places = Places({}, {}, {}, (0, 0), "ext4.ko")
    types = read_types(btf.finish(), "<")

    strings = make_dwarf(types, places, {}, byte_order="<", char_is_signed=True).strings

    assert strings.split(b"\0") == [b"int", b"vmcorefs, from the kernel's BTF", b"ext4.ko", b""]


def test_where_to_unwind_is_relocated() -> None:
    addresses = np.array([CODE, CODE + 0x80, CODE + 0x100], dtype=np.uint64)
    table = np.array([(8, 0, SP | CALL)] * 3, dtype=ENTRY_DTYPE)

    elf = make(Contents(debug_frame=make_debug_frame(addresses, table)))

    relocations = elf.get_section_by_name(".rela.debug_frame")
    assert isinstance(relocations, RelocationSection)
    (entry,) = relocations.iter_relocations()
    frames = elf.get_section_by_name(".debug_frame")
    assert frames is not None
    assert entry["r_addend"] == 0
    assert frames.data()[entry["r_offset"] :][:16] == bytes(8) + (0x100).to_bytes(8, "little")


def test_code_and_build_id() -> None:
    elf = make(Contents(image={".text": b"\x90" * 0x80}, build_id=bytes(range(20))))

    text, rest = elf.get_section_by_name(".text"), elf.get_section_by_name(".exit.text")
    assert text is not None
    assert rest is not None
    assert (text["sh_type"], text.data()) == ("SHT_PROGBITS", b"\x90" * 0x80)
    assert rest["sh_type"] == "SHT_NOBITS"
    notes = elf.get_section_by_name(".note.gnu.build-id")
    assert isinstance(notes, NoteSection)
    assert [note["n_desc"] for note in notes.iter_notes()] == [bytes(range(20)).hex()]


def test_a_machine_whose_relocations_are_not_known_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="no relocatable file for machine 258"):
        make(machine=258)
