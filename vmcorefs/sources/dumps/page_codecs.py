"""Decompressing pages with each codec's library; no result is larger than a page."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from typing import Any, Final

from vmcorefs.core.formats.kdump.descriptors import COMPRESSED, Flag
from vmcorefs.errors import UnsupportedError

Decompress = Callable[[bytes, int], bytes | bytearray]
"""From ``(data, size)`` to the page, which has ``size`` bytes if all is well.

Raises:
    ValueError: with the reason, if the data cannot be decompressed, or would be larger.
"""


def find_decompressor(flags: int) -> Decompress:
    """Return the function that decompresses a page whose descriptor has these flags.

    Raises:
        UnsupportedError: if its library is not installed.
        ValueError: if there is no such codec.
    """
    codec = flags & COMPRESSED
    make = _CODECS.get(codec)
    if make is None:
        raise ValueError(f"its flags are {flags:#x}, expected one codec")
    return make()


def _none() -> Decompress:
    return lambda data, _: data


def _zlib() -> Decompress:
    try:
        deflate = importlib.import_module("deflate")
    except ImportError:
        return checked(_inflate, zlib.error)
    return checked(deflate.zlib_decompress, deflate.DeflateError)


def _inflate(data: bytes, size: int) -> bytes:
    return zlib.decompressobj().decompress(data, size + 1)


def _lzo() -> Decompress:
    lzo = load_library("lzo", "python-lzo")
    no_header = False
    return checked(lambda data, size: bytes(lzo.decompress(data, no_header, size)), lzo.error)


def _snappy() -> Decompress:
    cramjam = load_library("cramjam", "cramjam")

    def decompress(data: bytes, size: int) -> bytearray:
        page = bytearray(size)
        count = cramjam.snappy.decompress_raw_into(data, page)
        return page if count == size else page[:count]

    return checked(decompress, cramjam.DecompressionError)


def _zstd() -> Decompress:
    zstandard = load_library("zstandard", "zstandard")

    def decompress(data: bytes, size: int) -> bytes:
        # memory is allocated for the size in a frame's header, however large that is
        if zstandard.frame_content_size(data) > size:
            raise ValueError(f"it would be larger than {size} bytes")
        # a decompressor must not be shared between threads
        found: bytes = zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
        return found

    return checked(decompress, zstandard.ZstdError)


def checked(decompress: Decompress, error: type[Exception]) -> Decompress:
    """The same function, with ``ValueError`` for the library's own ``error``."""

    def as_value_error(data: bytes, size: int) -> bytes | bytearray:
        try:
            return decompress(data, size)
        except error as reason:
            raise ValueError(str(reason)) from reason

    return as_value_error


def load_library(module: str, package: str) -> Any:  # noqa: ANN401  # compiled modules
    """Import a library that compresses and decompresses pages.

    Raises:
        UnsupportedError: if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UnsupportedError(
            f"the Python package {package} is not installed; pip install 'vmcorefs[codecs]'"
        ) from error


_CODECS: Final[dict[int, Callable[[], Decompress]]] = {
    0: _none,
    Flag.ZLIB: _zlib,
    Flag.LZO: _lzo,
    Flag.SNAPPY: _snappy,
    Flag.ZSTD: _zstd,
}
