"""Case after case, each from its number alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.lab.capture import Recipe, cached_snapshot
from tests.mutants.base import Base, copy_base, drop_map, make_bases
from tests.mutants.cases import WAYS, Outcome, run_case
from tests.mutants.mutations import Mutant, damaged, make_mutant, seeded

RECIPES: Final = (
    Recipe(memory="1G", cpus=2, load="kexec", kernel="stable"),
    Recipe(memory="1G", cpus=2, load="none", kernel="stable"),
    Recipe(memory="1G", cpus=2, load="none", kernel="newer"),
    Recipe(arch="arm64", load="none", kernel="newer"),
)
"""Real captures: with an elfcorehdr and without, of two kernels and two architectures."""


@dataclass(frozen=True)
class Case:
    """What was damaged, how it was opened, and how that ended."""

    number: int
    way: str
    mutant: Mutant
    outcome: Outcome


@dataclass
class Tally:
    """What came out of many cases."""

    ways: Counter[str] = field(default_factory=Counter)
    opened: Counter[str] = field(default_factory=Counter)
    findings: list[Case] = field(default_factory=list)
    seconds: float = 0.0
    slowest: float = 0.0
    largest: int = 0

    def add(self, case: Case) -> None:
        """Count one."""
        outcome = case.outcome
        self.ways[case.way] += 1
        self.opened[case.way] += outcome.opened
        self.seconds += outcome.seconds
        self.slowest = max(self.slowest, outcome.seconds)
        self.largest = max(self.largest, outcome.memory)
        if outcome.finding:
            self.findings.append(case)

    @property
    def is_varied(self) -> bool:
        """Whether, in every way, some were opened and some were not."""
        return all(0 < self.opened[way] < self.ways[way] for way in WAYS)

    def format(self) -> str:
        """A line for each way, and one for all."""
        lines = [
            f"{way}: {count} cases, {self.opened[way]} opened, the others refused"
            for way, count in self.ways.items()
        ]
        whole = (
            f"{sum(self.ways.values())} cases in {self.seconds:.0f} s, the longest"
            f" {self.slowest:.1f} s, at most {self.largest >> 20} MiB more than at the start;"
            f" {len(self.findings)} findings"
        )
        return "\n".join((*lines, whole))


def open_bases(directory: Path, *, real: bool) -> list[Base]:
    """Write or copy the good captures, each into a directory of its own."""
    if not real:
        return list(make_bases(directory))
    bases = []
    for number, recipe in enumerate(RECIPES):
        snapshot = cached_snapshot(recipe)
        base = copy_base(directory / f"{number}", snapshot.directory)
        bases += [base, drop_map(base, directory / f"{number}-alone")]
    return bases


def run_cases(
    bases: Sequence[Base], directory: Path, seed: int, numbers: Iterable[int]
) -> Iterator[Case]:
    """Run the cases of these numbers.

    Args:
        bases: Captures that may be written to; each is as it was behind every case.
        directory: For mounts and outputs.
        seed: With a number, all that a case follows from.
        numbers: Which.
    """
    scratch = directory / "scratch"
    (scratch / "mnt").mkdir(parents=True, exist_ok=True)
    for number in numbers:
        rng = seeded(seed, number)
        mutant = make_mutant(rng, rng.choice(bases))
        name = rng.choices(list(WAYS), [share for _, share in WAYS.values()])[0]
        with damaged(mutant):
            outcome = run_case(WAYS[name][0], mutant, rng, scratch)
        yield Case(number, name, mutant, outcome)
