"""The life of a dump: the log first, then the pages, then the name.

Nothing here knows a format. The order is what counts: the log is whole, synced and has its name
before the first page is written; the dump is synced before it has its name. Whatever happens in
between, from a signal to a full disk, leaves ``NAME.incomplete``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial

import msgspec
from msgspec.structs import replace

from vmcorefs.core.space.units import format_size
from vmcorefs.errors import ConfigError, DiskFullError, OutputError, StoppedError
from vmcorefs.output.places import STDOUT, is_local, local_path, log_name, open_target, part_names
from vmcorefs.output.target import INCOMPLETE, Target
from vmcorefs.save.dump import Dump, Observer
from vmcorefs.save.progress import Progress
from vmcorefs.save.report import Report
from vmcorefs.save.stop import Stop
from vmcorefs.save.watched import WatchedKinds
from vmcorefs.save.written import Written
from vmcorefs.sources.evidence import NOTHING, Evidence
from vmcorefs.system.files import read_file
from vmcorefs.system.urls import without_password

Write = Callable[[Dump, Sequence[Target], Observer], Written]
"""A format, with its codec and threads settled: it writes the dump into the targets, its parts, or
raises OutputError."""


class Order(msgspec.Struct, frozen=True):
    """What is asked for.

    Attributes:
        output: Where to, as ``-o`` names it.
        levels: Dump levels; each but the first is tried when there is no room for the one before.
        format: ``kdump``, ``elf`` or ``flattened``.
        codec: How pages are compressed, or ``none``.
        parts: Files that the dump is written into.
        resume: Continue what an earlier try has left.
        force: Replace what is there.
        log: Save the kernel's log beside the dump.
        sha256: Compute the checksum of each file: one of kdump's is read again for it.
    """

    output: str
    levels: tuple[int, ...]
    format: str
    codec: str
    parts: int = 1
    resume: bool = False
    force: bool = False
    log: bool = True
    sha256: bool = True


class Console(msgspec.Struct, frozen=True):
    """Where messages go.

    Attributes:
        bar: Show a bar on standard error.
        say: Called with each line; None to be quiet.
        warn: Called with each warning, also when quiet.
        step: Called as pages are written; what it raises ends the save.
        make_room: Called before the first byte with how many will be written at least.
    """

    bar: bool
    say: Callable[[str], None] | None
    warn: Callable[[str], None]
    step: Callable[[], None] = lambda: None
    make_room: Callable[[int], None] = lambda _size: None


def save(
    dump: Dump,
    log: bytes | None,
    order: Order,
    write: Write,
    console: Console,
    *,
    missing: int = 0,
    evidence: Evidence = NOTHING,
) -> Report:
    """Write a dump where ``order`` wants it.

    Args:
        dump: What to save; its level is one of the order's.
        log: The kernel's log, which is saved first; None if there is none.
        order: What is asked for.
        write: The format.
        console: Where messages go.
        missing: Bytes of RAM that no input holds, for the report.
        evidence: What may not be written to.

    Returns:
        What was done. If it is not complete, the files keep their incomplete names.

    Raises:
        ConfigError: if something is there that is not to be replaced, or is an input.
        OutputError: if it cannot be written.
        StoppedError: if a signal came.
        SourceIOError: if the page array cannot be read.
    """
    start = time.monotonic()
    order = replace(order, output=local_path(order.output))
    warnings: list[str] = []

    def warn(line: str) -> None:
        warnings.append(line)
        console.warn(f"warning: {line}")

    with ExitStack() as stack:
        stop = stack.enter_context(Stop())
        targets = _open_targets(order, dump, evidence, warn, stack)
        saved_log = _save_log(order, log, evidence, warn)
        progress = Progress(
            without_password(order.output),
            dump.kinds.page_size,
            stop,
            bar=console.bar,
            say=console.say,
            step=console.step,
            needs=partial(_check_room, order, targets, console),
        )
        stack.callback(progress.close)
        with _keeping(order, targets, progress):
            level, written = _write(dump, order, targets, write, progress, warn)
        progress.close()
        whole = not progress.losses.size
        for target in targets if whole else ():
            target.publish()
        return Report(
            names=tuple(_name(target, whole=whole) for target in targets),
            format=order.format,
            codec=order.codec,
            level=level,
            page_size=dump.kinds.page_size,
            kept=written.kept,
            left_out=written.left_out,
            losses=progress.losses,
            missing=missing,
            resumed=written.resumed,
            size=written.size,
            sha256=_sums(targets, stop, whole=whole),
            seconds=time.monotonic() - start,
            log=saved_log,
            warnings=tuple(warnings),
            triage=dump.triage.contents if dump.triage is not None else None,
        )


def _open_targets(
    order: Order, dump: Dump, evidence: Evidence, warn: Callable[[str], None], stack: ExitStack
) -> list[Target]:
    """All parts, or none: what was made for the first goes away if the last cannot be made."""
    reach = int((dump.ram[:, 1] - dump.ram[:, 0]).sum()) if len(dump.ram) else 0
    targets = []
    for name in part_names(order.output, order.parts):
        target = open_target(
            name,
            force=order.force,
            evidence=evidence,
            resume=order.resume,
            reach=reach,
            hashed=order.sha256,
        )
        stack.callback(target.close)
        targets.append(target)
        if target.warning is not None:
            warn(target.warning)
    return targets


def _save_log(
    order: Order, log: bytes | None, evidence: Evidence, warn: Callable[[str], None]
) -> str | None:
    """Write the kernel's log beside the dump, to the last sync; a pipe has no place for it."""
    if order.output == STDOUT or not order.log:
        return None
    if log is None:
        warn("the kernel's log was not found, so none is saved beside the dump")
        return None
    name = log_name(order.output)
    if not order.force and is_local(name) and os.path.isfile(name):
        # an earlier try has left it, whole: it has its final name
        if read_file(name, "the log", len(log)) == log:
            return name
        if order.resume:
            raise ConfigError(f"{name}: is not this machine's log; pass --force to replace it")
    force = order.force or order.resume
    with closing(open_target(name, force=force, evidence=evidence)) as target:
        target.pwrite(log, 0)
        target.sync()
        target.publish()
        return target.name


