"""Who reads /dev/fuse while somebody waits: a socket stands for the kernel."""

from __future__ import annotations

import _thread
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.fuse.conftest import Clock
from tests.waiting import PATIENCE, wait_for
from vmcorefs.fuse import wire
from vmcorefs.fuse.deadlines import Pending
from vmcorefs.fuse.switch import Switch

TIMEOUT = 600.0
CACHED, ON_DISK, HANGS = 0, 1 << 20, 2 << 20


class Answers:
    """Answers each read with its offset; what is cached at once."""

    def __init__(self) -> None:
        self.is_free = threading.Event()
        self.at_once: list[int] = []
        self.told: list[tuple[str, int]] = []

    def read_at_once(self, device: int, unique: int, node: int, offset: int, size: int) -> bool:
        self.at_once.append(offset)
        if offset == HANGS:
            self.is_free.wait()
        if offset != CACHED:
            return False
        self.read(device, unique, node, offset, size, direct=False)
        return True

    def read(
        self, device: int, unique: int, node: int, offset: int, size: int, *, direct: bool
    ) -> None:
        if offset == ON_DISK:
            self.is_free.wait()
        os.write(device, struct.pack("=IiQQ", 24, 0, unique, offset))

    def seek(self, node: int, offset: int, whence: int) -> int:
        return 0

    def backing_of(self, node: int) -> int:
        return 0

    def give_up(self, late: Pending, seconds: float) -> None:
        self.told.append(("given up", late.unique))

    def came_back(self, late: Pending) -> None:
        self.told.append(("came back", late.unique))

    def out_of_memory(self) -> None:
        raise MemoryError  # what says so needs memory too


class Kernel:
    """The other end of /dev/fuse."""

    def __init__(self) -> None:
        self.socket, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(PATIENCE)
        self.answers = Answers()
        with device:
            libfuse = os.dup(device.fileno())
            self.switch = Switch(libfuse, self.answers, TIMEOUT)
        self.libfuse = socket.socket(fileno=libfuse)
        self.switch.start(lambda: None)

    def ask(self, unique: int, offset: int) -> None:
        header = wire.IN_HEADER.pack(80, wire.READ, unique, 2).ljust(wire.BODY, b"\0")
        self.socket.send(header + wire.READ_IN.pack(0, offset, 4096, 0).ljust(40, b"\0"))

    def answered(self) -> tuple[int, int]:
        """Which request, and its error."""
        _, error, unique = wire.OUT_HEADER.unpack_from(self.socket.recv(4096))
        return unique, error


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    before = _thread._count()
    made = Kernel()
    yield made
    made.answers.is_free.set()
    made.switch._stopped = True
    made.ask(99, CACHED)  # wakes the worker that waits, which then ends
    made.libfuse.close()  # the end of the other thread
    wait_for(lambda: _thread._count() == before, "end of every thread")
    made.socket.close()
    made.switch._libfuse._socket.close()
    os.close(made.switch._device)


def test_a_read_that_waits_for_a_disk_keeps_nobody_waiting(kernel: Kernel) -> None:
    kernel.ask(1, ON_DISK)
    for unique in (2, 3, 4):
        kernel.ask(unique, CACHED)
        assert kernel.answered() == (unique, 0)
    kernel.answers.is_free.set()
    assert kernel.answered() == (1, 0)


def test_one_worker_serves_what_needs_no_waiting(kernel: Kernel) -> None:
    for unique in range(1, 100):
        kernel.ask(unique, CACHED)
        assert kernel.answered() == (unique, 0)
    assert kernel.switch._workers == 1


def test_a_read_that_hangs_where_it_should_not_is_given_up_and_the_others_go_on(
    kernel: Kernel, clock: Clock
) -> None:
    kernel.ask(1, HANGS)
    wait_for(lambda: kernel.answers.at_once == [HANGS], "read that hangs")
    kernel.ask(2, CACHED)
    clock.passed += kernel.switch.deadlines.interval
    kernel.switch.tick()  # another worker leads
    assert kernel.answered() == (2, 0)
    assert kernel.answers.at_once == [HANGS]  # nothing more is tried that could hang the same way
    # a lane answers first, and says then that it was in time
    wait_for(lambda: list(kernel.switch.deadlines._pending) == [1], "end of the second request")
    clock.passed += TIMEOUT
    kernel.switch.tick()
    assert kernel.answered() == (1, -5)
    kernel.answers.is_free.set()
    assert kernel.answered() == (1, 0)  # the kernel refuses that one: ENOENT
    kernel.ask(3, CACHED)
    assert kernel.answered() == (3, 0)
    assert kernel.answers.at_once == [HANGS, CACHED]


def fail_first(work: Callable[..., Any]) -> Callable[..., Any]:
    """What has no memory for its work, and then has."""
    errors = [MemoryError()]

    def once(*args: Any) -> Any:
        if errors:
            raise errors.pop()
        return work(*args)

    return once


