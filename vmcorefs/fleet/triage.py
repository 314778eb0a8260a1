"""The order of the steps: list, open what is new, group, write."""

from __future__ import annotations

import os
import signal
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import msgspec

from vmcorefs.errors import OutputError, StoppedError
from vmcorefs.fleet.engine import run
from vmcorefs.fleet.listing import Dump, find_dumps
from vmcorefs.fleet.one import Limits
from vmcorefs.fleet.page import make_page
from vmcorefs.fleet.parts import put_together
from vmcorefs.fleet.table import Known, Table
from vmcorefs.system.progress import Progress

PAGE: Final = "index.html"
REPORTS: Final = "reports"


class Order(msgspec.Struct, frozen=True):
    """What is to be done.

    Attributes:
        places: Where dumps are.
        output: The directory of the table.
        limits: What each dump may take.
        names: Patterns of the names of files in directories.
        scheduler: The address of Dask's; None for processes of this machine.
        processes: How many of those; None for one a CPU.
        again: Open those once more that were not read.
    """

    places: tuple[str, ...]
    output: str
    limits: Limits
    names: tuple[str, ...] = ("*",)
    scheduler: str | None = None
    processes: int | None = None
    again: bool = False


class Done(msgspec.Struct, frozen=True):
    """What was done.

    Attributes:
        found: Dumps at the places.
        opened: Those that were new.
        failed: Those of them that could not be read, or not wholly.
        rows: Dumps in the table.
        groups: Groups of equal crashes.
    """

    found: int
    opened: int
    failed: int
    rows: int
    groups: int


def triage(order: Order, progress: Progress, log: Callable[[str], None]) -> Done:
    """Bring a table up to date.

    Args:
        order: What to do.
        progress: Told how many dumps are done.
        log: Told which dump was not read, and why.

    Raises:
        StoppedError: if a signal ends it: what is done is in the table.
        ConfigError, UnsupportedError, OutputError: as the modules here say.
    """
    with Table(order.output) as table:
        dumps = put_together(find_dumps(order.places, order.output, order.names))
        new = [dump for dump in dumps if _is_new(table.known, dump, again=order.again)]
        failed = opened = 0
        try:
            for known in _open(table, new, order):
                opened += 1
                progress(opened, len(new))
                if known.outcome != "ok":
                    failed += 1
                    log(f"{known.dump}: {known.outcome}: {_without(known.dump, known.reason)}")
        except KeyboardInterrupt as stop:
            _finish(table)
            kept = sum(not _is_new(table.known, dump, again=False) for dump in new)
            raise StoppedError(
                f"{order.output}: stopped; {kept} of {len(new)} dumps are in the table, and the"
                " same command goes on with the others",
                is_interrupt=not stop.args,
            ) from None
        groups = _finish(table)
        return Done(len(dumps), opened, failed, len(table.known), groups)


def _is_new(known: dict[str, Known], dump: Dump, *, again: bool) -> bool:
    row = known.get(dump.name)
    return row is None or row.key != dump.key or (again and row.outcome not in {"ok", "partial"})


def _open(table: Table, dumps: Sequence[Dump], order: Order) -> Iterator[Known]:
    with (
        _terminated_as_interrupted(),
        closing(
            run(dumps, order.limits, scheduler=order.scheduler, processes=order.processes)
        ) as rows,
    ):
        for done in rows:
            known = table.append(done.row)
            if done.page:
                page = zlib.decompress(done.page)
                _write(table.directory / report_path(known.key), page)
            yield known


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, _: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt(number)


def _without(name: str, reason: str) -> str:
    """A reason, which usually begins with the name, without it."""
    return reason.removeprefix(f"{name}: ")


def report_path(key: str) -> str:
    """Where the report of a dump is, below the output."""
    return f"{REPORTS}/{key[:2]}/{key}.html"


def _finish(table: Table) -> int:
    placed = table.write()
    reports = {known.key: report_path(known.key) for known, _ in placed}
    there = {key: path for key, path in reports.items() if (table.directory / path).exists()}
    _write(table.directory / PAGE, make_page(placed, there))
    return len({place.group for _, place in placed})


def _write(path: Path, content: bytes) -> None:
    """Write a file, or leave what is there."""
    new = path.with_name(f"{path.name}.incomplete")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(content)
        os.replace(new, path)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}") from error
