"""Reads that are late, and what they stand in the way of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.fuse.conftest import Clock
from vmcorefs.fuse.deadlines import Deadlines, HungReads, Pending, within_kernels_timeout

RAM = frozenset({"ram"})


def late(unique: int, offset: int, size: int, node: int = 3) -> Pending:
    return Pending(unique, node, offset, size, 0.0)


def test_a_read_is_given_up_once_and_only_when_it_is_late(clock: Clock) -> None:
    deadlines = Deadlines(60)
    slow = deadlines.begin(1, 3, 0, 4096)
    quick = deadlines.begin(2, 3, 0, 4096)
    assert deadlines.late() == []
    assert deadlines.end(quick)
    clock.passed += 61
    fresh = deadlines.begin(4, 3, 0, 4096)
    assert deadlines.late() == [slow]
    assert deadlines.end(slow)
    assert deadlines.late() == []
    assert not deadlines.end(slow)
    assert deadlines.end(fresh)


def test_without_a_timeout_nothing_is_given_up(clock: Clock) -> None:
    deadlines = Deadlines(0)
    slow = deadlines.begin(1, 3, 0, 4096)
    clock.passed += 1e6
    assert deadlines.late() == []
    assert deadlines.end(slow)


def test_a_read_that_has_all_of_one_that_hangs_is_not_tried() -> None:
    hung = HungReads()
    assert not hung
    one = late(1, 0x10000, 0x8000)
    hung.add(one, RAM)
    assert hung
    assert hung.blocks(3, 0x10000, 0x8000, RAM)
    assert hung.blocks(3, 0, 0x100000, RAM)
    assert not hung.blocks(3, 0x10000, 0x1000, RAM)  # which of its pages is it?
    assert not hung.blocks(3, 0x18000, 0x8000, RAM)
    assert not hung.blocks(4, 0x10000, 0x8000, RAM)
    hung.remove(one)
    assert not hung.blocks(3, 0x10000, 0x8000, RAM)


def test_a_read_that_comes_back_while_it_is_given_up_hangs_no_longer() -> None:
    hung = HungReads()
    one = late(1, 0x10000, 0x8000)
    hung.remove(one)
    hung.add(one, RAM)
    assert not hung
    assert not hung.blocks(3, 0x10000, 0x8000, RAM)


def test_an_input_that_very_many_reads_hang_at_is_left_alone() -> None:
    hung = HungReads()
    reads = [late(n, n * 4096, 4096) for n in range(128)]
    for read in reads[:-1]:
        hung.add(read, RAM)
    assert not hung.blocks(3, 1 << 30, 4096, RAM)
    hung.add(reads[-1], RAM)
    assert hung.blocks(3, 1 << 30, 4096, RAM)
    assert not hung.blocks(3, 1 << 30, 4096, frozenset({"lowmem"}))
    hung.remove(reads[0])
    assert not hung.blocks(3, 1 << 30, 4096, RAM)


@pytest.mark.parametrize(
    ("timeout", "limits", "expected"),
    [
        (30, {}, 30),
        (30, {"max_request_timeout": "0", "default_request_timeout": "0"}, 30),
        (30, {"max_request_timeout": "20"}, 10),
        (30, {"max_request_timeout": "600"}, 30),
        (0, {"max_request_timeout": "20"}, 10),
        (0, {"default_request_timeout": "60"}, 30),
        (30, {"default_request_timeout": "20"}, 30),  # a mount that asks for one gets that
        (0, {}, 0),
    ],
)
def test_a_timeout_keeps_within_the_kernels(
    tmp_path: Path, timeout: float, limits: dict[str, str], expected: float
) -> None:
    for name, value in limits.items():
        (tmp_path / name).write_text(f"{value}\n")
    assert within_kernels_timeout(timeout, tmp_path) == expected
