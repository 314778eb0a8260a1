"""Disks that fill up."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vmcorefs.errors import OutputError
from vmcorefs.output.local import LocalTarget


@contextmanager
def disk_filling_up(at: int) -> Iterator[None]:
    """Have files be written up to ``at`` bytes, and the save within fail for the rest."""
    really_write = LocalTarget.pwrite

    def write(target: LocalTarget, data: bytes, offset: int) -> None:
        if offset > at:
            raise OutputError("no room")
        really_write(target, data, offset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalTarget, "pwrite", write)
        with pytest.raises(OutputError, match="no room"):
            yield


@contextmanager
def tmpfs(path: Path, size: str) -> Iterator[Path]:
    """A file system of ``size`` (mount(8)'s option) at a directory that is made."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


@contextmanager
def half_of_it_another_users(path: Path, size: int) -> Iterator[Path]:
    """An ext4 of ``size`` bytes, of which half is kept for a user who is not root."""
    image = path.with_name(f"{path.name}.ext4")
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-m", "50", image], check=True)
    subprocess.run(["mount", "-o", "loop,resuid=65534,resgid=65534", image, path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)
