"""Members of tar and zip archives: ``ARCHIVE/MEMBER``, or the only one there is."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from bisect import bisect_right
from collections.abc import Iterator
from typing import TypeVar

from vmcorefs.errors import ConfigError, FormatError, SourceIOError, UnsupportedError
from vmcorefs.sources.base import Source, check_bounds
from vmcorefs.sources.input import File, Input
from vmcorefs.sources.wrappers.gzip import open_deflated
from vmcorefs.sources.wrappers.inflate import RAW
from vmcorefs.system.progress import Progress

_MOST = 1 << 16
"""Members of an archive that are looked at."""

_MAX_READ = 64 << 20
_SHOWN = 8
_LOCAL = struct.Struct("<4s5H3L2H")
_ENCRYPTED = 1

T = TypeVar("T")
Run = tuple[int, int, int]
"""Where a run of bytes is in a member, how long it is, and where it is in the archive."""


class Member:
    """A member that is not compressed; what no run of a sparse one has is zeros.

    Attributes:
        name: The archive's and its own.
        origin: The same, with the archive's absolute path.
        role: The archive's.
        kind: What it is in.
        size: Bytes in it.
        damage: Empty; see ``Unwrapped``.
    """

    damage = ""

    def __init__(self, archive: File, kind: str, name: str, size: int, runs: list[Run]) -> None:
        """Read a member.

        Args:
            archive: Closed with this object.
            kind: What the archive is called.
            name: The member's.
            size: Bytes in it.
            runs: What it has, in order.

        Raises:
            FormatError: if it is not within the archive, or contradicts itself.
        """
        self.name, self.role = f"{archive.name}/{name}", archive.role
        self.origin = f"{archive.origin}/{name}"
        self.kind, self.size = kind, size
        self._archive, self._runs = archive, [run for run in runs if run[1]]
        self._starts = [start for start, _, _ in self._runs]
        reach = 0
        for start, length, at in self._runs:
            if start < reach or start + length > size or at + length > archive.size:
                raise FormatError(f"{self.name}: it ends past the end of the {kind}, or of itself")
            reach = start + length

    @property
    def file(self) -> Input:
        """The file that all of its bytes come from."""
        return self._archive.file

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        """See ``Source.pread_into``."""
        check_bounds(self, offset, len(buffer))
        done, end = offset, offset + len(buffer)
        while done < end:
            held, until, at = self._at(done)
            part = buffer[done - offset : min(until, end) - offset]
            if held:
                self._read(at, part, done)
            else:
                part[:] = bytes(len(part))
            done += len(part)

    def _read(self, at: int, part: memoryview, position: int) -> None:
        try:
            self._archive.pread_into(at, part)
        except SourceIOError as error:
            error.position = position
            raise

    def _at(self, offset: int) -> tuple[bool, int, int]:
        """Whether a run has a byte, up to where that is so, and where it is in the archive."""
        row = bisect_right(self._starts, offset) - 1
        if row >= 0:
            start, length, at = self._runs[row]
            if offset < start + length:
                return True, start + length, at + offset - start
        return False, self._starts[row + 1] if row + 1 < len(self._starts) else self.size, 0

    def is_hole(self, offset: int, size: int) -> bool:
        """See ``Source.is_hole``."""
        held, until, _ = self._at(offset)
        return not held and until >= offset + size

    def next_data(self, offset: int, end: int) -> int:
        """See ``Source.next_data``."""
        held, until, _ = self._at(offset)
        return offset if held else min(until, end)

    def close(self) -> None:
        """See ``Source.close``."""
        self._archive.close()


def open_tar(file: File, wanted: str, progress: Progress) -> File:
    """Open a member of a tar archive.

    Args:
        file: The archive.
        wanted: The member's name; empty for the only one.
        progress: Not told: only headers are read.

    Raises:
        ConfigError: if there is no such member, or no only one.
        FormatError: if the archive is damaged before it.
        SourceIOError: if it cannot be read.
    """
    del progress
    try:
        # its errors are also those of numbers that cannot be read
        with tarfile.TarFile(fileobj=_Stream(file)) as archive:
            found = _choose(file, "tar", wanted, _tar_members(archive))
            sparse = getattr(found, "sparse", None)
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise FormatError(f"{file.name}: a tar archive that cannot be read: {error}") from error
    if sparse is None:
        return Member(file, "tar", found.name, found.size, [(0, found.size, found.offset_data)])
    runs, at = [], found.offset_data
    for start, length in sparse:
        runs.append((start, length, at))
        at += length
    return Member(file, "tar", found.name, found.size, runs)


def open_zip(file: File, wanted: str, progress: Progress) -> File:
    """Open a member of a zip archive, stored or deflated; as ``open_tar``.

    Raises:
        UnsupportedError: if it is encrypted, or compressed by something else.
    """
    try:
        with zipfile.ZipFile(_Stream(file)) as archive:
            found = _choose(file, "zip", wanted, _zip_members(archive))
        header = _Stream(file).at(found.header_offset, _LOCAL.size)
        _, _, flags, *_, name, extra = _LOCAL.unpack(header)
    except NotImplementedError as error:  # of a version, or an encryption, that zipfile lacks
        raise UnsupportedError(f"{file.name}: a zip archive that is not read: {error}") from error
    except (zipfile.BadZipFile, ValueError, struct.error) as error:
        raise FormatError(f"{file.name}: a zip archive that cannot be read: {error}") from error
    at = found.header_offset + _LOCAL.size + name + extra
    packed = Member(
        file, "zip", found.filename, found.compress_size, [(0, found.compress_size, at)]
    )
    if flags & _ENCRYPTED:
        raise UnsupportedError(f"{packed.name}: it is encrypted: take it out of the zip first")
    if found.compress_type == zipfile.ZIP_STORED:
        return packed
    if found.compress_type != zipfile.ZIP_DEFLATED:
        raise UnsupportedError(
            f"{packed.name}: compressed by method {found.compress_type} of zip, expected deflate"
        )
    return open_deflated(packed, "zip", RAW, progress)


def _tar_members(archive: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # it would keep all of them
        if member.isreg() or member.issparse():
            yield member.name, member


def _zip_members(archive: zipfile.ZipFile) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    for member in archive.infolist():
        if not member.is_dir():
            yield member.filename, member


def _choose(file: File, kind: str, wanted: str, members: Iterator[tuple[str, T]]) -> T:
    """The member that is wanted.

    Raises:
        ConfigError: if there is none, or several where only one is expected.
    """
    found: list[tuple[str, T]] = []
    for number, (name, member) in enumerate(members):
        if number == _MOST:
            raise ConfigError(f"{file.name}: a {kind} archive of more than {_MOST} members")
        if wanted and name.removeprefix("./") == wanted:
            return member
        found.append((name, member))
    if not wanted and len(found) == 1:
        return found[0][1]
    names = ", ".join(repr(name) for name, _ in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    what = f"no member {wanted!r}" if wanted else "not one member"
    raise ConfigError(
        f"{file.name}: a {kind} archive with {what}, but {names or 'none'}{more}; name one, as"
        f" in {file.name}/MEMBER"
    )


class _Stream(io.RawIOBase):
    """A source as Python's modules read it."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source, self._place = source, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = (0, self._place, self._source.size)[whence]
        self._place = max(base + offset, 0)
        return self._place

    def read(self, size: int = -1) -> bytes:
        left = max(self._source.size - self._place, 0)
        count = left if size < 0 else min(size, left)
        data = self.at(self._place, count)
        self._place += count
        return data

    def at(self, offset: int, size: int) -> bytes:
        """The bytes there; ValueError if they are more than a header can have."""
        if size > _MAX_READ:
            raise ValueError(f"a header of {size} bytes")
        buffer = bytearray(size)
        self._source.pread_into(offset, memoryview(buffer))
        return bytes(buffer)
