"""Watching the inputs under a mount: changes are noticed, and logged once.

inotify reports changes made on this machine at once; a check every two seconds finds others, such
as on a network file system.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress

import trio

from vmcorefs.fuse.jobs import is_shortage
from vmcorefs.fuse.planes.linux import open_inotify, watch_file
from vmcorefs.sources.file import FileSource

log = logging.getLogger(__name__)

_LOOK_EVERY = 2.0
_REST = 0.05
"""Seconds between two checks of a file that is being written to."""

OnShrink = Callable[[FileSource, int], Awaitable[None]]
"""Called with an input that has shrunk, and its size now."""


class Watched:
    """An input, and what has been logged about it.

    Attributes:
        source: The input.
        size: Its size at the last check, in bytes.
        written_ns: Its time of modification at the last check, in nanoseconds since 1970.
        wake: Set to have it checked now.
    """

    def __init__(self, source: FileSource) -> None:
        self.source = source
        self.size = source.size
        self.written_ns = source.identity.mtime_ns
        self.wake = trio.Event()
        self._said: set[str] = set()

    def look(self) -> tuple[bool, list[str]]:
        """Check it.

        Returns:
            Whether it has shrunk since the last check, and what to log: everything once, but each
            shrinking.
        """
        try:
            status = os.fstat(self.source.fileno())
        except OSError as error:
            return False, list(self._once("lost", f"cannot check it: {error.strerror}"))
        has_shrunk = status.st_size < self.size
        said = []
        if has_shrunk:
            said.append(f"it has {status.st_size} bytes now, but had {self.source.size}")
        elif status.st_size > self.size:
            said += self._once("grown", f"it grows: {status.st_size} bytes now")
        elif status.st_mtime_ns != self.written_ns:
            said += self._once("written", "it was written to: reads may mix old and new bytes")
        self.size, self.written_ns = status.st_size, status.st_mtime_ns
        said += self._names(status)
        return has_shrunk, said

    def _names(self, status: os.stat_result) -> Iterator[str]:
        path = self.source.origin
        try:
            there = os.stat(path)
        except FileNotFoundError:
            yield from self._once("removed", "it was removed; the mount still has all of it")
            return
        except OSError:
            return  # a daemon that has given up its privileges may not be allowed to check
        if (there.st_dev, there.st_ino) != (status.st_dev, status.st_ino):
            said = "another file has its name now; the mount still shows the old one"
            yield from self._once("replaced", said)

    def _once(self, what: str, said: str) -> Iterator[str]:
        if what not in self._said:
            self._said.add(what)
            yield said


async def watch_inputs(inputs: Sequence[object], on_shrink: OnShrink) -> None:
    """Watch the inputs that are regular files, until cancelled.

    Args:
        inputs: The inputs of the tree.
        on_shrink: See ``OnShrink``.
    """
    files = [source for source in inputs if isinstance(source, FileSource)]
    watched = [Watched(source) for source in files if source.kind == "file"]
    if not watched:
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_wake_on_change, watched)
        for one in watched:
            nursery.start_soon(_watch, one, on_shrink)


async def _wake_on_change(watched: Sequence[Watched]) -> None:
    try:
        inotify = open_inotify()
    except OSError as error:
        log.info("cannot watch the inputs, but check every %g s: %s", _LOOK_EVERY, error.strerror)
        return
    try:
        for one in watched:
            with suppress(OSError):  # there may be too many already (fs.inotify.max_user_watches)
                watch_file(inotify, f"/proc/self/fd/{one.source.fileno()}")
        while True:
            await trio.lowlevel.wait_readable(inotify)
            with suppress(BlockingIOError):
                os.read(inotify, 65536)
            # check all of them: finding out which one it was is not worth the code
            for one in watched:
                one.wake.set()
            await trio.sleep(_REST)
    finally:
        os.close(inotify)


async def _watch(one: Watched, on_shrink: OnShrink) -> None:
    while True:
        with trio.move_on_after(_LOOK_EVERY):
            await one.wake.wait()
        one.wake = trio.Event()
        try:
            # in a thread, which is abandoned at the end: the file system may hang
            has_shrunk, said = await trio.to_thread.run_sync(one.look, abandon_on_cancel=True)
        except Exception as error:
            if not is_shortage(error):
                raise
            continue  # there may be memory for the next check
        for text in said:
            log.warning("%s: %s", one.source.origin, text)
        if has_shrunk:
            await on_shrink(one.source, one.size)
