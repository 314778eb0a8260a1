"""``vmcorefs.open``: the Python API."""

from __future__ import annotations

from pathlib import Path

import pytest

import vmcorefs
from tests.builders.dead_machines import HIGH, LOW, Saved, bare_machine, dead_machine, stamped
from tests.conftest import Opener
from tests.matching import exactly
from vmcorefs import ConfigError, Piece, SourceIOError


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    return dead_machine().save(tmp_path)


def test_a_capture_is_opened_by_paths_and_closed_behind_the_with_statement(saved: Saved) -> None:
    with vmcorefs.open(saved.ram, memory_map=saved.iomem, backup=saved.lowmem) as capture:
        assert capture["vmcore"].pread(4, 0) == b"\x7fELF"
        oldmem = capture["oldmem"]
    with pytest.raises(SourceIOError):
        oldmem.pread(1, HIGH[0])


def test_it_is_closed_after_an_error_too(saved: Saved) -> None:
    capture = vmcorefs.open(str(saved.ram), memory_map=str(saved.iomem))
    with pytest.raises(RuntimeError, match=exactly("stop")), capture:
        raise RuntimeError("stop")
    with pytest.raises(SourceIOError):
        capture["oldmem"].pread(1, HIGH[0])


def test_images_may_be_pieces_in_either_form(saved: Saved, open_capture: Opener) -> None:
    images = [f"{saved.ram}@0+0x100000", Piece(str(saved.ram), 0x100000, 0x100000)]
    capture = open_capture(images, memory_map=saved.iomem)
    assert capture["oldmem"].pread(16, 0x13FFF8) == stamped(0x13FFF8, 0x140008)
    assert [source.role for source in capture.image.sources] == ["image", "image"]


def test_a_backup_may_say_where_it_belongs(tmp_path: Path, open_capture: Opener) -> None:
    saved = bare_machine().save(tmp_path)
    capture = open_capture(saved.ram, memory_map=saved.iomem, backup=f"{saved.lowmem}@{LOW[0]:#x}")
    assert capture["oldmem"].pread(16, LOW[1] - 16) == stamped(LOW[1] - 16, LOW[1])


def test_a_capture_description_is_opened_by_its_name_and_arguments_override_it(
    saved: Saved, tmp_path: Path, open_capture: Opener
) -> None:
    toml = tmp_path / "capture.toml"
    toml.write_text('map = "none"\nholes = "error"\n[[image]]\npath = "ram"\n')
    capture = open_capture(toml, memory_map=saved.iomem, raw_reserved=True)
    assert capture.image.config == vmcorefs.CaptureConfig(
        images=(Piece(f"{tmp_path}/ram"),),
        memory_map=str(saved.iomem),
        holes="error",
        raw_reserved=True,
        description=str(toml),
    )


def test_without_an_image_there_is_nothing_to_open() -> None:
    with pytest.raises(
        ConfigError,
        match=exactly("no image: expected at least one file that holds physical memory"),
    ):
        vmcorefs.open([])


def test_files_are_looked_up_by_path_and_the_tree_cannot_be_changed(
    saved: Saved, open_capture: Opener
) -> None:
    capture = open_capture(saved.ram, memory_map=saved.iomem)
    assert capture["crash_notes.d/cpu0"] is capture.files["crash_notes.d/cpu0"]
    with pytest.raises(KeyError):
        capture["none"]
    with pytest.raises(TypeError):
        capture.files["vmcore"] = capture["oldmem"]  # type: ignore[index]  # that is the point


@pytest.mark.parametrize(("machine", "expected"), [(None, 62), ("aarch64", 183), ("386", 3)])
def test_the_machine_is_x86_64_unless_told(
    tmp_path: Path, open_capture: Opener, machine: str | None, expected: int
) -> None:
    saved = bare_machine().save(tmp_path)
    capture = open_capture(saved.ram, memory_map=saved.iomem, machine=machine)
    header = capture.image.plan.elfcorehdr.header
    assert (header.e_machine, header.elf_class) == (expected, 1 if expected == 3 else 2)


def test_every_error_has_an_exit_status_and_an_errno() -> None:
    family = {error: (error.exit_code, error.errno) for error in _errors()}
    assert {status for status, _ in family.values()} == {2, 3, 4, 5, 6}
    assert all(number > 0 for _, number in family.values())


def _errors() -> list[type[vmcorefs.VmcorefsError]]:
    every = [getattr(vmcorefs, name) for name in vmcorefs.__all__ if name.endswith("Error")]
    return [error for error in every if error is not vmcorefs.VmcorefsError]
