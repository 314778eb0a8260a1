"""Running a program that must not wait for input."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from vmcorefs.errors import OutputError


def run(
    command: list[str],
    failure: str,
    timeout: float | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program without input, and keep what it says; its exit status is the caller's to judge.

    Args:
        command: The program and its arguments.
        failure: What an error begins with.
        timeout: Seconds that it may take; None for any time.
        environment: Its environment; None for this process's.

    Raises:
        OutputError: if it cannot be run, or takes too long.
    """
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",  # a name need not be UTF-8, and no dump must be lost for that
            check=False,
            timeout=timeout,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OutputError(f"{failure}: {error}") from error


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """What a program that failed said last, or its exit status if it said nothing."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit status {done.returncode}"
