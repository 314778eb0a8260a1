"""Putting pieces together."""

from __future__ import annotations

import os

from tests.builders.dumps import MemoryOutput
from vmcorefs.save.formats.append import Appender

KIB = 1 << 10


def test_small_pieces_are_put_together_up_to_multiples_of_the_unit() -> None:
    output = MemoryOutput()
    appender = Appender(output, 10, unit=16)

    for piece in (b"abc", b"defgh", b"ij", bytes(20)):
        appender.append(piece)

    assert (output.pieces, appender.written, appender.end) == ([(10, 6), (16, 16)], 32, 40)
    appender.flush()
    assert output.pieces[-1] == (32, 8)
    assert output.data == bytes(10) + b"abcdefghij" + bytes(20)


def test_a_large_piece_is_put_behind_a_small_one() -> None:
    output, large = MemoryOutput(), os.urandom(200 * KIB)
    appender = Appender(output, 0, unit=64 * KIB)

    appender.append(b"odd")
    appender.append(large)
    appender.flush()

    assert [size for _offset, size in output.pieces] == [64 * KIB, 128 * KIB, 8 * KIB + 3]
    assert output.data == b"odd" + large


def test_a_piece_may_change_as_soon_as_it_was_taken() -> None:
    for size in (5, 70 * KIB, 2048 * KIB + 5):
        output, piece = MemoryOutput(), bytearray(b"x" * size)
        appender = Appender(output, 0)
        appender.append(memoryview(piece))
        piece[:] = bytes(size)
        appender.flush()
        assert output.data == b"x" * size


def test_it_goes_on_elsewhere() -> None:
    output = MemoryOutput()
    appender = Appender(output, 0)
    appender.append(b"here")
    appender.move(100)
    appender.append(b"there")
    appender.flush()
    assert output.pieces == [(0, 4), (100, 5)]
