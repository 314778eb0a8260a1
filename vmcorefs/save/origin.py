"""Which bytes a dump is made of, as far as that can be told without reading them.

An incomplete dump keeps it, so that another image is not taken for the one that the dump was begun
with. Two snapshots of one machine have the same notes, and often the same pages of RAM.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence

import msgspec

from vmcorefs.core.space.extents import Extents
from vmcorefs.core.space.units import format_size
from vmcorefs.sources.file import FileSource
from vmcorefs.sources.identity import Identity, format_time
from vmcorefs.sources.input import Input

_MARK = b"vmcorefs: made of "
_MAX_SHOWN = 2


class _Input(msgspec.Struct, frozen=True):
    name: str
    size: int
    mtime_ns: int


class Origin(msgspec.Struct, frozen=True):
    """Which bytes a dump is made of.

    Attributes:
        digest: Two dumps with the same one are made of the same bytes; empty if only reading them
            can show that: of a device, or of what the kernel makes as it is read.
        inputs: What people know the inputs by.
    """

    digest: str = ""
    inputs: tuple[_Input, ...] = ()

    def __str__(self) -> str:
        shown = [
            f"{one.name!r} ({format_size(one.size)}, written {format_time(one.mtime_ns)})"
            for one in self.inputs[:_MAX_SHOWN]
        ]
        more = len(self.inputs) - len(shown)
        return " and ".join([*shown, *([f"{more} more"] if more else [])]) or "another image"

    def is_same(self, other: Origin) -> bool:
        """Whether both are surely made of the same bytes."""
        return bool(self.digest) and self.digest == other.digest

    def pack(self, room: int) -> bytes:
        """Encode it in ``room`` bytes: the first inputs, as many as fit."""
        inputs = self.inputs
        while True:
            data = _MARK + msgspec.json.encode(Origin(self.digest, inputs))
            if len(data) < room:
                return data.ljust(room, b"\0")
            inputs = inputs[:-1]


def parse_origin(data: bytes) -> Origin:
    """Decode what ``pack`` has made; an unknown one of anything else."""
    text = data.split(b"\0", 1)[0]
    if not text.startswith(_MARK):
        return Origin()
    try:
        return msgspec.json.decode(text.removeprefix(_MARK), type=Origin)
    except msgspec.MsgspecError:
        return Origin()


def find_origin(inputs: Sequence[Input], memory: Extents) -> Origin:
    """Say what the bytes of some memory are.

    Args:
        inputs: The files that it is read from, as they are now.
        memory: Which bytes of them it is.
    """
    identities = [source.identity_now for source in inputs]
    described = tuple(
        _Input(_printable(source.origin), identity.size, identity.mtime_ns)
        for source, identity in zip(inputs, identities, strict=True)
    )
    files = [source for source in inputs if isinstance(source, FileSource)]
    if not files or len(files) < len(inputs) or any(file.kind != "file" for file in files):
        return Origin("", described)
    digest = hashlib.sha256(json.dumps(list(_states(files, identities))).encode())
    for column in (memory.start, memory.size, memory.offset, memory.source, memory.kind):
        digest.update(column.tobytes())
    return Origin(digest.hexdigest(), described)


def _printable(name: str) -> str:
    """A name as text: what is not UTF-8 in it cannot stand in JSON."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _states(
    inputs: Sequence[FileSource], identities: Sequence[Identity]
) -> Iterator[tuple[tuple[int, int], int, int, int]]:
    for source, identity in zip(inputs, identities, strict=True):
        # who restores mtime after a change, as cp -p and touch -r do, cannot restore ctime
        changed = os.fstat(source.fileno()).st_ctime_ns
        yield identity.file, identity.size, identity.mtime_ns, changed
