"""What a kdump-compressed dump says beside its memory, opened, shown, and saved again."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.builders.dead_machines import pack_note, prstatus_note, vmcoreinfo_note, vmcoreinfo_text
from tests.builders.elf_dumps import pack_dump, save_dump
from tests.builders.kdumps import KEPT, NOTES, PAGE, RAM, Kdump, flatten
from tests.conftest import Opener
from tests.matching import same_bytes
from vmcorefs.api import Capture
from vmcorefs.core.elf.notes import walk_notes
from vmcorefs.core.formats.kdump.descriptors import places
from vmcorefs.core.formats.kdump.headers import (
    MainHeader,
    SubHeader,
    parse_main_header,
    parse_sub_header,
)
from vmcorefs.errors import SourceIOError, UnsupportedError
from vmcorefs.native import pages as native
from vmcorefs.reports.check import format_check, make_check
from vmcorefs.reports.inspect import format_report, make_report
from vmcorefs.save.command import make_order, save_image
from vmcorefs.save.saver import Console

ERASED = b"erase cred_jar.key 32\nerase init_task.\x1bstack_canary 8\n"
NO_VMCOREINFO = prstatus_note(100, 0x1000, 0x2000)


def save_as(capture: Capture, out: Path, format_: str = "kdump", level: int = 0) -> Path:
    order = make_order(str(out), (level,), format_, None)
    save_image(capture.image, order, 1, Console(bar=False, say=None, warn=lambda _line: None))
    return out


def headers_of(path: Path) -> tuple[MainHeader, SubHeader]:
    data = path.read_bytes()
    main = parse_main_header(data[:PAGE])
    return main, parse_sub_header(main, data[PAGE : 2 * PAGE])


def eraseinfo_of(path: Path) -> bytes:
    _main, sub = headers_of(path)
    return path.read_bytes()[sub.offset_eraseinfo :][: sub.size_eraseinfo]


def test_what_was_erased_is_carried_over_from_kdump_to_kdump(
    tmp_path: Path, open_capture: Opener
) -> None:
    saved = tmp_path / "dump"
    saved.write_bytes(Kdump(KEPT, RAM, erased=ERASED).pack())
    for number in range(2):  # and from the copy to its copy
        saved = save_as(open_capture(saved), tmp_path / f"copy{number}")
        assert eraseinfo_of(saved) == ERASED
        assert saved.read_bytes().count(ERASED) == 1


@pytest.mark.parametrize("format_", ["elf", "flattened"])
def test_what_was_erased_is_carried_over_to_other_formats_and_back(
    tmp_path: Path, open_capture: Opener, format_: str
) -> None:
    """In an ELF dump it is a note, as makedumpfile writes it (elf_info.c)."""
    path = save_dump(tmp_path, Kdump(KEPT, RAM, erased=ERASED).pack())
    other = save_as(open_capture(path), tmp_path / "other", format_)
    if format_ == "elf":
        assert pack_note(b"ERASEINFO", 0, ERASED) in other.read_bytes()
    capture = open_capture(other)
    assert capture.image.notes.eraseinfo == ERASED
    assert eraseinfo_of(save_as(capture, tmp_path / "back")) == ERASED


def test_a_mounted_vmcore_says_what_was_erased(tmp_path: Path, open_capture: Opener) -> None:
    path = save_dump(tmp_path, Kdump(KEPT, RAM, erased=ERASED).pack())
    notes = open_capture(path)["crash_notes"]
    walked = walk_notes(notes.pread(notes.size, 0), "<").notes
    assert [note.desc for note in walked if note.name == b"ERASEINFO"] == [ERASED]


def test_a_note_of_what_was_erased_is_not_given_twice(tmp_path: Path, open_capture: Opener) -> None:
    notes = NOTES + pack_note(b"ERASEINFO", 0, ERASED)
    path = save_dump(tmp_path, Kdump(KEPT, RAM, notes=notes, erased=ERASED).pack())
    capture = open_capture(path)
    assert capture.image.notes.eraseinfo == ERASED
    assert capture["crash_notes"].pread(1 << 16, 0).count(b"ERASEINFO") == 1


def test_what_was_erased_is_shown(tmp_path: Path, open_capture: Opener) -> None:
    capture = open_capture(save_dump(tmp_path, Kdump(KEPT, RAM, erased=ERASED).pack()))
    report = make_report(capture)
    assert report["erased"] == ["erase cred_jar.key 32", "erase init_task.\x1bstack_canary 8"]
    words = "makedumpfile has erased data in the dump: 'erase cred_jar.key 32', 'erase"
    for text in (format_report(report), format_check(make_check(capture))):
        assert words in " ".join(" ".join(text).split())
        assert "\x1b" not in "".join(text)
    whole = make_report(open_capture(save_dump(tmp_path, Kdump(KEPT, RAM).pack())))
    assert (whole["erased"], "makedumpfile" in "".join(format_report(whole))) == ([], False)


@pytest.mark.parametrize("format_", ["kdump", "flattened"])
def test_the_headers_say_of_the_machine_what_the_source_said(
    tmp_path: Path, open_capture: Opener, format_: str
) -> None:
    """Its memory has no names to be read, and its VMCOREINFO is of another kernel's numbers."""
    told = {"tv_sec": 1234567890, "tv_usec": 654321, "current_cpu": 3, "nr_cpus": 8}
    dump = Kdump(KEPT, RAM, notes=NO_VMCOREINFO, phys_base=0x12345000, machine=b"x86_64")
    path = save_dump(tmp_path, dump.pack(**told))
    saved = save_as(open_capture(path), tmp_path / "copy", format_)
    if format_ == "flattened":
        saved = save_as(open_capture(saved), tmp_path / "again")
    main, sub = headers_of(saved)
    source, _ = headers_of(path)
    assert main.utsname == source.utsname
    assert main.utsname.release == b"6.1.0-test"
    assert {name: getattr(main, name) for name in told} == told
    assert (sub.phys_base, sub.dump_level) == (0x12345000, 31)


