"""Readers at work on a mount, and what they saw."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MODES = ("sequential", "random", "mmap")


@dataclass
class Load:
    """Readers of one file, one of each mode.

    Attributes:
        seen: What each saw, by mode, once they have been stopped.
    """

    path: Path
    expected: Path
    until: int
    pause: float = 0
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)
    _readers: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def start(self) -> None:
        script = Path(__file__).with_name("reader.py")
        for mode in MODES:
            command = [sys.executable, str(script), mode, str(self.path), str(self.expected)]
            self._readers[mode] = subprocess.Popen(
                [*command, str(self.until), str(self.pause)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        for mode, reader in self._readers.items():
            assert reader.stdout is not None
            assert reader.stdout.readline() == "reading\n", mode

    def stop(self, patience: float = 60) -> None:
        for mode, reader in self._readers.items():
            text, _ = reader.communicate("stop", timeout=patience)
            assert reader.returncode == 0, mode
            self.seen[mode] = json.loads(text)
        self._readers.clear()

    def kill(self) -> None:
        for reader in self._readers.values():
            reader.kill()
            reader.communicate()

    def good_after(self, moment: float) -> dict[str, int]:
        """How many right reads each made after a moment of ``time.monotonic``, at least."""
        first = int(moment * 10) + 1
        return {
            mode: sum(n for at, n in seen["good"].items() if int(at) >= first)
            or int(seen["last_good"] > moment)
            for mode, seen in self.seen.items()
        }

    def check(self, allowed: dict[int, tuple[int, int]] | None = None) -> None:
        """No wrong byte, no early end, and no error but of ``allowed``: errno to its range."""
        for mode, seen in self.seen.items():
            assert seen["wrong"] == [], mode
            assert seen["ends"] == [], mode
            for number, offsets in seen["errors"].items():
                start, end = (allowed or {}).get(int(number), (0, 0))
                assert all(start <= at < end for at in offsets), (mode, number, offsets[:5])


@contextmanager
def under_load(path: Path, expected: Path, until: int, pause: float = 0) -> Iterator[Load]:
    """Readers at work for as long as the block; each has read something when it starts."""
    load = Load(path, expected, until, pause)
    try:
        load.start()
        yield load
    finally:
        load.kill()
