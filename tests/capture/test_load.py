"""Loading the crash kernel: the command line, the two system calls, other tools' kernels."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.conftest import Programs
from vmcorefs.capture.prepare import load
from vmcorefs.capture.prepare.load import CrashKernel, make_command_line, plan_load
from vmcorefs.capture.settings import LoadSettings, Settings, TargetSettings
from vmcorefs.errors import ConfigError, OutputError, UnsupportedError

RUNNING = (
    "BOOT_IMAGE=/boot/vmlinuz-6.1 root=UUID=1-2 ro quiet crashkernel=256M"
    ' dyndbg="file drivers/usb/* +p" console=ttyS0,115200 systemd.unit=multi-user.target'
)
PLAN = CrashKernel("kernel", "initrd", "root=/dev/vda")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with memory reserved, no crash kernel, and a kernel to load."""
    for name, text in (("loaded", "0\n"), ("size", "268435456\n"), ("kernel", ""), ("initrd", "")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(load, "KEXEC_LOADED", str(tmp_path / "loaded"))
    monkeypatch.setattr(load, "KEXEC_SIZE", str(tmp_path / "size"))
    monkeypatch.setattr(load, "STATE_PATH", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_the_running_kernel_had_stays_but_for_what_never_fits() -> None:
    words = make_command_line(LoadSettings(), RUNNING, network=False)
    assert words.startswith(
        'root=UUID=1-2 ro dyndbg="file drivers/usb/* +p" console=ttyS0,115200'
        " systemd.unit=vmcorefs.target "
    )
    for word in ("nr_cpus=1", "reset_devices", "panic=10", "cgroup_disable=memory"):
        assert f" {word} " in words
    assert "crashkernel" not in words
    assert "network" not in words


def test_the_settings_add_and_remove() -> None:
    wanted = LoadSettings(append="debug nosmp", remove=("console", "ro"))
    words = make_command_line(wanted, RUNNING, network=True).split()
    assert words[-3:] == ["systemd.wants=network-online.target", "debug", "nosmp"]
    assert not [word for word in words if word.startswith("console=") or word == "ro"]


@pytest.mark.parametrize(
    ("running", "front", "init"),
    [
        ("ro -- --unit=a quiet crashkernel=1M", "ro ", "--unit=a quiet crashkernel=1M"),
        ("-- 3", "", "3"),
        ('ro "--" 3', "ro ", "3"),
        ("ro --\t3  root=x \n", "ro ", "3  root=x"),
        ("ro -- 3 -- 4", "ro ", "3 -- 4"),
        ("ro --", "ro ", ""),
        ("ro --x a=-- x--", "ro --x a=-- x-- ", ""),
        ('dyndbg="a -- b" ro', 'dyndbg="a -- b" ro ', ""),
        ('"dyndbg=a -- b" ro -- 3', '"dyndbg=a -- b" ro ', "3"),
        ('ro dyndbg="a -- quiet', 'ro dyndbg="a -- quiet" ', ""),
        ("a=\N{NO-BREAK SPACE}-- 3", "a=\N{NO-BREAK SPACE}-- 3 ", ""),
    ],
)
def test_what_we_add_comes_before_the_arguments_of_init(
    running: str, front: str, init: str
) -> None:
    wanted = LoadSettings(append="debug", remove=("3",) if init else ())
    words = make_command_line(wanted, running, network=True)
    assert words.startswith(f"{front}systemd.unit=vmcorefs.target ")
    ours, dashes, rest = words.partition(" debug")
    assert " nr_cpus=1 " in ours
    assert dashes
    assert rest == (f" -- {init}" if init else "")


def test_arguments_of_init_in_the_settings_follow_those_of_the_running_kernel() -> None:
    wanted = LoadSettings(append='debug -- "b c"')
    words = make_command_line(wanted, "ro -- a", network=False)
    assert words.endswith(' debug -- a "b c"')


@pytest.mark.parametrize(
    ("running", "left"),
    [
        ('"crashkernel=256M high" ro', "ro"),
        ('crashkernel="256M,high" "quiet" ro', "ro"),
        ("slub-debug=FZ log-buf-len=4M my-own=1 ro", "ro"),
        ('dyndbg="quiet crashkernel=1" ro', 'dyndbg="quiet crashkernel=1" ro'),
        ("xcrashkernel=1 quietly ro", "xcrashkernel=1 quietly ro"),
    ],
)
def test_words_are_removed_by_the_name_that_the_kernel_reads(running: str, left: str) -> None:
    words = make_command_line(LoadSettings(remove=("my_own",)), running, network=False)
    assert words.partition(" systemd.unit=")[0] == left


@pytest.mark.usefixtures("machine")
def test_kexec_load_gets_nothing_for_init_as_elfcorehdr_would_come_behind_it(
    programs: Programs,
) -> None:
    programs.add("kexec", 'case "$*" in *-s*) echo "no signature" >&2; exit 1 ;; esac')
    plan = CrashKernel("kernel", "initrd", "ro panic=10 -- 3")
    assert load.load_crash_kernel(plan, replace=False) == "kexec_load"
    assert programs.calls == [
        "kexec -p -s --initrd=initrd --command-line=ro panic=10 -- 3 kernel",
        "kexec -p -c --initrd=initrd --command-line=ro panic=10 kernel",
    ]
    assert load.read_state() == plan


def test_an_initramfs_does_not_go_to_the_real_root() -> None:
    wanted = LoadSettings(save_from="initramfs")
    words = make_command_line(wanted, RUNNING, network=True).split()
    assert "vmcorefs=initramfs" in words
    assert not [word for word in words if word.startswith("systemd.")]


def test_files_are_those_of_the_running_release() -> None:
    settings = Settings(target=TargetSettings(url="ssh://host/dir"))
    plan = plan_load(settings, RUNNING, "6.1.0-9")
    assert (plan.kernel, plan.initrd) == ("/boot/vmlinuz-6.1.0-9", "/boot/initrd.img-6.1.0-9")
    settings = Settings(load=LoadSettings(save_from="initramfs"))
    assert plan_load(settings, "", "6.1.0-9").initrd == "/var/lib/vmcorefs/initrd.img-6.1.0-9"


@pytest.mark.usefixtures("machine")
def test_kexec_file_load_is_tried_first(programs: Programs) -> None:
    programs.add("kexec")
    assert load.load_crash_kernel(PLAN, replace=False) == "kexec_file_load"
    assert programs.calls == [
        "kexec -p -s --initrd=initrd --command-line=root=/dev/vda kernel",
    ]
    assert load.read_state() == PLAN


@pytest.mark.usefixtures("machine")
def test_kexec_load_is_tried_where_that_fails(programs: Programs) -> None:
    programs.add("kexec", 'case "$*" in *-s*) echo "no signature" >&2; exit 1 ;; esac')
    assert load.load_crash_kernel(PLAN, replace=False) == "kexec_load"
    assert [call.split()[2] for call in programs.calls] == ["-s", "-c"]


@pytest.mark.usefixtures("machine")
def test_where_neither_works_both_reasons_are_said(programs: Programs) -> None:
    programs.add("kexec", 'echo "no to $2" >&2; exit 255')
    with pytest.raises(
        OutputError,
        match=r"^kernel: cannot load the crash kernel: kexec_file_load: no to -s; kexec_load: no"
        r" to -c$",
    ):
        load.load_crash_kernel(PLAN, replace=False)
    assert load.read_state() is None


def test_another_tools_kernel_is_not_replaced_unasked(machine: Path, programs: Programs) -> None:
    programs.add("kexec")
    (machine / "loaded").write_text("1\n")
    with pytest.raises(ConfigError, match=r"^another tool's crash kernel is loaded .*$"):
        load.load_crash_kernel(PLAN, replace=False)
    assert programs.calls == []
    load.load_crash_kernel(PLAN, replace=True)
    assert len(programs.calls) == 1
    load.load_crash_kernel(PLAN, replace=False)  # it is ours now
    assert len(programs.calls) == 2


def test_without_reserved_memory_nothing_is_tried(machine: Path, programs: Programs) -> None:
    programs.add("kexec")
    (machine / "size").write_text("0\n")
    with pytest.raises(UnsupportedError, match=r"^no memory is reserved .*crashkernel=256M$"):
        load.load_crash_kernel(PLAN, replace=False)
    assert programs.calls == []


def test_only_what_is_ours_is_unloaded(machine: Path, programs: Programs) -> None:
    programs.add("kexec")
    assert not load.unload_crash_kernel()
    (machine / "loaded").write_text("1\n")
    load.load_crash_kernel(PLAN, replace=True)
    assert load.unload_crash_kernel()
    assert programs.calls[-1] == "kexec -p -u"
    assert load.read_state() is None
