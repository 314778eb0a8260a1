"""What an opened image says that it found, for tests."""

from __future__ import annotations

from vmcorefs.image import MemoryImage


def release(image: MemoryImage) -> str | None:
    return image.notes.vmcoreinfo.release if image.notes.vmcoreinfo else None


def values(image: MemoryImage) -> dict[str, str]:
    return {finding.what: finding.value for finding in image.findings}


def against(image: MemoryImage, what: str) -> tuple[str, ...]:
    (found,) = (finding.against for finding in image.findings if finding.what == what)
    return found
