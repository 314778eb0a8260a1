"""What a disk may hold after a power cut, at any moment: no name and no header on it lies.

Between two syncs a disk may keep any of the blocks that are on their way to it, in any order, and
any name or none (fsync(2), rename(2)).
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.matching import same_bytes
from tests.save.driver import LOG, NAME, run
from vmcorefs.output import local

BLOCK = 4096
STATUS, INCOMPLETE_FLAG = 424, 0x8


@dataclass
class Disk:
    """Files of one directory, as they surely are, and what is on its way.

    Attributes:
        safe: Content by file, as of its last sync.
        names: Which file has which name, as of the directory's last sync.
        written: Writes since, by file: offset and data.
        renamed: Names since.
    """

    safe: dict[int, bytearray] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    written: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict)
    renamed: dict[str, int] = field(default_factory=dict)

    def write(self, file: int, offset: int, data: bytes) -> None:
        self.written.setdefault(file, []).append((offset, data))

    def sync(self, file: int) -> None:
        content = self.safe.setdefault(file, bytearray())
        for offset, data in self.written.pop(file, []):
            _put(content, offset, data)

    def sync_names(self) -> None:
        self.names = dict(self.renamed)

    def after_a_cut(self, chance: random.Random) -> dict[str, bytes]:
        """What may be there, by name."""
        names = self.renamed if chance.random() < 0.5 else self.names
        return {name: self._content(file, chance) for name, file in names.items()}

    def _content(self, file: int, chance: random.Random) -> bytes:
        content = bytearray(self.safe.get(file, b""))
        for offset, data in self.written.get(file, []):
            for at in range(0, len(data), BLOCK):
                if chance.random() < 0.5:
                    _put(content, offset + at, data[at : at + BLOCK])
        return bytes(content)


def _put(content: bytearray, offset: int, data: bytes) -> None:
    content.extend(bytes(max(offset - len(content), 0)))
    content[offset : offset + len(data)] = data


@contextmanager
def _watched(
    monkeypatch: pytest.MonkeyPatch, directory: Path, event: Callable[[Disk], None]
) -> Iterator[None]:
    """Have a disk follow what is done to ``directory``; ``event`` is called behind each step."""
    disk = Disk()
    pwrite, fsync, rename_to_new = os.pwrite, os.fsync, local._rename_to_new

    def see_names() -> None:
        disk.renamed = {entry.name: entry.inode() for entry in os.scandir(directory)}

    def watch_write(descriptor: int, data: Any, offset: int) -> int:
        count = pwrite(descriptor, data, offset)
        see_names()
        disk.write(os.fstat(descriptor).st_ino, offset, bytes(data[:count]))
        event(disk)
        return count

    def watch_sync(descriptor: int) -> None:
        fsync(descriptor)
        inode = os.fstat(descriptor).st_ino
        disk.sync_names() if inode == directory.stat().st_ino else disk.sync(inode)
        event(disk)

    def watch_rename(old: str, new: str) -> None:
        rename_to_new(old, new)
        see_names()
        event(disk)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", watch_write)
        patch.setattr(os, "fsync", watch_sync)
        patch.setattr(local, "_rename_to_new", watch_rename)
        yield


def test_after_a_power_cut_no_name_and_no_header_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "whole").mkdir()
    run(str(tmp_path / "whole" / NAME), resume=False)
    whole = (tmp_path / "whole" / NAME).read_bytes()
    directory = tmp_path / "crash"
    directory.mkdir()
    chance = random.Random(5)  # noqa: S311  # a test is to be the same each time
    seen = {"named": 0, "incomplete": 0, "complete": 0}

    def cut(disk: Disk) -> None:
        for _ in range(5):
            left = disk.after_a_cut(chance)
            if f"{NAME}-dmesg.txt" in left:
                assert left[f"{NAME}-dmesg.txt"] == LOG
            if NAME in left:
                seen["named"] += 1
                same_bytes(left[NAME], whole)
            dump = left.get(f"{NAME}.incomplete", b"")
            assert not dump or f"{NAME}-dmesg.txt" in left
            if len(dump) >= STATUS + 4 and dump[:8] == b"KDUMP   ":
                (status,) = struct.unpack_from("<I", dump, STATUS)
                seen["incomplete" if status & INCOMPLETE_FLAG else "complete"] += 1
                if not status & INCOMPLETE_FLAG:
                    same_bytes(dump, whole)

    with _watched(monkeypatch, directory, cut):
        run(str(directory / NAME), resume=False)
    same_bytes((directory / NAME).read_bytes(), whole)
    assert min(seen.values()) > 3, seen
