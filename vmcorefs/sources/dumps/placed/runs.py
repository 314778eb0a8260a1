"""Pages that lie in a stream with something between them, as a source: one behind the other."""

from __future__ import annotations

import numpy as np

from vmcorefs.core.space.ranges import Int64Array
from vmcorefs.errors import SourceIOError
from vmcorefs.sources.base import WithoutHoles, check_bounds
from vmcorefs.sources.input import File, Input

_AT_ONCE = 1 << 20  # bytes of the file


class RunsOfPages(WithoutHoles):
    """The pages of a stream, at their addresses.

    Attributes:
        name: The file's.
        origin: The file's.
        role: The file's.
        kind: The kind of source.
        size: One past the last address.
    """

    kind = "pages in a stream"

    def __init__(self, file: File, runs: Int64Array, page_size: int) -> None:
        """Prepare to read pages.

        Args:
            file: What has them; closed with this object.
            runs: Sorted, shape ``(n, 4)``: the address of a run's first page; pages in it; where
                that page is in the file; from one page to the next in the file, or 0 if each
                consists of the one byte there.
            page_size: Bytes in a page.
        """
        self.name, self.origin, self.role = file.name, file.origin, file.role
        self._file = file
        self._runs, self._page_size = runs, page_size
        self._start = np.ascontiguousarray(runs[:, 0])
        self.size = int((runs[:, 0] + runs[:, 1] * page_size).max(initial=0))

    @property
    def file(self) -> Input:
        """The file that everything is read from."""
        return self._file.file

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        """See ``Source.pread_into``."""
        check_bounds(self, offset, len(buffer), "its pages have")
        done = 0
        while done < len(buffer):
            row = max(int(self._start.searchsorted(offset + done, side="right")) - 1, 0)
            to, count, at, pitch = self._runs[row].tolist()
            inside = offset + done - to
            left = count * self._page_size - inside
            if inside < 0 or left <= 0:
                reason = "no page of the stream is there"
                raise SourceIOError(self.name, offset + done, len(buffer) - done, reason)
            most = _AT_ONCE // max(pitch, self._page_size) * self._page_size
            step = min(left, len(buffer) - done, most)
            try:
                self._read(at, pitch, inside, buffer[done : done + step])
            except SourceIOError as error:
                error.position = offset + done
                raise
            done += step

    def _read(self, at: int, pitch: int, inside: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with what is ``inside`` bytes behind the start of a run."""
        size = self._page_size
        if not pitch:
            byte = bytearray(1)
            self._file.pread_into(at, memoryview(byte))
            buffer[:] = bytes(byte) * len(buffer)
            return
        first, skipped = divmod(inside, size)
        pages = -(-(skipped + len(buffer)) // size)
        raw = bytearray(pages * pitch)
        self._file.pread_into(at + first * pitch, memoryview(raw)[: (pages - 1) * pitch + size])
        whole = np.frombuffer(raw, dtype=np.uint8).reshape(pages, pitch)[:, :size].reshape(-1)
        np.frombuffer(buffer, dtype=np.uint8)[:] = whole[skipped : skipped + len(buffer)]

    def close(self) -> None:
        """See ``Source.close``."""
        self._file.close()
