"""The service that mounts a capture: what systemd says of it, and that it works so confined."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.mount.machine import Machine, make_machine
from tests.waiting import PATIENCE, running, wait_for_line
from vmcorefs.fuse.mounts import find_mount

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "vmcorefs@.service"


@pytest.mark.needs("systemd-analyze")
def test_the_exposure_of_the_service_is_what_the_docs_say() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", UNIT],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    # the instance is systemd's: i, and test_instance in Debian 13
    found = re.search(r"exposure level for vmcorefs@\w+\.service: ([0-9.]+)", done.stdout)
    assert found is not None, done
    security = (ROOT / "docs" / "security.md").read_text()
    said = re.search(r"an exposure of ([0-9.]+) \(", security)
    assert said is not None
    # other versions of systemd weigh a little differently
    assert float(found[1]) <= float(said[1]) + 0.3, done.stdout


@pytest.mark.needs("systemd-analyze")
def test_systemd_takes_every_line_of_the_service(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("ExecStart=@VMCOREFS@", "ExecStart=/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=True
    )
    assert [line for line in done.stderr.splitlines() if "vmcorefs@" in line] == []


@pytest.mark.mount
def test_it_mounts_with_the_capabilities_that_the_service_has(tmp_path: Path) -> None:
    machine: Machine = make_machine(tmp_path)
    (tmp_path / "capture.toml").write_text('map = "iomem"\n[[image]]\npath = "ram"\n')
    (allowed,) = re.findall(r"^CapabilityBoundingSet=(.*)$", UNIT.read_text(), re.MULTILINE)
    kept = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in allowed.split())
    command = machine.command(
        "mount", "--foreground", "-v", str(tmp_path / "capture.toml"), str(machine.mountpoint)
    )
    confined = ["setpriv", "--no-new-privs", f"--bounding-set=-all,{kept}", "--inh-caps=-all"]
    with running([*confined, *command], stderr=subprocess.PIPE) as daemon:
        wait_for_line(daemon, ": ready", stderr=True)
        assert find_mount(str(machine.mountpoint)) is not None
        (machine.mountpoint / "vmcore").read_bytes()
        layout = (machine.mountpoint / "layout.json").read_text()
        assert '"name": "kernel"' in layout
        daemon.terminate()
        assert daemon.wait(PATIENCE) == 0
    assert os.listdir(machine.mountpoint) == []
