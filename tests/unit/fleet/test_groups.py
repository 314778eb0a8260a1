"""Which crashes are the same: examples, and syzkaller's logs against the rules of others."""

from __future__ import annotations

import random
import re
from collections.abc import Hashable, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.unit.core.oops.test_syzkaller import REPORTS, expect, split
from tests.unit.fleet import rivals
from vmcorefs.core.oops.stacks import read_calls
from vmcorefs.core.oops.title import CrashTitle, read_title
from vmcorefs.fleet.groups import FEWEST, NOTHING, SIMILAR, Crash, Stacks, group

DOCUMENT = Path(__file__).parents[3] / "docs" / "triage.md"

CALLS = ("frob_read", "frob_ioctl", "frob_open", "chrdev_open", "do_dentry_open")
NEAR = ("frob_read", "frob_ioctl", "frob_open", "chrdev_open", "do_open")
OTHER = ("sock_sendmsg", "tcp_sendmsg", "tcp_push", "ip_output")


def crash(name: str, title: str = "", calls: Sequence[str] = (), *, trusted: bool = True) -> Crash:
    return Crash(name, title, trusted and bool(title), tuple(calls))


def test_an_equal_title_is_the_same_crash_whatever_the_stack() -> None:
    one, other = group([crash("a", "BUG in frob", CALLS), crash("b", "BUG in frob", OTHER)])

    assert one.group == other.group
    assert one.why == "its title"
    assert one.stack != other.stack


def test_without_a_title_the_stack_leads_to_the_group_that_has_one() -> None:
    places = group([crash("a", "", NEAR), crash("b", "BUG in frob", CALLS), crash("c", "", OTHER)])

    assert places[0].group == places[1].group
    assert places[0].title == "BUG in frob"
    # 1 + 0.85 + 0.85**2 + 0.85**3 of that and of twice 0.85**4
    assert places[0].why == "no title: its stack is 0.75 like that of b (0.7 are needed)"
    assert places[2].title == "crash in sock_sendmsg"
    assert places[2].why == "no title: its stack is like no other"


def test_a_mangled_log_is_not_believed() -> None:
    said = [crash("a", "BUG in frob", CALLS), crash("b", "BUG in corrupted", CALLS, trusted=False)]
    places = group(said)

    assert places[1].group == places[0].group
    assert (
        places[1].why
        == f"the log is mangled: its stack is 1.00 like that of a ({SIMILAR} are needed)"
    )


def test_with_neither_there_is_a_group_of_those() -> None:
    places = group([crash("a"), crash("b", "", CALLS[: FEWEST - 1])])

    assert [place.title for place in places] == [NOTHING, NOTHING]
    assert {place.stack for place in places} == {""}


def test_groups_are_known_by_the_same_name_in_every_table() -> None:
    (alone,) = group([crash("b", "BUG in frob", CALLS)])
    among = group([crash("a", "", OTHER), crash("b", "BUG in frob", CALLS), crash("c", "x", OTHER)])

    assert among[1] == alone


def test_the_index_finds_what_comparing_with_all_finds() -> None:
    dice = random.Random(18)  # noqa: S311
    names = [f"f{n}" for n in range(60)]
    stacks: list[tuple[str, ...]] = []
    for _ in range(600):
        if stacks and dice.random() < 0.6:
            changed = list(dice.choice(stacks))
            changed[dice.randrange(len(changed))] = dice.choice(names)
        else:
            changed = dice.sample(names, dice.randint(3, 16))
        stacks.append(tuple(changed))
    index = Stacks()
    firsts: list[tuple[str, ...]] = []
    for calls in dict.fromkeys(stacks):
        found, likeness = index.place(calls)
        alike = [_likeness(calls, first) for first in firsts]
        if max(alike, default=0.0) < SIMILAR:
            assert (found, likeness) == (len(firsts), 1.0)
            firsts.append(calls)
        else:  # sums differ in their last bit by their order: of two that are as alike, either
            assert likeness == pytest.approx(max(alike)) == pytest.approx(alike[found])
    assert 100 < len(firsts) < 500


def _likeness(one: Sequence[str], other: Sequence[str]) -> float:
    """What the module's text says, over all names: shared weight by all weight."""
    weights = [{name: 0.85 ** stack.index(name) for name in stack} for stack in (one, other)]
    names = weights[0].keys() | weights[1].keys()
    pairs = [[weight.get(name, 0.0) for weight in weights] for name in names]
    return sum(map(min, pairs)) / sum(map(max, pairs))


class Log(NamedTuple):
    title: str
    found: CrashTitle


@pytest.fixture(scope="module")
def logs() -> list[Log]:
    """The logs that can be trusted: of the others nobody says which crash it was."""
    made = []
    for path in sorted(REPORTS.iterdir(), key=lambda path: int(path.name)):
        head, log = split(path.read_bytes())
        expected, found = expect(head), read_title(log)
        if expected.title and not expected.mangled and found is not None:
            made.append(Log(expected.title, found))
    return made


class Score(NamedTuple):
    """Of the pairs said to be the same, those that are; of those that are, the ones said to be."""

    precision: float
    recall: float


def score(said: Sequence[Hashable | None], titles: Sequence[str]) -> Score:
    both = either = same = 0
    for (a, x), (b, y) in combinations(zip(said, titles, strict=True), 2):
        is_said, is_same = a is not None and a == b, x == y
        both += is_said and is_same
        either += is_said
        same += is_same
    return Score(round(both / either, 2) if either else 1.0, round(both / same, 2))


def measure(logs: Sequence[Log]) -> dict[str, Score]:
    titles = [log.title for log in logs]
    lines = [log.found.lines for log in logs]
    calls = [read_calls(one) for one in lines]
    stacks = group([crash(str(n), "", one) for n, one in enumerate(calls)])
    whole = group(
        [
            crash(str(n), log.found.title, c)
            for n, (log, c) in enumerate(zip(logs, calls, strict=True))
        ]
    )
    return {
        "equal titles": score([log.found.title for log in logs], titles),
        "title, then stack": score([place.group for place in whole], titles),
        "stack alone": score([place.stack or None for place in stacks], titles),
        "stack alone, equal": score([one if len(one) >= FEWEST else None for one in calls], titles),
        "satyr's hash": score([rivals.satyr(one) for one in lines], titles),
        "faf's hash": score([rivals.faf(one) for one in lines], titles),
        "faf's clusters": score(rivals.faf_clusters(lines), titles),
    }


def test_on_syzkallers_logs(logs: list[Log]) -> None:
    table = (
        DOCUMENT.read_text()
        .partition("| rule | precision | recall[^measured] |")[2]
        .partition("\n\n")[0]
    )
    rows = re.findall(r"^\| (.*?) \| ([\d.]+) \| ([\d.]+) \|$", table, re.MULTILINE)
    told = {rule: Score(float(precision), float(recall)) for rule, precision, recall in rows}

    assert measure(logs) == told
