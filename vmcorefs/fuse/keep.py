"""What a daemon does on its own while it serves: it handles hung reads and shrinking inputs."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

import pyfuse3
import trio

from vmcorefs.fuse.answers import FileAnswers
from vmcorefs.fuse.inodes import Inode
from vmcorefs.fuse.jobs import is_shortage
from vmcorefs.fuse.switch import Switch
from vmcorefs.sources.file import FileSource

log = logging.getLogger(__name__)

_LONGEST_LOOKUP = 10.0
_REST = 0.1
_MOST_TOLD = 8
_TASKS = 8
"""Tasks of pyfuse3's that keep their buffers: of each, no more counts than a request is long."""


class Keeper:
    """Keeps a mount correct when its inputs change or hang."""

    def __init__(
        self, mountpoint: str, inodes: Mapping[int, Inode], answers: FileAnswers, switch: Switch
    ) -> None:
        self._mountpoint = mountpoint
        self._inodes = inodes
        self._answers = answers
        self._switch = switch

    async def tick(self) -> None:
        """Give up late reads, periodically, until cancelled."""
        while True:
            try:
                await trio.sleep(self._switch.deadlines.interval)
                self._switch.tick()
                self._answers.faults.flush()
            except MemoryError:
                self._answers.faults.out_of_memory()
            except Exception:
                log.exception("a bug in vmcorefs: reads that hang could not be given up")

    async def serve(self) -> None:
        """Have libfuse and pyfuse3 serve what the switch passes on, until the tree is unmounted.

        They end when there is no memory for the buffer of a request; the mount must not.
        """
        while True:
            try:
                return await pyfuse3.main(min_tasks=_TASKS)
            except BaseException as error:
                if not is_shortage(error):
                    raise
            self._answers.faults.out_of_memory()
            self._switch.refuse_passed_on()
            await trio.sleep(_REST)

    async def on_shrink(self, source: FileSource, size: int) -> None:
        """Log what is lost, and make open files fail where the kernel would not.

        An open file whose reads the kernel passes to an input now ends where the input ends. That
        is not the file's real end, but readers could not tell. The kernel takes a file of another
        generation for another file, and fails open descriptors of the old one (``fuse_make_bad``).
        """
        lost = list(self._answers.lost_by(source, size))
        for path, start, count in lost[:_MOST_TOLD]:
            log.error(
                "%s: %d bytes from %#x on are lost with %s: reading them gives EIO",
                *(path, count, start, source.origin),
            )
        if len(lost) > _MOST_TOLD:
            log.error("and of %d more files", len(lost) - _MOST_TOLD)
        nodes = await trio.to_thread.run_sync(
            self._answers.take_back, source, abandon_on_cancel=True
        )
        for node in nodes:
            inode = self._inodes[node]
            name = next(n for n, m in self._inodes[inode.parent].children.items() if m == node)
            inode.generation += 1
            self._switch.forget_name(inode.parent, name)
            assert inode.file is not None  # noqa: S101  # only files are served
            path = os.path.join(self._mountpoint, inode.file.path)
            if await _look_up(path):
                log.warning("%s: open descriptors give EIO now; open it again", inode.file.path)


async def _look_up(path: str) -> bool:
    """Have the kernel look up a file of the tree; return whether it did."""
    with trio.move_on_after(_LONGEST_LOOKUP):
        try:
            # in a thread: the answer comes from this process's own loop
            await trio.to_thread.run_sync(os.stat, path, abandon_on_cancel=True)
        except OSError as error:
            log.warning("%s: cannot be looked up: %s", path, error.strerror)
            return False
        return True
    log.warning("%s: not looked up after %g s", path, _LONGEST_LOOKUP)
    return False
