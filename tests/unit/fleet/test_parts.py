"""The parts of a dump that was split are one dump."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from tests.builders.kdumps import Kdump
from vmcorefs.fleet.listing import find_dumps
from vmcorefs.fleet.one import make_row
from vmcorefs.fleet.parts import put_together
from vmcorefs.fleet.row import Answer, Row

PAGES = (1, 2, 5, 20, 21, 40, 41)
SPANS = ((0, 8), (8, 32), (32, 64))


def write_parts(directory: Path, stem: str, time: int = 0) -> None:
    directory.mkdir(exist_ok=True)
    for number, span in enumerate(SPANS, 1):
        packed = Kdump(PAGES, split=span, mapped=64).pack(tv_sec=time)
        (directory / f"{stem}{number}").write_bytes(packed)


def found_in(directory: Path) -> list[list[str]]:
    dumps = put_together(find_dumps([str(directory)], "elsewhere"))
    return [[os.path.relpath(one.place, directory) for one in (d, *d.others)] for d in dumps]


def test_parts_are_one_dump_where_its_first_is(tmp_path: Path) -> None:
    write_parts(tmp_path, "dump")
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "whole").write_bytes(Kdump(PAGES).pack())

    assert found_in(tmp_path) == [["a"], ["dump1", "dump2", "dump3"], ["whole"]]


def test_parts_of_another_dump_and_of_another_directory_are_others(tmp_path: Path) -> None:
    write_parts(tmp_path / "x", "one-")
    write_parts(tmp_path / "x", "two-", time=7)
    write_parts(tmp_path / "y", "one-")

    assert found_in(tmp_path) == [
        ["x/one-1", "x/one-2", "x/one-3"],
        ["x/two-1", "x/two-2", "x/two-3"],
        ["y/one-1", "y/one-2", "y/one-3"],
    ]


def test_damaged_headers_are_dumps_of_their_own(tmp_path: Path) -> None:
    packed = Kdump(PAGES, split=SPANS[0], mapped=64).pack()
    for size in (0, 8, 463, 464, 4096, 4199):
        (tmp_path / f"{size:04}").write_bytes(packed[:size])

    assert all(len(one) == 1 for one in found_in(tmp_path))


def test_a_part_that_comes_later_makes_it_another_dump_of_the_same_name(tmp_path: Path) -> None:
    write_parts(tmp_path, "dump")
    last = tmp_path / "dump3"
    kept = last.read_bytes()
    last.unlink()
    (before,) = put_together(find_dumps([str(tmp_path)], "elsewhere"))
    last.write_bytes(kept)
    (after,) = put_together(find_dumps([str(tmp_path)], "elsewhere"))

    assert before.name == after.name
    assert before.key != after.key


def test_its_row_has_the_size_of_all(tmp_path: Path) -> None:
    write_parts(tmp_path, "dump")
    (dump,) = put_together(find_dumps([str(tmp_path)], "elsewhere"))
    row = msgspec.json.decode(make_row(dump, Answer("ok")).row, type=Row)

    assert row.dump == str(tmp_path / "dump1")
    assert row.size == sum(path.stat().st_size for path in tmp_path.iterdir())
