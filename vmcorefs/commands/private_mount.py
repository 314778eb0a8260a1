"""A tree that is mounted for one program alone, and unmounted when that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

from vmcorefs.api import Capture
from vmcorefs.daemon import run_in_background
from vmcorefs.errors import MountError, UnsupportedError
from vmcorefs.fuse.mounts import find_mount, unmount
from vmcorefs.fuse.reservation import Reservation
from vmcorefs.fuse.serve import MountOptions

_TERMINALS: Final = (signal.SIGINT, signal.SIGQUIT)
"""What the terminal sends to the program too, which knows what it means."""

_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
"""What is passed on to the program; once that has ended, so do we."""

_TIMEOUT: Final = 30.0


def private_mount(
    open_there: Callable[[str], Capture], command_for: Callable[[str, Capture], list[str]]
) -> int:
    """Mount a tree where only its owner can reach it, run a program there, and unmount it.

    Args:
        open_there: Opens what is to be mounted at a mount point.
        command_for: The program and its arguments, of the mount point and what is mounted there.

    Returns:
        The program's exit status; 128 and the number of the signal that killed it.

    Raises:
        MountError: if the tree cannot be mounted or unmounted.
        UnsupportedError: if the program cannot be started.
        VmcorefsError: what the two functions raise.
    """
    with _directory() as directory:
        reservation = Reservation(directory)
        try:
            capture = open_there(reservation.mountpoint)
            try:
                command = command_for(reservation.mountpoint, capture)
            except BaseException:
                capture.close()
                raise
        except BaseException:
            reservation.release()
            raise
        with _kept_signals() as program:
            options = MountOptions(reservation.mountpoint)
            run_in_background(capture, options, reservation, None, ends_with_parent=True)
            try:
                return program.run(command)
            finally:
                _leave(options.mountpoint)


@contextmanager
def _directory() -> Iterator[str]:
    """A new directory of this user's alone, where such are kept that do not outlive the machine."""
    places = (os.environ.get("XDG_RUNTIME_DIR"), "/run" if os.geteuid() == 0 else None)
    where = next((place for place in places if place and os.access(place, os.W_OK)), None)
    directory = tempfile.mkdtemp(prefix="vmcorefs-", dir=where)  # its mode is 0700
    try:
        yield directory
    finally:
        with suppress(OSError):  # still mounted: the error that is raised says why
            os.rmdir(directory)


def _leave(mountpoint: str) -> None:
    """Unmount the tree: what the program has left running cannot keep it."""
    try:
        unmount(mountpoint, lazy=False, timeout=_TIMEOUT)
    except MountError:
        if find_mount(mountpoint) is not None:
            unmount(mountpoint, lazy=True, timeout=_TIMEOUT)


class _Program:
    """The program, and the signals that are for it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._came: list[int] = []

    def run(self, command: Sequence[str]) -> int:
        """Run it to its end; it has this process's terminal."""
        if self._came:  # before there was anything to pass it on to
            return 128 + self._came[0]
        try:
            self._process = subprocess.Popen(command)
        except OSError as error:
            raise UnsupportedError(f"{command[0]}: cannot start it: {error.strerror}") from error
        for number in self._came:
            self._process.send_signal(number)
        status = self._process.wait()
        return status if status >= 0 else 128 - status

    def pass_on(self, number: int, _frame: FrameType | None) -> None:
        """Handle one of ``_ENDING``."""
        self._came.append(number)
        if self._process is not None:
            self._process.send_signal(number)


@contextmanager
def _kept_signals() -> Iterator[_Program]:
    """Let no signal end this process before the tree is unmounted.

    The handlers are functions: what is ignored would be so in the program too (signal(7)).
    """
    program = _Program()
    before = {number: signal.getsignal(number) for number in (*_TERMINALS, *_ENDING)}
    for number in _TERMINALS:
        signal.signal(number, lambda *_: None)
    for number in _ENDING:
        if before[number] is not signal.SIG_IGN:  # as nohup(1) has it
            signal.signal(number, program.pass_on)
    try:
        yield program
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
