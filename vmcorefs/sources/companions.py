"""Files that belong to an image and lie beside it: found by their names, and known by content."""

from __future__ import annotations

import os

from vmcorefs.core.formats.vmware import MAGICS as VMWARE

_STATES = (".vmss", ".vmsn")
_MEMORY = ".vmem"


def companions(path: str) -> tuple[str, ...]:
    """The other file of a virtual machine by VMware, if there is one."""
    stem, suffix = os.path.splitext(path)
    if suffix in _STATES and _is_state(path) and os.path.isfile(stem + _MEMORY):
        return (stem + _MEMORY,)
    if suffix == _MEMORY:
        return tuple(stem + one for one in _STATES if _is_state(stem + one))[:1]
    return ()


def _is_state(path: str) -> bool:
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(4) in VMWARE
    except OSError:
        return False
