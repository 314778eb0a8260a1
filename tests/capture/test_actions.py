"""The last action: every way in its turn, and never on a machine that is no capture kernel.

No test here may end the machine that it runs on: what would is replaced.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.capture.conftest import Programs
from vmcorefs.capture import actions
from vmcorefs.capture.settings import Action
from vmcorefs.errors import UnsupportedError


@pytest.fixture(autouse=True)
def ended(monkeypatch: pytest.MonkeyPatch, programs: Programs) -> list[str]:
    """Calls of reboot(2); programs that end a system only write down that they were called."""
    calls: list[str] = []
    monkeypatch.setattr(actions, "end_at_once", calls.append)
    monkeypatch.setattr("time.sleep", lambda _: None)  # for the end that does not come
    for name in ("systemctl", "reboot", "poweroff", "halt"):
        programs.add(name)
    return calls


@pytest.fixture
def capture_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vmcore").touch()
    monkeypatch.setattr(actions, "VMCORE", str(tmp_path / "vmcore"))


def test_nothing_is_done_on_a_healthy_machine(programs: Programs, ended: list[str]) -> None:
    with pytest.raises(UnsupportedError, match=r"^/proc/vmcore: no such file: .*$"):
        actions.perform("reboot")
    assert programs.calls == []
    assert ended == []


@pytest.mark.usefixtures("capture_kernel")
@pytest.mark.parametrize("action", ["reboot", "poweroff", "halt"])
def test_every_way_is_tried_the_kind_ones_first(
    action: Action, programs: Programs, ended: list[str]
) -> None:
    actions.perform(action)
    assert programs.calls == [
        f"systemctl --no-block --force {action}",
        f"systemctl --force --force {action}",
        f"{action} -f",
    ]
    assert ended == [action]


@pytest.mark.usefixtures("capture_kernel")
def test_a_program_that_hangs_or_fails_does_not_stop_it(
    programs: Programs,
    ended: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = subprocess.run

    def hurry(command: list[str], *, timeout: float, **options: Any) -> Any:
        assert timeout == actions.PATIENCE
        return run(command, timeout=0.1 if command[0] == "systemctl" else timeout, **options)

    monkeypatch.setattr(subprocess, "run", hurry)
    programs.add("systemctl", "exec sleep 60")
    programs.add("reboot", "exit 3")
    actions.perform("reboot")
    assert ended == ["reboot"]
    said = capsys.readouterr().err
    assert said.count("timed out") == 2
    assert "vmcorefs: reboot -f did not end this system (exit status 3)\n" in said


@pytest.mark.usefixtures("capture_kernel")
def test_a_shell_ends_in_a_reboot(
    programs: Programs, ended: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons: list[str] = []
    monkeypatch.setattr(actions, "run_shell", reasons.append)
    actions.perform("shell")
    assert reasons == ["this machine reboots when the shell ends"]
    assert ended == ["reboot"]
    assert programs.calls[0] == "systemctl --no-block --force reboot"
