"""Which dumps are ours, which are whole, and which make room."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import pytest
from hypothesis import given, strategies as st

from tests.capture.conftest import Programs
from vmcorefs.capture.run.dumps import (
    DumpDirectory,
    beyond_count,
    delete,
    dump_name,
    list_dumps,
    removable,
)
from vmcorefs.capture.run.place import LocalPlace, RemotePlace
from vmcorefs.capture.settings import KeepSettings
from vmcorefs.errors import DiskFullError, OutputError


def put(directory: Path, name: str, *, complete: bool) -> None:
    (directory / name).mkdir()
    put_into(directory / name, complete=complete)


def put_into(dump: Path, *, complete: bool) -> None:
    (dump / "dmesg").write_text("log")
    (dump / ("vmcore" if complete else "vmcore.incomplete")).write_text("dump")
    if complete:
        (dump / "summary.json").write_text(json.dumps({"complete": True}))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_dump_is_named_for_the_second_of_its_crash() -> None:
    assert dump_name(1795563542.9) == "2026-11-24-233902"  # date -u -d @1795563542


def test_only_what_we_have_written_is_ours(tmp_path: Path) -> None:
    put(tmp_path, "2026-01-01-000000", complete=True)
    put(tmp_path, "2026-01-02-000000", complete=False)
    put(tmp_path, "202601030000", complete=True)  # kdump-tools names them like that
    put(tmp_path, "2026-01-04-000000", complete=True)
    (tmp_path / "2026-01-04-000000" / "notes.txt").write_text("somebody's")
    (tmp_path / "2026-01-05-000000").symlink_to(tmp_path / "2026-01-01-000000")
    (tmp_path / "2026-01-06-000000").write_text("no directory")
    found = [(dump.name, dump.is_complete) for dump in list_dumps(str(tmp_path))]
    assert found == [("2026-01-01-000000", True), ("2026-01-02-000000", False)]


@pytest.mark.parametrize("summary", ["", "{", "[]", '{"complete": false}', "[" * 100_000])
def test_a_summary_that_does_not_say_so_makes_no_dump_complete(
    tmp_path: Path, summary: str
) -> None:
    put(tmp_path, "2026-01-01-000000", complete=True)
    (tmp_path / "2026-01-01-000000" / "summary.json").write_text(summary)
    assert [dump.is_complete for dump in list_dumps(str(tmp_path))] == [False]


def test_superseded_halves_go_first_then_the_oldest() -> None:
    dumps = [
        DumpDirectory("/x/1", is_complete=True),
        DumpDirectory("/x/2", is_complete=False),
        DumpDirectory("/x/3", is_complete=True),
        DumpDirectory("/x/4", is_complete=False),
    ]
    assert [dump.name for dump in removable(dumps)] == ["2", "1", "4"]
    assert [dump.name for dump in beyond_count(dumps, 3)] == ["2"]


@given(st.lists(st.booleans(), max_size=8), st.integers(1, 9))
def test_the_newest_complete_dump_is_never_deleted(complete: list[bool], count: int) -> None:
    dumps = [DumpDirectory(f"/x/{n}", is_complete=whole) for n, whole in enumerate(complete)]
    newest = max((dump.name for dump in dumps if dump.is_complete), default=None)
    assert newest not in [dump.name for dump in removable(dumps)]
    gone = beyond_count(dumps, count)
    assert newest not in [dump.name for dump in gone]
    assert len(dumps) - len(gone) <= count


def test_deleting_takes_a_dump_and_nothing_else(tmp_path: Path) -> None:
    put(tmp_path, "2026-01-01-000000", complete=True)
    put(tmp_path, "2026-01-02-000000", complete=True)
    delete(list_dumps(str(tmp_path))[0])
    assert names(tmp_path) == ["2026-01-02-000000"]


def test_old_dumps_make_room_until_there_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in range(1, 5):
        put(tmp_path, f"2026-01-0{day}-000000", complete=True)
    # each dump that goes gives a GiB
    monkeypatch.setattr(
        "vmcorefs.capture.run.place.free_bytes", lambda path: (5 - len(names(Path(path)))) << 30
    )
    said: list[str] = []
    place = LocalPlace(str(tmp_path), KeepSettings(free="3G"), said.append)
    place.make("2026-01-05-000000")
    place.check_room()
    assert names(tmp_path) == ["2026-01-04-000000", "2026-01-05-000000"]
    assert said == [
        f"{tmp_path}/2026-01-0{day}-000000: deleted to make room" for day in range(1, 4)
    ]
    monkeypatch.setattr("vmcorefs.capture.run.place.free_bytes", lambda _: 0)
    with pytest.raises(DiskFullError, match=r"^.*: 0 bytes free, and 3 GiB are to stay free .*$"):
        place.check_room()
    assert names(tmp_path) == ["2026-01-04-000000", "2026-01-05-000000"]


def test_no_dump_is_deleted_for_one_that_never_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a dump takes at least is known before its first byte."""
    for day in range(1, 4):
        put(tmp_path, f"2026-01-0{day}-000000", complete=True)
    monkeypatch.setattr("vmcorefs.capture.run.place.size_of", lambda _: 1 << 30)
    monkeypatch.setattr(
        "vmcorefs.capture.run.place.free_bytes", lambda path: (4 - len(names(Path(path)))) << 30
    )
    place = LocalPlace(str(tmp_path), KeepSettings(free="1G"), lambda _: None)
    with pytest.raises(DiskFullError, match=r"^.*: the dump takes so much that 4 GiB would have "):
        place.check_room(3 << 30)
    assert len(names(tmp_path)) == 3
    place.check_room(1 << 30)
    assert names(tmp_path) == ["2026-01-02-000000", "2026-01-03-000000"]


