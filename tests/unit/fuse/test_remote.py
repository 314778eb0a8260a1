"""File systems that may stop answering."""

from __future__ import annotations

import os
from pathlib import Path

from vmcorefs.fuse.planes import remote

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
31 22 0:40 / /mnt/share rw - nfs4 server:/dumps rw
32 22 0:41 / /mnt/s3 rw - fuse.rclone remote: rw
"""


def test_the_type_is_that_of_the_mount_that_a_descriptor_is_on() -> None:
    for number, expected in (("22", "ext4"), ("31", "nfs4"), ("32", "fuse.rclone"), ("9", None)):
        assert remote._type_of(MOUNTS, number) == expected


def test_a_local_file_does_not_hang(tmp_path: Path) -> None:
    path = tmp_path / "ram"
    path.write_bytes(b"x")
    descriptor = os.open(path, os.O_RDONLY)
    assert remote.may_hang(descriptor) is None
    os.close(descriptor)
    assert remote.may_hang(-1) is None
