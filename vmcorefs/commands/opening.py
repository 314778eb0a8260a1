"""What a command does first: read the options that describe a capture, open it, verify its inputs.

The options are made from ``config.CaptureConfig``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

import click
from msgspec.structs import replace

from vmcorefs.config import CaptureConfig, DumpLevel, make_config, options
from vmcorefs.confine import process
from vmcorefs.core.digests import ALGORITHMS, AUTO
from vmcorefs.core.pages.dump_level import MAX_DUMP_LEVEL
from vmcorefs.errors import ConfigError
from vmcorefs.image import MemoryImage, open_image
from vmcorefs.options import Option
from vmcorefs.sources.evidence import Evidence, gather
from vmcorefs.sources.input import Input
from vmcorefs.system.bars import progress_bar

if TYPE_CHECKING:
    from vmcorefs.api import AddFiles, Capture

Command = Callable[..., None]
Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Opened = TypeVar("Opened")

IMAGES_HELP = """\
IMAGE is a file or device that holds physical memory: FILE, or FILE@PADDR[:OFFSET][+SIZE] where SIZE
bytes from OFFSET on are the memory at physical address PADDR. Numbers are written as 0x100000000 or
4G. Or it is a dump: an ELF vmcore, a kdump-compressed or flattened dump (all parts of a split one),
or a mounted tree. Any of them may be compressed, or the URL of something elsewhere. Instead of
images, one FILE.toml can describe a whole capture."""

_LEVEL = DumpLevel | None
_STDOUT, _STDERR = 1, 2  # whatever sys.stdout is
_verify_option = click.option(
    "--verify",
    metavar="auto|SUMS",
    help="First read every image and backup whole, and compare it with its digest: from SUMS, as"
    " sha256sum writes it, or from FILE.sha256, .sha1, .md5 ... beside it (auto).",
)


def capture_options(command: Command) -> Command:
    """Let a command take IMAGE... and the options: it gets them as ``config`` and ``verify``."""
    return _with_options(command, options())


def image_options(command: Command) -> Command:
    """The same without ``--dump-level``, for a command that has its own."""
    others = {field: each for field, each in options().items() if each.type != _LEVEL}
    return _with_options(command, others)


def optional_capture_options(command: Command) -> Command:
    """The same for a command that does without IMAGE... too: ``config`` is then None."""
    return _with_options(command, options(), required=False)


def _with_options(
    command: Command, described: Mapping[str, Option], *, required: bool = True
) -> Command:
    @wraps(command)
    def run(images: tuple[str, ...], **values: Any) -> None:  # noqa: ANN401  # click's
        given = {field: values.pop(field) for field in described}
        # a flag or a list that is not given leaves what the TOML file says
        given = {f: value for f, value in given.items() if value is not False and value != ()}
        config = None
        if required or images or any(value is not None for value in given.values()):
            config = make_config(images, **given)
            refuse_streams(find_evidence(config, values["verify"]))
        command(config=config, **values)

    decorated = _verify_option(run)
    for field, option in reversed([*described.items()]):
        decorated = _make_option(field, option)(decorated)
    metavar = "IMAGE..." if required else "[IMAGE...]"
    return click.argument("images", nargs=-1, required=required, metavar=metavar)(decorated)


def _make_option(field: str, option: Option) -> Callable[[Decorated], Decorated]:
    how: dict[str, Any] = {"metavar": option.metavar, "help": option.help}
    if option.type is bool:
        how["is_flag"] = True
    elif get_origin(option.type) is Literal:
        how["type"] = click.Choice(get_args(option.type))
    elif option.type == _LEVEL:
        how["type"] = click.IntRange(0, MAX_DUMP_LEVEL)
    name = f"--{option.name.replace('_', '-')}"
    return click.option(name, field, multiple=get_origin(option.toml) is list, **how)


def find_evidence(config: CaptureConfig, sums: str | None) -> Evidence:
    """What a command reads, and may not write to.

    Args:
        config: What it opens.
        sums: What it verifies the inputs against, if anything.
    """
    if sums != AUTO:
        return gather(config, *([sums] if sums is not None else []))
    paths = [piece.path for piece in (*config.images, config.backup) if piece is not None]
    return gather(config, *(f"{path}.{algorithm}" for path in paths for algorithm in ALGORITHMS))


def refuse_streams(evidence: Evidence) -> None:
    """Refuse to print into an input, as with ``>>``.

    Raises:
        ConfigError: if standard output or standard error is one.
    """
    try:
        evidence.refuse_open("standard error", _STDERR)
    except ConfigError:
        # nothing can be said without writing there
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDERR)
        raise
    evidence.refuse_open("standard output", _STDOUT)


def open_capture(
    config: CaptureConfig,
    verify: str | None,
    location: str = ".",
    *,
    thorough: bool = False,
    add: AddFiles | None = None,
) -> Capture:
    """Open a capture; from here on, no other process may read this one's memory.

    Args:
        config: What to open.
        verify: What to verify the inputs against, if anything.
        location: Where the tree will be found.
        thorough: Look through all of the memory.
        add: Gives files that the tree is to have besides.
    """
    # here: what only saves an image needs no tree
    from vmcorefs import api  # noqa: PLC0415

    opened = partial(api.open_capture, location=location, thorough=thorough, add=add)
    return _open(config, verify, opened, lambda capture: capture.image)


def open_memory(config: CaptureConfig, verify: str | None) -> MemoryImage:
    """The same without a tree; it is to be closed."""
    return _open(config, verify, open_image, lambda image: image)


def _open(
    config: CaptureConfig,
    verify: str | None,
    how: Callable[..., Opened],
    image_of: Callable[[Opened], MemoryImage],
) -> Opened:
    process.forbid_dumps()
    with (
        progress_bar("making an index of the compressed image") as unwrapping,
        progress_bar("looking through the memory") as progress,
    ):
        far = replace(config.far, is_kept=True)
        opened = how(replace(config, far=far), progress=progress, unwrapping=unwrapping)
    if verify is not None:
        try:
            verify_inputs(image_of(opened).inputs, verify)
        except BaseException:
            image_of(opened).close()
            raise
    return opened


def verify_inputs(inputs: Sequence[Input], sums: str) -> list[str]:
    """Compare every input with its digest; a line for each.

    Args:
        inputs: Images and backups.
        sums: As for ``vmcorefs.reports.verify.expected_digests``.
    """
    # here: few ask for it
    from vmcorefs.reports.verify import expected_digests, verify  # noqa: PLC0415

    with progress_bar("verifying", at_once=True) as progress:
        return list(verify(expected_digests(inputs, sums), progress))
