"""How much it takes to open and to inspect an image: in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

STEPS = ("open", "inspect")

_MEASURED = """
import resource, sys
from vmcorefs.api import open_capture
from vmcorefs.cli import main
from vmcorefs.config import make_config

step, image, *maps = sys.argv[1:]
if step == "open":
    open_capture(make_config([image], memory_map=maps[0] if maps else None)).close()
else:
    main(["inspect", image, *(["--map", *maps] if maps else [])], standalone_mode=False)
used = resource.getrusage(resource.RUSAGE_SELF)
with open("/proc/self/status") as status:
    (most,) = (line.split()[1] for line in status if line.startswith("VmHWM"))
print(used.ru_utime + used.ru_stime, most)
"""


def measure(step: str, files: Sequence[Path]) -> tuple[float, int]:
    """Seconds of processor time, and bytes of memory at most, of one of ``STEPS``.

    Args:
        step: What is done.
        files: The image, and its map if it has one.
    """
    command = [sys.executable, "-c", _MEASURED, step, *map(str, files)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds, most = done.stdout.splitlines()[-1].split()
    return float(seconds), int(most) << 10
