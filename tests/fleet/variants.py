"""Dumps of other machines that crashed otherwise, made of a real one: a few MiB and some ms each.

Of a real ``/proc/vmcore`` the pages are kept that a report reads; in them is replaced, in place,
what tells one machine and one crash from another.
"""

from __future__ import annotations

import fcntl
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import vmcorefs
from tests.builders.dead_machines import PT_LOAD, PT_NOTE, Phdr, pack_elf
from vmcorefs.reports.report.gather import make_report
from vmcorefs.sources.file import FileSource

PAGE: Final = 4096
_HEAD: Final = 512 << 10
"""Bytes for the headers and the notes: a PT_LOAD for each run of pages."""

TITLE: Final = b"sysrq triggered crash"
"""What the lab's machines die of."""
HOST: Final = b"vmcorefs-lab"
_BASE: Final = ".original"
"""What variants in a directory share; no dump is named so."""
_FICLONE: Final = 0x40049409  # include/uapi/linux/fs.h
_CRASH_TIME: Final = b"CRASHTIME="
_PANIC: Final = b"Kernel panic - not syncing"


@dataclass(frozen=True)
class Variant:
    """A machine and its crash.

    Attributes:
        name: Of the file.
        host: Its name, of ``len(HOST)`` characters at most.
        time: When it crashed, in seconds since 1970: 10 digits.
        reason: Of its panic, of ``len(TITLE)`` characters.
        build: The last character of the release's number.
        has_title: Whether the log says that it panicked.
    """

    name: str
    host: str
    time: int
    reason: str
    build: str = ""
    has_title: bool = True


@dataclass
class Original:
    """A small dump, and where in it is what varies.

    Attributes:
        data: The dump.
        release: Of its kernel, up to the first letter.
        at: Offsets in it, by what is there.
    """

    data: bytes
    release: bytes
    at: dict[bytes, list[int]] = field(default_factory=dict)

    def find(self, what: bytes) -> list[int]:
        if what not in self.at:
            found, place = [], self.data.find(what)
            while place >= 0:
                found.append(place)
                place = self.data.find(what, place + 1)
            assert found, what
            self.at[what] = found
        return self.at[what]

    def make(self, variant: Variant, directory: Path) -> Path:
        """Write the dump of a variant.

        Where the file system can, what is the same in all of them is stored once (FICLONE, see
        ioctl_ficlonerange(2)): ten thousand take a few GiB there.
        """
        path = directory / variant.name
        base = directory / _BASE
        if not base.exists():
            base.write_bytes(self.data)
        with path.open("wb") as file, base.open("rb") as shared:
            try:
                fcntl.ioctl(file, _FICLONE, shared.fileno())
            except OSError:
                file.write(self.data)
            for at, content in self._patches(variant):
                file.seek(at)
                file.write(content)
        return path

    def _patches(self, variant: Variant) -> Iterator[tuple[int, bytes]]:
        """What is to be written where."""
        assert len(variant.host) <= len(HOST)
        assert len(variant.reason) == len(TITLE)
        for at in self.find(HOST):
            yield at, variant.host.encode().ljust(len(HOST), b"\0")
        for at in self.find(TITLE):
            yield at, variant.reason.encode()
        for at in self.find(_CRASH_TIME):
            yield at + len(_CRASH_TIME), f"{variant.time:010}".encode()
        if not variant.has_title:
            for at in self.find(_PANIC):
                yield at, b"x" * len(_PANIC)
        if variant.build:
            for at in self.find(self.release):
                yield at + len(self.release) - 1, variant.build.encode()


class _Load(NamedTuple):
    """A PT_LOAD, or a part of one."""

    offset: int
    vaddr: int
    paddr: int
    size: int

    def paddr_of(self, offset: int) -> int | None:
        """The physical address of a page of the file, if it is in here."""
        inside = 0 <= offset - self.offset < self.size
        return self.paddr + offset - self.offset if inside else None

    def runs(self, pages: set[int | None]) -> list[_Load]:
        """The parts of it that are among some pages, by their physical addresses."""
        runs: list[_Load] = []
        for at in range(0, self.size, PAGE):
            if self.paddr + at not in pages:
                continue
            size = min(PAGE, self.size - at)
            if runs and runs[-1].paddr + runs[-1].size == self.paddr + at:
                runs[-1] = runs[-1]._replace(size=runs[-1].size + size)
            else:
                runs.append(_Load(self.offset + at, self.vaddr + at, self.paddr + at, size))
        return runs


def make_original(vmcore: Path) -> Original:
    """Keep of a vmcore what a report of it reads."""
    touched = _pages_read(vmcore)
    with vmcore.open("rb") as file:
        head = file.read(PAGE * 16)
        (count,) = struct.unpack_from("<H", head, 56)
        heads = [struct.unpack_from("<IIQQQQQQ", head, 64 + 56 * n) for n in range(count)]
        ((at, size),) = [(one[2], one[5]) for one in heads if one[0] == PT_NOTE]
        file.seek(at)
        notes = file.read(size)
        old = [_Load(*one[2:6]) for one in heads if one[0] == PT_LOAD]
        # the kernel's own range is there twice (fs/proc/kcore.c, kexec-tools' crashdump-elf.c)
        pages = {load.paddr_of(page * PAGE) for load in old for page in touched} - {None}
        stored: dict[int, int] = {}
        data = bytearray(_HEAD)
        for paddr in sorted(page for page in pages if page is not None):
            load = next(load for load in old if 0 <= paddr - load.paddr < load.size)
            stored[paddr] = len(data)
            file.seek(load.offset + paddr - load.paddr)
            data += file.read(PAGE)
    note = Phdr(PT_NOTE, _HEAD - PAGE * (1 + len(notes) // PAGE), len(notes), p_paddr=0, p_flags=0)
    phdrs = [
        Phdr(PT_LOAD, stored[run.paddr], run.size, p_paddr=run.paddr, p_vaddr=run.vaddr)
        for load in old
        for run in load.runs(pages)
    ]
    packed = pack_elf([note, *phdrs])
    assert len(packed) < note.p_offset
    data[: len(packed)] = packed
    data[note.p_offset : note.p_offset + len(notes)] = notes
    (release,) = re.findall(rb"OSRELEASE=([0-9.-]*[0-9])", notes)
    return Original(bytes(data), release)


def _pages_read(vmcore: Path) -> set[int]:
    """The pages of the file, by number, that a report reads."""
    touched: set[int] = set()
    read = FileSource.pread_into

    def record(self: FileSource, offset: int, buffer: memoryview) -> None:
        touched.update(range(offset // PAGE, -(-(offset + len(buffer)) // PAGE)))
        read(self, offset, buffer)

    FileSource.pread_into = record  # type: ignore[method-assign]
    try:
        with vmcorefs.open(vmcore) as capture:
            make_report(capture.image)
    finally:
        FileSource.pread_into = read  # type: ignore[method-assign]
    return touched
