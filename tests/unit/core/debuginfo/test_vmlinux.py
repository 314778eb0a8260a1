"""The made vmlinux, judged by pyelftools."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection, Section, SymbolTableSection

from tests.builders.kallsyms import make_table
from vmcorefs.core.debuginfo.elf_file import Contents
from vmcorefs.core.debuginfo.vmlinux import at_link_addresses, image_sections, make_vmlinux
from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.errors import UnsupportedError

T = 0xFFFFFFFF81000000
ROWS = [
    (0x0, "A", "__per_cpu_start"),
    (0x1F0, "A", "cpu_tss_rw"),
    (0x2000, "A", "__per_cpu_end"),
    (T, "T", "startup_64"),
    (T, "T", "_stext"),
    (T, "T", "_text"),
    (T + 0x100, "t", "do_one"),
    (T + 0x180, "W", "arch_hook"),
    (T + 0x1F0, "T", "_etext"),
    (T + 0x1F8, "r", "between"),
    (T + 0x1000, "D", "_sdata"),
    (T + 0x1010, "d", "jiffies"),
    (T + 0x1800, "D", "_edata"),
    (T + 0x3000, "B", "_end"),
]
BTF = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 12, 12, 4) + b"typestypes..strs"


def make(
    rows: list[tuple[int, str, str]] = ROWS,
    byte_order: ByteOrder = "<",
    btf: bytes | None = None,
    build_id: bytes | None = None,
    image: dict[str, bytes] | None = None,
) -> ELFFile:
    contents = Contents(image=image or {}, btf=btf, build_id=build_id)
    data = make_vmlinux(make_table(rows), contents, machine=62, byte_order=byte_order)
    return ELFFile(io.BytesIO(data))


def symtab(elf: ELFFile) -> SymbolTableSection:
    table = elf.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    return table


def symbol(elf: ELFFile, name: str) -> tuple[str, str, int, int, str]:
    """Binding, type, value, size and section of a symbol."""
    (found,) = symtab(elf).get_symbol_by_name(name) or []
    index = found["st_shndx"]
    section = index if isinstance(index, str) else elf.get_section(index).name
    info = found["st_info"]
    return info["bind"], info["type"], found["st_value"], found["st_size"], section


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_symbols(byte_order: ByteOrder) -> None:
    elf = make(byte_order=byte_order)

    assert elf.header["e_type"] == "ET_EXEC"
    assert elf.header["e_machine"] == "EM_X86_64"
    assert elf.little_endian == (byte_order == "<")
    assert symbol(elf, "do_one") == ("STB_LOCAL", "STT_FUNC", T + 0x100, 0x80, ".text")
    assert symbol(elf, "arch_hook") == ("STB_WEAK", "STT_FUNC", T + 0x180, 0x70, ".text")
    assert symbol(elf, "jiffies") == ("STB_LOCAL", "STT_OBJECT", T + 0x1010, 0x7F0, ".data")
    assert symbol(elf, "cpu_tss_rw")[2:] == (0x1F0, 0x1E10, ".data..percpu")
    assert symbol(elf, "_end")[3:] == (0, ".image.1800")  # readers move no absolute symbol


def test_data_in_an_executable_section_is_data() -> None:
    """Kallsyms calls it ``t``, as nm does."""
    rows = [(T + 0x1020, "T", "init_task"), (T + 0x1030, "t", "prb"), (T + 0x1A00, "t", "code")]

    linked = at_link_addresses(make_table([*ROWS, *rows]), 0)

    assert linked.types == "".join(kind for _, kind, _ in ROWS) + "Ddt"


def test_the_first_of_several_names_has_the_size() -> None:
    elf = make()

    assert symbol(elf, "startup_64")[3] == 0x100
    assert symbol(elf, "_stext")[3] == symbol(elf, "_text")[3] == 0


def test_local_symbols_come_first() -> None:
    table = symtab(make())

    binds = [entry["st_info"]["bind"] for entry in table.iter_symbols()]

    assert len(binds) == 1 + 5 + len(ROWS)  # none, sections, the kernel's
    assert set(binds[: table["sh_info"]]) == {"STB_LOCAL"}
    assert "STB_LOCAL" not in binds[table["sh_info"] :]


def test_sections_cover_the_image_without_a_gap() -> None:
    sections = [section for section in make().iter_sections() if section["sh_flags"] & 2]

    assert [(s.name, s["sh_addr"], s["sh_size"], s["sh_flags"]) for s in sections] == [
        (".text", T, 0x1F0, 6),
        (".data..percpu", 0, 0x2000, 3),
        (".image.1f0", T + 0x1F0, 0xE10, 3),
        (".data", T + 0x1000, 0x800, 3),
        (".image.1800", T + 0x1800, 0x1800, 3),
    ]
    assert {section["sh_type"] for section in sections} == {"SHT_NOBITS"}


def test_drgn_takes_it_for_a_vmlinux() -> None:
    """So that KASLR does not move the per-CPU offsets: they are not between the outer segments."""
    elf = make()

    mark = elf.get_section_by_name(".init.text")
    segments = [segment["p_vaddr"] for segment in elf.iter_segments()]
    assert mark is not None
    assert (mark["sh_type"], mark["sh_size"], mark["sh_flags"]) == ("SHT_PROGBITS", 0, 0)
    assert (segments[0], segments[1], segments[-1]) == (T, 0, T + 0x1800)


def test_btf_and_build_id() -> None:
    elf = make(btf=BTF, build_id=bytes(range(20)))

    copied = elf.get_section_by_name(".BTF")
    notes = elf.get_section_by_name(".note.gnu.build-id")
    assert isinstance(copied, Section)
    assert isinstance(notes, NoteSection)
    assert copied.data() == BTF
    (note,) = notes.iter_notes()
    assert note["n_type"] == "NT_GNU_BUILD_ID"
    assert note["n_desc"] == bytes(range(20)).hex()


def test_only_text_symbols_as_without_kallsyms_all() -> None:
    elf = make([(T, "T", "_stext"), (T + 8, "t", "f"), (T + 16, "T", "_etext")])

    assert symbol(elf, "f")[3:] == (8, ".text")
    assert symbol(elf, "_etext")[3:] == (0, ".text")


def test_symbols_that_contradict_each_other_make_no_section() -> None:
    names = [(T + 16, "T", "_stext"), (T, "T", "_etext"), (T + 4, "t", "f"), (3, "B", "_end")]

    assert symbol(make(names), "f") == ("STB_LOCAL", "STT_FUNC", T + 4, 0, "SHN_ABS")


def test_a_32_bit_kernel_is_refused() -> None:
    table = SymbolTable(np.zeros(1, dtype=np.uint64), "T", ("_stext",), word_size=4)

    with pytest.raises(UnsupportedError, match="32 bits"):
        make_vmlinux(table, Contents(), machine=3, byte_order="<")


def test_sections_have_symbols_and_segments() -> None:
    elf = make()
    sections = [section for section in elf.iter_sections() if section["sh_flags"] & 2]

    kinds = [s for s in symtab(elf).iter_symbols() if s["st_info"]["type"] == "STT_SECTION"]
    segments = [segment.header for segment in elf.iter_segments()]

    assert [s["st_value"] for s in kinds] == [s["sh_addr"] for s in sections]
    assert [(s["p_type"], s["p_vaddr"], s["p_filesz"], s["p_memsz"]) for s in segments] == [
        ("PT_LOAD", section["sh_addr"], 0, section["sh_size"]) for section in sections
    ]


def test_bytes_of_the_image() -> None:
    elf = make(image={".text": bytes(range(0xF0)) + b"x" * 0x100})

    text, data = (elf.get_section_by_name(name) for name in (".text", ".data"))
    (segment,) = (s for s in elf.iter_segments() if s["p_vaddr"] == T)
    assert isinstance(text, Section)
    assert isinstance(data, Section)
    assert (text["sh_type"], text.data()) == ("SHT_PROGBITS", bytes(range(0xF0)) + b"x" * 0x100)
    assert segment.data() == text.data()
    assert data["sh_type"] == "SHT_NOBITS"


def test_symbols_beyond_the_end_of_the_image_have_a_section_too() -> None:
    elf = make([*ROWS, (T + 0x9000, "A", "__init_scratch_end")])

    assert symbol(elf, "__init_scratch_end")[4] == ".image.1800"


def test_link_addresses() -> None:
    offset = 0x29200000
    moved = [(address + offset * (address >= T), kind, name) for address, kind, name in ROWS]

    linked = at_link_addresses(make_table(moved), offset)

    assert linked.addresses.tolist() == [address for address, _, _ in ROWS]
    assert linked.names == tuple(name for _, _, name in ROWS)
    assert list(image_sections(linked)) == [
        (".data..percpu", 0, 0x2000),
        (".text", T, 0x1F0),
        (".data", T + 0x1000, 0x800),
    ]
