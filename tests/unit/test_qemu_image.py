"""A QEMU stream as an image: of a machine that ran on, cut, marked, or with what is not read."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from pathlib import Path

import pytest
import zstandard

from tests.builders.dead_machines import stamped
from tests.builders.encodings import machine
from tests.builders.packed import lzop_file
from tests.builders.qemu import (
    DEVICES,
    PAGE,
    XBZRLE,
    block_list,
    configuration,
    end_of_records,
    footer,
    pack_libvirt,
    pack_mapped,
    pack_stream,
    section,
    start,
)
from tests.conftest import Opener
from tests.matching import exactly, same_bytes
from vmcorefs import FaultError, TruncatedError, UnsupportedError

RAM = bytes(machine().memory)


def saved(tmp_path: Path, data: bytes) -> tuple[Path, Path]:
    (tmp_path / "vm").write_bytes(data)
    (tmp_path / "iomem").write_text(machine().iomem)
    return tmp_path / "vm", tmp_path / "iomem"


AGAIN = [at for at in range(0, len(RAM), PAGE) if at // PAGE % 50 in (7, 8, 31)]


def live() -> bytes:
    old = bytearray(RAM)
    for at in AGAIN:
        old[at : at + PAGE] = b"\xee" * PAGE if at % 3 else bytes(PAGE)
    return pack_stream(RAM, None, bytes(old), AGAIN)


def test_of_a_machine_that_ran_meanwhile_each_page_is_as_it_was_sent_last(
    tmp_path: Path, open_capture: Opener
) -> None:
    path, iomem = saved(tmp_path, live())
    oldmem = open_capture(path, memory_map=iomem)["oldmem"]
    same_bytes(oldmem.pread(len(RAM), 0), RAM)
    same_bytes(oldmem.pread(0x3001, 0x106FFF), RAM[0x106FFF:0x10A000])


def test_its_pages_may_be_old_where_it_is_cut(tmp_path: Path, open_capture: Opener) -> None:
    path, iomem = saved(tmp_path, live()[:-5000])
    expected = f"{path}: it ends at .*, before the end of RAM: pages may be older than others; pass"
    with pytest.raises(TruncatedError, match=expected):
        open_capture(path, memory_map=iomem)
    capture = open_capture(path, memory_map=iomem, truncated=True)
    assert capture.image.missing.tolist() == []
    same_bytes(capture["oldmem"].pread(PAGE, 0x100000), stamped(0x100000, 0x101000))


def test_what_was_never_sent_is_missing(tmp_path: Path, open_capture: Opener) -> None:
    data = pack_stream(RAM)
    head = struct.pack(">Q", 0x150000 | 8 | 32)
    at = data.index(head)
    path, iomem = saved(tmp_path, data[:at] + data[at + 8 + PAGE :])
    with pytest.raises(TruncatedError, match="4 KiB of RAM are in no input, first \\[0x150000"):
        open_capture(path, memory_map=iomem)
    oldmem = open_capture(path, memory_map=iomem, truncated=True)["oldmem"]
    with pytest.raises(FaultError):
        oldmem.pread(1, 0x150000)
    same_bytes(oldmem.pread(PAGE, 0x151000), stamped(0x151000, 0x152000))


def test_pages_by_xbzrle_are_refused_by_name(tmp_path: Path, open_capture: Opener) -> None:
    packed = struct.pack(">Q", XBZRLE) + b"\6pc.ram"
    data = configuration() + start() + block_list({"pc.ram": PAGE}) + packed
    path, iomem = saved(tmp_path, data)
    expected = (
        f"{path}: a QEMU stream, but with pages packed by XBZRLE, as differences from what they"
        " were before, from 0x3f on"
    )
    with pytest.raises(UnsupportedError, match=exactly(expected)):
        open_capture(path, memory_map=iomem)


def test_memory_that_was_plugged_in_is_left_out_with_a_warning(
    tmp_path: Path, open_capture: Opener
) -> None:
    path, iomem = saved(tmp_path, pack_stream(RAM, {"dimm0": b"\1" * PAGE}))
    assert open_capture(path, memory_map=iomem).image.warnings[0] == (
        f"{path}: 'dimm0', of 4 KiB, is left out: the stream does not say where it is in memory"
    )


def test_the_pages_without_a_bitmap_are_missing_where_the_end_is(
    tmp_path: Path, open_capture: Opener
) -> None:
    data = bytearray(pack_mapped(RAM))
    at = data.index(b"\6pc.ram", 400) + 7 + 8 + 28
    data[at : at + 96] = bytes(96)  # the bitmap, which is written last
    path, iomem = saved(tmp_path, bytes(data[: -2 * PAGE]))
    capture = open_capture(path, memory_map=iomem, truncated=True)
    with pytest.raises(FaultError):
        capture["oldmem"].pread(1, 0x100000)


PACKERS = {
    1: lambda data: gzip.compress(data, 1),
    2: bz2.compress,
    3: lambda data: lzma.compress(data, preset=0),
    4: lzop_file,
    5: zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("form", PACKERS)
def test_a_stream_that_libvirt_compressed(
    tmp_path: Path, open_capture: Opener, monkeypatch: pytest.MonkeyPatch, form: int
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path, iomem = saved(tmp_path, pack_libvirt(PACKERS[form](pack_stream(RAM)), form))
    capture = open_capture(path, memory_map=iomem)
    same_bytes(capture["oldmem"].pread(len(RAM), 0), RAM)
    assert capture.image.inputs[0].wrappers[0] == "libvirt's header"


def test_what_libvirt_did_not_complete_needs_to_be_asked_for(
    tmp_path: Path, open_capture: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    stream = pack_stream(RAM)
    for form, data in ((0, stream), (1, gzip.compress(stream, 1))):
        path, iomem = saved(tmp_path, pack_libvirt(data, form, b"LibvirtQemudPart"))
        with pytest.raises(TruncatedError, match="libvirt has marked it as not complete"):
            open_capture(path, memory_map=iomem)
        oldmem = open_capture(path, memory_map=iomem, truncated=True)["oldmem"]
        same_bytes(oldmem.pread(len(RAM), 0), RAM)


def test_what_stands_behind_ram_does_not_matter(tmp_path: Path, open_capture: Opener) -> None:
    data = pack_stream(RAM)
    path, iomem = saved(tmp_path, data[: -len(DEVICES)] + b"\xff" * 99)
    capture = open_capture(path, memory_map=iomem)
    same_bytes(capture["oldmem"].pread(len(RAM), 0), RAM)
    assert f"{path}: the registers of the CPUs are not read" in str(capture.image.warnings)


def test_a_stream_without_pages_has_no_memory(tmp_path: Path, open_capture: Opener) -> None:
    blocks = start() + block_list({"pc.ram": 3 << 20}) + end_of_records() + footer()
    path, iomem = saved(tmp_path, configuration() + blocks + section(3, b""))
    with pytest.raises(TruncatedError, match="of RAM are in no input"):
        open_capture(path, memory_map=iomem)
