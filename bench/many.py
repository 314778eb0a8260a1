"""What images of very many ranges cost: ``python -m bench many [COUNT]``.

COUNT pages (1,000,000 by default), none next to another, as raw memory with the map that says so,
as an ELF dump and as kdump-compressed ones. Prints the processor time and the most memory that it
takes to open each, and to inspect it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.builders.many import INPUTS
from tests.many import STEPS, measure


def main(arguments: list[str]) -> None:
    """Print a line for each kind of image."""
    count = int(arguments[0]) if arguments else 1_000_000
    print(f"| {count} ranges | open: CPU s | MiB | inspect: CPU s | MiB |")
    print("|---|---|---|---|---|")
    for name, make in INPUTS.items():
        with tempfile.TemporaryDirectory() as directory:
            files = make(Path(directory), count)
            used = [measure(step, files) for step in STEPS]
        cells = (f"{seconds:.1f} | {most / (1 << 20):.0f}" for seconds, most in used)
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
