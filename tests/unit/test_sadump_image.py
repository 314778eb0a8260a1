"""A dump by sadump as an image: on one disk, on a set of them, and cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.dead_machines import HIGH
from tests.builders.encodings import machine
from tests.builders.sadump import BLOCK, pack_sadump
from tests.conftest import Opener
from tests.matching import same_bytes
from vmcorefs import Capture, FaultError, FormatError, TruncatedError

RAM = bytes(machine().memory)
PAGES = set(range(HIGH[0] // BLOCK, HIGH[1] // BLOCK))
LEFT_OUT = set(range(0x120, 0x130))
CUTS = (50, 51, 333)


def opened(tmp_path: Path, open_capture: Opener, disks: list[bytes], **options: object) -> Capture:
    names = [tmp_path / f"disk{number}" for number in range(len(disks))]
    for name, data in zip(names, disks, strict=True):
        name.write_bytes(data)
    return open_capture(names, **options)


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("cuts", [(), CUTS])
def test_pages_are_where_the_bitmaps_say(
    tmp_path: Path, open_capture: Opener, cuts: tuple[int, ...], version: int
) -> None:
    disks = pack_sadump(RAM, PAGES, PAGES - LEFT_OUT, cuts=cuts, version=version)
    oldmem = opened(tmp_path, open_capture, disks[::-1])["oldmem"]
    same_bytes(oldmem.pread(0x20000, HIGH[0]), RAM[HIGH[0] : 0x120000])
    same_bytes(oldmem.pread(HIGH[1] - 0x130000, 0x130000), RAM[0x130000 : HIGH[1]])
    for at in (0x120000, 0x12F000):
        with pytest.raises(FaultError, match="excluded"):
            oldmem.pread(1, at)


def test_disks_that_do_not_belong_together_are_refused(
    tmp_path: Path, open_capture: Opener
) -> None:
    disks = pack_sadump(RAM, PAGES, PAGES, cuts=CUTS)
    (alone,) = pack_sadump(RAM, PAGES, PAGES)
    strange = disks[1][:88] + b"\x09" * 32 + disks[1][120:]
    for given, message in (
        (disks[:3], "a set of 4 disks, of which 1, 2, 3 are given"),
        (disks[1:], "disk 2 of a set, whose first disk is not given"),
        ([disks[0], strange, *disks[2:]], "is of another set of disks"),
        ([disks[0], disks[1], disks[1], disks[3]], "of which 1, 2, 2, 4 are given"),
        ([alone, alone], "a dump on a disk of its own"),
    ):
        with pytest.raises(FormatError, match=message):
            opened(tmp_path, open_capture, given)


@pytest.mark.parametrize("cut", range(1, 11))
def test_a_disk_that_is_cut_opens_up_to_there(
    tmp_path: Path, open_capture: Opener, cut: int
) -> None:
    disks = pack_sadump(RAM, PAGES, PAGES, cuts=CUTS)
    last = disks[3]
    disks[3] = last[: BLOCK + (len(last) - BLOCK) * cut // 11]
    with pytest.raises(TruncatedError, match="of the dumped memory are cut off, first"):
        opened(tmp_path, open_capture, disks)
    capture = opened(tmp_path, open_capture, disks, truncated=True)
    end = HIGH[1] - (len(last) - len(disks[3]))
    assert capture.image.missing.tolist() == [[end, HIGH[1]]]
    same_bytes(capture["oldmem"].pread(end - HIGH[0], HIGH[0]), RAM[HIGH[0] : end])
    with pytest.raises(FaultError):
        capture["oldmem"].pread(1, end)


@pytest.mark.parametrize("at", [8, BLOCK + 40, 2 * BLOCK, 2 * BLOCK + 40])
def test_headers_that_cannot_be_true_are_refused(
    tmp_path: Path, open_capture: Opener, at: int
) -> None:
    disks = pack_sadump(RAM, PAGES, PAGES, cuts=CUTS)
    if at == 8:
        disks[0] = disks[0][:180] + b"\0" * 8 + disks[0][188:]
    else:
        disks[0] = disks[0][:at] + b"\xff" * 8 + disks[0][at + 8 :]
    if at == BLOCK + 40:  # behind what is read of the list of disks
        opened(tmp_path, open_capture, disks)
        return
    with pytest.raises(FormatError, match="disk0: "):
        opened(tmp_path, open_capture, disks)
