"""The kernel that ran last, found by what its CPUs were started with."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.builders.dead_machines import cpu_note_phdrs, load_phdr, note_phdr, pack_elf
from tests.builders.kernels import (
    GIB,
    LOW,
    MIB,
    NOTE_AT,
    TRAMPOLINE,
    X86,
    X86_5,
    X86_RAM,
    Arch,
    DeadKernel,
    Placed,
    Span,
    make_kernel,
    split,
    start_cpus,
)
from vmcorefs.config import make_config
from vmcorefs.core.space.extents import Extents
from vmcorefs.discovery.explore import Explorer
from vmcorefs.discovery.search.trampoline import find_notes
from vmcorefs.reader import Reader
from vmcorefs.sources.base import Source
from vmcorefs.sources.registry import RawMemory, open_inputs
from vmcorefs.sources.wrappers.unwrap import Unwrapping

CRASH: Span = (32 * MIB, 40 * MIB)
ELFCOREHDR = 39 * MIB


class Counted:
    """A source, and how much of it was read."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.read = 0

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        self.read += len(buffer)
        self._source.pread_into(offset, buffer)

    def __getattr__(self, name: str) -> object:
        return getattr(self._source, name)


def explore(ram: Path, **options: str) -> tuple[Explorer, Counted, Extents]:
    config = make_config([ram], **options)  # type: ignore[arg-type]
    inputs = open_inputs(config.images, ram_end=None, how=Unwrapping())
    assert isinstance(inputs, RawMemory)
    counted = Counted(inputs.sources[0])
    explorer = Explorer(config, (counted,), inputs.captured)  # type: ignore[arg-type]
    return explorer, counted, inputs.captured


def release(explorer: Explorer) -> str | None:
    assert explorer.found is not None
    return explorer.found.candidate.vmcoreinfo.release


def captured_by(kernel: DeadKernel, *, command_line: str, crashed: bool = False) -> DeadKernel:
    """A crash kernel has run: its memory, low memory, and the elfcorehdr that it was given."""
    phdrs = [*cpu_note_phdrs(3), note_phdr(kernel.base + NOTE_AT, 4096)]
    phdrs += [load_phdr(MIB, CRASH[0]), load_phdr(CRASH[1], kernel.ram[-1][1])]
    other = make_kernel(
        ram=[LOW, CRASH],
        base=34 * MIB,
        release="6.1.0-capture",
        crashed=crashed,
        captures=True,
        command_line=command_line,
    )
    start_cpus(other)
    other.put(ELFCOREHDR, pack_elf(phdrs))
    kernel.chunks += other.chunks
    return kernel


@pytest.mark.parametrize("crashed", [True, False], ids=["crashed", "hangs"])
@pytest.mark.parametrize("arch", [X86, X86_5], ids=["4 levels", "5 levels"])
def test_memory_is_not_scanned(tmp_path: Path, arch: Arch, crashed: bool) -> None:
    kernel = make_kernel(arch, crashed=crashed)
    start_cpus(kernel)
    explorer, counted, _ = explore(kernel.save(tmp_path / "ram"))
    assert release(explorer) == "6.1.0-test"
    assert not explorer.has_scanned
    assert counted.read < 5 * MIB
    assert explorer.found is not None
    assert explorer.found.note == kernel.base + NOTE_AT


def test_who_is_thorough_scans_it_all_the_same(tmp_path: Path) -> None:
    kernel = make_kernel()
    start_cpus(kernel)
    explorer, _, _ = explore(kernel.save(tmp_path / "ram"))
    explorer.look()
    assert explorer.has_scanned
    assert release(explorer) == "6.1.0-test"


@pytest.mark.parametrize("placed", [split(2 * GIB, 6 * GIB), split(3 * GIB, 6 * GIB)])
def test_its_note_may_be_above_the_pci_hole(tmp_path: Path, placed: list[Placed]) -> None:
    low = placed[0][2]
    ram = [LOW, (MIB, low), (4 * GIB, 6 * GIB)]
    kernel = make_kernel(ram=ram, base=4 * GIB + 16 * MIB)
    start_cpus(kernel)
    explorer, _, _ = explore(kernel.save(tmp_path / "ram", placed))
    assert release(explorer) == "6.1.0-test"
    assert not explorer.has_scanned


@pytest.mark.parametrize(
    "option",
    [f"elfcorehdr={ELFCOREHDR:#x}", f"elfcorehdr={ELFCOREHDR >> 10}K", f"elfcorehdr=4K@{39}M"],
)
def test_its_capture_kernel_leads_to_the_one_that_crashed(tmp_path: Path, option: str) -> None:
    kernel = captured_by(
        make_kernel(base=8 * MIB, crash_kernel=CRASH), command_line=f"elfcorehdr=1K {option} quiet"
    )
    explorer, _, _ = explore(kernel.save(tmp_path / "ram"))
    assert release(explorer) == "6.1.0-test"
    assert not explorer.has_scanned


