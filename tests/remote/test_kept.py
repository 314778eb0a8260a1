"""What is kept of an object elsewhere, for the next time."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.matching import same_bytes
from tests.remote.servers import Server, serving
from tests.remote.test_remote import read
from vmcorefs.piece import Far, Piece
from vmcorefs.sources import kept as module
from vmcorefs.sources.kept import KEY_BLOCKS
from vmcorefs.sources.pieces import open_file
from vmcorefs.sources.remote.file import BLOCK, RemoteFile

DATA = random.Random(7).randbytes(4 << 20) + bytes(4 << 20)  # noqa: S311
PARTS = random.Random(8).sample(range(0, len(DATA), 4 * BLOCK), 100)  # noqa: S311
"""Of which half are zeros, or nearly."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "vmcorefs" / "objects"


@pytest.fixture
def web() -> Iterator[Server]:
    with serving(DATA) as server:
        yield server


def open_kept(url: str) -> RemoteFile:
    file = open_file(Piece(url), role="image", far=Far(is_kept=True))
    assert isinstance(file, RemoteFile)
    return file


def read_parts(web: Server, data: bytes = DATA, parts: list[int] = PARTS) -> int:
    """Read some parts of a file that is opened anew; how many bytes moved."""
    web.moved = 0
    file = open_kept(web.url)
    for start in parts:
        same_bytes(read(file, start, 100), data[start : start + 100])
    file.close()
    return web.moved


def test_a_second_time_little_is_asked_for(web: Server, cache: Path) -> None:
    assert read_parts(web) >= len(PARTS) * BLOCK
    (file,) = cache.iterdir()
    assert (file.stat().st_mode & 0o777, cache.stat().st_mode & 0o777) == (0o600, 0o700)
    stamp = file.stat().st_ino
    assert read_parts(web) <= KEY_BLOCKS * BLOCK + 16
    assert file.stat().st_ino == stamp  # nothing new, so it is not written again
    read_parts(web, parts=[*PARTS, BLOCK])
    assert read_parts(web, parts=[*PARTS, BLOCK]) <= KEY_BLOCKS * BLOCK + 16


def test_whoever_has_the_cache_has_noise(web: Server, cache: Path) -> None:
    read_parts(web)
    (file,) = cache.iterdir()
    held = file.read_bytes()
    assert len(held) >= len(PARTS) * BLOCK
    for start in PARTS:
        assert DATA[start : start + 32] not in held
    assert b"image" not in file.name.encode() + held
    read_parts(web, parts=[*PARTS, BLOCK])
    (again,) = cache.iterdir()
    other = again.read_bytes()
    # no two files have the same key: their difference is not that of the blocks
    same = sum(one == two for one, two in zip(held, other, strict=False))
    assert same < len(held) / 100


def test_a_key_that_could_be_guessed_is_none(web: Server, cache: Path) -> None:
    """Of an object that is nearly all zeros nothing is kept, nor of one that was hardly read."""
    read_parts(web, parts=[start for start in PARTS if start >= 4 << 20])
    read_parts(web, parts=PARTS[: KEY_BLOCKS // 2])
    assert not [*cache.iterdir()]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-100] + bytes(100),
        lambda data: data[:3] + bytes(30) + data[33:],
        lambda _data: b"",
    ],
)
def test_one_that_was_changed_is_not_used(
    change: Callable[[bytes], bytes], web: Server, cache: Path
) -> None:
    read_parts(web)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(change(whole))
    assert read_parts(web) >= len(PARTS) * BLOCK
    assert len(file.read_bytes()) > len(PARTS) * BLOCK  # made again


def test_another_object_of_that_name_gets_its_own(web: Server, cache: Path) -> None:
    read_parts(web)
    web.data = DATA[::-1]
    assert read_parts(web, DATA[::-1]) >= len(PARTS) * BLOCK
    assert len([*cache.iterdir()]) == 2


def test_what_was_used_longest_ago_goes(
    web: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_parts(web)
    (first,) = cache.iterdir()
    monkeypatch.setattr(module, "KEPT_SIZE", first.stat().st_size)
    web.data = DATA[::-1]
    read_parts(web, DATA[::-1])
    (left,) = cache.iterdir()
    assert left != first


def test_nothing_is_kept_where_it_cannot_be_or_is_not_asked_for(
    web: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = open_file(Piece(web.url), role="image")
    for start in PARTS:
        file.pread_into(start, memoryview(bytearray(100)))
    file.close()
    assert not cache.exists()
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    read_parts(web)