def test_a_complete_dump_lets_go_of_those_beyond_the_count(tmp_path: Path) -> None:
    for day in range(1, 5):
        put(tmp_path, f"2026-01-0{day}-000000", complete=day != 2)
    place = LocalPlace(str(tmp_path), KeepSettings(dumps=2), lambda _: None)
    assert place.make("2026-01-04-000000") == f"{tmp_path}/2026-01-04-000000-2"
    put_into(tmp_path / "2026-01-04-000000-2", complete=True)
    place.prune()
    assert names(tmp_path) == ["2026-01-04-000000", "2026-01-04-000000-2"]


def test_dumps_of_one_time_are_in_the_order_in_which_they_were_made(tmp_path: Path) -> None:
    place = LocalPlace(str(tmp_path), KeepSettings(), lambda _: None)
    made = [Path(place.make("1970-01-01-000021")).name for _ in range(11)]
    assert made[:2] == ["1970-01-01-000021", "1970-01-01-000021-2"]
    for name in made:
        put_into(tmp_path / name, complete=True)
    found = list_dumps(str(tmp_path))
    assert [dump.name for dump in found] == made
    assert [dump.name for dump in beyond_count(found, 1)] == made[:-1]


def test_another_machine_gets_a_new_directory_for_each_dump(
    tmp_path: Path, programs: Programs
) -> None:
    programs.add("ssh", 'for last; do :; done; echo welcome; exec sh -c "$last"')
    url = f"ssh://crash@host{tmp_path}/it's/here"
    place = RemotePlace(f"{url}/", wait=0)
    made = [place.make("1970-01-01-000021") for _ in range(3)]
    assert made == [f"{url}/1970-01-01-000021{number}" for number in ("", "-2", "-3")]
    assert names(tmp_path / "it's" / "here") == [path.rpartition("/")[2] for path in made]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"^ssh://host/.*/file/1970: cannot make it: mkdir: .*$"):
        RemotePlace(f"ssh://host{tmp_path}/file", wait=0).make("1970")


def test_a_store_gets_new_names_for_each_dump() -> None:
    store = fsspec.filesystem("memory")
    for number in ("", "-2", "-3"):
        prefix = RemotePlace("memory://one time", wait=0).make("1970-01-01-000021")
        assert prefix == f"memory://one time/1970-01-01-000021{number}"
        store.pipe_file(f"{prefix}/dmesg", b"log")
    store.rm("memory://one time", recursive=True)
