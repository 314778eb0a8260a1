"""The options that describe a capture: the same for every command that opens one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from vmcorefs.config import (
    CaptureConfig,
    is_capture_file,
    load_capture_file,
    override,
    parse_elfcorehdr_choice,
    parse_machine,
    parse_piece,
    parse_vmcoreinfo_choice,
)
from vmcorefs.core.pages.dump_level import MAX_DUMP_LEVEL
from vmcorefs.core.space.units import parse_range

Command = TypeVar("Command", bound=Callable[..., Any])

IMAGES_HELP = """\
IMAGE is a file or device that holds physical memory: FILE, or FILE@PADDR[:OFFSET][+SIZE] for one
that holds, from OFFSET on, SIZE bytes of memory that start at physical address PADDR. Numbers are
as in 0x100000000 or 4G. Or it is a dump: an ELF vmcore, a kdump-compressed or flattened dump (all
parts of one that was split), or a mounted tree. In place of images, one FILE.toml describes a whole
capture."""

_OPTIONS = (
    click.option(
        "--map",
        "memory_map",
        metavar="FILE",
        help="Memory map: the text of /proc/iomem, a copy of /sys/firmware/memmap, the e820 lines"
        " of dmesg, or a binary elfcorehdr (default: the one that the kernel in IMAGE keeps).",
    ),
    click.option(
        "--backup",
        metavar="FILE[@PADDR]",
        help="Saved low memory. Without PADDR it belongs where the elfcorehdr says, or to the first"
        " RAM range that ends at or below 640 KiB.",
    ),
    click.option(
        "--vmcoreinfo",
        metavar="auto|none|FILE|PADDR",
        help="VMCOREINFO: the image's own (auto, the default), none, the text or the note in FILE,"
        " or the note at a physical address, as /sys/kernel/vmcoreinfo tells it.",
    ),
    click.option(
        "--crash-kernel",
        metavar="RANGE",
        multiple=True,
        help="Where the capture kernel was loaded, START-END (inclusive) or START+SIZE, if the map"
        " does not say. May be given again.",
    ),
    click.option(
        "--elfcorehdr",
        metavar="auto|none|PADDR",
        help="Headers to lay out vmcore by: those found in the image (auto, the default), built"
        " from the map (none), or those at a physical address.",
    ),
    click.option(
        "--machine",
        metavar="NAME",
        help="ELF machine, such as aarch64, where no elfcorehdr tells (default: x86_64).",
    ),
    click.option(
        "--holes",
        type=click.Choice(["zero", "error"]),
        help="What reading something that is not RAM gives: zeros (the default) or EIO.",
    ),
    click.option(
        "--raw-reserved",
        is_flag=True,
        help="Show the crash kernel's range in oldmem as the image has it, not as zeros.",
    ),
    click.option(
        "--truncated",
        is_flag=True,
        help="Accept an image that lacks RAM; reading what it lacks gives EIO.",
    ),
    click.option(
        "--vmlinux",
        metavar="FILE",
        help="The kernel with debug symbols, for gdbinit (default: an installed one of the same"
        " build, or else the one in the tree).",
    ),
    click.option(
        "--drop-torn-notes",
        is_flag=True,
        help="Leave out a torn crash note, as the kernel does, rather than refuse the image.",
    ),
    click.option(
        "--layout",
        type=click.Choice(["kernel", "universal"]),
        help="Lay out vmcore byte for byte as /proc/vmcore (kernel, the default), or with headers"
        " that volatility3 and LeechCore open as well (universal).",
    ),
    click.option(
        "--verify",
        metavar="auto|SUMS",
        help="First read every image and backup whole, and compare with its digest: in SUMS, as"
        " sha256sum writes it, or in FILE.sha256, .sha1, .md5 ... beside each (auto).",
    ),
)


_LEVEL_OPTION = click.option(
    "--dump-level",
    type=click.IntRange(0, MAX_DUMP_LEVEL),
    metavar="LEVEL",
    help="Leave pages out of vmcore, as makedumpfile -d does: the sum of 2 (cache), 4 (cache,"
    " private too), 8 (user data) and 16 (free pages); 1 (zeros) changes nothing here. Default:"
    " leave nothing out.",
)


def capture_options(command: Command) -> Command:
    """Add the options; a command takes their values as keyword arguments for ``make_config``."""
    return image_options(_LEVEL_OPTION(command))


def image_options(command: Command) -> Command:
    """Add all of them but ``--dump-level``, for a command that has a meaning of its own for it."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def images_config(images: tuple[str, ...]) -> CaptureConfig:
    """What IMAGE... alone describes: pieces, or a TOML file.

    Raises:
        ConfigError: if it is not what it should be.
    """
    if is_capture_file(images):
        return load_capture_file(images[0])
    return CaptureConfig(images=tuple(parse_piece(image) for image in images))


def make_config(images: tuple[str, ...], options: dict[str, Any]) -> CaptureConfig:
    """Put together what the user asks for: the TOML file if there is one, the options over it.

    Args:
        images: What stands for IMAGE... on the command line.
        options: The values of ``capture_options`` by name.

    Raises:
        ConfigError: if one of them is not what it should be.
    """
    config = images_config(images)
    address, use = None, None
    vmcoreinfo, use_vmcoreinfo = None, None
    if options["vmcoreinfo"] is not None:
        vmcoreinfo, use_vmcoreinfo = parse_vmcoreinfo_choice(options["vmcoreinfo"])
    if options["elfcorehdr"] is not None:
        address, use = parse_elfcorehdr_choice(options["elfcorehdr"])
    return override(
        config,
        memory_map=options["memory_map"],
        backup=parse_piece(options["backup"]) if options["backup"] is not None else None,
        crash_kernel=tuple(parse_range(text) for text in options["crash_kernel"]) or None,
        elfcorehdr=address,
        use_elfcorehdr=use,
        machine=parse_machine(options["machine"]) if options["machine"] is not None else None,
        holes=options["holes"],
        # a flag that is not given leaves what the TOML file says
        raw_reserved=options["raw_reserved"] or None,
        truncated=options["truncated"] or None,
        drop_torn_notes=options["drop_torn_notes"] or None,
        vmlinux=options["vmlinux"],
        vmcoreinfo=vmcoreinfo,
        use_vmcoreinfo=use_vmcoreinfo,
        layout=options["layout"],
        dump_level=options.get("dump_level"),
    )
