"""The lab's own parts, without a guest: what is kept, what is removed, what a console means."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from tests.lab import cache, console, host, kernels, packages, qmp
from tests.lab.build import make_capture
from tests.lab.cache import cached_capture
from tests.lab.concatenation import concatenate
from tests.lab.evidence import Memory, check_sections, check_vmcoreinfo
from tests.lab.host import GuestError, LabError, building, locked, program, sweep
from tests.lab.kernels import Kernel, kernel
from tests.lab.qemu import GIB, MIB, Piece, memory_pieces
from tests.lab.recipe import Recipe
from tests.lab.snapshot import Snapshot, load_capture, load_snapshot, write_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_KERNEL = Kernel("bookworm", "stable", "linux-image-6.1.0-9-cloud-amd64", "6.1.100-1")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _captures(count: int) -> list[Path]:
    """Make directories that look like captures, the oldest first."""
    made = []
    for age in range(count):
        directory = host.cache_root() / "captures" / f"capture-{age}"
        directory.mkdir(parents=True)
        os.utime(directory, (age, age))
        made.append(directory)
    return made


def test_the_captures_used_last_are_kept() -> None:
    made = _captures(cache.KEEP + 2)
    cache._prune(made[0].parent)
    assert [path.exists() for path in made] == [False] * 2 + [True] * cache.KEEP


def test_a_capture_in_use_is_kept_however_old() -> None:
    made = _captures(cache.KEEP + 2)
    descriptor = host.open_directory(made[0])
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    cache._prune(made[0].parent)
    os.close(descriptor)
    assert made[0].exists()
    assert not made[1].exists()


def test_a_claim_follows_the_directory() -> None:
    (directory,) = _captures(1)
    assert cache._claim(directory)
    assert cache._claim(directory)
    directory.rename(directory.with_name("away"))
    directory.mkdir()
    assert not cache._claim(directory)
    assert cache._claim(directory)


def test_a_half_made_directory_never_appears(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with pytest.raises(FileNotFoundError), building(out) as partial:
        (partial / "ram" / "half").touch()
    assert list(out.parent.iterdir()) == []


def test_what_a_dead_builder_left_is_swept_but_a_living_ones_is_not(tmp_path: Path) -> None:
    (tmp_path / ".out.dead.partial").mkdir()
    with building(tmp_path / "out") as partial:
        assert list(tmp_path.iterdir()) == [partial]
        sweep(tmp_path)
        assert partial.exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_a_directory_with_something_in_it_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("")
    with pytest.raises(LabError, match="not an empty directory"), building(tmp_path):
        pytest.fail("built over what was there")


def test_a_lock_leaves_its_file() -> None:
    with locked("guest"):
        assert (host.cache_root() / "guest.lock").exists()


def test_a_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_SYSTEM_DIRECTORIES", ())
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(LabError, match="install Debian's busybox-static"):
        program("busybox")


@pytest.mark.parametrize(
    ("memory", "pieces"),
    [
        (2815 * MIB, (Piece(0, 0, 2815 * MIB),)),
        (2816 * MIB, (Piece(0, 0, 2 * GIB), Piece(4 * GIB, 2 * GIB, 768 * MIB))),
        (5 * GIB, (Piece(0, 0, 2 * GIB), Piece(4 * GIB, 2 * GIB, 3 * GIB))),
    ],
)
def test_memory_above_the_split_lies_from_4_gib_on(memory: int, pieces: tuple[Piece, ...]) -> None:
    assert memory_pieces(memory) == pieces


def test_an_arm64_machines_memory_begins_at_1_gib() -> None:
    assert memory_pieces(5 * GIB, "arm64") == (Piece(GIB, 0, 5 * GIB),)


def test_a_riscv64_machines_memory_begins_at_2_gib() -> None:
    assert memory_pieces(5 * GIB, "riscv64") == (Piece(2 * GIB, 0, 5 * GIB),)


def test_a_foreign_machine_cannot_crash() -> None:
    with pytest.raises(ValueError, match="only amd64 crashes here, not arm64"):
        Recipe(arch="arm64", load="file")
    recipe = Recipe(arch="arm64", load="none")
    assert "console=ttyAMA0 " in recipe.cmdline
    assert "firmware-memmap" not in recipe.sections


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that are run: none of them does anything."""
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> bytes:
        ran.append([word for word in command if "=" not in word and word != "-o"])
        return b""

    monkeypatch.setattr(packages, "run", run)
    return ran


