"""A guest that runs, played by this process: its memory is found and read where it lies."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.matching import exactly
from tests.unit.sources.live.monitor import monitor
from vmcorefs.config import make_config
from vmcorefs.core.space.units import PAGE_SIZE
from vmcorefs.errors import ConfigError, SourceIOError, UnsupportedError
from vmcorefs.piece import Piece
from vmcorefs.reader import Reader
from vmcorefs.sources.live.process import ProcessMemory
from vmcorefs.sources.registry import RawMemory, open_inputs

LOW, HIGH = 4, 3  # pages at 0, and at 4 GiB
ABOVE = 1 << 32
VIEW = (
    'FlatView #0\n AS "memory", root: system\n'
    f"  {0:016x}-{LOW * PAGE_SIZE - 1:016x} (prio 0, ram): pc.ram\n"
    f"  {ABOVE:016x}-{ABOVE + HIGH * PAGE_SIZE - 1:016x} (prio 0, ram): pc.ram"
    f" @{LOW * PAGE_SIZE:016x}\n"
)
BYTES = os.urandom((LOW + HIGH) * PAGE_SIZE)


def address_of(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


@pytest.fixture(params=["private", "shared"])
def memory(request: pytest.FixtureRequest) -> mmap.mmap:
    """The guest's memory: anonymous, or a memfd that is mapped from its second page on."""
    size = (LOW + HIGH) * PAGE_SIZE
    if request.param == "private":
        found = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    else:
        descriptor = os.memfd_create("guest")
        os.truncate(descriptor, size + PAGE_SIZE)
        found = mmap.mmap(descriptor, size, offset=PAGE_SIZE)
        os.close(descriptor)
    found[:] = BYTES
    return found


@pytest.fixture
def answers(memory: mmap.mmap) -> dict[str, str]:
    start = address_of(memory)
    above = start + LOW * PAGE_SIZE
    return {
        "info mtree -f": VIEW,
        "gpa2hva 0x0": f"Host virtual address for 0x0 (pc.ram) is {start:#x}\r\n",
        f"gpa2hva {ABOVE:#x}": f"Host virtual address for {ABOVE:#x} (pc.ram) is {above:#x}\r\n",
    }


def open_raw(*names: str) -> RawMemory:
    opened = open_inputs([Piece(name) for name in names], ram_end=None)
    assert isinstance(opened, RawMemory)
    return opened


def test_the_monitor_says_where_the_memory_belongs(
    memory: mmap.mmap, answers: dict[str, str], tmp_path: Path
) -> None:
    with monitor(tmp_path / "qmp", answers) as seen:
        opened = open_raw(f"qmp:{tmp_path / 'qmp'}")
    assert seen == ["qmp_capabilities", *answers]
    reader = Reader("memory", opened.captured, opened.sources)
    assert reader.pread(LOW * PAGE_SIZE, 0) == BYTES[: LOW * PAGE_SIZE]
    assert reader.pread(HIGH * PAGE_SIZE, ABOVE) == BYTES[LOW * PAGE_SIZE :]
    memory[1:3] = b"!!"  # it runs
    assert reader.pread(4, 0) == BYTES[:1] + b"!!" + BYTES[3:4]
    for source in opened.sources:
        source.close()


@pytest.mark.parametrize("was_running", [True, False])
def test_a_guest_is_stopped_until_its_memory_is_closed(
    *, was_running: bool, memory: mmap.mmap, answers: dict[str, str], tmp_path: Path
) -> None:
    """And one that was stopped before stays so."""
    path = tmp_path / "qmp"
    told = {**answers, "query-status": {"running": was_running}, "stop": {}, "cont": {}}
    before = ["qmp_capabilities", *answers, "query-status"]
    with monitor(path, told) as seen:
        opened = open_inputs([Piece(f"qmp:{path}")], ram_end=None, pause=True)
        assert seen == ([*before, "stop"] if was_running else before)
        assert isinstance(opened, RawMemory)
        assert opened.placed is not None
        assert opened.placed.format == "the memory of a QEMU guest that is stopped"
        for source in opened.sources:
            source.close()
    assert seen == ([*before, "stop", "cont"] if was_running else before)
    assert memory[:1] == BYTES[:1]


