"""``vmcorefs estimate``."""

from __future__ import annotations

import click

from vmcorefs.commands.opening import IMAGES_HELP, capture_options, open_capture
from vmcorefs.config import CaptureConfig
from vmcorefs.reports.estimate import estimate as estimate_sizes, format_report, make_report
from vmcorefs.system.bars import progress_bar
from vmcorefs.system.terminal import print_json, print_lines


def _say_needs(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    """Print what a dump of this machine will need, and exit."""
    if value:
        from vmcorefs.capture.commands import say_needs  # noqa: PLC0415

        say_needs()
        context.exit()


@click.command(epilog=IMAGES_HELP)
@capture_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON; sizes are in bytes.")
@click.option(
    "--crashkernel",
    is_flag=True,
    is_eager=True,  # needs no IMAGE
    expose_value=False,
    callback=_say_needs,
    help="Instead, show what this machine should reserve with crashkernel=, and the disk space for"
    " a dump, by /etc/vmcorefs.toml.",
)
def estimate(config: CaptureConfig, verify: str | None, as_json: bool) -> None:
    """Count the pages in IMAGE... by use, and estimate how large a dump would be at each level.

    All pages are counted. A sample of each kind is compressed with every codec that is installed,
    and each size comes with its margin of error (95 %). IMAGE may be the running machine's
    /proc/kcore.
    """
    with (
        open_capture(config, verify) as capture,
        progress_bar("counting pages", "pages") as progress,
    ):
        report = make_report(estimate_sizes(capture, progress=progress))
    if as_json:
        print_json(report)
    else:
        print_lines(*format_report(report))
