"""Run targets under atheris, guided by coverage: ``python -m tests.fuzz TARGET... [--seconds N]``.

Each target runs in a process of its own, from its seeds and what was found before. A finding is
kept as a file; copy it into ``tests/fuzz/corpus/TARGET/`` and mend the parser: pytest then runs it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

WORKER = "tests.fuzz.worker"


@dataclass(frozen=True)
class Outcome:
    """What libFuzzer says at its end."""

    executions: int
    seconds: int
    covered: int
    peak_mib: int
    ok: bool
    said: str


def run_target(name: str, seconds: int, corpus: Path, findings: Path) -> Outcome:
    """Fuzz one target.

    Args:
        name: Of the target.
        seconds: How long.
        corpus: A directory for inputs that reached something new.
        findings: A directory for inputs that failed.
    """
    corpus.mkdir(parents=True, exist_ok=True)
    findings.mkdir(parents=True, exist_ok=True)
    # rss: a parser's own gigabyte, and what Python and numpy and the instrumentation take
    limits = [f"-max_total_time={seconds}", "-timeout=60", "-rss_limit_mb=2048"]
    done = subprocess.run(
        [sys.executable, "-m", WORKER, name, *limits, "-max_len=65536", "-print_final_stats=1",
         f"-artifact_prefix={findings}/{name}-", str(corpus)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
        errors="backslashreplace", check=False,
    )  # fmt: skip
    counted = re.search(r"Done (\d+) runs in (\d+) second", done.stdout)
    stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", done.stdout))
    coverage = re.findall(r"\bcov: (\d+)", done.stdout)
    return Outcome(
        executions=int(counted[1] if counted else stats.get("number_of_executed_units", 0)),
        seconds=int(counted[2]) if counted else 0,
        covered=int(coverage[-1]) if coverage else 0,
        peak_mib=int(stats.get("peak_rss_mb", 0)),
        ok=done.returncode == 0,
        said=done.stdout,
    )


@click.command()
@click.argument("targets", nargs=-1)
@click.option("--seconds", default=60, show_default=True, help="How long each target runs.")
@click.option("--corpus", metavar="DIR", help="Keep inputs that reach something new.")
@click.option("--findings", metavar="DIR", default="fuzz-findings", show_default=True)
def main(targets: Sequence[str], seconds: int, corpus: str | None, findings: str) -> None:
    """Run TARGETS, all of them by default. Exit status: 1 if something was found."""
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415  # slow, and --help needs none of it

    unknown = set(targets) - TARGETS.keys()
    if unknown:
        raise click.UsageError(f"no target {', '.join(sorted(unknown))}: {', '.join(TARGETS)}")
    failed = False
    click.echo(
        f"{'target':20} {'executions':>10} {'seconds':>7} {'covered':>7} {'MiB':>5}  finding"
    )
    with tempfile.TemporaryDirectory(prefix="vmcorefs-fuzz.") as scratch:
        for name in targets or TARGETS:
            found = run_target(name, seconds, Path(corpus or scratch, name), Path(findings))
            click.echo(
                f"{name:20} {found.executions:10} {found.seconds:7} {found.covered:7}"
                f" {found.peak_mib:5}  {'none' if found.ok else 'see below'}"
            )
            if not found.ok:
                click.echo("\n".join(found.said.splitlines()[-60:]))
                failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