def test_a_header_that_names_the_machine_alone_is_completed(
    tmp_path: Path, open_capture: Opener
) -> None:
    """As QEMU's: VMCOREINFO knows the release."""
    data = bytearray(Kdump(KEPT, RAM).pack())
    names = 12
    for number in (0, 1, 2, 3):
        data[names + 65 * number : names + 65 * (number + 1)] = bytes(65)
    saved = save_as(open_capture(save_dump(tmp_path, bytes(data))), tmp_path / "copy")
    main, _ = headers_of(saved)
    assert main.utsname.sysname == b"Linux"
    assert main.utsname.release.decode() in vmcoreinfo_text().decode()
    assert main.utsname.release != b"unknown"


@pytest.mark.parametrize("version", [4, 5, 6])
def test_vmcoreinfo_beside_the_notes_is_read(
    tmp_path: Path, open_capture: Opener, version: int
) -> None:
    text = vmcoreinfo_text()
    dump = Kdump(KEPT, RAM, notes=NO_VMCOREINFO, vmcoreinfo=text)
    capture = open_capture(save_dump(tmp_path, dump.pack(header_version=version)))
    vmcoreinfo = capture.image.notes.vmcoreinfo
    assert vmcoreinfo is not None
    assert vmcoreinfo.text == text
    assert [len(slot.notes) for slot in capture.image.notes.cpu_slots] == [1]
    assert capture["vmcoreinfo"].pread(1 << 16, 0) == text


def test_of_two_vmcoreinfos_the_one_among_the_notes_counts(
    tmp_path: Path, open_capture: Opener
) -> None:
    dump = Kdump(KEPT, RAM, vmcoreinfo=b"OSRELEASE=other\n")
    capture = open_capture(save_dump(tmp_path, dump.pack()))
    assert capture.image.notes.vmcoreinfo is not None
    assert capture.image.notes.vmcoreinfo.text == vmcoreinfo_text()
    assert capture["crash_notes"].pread(1 << 16, 0).count(b"VMCOREINFO\0") == 1


def unpadded(cut: int) -> bytes:
    text = vmcoreinfo_text() + b"#" * (-len(vmcoreinfo_text()) % 4) + b"x" * (4 - cut)
    return prstatus_note(100, 0x1000, 0x2000) + vmcoreinfo_note(text)[:-cut]


@pytest.mark.parametrize("cut", [1, 2, 3])
@pytest.mark.parametrize("erased", [b"", ERASED])
def test_a_last_note_without_padding_is_taken_from_kdump(
    tmp_path: Path, open_capture: Opener, cut: int, erased: bytes
) -> None:
    dump = Kdump(KEPT, RAM, notes=unpadded(cut), erased=erased)
    check_unpadded(open_capture(save_dump(tmp_path, dump.pack())), tmp_path, open_capture, cut)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_last_note_without_padding_is_taken_from_elf(
    tmp_path: Path, open_capture: Opener, cut: int
) -> None:
    path = save_dump(tmp_path, pack_dump(notes=unpadded(cut)))
    check_unpadded(open_capture(path), tmp_path, open_capture, cut)


