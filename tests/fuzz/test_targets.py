"""Every target on its seeds, on what was once found, and on inputs that hypothesis makes."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest
from hypothesis import given, settings, strategies as st

from tests.fuzz.target import CORPUS
from tests.fuzz.targets import TARGETS, Target

MAX_MEMORY = 1 << 30
INTERESTING = [b"\x00", b"\xff" * 8, b"-", b"9" * 20, b"9" * 5000, b"\n", b"0x", b"=", b"@", b"["]


@pytest.fixture(autouse=True)
def _bounded_memory() -> Iterator[None]:
    """What a test adds to the most memory that this process has ever had."""
    before = _peak()
    yield
    assert _peak() - before < MAX_MEMORY


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@st.composite
def mutated(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A seed with a few bytes replaced, inserted or cut out."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.sampled_from([0, 1, 4, 8, 40]))
        data[at : at + length] = draw(st.sampled_from(INTERESTING) | st.binary(max_size=8))
    return bytes(data)


each_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())


@each_target
def test_seeds(target: Target) -> None:
    assert target.valid
    for number, data in enumerate(target.valid):
        assert target.run(data), f"valid seed {number} is refused"
    for data in target.nasty:
        target.run(data)


@each_target
def test_what_was_found_stays_mended(target: Target) -> None:
    for path in target.iter_found():
        target.run(path.read_bytes())


def test_every_directory_of_the_corpus_is_a_targets() -> None:
    assert {path.name for path in CORPUS.iterdir()} - {"README"} <= TARGETS.keys()


@each_target
@given(data=st.data())
@settings(max_examples=200)
def test_other_inputs(target: Target, data: st.DataObject) -> None:
    small = tuple(seed for seed in (*target.valid, *target.nasty) if len(seed) < 1 << 16)
    target.run(data.draw(st.binary(max_size=200) | mutated(small)))
