"""Crashing this machine on purpose, to see that its dump comes."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from vmcorefs.capture.prepare.load import CrashKernel, is_loaded, read_state, reserved_size
from vmcorefs.capture.run.actions import SYSRQ, VMCORE
from vmcorefs.capture.settings import Settings
from vmcorefs.core.space.units import format_size
from vmcorefs.errors import ConfigError, OutputError, UnsupportedError


def describe_crash(settings: Settings) -> str:
    """What will happen if this machine crashes now, some lines.

    Raises:
        ConfigError: if this is a capture kernel, or no crash kernel is loaded.
        UnsupportedError: if the kernel has no kexec.
    """
    if os.path.exists(VMCORE):
        raise ConfigError(f"{VMCORE} exists: this is a capture kernel already")
    if not is_loaded():
        raise ConfigError(
            "no crash kernel is loaded: this machine would go down and nothing would be saved"
            " (systemctl start vmcorefs-load)"
        )
    return (
        f"{socket.gethostname()} GOES DOWN AT ONCE: every program ends, and what is not on disk is"
        f" lost.\n{_describe_loaded(read_state())}"
        f"It has {format_size(reserved_size())} of memory. {_describe_target(settings)}\n"
        f"Then: {settings.finish.success}; or after a failure, or {settings.finish.timeout}:"
        f" {settings.finish.failure}."
    )


def _describe_loaded(loaded: CrashKernel | None) -> str:
    if loaded is None:
        return "The crash kernel was loaded by another tool, which says what happens then.\n"
    return f"The crash kernel is {loaded.kernel} with {loaded.initrd}\n  ({loaded.command_line}).\n"


def _describe_target(settings: Settings) -> str:
    target = settings.target
    where = target.shown_url or target.directory
    where += f" on {target.filesystem}" if target.filesystem else ""
    return (
        f"The dump goes to {where}: dump level {settings.dump.level}, format"
        f" {settings.dump.format}."
    )


def crash_now() -> None:
    """Sync, and have the kernel crash itself; does not come back.

    Raises:
        OutputError: if the kernel does not do it.
    """
    os.sync()
    try:
        Path(SYSRQ).write_text("c", "ascii")  # drivers/tty/sysrq.c: whatever kernel.sysrq says
    except OSError as error:
        raise OutputError(f"{SYSRQ}: cannot write: {error.strerror}") from error
    raise UnsupportedError(f"{SYSRQ}: the kernel was asked to crash, and has not")
