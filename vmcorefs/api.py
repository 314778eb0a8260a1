"""The Python API: an opened capture and its files, with no mount."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from types import MappingProxyType
from typing import Self, Unpack

from msgspec.structs import replace

from vmcorefs.config import CaptureConfig, Options, make_config
from vmcorefs.image import MemoryImage, open_image
from vmcorefs.options import StrPath
from vmcorefs.piece import Piece
from vmcorefs.system.progress import Progress, untold
from vmcorefs.tree.build import Tree, build_tree
from vmcorefs.tree.directory import TreeDirectory
from vmcorefs.tree.file import TreeFile
from vmcorefs.tree.filtered import Filter, find_filter

AddFiles = Callable[[MemoryImage], Iterable[TreeFile]]


class Capture:
    """An opened capture: what is known of the dead machine, and the files that show it.

    Use it in a ``with`` statement, or call ``close``.

    Attributes:
        image: Everything that was worked out from the inputs.
        files: The tree: path, such as ``vmcore`` or ``crash_notes.d/cpu0``, to file.
        directories: Path to directory, of those whose files are found when they are asked for, and
            which ``files`` has not: ``modules``.
        filtered: What a dump level leaves out of ``vmcore``, or None if none was asked for.
    """

    def __init__(self, image: MemoryImage, tree: Tree, filtered: Filter | None = None) -> None:
        self.image = image
        self.filtered = filtered
        self.files: Mapping[str, TreeFile] = MappingProxyType(tree.files)
        self.directories: Mapping[str, TreeDirectory] = MappingProxyType(tree.directories)

    def __getitem__(self, path: str) -> TreeFile:
        directory = self.directories.get(path.partition("/")[0])
        return (self.files if directory is None else directory.files)[path]

    def close(self) -> None:
        """Close every input; reading a file of the capture is an error afterwards."""
        self.image.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_capture(
    config: CaptureConfig,
    location: str = ".",
    *,
    thorough: bool = False,
    progress: Progress | None = None,
    unwrapping: Progress = untold,
    add: AddFiles | None = None,
) -> Capture:
    """Open what ``config`` describes.

    Args:
        config: What to open.
        location: The directory that the tree will be mounted at; ``gdbinit`` names its files there.
        thorough: Look through all of the memory, as ``image.open_image`` says.
        progress: Told how far that is.
        unwrapping: Told how far making the index of a compressed input is.
        add: Gives files that the tree is to have besides: those that layers above this one make.

    Raises:
        VmcorefsError: as ``image.open_image`` and ``tree.build.build_tree`` say.
    """
    image = open_image(config, thorough=thorough, progress=progress, unwrapping=unwrapping)
    try:
        level = config.dump_level
        filtered = find_filter(image, level) if level is not None else None
        if filtered is not None:
            warnings = (*image.warnings, *filtered.warnings, *image.take_unreadable())
            image = replace(image, warnings=warnings)
        added = add(image) if add is not None else ()
        return Capture(image, build_tree(image, location, filtered, added), filtered)
    except BaseException:
        image.close()
        raise


def open(  # noqa: A001  # vmcorefs.open, as gzip.open
    images: StrPath | Sequence[StrPath | Piece], **options: Unpack[Options]
) -> Capture:
    r"""Open a captured memory image.

    Example:
        >>> with vmcorefs.open("ram", layout="universal") as capture:
        ...     capture["vmcore"].pread(4, 0)
        b'\x7fELF'

    Args:
        images: One path, a sequence of pieces (``FILE@PADDR[:OFFSET][+SIZE]`` or ``Piece``), or the
            path of one capture description in TOML, which the other arguments override.
        **options: Those of the commands, by field of ``CaptureConfig``, which says what each does;
            ``use_elfcorehdr`` and ``use_vmcoreinfo``, if false, are ``none``. None leaves the
            default.

    Raises:
        VmcorefsError: if an input is missing, unreadable, not what it should be, or contradicts
            another; the subclass and the message say which and why.
    """
    pieces = (images,) if isinstance(images, str | PathLike) else images
    return open_capture(make_config(pieces, **options))
