"""A process that unmounts for a daemon that may not, started before that gives up privileges.

Unprivileged users unmount by fusermount3, which is set-user-ID root: it does not work for a process
with no_new_privs. So a shell waits for one line, and then starts it.
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
        # not in our process group: Ctrl-C in the terminal is meant for us
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
        """Have the tree unmounted if the mount is still ours, and wait for that."""
        mount = find_mount(self._mountpoint)
        with suppress(OSError):
            # another mount may be there by now
            if mount is not None and mount.pid == os.getpid():
                os.write(self._pipe, b"unmount\n")
        os.close(self._pipe)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_TIMEOUT)
