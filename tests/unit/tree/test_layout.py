"""The sizes of the long texts, which ``ls -l`` and inspect ask for."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pytest

from tests.builders.elf_dumps import Load, pack_dump, save_dump
from tests.builders.kdumps import KEPT, RAM, Kdump
from tests.conftest import Opener
from tests.steps import count_steps
from vmcorefs.core.space.extents import NO_SOURCE, Extents, Kind
from vmcorefs.errors import FormatError
from vmcorefs.reader import Reader
from vmcorefs.sources.base import BytesSource
from vmcorefs.tree.file import TreeFile, text_file
from vmcorefs.tree.layout import layout_file


@pytest.mark.parametrize("data", [Kdump(KEPT, RAM).pack(), pack_dump(), pack_dump([Load(0, 4096)])])
def test_the_sizes_are_those_of_the_texts_which_are_not_made_for_them(
    tmp_path_factory: pytest.TempPathFactory, open_capture: Opener, data: bytes
) -> None:
    files = open_capture(save_dump(tmp_path_factory.mktemp("dump"), data)).files
    sizes = {path: files[path].size for path in ("layout.json", "iomem")}
    assert not any(files[path].is_made for path in sizes)
    texts = {path: files[path].pread(1 << 30, 0) for path in sizes}
    assert {path: len(text) for path, text in texts.items()} == sizes
    told = json.loads(texts["layout.json"])["files"]["iomem"]
    assert told["size"] == sizes["iomem"]
    assert told["extents"] == [
        {
            "offset": 0,
            "size": sizes["iomem"],
            "kind": "data",
            "from": "made",
            "source": "iomem",
            "source_offset": 0,
        }
    ]


def table_of(rows: int) -> Extents:
    """Rows of every kind, with numbers of every length."""
    number = np.arange(rows, dtype=np.int64)
    kind = (number % len(Kind)).astype(np.int8)
    data = kind == Kind.DATA
    size = 10 ** (number % 10)
    return Extents(
        start=np.cumsum(size) - size,
        size=size,
        offset=np.where(data, 7 ** (number % 20), 0),
        source=np.where(data, number % 2, NO_SOURCE).astype(np.int32),
        kind=kind,
    )


def one_file(rows: int) -> TreeFile:
    sources = [BytesSource("a", b""), BytesSource('b"\n\u00e4', b"")]
    return TreeFile("x", lambda: Reader("x", table_of(rows), sources))


@pytest.mark.parametrize("rows", [1, 2, 500, (1 << 14) + 1])
def test_every_kind_and_every_number_counts(rows: int) -> None:
    layout = layout_file({"x": one_file(rows)})
    size = layout.size
    text = layout.pread(1 << 30, 0)
    assert len(text) == size
    assert len(json.loads(text)["files"]["x"]["extents"]) == rows


def test_a_file_that_cannot_be_made_and_one_that_is_empty_count_too() -> None:
    def fail() -> bytes:
        raise FormatError("no \u00e4")

    files: Mapping[str, TreeFile] = {"a": text_file("a", fail), "b": text_file("b", lambda: b"")}
    layout = layout_file(files)
    size = layout.size
    assert len(layout.pread(1 << 30, 0)) == size


def test_what_a_plane_says_later_does_not_change_the_text_that_was_measured() -> None:
    planes = iter([{"name": "plain"}, {"name": "another, and longer"}])
    file = one_file(3)
    file.describe_plane = lambda: next(planes)
    layout = layout_file({"x": file})
    size = layout.size
    assert len(layout.pread(1 << 30, 0)) == size


def test_the_size_takes_no_step_for_each_extent() -> None:
    def steps(rows: int) -> int:
        layout = layout_file({"x": one_file(rows)})
        return count_steps(lambda: layout.size)

    assert steps(8000) < steps(2000) + 1000
