"""``vmcorefs report``."""

from __future__ import annotations

import click

from vmcorefs.reports.crash import format_report, read_log_file, report_log
from vmcorefs.system.terminal import print_json, print_lines


@click.command()
@click.option(
    "--log",
    metavar="FILE",
    required=True,
    help="A kernel's log: of a console, of dmesg, of syslog, or a tree's dmesg.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def report(log: str, as_json: bool) -> None:
    """Show what a crash is called, so that it can be looked up and counted: the first in the log.

    That is its title, other titles of the same crash, its class, and the function to blame, as
    syzkaller's dashboard has them; and whether the log is too mangled to trust. The exit status is
    0 even if no crash is in the log.
    """
    told = report_log(read_log_file(log))
    if as_json:
        print_json(told)
    else:
        print_lines(*format_report(told))
