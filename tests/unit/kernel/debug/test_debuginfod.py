"""Asking for a vmlinux with a program that stands in for ``debuginfod-find``."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.builders.vmlinuxes import kernel_notes, pack_vmlinux
from vmcorefs.config import make_config
from vmcorefs.core.elf.vmcoreinfo import parse_vmcoreinfo
from vmcorefs.errors import ConfigError
from vmcorefs.image import MemoryImage
from vmcorefs.system.debuginfod import fetch_debuginfo
from vmcorefs.tree.debug.symbols import find_symbol_file

BUILD_ID = "3b43fad5034874490492495d552c0af6a5fab235"


class Client:
    """The program, in a directory of its own, which PATH begins with."""

    def __init__(self, directory: Path) -> None:
        self.asked = directory / "asked"
        self.path = directory / "debuginfod-find"

    def does(self, script: str) -> None:
        """Have it do that, and keep what it was called with."""
        self.path.write_text(f'#!/bin/sh\necho "$@" >> "{self.asked}"\n{script}\n')
        self.path.chmod(0o755)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv("DEBUGINFOD_URLS", "http://localhost:1/")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return Client(tmp_path)


def image(build_id: str = BUILD_ID, *, debuginfod: bool = True) -> MemoryImage:
    vmcoreinfo = parse_vmcoreinfo(f"OSRELEASE=0.0.0-none\nBUILD-ID={build_id}\n".encode())
    made = SimpleNamespace(
        config=make_config(["ram"], debuginfod=debuginfod),
        kernel=SimpleNamespace(vmcoreinfo=vmcoreinfo),
    )
    return cast("MemoryImage", made)


def test_a_vmlinux_of_the_same_build(client: Client, tmp_path: Path) -> None:
    vmlinux = tmp_path / "debuginfo"
    vmlinux.write_bytes(pack_vmlinux(kernel_notes(BUILD_ID)))
    client.does(f"echo {vmlinux}")

    assert find_symbol_file(image()) == str(vmlinux)
    assert client.asked.read_text() == f"debuginfo {BUILD_ID}\n"


def test_nobody_is_asked_who_was_not_to_be_asked(client: Client) -> None:
    client.does("exit 1")

    assert find_symbol_file(image(debuginfod=False)) is None
    assert not client.asked.exists()


def test_what_a_server_gives_is_of_that_build_or_not_taken(
    client: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = tmp_path / "debuginfo"
    other.write_bytes(pack_vmlinux(kernel_notes("ab" * 20)))
    client.does(f"echo {other}")

    with caplog.at_level(logging.WARNING):
        assert find_symbol_file(image()) is None
    assert f"{other} is not of build {BUILD_ID}" in caplog.text


def test_a_server_that_has_none(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    client.does('echo "Server query failed: No such file or directory" >&2; exit 1')

    with caplog.at_level(logging.WARNING):
        assert find_symbol_file(image()) is None
    assert f"of build {BUILD_ID}: Server query failed: No such file or directory" in caplog.text


def test_a_build_that_cannot_be_asked_for(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    client.does("exit 1")

    with caplog.at_level(logging.WARNING):
        assert find_symbol_file(image("; reboot")) is None
    assert "no build id to ask for" in caplog.text
    assert not client.asked.exists()


def test_a_server_that_does_not_answer(client: Client) -> None:
    client.does("exec sleep 60")

    with pytest.raises(ConfigError, match=r"no answer within 0\.2 s"):
        fetch_debuginfo(BUILD_ID, limit=0.2)


def test_no_program_and_no_server(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(client.path.parent))
    with pytest.raises(ConfigError, match="no debuginfod-find here"):
        fetch_debuginfo(BUILD_ID)

    monkeypatch.setenv("DEBUGINFOD_URLS", "")
    with pytest.raises(ConfigError, match="no servers to ask, set DEBUGINFOD_URLS"):
        fetch_debuginfo(BUILD_ID)
