"""Bytes that were made, as a source."""

from __future__ import annotations

import pytest

from tests.matching import exactly
from vmcorefs.errors import SourceIOError
from vmcorefs.sources.base import BytesSource


def test_made_bytes_are_read_by_position() -> None:
    source = BytesSource("headers", b"0123456789")
    buffer = bytearray(b"......")
    source.pread_into(6, memoryview(buffer)[1:5])
    assert buffer == b".6789."
    assert (source.name, source.role, source.size) == ("headers", "made", 10)


@pytest.mark.parametrize("offset", [7, 10, 11, -1])
def test_reading_beyond_made_bytes_is_an_error(offset: int) -> None:
    with pytest.raises(
        SourceIOError,
        match=exactly(f"headers: cannot read 4 bytes at offset {offset:#x}: it has 10 bytes"),
    ):
        BytesSource("headers", b"0123456789").pread_into(offset, memoryview(bytearray(4)))
