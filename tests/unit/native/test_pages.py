"""What machine code refuses: nothing that is passed to it may make it go past its buffers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from vmcorefs.native import _pages, pages as native

PAGE = 4096
LZO = 2


def zeros(count: int, dtype: str = "u1") -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.zeros(count, dtype=dtype)


@pytest.mark.parametrize("size", [0, 8, -PAGE, (1 << 16) + 1, 1 << 40, PAGE - 1])
def test_pages_have_a_size(size: int) -> None:
    with pytest.raises(ValueError, match="pages of"):
        _pages.find_zeros(zeros(2 * PAGE), size, zeros(2))
    with pytest.raises(ValueError, match=r"pages of|elements"):
        _pages.pack(LZO, zeros(2 * PAGE), size, zeros(2), zeros(9 * PAGE), zeros(2, "u4"))


def test_arrays_have_an_element_for_each_page() -> None:
    with pytest.raises(ValueError, match=r"^zero: 3 bytes, expected 2 elements of 1$"):
        _pages.find_zeros(zeros(2 * PAGE), PAGE, zeros(3))
    with pytest.raises(ValueError, match=r"^stored: 1 bytes"):
        _pages.pack(LZO, zeros(2 * PAGE), PAGE, zeros(1), zeros(9 * PAGE), zeros(2, "u4"))
    with pytest.raises(ValueError, match=r"^sizes: 2 bytes"):
        _pages.pack(LZO, zeros(2 * PAGE), PAGE, zeros(2), zeros(9 * PAGE), zeros(2))


@pytest.mark.parametrize("flag", [1, 2, 4, 0x20])
def test_there_is_room_for_what_grows(flag: int) -> None:
    noise = np.frombuffer(os.urandom(3 * PAGE), dtype=np.uint8).reshape(3, PAGE)
    out = np.empty(native.packed_size(3, PAGE), dtype=np.uint8)

    size, sizes = native.pack(flag, noise, np.ones(3, dtype=np.bool_), out)

    assert (size, sizes.tolist()) == (3 * PAGE, [PAGE] * 3)
    assert out[:size].tobytes() == noise.tobytes()
    with pytest.raises(ValueError, match="too few"):
        native.pack(flag, noise, np.ones(3, dtype=np.bool_), out[:-1])


def test_none_moves_pages_together_where_they_are() -> None:
    data = np.repeat(np.arange(6, dtype=np.uint8), PAGE).reshape(6, PAGE)
    wanted = np.array([0, 1, 1, 0, 0, 1], dtype=np.bool_)

    size, sizes = native.pack(0, data, wanted, data.reshape(-1))

    assert (size, sizes.tolist()) == (3 * PAGE, [0, PAGE, PAGE, 0, 0, PAGE])
    assert data.reshape(-1)[:size:PAGE].tolist() == [1, 2, 5]


@pytest.mark.parametrize("counts", [[3], [5], [-1, 5], [1 << 62, 1 << 62], [4, 1]])
def test_runs_are_those_of_the_pages(tmp_path: Path, counts: list[int]) -> None:
    offsets = np.zeros(len(counts), dtype=np.int64)
    with (tmp_path / "file").open("w+b") as file, pytest.raises(ValueError, match=r"^counts: "):
        _pages.read_and_pack(
            *(0, file.fileno(), offsets, np.array(counts, dtype=np.int64)),
            *(PAGE, zeros(9 * PAGE), zeros(4, "u4")),
        )


@pytest.mark.parametrize("offset", [PAGE, -1, 1 << 62, None])
def test_what_cannot_be_read_is_said(tmp_path: Path, offset: int | None) -> None:
    (tmp_path / "file").write_bytes(bytes(PAGE + 1))
    with (tmp_path / "file").open("rb") as file:
        where = np.array([offset or 0], dtype=np.int64), np.ones(1, dtype=np.int64)
        descriptor = -1 if offset is None else file.fileno()
        assert native.read_and_pack(LZO, descriptor, *where, PAGE, zeros(3 * PAGE)) is None


def test_there_is_no_other_codec() -> None:
    with pytest.raises(ImportError, match="no such codec"):
        _pages.library(3)
    with pytest.raises(ImportError, match="no such codec"):
        _pages.pack(3, zeros(PAGE), PAGE, zeros(1), zeros(3 * PAGE), zeros(1, "u4"))
    assert native.library_of(LZO) is not None
    assert os.path.isabs(native.library_of(LZO) or "")
