"""A machine under QEMU's software emulation, whose memory is a file.

It is a PC (q35), a virt of arm64 or riscv64, a pSeries or a machine of IBM Z.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from tests.lab import console, qmp
from tests.lab.host import LOG, GuestError, program
from tests.lab.packages import NATIVE, Arch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB: Final = 1 << 20
GIB: Final = 1 << 30

_SPLIT_FROM: Final = 2816 * MIB  # QEMU hw/i386/pc_q35.c: at 0xb0000000 bytes and above ...
_LOW_SIZE: Final = 2 * GIB  # ... this much lies below 4 GiB, and the rest from 4 GiB on
# QEMU hw/arm/virt.c, base_memmap, and hw/riscv/virt.c: whatever its size, in one piece
_RAM_START: Final[dict[Arch, int]] = {"arm64": GIB, "riscv64": 2 * GIB}
_MODELS: Final[dict[Arch, tuple[str, str, str]]] = {
    "amd64": ("qemu-system-x86_64", "q35", "max"),
    # pointer authentication as Arm specifies it takes most of the time in emulation
    "arm64": ("qemu-system-aarch64", "virt,gic-version=3", "max,pauth-impdef=on"),
    "ppc64el": ("qemu-system-ppc64", "pseries", "power9"),  # radix page tables
    "riscv64": ("qemu-system-riscv64", "virt", "rv64"),
    "s390x": ("qemu-system-s390x", "s390-ccw-virtio", "max"),
}
_DISK_SLACK: Final = 128 * MIB  # a vmcore has the kernel's text and data twice
_VMCORE_DISK: Final = (
    "-drive",
    "file=vmcore,format=raw,if=virtio,cache=unsafe,discard=unmap,detect-zeroes=unmap",
)
_REGISTERS: Final = "info registers -a"
_POLL_SECONDS: Final = 0.5
_STOP_SECONDS: Final = 20
_ACCIDENT_SECONDS: Final = 5  # until it has happened, in emulation


@dataclass(frozen=True)
class Machine:
    """What to boot, and on what.

    Args:
        arch: its architecture.
        kernel: a bzImage, arm64's Image, or an ELF file.
        initrd: its initramfs.
        append: its command line.
        memory: in bytes.
        cpus: how many.
        devices: more of QEMU's options.
        order: of QEMU's monitor, obeyed some seconds after the guest said LAB-ACCIDENT.
        dumps: once it is stopped, QEMU dumps its memory too, to ``guest.elf``, and says
            what its CPUs' ``registers`` are.
    """

    arch: Arch
    kernel: Path
    initrd: Path
    append: str
    memory: int
    cpus: int
    devices: tuple[str, ...] = ()
    order: str = ""
    dumps: bool = False


@dataclass(frozen=True)
class Piece:
    """A stretch of guest memory that is contiguous in the memory file.

    Args:
        paddr: where it begins in the guest.
        offset: where it begins in the file.
        size: in bytes.
    """

    paddr: int
    offset: int
    size: int

    @property
    def end(self) -> int:
        """The physical address behind its last byte."""
        return self.paddr + self.size

    def offset_of(self, paddr: int) -> int:
        """Say where in the file a physical address of this piece lies."""
        return self.offset + paddr - self.paddr


def memory_pieces(memory: int, arch: Arch = NATIVE) -> tuple[Piece, ...]:
    """Say how a machine with so many bytes of memory keeps them in its file."""
    if arch != "amd64" or memory < _SPLIT_FROM:
        return (Piece(_RAM_START.get(arch, 0), 0, memory),)
    return (Piece(0, 0, _LOW_SIZE), Piece(4 * GIB, _LOW_SIZE, memory - _LOW_SIZE))


def crash(machine: Machine, directory: Path, timeout: float) -> str:
    """Run a machine until its capture kernel has copied the vmcore out, and stop it.

    Args:
        machine: whose initramfs is that of ``make_initramfs``.
        directory: afterwards holds ``ram``, ``vmcore`` (of the vmcore's own size) and ``serial``.
        timeout: seconds.

    Returns:
        What was said on the console.

    Raises:
        GuestError: if there is no vmcore; the message ends with the console's last lines.
    """
    _make_sparse(directory / "vmcore", machine.memory + _DISK_SLACK)
    text = _run(machine, directory, timeout, until="DONE", more=_VMCORE_DISK)
    with (directory / "vmcore").open("r+b") as file:
        file.truncate(int(console.expect(text, "VMCORE")))
    return text


def stop(machine: Machine, directory: Path, timeout: float) -> str:
    """Run a machine until it has said all of itself, and stop it while it is well.

    It does as ``crash`` does, but there is no vmcore.
    """
    return _run(machine, directory, timeout, until="READY")


def _run(
    machine: Machine, directory: Path, timeout: float, *, until: str, more: tuple[str, ...] = ()
) -> str:
    _make_sparse(directory / "ram", machine.memory)
    serial = directory / "serial"
    serial.write_bytes(b"")
    command = [*_command(machine), *machine.devices, *more]
    with tempfile.TemporaryFile() as errors, _running(command, directory, errors) as qemu:
        try:
            if machine.order:
                _wait(qemu.process, serial, timeout, "ACCIDENT")
                time.sleep(_ACCIDENT_SECONDS)
            else:
                _wait(qemu.process, serial, timeout, until)
            with qmp.session(qemu.monitor) as execute:
                if machine.order:
                    execute("human-monitor-command", **{"command-line": machine.order})
                    _wait(qemu.process, serial, timeout, until)
                execute("stop")
                if machine.dumps:
                    execute("dump-guest-memory", paging=False, protocol="file:guest.elf")
                    told = execute("human-monitor-command", **{"command-line": _REGISTERS})
                    (directory / "registers").write_text(told)
        except GuestError as failure:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip()
            raise GuestError(f"{failure}\n{said}".rstrip()) from None
    text = console.clean(serial.read_bytes())
    serial.write_text(text)
    return text


def _make_sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def _command(machine: Machine) -> list[str]:
    emulator, model, cpu = _MODELS[machine.arch]
    return [
        # so that QEMU ends with us even if we are killed
        *(str(program("setpriv")), "--pdeathsig", "KILL", "--"),
        str(program(emulator)),
        *("-machine", f"{model},accel=tcg,memory-backend=ram", "-cpu", cpu),
        *("-smp", str(machine.cpus), "-m", f"{machine.memory // MIB}M"),
        *("-object", f"memory-backend-file,id=ram,size={machine.memory},mem-path=ram,share=on"),
        *("-kernel", str(machine.kernel), "-initrd", str(machine.initrd)),
        *("-append", machine.append),
        *("-serial", "file:serial", "-display", "none", "-monitor", "none", "-nic", "none"),
        "-no-reboot",
    ]


@dataclass(frozen=True)
class _Qemu:
    process: subprocess.Popen[bytes]
    monitor: socket.socket


@contextmanager
def _running(command: list[str], directory: Path, errors: IO[bytes]) -> Iterator[_Qemu]:
    """Run QEMU in ``directory`` for the block's length; at its end it is certainly gone."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            number = theirs.fileno()
            process = subprocess.Popen(
                [*command, "-chardev", f"socket,id=qmp,fd={number}", "-mon", "qmp,mode=control"],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=(number,),
            )
        try:
            yield _Qemu(process, ours)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                LOG.warning("QEMU did not stop within %s s: killed", _STOP_SECONDS)
            finally:
                process.kill()
                process.wait()


def _wait(qemu: subprocess.Popen[bytes], serial: Path, timeout: float, until: str) -> None:
    """Return once the guest has said ``until``, and raise GuestError once it cannot any more."""
    deadline = time.monotonic() + timeout
    while True:
        status = qemu.poll()  # first: what an ended QEMU wrote is then all in the file
        text = console.clean(serial.read_bytes())
        if console.event(text, until) is not None:
            return
        failure = console.event(text, "FAILED")
        if failure is None and status is not None:
            failure = f"QEMU ended with status {status} before the guest said LAB-{until}"
        if failure is None and time.monotonic() > deadline:
            failure = f"no LAB-{until} after {timeout:g} s"
        if failure is not None:
            raise GuestError(f"{failure}; the console's last lines:\n{console.tail(text)}")
        time.sleep(_POLL_SECONDS)
