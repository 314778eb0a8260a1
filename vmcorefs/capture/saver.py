"""Saving the crashed kernel's memory, in the capture kernel.

dmesg goes first, and is synced: it is what is wanted most, and what fits nearly always. Then the
dump, under another name until it is whole; then layout.json; then summary.json, with which the
dump counts as complete.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vmcorefs.api import Capture, open_capture
from vmcorefs.capture.dumps import SUMMARY, beyond_count, delete, dump_name, list_dumps, make_room
from vmcorefs.capture.filesystem import free_bytes, open_directory
from vmcorefs.capture.settings import Settings
from vmcorefs.config import CaptureConfig, Piece
from vmcorefs.core.units import format_size
from vmcorefs.errors import OutputError
from vmcorefs.extract import extract, sync_directory
from vmcorefs.tree.file import TreeFile
from vmcorefs.tree.texts import layout_file

Say = Callable[[str], None]
_REPORT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Saved:
    """What was saved.

    Attributes:
        path: The dump's directory.
        seconds: How long it took.
    """

    path: str
    seconds: float


def save(settings: Settings, vmcore: str, say: Say) -> Saved:
    """Save what ``vmcore`` has to the target.

    Args:
        settings: Where to, and how.
        vmcore: /proc/vmcore.
        say: Told each step, in one line.

    Raises:
        VmcorefsError: if anything fails; what has been written by then stays.
    """
    start = time.monotonic()
    with open_directory(settings.target) as directory:
        with open_capture(CaptureConfig(images=(Piece(vmcore),))) as capture:
            for warning in capture.image.warnings:
                say(f"warning: {warning}")
            name = dump_name(capture.image.time)
            path = os.path.join(directory, name)
            with _as_output_errors(path):
                os.makedirs(path, mode=0o700, exist_ok=True)
                sync_directory(path)
            say(f"{path}: saving the memory of Linux {_release(capture)}")
            _save_files(capture, path, settings, say)
            seconds = time.monotonic() - start
            _write(path, SUMMARY, _summary(capture, path, seconds))
        for dump in beyond_count(list_dumps(directory), settings.keep.dumps):
            if dump.name != name:
                say(f"{dump.path}: deleted, to keep no more than {settings.keep.dumps}")
                delete(dump)
    say(f"{path}: complete after {seconds:.1f} s")
    return Saved(path, seconds)


def _save_files(capture: Capture, path: str, settings: Settings, say: Say) -> None:
    directory, name = os.path.split(path)
    log = capture.files.get("dmesg")
    if log is None:
        say("warning: the kernel's log cannot be read")
    else:
        _write(path, "dmesg", log.pread(log.size, 0))
        say(f"{path}/dmesg: {log.size} bytes")
    vmcore = capture["vmcore"]
    spare = settings.keep.free_bytes
    for deleted in make_room(
        directory, vmcore.size + spare, lambda: free_bytes(directory), spare=name
    ):
        say(f"{deleted}: deleted to make room")
    progress = _Progress(vmcore, directory, spare, say)
    outcome = extract(vmcore, os.path.join(path, "vmcore"), force=True, progress=progress)
    say(f"{path}/vmcore: {outcome.size} bytes, {format_size(outcome.written)} of them not zeros")
    layout = layout_file({"vmcore": vmcore})
    _write(path, "layout.json", layout.pread(layout.size, 0))


class _Progress:
    """A line every few seconds, and an end before the target is full."""

    def __init__(self, file: TreeFile, directory: str, spare: int, say: Say) -> None:
        self._total, self._done = file.size, 0
        self._directory, self._spare, self._say = directory, spare, say
        self._last = self._start = time.monotonic()

    def __call__(self, count: int) -> None:
        self._done += count
        free = free_bytes(self._directory)
        if free < self._spare:
            raise OutputError(
                f"{self._directory}: {format_size(free)} free, less than the"
                f" {format_size(self._spare)} that [keep] free leaves"
            )
        now = time.monotonic()
        if now - self._last >= _REPORT_SECONDS:
            self._last = now
            rate = self._done / (now - self._start)
            self._say(
                f"{self._done * 100 // self._total} %, {format_size(int(rate))}/s,"
                f" {(self._total - self._done) / rate:.0f} s left"
            )


def _summary(capture: Capture, path: str, seconds: float) -> bytes:
    files = {entry.name: entry.stat().st_size for entry in os.scandir(path) if entry.is_file()}
    summary = {
        "complete": True,
        "release": _release(capture),
        "crash_time": int(capture.image.time),
        "seconds": round(seconds, 1),
        "files": files,
    }
    return json.dumps(summary, indent=1).encode() + b"\n"


def _release(capture: Capture) -> str:
    vmcoreinfo = capture.image.notes.vmcoreinfo
    return (vmcoreinfo.release if vmcoreinfo else None) or "of an unknown release"


def _write(path: str, name: str, data: bytes) -> None:
    """Write a small file so that its name is only ever seen with all of its bytes."""
    final = os.path.join(path, name)
    with _as_output_errors(final):
        with open(f"{final}.incomplete", "wb", opener=_private) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(f"{final}.incomplete", final)
        sync_directory(final)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


@contextmanager
def _as_output_errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot write: {error.strerror}") from error
