"""Files and devices as sources: what is opened, what is refused, what fails while in use."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.builders.dead_machines import stamped
from tests.matching import exactly
from tests.waiting import PATIENCE
from vmcorefs.errors import ConfigError, SourceIOError
from vmcorefs.sources.file import FileSource

SIZE = 0x8000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "ram"
    file.write_bytes(stamped(0, SIZE))
    return file


@pytest.fixture
def source(path: Path) -> Iterator[FileSource]:
    opened = FileSource(str(path), role="image")
    yield opened
    opened.close()


def read(source: FileSource, size: int, offset: int) -> bytes:
    buffer = bytearray(b"\xee" * size)
    source.pread_into(offset, memoryview(buffer))
    return bytes(buffer)


def test_a_file_tells_its_size_and_gives_bytes_at_any_offset(
    source: FileSource, path: Path
) -> None:
    assert (source.kind, source.size, source.role) == ("file", SIZE, "image")
    assert source.name == source.origin == str(path)
    assert source.mtime == path.stat().st_mtime_ns / 1e9  # st_mtime is rounded otherwise
    assert read(source, 5000, 4093) == stamped(4093, 9093)
    assert read(source, 0, SIZE) == b""


def test_a_source_is_called_what_the_user_called_it_and_knows_its_absolute_path(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    opened = FileSource("ram", role="image")
    assert (opened.name, opened.origin) == ("ram", str(path))
    opened.close()


def test_a_file_on_a_read_only_path_is_enough(path: Path) -> None:
    path.chmod(0o400)
    opened = FileSource(str(path), role="image")
    assert read(opened, 8, 8) == stamped(8, 16)
    opened.close()


def test_a_closed_source_cannot_be_read_and_may_be_closed_again(source: FileSource) -> None:
    source.close()
    source.close()
    with pytest.raises(SourceIOError, match=r"^.*ram: cannot read 1 byte .*: Bad file descriptor$"):
        read(source, 1, 0)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=exactly(f"{tmp_path}/none: cannot open the backup: No such file or directory"),
    ):
        FileSource(f"{tmp_path}/none", role="backup")


def _directory(path: Path) -> str:
    path.mkdir()
    return "directory"


def _pipe(path: Path) -> str:
    os.mkfifo(path)
    return "pipe"


def _socket(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
    return "socket"


@pytest.mark.parametrize("make", [_directory, _pipe, _socket])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, make: Callable[[Path], str]) -> None:
    what = make(tmp_path / "odd")
    with pytest.raises(
        ConfigError, match=exactly(f"{tmp_path}/odd: a {what}, expected a file or a device")
    ):
        FileSource(f"{tmp_path}/odd", role="image")


def test_a_path_with_a_nul_is_refused() -> None:
    with pytest.raises(ConfigError):
        FileSource("ram\0", role="image")


def test_a_character_device_does_not_tell_its_size() -> None:
    with pytest.raises(
        ConfigError,
        match=exactly(
            "/dev/zero: a character device has no size of its own; give one, as in /dev/zero@0:0+4G"
        ),
    ):
        FileSource("/dev/zero", role="image")


def test_a_device_that_holds_no_memory_is_refused_before_it_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[object] = []
    true_open = os.open

    def watched(path: str, flags: int, *rest: int) -> int:
        if not flags & os.O_PATH:
            opened.append(path)
        return true_open(path, flags, *rest)

    monkeypatch.setattr(os, "open", watched)
    expected = (
        "/dev/tty: a character device that is not known to hold memory, expected a file or a device"
        " such as /dev/mem"
    )
    for size in (None, 1 << 32):
        with pytest.raises(ConfigError, match=exactly(expected)):
            FileSource("/dev/tty", role="image", size_if_unknown=size)
    assert opened == []


def test_a_character_device_is_never_known_to_have_holes() -> None:
    opened = FileSource("/dev/zero", role="image", size_if_unknown=4096)
    assert not opened.is_hole(0, 4096)
    opened.close()


def test_a_character_device_is_read_once_its_size_is_given() -> None:
    opened = FileSource("/dev/zero", role="image", size_if_unknown=1 << 40)
    assert (opened.kind, opened.size) == ("character device", 1 << 40)
    assert read(opened, 16, (1 << 40) - 16) == bytes(16)
    opened.close()


def test_refused_files_are_not_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(ConfigError):
            FileSource(str(tmp_path), role="image")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_that_shrinks_fails_where_it_is_short_and_nowhere_else(
    source: FileSource, path: Path
) -> None:
    os.truncate(path, 0x3000)
    assert read(source, 0x1000, 0x2000) == stamped(0x2000, 0x3000)
    with pytest.raises(
        SourceIOError,
        match=exactly(
            f"{path}: cannot read 4096 bytes at offset 0x3000: it ends there now, but had 32768"
            " bytes when it was opened"
        ),
    ) as caught:
        read(source, 0x2000, 0x2000)
    assert (caught.value.source, caught.value.offset, caught.value.size) == (
        str(path),
        0x3000,
        0x1000,
    )
    path.write_bytes(stamped(0, SIZE))
    assert read(source, 0x2000, 0x2000) == stamped(0x2000, 0x4000)


Preadv = Callable[[int, Sequence[memoryview], int, int], int]


def _replace_preadv(monkeypatch: pytest.MonkeyPatch, preadv: Preadv) -> None:
    monkeypatch.setattr(os, "preadv", preadv)


def test_short_reads_are_gone_on_with(source: FileSource, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.preadv

    def seven_at_most(fd: int, buffers: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        return real(fd, [buffers[0][:7]], offset, flags)

    _replace_preadv(monkeypatch, seven_at_most)
    assert read(source, 100, 3) == stamped(3, 103)


def test_a_failing_disk_is_named_with_the_offset_that_failed(
    source: FileSource, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(fd: int, buffers: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    _replace_preadv(monkeypatch, broken)
    with pytest.raises(
        SourceIOError,
        match=exactly(f"{path}: cannot read 16 bytes at offset 0x20: Input/output error"),
    ):
        read(source, 16, 0x20)


def test_a_device_that_would_block_is_an_error_of_ours(
    source: FileSource, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blocking(fd: int, buffers: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        raise BlockingIOError(errno.EAGAIN, "try again")

    _replace_preadv(monkeypatch, blocking)
    with pytest.raises(
        SourceIOError, match=exactly(f"{path}: cannot read 8 bytes at offset 0x0: try again")
    ):
        read(source, 8, 0)


def test_data_and_holes_of_a_sparse_file_are_found_and_lost_bytes_are_data(tmp_path: Path) -> None:
    path = tmp_path / "ram"
    with path.open("wb") as file:
        file.seek(1 << 20)
        file.write(b"x" * 4096)
        file.truncate(2 << 20)
    source = FileSource(str(path), role="image")
    assert source.next_data(0, 2 << 20) == 1 << 20
    assert source.next_data(0, 4096) == 4096
    assert source.next_data((1 << 20) + 4096, 2 << 20) == 2 << 20
    assert source.next_hole(5, 2 << 20) == 5
    assert source.next_hole(1 << 20, 2 << 20) == (1 << 20) + 4096
    os.truncate(path, 4096)
    assert source.next_data(8192, 2 << 20) == 8192
    assert source.next_hole(8192, 2 << 20) == 2 << 20


@pytest.mark.parametrize("name", ["/proc/kallsyms", "/proc/version", "ram"])
def test_proc_kcore_is_read_by_one_thread_at_a_time(
    name: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An opened /proc/kcore would give two of them each other's bytes."""
    is_kcore = name == "/proc/kallsyms"
    both = threading.Barrier(2)
    met = []

    def preadv(_fd: int, buffers: list[memoryview], _offset: int) -> int:
        try:
            both.wait(0.2 if is_kcore else PATIENCE)
            met.append(True)
        except threading.BrokenBarrierError:
            met.append(False)
        return len(buffers[0])

    # not every kernel has one: another file stands for it
    monkeypatch.setattr("vmcorefs.sources.file._KCORE", "/proc/kallsyms")
    with closing(FileSource(str(path.parent / name), role="image")) as source:
        monkeypatch.setattr(os, "preadv", preadv)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda offset: read(source, 16, offset), (0, 16)))

    assert met == [not is_kcore] * 2
