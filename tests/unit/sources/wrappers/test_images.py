"""Compressed images as images: raw memory, pieces, dumps, low memory, with their options."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.builders.dead_machines import dead_machine, stamped
from tests.builders.elf_dumps import pack_dump
from tests.builders.kdumps import Kdump, flatten, stamped_page
from tests.builders.packed import FORMS, gzip_member, zstd_frame
from tests.conftest import Opener
from tests.matching import exactly, same_bytes
from vmcorefs import Piece, TruncatedError, UnsupportedError
from vmcorefs.reports.inspect import format_report, make_report

pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize("form", FORMS)
def test_an_image_of_each_kind_is_opened_as_it_is(
    form: str, tmp_path: Path, open_capture: Opener
) -> None:
    saved = dead_machine().save(tmp_path)
    plain = open_capture(saved.ram, memory_map=saved.iomem)
    packed = tmp_path / "image"
    packed.write_bytes(FORMS[form][1](saved.ram.read_bytes()))
    capture = open_capture(packed, memory_map=saved.iomem)
    assert set(capture.files) == set(plain.files)
    for path in ("vmcore", "dmesg", "vmcoreinfo"):
        if path in plain.files:
            size = plain[path].size
            same_bytes(capture[path].pread(size, 0), plain[path].pread(size, 0), path)


def test_pieces_are_unwrapped_one_by_one(tmp_path: Path, open_capture: Opener) -> None:
    (tmp_path / "iomem").write_text("00001000-00003fff : System RAM\n")
    (tmp_path / "low").write_bytes(stamped(0x1000, 0x2000))
    (tmp_path / "high").write_bytes(gzip_member(bytes(4096) + stamped(0x2000, 0x4000)))
    pieces = [Piece(str(tmp_path / "high"), 0x2000, 4096), Piece(str(tmp_path / "low"), 0x1000)]
    oldmem = open_capture(pieces, memory_map=tmp_path / "iomem")["oldmem"]
    same_bytes(oldmem.pread(0x3000, 0x1000), stamped(0x1000, 0x4000))


def test_low_memory_may_be_compressed(tmp_path: Path, open_capture: Opener) -> None:
    saved = dead_machine().save(tmp_path)
    given = {"memory_map": saved.iomem}
    plain = open_capture(saved.ram, backup=saved.lowmem, **given)["vmcore"]
    packed = tmp_path / "low"
    packed.write_bytes(zstd_frame(saved.lowmem.read_bytes()))
    vmcore = open_capture(saved.ram, backup=packed, **given)["vmcore"]
    same_bytes(vmcore.pread(vmcore.size, 0), plain.pread(plain.size, 0))


def test_dumps_may_be_compressed(tmp_path: Path, open_capture: Opener) -> None:
    path = tmp_path / "dump"
    path.write_bytes(gzip_member(pack_dump()))
    vmcore = open_capture(path)["vmcore"]
    same_bytes(vmcore.pread(vmcore.size, 0), pack_dump())
    kdump = Kdump(range(1, 21)).pack()
    for data in (kdump, flatten([(0, kdump)])):
        path.write_bytes(zstd_frame(data))
        oldmem = open_capture(path)["oldmem"]
        for pfn in range(1, 21):
            assert oldmem.pread(4096, pfn * 4096) == stamped_page(pfn)


def test_toml_says_that_compressed_bytes_are_memory(tmp_path: Path, open_capture: Opener) -> None:
    data = gzip_member(stamped(0, 0x40000)).ljust(0x1000, b"\1")
    (tmp_path / "ram").write_bytes(data)
    (tmp_path / "iomem").write_text(f"00000000-{len(data) // 4096 * 4096 - 1:08x} : System RAM\n")
    table = '[[image]]\npath = "ram"\nunwrap = false\n'
    (tmp_path / "capture.toml").write_text(f'map = "iomem"\n{table}paddr = 0\n')
    oldmem = open_capture(tmp_path / "capture.toml")["oldmem"]
    same_bytes(oldmem.pread(4096, 0), data[:4096])
    (tmp_path / "capture.toml").write_text(f'map = "iomem"\n{table}')
    with pytest.raises(UnsupportedError, match="not plain memory, but data compressed by gzip"):
        open_capture(tmp_path / "capture.toml")


def test_inspect_and_layout_json_name_the_wrappers(tmp_path: Path, open_capture: Opener) -> None:
    saved = dead_machine().save(tmp_path)
    packed = tmp_path / "image"
    packed.write_bytes(zstd_frame(gzip_member(saved.ram.read_bytes())))
    capture = open_capture(packed, memory_map=saved.iomem)
    report = make_report(capture)
    assert report["inputs"][0]["wrappers"] == ["zstd", "gzip"]
    assert f"{packed}  gzip in a zstd in a file of" in format_report(report)[0]
    layout = json.loads(capture["layout.json"].pread(capture["layout.json"].size, 0))
    assert layout["inputs"][0]["wrappers"] == ["zstd", "gzip"]


def test_a_compressed_image_that_is_cut_lacks_the_rest(
    tmp_path: Path, open_capture: Opener
) -> None:
    (tmp_path / "iomem").write_text("00000000-0007ffff : System RAM\n")
    packed = tmp_path / "image"
    packed.write_bytes(gzip_member(stamped(0, 0x80000))[:-1000])
    with pytest.raises(TruncatedError, match="the gzip data in it: it is cut off"):
        open_capture(packed, memory_map=tmp_path / "iomem")
    capture = open_capture(packed, memory_map=tmp_path / "iomem", truncated=True)
    size = capture.image.sources[0].size
    assert 0 < size < 0x80000
    same_bytes(capture["oldmem"].pread(size, 0), stamped(0, size))
    assert any("before that can be read" in line for line in capture.image.warnings)
    assert capture.image.missing[-1].tolist() == [size, 0x80000]


def test_a_compressed_image_without_its_package_is_refused(
    tmp_path: Path, open_capture: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    packed = tmp_path / "image"
    packed.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    expected = (
        f"{packed}: compressed by zstd, and the Python package zstandard is not installed; pip"
        " install 'vmcorefs[codecs]'"
    )
    with pytest.raises(UnsupportedError, match=exactly(expected)):
        open_capture(packed)
