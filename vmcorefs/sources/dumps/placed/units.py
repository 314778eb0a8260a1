"""Memory that is stored in compressed units, as a source: one unit behind the other."""

from __future__ import annotations

from array import array

from vmcorefs.core.formats.compressed.snappy import CHUNK, STREAM_START
from vmcorefs.errors import SourceIOError
from vmcorefs.sources.dumps.cached import CachedPages, Page, pread
from vmcorefs.sources.dumps.page_codecs import Decompress, checked, load_library
from vmcorefs.sources.input import File


class StoredUnits(CachedPages):
    """The units of a file. Behind one that is short are zeros, which no table may show.

    Attributes:
        kind: The kind of source.
    """

    def __init__(
        self,
        file: File,
        kind: str,
        at: array[int],
        length: array[int],
        size: array[int],
        decompress: Decompress,
    ) -> None:
        """Prepare to read units.

        Args:
            file: What has them; closed with this object.
            kind: The kind of source.
            at: Where each begins in the file, in bytes.
            length: Bytes that it has there.
            size: Bytes that it decompresses to, at most ``CHUNK``.
            decompress: Decompresses one.
        """
        super().__init__(file, count=len(at), page_size=CHUNK)
        self.kind = kind
        self._at, self._length, self._unit_size = at, length, size
        self._unpack = decompress

    def _decompress(self, first: int, end: int) -> list[Page]:
        return [self._make(number) for number in range(first, end)]

    def _make(self, number: int) -> Page:
        at, length, size = self._at[number], self._length[number], self._unit_size[number]
        try:
            unit = self._unpack(bytes(pread(self._file, at, length)), size)
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
