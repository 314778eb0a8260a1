"""Mounting a tree and serving it until it is unmounted or a signal comes."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pyfuse3
import trio

from vmcorefs.errors import MountError
from vmcorefs.fuse.mounts import fsname
from vmcorefs.fuse.operations import TreeOperations
from vmcorefs.tree.file import TreeFile

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MountOptions:
    """How the tree is mounted.

    Attributes:
        mountpoint: An absolute path, as ``mounts.check_mountpoint`` gives it.
        allow_other: Let every user read the tree, not just its owner.
    """

    mountpoint: str
    allow_other: bool = False


def serve(
    tree: Mapping[str, TreeFile],
    options: MountOptions,
    *,
    time: float,
    ready: Callable[[], None],
) -> None:
    """Mount ``tree`` and serve it; return when it is unmounted, or after SIGTERM, SIGINT or SIGHUP.

    Args:
        tree: The files by path.
        options: Where and how.
        time: Of every file, in seconds since 1970.
        ready: Called once, as soon as the tree can be read.

    Raises:
        MountError: if it cannot be mounted, or cannot be read once it is.
    """
    operations = TreeOperations(tree, time=time, others_may_read=options.allow_other)
    fuse_options = {
        *pyfuse3.default_options,
        f"fsname={fsname(os.getpid())}",
        "subtype=vmcorefs",
        "ro",
        "nosuid",
        "nodev",
        "noexec",
        *({"allow_other"} if options.allow_other else ()),
    }
    with _captured_stderr() as said:
        try:
            pyfuse3.init(operations, options.mountpoint, fuse_options)
        except RuntimeError as error:
            reason = said() or str(error)
            raise MountError(f"{options.mountpoint}: cannot mount: {reason}") from error
    try:
        trio.run(_run, options.mountpoint, next(iter(tree)), ready)
    finally:
        pyfuse3.close(unmount=True)


async def _run(mountpoint: str, first: str, ready: Callable[[], None]) -> None:
    failure: list[MountError] = []

    async def announce() -> None:
        # in a thread: the answer comes from this process's own loop
        try:
            await trio.to_thread.run_sync(_try_read, mountpoint, first)
        except OSError as error:
            failure.append(MountError(f"{mountpoint}: mounted, but cannot be read: {error}"))
            pyfuse3.terminate()
        else:
            ready()

    async with trio.open_nursery() as nursery:
        await nursery.start(_terminate_on_signal)
        nursery.start_soon(announce)
        await pyfuse3.main()
        nursery.cancel_scope.cancel()
    if failure:
        raise failure[0]


async def _terminate_on_signal(
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            log.info("%s: unmounting", signal.Signals(number).name)
            pyfuse3.terminate()


def _try_read(mountpoint: str, path: str) -> None:
    descriptor = os.open(os.path.join(mountpoint, path), os.O_RDONLY)
    try:
        os.pread(descriptor, 1, 0)
    finally:
        os.close(descriptor)


@contextmanager
def _captured_stderr() -> Iterator[Callable[[], str]]:
    """Catch what libfuse and fusermount3 print, which says why a mount failed.

    The value is a function that gives the last line so far, without libfuse's name in front.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    caught = os.memfd_create("stderr")
    os.dup2(caught, 2)

    def said() -> str:
        lines = os.pread(caught, 65536, 0).decode("utf-8", "replace").strip().splitlines()
        return lines[-1].removeprefix("fuse: ").removeprefix("fusermount3: ") if lines else ""

    try:
        yield said
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(caught)
