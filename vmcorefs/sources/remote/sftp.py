"""A file on another machine, by the ssh program and its sftp subsystem.

SSH File Transfer Protocol, version 3: draft-ietf-secsh-filexfer-02. Keys, names and known hosts are
those of ssh's own configuration; nobody is asked for a password.
"""

from __future__ import annotations

import struct
import subprocess
import threading
from contextlib import suppress
from typing import IO
from urllib.parse import unquote, urlsplit

from vmcorefs.errors import UnsupportedError
from vmcorefs.sources.remote.messages import ChangedError, Described

_OPTIONS = (
    *("-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15"),
    *("-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3"),
)
_INIT, _VERSION, _OPEN, _READ, _FSTAT = 1, 2, 3, 5, 8
_STATUS, _HANDLE, _DATA, _ATTRIBUTES = 101, 102, 103, 105
_FOR_READING = 1
_HAS_SIZE, _HAS_IDS, _HAS_MODE, _HAS_TIMES = 1, 2, 4, 8
_AT_ONCE = 32 << 10
_LONGEST = 1 << 20
_NO_SUCH_FILE, _DENIED = 2, 3
_LAST_WORDS = 1.0
"""Seconds that are waited for what ssh says as it ends."""
_KEPT = 4096
"""Bytes of what ssh says that are kept: the last ones."""


class SftpObject:
    """A file on another machine.

    Attributes:
        described: As it is when it is opened.
    """

    def __init__(self, url: str) -> None:
        """Connect and open it.

        Raises:
            UnsupportedError: if the URL is none, or ssh is missing.
            OSError: with what ssh or the server said.
        """
        parts = urlsplit(url)
        if not parts.hostname or not parts.path.strip("/"):
            raise UnsupportedError(f"{url}: expected ssh://[user@]host[:port]/path")
        user = f"{unquote(parts.username)}@" if parts.username else ""
        port = ("-p", str(parts.port)) if parts.port else ()
        self._command = ["ssh", *_OPTIONS, *port, "-s", "--", f"{user}{parts.hostname}", "sftp"]
        self._path = unquote(parts.path)
        self._local = threading.local()
        self.described = self._session().status()

    def read(self, offset: int, size: int) -> bytes:
        """See ``RemoteObject.read``."""
        try:
            session = self._session()
            data = session.read(offset, size) if size else b""
            now = session.status()
        except Exception:
            self._drop()
            raise
        if now != self.described:
            raise ChangedError
        return data

    def check(self) -> None:
        """See ``RemoteObject.check``."""
        self.read(0, 0)

    def _session(self) -> _Session:
        session: _Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = _Session(self._command, self._path)
        return session

    def _drop(self) -> None:
        session: _Session | None = getattr(self._local, "session", None)
        self._local.session = None
        if session is not None:
            session.close()


class _Session:
    """A connection with one open file."""

    def __init__(self, command: list[str], path: str) -> None:
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except FileNotFoundError as error:
            raise UnsupportedError("the ssh program is not installed") from error
        self._number = 0
        self._said = b""
        # a pipe that is full would stop ssh
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        try:
            self._send(_INIT, struct.pack(">I", 3))
            self._receive(_VERSION)
            name = path.encode()
            body = struct.pack(">I", len(name)) + name + struct.pack(">II", _FOR_READING, 0)
            self._handle = self._ask(_OPEN, body, _HANDLE)
        except BaseException:
            self.close()
            raise

    def status(self) -> Described:
        """The file's size and when it was written."""
        data = self._ask(_FSTAT, self._handle, _ATTRIBUTES)
        flags, at = struct.unpack_from(">I", data)[0], 4
        size, mtime = None, 0
        if flags & _HAS_SIZE:
            (size,) = struct.unpack_from(">Q", data, at)
            at += 8
        at += (8 if flags & _HAS_IDS else 0) + (4 if flags & _HAS_MODE else 0)
        if flags & _HAS_TIMES:
            mtime = struct.unpack_from(">II", data, at)[1]
        if size is None:
            raise UnsupportedError("the server does not say how large it is")
        return Described(size, f"{size} {mtime}", float(mtime))

    def read(self, offset: int, size: int) -> bytes:
        """The bytes there: all requests are sent before the first answer is read."""
        data = bytearray(size)
        places = {}
        for at in range(0, size, _AT_ONCE):
            length = min(_AT_ONCE, size - at)
            places[self._request(_READ, self._handle + struct.pack(">QI", offset + at, length))] = (
                at,
                length,
            )
        while places:
            number, answer = self._answer(_DATA)
            at, length = places.pop(number)
            (count,) = struct.unpack_from(">I", answer)
            if not 0 < count <= length:
                raise OSError(f"the server sent {count} bytes, expected {length}")
            data[at : at + count] = answer[4 : 4 + count]
            if count < length:  # it may send fewer
                at, length = at + count, length - count
                body = self._handle + struct.pack(">QI", offset + at, length)
                places[self._request(_READ, body)] = (at, length)
        return bytes(data)

    def close(self) -> None:
        """End the connection."""
        self._process.kill()
        self._process.wait()
        self._listener.join(_LAST_WORDS)
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()

    def _ask(self, kind: int, body: bytes, expected: int) -> bytes:
        self._request(kind, body)
        return self._answer(expected)[1]  # a handle has its length in front, as requests have it

    def _request(self, kind: int, body: bytes) -> int:
        self._number += 1
        self._send(kind, struct.pack(">I", self._number) + body)
        return self._number

    def _answer(self, expected: int) -> tuple[int, bytes]:
        data = self._receive(expected)
        return struct.unpack_from(">I", data)[0], data[4:]

    def _send(self, kind: int, body: bytes) -> None:
        stream = self._stream(self._process.stdin)
        try:
            stream.write(struct.pack(">IB", len(body) + 1, kind) + body)
            stream.flush()
        except BrokenPipeError as error:
            raise self._ended() from error

    def _receive(self, expected: int) -> bytes:
        stream = self._stream(self._process.stdout)
        head = stream.read(5)
        if len(head) < 5:
            raise self._ended()
        length, kind = struct.unpack(">IB", head)
        if not 1 <= length <= _LONGEST:
            raise OSError(f"the server sent a message of {length} bytes")
        body = stream.read(length - 1)
        if len(body) < length - 1:
            raise self._ended()
        if kind == _STATUS:
            raise _refusal(body)
        if kind != expected:
            raise OSError(f"the server sent a message {kind}, expected {expected}")
        return body

    def _listen(self) -> None:
        """Read what ssh says for as long as it, or a child of it, may say something."""
        with self._stream(self._process.stderr) as stream:
            for line in iter(lambda: stream.readline(_KEPT), b""):
                self._said = (self._said + line)[-_KEPT:]

    def _ended(self) -> OSError:
        self._listener.join(_LAST_WORDS)
        said = self._said.decode("utf-8", "replace").strip()
        return ConnectionError(said.splitlines()[-1] if said else "the connection has ended")

    def _stream(self, stream: IO[bytes] | None) -> IO[bytes]:
        if stream is None:
            raise AssertionError
        return stream


def _refusal(body: bytes) -> OSError:
    _, code, length = struct.unpack_from(">III", body)
    text = body[12 : 12 + length].decode("utf-8", "replace") or f"status {code}"
    kinds = {_NO_SUCH_FILE: FileNotFoundError, _DENIED: PermissionError}
    return kinds.get(code, OSError)(text)
