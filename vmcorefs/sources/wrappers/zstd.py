"""zstd: by its frames where they are short and say their sizes, else by a copy.

``zstd`` itself writes one frame. The seekable format, t2sz and pzstd write many.
"""

from __future__ import annotations

from typing import Any, Final

from vmcorefs.core.formats.compressed.zstd_frames import read_frames
from vmcorefs.errors import UnsupportedError
from vmcorefs.sources.base import read_at
from vmcorefs.sources.dumps.page_codecs import load_library
from vmcorefs.sources.input import File
from vmcorefs.sources.wrappers.blocks import open_copied, open_parts
from vmcorefs.sources.wrappers.decoder import Feed
from vmcorefs.sources.wrappers.seekable import Unwrapped
from vmcorefs.system.progress import Progress

WINDOW: Final = 128 << 20
"""Bytes before a place that a frame may refer to, as for ``zstd -d`` without ``--long``."""

LONGEST: Final = 32 << 20
"""Bytes of what is in the longest frame that is decompressed from its start at every jump."""

_READ = 128 << 10


def open_zstd(file: File, progress: Progress) -> Unwrapped:
    """Open a zstd file.

    Raises:
        UnsupportedError: if the package zstandard is not installed.
        SourceIOError: if it cannot be read.
        OutputError: if there is no room for a copy of what is in one long frame.
    """
    try:
        zstandard = load_library("zstandard", "zstandard")
    except UnsupportedError as error:
        raise UnsupportedError(f"{file.name}: compressed by zstd, and {error}") from error
    feed = Feed(file, 0)
    frames = read_frames(read_at(file), file.size)
    if frames.rows is None or max((size for _, size in frames.rows), default=0) > LONGEST:
        return open_copied(
            file,
            "zstd",
            lambda: _Frames(zstandard, feed),
            lambda: progress(feed.at, file.size),
            frames.damage,
        )
    places = [at for at, _ in frames.rows]
    ends = [*places[1:], file.size]

    def begin(row: int) -> _Frames:
        return _Frames(zstandard, Feed(file, places[row], ends[row]))

    sizes = [size for _, size in frames.rows]
    return open_parts(file, "zstd", [(at, 0) for at in places], sizes, begin)


class _Frames:
    """Frames one after another."""

    def __init__(self, zstandard: Any, feed: Feed) -> None:  # noqa: ANN401  # a compiled module
        self._error = zstandard.ZstdError
        decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW)
        self._reader = decompressor.stream_reader(feed, read_size=_READ, read_across_frames=True)

    def readinto(self, buffer: memoryview) -> int:
        """See ``Decoder.readinto``."""
        try:
            count: int = self._reader.readinto(buffer)
        except self._error as error:
            raise ValueError(str(error)) from error
        return count
