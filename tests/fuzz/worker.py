"""The process that fuzzes one target: ``tests.fuzz.worker TARGET LIBFUZZER-OPTION... CORPUS``."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["vmcorefs"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    name, *options = sys.argv[1:]
    target = TARGETS[name]
    corpus = Path(options[-1])
    found = [path.read_bytes() for path in target.iter_found()]
    for number, data in enumerate((*target.valid, *target.nasty, *found)):
        (corpus / f"seed{number}").write_bytes(data)

    def run(data: bytes) -> None:
        target.run(data)

    atheris.Setup([sys.argv[0], *options], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
