"""The table, and what has not got there yet.

``dumps.parquet`` has a row for each dump, and is replaced whole, by a rename. Until then each row
that is done is a line of ``unfinished.jsonl``: whatever ends the command, what is done is there.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, Self

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from vmcorefs.errors import ConfigError, OutputError
from vmcorefs.fleet.columns import SCHEMA, adapt, to_batch, version_of
from vmcorefs.fleet.groups import Crash, Place, group
from vmcorefs.fleet.row import VERSION, Row

TABLE: Final = "dumps.parquet"
JOURNAL: Final = "unfinished.jsonl"
_FORM: Final = {"compression": "zstd", "use_compliant_nested_type": False}
_ROWS: Final = 256
"""Rows that are in memory at a time."""


class Known(msgspec.Struct, frozen=True):
    """What is kept in memory of each row.

    Attributes:
        key, dump, outcome, reason: As in ``Row``.
        at: Its number in the table, or -1 - the place of its line in the journal.
        time, host, release: Of the machine's death.
        crash: What it is compared by.
    """

    key: str
    dump: str
    outcome: str
    reason: str
    at: int
    time: float | None
    host: str | None
    release: str | None
    crash: Crash


class Table:
    """The rows in a directory; used in a ``with`` statement, by one process at a time."""

    def __init__(self, directory: str) -> None:
        """Open the table, and make the directory if there is none.

        Raises:
            ConfigError: if something else is in the directory, another process writes the table, or
                a newer vmcorefs has written it.
            OutputError: if it cannot be read or written.
        """
        self.directory = Path(directory)
        self._path = self.directory / TABLE
        self._journal = self._open()
        try:
            self.known = self._read()
        except BaseException:
            self._journal.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

    def append(self, row: bytes) -> Known:
        """Keep a row, in JSON, from now on.

        Raises:
            OutputError: if it cannot be written.
        """
        try:
            at = self._journal.seek(0, os.SEEK_END)
            self._journal.write(row + b"\n")
            self._journal.flush()
        except OSError as error:
            raise OutputError(f"{self.directory / JOURNAL}: {error.strerror}") from error
        known = _known(msgspec.json.decode(row, type=Row), -1 - at)
        self.known[known.dump] = known
        return known

    def write(self) -> list[tuple[Known, Place]]:
        """Group all rows, and write the table anew.

        Returns:
            Each row and its place, in the order of the table.

        Raises:
            OutputError: if it cannot be written.
        """
        self.known = self._read()  # a signal may have come when a row was kept, but not yet known
        rows = sorted(self.known.values(), key=lambda one: (one.at < 0, abs(one.at)))
        placed = list(zip(rows, group([one.crash for one in rows]), strict=True))
        if self._journal.seek(0, os.SEEK_END) or not self._path.exists():
            self._replace(placed)
        return placed

    def _replace(self, placed: list[tuple[Known, Place]]) -> None:
        new = self._path.with_suffix(".incomplete")
        places = {known.at: place for known, place in placed}
        try:
            with pq.ParquetWriter(new, SCHEMA, **_FORM) as writer:
                for batch in self._batches(places):
                    writer.write_batch(batch)
            with open(new, "rb") as file:
                os.fsync(file.fileno())
            os.replace(new, self._path)
            self._journal.truncate(0)
        except OSError as error:
            raise OutputError(f"{self._path}: {error}") from error
        self.known = {
            known.dump: msgspec.structs.replace(known, at=at)
            for at, (known, _) in enumerate(placed)
        }

    def _batches(self, places: dict[int, Place]) -> Iterator[pa.RecordBatch]:
        """All rows of the table, then those of the journal, as far as they have a place."""
        at = 0
        for batch in self._old():
            kept = [n for n in range(len(batch)) if at + n in places]
            yield adapt(batch.take(pa.array(kept, pa.int64())), [places[at + n] for n in kept])
            at += len(batch)
        rows: list[Row] = []
        where: list[Place] = []
        for line, row in self._lines():
            if -1 - line in places:
                rows.append(row)
                where.append(places[-1 - line])
            if len(rows) == _ROWS:
                yield to_batch(rows, where)
                rows, where = [], []
        if rows:
            yield to_batch(rows, where)

    def _open(self) -> IO[bytes]:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            names = set(os.listdir(self.directory))
            if names and not names & {TABLE, JOURNAL}:
                raise ConfigError(
                    f"{self.directory}: neither empty nor a table of vmcorefs triage; name another"
                )
            journal = open(self.directory / JOURNAL, "a+b")  # noqa: SIM115  # closed with the table
        except OSError as error:
            raise OutputError(f"{self.directory}: {error.strerror}") from error
        try:
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            journal.close()
            raise ConfigError(f"{self.directory}: another process writes this table") from error
        return journal

    def _read(self) -> dict[str, Known]:
        """What is known of each dump: the newest row of each."""
        found: dict[str, Known] = {}
        at = 0
        for batch in self._old():
            for one in batch.select(_light(batch.schema)).to_pylist():
                found[one["dump"]] = _known_of(one, at)
                at += 1
        for line, row in self._lines():
            found[row.dump] = _known(row, -1 - line)
        return found

    def _old(self) -> Iterator[pa.RecordBatch]:
        if not self._path.exists():
            return
        try:
            with pq.ParquetFile(self._path) as file:
                version = version_of(file.schema_arrow)
                if version is None or version > VERSION:
                    raise ConfigError(
                        f"{self._path}: a table of version {version}, expected {VERSION} or older"
                    )
                yield from file.iter_batches(_ROWS)
        except (OSError, pa.ArrowException) as error:
            raise OutputError(f"{self._path}: cannot be read: {error}") from error

    def _lines(self) -> Iterator[tuple[int, Row]]:
        """The rows of the journal, with where each line begins.

        A line that was being written is cut off. One that another version has written may lack
        what a row has now: its dump is opened again.
        """
        at = 0
        self._journal.seek(at)
        while (line := self._journal.readline()).endswith(b"\n"):
            with suppress(msgspec.DecodeError):
                yield at, msgspec.json.decode(line, type=Row)
            at += len(line)
            self._journal.seek(at)
        self._journal.truncate(at)


_LIGHT: Final = (
    *("key", "dump", "outcome", "reason", "calls", "died_time", "died_host", "died_release"),
    *("crash_title", "crash_corrupted"),
)


def _light(schema: pa.Schema) -> list[str]:
    return [name for name in _LIGHT if schema.get_field_index(name) >= 0]


def _known(row: Row, at: int) -> Known:
    report = row.report
    return _known_of(
        {
            "key": row.key,
            "dump": row.dump,
            "outcome": row.outcome,
            "reason": row.reason,
            "calls": row.calls,
            "died_time": report and report.died.time,
            "died_host": report and report.died.host,
            "died_release": report and report.died.release,
            "crash_title": report and report.crash.title,
            "crash_corrupted": report and report.crash.corrupted,
        },
        at,
    )


def _known_of(one: dict[str, Any], at: int) -> Known:
    title = one.get("crash_title") or ""
    trusted = bool(title) and not one.get("crash_corrupted")
    if not title and one.get("outcome") not in {"ok", "partial"}:
        title, trusted = f"not read: {one.get('outcome')}", True
    return Known(
        key=one["key"],
        dump=one["dump"],
        outcome=one.get("outcome") or "",
        reason=one.get("reason") or "",
        at=at,
        time=one.get("died_time"),
        host=one.get("died_host"),
        release=one.get("died_release"),
        crash=Crash(one["dump"], title, trusted, tuple(one.get("calls") or ())),
    )