def test_a_foreign_architecture_has_lists_of_its_own_updated_daily(
    commands: list[list[str]],
) -> None:
    show = ["apt-cache", "depends", "linux-image-arm64"]
    for _ in range(2):
        packages.show("depends", "linux-image-arm64", "arm64")
    assert commands == [["apt-get", "-q", "update"], show, show]
    stamp = host.cache_root() / "apt" / "own-arm64" / "updated"
    os.utime(stamp, (stamp.stat().st_mtime - 25 * 3600,) * 2)
    packages.show("depends", "linux-image-arm64", "arm64")
    assert commands[3:] == [["apt-get", "-q", "update"], show]


def test_this_machines_own_lists_are_left_alone(commands: list[list[str]]) -> None:
    packages.show("depends", "linux-image-amd64", "amd64")
    assert commands == [["apt-cache", "depends", "linux-image-amd64"]]
    assert not (host.cache_root() / "apt").exists()


def test_a_suite_has_lists_of_its_own_with_no_other_source(commands: list[list[str]]) -> None:
    packages.show("depends", "linux-image-amd64", "amd64", suite="trixie-backports")
    assert commands == [
        ["apt-get", "-q", "update"],
        ["apt-cache", "depends", "linux-image-amd64"],
    ]
    root = host.cache_root() / "apt" / "trixie-backports-amd64"
    assert (root / "sources.list").read_text().endswith("/debian trixie-backports main\n")
    assert f"Dir::Etc::SourceParts={root / 'parts'}" in packages._options("amd64", root.name[:-6])
    assert list((root / "parts").iterdir()) == []


