"""The saved low memory: where it belongs, and whether it was saved."""

from __future__ import annotations

import pytest

from tests.builders.dead_machines import EM_PPC64, EM_X86_64, stamped
from tests.builders.memory import reader_of
from tests.matching import exactly
from vmcorefs.core.maps.memory_map import MemoryMap, make_memory_map
from vmcorefs.core.maps.regions import Region
from vmcorefs.discovery.crash_kernel.backup import (
    backup_in_image,
    check_size,
    compare,
    expected_range,
)
from vmcorefs.errors import ConfigError, FaultError, LayoutError
from vmcorefs.reader import Reader

MOVED = (0x1000, 0x2000, 0x80400)
"""Physical address, size, and where the elfcorehdr says that the bytes are."""


def map_of(*ram: tuple[int, int]) -> MemoryMap:
    return make_memory_map((Region(*span, "System RAM") for span in ram), "test")


PC = map_of((0x1000, 0x9FC00), (0x100000, 0x4000000))


@pytest.mark.parametrize(
    ("moved", "machine", "expected"),
    [
        (MOVED, EM_X86_64, (0x1000, 0x3000)),
        (MOVED, EM_PPC64, (0x1000, 0x3000)),
        (None, EM_X86_64, (0x1000, 0x9FC00)),
        (None, EM_PPC64, (0, 0x10000)),
        (None, 8, (0, 0x100000)),
    ],
)
def test_the_elfcorehdr_is_believed_first_then_the_architecture_then_the_map(
    moved: tuple[int, int, int] | None, machine: int, expected: tuple[int, int]
) -> None:
    assert expected_range(moved, PC, machine) == expected


def test_a_ram_range_that_ends_at_640_kib_exactly_is_low_memory() -> None:
    memory_map = map_of((0, 0xA0000), (0x100000, 0x200000))
    assert expected_range(None, memory_map, EM_X86_64) == (0, 0xA0000)


def test_without_low_ram_the_place_must_be_given() -> None:
    with pytest.raises(
        ConfigError,
        match=exactly(
            "the map has no RAM range that ends at or below 640 KiB, so the backup's place must be"
            " given: --backup FILE@PADDR"
        ),
    ):
        expected_range(None, map_of((0, 0xA0001)), EM_X86_64)


@pytest.mark.parametrize("size", [0x9EC00, 0x9EC01, 0x9F000])
def test_a_backup_may_be_rounded_up_to_1_kib_as_kexec_allocates_it(size: int) -> None:
    check_size("low", 0x9F000, 0x1000, 0x1000 + 0x9F000)
    check_size("low", -(-size // 1024) * 1024, 0x1000, 0x1000 + size)


@pytest.mark.parametrize("size", [0, 1, 0x9EBFF, 0x9EC01, 0x9F000, 0xA0000])
def test_a_backup_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(
        LayoutError,
        match=exactly(
            f"low: {size} bytes, but the backup region [0x1000, 0x9fc00) has 650240; if it belongs"
            " elsewhere, give its address: --backup low@PADDR"
        ),
    ):
        check_size("low", size, 0x1000, 0x9FC00)


def test_the_backup_in_the_image_stands_for_low_memory() -> None:
    memory = reader_of((0, bytes(0x1000)), (0x80000, stamped(0x80000, 0x83000)))
    backup, why_not = backup_in_image(memory, MOVED)
    assert why_not == ""
    assert backup is not None
    assert (backup.start, backup.end) == (0x1000, 0x3000)
    assert backup.origin == "the backup region at [0x80400, 0x82400)"
    low = Reader("low", backup.extents, memory.sources)
    assert low.pread(0x2000, 0x1000) == stamped(0x80400, 0x82400)


def test_a_backup_that_was_never_filled_is_not_used() -> None:
    memory = reader_of((0, stamped(0, 0x80400)), (0x80400, bytes(0x2000)), (0x82400, b"x"))
    assert backup_in_image(memory, MOVED) == (
        None,
        (
            "the backup region at [0x80400, 0x82400) was never filled: low memory is used as it is"
            " in the image"
        ),
    )


def test_one_byte_is_enough_for_a_filled_backup() -> None:
    memory = reader_of((0x80400, bytes(0x1FFF) + b"\1"))
    assert backup_in_image(memory, MOVED)[0] is not None


def test_a_backup_that_the_image_does_not_hold_is_a_fault() -> None:
    with pytest.raises(FaultError):
        backup_in_image(reader_of((0x80400, stamped(0, 0x1FFF))), MOVED)


def given(data: bytes, paddr: int = 0x1000) -> Reader:
    return reader_of((paddr, data))


def test_a_given_backup_that_is_the_images_own_is_no_news() -> None:
    memory = reader_of((0x80400, stamped(0, 0x2000)))
    assert compare(memory, MOVED, given(stamped(0, 0x2000))) == ""


def test_a_given_backup_that_differs_is_told_with_the_number_of_bytes() -> None:
    other = bytearray(stamped(0, 0x2000))
    other[0] ^= 1
    other[0x1FFF] ^= 1
    memory = reader_of((0x80400, stamped(0, 0x2000)))
    assert compare(memory, MOVED, given(bytes(other))) == (
        "the given backup differs in 2 bytes from the backup region in the image at"
        " [0x80400, 0x82400); the given one is used"
    )


@pytest.mark.parametrize("image", [(0x80400, bytes(0x2000)), (0x80400, b"too short")])
def test_without_a_filled_backup_in_the_image_there_is_nothing_to_compare(
    image: tuple[int, bytes],
) -> None:
    assert compare(reader_of(image), MOVED, given(stamped(0, 0x2000))) == ""
