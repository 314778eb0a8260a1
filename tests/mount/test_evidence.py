"""No command writes to what it reads."""

from __future__ import annotations

import hashlib
import os
import subprocess

import pytest

from tests.mount.machine import Machine


@pytest.fixture
def before(machine: Machine) -> dict[str, bytes]:
    (machine.directory / "link").hardlink_to(machine.directory / "ram")
    return inputs_of(machine)


def inputs_of(machine: Machine) -> dict[str, bytes]:
    names = ("ram", "lowmem", "iomem", "link")
    return {name: (machine.directory / name).read_bytes() for name in names}


@pytest.mark.parametrize("command", [["extract", "vmcore"], ["save"]])
@pytest.mark.parametrize("name", ["ram", "link", "lowmem", "iomem"])
def test_an_output_is_no_input(
    machine: Machine, before: dict[str, bytes], command: list[str], name: str
) -> None:
    out = machine.directory / name
    done = machine.run(*command, *machine.sources, "-o", str(out), "--force")
    assert done.returncode == 2
    assert f"vmcorefs: {out}: this is the input {machine.directory}/" in done.stderr
    assert inputs_of(machine) == before
    assert not out.with_name(f"{name}.incomplete").exists()


def test_an_incomplete_dump_is_not_saved_onto_itself(machine: Machine) -> None:
    directory = machine.directory
    (directory / "ram").rename(directory / "dump.incomplete")
    whole = (directory / "dump.incomplete").read_bytes()
    sources = [*machine.sources[:-1], str(directory / "dump.incomplete")]
    for command in (["extract", "oldmem"], ["save", "--resume"], ["save", "--force"]):
        done = machine.run(*command, *sources, "-o", str(directory / "dump"))
        assert done.returncode == 2, done.stderr
        assert "dump.incomplete: this is the input" in done.stderr
        assert (directory / "dump.incomplete").read_bytes() == whole
        assert not (directory / "dump").exists()


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize(
    "command",
    [["inspect"], ["check"], ["estimate"], ["extract", "oldmem", "-o", "-"], ["save", "-o", "-"]],
)
def test_nothing_is_printed_into_an_input(
    machine: Machine, before: dict[str, bytes], command: list[str], stream: str
) -> None:
    with (machine.directory / "ram").open("ab") as ram:
        done = subprocess.run(
            machine.command(*command, *machine.sources),
            check=False,
            text=True,
            stdout=ram if stream == "stdout" else subprocess.PIPE,
            stderr=ram if stream == "stderr" else subprocess.PIPE,
        )
    assert done.returncode == 2
    assert done.stderr is None or "standard output: this is the input" in done.stderr
    assert inputs_of(machine) == before


def test_verify_prints_into_no_input(machine: Machine, before: dict[str, bytes]) -> None:
    ram = machine.directory / "ram"
    (machine.directory / "ram.sha256").write_text(hashlib.sha256(ram.read_bytes()).hexdigest())
    with ram.open("ab") as file:
        done = subprocess.run(machine.command("verify", str(ram)), stdout=file, check=False)
    assert done.returncode == 2
    assert inputs_of(machine) == before


def test_digests_that_were_read_are_no_output(machine: Machine) -> None:
    sums = machine.directory / "SUMS"
    lines = []
    for name in ("ram", "lowmem"):
        path = machine.directory / name
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        path.with_name(f"{name}.sha256").write_text(digest)
        lines.append(f"{digest}  {name}\n")
    sums.write_text("".join(lines))
    for verify, out in (("auto", machine.directory / "lowmem.sha256"), (str(sums), sums)):
        kept = out.read_bytes()
        done = machine.run(
            "extract", "vmcore", *machine.sources, "--verify", verify, "-o", str(out), "--force"
        )
        assert done.returncode == 2
        assert f"vmcorefs: {out}: this is the input {out}" in done.stderr
        assert out.read_bytes() == kept


def test_a_log_is_no_input(machine: Machine, before: dict[str, bytes]) -> None:
    for name in ("ram", "link", "iomem"):
        path = machine.directory / name
        for where in ([], ["-f"]):
            done = machine.run(
                "mount", "--log", str(path), *where, *machine.sources, str(machine.mountpoint)
            )
            assert done.returncode == 2
            assert f"{path}: this is the input" in done.stderr
    assert inputs_of(machine) == before
    assert not os.path.ismount(machine.mountpoint)


def test_a_mount_hides_no_input(machine: Machine, before: dict[str, bytes]) -> None:
    done = machine.run("mount", *machine.sources, str(machine.directory))
    assert done.returncode == 2
    assert f"vmcorefs: {machine.directory}: a tree mounted there would hide" in done.stderr
    assert inputs_of(machine) == before
