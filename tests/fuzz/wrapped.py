"""Compressed files and archives."""

from __future__ import annotations

from typing import cast
from unittest.mock import patch

from tests.builders.packed import FORMS
from tests.fuzz.target import target
from tests.unit.sources.wrappers.test_archives import tar, zipped
from vmcorefs.core.digests import Digest
from vmcorefs.sources.base import BytesSource
from vmcorefs.sources.identity import Identity
from vmcorefs.sources.input import File
from vmcorefs.sources.wrappers.unwrap import Unwrapping, unwrap

_MOST_READ = 1 << 20
_DATA = bytes(range(256)) * 40 + bytes(9000)


class _File(BytesSource):
    """A file in memory, as one that was opened."""

    kind = "file"
    identity = identity_now = Identity("0:0", 1, 2, 3, (4, 5))
    mtime = 0.0

    def __init__(self, data: bytes) -> None:
        super().__init__("image", data)
        self.digest: Digest | None = None
        self.wrappers: tuple[str, ...] = ()

    @property
    def file(self) -> _File:
        return self


@target(
    "wrapped",
    valid=[
        *(pack(_DATA) for _, pack in FORMS.values()),
        tar(("ram", _DATA)),
        zipped(("ram", _DATA)),
    ],
    nasty=[
        FORMS["gzip"][1](bytes(1 << 20)) * 3,
        FORMS["zstd"][1](FORMS["gzip"][1](bytes(1 << 20))),
        b"\x28\xb5\x2f\xfd\xa0" + b"\xff" * 7 + b"\xfb\xff\x0f\0" * 9,
        b"\x04\x22\x4d\x18\x60\x40\x82" + b"\xff\xff\0\0" * 20,
        b"\x89LZO\0\r\n\x1a\n" + b"\xff" * 300,
        b"\xfd7zXZ\0\0\4" + bytes(400) + b"YZ",
    ],
)
def _wrapped(data: bytes) -> None:
    with patch("vmcorefs.sources.wrappers.cache.cache_directory", lambda *_: None):
        file, _ = unwrap(cast(File, _File(data)), Unwrapping(truncated=True))
    try:
        size = min(file.size, _MOST_READ)
        for offset in {0, file.size - size}:
            buffer = bytearray(size)
            file.pread_into(offset, memoryview(buffer))
    finally:
        file.close()
