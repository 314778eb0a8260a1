"""Outputs that are an input by another name, or lie in its bytes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.builders.tiny_dumps import MEMORY, TinyFormat, make_dump
from tests.matching import exactly
from vmcorefs.config import CaptureConfig, make_config
from vmcorefs.errors import ConfigError
from vmcorefs.output.local import LocalTarget
from vmcorefs.piece import Piece
from vmcorefs.save.saver import Console, Order, save
from vmcorefs.sources.evidence import Evidence, gather

SIZE = 1 << 20


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def ram(tmp_path: Path) -> Path:
    path = tmp_path / "ram"
    path.write_bytes(bytes(range(256)) * (SIZE // 256))
    return path


def of(*paths: Path) -> Evidence:
    return gather(CaptureConfig(tuple(Piece(str(path)) for path in paths)))


def mount(stack: ExitStack, *arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)
    stack.callback(subprocess.run, ["umount", arguments[-1]], check=True)


def loop_device(stack: ExitStack, path: Path) -> Path:
    command = ["losetup", "--find", "--show", str(path)]
    device = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    stack.callback(subprocess.run, ["losetup", "--detach", device], check=True)
    return Path(device)


def symbolic_link(path: Path, _stack: ExitStack) -> Path:
    link = path.with_name("symbolic")
    link.symlink_to(path)
    return link


def hard_link(path: Path, _stack: ExitStack) -> Path:
    link = path.with_name("hard")
    link.hardlink_to(path)
    return link


def bind_mount(path: Path, stack: ExitStack) -> Path:
    other = path.with_name("other")
    other.mkdir()
    mount(stack, "--bind", path.parent, other)
    return other / path.name


def bind_mount_of_the_file(path: Path, stack: ExitStack) -> Path:
    other = path.with_name("other")
    other.touch()
    mount(stack, "--bind", path, other)
    return other


def device_over_it(path: Path, stack: ExitStack) -> Path:
    return loop_device(stack, path)


@pytest.mark.parametrize(
    "name", [symbolic_link, hard_link, bind_mount, bind_mount_of_the_file, device_over_it]
)
def test_an_input_is_refused_by_any_name(ram: Path, stack: ExitStack, name: object) -> None:
    assert callable(name)
    other = name(ram, stack)
    before = ram.read_bytes()
    for path in (ram, other):
        with pytest.raises(ConfigError, match=r"the input .*, which is never written to; name "):
            LocalTarget(str(path), force=True, evidence=of(ram))
        with pytest.raises(ConfigError, match=r"the input .*, which is never written to; name "):
            LocalTarget(str(path), force=True, evidence=of(other))
    assert ram.read_bytes() == before


def test_the_message_names_both(ram: Path) -> None:
    link = symbolic_link(ram, ExitStack())
    with pytest.raises(
        ConfigError,
        match=exactly(
            f"{link}: this is the input {ram}, which is never written to; name another output"
        ),
    ):
        of(ram).refuse(str(link))


@pytest.mark.parametrize("made", [None, symbolic_link, hard_link])
@pytest.mark.parametrize(
    "how", [{"force": True}, {"force": False, "resume": True}, {"force": False}]
)
def test_an_input_that_has_the_name_of_an_incomplete_output_is_kept(
    ram: Path, made: object, how: dict[str, bool]
) -> None:
    out = ram.with_name("dump")
    incomplete = ram.with_name("dump.incomplete")
    if callable(made):
        made(ram, ExitStack()).rename(incomplete)
    else:
        ram = ram.rename(incomplete)
    before = ram.read_bytes()
    with pytest.raises(ConfigError, match=rf"^{incomplete}: this is the input {ram}, which is "):
        LocalTarget(str(out), evidence=of(ram), **how)
    assert ram.read_bytes() == before


@pytest.mark.needs("mke2fs")
def test_a_new_file_on_a_file_system_that_lies_in_an_input_is_refused(
    tmp_path: Path, stack: ExitStack
) -> None:
    disk = tmp_path / "disk"
    disk.touch()
    os.truncate(disk, 8 << 20)
    subprocess.run(["mke2fs", "-q", disk], check=True)
    on_it = tmp_path / "on it"
    on_it.mkdir()
    device = loop_device(stack, disk)
    mount(stack, device, on_it)
    for evidence in (of(disk), of(device)):
        with pytest.raises(
            ConfigError, match=r"^.*/on it/new: its bytes lie on the same device as those of .*$"
        ):
            LocalTarget(str(on_it / "new"), force=False, evidence=evidence)
    assert not (on_it / "new").exists()
    # what only shares a disk with an input is no part of it
    inside = on_it / "ram"
    inside.write_bytes(b"memory")
    with closing(LocalTarget(str(on_it / "new"), force=False, evidence=of(inside))):
        pass


@pytest.mark.needs("btrfs")
def test_a_new_file_on_a_subvolume_of_an_input_is_refused(tmp_path: Path, stack: ExitStack) -> None:
    disks = [tmp_path / "disk", tmp_path / "second"]
    for disk in disks:
        disk.touch()
        os.truncate(disk, 256 << 20)
    devices = [loop_device(stack, disk) for disk in disks]
    subprocess.run(["mkfs.btrfs", "-q", "-d", "single", "-m", "single", *devices], check=True)
    on_it, bound = tmp_path / "on it", tmp_path / "bound"
    on_it.mkdir()
    bound.mkdir()
    mount(stack, devices[0], on_it)
    subprocess.run(
        ["btrfs", "subvolume", "create", on_it / "vol"], check=True, stdout=subprocess.DEVNULL
    )
    mount(stack, "--bind", on_it / "vol", bound)
    (on_it / "vol" / "old").touch()
    for evidence in (of(one) for one in (*disks, *devices)):
        for out in (on_it / "new", on_it / "vol" / "new", bound / "new", bound / "old"):
            with pytest.raises(ConfigError, match=r"^.*: its bytes lie on the same device as th"):
                LocalTarget(str(out), force=True, evidence=evidence)
    inside = on_it / "vol" / "ram"
    inside.write_bytes(b"memory")
    with closing(LocalTarget(str(bound / "new"), force=False, evidence=of(inside))):
        pass


@pytest.mark.needs("mke2fs")
def test_what_an_overlay_writes_to_is_looked_at(tmp_path: Path, stack: ExitStack) -> None:
    disk, layers = tmp_path / "disk", tmp_path / "layers"
    disk.touch()
    os.truncate(disk, 8 << 20)
    subprocess.run(["mke2fs", "-q", disk], check=True)
    layers.mkdir()
    device = loop_device(stack, disk)
    mount(stack, device, layers)
    merged = tmp_path / "merged"
    for directory in (merged, *(layers / name for name in ("lower", "upper", "work"))):
        directory.mkdir()
    below, above = layers / "lower" / "below", layers / "upper" / "ram"
    below.write_bytes(MEMORY)
    above.write_bytes(MEMORY)
    options = f"lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work"
    mount(stack, "-t", "overlay", "-o", options, "overlay", merged)
    for evidence in (of(disk), of(device)):
        with pytest.raises(ConfigError, match=r"/merged/new: its bytes lie on the same device as"):
            LocalTarget(str(merged / "new"), force=False, evidence=evidence)
    with pytest.raises(ConfigError, match=rf"/merged/ram: this is the input {above}, which is"):
        LocalTarget(str(merged / "ram"), force=True, evidence=of(above))
    # a file of the lower directory is copied before it is changed
    with closing(LocalTarget(str(merged / "below"), force=True, evidence=of(below))):
        pass


def test_a_log_beside_a_dump_is_no_input(tmp_path: Path) -> None:
    ram = tmp_path / "vmcore-dmesg.txt"
    ram.write_bytes(MEMORY)
    order = Order(str(tmp_path / "vmcore"), (0,), "kdump", "none", force=True)
    console = Console(bar=False, say=None, warn=print)
    with pytest.raises(ConfigError, match=rf"^{ram}: this is the input {ram}, which is never wr"):
        save(make_dump(), b"log", order, TinyFormat(), console, evidence=of(ram))
    assert ram.read_bytes() == MEMORY


def test_everything_that_is_read_is_an_input(tmp_path: Path) -> None:
    firmware = tmp_path / "memmap" / "0"
    firmware.mkdir(parents=True)
    names = ["ram", "low", "iomem", "vmlinux", "info", "capture.toml", "memmap/0/start", "sums"]
    for name in names:
        (tmp_path / name).write_text("")
    (tmp_path / "capture.toml").write_text('[[image]]\npath = "ram"\n[backup]\npath = "low"\n')
    config = make_config(
        [tmp_path / "capture.toml"],
        vmlinux=tmp_path / "vmlinux",
        vmcoreinfo=tmp_path / "info",
        memory_map=tmp_path / "memmap",
    )
    evidence = gather(config, str(tmp_path / "sums"), str(tmp_path / "not there"))
    for name in names:
        if name != "iomem":
            with pytest.raises(ConfigError, match="this is the input"):
                evidence.refuse(str(tmp_path / name))
    evidence.refuse(str(tmp_path / "iomem"))  # not given
    evidence.refuse(str(tmp_path / "not there"))


def test_an_open_file_is_refused_too(ram: Path, tmp_path: Path) -> None:
    with ram.open("rb") as file, pytest.raises(ConfigError, match=r"^standard output: this is "):
        of(ram).refuse_open("standard output", file.fileno())
    with (tmp_path / "other").open("wb") as file:
        of(ram).refuse_open("standard output", file.fileno())
    of(ram).refuse_open("standard output", 999)


def test_a_mount_point_above_an_input_is_refused(ram: Path) -> None:
    link = ram.parent.parent / f"{ram.parent.name}-link"
    link.symlink_to(ram.parent)
    beside = ram.with_name("ra")
    beside.mkdir()
    for above in (ram.parent, link, Path("/")):
        with pytest.raises(ConfigError, match=rf"^{above}: a tree mounted there would hide the in"):
            of(ram).refuse_to_hide(str(above))
    of(ram).refuse_to_hide(str(beside))