def _check_room(
    order: Order, targets: Sequence[Target], console: Console, sizes: Sequence[int], what: str
) -> None:
    """See ``Observer.needs``; the parts of a dump are all in one directory."""
    if targets[0].room is None:
        return
    pairs = zip(targets, sizes, strict=True)
    needed = sum(max(size - target.present, 0) for target, size in pairs)
    console.make_room(needed)
    room = targets[0].room
    least = f"{without_password(order.output)}: {what} take {format_size(needed)} at least"
    if needed > room:
        raise DiskFullError(
            f"{least}, and {format_size(room)} are free on its file system: nothing of the dump is"
            " written"
        )
    try:
        for target, size in zip(targets, sizes, strict=True):
            target.reserve(size)
    except DiskFullError:
        raise DiskFullError(
            f"{least}, and its file system says that it has no room for them: nothing of the dump"
            " is written"
        ) from None


@contextmanager
def _keeping(order: Order, targets: Sequence[Target], progress: Progress) -> Iterator[None]:
    """Sync what is there of a dump whose writing fails, and let the error say what is left."""
    try:
        yield
    except ConfigError as error:
        # of what an earlier try has left, which only its format knows
        raise ConfigError(
            f"{order.output}{INCOMPLETE}: {error}" if order.resume else str(error)
        ) from None
    except StoppedError as error:
        _sync(targets)
        what = _describe_stop(error, order, progress)
        raise StoppedError(what, is_interrupt=error.is_interrupt) from None
    except BaseException:
        _sync(targets)
        raise


def _write(
    dump: Dump,
    order: Order,
    targets: Sequence[Target],
    write: Write,
    progress: Progress,
    warn: Callable[[str], None],
) -> tuple[int, Written]:
    """Write the dump at the first level that there is room for, and sync it."""
    for level, next_level in zip(order.levels, (*order.levels[1:], None), strict=True):
        try:
            watched = replace(dump, level=level, kinds=WatchedKinds(dump, progress.looked))
            written = write(watched, targets, progress)
            for target in targets:
                target.sync()
        except DiskFullError as error:
            if next_level is None or any(target.sequential for target in targets):
                raise
            warn(f"no room for dump level {level}; trying {next_level} ({error})")
            for target in targets:
                target.truncate(0)
            progress.restart()
        else:
            return level, written
    raise ValueError("no dump level")


def _sync(targets: Sequence[Target]) -> None:
    """Save what is there of a dump that will not be whole; why it will not is said elsewhere."""
    for target in targets:
        with suppress(OutputError):
            target.sync()


def _describe_stop(error: StoppedError, order: Order, progress: Progress) -> str:
    advice = (
        "; the same command with --resume continues it"
        if is_local(order.output) and order.format == "kdump"
        else ""
    )
    name = without_password(order.output)
    kept = "" if order.output == STDOUT else f"; what is written keeps the name {name}"
    lost = f", {format_size(progress.losses.size)} lost" if progress.losses.size else ""
    return f"{name}: {error} {progress.how_far()}{lost}{kept}.incomplete{advice}"


def _sums(targets: Sequence[Target], stop: Stop, *, whole: bool) -> tuple[str | None, ...]:
    try:
        return tuple(target.sha256(stop.check) for target in targets)
    except StoppedError as error:
        names = ", ".join(_name(target, whole=whole) for target in targets)
        what = "complete" if whole else "as complete as it can be"
        raise StoppedError(
            f"{error} while the checksum was computed; {names} is {what}",
            is_interrupt=error.is_interrupt,
        ) from None


def _name(target: Target, *, whole: bool) -> str:
    return target.name if whole or target.incomplete is None else target.incomplete
