"""``python -m tests.remote.link MILLISECONDS HERE THERE``: a long link between network namespaces.

Linux's own delay (sch_netem) is a module that few kernels of virtual machines have. This link is
two TUN devices (Documentation/networking/tuntap.rst), one in each namespace, and a process that
holds each packet for half of the round trip: TCP's handshakes and windows are the kernel's own.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from tests.waiting import running, wait_for_line

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET: Final = 0x40000000
_LONGEST_PACKET: Final = 1 << 16
_WAITING: Final = 10_000
"""Packets in the link at most: as in a full queue, the next one is lost."""


@dataclass(frozen=True)
class Link:
    """A link, for as long as it is there.

    Attributes:
        here: The namespace of who reads.
        there: That of the servers.
        address: Of the servers.
        process: The one that holds the packets.
    """

    here: str
    there: str
    address: str
    process: subprocess.Popen[str]

    @property
    def received(self) -> int:
        """Bytes of packets that have come here."""
        command = ["ip", "-n", self.here, "-s", "-j", "link", "show", "dev", self.here]
        (told,) = json.loads(subprocess.check_output(command))
        return int(told["stats64"]["rx"]["bytes"])

    def cut(self) -> None:
        """Lose each packet from now on."""
        self.process.send_signal(signal.SIGUSR1)

    def mend(self) -> None:
        """Lose none any more."""
        self.process.send_signal(signal.SIGUSR2)


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Have this thread, and what it starts, in a network namespace for as long as the block."""
    outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    wanted = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        _enter(wanted)
        yield
    finally:
        _enter(outside)
        os.close(wanted)
        os.close(outside)


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, _CLONE_NEWNET) != 0:  # os.setns came with Python 3.12
        raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def long_link(milliseconds: float = 20.0) -> Iterator[Link]:
    """Make two namespaces and a link between them.

    Args:
        milliseconds: The time of a round trip.
    """
    here, there = f"vmfs{os.getpid()}a", f"vmfs{os.getpid()}b"
    made: list[str] = []
    try:
        for name in (here, there):
            subprocess.run(["ip", "netns", "add", name], check=True)
            made.append(name)
        command = [sys.executable, "-m", "tests.remote.link", str(milliseconds), here, there]
        with running(command, stdout=subprocess.PIPE) as process:
            wait_for_line(process, "ready")
            yield Link(here, there, "10.99.0.2", process)
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], check=True)


def _make_end(namespace: str, address: str) -> int:
    """A device of the namespace's name in it; what is sent there is read from the descriptor."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    asked = struct.pack("16sH22x", namespace.encode(), _IFF_TUN | _IFF_NO_PI)
    fcntl.ioctl(descriptor, _TUNSETIFF, asked)
    subprocess.run(["ip", "link", "set", namespace, "netns", namespace], check=True)
    for words in (f"addr add {address}/24 dev {namespace}", f"link set {namespace} up"):
        subprocess.run(["ip", "-n", namespace, *words.split()], check=True)
    subprocess.run(["ip", "-n", namespace, "link", "set", "lo", "up"], check=True)
    return descriptor


def main(milliseconds: float, here: str, there: str) -> None:
    """Pass on packets until this is killed."""
    ends = (_make_end(here, "10.99.0.1"), _make_end(there, "10.99.0.2"))
    is_whole = True

    def switch(number: int, _frame: object) -> None:
        nonlocal is_whole
        is_whole = number == signal.SIGUSR2

    signal.signal(signal.SIGUSR1, switch)
    signal.signal(signal.SIGUSR2, switch)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    delay = milliseconds / 2000
    waiting: deque[tuple[float, int, bytes]] = deque()
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, to, packet = waiting.popleft()
            if is_whole:
                os.write(to, packet)
        left = waiting[0][0] - now if waiting else None
        for descriptor in select.select(ends, (), (), left)[0]:
            to = ends[descriptor == ends[0]]
            for packet in _packets(descriptor):
                if len(waiting) < _WAITING:
                    waiting.append((time.monotonic() + delay, to, packet))


def _packets(descriptor: int) -> Iterator[bytes]:
    try:
        for _ in range(64):
            yield os.read(descriptor, _LONGEST_PACKET)
    except BlockingIOError:
        return


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2], sys.argv[3])
