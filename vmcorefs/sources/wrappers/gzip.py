"""gzip and zlib data, and raw deflate in a zip archive: an index of places between its blocks.

As zlib's examples/zran.c shows, inflate can go on between two deflate blocks, given the 32 KiB
before. Where a new member of a gzip file begins (BGZF has one for each 64 KiB), it needs nothing.
"""

from __future__ import annotations

import zlib

from vmcorefs.sources.input import File
from vmcorefs.sources.wrappers.cache import cached_index
from vmcorefs.sources.wrappers.decoder import Feed
from vmcorefs.sources.wrappers.inflate import BLOCK, GZIP, NO_FLUSH, RAW, ZLIB, Inflate
from vmcorefs.sources.wrappers.records import Index, IndexWriter
from vmcorefs.sources.wrappers.seekable import Unwrapped
from vmcorefs.system.progress import Progress

SPACING = 1 << 20
"""Decompressed bytes between two places of an index, as long as there are few of them."""

_MOST = 8192
_TRAILER = 8
_AT_START = 8
"""In place of a count of bits: a header follows."""

_MAGIC = b"\x1f\x8b"
_SCRATCH = 256 << 10


def open_gzip(file: File, progress: Progress) -> Unwrapped:
    """Open a gzip file; see ``open_deflated``."""
    return open_deflated(file, "gzip", GZIP, progress)


def open_zlib(file: File, progress: Progress) -> Unwrapped:
    """Open a zlib stream; see ``open_deflated``."""
    return open_deflated(file, "zlib", ZLIB, progress)


def open_deflated(
    file: File, kind: str, form: int, progress: Progress, end: int | None = None
) -> Unwrapped:
    """Open compressed data, with a kept index or a new one.

    Args:
        file: What it is all of, up to ``end``.
        kind: What it is called.
        form: As for ``Inflate``.
        progress: Told how far making an index is, in compressed bytes.
        end: One past its last byte; None for the end of the file.

    Raises:
        SourceIOError: if it cannot be read.
    """
    size = file.size if end is None else end
    index = cached_index(file, f"{kind}/1", lambda new: _Scan(file, form, size, new).run(progress))
    return Unwrapped(file, kind, index, lambda row: DeflateDecoder(file, form, size, index, row))


class _Scan:
    """One pass over compressed data, which makes its index."""

    def __init__(self, file: File, form: int, end: int, new: IndexWriter) -> None:
        self._form, self._end, self._new = form, end, new
        self._feed = Feed(file, 0, end, 1 << 20)
        self._inflate = Inflate(form)
        self._done, self._last, self._spacing = 0, 0, SPACING
        self._scratch = memoryview(bytearray(_SCRATCH))

    def run(self, progress: Progress) -> Index:
        self._new.add(0, 0, _AT_START)
        damage, told = "", 0
        try:
            while True:
                view = self._feed.view()
                if not len(view):
                    damage = "" if self._inflate.ended else "it is cut off"
                    break
                if not self._step(view):
                    break
                if self._feed.at >= told:
                    progress(self._feed.at, self._end)
                    told = self._feed.at + (1 << 20)
        except ValueError as error:
            damage = f"it is damaged at {self._feed.at:#x}: {error}"
        return self._new.finish(self._done, damage)

    def _step(self, view: memoryview) -> bool:
        """Decompress a little; whether more may follow."""
        inflate = self._inflate
        if inflate.ended and not self._begin_member():
            return False
        due = self._done - self._last >= self._spacing
        taken, made = inflate.run(self._feed.view(), self._scratch, BLOCK if due else NO_FLUSH)
        self._feed.take(taken)
        self._done += made
        if due and inflate.at_block:
            self._add(inflate.unused_bits, zlib.compress(inflate.window(), 1))
        return True

    def _begin_member(self) -> bool:
        """Go on with the next member of a gzip file; whether there is one."""
        if self._form != GZIP or self._feed.peek(2) != _MAGIC:
            return False  # gzip ignores anything else, often zeros up to the end of a block
        if self._done - self._last >= self._spacing:
            self._add(_AT_START, b"")
        self._inflate.reset(self._form)
        return True

    def _add(self, bits: int, record: bytes) -> None:
        if len(self._new) >= _MOST:
            self._new.thin_out()
            self._spacing *= 2
        self._new.add(self._done, self._feed.at, bits, record)
        self._last = self._done


class DeflateDecoder:
    """Compressed data from a place of its index on."""

    def __init__(self, file: File, form: int, end: int, index: Index, row: int) -> None:
        at, bits = int(index.at[row]), int(index.bits[row])
        self._form = form
        self._raw = bits != _AT_START
        self._inflate = Inflate(RAW if self._raw else form)
        if self._raw:
            first = Feed(file, at - 1, end, 1).read() if bits else b"\0"
            self._inflate.resume(zlib.decompress(index.record(row)), bits, first[0])
        self._feed = Feed(file, at, end)

    def readinto(self, buffer: memoryview) -> int:
        """See ``Decoder.readinto``."""
        done = 0
        while done < len(buffer):
            if self._inflate.ended and not self._begin_member():
                break
            view = self._feed.view()
            if not len(view):
                break
            taken, made = self._inflate.run(view, buffer[done:])
            self._feed.take(taken)
            done += made
        return done

    def _begin_member(self) -> bool:
        """Go on with the next member of a gzip file; whether there is one."""
        if self._form != GZIP:
            return False
        if self._raw:
            self._feed.take(_TRAILER)
        if self._feed.peek(2) != _MAGIC:
            return False
        self._raw = False
        self._inflate.reset(GZIP)
        return True
