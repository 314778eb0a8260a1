"""The commands of the capture kernel: they do their work whatever the settings say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from vmcorefs.capture import commands
from vmcorefs.capture.run import actions
from vmcorefs.capture.settings import Settings, TargetSettings
from vmcorefs.cli import main

_KILLED = "vmcorefs: saving was killed, as it is for want of memory: crashkernel= reserves too"


@pytest.fixture
def performed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The actions of a machine that is a capture kernel; it is not ended."""
    (tmp_path / "proc-vmcore").touch()
    monkeypatch.setattr(actions, "VMCORE", str(tmp_path / "proc-vmcore"))
    done: list[str] = []
    monkeypatch.setattr(commands, "perform", done.append)
    monkeypatch.setattr(commands, "run_shell", lambda reason: done.append(reason[:33]))
    return done


def finish(tmp_path: Path, settings: str, *options: str) -> str:
    path = tmp_path / "vmcorefs.toml"
    path.write_text(settings)
    result = CliRunner().invoke(main, ["capture", "finish", "--config", str(path), *options])
    assert result.exit_code == 0, result.output
    return result.output


def test_each_end_has_its_action(tmp_path: Path, performed: list[str]) -> None:
    settings = '[finish]\nsuccess = "halt"\nfailure = "poweroff"\n'
    assert finish(tmp_path, settings) == "vmcorefs: done; now: halt\n"
    assert finish(tmp_path, settings, "--failed") == (
        "vmcorefs: THE CRASHED KERNEL'S MEMORY WAS NOT SAVED (see above); now: poweroff\n"
    )
    assert performed == ["halt", "poweroff"]


@pytest.mark.parametrize(
    ("result", "status", "said"),
    [
        ("signal", "KILL", _KILLED),
        ("oom-kill", "KILL", _KILLED),
        ("timeout", "TERM", "vmcorefs: saving did not end, nor ask for more time, and was killed"),
        ("signal", "SEGV", "vmcorefs: saving ended by signal SEGV"),
        ("exit-code", "6", "vmcorefs: THE CRASHED KERNEL'S MEMORY WAS NOT SAVED"),
    ],
)
@pytest.mark.usefixtures("performed")
def test_what_ended_the_saver_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: str, status: str, said: str
) -> None:
    monkeypatch.setenv("MONITOR_SERVICE_RESULT", result)
    monkeypatch.setenv("MONITOR_EXIT_STATUS", status)
    assert finish(tmp_path, "", "--failed").startswith(said)


def test_settings_that_cannot_be_read_end_in_a_reboot(tmp_path: Path, performed: list[str]) -> None:
    said = finish(tmp_path, "[finish\n", "--failed")
    assert "; using the defaults\n" in said
    assert performed == ["reboot"]


def test_a_person_may_stay(tmp_path: Path, performed: list[str]) -> None:
    finish(tmp_path, "[finish]\nstay = true\n")
    assert performed == ["the crashed kernel's memory is at", "reboot"]


def test_on_a_healthy_machine_nothing_ends() -> None:
    result = CliRunner().invoke(main, ["capture", "finish"])
    assert result.exit_code == 5
    assert result.output == "vmcorefs: /proc/vmcore: no such file: this is not a capture kernel\n"


def test_the_memory_is_saved_though_the_settings_cannot_be_read(
    tmp_path: Path, vmcore: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = tmp_path / "crash"
    monkeypatch.setattr(
        commands, "Settings", lambda: Settings(target=TargetSettings(directory=str(crash)))
    )
    path = tmp_path / "vmcorefs.toml"
    path.write_text("[dump]\nlevel = 31\nlevels = 1\n")
    command = ["capture", "save", "--config", str(path), "--vmcore", str(vmcore)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert f"{path}:3: dump.levels: no such key; " in result.output
    (dump,) = crash.iterdir()
    assert json.loads((dump / "summary.json").read_text())["complete"] is True
