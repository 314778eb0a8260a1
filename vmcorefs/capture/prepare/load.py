"""Loading the crash kernel with kexec(8), on the healthy system."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import msgspec

from vmcorefs.capture.prepare.command_line import CommandLine, parse_command_line, without
from vmcorefs.capture.programs import run
from vmcorefs.capture.settings import LoadSettings, Settings
from vmcorefs.errors import ConfigError, OutputError, UnsupportedError

STATE_PATH = "/run/vmcorefs-load.json"
"""What we have loaded; with another tool's crash kernel loaded it is not there."""

KEXEC_LOADED = "/sys/kernel/kexec_crash_loaded"
KEXEC_SIZE = "/sys/kernel/kexec_crash_size"

_INITRD = {
    "root": "/boot/initrd.img-{release}",
    "initramfs": "/var/lib/vmcorefs/initrd.img-{release}",
}
_TARGET = "systemd.unit=vmcorefs.target"
_APPEND = {
    "root": f"{_TARGET} rd.shell=0 rd.emergency=reboot",
    "initramfs": "vmcorefs=initramfs rd.shell=0 rd.emergency=reboot",
}
_ALWAYS = (
    "reset_devices nr_cpus=1 irqpoll nokaslr cgroup_disable=memory numa=off panic=10"
    " transparent_hugepage=never novmcoredd udev.children-max=2"
)
"""One CPU and as little memory as may be. The memory controller costs some for each page, so
MemoryMax= and its like do not work there; panic= makes a panic of the capture kernel, and a failure
in its initramfs, a reboot and not a standstill."""

_NETWORK = "systemd.wants=network-online.target"
_NEVER = frozenset(
    {"BOOT_IMAGE", "initrd", "crashkernel", "systemd.unit", "quiet", "splash", "single", "mem"}
    | {"hugepages", "hugepagesz", "default_hugepagesz", "hugetlb_cma", "cma"}
    | {"slub_debug", "log_buf_len", "isolcpus", "nohz_full"}
)


class CrashKernel(msgspec.Struct, frozen=True):
    """What to load.

    Attributes:
        kernel: The kernel's file.
        initrd: Its initramfs.
        command_line: Its command line; kexec adds ``elfcorehdr=`` itself.
    """

    kernel: str
    initrd: str
    command_line: str


def plan_load(
    settings: Settings, running: str | None = None, release: str | None = None
) -> CrashKernel:
    """Work out what the settings ask to load.

    Args:
        settings: All of them: a target behind a network needs one.
        running: The running kernel's command line.
        release: Its release.
    """
    load = settings.load
    release = release or platform.release()
    if running is None:
        running = Path("/proc/cmdline").read_text("utf-8", "surrogateescape")
    initrd = load.initrd or _INITRD[load.save_from]
    return CrashKernel(
        load.kernel.replace("{release}", release),
        initrd.replace("{release}", release),
        make_command_line(load, running, network=bool(settings.target.url)),
    )


def make_command_line(load: LoadSettings, running: str, *, network: bool) -> str:
    """The crash kernel's command line: the running kernel's, less what never fits, and ours.

    Ours come before a ``--``, as the kernel gives whatever follows that to init.
    """
    theirs, appended = parse_command_line(running), parse_command_line(load.append)
    words = [*without(theirs.words, _NEVER | set(load.remove)), _APPEND[load.save_from], _ALWAYS]
    words += [_NETWORK] if network and load.save_from == "root" else []
    init = " ".join(filter(None, (theirs.init, appended.init)))
    return str(CommandLine((*words, *appended.words), init))


def is_outdated(plan: CrashKernel, config: str) -> bool:
    """Whether the initramfs is not there, or is older than the settings that it has a copy of."""
    try:
        return os.stat(plan.initrd).st_mtime < os.stat(config).st_mtime
    except OSError:
        return not os.path.exists(plan.initrd)


def is_loaded() -> bool:
    """Whether a crash kernel is loaded, by us or by another tool.

    Raises:
        UnsupportedError: if the running kernel knows no kexec.
    """
    return _read_number(KEXEC_LOADED) == 1


def reserved_size() -> int:
    """Bytes that ``crashkernel=`` has reserved.

    Raises:
        UnsupportedError: if the running kernel knows no kexec.
    """
    return _read_number(KEXEC_SIZE)


def load_crash_kernel(plan: CrashKernel, *, replace: bool) -> str:
    """Load it: with kexec_file_load(2), or where that fails with kexec_load(2).

    Args:
        plan: What to load.
        replace: Also replace one that is not ours.

    Returns:
        The name of the system call that did it.

    Raises:
        ConfigError: if a file is not there, or another tool's crash kernel is loaded.
        UnsupportedError: if no memory is reserved.
        OutputError: with kexec's own words, if neither works.
    """
    for path in (plan.kernel, plan.initrd):
        if not os.path.isfile(path):
            raise ConfigError(f"{path}: no such file; see [load] in the settings")
    if reserved_size() == 0:
        raise UnsupportedError(
            "no memory is reserved for a crash kernel: boot with crashkernel=, such as"
            " crashkernel=256M"
        )
    if is_loaded() and read_state() is None and not replace:
        raise ConfigError(
            "another tool's crash kernel is loaded (kdump-tools, kdump.service?): disable that"
            " service, or pass --replace"
        )
    # kexec(8) puts elfcorehdr= at the very end, where kexec_file_load(2) has it at the start: there
    # must be nothing for init in front of it
    for_kernel = str(CommandLine(parse_command_line(plan.command_line).words))
    reasons = []
    for option, name, command_line in (
        ("-s", "kexec_file_load", plan.command_line),
        ("-c", "kexec_load", for_kernel),
    ):
        reason = _kexec(
            "-p", option, f"--initrd={plan.initrd}", f"--command-line={command_line}", plan.kernel
        )
        if reason is None:
            _write_state(plan)
            return name
        reasons.append(f"{name}: {reason}")
    raise OutputError(f"{plan.kernel}: cannot load the crash kernel: {'; '.join(reasons)}")


def unload_crash_kernel() -> bool:
    """Unload what we have loaded.

    Returns:
        Whether there was anything of ours.

    Raises:
        OutputError: with kexec's own words, if that fails.
    """
    if not os.path.exists(STATE_PATH):
        return False
    reason = _kexec("-p", "-u")
    if reason is not None:
        raise OutputError(f"cannot unload the crash kernel: {reason}")
    os.unlink(STATE_PATH)
    return True


def _kexec(*arguments: str) -> str | None:
    """Run kexec; None if it did what it was asked, otherwise why not."""
    done = run(["kexec", *arguments], "cannot run kexec")
    if done.returncode == 0:
        return None
    return " / ".join(done.stderr.split("\n")).strip(" /") or f"exit status {done.returncode}"


def read_state() -> CrashKernel | None:
    """What we have loaded; None if that is nothing, or is not known."""
    try:
        return msgspec.json.decode(Path(STATE_PATH).read_bytes(), type=CrashKernel)
    except (OSError, msgspec.DecodeError):
        return None


def _write_state(plan: CrashKernel) -> None:
    Path(STATE_PATH).write_bytes(msgspec.json.encode(plan) + b"\n")


def _read_number(path: str) -> int:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise UnsupportedError(f"{path}: cannot read: the kernel has no kexec ({error})") from error
