"""zlib's inflate with what Python's own module leaves out: stopping between blocks, going on there.

The library is the one that Python's module uses (zlib.h). Its calls release the interpreter's lock,
so several threads decompress at once.
"""

from __future__ import annotations

import ctypes
import zlib
from ctypes import POINTER, byref, c_char_p, c_int, c_ubyte, c_uint, c_ulong, c_void_p
from functools import cache

from vmcorefs.errors import UnsupportedError

WINDOW = 32 << 10
"""Bytes before a place that its compressed data may refer to (RFC 1951, 2)."""

GZIP, ZLIB, RAW = 31, 15, -15
"""How the data is wrapped: RFC 1952 with its sum, RFC 1950 with its sum, or not at all."""

NO_FLUSH, BLOCK = 0, 5
_OK, _STREAM_END, _BUF_ERROR = 0, 1, -5
_LAST_BLOCK, _BLOCK_END = 64, 128


class _Stream(ctypes.Structure):
    """``z_stream`` of zlib.h."""

    _fields_ = (
        ("next_in", c_void_p),
        ("avail_in", c_uint),
        ("total_in", c_ulong),
        ("next_out", c_void_p),
        ("avail_out", c_uint),
        ("total_out", c_ulong),
        ("msg", c_char_p),
        ("state", c_void_p),
        ("zalloc", c_void_p),
        ("zfree", c_void_p),
        ("opaque", c_void_p),
        ("data_type", c_int),
        ("adler", c_ulong),
        ("reserved", c_ulong),
    )


class Inflate:
    """A stream that is decompressed forwards.

    Attributes:
        ended: Whether the end of its data was reached, with the right sum if it has one.
        at_block: Whether it stopped between two blocks, neither of which is the last.
        unused_bits: How many bits of the last byte that it took belong to what follows.
    """

    def __init__(self, form: int) -> None:
        """Start at the beginning of data of one of the forms above."""
        self._lib = _library()
        self._stream = _Stream()
        self._check(
            self._lib.inflateInit2_(
                byref(self._stream),
                form,
                zlib.ZLIB_RUNTIME_VERSION.encode(),
                ctypes.sizeof(_Stream),
            )
        )
        self.ended = False

    def resume(self, window: bytes, bits: int, first: int) -> None:
        """Go on in the middle of raw data.

        Args:
            window: The decompressed bytes before that place, up to ``WINDOW``.
            bits: How many bits of the byte before it belong to it.
            first: That byte.
        """
        if bits:
            self._check(self._lib.inflatePrime(byref(self._stream), bits, first >> (8 - bits)))
        if window:
            self._check(self._lib.inflateSetDictionary(byref(self._stream), window, len(window)))

    def run(self, data: memoryview, out: memoryview, flush: int = NO_FLUSH) -> tuple[int, int]:
        """Decompress some bytes.

        Args:
            data: Compressed; writable, for its address.
            out: Filled from its start.
            flush: ``BLOCK`` to stop at the end of a block too.

        Returns:
            How many bytes of ``data`` were taken, and how many of ``out`` were filled.

        Raises:
            ValueError: with the reason, if the data is damaged.
        """
        stream = self._stream
        stream.next_in, stream.avail_in = _address(data), len(data)
        stream.next_out, stream.avail_out = _address(out), len(out)
        result = self._lib.inflate(byref(stream), flush)
        self.ended = result == _STREAM_END
        if result not in {_OK, _STREAM_END, _BUF_ERROR}:
            reason: bytes = stream.msg or b"it cannot be decompressed"
            raise ValueError(reason.decode("ascii", "replace"))
        return len(data) - stream.avail_in, len(out) - stream.avail_out

    @property
    def at_block(self) -> bool:
        """See the class."""
        return bool(self._stream.data_type & (_BLOCK_END | _LAST_BLOCK) == _BLOCK_END)

    @property
    def unused_bits(self) -> int:
        """See the class."""
        return int(self._stream.data_type & 7)

    def window(self) -> bytes:
        """The bytes that were decompressed last, up to ``WINDOW``."""
        buffer, size = (c_ubyte * WINDOW)(), c_uint()
        self._check(self._lib.inflateGetDictionary(byref(self._stream), buffer, byref(size)))
        return bytes(buffer)[: size.value]

    def reset(self, form: int) -> None:
        """Begin again, at the beginning of other data."""
        self._check(self._lib.inflateReset2(byref(self._stream), form))
        self.ended = False

    def _check(self, result: int) -> None:
        if result != _OK:
            raise MemoryError(f"zlib: {result}")

    def __del__(self) -> None:
        if self._stream.state:
            self._lib.inflateEnd(byref(self._stream))


def _address(buffer: memoryview) -> int | None:
    return ctypes.addressof(c_ubyte.from_buffer(buffer)) if len(buffer) else None


@cache
def _library() -> ctypes.CDLL:
    """The library.

    Raises:
        UnsupportedError: if there is none.
    """
    try:
        library = ctypes.CDLL("libz.so.1")
    except OSError as error:
        raise UnsupportedError(f"zlib: {error}") from error
    stream = POINTER(_Stream)
    for name, arguments in (
        ("inflateInit2_", (stream, c_int, c_char_p, c_int)),
        ("inflate", (stream, c_int)),
        ("inflatePrime", (stream, c_int, c_int)),
        ("inflateSetDictionary", (stream, c_char_p, c_uint)),
        ("inflateGetDictionary", (stream, c_void_p, POINTER(c_uint))),
        ("inflateReset2", (stream, c_int)),
        ("inflateEnd", (stream,)),
    ):
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, c_int
    return library