def _run_debian(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have this machine run a release of Debian."""
    told = {"ID": "debian", "PRETTY_NAME": f"Debian ({name})", "VERSION_CODENAME": name}
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: told)


def _answer(monkeypatch: pytest.MonkeyPatch, answers: dict[str, str]) -> list[str | None]:
    """Have apt-cache answer so; the suites that were asked for."""
    suites = []

    def show(command: str, package: str, *_: str, suite: str | None = None) -> str:
        suites.append(suite)
        return answers[f"{command} {package}"]

    monkeypatch.setattr(kernels, "show", show)
    return suites


def test_a_kernel_that_debian_has_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _run_debian(monkeypatch, "bookworm")
    with pytest.raises(LabError, match=r"bookworm has no kernel newer-16k for amd64"):
        kernel("newer-16k", "amd64")


@pytest.mark.parametrize("system", ["sid", "ubuntu"])
def test_a_system_whose_kernels_the_lab_does_not_know_is_named(
    monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    told = {"ID": "debian", "PRETTY_NAME": "Debian (sid)"}
    if system == "ubuntu":
        told = {"ID": "ubuntu", "PRETTY_NAME": "Ubuntu", "VERSION_CODENAME": "bookworm"}
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: told)
    with pytest.raises(LabError, match=r"bookworm and trixie, but this is (Debian \(sid\)|Ubuntu)"):
        kernel("stable")


def test_a_kernel_in_one_package(monkeypatch: pytest.MonkeyPatch) -> None:
    _run_debian(monkeypatch, "bookworm")
    image = "linux-image-6.12.117+deb12-cloud-amd64"
    suites = _answer(
        monkeypatch,
        {
            "depends linux-image-6.12-cloud-amd64": f"  Depends: {image}\n",
            f"show {image}": "Version: 6.12.117-1~deb12u1\n",
            f"depends {image}": "  Depends: kmod\n  Depends: linux-base\n",
        },
    )
    found = kernels._newest("newer", "amd64")
    assert found.package == image
    assert found.series == (6, 12)
    assert kernels._parts(found) == [image]
    assert set(suites) == {None}


def test_a_kernel_in_several_packages_of_a_suite_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _run_debian(monkeypatch, "trixie")
    name = "7.3.4+deb13-cloud-amd64"
    image = f"linux-image-{name}"
    parts = [f"linux-{part}-{name}" for part in ("base", "binary", "modules")]
    suites = _answer(
        monkeypatch,
        {
            "depends linux-image-cloud-amd64": (
                f"  Depends: linux-base-cloud-amd64\n  Depends: {image}\n"
            ),
            f"show {image}": "Version: 7.3.4-1~bpo13+1\n",
            f"depends {image}": "".join(f"  Depends: {part}\n" for part in ["linux-base", *parts]),
        },
    )
    found = kernels._newest("newer", "amd64")
    assert found.name == name
    assert found.series == (7, 3)
    assert kernels._parts(found) == [image, *parts]
    assert set(suites) == {"trixie-backports"}


@pytest.mark.parametrize(
    ("vmlinuz", "config", "modules"),
    [
        ("boot/vmlinuz-{}", "boot/config-{}", "lib/modules/{}/kernel"),
        ("boot/vmlinuz-{}", "boot/config-{}", "usr/lib/modules/{}/kernel"),
        *[tuple(f"usr/lib/modules/{{}}/{name}" for name in ("vmlinuz", "config", "kernel"))],
    ],
)
def test_a_kernels_files_lie_where_its_package_has_them(
    vmlinuz: str, config: str, modules: str
) -> None:
    name = _KERNEL.name
    for path, text in ((vmlinuz, "MZ"), (config, "# CONFIG_B is not set\nCONFIG_A=y\n")):
        file = _KERNEL.root / path.format(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (_KERNEL.root / modules.format(name)).mkdir(parents=True)
    assert _KERNEL.vmlinuz.read_text() == "MZ"
    assert _KERNEL.config == {"CONFIG_A=y"}
    assert _KERNEL.modules == _KERNEL.root / modules.format(name)


def test_a_kernel_that_lacks_a_file_is_named() -> None:
    with pytest.raises(
        LabError, match=r"linux-image-6\.1\.0-9-cloud-amd64_6\.1\.100-1: no vmlinuz"
    ):
        _ = _KERNEL.vmlinuz


def test_kernels_of_one_series_are_kept_for_each_architecture(tmp_path: Path) -> None:
    for version in ("6.1.0-7", "6.1.0-8", "6.1.0-9"):
        for arch in ("amd64", "arm64"):
            (tmp_path / f"linux-image-{version}-cloud-{arch}_{version}").mkdir()
            os.utime(tmp_path / f"linux-image-{version}-cloud-{arch}_{version}", (1, 1))
    os.utime(tmp_path / "linux-image-6.1.0-8-cloud-arm64_6.1.0-8", (2, 2))
    os.utime(tmp_path / "linux-image-6.1.0-9-cloud-arm64_6.1.0-9", (3, 3))
    kernels._keep_newest(tmp_path, "arm64")
    assert len(list(tmp_path.glob("*amd64*"))) == 3
    assert sorted(path.name for path in tmp_path.glob("*arm64*")) == [
        "linux-image-6.1.0-8-cloud-arm64_6.1.0-8",
        "linux-image-6.1.0-9-cloud-arm64_6.1.0-9",
    ]


def test_a_console_is_cut_at_its_markers() -> None:
    text = console.clean(b"BEGIN a\r\none\r\nEND a\r\nLAB-VMCORE 12\r\nBEGIN b\r\ntwo\r\nLAB-DO")
    assert console.sections(text) == {"a": "one\n"}
    assert console.event(text, "VMCORE") == "12"
    assert console.event(text, "DO") is None


def test_what_a_guest_should_have_said_and_did_not_is_named() -> None:
    said = {"iomem": "0-fff : System RAM\n", "dmesg": "", "kexec": "", "firmware-memmap": ""}
    with pytest.raises(GuestError, match=r"not all, of: uname, dmesg$"):
        check_sections(said, ("uname", "iomem", "dmesg", "kexec"))
    check_sections(said, ("iomem", "kexec"))


@pytest.mark.parametrize("memory", ["", "1T", "0G", "1.5G", "-1G"])
def test_a_recipe_wants_a_size(memory: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        Recipe(memory=memory)


def test_a_recipe_says_whether_it_crashes() -> None:
    assert Recipe(load="file").crashes
    assert not Recipe(load="none").crashes


def test_there_is_no_capture_of_a_crash_without_one(tmp_path: Path) -> None:
    recipe = Recipe(load="none")
    with pytest.raises(LabError, match="crashes nothing"):
        cached_capture(recipe)
    with pytest.raises(LabError, match="crashes nothing"):
        make_capture(recipe, tmp_path / "out")
    write_manifest(tmp_path, recipe, _KERNEL, 1.0)
    assert type(load_snapshot(tmp_path)) is Snapshot
    with pytest.raises(LabError, match="no capture of a crash"):
        load_capture(tmp_path)


def test_a_crash_is_loaded_as_one(tmp_path: Path) -> None:
    write_manifest(tmp_path, Recipe(load="file"), _KERNEL, 1.0)
    capture = load_capture(tmp_path)
    assert capture.vmcore == tmp_path / "vmcore"
    assert capture.lowmem is None


_IOMEM = """\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
0009fc00-0009ffff : Reserved
00100000-7fffffff : System RAM
  2f000000-3affffff : Crash kernel
b0000000-bfffffff : PCI MMCONFIG 0000 [bus 00-ff]
100000000-13fffffff : System RAM
"""


def test_concatenated_memory_has_the_ranges_one_behind_the_other(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path, Recipe(memory="3G", load="none"), _KERNEL, 1.0)
    (tmp_path / "iomem").write_text(_IOMEM)
    marks = {
        0xFFF: b"below" + b"first",  # the first range begins in the middle of this
        0x9FBFF: b"Lx",
        0x100000: b"second",
        0x7FFFFFFF: b"L",
        0x80000000: b"from 4 GiB on",
    }
    with snapshot.ram.open("wb") as ram:
        ram.truncate(3 * GIB)
        for offset, mark in marks.items():
            ram.seek(offset)
            ram.write(mark)
    out = tmp_path / "raw"
    concatenate(snapshot, out)
    first, second = 0x9FC00 - 0x1000, 0x80000000 - 0x100000
    with out.open("rb") as raw:
        assert raw.read(9) == b"elowfirst"
        raw.seek(first - 1)
        assert raw.read(8) == b"Lsecond\0"
        raw.seek(first + second - 1)
        assert raw.read(15) == b"Lfrom 4 GiB on\0"
    assert out.stat().st_size == first + second + GIB
    assert out.stat().st_blocks * 512 < 100 * MIB


@pytest.fixture
def monitor() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, qemus = socket.socketpair()
    with ours, qemus:
        yield ours, qemus


def test_a_machine_is_stopped_over_qmp(monitor: tuple[socket.socket, socket.socket]) -> None:
    ours, qemus = monitor
    qemus.sendall(
        b'{"QMP": {"version": {}, "capabilities": []}}\r\n{"return": {}}\r\n'
        b'{"event": "STOP", "timestamp": {}}\r\n{"return": {}}\r\n'
    )
    with qmp.session(ours) as execute:
        execute("stop")
    assert qemus.recv(1000).splitlines() == [
        b'{"execute":"qmp_capabilities"}',
        b'{"execute":"stop"}',
    ]


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        (b'{"return": {}}\r\n{"error": {"class": "no"}}\r\n', "refused stop: {'class': 'no'}"),
        (b'{"return": {}}\r\n', "ended before it answered stop"),
        (b"nonsense\r\n", "monitor: JSON"),
    ],
)
def test_a_monitor_that_does_not_obey_is_a_failure(
    monitor: tuple[socket.socket, socket.socket], said: bytes, complaint: str
) -> None:
    ours, qemus = monitor
    qemus.sendall(said)
    qemus.shutdown(socket.SHUT_WR)
    with pytest.raises(GuestError, match=re.escape(complaint)), qmp.session(ours) as execute:
        execute("stop")


def test_memory_without_the_note_is_no_evidence(tmp_path: Path) -> None:
    note = struct.pack("<3I", 11, 20, 0) + b"VMCOREINFO\0\0" + b"OSRELEASE=6.1.0-9\n\0\0"
    (tmp_path / "ram").write_bytes(bytes(4096) + note.ljust(2 * 4096, b"\0"))
    memory = Memory(tmp_path / "ram", (Piece(GIB, 0, 3 * 4096),))
    check_vmcoreinfo(memory, "0x0000000040001000 1024\n", "Linux lab 6.1.0-9 #1 SMP\n")
    with pytest.raises(GuestError, match=r"no VMCOREINFO of 6\.1\.0-9 at 0x40000000"):
        check_vmcoreinfo(memory, "0x0000000040000000 1024\n", "Linux lab 6.1.0-9 #1 SMP\n")
    with pytest.raises(GuestError, match=r"no VMCOREINFO of 6\.1\.0-8"):
        check_vmcoreinfo(memory, "0x0000000040001000 1024\n", "Linux lab 6.1.0-8 #1 SMP\n")
