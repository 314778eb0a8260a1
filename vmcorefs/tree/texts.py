"""The texts: VMCOREINFO, the memory map, and where every byte of every file is from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from vmcorefs.core.maps.memory_map import format_iomem
from vmcorefs.core.space.extents import Kind
from vmcorefs.errors import VmcorefsError
from vmcorefs.image import MemoryImage
from vmcorefs.sources.file import FileSource
from vmcorefs.tree.file import TreeFile, text_file


def text_files(image: MemoryImage) -> Iterator[TreeFile]:
    """``iomem``, and what the crashed kernel left of ``vmcoreinfo`` and ``dmesg``."""
    yield text_file("iomem", lambda: format_iomem(image.memory_map).encode())
    vmcoreinfo = image.notes.vmcoreinfo
    if vmcoreinfo is not None:
        yield text_file("vmcoreinfo", lambda: vmcoreinfo.text)
    log = image.log
    if log is not None:
        yield text_file("dmesg", lambda: log)


def layout_file(files: Mapping[str, TreeFile], inputs: Sequence[FileSource] = ()) -> TreeFile:
    """``layout.json``: for every byte range of every file in ``files``, where its bytes come from.

    See docs/layout.md for the keys.
    """
    return text_file("layout.json", lambda: "".join(_iter_layout(files, inputs)).encode())


def describe_input(source: FileSource) -> dict[str, object]:
    """Which file an input is, as ``layout.json`` and ``inspect --json`` have it."""
    identity, digest = source.identity, source.digest
    return {
        "path": source.origin,
        "role": source.role,
        "kind": source.kind,
        "size": source.size,
        "device": identity.device,
        "inode": identity.inode,
        "mtime_ns": identity.mtime_ns,
        "digest": {digest.algorithm: digest.value} if digest is not None else None,
    }


def _iter_layout(files: Mapping[str, TreeFile], inputs: Sequence[FileSource]) -> Iterator[str]:
    # one extent a line: for people, for grep, and for diff
    rows = ",".join(f"\n  {json.dumps(describe_input(source))}" for source in inputs)
    yield f'{{\n "version": 1,\n "inputs": [{rows}\n ],\n "files": {{'
    for number, (path, file) in enumerate(files.items()):
        yield f"{',' if number else ''}\n  {json.dumps(path)}: {{\n"
        try:
            file.make()
        except VmcorefsError as error:
            yield f'   "size": null,\n   "error": {json.dumps(str(error))}\n  }}'
            continue
        yield f'   "size": {file.size},\n'
        if file.describe_plane is not None:
            yield f'   "plane": {json.dumps(file.describe_plane())},\n'
        yield '   "extents": ['
        for row, extent in enumerate(iter_extents(file)):
            yield f"{',' if row else ''}\n    {json.dumps(extent)}"
        yield "\n   ]\n  }"
    yield "\n }\n}\n"


def iter_extents(file: TreeFile) -> Iterator[dict[str, object]]:
    """Each extent of a file as ``layout.json`` has it, in order of offset, without a gap."""
    reader = file.reader
    table = reader.table
    columns = (table.start, table.size, table.offset, table.source, table.kind)
    for start, size, offset, source, kind in zip(*(c.tolist() for c in columns), strict=True):
        row: dict[str, object] = {"offset": start, "size": size, "kind": Kind(kind).name.lower()}
        if kind == Kind.DATA:
            held = reader.sources[source]
            row |= {"from": held.role, "source": held.origin, "source_offset": offset}
        yield row
