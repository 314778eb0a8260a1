"""Waiting for a condition and for a process, for as long as that can still come.

A machine may be busy: what is waited for has all the time that it may need, and a wait ends at once
when the process that was to bring it has ended.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

PATIENCE = 60.0
"""Seconds, where nothing is said of time itself."""

Found = TypeVar("Found")


def wait_for(
    condition: Callable[[], Found],
    what: str,
    process: subprocess.Popen[str] | None = None,
    patience: float = PATIENCE,
) -> Found:
    """Wait until ``condition`` gives something; a file that is not there yet is nothing.

    Args:
        condition: What is looked at again and again.
        what: What to call it.
        process: What brings it about: when it has ended, nothing more can come.
        patience: Seconds.
    """
    end = time.monotonic() + patience
    while True:
        status = process.poll() if process else None  # first: what it did last is then to be seen
        try:
            if found := condition():
                return found
        except FileNotFoundError:
            pass
        if status is not None:
            pytest.fail(f"ended with {status}, and there is no {what}: {_last_words(process)}")
        if time.monotonic() > end:
            pytest.fail(f"waited {patience:g} s for {what}")
        time.sleep(0.01)


def wait_for_line(process: subprocess.Popen[str], ending: str, *, stderr: bool = False) -> None:
    """Read what a process says up to a line with that ending."""
    stream = process.stderr if stderr else process.stdout
    assert stream is not None
    said = []
    for line in stream:
        said.append(line)
        if line.endswith(f"{ending}\n"):
            return
    process.wait(PATIENCE)
    pytest.fail(f"ended with {process.returncode}, and has said no {ending!r}: {''.join(said)}")


@contextmanager
def running(command: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process for as long as the block; ``Popen`` alone waits for it even if a test has failed.

    Args:
        command: What to run.
        options: Those of ``Popen``; it speaks text.
    """
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()  # nothing, if it has ended


def _last_words(process: subprocess.Popen[str] | None) -> str:
    streams = (process.stdout, process.stderr) if process else ()
    return " ".join(stream.read() for stream in streams if stream)
