"""Each "sure" of ``check``, with a fact that it rests on missing, and with one contradicted.

docs/discovery.md lists these facts.
"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.builders.dead_machines import load_phdr, note_phdr, pack_elf
from tests.builders.kernels import (
    ARM,
    CPUS_AT,
    GIB,
    IMAGE_SIZE,
    LOW,
    MIB,
    NOTE_AT,
    X86,
    DeadKernel,
    Span,
    cpu_note,
    make_kernel,
)
from vmcorefs.api import open_capture
from vmcorefs.config import CaptureConfig
from vmcorefs.core.consumers.verdicts import Answer, judge
from vmcorefs.core.elf.dump_headers import read_dump_headers
from vmcorefs.core.elf.elf import EM_X86_64
from vmcorefs.core.findings import Finding, Sureness
from vmcorefs.piece import Piece

CRASH: Span = (32 * MIB, 40 * MIB)
IOMEM = "00001000-0009fbff : System RAM\n00100000-03ffffff : System RAM\n"
NO_BETTER_MAP = ("iomem_resource", "PCI mem", "e820_table", "boot_params", "memblock")


class Seen:
    """What ``check`` has to say about an image."""

    def __init__(self, kernel: DeadKernel, tmp_path: Path, **options: object) -> None:
        size = options.pop("size", None)
        ram = kernel.save(tmp_path / "ram")
        if size is not None:
            with ram.open("rb+") as file:
                file.truncate(int(str(size)))
        config = CaptureConfig((Piece(str(ram)),), **options)  # type: ignore[arg-type]
        with open_capture(config, thorough=True) as capture:
            self.findings = {finding.what: finding for finding in capture.image.findings}
            self.warnings = capture.image.warnings
            vmcore = capture["vmcore"]
            headers = read_dump_headers(vmcore.pread, vmcore.size)
            self.loads = headers.loads["p_vaddr"].tolist()
            self.tools = {verdict.tool: verdict for verdict in judge(headers, EM_X86_64)}

    def __getitem__(self, what: str) -> Finding:
        return self.findings[what]

    def rules(self, tool: str) -> str:
        return "; ".join(objection.rule for objection in self.tools[tool].objections)


def map_file(tmp_path: Path) -> str:
    (tmp_path / "iomem").write_text(IOMEM)
    return str(tmp_path / "iomem")


def wipe(kernel: DeadKernel, vaddr: int, level: int) -> None:
    """Lose a page table, as a cut dump does: its page reads as if nothing were mapped."""
    kernel.put(kernel.tables.descend(vaddr, level), bytes(4096))


def wipe_direct_map(kernel: DeadKernel) -> None:
    wipe(kernel, kernel.arch.direct, 1)


# --- where the bytes are ---------------------------------------------------------------------


def test_a_placement_is_only_likely_without_a_map_that_is_not_the_page_tables_own(
    tmp_path: Path,
) -> None:
    seen = Seen(make_kernel(lacks=NO_BETTER_MAP), tmp_path)
    assert seen["placement"].sure is Sureness.LIKELY
    assert len(seen["placement"].reasons) == 1
    assert seen["memory map"].sure is Sureness.LIKELY


def test_a_placement_is_only_likely_where_page_tables_are_lost(tmp_path: Path) -> None:
    kernel = make_kernel(ram=[LOW, (MIB, 64 * MIB)])
    table = kernel.tables.descend(kernel.arch.direct, 2)
    entry = kernel.tables.machine.table(1 << 40)  # no memory is there
    kernel.put(table, struct.pack("<Q", entry))
    seen = Seen(kernel, tmp_path)
    assert seen["placement"].sure is Sureness.LIKELY
    assert "table that no input holds" in seen["placement"].against[0]


def test_a_placement_and_a_map_are_contradicted_by_ram_that_is_not_there(tmp_path: Path) -> None:
    seen = Seen(make_kernel(), tmp_path, size=60 * MIB, truncated=True)
    assert seen["placement"].sure is Sureness.LIKELY
    assert seen["placement"].against
    assert seen["memory map"].sure is Sureness.LIKELY


# --- VMCOREINFO, KASLR -----------------------------------------------------------------------


def test_a_vmcoreinfo_alone_is_only_likely(tmp_path: Path) -> None:
    kernel = make_kernel(told={"NUMBER(phys_base)": "0"})  # it leads to no page tables
    seen = Seen(kernel, tmp_path, memory_map=map_file(tmp_path))
    assert seen["VMCOREINFO"].sure is Sureness.LIKELY
    assert seen["KASLR offset"].sure is Sureness.LIKELY
    assert "direct map" not in seen.findings


@pytest.mark.parametrize("levels", ["1", "0"])
def test_page_tables_of_another_number_of_levels_do_not_map_themselves(
    tmp_path: Path, levels: str
) -> None:
    kernel = make_kernel(told={"NUMBER(pgtable_l5_enabled)": levels})
    seen = Seen(kernel, tmp_path, memory_map=map_file(tmp_path))
    assert (seen["VMCOREINFO"].sure is Sureness.SURE) == (levels == "0")


def test_a_vmcoreinfo_is_contradicted_by_the_kernel_that_has_its_own_elsewhere(
    tmp_path: Path,
) -> None:
    kernel = make_kernel()
    kernel.patch("vmcoreinfo_note", struct.pack("<Q", kernel.distance + kernel.base + 0x5000))
    found = Seen(kernel, tmp_path)["VMCOREINFO"]
    assert found.sure is Sureness.LIKELY
    assert any("points elsewhere" in line for line in found.against)


def test_the_time_of_the_crash_is_no_second_fact(tmp_path: Path) -> None:
    kernel = make_kernel(lacks=["vmcoreinfo_note"], told={"NUMBER(phys_base)": "0"})
    found = Seen(kernel, tmp_path, memory_map=map_file(tmp_path))["VMCOREINFO"]
    assert len(found.reasons) == 1
    assert found.reasons[0].startswith("CRASHTIME")


@pytest.mark.parametrize("offset", ["9000001", "9f000000", "ffffffff80000000", "zz"])
def test_a_kaslr_offset_is_contradicted_by_where_the_image_is(tmp_path: Path, offset: str) -> None:
    found = Seen(make_kernel(told={"KERNELOFFSET": offset}), tmp_path)["KASLR offset"]
    assert found.sure is Sureness.LIKELY
    assert found.against


# --- the direct map --------------------------------------------------------------------------


def test_a_direct_map_without_page_tables_rests_on_symbols(tmp_path: Path) -> None:
    kernel = make_kernel()
    wipe_direct_map(kernel)
    seen = Seen(kernel, tmp_path)
    assert seen["direct map"].value == f"{kernel.arch.direct:#x}"
    assert seen["direct map"].reasons == (
        "page_offset_base says so",
        "vmcoreinfo_note points to VMCOREINFO by it",
    )
    assert seen["direct map"].sure is Sureness.SURE
    assert seen.loads[1:] == [kernel.arch.direct + 0x1000, kernel.arch.direct + MIB]


def test_a_direct_map_that_one_symbol_tells_is_only_likely(tmp_path: Path) -> None:
    kernel = make_kernel(lacks=["vmcoreinfo_note"])
    wipe_direct_map(kernel)
    seen = Seen(kernel, tmp_path)
    assert seen["direct map"].sure is Sureness.LIKELY
    assert seen.loads[1:] == [kernel.arch.direct + 0x1000, kernel.arch.direct + MIB]


def test_a_direct_map_that_nothing_tells_leaves_p_vaddr_0_and_the_tools_are_told(
    tmp_path: Path,
) -> None:
    kernel = make_kernel(lacks=["page_offset_base"])
    wipe_direct_map(kernel)
    seen = Seen(kernel, tmp_path)
    assert (seen["direct map"].value, seen["direct map"].sure) == ("", Sureness.NONE)
    assert seen.loads == [kernel.arch.text, 0, 0]
    assert any(line.startswith("p_vaddr of RAM is 0") for line in seen.warnings)
    assert seen.tools["drgn"].answer is Answer.BUT
    assert "it trusts p_vaddr 0" in seen.rules("drgn")
    assert "PT_LOADs of 63.62 MiB have none" in seen.rules("gdb")
    assert "p_vaddr" not in seen.rules("crash")  # it goes by p_paddr


def test_on_arm64_vmcoreinfo_tells_it_and_a_pointer_bears_it_out(tmp_path: Path) -> None:
    for lacks, sure in (([], Sureness.SURE), (["vmcoreinfo_note"], Sureness.NONE)):
        kernel = make_kernel(ARM, [(GIB, GIB + 64 * MIB)], base=GIB + 16 * MIB, lacks=lacks)
        wipe_direct_map(kernel)
        kernel.save(tmp_path / "ram", [(GIB, 0, 64 * MIB)])
        config = CaptureConfig((Piece(str(tmp_path / "ram"), GIB),))
        with open_capture(config, thorough=True) as capture:
            (found,) = (one for one in capture.image.findings if one.what == "direct map")
        assert found.sure is sure
        assert found.value == (f"{kernel.distance:#x}" if sure is Sureness.SURE else "")


def test_only_the_table_over_the_root_is_lost(tmp_path: Path) -> None:
    """Case 07 of the field: the image's distance is not the direct map's."""
    kernel = make_kernel(lacks=["page_offset_base", "vmcoreinfo_note"])
    at = kernel.tables.descend(kernel.arch.direct, 2)
    for row in range(8, 10):  # the root is in the 2 MiB at 16 MiB
        kernel.put(at + 8 * row, bytes(8))
    seen = Seen(kernel, tmp_path)
    assert seen["direct map"].value == f"{kernel.arch.direct:#x}"
    assert seen["direct map"].sure is Sureness.LIKELY
    assert seen.loads[1:] == [kernel.arch.direct + 0x1000, kernel.arch.direct + MIB]


def test_a_direct_map_that_a_symbol_contradicts_is_none(tmp_path: Path) -> None:
    kernel = make_kernel()
    kernel.patch("page_offset_base", struct.pack("<Q", 0xFFFF888000000000))
    seen = Seen(kernel, tmp_path)
    assert seen["direct map"].sure is Sureness.NONE
    assert len(seen["direct map"].against) == 2
    assert seen.loads == [kernel.arch.text, 0, 0]


def test_a_symbol_that_is_no_address_is_passed_over(tmp_path: Path) -> None:
    kernel = make_kernel()
    kernel.patch("page_offset_base", bytes(8))  # its page was lost
    seen = Seen(kernel, tmp_path)
    assert seen["direct map"].sure is Sureness.SURE
    assert not any("page_offset_base" in line for line in seen["direct map"].reasons)


# --- the elfcorehdr, the notes, low memory ---------------------------------------------------


def with_elfcorehdr(
    *, end: int = 64 * MIB, vaddr: int = 0, note: bool = True, backup: int | None = None
) -> DeadKernel:
    """A kernel whose crash kernel's loader left an elfcorehdr."""
    kernel = make_kernel(crash_kernel=CRASH)
    distance = vaddr or kernel.distance

    def load(start: int, stop: int, offset: int | None = None) -> object:
        return load_phdr(start, stop, vaddr=distance + start, offset=offset)

    phdrs = [
        *(note_phdr(kernel.base + CPUS_AT + 512 * cpu, 368) for cpu in range(3)),
        *([note_phdr(kernel.base + NOTE_AT, 4132)] if note else []),
        load_phdr(kernel.base, kernel.base + IMAGE_SIZE, vaddr=kernel.arch.text),
        load(*LOW, backup),
        load(MIB, CRASH[0]),
        load(CRASH[1], end),
    ]
    kernel.put(CRASH[1] - MIB, pack_elf(phdrs))  # type: ignore[arg-type]
    if backup is not None:
        kernel.put(backup, b"\x01" * (LOW[1] - LOW[0]))
    return kernel


