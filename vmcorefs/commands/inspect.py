"""``vmcorefs inspect``."""

from __future__ import annotations

import json
from typing import Any

import click

from vmcorefs.commands.opening import open_images
from vmcorefs.commands.options import IMAGES_HELP, capture_options
from vmcorefs.reports.inspect import format_report, make_report


@click.command(epilog=IMAGES_HELP)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@capture_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON; numbers are bytes.")
def inspect(
    images: tuple[str, ...],
    as_json: bool,
    **options: Any,  # noqa: ANN401  # click's
) -> None:
    """Say everything that is understood of IMAGE..., without mounting."""
    with open_images(images, options) as capture:
        report = make_report(capture)
    click.echo(json.dumps(report, indent=1) if as_json else format_report(report), nl=as_json)
