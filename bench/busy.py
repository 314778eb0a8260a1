"""A crashed machine that was busy, to measure dumps of: ``python -m bench busy OUTDIR``.

The captures of the tests come from machines that had nothing to do: at level 31 there is so little
to save that most of the time goes to a program's start. Here the memory is full of what level 31
keeps, the kernel's own objects (``slab.c``). OUTDIR then holds what ``tests.lab.capture`` says.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from unittest import mock

from tests.lab.capture import Recipe, make_capture

SLAB = Path(__file__).with_name("slab.c")
TIMEOUT = 1500.0


def main(arguments: list[str]) -> None:
    """Make one."""
    parser = argparse.ArgumentParser("python -m bench busy", description=__doc__)
    parser.add_argument("outdir", type=Path)
    parser.add_argument("--memory", default="2G")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    with mock.patch("tests.lab.initramfs._WORKLOAD", SLAB):
        capture = make_capture(
            Recipe(memory=chosen.memory, load="file"), chosen.outdir, timeout=TIMEOUT
        )
    said = capture.text("workload")
    if not said.startswith("ready"):
        sys.exit(f"slab.c did not come to its end: {said!r}")
    print(capture.vmcore)
