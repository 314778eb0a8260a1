"""Mounting a tree and serving it until it is unmounted or a signal arrives."""

from __future__ import annotations

import gc
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import msgspec
import pyfuse3
import trio
from msgspec.structs import replace

from vmcorefs.errors import ConfigError, MountError
from vmcorefs.fuse.answers import FileAnswers
from vmcorefs.fuse.deadlines import within_kernels_timeout
from vmcorefs.fuse.inodes import number_inodes
from vmcorefs.fuse.keep import Keeper
from vmcorefs.fuse.mounts import fsname, unmount_own
from vmcorefs.fuse.operations import TreeOperations
from vmcorefs.fuse.planes.choose import PLANES, PlaneName
from vmcorefs.fuse.planes.linux import read_further_ahead
from vmcorefs.fuse.switch import Switch
from vmcorefs.fuse.watch import watch_inputs
from vmcorefs.piece import READ_TIMEOUT
from vmcorefs.sources.base import Source
from vmcorefs.system.memory import trim_heap
from vmcorefs.tree.directory import TreeDirectory
from vmcorefs.tree.file import TreeFile

log = logging.getLogger(__name__)

_LONGEST_READ_TIMEOUT = 3600
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Those that unmount the tree and end the process."""


class MountOptions(msgspec.Struct, frozen=True):
    """How the tree is mounted.

    Attributes:
        mountpoint: An absolute path, as ``mounts.check_mountpoint`` returns it.
        allow_other: Let every user read the tree, not just its owner.
        plane: Serve reads by no better plane than this.
        direct_io: Keep reads out of the page cache; no file is then served by the kernel alone.
        read_timeout: Seconds that a read may take before it is an error; 0 for any time.
    """

    mountpoint: str
    allow_other: bool = False
    plane: PlaneName = PLANES[0]
    direct_io: bool = False
    read_timeout: float = READ_TIMEOUT


def parse_mount_options(
    mountpoint: str, texts: Iterable[str], *, allow_other: bool
) -> MountOptions:
    """Parse the values of ``-o``: each is one option, or several separated by commas.

    Raises:
        ConfigError: if there is no such option, or it cannot have that value.
    """
    options = MountOptions(mountpoint, allow_other)
    for text in (part for whole in texts for part in whole.split(",")):
        name, _, value = text.partition("=")
        planes = [plane for plane in PLANES if plane == value]
        if text == "direct_io":
            options = replace(options, direct_io=True)
        elif name == "plane" and planes:
            options = replace(options, plane=planes[0])
        elif name == "read_timeout":
            options = replace(options, read_timeout=_parse_timeout(text, value))
        else:
            raise ConfigError(
                f"-o {text}: no such option; there are direct_io, plane={'|'.join(PLANES)} and"
                " read_timeout=SECONDS"
            )
    return options


def _parse_timeout(text: str, value: str) -> int:
    if not re.fullmatch("[0-9]{1,4}", value) or int(value) > _LONGEST_READ_TIMEOUT:
        raise ConfigError(
            f"-o {text}: expected whole seconds up to {_LONGEST_READ_TIMEOUT}, or 0 for any time"
        )
    return int(value)


def serve(
    tree: Mapping[str, TreeFile],
    options: MountOptions,
    *,
    time: float,
    ready: Callable[[], None],
    directories: Sequence[TreeDirectory] = (),
    inputs: Sequence[Source] = (),
    confine: Callable[[], None] = lambda: None,
) -> None:
    """Mount ``tree`` and serve it; return when it is unmounted, or after SIGTERM, SIGINT or SIGHUP.

    Args:
        tree: The files by path.
        options: Where and how.
        time: Of every file, in seconds since 1970.
        ready: Called once, as soon as the tree can be read.
        directories: Those whose files are found when they are asked for.
        inputs: Watched while it is mounted: changes are logged.
        confine: Called when it is mounted, before there are threads, to give up privileges.

    Raises:
        MountError: if it cannot be mounted, or not read after that; or raised by ``confine``.
    """
    # opening the image has left garbage, and a daemon lives long
    gc.collect()
    trim_heap()
    inodes = number_inodes(tree, directories)
    best = "mapped" if options.direct_io and options.plane == "kernel" else options.plane
    timeout = within_kernels_timeout(options.read_timeout)
    if timeout != options.read_timeout:
        log.info("reads may take %g s, as /proc/sys/fs/fuse has request timeouts", timeout)
    answers = FileAnswers(inodes, best, may_wait=not timeout)
    operations = TreeOperations(
        inodes,
        answers,
        time=time,
        others_may_read=options.allow_other,
        direct_io=options.direct_io,
        timeout=timeout,
    )
    for number, inode in inodes.items():
        if inode.file is not None:
            inode.file.describe_plane = partial(answers.describe, number)
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
    others = _fuse_descriptors()
    with _kept_signals() as signals, _mounted(operations, options.mountpoint, fuse_options):
        switch = Switch(_only(_fuse_descriptors() - others), answers, timeout)
        try:
            answers.open_backing = switch.open_backing
            keeper = Keeper(options.mountpoint, inodes, answers, switch)
            confine()
            trio.run(
                _run, switch, options.mountpoint, next(iter(tree)), ready, keeper, inputs, signals
            )
        finally:
            switch.stop()


@contextmanager
def _mounted(operations: TreeOperations, mountpoint: str, fuse_options: set[str]) -> Iterator[None]:
    """Mount for as long as the block: whatever goes wrong in it, no dead mount is left behind."""
    with _captured_stderr() as said:
        try:
            pyfuse3.init(operations, mountpoint, fuse_options)
        except RuntimeError as error:
            reason = said() or str(error)
            raise MountError(f"{mountpoint}: cannot mount: {reason}") from error
    try:
        yield
    finally:
        pyfuse3.close(unmount=not unmount_own(mountpoint))


@contextmanager
def _kept_signals() -> Iterator[list[int]]:
    """Keep what would end the process while it mounts and unmounts, but not while it serves.

    The value has the signals that have come.
    """
    came: list[int] = []
    before = {number: signal.signal(number, lambda n, _: came.append(n)) for number in _SIGNALS}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


async def _run(
    switch: Switch,
    mountpoint: str,
    first: str,
    ready: Callable[[], None],
    keeper: Keeper,
    inputs: Sequence[Source],
    came: Sequence[int],
) -> None:
    failure: list[MountError] = []

    async def announce() -> None:
        # in a thread: the answer comes from this process's own loop
        try:
            await trio.to_thread.run_sync(_try_mount, mountpoint, first)
        except OSError as error:
            failure.append(MountError(f"{mountpoint}: mounted, but cannot be read: {error}"))
            pyfuse3.terminate()
        else:
            ready()

    async with trio.open_nursery() as nursery:
        await nursery.start(_terminate_on_signal)
        if came:  # now, as pyfuse3 does not see what ended it before it began
            log.info("%s: unmounting", signal.Signals(came[0]).name)
            nursery.cancel_scope.cancel()
            return
        nursery.start_soon(announce)
        token = trio.lowlevel.current_trio_token()

        def terminate() -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(pyfuse3.terminate)

        switch.start(terminate)
        nursery.start_soon(keeper.tick)
        nursery.start_soon(watch_inputs, inputs, keeper.on_shrink)
        await keeper.serve()
        nursery.cancel_scope.cancel()
    if failure:
        raise failure[0]


async def _terminate_on_signal(
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        task_status.started()
        async for number in signals:
            log.info("%s: unmounting", signal.Signals(number).name)
            pyfuse3.terminate()


def _try_mount(mountpoint: str, path: str) -> None:
    device = os.stat(os.path.join(mountpoint, path)).st_dev
    # larger requests: there is no other way to ask for them
    read_further_ahead(f"{os.major(device)}:{os.minor(device)}")


def _fuse_descriptors() -> set[int]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the directory's own is closed by now
            if os.readlink(f"/proc/self/fd/{name}") == "/dev/fuse":
                found.add(int(name))
    return found


def _only(descriptors: set[int]) -> int:
    (descriptor,) = descriptors
    return descriptor


@contextmanager
def _captured_stderr() -> Iterator[Callable[[], str]]:
    """Catch the output of libfuse and fusermount3, which says why a mount failed.

    The value is a function that returns the last line so far, without libfuse's prefix.
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
