"""The memory and nothing else: no map, no backup, no notes, no symbols are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.real.marks import REAL, only
from tests.real.pieces import concatenate
from tests.real.trees import compare, differences, mounted, read
from tests.real.truth import segments

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.capture import Capture

pytestmark = REAL


@pytest.fixture(scope="module")
def alone(capture: Capture, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with mounted(tmp_path_factory.mktemp("alone"), capture.ram) as tree:
        yield tree


def test_vmcore_equals_the_kernels_own(capture: Capture, alone: Path) -> None:
    assert differences(alone / "vmcore", capture.vmcore) == (0, None)


def test_the_map_is_what_the_kernel_printed(capture: Capture, alone: Path) -> None:
    assert (alone / "iomem").read_text() == capture.text("iomem")


@pytest.mark.parametrize("name", ["oldmem", "crash_notes", "dmesg", "kallsyms"])
def test_the_other_files_are_as_with_the_map(tree: Path, alone: Path, name: str) -> None:
    assert differences(alone / name, tree / name) == (0, None)


def test_kcore_has_the_same_headers(tree: Path, alone: Path) -> None:
    assert read(alone / "kcore", 0, 4096) == read(tree / "kcore", 0, 4096)


@only("kexec", "file")
def test_concatenated_ram_is_put_in_its_place(capture: Capture, scratch: Path) -> None:
    image = scratch / "concatenated"
    concatenate(capture, image)
    with mounted(scratch, image) as tree:
        assert differences(tree / "vmcore", capture.vmcore) == (0, None)


@only("kexec", "kexec-6.12")
def test_headers_that_are_built_are_the_kernels_own(capture: Capture, tmp_path: Path) -> None:
    # kexec-tools' elfcorehdr has all of RAM, so the map and the kernel tell the same vmcore
    assert capture.lowmem is not None
    options = ("--elfcorehdr", "none", "--backup", capture.lowmem)
    with mounted(tmp_path, *options, capture.ram) as tree:
        vmcore = tree / "vmcore"
        low = next(load for load in segments(vmcore).loads if load["p_paddr"] == 0x1000)
        # what pads the last page of low memory: the kernel shows what lies behind its backup
        start = low["p_offset"] + low["p_memsz"]
        end = start + -start % 4096
        assert end > start
        size = capture.vmcore.stat().st_size
        assert vmcore.stat().st_size == size
        assert compare(vmcore, 0, capture.vmcore, 0, start) == (0, None)
        assert compare(vmcore, end, capture.vmcore, end, size - end) == (0, None)
