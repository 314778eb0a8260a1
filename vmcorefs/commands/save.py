"""``vmcorefs save``."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from vmcorefs.commands.opening import IMAGES_HELP, find_evidence, image_options, open_memory
from vmcorefs.config import CaptureConfig
from vmcorefs.errors import ConfigError, IncompleteError
from vmcorefs.output.places import STDOUT
from vmcorefs.save.codecs import CODEC_NAMES
from vmcorefs.save.command import (
    FORMATS,
    MAX_DEFAULT_THREADS,
    TRIAGE_LEVELS,
    default_threads,
    make_order,
    read_levels,
    refuse_with_triage,
    save_image,
)
from vmcorefs.save.report import as_dict, describe_losses, format_summary
from vmcorefs.save.saver import Console
from vmcorefs.system.bars import without_bars
from vmcorefs.system.terminal import print_json, print_lines

if TYPE_CHECKING:
    from vmcorefs.image import MemoryImage
    from vmcorefs.save.dump import Triage


@click.command(epilog=IMAGES_HELP)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    help="Where to: a file, - for a pipe, ssh://[USER@]HOST/PATH, or a URL that fsspec knows, such"
    " as s3://BUCKET/KEY.",
)
@click.option(
    "-d",
    "--dump-level",
    metavar="N[,N...]",
    help="Pages to leave out, as makedumpfile -d does: the sum of 1 (zeros), 2 (cache), 4 (cache,"
    " private too), 8 (user data) and 16 (free pages). Default: 31. With commas, the next level is"
    " tried when the disk is full.",
)
@click.option(
    "--triage",
    is_flag=True,
    help="Save no more than `vmcorefs report` reads, a few megabytes: the report of FILE is that of"
    " IMAGE.",
)
@click.option(
    "--format",
    "wanted",
    type=click.Choice(FORMATS),
    help="kdump-compressed (the default for a file), ELF, or makedumpfile's flattened stream (the"
    " default for anything else).",
)
@click.option(
    "--codec",
    type=click.Choice(CODEC_NAMES),
    help="How pages are compressed (default: zlib; none in ELF).",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    metavar="N",
    help=f"Threads (default: one per CPU, but at most {MAX_DEFAULT_THREADS}).",
)
@click.option(
    "--split",
    type=click.IntRange(1, 1000),
    default=1,
    metavar="N",
    help="Write N files, FILE.1 to FILE.N, as makedumpfile's --split does.",
)
@click.option("--resume", is_flag=True, help="Resume from FILE.incomplete.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists, or FILE.incomplete.")
@click.option(
    "--sha256/--no-sha256",
    default=True,
    help="Print the SHA-256 of FILE, for which kdump is read again (default), or do without.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--quiet", is_flag=True, help="Print only errors and warnings.")
@image_options
def save(
    config: CaptureConfig,
    verify: str | None,
    output: str,
    dump_level: str | None,
    triage: bool,
    wanted: str | None,
    codec: str | None,
    threads: int | None,
    split: int,
    resume: bool,
    force: bool,
    sha256: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write a dump of the memory in IMAGE..., filtered and compressed as makedumpfile's.

    The kernel's log comes first, as FILE-dmesg.txt. The dump is written as FILE.incomplete, and
    renamed when it is whole and synced. A page that cannot be read does not stop it: the others are
    saved, what is lost is listed, the name stays FILE.incomplete and the exit status is 6.
    """
    if triage:
        refuse_with_triage({"--dump-level": dump_level, "--split": split > 1, "--resume": resume})
    levels = TRIAGE_LEVELS if triage else read_levels(dump_level, config)
    order = make_order(output, levels, wanted, codec, parts=split, resume=resume, force=force)
    order = replace(order, sha256=sha256)
    if as_json and output == STDOUT:
        raise ConfigError("standard output takes the dump, so --json has no place: name a FILE")
    say = _say if not quiet else None
    console = Console(bar=sys.stderr.isatty() and not quiet, say=say, warn=_say)
    with closing(open_memory(replace(config, dump_level=None), verify)) as image:
        report = save_image(
            image,
            order,
            threads or default_threads(),
            console,
            find_evidence(config, verify),
            _find_triage(image) if triage else None,
        )
    if as_json:
        print_json(as_dict(report))
    elif not quiet:
        print_lines(*format_summary(report), err=True)
    if not report.is_complete:
        raise IncompleteError(describe_losses(report))


def _find_triage(image: MemoryImage) -> Triage:
    # the report brings 190 modules, which no other save needs
    from vmcorefs.reports.triage.find import find_triage  # noqa: PLC0415

    return find_triage(image)


def _say(line: str) -> None:
    with without_bars():
        print_lines(f"vmcorefs: {line}", err=True)
