"""What is in a compressed file, read by position.

Decompressing begins at the last place before a byte where the index lets it, and goes forwards. The
chunks that come out are kept in a cache of a bounded size, and so are a few decoders, so that who
reads in order goes on where he was. Nobody waits for another's decoder.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from vmcorefs.errors import SourceIOError
from vmcorefs.sources.base import WithoutHoles, check_bounds
from vmcorefs.sources.input import File, Input
from vmcorefs.sources.wrappers.decoder import Decoder
from vmcorefs.sources.wrappers.records import Index

CHUNK = 256 << 10
CACHE_SIZE = 64 << 20
"""Bytes of decompressed chunks in the cache."""

_CURSORS = 6

Start = Callable[[int], Decoder]
"""From a row of the index to a decoder that begins there."""


class _Cursor(msgspec.Struct):
    decoder: Decoder
    position: int


class Unwrapped(WithoutHoles):
    """What is in a compressed file.

    Attributes:
        name: The file's.
        origin: The file's.
        role: The file's.
        kind: What it is wrapped in.
        size: Bytes in it, as far as it can be decompressed.
        damage: Why it ends there, if it should not; else empty.
    """

    def __init__(self, wrapped: File, kind: str, index: Index, start: Start) -> None:
        """Read a compressed file by its index.

        Args:
            wrapped: The file; closed with this object.
            kind: What it is wrapped in.
            index: Where it can be entered.
            start: Enters it.
        """
        self.name, self.origin, self.role = wrapped.name, wrapped.origin, wrapped.role
        self.kind, self.size, self.damage = kind, index.size, index.damage
        self._wrapped, self._index, self._start = wrapped, index, start
        self._lock = threading.Lock()
        self._chunks: OrderedDict[int, bytes | bytearray] = OrderedDict()
        self._idle: list[_Cursor] = []  # the one that was used last is the last

    @property
    def file(self) -> Input:
        """The file that all of its bytes come from."""
        return self._wrapped.file

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        """See ``Source.pread_into``."""
        check_bounds(self, offset, len(buffer), f"the {self.kind} data in it has")
        done, count = 0, len(buffer)
        while done < count:
            number, inside = divmod(offset + done, CHUNK)
            part = memoryview(self._chunk(number))[inside : inside + count - done]
            buffer[done : done + len(part)] = part
            done += len(part)

    def close(self) -> None:
        """See ``Source.close``."""
        self._idle.clear()
        self._chunks.clear()
        self._index.close()
        self._wrapped.close()

    def _chunk(self, number: int) -> bytes | bytearray:
        with self._lock:
            found = self._chunks.get(number)
            if found is not None:
                self._chunks.move_to_end(number)
                return found
            cursor = self._take(number * CHUNK)
        try:
            if cursor is None:
                cursor = self._enter(number * CHUNK)
            while True:
                at = cursor.position // CHUNK
                data = self._decode(cursor, min((at + 1) * CHUNK, self.size) - cursor.position)
                if len(data) == min(CHUNK, self.size - at * CHUNK):
                    self._keep(at, data)
                if at == number:
                    break
        except SourceIOError as error:
            error.position = number * CHUNK
            raise
        with self._lock:
            self._idle.append(cursor)
            del self._idle[:-_CURSORS]
        return data

    def _take(self, offset: int) -> _Cursor | None:
        """The idle decoder that is soonest there; None if the index leads there sooner."""
        first = int(self._index.starts[self._index.row_of(offset)])
        usable = [one for one in self._idle if first <= one.position <= offset]
        best = max(usable, key=lambda one: one.position, default=None)
        if best is not None:
            self._idle.remove(best)
        return best

    def _enter(self, offset: int) -> _Cursor:
        row = self._index.row_of(offset)
        try:
            decoder = self._start(row)
        except ValueError as error:
            raise self._failed(offset, 1, str(error)) from error
        return _Cursor(decoder, int(self._index.starts[row]))

    def _decode(self, cursor: _Cursor, count: int) -> bytearray:
        data = bytearray(count)
        view, done = memoryview(data), 0
        try:
            while done < count:
                step = cursor.decoder.readinto(view[done:])
                done += step
                if not step:
                    break
        except ValueError as error:
            raise self._failed(cursor.position + done, count - done, str(error)) from error
        if done < count:
            raise self._failed(cursor.position + done, count - done, "it ends there too soon")
        cursor.position += count
        return data

    def _failed(self, offset: int, size: int, reason: str) -> SourceIOError:
        return SourceIOError(self.name, offset, size, f"in the {self.kind} data: {reason}")

    def _keep(self, number: int, data: bytearray) -> None:
        with self._lock:
            self._chunks[number] = data
            while len(self._chunks) > CACHE_SIZE // CHUNK:
                self._chunks.popitem(last=False)