def test_an_elfcorehdr_is_sure_by_its_ram_and_its_note(tmp_path: Path) -> None:
    seen = Seen(with_elfcorehdr(), tmp_path)
    found = seen["elfcorehdr"]
    assert (found.sure, len(found.reasons), found.against) == (Sureness.SURE, 2, ())
    assert seen["crash notes"].sure is Sureness.SURE
    assert seen["VMCOREINFO"].sure is Sureness.SURE
    assert seen["direct map"].sure is Sureness.SURE


def test_an_elfcorehdr_without_vmcoreinfo_is_only_likely(tmp_path: Path) -> None:
    assert Seen(with_elfcorehdr(note=False), tmp_path)["elfcorehdr"].sure is Sureness.LIKELY


def test_an_elfcorehdr_of_other_ram_is_contradicted(tmp_path: Path) -> None:
    found = Seen(with_elfcorehdr(end=60 * MIB), tmp_path)["elfcorehdr"]
    assert found.sure is Sureness.LIKELY
    assert found.against[0].startswith("of the memory map's RAM it lacks 4 MiB")


def test_a_direct_map_is_contradicted_by_the_headers(tmp_path: Path) -> None:
    found = Seen(with_elfcorehdr(vaddr=0xFFFF888000000000), tmp_path)["direct map"]
    assert found.sure is Sureness.LIKELY
    assert found.against == ("the headers have memory at 0xffff888000000000",)


