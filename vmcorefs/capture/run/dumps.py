"""The directories that dumps lie in, and which of them make room for a new one.

::

    /var/crash/2026-11-25-021937/   the time of the crash, UTC
        dmesg  report.txt  report.json  vmcore.triage  vmcore  layout.json
        summary.json                written last: with it, the dump is whole
    /var/crash/2026-11-25-021937-2/ another one: a board without a clock crashes at one time always

Nothing else in the target's directory is ever touched: other tools keep theirs there too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator

import msgspec

from vmcorefs.errors import ConfigError, OutputError
from vmcorefs.output.target import INCOMPLETE
from vmcorefs.system.files import read_file

DMESG = "dmesg"
VMCORE = "vmcore"
REPORT_TXT = "report.txt"
REPORT_JSON = "report.json"
TRIAGE = "vmcore.triage"
LAYOUT = "layout.json"
SUMMARY = "summary.json"
MAX_ALIKE = 10000
"""Dumps of one second, at most."""

_NAME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{6})(?:-([0-9]{1,5}))?")
_OURS = frozenset({DMESG, REPORT_TXT, REPORT_JSON, VMCORE, TRIAGE, LAYOUT, SUMMARY})
_MAX_SUMMARY = 1 << 20


class DumpDirectory(msgspec.Struct, frozen=True):
    """One dump of ours.

    Attributes:
        path: Its directory.
        is_complete: Whether it has a summary that says so.
    """

    path: str
    is_complete: bool

    @property
    def name(self) -> str:
        """The last part of its path."""
        return os.path.basename(self.path)

    @property
    def order(self) -> tuple[str, int]:
        """Sorts dumps by the time of the crash, and those of one time as they were made."""
        return _order(self.name)


def dump_name(crash_time: float) -> str:
    """The name of the directory for a crash at ``crash_time``, in seconds since 1970."""
    return time.strftime("%Y-%m-%d-%H%M%S", time.gmtime(crash_time))


def names_like(name: str) -> Iterator[str]:
    """The name, and those to try next where a dump has it already: none is ever written over."""
    yield name
    yield from (f"{name}-{number}" for number in range(2, MAX_ALIKE + 1))


def _order(name: str) -> tuple[str, int]:
    match = _NAME.fullmatch(name)
    return (match[1], int(match[2] or 1)) if match else (name, 1)


def list_dumps(directory: str) -> list[DumpDirectory]:
    """Every dump of ours in ``directory``, the oldest crash first.

    Ours is a directory with such a name that holds nothing but what we write.

    Raises:
        OutputError: if the directory cannot be read.
    """
    try:
        with os.scandir(directory) as entries:
            names = [
                entry.name
                for entry in entries
                if _NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            ]
        paths = [os.path.join(directory, name) for name in sorted(names, key=_order)]
        return [DumpDirectory(path, _is_complete(path)) for path in paths if _is_ours(path)]
    except OSError as error:
        raise OutputError(f"{directory}: cannot list its dumps: {error.strerror}") from error


def _is_ours(path: str) -> bool:
    return all(name.removesuffix(INCOMPLETE) in _OURS for name in os.listdir(path))


def _is_complete(path: str) -> bool:
    try:
        data = read_file(os.path.join(path, SUMMARY), "a summary", _MAX_SUMMARY)
        summary = json.loads(data[:_MAX_SUMMARY])
    except (ConfigError, ValueError, RecursionError):
        return False
    return isinstance(summary, dict) and summary.get("complete") is True


def removable(dumps: list[DumpDirectory]) -> list[DumpDirectory]:
    """What may be deleted, in the order in which it is: never the newest complete one.

    Incomplete dumps that are older than a complete one go first, then the oldest.
    """
    complete = [dump for dump in dumps if dump.is_complete]
    newest = complete[-1] if complete else None
    superseded = [
        dump for dump in dumps if not dump.is_complete and newest and dump.order < newest.order
    ]
    others = [dump for dump in dumps if dump not in superseded and dump is not newest]
    return superseded + others


def beyond_count(dumps: list[DumpDirectory], count: int) -> list[DumpDirectory]:
    """What has to go so that no more than ``count`` dumps stay, whole or not."""
    return removable(dumps)[: max(len(dumps) - count, 0)]


def size_of(dump: DumpDirectory) -> int:
    """Bytes that deleting a dump frees.

    Raises:
        OutputError: if that cannot be found out.
    """
    try:
        with os.scandir(dump.path) as entries:
            return sum(entry.stat(follow_symlinks=False).st_blocks * 512 for entry in entries)
    except OSError as error:
        raise OutputError(f"{dump.path}: cannot tell its size: {error.strerror}") from error


def delete(dump: DumpDirectory) -> None:
    """Delete a dump; its summary first, so that half of one never passes for a whole one.

    Raises:
        OutputError: if that fails.
    """
    try:
        summary = os.path.join(dump.path, SUMMARY)
        if os.path.lexists(summary):
            os.unlink(summary)
        shutil.rmtree(dump.path)
    except OSError as error:
        raise OutputError(f"{dump.path}: cannot delete: {error.strerror}") from error
