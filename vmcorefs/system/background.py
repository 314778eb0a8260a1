"""Modules of ours that run as processes of their own, in the background."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence


def start_module(name: str, descriptors: Sequence[int]) -> None:
    """Run a module that goes to the background at once; the descriptors' numbers are its arguments.

    Args:
        name: Of the module.
        descriptors: Those that it gets; it has no others.

    Raises:
        OSError: if it cannot be started.
        subprocess.SubprocessError: if it ended before it had gone there.
    """
    subprocess.run(
        # -P: nothing is imported from the directory that the user is in
        [sys.executable, "-P", "-m", name, *map(str, descriptors)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=descriptors,
        start_new_session=True,
        cwd="/",
        check=True,
    )
