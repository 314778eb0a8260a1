"""The command: ``vmcorefs mount | umount | inspect | check | verify | extract | save``."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import click
from tqdm import tqdm

from vmcorefs.api import Capture, open_capture
from vmcorefs.check import format_check, make_check
from vmcorefs.config import CaptureConfig
from vmcorefs.confine.process import forbid_dumps
from vmcorefs.core.units import format_size
from vmcorefs.errors import ConfigError, IncompleteError, VmcorefsError
from vmcorefs.estimate import (
    Progress as PagesProgress,
    estimate as estimate_dumps,
    format_report as format_estimate,
    make_report as make_estimate_report,
)
from vmcorefs.extract import Outcome, Progress, extract as extract_file, stream
from vmcorefs.inspect import format_report, make_report
from vmcorefs.options import (
    IMAGES_HELP,
    capture_options,
    image_options,
    images_config,
    make_config,
)
from vmcorefs.save.codecs import CODEC_NAMES
from vmcorefs.save.command import (
    FORMATS,
    MAX_DEFAULT_THREADS,
    default_threads,
    make_order,
    read_levels,
    save_capture,
)
from vmcorefs.save.places import STDOUT
from vmcorefs.save.report import as_dict, describe_losses, format_summary
from vmcorefs.save.saver import Console
from vmcorefs.sources.file import FileSource
from vmcorefs.verify import AUTO, expected_digests, verify as verify_inputs

tqdm.monitor_interval = 0  # no thread of its own: a daemon could not take its privileges away


class _Group(click.Group):
    """Ends with one line and the error's own exit status where vmcorefs says what is wrong."""

    # what only some machines need is imported when it is asked for
    lazy: ClassVar[dict[str, str]] = {
        "capture": "vmcorefs.capture.commands",
        "config": "vmcorefs.capture.commands",
        "test-crash": "vmcorefs.capture.commands",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self.lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.lazy:
            module = importlib.import_module(self.lazy[cmd_name])
            command: click.Command = getattr(module, cmd_name.replace("-", "_"))
            return command
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  # click's own signature
        try:
            return super().invoke(ctx)
        except VmcorefsError as error:
            click.echo(f"vmcorefs: {error}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="vmcorefs")
def main() -> None:
    """Mount a dead Linux machine's memory as the vmcore its own kernel would have given.

    Exit status: 0 done, 2 wrong use, 3 cannot mount or unmount, 4 an input is not what it should
    be, 5 not possible here, 6 bytes cannot be read or written, 1 a bug.
    """


@main.command(epilog=IMAGES_HELP)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.argument("mountpoint")
@capture_options
@click.option("--allow-other", is_flag=True, help="Let every user read the tree (mode 0444).")
@click.option(
    "-o",
    "mount_options",
    multiple=True,
    metavar="OPTION",
    help="plane=kernel|mapped|plain: serve reads by no better plane than this; direct_io: keep"
    " them out of the page cache, for bulk copies in little memory; read_timeout=SECONDS: how long"
    " an input may take to answer before that is an error (30; 0: any time).",
)
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground.")
@click.option("--log", "log_path", metavar="FILE", help="Append the log to FILE.")
@click.option("--no-seccomp", is_flag=True, help="Do not filter the daemon's system calls.")
@click.option("-v", "--verbose", is_flag=True, help="Log more than warnings, in the foreground.")
def mount(
    images: tuple[str, ...],
    mountpoint: str,
    *,
    allow_other: bool,
    mount_options: tuple[str, ...],
    foreground: bool,
    log_path: str | None,
    no_seccomp: bool,
    verbose: bool,
    **options: Any,  # noqa: ANN401  # click's
) -> None:
    """Mount the memory in IMAGE... at MOUNTPOINT.

    Nothing but the memory need be given: the memory map, where the bytes of the file belong, and
    the kernel's notes are found in it; "vmcorefs check IMAGE" says how. Returns when the tree can
    be read, and leaves a daemon behind. The tree holds vmcore, oldmem, kcore, crash_notes,
    crash_notes.d/cpuN, cpu/N/registers, version, vmcoreinfo, dmesg, kallsyms, vmlinux, gdbinit,
    iomem and layout.json, read-only and for their owner alone; with --dump-level, vmcore.kdump too.
    What the image does not tell is left out.
    """
    # here: a capture kernel that saves need not have FUSE, nor memory for what serves it
    from vmcorefs.daemon import (  # noqa: PLC0415
        configure_logging,
        run_in_background,
        run_in_foreground,
    )
    from vmcorefs.fuse.mounts import check_mountpoint  # noqa: PLC0415
    from vmcorefs.fuse.planes.linux import keep_heap_small  # noqa: PLC0415
    from vmcorefs.fuse.serve import parse_mount_options  # noqa: PLC0415

    keep_heap_small()
    target = parse_mount_options(
        check_mountpoint(mountpoint), mount_options, allow_other=allow_other
    )
    capture = _open(images, options, target.mountpoint)
    for warning in capture.image.warnings:
        click.echo(f"vmcorefs: warning: {warning}", err=True)
    if foreground:
        configure_logging(log_path, background=False, verbose=verbose)
        run_in_foreground(capture, target, filtered=not no_seccomp)
    else:
        run_in_background(capture, target, log_path, filtered=not no_seccomp)


@main.command(short_help="Unmount a tree and wait until its daemon has gone.")
@click.argument("mountpoints", nargs=-1, required=True, metavar="MOUNTPOINT...")
@click.option("--lazy", is_flag=True, help="Detach now, though files are open; do not wait.")
@click.option(
    "--timeout", default=30.0, show_default=True, help="Seconds to wait for the daemon to go."
)
def umount(mountpoints: tuple[str, ...], lazy: bool, timeout: float) -> None:
    """Unmount the tree at MOUNTPOINT and wait until its daemon has gone.

    Also cleans up where the daemon has died ("Transport endpoint is not connected").
    """
    from vmcorefs.fuse.mounts import unmount  # noqa: PLC0415  # as in mount

    for mountpoint in mountpoints:
        unmount(mountpoint, lazy=lazy, timeout=timeout)


@main.command(epilog=IMAGES_HELP)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@capture_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON; numbers are bytes.")
def inspect(
    images: tuple[str, ...],
    as_json: bool,
    **options: Any,  # noqa: ANN401  # click's
) -> None:
    """Say everything that is understood of IMAGE..., without mounting."""
    with _open(images, options) as capture:
        report = make_report(capture)
    click.echo(json.dumps(report, indent=1) if as_json else format_report(report), nl=as_json)


@main.command(epilog=IMAGES_HELP, short_help="Say what was found, and which tools will open it.")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@capture_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON; sizes are in bytes.")
def check(
    images: tuple[str, ...],
    as_json: bool,
    **options: Any,  # noqa: ANN401  # click's
) -> None:
    """Say what was found in IMAGE..., how sure it is, and which tools will open its vmcore.

    Of crash, gdb, drgn, makedumpfile, libkdumpfile, volatility3 and MemProcFS it says yes, "yes,
    but" or no; then the rule that is broken, what helps, and where the rule stands. The exit status
    is 0 also when a tool will not open it.
    """
    with _open(images, options, thorough=True) as capture:
        report = make_check(capture)
    click.echo(json.dumps(report, indent=1) if as_json else format_check(report), nl=as_json)


def _say_needs(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    """Print what a dump of this machine will need, and nothing else."""
    if value:
        from vmcorefs.capture.commands import say_needs  # noqa: PLC0415  # as the group's lazy ones

        say_needs()
        context.exit()


@main.command(epilog=IMAGES_HELP, short_help="Say how large a dump would be at each level.")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@capture_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON; sizes are in bytes.")
@click.option(
    "--crashkernel",
    is_flag=True,
    is_eager=True,  # needs no IMAGE
    expose_value=False,
    callback=_say_needs,
    help="Say instead what this machine should reserve with crashkernel=, and the disk that a dump"
    " takes, by /etc/vmcorefs.toml.",
)
def estimate(
    images: tuple[str, ...],
    as_json: bool,
    **options: Any,  # noqa: ANN401  # click's
) -> None:
    """Say what the pages in IMAGE... are used for, and how large a dump would be at each level.

    All pages are counted; a sample of each kind is compressed, in every codec that there is, and a
    size is told with how far it may be off (95 %). IMAGE may be the /proc/kcore of the machine that
    runs.
    """
    with _open(images, options) as capture, _pages_bar() as progress:
        report = make_estimate_report(estimate_dumps(capture, progress=progress))
    click.echo(json.dumps(report, indent=1) if as_json else format_estimate(report), nl=as_json)


@main.command(epilog=IMAGES_HELP)
@click.argument("file")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-o", "--output", required=True, metavar="FILE", help="Where to; - for a pipe.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@capture_options
def extract(
    file: str,
    images: tuple[str, ...],
    output: str,
    force: bool,
    **options: Any,  # noqa: ANN401  # click's
) -> None:
    """Write FILE of the tree, such as vmcore, without mounting.

    The output is sparse. It grows as OUTPUT.incomplete and gets its name when it is whole; the same
    command goes on from an incomplete one.
    """
    with _open(images, options) as capture:
        wanted = capture.files.get(file.strip("/"))
        if wanted is None:
            raise ConfigError(f"{file}: no such file; the tree has {', '.join(capture.files)}")
        if output == "-" and sys.stdout.isatty():
            raise ConfigError("standard output is a terminal: name a file, or use a pipe")
        with _bar(wanted.size, wanted.path) as progress:
            outcome = (
                stream(wanted, sys.stdout.fileno(), progress)
                if output == "-"
                else extract_file(wanted, output, force=force, progress=progress)
            )
    click.echo(_describe(output, outcome), err=True)


@main.command(epilog=IMAGES_HELP, short_help="Write a filtered and compressed dump.")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
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
@click.option("--resume", is_flag=True, help="Go on from FILE.incomplete.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists, or FILE.incomplete.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--quiet", is_flag=True, help="Say nothing but errors and warnings.")
@image_options
def save(
    images: tuple[str, ...],
    output: str,
    dump_level: str | None,
    wanted: str | None,
    codec: str | None,
    threads: int | None,
    split: int,
    resume: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,  # noqa: ANN401  # click's
) -> None:
    """Write a dump of the memory in IMAGE..., filtered and compressed as makedumpfile's.

    The kernel's log comes first, as FILE-dmesg.txt. The dump grows as FILE.incomplete, and gets its
    name when it is whole and synced. A page that cannot be read does not stop it: the others are
    saved, what is lost is listed, the name stays FILE.incomplete and the exit status is 6.
    """
    config = make_config(images, options)
    levels = read_levels(dump_level, config)
    order = make_order(output, levels, wanted, codec, parts=split, resume=resume, force=force)
    if as_json and output == STDOUT:
        raise ConfigError("standard output takes the dump, so --json has no place: name a FILE")
    say = _say if not quiet else None
    console = Console(bar=sys.stderr.isatty() and not quiet, say=say, warn=_say)
    with _open_config(replace(config, dump_level=None), options["verify"]) as capture:
        report = save_capture(capture, order, threads or default_threads(), console)
    if as_json:
        click.echo(json.dumps(as_dict(report), indent=1))
    elif not quiet:
        click.echo(format_summary(report), err=True)
    if not report.is_complete:
        raise IncompleteError(describe_losses(report))


def _say(line: str) -> None:
    with tqdm.external_write_mode(sys.stderr):  # takes the bar away for the moment
        click.echo(f"vmcorefs: {line}", err=True)


@main.command(epilog=IMAGES_HELP, short_help="Compare the images with their digests.")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--sums",
    metavar="SUMS",
    default=AUTO,
    help="What sha256sum wrote (default: FILE.sha256, .sha1, .md5 ... beside each image).",
)
def verify(images: tuple[str, ...], sums: str) -> None:
    """Read IMAGE... and backups whole, and compare them with digests taken before.

    The other commands do the same first under --verify, with the very files that they have opened.
    """
    forbid_dumps()
    config = images_config(images)
    pieces = [(piece, "image") for piece in config.images]
    pieces += [(config.backup, "backup")] if config.backup is not None else []
    with ExitStack() as stack:
        inputs = []
        for piece, role in pieces:
            source = FileSource(piece.path, role=role)
            stack.callback(source.close)
            inputs.append(source)
        for line in _verify(inputs, sums):
            click.echo(line)


def _open(
    images: tuple[str, ...], options: dict[str, Any], location: str = ".", *, thorough: bool = False
) -> Capture:
    config = make_config(images, options)
    return _open_config(config, options["verify"], location, thorough=thorough)


def _open_config(
    config: CaptureConfig, sums: str | None, location: str = ".", *, thorough: bool = False
) -> Capture:
    """Open a capture, with a bar on the terminal if looking through it takes long.

    Args:
        config: What it is.
        sums: What to verify the inputs against, if anything.
        location: Where the tree will be found.
        thorough: Look through all of the memory.
    """
    forbid_dumps()
    with tqdm(
        desc="looking through the memory",
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        disable=None,
        delay=1,
        leave=False,
    ) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        capture = open_capture(config, location, thorough=thorough, progress=progress)
    if sums is not None:
        try:
            _verify(capture.image.inputs, sums)
        except BaseException:
            capture.close()
            raise
    return capture


def _verify(inputs: Sequence[FileSource], sums: str) -> list[str]:
    """Compare every input with its digest, with a bar on the terminal; a line for each."""
    expected = expected_digests(inputs, sums)
    total = sum(source.size for source, _ in expected)
    with _bar(total, "verifying") as progress:
        return list(verify_inputs(expected, progress))


@contextmanager
def _pages_bar() -> Iterator[PagesProgress]:
    with tqdm(desc="counting pages", unit="pages", disable=None, delay=1, leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


@contextmanager
def _bar(total: int, what: str) -> Iterator[Progress]:
    # disable=None: only on a terminal
    with tqdm(
        total=total, desc=what, unit="B", unit_scale=True, unit_divisor=1024, disable=None
    ) as bar:

        def progress(count: int) -> None:
            bar.update(count)

        yield progress


def _describe(output: str, outcome: Outcome) -> str:
    resumed = f", {format_size(outcome.resumed)} were there already" if outcome.resumed else ""
    return f"{output}: {outcome.size} bytes, {format_size(outcome.written)} written{resumed}"
