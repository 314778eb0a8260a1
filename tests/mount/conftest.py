"""Fixtures: a machine whose mount never outlives its test."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.machine import Machine, make_machine
from vmcorefs.fuse.mounts import find_mount


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = make_machine(tmp_path)
    try:
        yield machine
    finally:
        while find_mount(str(machine.mountpoint)) is not None:
            subprocess.run(["umount", "-l", str(machine.mountpoint)], check=True)
