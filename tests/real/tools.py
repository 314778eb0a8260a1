"""Other people's tools, run on a dump in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

_TIMEOUT: Final = 1200  # for one that hangs: on a busy machine 300 s were too few
_DRGN_SCRIPT: Final = Path(__file__).with_name("drgn_report.py")
_REPORTS: Final[dict[str, list[str | Path]]] = {
    "volatility3": [sys.executable, Path(__file__).with_name("volatility_report.py")],
    "leechcore": [sys.executable, Path(__file__).with_name("leechcore_report.py")],
    # Debian's package is for Debian's Python
    "libkdumpfile": ["/usr/bin/python3", Path(__file__).with_name("kdumpfile_report.py")],
}

NAMED: Final = "DUMP"
"""What stands in a tool's output for the path of the dump."""


def run(command: list[str | Path], dump: Path, *, stdin: str = "") -> str:
    """Run a tool that must succeed.

    Args:
        command: the tool and its arguments.
        dump: a path among them.
        stdin: what it reads.

    Returns:
        What it printed, with another name for ``dump``.
    """
    done = attempt(command, stdin=stdin)
    assert done.returncode == 0, done
    return done.stdout.replace(str(dump), NAMED)


def attempt(command: list[str | Path], *, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a tool that may fail; both of its streams are in ``stdout``."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    # no user's settings, no terminal, no language
    environment = {"PATH": path, "HOME": "/nonexistent", "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        [*map(str, command)],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="backslashreplace",
        check=False,
        env=environment,
        timeout=_TIMEOUT,
    )


def crash_osrelease(dump: Path) -> str:
    """What ``crash`` tells of a dump without a vmlinux."""
    return run(["crash", "--osrelease", dump], dump)


def crash(vmlinux: Path, dump: Path, *commands: str) -> str:
    """What ``crash`` answers to commands."""
    return run(["crash", "-s", vmlinux, dump], dump, stdin="\n".join([*commands, "quit\n"]))


def vmcore_dmesg(dump: Path) -> str:
    """The kernel's log, read by kexec-tools."""
    return run(["vmcore-dmesg", dump], dump)


def readelf(dump: Path, *options: str) -> str:
    """Headers, read by binutils."""
    return run(["readelf", "--file-header", "--segments", "--wide", *options, dump], dump)


def gdb(dump: Path, *commands: str) -> str:
    """What gdb answers to commands."""
    words = [word for command in commands for word in ("-ex", command)]
    return run(["gdb", "--nx", "--quiet", "--batch", *words, "--core", dump], dump)


def gdb_script(script: Path, *commands: str, program: str = "gdb") -> str:
    """What gdb answers to commands behind a script."""
    words = [word for command in commands for word in ("-ex", command)]
    return run([program, "--nx", "--quiet", "--batch", "-x", script, *words], script)


def assert_in_order(said: str, words: list[str]) -> None:
    """Fail unless a tool said all of ``words``, in that order."""
    places = [said.find(word) for word in words]
    assert -1 not in places, (words[places.index(-1)], said)
    assert places == sorted(places), said


def makedumpfile(dump: Path, out: Path, *options: str) -> Path:
    """Have ``makedumpfile`` write to ``out``, and return that."""
    said = run(["makedumpfile", *options, dump, out], dump)
    assert "makedumpfile Completed." in said
    return out


def drgn(vmlinux: Path, dump: Path, state: str = "panicked") -> str:
    """The utsname, the tasks and, unless ``running``, the panicking task's stack, read by drgn."""
    return run([sys.executable, _DRGN_SCRIPT, vmlinux, dump, state], dump)


def physical(tool: str, dump: Path, paddrs: list[int], *more: str) -> dict[str, Any]:
    """What volatility3, LeechCore or libkdumpfile sees; ``pages`` are SHA-256 by address."""
    said = run([*_REPORTS[tool], dump, *map(str, paddrs), *more], dump)
    report: dict[str, Any] = json.loads(said.splitlines()[-1])
    return report
