"""What is in a compressed file, read in any order; what is damaged; what is too much."""

from __future__ import annotations

import gzip as python_gzip
import lzma
import random
from pathlib import Path
from threading import Thread

import pytest
import zstandard

from tests.builders.packed import DATA, FORMS, gzip_member, packed_data, zstd_frame
from tests.matching import same_bytes
from tests.unit.sources.wrappers.conftest import Unwrap
from vmcorefs import FormatError, SourceIOError, TruncatedError
from vmcorefs.sources.input import File
from vmcorefs.sources.wrappers import seekable, xz, zstd
from vmcorefs.sources.wrappers.unwrap import Unwrapping


def read(file: File, offset: int = 0, size: int | None = None) -> bytes:
    buffer = bytearray(file.size - offset if size is None else size)
    file.pread_into(offset, memoryview(buffer))
    return bytes(buffer)


@pytest.fixture(params=FORMS)
def packed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The data in each form, under a name that says nothing."""
    path = tmp_path / "image"
    path.write_bytes(packed_data(request.param))
    path.with_name("kind").write_text(FORMS[request.param][0])
    return path


def test_its_bytes_are_read_in_any_order(packed: Path, opened: Unwrap) -> None:
    rng = random.Random(1)  # noqa: S311
    for _ in ("the index is made", "it is found in the cache"):
        file = opened(packed)
        assert (file.kind, file.size) == (packed.with_name("kind").read_text(), len(DATA))
        assert file.file.wrappers == (file.kind,)
        for _ in range(40):
            size = rng.choice((1, 4096, 300_000))
            offset = rng.randrange(len(DATA) - size)
            same_bytes(read(file, offset, size), DATA[offset : offset + size])
        with pytest.raises(SourceIOError, match=f"data in it has {len(DATA)} bytes"):
            read(file, len(DATA), 1)


def test_threads_read_it_at_once(packed: Path, opened: Unwrap) -> None:
    file, wrong = opened(packed), []

    def reader(seed: int) -> None:
        rng = random.Random(seed)  # noqa: S311
        for _ in range(20):
            offset = rng.randrange(len(DATA) - 5000)
            if read(file, offset, 5000) != DATA[offset : offset + 5000]:
                wrong.append(offset)

    threads = [Thread(target=reader, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_data_that_is_cut_is_refused_or_opened_up_to_there(packed: Path, opened: Unwrap) -> None:
    whole = packed.read_bytes()
    for tenth in (1, 4, 7, 9):
        packed.write_bytes(whole[: len(whole) * tenth // 10])
        file = opened(packed, Unwrapping(truncated=True))
        assert isinstance(file, seekable.Unwrapped)
        assert file.size <= len(DATA)
        if file.damage:
            with pytest.raises(TruncatedError, match="--truncated opens the"):
                opened(packed)
        else:  # between two members or frames nothing shows that more should follow
            assert file.kind in {"gzip", "zstd", "bzip2"}
        same_bytes(read(file), DATA[: file.size])


def test_no_damage_goes_unnoticed(packed: Path, opened: Unwrap) -> None:
    whole = bytearray(packed.read_bytes())
    rng = random.Random(2)  # noqa: S311
    for _ in range(8):
        damaged = bytearray(whole)
        damaged[rng.randrange(20, len(whole) - 100)] ^= 1 << rng.randrange(8)
        packed.write_bytes(damaged)
        try:
            file = opened(packed)
            found = read(file)
        except (TruncatedError, FormatError, SourceIOError):
            continue
        # lzma has no sum, and that of lz4 is not looked at
        assert found == DATA or packed.with_name("kind").read_text() in {"lzma", "lz4"}


def test_wrappers_are_taken_off_one_by_one(tmp_path: Path, opened: Unwrap) -> None:
    path = tmp_path / "image"
    path.write_bytes(zstd_frame(gzip_member(lzma.compress(DATA, preset=0))))
    file = opened(path)
    same_bytes(read(file), DATA)
    assert file.file.wrappers == ("zstd", "gzip", "xz")
    data = DATA
    for _ in range(9):
        data = gzip_member(data)
    path.write_bytes(data)
    with pytest.raises(FormatError, match="compressed more than 8 times"):
        opened(path)


def test_what_comes_out_is_bounded(
    tmp_path: Path, opened: Unwrap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """32 MiB of zeros in some KiB: nothing holds all of them, nor more than the cache may."""
    monkeypatch.setattr(seekable, "CACHE_SIZE", 1 << 20)
    zeros = bytes(32 << 20)
    path = tmp_path / "image"
    for data in (python_gzip.compress(zeros, 1, mtime=0), zstd_frame(zeros)):
        path.write_bytes(data)
        file = opened(path)
        assert isinstance(file, seekable.Unwrapped)
        assert file.size == len(zeros)
        assert read(file, 0, 8 << 20) == bytes(8 << 20)
        assert sum(map(len, file._chunks.values())) <= 1 << 20


def test_parts_that_are_too_long_to_begin_at_are_copied(
    tmp_path: Path, opened: Unwrap, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image"
    for module, data in ((xz, lzma.compress(DATA, preset=0)), (zstd, zstd_frame(DATA))):
        path.write_bytes(data)
        opened(path)
        kept = len(list(cache.glob("*"))) if cache.exists() else 0
        monkeypatch.setattr(module, "LONGEST", len(DATA) - 1)
        same_bytes(read(opened(path)), DATA)
        assert len(list(cache.glob("*.index"))) == kept + 1


def test_a_window_larger_than_zstds_own_limit_is_refused(tmp_path: Path, opened: Unwrap) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28, write_content_size=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    stream = compressor.compressobj()
    (tmp_path / "image").write_bytes(stream.compress(DATA) + stream.flush())
    with pytest.raises(TruncatedError, match="Frame requires too much memory"):
        opened(tmp_path / "image")


def test_making_an_index_says_how_far_it_is(tmp_path: Path, opened: Unwrap) -> None:
    told: list[tuple[int, int]] = []
    for form in ("gzip", "bzip2", "zstd stream"):
        path = tmp_path / form
        path.write_bytes(packed_data(form))
        told.clear()
        opened(path, Unwrapping(progress=lambda done, total: told.append((done, total))))
        assert told
        assert all(0 <= done <= total == path.stat().st_size for done, total in told)
