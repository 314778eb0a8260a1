"""``oldmem`` is the physical address space: RAM, the backup over it, zeros elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.real.marks import REAL, only
from tests.real.trees import compare, is_zero, mounted
from tests.real.truth import Span, backup, crashed_ram, image_offset, spans

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.capture import Capture

pytestmark = REAL


def _without(whole: Span, ranges: list[Span]) -> list[Span]:
    """Return what sorted ``ranges`` leave of ``whole``."""
    edges = [whole[0], *(edge for span in ranges for edge in span), whole[1]]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [(start, end) for start, end in pairs if start < end]


def _check_image(capture: Capture, tree: Path, span: Span) -> None:
    start, end = span
    offset = image_offset(capture, start)
    assert compare(tree / "oldmem", start, capture.ram, offset, end - start) == (0, None), span


def test_holds_ram_where_the_machine_had_it(capture: Capture, tree: Path) -> None:
    saved = backup(capture)
    for start, end in crashed_ram(capture):
        if saved is not None and start <= saved[0] < end:
            for rest in _without((start, end), [saved]):
                _check_image(capture, tree, rest)
        else:
            _check_image(capture, tree, (start, end))


@only("kexec", "kexec-newer")
def test_low_memory_is_the_backup(capture: Capture, tree: Path) -> None:
    saved, lowmem = backup(capture), capture.lowmem
    assert saved is not None
    assert lowmem is not None
    start, end = saved
    assert compare(tree / "oldmem", start, lowmem, 0, end - start) == (0, None)
    # and the image is not: the capture kernel has run in it
    assert compare(tree / "oldmem", start, capture.ram, start, end - start) != (0, None)


def test_all_else_is_zeros_up_to_the_last_byte_of_ram(capture: Capture, tree: Path) -> None:
    oldmem = tree / "oldmem"
    size = spans(capture, "System RAM")[-1][1]
    assert oldmem.stat().st_size == size
    for start, end in _without((0, size), crashed_ram(capture)):
        assert is_zero(oldmem, start, end - start), (hex(start), hex(end))


@only("kexec")
def test_the_capture_kernels_memory_is_shown_when_asked_for(
    capture: Capture, tmp_path: Path
) -> None:
    with mounted(tmp_path, "--raw-reserved", capture.config) as tree:
        for span in spans(capture, "Crash kernel"):
            _check_image(capture, tree, span)
            assert not is_zero(tree / "oldmem", span[0], span[1] - span[0])
        assert compare(tree / "vmcore", 0, capture.vmcore, 0, 64 << 20) == (0, None)
