"""What looking through an image costs: ``python -m bench scan [FILE]``.

Compares the search for notes and headers (``discovery.search.scan``) with ``cat FILE >/dev/null``,
by turns in one run, FILE being in the page cache; without FILE, one of 4 GiB with no hole is made.
Prints medians with spread, the ratio, and the memory that it took.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from vmcorefs.discovery.search.scan import scan
from vmcorefs.piece import Piece
from vmcorefs.sources.pieces import lay_out_pieces, open_file

ROUNDS = 5
SIZE = 4 << 30
_CHUNK = 16 << 20


def main(arguments: list[str]) -> None:
    """Run it on the file that is named, or on one of its own."""
    if arguments:
        compare(Path(arguments[0]))
        return
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        block = np.random.default_rng(1).bytes(_CHUNK)
        for _ in range(SIZE // _CHUNK):
            file.write(block)
        file.flush()
        compare(Path(file.name))


def compare(path: Path) -> None:
    """Read ``path`` in both ways, ROUNDS times."""
    size = path.stat().st_size
    pieces = (Piece(str(path)),)
    sources = (open_file(pieces[0], role="image", ram_end=None),)
    held = lay_out_pieces(pieces, sources)
    read(path)  # into the page cache
    hits = scan(sources, held)
    cat, scanned = [], []
    for _ in range(ROUNDS):
        cat.append(read(path))
        started = time.perf_counter()
        scan(sources, held)
        scanned.append(time.perf_counter() - started)
    ratio = statistics.median(cat) / statistics.median(scanned)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{path}: {size / 2**30:.1f} GiB, {len(hits.vmcoreinfo)} notes, {len(hits.elf)} headers")
    for name, seconds in (("cat", cat), ("scan", scanned)):
        rates = sorted(size / 1e9 / one for one in seconds)
        print(f"{name:5} {statistics.median(rates):6.2f} GB/s  ({rates[0]:.2f} to {rates[-1]:.2f})")
    print(f"scan / cat {ratio:.2f}; most memory {peak:.0f} MiB")


def read(path: Path) -> float:
    """Seconds that ``cat`` takes."""
    with path.open("rb") as file:
        started = time.perf_counter()
        subprocess.run(["cat"], stdin=file, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - started
