"""Files that belong to an image and lie beside it: found by their names, and known by content."""

from __future__ import annotations

import os

from vmcorefs.core.formats.ramdump import TABLE, Part, parse_table
from vmcorefs.core.formats.vmware import MAGICS as VMWARE
from vmcorefs.errors import VmcorefsError
from vmcorefs.system.files import read_file

VMCORE = "vmcore"
"""The file that a mounted tree stands for."""

_SNAPSHOT = ("memory-ranges", "state.json")
_STATES = (".vmss", ".vmsn")
_MEMORY = ".vmem"
_LARGEST_TABLE = 1 << 20


def companions(path: str) -> tuple[str, ...]:
    """The other file of a virtual machine by VMware, if there is one."""
    stem, suffix = os.path.splitext(path)
    if suffix in _STATES and _is_state(path) and os.path.isfile(stem + _MEMORY):
        return (stem + _MEMORY,)
    if suffix == _MEMORY:
        return tuple(stem + one for one in _STATES if _is_state(stem + one))[:1]
    return ()


def image_in(path: str) -> str | None:
    """The file with memory in a directory: a mounted tree, or a snapshot by cloud-hypervisor.

    That has its ranges one behind the other, as raw memory (its docs/snapshot_restore.md);
    where they belong is found by the kernel's page tables.
    """
    if os.path.isfile(os.path.join(path, VMCORE)):
        return os.path.join(path, VMCORE)
    if all(os.path.isfile(os.path.join(path, name)) for name in _SNAPSHOT):
        return os.path.join(path, _SNAPSHOT[0])
    return None


def is_ramdump(path: str) -> bool:
    """Whether a directory has the table of a phone's RAM."""
    return os.path.isfile(os.path.join(path, TABLE))


def ramdump_parts(path: str) -> tuple[Part, ...]:
    """The files with RAM in such a directory, whether they are there or not.

    Raises:
        ConfigError: if the table cannot be read.
        FormatError: if it has no RAM.
    """
    table = os.path.join(path, TABLE)
    return parse_table(read_file(table, "the table of a phone's RAM", _LARGEST_TABLE))


def all_files(path: str) -> tuple[str, ...]:
    """Every file that is read with the one at ``path``."""
    if not is_ramdump(path):
        inside = image_in(path)
        return companions(path) if inside is None else (inside,)
    try:
        return tuple(os.path.join(path, part.name) for part in ramdump_parts(path))
    except VmcorefsError:
        return ()  # opening it will say so


def _is_state(path: str) -> bool:
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(4) in VMWARE
    except OSError:
        return False
