"""The memory map that the user gives: a file, or a directory as /sys/firmware/memmap is one."""

from __future__ import annotations

import os
from pathlib import Path

from vmcorefs.config import CaptureConfig
from vmcorefs.core.maps.memory_map import MemoryMap, with_crash_kernel
from vmcorefs.core.maps.text import parse_memory_map
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.core.space.units import format_size
from vmcorefs.errors import ConfigError, FormatError
from vmcorefs.sources.file import FileSource
from vmcorefs.system.files import read_file

_MAX_MAP_SIZE = 256 << 20
_MAX_VALUE_SIZE = 4096  # a page, as sysfs has it


def load_map(path: str, config: CaptureConfig) -> MemoryMap:
    """Read the memory map at ``path``, and add what ``config`` says of the crash kernel.

    Raises:
        ConfigError: if it cannot be read.
        FormatError: if it is not a memory map, or contradicts itself.
    """
    try:
        memory_map = parse_memory_map(_read_map(path))
        return with_crash_kernel(memory_map, make_ranges(config.crash_kernel))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the memory map: {error.strerror}") from error
    except (FormatError, ValueError) as error:  # ValueError: sysfs holds text, this does not
        raise FormatError(f"{path}: {error}") from error


def _read_map(path: str) -> bytes:
    if os.path.isdir(path):  # /sys/firmware/memmap, or a copy of it
        files = sorted(Path(path).glob("*/*"))
        return "".join(f"{f.parent.name}/{f.name}:{_read_value(f)}\n" for f in files).encode()
    data = read_file(path, "the memory map", _MAX_MAP_SIZE)
    if len(data) > _MAX_MAP_SIZE:
        raise FormatError(f"more than {format_size(_MAX_MAP_SIZE)}, expected a memory map")
    return data


def _read_value(path: Path) -> str:
    """The line in a file of sysfs; in a copy, it may be anything."""
    source = FileSource(str(path), role="memory map")
    try:
        if source.size > _MAX_VALUE_SIZE:
            raise FormatError(f"{path}: {source.size} bytes, expected a number or a name")
        with os.fdopen(os.dup(source.fileno()), encoding="utf-8") as file:
            return file.read(_MAX_VALUE_SIZE)
    finally:
        source.close()
