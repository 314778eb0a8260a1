"""File systems that may stop answering."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmcorefs.fuse.planes import remote
from vmcorefs.system import mountinfo


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "ram"
    path.write_bytes(b"x")
    opened = os.open(path, os.O_RDONLY)
    yield opened
    os.close(opened)


def mount_id(descriptor: int) -> str:
    fdinfo = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    return next(line.split()[1] for line in fdinfo.splitlines() if line.startswith("mnt_id:"))


@pytest.mark.parametrize(
    ("fs_type", "expected"),
    [("ext4", None), ("nfs4", "nfs4"), ("fuse.rclone", "fuse.rclone"), ("fuseblk", "fuseblk")],
)
def test_the_type_is_that_of_the_mount_that_a_descriptor_is_on(
    descriptor: int, fs_type: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = int(mount_id(descriptor))
    table = [
        mountinfo.Mounted("/", "/", "server:/", "nfs4", "0:1", is_read_only=False, number=10**6),
        mountinfo.Mounted("/m", "/", "source", fs_type, "0:2", is_read_only=False, number=number),
    ]
    monkeypatch.setattr(mountinfo, "list_mounted", lambda: table)
    assert remote.may_hang(descriptor) == expected


def test_a_local_file_does_not_hang(descriptor: int) -> None:
    assert remote.may_hang(descriptor) is None
    assert remote.may_hang(-1) is None


def test_a_mount_point_with_a_line_end_in_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel does not escape a carriage return (fs/proc_namespace.c)."""
    monkeypatch.setattr(remote, "_TYPES", frozenset({"ramfs"}))
    mountpoint = tmp_path / "a\rb"
    mountpoint.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "ramfs", mountpoint], check=True)
    try:
        (mountpoint / "ram").write_bytes(b"x")
        opened = os.open(mountpoint / "ram", os.O_RDONLY)
        found = remote.may_hang(opened)
        os.close(opened)
    finally:
        subprocess.run(["umount", mountpoint], check=True)
    assert found == "ramfs"
