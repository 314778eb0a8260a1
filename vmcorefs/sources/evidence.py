"""The inputs of a command, which nothing that it writes may change or hide.

Compared is what names lead to, not names: links, bind mounts, device nodes, and the file behind a
loop device are the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from vmcorefs.config import CaptureConfig
from vmcorefs.errors import ConfigError
from vmcorefs.sources.companions import all_files
from vmcorefs.system.files import split_member
from vmcorefs.system.storage import Place, beneath, disks_at, place_of, written_through


class Evidence(msgspec.Struct, frozen=True):
    """Everything that a command reads.

    Attributes:
        inputs: The path of each input, as the user gave it, and what it leads to.
    """

    inputs: tuple[tuple[str, Place], ...] = ()

    def refuse(self, path: str) -> None:
        """Refuse to write a file at ``path``, whether one is there or not.

        Raises:
            ConfigError: if that would change an input.
        """
        real: str | None = path
        while self.inputs and real is not None:
            try:
                self._refuse(path, place_of(os.stat(real)))
                where = real
            except (OSError, ValueError):
                where = os.path.dirname(real) or "."
            self._refuse_disk(path, where)
            real = written_through(real)

    def refuse_open(self, name: str, descriptor: int) -> None:
        """Refuse to write to an open file; the errors are those of ``refuse``."""
        try:
            place = place_of(os.fstat(descriptor))
        except OSError:
            return  # it is closed
        self._refuse(name, place)

    def refuse_to_hide(self, mountpoint: str) -> None:
        """Refuse to mount over the directory of an input.

        Raises:
            ConfigError: if an input would no longer be found.
        """
        above = os.path.realpath(mountpoint)
        for name, _place in self.inputs:
            path = os.path.realpath(name)
            if os.path.commonpath((above, path)) == above:
                raise ConfigError(
                    f"{mountpoint}: a tree mounted there would hide the input {name}; mount it"
                    " on another directory"
                )

    def _refuse(self, path: str, place: Place) -> None:
        under = beneath(place)
        for name, one in self.inputs:
            if one == place:
                raise ConfigError(
                    f"{path}: this is the input {name}, which is never written to; name another"
                    " output"
                )
            if one in under or place in beneath(one):
                raise _lies_in(path, name)

    def _refuse_disk(self, path: str, where: str) -> None:
        try:
            disks = disks_at(where)
        except (OSError, ValueError):
            return  # nothing can be written there
        under = set().union(*map(beneath, disks))
        for name, one in self.inputs:
            if one in under:
                raise _lies_in(path, name)


NOTHING = Evidence()


def _lies_in(path: str, name: str) -> ConfigError:
    return ConfigError(
        f"{path}: its bytes lie on the same device as those of the input {name}, which is never"
        " written to; name an output elsewhere"
    )


def gather(config: CaptureConfig | None, *others: str) -> Evidence:
    """Find everything that a command reads.

    Args:
        config: What it opens, if that is a capture.
        *others: More files; those that do not exist are passed over.
    """
    found = []
    for path in (*(_paths(config) if config is not None else ()), *others):
        try:
            found.append((path, place_of(os.stat(path))))
        except (OSError, ValueError):
            continue  # opening it will say so
    return Evidence(tuple(found))


def _paths(config: CaptureConfig) -> Iterator[str]:
    pieces = config.images if config.backup is None else (*config.images, config.backup)
    for piece in pieces:
        yield split_member(piece.path)[0]
        yield from all_files(piece.path)
    for path in (config.description, config.memory_map, config.vmlinux, config.vmcoreinfo):
        if isinstance(path, str):
            yield path
            if os.path.isdir(path):  # a copy of /sys/firmware/memmap
                yield from map(str, Path(path).glob("*/*"))
