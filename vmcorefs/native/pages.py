"""Batches of pages in machine code: read, tested for zeros and compressed.

Each call works without the interpreter's lock, so that threads do not wait for one another. The
extension is built with vmcorefs where there is a compiler, and loads the libraries of the codecs
(liblzo2, libdeflate, libsnappy, libzstd) when a dump needs them. Where it or a library is missing,
``is_built`` or ``has_codec`` say so, and callers take Python's way, which gives the same bytes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

try:
    from vmcorefs.native import _pages
except ImportError:  # it is optional: there was no compiler
    _BUILT = False
else:
    _BUILT = True

UInt8Array = npt.NDArray[np.uint8]
UInt32Array = npt.NDArray[np.uint32]
Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def is_built() -> bool:
    """Whether the extension is there."""
    return _BUILT


def has_codec(flag: int) -> bool:
    """Whether pages can be compressed here.

    Args:
        flag: The codec's ``Flag`` in a kdump-compressed file.
    """
    return library_of(flag) is not None


def library_of(flag: int) -> str | None:
    """The path of the library that has a codec; None if it cannot be had."""
    if not is_built():
        return None
    try:
        return _pages.library(flag)
    except ImportError:
        return None


def find_zeros(pages: UInt8Array) -> BoolArray:
    """Which pages are nothing but zeros.

    Args:
        pages: Shape ``(n, page_size)``, C-contiguous.

    Returns:
        Shape ``(n,)``.
    """
    zero = np.empty(len(pages), dtype=np.bool_)
    _pages.find_zeros(pages, pages.shape[1], zero)
    return zero


def pack(
    flag: int, pages: UInt8Array, stored: BoolArray, out: UInt8Array
) -> tuple[int, UInt32Array]:
    """Compress pages, each by itself, one behind the other; as they are where that is no smaller.

    Args:
        flag: The codec's ``Flag``, for which ``has_codec``; 0 for none.
        pages: Shape ``(n, page_size)``, C-contiguous.
        stored: Which of them are wanted, shape ``(n,)``.
        out: Gets them; ``packed_size`` says how large it must be. For flag 0 it may be ``pages``.

    Returns:
        Bytes in ``out``, and of each page; 0 of one that is not wanted.
    """
    sizes = np.empty(len(pages), dtype=np.uint32)
    return _pages.pack(flag, pages, pages.shape[1], stored, out, sizes), sizes


def read_and_pack(
    flag: int,
    descriptor: int,
    offsets: Int64Array,
    counts: Int64Array,
    page_size: int,
    out: UInt8Array,
) -> tuple[int, UInt32Array] | None:
    """Read pages of a file, and ``pack`` those that are not zeros.

    Args:
        flag: As for ``pack``.
        descriptor: The file's.
        offsets: Where runs of pages begin in it, in bytes, shape ``(r,)``.
        counts: Pages in each run, shape ``(r,)``.
        page_size: Bytes in a page.
        out: As for ``pack``.

    Returns:
        Bytes in ``out``, and of each page, shape ``(n,)``: 0 of one that is zeros. None if a page
        cannot be read; what is in ``out`` is then undefined.
    """
    sizes = np.empty(int(counts.sum()), dtype=np.uint32)
    size = _pages.read_and_pack(flag, descriptor, offsets, counts, page_size, out, sizes)
    return (size, sizes) if size >= 0 else None


def packed_size(count: int, page_size: int) -> int:
    """Bytes that ``pack`` may need for ``count`` pages: a library may write more than a page."""
    return count * page_size + page_size // 4 + 256
