"""``python -m vmcorefs.sources.live.pause MONITOR END``: lets a guest go on, whatever happens.

A guest is stopped for as long as its memory is open. Whoever has it open may be killed, or may have
forked, or may have given up what it takes to talk to QEMU: this process holds the monitor, waits
until the other end of ``END`` is closed by everybody, and then sends ``cont``. It reads what QEMU
says from ``hand_over`` on, and not before: an answer goes to one reader alone.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Sequence
from typing import Final

from vmcorefs.system.background import start_module

_ID: Final = b'"vmcorefs-cont"'  # QEMU's answer has it too (docs/interop/qmp-spec.rst, 2.3)
_CONTINUE: Final = b'{"execute":"cont","id":%b}\n' % _ID
_PATIENCE: Final = 30.0


def keep_paused(monitor: socket.socket) -> socket.socket:
    """Start the process; the guest goes on when what is returned is closed.

    Args:
        monitor: A connection to a monitor that takes commands.

    Raises:
        OSError: if it cannot be started.
        subprocess.SubprocessError: if it ended at once.

    The monitor is still the caller's to read, until ``hand_over``.
    """
    ours, theirs = socket.socketpair()
    try:
        start_module("vmcorefs.sources.live.pause", (monitor.fileno(), theirs.fileno()))
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return ours


def hand_over(held: socket.socket) -> None:
    """Leave what QEMU says from now on, which are events, to the process.

    Args:
        held: What ``keep_paused`` returned.

    Raises:
        OSError: if the process has ended.
    """
    held.sendall(b"\0")


def main(arguments: Sequence[str]) -> None:
    """Wait for the end, and let the guest go on."""
    if os.fork():  # nobody has to wait for the other
        os._exit(0)
    monitor, end = (socket.socket(fileno=int(number)) for number in arguments)
    monitor.settimeout(None)  # who has sent it here has left it otherwise
    if not _wait_for_end(monitor, end):
        return
    monitor.settimeout(_PATIENCE)
    try:
        monitor.sendall(_CONTINUE)
        answer = b""
        # QEMU forgets what was asked on a connection that is closed before its answer
        while _ID not in answer and (more := monitor.recv(1 << 16)):
            answer = answer[-len(_ID) :] + more
    except OSError:
        return  # QEMU has ended


def _wait_for_end(monitor: socket.socket, end: socket.socket) -> bool:
    """Wait until nobody has the guest open; throw away what QEMU tells; False if that has ended."""
    if not end.recv(1):
        return True  # before hand_over
    poll = select.poll()
    poll.register(end, select.POLLIN)
    poll.register(monitor, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if end.fileno() in ready:
            return True
        try:
            if not monitor.recv(1 << 16):
                return False
        except OSError:
            return False


if __name__ == "__main__":
    main(sys.argv[1:])
