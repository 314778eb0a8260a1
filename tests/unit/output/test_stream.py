"""What goes down a pipe."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.matching import exactly
from vmcorefs.errors import DiskFullError, OutputError
from vmcorefs.output.stream import StreamTarget


def test_bytes_go_in_order_and_are_summed_on_the_way(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        target = StreamTarget("standard output", file.fileno())
        target.pwrite(b"ab", 0)
        target.pwrite(b"c", 2)
        target.sync()
        target.publish()
        with pytest.raises(ValueError, match="offset 0, but 3 bytes have been sent"):
            target.pwrite(b"x", 0)
    assert (tmp_path / "out").read_bytes() == b"abc"
    # FIPS 180-2, appendix B.1
    assert target.sha256(lambda: None) == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_nobody_asks_for_the_sum(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        target = StreamTarget("standard output", file.fileno(), hashed=False)
        target.pwrite(b"ab", 0)
        target.pwrite(b"c", 2)
    assert (tmp_path / "out").read_bytes() == b"abc"
    assert target.sha256(lambda: None) is None


def test_a_pipe_cannot_be_synced_and_that_is_no_error() -> None:
    reading, writing = os.pipe()
    StreamTarget("standard output", writing).sync()
    os.close(reading)
    os.close(writing)


def test_a_reader_that_goes_away_is_an_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    target = StreamTarget("standard output", writing)
    message = exactly("standard output: cannot write: Broken pipe")
    for offset in (0, 0, 3):  # who cleans up behind the first error may write there again
        with pytest.raises(OutputError, match=message):
            target.pwrite(b"abc", offset)
    os.close(writing)


def test_a_full_disk_is_told_from_other_errors() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(DiskFullError):
        StreamTarget("standard output", full.fileno()).pwrite(b"abc", 0)


def test_what_has_gone_cannot_be_called_back(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        target = StreamTarget("standard output", file.fileno())
        target.truncate(0)
        target.pwrite(b"abc", 0)
        with pytest.raises(OutputError, match="3 bytes have been sent"):
            target.truncate(0)
