"""Snapshots by cloud-hypervisor: a directory with a file of memory, and the state beside it."""

from __future__ import annotations

import os
from itertools import accumulate

from vmcorefs.core.formats.cloud_hypervisor import MEMORY
from vmcorefs.errors import FormatError
from vmcorefs.sources.companions import snapshot_in
from vmcorefs.sources.dumps.placed.memory import PlacedMemory
from vmcorefs.sources.dumps.placed.regions import Row, describe_cut, stored_regions
from vmcorefs.sources.file import FileSource

_FORMAT = "a snapshot by cloud-hypervisor"


def open_snapshot(path: str) -> PlacedMemory | None:
    """Place the ranges of memory as the state beside it says.

    Returns:
        None if the directory is no snapshot, or its state says nothing of where memory belongs.

    Raises:
        ConfigError: if a file cannot be opened.
        FormatError: if the state cannot be true.
    """
    told = snapshot_in(path)
    if told is None:
        return None
    starts = accumulate((size for _, size in told.ranges), initial=0)
    rows: list[Row] = [
        (paddr, at, size) for (paddr, size), at in zip(told.ranges, starts, strict=False)
    ]
    file = FileSource(os.path.join(path, MEMORY), role="image")
    try:
        held, ram = stored_regions(rows, file.size)
    except FormatError as error:
        file.close()
        raise FormatError(f"{path}: {error}") from error
    file.format = _FORMAT
    return PlacedMemory(
        name=path,
        format=_FORMAT,
        sources=(file,),
        held=held,
        ram=ram,
        lost=describe_cut(file, ram, held),
        cpus=told.cpus,
    )
