"""Without an elfcorehdr and VMCOREINFO the map alone counts: RAM, and no address is guessed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from elftools.elf.elffile import ELFFile

from tests.real import tools
from tests.real.marks import REAL, only
from tests.real.trees import compare, mounted
from tests.real.truth import Span, backup, crashed_ram, image_offset

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.capture import Capture

pytestmark = [*REAL, only("kexec", "file")]


@pytest.fixture
def vmcore(capture: Capture, tmp_path: Path) -> Iterator[Path]:
    options = ["--elfcorehdr", "none", "--vmcoreinfo", "none"]
    with mounted(tmp_path, *options, capture.config) as tree:
        yield tree / "vmcore"


def _loads(vmcore: Path) -> list[dict[str, int]]:
    with vmcore.open("rb") as file:
        return [dict(load.header) for load in ELFFile(file).iter_segments("PT_LOAD")]


def _paddrs(load: dict[str, int]) -> Span:
    return load["p_paddr"], load["p_paddr"] + load["p_memsz"]


def test_segments_are_ram_without_the_crash_kernel(capture: Capture, vmcore: Path) -> None:
    loads = _loads(vmcore)
    assert [_paddrs(load) for load in loads] == crashed_ram(capture)
    assert {load["p_vaddr"] for load in loads} == {0}
    assert all(load["p_filesz"] == load["p_memsz"] for load in loads)


def test_segments_hold_the_image_with_the_backup_over_it(capture: Capture, vmcore: Path) -> None:
    saved = backup(capture)
    for load in _loads(vmcore):
        start, end = _paddrs(load)
        source, offset = capture.ram, image_offset(capture, start)
        if (start, end) == saved:
            assert capture.lowmem is not None
            source, offset = capture.lowmem, 0
        size = end - start
        assert compare(vmcore, load["p_offset"], source, offset, size) == (0, None), hex(start)


def test_readelf_and_gdb_read_it(capture: Capture, vmcore: Path) -> None:
    said = tools.readelf(vmcore)
    assert "CORE (Core file)" in said
    assert said.count("  LOAD  ") == len(crashed_ram(capture))
    assert f"{tools.NAMED}', file type elf64-x86-64" in tools.gdb(vmcore, "info files")
