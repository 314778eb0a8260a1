"""The pages of a kdump-compressed file, kept for a while once they are decompressed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.elf_dumps import save_dump
from tests.builders.kdumps import PAGE, Kdump, stamped_page
from tests.conftest import Opener
from vmcorefs.sources import pages
from vmcorefs.sources.pages import DumpPages


@pytest.fixture
def decompressed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the stored pages that are decompressed, in order; four are kept."""
    numbers: list[int] = []
    decompress = DumpPages._decompress

    def watched(source: DumpPages, first: int, end: int) -> list[bytes | bytearray]:
        numbers.extend(range(first, end))
        return decompress(source, first, end)

    monkeypatch.setattr(DumpPages, "_decompress", watched)
    monkeypatch.setattr(pages, "CACHE_SIZE", 4 * PAGE)
    return numbers


def test_the_pages_that_were_read_last_are_kept_and_no_others(
    tmp_path: Path, open_capture: Opener, decompressed: list[int]
) -> None:
    oldmem = open_capture(save_dump(tmp_path, Kdump(range(1, 21)).pack()))["oldmem"]

    def read(*numbers: int) -> list[int]:
        decompressed.clear()
        for number in numbers:  # never in order: nothing is read ahead
            assert oldmem.pread(PAGE, (1 + number) * PAGE) == stamped_page(1 + number)
        return decompressed

    assert read(19, 17, 15, 13, 11, 9) == [19, 17, 15, 13, 11, 9]
    assert read(15, 13, 11, 9) == []
    assert read(17) == [17]  # four are kept, so 15 had to go
    assert read(13, 7) == [7]  # and 11: nobody has asked for it as long
    assert read(13, 9, 17) == []
    assert read(11) == [11]
