"""The life of a dump, with the smallest format there is."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.builders.tiny_dumps import FREE, MEMORY, PAGE, PAGES, USER, Kinds, TinyFormat, make_dump
from tests.matching import exactly, same_bytes
from vmcorefs.core.pages.dump_level import KindArray, PageKind
from vmcorefs.errors import ConfigError, DiskFullError, OutputError, StoppedError
from vmcorefs.output.local import LocalTarget
from vmcorefs.save.dump import Dump
from vmcorefs.save.report import Report
from vmcorefs.save.saver import Console, Order, save

LOG = b"[    0.000000] Linux version 6.1.0\n"
WHOLE = b"TINY" + MEMORY + b"DONE"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "vmcore"


def _incomplete(out: Path) -> Path:
    return out.with_name("vmcore.incomplete")


def _log(out: Path) -> Path:
    return out.with_name("vmcore-dmesg.txt")


def _save(
    out: Path | str,
    write: TinyFormat | None = None,
    *,
    dump: Dump | None = None,
    log: bytes | None = LOG,
    levels: tuple[int, ...] = (0,),
    said: list[str] | None = None,
    parts: int = 1,
    **order: bool,
) -> Report:
    lines: list[str] = [] if said is None else said
    return save(
        make_dump() if dump is None else dump,
        log,
        Order(str(out), levels, "kdump", "none", parts=parts, **order),
        TinyFormat() if write is None else write,
        Console(bar=False, say=lines.append, warn=lines.append),
    )


def test_a_dump_is_written_and_has_its_name(out: Path) -> None:
    report = _save(out)
    same_bytes(out.read_bytes(), WHOLE)
    assert sorted(os.listdir(out.parent)) == ["vmcore", "vmcore-dmesg.txt"]
    assert (report.is_complete, report.names, report.size) == (True, (str(out),), len(WHOLE))
    assert report.log == str(_log(out))
    assert report.kept.sum() == PAGES


def test_the_log_has_its_name_before_the_first_page_is_written(out: Path) -> None:
    seen: list[tuple[bytes, bool]] = []

    def look(page: int) -> None:
        if page == 0:
            seen.append((_log(out).read_bytes(), out.exists()))

    _save(out, TinyFormat(look))
    assert seen == [(LOG, False)]
    assert _log(out).stat().st_mode & 0o777 == 0o600


def test_without_a_log_there_is_a_warning_and_a_dump(out: Path) -> None:
    report = _save(out, log=None)
    assert report.log is None
    assert report.warnings == ("the kernel's log was not found, so none is saved beside the dump",)
    assert out.exists()


def test_a_log_of_another_crash_is_not_replaced(out: Path) -> None:
    _log(out).write_bytes(b"precious")
    with pytest.raises(ConfigError, match=r"vmcore-dmesg\.txt: exists already; pass --force"):
        _save(out)
    assert (_log(out).read_bytes(), os.listdir(out.parent)) == (b"precious", [_log(out).name])
    _save(out, force=True)
    assert _log(out).read_bytes() == LOG


def test_going_on_keeps_the_log_and_refuses_another_one(out: Path) -> None:
    with pytest.raises(OutputError):
        _save(out, TinyFormat(_fail_at(5, OutputError("gone"))))
    with pytest.raises(ConfigError, match=r"vmcore-dmesg\.txt: is not this machine's log"):
        _save(out, log=b"another", resume=True)
    assert _log(out).read_bytes() == LOG
    before = _log(out).stat().st_ino
    assert _save(out, resume=True).log == str(_log(out))
    assert _log(out).stat().st_ino == before


def test_pages_are_counted_by_kind(out: Path) -> None:
    report = _save(out, levels=(16,))
    assert report.left_out[PageKind.FREE] == len(FREE)
    assert report.kept[PageKind.USER] == len(USER)
    assert report.kept[PageKind.KERNEL] == PAGES - len(FREE) - len(USER)
    assert report.memory == PAGES * PAGE


def test_pages_that_cannot_be_read_are_listed_and_the_dump_does_not_get_its_name(
    out: Path,
) -> None:
    said: list[str] = []
    report = _save(out, dump=make_dump(bad=(3, 4, 9)), said=said)
    pages = [MEMORY[n * PAGE : (n + 1) * PAGE] if n not in (3, 4, 9) else b"?" for n in range(64)]
    same_bytes(_incomplete(out).read_bytes(), b"TINY" + b"".join(pages) + b"DONE")
    assert not out.exists()
    assert not report.is_complete
    assert report.names == (f"{out}.incomplete",)
    assert [(loss.start, loss.size) for loss in report.losses.listed] == [
        (3 * PAGE, 2 * PAGE),
        (9 * PAGE, PAGE),
    ]
    assert said == [f"{out}: cannot read 4096 bytes at 0x3000: Input/output error; continuing"]


def _fail_at(page: int, error: BaseException) -> Callable[[int], None]:
    def check(at: int) -> None:
        if at == page:
            raise error

    return check


@pytest.mark.parametrize("error", [OutputError("gone"), RuntimeError("a bug")])
def test_what_fails_leaves_the_incomplete_name(out: Path, error: Exception) -> None:
    with pytest.raises(type(error)):
        _save(out, TinyFormat(_fail_at(5, error)))
    assert not out.exists()
    assert _incomplete(out).read_bytes() == b"TINY" + MEMORY[: 5 * PAGE]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_it_and_says_how_far_it_got(out: Path, number: signal.Signals) -> None:
    def send(page: int) -> None:
        if page == 16:
            os.kill(os.getpid(), number)

    outer = signal.signal(number, signal.SIG_DFL)  # whoever runs this may have had it ignored
    try:
        _check_stop(out, number, TinyFormat(send))
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, outer)


def _check_stop(out: Path, number: signal.Signals, write: TinyFormat) -> None:
    with pytest.raises(
        StoppedError,
        match=exactly(
            f"{out}: stopped by {number.name} after 15 of 64 pages (23 %); what is written keeps"
            f" the name {out}.incomplete; the same command with --resume continues it"
        ),
    ):
        _save(out, write)
    assert not out.exists()
    assert _incomplete(out).read_bytes() == b"TINY" + MEMORY[: 16 * PAGE]


def test_without_room_the_next_level_is_tried(out: Path) -> None:
    full = {"left": 1}

    def check(page: int) -> None:
        if page == PAGES - 1 and full["left"]:  # more is there than the other level will write
            full["left"] -= 1
            raise DiskFullError("no room")

    write = TinyFormat(check)
    report = _save(out, write, levels=(0, 16))
    assert write.levels == [0, 16]
    assert report.level == 16
    assert report.warnings == ("no room for dump level 0; trying 16 (no room)",)
    kept = MEMORY[: FREE.start * PAGE] + MEMORY[FREE.stop * PAGE :]
    same_bytes(out.read_bytes(), b"TINY" + kept + b"DONE")


def test_a_disk_that_says_so_when_it_is_synced_is_full_too(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File systems that find room late, such as NFS, tell it by fsync(2)."""
    sync = LocalTarget.sync
    calls = 0

    def full_once(target: LocalTarget) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:  # the first one is the log's
            raise DiskFullError("no room")
        sync(target)

    monkeypatch.setattr(LocalTarget, "sync", full_once)
    assert _save(out, levels=(0, 16)).level == 16


