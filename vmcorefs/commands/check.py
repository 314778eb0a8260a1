"""``vmcorefs check``."""

from __future__ import annotations

import json
from typing import Any

import click

from vmcorefs.commands.opening import open_images
from vmcorefs.commands.options import IMAGES_HELP, capture_options
from vmcorefs.reports.check import format_check, make_check


@click.command(epilog=IMAGES_HELP)
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
    with open_images(images, options, thorough=True) as capture:
        report = make_check(capture)
    click.echo(json.dumps(report, indent=1) if as_json else format_check(report), nl=as_json)
