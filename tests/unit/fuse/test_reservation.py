"""Who holds the lock of a mount point."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vmcorefs.errors import MountError
from vmcorefs.fuse import reservation
from vmcorefs.fuse.reservation import Reservation

_LOCKS = """\
1: POSIX  ADVISORY  WRITE 11 fe:00:77 0 EOF
2: FLOCK  ADVISORY  WRITE 12 00:2d:77 0 EOF
2: -> FLOCK  ADVISORY  WRITE 13 00:2d:77 0 EOF
3: FLOCK  ADVISORY  READ  14 00:2d:77 0 EOF
4: FLOCK  ADVISORY  WRITE 15 00:2d:777 0 EOF
5: FLOCK  ADVISORY  WRITE 16 00:2d:77 0 EOF
6: LEASE  ACTIVE    READ  17 00:2d:77 0 EOF
"""
_USERS = {11: 0, 17: 0, 12: os.geteuid(), 13: 0, 14: 0, 15: 0, 16: os.geteuid() + 1}


def test_only_those_count_that_could_mount_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locks").write_text(_LOCKS)
    monkeypatch.setattr(reservation, "user_of", _USERS.get)
    assert reservation._holders(77, str(tmp_path / "locks")) == [12, 14]


def test_a_place_is_reserved_once_whatever_path_leads_there(tmp_path: Path) -> None:
    place = tmp_path / "mnt"
    place.mkdir()
    (tmp_path / "link").symlink_to(place)
    first = Reservation(str(place))
    with pytest.raises(MountError, match=rf"mounts there just now \({os.getpid()}\)"):
        Reservation(str(tmp_path / "link"))
    first.release()
    first.release()
    Reservation(str(tmp_path / "link")).release()


def test_a_file_system_without_locks_can_be_mounted_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", flock)
    Reservation(str(tmp_path)).release()
