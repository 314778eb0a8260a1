"""Network namespaces, each with one cable to this one (ip-netns(8), veth(4))."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple


class Network(NamedTuple):
    """A namespace.

    Attributes:
        name: Its name.
        host: The address at which it reaches this one.
    """

    name: str
    host: str

    @property
    def within(self) -> list[str]:
        """What a program is run by, to be in it."""
        return ["ip", "netns", "exec", self.name]


@contextmanager
def networks(count: int) -> Iterator[list[Network]]:
    """Make some; they are gone after the ``with`` statement, with their cables."""
    with ExitStack() as stack:
        yield [stack.enter_context(_network(number)) for number in range(count)]


@contextmanager
def _network(number: int) -> Iterator[Network]:
    name, ours = f"vmcorefs-{os.getpid()}-{number}", f"vmc{os.getpid()}.{number}"
    # 198.18.0.0/15 is for tests of networks (RFC 2544), a /30 each
    base = 4 * (os.getpid() * 8 + number)
    prefix = f"198.18.{base // 256 % 256}."
    host, guest = (f"{prefix}{base % 256 + n}" for n in (1, 2))
    _ip("netns", "add", name)
    try:
        _ip("link", "add", ours, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("address", "add", f"{host}/30", "dev", ours)
        _ip("link", "set", ours, "up")
        _ip("-n", name, "address", "add", f"{guest}/30", "dev", "eth0")
        for device in ("eth0", "lo"):
            _ip("-n", name, "link", "set", device, "up")
        yield Network(name, host)
    finally:
        _ip("netns", "delete", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
