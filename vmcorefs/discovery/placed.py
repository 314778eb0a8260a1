"""What a format adds that only says where memory belongs: RAM that it lists, what it has lost."""

from __future__ import annotations

from msgspec.structs import replace

from vmcorefs.config import CaptureConfig
from vmcorefs.core.maps.memory_map import MemoryMap, map_of_ram
from vmcorefs.core.space.extents import Extents, Kind, fill
from vmcorefs.core.space.ranges import Ranges, intersect, subtract
from vmcorefs.core.space.units import PAGE_SIZE
from vmcorefs.discovery.missing import summarise_missing
from vmcorefs.errors import ConfigError, TruncatedError
from vmcorefs.sources.dumps.placed.memory import PlacedMemory

_ADVICE = "pass --truncated to serve the rest, with EIO for what is missing"


def refuse_loss(config: CaptureConfig, placed: PlacedMemory) -> None:
    """Refuse a file that is known to have lost something.

    Raises:
        TruncatedError: unless ``config.truncated`` is true.
    """
    if placed.lost and not config.truncated:
        raise TruncatedError(f"{placed.lost}; {_ADVICE}")


def with_machine(config: CaptureConfig, placed: PlacedMemory | None) -> CaptureConfig:
    """What was asked for, with the machine that the format says.

    Raises:
        ConfigError: if another one was given.
    """
    if placed is None or placed.machine is None:
        return config
    if config.machine not in (None, placed.machine):
        raise ConfigError(
            f"the machine is given as {config.machine}, but {placed.name} is {placed.format}"
        )
    return replace(config, machine=placed.machine)


def refuse_missing(config: CaptureConfig, placed: PlacedMemory, missing: Ranges) -> None:
    """Refuse a file without some of the RAM, but for what its format never has.

    Raises:
        TruncatedError: unless ``config.truncated`` is true.
    """
    asked = subtract(missing, placed.spared)
    if len(asked) and not config.truncated:
        what = f"{placed.name}: {placed.format}, but {summarise_missing(asked)}"
        raise TruncatedError(f"{what}; {_ADVICE}")


def with_zeros(captured: Extents, placed: PlacedMemory, memory_map: MemoryMap) -> Extents:
    """The memory of a file, with the RAM that it leaves out because all of it is zeros."""
    left_out = intersect(placed.zeros, memory_map.ram)
    # no more than a page, at the end of a range, may be what is never written
    left_out = left_out[left_out[:, 1] - left_out[:, 0] > PAGE_SIZE]
    return fill(captured, left_out, Kind.ZERO)


def listed_map(placed: PlacedMemory) -> MemoryMap:
    """The map of what the format lists as RAM, which must not be empty."""
    return map_of_ram(placed.ram, f"the RAM of {placed.format}")