def test_an_elfcorehdr_whose_address_is_given_is_given(tmp_path: Path) -> None:
    found = Seen(with_elfcorehdr(), tmp_path, elfcorehdr=CRASH[1] - MIB)["elfcorehdr"]
    assert found.sure is Sureness.GIVEN


def test_crash_notes_are_contradicted_by_a_torn_one(tmp_path: Path) -> None:
    kernel = make_kernel()
    torn = bytearray(cpu_note(kernel.arch, 0))
    struct.pack_into("<I", torn, 4, 1 << 16)
    kernel.put(kernel.base + CPUS_AT, bytes(torn))
    found = Seen(kernel, tmp_path, drop_torn_notes=True)["crash notes"]
    assert found.value == "1 of 3 CPUs saved their registers"
    assert found.sure is Sureness.LIKELY


def test_crash_notes_are_not_found_where_nothing_was_saved(tmp_path: Path) -> None:
    assert Seen(make_kernel(crashed=False), tmp_path)["crash notes"].sure is Sureness.NONE


@pytest.mark.parametrize(
    ("place", "sure"), [(CRASH[0] + MIB, Sureness.SURE), (44 * MIB, Sureness.LIKELY)]
)
def test_a_backup_of_low_memory_is_sure_in_the_crash_kernels_memory(
    tmp_path: Path, place: int, sure: Sureness
) -> None:
    found = Seen(with_elfcorehdr(backup=place), tmp_path)["low memory"]
    assert found.sure is sure
    assert bool(found.against) == (sure is Sureness.LIKELY)


def test_a_backup_of_low_memory_is_only_likely_if_no_map_has_the_crash_kernel(
    tmp_path: Path,
) -> None:
    kernel = with_elfcorehdr(backup=CRASH[0] + MIB)
    (tmp_path / "elfcorehdr").write_bytes(kernel.chunks[-2][1])
    given = str(tmp_path / "elfcorehdr")
    found = Seen(kernel, tmp_path, memory_map=given)["low memory"]
    assert (found.sure, found.against) == (Sureness.LIKELY, ())


def test_symbols_are_not_found_where_vmcoreinfo_contradicts_them(tmp_path: Path) -> None:
    other = {"SYMBOL(_stext)": f"{X86.text + 0x100000:x}"}
    found = Seen(make_kernel(told=other), tmp_path)["kallsyms"]
    assert found.sure is Sureness.NONE
    assert "_stext is at" in found.against[0]
