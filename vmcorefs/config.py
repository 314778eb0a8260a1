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
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec.structs import replace

from vmcorefs.core.pages.dump_level import MAX_DUMP_LEVEL
from vmcorefs.core.space.units import MAX_ADDRESS, parse_range, parse_size
from vmcorefs.errors import ConfigError

HolesPolicy = Literal["zero", "error"]
LayoutChoice = Literal["kernel", "universal"]


class Piece(msgspec.Struct, frozen=True):
    """A file, or a part of one, that holds physical memory.

    Attributes:
        path: File, block device or character device.
        paddr: Physical address of its first byte; None for a backup whose place is to be found.
        offset: Where that byte lies in the file, in bytes.
        size: Bytes that it holds; None for all up to the file's end.
    """

    path: str
    paddr: int | None = None
    offset: int = 0
    size: int | None = None


class CaptureConfig(msgspec.Struct, frozen=True):
    """Everything that decides what the tree holds.

    Attributes:
        images: Where physical memory is.
        memory_map: Path of the map: a file, or a copy of the directory /sys/firmware/memmap.
        backup: The saved low memory.
        crash_kernel: Half-open physical ranges where the capture kernel was loaded, beyond those
            that the map names.
        elfcorehdr: Physical address of the elfcorehdr; None to look for it.
        use_elfcorehdr: Use one that is found in the image; False builds headers from the map.
        machine: Architecture, as an ``e_machine`` number; None for what the elfcorehdr says, or
            x86-64.
        holes: What is not RAM reads as zeros (``zero``) or fails with EIO (``error``).
        raw_reserved: Show the crash kernel's ranges in ``oldmem`` as the image has them.
        truncated: Accept an image that lacks RAM; what it lacks fails with EIO.
        vmlinux: Path of the kernel with debug symbols, for ``gdbinit``; None to look for it.
        drop_torn_notes: Drop a torn note, and what follows it in its slot, as the kernel does.
        vmcoreinfo: VMCOREINFO that is given: the physical address of its note, or the path of its
            text, its note or a copy of /sys/kernel/vmcoreinfo; None for what the image has.
        use_vmcoreinfo: Look for VMCOREINFO where no elfcorehdr names it; False leaves it out.
        layout: How ``vmcore`` is laid out: byte for byte as /proc/vmcore (``kernel``), or with
            headers that every tool opens (``universal``).
        dump_level: What ``vmcore`` is without, as makedumpfile's ``-d`` has it, from 0 to 31; None
            for nothing.
    """

    images: tuple[Piece, ...]
    memory_map: str | None = None
    backup: Piece | None = None
    crash_kernel: tuple[tuple[int, int], ...] = ()
    elfcorehdr: int | None = None
    use_elfcorehdr: bool = True
    machine: int | None = None
    holes: HolesPolicy = "zero"
    raw_reserved: bool = False
    truncated: bool = False
    drop_torn_notes: bool = False
    vmlinux: str | None = None
    vmcoreinfo: str | int | None = None
    use_vmcoreinfo: bool = True
    layout: LayoutChoice = "kernel"
    dump_level: int | None = None


_PIECE = re.compile(
    r"(?P<path>.+?)@(?P<paddr>[^@:+]+)(?::(?P<offset>[^@:+]+))?(?:\+(?P<size>[^@:+]+))?"
)


def parse_piece(text: str) -> Piece:
    """Read ``FILE``, ``FILE@PADDR``, ``FILE@PADDR:OFFSET`` or either with ``+SIZE`` behind it.

    A file whose name is the whole text is taken as that file, ``@`` and all.

    Raises:
        ConfigError: if what follows the ``@`` is not an address.
    """
    match = _PIECE.fullmatch(text)
    if match is None or os.path.lexists(text):
        return Piece(text)
    try:
        return Piece(
            match["path"],
            parse_size(match["paddr"]),
            parse_size(match["offset"] or "0"),
            parse_size(match["size"]) if match["size"] else None,
        )
    except ConfigError as error:
        raise ConfigError(f"{text}: {error} (FILE@PADDR[:OFFSET][+SIZE])") from None


_Number = int | str


