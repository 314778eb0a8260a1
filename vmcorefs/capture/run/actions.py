"""The last thing that a capture kernel does: reboot, power off, halt, or give a person a shell.

Every way is tried, the kind ones first, and each has its time. Nothing here is done on a machine
that is not a capture kernel.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import subprocess
import termios
import time

from vmcorefs.capture.settings import Action
from vmcorefs.errors import UnsupportedError
from vmcorefs.system.terminal import print_lines

VMCORE = "/proc/vmcore"
SYSRQ = "/proc/sysrq-trigger"
PATIENCE = 30.0
"""Seconds that each way gets before the next is tried."""
SHELL_SECONDS = 7 * 24 * 3600
"""How long a person may stay in a shell."""

# include/uapi/linux/reboot.h
_REBOOT_CODES = {"reboot": 0x1234567, "poweroff": 0x4321FEDC, "halt": 0xCDEF0123}


def require_capture_kernel() -> None:
    """Refuse to continue where no kernel has crashed.

    Raises:
        UnsupportedError: if there is no /proc/vmcore.
    """
    if not os.path.exists(VMCORE):
        raise UnsupportedError(f"{VMCORE}: no such file: this is not a capture kernel")


def perform(action: Action) -> None:
    """End this system in the way that ``action`` says; comes back only if nothing works.

    Raises:
        UnsupportedError: if this is not a capture kernel.
    """
    require_capture_kernel()
    if action == "shell":
        run_shell("this machine reboots when the shell ends")
        action = "reboot"
    for command in _ways(action):
        if shutil.which(command[0]) is None:
            continue
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False, timeout=PATIENCE)
        except (OSError, subprocess.TimeoutExpired) as error:
            _say(f"{' '.join(command)}: {error}")
            continue
        if done.returncode == 0:
            time.sleep(PATIENCE)
        _say(f"{' '.join(command)} did not end this system (exit status {done.returncode})")
    end_at_once(action)


def _ways(action: Action) -> list[list[str]]:
    """Commands for an action: with the service manager's help, without it, without systemd."""
    return [
        ["systemctl", "--no-block", "--force", action],
        ["systemctl", "--force", "--force", action],
        [action, "-f"],
    ]


def end_at_once(action: Action) -> None:
    """Sync and call reboot(2)."""
    os.sync()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.reboot(ctypes.c_int(_REBOOT_CODES[action]))  # c_int wraps, as C does


def run_shell(reason: str) -> None:
    """Give the person on the console a shell, and wait until they leave.

    The password of root is asked for where there is an sulogin to do so.
    """
    with open("/dev/console", "r+b", buffering=0) as console:
        text = f"\r\nvmcorefs: {reason}\r\n"
        console.write(text.encode())
        command = ["sulogin"] if shutil.which("sulogin") else ["/bin/sh", "-i"]
        subprocess.run(
            command,
            stdin=console,
            stdout=console,
            stderr=console,
            check=False,
            preexec_fn=_take_console,  # a new session must own the terminal
        )


def _take_console() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 1)


def _say(text: str) -> None:
    print_lines(f"vmcorefs: {text}", err=True)
