"""Pieces of memory, laid out in the physical address space."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.builders.dead_machines import stamped
from tests.matching import exactly
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.errors import ConfigError, LayoutError, TruncatedError
from vmcorefs.piece import Piece
from vmcorefs.reader import Reader
from vmcorefs.sources.pieces import open_piece
from vmcorefs.sources.registry import RawMemory, open_inputs

SIZE = 0x4000
RAM_END = 0x100000


@pytest.fixture
def ram(tmp_path: Path) -> str:
    path = tmp_path / "ram"
    path.write_bytes(stamped(0, SIZE))
    return str(path)


def lay_out(*pieces: Piece) -> tuple[list[tuple[int, int, int, int]], Reader]:
    opened = open_inputs(pieces, ram_end=RAM_END)
    assert isinstance(opened, RawMemory)
    sources, table = opened.sources, opened.captured
    columns = (table.start, table.end, table.source, table.offset)
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    return rows, Reader("memory", table, sources)


def test_a_single_file_starts_at_physical_address_0(ram: str) -> None:
    rows, memory = lay_out(Piece(ram))
    assert rows == [(0, SIZE, 0, 0)]
    assert memory.pread(16, 0x1000) == stamped(0x1000, 0x1010)


def test_one_file_may_hold_two_pieces_as_qemus_does(ram: str) -> None:
    # file      |0 ....... 3000|3000 ... 4000|
    # physical  |0 ....... 3000|   hole   |10000 ... 11000|
    rows, memory = lay_out(Piece(ram, 0x10000, 0x3000), Piece(ram, 0, 0, 0x3000))
    assert rows == [(0, 0x3000, 1, 0), (0x10000, 0x11000, 0, 0x3000)]
    assert memory.pread(8, 0x10008) == stamped(0x3008, 0x3010)


def test_pieces_may_touch(ram: str) -> None:
    rows, memory = lay_out(Piece(ram, 0x1000, size=0x1000), Piece(ram, 0x2000))
    assert rows == [(0x1000, 0x2000, 0, 0), (0x2000, 0x6000, 1, 0)]
    assert memory.pread(16, 0x1FF8) == stamped(0xFF8, 0x1000) + stamped(0, 8)


def test_pieces_that_overlap_are_refused_and_both_are_named(ram: str) -> None:
    with pytest.raises(
        LayoutError,
        match=exactly(f"{ram}: [0x3fff, 0x7fff) overlaps [0x0, 0x4000) from {ram}"),
    ):
        lay_out(Piece(ram, 0x3FFF), Piece(ram, 0))


def test_one_of_several_pieces_needs_its_address(ram: str) -> None:
    with pytest.raises(
        ConfigError,
        match=exactly(
            f"{ram}: one of 2 pieces, so it needs its physical address: {ram}@PADDR[:OFFSET][+SIZE]"
        ),
    ):
        lay_out(Piece(ram, 0x10000), Piece(ram))


@pytest.mark.parametrize(
    ("piece", "message"),
    [
        ((0, 0x1000, 0x3001), "16384 bytes, but the piece is [0x1000, 0x4001) of them"),
        ((0, 0x4001, None), "16384 bytes, but the piece is [0x4001, 0x4001) of them"),
        ((0, 2**61, 2**61), f"16384 bytes, but the piece is [{2**61:#x}, {2**62:#x}) of them"),
    ],
)
def test_a_piece_that_ends_behind_its_file_is_refused(
    ram: str, piece: tuple[int, int, int | None], message: str
) -> None:
    with pytest.raises(TruncatedError, match=exactly(f"{ram}: {message}")):
        lay_out(Piece(ram, *piece))


@pytest.mark.parametrize("piece", [(0, SIZE, None), (0, 0, 0)])
def test_an_empty_piece_is_refused(ram: str, piece: tuple[int, int, int | None]) -> None:
    with pytest.raises(ConfigError, match=exactly(f"{ram}: empty, expected physical memory")):
        lay_out(Piece(ram, *piece))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ram"
    path.touch()
    with pytest.raises(ConfigError, match=exactly(f"{path}: empty, expected physical memory")):
        lay_out(Piece(str(path)))


def test_a_piece_that_ends_beyond_the_highest_address_is_refused(ram: str) -> None:
    with pytest.raises(
        LayoutError,
        match=exactly(f"{ram}: 16384 bytes at 0x3fffffffffffd000 end beyond 0x4000000000000000"),
    ):
        lay_out(Piece(ram, MAX_ADDRESS - 0x3000))


def test_a_character_device_is_taken_to_reach_the_end_of_ram() -> None:
    assert lay_out(Piece("/dev/zero"))[0] == [(0, RAM_END, 0, 0)]
    assert lay_out(Piece("/dev/zero", 0x40000, 0x100))[0] == [(0x40000, RAM_END, 0, 0x100)]
    assert lay_out(Piece("/dev/zero", 0, 0, 0x2000))[0] == [(0, 0x2000, 0, 0)]


def test_a_piece_without_an_address_is_at_0_until_somebody_knows_better(ram: str) -> None:
    source, paddr, size = open_piece(Piece(ram, offset=0x100), role="backup", ram_end=RAM_END)
    assert (source.role, paddr, size) == ("backup", 0, SIZE - 0x100)
    source.close()


def test_nothing_is_left_open_if_a_later_piece_is_refused(ram: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ConfigError):
        lay_out(Piece(ram, 0), Piece(f"{ram}.none", 0x10000))
    assert len(os.listdir("/proc/self/fd")) == before
