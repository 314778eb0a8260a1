"""Installing what does not run from Python: units, hooks, and the settings' first version.

The files lie in share/vmcorefs, where pip puts them, or in the source tree of an editable
installation. The command's own path is written into them: systemd does not look into a virtual
environment.
"""

from __future__ import annotations

import os
import stat
import sys
import sysconfig
from pathlib import Path

import msgspec

from vmcorefs.errors import ConfigError, OutputError

_MARK = "installed by vmcorefs capture install"
_COMMAND = "@VMCOREFS@"


class _File(msgspec.Struct, frozen=True):
    """A file to install: where from, relative to the data, and where to, relative to the root."""

    source: str
    target: str
    is_program: bool = False
    is_kept: bool = False


_FILES = (
    *(
        _File(f"systemd/{name}", f"etc/systemd/system/{name}")
        for name in (
            "vmcorefs.target",
            "vmcorefs-ready.target",
            "vmcorefs.service",
            "vmcorefs-save.service",
            "vmcorefs-failure.service",
            "vmcorefs-load.service",
            "vmcorefs@.service",
        )
    ),
    _File(
        "systemd/vmcorefs-generator",
        "etc/systemd/system-generators/vmcorefs-generator",
        is_program=True,
    ),
    *(
        _File(
            f"initramfs/{name}",
            f"usr/lib/{name.replace('dracut/', 'dracut/modules.d/')}",
            is_program=True,
        )
        for name in ("dracut/95vmcorefs/module-setup.sh", "dracut/95vmcorefs/vmcorefs.sh")
    ),
    _File("systemd/vmcorefs.toml", "etc/vmcorefs.toml", is_kept=True),
)


def install(root: str, command: str | None = None) -> list[str]:
    """Install every file below ``root``.

    Args:
        root: ``/``, or the root of another system that has vmcorefs in the same place.
        command: The path of ``vmcorefs`` there; by default of the one that runs.

    Returns:
        A line for each file: what was done.

    Raises:
        ConfigError: if the command or the files cannot be found.
        OutputError: if one cannot be written.
    """
    command = command or find_command()
    data = find_data()
    return [_install_file(data, root, file, command) for file in _FILES]


def outdated_files(root: str) -> list[str]:
    """The paths that are not there, or not as ``install`` would write them now.

    Raises:
        ConfigError: if the command or the files to install cannot be found.
    """
    command, data = find_command(), find_data()
    outdated = []
    for file in _FILES:
        path = os.path.join(root, file.target)
        try:
            same = Path(path).read_text("utf-8") == _text(data, file, command)
        except (OSError, UnicodeDecodeError):
            same = False
        if not same and not file.is_kept:
            outdated.append(path)
    return outdated


def uninstall(root: str) -> list[str]:
    """Remove what ``install`` has installed; settings stay.

    Returns:
        A line for each file that was there.

    Raises:
        OutputError: if one cannot be removed.
    """
    lines = []
    for file in _FILES:
        path = os.path.join(root, file.target)
        if file.is_kept or not os.path.lexists(path):
            continue
        try:
            if _MARK not in Path(path).read_text("utf-8", "replace"):
                lines.append(f"{path}: not ours, left alone")
                continue
            os.unlink(path)
        except OSError as error:
            raise OutputError(f"{path}: cannot remove: {error.strerror}") from error
        lines.append(f"{path}: removed")
    return lines


def find_command() -> str:
    """The absolute path of the ``vmcorefs`` that belongs to this Python.

    Raises:
        ConfigError: if it is not installed.
    """
    command = os.path.join(sysconfig.get_path("scripts"), "vmcorefs")
    for path in (command, os.path.abspath(sys.argv[0])):
        if os.path.basename(path) == "vmcorefs" and os.access(path, os.X_OK):
            return path
    raise ConfigError(f"{command}: no such program; install vmcorefs with pip first")


def find_data() -> str:
    """The directory that holds ``systemd/`` and the other files to install.

    Raises:
        ConfigError: if there is none.
    """
    installed = os.path.join(sysconfig.get_path("data"), "share", "vmcorefs")
    source_tree = str(Path(__file__).parents[3])
    for path in (source_tree, installed):
        if os.path.isfile(os.path.join(path, "systemd", "vmcorefs-save.service")):
            return path
    raise ConfigError(f"{installed}: no files to install there")


def _install_file(data: str, root: str, file: _File, command: str) -> str:
    path = os.path.join(root, file.target)
    try:
        text = _text(data, file, command)
        if os.path.lexists(path):
            if file.is_kept:
                return f"{path}: kept"
            old = Path(path).read_text("utf-8", "replace")
            if old == text and os.access(path, os.X_OK) == file.is_program:
                return f"{path}: up to date"
            if _MARK not in old:
                raise OutputError(f"{path}: not installed by vmcorefs; move it away first")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _write(path, text, 0o755 if file.is_program else 0o644)
    except OSError as error:
        raise OutputError(f"{path}: cannot install: {error}") from error
    return f"{path}: installed"


def _text(data: str, file: _File, command: str) -> str:
    return Path(data, file.source).read_text("utf-8").replace(_COMMAND, command)


def _write(path: str, text: str, mode: int) -> None:
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode & ~stat.S_IWOTH)
        file.write(text)
    os.replace(temporary, path)
