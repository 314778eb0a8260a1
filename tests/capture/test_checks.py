"""vmcorefs config check: each thing that would keep a dump from being saved is found before."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.capture.conftest import Programs
from vmcorefs.capture.estimate import describe_needs, estimate_dump, needed_memory
from vmcorefs.capture.prepare import check_system, check_target, load
from vmcorefs.capture.prepare.check_system import check_system as system_checks
from vmcorefs.capture.prepare.check_target import check_target as target_checks
from vmcorefs.capture.prepare.checks import check_all
from vmcorefs.capture.prepare.initramfs import make_initramfs, resolve_target
from vmcorefs.capture.prepare.load import plan_load
from vmcorefs.capture.prepare.mount_table import find_mounted, fstab_mountpoints
from vmcorefs.capture.prepare.report import Check
from vmcorefs.capture.settings import (
    DumpSettings,
    KeepSettings,
    LoadSettings,
    Settings,
    TargetSettings,
)
from vmcorefs.cli import main
from vmcorefs.errors import ConfigError, OutputError
from vmcorefs.native import pages as native
from vmcorefs.system.mountinfo import Mounted


def lines(checks: Iterator[Check]) -> list[str]:
    return [f"{check.level} {check.what}: {check.message}" for check in checks]


def on(directory: Path | str, free: str = "1M") -> Settings:
    return Settings(target=TargetSettings(directory=str(directory)), keep=KeepSettings(free=free))


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "tmpfs"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


# --- the target ---------------------------------------------------------------------------------


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Mounted:
    """Have everything lie on a disk: /tmp may be in memory, and the root no mount point."""
    mounted = Mounted("/", "/", "/dev/vda1", "ext4", "254:1", is_read_only=False, number=1)
    monkeypatch.setattr(check_target, "list_mounted", lambda: [mounted])
    return mounted


@pytest.mark.usefixtures("disk")
def test_a_directory_that_can_be_written(tmp_path: Path) -> None:
    kind, room = lines(target_checks(on(tmp_path)))
    assert kind == f"ok target: {tmp_path}: writable (/dev/vda1, ext4)"
    assert room.startswith(f"ok space: {tmp_path}: ")


@pytest.mark.usefixtures("disk")
def test_a_directory_that_save_would_make(tmp_path: Path) -> None:
    assert lines(target_checks(on(tmp_path / "crash")))[0] == (
        f"ok target: {tmp_path}/crash: will be made"
    )


@pytest.mark.usefixtures("disk")
def test_a_directory_whose_parent_is_missing(tmp_path: Path) -> None:
    assert lines(target_checks(on(tmp_path / "a" / "b"))) == [
        f"error target: {tmp_path}/a/b: no such directory, nor is {tmp_path}/a"
    ]


@pytest.mark.usefixtures("disk")
def test_too_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_target, "free_bytes", lambda _: 1 << 20)
    room = lines(target_checks(on(tmp_path)))[-1]
    assert room.startswith(f"warning space: {tmp_path}: 1 MiB free; a dump now takes at most ")


def test_a_directory_in_memory_does_not_outlive_a_reboot(tmpfs: Path) -> None:
    assert lines(target_checks(on(tmpfs)))[0] == (
        f"error target: {tmpfs}: on tmpfs, which does not outlive a reboot"
    )


def test_where_nothing_tells_what_a_directory_lies_on_the_rest_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc = Mounted("/proc", "/", "proc", "proc", "0:1", is_read_only=False, number=1)
    monkeypatch.setattr(check_target, "list_mounted", lambda: [proc])
    unknown, kind, room = lines(target_checks(on(tmp_path)))
    assert unknown == (
        f"warning target: {tmp_path}: in a chroot whose root is no mount point, nothing tells what"
        " it lies on: whether the capture kernel finds it was not looked at"
    )
    assert kind == f"ok target: {tmp_path}: writable"
    assert room.startswith(f"ok space: {tmp_path}: ")


def test_a_directory_that_no_boot_would_mount(
    tmp_path: Path, disk: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Mounted(str(tmp_path), "/", "/dev/vdb1", "ext4", "254:17", is_read_only=False, number=2)
    monkeypatch.setattr(check_target, "list_mounted", lambda: [disk, data])
    monkeypatch.setattr(check_target, "fstab_mountpoints", set)
    assert lines(target_checks(on(tmp_path)))[0] == (
        f"error target: {tmp_path}: {tmp_path} is not in /etc/fstab: the capture kernel will not"
        " mount it; name it as [target] filesystem"
    )
    monkeypatch.setattr(check_target, "fstab_mountpoints", lambda: {str(tmp_path)})
    assert lines(target_checks(on(tmp_path)))[0].startswith("ok target: ")


def test_a_file_system_that_is_not_there() -> None:
    settings = Settings(target=TargetSettings(filesystem="LABEL=no-such-thing"))
    assert lines(target_checks(settings)) == [
        "error target: LABEL=no-such-thing: no such device (/dev/disk/by-label/no-such-thing)"
    ]


def test_a_host_is_asked_without_anybody_to_answer_it(programs: Programs) -> None:
    programs.add(
        "ssh",
        'echo "Filesystem 1024-blocks Used Available Capacity Mounted on"\n'
        'echo "/dev/sda1 100000000 1 90000000 1% /srv"',
    )
    settings = Settings(target=TargetSettings(url="ssh://crash@host:222/srv/it's"))
    answers, *room = lines(target_checks(settings))
    assert answers.startswith("ok target: ssh://crash@host:222/srv/it's: answers without ")
    assert room[0].startswith("ok space: ssh://crash@host:222/srv/it's: 85.83 GiB free; ")
    (call,) = programs.calls
    assert "-o BatchMode=yes " in call
    assert " -p 222 -- crash@host " in call


@pytest.mark.parametrize("said", ["", "df: /srv: no file system"])
def test_a_host_that_does_not_say_how_much_is_free(programs: Programs, said: str) -> None:
    programs.add("ssh", f"echo '{said}'")
    settings = Settings(target=TargetSettings(url="ssh://crash@host/srv"))
    _, room = lines(target_checks(settings))
    assert room == "warning space: ssh://crash@host/srv: df does not say how much is free there"


def test_a_directory_of_a_host_is_made_or_must_be_writable(
    programs: Programs, tmp_path: Path
) -> None:
    programs.add("ssh", 'for last; do :; done; exec sh -c "$last"')  # the script, here
    (tmp_path / "file").touch()

    def first(path: Path) -> str:
        return lines(target_checks(Settings(target=TargetSettings(url=f"ssh://host{path}"))))[0]

    assert first(tmp_path).startswith(f"ok target: ssh://host{tmp_path}: answers ")
    assert first(tmp_path / "none").startswith("warning target: ")
    assert first(tmp_path / "none").endswith("no such directory there: saving will try to make it")
    assert first(tmp_path / "file").endswith("/file: no writable directory there")


def test_a_host_that_does_not_let_us_in(programs: Programs) -> None:
    programs.add("ssh", 'echo "crash@host: Permission denied (publickey)." >&2; exit 255')
    settings = Settings(target=TargetSettings(url="ssh://crash@host/srv"))
    assert lines(target_checks(settings)) == [
        "error target: ssh://crash@host/srv: crash@host: Permission denied (publickey)."
    ]


# --- the system ---------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs: Programs) -> Settings:
    """A machine on which all is well, and its settings."""
    for name, text in (("loaded", "1\n"), ("size", "268435456\n"), ("kernel", ""), ("initrd", "")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(load, "KEXEC_LOADED", str(tmp_path / "loaded"))
    monkeypatch.setattr(load, "KEXEC_SIZE", str(tmp_path / "size"))
    monkeypatch.setattr(load, "STATE_PATH", str(tmp_path / "state"))
    monkeypatch.setattr(check_system, "outdated_files", lambda _: [])
    programs.add("kexec")
    programs.add("systemctl", "echo enabled")
    wanted = LoadSettings(kernel=f"{tmp_path}/kernel", initrd=f"{tmp_path}/initrd")
    settings = Settings(load=wanted)
    load.load_crash_kernel(plan_load(settings), replace=True)
    return settings


def bad(settings: Settings) -> list[str]:
    return [line for line in lines(system_checks(settings)) if not line.startswith("ok ")]


def test_a_machine_on_which_all_is_well(machine: Settings) -> None:
    assert bad(machine) == []
    assert len(lines(system_checks(machine))) == 8


def test_no_reserved_memory(machine: Settings, tmp_path: Path) -> None:
    (tmp_path / "size").write_text("0\n")
    assert bad(machine) == ["error crashkernel: no memory is reserved: boot with crashkernel=256M"]


def test_little_reserved_memory(machine: Settings, tmp_path: Path) -> None:
    (tmp_path / "size").write_text(str(128 << 20))
    (line,) = bad(machine)
    assert line.startswith("warning crashkernel: 128 MiB are reserved; less than ")


def test_no_crash_kernel_loaded(machine: Settings, tmp_path: Path) -> None:
    (tmp_path / "loaded").write_text("0\n")
    assert bad(machine) == [
        "error loaded: no crash kernel is loaded: systemctl enable --now vmcorefs-load"
    ]


def test_another_tools_crash_kernel(machine: Settings, tmp_path: Path) -> None:
    (tmp_path / "state").unlink()
    (line,) = bad(machine)
    assert line.startswith("warning loaded: another tool's crash kernel is loaded")


def test_a_crash_kernel_that_the_settings_no_longer_mean(machine: Settings) -> None:
    changed = Settings(load=LoadSettings(machine.load.kernel, machine.load.initrd, append="debug"))
    assert bad(changed) == [
        "error loaded: not what the settings say any more: systemctl reload vmcorefs-load"
    ]


def test_an_initramfs_older_than_the_settings_in_it(
    machine: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "vmcorefs.toml"
    settings.touch()
    monkeypatch.setattr(check_system, "SETTINGS_PATH", str(settings))
    wanted = LoadSettings(machine.load.kernel, machine.load.initrd, save_from="initramfs")
    load.load_crash_kernel(plan_load(Settings(load=wanted)), replace=True)
    os.utime(machine.load.initrd, (1, 1))
    (line,) = bad(Settings(load=wanted))
    assert line.startswith(f"error load: {machine.load.initrd}: older than ")
    os.utime(machine.load.initrd)
    assert bad(Settings(load=wanted)) == []


def test_units_of_another_version(machine: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_system, "outdated_files", lambda _: ["/etc/x.service"])
    assert bad(machine) == [
        "error units: /etc/x.service: missing, or of another version: vmcorefs capture install"
    ]


def test_a_unit_that_is_not_enabled(machine: Settings, programs: Programs) -> None:
    programs.add("systemctl", "echo disabled; exit 1")
    (line,) = bad(machine)
    assert line.startswith("warning units: vmcorefs-load.service: disabled: at the next boot ")


def test_a_codec_that_is_not_installed(machine: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library_of", lambda _flag: None)
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    settings = Settings(load=machine.load, dump=DumpSettings(codec="zstd"))
    (line,) = bad(settings)
    assert line.startswith(
        "error dump: codec zstd: the Python package zstandard is not installed; "
    )


# --- the whole ----------------------------------------------------------------------------------


def test_bad_settings_are_the_only_line(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text("[dump]\nlevel = 99\n")
    (line,) = lines(iter(check_all(str(path))))
    assert line.startswith(f"error settings: {path}:2: dump.level: dump level '99': expected 0 to ")
    result = CliRunner().invoke(main, ["config", "check", str(path)])
    assert result.exit_code == 2
    assert result.output.startswith("error   settings     ")
    result = CliRunner().invoke(main, ["config", "check", "--json", str(path)])
    assert [check["level"] for check in json.loads(result.output)] == ["error"]


def test_a_check_that_fails_itself_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> list[Mounted]:
        raise PermissionError(13, "Permission denied", "/proc/self/mountinfo")

    monkeypatch.setattr(check_target, "list_mounted", broken)
    checks = lines(iter(check_all(str(tmp_path / "none"))))
    assert checks[0].endswith("/none: not there, so the defaults hold")
    assert checks[1] == "error target: [Errno 13] Permission denied: '/proc/self/mountinfo'"
    assert len(checks) > 3  # and the others go on


# --- what they are made of ----------------------------------------------------------------------

MEMINFO = """\
MemTotal:        1000 kB
MemFree:          400 kB
Buffers:           50 kB
Cached:           200 kB
AnonPages:        100 kB
Shmem:             30 kB
HugePages_Total:    0
"""


@pytest.mark.parametrize(
    ("level", "kib"), [(0, 1000), (16, 600), (8, 900), (2, 780), (31, 280), ("1,31", 280)]
)
def test_a_dump_is_what_the_level_does_not_leave_out(
    tmp_path: Path, level: int | str, kib: int
) -> None:
    (tmp_path / "meminfo").write_text(MEMINFO)
    assert estimate_dump(DumpSettings(level=level), str(tmp_path / "meminfo")) == kib << 10


def test_what_to_reserve_grows_with_what_saving_keeps_in_memory(tmp_path: Path) -> None:
    assert needed_memory(1 << 30) == 256 << 20
    assert needed_memory(1 << 40) == 320 << 20  # two bits for each of 2 ** 28 pages: 64 MiB
    assert needed_memory(24 << 40) == (256 + 24 * 64) << 20
    (tmp_path / "meminfo").write_text(MEMINFO)
    needs = describe_needs(DumpSettings(), 128 << 20, str(tmp_path / "meminfo"))
    assert needs.startswith(
        "crashkernel=256M  (reserved now: 128 MiB)\ndisk         280 KiB at most"
    )


def test_the_command_needs_no_image() -> None:
    result = CliRunner().invoke(main, ["estimate", "--crashkernel"])
    assert result.exit_code == 0
    assert result.output.startswith("crashkernel=256M  (reserved now: ")


def test_the_mount_that_a_path_is_on_is_the_topmost() -> None:
    table = [
        Mounted(point, "/", source, "ext4", "1:1", is_read_only=False, number=3)
        for point, source in (("/", "a"), ("/srv", "b"), ("/srv/x y", "c"), ("/srv", "d"))
    ]

    def source_of(path: str) -> str | None:
        mounted = find_mounted(path, table)
        return mounted.source if mounted else None

    assert source_of("/srvx") == "a"
    assert source_of("/srv/none") == "d"
    assert source_of("/srv/x y/none") == "c"


def test_fstab(tmp_path: Path) -> None:
    (tmp_path / "fstab").write_text(
        "# /dev/sda1 /old ext4 defaults 0 1\n"
        "UUID=1 / ext4 defaults 0 1\n"
        "UUID=2 /with\\040space xfs nofail\n"
        "UUID=3 /media/cd iso9660 ro,noauto 0 0\n"
    )
    assert fstab_mountpoints(str(tmp_path / "fstab")) == {"/", "/with space"}


def test_an_initramfs_gets_a_file_system_for_a_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    table = [
        Mounted("/", "/@", "/dev/no-such-vda1", "btrfs", "0:20", is_read_only=False, number=4),
        Mounted(
            "/no-such-srv", "/", "/dev/no-such-vdb", "ext4", "254:16", is_read_only=False, number=5
        ),
        Mounted("/no-such-run", "/", "tmpfs", "tmpfs", "0:21", is_read_only=False, number=6),
    ]
    monkeypatch.setattr("vmcorefs.capture.prepare.initramfs.list_mounted", lambda: table)
    assert resolve_target(TargetSettings(directory="/no-such-srv/a/b")) == TargetSettings(
        directory="/a/b", filesystem="/dev/no-such-vdb", type="ext4"
    )
    assert resolve_target(TargetSettings(directory="/no-such-dir")) == TargetSettings(
        directory="/@/no-such-dir",
        filesystem="/dev/no-such-vda1",
        type="btrfs",
        options="subvolid=5",
    )
    with pytest.raises(ConfigError, match=r"^/no-such-run/x: on tmpfs \(tmpfs\): an initramfs .*$"):
        resolve_target(TargetSettings(directory="/no-such-run/x"))


def test_an_initramfs_without_the_module_of_its_target_is_not_made(
    tmp_path: Path, programs: Programs
) -> None:
    programs.add("blkid", "exit 2")  # blkid(8): no such device, or nothing known on it
    programs.add("mkinitramfs", "touch /dev/null")
    settings = Settings(target=TargetSettings(filesystem="LABEL=gone"))
    output = str(tmp_path / "initrd")
    with pytest.raises(
        ConfigError,
        match=r"^LABEL=gone: cannot tell its type: blkid .*/gone; name it as \[target\] type$",
    ):
        make_initramfs(output, "/etc/vmcorefs.toml", settings, release="6.1", modules="dep")
    assert not [call for call in programs.calls if call.startswith("mkinitramfs")]


def test_an_initramfs_that_cannot_be_written_is_no_bug(tmp_path: Path, programs: Programs) -> None:
    programs.add("mkinitramfs")
    (tmp_path / "file").touch()
    settings = Settings(target=TargetSettings(filesystem="LABEL=x", type="ext4"))
    for output in (tmp_path / "file/initrd", tmp_path / "none-was-made"):
        with pytest.raises(OutputError, match=rf"^{output}: cannot make it: "):
            make_initramfs(str(output), "x.toml", settings, release="6.1", modules="dep")
