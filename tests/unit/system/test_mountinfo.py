"""What is mounted, read as proc_pid_mountinfo(5) says."""

from __future__ import annotations

from pathlib import Path

from vmcorefs.system.mountinfo import Mounted, list_mounted

_LINES = (
    b"36 35 254:1 /@ / rw,noatime shared:1 - btrfs /dev/vda1 rw,subvol=/@\n"
    # the kernel escapes blank, tab, newline and backslash alone (fs/proc_namespace.c)
    b"37 36 0:40 / /mnt/a\\040b\r\xe2\x80\xa8c ro - fuse.vmcorefs vmcorefs:12 rw,user_id=0\n"
)


def test_only_a_newline_ends_a_line(tmp_path: Path) -> None:
    path = tmp_path / "mountinfo"
    path.write_bytes(_LINES)
    assert list_mounted(str(path)) == [
        Mounted("/", "/@", "/dev/vda1", "btrfs", "254:1", is_read_only=False, number=36),
        Mounted(
            "/mnt/a b\r\u2028c",
            "/",
            "vmcorefs:12",
            "fuse.vmcorefs",
            "0:40",
            is_read_only=True,
            number=37,
            owner=0,
        ),
    ]
