"""Another process's memory (proc(5)): its mappings, and reading them."""

from __future__ import annotations

import errno
import re
import socket
from pathlib import Path
from typing import Final

import msgspec

from vmcorefs.errors import ConfigError
from vmcorefs.sources.file import FileSource

_MAPPING: Final = re.compile(
    rb"(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) (?P<mode>[rwxps-]{4}) (?P<offset>[0-9a-f]+)"
    rb" (?P<device>[0-9a-f]+:[0-9a-f]+) (?P<inode>[0-9]+) *(?P<name>.*)"
)


class Mapping(msgspec.Struct, frozen=True):
    """A mapping of a process.

    Attributes:
        start: Its first address.
        end: One past the last.
        is_writable: Whether the process may write to it.
        file: A path that leads to the file that is mapped, and shared; empty if there is none.
        offset: Where ``start`` lies in that file.
    """

    start: int
    end: int
    is_writable: bool
    file: str = ""
    offset: int = 0

    @property
    def size(self) -> int:
        """Bytes in it."""
        return self.end - self.start


def list_mappings(pid: int) -> list[Mapping]:
    """The mappings of a process, in order of address.

    Raises:
        ConfigError: if they cannot be read.
    """
    try:
        lines = Path(f"/proc/{pid}/maps").read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"process {pid}: cannot read its mappings: {error.strerror}") from error
    found = []
    for row in filter(None, map(_MAPPING.fullmatch, lines)):
        start, end = int(row["start"], 16), int(row["end"], 16)
        is_shared = row["mode"].endswith(b"s") and int(row["inode"]) != 0
        # the name may be of another mount namespace, or gone; this is the file itself
        file = f"/proc/{pid}/map_files/{start:x}-{end:x}" if is_shared else ""
        found.append(Mapping(start, end, b"w" in row["mode"], file, int(row["offset"], 16)))
    return found


class LiveMemory(FileSource):
    """Memory of a machine that runs.

    Attributes:
        pause: What keeps the machine from running until it is closed; None if it runs.
    """

    is_live = True
    pause: socket.socket | None = None

    def close(self) -> None:
        """See ``Source.close``."""
        if self.pause is not None:
            self.pause.close()
        super().close()


class ProcessMemory(LiveMemory):
    """A range of another process's memory, as a source."""

    def __init__(self, pid: int, start: int, size: int, *, name: str, role: str) -> None:
        """Open it; reading goes on if this process gives up its privileges.

        Args:
            pid: The process.
            start: Its virtual address.
            size: Bytes in it.
            name: As the user named it.
            role: What it is to the machine.

        Raises:
            ConfigError: if it cannot be opened.
        """
        self._start, self._bytes = start, size
        super().__init__(f"/proc/{pid}/mem", role=role)
        self.name = name

    def _examine(self, size_if_unknown: int | None) -> tuple[str, int]:
        return "process memory", self._bytes

    def _preadv(self, buffer: memoryview, offset: int) -> int:
        count = super()._preadv(buffer, self._start + offset)
        if count == 0:
            raise OSError(errno.ESRCH, "the process has ended")
        return count


class SharedMemory(LiveMemory):
    """A file that another process has mapped: its memory, as far as it shares it."""

    def __init__(self, path: str, *, name: str, role: str) -> None:
        """Open it.

        Args:
            path: A path that leads to it, as ``Mapping.file``.
            name: As the user named it.
            role: What it is to the machine.

        Raises:
            ConfigError: if it cannot be opened.
        """
        super().__init__(path, role=role)
        self.name = name