@pytest.mark.parametrize(
    "command_line",
    [
        "",
        "quiet",
        "xelfcorehdr=39M",
        "elfcorehdr=40M",
        "elfcorehdr=zero",
        "elfcorehdr=0xffffffffffffffff",
        "elfcorehdr=9999999999999999G",
    ],
)
def test_where_that_is_not_told_memory_is_scanned(tmp_path: Path, command_line: str) -> None:
    kernel = captured_by(make_kernel(base=8 * MIB, crash_kernel=CRASH), command_line=command_line)
    explorer, _, _ = explore(kernel.save(tmp_path / "ram"))
    assert release(explorer) == "6.1.0-test"
    assert explorer.has_scanned


def test_a_capture_kernel_that_cannot_be_told_from_another_is_not_taken(tmp_path: Path) -> None:
    """Without kallsyms there is no ``elfcorehdr_addr``, and it has no CRASHTIME."""
    kernel = make_kernel(base=8 * MIB, crash_kernel=CRASH)
    other = make_kernel(
        ram=[LOW, CRASH], base=34 * MIB, release="6.1.0-capture", crashed=False,
        lacks=["elfcorehdr_addr"],
    )  # fmt: skip
    start_cpus(other)
    kernel.chunks += other.chunks
    explorer, _, _ = explore(kernel.save(tmp_path / "ram"))
    assert release(explorer) == "6.1.0-test"
    assert explorer.has_scanned


def test_a_kernel_before_the_last_one_is_not_taken_though_its_tables_are_whole(
    tmp_path: Path,
) -> None:
    """It crashed too, and lies in front: only low memory tells which of them ran last."""
    earlier = make_kernel(base=8 * MIB, release="6.1.0-earlier")
    kernel = make_kernel(base=24 * MIB)
    start_cpus(kernel)
    kernel.chunks = earlier.chunks + kernel.chunks
    explorer, _, _ = explore(kernel.save(tmp_path / "ram"))
    assert release(explorer) == "6.1.0-test"


@pytest.mark.parametrize("doubt", ["another note", "no note", "a lost table", "missing RAM"])
def test_any_doubt_has_memory_scanned(tmp_path: Path, doubt: str) -> None:
    kernel = make_kernel(ram=[LOW, (MIB, 80 * MIB)])
    start_cpus(kernel)
    note = kernel.distance + kernel.base + NOTE_AT
    if doubt == "another note":
        kernel.patch("vmcoreinfo_note", struct.pack("<Q", note + 0x1000))
    elif doubt == "no note":
        kernel.patch("vmcoreinfo_note", bytes(8))
    elif doubt == "a lost table":
        table = kernel.tables.get(kernel.tables.root, 256 + 57) or kernel.tables.root
        kernel.put((table & ~0xFFF) + 8 * 300, struct.pack("<Q", 1 << 40 | 0x67))
    ram = kernel.save(tmp_path / "ram")
    if doubt == "missing RAM":
        with ram.open("r+b") as file:
            file.truncate(72 * MIB)
    explorer, _, _ = explore(ram)
    assert release(explorer) == "6.1.0-test"
    assert explorer.has_scanned


def test_of_another_machine_nothing_is_followed(tmp_path: Path) -> None:
    kernel = make_kernel()
    start_cpus(kernel)
    explorer, _, _ = explore(kernel.save(tmp_path / "ram"), machine="aarch64")
    assert explorer.ranking[0].kernel is None
    assert explorer.has_scanned


@pytest.mark.parametrize(
    "page",
    [
        struct.pack("<Q", TRAMPOLINE | 0x67) * 512,  # names itself, 512 times a level
        struct.pack("<Q", 0xE3) * 512,
        b"\xff" * 4096,
        b"\x01" * 4096,
        struct.pack("<512Q", *(0x1000 * n | 0x67 for n in range(512))),
    ],
)
def test_hostile_roots_cost_little(tmp_path: Path, page: bytes) -> None:
    kernel = make_kernel()
    for at in range(LOW[0], LOW[1] - 4096, 4096):
        kernel.put(at, page)
    explorer, counted, captured = explore(kernel.save(tmp_path / "ram"))
    memory = Reader("memory", captured, (counted,))  # type: ignore[arg-type]
    assert list(find_notes(memory)) == []
    assert counted.read < 300 * MIB
    assert release(explorer) == "6.1.0-test"


def test_there_is_an_end_to_the_pointers_that_are_followed(tmp_path: Path) -> None:
    kernel = make_kernel(ram=X86_RAM)
    start_cpus(kernel)
    words = [kernel.distance + MIB, 0x800] * (1 << 16)
    kernel.put(kernel.base + 5 * MIB, struct.pack(f"<{len(words)}Q", *words))
    _, counted, captured = explore(kernel.save(tmp_path / "ram"))
    memory = Reader("memory", captured, (counted,))  # type: ignore[arg-type]
    assert list(find_notes(memory)) == [MIB]
