"""The generators of old formats are judged by another reader of these: Debian's libkdumpfile."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

from tests.builders.lkcd import pack_lkcd
from tests.builders.s390 import pack_s390
from tests.real.marks import REAL
from tests.real.tools import run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = REAL

PAGE = 4096
COUNT = 64
RANDOM = random.Random(3)  # noqa: S311
MEMORY = b"".join(
    RANDOM.randbytes(PAGE) if number % 5 == 0 else bytes([number]) * 3000 + bytes(PAGE - 3000)
    for number in range(COUNT)
)
PAGES = [(at, MEMORY[at : at + PAGE]) for at in range(0, len(MEMORY), PAGE)]
DUMPS = {
    **{
        f"lkcd-{version}-{compression}-{bits}-{order}": pack_lkcd(
            PAGES, version, compression, order, bits=bits
        )
        for version, compression, bits in (
            (1, 1, 64),
            (5, 2, 32),
            (7, 0, 64),
            (9, 2, 64),
            (10, 1, 64),
        )
        for order in "<>"
    },
    "s390": pack_s390(MEMORY),
}


@pytest.mark.parametrize("name", DUMPS)
def test_libkdumpfile_reads_the_same_pages(tmp_path: Path, name: str) -> None:
    dump, memory = tmp_path / "dump", tmp_path / "memory"
    dump.write_bytes(DUMPS[name])
    memory.write_bytes(MEMORY)
    told = run(["/usr/bin/python3", "tests/real/kdumpfile_pages.py", dump, memory], dump)
    found = json.loads(told)
    assert (found["pages"], found["different"]) == (COUNT, 0)
