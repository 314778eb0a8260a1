"""``vmcore`` at a dump level: what it has, what it has not, and what says so."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from tests.builders.dead_machines import bare_machine
from tests.builders.every_kind import BAD, CACHE, FREE, USER, dead_kernel, page
from tests.builders.kernels import MIB, X86_RAM, make_kernel
from tests.conftest import Opener
from tests.matching import exactly
from vmcorefs import Capture, ConfigError, FormatError
from vmcorefs.core.pages.dump_level import PageKind

PAGE = 4096


@pytest.fixture
def ram(tmp_path: Path) -> Path:
    return dead_kernel().save(tmp_path / "ram")


def loads(capture: Capture) -> list[dict[str, int]]:
    vmcore = capture["vmcore"]
    found = [dict(s.header) for s in ELFFile(io.BytesIO(vmcore.pread(1 << 16, 0))).iter_segments()]
    assert found[0]["p_type"] == "PT_NOTE"
    return found[1:]


def page_at(capture: Capture, paddr: int) -> bytes | None:
    """What the vmcore has of a page, or None if no segment has it."""
    for load in loads(capture):
        inside = paddr - load["p_paddr"]
        if 0 <= inside < load["p_memsz"]:
            assert load["p_filesz"] == load["p_memsz"]
            return capture["vmcore"].pread(PAGE, load["p_offset"] + inside)
    return None


@pytest.mark.parametrize("layout", ["kernel", "universal"])
@pytest.mark.parametrize(
    ("level", "gone"),
    [
        (0, set()),
        (2, {"cache"}),
        (4, {"cache", "private"}),
        (8, {"user"}),
        (16, {"free"}),
        (31, {"free", "cache", "private", "user"}),
    ],
)
def test_pages_that_a_level_leaves_out(
    ram: Path, open_capture: Opener, level: int, gone: set[str], layout: str
) -> None:
    capture = open_capture(ram, dump_level=level, layout=layout)
    whole = open_capture(ram, layout=layout)
    for name, pfn in {
        "free": FREE * 256 + 700,
        "cache": CACHE * 256 + 100,
        "private": CACHE * 256 + 101,
        "user": USER * 256 + 2000,
        "kernel": (BAD + 1) * 256 - 1,
    }.items():
        found = page_at(capture, pfn * PAGE)
        # a single page that is left out is a hole in what is stored
        assert found == page(pfn) if name not in gone else found in (None, bytes(PAGE)), name
        assert page_at(whole, pfn * PAGE) == page(pfn)
    # at every level: nobody should read it
    assert page_at(capture, BAD * MIB) == bytes(PAGE)
    assert capture["vmcore"].size <= whole["vmcore"].size
    assert "vmcore" in capture.files
    assert capture["oldmem"].pread(PAGE, FREE * MIB) == whole["oldmem"].pread(PAGE, FREE * MIB)


def test_long_runs_are_not_in_the_file_and_short_ones_are_holes(
    ram: Path, open_capture: Opener
) -> None:
    capture = open_capture(ram, dump_level=30)
    whole = open_capture(ram)
    assert not any(page_at(capture, mib * MIB) for mib in (FREE, CACHE, USER, USER + 7))
    assert page_at(capture, (USER + 8) * MIB) == page(0)
    told = sum(load["p_memsz"] for load in loads(capture))
    assert told == sum(load["p_memsz"] for load in loads(whole)) - 24 * MIB
    assert capture["vmcore"].size == whole["vmcore"].size - 24 * MIB
    text = json.loads(capture["layout.json"].pread(1 << 20, 0))
    extents = text["files"]["vmcore"]["extents"]
    holes = [(e["size"], e["kind"]) for e in extents if e["kind"] == "excluded"]
    assert holes == [(255 * PAGE, "excluded"), (PAGE, "excluded")]
    assert not {"excluded"} & {e["kind"] for e in text["files"]["oldmem"]["extents"]}


def test_level_1_leaves_out_no_zeros(ram: Path, open_capture: Opener) -> None:
    """They are holes already where they are known, and what is bad is left out at every level."""
    capture, other = open_capture(ram, dump_level=1), open_capture(ram, dump_level=0)
    assert page_at(capture, 120 * MIB) == bytes(PAGE)
    for a, b in zip(loads(capture), loads(other), strict=True):
        assert a == b
    assert capture["vmcore"].reader.table.is_same(other["vmcore"].reader.table)


def test_how_many_pages_there_are_of_each_kind(ram: Path, open_capture: Opener) -> None:
    filtered = open_capture(ram, dump_level=31).filtered
    assert filtered is not None
    counts = {kind.name: count for kind, count in filtered.counts.items() if count}
    assert counts == {
        "KERNEL": 32768 - 256 + 0x9F - 4 * 2048 + 2048 - 255 - 1,
        "CACHE": 1024 + 255,
        "CACHE_PRIVATE": 1024,
        "USER": 2048,
        "FREE": 2048,
        "HWPOISON": 1,
    }
    assert sum(filtered.counts.values()) == 0x9F + 127 * 256
    assert filtered.warnings == ()
    assert PageKind.ZERO in filtered.counts


def test_what_cannot_be_told_is_a_warning(tmp_path: Path, open_capture: Opener) -> None:
    kernel = dead_kernel()
    at = kernel.text.index(b"NUMBER(PG_private)=14\n")
    # the note is made of the same text
    for number, (paddr, data) in enumerate(kernel.chunks):
        kernel.chunks[number] = (paddr, data.replace(b"NUMBER(PG_private)", b"NUMBER(PG_PRIVATE)"))
    assert at
    capture = open_capture(kernel.save(tmp_path / "ram"), dump_level=2)
    told = "neither VMCOREINFO nor BTF says which cache pages are private: all are taken to be"
    assert told in capture.image.warnings
    assert page_at(capture, CACHE * MIB) == page(0)


def test_no_page_array(tmp_path: Path, open_capture: Opener) -> None:
    saved = make_kernel(ram=X86_RAM).save(tmp_path / "ram")
    message = (
        "cannot tell what pages were used for: VMCOREINFO: SIZE(page) is None, expected a number"
    )
    with pytest.raises(FormatError, match=exactly(message)):
        open_capture(saved, dump_level=16)


def test_no_vmcoreinfo(tmp_path: Path, open_capture: Opener) -> None:
    saved = bare_machine().save(tmp_path)
    with pytest.raises(FormatError, match="what pages were used for without VMCOREINFO"):
        open_capture(saved.ram, memory_map=saved.iomem, dump_level=16)


@pytest.mark.parametrize("level", [-1, 32])
def test_a_level_that_is_none(ram: Path, open_capture: Opener, level: int) -> None:
    with pytest.raises(ConfigError, match=exactly(f"dump level {level}: expected 0 to 31")):
        open_capture(ram, dump_level=level)
