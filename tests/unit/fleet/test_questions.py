"""The questions of docs/triage.md, asked of a table of machines made for them."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest
from msgspec.structs import replace

from tests.unit.fleet.rows import make, report
from vmcorefs.fleet.listing import Dump
from vmcorefs.fleet.one import make_row
from vmcorefs.fleet.row import Answer
from vmcorefs.fleet.table import Table
from vmcorefs.reports.report.schema import Blocked, Lock, Memory, Module, Process, Stack, Taint

DOCUMENT = Path(__file__).parents[3] / "docs" / "triage.md"
_QUESTION = re.compile(r"(?ms)^\*\*([^*\n]+)\*\*\n\n```sql\n(.*?)\n```\n\n```\n(.*?)\n```$")

DAY = 86_400
START = 1_790_812_800  # 2026-10-01
CRASHES = (
    ("KASAN: slab-use-after-free Read in frob_read", "KASAN-USE-AFTER-FREE-READ", "frob_read"),
    ("BUG: soft lockup in knob_spin", "HANG", "knob_spin"),
    ("kernel panic: Out of memory", "", ""),
)
KERNELS = ("6.1.0-57-amd64", "6.12.117-amd64")


def fill(directory: Path) -> None:
    """24 machines, a crash every six hours, the third kind of crash with the newer kernel alone."""
    with Table(str(directory)) as table:
        for n in range(24):
            table.append(_row(n))
        dump = Dump("/var/crash/web-9/vmcore", 0, START)
        table.append(make_row(dump, Answer("failed", "empty, expected physical memory")).row)
        table.write()


def _row(n: int) -> bytes:
    kind = n % 3 if n >= 12 else n % 2
    title, fault, function = CRASHES[kind]
    made = report()
    task = made.why.task
    assert task is not None
    assert made.why.stack is not None
    holder = replace(task, pid=70 + n, tgid=70 + n, comm="knobd")
    waiting = [replace(task, pid=90, comm="kworker/0:1", state="D")]
    lock = Lock("mutex", 1 << 63, "knob_lock", holder)
    blocked = make(Blocked, tasks=waiting, seconds=120.0 + n, stack=Stack([]), lock=lock)
    java = make(Process, pid=7, comm="java", rss=n << 28)
    module = Module("frob", "2.1" if n < 18 else "2.2", 65536, "OE")
    said = replace(
        made,
        died=replace(
            made.died,
            host=f"web-{n % 5}",
            release=KERNELS[n >= 12],
            time=float(START + n * DAY // 4),
            uptime=600.0 * (n + 1),
        ),
        crash=replace(made.crash, title=title, fault=fault, function=function),
        why=replace(made.why, taints=[Taint("O", "a module")] if n % 4 == 0 else []),
        blocked=[blocked] if kind == 1 else [],
        memory=make(Memory, counters={"free": (1 << 30) // (n + 1)}, processes=[java]),
        modules=[module],
    )
    calls = (function or "out_of_memory", "frob_ioctl", "vfs_frob", "frob_open")
    dump = Dump(f"/var/crash/web-{n % 5}/vmcore.{n}", 1 << 24, float(START + n))
    return make_row(dump, Answer("ok", "", said, calls, (128 + n) << 20), 2.0 + n / 10).row


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("table")
    fill(directory)
    return directory


def ask(directory: Path, question: str) -> str:
    with duckdb.connect() as database:
        answer = database.sql(question.replace("dumps.parquet", f"{directory}/dumps.parquet"))
        lines = [answer.columns, *(map(str, row) for row in answer.fetchall())]
    cells = [list(line) for line in lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)


def test_the_answers_in_the_docs(table: Path) -> None:
    questions = _QUESTION.findall(DOCUMENT.read_text())

    assert len(questions) >= 12
    assert {question: ask(table, sql) for question, sql, _ in questions} == {
        question: answer for question, _, answer in questions
    }
