"""What a target is, and how one is run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vmcorefs.errors import VmcorefsError

CORPUS: Final = Path(__file__).with_name("corpus")
"""What was found, a directory for each target; it stays there when it has been mended."""

MAX_CPU_SECONDS: Final = 30.0
"""No input may take longer: processor time, which a busy machine does not stretch."""

Check = Callable[[bytes], None]


@dataclass(frozen=True)
class Target:
    """A parser under test.

    Attributes:
        name: For the command line.
        check: Parses bytes, and asserts what must hold of the outcome.
        valid: Inputs that it parses without an error.
        nasty: Inputs that it may refuse.
    """

    name: str
    check: Check
    valid: tuple[bytes, ...]
    nasty: tuple[bytes, ...] = ()

    def iter_found(self) -> Iterator[Path]:
        """Files with what was found in earlier runs."""
        yield from sorted((CORPUS / self.name).glob("*"))

    def run(self, data: bytes) -> bool:
        """Run it on one input; whether that was parsed and not refused.

        Any exception but ``VmcorefsError``, ``MemoryError`` included, is a finding.
        """
        started = time.process_time()
        try:
            self.check(data)
        except VmcorefsError as error:
            assert str(error)  # noqa: PT017  # it must say something
            parsed = False
        else:
            parsed = True
        spent = time.process_time() - started
        assert spent < MAX_CPU_SECONDS, f"{self.name}: {spent:.0f} s for {len(data)} bytes"
        return parsed


TARGETS: dict[str, Target] = {}
"""All targets by name; ``tests.fuzz.targets`` fills it."""


def target(
    name: str, valid: list[bytes], nasty: list[bytes] | None = None
) -> Callable[[Check], Check]:
    """Register a function as a target, with its seeds."""

    def register(check: Check) -> Check:
        assert name not in TARGETS
        TARGETS[name] = Target(name, check, tuple(valid), tuple(nasty or ()))
        return check

    return register
