"""``/etc/vmcorefs.toml``: what happens after a panic.

Every key has a default, so an empty file is a good one::

    [target]
    filesystem = "UUID=5c2f..."         # mounted first; without it, what is mounted anyway
    directory = "/var/crash"            # on that file system
    # url = "ssh://crash@host/srv/crash"  # in place of both

    [dump]
    level = 31                          # as makedumpfile's -d
    format = "kdump"
    codec = "zlib"
    sha256 = true

    [keep]
    dumps = 5
    free = "1G"

    [finish]
    success = "reboot"
    failure = "reboot"
    timeout = "30min"

Unknown keys and bad values are refused, with the line they stand in: after the panic it is too late
for a message.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable
from typing import Annotated, Literal, get_args, get_type_hints

import msgspec

from vmcorefs.core.space.units import parse_size
from vmcorefs.errors import ConfigError
from vmcorefs.output.places import find_meant
from vmcorefs.output.ssh import parse_place
from vmcorefs.save.command import parse_levels
from vmcorefs.system.files import read_file
from vmcorefs.system.urls import without_password

SETTINGS_PATH = "/etc/vmcorefs.toml"

TRIAGE = "triage"
"""Stands first, or alone, among the levels."""

_MAX_SIZE = 1 << 20

Action = Literal["reboot", "poweroff", "halt", "shell"]
DumpFormat = Literal["kdump", "elf", "vmcore"]
Codec = Literal["zlib", "lzo", "snappy", "zstd", "none"]
SaveFrom = Literal["root", "initramfs"]

_FILESYSTEM = re.compile(r"(UUID|LABEL|PARTUUID|PARTLABEL)=[^\s/]+|/dev/\S+")
_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<rest>\S+)")
_DURATION = re.compile(r"([0-9]{1,7})(s|min|h|)")
_SECONDS = {"": 1, "s": 1, "min": 60, "h": 3600}


class TargetSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """``[target]``: where dumps go.

    Attributes:
        directory: Absolute path of the directory that holds a directory for each dump.
        filesystem: What to mount before: ``UUID=...``, ``LABEL=...``, ``PARTUUID=...``,
            ``PARTLABEL=...``, or a device; ``directory`` is then a path on it. Empty for what the
            capture kernel's system has mounted.
        type: Its type, for mount(8); empty for what mount finds out.
        options: Its mount options.
        wait: How long to wait for the device, or for the host of a URL.
        url: ``ssh://[USER@]HOST[:PORT]/DIRECTORY`` or the URL of an object store, in place of
            ``directory`` and ``filesystem``.
    """

    directory: str = "/var/crash"
    filesystem: str = ""
    type: str = ""
    options: str = ""
    wait: str | int = "60s"
    url: str = ""

    @property
    def wait_seconds(self) -> int:
        """``wait`` in seconds."""
        return parse_duration(self.wait)

    @property
    def shown_url(self) -> str:
        """The URL without a password, for messages."""
        return without_password(self.url)

    @property
    def scheme(self) -> str:
        """The URL's scheme, such as ``ssh``; empty for a directory."""
        match = _URL.fullmatch(self.url)
        return match["scheme"] if match else ""


class DumpSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """``[dump]``: what is saved.

    Attributes:
        level: Pages that are left out, 0 to 31, as makedumpfile's ``-d``; ``"1,31"`` tries 31 where
            there is no room for 1. ``"triage"`` saves what a report needs, and nothing else, and
            ``"triage,31"`` does so before it saves the dump of level 31.
        format: ``kdump`` (compressed, for crash and drgn), ``elf`` (filtered), or ``vmcore``: a
            sparse copy of /proc/vmcore, which knows no level and no codec.
        codec: How pages of ``kdump`` are compressed.
        sha256: Keep the sum of the dump in ``summary.json``; a dump of ``kdump`` is read again for
            it.
    """

    level: int | str = 31
    format: DumpFormat = "kdump"
    codec: Codec = "zlib"
    sha256: bool = True

    @property
    def has_triage(self) -> bool:
        """Whether there is to be a triage dump."""
        return str(self.level).split(",")[0] == TRIAGE

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels of the dump that is no triage dump; empty if there is to be none.

        Raises:
            ConfigError: as ``parse_levels`` says.
        """
        if self.level == TRIAGE:
            return ()
        return parse_levels(str(self.level).removeprefix(f"{TRIAGE},"))


class KeepSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """``[keep]``: how much of the target dumps may take.

    Attributes:
        dumps: Complete dumps that are kept, the new one among them.
        free: Bytes of the target's file system that stay free.
    """

    dumps: Annotated[int, msgspec.Meta(ge=1, le=10000)] = 5
    free: str | int = "1G"

    @property
    def free_bytes(self) -> int:
        """``free`` in bytes."""
        return parse_size(str(self.free))


class FinishSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """``[finish]``: what happens when the dump is saved, or is not.

    Attributes:
        success: The action after a whole dump.
        failure: The action after anything else.
        timeout: The time that saving may take; then it has failed.
        stay: Serve the mount to a person on the console before the action, until they leave.
    """

    success: Action = "reboot"
    failure: Action = "reboot"
    timeout: str | int = "30min"
    stay: bool = False

    @property
    def timeout_seconds(self) -> int:
        """``timeout`` in seconds."""
        return parse_duration(self.timeout)


class LoadSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """``[load]``: the crash kernel that the healthy system loads.

    Attributes:
        kernel: Its file; ``{release}`` stands for the running kernel's release.
        initrd: Its initramfs, in the same way; empty for the system's own, or with ``save_from``
            ``initramfs`` for the one that vmcorefs makes.
        save_from: ``root`` to boot the system's own root file system into ``vmcorefs.target``,
            ``initramfs`` to save from within an initramfs that ``vmcorefs capture initramfs`` made.
        append: Added to its command line.
        remove: Words, or names of parameters, that are left out of the running kernel's command
            line, besides those that never fit.
    """

    kernel: str = "/boot/vmlinuz-{release}"
    initrd: str = ""
    save_from: SaveFrom = "root"
    append: str = ""
    remove: tuple[str, ...] = ()


class Settings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The whole file."""

    target: TargetSettings = TargetSettings()
    dump: DumpSettings = DumpSettings()
    keep: KeepSettings = KeepSettings()
    finish: FinishSettings = FinishSettings()
    load: LoadSettings = LoadSettings()


def load_settings(path: str = SETTINGS_PATH) -> Settings:
    """Read the settings; a file that is not there is an empty one.

    Raises:
        ConfigError: naming the file, the line and the key, if it is not as it should be.
    """
    try:
        there = os.path.exists(path)
        data = read_file(path, "the settings", _MAX_SIZE) if there else b""
        if len(data) > _MAX_SIZE:
            raise ConfigError(f"{path}: more than 1 MiB, expected the settings")
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: cannot read the settings: {error}") from error
    return parse_settings(text, path)


def parse_settings(text: str, name: str = SETTINGS_PATH) -> Settings:
    """Read the settings from the file's text.

    Args:
        text: TOML.
        name: What messages call the file.

    Raises:
        ConfigError: naming the file, the line and the key, if it is not as it should be.
    """
    try:
        settings = msgspec.convert(tomllib.loads(text), Settings)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at ")
        key = path.strip("`").removeprefix("$.").removeprefix("$")
        unknown = re.search(r"unknown field `([^`]*)`", message)
        if unknown:
            key = f"{key}.{unknown[1]}".lstrip(".")
            message = f"no such key; {_keys_beside(key)}"
        choice = re.fullmatch(r"Invalid enum value '(.*)'", message)
        if choice:
            message = f"{choice[1]!r}: expected {_choices(key)}"
        raise ConfigError(_locate(name, text, key, message[:1].lower() + message[1:])) from None
    except (ValueError, RecursionError) as error:  # tomllib's own, with the line in it
        raise ConfigError(f"{name}: {error}") from None
    _check_values(settings, text, name)
    return settings