def test_a_request_is_refused_if_there_is_no_memory_to_take_note_of_it(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = kernel.switch
    monkeypatch.setattr(switch.deadlines, "begin", fail_first(switch.deadlines.begin))
    monkeypatch.setattr(switch, "_refuse", fail_first(switch._refuse))
    for unique, error in ((1, -5), (2, 0)):
        kernel.ask(unique, CACHED)
        assert kernel.answered() == (unique, error)


def test_a_request_is_refused_if_there_is_no_memory_for_libfuses_answer(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    libfuse = kernel.switch._libfuse
    monkeypatch.setattr(libfuse, "_patch", fail_first(libfuse._patch))
    for unique, error in ((1, -5), (2, 0)):
        kernel.libfuse.send(wire.OUT_HEADER.pack(16, 0, unique))
        assert kernel.answered() == (unique, error)


def read_and_fail(work: Callable[..., Any]) -> Callable[..., Any]:
    """What has no memory once for what it has read, and then has."""
    errors = [MemoryError()]

    def once(*args: Any) -> Any:
        found = work(*args)
        if errors:
            raise errors.pop()
        return found

    return once


@pytest.mark.parametrize("name", ["_read_device", "_begin"])
def test_a_request_for_which_there_was_no_memory_is_refused_and_forgotten(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    switch = kernel.switch
    monkeypatch.setattr(switch, name, read_and_fail(getattr(switch, name)))
    monkeypatch.setattr("vmcorefs.fuse.wire.unique_of", fail_first(wire.unique_of))
    monkeypatch.setattr("vmcorefs.fuse.switch._RETRY_AFTER", 0.001)
    answers = set()
    for unique in (1, 2, 3):
        kernel.ask(unique, CACHED)
        answers.add(kernel.answered())
    assert sorted(error for _, error in answers) == [-5, 0, 0]
    assert {unique for unique, _ in answers} == {1, 2, 3}
    wait_for(lambda: switch._waiting == 1, "the worker to wait again")
    assert switch._workers == 1


def test_a_lack_of_memory_before_a_request_is_read_refuses_none_of_the_next(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.ask(1, CACHED)
    assert kernel.answered() == (1, 0)
    monkeypatch.setattr(kernel.switch, "_read_device", fail_first(kernel.switch._read_device))
    kernel.ask(2, CACHED)
    # the one before is refused, which the kernel ignores: it has an answer. Which one that is
    # depends on whether the worker was back at the device when its reading was made to fail
    answers = [kernel.answered(), kernel.answered()]
    assert answers in ([(1, -5), (2, 0)], [(2, 0), (2, -5)])
    kernel.ask(3, CACHED)
    assert kernel.answered() == (3, 0)
    assert kernel.switch._workers == 1


def test_a_worker_that_dies_gives_back_its_count_and_the_lead(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = kernel.switch
    receive = switch._receive
    monkeypatch.setattr("sys.unraisablehook", lambda _: None)  # it dies of what nothing catches
    asked: list[int] = []
    deaths: list[int] = []

    def die_once(buffer: memoryview) -> Any:
        if len(deaths) < len(asked):
            deaths.append(len(asked))
            raise MemoryError
        return receive(buffer)

    monkeypatch.setattr(switch, "_receive", die_once)
    for unique in range(1, 71):  # more than there may be at once
        asked.append(unique)
        kernel.ask(unique, CACHED)  # the worker that waits answers, and dies at the next one
        assert kernel.answered() == (unique, 0)
        wait_for(lambda: len(deaths) == len(asked), "its death")
    wait_for(lambda: switch._workers == switch._waiting == 1, "the last one's successor")


def test_a_read_that_cannot_be_given_up_for_lack_of_memory_is_the_next_time(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    switch, answers = kernel.switch, kernel.answers
    kernel.ask(1, ON_DISK)
    wait_for(lambda: answers.at_once == [ON_DISK], "read that hangs")
    # before that, tick() would start a second one, which does no harm
    wait_for(lambda: switch._workers == 2 and switch._waiting == 1, "its successor")
    clock.passed += TIMEOUT
    monkeypatch.setattr(switch, "_refuse", fail_first(switch._refuse))
    with pytest.raises(MemoryError):
        switch.tick()
    assert answers.told == []
    switch.tick()
    assert kernel.answered() == (1, -5)
    assert answers.told == [("given up", 1)]
    answers.is_free.set()
    assert kernel.answered() == (1, 0)  # the kernel refuses that one: ENOENT
    wait_for(lambda: answers.told == [("given up", 1), ("came back", 1)], "its return")
    kernel.ask(2, CACHED)
    assert kernel.answered() == (2, 0)
    assert switch._workers == 1


def test_a_lack_of_memory_for_an_answer_of_libfuses_ends_nothing(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    libfuse = kernel.switch._libfuse
    monkeypatch.setattr(libfuse, "_patch", fail_first(libfuse._patch))
    monkeypatch.setattr(wire, "OUT_HEADER", Failing(wire.OUT_HEADER))
    monkeypatch.setattr("vmcorefs.fuse.switch._RETRY_AFTER", 0.001)
    for unique, error in ((1, -5), (2, 0)):
        kernel.libfuse.send(struct.pack("=IiQ", 16, 0, unique))
        _, answered, number = struct.unpack("=IiQ", kernel.socket.recv(4096))
        assert (number, answered) == (unique, error)


class Failing:
    """A format whose first reading has no memory."""

    def __init__(self, of: struct.Struct) -> None:
        self._of = of
        self.size, self.pack = of.size, of.pack
        self.unpack_from = fail_first(of.unpack_from)


def test_a_worker_that_waits_takes_no_cpu(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmcorefs.fuse.switch.has_cpus", lambda: True)
    kernel.switch.tick()
    for unique in range(1, 100):
        kernel.ask(unique, CACHED)
        assert kernel.answered() == (unique, 0)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1
    kernel.ask(100, CACHED)
    assert kernel.answered() == (100, 0)