KILLED = """
import os, signal, sys
from vmcorefs.piece import Piece
from vmcorefs.sources.registry import open_inputs
opened = open_inputs([Piece(sys.argv[1])], ram_end=None, pause=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_has_a_guest_open_may_be_killed(
    memory: mmap.mmap, answers: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "qmp"
    told = {**answers, "query-status": {"running": True}, "stop": {}, "cont": {}}
    with monitor(path, told) as seen:
        done = subprocess.run([sys.executable, "-c", KILLED, f"qmp:{path}"], check=False)
        assert done.returncode == -signal.SIGKILL
    assert seen[-2:] == ["stop", "cont"]
    assert memory[:1] == BYTES[:1]


def test_a_guest_goes_on_if_what_would_let_it_go_on_has_died(
    answers: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(_: socket.socket) -> socket.socket:
        ours, theirs = socket.socketpair()
        theirs.close()
        return ours

    monkeypatch.setattr("vmcorefs.sources.live.qmp.keep_paused", dead)
    path = tmp_path / "qmp"
    told = {**answers, "query-status": {"running": True}, "stop": {}, "cont": {}}
    with monitor(path, told) as seen, pytest.raises(ConfigError, match="cannot stop it"):
        open_inputs([Piece(f"qmp:{path}")], ram_end=None, pause=True)
    assert seen[-2:] == ["stop", "cont"]


def test_a_guest_that_cannot_be_stopped_is_refused(answers: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "qmp"
    with (
        monitor(path, {**answers, "query-status": {"running": True}}) as seen,
        pytest.raises(ConfigError, match=f"^{path}: QEMU's monitor: cannot stop it: .*unknown"),
    ):
        open_inputs([Piece(f"qmp:{path}")], ram_end=None, pause=True)
    assert "stop" in seen
    (tmp_path / "ram").write_bytes(BYTES)
    for name, why in (
        ("qemu:1", "--pause takes its monitor, which stops it: qmp:SOCKET"),
        (str(tmp_path / "ram"), "--pause is for a guest that runs: qmp:SOCKET"),
    ):
        with pytest.raises(ConfigError, match=exactly(f"{name}: {why}")):
            open_inputs([Piece(name)], ram_end=None, pause=True)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"info mtree -f": "FlatView #0\n"}, "QEMU lists no RAM (info mtree -f)"),
        (
            {"gpa2hva 0x0": "Memory at address 0x0 is not RAM\r\n"},
            "QEMU does not say where 0x0 lies: 'Memory at address 0x0 is not RAM\\r\\n'",
        ),
    ],
)
def test_a_monitor_that_does_not_tell_is_refused(
    change: dict[str, str], why: str, answers: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "qmp"
    with (
        monitor(path, {**answers, **change}),
        pytest.raises(ConfigError, match=exactly(f"{path}: {why}")),
    ):
        open_raw(f"qmp:{path}")


@pytest.mark.parametrize(
    ("greeting", "why"),
    [
        (b"220 mail\r\n", "that is not QMP: "),
        (b'{"hello": 1}\r\n', "its greeting is not QMP's"),
    ],
)
def test_another_server_is_refused(greeting: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "qmp"
    with (
        monitor(path, {}, greeting),
        pytest.raises(ConfigError, match=f"^{path}: cannot ask QEMU's monitor: {why}"),
    ):
        open_raw(f"qmp:{path}")


def test_no_monitor_and_no_process_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "qmp"
    with pytest.raises(ConfigError, match=rf"^{path}: cannot ask QEMU's monitor: .*No such file"):
        open_raw(f"qmp:{path}")
    with pytest.raises(ConfigError, match=exactly("qemu:x: expected qemu:PID")):
        open_raw("qemu:x")
    with pytest.raises(ConfigError, match=r"^qemu:[0-9]+: no such process: "):
        open_raw(f"qemu:{1 << 30}")
    with pytest.raises(UnsupportedError, match=r"does not say how much memory a guest has \(-m\)"):
        open_raw("qemu:1" if os.getpid() != 1 else "qemu:2")


GUEST = """
import mmap, sys
memory = mmap.mmap(-1, 5 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
guard = mmap.mmap(-1, 1 << 20, prot=mmap.PROT_READ)
memory[:5] = b"guest"
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def running() -> Iterator[subprocess.Popen[bytes]]:
    """A process that was started as a QEMU with 5 MiB would be."""
    command = [sys.executable, "-c", GUEST, "-m", "size=5120k,slots=2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


def test_the_mapping_as_large_as_the_guest_is_its_memory(
    running: subprocess.Popen[bytes],
) -> None:
    opened = open_raw(f"qemu:{running.pid}")
    (source,) = opened.sources
    assert (source.size, opened.captured.ranges.tolist()) == (5 << 20, [[0, 5 << 20]])
    reader = Reader("memory", opened.captured, opened.sources)
    assert reader.pread(5, 0) == b"guest"
    running.kill()
    running.wait()
    with pytest.raises(SourceIOError, match="the process has ended"):
        reader.pread(5, 0)
    source.close()


def test_a_range_that_is_no_longer_mapped_is_an_error(memory: mmap.mmap) -> None:
    source = ProcessMemory(os.getpid(), 0, PAGE_SIZE, name="guest", role="image")
    with pytest.raises(SourceIOError, match=r"^guest: .*Input/output error"):
        source.pread_into(0, memoryview(bytearray(1)))
    source.close()


def test_a_file_of_that_name_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qemu:1").write_bytes(BYTES)
    opened = open_raw("qemu:1")
    assert opened.captured.ranges.tolist() == [[0, len(BYTES)]]
    opened.sources[0].close()


def test_a_guest_takes_no_address(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a guest knows where its memory belongs: give no addr"):
        open_inputs([Piece("qemu:1", paddr=0)], ram_end=None)


def test_a_description_may_name_a_guest(tmp_path: Path) -> None:
    description = tmp_path / "capture.toml"
    description.write_text('[[image]]\npath = "qemu:12"\n')
    assert make_config([description]).images == (Piece("qemu:12"),)
