"""Mount a dead Linux machine's memory as the vmcore that its own kernel would have given.

``open`` gives the same files with no mount; ``vmcorefs mount`` (``vmcorefs.cli``) mounts them.
"""

from vmcorefs.api import Capture, open  # noqa: A004  # vmcorefs.open, as gzip.open
from vmcorefs.config import CaptureConfig, Piece
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