def parse_duration(value: str | int) -> int:
    """Read a time as seconds: ``90``, ``90s``, ``30min``, ``2h``.

    Raises:
        ConfigError: if it is something else, or no time at all.
    """
    match = _DURATION.fullmatch(str(value).strip())
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if seconds <= 0:
        raise ConfigError(f"{value!r}: expected a time, such as 90s, 30min or 2h")
    return seconds


def _check_values(settings: Settings, text: str, name: str) -> None:
    """What a type alone does not say."""
    target = settings.target
    checks: dict[str, Callable[[], object]] = {
        "target.wait": lambda: parse_duration(target.wait),
        "target.directory": lambda: _check_directory(target.directory),
        "target.filesystem": lambda: _check_filesystem(target.filesystem),
        "target.url": lambda: _check_url(target),
        "dump.level": lambda: settings.dump.levels,
        "keep.free": lambda: parse_size(str(settings.keep.free)),
        "load.save_from": lambda: _check_way(settings),
        "finish.timeout": lambda: parse_duration(settings.finish.timeout),
    }
    for key, check in checks.items():
        try:
            check()
        except ConfigError as error:
            raise ConfigError(_locate(name, text, key, str(error))) from None


def _check_directory(path: str) -> None:
    if not path.startswith("/") or "\0" in path:
        raise ConfigError(f"{path!r}: expected an absolute path")


def _check_filesystem(text: str) -> None:
    if text and not _FILESYSTEM.fullmatch(text):
        raise ConfigError(f"{text!r}: expected UUID=, LABEL=, PARTUUID=, PARTLABEL= or /dev/...")


def _check_url(target: TargetSettings) -> None:
    if not target.url:
        return
    match = _URL.fullmatch(target.url)
    if match is None:
        meant = find_meant(target.url)
        if meant is not None:
            raise ConfigError(f"{target.url!r}: did you mean {meant}?")
        raise ConfigError(
            f"{target.shown_url!r}: expected a URL, such as ssh://crash@host/srv/crash"
        )
    if match["scheme"] == "ssh":
        parse_place(target.url.rstrip("/"))
    if target.filesystem:
        raise ConfigError(f"{target.shown_url!r}: either a url or a filesystem, not both")


def _check_way(settings: Settings) -> None:
    if settings.target.url and settings.load.save_from == "initramfs":
        raise ConfigError("an initramfs has no network: a url needs save_from = 'root'")


def _keys_beside(key: str) -> str:
    """The keys that may stand where ``key`` does not."""
    table: type[msgspec.Struct] = Settings
    for part in key.split(".")[:-1]:
        table = type(getattr(table(), part))
    return "there are " + ", ".join(table.__struct_fields__)


def _choices(key: str) -> str:
    """The words that ``key`` may have, as its type says."""
    table, _, last = key.partition(".")
    hints = get_type_hints(type(getattr(Settings(), table)))
    *words, final = get_args(hints[last])
    return f"{', '.join(words)} or {final}"


def _locate(name: str, text: str, key: str, message: str) -> str:
    """A message with the file, the line if the key stands in one, and the key."""
    key_in_file = key.partition("[")[0]
    table, _, last = key_in_file.rpartition(".")
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\s*([\w.\s-]+?)\s*\]", line)
        if header:
            current = header[1]
            if not table and current == last:
                return f"{name}:{number}: [{key}]: {message}"
        assignment = re.match(r"\s*([\w.-]+|\"[^\"]*\")\s*=", line)
        if assignment:
            full = ".".join(part for part in (current, assignment[1].strip('"')) if part)
            if full == key_in_file:
                return f"{name}:{number}: {key}: {message}"
    return f"{name}: {key}: {message}"
