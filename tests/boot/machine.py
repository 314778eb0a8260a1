"""A machine under QEMU's software emulation that is talked to while it runs, and can be kept.

It has a disk to boot from (vda), one for a copy of its memory (vdb), one for dumps (vdc, LABEL=lab-
crash) and one on which no dump fits (vdd, LABEL=lab-full); the console is on its first serial port,
``guest/agent`` on the second.
"""

from __future__ import annotations

import re
import select
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Final, TypeVar

from tests.boot.monitor import Monitor
from tests.boot.store import tool
from tests.lab import console
from tests.lab.host import LOG, GuestError, program, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.boot.disk import Disk

MEMORY: Final = "1G"
CPUS: Final = 2
CRASHKERNEL: Final = "256M"
VMCORE: Final = "vmcore"
"""The file behind vdb."""

_CMDLINE: Final = (
    # an emulated timer may be too late for the kernel, which panics: "IO-APIC + timer doesn't work"
    "console=ttyS0 no_timer_check root=/dev/vda rw fsck.mode=skip noresume oops=panic panic=10"
    f" quiet crashkernel={CRASHKERNEL}"
)
ROOT: Final = "root.qcow2"
"""The file behind vda."""
_TARGETS: Final = {"lab-crash": "512M", "lab-full": "32M"}
_STATE: Final = "state"
_POLL_SECONDS: Final = 0.2
_STOP_SECONDS: Final = 20
_SAVE_SECONDS: Final = 600

Found = TypeVar("Found")


