"""QEMU's own dump of a guest's memory, made of the memory file that a stopped guest left.

A QEMU that never starts its CPUs has the file as its memory, and dumps it: the bytes are the
guest's, the registers are those of CPUs that have just been switched on.
"""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

    from tests.lab.snapshot import Snapshot

_CONNECT_SECONDS: Final = 120.0
_ANSWER_SECONDS: Final = 120.0


def dump_guest_memory(snapshot: Snapshot, out: Path, kind: str = "elf") -> Path:
    """Have QEMU dump a PC's memory, and return ``out``.

    Args:
        snapshot: of a PC.
        out: where to.
        kind: ``elf`` or ``kdump-zlib``; Debian's QEMU has no other codec.
    """
    size = snapshot.recipe.memory_size
    memory = f"memory-backend-file,id=ram,size={size},mem-path={snapshot.ram},share=off"
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory) / "monitor"
        command = ["qemu-system-x86_64", "-S", "-nodefaults", "-display", "none", "-smp", "2"]
        command += ["-machine", "q35,accel=tcg,memory-backend=ram", "-m", f"{size >> 20}M"]
        command += ["-object", memory, "-qmp", f"unix:{place},server=on,wait=off"]
        with _running(command) as qemu, _connect(place, qemu) as monitor:
            monitor.settimeout(_ANSWER_SECONDS)
            with monitor.makefile("rwb") as stream:
                _execute(stream, "qmp_capabilities")
                arguments = {"paging": False, "protocol": f"file:{out}", "format": kind}
                _execute(stream, "dump-guest-memory", **arguments)
                _execute(stream, "quit")
            assert qemu.wait(_CONNECT_SECONDS) == 0
    return out


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command) as process:
        try:
            yield process
        finally:
            process.kill()  # it would wait for a monitor for ever


def _execute(stream: io.BufferedRWPair, command: str, **arguments: object) -> None:
    stream.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
    stream.flush()
    for line in stream:
        answer = json.loads(line)
        assert "error" not in answer, answer
        if "return" in answer:
            return  # not the greeting, and no event
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
