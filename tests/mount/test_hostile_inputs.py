"""Inputs and places that somebody has put there to harm: refused, or served for what they are."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import vmcorefs
from tests.mount.machine import RAM_END, Machine, through_api
from tests.waiting import PATIENCE, running, wait_for
from vmcorefs.fuse.mounts import find_mount
from vmcorefs.fuse.planes.choose import PLANES
from vmcorefs.sources.file import FileSource

pytestmark = pytest.mark.mount

QUICK = 20.0
"""Seconds: nothing here may wait for what never comes."""


def refused(machine: Machine, *arguments: str, status: int) -> str:
    started = time.monotonic()
    done = machine.run(*arguments)
    assert time.monotonic() - started < QUICK
    assert done.returncode == status, done
    (line,) = done.stderr.splitlines()
    assert line.startswith("vmcorefs: ")
    return line


# --- things that are no image --------------------------------------------------------------------


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def _link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


@pytest.mark.parametrize(
    ("make", "what"),
    [(_pipe, "pipe"), (_socket, "socket"), (_link_to_a_pipe, "pipe")],
    ids=["a pipe", "a socket", "a link to a pipe"],
)
def test_what_is_no_file_is_refused_and_not_waited_for(
    machine: Machine, make: Callable[[Path], None], what: str
) -> None:
    path = machine.directory / "odd"
    make(path)
    iomem, ram, mnt = (str(machine.directory / name) for name in ("iomem", "ram", "mnt"))
    for given in ([str(path)], ["--backup", f"{path}@0x1000", ram]):
        line = refused(machine, "mount", "--map", iomem, *given, mnt, status=2)
        assert line == f"vmcorefs: {path}: a {what}, expected a file or a device"


def test_a_link_that_leads_to_itself_is_refused(machine: Machine) -> None:
    loop = machine.directory / "loop"
    loop.symlink_to("loop")
    line = refused(machine, "mount", str(loop), str(machine.mountpoint), status=2)
    assert line.endswith("cannot open the image: Too many levels of symbolic links")


def test_a_character_device_with_no_size_is_refused(machine: Machine) -> None:
    line = refused(machine, "mount", "/dev/zero", str(machine.mountpoint), status=2)
    assert "/dev/zero: a character device has no size of its own" in line


def test_noise_from_a_device_is_no_machine(machine: Machine) -> None:
    image = "/dev/urandom@0+16M"
    line = refused(machine, "mount", image, str(machine.mountpoint), status=2)
    assert line.startswith("vmcorefs: /dev/urandom: no memory map is given")


def test_this_machines_own_kcore_is_refused(machine: Machine) -> None:
    # 128 TiB that are not there, and RAM that changes while it is read
    done = machine.run("mount", "/proc/kcore", str(machine.mountpoint))
    assert done.returncode in (2, 4, 5, 6), done
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("size", [1 << 62, (1 << 62) + 4096, (1 << 63) - 1])
def test_a_sparse_file_of_exbibytes_costs_nothing(machine: Machine, size: int) -> None:
    path = Path(f"/dev/shm/vmcorefs-test.{os.getpid()}")  # noqa: S108  # ext4 has no such files
    path.touch()
    try:
        os.truncate(path, size)
        started, before = time.process_time(), resource.getrusage(resource.RUSAGE_CHILDREN)
        refused(
            machine, "mount", str(path), str(machine.mountpoint), status=4 if size > 1 << 62 else 2
        )
        iomem = str(machine.directory / "iomem")
        if size == 1 << 62:
            done = machine.run("mount", "--map", iomem, str(path), str(machine.mountpoint))
            assert done.returncode == 0, done
            assert (machine.mountpoint / "oldmem").read_bytes() == bytes(RAM_END)
            assert machine.run("umount", str(machine.mountpoint)).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert after.ru_utime - before.ru_utime < QUICK
        assert time.process_time() - started < QUICK
    finally:
        path.unlink()


@pytest.mark.parametrize("name", ["start", "end", "type"])
def test_a_copy_of_the_firmware_map_with_a_pipe_in_it_is_refused(
    machine: Machine, name: str
) -> None:
    entry = machine.directory / "memmap" / "0"
    entry.mkdir(parents=True)
    for text, value in (("start", "0x0"), ("end", "0xffffff"), ("type", "System RAM")):
        (entry / text).write_text(value + "\n")
    (entry / name).unlink()
    os.mkfifo(entry / name)
    ram, mnt = str(machine.directory / "ram"), str(machine.mountpoint)
    line = refused(machine, "mount", "--map", str(entry.parent), ram, mnt, status=2)
    assert f"memmap/0/{name}: a pipe, expected a file" in line


def test_a_description_without_end_is_refused(machine: Machine) -> None:
    endless = machine.directory / "zero.toml"
    endless.symlink_to("/dev/zero")
    line = refused(machine, "mount", str(endless), str(machine.mountpoint), status=2)
    expected = "a character device, expected a file with the capture description"
    assert line == f"vmcorefs: {endless}: {expected}"
    (machine.directory / "long.toml").write_bytes(b"#" * ((1 << 20) + 1))
    line = refused(machine, "check", str(machine.directory / "long.toml"), status=2)
    assert "long.toml: more than 1 MiB, expected a capture description" in line


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (("check", "PIPE.toml"), "the capture description"),
        (("check", "--map", "PIPE", "ram"), "the memory map"),
        (("check", "--map", "iomem", "--vmcoreinfo", "PIPE", "ram"), "VMCOREINFO"),
        (("check", "--map", "iomem", "--verify", "PIPE", "ram"), "the digests"),
        (("verify", "--sums", "PIPE", "ram"), "the digests"),
        (("verify", "ram"), "the digests"),
    ],
    ids=["TOML", "--map", "--vmcoreinfo", "--verify", "--sums", "IMAGE.sha256"],
)
def test_a_pipe_in_place_of_a_text_is_refused_and_not_waited_for(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], what: str
) -> None:
    monkeypatch.chdir(machine.directory)
    pipes = [name.replace("PIPE", "odd") for name in given if "PIPE" in name]
    (path,) = pipes or [str(machine.directory / "ram.sha256")]
    os.mkfifo(path)
    line = refused(machine, *(name.replace("PIPE", "odd") for name in given), status=2)
    assert line == f"vmcorefs: {path}: a pipe, expected a file with {what}"


def test_a_map_that_a_shells_command_writes_is_read(machine: Machine) -> None:
    ram = machine.directory / "ram"
    command = " ".join(machine.command("extract", "iomem", "-o", "-", "--map", "MAP", str(ram)))
    script = command.replace("MAP", f"<(cat {machine.directory}/iomem)")
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == (machine.directory / "iomem").read_text()


# --- something else in the place of the image ----------------------------------------------------


def replace_by_link(path: Path) -> None:
    (path.parent / "other").write_bytes(b"\xee" * RAM_END)
    (path.parent / "new").symlink_to("other")
    os.replace(path.parent / "new", path)


def replace_by_device(path: Path) -> None:
    os.mknod(path.parent / "new", 0o600 | 0o020000, os.makedev(1, 5))
    os.replace(path.parent / "new", path)


def replace_by_pipe(path: Path) -> None:
    os.mkfifo(path.parent / "new")
    os.replace(path.parent / "new", path)


REPLACED = {"a link": replace_by_link, "a device": replace_by_device, "a pipe": replace_by_pipe}


@pytest.mark.parametrize("replace", REPLACED.values(), ids=REPLACED.keys())
def test_what_is_looked_at_is_what_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: Callable[[Path], None]
) -> None:
    path = tmp_path / "ram"
    path.write_bytes(b"\x11" * 4096)
    inode = path.stat().st_ino
    true_open = os.open

    def swap_behind_the_first_look(
        name: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None
    ) -> int:
        descriptor = true_open(name, flags, mode, dir_fd=dir_fd)
        if name == str(path):
            assert flags & os.O_PATH
            replace(path)
        return descriptor

    monkeypatch.setattr(os, "open", swap_behind_the_first_look)
    source = FileSource(str(path), role="image")
    monkeypatch.undo()
    buffer = bytearray(4096)
    source.pread_into(0, memoryview(buffer))
    source.close()
    assert buffer == b"\x11" * 4096
    assert (source.identity.inode, source.kind) == (inode, "file")


@pytest.mark.parametrize(
    ("plane", "replace"), list(zip(PLANES, REPLACED.values(), strict=True)), ids=REPLACED.keys()
)
def test_a_mount_serves_the_file_that_it_opened_whatever_takes_its_name(
    machine: Machine, plane: str, replace: Callable[[Path], None]
) -> None:
    expected = through_api(machine, "vmcore")
    inode = (machine.directory / "ram").stat().st_ino
    with machine.mounted("-o", f"plane={plane}") as mnt:
        replace(machine.directory / "ram")  # before the plane is chosen, which opens it again
        assert (mnt / "vmcore").read_bytes() == expected
        layout = json.loads((mnt / "layout.json").read_text())
        assert layout["inputs"][0]["inode"] == inode
        assert layout["files"]["vmcore"]["plane"]["name"] == plane


# --- the place -----------------------------------------------------------------------------------


def test_a_mount_point_that_is_a_link_is_mounted_where_it_leads(machine: Machine) -> None:
    link = machine.directory / "link"
    link.symlink_to("mnt")
    arguments = ["mount", "--log", str(machine.log), *machine.sources, str(link)]
    done = machine.run(*arguments)
    assert done.returncode == 0, done
    mount = find_mount(str(link))
    assert mount is not None
    assert mount.mountpoint == str(machine.mountpoint)
    assert link.is_symlink()
    # the link leads elsewhere now: it is not what is mounted
    other = machine.directory / "other"
    other.mkdir()
    link.unlink()
    link.symlink_to("other")
    assert "no tree of vmcorefs is mounted there" in refused(machine, "umount", str(link), status=3)
    assert machine.run("umount", str(machine.mountpoint)).returncode == 0


@pytest.mark.parametrize("target", ["ram", "nowhere", "link"])
def test_a_mount_point_that_is_no_directory_is_refused(machine: Machine, target: str) -> None:
    link = machine.directory / "link"
    link.symlink_to(target)
    line = refused(machine, "mount", *machine.sources, str(link), status=3)
    assert f"{link}: cannot mount there: " in line


# --- what others may see -------------------------------------------------------------------------


def test_nothing_of_the_image_is_written_anywhere(machine: Machine) -> None:
    """Every file that the command and the daemon open for writing, as the kernel sees it."""
    trace = machine.directory / "trace"
    command = machine.command(
        "mount", "-f", "--log", str(machine.log), *machine.sources, str(machine.mountpoint)
    )
    calls = (
        "trace=open,openat,creat,mknod,mknodat,mkdir,mkdirat,link,linkat,symlink,symlinkat,rename"
    )
    tracer = ["strace", "-f", "-qq", "-o", str(trace), "-e", calls]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    with running([*tracer, *command], env=environment) as tracing:
        wait_for(lambda: find_mount(str(machine.mountpoint)), "mount", tracing)
        for path in ("vmcore", "oldmem", "layout.json", "crash_notes"):
            (machine.mountpoint / path).read_bytes()
        os.kill(machine.daemon, 15)
        assert tracing.wait(PATIENCE) == 0
    written = [
        line.split('"')[1]
        for line in trace.read_text().splitlines()
        if '"' in line and " = -1 " not in line and not _is_reading(line)
    ]
    # the last two lie in a ramfs that is mounted nowhere; tqdm has a semaphore for its bars
    allowed = {"/dev/null", "/dev/fuse", str(machine.log), "metadata", "device"}
    others = ("/sys/class/bdi/", "/dev/shm/sem.")  # noqa: S108
    assert [path for path in written if path not in allowed and not path.startswith(others)] == []
    assert str(machine.log) in written


def _is_reading(line: str) -> bool:
    return "open" in line and not any(flag in line for flag in ("O_WRONLY", "O_RDWR", "O_CREAT"))


def test_the_tree_is_its_owners_alone(machine: Machine) -> None:
    with machine.mounted() as mnt:
        line = next(
            line
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if f" {mnt} " in line
        )
        options = set(line.split(" - ")[1].split(" ")[2].split(",")) | set(
            line.split()[5].split(",")
        )
        assert {"ro", "nosuid", "nodev", "noexec", "default_permissions"} <= options
        assert "allow_other" not in options
        for directory, names, files in os.walk(mnt):
            assert all((Path(directory, name).stat().st_mode & 0o777) == 0o500 for name in names)
            assert all((Path(directory, name).stat().st_mode & 0o777) == 0o400 for name in files)


def test_the_log_has_nothing_of_the_image(machine: Machine) -> None:
    secret = b"-----BEGIN OPENSSH PRIVATE KEY-----"
    with (machine.directory / "ram").open("rb+") as file:
        file.seek(0xC00000)
        file.write(secret)
    with machine.mounted("-o", "plane=plain") as mnt:
        assert secret in (mnt / "vmcore").read_bytes()
        with pytest.raises(OSError, match="Read-only"):
            (mnt / "vmcore").open("r+b")
    assert secret not in machine.log.read_bytes()


def test_the_library_leaves_the_process_as_it_is(machine: Machine) -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    with vmcorefs.open(machine.directory / "ram", memory_map=machine.directory / "iomem"):
        pass
    assert resource.getrlimit(resource.RLIMIT_CORE) == before
