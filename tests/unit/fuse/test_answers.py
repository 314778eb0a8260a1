"""Replies: from a mapping whose page goes meanwhile, and at once from the page cache."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from tests.builders.extents import table
from vmcorefs.core.space.extents import Kind
from vmcorefs.fuse import wire
from vmcorefs.fuse.answers import FileAnswers
from vmcorefs.fuse.deadlines import Pending
from vmcorefs.fuse.inodes import Inode
from vmcorefs.fuse.planes.mapping import Mapping
from vmcorefs.sources.file import FileSource
from vmcorefs.tree.file import TreeFile, table_file

MIB = 1 << 20


@pytest.fixture
def ram(tmp_path: Path) -> Path:
    path = tmp_path / "ram"
    path.write_bytes(b"\1" * (4 * MIB))
    return path


def oldmem(ram: Path, size: int = 4 * MIB) -> TreeFile:
    source = FileSource(str(ram), role="image")
    return table_file("oldmem", table((0, size, 0, 0, Kind.DATA)), (source,))


def answer(answers: FileAnswers, device: int, offset: int, size: int) -> None:
    answers.read(device, 9, 2, offset, size, direct=False)


def test_the_write_fails_the_daemon_lives_and_the_log_names_the_bytes(
    ram: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = FileAnswers({2: Inode(2, 1, oldmem(ram))}, "mapped")
    assert answers.choose(2).plane == "mapped"

    def truncate_behind_its_back(*_: object) -> bool:
        os.truncate(ram, 2 * MIB + 4096)
        return True

    monkeypatch.setattr(Mapping, "holds", truncate_behind_its_back)
    device, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with device, kernel:
        # EFAULT: nothing is written, and /dev/fuse makes EIO of it
        answer(answers, device.fileno(), 2 * MIB, 128 * 1024)
        with pytest.raises(BlockingIOError):
            kernel.recv(1, socket.MSG_DONTWAIT)
    assert f"oldmem at {2 * MIB + 4096:#x}: {ram}: cannot read" in caplog.text
    assert f"physical address {2 * MIB + 4096:#x}" in caplog.text


def test_the_last_page_of_an_input_that_shrank_is_not_shown_with_zeros(
    ram: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answers = FileAnswers({2: Inode(2, 1, oldmem(ram))}, "mapped")
    answers.choose(2)
    device = os.memfd_create("device")
    # the mapping would have 0x800 bytes and then zeros (mmap(2))
    os.truncate(ram, 2 * MIB + 0x800)
    answer(answers, device, 2 * MIB - 128 * 1024 + 4096, 128 * 1024)
    length, error, unique = os.pread(device, 4, 0), os.pread(device, 4, 4), os.pread(device, 8, 8)
    assert int.from_bytes(length, "little") == 16
    assert int.from_bytes(error, "little", signed=True) == -5
    assert int.from_bytes(unique, "little") == 9
    os.close(device)
    assert "it ends there now" in caplog.text


def test_what_the_kernel_passed_on_is_taken_back_however_it_was_found_out(ram: Path) -> None:
    file = oldmem(ram)
    answers = FileAnswers({2: Inode(2, 1, file)}, "kernel")
    answers.open_backing = lambda _: 7
    assert answers.choose(2).by == f"passthrough to {ram}"
    (source,) = file.reader.sources
    assert answers.take_back(source) == []
    os.truncate(ram, MIB)
    assert answers.choose(2).plane == "mapped"  # somebody opened it before the watch woke up
    assert answers.take_back(source) == [2]
    assert answers.take_back(source) == []


def test_a_range_is_read_again_once_a_late_read_of_it_has_come_back(ram: Path) -> None:
    answers = FileAnswers({2: Inode(2, 1, oldmem(ram))}, "plain")
    answers.choose(2)
    for come_back_first in (False, True):
        late = Pending(7, 2, MIB, 4096, 0.0)
        if come_back_first:  # just at its deadline
            answers.came_back(late)
            answers.give_up(late, 30.0)
        else:
            answers.give_up(late, 30.0)
            assert answered(answers, MIB) == -errno.EIO
            answers.came_back(late)
        assert answered(answers, MIB) == 0


def answered(answers: FileAnswers, offset: int) -> int:
    device = os.memfd_create("device")
    answer(answers, device, offset, 4096)
    _, error, _ = wire.OUT_HEADER.unpack(os.pread(device, 16, 0))
    os.close(device)
    return int(error)


def at_once(answers: FileAnswers, device: int, offset: int, size: int) -> bool:
    return answers.read_at_once(device, 9, 2, offset, size)


def test_what_is_in_the_page_cache_is_answered_at_once(ram: Path) -> None:
    ram.write_bytes(b"\1" * MIB + b"\2" * MIB)
    answers = FileAnswers({2: Inode(2, 1, oldmem(ram, 2 * MIB))}, "plain")
    answers.choose(2)
    device = os.memfd_create("device")
    assert at_once(answers, device, MIB - 16, 32)
    assert os.pread(device, 100, 16) == b"\1" * 16 + b"\2" * 16
    os.close(device)


def test_what_may_have_to_wait_or_to_fail_is_not(ram: Path) -> None:
    file = oldmem(ram)
    answers = FileAnswers({2: Inode(2, 1, file)}, "plain")
    answers.choose(2)
    device = os.memfd_create("device")
    assert not at_once(answers, device, 4 * MIB, 4096)  # behind the end
    assert not at_once(answers, device, 0, 128 * 1024)  # long
    os.truncate(ram, MIB + 0x800)
    assert not at_once(answers, device, MIB, 4096)  # its last page would be half zeros
    assert not at_once(answers, device, MIB + 4096, 4096)
    assert not os.fstat(device).st_size
    os.close(device)
