"""``oldmem``: the physical address space, byte by byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.dead_machines import (
    CRASH_KERNEL,
    HIGH,
    LOW,
    OVERWRITTEN,
    Saved,
    bare_machine,
    dead_machine,
    stamped,
)
from tests.conftest import Opener
from tests.matching import exactly, same_bytes
from vmcorefs import FaultError, Piece

# 0    1000      9fc00    100000     200000          2c0000    300000
# | -- | low     | ------ | high      | crash kernel  | high     |  end


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    return bare_machine().save(tmp_path)


def test_an_offset_is_a_physical_address_and_all_that_is_no_ram_is_zeros(
    saved: Saved, open_capture: Opener
) -> None:
    oldmem = open_capture(saved.ram, memory_map=saved.iomem, backup=saved.lowmem)["oldmem"]
    expected = bytearray(stamped(0, HIGH[1]))
    for start, end in ((0, LOW[0]), (LOW[1], HIGH[0]), CRASH_KERNEL):
        expected[start:end] = bytes(end - start)
    assert oldmem.size == HIGH[1]
    same_bytes(oldmem.pread(HIGH[1], 0), expected)


def test_without_a_backup_low_memory_is_what_the_image_has(
    saved: Saved, open_capture: Opener
) -> None:
    oldmem = open_capture(saved.ram, memory_map=saved.iomem)["oldmem"]
    assert oldmem.pread(32, LOW[0]) == stamped(LOW[0], LOW[0] + 32, OVERWRITTEN)


def test_a_read_at_the_end_is_short_and_behind_it_empty(saved: Saved, open_capture: Opener) -> None:
    oldmem = open_capture(saved.ram, memory_map=saved.iomem)["oldmem"]
    assert oldmem.pread(0x1000, HIGH[1] - 5) == stamped(HIGH[1] - 5, HIGH[1])
    assert oldmem.pread(0x1000, HIGH[1]) == b""
    assert oldmem.pread(1, HIGH[1] + 12345) == b""


def test_holes_can_be_made_errors_and_zeros_stay_zeros(saved: Saved, open_capture: Opener) -> None:
    oldmem = open_capture(saved.ram, memory_map=saved.iomem, holes="error")["oldmem"]
    for offset, size in ((0, 0x1000), (LOW[1], HIGH[0] - LOW[1])):
        with pytest.raises(
            FaultError,
            match=exactly(
                f"oldmem: no input holds [{offset:#x}, {offset + size:#x}) (hole, {size} bytes)"
            ),
        ):
            oldmem.pread(size, offset)
    assert oldmem.pread(64, CRASH_KERNEL[0]) == bytes(64)
    assert oldmem.pread(16, HIGH[0]) == stamped(HIGH[0], HIGH[0] + 16)


def test_the_crash_kernels_memory_is_shown_only_if_asked_for(
    saved: Saved, open_capture: Opener
) -> None:
    raw = open_capture(saved.ram, memory_map=saved.iomem, raw_reserved=True)["oldmem"]
    assert raw.pread(0x2000, CRASH_KERNEL[0] - 0x1000) == stamped(
        CRASH_KERNEL[0] - 0x1000, CRASH_KERNEL[0] + 0x1000
    )
    plain = open_capture(saved.ram, memory_map=saved.iomem)["oldmem"]
    assert plain.pread(0x2000, CRASH_KERNEL[0] - 0x1000) == stamped(
        CRASH_KERNEL[0] - 0x1000, CRASH_KERNEL[0]
    ) + bytes(0x1000)


def test_the_backup_region_itself_is_not_shown_twice(tmp_path: Path, open_capture: Opener) -> None:
    saved = dead_machine().save(tmp_path)
    oldmem = open_capture(saved.ram, memory_map=saved.iomem)["oldmem"]
    same_bytes(oldmem.pread(LOW[1] - LOW[0], LOW[0]), stamped(*LOW))
    assert not any(oldmem.pread(CRASH_KERNEL[1] - CRASH_KERNEL[0], CRASH_KERNEL[0]))


def test_two_pieces_of_one_file_are_shown_on_both_sides_of_the_hole(
    tmp_path: Path, open_capture: Opener
) -> None:
    ram, iomem = tmp_path / "ram", tmp_path / "iomem"
    ram.write_bytes(stamped(0, 0x8000))
    iomem.write_text("00000000-00003fff : System RAM\n100000000-100003fff : System RAM\n")
    pieces = [Piece(str(ram), 0, 0, 0x4000), Piece(str(ram), 1 << 32, 0x4000)]
    oldmem = open_capture(pieces, memory_map=iomem)["oldmem"]
    assert oldmem.size == (1 << 32) + 0x4000
    assert oldmem.pread(0x10, 0x3FF8) == stamped(0x3FF8, 0x4000) + bytes(8)
    assert oldmem.pread(0x10, (1 << 32) - 8) == bytes(8) + stamped(0x4000, 0x4008)


def test_it_ends_behind_the_last_byte_of_ram_whatever_is_reserved_there(
    tmp_path: Path, open_capture: Opener
) -> None:
    ram, iomem = tmp_path / "ram", tmp_path / "iomem"
    ram.write_bytes(stamped(0, 0x8000))
    iomem.write_text("00000000-00002ffe : System RAM\n00004000-00007fff : Reserved\n")
    oldmem = open_capture(ram, memory_map=iomem, crash_kernel=[(0x5000, 0x6000)])["oldmem"]
    assert oldmem.size == 0x2FFF
