"""A core of a Xen domain as an image."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.builders.dead_machines import HIGH
from tests.builders.encodings import machine
from tests.builders.xen import NONE, PAGE, pack_xen
from tests.conftest import Opener
from tests.matching import exactly, same_bytes
from vmcorefs import FormatError

RAM = bytes(machine().memory)
PAGES = [(at // PAGE, RAM[at : at + PAGE]) for at in range(0, HIGH[1], PAGE)]


def saved(tmp_path: Path, data: bytes) -> tuple[Path, Path]:
    (tmp_path / "core").write_bytes(data)
    (tmp_path / "iomem").write_text(machine().iomem)
    return tmp_path / "core", tmp_path / "iomem"


@pytest.mark.parametrize("paravirtual", [False, True])
def test_each_page_is_where_its_number_says(
    tmp_path: Path, open_capture: Opener, paravirtual: bool
) -> None:
    pages = [*PAGES, (NONE, bytes(PAGE))]
    random.Random(1).shuffle(pages)  # noqa: S311
    path, iomem = saved(tmp_path, pack_xen(pages, paravirtual=paravirtual))
    capture = open_capture(path, memory_map=iomem)
    same_bytes(capture["oldmem"].pread(len(RAM), 0), RAM)
    assert ("paravirtual" in str(capture.image.warnings)) is paravirtual


@pytest.mark.parametrize("cut", range(1, 11))
def test_of_a_core_that_was_cut_nothing_can_be_read(
    tmp_path: Path, open_capture: Opener, cut: int
) -> None:
    data = pack_xen(PAGES)
    path, iomem = saved(tmp_path, data[: len(data) * cut // 11])
    with pytest.raises(FormatError, match="of one that was cut, nothing can be read"):
        open_capture(path, memory_map=iomem, truncated=True)


def test_a_page_that_is_there_twice_is_a_contradiction(
    tmp_path: Path, open_capture: Opener
) -> None:
    path, _ = saved(tmp_path, pack_xen([PAGES[3], PAGES[3]]))
    with pytest.raises(FormatError, match="core: a page is there twice"):
        open_capture(path)


def test_a_page_beyond_all_addresses_is_refused(tmp_path: Path, open_capture: Opener) -> None:
    path, _ = saved(tmp_path, pack_xen([(1 << 60, bytes(PAGE))]))
    expected = f"{path}: page 0x1000000000000000, beyond 0x4000000000000000"
    with pytest.raises(FormatError, match=exactly(expected)):
        open_capture(path)
