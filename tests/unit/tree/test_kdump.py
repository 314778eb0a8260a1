"""``vmcore.kdump``, read back by ``struct`` alone."""

from __future__ import annotations

from pathlib import Path

from tests.builders.every_kind import CACHE, FREE, RAM, USER, dead_kernel, page
from tests.builders.kernels import MIB
from tests.conftest import Opener
from tests.oracles.kdump_reader import KdumpFile

PAGE = 4096
FRONT = 3 * MIB // 2


def read(tmp_path: Path, open_capture: Opener, level: int) -> KdumpFile:
    ram = dead_kernel().save(tmp_path / "ram")
    file = open_capture(ram, dump_level=level)["vmcore.kdump"]
    return KdumpFile(file.pread(file.size, 0))


def test_it_has_the_pages_that_the_level_keeps(tmp_path: Path, open_capture: Opener) -> None:
    dump = read(tmp_path, open_capture, 16 | 8)
    ram, stored = dump.bitmaps
    assert ram == {pfn for start, end in RAM for pfn in range(start // PAGE, -(-end // PAGE))}
    free = set(range(FREE * 256, FREE * 256 + 2048))
    user = set(range(USER * 256, USER * 256 + 2048))
    poisoned = {96 * 256}
    assert ram - stored == free | user | poisoned
    assert dump.status == 0
    assert dump.sub(8, "i") == 24  # dump_level
    for pfn in (CACHE * 256, CACHE * 256 + 77, (CACHE + 8) * 256 - 1):
        assert dump.page(pfn) == page(pfn)


def test_a_page_that_is_ram_in_part_is_there_as_the_image_has_it(
    tmp_path: Path, open_capture: Opener
) -> None:
    kernel = dead_kernel()
    kernel.put(0x9F000, b"r" * PAGE)
    ram = kernel.save(tmp_path / "ram")
    file = open_capture(ram, dump_level=31)["vmcore.kdump"]
    dump = KdumpFile(file.pread(file.size, 0))
    assert dump.page(0x9F) == b"r" * PAGE


def test_it_can_be_read_from_anywhere(tmp_path: Path, open_capture: Opener) -> None:
    ram = dead_kernel().save(tmp_path / "ram")
    file = open_capture(ram, dump_level=31)["vmcore.kdump"]
    whole = file.pread(FRONT, 0)
    for start, size in ((1, 7), (4095, 8195), (12345, 100_001), (70_001, 300_007)):
        assert file.pread(size, start) == whole[start : start + size]


def test_pages_can_be_mapped_and_there_is_none_without_a_level(
    tmp_path: Path, open_capture: Opener
) -> None:
    dump = read(tmp_path, open_capture, 31)
    assert {offset % PAGE for offset, _size, _flags in dump.rows.values()} == {0}
    assert "vmcore.kdump" not in open_capture(tmp_path / "ram").files
