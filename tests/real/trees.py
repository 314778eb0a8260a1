"""A real ``vmcorefs mount`` in its own process, and files that are compared in large chunks."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

VMCOREFS: Final = str(Path(sysconfig.get_path("scripts")) / "vmcorefs")

_CHUNK: Final = 8 << 20


def vmcorefs(*arguments: str | Path) -> str:
    """Run the command, which must succeed, and return what it says on either stream.

    It ends only when both streams are closed: a daemon that kept one open would hang the test.
    """
    done = subprocess.run(
        [VMCOREFS, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done
    return done.stdout


@contextmanager
def mounted(where: Path, *arguments: str | Path, warns: str = "") -> Iterator[Path]:
    """Mount a tree under the directory ``where``, and unmount it at the end.

    Args:
        where: an empty directory.
        arguments: the options and images of ``vmcorefs mount``.
        warns: what the command says, as a pattern.
    """
    tree, log = where / "tree", where / "log"
    tree.mkdir()
    said = vmcorefs("mount", "--log", log, *arguments, tree)
    try:
        assert re.fullmatch(warns, said), said
        yield tree
    finally:
        vmcorefs("umount", tree)
        assert not os.path.ismount(tree)
    logged = log.read_text()
    assert "ERROR" not in logged, logged
    assert "Traceback" not in logged, logged


def differences(one: Path, other: Path) -> tuple[int, int | None]:
    """Return how many bytes differ, and where the first does; the sizes are equal or it fails."""
    size = one.stat().st_size
    assert size == other.stat().st_size
    return compare(one, 0, other, 0, size)


def compare(
    one: Path, one_offset: int, other: Path, other_offset: int, size: int
) -> tuple[int, int | None]:
    """Compare a range of one file with a range of another.

    Returns:
        How many bytes differ, and where in ``one`` the first does.
    """
    count, first = 0, None
    with one.open("rb", buffering=0) as ours, other.open("rb", buffering=0) as theirs:
        for done in range(0, size, _CHUNK):
            length = min(_CHUNK, size - done)
            mine = _read(ours.fileno(), one_offset + done, length)
            truth = _read(theirs.fileno(), other_offset + done, length)
            if np.array_equal(mine, truth):
                continue
            places = np.flatnonzero(mine != truth)
            count += len(places)
            if first is None:
                first = one_offset + done + int(places[0])
    return count, first


def is_zero(path: Path, offset: int, size: int) -> bool:
    """Tell whether a range of a file holds nothing but zeros."""
    with path.open("rb", buffering=0) as file:
        return not any(
            _read(file.fileno(), place, min(_CHUNK, offset + size - place)).any()
            for place in range(offset, offset + size, _CHUNK)
        )


def read(path: Path, offset: int, size: int) -> bytes:
    """Return ``size`` bytes of a file."""
    with path.open("rb", buffering=0) as file:
        return _read(file.fileno(), offset, size).tobytes()


def _read(descriptor: int, offset: int, size: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    buffer = np.empty(size, dtype=np.uint8)
    # one call: before the end of a file, a short count would be a bug
    assert os.preadv(descriptor, [buffer.data], offset) == size, (descriptor, offset, size)
    return buffer
