"""``vmcorefs extract``."""

from __future__ import annotations

import os
from contextlib import closing

import click

from vmcorefs.commands.opening import IMAGES_HELP, capture_options, find_evidence, open_capture
from vmcorefs.config import CaptureConfig
from vmcorefs.core.space.units import format_size
from vmcorefs.errors import ConfigError, IncompleteError, StoppedError
from vmcorefs.output.extract import Outcome, extract as extract_file, stream
from vmcorefs.output.places import check_place, is_local, local_path, open_target
from vmcorefs.output.target import INCOMPLETE
from vmcorefs.reports.report.files import report_files
from vmcorefs.system.bars import progress_bar
from vmcorefs.system.terminal import print_lines


@click.command(epilog=IMAGES_HELP)
@click.argument("file")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    help="Where to: a file, - for a pipe, ssh://... or another URL.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@capture_options
def extract(file: str, config: CaptureConfig, verify: str | None, output: str, force: bool) -> None:
    """Write FILE of the tree, such as vmcore, without mounting.

    The output is sparse. It is written as OUTPUT.incomplete and renamed when it is whole; the same
    command resumes an incomplete one. What cannot be read does not stop it: it is listed and reads
    as zeros, the name stays OUTPUT.incomplete and the exit status is 6.
    """
    check_place(output)
    evidence = find_evidence(config, verify)
    with open_capture(config, verify, add=report_files) as capture:
        try:
            wanted = capture[file.strip("/")]
        except KeyError:
            known = ", ".join((*capture.files, *(f"{path}/..." for path in capture.directories)))
            raise ConfigError(f"{file}: no such file; the tree has {known}") from None
        with progress_bar(wanted.path, at_once=True) as progress:
            if is_local(output):
                path = local_path(output)
                try:
                    outcome = extract_file(
                        wanted, path, force=force, evidence=evidence, progress=progress
                    )
                except KeyboardInterrupt:
                    left = f"{path}{INCOMPLETE}"
                    if not os.path.lexists(left):
                        raise  # there is nothing to go on with
                    raise StoppedError(
                        f"{output}: interrupted; the same command goes on with {left}",
                        is_interrupt=True,
                    ) from None
            else:
                target = open_target(
                    output, force=force, evidence=evidence, reach=wanted.size, hashed=False
                )
                with closing(target):
                    outcome = stream(wanted, target, progress)
    print_lines(_describe(outcome), *outcome.losses.lines(), err=True)
    if outcome.losses.size:
        raise IncompleteError(outcome.losses.describe(outcome.name, "are zeros there"))


def _describe(outcome: Outcome) -> str:
    resumed = f", {format_size(outcome.resumed)} were there already" if outcome.resumed else ""
    return f"{outcome.name}: {outcome.size} bytes, {format_size(outcome.written)} written{resumed}"
