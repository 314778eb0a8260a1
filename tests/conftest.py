"""What tests share: hypothesis' profiles, and captures and mounts that do not outlive a test."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import vmcorefs
from tests.mount.machine import Machine, make_machine
from vmcorefs import Capture
from vmcorefs.fuse.mounts import find_mount

settings.register_profile("dev", max_examples=100, deadline=None)
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

Opener = Callable[..., Capture]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="skip what needs absent Debian packages")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip under ``./run unit`` alone: elsewhere what a test needs must be there."""
    if item.config.getoption("quick"):
        needed = {name for mark in item.iter_markers("needs") for name in mark.args}
        if absent := sorted(name for name in needed if not is_there(name)):
            pytest.skip(f"without {', '.join(absent)}, which ./run setup installs")


def is_there(name: str) -> bool:
    """Whether this machine has a program or a shared library."""
    if ".so" not in name:
        return shutil.which(name) is not None
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


@pytest.fixture(autouse=True)
def _pytest_may_dump(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command does to its own process must not happen to pytest's, for good."""
    monkeypatch.setattr("vmcorefs.confine.process.forbid_dumps", lambda: None)


@pytest.fixture
def open_capture() -> Iterator[Opener]:
    """``vmcorefs.open``, and every capture that a test opens with it is closed behind the test."""
    with ExitStack() as stack:

        def opener(*args: Any, **options: Any) -> Capture:
            return stack.enter_context(vmcorefs.open(*args, **options))

        yield opener


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A small dead machine on disk, whose mount never outlives its test."""
    machine = make_machine(tmp_path)
    try:
        yield machine
    finally:
        while find_mount(str(machine.mountpoint)) is not None:
            subprocess.run(["umount", "-l", str(machine.mountpoint)], check=True)
