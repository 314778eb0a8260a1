"""``vmcorefs triage``."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Final

import click

from vmcorefs.core.space.units import parse_size
from vmcorefs.errors import UnsupportedError
from vmcorefs.system.bars import progress_bar, without_bars
from vmcorefs.system.logfile import LineFormatter, LogFile
from vmcorefs.system.terminal import print_lines

_NEEDED: Final = ("dask", "distributed", "pyarrow")


@click.command()
@click.argument("places", nargs=-1, required=True, metavar="DIR|URL...")
@click.option("-o", "--output", required=True, metavar="OUT", help="Directory of the table.")
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="PATTERN",
    help="Open files of this name, as a shell's pattern (default: all but texts and sums that lie"
    " beside dumps). May be given more than once.",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="A scheduler of Dask, such as tcp://HOST:8786, whose workers have vmcorefs (default:"
    " processes of this machine).",
)
@click.option(
    "--processes", type=click.IntRange(1), metavar="N", help="How many (default: one a CPU)."
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=300.0,
    metavar="SECONDS",
    help="Time that a dump may take (default: 300).",
)
@click.option(
    "--memory",
    default="2G",
    metavar="SIZE",
    help="Address space that a dump may take (default: 2G).",
)
@click.option("--again", is_flag=True, help="Open the dumps once more that could not be read.")
@click.option("--log", metavar="FILE", help="Also write the log to FILE.")
def triage(
    places: tuple[str, ...],
    output: str,
    names: tuple[str, ...],
    scheduler: str | None,
    processes: int | None,
    timeout: float,
    memory: str,
    again: bool,
    log: str | None,
) -> None:
    """Say of many dumps which crashes are the same.

    Each dump in the directories DIR, or in a store that fsspec knows, becomes a row of
    OUT/dumps.parquet, with what `vmcorefs report` says of it. OUT/index.html shows groups of equal
    crashes. A dump that cannot be opened, or takes too much, costs its row, which says why.

    The same command again opens what is new, or was left. It ends with 0 whatever the rows say.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise UnsupportedError(
            f"{', '.join(missing)}: not installed: pip install 'vmcorefs[fleet]'"
        )
    # here: Dask and pyarrow are large, and no other command needs them
    from vmcorefs.fleet.one import Limits  # noqa: PLC0415
    from vmcorefs.fleet.triage import Order, triage as bring_up_to_date  # noqa: PLC0415

    order = Order(
        places=places,
        output=output,
        limits=Limits(timeout, parse_size(memory)),
        names=names or ("*",),
        scheduler=scheduler,
        processes=processes,
        again=again,
    )
    logger = _make_log(log)
    with progress_bar("dumps", "dump", at_once=True) as progress:
        done = bring_up_to_date(order, progress, logger.warning)
    print_lines(
        f"{done.found} dumps, {done.opened} opened now, {done.failed} of them not or not wholly"
        f" read; {done.rows} rows in {done.groups} groups: {output}/index.html"
    )


def _make_log(path: str | None) -> logging.Logger:
    """The log of what was not read: on standard error, and in a file if there is one."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with without_bars():
                print_lines(f"vmcorefs: {record.getMessage()}", err=True)

    logger = logging.getLogger("vmcorefs.fleet")
    logger.handlers = [Lines()]
    logger.propagate = False
    if path is not None:
        file = LogFile(path)
        file.setFormatter(LineFormatter("%(asctime)s %(message)s"))
        logger.addHandler(file)
    return logger