class _PieceTable(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    paddr: _Number | None = None
    offset: _Number = 0
    size: _Number | None = None


class _CaptureTable(msgspec.Struct, forbid_unknown_fields=True):
    image: list[_PieceTable] = msgspec.field(default_factory=list)
    map: str | None = None
    backup: _PieceTable | None = None
    crash_kernel: list[str] = msgspec.field(default_factory=list)
    elfcorehdr: _Number | Literal["auto", "none"] = "auto"
    machine: str | None = None
    holes: HolesPolicy = "zero"
    raw_reserved: bool = False
    truncated: bool = False
    drop_torn_notes: bool = False
    vmlinux: str | None = None
    vmcoreinfo: _Number | str = "auto"
    layout: LayoutChoice = "kernel"
    dump_level: Annotated[int, msgspec.Meta(ge=0, le=MAX_DUMP_LEVEL)] | None = None


_MAX_DESCRIPTION = 1 << 20


def load_capture_file(path: str) -> CaptureConfig:
    """Read a capture description.

    Raises:
        ConfigError: naming the file and the key, if it is not one.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MAX_DESCRIPTION + 1)
        if len(data) > _MAX_DESCRIPTION:
            raise ConfigError(f"{path}: more than 1 MiB, expected a capture description")
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the capture description: {error}") from error
    try:
        table = msgspec.convert(tomllib.loads(text), _CaptureTable)
        return _config_from(table, os.path.dirname(path))
    except (ValueError, RecursionError, msgspec.ValidationError, ConfigError) as error:
        # ValueError: tomllib's own, and of a number with more digits than Python converts
        raise ConfigError(f"{path}: {error}") from error


def _config_from(table: _CaptureTable, directory: str) -> CaptureConfig:
    if not table.image:
        raise ConfigError("no [[image]]: expected one or more, each with a path")
    address, use = parse_elfcorehdr_choice(str(table.elfcorehdr))
    vmcoreinfo: str | int | None
    if isinstance(table.vmcoreinfo, int):  # a number is an address, whatever files there are
        vmcoreinfo, use_vmcoreinfo = parse_size(str(table.vmcoreinfo)), True
    else:
        vmcoreinfo, use_vmcoreinfo = parse_vmcoreinfo_choice(table.vmcoreinfo, directory)
    return CaptureConfig(
        images=tuple(_piece_from(piece, directory) for piece in table.image),
        memory_map=os.path.join(directory, table.map) if table.map is not None else None,
        backup=_piece_from(table.backup, directory) if table.backup else None,
        crash_kernel=tuple(parse_range(text) for text in table.crash_kernel),
        elfcorehdr=address,
        use_elfcorehdr=use,
        machine=parse_machine(table.machine) if table.machine is not None else None,
        holes=table.holes,
        raw_reserved=table.raw_reserved,
        truncated=table.truncated,
        drop_torn_notes=table.drop_torn_notes,
        vmlinux=os.path.join(directory, table.vmlinux) if table.vmlinux is not None else None,
        vmcoreinfo=vmcoreinfo,
        use_vmcoreinfo=use_vmcoreinfo,
        layout=table.layout,
        dump_level=table.dump_level,
    )


def _piece_from(table: _PieceTable, directory: str) -> Piece:
    def number(value: _Number) -> int:
        if isinstance(value, str):
            return parse_size(value)
        if not 0 <= value <= MAX_ADDRESS:
            raise ConfigError(f"{value}: expected an address or size from 0 to {MAX_ADDRESS:#x}")
        return value

    return Piece(
        os.path.join(directory, table.path),
        None if table.paddr is None else number(table.paddr),
        number(table.offset),
        None if table.size is None else number(table.size),
    )


def parse_elfcorehdr_choice(text: str) -> tuple[int | None, bool]:
    """Read ``auto``, ``none`` or an address as ``(elfcorehdr, use_elfcorehdr)``.

    Raises:
        ConfigError: if it is something else.
    """
    if text in ("auto", "none"):
        return None, text == "auto"
    return parse_size(text), True


def parse_vmcoreinfo_choice(text: str, directory: str = "") -> tuple[str | int | None, bool]:
    """Read ``auto``, ``none``, an address or a path as ``(vmcoreinfo, use_vmcoreinfo)``.

    Args:
        text: What was given; a file of that name is taken before an address.
        directory: What a path is relative to.
    """
    if text in ("auto", "none"):
        return None, text == "auto"
    path = os.path.join(directory, text)
    if not os.path.lexists(path) and re.fullmatch(r"0x[0-9a-f]+|[0-9]+", text, re.IGNORECASE):
        return parse_size(text), True
    return path, True


def parse_machine(text: str) -> int:
    """Read an architecture: its ELF name without ``EM_`` (``x86_64``, ``aarch64``) or its number.

    Raises:
        ConfigError: if there is no such architecture.
    """
    for number, name in machine_names().items():
        if text.lower() == name:  # before numbers: Intel's is called 386
            return number
    if re.fullmatch(r"[0-9]{1,5}", text) and int(text) < 1 << 16:
        return int(text)
    raise ConfigError(f"{text!r}: not an ELF machine; expected a name such as x86_64 or aarch64")


def machine_names() -> dict[int, str]:
    """ELF machine numbers and their names in lower case, as pyelftools knows them."""
    from elftools.elf.enums import ENUM_E_MACHINE  # noqa: PLC0415  # 30 ms that few commands need

    return {
        number: name.removeprefix("EM_").lower()
        for name, number in ENUM_E_MACHINE.items()
        if isinstance(number, int)
    }


def is_capture_file(images: tuple[str, ...]) -> bool:
    """Tell whether what stands for the images is one capture description, by its name."""
    return len(images) == 1 and images[0].endswith(".toml")


def override(config: CaptureConfig, **changes: object) -> CaptureConfig:
    """The config with every change that is not None: the command line over the TOML file."""
    kept = {name: value for name, value in changes.items() if value is not None}
    return replace(config, **kept)
