"""``python -m vmcorefs.sources.remote.fetch DESCRIPTOR...``: reads an object for another process.

That one has no network, no credentials and no threads of a client: this one has. It lives as long
as anybody has the other ends of its connections.
"""

from __future__ import annotations

import itertools
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from vmcorefs.errors import UnsupportedError
from vmcorefs.sources.remote import messages
from vmcorefs.sources.remote.messages import ChangedError
from vmcorefs.sources.remote.nbd import NbdObject
from vmcorefs.sources.remote.objects import RemoteObject, StoredObject, is_final
from vmcorefs.sources.remote.sftp import SftpObject

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
"""Seconds between two tries: each is twice the last, up to the longest."""


def main(arguments: Sequence[str]) -> None:
    """Serve until every connection is closed on the other side."""
    if os.fork():  # nobody has to wait for the other
        os._exit(0)
    _serve_all(list(map(int, arguments)))


def fork(numbers: Sequence[int]) -> None:
    """Have a fork of this process, which runs no other thread, do what ``main`` does.

    Args:
        numbers: Descriptors of the connections: all that it keeps open.
    """
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        if not os.fork():
            os.setsid()
            keep_open(numbers)
            _serve_all(numbers)
    finally:
        os._exit(0)


def keep_open(numbers: Sequence[int]) -> None:
    """Close all descriptors but some, and those of standard input, output and errors."""
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2 and number not in numbers:
            with suppress(OSError):  # the one that the directory was read by
                os.close(number)


def _serve_all(numbers: Sequence[int]) -> None:
    connections = [socket.socket(fileno=number) for number in numbers]
    first = connections[0]
    _, size, _ = messages.REQUEST.unpack(messages.receive(first, messages.REQUEST.size))
    url = messages.receive(first, size).decode()
    try:
        found = _open(url)
    except UnsupportedError as error:
        messages.send_answer(first, messages.UNSUPPORTED, str(error).encode())
        return
    except Exception as error:  # noqa: BLE001  # each store has its own
        messages.send_answer(first, messages.FAILED, _words(error).encode())
        return
    messages.send_answer(first, messages.OK, msgspec.msgpack.encode(found.described))
    for connection in connections:
        threading.Thread(target=_serve, args=(connection, found), daemon=True).start()
    _wait_for_ends(connections)
    os._exit(0)  # whatever still hangs


def _open(url: str) -> RemoteObject:
    scheme = url.partition("://")[0].lower()
    if scheme in {"ssh", "sftp"}:
        return SftpObject(url)
    return NbdObject(url) if scheme.partition("+")[0] in {"nbd", "nbds"} else StoredObject(url)


def _wait_for_ends(connections: Sequence[socket.socket]) -> None:
    left = select.poll()
    for connection in connections:
        left.register(connection, select.POLLRDHUP)
    count = len(connections)
    while count:
        for descriptor, _ in left.poll():
            left.unregister(descriptor)
            count -= 1


def _serve(connection: socket.socket, found: RemoteObject) -> None:
    try:
        while True:
            request = messages.receive(connection, messages.REQUEST.size)
            offset, size, patience = messages.REQUEST.unpack(request)
            messages.send_answer(connection, *_fetch(found, offset, size, patience))
    except (EOFError, OSError):
        return


def _fetch(found: RemoteObject, offset: int, size: int, patience: float) -> tuple[int, bytes]:
    """Read, and try again what may have been the network's fault, as long as there is time."""
    begun, pause = time.monotonic(), _FIRST_PAUSE
    for count in itertools.count(1):
        try:
            if not size:
                found.check()
            return messages.OK, found.read(offset, size) if size else b""
        except ChangedError:
            return messages.CHANGED, b""
        except Exception as error:  # noqa: BLE001  # each store has its own
            spent = time.monotonic() - begun
            if is_final(error) or spent + pause > patience:
                tried = f" (tried {count} times in {spent:.1f} s)" if count > 1 else ""
                return messages.FAILED, f"{_words(error)}{tried}".encode()
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
    raise AssertionError


def _words(error: BaseException) -> str:
    """What an error says, or the one behind it: fsspec calls many things a file not found."""
    cause = error.__cause__ or error
    return str(cause).strip().replace("\n", " ") or type(cause).__name__


if __name__ == "__main__":
    main(sys.argv[1:])
