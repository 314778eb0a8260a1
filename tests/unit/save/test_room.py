"""What surely does not fit is refused before its first byte, and nothing else is."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from tests.save.driver import PAGE, make_dump as make_small_dump
from tests.save.full_disk import half_of_it_another_users, tmpfs
from vmcorefs.core.elf.elfcorehdr import make_elfcorehdr
from vmcorefs.core.pages.dump_level import KindArray, PageKind
from vmcorefs.core.space.extents import Kind, make_extents
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.core.space.units import format_size
from vmcorefs.errors import DiskFullError
from vmcorefs.output.local import LocalTarget
from vmcorefs.output.room import find_room, reserve
from vmcorefs.output.stream import StreamTarget
from vmcorefs.reader import Reader
from vmcorefs.save.command import make_writer
from vmcorefs.save.dump import Dump
from vmcorefs.save.report import Report
from vmcorefs.save.saver import Console, Order, save
from vmcorefs.sources.base import BytesSource

MIB = 1 << 20
LOG = b"[    0.000000] Linux version 6.1.0\n"


class FreePages:
    """Pages that nobody uses."""

    page_size = PAGE

    def of(self, first: int, count: int) -> KindArray:
        return np.full(count, PageKind.FREE, dtype=np.uint8)


def zeros(size: int) -> Dump:
    """A machine with so much memory, all holes: of them, descriptors are all that is written."""
    ram = make_ranges([(0, size)])
    return replace(
        make_small_dump(),
        ram=ram,
        memory=Reader("memory", make_extents(ram, kind=Kind.ZERO), []),
        kinds=FreePages(),
        elfcorehdr=make_elfcorehdr(ram, e_machine=62),
    )


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    with tmpfs(tmp_path / "disk", "2M") as path:
        yield path


def save_to(
    out: Path, dump: Dump, format_: str = "kdump", *levels: int, parts: int = 1
) -> tuple[Report, list[str]]:
    said: list[str] = []
    codec = "none" if format_ == "elf" else "zlib"
    order = Order(str(out), levels or (0,), format_, codec, parts)
    console = Console(bar=False, say=None, warn=said.append)
    return save(dump, LOG, order, make_writer(format_, codec, 1), console), said


@pytest.mark.parametrize(("format_", "parts"), [("kdump", 1), ("kdump", 2), ("flattened", 1)])
def test_descriptors_that_do_not_fit_are_refused_before_the_first_byte(
    disk: Path, tmp_path: Path, format_: str, parts: int
) -> None:
    dump = zeros(512 * MIB)
    whole, _ = save_to(tmp_path / "whole", dump, "kdump", parts=parts)
    needed = format_size(whole.size)  # nothing but what was to be reckoned with
    with pytest.raises(
        DiskFullError,
        match=(
            f"^{disk}/vmcore: its bitmaps and the descriptors of 131072 pages take {needed} at"
            r" least, and 1[.]99[0-9] MiB are free on its file system: nothing of the dump is"
            " written$"
        ),
    ):
        save_to(disk / "vmcore", dump, format_, parts=parts)
    assert os.listdir(disk) == ["vmcore-dmesg.txt"]
    assert (disk / "vmcore-dmesg.txt").read_bytes() == LOG


@pytest.mark.needs("mkfs.ext4", "setpriv")
def test_room_that_is_kept_for_another_user_is_none(tmp_path: Path) -> None:
    """Root's own share of a file system need not be root's: ext4's ``resuid``."""
    with half_of_it_another_users(tmp_path / "disk", 64 * MIB) as disk:
        code = (
            "from tests.unit.save.test_room import *\n"
            f"save_to(Path({str(disk)!r}) / 'vmcore', zeros(7 << 30))"  # 42 MiB of descriptors
        )
        done = subprocess.run(
            ["setpriv", "--bounding-set=-sys_resource", sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=False,
        )
        free = os.statvfs(disk)
        assert free.f_bavail * free.f_frsize < 42 * MIB < free.f_bfree * free.f_frsize
        assert "DiskFullError" in done.stderr
        assert "has no room for them: nothing of the dump is written" in done.stderr
        assert set(os.listdir(disk)) == {"lost+found", "vmcore-dmesg.txt"}


def test_a_signal_does_not_keep_room_from_being_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [-1, 0]

    class Libc:
        @staticmethod
        def fallocate64(*_: object) -> int:
            ctypes.set_errno(errno.EINTR)
            return answers.pop(0)

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Libc)
    reserve(-1, PAGE)
    assert answers == []


def test_the_next_level_is_tried_and_the_log_that_is_there_is_no_obstacle(disk: Path) -> None:
    dump = zeros(512 * MIB)
    with pytest.raises(DiskFullError):
        save_to(disk / "vmcore", dump)
    report, said = save_to(disk / "vmcore", dump, "kdump", 0, 31)
    assert report.level == 31
    assert any("no room for dump level 0; trying 31" in line for line in said)
    assert sorted(os.listdir(disk)) == ["vmcore", "vmcore-dmesg.txt"]


def test_what_is_small_enough_is_saved(disk: Path) -> None:
    """Nearly 2 MiB of descriptors: 24 bytes of each of 80,000 pages."""
    report, _ = save_to(disk / "vmcore", zeros(80_000 * PAGE))
    assert report.size > 1.8 * MIB


def test_holes_take_no_room_in_an_elf_file(disk: Path) -> None:
    report, _ = save_to(disk / "vmcore", zeros(512 * MIB), "elf")
    assert report.size > 512 * MIB


def test_what_compresses_well_is_saved_where_it_would_not_fit_as_it_is(
    disk: Path,
) -> None:
    memory = b"A" * (8 * MIB)
    small = zeros(len(memory))
    table = make_extents(small.ram, kind=Kind.DATA, source=0)
    dump = replace(small, memory=Reader("memory", table, [BytesSource("ram", memory)]))
    report, _ = save_to(disk / "vmcore", dump)
    assert report.is_complete


def test_where_bytes_may_be_compressed_nothing_is_certain(tmp_path: Path, disk: Path) -> None:
    unlimited = tmp_path / "unlimited"
    unlimited.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "ramfs", unlimited], check=True)
    try:
        for directory, known in ((disk, True), (unlimited, False)):
            with closing(LocalTarget(str(directory / "out"), force=False)) as target:
                assert (target.room is not None) == known
    finally:
        subprocess.run(["umount", unlimited], check=True)
    read_end, write_end = os.pipe()
    assert StreamTarget("pipe", write_end).room is None
    os.close(read_end)
    os.close(write_end)


def test_a_stream_into_a_file_is_reckoned_too(disk: Path) -> None:
    with (disk / "stream").open("wb") as file:
        room = StreamTarget("standard output", file.fileno()).room
        assert room == find_room(file.fileno())
        assert room is not None
        assert room <= 2 * MIB


def test_a_log_of_another_machine_is_still_refused(disk: Path) -> None:
    (disk / "vmcore-dmesg.txt").write_text("precious")
    with pytest.raises(Exception, match=r"vmcore-dmesg\.txt: exists already; pass --force"):
        save_to(disk / "vmcore", zeros(MIB))
    assert (disk / "vmcore-dmesg.txt").read_text() == "precious"
