"""Mount a dead Linux machine's memory as the vmcore that its own kernel would have given.

``open`` gives the same files with no mount; ``vmcorefs mount`` (``vmcorefs.cli``) mounts them.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

from vmcorefs.errors import (
    ConfigError,
    DigestError,
    FaultError,
    FormatError,
    LayoutError,
    MountError,
    OutputError,
    SourceIOError,
    TruncatedError,
    UnsupportedError,
    VmcorefsError,
)

if TYPE_CHECKING:
    from vmcorefs.api import Capture, open  # noqa: A004  # vmcorefs.open, as gzip.open
    from vmcorefs.config import CaptureConfig
    from vmcorefs.piece import Piece
    from vmcorefs.tree.file import TreeFile

__all__ = [
    "Capture",
    "CaptureConfig",
    "ConfigError",
    "DigestError",
    "FaultError",
    "FormatError",
    "LayoutError",
    "MountError",
    "OutputError",
    "Piece",
    "SourceIOError",
    "TreeFile",
    "TruncatedError",
    "UnsupportedError",
    "VmcorefsError",
    "open",
]

_HOMES: Final = {
    "Capture": "vmcorefs.api",
    "CaptureConfig": "vmcorefs.config",
    "Piece": "vmcorefs.piece",
    "TreeFile": "vmcorefs.tree.file",
    "open": "vmcorefs.api",
}
"""What imports numpy, on first use: the program sets numpy's environment before."""


def __getattr__(name: str) -> Any:  # noqa: ANN401  # PEP 562
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
