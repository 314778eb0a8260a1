"""A capture initramfs: one that saves the crashed kernel's memory before any root is mounted.

mkinitramfs or dracut makes it, with the drivers that this machine needs; a hook of theirs puts
vmcorefs into it (``fill``), and the settings, with the target resolved to a file system: nothing
else is mounted there.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from vmcorefs.capture.prepare.bundle import HOME, Bundle, make_bundle
from vmcorefs.capture.prepare.install import find_command, find_data
from vmcorefs.capture.prepare.mount_table import find_mounted
from vmcorefs.capture.programs import complaint, run
from vmcorefs.capture.run.actions import SHELL_SECONDS
from vmcorefs.capture.run.filesystem import device_path
from vmcorefs.capture.settings import Settings, TargetSettings
from vmcorefs.errors import ConfigError, OutputError, UnsupportedError
from vmcorefs.system.mountinfo import Mounted, list_mounted

INITRAMFS_TOOLS = "/etc/initramfs-tools"
_BY_UUID = "/dev/disk/by-uuid"
_GRACE = 30
"""Seconds that the process has to keep its limit itself, before the shell does it."""
_PATIENCE = 180


def fill(directory: str, settings: Settings) -> Bundle:
    """Put vmcorefs and what it saves by below ``directory``, an initramfs in the making.

    Raises:
        ConfigError: if the target cannot be had in an initramfs.
        OutputError: if a file cannot be written.
        UnsupportedError: if vmcorefs does not run there.
    """
    resolved = msgspec.structs.replace(settings, target=resolve_target(settings.target))
    bundle = make_bundle(directory, settings.dump.codec)
    try:
        os.makedirs(os.path.join(directory, "etc"), exist_ok=True)
        Path(directory, "etc/vmcorefs.toml").write_text(format_settings(resolved), "utf-8")
        run = shutil.copy(os.path.join(find_data(), "initramfs/run"), os.path.join(directory, HOME))
        os.chmod(run, 0o755)  # noqa: S103  # a program
        Path(directory, HOME, "run.conf").write_text(_format_run(resolved), "utf-8")
    except OSError as error:
        raise OutputError(f"{directory}: cannot write the settings there: {error}") from error
    return bundle


def resolve_target(target: TargetSettings) -> TargetSettings:
    """The same target, as a file system and a directory on it.

    Raises:
        ConfigError: if the directory is on something that no device has.
    """
    if target.url or target.filesystem:
        return target
    mounted = find_mounted(target.directory, list_mounted())
    if mounted is None or not mounted.source.startswith("/dev/"):
        where = f"{mounted.fs_type} ({mounted.source})" if mounted else "nothing that is mounted"
        raise ConfigError(
            f"{target.directory}: on {where}: an initramfs can mount a device only; name one as"
            " [target] filesystem"
        )
    inside = os.path.relpath(os.path.realpath(target.directory), mounted.mountpoint)
    return msgspec.structs.replace(
        target,
        filesystem=_name_device(mounted),
        directory=os.path.normpath(os.path.join(mounted.root, inside)),
        type=target.type or mounted.fs_type,
        # the top of a btrfs, whatever its default subvolume is: mountinfo's root counts from there
        options=target.options or ("subvolid=5" if mounted.fs_type == "btrfs" else ""),
    )


def _name_device(mounted: Mounted) -> str:
    """``UUID=...`` if udev knows one: names such as /dev/sda change from boot to boot."""
    device = os.path.realpath(mounted.source)
    try:
        for name in sorted(os.listdir(_BY_UUID)):
            if os.path.realpath(os.path.join(_BY_UUID, name)) == device:
                return f"UUID={name}"
    except OSError:
        pass
    return mounted.source


def format_settings(settings: Settings) -> str:
    """The settings as the TOML that ``parse_settings`` reads."""
    lines = ["# made by vmcorefs capture initramfs"]
    for table, values in msgspec.to_builtins(settings).items():
        lines.append(f"[{table}]")
        # a JSON string, number, boolean or list of strings is TOML's too
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _format_run(settings: Settings) -> str:
    finish = settings.finish
    for_people = finish.stay or "shell" in (finish.success, finish.failure)
    limit = finish.timeout_seconds + settings.target.wait_seconds + _GRACE
    patience = SHELL_SECONDS if for_people else _PATIENCE
    mount = "yes" if for_people else "no"
    return f"limit={limit}\npatience={patience}\nmount={mount}\n"


def make_initramfs(
    output: str, config: str, settings: Settings, *, release: str, modules: str
) -> None:
    """Make a capture initramfs with mkinitramfs, or where that is not, with dracut.

    Args:
        output: Where to; it is replaced when the new one is whole.
        config: The settings' path.
        settings: What it says.
        release: The kernel that it is for.
        modules: initramfs-tools' MODULES: ``dep`` for this machine's drivers, ``most`` for all.

    Raises:
        ConfigError: if the target cannot be had in an initramfs, or its type is not known.
        UnsupportedError: if there is neither program.
        OutputError: if it fails.
    """
    target = resolve_target(settings.target)
    environment = {
        **os.environ,
        "VMCOREFS": find_command(),
        "VMCOREFS_CONFIG": os.path.abspath(config),
        "VMCOREFS_MODULES": _type_of(target),
    }
    temporary = f"{output}.new"
    try:
        os.makedirs(os.path.dirname(os.path.abspath(output)), mode=0o700, exist_ok=True)
        _run_maker(temporary, environment, release, modules)
        os.replace(temporary, output)
    except OSError as error:
        raise OutputError(f"{output}: cannot make it: {error}") from error


def _run_maker(output: str, environment: dict[str, str], release: str, modules: str) -> None:
    if shutil.which("mkinitramfs") is not None:
        with _initramfs_tools(modules) as directory:
            _run(["mkinitramfs", "-d", directory, "-o", output, release], environment)
    elif shutil.which("dracut") is not None:
        hostonly = "--hostonly" if modules == "dep" else "--no-hostonly"
        _run(["dracut", "--force", hostonly, "--add", "vmcorefs", output, release], environment)
    else:
        raise UnsupportedError("neither mkinitramfs (initramfs-tools) nor dracut is installed")


def _type_of(target: TargetSettings) -> str:
    """The type of the target's file system, whose module the initramfs needs."""
    if target.type or not target.filesystem:
        return target.type
    failure = f"{target.filesystem}: cannot tell its type"
    path = device_path(target.filesystem)
    found = run(["blkid", "-o", "value", "-s", "TYPE", path], failure).stdout.strip()
    if not found:
        raise ConfigError(f"{failure}: blkid knows none for {path}; name it as [target] type")
    return found


@contextmanager
def _initramfs_tools(modules: str) -> Iterator[str]:
    """A configuration of initramfs-tools: the machine's own, with our hook and script in it."""
    with tempfile.TemporaryDirectory(prefix="vmcorefs-initramfs.") as directory:
        ours = os.path.join(find_data(), "initramfs", "initramfs-tools")
        for source in (INITRAMFS_TOOLS, ours):
            if os.path.isdir(source):
                shutil.copytree(source, directory, dirs_exist_ok=True, symlinks=True)
        for program in ("hooks/vmcorefs", "scripts/init-premount/vmcorefs"):
            os.chmod(os.path.join(directory, program), 0o755)  # noqa: S103  # programs
        conf = os.path.join(directory, "conf.d", "zz-vmcorefs")
        os.makedirs(os.path.dirname(conf), exist_ok=True)
        Path(conf).write_text(f"MODULES={modules}\nRESUME=none\n", "utf-8")
        yield directory


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = run(command, f"cannot run {command[0]}", environment=environment)
    if done.returncode:
        raise OutputError(f"{command[0]} failed: {complaint(done)}")
