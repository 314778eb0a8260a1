"""Resuming a dump of one image with another: two snapshots of a machine have the same notes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from msgspec.structs import replace

from tests.builders.dumps import BadSource
from tests.matching import same_bytes
from tests.save.driver import PAGE, PAGES, make_dump as make_dump_of_memory, make_memory
from tests.save.full_disk import disk_filling_up
from vmcorefs.core.space.extents import Extents, Kind, make_extents
from vmcorefs.core.space.ranges import Int64Array, Ranges, make_ranges
from vmcorefs.errors import ConfigError
from vmcorefs.image import MemoryImage
from vmcorefs.kernel.notes import CrashNotes
from vmcorefs.reader import Reader
from vmcorefs.save import command
from vmcorefs.save.codecs import find_codec
from vmcorefs.save.dump import Dump
from vmcorefs.save.formats import kdump_resume
from vmcorefs.save.formats.kdump import KdumpFormat
from vmcorefs.save.origin import Origin, find_origin, parse_origin
from vmcorefs.save.report import Report
from vmcorefs.save.saver import Console, Order, save
from vmcorefs.sources.file import FileSource

STEP_BACK = 1 << 20
ROOM = 4096 - kdump_resume.ORIGIN


def memory_of(path: Path) -> Extents:
    return make_extents(make_ranges([(0, path.stat().st_size)]), kind=Kind.DATA, source=0)


@contextmanager
def image(path: Path) -> Iterator[Dump]:
    """The dump that is made of the bytes of ``path``."""
    source = FileSource(str(path), role="image")
    memory = memory_of(path)
    try:
        yield replace(
            make_dump_of_memory(),
            memory=Reader("memory", memory, [source]),
            origin=find_origin([source], memory),
        )
    finally:
        source.close()


def save_to(out: Path, dump: Dump, *, resume: bool = False) -> Report:
    return save(
        dump,
        None,
        Order(str(out), (0,), "kdump", "zlib", resume=resume),
        KdumpFormat(find_codec("zlib"), 2),
        Console(bar=False, say=None, warn=lambda _line: None),
    )


def change(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek(page * PAGE + 17)
        file.write(b"another")


@pytest.fixture
def ram(tmp_path: Path) -> Path:
    path = tmp_path / "ram"
    path.write_bytes(make_memory())
    return path


@pytest.fixture
def half(ram: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The name of a dump of ``ram`` of which a disk that filled up has left the half."""
    out = tmp_path / "vmcore"
    with image(ram) as dump, disk_filling_up(3 << 20):
        save_to(out, dump)
    monkeypatch.setattr(kdump_resume, "STEP_BACK", STEP_BACK)
    return out


def incomplete(out: Path) -> Path:
    return out.with_name(f"{out.name}.incomplete")


def same_as_from_the_start(out: Path, path: Path) -> None:
    whole = out.with_name("whole")
    with image(path) as dump:
        save_to(whole, dump)
    same_bytes(out.read_bytes(), whole.read_bytes())


def test_another_snapshot_of_the_machine_is_refused_and_the_first_one_named(
    half: Path, ram: Path, tmp_path: Path
) -> None:
    other, left = tmp_path / "other", incomplete(half).read_bytes()
    shutil.copy(ram, other)
    change(other, 3)
    with (
        image(other) as dump,
        pytest.raises(
            ConfigError,
            match=(
                rf"^{incomplete(half)}: it is made of '{ram}' \(8 MiB, written 20[0-9-]+T[0-9:.]+Z"
                r"\): the page at 0x3000 is another one there, so it cannot be resumed; pass"
                r" --force to start over$"
            ),
        ),
    ):
        save_to(half, dump, resume=True)
    same_bytes(incomplete(half).read_bytes(), left)
    assert not half.exists()


