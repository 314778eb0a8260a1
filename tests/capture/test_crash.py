"""vmcorefs test-crash: it says what will happen, asks twice, and only then crashes.

No test here may crash the machine that it runs on: sysrq-trigger is replaced.
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from vmcorefs.capture.prepare import crash, load
from vmcorefs.cli import main

HOST = socket.gethostname()


@pytest.fixture(autouse=True)
def trigger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a crash kernel loaded; what stands for its sysrq-trigger."""
    (tmp_path / "loaded").write_text("1\n")
    (tmp_path / "size").write_text(f"{256 << 20}\n")
    path = tmp_path / "sysrq-trigger"
    path.touch()
    monkeypatch.setattr(crash, "SYSRQ", str(path))
    monkeypatch.setattr(load, "KEXEC_LOADED", str(tmp_path / "loaded"))
    monkeypatch.setattr(load, "KEXEC_SIZE", str(tmp_path / "size"))
    monkeypatch.setattr(load, "STATE_PATH", str(tmp_path / "state"))
    return path


def run(tmp_path: Path, typed: str, *options: str) -> Result:
    settings = tmp_path / "vmcorefs.toml"
    settings.write_text('[target]\ndirectory = "/srv/dumps"\n[finish]\nfailure = "poweroff"\n')
    return CliRunner().invoke(
        main, ["test-crash", "--config", str(settings), *options], input=typed
    )


def test_it_crashes_when_asked_twice(tmp_path: Path, trigger: Path) -> None:
    result = run(tmp_path, f"{HOST}\nYES\n")
    assert trigger.read_text() == "c"
    assert "GOES DOWN AT ONCE" in result.output
    assert "The dump goes to /srv/dumps: dump level 31, format kdump." in result.output
    assert "It has 256 MiB of memory." in result.output
    assert "Then: reboot; or after a failure, or 30min: poweroff." in result.output


@pytest.mark.parametrize("typed", ["", "yes\n", f"{HOST}\nyes\n", f"{HOST}\nY\n", "x\nYES\n"])
def test_anything_else_leaves_the_machine_alone(tmp_path: Path, trigger: Path, typed: str) -> None:
    result = run(tmp_path, typed)
    assert result.exit_code != 0
    assert trigger.read_text() == ""


def test_who_is_sure_is_not_asked(tmp_path: Path, trigger: Path) -> None:
    run(tmp_path, "", "--yes-crash-this-machine")
    assert trigger.read_text() == "c"


def test_without_a_crash_kernel_it_refuses(tmp_path: Path, trigger: Path) -> None:
    (tmp_path / "loaded").write_text("0\n")
    result = run(tmp_path, "", "--yes-crash-this-machine")
    assert result.exit_code == 2
    assert "no crash kernel is loaded: this machine would go down" in result.output
    assert trigger.read_text() == ""
