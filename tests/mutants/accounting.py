"""Whether a tree gives the bytes that its ``layout.json`` accounts for, and no others.

The judge knows the format of ``layout.json`` (docs/layout.md) and reads the inputs itself: nothing
of vmcorefs is asked.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

Read = Callable[[str, int, int], bytes | None]
"""Reads a file of the tree: path, size, offset; None where that is an error."""

KINDS: Final = {"data", "zero", "hole", "missing", "excluded"}
_WINDOW: Final = 1 << 16
_MANY: Final = 24
"""Extents of a file that are looked at: the first, the last, and some between."""

Extent = dict[str, Any]


class UnaccountedError(AssertionError):
    """The tree gives what its layout does not account for."""


@dataclass
class Judge:
    """Compares a tree with its layout.

    Attributes:
        read: Reads a file of the tree.
        inputs: Directory in which every input of the capture lies.
        holes: What reading a hole of vmcore and oldmem gives: ``zero`` or ``error``.
        page: Bytes that an error spreads over: the page cache's page in a mount, otherwise 1.
        rng: Chooses what is looked at.
        is_packed: The image holds its memory compressed: its bytes are not compared, and those that
            cannot be unpacked are an error.
        looked_at: Bytes that were compared so far.
    """

    read: Read
    inputs: Path
    holes: str
    page: int
    rng: random.Random
    is_packed: bool = False
    looked_at: int = 0
    _opened: dict[str, int] = field(default_factory=dict)

    def judge(self, layout: bytes, sizes: Mapping[str, int | None]) -> None:
        """Check every file.

        Args:
            layout: ``layout.json``.
            sizes: Each file's size by its path, as the tree says it; None for one that cannot be
                made.

        Raises:
            UnaccountedError: naming the file and the byte.
        """
        files = json.loads(layout)["files"]
        if set(files) != set(sizes) - {"layout.json"}:
            raise UnaccountedError(f"layout.json has {sorted(files)}, the tree {sorted(sizes)}")
        try:
            for path, said in files.items():
                if said["size"] != sizes[path]:
                    raise UnaccountedError(f"{path}: {said['size']} bytes, not {sizes[path]}")
                if said["size"] is not None:
                    self._judge_file(path, said)
        finally:
            for descriptor in self._opened.values():
                os.close(descriptor)
            self._opened.clear()

    def _judge_file(self, path: str, said: Mapping[str, Any]) -> None:
        extents = said["extents"]
        at = 0
        for extent in extents:
            if extent["offset"] != at or extent["size"] <= 0 or extent["kind"] not in KINDS:
                raise UnaccountedError(f"{path}: at {at:#x} stands {extent}")
            at += extent["size"]
        if at != said["size"]:
            raise UnaccountedError(f"{path}: the extents end at {at:#x} of {said['size']:#x}")
        chosen = extents
        if len(extents) > _MANY:
            chosen = [extents[0], extents[-1], *self.rng.sample(extents, _MANY - 2)]
        faults = any(self._is_fault(path, extent) for extent in extents)
        for extent in chosen:
            for offset, size in self._windows(extent, cut=faults):
                self._judge_window(path, extent, offset, size)

    def _is_fault(self, path: str, extent: Extent) -> bool:
        kind = extent["kind"]
        return (
            kind == "missing"
            or (kind == "excluded" and path != "vmcore")
            or (kind == "hole" and (path == "kcore" or self.holes == "error"))
        )

    def _windows(self, extent: Extent, *, cut: bool) -> Iterator[tuple[int, int]]:
        """The ends of an extent and somewhere between; whole pages if some page may fail."""
        start, end = extent["offset"], extent["offset"] + extent["size"]
        if cut and extent["kind"] != "missing":
            start, end = -(-start // self.page) * self.page, end // self.page * self.page
        if start >= end:
            return
        size = min(_WINDOW, end - start)
        between = self.rng.randrange(start, end - size + 1)
        for at in sorted({start, end - size, between}):
            first = at if at in (start, end - size) else at // self.page * self.page
            yield max(first, start), size

    def _judge_window(self, path: str, extent: Extent, offset: int, size: int) -> None:
        got = self.read(path, size, offset)
        where = f"{path} [{offset:#x}, {offset + size:#x}) of {extent}"
        if self._is_fault(path, extent):
            if got is not None:
                raise UnaccountedError(f"{where}: read {got[:16].hex()}..., expected an error")
            return
        if got is None and self.is_packed and extent.get("from") == "image":
            return
        if got is None:
            raise UnaccountedError(f"{where}: an error, expected bytes")
        self.looked_at += size
        expected = self._expected(extent, offset, size)
        if len(got) != size and not self.is_packed:
            raise UnaccountedError(f"{where}: {len(got)} bytes")
        if expected is not None and got != expected:
            byte = next(n for n, (a, b) in enumerate(zip(got, expected, strict=True)) if a != b)
            raise UnaccountedError(
                f"{where}: {got[byte]:#x} at {offset + byte:#x}, not {expected[byte]:#x}"
            )

    def _expected(self, extent: Extent, offset: int, size: int) -> bytes | None:
        if extent["kind"] != "data":
            return bytes(size)
        if extent["from"] == "made" or self.is_packed:
            return None
        source = extent["source"]
        if source not in self._opened:
            if not Path(source).resolve().is_relative_to(self.inputs.resolve()):
                raise UnaccountedError(f"{source} is no input of the capture")
            self._opened[source] = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        start = extent["source_offset"] + offset - extent["offset"]
        return os.pread(self._opened[source], size, start)
