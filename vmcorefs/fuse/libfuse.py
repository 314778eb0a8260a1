"""Libfuse's side of the switch: passing requests on to it, and patching its answers.

libfuse reads from a socket in place of /dev/fuse. It does not know passthrough, so its answers to
INIT and OPEN are patched on their way (docs/decisions/0010).
"""

from __future__ import annotations

import errno
import math
import os
import socket
import sys
from collections.abc import Callable, Iterator

from vmcorefs.fuse import wire

_LONGEST_LISTING = 65536
"""Longest listing, in bytes: an answer must fit into the socket."""
_LONGEST_ANSWER = 1 << 18
_BYTE_ORDER = sys.byteorder


class Libfuse:
    """Acts as the kernel towards libfuse."""

    def __init__(
        self, descriptor: int, device: int, timeout: float, backing_of: Callable[[int], int]
    ) -> None:
        """Replace /dev/fuse by a socket.

        Args:
            descriptor: What libfuse reads; it must not have read anything yet.
            device: The true device, where its answers go.
            timeout: Seconds that a read may take; after twice as long the kernel gives up the
                daemon; 0 for never.
            backing_of: Returns the number of the file for a node's reads; 0 for none.
        """
        self._device = device
        self._timeout = timeout
        self._backing_of = backing_of
        self._can_pass_through = False
        self._passed_on: dict[int, int] = {}
        self._init: tuple[int, bytes] | None = None
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            os.dup2(theirs.fileno(), descriptor, inheritable=False)

    def open_backing(self, descriptor: int) -> int:
        """See ``Switch.open_backing``."""
        if not self._can_pass_through:
            raise OSError(errno.ENOSYS, "this kernel does not offer it (Linux 6.9)")
        return wire.open_backing(self._device, descriptor)

    def pass_on(self, request: memoryview, flags: int = 0) -> None:
        """Give libfuse a request.

        Raises:
            BlockingIOError: if ``flags`` has MSG_DONTWAIT, and its socket is full.
            OSError: if libfuse no longer reads from it.
        """
        _, opcode, unique, node = wire.IN_HEADER.unpack_from(request)
        if opcode == wire.INTERRUPT:  # libfuse would keep those of reads forever
            return
        if opcode not in wire.UNANSWERED:
            self._passed_on[unique] = node if opcode == wire.OPEN else 0
        if opcode == wire.INIT:
            self._init = unique, bytes(request)
        elif opcode in (wire.READDIR, wire.READDIRPLUS):
            size = int.from_bytes(request[wire.SIZE_AT : wire.SIZE_AT + 4], _BYTE_ORDER)
            cut = min(size, _LONGEST_LISTING).to_bytes(4, _BYTE_ORDER)
            request[wire.SIZE_AT : wire.SIZE_AT + 4] = cut
        self._socket.send(request, flags)

    def pass_answers_on(self, fail: Callable[[memoryview, Exception], None]) -> None:
        """Pass libfuse's answers to the kernel until libfuse is gone.

        Args:
            fail: Called with an answer that could not be passed, and why.
        """
        buffer = bytearray(_LONGEST_ANSWER)
        whole = memoryview(buffer)
        while count := self._socket.recv_into(buffer):
            try:
                self._patch(buffer, count)
                os.write(self._device, whole[:count])
            except Exception as error:  # noqa: BLE001  # this thread must go on
                fail(whole, error)

    def forget_passed_on(self) -> Iterator[int]:
        """The numbers of all requests that libfuse has not answered, and so has dropped."""
        for unique in list(self._passed_on):
            if self._passed_on.pop(unique, None) is not None:
                yield unique

    def _patch(self, answer: bytearray, count: int) -> None:
        _, failed, unique = wire.OUT_HEADER.unpack_from(answer)
        if self._init is not None and self._init[0] == unique:
            request, self._init = self._init[1], None
            timeout = min(math.ceil(2 * self._timeout), wire.LONGEST_TIMEOUT)
            self._can_pass_through = wire.accept_init(memoryview(request), answer, count, timeout)
        node = self._passed_on.pop(unique, 0)
        if node and not failed:
            backing = self._backing_of(node)
            if backing:
                wire.pass_through(answer, backing)
