"""The memory and nothing else: no map, no backup, no notes, no symbols are given."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.lab.capture import debug_vmlinux
from tests.lab.concatenation import concatenate
from tests.real import tools
from tests.real.marks import REAL, only, stopped
from tests.real.trees import compare, differences, mounted, read
from tests.real.truth import segments

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.capture import Capture, Snapshot

pytestmark = REAL


@pytest.fixture(scope="module")
def alone(capture: Capture, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with mounted(tmp_path_factory.mktemp("alone"), capture.ram) as tree:
        yield tree


def test_vmcore_equals_the_kernels_own(capture: Capture, alone: Path) -> None:
    assert differences(alone / "vmcore", capture.vmcore) == (0, None)


def test_the_map_is_what_the_kernel_printed(capture: Capture, alone: Path) -> None:
    assert (alone / "iomem").read_text() == capture.text("iomem")


@pytest.mark.parametrize("name", ["crash_notes", "dmesg", "kallsyms"])
def test_the_other_files_are_as_with_the_map(tree: Path, alone: Path, name: str) -> None:
    assert differences(alone / name, tree / name) == (0, None)


@only("kexec")
def test_oldmem_is_as_with_the_map(tree: Path, alone: Path) -> None:
    assert differences(alone / "oldmem", tree / "oldmem") == (0, None)


@only("file")
def test_every_extent_is_as_with_the_map(tree: Path, alone: Path) -> None:
    ours, theirs = (json.loads((root / "layout.json").read_text()) for root in (alone, tree))
    assert ours["files"]["oldmem"] == theirs["files"]["oldmem"]
    assert ours["files"]["vmcore"] == theirs["files"]["vmcore"]


def test_kcore_has_the_same_headers(tree: Path, alone: Path) -> None:
    assert read(alone / "kcore", 0, 4096) == read(tree / "kcore", 0, 4096)


@only("kexec", "file")
def test_concatenated_ram_is_put_in_its_place(capture: Capture, scratch: Path) -> None:
    image = scratch / "concatenated"
    concatenate(capture, image)
    with mounted(scratch, image) as tree:
        assert differences(tree / "vmcore", capture.vmcore) == (0, None)


@only("kexec", "kexec-newer")
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


@stopped("none", "none-5g", "none-newer", "arm64", "arm64-52-bit", "arm64-16k")
def test_a_machine_without_a_crash_kernel(snapshot: Snapshot, tmp_path: Path) -> None:
    # without variables in kallsyms, as Debian's 6.1 for arm64 is, there is no crash_notes in it
    has_variables = "CONFIG_KALLSYMS_ALL=y" in snapshot.kernel.config
    warns = "" if has_variables else ".*no CPU's crash notes.*\n"
    with both_mounted(snapshot, snapshot.ram, tmp_path, warns) as (alone, described):
        assert (alone / "iomem").read_text() == snapshot.text("iomem")
        assert differences(alone / "vmcore", described / "vmcore") == (0, None)
        assert all(load["p_vaddr"] for load in segments(alone / "vmcore").loads)


@stopped("none", "none-5g", "arm64-52-bit")
def test_a_machine_without_a_crash_kernel_concatenated(snapshot: Snapshot, scratch: Path) -> None:
    image = scratch / "image"
    concatenate(snapshot, image)
    with both_mounted(snapshot, image, scratch) as (alone, described):
        ours, theirs = alone / "vmcore", described / "vmcore"
        loads = segments(ours).loads
        assert loads == segments(theirs).loads
        # what pads a page behind a range is in no concatenated image
        for load in loads:
            span = load["p_offset"], load["p_filesz"]
            assert compare(ours, span[0], theirs, *span) == (0, None)


@stopped("none", "none-newer")
def test_tools_open_a_machine_without_a_crash_kernel(snapshot: Snapshot, tmp_path: Path) -> None:
    vmlinux = debug_vmlinux(snapshot.recipe.kernel)
    tasks = [line for line in snapshot.text("tasks").splitlines() if " lab-" in line]
    assert len(tasks) == 3
    with mounted(tmp_path, snapshot.ram) as tree:
        vmcore = tree / "vmcore"
        for dump in (vmcore, tree / "kcore"):
            said = tools.drgn(vmlinux, dump, "running").splitlines()
            assert said[:3] == ["Linux", "vmcorefs-lab", snapshot.kernel.name]
            assert set(said) >= set(tasks)
        assert tools.crash_osrelease(vmcore).strip() == snapshot.kernel.name
        assert "Linux version" in tools.vmcore_dmesg(vmcore)
        filtered = tools.makedumpfile(vmcore, tmp_path / "filtered", "-c", "-d", "31")
        assert 0 < filtered.stat().st_size < snapshot.ram.stat().st_size / 4


@contextmanager
def both_mounted(
    snapshot: Snapshot, image: Path, where: Path, warns: str = ""
) -> Iterator[tuple[Path, Path]]:
    """Mount ``image`` with nothing else, and the snapshot as it is described."""
    for name in ("alone", "described"):
        (where / name).mkdir()
    with (
        mounted(where / "alone", image, warns=warns) as alone,
        mounted(where / "described", snapshot.config, warns=warns) as described,
    ):
        yield alone, described
