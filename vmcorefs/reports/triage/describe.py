"""Saying what a triage dump holds."""

from __future__ import annotations

from typing import Any

from vmcorefs.core.space.extents import Kind
from vmcorefs.core.space.ranges import total_size
from vmcorefs.core.space.units import format_size
from vmcorefs.image import MemoryImage


def describe_triage(image: MemoryImage) -> dict[str, Any] | None:
    """What a triage dump holds, in bytes, and what for; None if the image is no such dump."""
    contents = image.notes.triage
    if contents is None:
        return None
    return {
        "held": total_size(image.memory.only(Kind.DATA).ranges),
        "of": total_size(image.memory_map.crashed_ram),
        "contents": {what: count * image.page_size for what, count in contents.items()},
    }


def format_triage(triage: dict[str, Any]) -> str:
    """The same in a sentence."""
    held = sorted(triage["contents"].items(), key=lambda entry: -entry[1])
    shown = ", ".join(f"{what} {format_size(size)}" for what, size in held if size)
    return (
        f"holds {format_size(triage['held'])} of {format_size(triage['of'])} of RAM, what a report"
        f" needs: {shown}; all else is left out, and reading it fails"
    )
