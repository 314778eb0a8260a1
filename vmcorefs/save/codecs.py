"""How a page is compressed: by a library, each page by itself.

Codec, level and block format are makedumpfile's, so that whatever reads its dumps reads these
(makedumpfile.c, ``write_kdump_pages_cyclic``). Only zlib's are written by another library where it
is there: libdeflate at its level 2 takes two thirds of zlib's time, and what it writes is no bigger
than at the level 1 that makedumpfile takes.

A batch is compressed by ``native.pages`` where it has the codec, and otherwise page by page by a
Python package.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import repeat
from typing import Final

import msgspec

from vmcorefs.core.formats.kdump.descriptors import Flag
from vmcorefs.errors import UnsupportedError
from vmcorefs.native import pages as native
from vmcorefs.sources.dumps.page_codecs import load_library

Buffer = bytes | bytearray | memoryview
Compress = Callable[[Iterable[bytes]], Iterable[Buffer]]
"""Compresses pages, each by itself; what it gives of one may be longer than the page. The loop over
them is ``map``'s, in C: a dump has millions of pages."""

DEFAULT_CODEC: Final = "zlib"
"""Every reader knows it, and Python has it."""


class Codec(msgspec.Struct, frozen=True):
    """A way to compress pages.

    Attributes:
        name: ``zlib``, ``lzo``, ``snappy``, ``zstd`` or ``none``.
        flag: What a page's descriptor says of it.
        start: Gives a function that compresses pages, for one thread; None for ``none``, and where
            ``native.pages`` does it.
    """

    name: str
    flag: Flag
    start: Callable[[], Compress] | None


def find_codec(name: str) -> Codec:
    """The codec of that name.

    Raises:
        UnsupportedError: if there is none, or its library is not installed.
    """
    if name not in _CODECS:
        raise UnsupportedError(f"codec {name!r}: expected one of {', '.join(CODEC_NAMES)}")
    flag = _CODECS[name][0]
    if native.has_codec(flag):
        return Codec(name, flag, None)
    return python_codec(name)


def python_codec(name: str) -> Codec:
    """The codec of a Python package; the errors are those of ``find_codec``."""
    _flag, make = _CODECS[name]
    try:
        return make()
    except UnsupportedError as error:
        raise UnsupportedError(f"codec {name}: {error}; {DEFAULT_CODEC} needs no package") from None


def _none() -> Codec:
    return Codec("none", Flag(0), None)


def _zlib() -> Codec:
    try:
        deflate = importlib.import_module("deflate")
    except ImportError:
        return Codec("zlib", Flag.ZLIB, lambda: lambda pages: map(zlib.compress, pages, repeat(1)))
    compress = deflate.zlib_compress
    return Codec("zlib", Flag.ZLIB, lambda: lambda pages: map(compress, pages, repeat(2)))


def _lzo() -> Codec:
    # lzo1x_1, and python-lzo would put a header of its own in front of the block
    compress = load_library("lzo", "python-lzo").compress
    no_header = repeat(False)  # noqa: FBT003  # it takes no keywords
    return Codec("lzo", Flag.LZO, lambda: lambda pages: map(compress, pages, repeat(1), no_header))


def _snappy() -> Codec:
    compress = load_library("cramjam", "cramjam").snappy.compress_raw
    return Codec("snappy", Flag.SNAPPY, lambda: lambda pages: map(compress, pages))


def _zstd() -> Codec:
    zstandard = load_library("zstandard", "zstandard")
    # a compressor keeps tables and must not be shared between threads
    return Codec(
        "zstd", Flag.ZSTD, lambda: partial(map, zstandard.ZstdCompressor(level=1).compress)
    )


_CODECS: Final[Mapping[str, tuple[Flag, Callable[[], Codec]]]] = {
    "zlib": (Flag.ZLIB, _zlib),
    "lzo": (Flag.LZO, _lzo),
    "snappy": (Flag.SNAPPY, _snappy),
    "zstd": (Flag.ZSTD, _zstd),
    "none": (Flag(0), _none),
}

CODEC_NAMES = tuple(_CODECS)
