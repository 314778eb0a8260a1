"""Memory that is stored in compressed units, as a source: one unit behind the other."""

from __future__ import annotations

from array import array
from collections.abc import Set as AbstractSet

import msgspec

from vmcorefs.core.formats.compressed.snappy import CHUNK, STREAM_START
from vmcorefs.errors import SourceIOError
from vmcorefs.sources.dumps.cached import CachedPages, Page, pread
from vmcorefs.sources.dumps.page_codecs import Decompress, checked, load_library
from vmcorefs.sources.input import File


class Units(msgspec.Struct, frozen=True):
    """Where units are in a file.

    Attributes:
        at: Where each begins in the file, in bytes.
        length: Bytes that it has there.
        size: Bytes that it decompresses to, at most ``pitch``.
        pitch: From one to the next in the address space of all, in bytes.
        plain: Those that are stored as they are, by number.
    """

    at: array[int]
    length: array[int]
    size: array[int]
    pitch: int = CHUNK
    plain: AbstractSet[int] = frozenset()


class StoredUnits(CachedPages):
    """The units of a file. Behind one that is short are zeros, which no table may show.

    Attributes:
        kind: The kind of source.
    """

    def __init__(self, file: File, kind: str, units: Units, decompress: Decompress) -> None:
        """Prepare to read units.

        Args:
            file: What has them; closed with this object.
            kind: The kind of source.
            units: Where they are.
            decompress: Decompresses one.
        """
        super().__init__(file, count=len(units.at), page_size=units.pitch)
        self.kind = kind
        self._units, self._unpack = units, decompress

    def _decompress(self, first: int, end: int) -> list[Page]:
        return [self._make(number) for number in range(first, end)]

    def _make(self, number: int) -> Page:
        units = self._units
        at, length, size = units.at[number], units.length[number], units.size[number]
        try:
            stored = bytes(pread(self._file, at, length))
            unit = stored if number in units.plain else self._unpack(stored, size)
        except SourceIOError as error:
            error.position = number * self.page_size
            raise
        except ValueError as error:
            raise self._bad_page(number, at, length, str(error)) from error
        if len(unit) != size:
            reason = f"it decompresses to {len(unit)} bytes, expected {size}"
            raise self._bad_page(number, at, length, reason)
        return unit if size == self.page_size else bytes(unit).ljust(self.page_size, b"\0")


def snappy_chunks() -> Decompress:
    """The function that decompresses a chunk of a framed stream, and checks its sum.

    Raises:
        UnsupportedError: if its library is not installed.
    """
    cramjam = load_library("cramjam", "cramjam")

    def decompress(chunk: bytes, size: int) -> bytearray:
        data = bytearray(size)
        count = cramjam.snappy.decompress_into(STREAM_START + chunk, data)
        return data if count == size else data[:count]

    return checked(decompress, cramjam.DecompressionError)
