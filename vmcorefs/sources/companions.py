"""Files that belong to an image and lie beside it: found by their names, and known by content."""

from __future__ import annotations

import os

from vmcorefs.core.formats.cloud_hypervisor import MEMORY, STATE, Snapshot, parse_state
from vmcorefs.core.formats.magics import VMWARE
from vmcorefs.core.formats.ramdump import TABLE, Part, parse_table
from vmcorefs.errors import VmcorefsError
from vmcorefs.system.files import read_file

VMCORE = "vmcore"
"""The file that a mounted tree stands for."""

_STATES = (".vmss", ".vmsn")
_VMEM = ".vmem"
_LARGEST_TABLE = 1 << 20
_LARGEST_STATE = 1 << 26


def companions(path: str) -> tuple[str, ...]:
    """The other file of a virtual machine by VMware, if there is one."""
    stem, suffix = os.path.splitext(path)
    if suffix in _STATES and _is_state(path) and os.path.isfile(stem + _VMEM):
        return (stem + _VMEM,)
    if suffix == _VMEM:
        return tuple(stem + one for one in _STATES if _is_state(stem + one))[:1]
    return ()


def image_in(path: str) -> str | None:
    """The file with memory in a directory: a mounted tree, or a snapshot by cloud-hypervisor."""
    if os.path.isfile(os.path.join(path, VMCORE)):
        return os.path.join(path, VMCORE)
    return os.path.join(path, MEMORY) if _is_snapshot(path) else None


def snapshot_in(path: str) -> Snapshot | None:
    """What a directory with a snapshot by cloud-hypervisor says of it.

    Returns:
        None if it is none, or says nothing of where memory belongs: then its memory is raw, and
        placed by the kernel's page tables.

    Raises:
        ConfigError: if its state cannot be read.
        FormatError: if that cannot be true.
    """
    if os.path.isfile(os.path.join(path, VMCORE)) or not _is_snapshot(path):
        return None
    state = os.path.join(path, STATE)
    return parse_state(read_file(state, "the state of a virtual machine", _LARGEST_STATE))


def _is_snapshot(path: str) -> bool:
    return all(os.path.isfile(os.path.join(path, name)) for name in (MEMORY, STATE))


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
        if inside is None:
            return companions(path)
        return (inside, os.path.join(path, STATE)) if inside.endswith(MEMORY) else (inside,)
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
