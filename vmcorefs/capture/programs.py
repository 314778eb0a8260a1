"""Running a program that must not wait for anybody."""

from __future__ import annotations

import subprocess

from vmcorefs.errors import OutputError


def run(
    command: list[str], failure: str, timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program without input, and keep what it says; its exit status is the caller's to judge.

    Args:
        command: The program and its arguments.
        failure: What an error begins with.
        timeout: Seconds that it may take; None for any time.

    Raises:
        OutputError: if it cannot be run, or takes too long.
    """
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OutputError(f"{failure}: {error}") from error
