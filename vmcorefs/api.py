"""The Python API: an opened capture and its files, with no mount."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from types import MappingProxyType, TracebackType
from typing import Self

from msgspec.structs import replace

from vmcorefs.config import (
    CaptureConfig,
    HolesPolicy,
    LayoutChoice,
    Piece,
    is_capture_file,
    load_capture_file,
    override,
    parse_machine,
    parse_piece,
)
from vmcorefs.discovery.search.scan import Progress
from vmcorefs.errors import ConfigError
from vmcorefs.image import MemoryImage, open_image
from vmcorefs.tree.build import build_tree
from vmcorefs.tree.file import TreeFile
from vmcorefs.tree.filtered import Filter, find_filter

StrPath = str | PathLike[str]


class Capture:
    """An opened capture: what is known of the dead machine, and the files that show it.

    Use it in a ``with`` statement, or call ``close``.

    Attributes:
        image: Everything that was worked out from the inputs.
        files: The tree: path, such as ``vmcore`` or ``crash_notes.d/cpu0``, to file.
        filtered: What a dump level leaves out of ``vmcore``, or None if none was asked for.
    """

    def __init__(
        self,
        image: MemoryImage,
        files: Mapping[str, TreeFile],
        filtered: Filter | None = None,
    ) -> None:
        self.image = image
        self.filtered = filtered
        self.files: Mapping[str, TreeFile] = MappingProxyType(dict(files))

    def __getitem__(self, path: str) -> TreeFile:
        return self.files[path]

    def close(self) -> None:
        """Close every input; reading a file of the capture is an error afterwards."""
        self.image.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def open_capture(
    config: CaptureConfig,
    location: str = ".",
    *,
    thorough: bool = False,
    progress: Progress | None = None,
) -> Capture:
    """Open what ``config`` describes.

    Args:
        config: What to open.
        location: The directory that the tree will be mounted at; ``gdbinit`` names its files there.
        thorough: Look through all of the memory, as ``image.open_image`` says.
        progress: Told how far that is.

    Raises:
        VmcorefsError: as ``image.open_image`` and ``tree.build.build_tree`` say.
    """
    image = open_image(config, thorough=thorough, progress=progress)
    try:
        level = config.dump_level
        filtered = find_filter(image, level) if level is not None else None
        if filtered is not None:
            image = replace(image, warnings=(*image.warnings, *filtered.warnings))
        return Capture(image, build_tree(image, location, filtered), filtered)
    except BaseException:
        image.close()
        raise


def open(  # noqa: A001, PLR0913  # vmcorefs.open, as gzip.open; all but the first by name
    images: StrPath | Sequence[StrPath | Piece],
    *,
    memory_map: StrPath | None = None,
    backup: StrPath | Piece | None = None,
    crash_kernel: Sequence[tuple[int, int]] | None = None,
    elfcorehdr: int | None = None,
    use_elfcorehdr: bool | None = None,
    machine: str | None = None,
    holes: HolesPolicy | None = None,
    raw_reserved: bool | None = None,
    truncated: bool | None = None,
    drop_torn_notes: bool | None = None,
    vmlinux: StrPath | None = None,
    vmcoreinfo: StrPath | int | None = None,
    use_vmcoreinfo: bool | None = None,
    layout: LayoutChoice | None = None,
    dump_level: int | None = None,
) -> Capture:
    r"""Open a captured memory image.

    Example:
        >>> with vmcorefs.open("ram") as capture:
        ...     capture["vmcore"].pread(4, 0)
        b'\x7fELF'

    Args:
        images: One path, a sequence of pieces (``FILE@PADDR[:OFFSET][+SIZE]`` or ``Piece``), or the
            path of one capture description in TOML, which the other arguments override.
        memory_map: The memory map; by default the one that the kernel in the image keeps.
        backup: The saved low memory, ``FILE`` or ``FILE@PADDR``.
        crash_kernel: Half-open physical ranges where the capture kernel was loaded, in bytes.
        elfcorehdr: Physical address of the elfcorehdr, in bytes; by default it is looked for.
        use_elfcorehdr: False builds the headers from the map even if the image has an elfcorehdr.
        machine: ELF machine name, such as ``x86_64``, where no elfcorehdr tells.
        holes: ``zero`` or ``error``: what reading something that is not RAM gives.
        raw_reserved: Show the crash kernel's ranges in ``oldmem`` as the image has them.
        truncated: Accept an image that lacks RAM; reading that fails.
        vmlinux: The kernel with debug symbols, for ``gdbinit``.
        drop_torn_notes: Drop torn notes as the kernel does.
        vmcoreinfo: VMCOREINFO's text or note, as a path, or its physical address; by default it is
            looked for.
        use_vmcoreinfo: False leaves VMCOREINFO out where no elfcorehdr names it.
        layout: ``kernel`` or ``universal``: ``vmcore`` as the kernel has it, or for every tool.
        dump_level: Leave pages out of ``vmcore`` as ``makedumpfile -d`` does, from 0 to 31.

    Raises:
        VmcorefsError: if an input is missing, unreadable, not what it should be, or contradicts
            another; the subclass and the message say which and why.
    """
    if isinstance(images, str | PathLike) and is_capture_file((fspath(images),)):
        config = load_capture_file(fspath(images))
    else:
        config = CaptureConfig(images=_pieces(images))
    return open_capture(
        override(
            config,
            memory_map=None if memory_map is None else fspath(memory_map),
            backup=None if backup is None else _piece(backup),
            crash_kernel=None if crash_kernel is None else tuple(crash_kernel),
            elfcorehdr=elfcorehdr,
            use_elfcorehdr=use_elfcorehdr,
            machine=None if machine is None else parse_machine(machine),
            holes=holes,
            raw_reserved=raw_reserved,
            truncated=truncated,
            drop_torn_notes=drop_torn_notes,
            vmlinux=None if vmlinux is None else fspath(vmlinux),
            vmcoreinfo=fspath(vmcoreinfo) if isinstance(vmcoreinfo, PathLike) else vmcoreinfo,
            use_vmcoreinfo=use_vmcoreinfo,
            layout=layout,
            dump_level=dump_level,
        )
    )


def _pieces(images: StrPath | Sequence[StrPath | Piece]) -> tuple[Piece, ...]:
    if isinstance(images, str | PathLike):
        return (_piece(images),)
    if not images:
        raise ConfigError("no image: expected at least one file that holds physical memory")
    return tuple(_piece(image) for image in images)


def _piece(image: StrPath | Piece) -> Piece:
    return image if isinstance(image, Piece) else parse_piece(fspath(image))