@dataclass
class Machine:
    """A machine that runs.

    Attributes:
        directory: QEMU's, with the disks and ``serial``.
        monitor: QEMU's.
        agent: the guest's second serial port.
        process: QEMU.
        errors: what QEMU has to say of itself.
    """

    directory: Path
    monitor: Monitor
    agent: socket.socket
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    _said: bytearray = field(default_factory=bytearray)

    @property
    def console(self) -> str:
        """What both kernels have said on the console."""
        return console.clean((self.directory / "serial").read_bytes())

    @property
    def said(self) -> str:
        """What has come over the second serial port."""
        return console.clean(bytes(self._said))

    def wait(self, what: str, condition: Callable[[], Found | None], seconds: float) -> Found:
        """Wait until ``condition`` gives something, and return that.

        Args:
            what: is waited for, for the message.
            condition: asked again and again.
            seconds: how long.

        Raises:
            GuestError: if nothing has come by then, or QEMU has ended.
        """
        deadline = time.monotonic() + seconds
        while True:
            status = self.process.poll()  # first: what an ended QEMU wrote is then all there
            self._pump()
            found = condition()
            if found is not None:
                return found
            if status is not None:
                raise GuestError(f"QEMU ended with status {status}; no {what}{self._tail()}")
            if time.monotonic() > deadline:
                raise GuestError(f"no {what} after {seconds:g} s{self._tail()}")

    def ask(self, command: str, seconds: float = 300) -> str:
        """Have the agent run a line of shell, and return what that printed.

        Raises:
            GuestError: if it fails, or does not end in time.
        """
        start = len(self._said)
        self.tell(command)

        def answer() -> tuple[str, str] | None:
            text = console.clean(bytes(self._said[start:]))
            status = console.event(text, "STATUS")
            return None if status is None else (status, text.partition("LAB-STATUS ")[0])

        status, text = self.wait(f"answer to {command!r}", answer, seconds)
        if status != "0":
            raise GuestError(f"{command}: exit status {status}: {text}")
        return text

    def tell(self, command: str) -> None:
        """Have the agent run a line of shell that may be its last."""
        self.agent.sendall(command.encode() + b"\n")

    def wait_until_up(self, kind: str, seconds: float, *, times: int = 1) -> float:
        """Wait until the agent is there in a ``healthy`` or a ``capture`` kernel.

        Args:
            kind: of kernel.
            seconds: how long.
            times: how often that kind must have come up by then.

        Returns:
            When that was seen, on ``time.monotonic``.
        """

        def is_up() -> float | None:
            count = len(re.findall(rf"^LAB-UP {kind} \S+\n", self.said, re.MULTILINE))
            return time.monotonic() if count >= times else None

        return self.wait(f"{kind} kernel", is_up, seconds)

    def wait_for_end(self, seconds: float) -> tuple[str, float]:
        """Wait until the guest ends its system in a way that the hardware sees.

        Returns:
            ``guest-reset`` or ``guest-shutdown``, and when, on ``time.monotonic``.
        """

        def ended() -> tuple[str, float] | None:
            for name, data, when in self.monitor.events:
                if name in {"RESET", "SHUTDOWN"} and data["guest"]:
                    return data["reason"], when
            return None

        return self.wait("reset or power-off", ended, seconds)

    def keep(self) -> None:
        """Stop the machine for good; ``resumed`` goes on with what is then in its directory."""
        self.monitor.execute("stop")
        self.monitor.execute("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        self.monitor.execute("migrate", uri=f"exec:cat >{_STATE}")

        def done() -> bool | None:
            status = self.monitor.execute("query-migrate").get("status")
            if status == "failed":
                raise GuestError("QEMU could not write its state")
            return status == "completed" or None

        self.wait("end of writing the machine's state", done, _SAVE_SECONDS)
        self.monitor.execute("quit")
        self.process.wait(_STOP_SECONDS)

    def _pump(self) -> None:
        channels: list[socket.socket | Monitor] = [self.agent]
        channels += [self.monitor] if self.monitor.is_open else []
        ready, _, _ = select.select(channels, [], [], _POLL_SECONDS)
        if self.agent in ready:
            data = self.agent.recv(1 << 16)
            self._said += data
            if not data:
                time.sleep(_POLL_SECONDS)  # QEMU is ending
        self.monitor.pump()

    def _tail(self) -> str:
        self.errors.seek(0)
        qemu = self.errors.read().decode(errors="replace").strip()
        return (
            f"; the console's last lines:\n{console.tail(self.console)}"
            f"\nthe agent's:\n{console.tail(self.said)}\n{qemu}".rstrip()
        )


@contextmanager
def booted(disk: Disk, directory: Path) -> Iterator[Machine]:
    """Boot a disk, which itself does not change, for the block's length."""
    _overlay(disk.image, "raw", directory / ROOT)
    for label, size in _TARGETS.items():
        run([tool("mke2fs"), "-q", "-t", "ext4", "-L", label, directory / f"{label}.img", size])
    with _running(disk, directory) as machine:
        yield machine


@contextmanager
def resumed(disk: Disk, kept: Path, directory: Path) -> Iterator[Machine]:
    """Go on with a machine that was kept; ``kept`` itself does not change."""
    _overlay(kept / ROOT, "qcow2", directory / ROOT)
    for label in _TARGETS:
        run(["cp", "--sparse=always", kept / f"{label}.img", directory])
    with _running(disk, directory, "-incoming", f"exec:cat '{kept / _STATE}'") as machine:
        machine.wait("machine's state", lambda: _is_paused(machine), _SAVE_SECONDS)
        machine.monitor.execute("cont")
        yield machine


def _is_paused(machine: Machine) -> bool | None:
    return machine.monitor.execute("query-status")["status"] == "paused" or None


def _overlay(base: Path, kind: str, overlay: Path) -> None:
    run([tool("qemu-img"), "create", "-q", "-f", "qcow2", "-b", base, "-F", kind, overlay])


@contextmanager
def _running(disk: Disk, directory: Path, *more: str) -> Iterator[Machine]:
    """Run QEMU in ``directory`` for the block's length; at its end it is certainly gone."""
    with (directory / VMCORE).open("wb") as file:
        file.truncate((1 << 30) + (128 << 20))  # a vmcore has the kernel's text and data twice
    (directory / "serial").write_bytes(b"")
    with ExitStack() as stack:
        errors = stack.enter_context(tempfile.TemporaryFile())
        ours, theirs = zip(*(socket.socketpair() for _ in range(2)), strict=True)
        for end in ours:
            stack.enter_context(end)
        numbers = [end.fileno() for end in theirs]
        process = subprocess.Popen(
            [*_command(disk, *numbers), *more],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            pass_fds=numbers,
        )
        stack.callback(_end, process)
        for end in theirs:
            end.close()
        monitor = Monitor(ours[0])
        monitor.execute("qmp_capabilities")
        yield Machine(directory, monitor, ours[1], process, errors)


def _command(disk: Disk, monitor: int, agent: int) -> list[str]:
    return [
        # so that QEMU ends with us even if we are killed
        *(str(program("setpriv")), "--pdeathsig", "KILL", "--"),
        *(str(program("qemu-system-x86_64")), "-machine", "q35,accel=tcg", "-cpu", "max"),
        *("-smp", str(CPUS), "-m", MEMORY),
        *("-kernel", str(disk.vmlinuz), "-initrd", str(disk.initrd), "-append", _CMDLINE),
        *("-drive", f"file={ROOT},format=qcow2,if=virtio,cache=unsafe"),
        *("-drive", f"file={VMCORE},format=raw,if=virtio,cache=unsafe,detect-zeroes=on"),
        *(
            word
            for label in _TARGETS
            for word in ("-drive", f"file={label}.img,format=raw,if=virtio,cache=unsafe")
        ),
        *("-chardev", f"socket,id=qmp,fd={monitor}", "-mon", "qmp,mode=control"),
        *("-serial", "file:serial"),
        *("-chardev", f"socket,id=agent,fd={agent}", "-serial", "chardev:agent"),
        *("-display", "none", "-monitor", "none", "-nic", "none"),
    ]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        LOG.warning("QEMU did not stop within %s s: killed", _STOP_SECONDS)
        process.kill()
        process.wait()