def test_a_copy_of_the_image_elsewhere_resumes(half: Path, ram: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copy(ram, copy)
    ram.unlink()
    with image(copy) as dump:
        assert save_to(half, dump, resume=True).resumed > PAGES // 4
    same_as_from_the_start(half, copy)


def test_a_snapshot_that_differs_only_in_what_is_still_to_be_written_resumes(
    half: Path, ram: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copy(ram, other)
    change(other, PAGES - 2)
    with image(other) as dump:
        assert save_to(half, dump, resume=True).resumed > PAGES // 4
    same_as_from_the_start(half, other)


def test_the_same_file_with_other_bytes_is_refused_though_its_time_is_restored(
    half: Path, ram: Path
) -> None:
    before = ram.stat()
    change(ram, 3)
    os.utime(ram, ns=(before.st_atime_ns, before.st_mtime_ns))
    with image(ram) as dump, pytest.raises(ConfigError, match="the page at 0x3000 is another one"):
        save_to(half, dump, resume=True)


def test_the_same_file_laid_out_in_another_way_is_refused(half: Path, ram: Path) -> None:
    with image(ram) as dump:
        pages = np.arange(PAGES, dtype=np.int64) * PAGE
        table = make_extents(np.stack((pages, pages + PAGE), axis=1), kind=Kind.DATA, source=0)
        swapped = table.offset.copy()
        swapped[[2, 3]] = swapped[[3, 2]]
        memory = replace(table, offset=swapped)
        source = FileSource(str(ram), role="image")
        other = replace(
            dump,
            memory=Reader("memory", memory, [source]),
            origin=find_origin([source], memory),
        )
        with pytest.raises(ConfigError, match="the page at 0x2000 is another one there"):
            save_to(half, other, resume=True)
        source.close()


def test_the_image_itself_is_not_read_again(half: Path, ram: Path) -> None:
    reads: list[int] = []
    with image(ram) as dump:
        really_read, really_place = dump.memory.pread_into, dump.memory.places_in_file

        def read(at: int, view: memoryview) -> None:
            reads.append(at)
            really_read(at, view)

        def place(runs: Ranges) -> tuple[int, Int64Array] | None:
            reads.extend(runs[:, 0].tolist())
            return really_place(runs)

        watched = SimpleNamespace(
            is_zero=dump.memory.is_zero,
            table=dump.memory.table,
            pread=dump.memory.pread,
            pread_into=read,
            places_in_file=place,
        )
        resumed = save_to(half, replace(dump, memory=cast(Reader, watched)), resume=True).resumed
    assert resumed > PAGES // 4
    assert min(reads) >= resumed * PAGE
    same_as_from_the_start(half, ram)


def test_a_page_that_cannot_be_read_now_is_where_a_copy_is_written_from(
    half: Path, ram: Path
) -> None:
    bad = 100
    memory = Reader("memory", memory_of(ram), [BadSource(ram.read_bytes(), [bad])])
    with image(ram) as dump:
        report = save_to(half, replace(dump, memory=memory, origin=Origin()), resume=True)
    assert report.resumed == bad
    assert [loss.start for loss in report.losses.listed] == [bad * PAGE]


def test_a_complete_dump_says_nothing_of_where_it_comes_from(half: Path, ram: Path) -> None:
    assert str(ram).encode() in incomplete(half).read_bytes()[:4096]
    with image(ram) as dump:
        save_to(half, dump, resume=True)
    assert half.read_bytes()[kdump_resume.ORIGIN : 4096] == bytes(ROOM)


def test_what_is_saved_of_a_capture_knows_its_inputs(ram: Path) -> None:
    with image(ram) as dump:
        source = FileSource(str(ram), role="image")
        memory = memory_of(ram)
        opened = SimpleNamespace(
            inputs=(source,),
            memory=memory,
            sources=(source,),
            missing=make_ranges([]),
            kdump=None,
            plan=SimpleNamespace(elfcorehdr=dump.elfcorehdr),
            notes=CrashNotes(),
            pages=dump.kinds,
        )
        opened.pages.unknown = ()
        made, _missing = command.make_dump(cast(MemoryImage, opened), [])
        assert made.origin.is_same(dump.origin)
        source.close()


def test_no_number_of_inputs_and_no_name_is_too_long_for_its_room(tmp_path: Path) -> None:
    directory = tmp_path
    for _ in range(12):
        directory /= "d" * 250
        directory.mkdir()
    files = [directory / f"{number}" for number in range(5)]
    for path in files:
        path.write_bytes(bytes(PAGE))
    odd = directory / os.fsdecode(b"\xff")
    odd.write_bytes(bytes(PAGE))
    sources = [FileSource(str(path), role="image") for path in (*files, odd)]
    origin = find_origin(sources, memory_of(files[0]))
    packed = origin.pack(ROOM)
    assert len(packed) == ROOM
    assert parse_origin(packed).is_same(origin)
    for source in sources:
        source.close()


@pytest.mark.parametrize(
    "data", [bytes(64), b"vmcorefs: made of {", b"vmcorefs: made of []\0", b""]
)
def test_what_is_no_origin_is_the_same_as_none(data: bytes) -> None:
    assert parse_origin(data) == Origin()
    assert not parse_origin(data).is_same(Origin())


def test_a_name_cannot_write_on_the_terminal() -> None:
    packed = (
        b'vmcorefs: made of {"digest":"","inputs":[{"name":"\\u001b[2Jx","size":2,"mtime_ns":0}]}'
    )
    assert (
        str(parse_origin(packed)) == "'\\x1b[2Jx' (2 bytes, written 1970-01-01T00:00:00.000000000Z)"
    )
