"""A stand-alone dump of s390 as an image, plain and extended, whole and cut."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from tests.builders.s390 import BLOCK, header, pack_extended, pack_s390
from tests.conftest import Opener
from tests.matching import same_bytes
from vmcorefs import Capture, ConfigError, FaultError, FormatError, TruncatedError, UnsupportedError

SIZE = 1 << 20
ENTRY = 1 << 16
RANDOM = random.Random(7)  # noqa: S311
SEGMENTS = [
    (0, bytes(range(256)) * 300 + bytes(BLOCK * 3)),  # 75 blocks and 3
    (0x40000, RANDOM.randbytes(3 * ENTRY // 2)),  # which does not shrink
    (0xA0000, b"kernel" * 8192),
]
MEMORY = bytearray(SIZE)
for _start, _data in SEGMENTS:
    MEMORY[_start : _start + len(_data)] = _data
DUMPS = {
    "plain": pack_s390(bytes(MEMORY)),
    "extended": pack_extended(SIZE, SEGMENTS),
    "compressed": pack_extended(SIZE, SEGMENTS, entry=ENTRY),
}

each = pytest.mark.parametrize("data", DUMPS.values(), ids=DUMPS.keys())


def opened(tmp_path: Path, open_capture: Opener, data: bytes, **options: object) -> Capture:
    (tmp_path / "dump").write_bytes(data)
    return open_capture(tmp_path / "dump", **options)


@each
def test_all_of_memory_is_there(tmp_path: Path, open_capture: Opener, data: bytes) -> None:
    capture = opened(tmp_path, open_capture, data)
    oldmem = capture["oldmem"]
    assert oldmem.size == SIZE
    same_bytes(oldmem.pread(SIZE, 0), bytes(MEMORY))
    same_bytes(oldmem.pread(0x1235, 0x4FFFF), bytes(MEMORY[0x4FFFF:0x51234]))
    assert capture.image.memory_map.ram.tolist() == [[0, SIZE]]
    head = bytes(capture["vmcore"].pread(64, 0))
    assert (head[:6], struct.unpack_from(">H", head, 18)) == (b"\x7fELF\2\2", (22,))


@each
@pytest.mark.parametrize("cut", range(1, 11))
def test_a_dump_that_is_cut_opens_up_to_there(
    tmp_path: Path, open_capture: Opener, data: bytes, cut: int
) -> None:
    short = data[: (len(data) - 16) * cut // 11]
    with pytest.raises(TruncatedError, match=r"dump: .* of memory are cut off, first"):
        opened(tmp_path, open_capture, short)
    oldmem = opened(tmp_path, open_capture, short, truncated=True)["oldmem"]
    lost = 0
    for at in range(0, SIZE, BLOCK):
        try:
            found = oldmem.pread(BLOCK, at)
        except FaultError:
            lost += 1
        else:
            same_bytes(found, bytes(MEMORY[at : at + BLOCK]), f"{at:#x}")
    assert 0 < lost < SIZE // BLOCK or (lost, cut) == (SIZE // BLOCK, 1)  # of one entry nothing


def test_another_machine_is_a_contradiction(tmp_path: Path, open_capture: Opener) -> None:
    with pytest.raises(ConfigError, match=r"the machine is given as 62, but .* is a stand-alone"):
        opened(tmp_path, open_capture, DUMPS["plain"], machine="x86_64")


def test_what_is_not_read_is_named(tmp_path: Path, open_capture: Opener) -> None:
    with pytest.raises(UnsupportedError, match="an architecture that is not read here"):
        opened(tmp_path, open_capture, header(SIZE, arch=1) + bytes(SIZE))
    several = bytearray(DUMPS["plain"])
    several[0x5C] = 1
    with pytest.raises(UnsupportedError, match="it is one of several volumes"):
        opened(tmp_path, open_capture, bytes(several))


@pytest.mark.parametrize(
    "segments",
    [
        [(0x1000, bytes(BLOCK)), (0, bytes(BLOCK))],
        [(0, bytes(BLOCK * 2)), (BLOCK, bytes(BLOCK))],
        [(SIZE, bytes(BLOCK))],
    ],
)
def test_segments_that_contradict_each_other(
    tmp_path: Path, open_capture: Opener, segments: list[tuple[int, bytes]]
) -> None:
    with pytest.raises(FormatError, match="dump: a segment of"):
        opened(tmp_path, open_capture, pack_extended(SIZE, segments))
