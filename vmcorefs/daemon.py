"""The process that serves a mount: in the foreground, behind a shell, or under systemd.

Everything that can go wrong with the inputs has been found before this starts; what is left is
the mount itself. The command returns only when the tree can be read, so a child that fails reports
the reason through a pipe.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import sys
from collections.abc import Callable
from functools import partial

from msgspec.structs import replace

from vmcorefs.api import Capture
from vmcorefs.confine import process
from vmcorefs.confine.confinement import Confinement
from vmcorefs.errors import MountError, VmcorefsError
from vmcorefs.fuse.reservation import Reservation
from vmcorefs.fuse.serve import MountOptions, serve
from vmcorefs.sources.file import FileSource
from vmcorefs.system.logfile import LineFormatter, LogFile
from vmcorefs.system.notify import notify_systemd
from vmcorefs.system.terminal import printable
from vmcorefs.tree.live import mounted_name

log = logging.getLogger("vmcorefs")

_READY = b"ready"


def run_in_foreground(
    capture: Capture, options: MountOptions, reservation: Reservation, *, filtered: bool = True
) -> None:
    """Serve until unmounted, and tell systemd when the tree can be read.

    Args:
        capture: What to serve.
        options: Where and how.
        reservation: Of the mount point; released when the tree is mounted.
        filtered: Filter the daemon's system calls, if libseccomp is here.

    Raises:
        MountError: if the tree cannot be mounted.
    """
    _log_inputs(capture)

    def ready() -> None:
        log.info("%s: ready", options.mountpoint)
        status = f"STATUS={printable(options.mountpoint)}: ready"  # a line end would end it
        notify_systemd("READY=1", f"MAINPID={os.getpid()}", status)

    try:
        _serve(capture, options, reservation, ready, filtered=filtered)
    finally:
        notify_systemd("STOPPING=1")
        capture.close()


def run_in_background(
    capture: Capture,
    options: MountOptions,
    reservation: Reservation,
    log_path: str | None,
    *,
    filtered: bool = True,
    ends_with_parent: bool = False,
) -> None:
    """Serve from a child process; return when the tree can be read.

    Args:
        capture: What to serve.
        options: Where and how.
        reservation: Of the mount point; released when the tree is mounted.
        log_path: A file to append the log to, or None for syslog.
        filtered: Filter the daemon's system calls, if libseccomp is here.
        ends_with_parent: Unmount when this process ends, even if it is killed.

    Raises:
        MountError: if the child could not mount; its message is the child's.
    """
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    if os.fork() == 0:
        os.close(read_end)
        if ends_with_parent:
            process.end_with_parent(parent)
        serve_there = partial(_serve, capture, options, reservation, filtered=filtered)
        os._exit(_child(capture, log_path, write_end, serve_there))
    os.close(write_end)
    reservation.release()
    capture.close()
    with os.fdopen(read_end, "rb") as pipe:
        answer = pipe.read()
    if not answer.startswith(_READY):
        raise MountError(
            answer.decode() or f"{options.mountpoint}: the daemon died before it was ready"
        )


def _child(
    capture: Capture,
    log_path: str | None,
    pipe: int,
    serve_there: Callable[[Callable[[], None]], None],
) -> int:
    # no exception may leave this function: the stack and exit handlers below are the parent's
    answer = _Answer(pipe)
    try:
        os.setsid()
        configure_logging(log_path, background=True)
        os.chdir("/")
        _log_inputs(capture)
        serve_there(answer.ready)
    except VmcorefsError as error:
        log.error("%s", error)  # noqa: TRY400  # an error of the user, not a bug
        answer.send(printable(str(error)).encode())
        return error.exit_code
    except BaseException as error:
        log.exception("a bug in vmcorefs")
        answer.send(printable(f"a bug in vmcorefs: {error!r}").encode())
        return 1
    else:
        return 0


def _serve(
    capture: Capture,
    options: MountOptions,
    reservation: Reservation,
    ready: Callable[[], None],
    *,
    filtered: bool,
) -> None:
    """Serve, with only the privileges that takes."""
    # EROFS opens only regular files, and opening a device again might have an effect
    image = capture.image
    descriptors = [
        one.fileno() for one in image.inputs if isinstance(one, FileSource) and one.kind == "file"
    ]
    if image.is_live:  # nothing of it may be read a second time out of a cache
        options = replace(options, direct_io=True)
    confinement = Confinement(options.mountpoint, descriptors, filtered=filtered)

    def mounted() -> None:
        reservation.release()
        confinement.enter()

    try:
        serve(
            {mounted_name(image, path): file for path, file in capture.files.items()},
            options,
            directories=tuple(capture.directories.values()),
            time=image.time,
            ready=ready,
            inputs=image.inputs,
            confine=mounted,
        )
    finally:
        confinement.leave()


def _log_inputs(capture: Capture) -> None:
    """Log which files are served, to check later whether they are still the same."""
    for source in capture.image.inputs:
        verified = f", verified: {source.digest}" if source.digest is not None else ""
        log.info("%s %s: %s%s", source.role, source.origin, source.identity, verified)


class _Answer:
    """The child's only answer to the waiting command: ready, or why not."""

    def __init__(self, pipe: int) -> None:
        self._pipe: int | None = pipe

    def ready(self) -> None:
        """Say that the tree can be read, and leave the terminal to the user."""
        self.send(_READY)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        if null > 2:
            os.close(null)

    def send(self, answer: bytes) -> None:
        """Send ``answer``, unless one has been sent already."""
        pipe, self._pipe = self._pipe, None
        if pipe is None:
            return
        try:
            os.write(pipe, answer)
        except BrokenPipeError:
            log.warning("the command that asked for the mount has gone")
        os.close(pipe)


def configure_logging(path: str | None, *, background: bool, verbose: bool = False) -> None:
    """Set up where the log goes.

    Args:
        path: A file to append to, or None.
        background: Without ``path``, use syslog if there is one; otherwise standard error.
        verbose: Log more than warnings and errors.
    """
    handler: logging.Handler
    logging.raiseExceptions = False  # no tracebacks about a log that cannot be written
    if path is not None:
        handler = LogFile(path)
    elif not background:
        handler = logging.StreamHandler()
    elif os.path.exists("/dev/log"):
        handler = logging.handlers.SysLogHandler("/dev/log")
        handler.ident = f"vmcorefs[{os.getpid()}]: "
    else:
        handler = logging.NullHandler()
    stamp = "%(asctime)s " if path is not None else ""
    handler.setFormatter(LineFormatter(f"{stamp}%(levelname)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO if verbose or background else logging.WARNING)
