"""Who unmounts for a daemon that may not: started before it gives up new privileges.

Without privileges it is fusermount3 that unmounts, which is set-user-ID root: a process that has
no new privileges cannot start it. So a shell waits for one line, and starts it then.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from typing import Final

from vmcorefs.fuse.mounts import find_mount

_SCRIPT: Final = 'read -r _ && exec fusermount3 -u -q -z -- "$1"'
_TIMEOUT: Final = 30.0


class Unmounter:
    """A process that waits to unmount one tree."""

    def __init__(self, mountpoint: str) -> None:
        """Start it."""
        self._mountpoint = mountpoint
        theirs, self._pipe = os.pipe()
        # not in our process group: the terminal's Ctrl-C is for us
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "sh", mountpoint],
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        os.close(theirs)

    def finish(self) -> None:
        """Have the tree unmounted if it is still ours, and wait for that."""
        mount = find_mount(self._mountpoint)
        with suppress(OSError):
            # somebody else's mount may stand there by now
            if mount is not None and mount.pid == os.getpid():
                os.write(self._pipe, b"unmount\n")
        os.close(self._pipe)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_TIMEOUT)