def test_a_signal_stops_it_while_it_looks_at_pages(out: Path) -> None:
    class SlowKinds(Kinds):
        def of(self, first: int, count: int) -> KindArray:
            signal.raise_signal(signal.SIGTERM)
            return super().of(first, count)

    with pytest.raises(StoppedError, match="stopped by SIGTERM before the first page"):
        _save(out, dump=replace(make_dump(), kinds=SlowKinds()))


def test_without_room_for_the_last_level_it_ends(out: Path) -> None:
    write = TinyFormat(_fail_at(0, DiskFullError("no room")))
    with pytest.raises(DiskFullError):
        _save(out, write, levels=(0, 31))
    assert write.levels == [0, 31]
    assert _incomplete(out).read_bytes() == b"TINY"


def test_no_part_has_its_name_before_all_are_written(out: Path) -> None:
    with pytest.raises(OutputError):
        _save(out, TinyFormat(_fail_at(40, OutputError("gone"))), parts=2)
    assert sorted(os.listdir(out.parent)) == [
        "vmcore-dmesg.txt",
        "vmcore.1.incomplete",
        "vmcore.2.incomplete",
    ]
    report = _save(out, parts=2, force=True)
    assert report.names == (f"{out}.1", f"{out}.2")
    assert (out.parent / "vmcore.2").read_bytes() == b"TINY" + MEMORY[32 * PAGE :] + b"DONE"


def test_nothing_is_left_if_one_part_cannot_be_made(out: Path) -> None:
    (out.parent / "vmcore.2").write_bytes(b"precious")
    with pytest.raises(ConfigError):
        _save(out, parts=2)
    assert os.listdir(out.parent) == ["vmcore.2"]


def test_a_file_url_is_written_like_a_path(out: Path) -> None:
    assert _save(f"file://{out}").names == (str(out),)
    same_bytes(out.read_bytes(), WHOLE)
