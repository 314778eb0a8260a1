"""The command with no mount: inspect, extract, and what it says when things go wrong."""

from __future__ import annotations

import json
import subprocess

import pytest

import vmcorefs
from tests.mount.machine import Machine


def test_inspect_says_what_was_understood(machine: Machine) -> None:
    done = machine.run("inspect", *machine.sources)
    assert done.returncode == 0, done.stderr
    for words in (
        "/proc/iomem: 11.62 MiB of RAM in 3 ranges, up to 0x1000000",
        "built from the memory map, for x86-64 (assumed; --machine)",
        "[0x400000, 0x500000)  1 MiB",
        "unknown: there is no VMCOREINFO note",
        f"[0x1000, 0x9fc00) from {machine.directory / 'lowmem'}",
    ):
        assert words in done.stdout


def test_inspect_json_is_for_machines(machine: Machine) -> None:
    report = json.loads(machine.run("inspect", "--json", *machine.sources).stdout)
    assert report["memory_map"]["crash_kernel"] == [[0x400000, 0x500000]]
    assert report["backup"]["start"] == 0x1000
    assert report["inputs"][0]["size"] == 0x1000000
    assert report["files"]["oldmem"] == 0x1000000
    assert [s["p_vaddr"] for s in report["headers"]["segments"]] == [0] * 4


def test_extract_writes_the_file_and_goes_on_from_an_incomplete_one(machine: Machine) -> None:
    target = machine.directory / "out"
    with vmcorefs.open(
        machine.directory / "ram",
        memory_map=machine.directory / "iomem",
        backup=machine.directory / "lowmem",
    ) as capture:
        expected = capture["oldmem"].pread(1 << 30, 0)
    (machine.directory / "out.incomplete").write_bytes(expected[: 5 << 20])
    done = machine.run("extract", "oldmem", *machine.sources, "-o", str(target))
    assert done.returncode == 0, done.stderr
    assert "5 MiB were there already" in done.stderr
    assert target.read_bytes() == expected
    assert target.stat().st_blocks * 512 < len(expected)
    again = machine.run("extract", "oldmem", *machine.sources, "-o", str(target))
    assert again.returncode == 2
    assert "exists already; pass --force" in again.stderr


def test_extract_streams_into_a_pipe(machine: Machine) -> None:
    command = machine.command("extract", "iomem", *machine.sources, "-o", "-")
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert done.stdout == (machine.directory / "iomem").read_bytes()


def test_one_toml_file_describes_a_capture_and_options_override_it(machine: Machine) -> None:
    description = machine.directory / "capture.toml"
    description.write_text(
        'map = "iomem"\nholes = "error"\n[[image]]\npath = "ram"\n[backup]\npath = "lowmem"\n'
    )
    from_toml, from_options = machine.directory / "toml", machine.directory / "options"
    for sources, output in (([str(description)], from_toml), (machine.sources, from_options)):
        done = machine.run("extract", "vmcore", *sources, "-o", str(output))
        assert done.returncode == 0, done.stderr
    assert from_toml.read_bytes() == from_options.read_bytes()
    refused = machine.run("extract", "oldmem", str(description), "-o", str(from_toml), "--force")
    assert refused.returncode == 6
    target = str(machine.directory / "oldmem")
    done = machine.run("extract", "oldmem", "--holes", "zero", str(description), "-o", target)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["mount", "{ram}", "{mnt}"], 2, "ram: no memory map is given, and no VMCOREINFO"),
        (
            ["mount", "--map", "{iomem}", "{at}/nothing", "{mnt}"],
            2,
            "nothing: cannot open the image",
        ),
        (["mount", "--map", "{iomem}", "{ram}", "{at}/nowhere"], 3, "nowhere: cannot mount there"),
        (["mount", "--map", "{iomem}", "{ram}", "{ram}"], 3, "ram: cannot mount there"),
        (["mount", "--map", "{ram}", "{ram}", "{mnt}"], 4, "ram: not a memory map"),
        (["mount", "--map", "{iomem}", "{at}", "{mnt}"], 2, "this directory is not a mounted tree"),
        (["umount", "{mnt}"], 3, "no tree of vmcorefs is mounted there"),
        (["mount", "{mnt}"], 2, "Missing argument"),
        (["mount", "--holes", "maybe", "{ram}", "{mnt}"], 2, "Invalid value for '--holes'"),
        (["extract", "nothing", "--map", "{iomem}", "{ram}", "-o", "-"], 2, "the tree has vmcore,"),
    ],
)
def test_a_mistake_is_one_line_and_a_status(
    machine: Machine, arguments: list[str], status: int, words: str
) -> None:
    at = machine.directory
    places = {"at": at, "ram": at / "ram", "iomem": at / "iomem", "mnt": machine.mountpoint}
    done = machine.run(*(argument.format(**places) for argument in arguments))
    assert done.returncode == status
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
