"""The process that fuzzes one target: ``tests.fuzz.worker TARGET LIBFUZZER-OPTION... CORPUS``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["vmcorefs"]):
    from tests.fuzz.targets import TARGETS, Target


def _is_quick(target: Target, data: bytes) -> bool:
    """What is long or slow is pytest's to run: thousands of inputs are to be made of each seed."""
    started = time.process_time()
    target.run(data)
    return len(data) <= 1 << 14 and time.process_time() - started < 0.1


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    name, *options = sys.argv[1:]
    target = TARGETS[name]
    corpus = Path(options[-1])
    found = [path.read_bytes() for path in target.iter_found()]
    for number, data in enumerate((*target.valid, *target.nasty, *found)):
        if _is_quick(target, data):
            (corpus / f"seed{number}").write_bytes(data)

    def run(data: bytes) -> None:
        target.run(data)

    atheris.Setup([sys.argv[0], *options], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
