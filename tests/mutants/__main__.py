"""Damage captures and open them: ``python -m tests.mutants --cases 10000 [--real]``.

Each case follows from the seed and its number alone: ``--seed S --only N`` runs one again.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
from tqdm import tqdm

from tests.mutants.base import remove
from tests.mutants.run import Tally, open_bases, run_cases


@click.command()
@click.option("--cases", default=1000, show_default=True, help="How many captures are damaged.")
@click.option("--seed", default=1, show_default=True)
@click.option("--first", default=0, help="Number of the first case.")
@click.option("--only", type=int, help="Run this case alone, and say what it is.")
@click.option(
    "--real", is_flag=True, help="Copies of captures of tests/lab's cache, and no others."
)
@click.option("--work", metavar="DIR", help="Where the captures are copied to.")
def main(
    *, cases: int, seed: int, first: int, only: int | None, real: bool, work: str | None
) -> None:
    """Open damaged captures. Exit status: 1 if one made vmcorefs do what it must not."""
    directory = Path(tempfile.mkdtemp(prefix="vmcorefs-mutants.", dir=work))
    tally = Tally()
    try:
        bases = open_bases(directory, real=real)
        numbers = range(first, first + cases) if only is None else range(only, only + 1)
        with tqdm(total=len(numbers), disable=None) as bar:
            for case in run_cases(bases, directory, seed, numbers):
                tally.add(case)
                bar.update(1)
                if case.outcome.finding:
                    click.echo(f"case {case.number} by {case.way}: {case.mutant}")
                    click.echo(case.outcome.finding)
                elif only is not None:
                    click.echo(f"by {case.way}, {case.outcome}: {case.mutant}")
    finally:
        remove(directory)
    click.echo(tally.format())
    sys.exit(bool(tally.findings))


if __name__ == "__main__":
    main()
