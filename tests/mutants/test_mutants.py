"""A bounded part of what ``python -m tests.mutants`` does, with a seed that never changes."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.mutants.accounting import Judge, Read, UnaccountedError
from tests.mutants.base import remove
from tests.mutants.cases import by_library, run_case
from tests.mutants.mutations import Mutant, damaged, make_mutant, seeded
from tests.mutants.run import Tally, open_bases, run_cases

SEED = 3
SECONDS = 30.0


@pytest.mark.mount
@pytest.mark.timeout(240)
def test_whatever_is_damaged_it_ends_with_a_result_or_an_error_of_its_own(tmp_path: Path) -> None:
    bases = open_bases(tmp_path, real=False)
    tally = Tally()
    ends = time.monotonic() + SECONDS
    for case in run_cases(bases, tmp_path, SEED, range(2000)):
        assert not case.outcome.finding, f"case {case.number}: {case.mutant}\n{case.outcome}"
        tally.add(case)
        if time.monotonic() > ends and tally.is_varied:
            break
    remove(tmp_path)
    # it must not be that all are refused, or that nothing is damaged
    assert tally.is_varied, tally.format()


@pytest.mark.real
@pytest.mark.mount
@pytest.mark.timeout(2400)
def test_damaged_real_captures(tmp_path: Path) -> None:
    bases = open_bases(tmp_path, real=True)
    for case in run_cases(bases, tmp_path, SEED, range(12)):
        assert not case.outcome.finding, f"case {case.number}: {case.mutant}\n{case.outcome}"
    remove(tmp_path)


def test_a_case_is_the_same_again_and_its_damage_is_undone(tmp_path: Path) -> None:
    for base in open_bases(tmp_path, real=False):
        before = {path: path.read_bytes() for path in base.directory.iterdir() if _small(path)}
        for number in range(40):
            first = make_mutant(seeded(SEED, number), base)
            assert make_mutant(seeded(SEED, number), base) == first
            with damaged(first):
                pass
        assert {path: path.read_bytes() for path in before} == before
    remove(tmp_path)


def _small(path: Path) -> bool:
    return path.stat().st_size <= 80 << 20


@pytest.mark.parametrize("failing", ["raises", "exits", "spins", "prints"])
def test_a_case_that_goes_wrong_is_found(tmp_path: Path, failing: str) -> None:
    def way(_mutant: Mutant, _rng: random.Random, _scratch: Path) -> bool:
        if failing == "raises":
            raise KeyError("seven")
        if failing == "exits":
            raise SystemExit(1)
        if failing == "prints":
            print("Traceback (most recent call last)")  # noqa: T201
        import resource  # noqa: PLC0415

        while failing == "spins":
            resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
        return True

    (tmp_path / "mnt").mkdir()
    bases = open_bases(tmp_path, real=False)
    outcome = run_case(way, make_mutant(seeded(1, 1), bases[0]), seeded(1, 1), tmp_path)
    expected = {"raises": "KeyError", "exits": "SystemExit", "spins": "SIG", "prints": "Traceback"}
    assert expected[failing] in outcome.finding
    good = run_case(by_library, Mutant(bases[0], (), ()), seeded(1, 1), tmp_path)
    assert (good.opened, good.finding) == (True, "")
    remove(tmp_path)


# --- the judge -----------------------------------------------------------------------------------

EXTENTS: list[dict[str, Any]] = [
    {"offset": 0, "size": 100, "kind": "data", "from": "image", "source_offset": 50},
    {"offset": 100, "size": 50, "kind": "zero"},
    {"offset": 150, "size": 20, "kind": "hole"},
    {"offset": 170, "size": 30, "kind": "missing"},
]
BYTES = bytes(range(50, 150)) + bytes(70)


def judge(
    directory: Path, read: Read, extents: list[dict[str, Any]], size: int = 200, holes: str = "zero"
) -> None:
    image = directory / "ram"
    image.write_bytes(bytes(range(256)))
    placed = [{"source": str(image), **extent} for extent in extents]
    layout = json.dumps({"files": {"f": {"size": size, "extents": placed}}}).encode()
    Judge(read, directory, holes, 1, seeded(0, 0)).judge(layout, {"f": size, "layout.json": 1})


def truly(_: str, size: int, offset: int) -> bytes | None:
    return None if offset + size > 170 else BYTES[offset : offset + size]


def test_the_judge_takes_what_is_right(tmp_path: Path) -> None:
    judge(tmp_path, truly, EXTENTS)


@pytest.mark.parametrize(
    ("at", "wrong"),
    [(7, b"\0"), (99, b"\1"), (149, b"\1"), (160, b"\1")],
    ids=["data", "the last byte of data", "a zero", "a hole"],
)
def test_the_judge_finds_a_byte_that_is_wrong(tmp_path: Path, at: int, wrong: bytes) -> None:
    changed = BYTES[:at] + wrong + BYTES[at + 1 :]

    def read(_: str, size: int, offset: int) -> bytes | None:
        return None if offset + size > 170 else changed[offset : offset + size]

    with pytest.raises(UnaccountedError, match=r"^f \["):
        judge(tmp_path, read, EXTENTS)


def test_the_judge_finds_zeros_for_what_is_missing_and_errors_for_what_is_not(
    tmp_path: Path,
) -> None:
    with pytest.raises(UnaccountedError, match="expected an error"):
        judge(tmp_path, lambda _, size, offset: (BYTES + bytes(30))[offset:][:size], EXTENTS)
    with pytest.raises(UnaccountedError, match="expected an error"):
        judge(tmp_path, truly, EXTENTS, holes="error")
    with pytest.raises(UnaccountedError, match="an error, expected bytes"):
        judge(tmp_path, lambda *_: None, EXTENTS)


@pytest.mark.parametrize(
    "extents",
    [EXTENTS[:-1], EXTENTS[1:], [EXTENTS[0], *EXTENTS], [{**EXTENTS[0], "kind": "x"}], []],
    ids=["a gap at the end", "a gap at the start", "an overlap", "no such kind", "nothing"],
)
def test_the_judge_finds_an_extent_too_few_or_too_many(
    tmp_path: Path, extents: list[dict[str, Any]]
) -> None:
    with pytest.raises(UnaccountedError):
        judge(tmp_path, truly, extents)


def test_the_judge_takes_no_bytes_of_a_file_that_is_no_input(tmp_path: Path) -> None:
    foreign = [{**EXTENTS[0], "source": "/etc/passwd"}]
    with pytest.raises(UnaccountedError, match="no input of the capture"):
        judge(tmp_path, truly, foreign, size=100)