def check_unpadded(capture: Capture, tmp_path: Path, open_capture: Opener, cut: int) -> None:
    text = walk_notes(unpadded(cut), "<").notes[-1].desc
    assert capture.image.notes.vmcoreinfo is not None
    assert capture.image.notes.vmcoreinfo.text == text
    for format_ in ("kdump", "elf"):
        saved = save_as(capture, tmp_path / f"copy.{format_}", format_)
        again: Any = open_capture(saved).image.notes
        assert again.vmcoreinfo.text == text
        assert [len(slot.notes) for slot in again.cpu_slots] == [1]


def test_the_notes_of_segments_that_end_without_padding_are_joined_with_it(
    tmp_path: Path, open_capture: Opener
) -> None:
    first = pack_note(b"LINUX", 7, b"odd")[:-1]
    path = save_dump(tmp_path, pack_dump(notes=[first, NOTES]))
    notes = open_capture(path)["crash_notes"]
    same_bytes(notes.pread(notes.size, 0), first + b"\0" + NOTES)


def test_a_flattened_stream_of_an_erased_dump_is_read_in_place(
    tmp_path: Path, open_capture: Opener
) -> None:
    data = Kdump(KEPT, RAM, erased=ERASED).pack()
    capture = open_capture(save_dump(tmp_path, flatten([(0, data)])))
    assert capture.image.notes.eraseinfo == ERASED


def test_what_was_erased_in_each_part_of_a_split_dump_is_kept(
    tmp_path: Path, open_capture: Opener
) -> None:
    """Each part has its own (makedumpfile.h, SPLITTING_OFFSET_EI)."""
    paths = []
    for number, (span, erased) in enumerate((((0, 210), b"erase a\n"), ((210, 600), b"erase b\n"))):
        paths.append(tmp_path / f"part{number}")
        paths[-1].write_bytes(Kdump(KEPT, RAM, split=span, erased=erased).pack())
    assert open_capture(paths).image.notes.erased == ["erase a", "erase b"]


def test_an_absurd_size_of_what_was_erased_is_refused(tmp_path: Path, open_capture: Opener) -> None:
    data = bytearray(Kdump(KEPT, RAM, erased=ERASED).pack())
    struct.pack_into("<Q", data, PAGE + 72, 1 << 40)
    with pytest.raises(Exception, match=r"notes: 1099511627776 bytes, expected at most"):
        open_capture(save_dump(tmp_path, bytes(data)))


def test_a_page_whose_codec_is_missing_is_lost_alone(
    tmp_path: Path, open_capture: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page's codec need not be the one that the header names."""
    data = bytearray(Kdump(KEPT, RAM, codec="zlib").pack())
    where = places(parse_main_header(bytes(data[:PAGE])), 600).descriptors
    struct.pack_into("<I", data, where + 24 * 5 + 12, 32)  # the page of KEPT[5] is said to be zstd
    monkeypatch.setitem(sys.modules, "zstandard", None)
    capture = open_capture(save_dump(tmp_path, bytes(data)))
    with pytest.raises(SourceIOError, match=r"the Python package zstandard is not installed; pip "):
        capture["oldmem"].pread(PAGE, KEPT[5] * PAGE)
    order = make_order(str(tmp_path / "copy"), (0,), None, None)
    report = save_image(
        capture.image, order, 1, Console(bar=False, say=None, warn=lambda _line: None)
    )
    assert [(loss.start, loss.size) for loss in report.losses.listed] == [(KEPT[5] * PAGE, PAGE)]


@pytest.mark.parametrize(("codec", "module"), [("lzo", "lzo"), ("zstd", "zstandard")])
def test_a_codec_that_is_asked_for_and_missing_is_refused_before_anything_is_opened(
    codec: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "library_of", lambda _flag: None)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        UnsupportedError,
        match=rf"^codec {codec}: the Python package .*{module} is not installed; pip install"
        r" 'vmcorefs\[codecs\]'; zlib needs no package$",
    ):
        make_order("out", (0,), None, codec)
    assert make_order("out", (0,), None, None).codec == "zlib"
