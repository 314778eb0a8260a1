"""Writing a file of the tree with no mount."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders.dead_machines import stamped
from tests.matching import exactly, same_bytes
from vmcorefs import ConfigError, OutputError, SourceIOError
from vmcorefs.core.space.extents import Extents, Kind, make_extents, merge
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.output.extract import Outcome, extract, stream
from vmcorefs.output.stream import StreamTarget
from vmcorefs.sources.base import BytesSource
from vmcorefs.tree.file import TreeFile, table_file

MIB = 1 << 20
SIZE = 12 * MIB + 0x2345
DATA = ((0, 0x3000), (5 * MIB + 0x800, 5 * MIB + 0x5800), (12 * MIB, SIZE))
ZEROS_IN_DATA = (0x1000, 0x2000)


def _content() -> bytes:
    content = bytearray(SIZE)
    for start, end in DATA:
        content[start:end] = stamped(start, end, 0xAA << 56)
    content[slice(*ZEROS_IN_DATA)] = bytes(0x1000)
    return bytes(content)


CONTENT = _content()


def _table(*rows: tuple[int, int, Kind]) -> Extents:
    return merge(
        *(
            make_extents(make_ranges([(start, end)]), kind=kind, source=0, offset=start)
            for start, end, kind in rows
        )
    )


def _file(*, missing: bool = False) -> TreeFile:
    """Data, a hole and known zeros; the hole may be memory that is missing instead."""
    table = _table(
        (*DATA[0], Kind.DATA),
        (DATA[0][1], DATA[1][0], Kind.MISSING if missing else Kind.HOLE),
        (*DATA[1], Kind.DATA),
        (DATA[1][1], DATA[2][0], Kind.ZERO),
        (*DATA[2], Kind.DATA),
    )
    return table_file("vmcore", table, [BytesSource("ram", CONTENT)])


def _extract(path: Path, *, force: bool = False, missing: bool = False) -> tuple[Outcome, int]:
    told: list[int] = []

    def progress(done: int, total: int) -> None:
        assert total == SIZE
        assert done > sum(told)
        told.append(done - sum(told))

    outcome = extract(_file(missing=missing), str(path), force=force, progress=progress)
    return outcome, sum(told)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "vmcore"


def _partial(out: Path) -> Path:
    return out.with_name("vmcore.incomplete")


def test_the_whole_file_is_written_and_readable_by_its_owner_alone(out: Path) -> None:
    outcome, told = _extract(out)
    same_bytes(out.read_bytes(), CONTENT)
    assert out.stat().st_mode & 0o777 == 0o600
    assert (outcome.size, outcome.resumed, told) == (SIZE, 0, SIZE)
    assert not _partial(out).exists()


def test_zeros_take_no_room_on_the_disk(out: Path) -> None:
    outcome, _ = _extract(out)
    # blocks: 2 of the first extent, 6 of the second (it starts inside one), 3 of the last
    assert outcome.written == 2 * 4096 + 6 * 4096 + 0x2345
    assert out.stat().st_blocks * 512 <= 16 * 4096


def test_an_existing_file_is_refused(out: Path) -> None:
    out.write_bytes(b"precious")
    with pytest.raises(
        ConfigError, match=exactly(f"{out}: exists already; pass --force to replace it")
    ):
        _extract(out)
    assert out.read_bytes() == b"precious"
    assert not _partial(out).exists()


def test_a_dangling_link_counts_as_existing(out: Path) -> None:
    out.symlink_to("nowhere")
    with pytest.raises(ConfigError):
        _extract(out)


def test_an_existing_file_is_replaced_if_forced(out: Path) -> None:
    out.write_bytes(b"old")
    _extract(out, force=True)
    same_bytes(out.read_bytes(), CONTENT)


def _cut(content: bytearray) -> None:
    del content[5 * MIB :]


def _longer(content: bytearray) -> None:
    content += b"\xee" * 5000


def _corrupt(content: bytearray) -> None:
    content[1] ^= 1
    content[3 * MIB : 3 * MIB + 3] = b"bad"
    content[-1] ^= 1


def _unrelated(content: bytearray) -> None:
    content[:] = b"\xee" * len(content)


def _empty(content: bytearray) -> None:
    content.clear()


@pytest.mark.parametrize("spoil", [_cut, _longer, _corrupt, _unrelated, _empty])
def test_whatever_an_earlier_try_left_the_outcome_is_the_same(
    out: Path, spoil: Callable[[bytearray], None]
) -> None:
    left = bytearray(CONTENT)
    spoil(left)
    _partial(out).write_bytes(left)
    _extract(out)
    same_bytes(out.read_bytes(), CONTENT)


def test_what_an_earlier_try_wrote_is_not_written_again(out: Path) -> None:
    _partial(out).write_bytes(CONTENT[: 8 * MIB])
    outcome, told = _extract(out)
    assert (outcome.size, outcome.written, outcome.resumed) == (SIZE, 0x2345, 8 * MIB)
    assert told == SIZE


def test_what_no_input_holds_is_a_hole_and_listed_and_the_name_says_so(out: Path) -> None:
    outcome, told = _extract(out, missing=True)
    assert not out.exists()
    same_bytes(_partial(out).read_bytes(), CONTENT)  # there are zeros in the hole
    assert _partial(out).stat().st_blocks * 512 <= 16 * 4096
    assert (outcome.name, outcome.size, told) == (str(_partial(out)), SIZE, SIZE)
    (loss,) = outcome.losses.listed
    assert (loss.start, loss.end) == (DATA[0][1], DATA[1][0])
    assert loss.reason == "vmcore: no input holds [0x3000, 0x400000) (missing, 4182016 bytes)"


class _Bad(BytesSource):
    """A file of which some bytes cannot be read."""

    bad: tuple[int, ...] = (0x2000, 12 * MIB + 0x1004)

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        for at in self.bad:
            if offset <= at < offset + len(buffer):
                raise SourceIOError("ram", at, 1, "Input/output error")
        super().pread_into(offset, buffer)


def _bad_file() -> TreeFile:
    table = _file().reader.table
    return table_file("vmcore", table, [_Bad("ram", CONTENT)])


LOST = ((0x2000, 0x3000), (12 * MIB + 0x1000, 12 * MIB + 0x2000))
"""The pages of the bad bytes."""


def _without_lost() -> bytes:
    left = bytearray(CONTENT)
    for start, end in LOST:
        left[start:end] = bytes(end - start)
    return bytes(left)


def test_a_page_that_cannot_be_read_costs_that_page_alone(out: Path) -> None:
    # what an earlier try, or another image, had there does not stay
    _partial(out).write_bytes(b"\xee" * (6 * MIB))
    outcome = extract(_bad_file(), str(out), force=False, progress=lambda *_: None)
    assert not out.exists()
    same_bytes(_partial(out).read_bytes(), _without_lost())
    assert outcome.losses.size == 0x2000
    assert [(loss.start, loss.end) for loss in outcome.losses.listed] == list(LOST)
    assert outcome.losses.describe(outcome.name, "are zeros there") == (
        f"{out}.incomplete: 8 KiB could not be read and are zeros there, first"
        " [0x2000, 0x3000): ram: cannot read 1 byte at offset 0x2000: Input/output error"
    )


def test_what_can_be_read_later_makes_it_whole(out: Path) -> None:
    extract(_bad_file(), str(out), force=False, progress=lambda *_: None)
    outcome, _ = _extract(out)
    assert (outcome.losses.size, outcome.name, outcome.written) == (0, str(out), 0x2000)
    same_bytes(out.read_bytes(), CONTENT)


def test_a_stream_has_zeros_for_a_page_that_cannot_be_read(out: Path) -> None:
    with out.open("wb") as file:
        outcome = stream(_bad_file(), StreamTarget("a pipe", file.fileno()), lambda *_: None)
    same_bytes(out.read_bytes(), _without_lost())
    assert [(loss.start, loss.end) for loss in outcome.losses.listed] == list(LOST)


def test_a_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none" / "vmcore"
    with pytest.raises(
        OutputError,
        match=exactly(f"{path}: cannot write: No such file or directory"),
    ):
        _extract(path)


def test_a_link_in_the_place_of_the_incomplete_file_is_not_followed(
    out: Path, tmp_path: Path
) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    _partial(out).symlink_to("victim")
    with pytest.raises(OutputError):
        _extract(out)
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_what_another_user_has_left_is_refused(out: Path) -> None:
    """He could read what is written into it: he may have made it mode 0666, and have it open."""
    _partial(out).touch()
    os.chown(_partial(out), 12345, 12345)
    _partial(out).chmod(0o666)
    with pytest.raises(ConfigError, match=exactly(f"{out}.incomplete: belongs to user 12345")):
        _extract(out)
    with pytest.raises(ConfigError):
        _extract(out, force=True)
    assert _partial(out).stat().st_size == 0


def test_what_is_taken_over_is_readable_by_its_owner_alone(out: Path) -> None:
    _partial(out).write_bytes(CONTENT[: 8 * MIB])
    _partial(out).chmod(0o666)
    _extract(out)
    assert out.stat().st_mode & 0o777 == 0o600


def test_two_at_a_time_do_not_mix(out: Path) -> None:
    refused: list[str] = []

    def begin_another(*_: int) -> None:
        with pytest.raises(ConfigError) as error:
            _extract(out)
        refused.append(str(error.value))

    extract(_file(), str(out), force=False, progress=begin_another)
    assert set(refused) == {f"{out}.incomplete: another process is writing it"}
    same_bytes(out.read_bytes(), CONTENT)


def test_what_is_made_meanwhile_is_not_replaced(out: Path) -> None:
    def make(*_: int) -> None:
        out.write_bytes(b"precious")

    with pytest.raises(OutputError, match=r"vmcore\.incomplete is complete$"):
        extract(_file(), str(out), force=False, progress=make)
    assert out.read_bytes() == b"precious"
    same_bytes(_partial(out).read_bytes(), CONTENT)


def test_bytes_are_safe_before_the_name_and_the_name_before_the_end(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        size = os.fstat(descriptor).st_size if kind == "file" else 0
        done.append(f"{kind} {out.exists()} {size}")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    _extract(out)
    assert done == [f"file False {SIZE}", "directory True 0"]


def test_a_stream_gets_every_byte_zeros_too(out: Path) -> None:
    told: list[tuple[int, int]] = []
    with out.open("wb") as file:
        target = StreamTarget("a pipe", file.fileno())
        outcome = stream(_file(), target, lambda *how_far: told.append(how_far))
    same_bytes(out.read_bytes(), CONTENT)
    assert (outcome.size, outcome.written, outcome.losses.size) == (SIZE, SIZE, 0)
    assert told == [(done, SIZE) for done in (4 * MIB, 8 * MIB, 12 * MIB, 12 * MIB + 0x2345)]


def test_a_stream_into_a_file_is_safe_at_the_end(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    with out.open("wb") as file:
        stream(_file(), StreamTarget("a file", file.fileno()), lambda *_: None)
    assert synced == [SIZE]


def test_a_reader_that_goes_away_is_an_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(OutputError, match=exactly("a pipe: cannot write: Broken pipe")):
        stream(_file(), StreamTarget("a pipe", writing), lambda *_: None)
    os.close(writing)
