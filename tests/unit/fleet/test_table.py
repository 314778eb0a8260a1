"""The table: nothing is lost, nothing is there twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.fleet.rows import failed, report, row
from vmcorefs.errors import ConfigError, OutputError
from vmcorefs.fleet.columns import SCHEMA, version_of
from vmcorefs.fleet.row import VERSION
from vmcorefs.fleet.table import JOURNAL, TABLE, Table


def read(directory: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(directory / TABLE).to_pylist()
    return rows


def write(directory: Path, *rows: bytes) -> None:
    with Table(str(directory)) as table:
        for one in rows:
            table.append(one)
        table.write()


def test_a_row_has_the_report_flattened(tmp_path: Path) -> None:
    write(tmp_path, row("a"), failed("b"))
    one, other = read(tmp_path)

    assert one["dump"] == "a"
    assert one["version"] == VERSION
    assert one["died_host"] == "web-1"
    assert one["crash_title"] == one["group_title"] == "BUG in frob"
    assert one["why_task_comm"] == "init"
    assert one["why_stack_frames"][0]["pc"] == 1 << 63
    assert one["cpus"][0]["stack"]["frames"][0]["function"] == "frob_read"
    assert one["tasks"] == [("R", 1), ("S", 40)]
    assert (other["outcome"], other["reason"]) == ("timeout", "it took more than 1 s")
    assert other["died_host"] is None
    assert other["group_title"] == "not read: timeout"


def test_rows_are_added_and_those_of_a_dump_that_changed_are_replaced(tmp_path: Path) -> None:
    write(tmp_path, row("a"), row("b"))
    write(tmp_path, row("c"), row("a", size=2))

    assert [(one["dump"], one["size"]) for one in read(tmp_path)] == [("b", 1), ("c", 1), ("a", 2)]


def test_what_was_done_before_the_command_was_killed_is_there(tmp_path: Path) -> None:
    write(tmp_path, row("a"))
    with Table(str(tmp_path)) as table:
        table.append(row("b"))
    with open(tmp_path / JOURNAL, "ab") as file:
        file.write(row("c").replace(b'"died"', b'"ended"') + b"\n")  # by another version
        file.write(row("c")[:100])  # it was being written

    with Table(str(tmp_path)) as table:
        assert set(table.known) == {"a", "b"}
        table.append(row("d"))
        table.write()
    assert [one["dump"] for one in read(tmp_path)] == ["a", "b", "d"]
    assert (tmp_path / JOURNAL).stat().st_size == 0


def test_a_row_is_not_lost_where_a_signal_came_as_it_was_kept(tmp_path: Path) -> None:
    with Table(str(tmp_path)) as table:
        table.append(row("a"))
        del table.known["a"]  # as if that had been interrupted behind the write
        table.write()
    assert [one["dump"] for one in read(tmp_path)] == ["a"]


def test_killed_between_the_table_and_the_journal_nothing_is_there_twice(tmp_path: Path) -> None:
    with Table(str(tmp_path)) as table:
        table.append(row("a"))
        journal = (tmp_path / JOURNAL).read_bytes()
        table.write()
    (tmp_path / JOURNAL).write_bytes(journal)

    write(tmp_path, row("b"))
    assert [one["dump"] for one in read(tmp_path)] == ["a", "b"]


def test_a_table_of_an_older_schema_is_read_and_what_it_lacks_is_null(tmp_path: Path) -> None:
    write(tmp_path, row("a"))
    new = pq.read_table(tmp_path / TABLE)
    old = new.drop_columns(["peak", "why_cpu", "group_why", "calls"])
    narrow = old.set_column(old.schema.get_field_index("size"), "size", pa.array(["many"]))
    metadata = {b"vmcorefs.triage": b"0"}
    pq.write_table(narrow.replace_schema_metadata(metadata), tmp_path / TABLE)

    write(tmp_path, row("b"))
    one, other = read(tmp_path)
    assert (one["dump"], one["peak"], one["why_cpu"], one["size"]) == ("a", None, None, None)
    assert one["crash_title"] == one["group_title"] == "BUG in frob"
    assert other["peak"] == 1 << 20
    schema = pq.read_schema(tmp_path / TABLE)
    assert schema.equals(SCHEMA)
    assert version_of(schema) == VERSION


def test_a_newer_table_and_one_of_others_are_refused(tmp_path: Path) -> None:
    write(tmp_path, row("a"))
    table = pq.read_table(tmp_path / TABLE)
    for metadata in ({b"vmcorefs.triage": b"99"}, {}):
        pq.write_table(table.replace_schema_metadata(metadata), tmp_path / TABLE)
        with pytest.raises(ConfigError, match=f"expected {VERSION} or older"):
            Table(str(tmp_path))
    (tmp_path / TABLE).write_bytes(b"PAR1 no more")
    with pytest.raises(OutputError, match="cannot be read"):
        Table(str(tmp_path))


def test_a_directory_of_other_things_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "vmcore").write_bytes(b"x")
    with pytest.raises(ConfigError, match="neither empty nor a table"):
        Table(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["vmcore"]


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    with Table(str(tmp_path)), pytest.raises(ConfigError, match="another process"):
        Table(str(tmp_path))


def test_a_number_that_no_column_holds_is_null(tmp_path: Path) -> None:
    write(tmp_path, row("a", said=report(pc=-1)), row("b", size=1 << 70))
    one, other = read(tmp_path)

    assert one["why_stack_frames"][0]["pc"] is None
    assert other["size"] is None
