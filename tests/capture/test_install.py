"""What is installed is what systemd takes, and what is ours alone is taken away."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from vmcorefs.capture.prepare.install import install, outdated_files, uninstall
from vmcorefs.errors import OutputError

UNITS = "etc/systemd/system"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system that vmcorefs is installed in, at /usr/bin/vmcorefs."""
    root = tmp_path / "root"
    program = root / "usr/bin/vmcorefs"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    install(str(root), "/usr/bin/vmcorefs")
    return root


def state(root: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path.relative_to(root)): (
            path.stat().st_mode,
            path.stat().st_mtime_ns,
            path.read_bytes(),
        )
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_every_unit_is_installed(root: Path) -> None:
    shipped = {path.name for path in (ROOT / "systemd").iterdir()}
    installed = {path.name for path in (root / UNITS).iterdir()}
    assert installed == shipped - {"vmcorefs.toml", "vmcorefs-generator"}
    assert os.access(root / "etc/systemd/system-generators/vmcorefs-generator", os.X_OK)
    assert (root / "etc/vmcorefs.toml").read_text() == (ROOT / "systemd/vmcorefs.toml").read_text()
    for path in (root / UNITS).iterdir():
        assert "@VMCOREFS@" not in path.read_text()


def test_systemd_finds_nothing_wrong(root: Path) -> None:
    # of this machine's own units only those that ours need by default
    for name in ("usr/lib/systemd", "lib"):
        if not (root / name).exists() and Path("/", name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(Path("/", name))
    units = [name for name in os.listdir(root / UNITS) if "@" not in name]
    program = str(root / "usr/bin/vmcorefs")
    for name in units:
        unit = root / UNITS / name
        unit.write_text(unit.read_text().replace("/usr/bin/vmcorefs", program))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(root / UNITS / name) for name in units)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_to_install_again_changes_nothing(root: Path) -> None:
    before = state(root)
    lines = install(str(root), "/usr/bin/vmcorefs")
    assert state(root) == before
    assert {line.rsplit(": ", 1)[1] for line in lines} == {"up to date", "kept"}


def test_another_version_is_replaced_and_settings_are_kept(root: Path) -> None:
    (root / "etc/vmcorefs.toml").write_text("[keep]\ndumps = 1\n")
    lines = install(str(root), "/opt/vmcorefs/bin/vmcorefs")
    assert f"{root}/etc/vmcorefs.toml: kept" in lines
    unit = (root / UNITS / "vmcorefs-save.service").read_text()
    assert "\nExecStart=/opt/vmcorefs/bin/vmcorefs capture save\n" in unit
    assert (root / "etc/vmcorefs.toml").read_text() == "[keep]\ndumps = 1\n"


def test_a_unit_of_somebody_elses_is_left_alone(root: Path) -> None:
    unit = root / UNITS / "vmcorefs.service"
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    with pytest.raises(OutputError, match=r"^.*/vmcorefs.service: not installed by vmcorefs; .*$"):
        install(str(root), "/usr/bin/vmcorefs")
    assert f"{unit}: not ours, left alone" in uninstall(str(root))
    assert unit.exists()


def test_uninstall_leaves_the_settings_alone(root: Path) -> None:
    uninstall(str(root))
    assert sorted(state(root)) == ["etc/vmcorefs.toml", "usr/bin/vmcorefs"]
    assert uninstall(str(root)) == []


def test_what_is_outdated_is_known(tmp_path: Path) -> None:
    install(str(tmp_path))
    assert outdated_files(str(tmp_path)) == []
    unit = tmp_path / UNITS / "vmcorefs.target"
    unit.write_text(unit.read_text() + "\n")
    (tmp_path / UNITS / "vmcorefs.service").unlink()
    (tmp_path / "etc/vmcorefs.toml").unlink()
    assert outdated_files(str(tmp_path)) == [
        str(unit),
        str(tmp_path / UNITS / "vmcorefs.service"),
    ]


@pytest.mark.parametrize(
    ("command_line", "masked"),
    [
        ("root=/dev/vda systemd.unit=vmcorefs.target ro", ["emergency.service", "rescue.service"]),
        ("root=/dev/vda systemd.unit=vmcorefs.target2", []),
        ("root=/dev/vda ro", []),
    ],
)
def test_the_emergency_shell_is_gone_in_a_capture_kernel_only(
    tmp_path: Path, command_line: str, masked: list[str]
) -> None:
    (tmp_path / "cmdline").write_text(command_line + "\n")
    script = (ROOT / "systemd/vmcorefs-generator").read_text()
    assert script.count("/proc/cmdline") == 1
    generator = tmp_path / "generator"
    generator.write_text(script.replace("/proc/cmdline", str(tmp_path / "cmdline")))
    normal, early, late = (tmp_path / name for name in ("normal", "early", "late"))
    for directory in (normal, early, late):
        directory.mkdir()
    subprocess.run(["sh", generator, normal, early, late], check=True)
    assert {path.name: os.readlink(path) for path in early.iterdir()} == dict.fromkeys(
        masked, "/dev/null"
    )
    assert [*normal.iterdir(), *late.iterdir()] == []


def test_shell_scripts_are_clean() -> None:
    scripts = [path for path in (ROOT / "initramfs").rglob("*") if path.is_file()]
    done = subprocess.run(
        ["shellcheck", "-e", "SC1090,SC1091", *scripts, ROOT / "systemd/vmcorefs-generator"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
