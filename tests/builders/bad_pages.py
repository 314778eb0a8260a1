"""Files of which single pages cannot be read, as those of a disk with bad sectors."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from vmcorefs.native import pages as native
from vmcorefs.sources.file import FileSource

PAGE = 4096

_real = FileSource._preadv  # the only place that reads files


@contextmanager
def bad_pages(path: Path, *pages: int) -> Iterator[set[int]]:
    """Let reads of these pages of a file be EIO; which pages were read is told.

    Args:
        path: The file.
        pages: Their numbers; a read that touches one fails whole.
    """
    bad, read, name = set(pages), set[int](), os.path.realpath(path)

    def preadv(self: FileSource, buffer: memoryview, offset: int) -> int:
        if os.path.realpath(self.name) == name:
            touched = range(offset // PAGE, -(-(offset + len(buffer)) // PAGE))
            read.update(touched)
            if not bad.isdisjoint(touched):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        return _real(self, buffer, offset)

    # machine code reads by itself, and leaves what fails to FileSource
    with patch.object(FileSource, "_preadv", preadv), patch.object(native, "is_built", bool):
        yield read
