"""The indexes that are kept: whose they are, what is in them, and how many there are."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.builders.packed import DATA, FORMS
from tests.matching import same_bytes
from tests.unit.sources.wrappers.conftest import Unwrap
from tests.unit.sources.wrappers.test_unwrap import read
from vmcorefs import ConfigError, OutputError
from vmcorefs.sources.evidence import Evidence
from vmcorefs.sources.wrappers import cache as module, records
from vmcorefs.sources.wrappers.unwrap import Unwrapping

SECRET = b"the secret of a dead machine"
RNG = random.Random(1)  # noqa: S311
MEMORY = b"".join(SECRET + RNG.randbytes(20) for _ in range(9000))


@pytest.fixture(params=["gzip", "zstd stream"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An image whose index has a part of its bytes, or all of them."""
    path = tmp_path / "image"
    path.write_bytes(FORMS[request.param][1](MEMORY))
    return path


def test_nobody_reads_the_images_bytes_in_it(image: Path, opened: Unwrap, cache: Path) -> None:
    opened(image)
    (index,) = cache.iterdir()
    data = index.read_bytes()
    assert len(data) > 10_000  # it has some of the image, or all
    assert SECRET[:6] not in data
    assert SECRET[:6] in MEMORY
    assert index.stat().st_mode & 0o777 == 0o600
    assert cache.stat().st_mode & 0o777 == 0o700


def test_it_is_used_again(image: Path, opened: Unwrap, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(image)
    monkeypatch.setattr(module, "_build", None)
    same_bytes(read(opened(image)), MEMORY)


def test_another_image_of_that_name_gets_its_own(image: Path, opened: Unwrap, cache: Path) -> None:
    opened(image)
    before = os.stat(image)
    other = bytes(reversed(MEMORY))
    image.write_bytes(FORMS["gzip"][1](other))
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    same_bytes(read(opened(image)), other)
    assert len(list(cache.iterdir())) == 2


def test_one_that_was_changed_or_cut_is_made_again(
    image: Path, opened: Unwrap, cache: Path
) -> None:
    opened(image)
    (index,) = cache.iterdir()
    whole = index.read_bytes()
    for data in (b"", whole[:-1], whole[: len(whole) // 2], b"\0" * len(whole)):
        index.write_bytes(data)
        same_bytes(read(opened(image)), MEMORY)
        assert index.read_bytes()[-8:] == records.MAGIC
    for at in range(len(whole) - 200, len(whole), 25):
        index.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        same_bytes(read(opened(image)), MEMORY)


def test_what_cannot_be_kept_is_done_without(
    image: Path, opened: Unwrap, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc")
    same_bytes(read(opened(image)), MEMORY)
    assert not cache.exists()


def test_what_was_used_longest_ago_goes(
    tmp_path: Path, opened: Unwrap, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        (tmp_path / f"{number}").write_bytes(FORMS["zstd stream"][1](DATA[number:]))
    opened(tmp_path / "0")
    (first,) = cache.iterdir()
    os.utime(first, (1000, 1000))
    monkeypatch.setattr(module, "LIMIT", first.stat().st_size * 2 + 4096)
    opened(tmp_path / "1")
    assert first in cache.iterdir()
    left = cache / "killed.new"
    left.write_bytes(b"x")
    os.utime(left, (1000, 1000))
    opened(tmp_path / "2")
    assert len(list(cache.iterdir())) == 2
    assert first not in cache.iterdir()
    assert left not in cache.iterdir()


def test_an_interrupted_one_leaves_nothing(image: Path, opened: Unwrap, cache: Path) -> None:
    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(image, Unwrapping(progress=interrupt))
    assert not list(cache.iterdir())


def test_a_copy_for_which_there_is_no_room_is_an_error(
    tmp_path: Path, opened: Unwrap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "KEPT_FREE", 1 << 62)
    (tmp_path / "image").write_bytes(FORMS["zstd stream"][1](DATA * 20))
    with pytest.raises(OutputError, match="of its file system are free"):
        opened(tmp_path / "image")


def test_the_cache_is_never_on_the_evidence(
    image: Path, opened: Unwrap, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its directory lies on the device that is the image, as far as anybody can tell."""

    def refuse(_self: Evidence, path: str) -> None:
        raise ConfigError(f"{path}: its bytes lie on the same device")

    monkeypatch.setattr(Evidence, "refuse", refuse)
    same_bytes(read(opened(image)), MEMORY)
    assert not list(cache.iterdir())
