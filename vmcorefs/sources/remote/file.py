"""An object elsewhere as an input: blocks of it are kept, and the rest is asked for.

Another process talks to the network (``fetch``): this one keeps no credentials, may give up every
system call that opens a connection, and may fork. Whoever waits, waits no longer than the timeout.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

import msgspec

from vmcorefs.core.digests import Digest
from vmcorefs.errors import ConfigError, SourceIOError, UnsupportedError
from vmcorefs.piece import READ_TIMEOUT
from vmcorefs.sources.base import WithoutHoles, check_bounds
from vmcorefs.sources.identity import Identity
from vmcorefs.sources.remote import messages
from vmcorefs.system.background import start_module
from vmcorefs.system.urls import hide, without_password

BLOCK = 16 << 10
"""Bytes that are asked for at least."""

CACHE_SIZE = 64 << 20
"""Bytes of blocks that are kept."""

AHEAD = 4 << 20
"""Bytes that are asked for at most, for a reader that goes on in order."""

_OF_IT = 0.8
"""The part of a timeout in which what fails is tried again: why must still be told in time."""

_ANY_TIME = 1e6
"""Seconds that are no limit, eleven days: poll(2) takes milliseconds in an int."""

_CONNECTIONS = 4


class RemoteFile(WithoutHoles):
    """An object elsewhere.

    Attributes:
        name: Its URL, without a password.
        origin: The same.
        role: ``image`` or ``backup``.
        kind: What it is, by its scheme.
        size: Bytes in it when it was opened.
        identity: Which one it was when it was opened.
        digest: See ``Input``.
        wrappers: See ``Input``.
        format: See ``Input``.
        before_close: Called when it is closed, by the process that opened it.
    """

    def __init__(self, url: str, *, role: str, timeout: float = READ_TIMEOUT) -> None:
        """Start the process that fetches, and ask it what is there.

        Args:
            url: As fsspec takes it, or of ssh.
            role: What it is to the crashed machine.
            timeout: Seconds that each read may take, and opening if that is more than the default;
                0 for any time.

        Raises:
            ConfigError: if it cannot be opened.
            UnsupportedError: if a package is missing, or it cannot be read by position.
        """
        self.name = self.origin = without_password(url)
        self.role = role
        scheme = urlsplit(url).scheme.lower()
        self.kind = f"file over {scheme}" if scheme in {"ssh", "sftp"} else f"object over {scheme}"
        self.digest: Digest | None = None
        self.wrappers: tuple[str, ...] = ()
        self.format = "raw memory"
        self._timeout = timeout or _ANY_TIME
        self._pool = _Pool(_start(_CONNECTIONS))
        try:
            described = self._describe(url)
        except BaseException:
            self._pool.close()
            raise
        self.size = described.size
        self.identity = Identity(
            device=scheme,
            inode=0,
            size=described.size,
            mtime_ns=int(described.mtime * 1e9),
            file=(-1, zlib.crc32(self.name.encode())),
            version=described.version,
        )
        self.before_close: Callable[[], None] = lambda: None
        self._pid = os.getpid()
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._next, self._ahead = -1, BLOCK

    @property
    def file(self) -> RemoteFile:
        """Itself; see ``File``."""
        return self

    @property
    def mtime(self) -> float:
        """When it was last written, in seconds since 1970."""
        return self.identity.mtime_ns / 1e9

    @property
    def identity_now(self) -> Identity:
        """Its identity, which is another one if it has changed."""
        how, _ = self._pool.ask(0, 0, self._timeout)
        if how == messages.CHANGED:
            return msgspec.structs.replace(self.identity, version="another one now")
        return self.identity

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        """See ``Source.pread_into``."""
        check_bounds(self, offset, len(buffer))
        end = offset + len(buffer)
        done = offset
        while done < end:
            number, inside = divmod(done, BLOCK)
            block = self._kept(number)
            if block is None:
                block = self._fetch(number, -(-end // BLOCK))
            part = memoryview(block)[inside : inside + end - done]
            buffer[done - offset : done - offset + len(part)] = part
            done += len(part)

    def read_block(self, number: int) -> bytes:
        """The bytes of a block, asked for anew; the errors are those of ``pread_into``."""
        start = number * BLOCK
        return self._read(start, min(BLOCK, self.size - start))

    def blocks(self) -> dict[int, bytes]:
        """The blocks that are kept, by number."""
        with self._lock:
            return dict(self._blocks)

    def take_blocks(self, blocks: Mapping[int, bytes]) -> None:
        """Keep blocks that were read of the same object before."""
        with self._lock:
            self._blocks.update(blocks)

    def close(self) -> None:
        """See ``Source.close``; the process that fetches ends when nobody has it open."""
        if os.getpid() == self._pid:
            self.before_close()
            self.before_close = lambda: None
        self._pool.close()
        self._blocks.clear()

    def _kept(self, number: int) -> bytes | None:
        with self._lock:
            block = self._blocks.get(number)
            if block is not None:
                self._blocks.move_to_end(number)
            return block

    def _fetch(self, number: int, wanted_end: int) -> bytes:
        """Ask for blocks from ``number`` on, and for some ahead; return the first."""
        with self._lock:
            in_order = number == self._next
            self._ahead = min(self._ahead * 2, AHEAD) if in_order else BLOCK
            end = max(min(wanted_end, number + AHEAD // BLOCK), number + self._ahead // BLOCK)
            end = next((n for n in range(number + 1, end) if n in self._blocks), end)
            self._next = end
        start = number * BLOCK
        size = min(end * BLOCK, self.size) - start
        data = self._read(start, size)
        with self._lock:
            for at in range(0, size, BLOCK):
                self._blocks[number + at // BLOCK] = data[at : at + BLOCK]
            while len(self._blocks) > CACHE_SIZE // BLOCK:
                self._blocks.popitem(last=False)
        return data[:BLOCK]

    def _read(self, offset: int, size: int) -> bytes:
        try:
            how, data = self._pool.ask(offset, size, self._timeout)
        except (OSError, EOFError) as error:
            reason = str(error) or type(error).__name__
            raise SourceIOError(self.name, offset, size, reason) from error
        if how == messages.CHANGED:
            reason = "it has changed since it was opened: open it again"
            raise SourceIOError(self.name, offset, size, reason)
        if how != messages.OK or len(data) != size:
            raise SourceIOError(self.name, offset, size, data.decode("utf-8", "replace"))
        return data

    def _describe(self, url: str) -> messages.Described:
        try:
            # starting the process and its packages takes seconds on a busy machine
            how, data = self._pool.tell(url.encode(), max(self._timeout, READ_TIMEOUT))
        except (OSError, EOFError) as error:
            raise ConfigError(f"{self.name}: cannot open the {self.role}: {error}") from error
        text = data.decode("utf-8", "replace") if how != messages.OK else ""
        text = hide(text, url)
        if how == messages.UNSUPPORTED:
            raise UnsupportedError(text if self.name in text else f"{self.name}: {text}")
        if how != messages.OK:
            raise ConfigError(f"{self.name}: cannot open the {self.role}: {text}")
        return msgspec.msgpack.decode(data, type=messages.Described)


class _Connection:
    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.owed = False
        """Whether an answer is still to come for which nobody waits any more."""


class _Pool:
    """Connections to the process that fetches: each has one request at a time."""

    def __init__(self, ends: list[socket.socket]) -> None:
        self._free = [_Connection(end) for end in ends]
        self._all = list(self._free)
        self._changed = threading.Condition()

    def tell(self, url: bytes, timeout: float) -> tuple[int, bytes]:
        """Say what to open; the answer describes it."""
        first = self._all[0].end
        first.sendall(messages.REQUEST.pack(0, len(url), timeout) + url)
        if not _has_come(first, time.monotonic() + timeout):
            raise TimeoutError(f"no answer within {timeout:g} s")
        return _receive(first)

    def ask(self, offset: int, size: int, timeout: float) -> tuple[int, bytes]:
        """Ask for bytes.

        Raises:
            TimeoutError: if no answer came in time.
            EOFError, OSError: if the process has ended.
        """
        deadline = time.monotonic() + timeout
        connection = self._take(deadline, timeout)
        try:
            connection.end.sendall(messages.REQUEST.pack(offset, size, timeout * _OF_IT))
            if not _has_come(connection.end, deadline):
                connection.owed = True
                raise TimeoutError(f"no answer within {timeout:g} s")
            return _receive(connection.end)
        finally:
            with self._changed:
                self._free.append(connection)
                self._changed.notify()

    def _take(self, deadline: float, timeout: float) -> _Connection:
        with self._changed:
            while True:
                for number, connection in enumerate(self._free):
                    if not connection.owed or _drain(connection):
                        return self._free.pop(number)
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"no answer within {timeout:g} s")
                self._changed.wait(min(left, 0.2))

    def close(self) -> None:
        for connection in self._all:
            connection.end.close()


def _drain(connection: _Connection) -> bool:
    """Throw away an answer that came too late; whether it has come."""
    if not _has_come(connection.end, 0.0):
        return False
    _receive(connection.end)
    connection.owed = False
    return True


def _has_come(end: socket.socket, deadline: float) -> bool:
    """Wait for an answer; whether one begins. It is whole on the other side by then."""
    poll = select.poll()
    poll.register(end, select.POLLIN)
    return bool(poll.poll(max(deadline - time.monotonic(), 0.0) * 1000))


def _receive(end: socket.socket) -> tuple[int, bytes]:
    how, size = messages.ANSWER.unpack(messages.receive(end, messages.ANSWER.size))
    return how, messages.receive(end, min(size, messages.MOST))


def _start(count: int) -> list[socket.socket]:
    """Start the process that fetches; it goes to the background at once."""
    pairs = [socket.socketpair() for _ in range(count)]
    theirs = [their for _, their in pairs]
    numbers = [their.fileno() for their in theirs]
    try:
        start_fetch(numbers)
    finally:
        for their in theirs:
            their.close()
    return [our for our, _ in pairs]


def _run_fetch(numbers: Sequence[int]) -> None:
    start_module("vmcorefs.sources.remote.fetch", numbers)


start_fetch: Callable[[Sequence[int]], None] = _run_fetch
"""Starts the process that fetches, in the background, given the descriptors of its connections: who
has imported all that it needs, and runs no thread, may have it forked (``fetch.fork``)."""
