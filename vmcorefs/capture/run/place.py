"""Where dumps go: a directory, on a file system that is mounted for it, or a URL.

Room is made only when it is needed: how large a dump gets is known when it is written. Elsewhere
(a URL) dumps are only added; what is kept there is that machine's business.
"""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from vmcorefs.capture.programs import complaint, run
from vmcorefs.capture.run.dumps import (
    MAX_ALIKE,
    DumpDirectory,
    beyond_count,
    delete,
    list_dumps,
    names_like,
    removable,
    size_of,
)
from vmcorefs.capture.run.filesystem import free_bytes, open_directory
from vmcorefs.capture.settings import KeepSettings, TargetSettings
from vmcorefs.core.space.units import format_size
from vmcorefs.errors import DiskFullError, OutputError
from vmcorefs.output.local import sync_directory
from vmcorefs.output.ssh import parse_place
from vmcorefs.output.store import exists
from vmcorefs.sources.evidence import NOTHING, Evidence
from vmcorefs.system.urls import without_password

Say = Callable[[str], None]

LEAST_FREE = 16 << 20
"""Bytes that stay free in any case: for the summary, and for the system that boots next."""

_SSH_SECONDS = 120
_NO_CONNECTION = 255  # ssh(1), EXIT STATUS

# mkdir is what tells two machines apart that crash in one second
_MAKE = """
umask 077
mkdir -p -- {above} || exit 1
number=1
path={path}
until mkdir -- "$path" 2>/dev/null; do
  if [ $number -eq {most} ] || ! [ -d "$path" ]; then exec mkdir -- "$path"; fi
  number=$((number + 1))
  path={path}-$number
done
echo "made $number"
"""


class Place(Protocol):
    """Where dumps go."""

    def make(self, name: str) -> str:
        """Make a new place for one dump; give what the names of its files begin with.

        Raises:
            OutputError: if that fails.
        """

    def check_room(self, needed: int = 0) -> None:
        """Called again and again while a dump is written: make room if there is little left.

        Args:
            needed: Bytes that will be written for certain, beside what is to stay free.

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

    def __init__(
        self, directory: str, keep: KeepSettings, say: Say, evidence: Evidence = NOTHING
    ) -> None:
        self._directory = directory
        self._evidence = evidence
        self._keep = keep
        self._say = say
        self._name = ""

    def make(self, name: str) -> str:
        """See ``Place.make``."""
        for self._name in names_like(name):
            path = os.path.join(self._directory, self._name)
            self._evidence.refuse(path)
            try:
                os.mkdir(path, mode=0o700)
                sync_directory(path)
            except FileExistsError:
                continue
            except OSError as error:
                raise OutputError(f"{path}: cannot make it: {error.strerror}") from error
            return path
        raise OutputError(f"{self._directory}/{name}: exists, and so do {MAX_ALIKE} like it")

    def check_room(self, needed: int = 0) -> None:
        """See ``Place.check_room``."""
        least = max(self._keep.free_bytes, LEAST_FREE) + needed
        if needed:
            self._refuse_what_never_fits(least)
        while (free := free_bytes(self._directory)) < least:
            old = [dump for dump in removable(list_dumps(self._directory)) if not self._is(dump)]
            if not old:
                raise DiskFullError(
                    f"{self._directory}: {format_size(free)} free, and {format_size(least)} are to"
                    " stay free ([keep] free); there is no dump to delete"
                )
            self._say(f"{old[0].path}: deleted to make room")
            delete(old[0])

    def _refuse_what_never_fits(self, least: int) -> None:
        """Raise before old dumps are deleted in vain."""
        old = [dump for dump in removable(list_dumps(self._directory)) if not self._is(dump)]
        most = free_bytes(self._directory) + sum(map(size_of, old))
        if most < least:
            raise DiskFullError(
                f"{self._directory}: the dump takes so much that {format_size(least)} would have to"
                f" be free, with what is to stay free; without its {len(old)} old dumps it would"
                f" be {format_size(most)}; none is deleted"
            )

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
        if self._url.startswith("ssh://"):
            return f"{self._url}/{self._make_directory(name)}"
        for one in names_like(name):
            if not exists(f"{self._url}/{one}"):
                return f"{self._url}/{one}"
        raise OutputError(
            f"{without_password(self._url)}/{name}: exists, and so do {MAX_ALIKE} like it"
        )

    def _make_directory(self, name: str) -> str:
        """Make it by ssh, and give its name; a network that is not up yet is waited for."""
        prefix = f"{self._url}/{name}"
        place = parse_place(prefix)
        end = time.monotonic() + self._wait
        above, _, _ = place.path.rpartition("/")
        script = _MAKE.format(
            above=shlex.quote(above or "/"), path=shlex.quote(place.path), most=MAX_ALIKE
        )
        command = place.command(script)
        while True:
            done = run(command, f"{prefix}: cannot make it", _SSH_SECONDS)
            made = re.search(r"^made ([0-9]+)$", done.stdout, re.MULTILINE)
            if done.returncode == 0 and made is not None:
                return name if made[1] == "1" else f"{name}-{made[1]}"
            if done.returncode != _NO_CONNECTION or time.monotonic() > end:
                raise OutputError(f"{prefix}: cannot make it: {complaint(done)}")
            time.sleep(1)

    def check_room(self, needed: int = 0) -> None:
        """See ``Place.check_room``: it says so itself."""

    def prune(self) -> None:
        """See ``Place.prune``."""


@contextmanager
def open_place(
    target: TargetSettings, keep: KeepSettings, evidence: Evidence, say: Say
) -> Iterator[Place]:
    """Open the place that the settings name; what has been mounted for it is unmounted at the end.

    Raises:
        OutputError: if it is not there.
    """
    if target.url:
        yield RemotePlace(target.url, target.wait_seconds)
        return
    with open_directory(target) as directory:
        yield LocalPlace(directory, keep, say, evidence)
