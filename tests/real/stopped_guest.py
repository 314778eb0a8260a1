"""A guest that hangs, stopped once, and what QEMU then writes of it: all of the same moment.

Its kernel finds no root file system and no crash kernel: it panics, saves no registers, and waits
for ever.
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

from tests.lab.kernels import Kernel, kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE: Final = 256 << 20
CPUS: Final = 2
_BOOT_SECONDS: Final = 900.0
_ANSWER_SECONDS: Final = 300.0
_CMDLINE: Final = "console=ttyS0 no_timer_check no5lvl"
_LAST_WORDS: Final = b"---[ end Kernel panic"


class StoppedGuest:
    """A QEMU whose CPUs do not run.

    Attributes:
        kernel: What it had booted.
    """

    def __init__(self, monitor: Path, kernel: Kernel) -> None:
        self._monitor = monitor
        self.kernel = kernel

    def execute(self, command: str, **arguments: object) -> Any:
        """Ask its monitor, and wait for the answer."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ANSWER_SECONDS)
            connection.connect(str(self._monitor))
            with connection.makefile("rwb") as stream:
                told: dict[str, Any] = {}
                for one, given in (("qmp_capabilities", {}), (command, arguments)):
                    stream.write(json.dumps({"execute": one, "arguments": given}).encode())
                    stream.flush()
                    told = next(one for one in map(json.loads, stream) if _is_answer(one))
                    assert "error" not in told, told
        return told["return"]

    def pmemsave(self, out: Path) -> Path:
        """Its memory, raw."""
        self.execute("pmemsave", val=0, size=SIZE, filename=str(out))
        return out

    def dump(self, out: Path, form: str, *, paging: bool = False) -> Path:
        """``dump-guest-memory`` in a form of QEMU's."""
        more = {} if form == "elf" else {"format": form}
        self.execute("dump-guest-memory", paging=paging, protocol=f"file:{out}", **more)
        return out

    def migrate(self, out: Path) -> Path:
        """A migration stream; QEMU makes only one of a guest that does not run again."""
        self.execute("migrate", uri=f"exec:cat >{shlex.quote(str(out))}")
        deadline = time.monotonic() + _ANSWER_SECONDS
        while (status := self.execute("query-migrate")["status"]) != "completed":
            assert status != "failed"
            assert time.monotonic() < deadline
            time.sleep(0.2)
        return out


def _is_answer(told: dict[str, Any]) -> bool:
    return "return" in told or "error" in told


@contextmanager
def stopped_guest() -> Iterator[StoppedGuest]:
    """Boot it, and stop it once it hangs."""
    chosen = kernel("stable")
    with tempfile.TemporaryDirectory() as directory:
        where = Path(directory)
        command = ["qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max"]
        command += ["-smp", str(CPUS), "-m", f"{SIZE >> 20}M", "-display", "none", "-nic", "none"]
        command += ["-kernel", str(chosen.vmlinuz), "-append", _CMDLINE, "-monitor", "none"]
        command += ["-serial", f"file:{where / 'serial'}", "-no-reboot"]
        command += ["-qmp", f"unix:{where / 'qmp'},server=on,wait=off"]
        with subprocess.Popen(command) as qemu:
            try:
                _wait(qemu, where / "serial")
                guest = StoppedGuest(where / "qmp", chosen)
                guest.execute("stop")
                yield guest
            finally:
                qemu.kill()


def _wait(qemu: subprocess.Popen[bytes], serial: Path) -> None:
    deadline = time.monotonic() + _BOOT_SECONDS
    while not serial.exists() or _LAST_WORDS not in serial.read_bytes():
        assert qemu.poll() is None
        assert time.monotonic() < deadline, serial.read_bytes()[-2000:]
        time.sleep(0.1)
