"""Where dumps go: a directory, on a file system that is mounted for it, or a URL.

Room is made only when it is needed: how large a dump gets is known when it is written. Elsewhere
(a URL) dumps are only added; what is kept there is that machine's business.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from vmcorefs.capture.programs import complaint, run
from vmcorefs.capture.run.dumps import DumpDirectory, beyond_count, delete, list_dumps, removable
from vmcorefs.capture.run.filesystem import free_bytes, open_directory
from vmcorefs.capture.settings import KeepSettings, TargetSettings
from vmcorefs.core.space.units import format_size
from vmcorefs.errors import DiskFullError, OutputError
from vmcorefs.output.local import sync_directory
from vmcorefs.output.ssh import parse_place

Say = Callable[[str], None]

LEAST_FREE = 16 << 20
"""Bytes that stay free in any case: for the summary, and for the system that boots next."""

_SSH_SECONDS = 120
_NO_CONNECTION = 255  # ssh(1), EXIT STATUS


class Place(Protocol):
    """Where dumps go."""

    def make(self, name: str) -> str:
        """Make the place for one dump; give what the names of its files begin with.

        Raises:
            OutputError: if that fails.
        """

    def check_room(self) -> None:
        """Called again and again while a dump is written: make room if there is little left.

        Raises:
            DiskFullError: if none can be made.
        """

    def prune(self) -> None:
        """A dump is complete: delete what is beyond the number of dumps to keep.

        Raises:
            OutputError: if that fails.
        """


class LocalPlace:
    """A directory of this machine."""

    def __init__(self, directory: str, keep: KeepSettings, say: Say) -> None:
        self._directory = directory
        self._keep = keep
        self._say = say
        self._name = ""

    def make(self, name: str) -> str:
        """See ``Place.make``."""
        self._name = name
        path = os.path.join(self._directory, name)
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
            sync_directory(path)
        except OSError as error:
            raise OutputError(f"{path}: cannot make it: {error.strerror}") from error
        return path

    def check_room(self) -> None:
        """See ``Place.check_room``."""
        least = max(self._keep.free_bytes, LEAST_FREE)
        while (free := free_bytes(self._directory)) < least:
            old = [dump for dump in removable(list_dumps(self._directory)) if not self._is(dump)]
            if not old:
                raise DiskFullError(
                    f"{self._directory}: {format_size(free)} free, and {format_size(least)} are to"
                    " stay free ([keep] free); there is no dump to delete"
                )
            self._say(f"{old[0].path}: deleted to make room")
            delete(old[0])

    def prune(self) -> None:
        """See ``Place.prune``."""
        for dump in beyond_count(list_dumps(self._directory), self._keep.dumps):
            if not self._is(dump):
                self._say(f"{dump.path}: deleted: [keep] dumps is {self._keep.dumps}")
                delete(dump)

    def _is(self, dump: DumpDirectory) -> bool:
        return dump.name == self._name


class RemotePlace:
    """A URL: another machine by ssh, or an object store."""

    def __init__(self, url: str, wait: float) -> None:
        self._url = url.rstrip("/")
        self._wait = wait

    def make(self, name: str) -> str:
        """See ``Place.make``; a store has no directories to make."""
        prefix = f"{self._url}/{name}"
        if prefix.startswith("ssh://"):
            self._make_directory(prefix)
        return prefix

    def _make_directory(self, prefix: str) -> None:
        """Make it by ssh; a network that is not up yet is waited for."""
        place = parse_place(prefix)
        end = time.monotonic() + self._wait
        command = place.command(f"umask 077; mkdir -p -- {shlex.quote(place.path)}")
        while True:
            done = run(command, f"{prefix}: cannot make it", _SSH_SECONDS)
            if done.returncode == 0:
                return
            if done.returncode != _NO_CONNECTION or time.monotonic() > end:
                raise OutputError(f"{prefix}: cannot make it: {complaint(done)}")
            time.sleep(1)

    def check_room(self) -> None:
        """See ``Place.check_room``: it says so itself."""

    def prune(self) -> None:
        """See ``Place.prune``."""


@contextmanager
def open_place(target: TargetSettings, keep: KeepSettings, say: Say) -> Iterator[Place]:
    """Open the place that the settings name; what has been mounted for it is unmounted at the end.

    Raises:
        OutputError: if it is not there.
    """
    if target.url:
        yield RemotePlace(target.url, target.wait_seconds)
        return
    with open_directory(target) as directory:
        yield LocalPlace(directory, keep, say)
