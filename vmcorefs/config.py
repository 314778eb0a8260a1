"""What the user asks for: the description of a capture, from the command line or one TOML file.

::

    map = "iomem"

    [[image]]
    path = "ram"
    size = "2G"

    [[image]]
    path = "ram"
    paddr = "4G"
    offset = "2G"

    [backup]
    path = "lowmem"
    paddr = 0x1000

Paths in the file are relative to it. Addresses and sizes are TOML integers or strings such as
``"4G"``. Unknown keys are refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import cache
from os import fspath
from typing import Annotated, Any, Literal, TypedDict, Unpack, get_type_hints

import msgspec
from msgspec.structs import replace

from vmcorefs.core.pages.dump_level import MAX_DUMP_LEVEL
from vmcorefs.core.space.units import MAX_ADDRESS, parse_size
from vmcorefs.errors import ConfigError
from vmcorefs.options import (
    Option,
    StrPath,
    parse_elfcorehdr_choice,
    parse_machine,
    parse_vmcoreinfo_choice,
    read_path,
    read_ranges,
)
from vmcorefs.piece import AS_EVER, Far, Piece, parse_piece
from vmcorefs.system.files import read_file

HolesPolicy = Literal["zero", "error"]
LayoutChoice = Literal["kernel", "universal"]
Address = Annotated[int, msgspec.Meta(ge=0, le=MAX_ADDRESS)]
DumpLevel = Annotated[int, msgspec.Meta(ge=0, le=MAX_DUMP_LEVEL)]


class _PieceTable(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    paddr: int | str | None = None
    offset: int | str = 0
    size: int | str | None = None
    unwrap: bool = True


class CaptureConfig(msgspec.Struct, frozen=True):
    """Everything that decides what the tree holds: the images, and how each option was given.

    The options of the commands and the keys of a TOML file are made from this. Addresses, sizes and
    half-open ranges are in bytes.

    Attributes:
        images: What holds the memory.
        description: The TOML file that this was read from, if it was.
        far: How what is elsewhere is read; commands say that, and no description.
    """

    images: tuple[Piece, ...]
    description: str | None = None
    far: Far = AS_EVER
    memory_map: Annotated[
        str | None,
        Option(
            "Memory map: the text of /proc/iomem, a copy of /sys/firmware/memmap, the e820 lines of"
            " dmesg, or a binary elfcorehdr (default: the one that the kernel in IMAGE keeps).",
            "FILE",
            read_path,
            name="map",
        ),
    ] = None
    backup: Annotated[
        Piece | None,
        Option(
            "Saved low memory. Without PADDR it belongs where the elfcorehdr says, or to the first"
            " RAM range that ends at or below 640 KiB.",
            "FILE[@PADDR]",
            _read_piece,
            toml=_PieceTable,
        ),
    ] = None
    crash_kernel: Annotated[
        tuple[tuple[int, int], ...],
        Option(
            "Where the capture kernel was loaded, START-END (inclusive) or START+SIZE, if the map"
            " does not say. May be given more than once.",
            "RANGE",
            read_ranges,
            toml=list[str],
        ),
    ] = ()
    elfcorehdr: Annotated[
        int | None,
        Option(
            "Headers to lay out vmcore by: those found in the image (auto, the default), built from"
            " the map (none), or those at a physical address.",
            "auto|none|PADDR",
            parse_elfcorehdr_choice,
            toml=Address | str,
            switch="use_elfcorehdr",
        ),
    ] = None
    use_elfcorehdr: bool = True
    machine: Annotated[
        int | None,
        Option(
            "Machine, such as aarch64 or i686, if neither an elfcorehdr nor a dump says (default:"
            " x86_64).",
            "NAME",
            parse_machine,
            toml=str,
        ),
    ] = None
    holes: Annotated[
        HolesPolicy,
        Option("What reading something that is not RAM gives: zeros (the default) or EIO."),
    ] = "zero"
    raw_reserved: Annotated[
        bool, Option("Show the crash kernel's range in oldmem as the image has it, not as zeros.")
    ] = False
    truncated: Annotated[
        bool, Option("Accept an image that lacks RAM; reading what it lacks gives EIO.")
    ] = False
    drop_torn_notes: Annotated[
        bool,
        Option("Leave out a torn crash note, as the kernel does, rather than refuse the image."),
    ] = False
    vmlinux: Annotated[
        str | None,
        Option(
            "The crashed kernel with debug symbols, for gdbinit; one of another build is refused"
            " (default: an installed one of the same build, or else the one in the tree).",
            "FILE",
            read_path,
        ),
    ] = None
    debuginfod: Annotated[
        bool,
        Option(
            "If no vmlinux is given or installed, ask the servers that DEBUGINFOD_URLS names for it"
            " (default: nobody is asked)."
        ),
    ] = False
    vmcoreinfo: Annotated[
        str | int | None,
        Option(
            "VMCOREINFO: the image's own (auto, the default), none, the text or the note in FILE,"
            " or the note at a physical address, which /sys/kernel/vmcoreinfo has.",
            "auto|none|FILE|PADDR",
            parse_vmcoreinfo_choice,
            toml=Address | str,
            switch="use_vmcoreinfo",
        ),
    ] = None
    use_vmcoreinfo: bool = True
    layout: Annotated[
        LayoutChoice,
        Option(
            "Lay out vmcore byte for byte as /proc/vmcore (kernel, the default), or with headers"
            " that volatility3 and LeechCore open as well (universal)."
        ),
    ] = "kernel"
    pause: Annotated[
        bool,
        Option("Stop a guest that runs, given as qmp:SOCKET, for as long as its memory is open."),
    ] = False
    dump_level: Annotated[
        DumpLevel | None,
        Option(
            "Leave pages out of vmcore, as makedumpfile -d does: the sum of 2 (cache), 4 (cache,"
            " private too), 8 (user data) and 16 (free pages); 1 (zeros) changes nothing here."
            " Default: leave nothing out.",
            "LEVEL",
        ),
    ] = None


class Options(TypedDict, total=False):
    """The keywords of ``vmcorefs.open``: the fields of ``CaptureConfig``, in the types of a caller.

    Type checkers and editors need them spelled out; a test holds the two to the same names.
    """

    memory_map: StrPath | None
    backup: StrPath | Piece | None
    crash_kernel: Sequence[tuple[int, int]] | None
    elfcorehdr: int | None
    use_elfcorehdr: bool | None
    machine: str | None
    holes: HolesPolicy | None
    raw_reserved: bool | None
    truncated: bool | None
    drop_torn_notes: bool | None
    vmlinux: StrPath | None
    debuginfod: bool | None
    vmcoreinfo: StrPath | int | None
    use_vmcoreinfo: bool | None
    layout: LayoutChoice | None
    pause: bool | None
    dump_level: int | None


@cache
def options() -> dict[str, Option]:
    """Every option, by its field."""
    return {
        field: replace(option, name=option.name or field, type=hint.__origin__)
        for field, hint in get_type_hints(CaptureConfig, include_extras=True).items()
        for option in getattr(hint, "__metadata__", ())
    }


def make_config(images: Sequence[StrPath | Piece], **given: Unpack[Options]) -> CaptureConfig:
    """Put together what the user asks for: the TOML file if there is one, the options over it.

    Args:
        images: Pieces, or the path of one capture description.
        **given: The options, by field, as text or as values; one that is None is not given.

    Raises:
        ConfigError: if one of them is not what it should be.
    """
    if not images:
        raise ConfigError("no image: expected at least one file that holds physical memory")
    if is_capture_file(images):
        path = str(images[0])
        return override(replace(load_capture_file(path), description=path), **given)
    return override(CaptureConfig(tuple(_read_piece(image) for image in images)), **given)


def override(config: CaptureConfig, directory: str = "", **given: Any) -> CaptureConfig:  # noqa: ANN401
    """The config with every option that is given, by field: one that is None is not.

    Args:
        config: What holds otherwise.
        directory: What paths are relative to.
        **given: As for ``make_config``.

    Raises:
        ConfigError: as ``make_config`` says.
    """
    changes: dict[str, Any] = {}
    left = {field: value for field, value in given.items() if value is not None}
    for field, option in options().items():
        if field in left:
            value = option.parse(left.pop(field), directory)
            if option.switch is not None:
                changes[field], changes[option.switch] = value
            else:
                changes[field] = value
    return replace(config, **changes | left)


def is_capture_file(images: Sequence[StrPath | Piece]) -> bool:
    """Tell whether what stands for the images is one capture description, by its name."""
    return len(images) == 1 and str(images[0]).endswith(".toml")


_ELSEWHERE = re.compile(r"^qemu:|^qmp:/|://")
"""In the names of machines that run and of what is far away: no paths below a directory."""

_MAX_DESCRIPTION = 1 << 20


def load_capture_file(path: str) -> CaptureConfig:
    """Read a capture description.

    Raises:
        ConfigError: naming the file and the key, if it is not one.
    """
    data = read_file(path, "the capture description", _MAX_DESCRIPTION)
    if len(data) > _MAX_DESCRIPTION:
        raise ConfigError(f"{path}: more than 1 MiB, expected a capture description")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: cannot read the capture description: {error}") from error
    try:
        import tomllib  # noqa: PLC0415  # few captures are described in a file

        return _read_table(tomllib.loads(text), os.path.dirname(path))
    except (ValueError, RecursionError, msgspec.ValidationError, ConfigError) as error:
        # ValueError: tomllib's own, and of a number with more digits than Python converts
        raise ConfigError(f"{path}: {error}") from error


def _read_table(content: dict[str, Any], directory: str) -> CaptureConfig:
    keys = [(each.name, each.toml or each.type, None) for each in options().values()]
    schema = msgspec.defstruct(
        "Capture", [("image", list[_PieceTable], ()), *keys], forbid_unknown_fields=True
    )
    table = msgspec.structs.asdict(msgspec.convert(content, schema))
    if not table["image"]:
        raise ConfigError("no [[image]]: expected one or more, each with a path")
    config = CaptureConfig(tuple(_read_piece(piece, directory) for piece in table["image"]))
    given = {field: table[option.name] for field, option in options().items()}
    return override(config, directory, **given)


def _read_piece(given: StrPath | Piece | _PieceTable, directory: str = "") -> Piece:
    if isinstance(given, Piece):
        return given
    if not isinstance(given, _PieceTable):
        return parse_piece(fspath(given))
    return Piece(
        given.path if _ELSEWHERE.search(given.path) else os.path.join(directory, given.path),
        None if given.paddr is None else _read_number(given.paddr),
        _read_number(given.offset),
        None if given.size is None else _read_number(given.size),
        given.unwrap,
    )


def _read_number(given: int | str) -> int:
    if isinstance(given, str):
        return parse_size(given)
    if not 0 <= given <= MAX_ADDRESS:
        raise ConfigError(f"{given}: expected an address or size from 0 to {MAX_ADDRESS:#x}")
    return given
