"""``vmcorefs gdb`` and the like, where they cannot do what they are for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.mount.machine import Machine

pytestmark = pytest.mark.mount


def run(machine: Machine, *arguments: str, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        machine.command(*arguments),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PATH": path, "XDG_RUNTIME_DIR": str(machine.mountpoint)},
    )


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory for PATH, with nothing in it yet."""
    directory = tmp_path / "bin"
    directory.mkdir()
    return directory


@pytest.mark.parametrize(
    ("tool", "package"), [("gdb", "Debian's package gdb"), ("crash", "Debian's package crash")]
)
def test_a_tool_that_is_not_installed_is_named_at_once(
    machine: Machine, programs: Path, tool: str, package: str
) -> None:
    done = run(machine, tool, str(machine.directory / "no such image"), path=str(programs))
    assert done.returncode == 5
    assert done.stderr.startswith(f"vmcorefs: {tool}: not installed here; it is in {package}")


@pytest.mark.parametrize("tool", ["gdb", "crash", "drgn"])
def test_memory_without_symbols(machine: Machine, programs: Path, tool: str) -> None:
    (programs / tool).symlink_to("/bin/true")
    done = run(machine, tool, *machine.sources, path=f"{programs}:{os.environ['PATH']}")
    assert done.returncode == 5
    assert f"ram: {tool} cannot be started, as the tree has no vmlinux: " in done.stderr
    assert "--vmlinux FILE" in done.stderr
    assert list(machine.mountpoint.iterdir()) == []


def test_an_image_that_is_not_there_leaves_nothing_behind(machine: Machine, programs: Path) -> None:
    (programs / "gdb").symlink_to("/bin/true")
    done = run(machine, "gdb", str(machine.directory / "none"), path=f"{programs}")
    assert done.returncode != 0
    assert "none: " in done.stderr
    assert list(machine.mountpoint.iterdir()) == []


def test_the_help_says_where_the_tools_own_arguments_go(machine: Machine, programs: Path) -> None:
    done = run(machine, "crash", "--help", path=str(programs))
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: ")
    assert "[-- ARGUMENT...]" in done.stdout
    assert "vmcorefs crash ram -- -s -i commands" in " ".join(done.stdout.split())
