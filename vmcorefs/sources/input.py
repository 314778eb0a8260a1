"""What bytes come from: a file of this machine, or an object elsewhere."""

from __future__ import annotations

from typing import Protocol

from vmcorefs.core.digests import Digest
from vmcorefs.sources.base import Source
from vmcorefs.sources.identity import Identity


class Input(Source, Protocol):
    """Something that the user gave.

    Attributes:
        digest: The digest of its bytes, once it has been verified.
        wrappers: What its memory is wrapped in, from the outside inwards.
        format: In what format that is, for people; "raw memory" if it has none.
    """

    digest: Digest | None
    wrappers: tuple[str, ...]
    format: str

    @property
    def kind(self) -> str:
        """What it is: a file, a device, an object."""

    @property
    def identity(self) -> Identity:
        """Which one it was when it was opened."""

    @property
    def identity_now(self) -> Identity:
        """Its identity and state now."""

    @property
    def mtime(self) -> float:
        """When it was last written, in seconds since 1970."""


class File(Source, Protocol):
    """The container of an image: a file, what is in a compressed one, a flattened stream."""

    @property
    def kind(self) -> str:
        """The kind of file."""

    @property
    def file(self) -> Input:
        """The file that all of its bytes come from."""


def file_of(source: Source) -> Input | None:
    """The input that a source reads; None for what was made."""
    found: Input | None = getattr(source, "file", None)
    return found


class InputFile(Input, File, Protocol):
    """An input as it is opened: it is its own ``file``."""
