"""The inputs under a mount, watched: what happens to them is noticed, and said once.

inotify wakes at once where the change is made on this machine; a look every two seconds finds the
others, as on a network file system.
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
"""Seconds between two looks at a file that is being written to."""

OnShrink = Callable[[FileSource, int], Awaitable[None]]
"""Called with an input that has lost bytes, and how many it has left."""


class Watched:
    """An input, and what has been said of it.

    Attributes:
        source: The input.
        size: Bytes in it at the last look.
        written_ns: When it was last written to at the last look, in nanoseconds since 1970.
        wake: Set to have it looked at now.
    """

    def __init__(self, source: FileSource) -> None:
        self.source = source
        self.size = source.size
        self.written_ns = source.identity.mtime_ns
        self.wake = trio.Event()
        self._said: set[str] = set()

    def look(self) -> tuple[bool, list[str]]:
        """Look at it.

        Returns:
            Whether it has shrunk since the last look, and what is to be said: each thing once, and
            that it shrinks each time.
        """
        try:
            status = os.fstat(self.source.fileno())
        except OSError as error:
            return False, list(self._once("lost", f"cannot look at it: {error.strerror}"))
        has_shrunk = status.st_size < self.size
        said = []
        if has_shrunk:
            said.append(f"it has {status.st_size} bytes now, and had {self.source.size}")
        elif status.st_size > self.size:
            said += self._once("grown", f"it grows: {status.st_size} bytes now")
        elif status.st_mtime_ns != self.written_ns:
            said += self._once("written", "it is written to: reads may show bytes of two times")
        self.size, self.written_ns = status.st_size, status.st_mtime_ns
        said += self._names(status)
        return has_shrunk, said

    def _names(self, status: os.stat_result) -> Iterator[str]:
        path = self.source.origin
        try:
            there = os.stat(path)
        except FileNotFoundError:
            yield from self._once("removed", "it was removed; what is mounted is still whole")
            return
        except OSError:
            return  # a daemon that has given up its privileges may not look
        if (there.st_dev, there.st_ino) != (status.st_dev, status.st_ino):
            said = "another file has its name now; what is mounted is the one from before"
            yield from self._once("replaced", said)

    def _once(self, what: str, said: str) -> Iterator[str]:
        if what not in self._said:
            self._said.add(what)
            yield said


async def watch_inputs(inputs: Sequence[object], on_shrink: OnShrink) -> None:
    """Watch those inputs that are regular files, for ever.

    Args:
        inputs: What the tree is made of.
        on_shrink: See there.
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
        log.info("cannot watch the inputs, but look every %g s: %s", _LOOK_EVERY, error.strerror)
        return
    try:
        for one in watched:
            with suppress(OSError):  # there may be no more of them (fs.inotify.max_user_watches)
                watch_file(inotify, f"/proc/self/fd/{one.source.fileno()}")
        while True:
            await trio.lowlevel.wait_readable(inotify)
            with suppress(BlockingIOError):
                os.read(inotify, 65536)
            # all: which it was matters less than to be simple
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
            # in a thread, and left behind at the end: the file system may hang
            has_shrunk, said = await trio.to_thread.run_sync(one.look, abandon_on_cancel=True)
        except Exception as error:
            if not is_shortage(error):
                raise
            continue  # there may be memory for the next look
        for text in said:
            log.warning("%s: %s", one.source.origin, text)
        if has_shrunk:
            await on_shrink(one.source, one.size)
