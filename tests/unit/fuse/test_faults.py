"""The log of reads that failed."""

from __future__ import annotations

import logging

import pytest

from tests.builders.extents import table
from vmcorefs.core.space.extents import Kind
from vmcorefs.errors import FaultError, SourceIOError
from vmcorefs.fuse.faults import FaultLog, RateLimit, Runs
from vmcorefs.sources.base import BytesSource
from vmcorefs.tree.file import TreeFile, table_file

MIB = 1 << 20


def vmcore() -> TreeFile:
    """64 MiB; from 1 MiB on it is the input from 3 MiB on."""
    rows = table((0, MIB, 0, -1, Kind.ZERO), (MIB, 63 * MIB, 3 * MIB, 0, Kind.DATA))
    file = table_file("vmcore", rows, (BytesSource("ram", b""),))
    file.make()
    return file


@pytest.fixture
def faults() -> FaultLog:
    return FaultLog(lambda error, _file, _place: error.position + 0x1000)


def failed(file: TreeFile, offset: int) -> SourceIOError:
    """A page of the input that could not be read, as the file's reader raises it."""
    error = SourceIOError("ram", offset, 4096, "Input/output error")
    (error.holder,) = file.reader.sources
    return error


def test_a_fault_is_told_with_the_place_in_the_file_the_input_and_memory(
    faults: FaultLog, caplog: pytest.LogCaptureFixture
) -> None:
    file = vmcore()
    # the read began long before the fault
    faults.report(file, 2 * MIB, failed(file, 5 * MIB + 4096))
    (message,) = caplog.messages
    assert message == (
        "vmcore at 0x301000: ram: cannot read 4096 bytes at offset 0x501000: Input/output error"
        " (physical address 0x502000)"
    )


def test_what_lies_in_a_row_is_told_once_and_a_flood_is_counted(
    faults: FaultLog, caplog: pytest.LogCaptureFixture
) -> None:
    file = vmcore()
    for _ in range(2):
        for page in range(0, 16 * MIB, 4096):
            faults.report(file, MIB, failed(file, 3 * MIB + page))
    assert len(caplog.messages) == 1
    for _ in range(2):
        for page in range(20 * MIB, 60 * MIB, 65536):
            faults.report(file, MIB, failed(file, 3 * MIB + page))
    assert len(caplog.messages) == 20
    faults.flush()
    assert len(caplog.messages) == 20


def test_a_stored_page_is_told_though_its_neighbour_was(
    faults: FaultLog, caplog: pytest.LogCaptureFixture
) -> None:
    file = vmcore()
    for page in (3, 4, 3):
        error = SourceIOError("ram", 77, 9, "a page, but", position=page * 4096, is_page=True)
        faults.report(file, MIB, error)
    assert len(caplog.messages) == 2


def test_a_run_of_pages_is_one_in_whatever_order_they_are_read() -> None:
    runs = Runs()
    assert [runs.add(page * 4096) for page in (5, 9, 4, 6)] == [True, True, False, False]
    assert [runs.add(page * 4096) for page in (8, 7)] == [False, False]  # 4 to 9 are one now
    assert [runs.add(page * 4096 + 4095) for page in range(4, 10)] == [False] * 6
    assert [runs.add(page * 4096) for page in (3, 10)] == [False, False]
    assert [runs.add(page * 4096) for page in (1, 12)] == [True, True]


def test_no_more_than_so_many_runs_are_kept_and_those_still_grow() -> None:
    runs = Runs(most=2)
    assert [runs.add(page * 4096) for page in (1, 3, 5, 5)] == [True] * 4
    assert [runs.add(page * 4096) for page in (1, 2, 3)] == [False] * 3
    assert [runs.add(page * 4096) for page in (5, 5)] == [True, False]  # there is room again


def test_a_hole_is_no_error(faults: FaultLog, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    faults.report(vmcore(), 0, FaultError("kcore", 0, 4096, "hole"))
    faults.report(vmcore(), 0, FaultError("kcore", 0, 4096, "missing"))
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    assert "ERROR" not in caplog.text


def test_a_walk_through_holes_holds_no_error_back_and_makes_none(
    faults: FaultLog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rows = table(*((n * MIB, MIB, 0, -1, Kind.HOLE) for n in range(50)))
    kcore = table_file("kcore", rows, ())
    kcore.make()
    for n in range(50):
        faults.report(kcore, n * MIB, FaultError("kcore", n * MIB, 4096, "hole"))
    assert [record.levelno for record in caplog.records] == [logging.INFO] * 20
    file = vmcore()
    faults.report(file, MIB, failed(file, 3 * MIB))
    assert caplog.records[-1].levelno == logging.ERROR
    faults._limits[logging.INFO]._at -= 60  # a minute later
    faults.flush()
    assert caplog.messages[-1] == "30 more read errors, which are not listed here"
    assert caplog.records[-1].levelno == logging.INFO


def test_what_was_held_back_is_told_when_there_is_room() -> None:
    now = [0.0]
    limit = RateLimit(lambda: now[0])
    assert [limit.allow() for _ in range(25)] == [True] * 20 + [False] * 5
    assert limit.take_held_back() == 0
    now[0] += 6.0
    assert limit.take_held_back() == 5
    assert limit.take_held_back() == 0
    assert not limit.allow()
    now[0] += 12.0
    assert [limit.allow() for _ in range(3)] == [True, True, False]


def test_however_long_nothing_fails_no_more_than_a_burst_is_told() -> None:
    now = [0.0]
    limit = RateLimit(lambda: now[0])
    now[0] += 24 * 3600
    assert [limit.allow() for _ in range(25)] == [True] * 20 + [False] * 5
