"""One guest in many formats: each opens to the same memory and the same vmcore, to the byte."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.builders.lime import pack_avml, pack_lime
from tests.builders.qemu import pack_libvirt, pack_mapped
from tests.real.guest_dump import migrate
from tests.real.marks import REAL, only
from vmcorefs import open as open_capture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.capture import Capture

pytestmark = REAL

_PIECE = 16 << 20


def _pieces(path: Path, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        for at in range(start, end, _PIECE):
            file.seek(at)
            yield at, file.read(min(_PIECE, end - at))


def _differ(image: Path, capture: Capture) -> int:
    """Pieces of 16 MiB that are not those of the raw memory, nor those of its vmcore."""
    different = 0
    # 5 GiB once are enough: what is above 4 GiB is in its place
    names = ("oldmem", "vmcore") if capture.recipe.memory == "1G" else ("oldmem",)
    with open_capture(image) as ours, open_capture(capture.ram) as raw:
        assert ours.image.missing.tolist() == []
        for name in names:
            here, there = ours[name], raw[name]
            assert here.size == there.size
            for at in range(0, here.size, _PIECE):
                size = min(_PIECE, here.size - at)
                different += here.pread(size, at) != there.pread(size, at)
    return different


@only("kexec", "file")
def test_a_stream_of_qemus_own(capture: Capture, scratch: Path) -> None:
    # above 4 GiB too, where the capture has 5 GiB
    stream = migrate(capture.ram, capture.recipe.memory_size, scratch / "stream")
    assert _differ(stream, capture) == 0


@only("kexec")
def test_the_formats_that_are_written_after_their_sources(capture: Capture, scratch: Path) -> None:
    ram, size = capture.ram, capture.recipe.memory_size
    with open_capture(ram) as raw:
        ranges = raw.image.memory_map.ram.tolist()
    image = scratch / "image"
    with image.open("wb") as file:
        for start, end in ranges:
            file.writelines(pack_lime([piece]) for piece in _pieces(ram, start, end))
    assert _differ(image, capture) == 0
    with image.open("wb") as file:
        for start, end in ranges:
            file.writelines(
                pack_avml([piece]) for piece in _pieces(ram, start, end) if any(piece[1])
            )
    assert _differ(image, capture) == 0
    image.write_bytes(pack_mapped(ram.read_bytes()[:size]))
    assert _differ(image, capture) == 0


@only("kexec")
def test_what_libvirt_puts_before_a_stream(capture: Capture, scratch: Path) -> None:
    stream = migrate(capture.ram, capture.recipe.memory_size, scratch / "stream", "pc")
    saved = scratch / "saved"
    saved.write_bytes(pack_libvirt(stream.read_bytes()))
    assert _differ(saved, capture) == 0
