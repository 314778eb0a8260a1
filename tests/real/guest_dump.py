"""QEMU's own dumps of a guest's memory, made of the memory file that a stopped guest left.

A QEMU that never starts its CPUs has the file as its memory, and dumps it: the bytes are the
guest's, the registers are those of CPUs that have just been switched on.
"""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

    from tests.lab.snapshot import Snapshot

_CONNECT_SECONDS: Final = 120.0
_ANSWER_SECONDS: Final = 120.0


def migrate(ram: Path, size: int, out: Path, machine: str = "q35") -> Path:
    """Have QEMU write a PC's memory as a migration stream, and return ``out``.

    Args:
        ram: its memory, ``size`` bytes.
        size: of the memory.
        out: where to.
        machine: its type.
    """
    with _stopped(ram, size, machine) as stream:
        _execute(stream, "migrate", uri=f"exec:cat >{shlex.quote(str(out))}")
        deadline = time.monotonic() + _ANSWER_SECONDS
        while (status := _execute(stream, "query-migrate")["status"]) != "completed":
            assert status != "failed"
            assert time.monotonic() < deadline
            time.sleep(0.2)
    return out


def dump_guest_memory(snapshot: Snapshot, out: Path, kind: str = "elf") -> Path:
    """Have QEMU dump a PC's memory, and return ``out``.

    Args:
        snapshot: of a PC.
        out: where to.
        kind: ``elf`` or ``kdump-zlib``; Debian's QEMU has no other codec.
    """
    with _stopped(snapshot.ram, snapshot.recipe.memory_size, "q35") as stream:
        arguments = {"paging": False, "protocol": f"file:{out}", "format": kind}
        _execute(stream, "dump-guest-memory", **arguments)
    return out


@contextmanager
def _stopped(ram: Path, size: int, machine: str) -> Iterator[io.BufferedRWPair]:
    """The monitor of a PC with this memory, whose CPUs do not run; it has ended afterwards."""
    memory = f"memory-backend-file,id=ram,size={size},mem-path={ram},share=off"
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory) / "monitor"
        command = ["qemu-system-x86_64", "-S", "-nodefaults", "-display", "none", "-smp", "2"]
        command += ["-machine", f"{machine},accel=tcg,memory-backend=ram", "-m", f"{size >> 20}M"]
        command += ["-object", memory, "-qmp", f"unix:{place},server=on,wait=off"]
        with _running(command) as qemu, _connect(place, qemu) as monitor:
            monitor.settimeout(_ANSWER_SECONDS)
            with monitor.makefile("rwb") as stream:
                _execute(stream, "qmp_capabilities")
                yield stream
                _execute(stream, "quit")
            assert qemu.wait(_CONNECT_SECONDS) == 0


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command) as process:
        try:
            yield process
        finally:
            process.kill()  # it would wait for a monitor for ever


def _execute(stream: io.BufferedRWPair, command: str, **arguments: object) -> Any:
    """What QEMU returns."""
    stream.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
    stream.flush()
    for line in stream:
        answer = json.loads(line)
        assert "error" not in answer, answer
        if "return" in answer:
            return answer["return"]  # not the greeting, and no event
    raise AssertionError(f"QEMU ended before it answered {command}")


def _connect(place: Path, qemu: subprocess.Popen[bytes]) -> socket.socket:
    monitor = socket.socket(socket.AF_UNIX)
    deadline = time.monotonic() + _CONNECT_SECONDS
    while True:
        try:
            monitor.connect(str(place))
        except OSError:
            if qemu.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return monitor
