"""A file as one mapping."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.builders.extents import table
from vmcorefs.core.space.extents import Kind
from vmcorefs.fuse.planes.mapping import Mapping
from vmcorefs.fuse.planes.pages import PAGE, cut_into_pages
from vmcorefs.reader import DEFAULT_FAULTS, Reader
from vmcorefs.sources.file import FileSource

_AREA = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) .*?^VmFlags: ([a-z0-9 ]*)$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def mapping(tmp_path: Path) -> Mapping:
    """A page of an input, zeros, a page that must be copied, and one that no input holds."""
    (tmp_path / "ram").write_bytes(bytes(range(256)) * 64)
    source = FileSource(str(tmp_path / "ram"), role="image")
    rows = table(
        (0, PAGE, PAGE, 0, Kind.DATA),
        (PAGE, PAGE, 0, -1, Kind.ZERO),
        (2 * PAGE, PAGE, 100, 0, Kind.DATA),
        (3 * PAGE, PAGE, 0, -1, Kind.MISSING),
    )
    pages = cut_into_pages(rows, DEFAULT_FAULTS, frozenset({0}))
    reader = Reader("file", rows, (source,))
    return Mapping(pages, {0: source.fileno()}, reader.pread)


def test_a_core_file_of_the_daemon_has_nothing_of_what_it_shows(mapping: Mapping) -> None:
    """The dead machine's memory would be in it, whatever coredump_filter says."""
    start = np.frombuffer(mapping.view, dtype=np.uint8).ctypes.data
    end = start + len(mapping.view)
    flags = {
        int(first, 16): words.split()
        for first, last, words in _AREA.findall(Path("/proc/self/smaps").read_text())
        if int(first, 16) < end and start < int(last, 16)
    }
    assert len(flags) >= 4
    assert [area for area, words in flags.items() if "dd" not in words] == []
