"""The pages of a kdump-compressed file, kept for a while once they are decompressed."""

from __future__ import annotations

import concurrent.futures
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.builders.elf_dumps import save_dump
from tests.builders.kdumps import PAGE, Kdump, stamped_page
from tests.conftest import Opener
from tests.waiting import PATIENCE, wait_for
from vmcorefs.sources.dumps import cached
from vmcorefs.sources.dumps.cached import AHEAD, BATCH
from vmcorefs.sources.dumps.pages import DumpPages
from vmcorefs.tree.file import TreeFile


@pytest.fixture
def decompressed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the stored pages that are decompressed, in order; four are kept."""
    numbers: list[int] = []
    decompress = DumpPages._decompress

    def watched(source: DumpPages, first: int, end: int) -> list[bytes | bytearray]:
        numbers.extend(range(first, end))
        return decompress(source, first, end)

    monkeypatch.setattr(DumpPages, "_decompress", watched)
    monkeypatch.setattr(cached, "CACHE_SIZE", 4 * PAGE)
    return numbers


def test_the_pages_that_were_read_last_are_kept_and_no_others(
    tmp_path: Path, open_capture: Opener, decompressed: list[int]
) -> None:
    oldmem = open_capture(save_dump(tmp_path, Kdump(range(1, 21)).pack()))["oldmem"]

    def read(*numbers: int) -> list[int]:
        decompressed.clear()
        for number in numbers:  # never in order: nothing is read ahead
            assert oldmem.pread(PAGE, (1 + number) * PAGE) == stamped_page(1 + number)
        return decompressed

    assert read(19, 17, 15, 13, 11, 9) == [19, 17, 15, 13, 11, 9]
    assert read(15, 13, 11, 9) == []
    assert read(17) == [17]  # four are kept, so 15 had to go
    assert read(13, 7) == [7]  # and 11: nobody has asked for it as long
    assert read(13, 9, 17) == []
    assert read(11) == [11]


class HangingPages:
    """Stored pages that no read gets at until they are let go."""

    def __init__(self) -> None:
        self.numbers = range(0)
        self.waiting: list[int] = []
        self.is_free = threading.Event()

    def read(self, first: int, end: int) -> None:
        if not self.is_free.is_set() and any(
            number in self.numbers for number in range(first, end)
        ):
            self.waiting.append(first)
            self.is_free.wait()


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[HangingPages]:
    made = HangingPages()
    decompress = DumpPages._decompress

    def watched(source: DumpPages, first: int, end: int) -> list[bytes | bytearray]:
        made.read(first, end)
        return decompress(source, first, end)

    monkeypatch.setattr(DumpPages, "_decompress", watched)
    yield made
    made.is_free.set()


@pytest.fixture
def reader(hanging: HangingPages) -> Iterator[ThreadPoolExecutor]:
    """Threads of the test's own that read; they are let go before they are waited for."""
    with ThreadPoolExecutor(2) as threads:
        yield threads
        hanging.is_free.set()


def read_pages(
    threads: ThreadPoolExecutor, oldmem: TreeFile, first: int, end: int
) -> Future[bytes]:
    """Read stored pages ``[first, end)``; stored page 0 is at page frame number 1."""
    return threads.submit(oldmem.pread, (end - first) * PAGE, (1 + first) * PAGE)


def stamped_pages(first: int, end: int) -> bytes:
    return b"".join(stamped_page(1 + number) for number in range(first, end))


@pytest.fixture
def oldmem(tmp_path: Path, open_capture: Opener) -> TreeFile:
    return open_capture(save_dump(tmp_path, Kdump(range(1, 3001)).pack()))["oldmem"]


def helpers() -> int:
    return min(os.cpu_count() or 1, AHEAD)


def test_pages_that_hang_while_they_are_read_ahead_keep_no_long_read_waiting(
    oldmem: TreeFile, hanging: HangingPages, reader: ThreadPoolExecutor
) -> None:
    hanging.numbers = range(2 * BATCH, 2 * BATCH + AHEAD * BATCH)
    for first in (0, BATCH):
        read_pages(reader, oldmem, first, first + BATCH).result(PATIENCE)
    wait_for(lambda: len(hanging.waiting) == helpers(), "threads that hang")
    for first in (1500, 2000):
        pages_read = read_pages(reader, oldmem, first, first + 6 * BATCH).result(PATIENCE)
        assert pages_read == stamped_pages(first, first + 6 * BATCH)
    assert len(hanging.waiting) == helpers()


def test_a_long_read_that_hangs_keeps_no_other_waiting(
    oldmem: TreeFile, hanging: HangingPages, reader: ThreadPoolExecutor
) -> None:
    hanging.numbers = range(1000, 2000)
    hung = read_pages(reader, oldmem, 1000, 1000 + 8 * BATCH)
    wait_for(lambda: len(hanging.waiting) == helpers() + 1, "threads that hang")
    for first in (100, 2200):
        pages_read = read_pages(reader, oldmem, first, first + 8 * BATCH).result(PATIENCE)
        assert pages_read == stamped_pages(first, first + 8 * BATCH)
    assert not hung.done()
    hanging.is_free.set()
    assert hung.result(PATIENCE) == stamped_pages(1000, 1000 + 8 * BATCH)


def test_a_page_is_read_though_its_neighbour_hangs_while_it_is_read_ahead(
    oldmem: TreeFile,
    hanging: HangingPages,
    reader: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cached, "_PATIENCE", 0.01)
    hanging.numbers = range(2 * BATCH + 7, 2 * BATCH + 8)
    for first in (0, BATCH):
        read_pages(reader, oldmem, first, first + BATCH).result(PATIENCE)
    wait_for(lambda: hanging.waiting == [2 * BATCH], "thread that hangs")
    for number in (2 * BATCH, 2 * BATCH + 8):
        found = read_pages(reader, oldmem, number, number + 1).result(PATIENCE)
        assert found == stamped_pages(number, number + 1)
    hanging.is_free.set()
    found = read_pages(reader, oldmem, 2 * BATCH + 7, 2 * BATCH + 8).result(PATIENCE)
    assert found == stamped_pages(2 * BATCH + 7, 2 * BATCH + 8)


def test_a_reader_that_has_waited_once_for_what_is_read_ahead_does_not_wait_again(
    oldmem: TreeFile,
    hanging: HangingPages,
    reader: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[int] = []
    wait = concurrent.futures.wait

    def counted(futures: dict[Future[None], int], timeout: float) -> object:
        waits.append(len(futures))
        return wait(futures, 0.01)

    monkeypatch.setattr(cached, "wait", counted)
    hanging.numbers = range(2 * BATCH + 7, 2 * BATCH + 8)
    for first in (0, BATCH):
        read_pages(reader, oldmem, first, first + BATCH).result(PATIENCE)
    wait_for(lambda: hanging.waiting == [2 * BATCH], "thread that hangs")
    waits.clear()
    for number in range(2 * BATCH + 20, 2 * BATCH + 40, 5):
        read_pages(reader, oldmem, number, number + 1).result(PATIENCE)
    assert [count for count in waits if count] == [1]
