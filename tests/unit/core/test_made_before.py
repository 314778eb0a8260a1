"""What is the same for all dumps of a kernel is made once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vmcorefs.core import made_before as module
from vmcorefs.core.made_before import keep, made_before

LARGE = bytes(range(256)) * 1024


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    yield
    module._keepers.clear()


def ask(*made_of: bytes, what: str = "x", made: bytes = b"made") -> bytes:
    return made_before(what, made_of, lambda: made)


def test_without_a_keeper_all_is_made_anew() -> None:
    assert ask(b"a") == b"made"
    assert ask(b"a", made=b"again") == b"again"


def test_what_was_made_of_the_same_is_not_made_again() -> None:
    first = keep({})
    assert ask(LARGE, b"a") == b"made"
    assert ask(LARGE, b"a", made=b"not asked for") == b"made"
    assert list(first.now.values()) == [b"made"]

    second = keep(first.now)
    assert ask(bytes(bytearray(LARGE)), b"a", made=b"not asked for") == b"made"
    assert not second.now


@pytest.mark.parametrize(
    ("what", "made_of"),
    [
        ("y", (LARGE, b"a", b"b")),
        ("x", (LARGE, b"ab")),
        ("x", (LARGE, b"a", b"c")),
        ("x", (LARGE, b"a")),
        ("x", (LARGE[:-1] + b"\0", b"a", b"b")),
        ("x", (b"a", LARGE, b"b")),
    ],
)
def test_what_is_made_of_anything_else_is_another(what: str, made_of: tuple[bytes, ...]) -> None:
    keep({})
    ask(LARGE, b"a", b"b")
    assert ask(*made_of, what=what, made=b"another") == b"another"


def test_what_cannot_be_made_is_not_kept() -> None:
    def fail() -> bytes:
        raise ValueError

    keeper = keep({})
    with pytest.raises(ValueError):  # noqa: PT011  # it has no words
        made_before("x", [b"a"], fail)
    assert not keeper.now
    assert ask(b"a") == b"made"
