"""A small /proc/vmcore, and programs that only write down how they were called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.mount.machine import make_machine


@pytest.fixture
def vmcore(tmp_path: Path) -> Path:
    """What /proc/vmcore would be of a small machine."""
    machine = make_machine(tmp_path)
    path = tmp_path / "vmcore"
    done = machine.run("extract", "vmcore", *machine.sources, "-o", str(path))
    assert done.returncode == 0, done.stderr
    return path


class Programs:
    """A PATH on which some programs are fakes.

    Attributes:
        directory: Where they are.
        log: What they were called with, a line each.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._log = directory / "calls.log"
        directory.mkdir()

    def add(self, name: str, script: str = "exit 0") -> None:
        """A program that writes down its call, and then does what ``script`` says."""
        path = self.directory / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self._log}\n{script}\n')
        path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    fakes = Programs(tmp_path / "fakes")
    monkeypatch.setenv("PATH", f"{fakes.directory}:{os.environ['PATH']}")
    return fakes
