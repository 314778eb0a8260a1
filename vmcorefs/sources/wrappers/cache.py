"""Where indexes of wrapped files are kept: in the user's cache, never beside the evidence."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from vmcorefs.errors import ConfigError, OutputError
from vmcorefs.sources.base import Source
from vmcorefs.sources.evidence import gather
from vmcorefs.sources.input import File
from vmcorefs.sources.wrappers.records import Index, IndexWriter, read_index, secret_of

LIMIT = 32 << 30
"""Bytes that all indexes may take: those that were used last are kept."""

SUFFIX, NEW = ".index", ".new"
"""What the names of files end with: of finished ones, and of those that are being written."""
_STALE = 24 * 3600.0

Build = Callable[[IndexWriter], Index]
"""Makes an index: adds the places and finishes it."""


def cached_index(file: File, what: str, build: Build) -> Index:
    """The index of a wrapped file: a kept one of the same bytes, or else a new one.

    A cache that cannot be used is passed over: the index then lies in an unnamed file.

    Args:
        file: The wrapped file.
        what: The codec, and how its index is made.
        build: Makes it.

    Raises:
        SourceIOError: if the file cannot be read.
        FormatError: if it is no such file.
        OutputError: if there is no room for the index.
    """
    secret = secret_of(file, what)
    # the key is not to be told from the name
    name = hashlib.sha256(b"name" + secret + str(file.file.identity).encode()).hexdigest()[:40]
    directory = cache_directory(file, "wrappers")
    if directory is None:
        with tempfile.TemporaryFile() as unnamed:
            return _build(unnamed, secret, build)
    path = directory / f"{name}{SUFFIX}"
    found = _find(path, secret)
    if found is not None:
        return found
    with tempfile.NamedTemporaryFile(dir=directory, suffix=NEW, delete=False) as new:
        try:
            index = _build(new, secret, build)
            os.replace(new.name, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(new.name)
            raise
    prune(directory, path, LIMIT)
    return index


def _build(new: IO[bytes], secret: bytes, build: Build) -> Index:
    descriptor = os.dup(new.fileno())
    try:
        return build(IndexWriter(descriptor, secret))
    except OSError as error:
        os.close(descriptor)
        raise OutputError(f"{new.name}: cannot keep the index there: {error.strerror}") from error
    except BaseException:
        os.close(descriptor)
        raise


def cache_directory(file: Source, kind: str) -> Path | None:
    """The user's directory for what is kept of inputs; None if it cannot be used.

    Args:
        file: An input, on which it may not lie.
        kind: Its name.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    with suppress(OSError, RuntimeError, ConfigError):
        root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
        directory = root / "vmcorefs" / kind
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        gather(None, file.origin).refuse(str(directory / "any"))
        if os.access(directory, os.W_OK | os.X_OK):
            return directory
    return None


def _find(path: Path, secret: bytes) -> Index | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        found = read_index(descriptor, secret)
    except (OSError, ValueError):  # msgspec's errors are ValueErrors
        found = None
    if found is None:
        os.close(descriptor)
        return None
    with suppress(OSError):
        os.utime(path)
    return found


def prune(directory: Path, newest: Path, limit: int) -> None:
    """Remove what was used longest ago, and what a killed process has left.

    Args:
        directory: Where the files are.
        newest: One that stays.
        limit: Bytes that all of them may take.
    """
    with suppress(OSError):
        known = [(each.stat(), each) for each in directory.iterdir()]
        total = 0
        for status, path in sorted(known, key=lambda one: -one[0].st_mtime):
            total += status.st_size
            stale = path.suffix == NEW and status.st_mtime < time.time() - _STALE
            if stale or (path.suffix == SUFFIX and total > limit and path != newest):
                path.unlink()
