"""``vmcorefs inspect``."""

from __future__ import annotations

import gc

import click

from vmcorefs.commands.opening import IMAGES_HELP, capture_options, open_capture
from vmcorefs.config import CaptureConfig
from vmcorefs.reports.inspect import format_report, make_report
from vmcorefs.system.memory import keep_heap_small
from vmcorefs.system.terminal import print_json, print_lines


@click.command(epilog=IMAGES_HELP)
@capture_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON; numbers are bytes.")
def inspect(config: CaptureConfig, verify: str | None, as_json: bool) -> None:
    """Show everything that is known of IMAGE..., without mounting."""
    keep_heap_small()
    gc.disable()  # it would go through a million lists, in no cycle, again and again
    with open_capture(config, verify) as capture:
        report = make_report(capture)
    if as_json:
        print_json(report)
    else:
        print_lines(*format_report(report))
