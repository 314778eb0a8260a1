"""A cache of its own for each test, and places in an index that are close together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vmcorefs.sources.file import FileSource
from vmcorefs.sources.input import File
from vmcorefs.sources.wrappers import gzip
from vmcorefs.sources.wrappers.unwrap import Unwrapping, unwrap

Unwrap = Callable[..., File]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where indexes are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(gzip, "SPACING", 1 << 16)
    return tmp_path / "cache" / "vmcorefs" / "wrappers"


@pytest.fixture
def opened(cache: Path) -> Iterator[Unwrap]:
    """Opens what is in a file; closed behind the test."""
    files: list[File] = []

    def open_file(path: Path, how: Unwrapping | None = None) -> File:
        file, _ = unwrap(FileSource(str(path), role="image"), how or Unwrapping())
        files.append(file)
        return file

    yield open_file
    for file in files:
        file.close()
