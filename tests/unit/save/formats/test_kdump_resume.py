"""Going on from what an earlier try has left, and refusing to where it is something else."""

from __future__ import annotations

from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.matching import exactly, same_bytes
from tests.save.driver import PAGE, PAGES, make_dump
from tests.save.full_disk import disk_filling_up
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.errors import ConfigError
from vmcorefs.output.local import LocalTarget
from vmcorefs.save.codecs import find_codec
from vmcorefs.save.dump import Dump
from vmcorefs.save.formats import kdump_resume
from vmcorefs.save.formats.kdump import KdumpFormat
from vmcorefs.save.report import Report
from vmcorefs.save.saver import Console, Order, save


@pytest.fixture(autouse=True)
def _short_step_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kdump_resume, "STEP_BACK", 1 << 20)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "vmcore"


def _save(
    out: Path,
    dump: Dump | None = None,
    *,
    level: int = 0,
    codec: str = "zlib",
    parts: int = 1,
    **order: bool,
) -> Report:
    return save(
        make_dump() if dump is None else dump,
        None,
        Order(str(out), (level,), "kdump", codec, parts, **order),
        KdumpFormat(find_codec(codec), 1),
        Console(bar=False, say=None, warn=lambda _line: None),
    )


@pytest.fixture
def half(out: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What a disk that filled up has left."""
    with disk_filling_up(3 << 20):
        _save(out)
    return _incomplete(out).read_bytes()


def _incomplete(out: Path) -> Path:
    return out.with_name("vmcore.incomplete")


def test_the_end_is_the_same_as_without_a_stop(out: Path, half: bytes) -> None:
    assert len(half) > 2 << 20
    report = _save(out, resume=True)
    assert PAGES // 4 < report.resumed < PAGES
    whole = out.with_name("whole")
    assert _save(whole).resumed == 0
    same_bytes(out.read_bytes(), whole.read_bytes())


def _another_crash(dump: Dump) -> Dump:
    return replace(dump, notes=dump.notes.replace(b"CRASHTIME=17", b"CRASHTIME=18"))


@pytest.mark.parametrize(
    ("dump", "options", "words"),
    [
        (make_dump(), {"level": 1}, "its dump level is 0, and not 1"),
        (make_dump(), {"codec": "none"}, "its pages are compressed by another codec"),
        (_another_crash(make_dump()), {}, "it is of another machine or another crash"),
        (
            replace(make_dump(), ram=make_ranges([(0, 100 * PAGE), (101 * PAGE, PAGES * PAGE)])),
            {},
            "it is a dump of the same machine, but of other pages",
        ),
    ],
)
def test_another_dump_is_refused_and_kept(
    out: Path, half: bytes, dump: Dump, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(
        ConfigError,
        match=exactly(
            f"{_incomplete(out)}: {words}, so it cannot be resumed; pass --force to start over"
        ),
    ):
        _save(out, dump, resume=True, **options)
    same_bytes(_incomplete(out).read_bytes(), half)
    assert not out.exists()


def test_a_dump_of_a_machine_of_another_name_is_refused_and_kept(out: Path, half: bytes) -> None:
    nodename = 8 + 4 + 65  # behind the signature, the version and utsname.sysname
    left = half[:nodename] + b"elsewhere" + half[nodename + 9 :]
    _incomplete(out).write_bytes(left)
    with pytest.raises(ConfigError, match="it is of another machine or another crash"):
        _save(out, resume=True)
    same_bytes(_incomplete(out).read_bytes(), left)


@pytest.mark.parametrize("left", [b"\x7fELF" + bytes(1 << 20), b"KDUMP   " + bytes(1 << 20)])
def test_what_is_no_such_dump_is_refused_and_kept(out: Path, left: bytes) -> None:
    _incomplete(out).write_bytes(left)
    with pytest.raises(
        ConfigError, match="it is no kdump-compressed dump, so it cannot be resumed"
    ):
        _save(out, resume=True)
    same_bytes(_incomplete(out).read_bytes(), left)


@pytest.mark.parametrize("size", [0, 5, 4096, 12288, 100_000])
def test_a_file_without_pages_has_nothing_to_be_lost(out: Path, half: bytes, size: int) -> None:
    _incomplete(out).write_bytes(half[:size])
    assert _save(out, resume=True).resumed == 0
    with suppress(FileNotFoundError):
        out.with_name("whole").unlink()
    _save(out.with_name("whole"))
    same_bytes(out.read_bytes(), out.with_name("whole").read_bytes())


def test_each_part_of_a_split_dump_is_gone_on_from(out: Path) -> None:
    whole = out.with_name("whole")
    _save(whole, parts=2)
    for number in (1, 2):
        part = out.with_name(f"whole.{number}").read_bytes()
        out.with_name(f"vmcore.{number}.incomplete").write_bytes(part[: 1 << 21])
    report = _save(out, parts=2, resume=True)
    assert report.resumed > 100
    for number in (1, 2):
        same_bytes(
            out.with_name(f"vmcore.{number}").read_bytes(),
            out.with_name(f"whole.{number}").read_bytes(),
        )


def test_the_parts_of_a_split_dump_are_not_taken_for_each_other(out: Path) -> None:
    whole = out.with_name("whole")
    _save(whole, parts=2)
    out.with_name("whole.2").rename(out.with_name("vmcore.1.incomplete"))
    with pytest.raises(ConfigError, match="it is another part of a split dump"):
        _save(out, parts=2, resume=True)


def test_nothing_is_left_open(out: Path, half: bytes) -> None:
    with pytest.raises(ConfigError):
        _save(out, level=1, resume=True)
    with closing(LocalTarget(str(out), force=False, resume=True)) as target:
        assert target.present == len(half)
