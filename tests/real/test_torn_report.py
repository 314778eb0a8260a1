"""A report of memory that contradicts itself: it ends, and says what it could not find out."""

from __future__ import annotations

import random
import zlib
from typing import TYPE_CHECKING

import pytest

import vmcorefs
from tests.real.marks import REAL, only
from vmcorefs.reports.report.gather import make_report
from vmcorefs.reports.report.text import format_report

if TYPE_CHECKING:
    from tests.lab.capture import Capture
    from vmcorefs.reader import Reader

pytestmark = REAL

_PAGE = 4096
_ONE_IN = 4  # pages
_WORDS = 24  # of such a page


def _tear(memory: Reader, seed: int, spared: range) -> None:
    """Overwrite words of some pages, always the same ones, but for pages in ``spared``."""
    whole = memory.pread_into

    def pread_into(offset: int, buffer: memoryview) -> None:
        whole(offset, buffer)
        first, last = offset // _PAGE, (offset + len(buffer) - 1) // _PAGE
        for page in range(first, last + 1):
            chance = random.Random(zlib.crc32(f"{seed} {page}".encode()))  # noqa: S311
            if chance.randrange(_ONE_IN) or page in spared:
                continue
            for _ in range(_WORDS):
                word = chance.choice([bytes(8), b"\xff" * 8, chance.randbytes(8)])
                at = page * _PAGE + chance.randrange(0, _PAGE, 8) - offset
                for index, byte in enumerate(word, at):
                    if 0 <= index < len(buffer):
                        buffer[index] = byte

    memory.pread_into = pread_into  # type: ignore[method-assign]


@only("kexec")
@pytest.mark.parametrize("seed", range(6))
def test_it_ends_and_says_what_it_could_not_find_out(capture: Capture, seed: int) -> None:
    with vmcorefs.open(capture.config) as opened:
        kernel = opened.image.kernel
        assert kernel is not None
        assert kernel.text is not None
        _, start, size = kernel.text
        # with and without its types
        image = range(start // _PAGE, (start + size) // _PAGE) if seed % 2 else range(0)
        _tear(kernel.memory, seed, image)
        report = make_report(opened.image)

    assert report.crash.title == "kernel panic: sysrq triggered crash"  # it was read before
    assert report.unknown
    assert len(format_report(report)) > 5
