"""Long lists of a report."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vmcorefs.system.listing import Listing, iter_json, list_rows

ROWS = np.arange(100_000, dtype=np.int64).reshape(-1, 2)


def test_a_listing_is_as_the_list_of_its_elements() -> None:
    listing = Listing(ROWS)
    assert (len(listing), listing[0], listing[-1]) == (50_000, [0, 1], [99_998, 99_999])
    assert listing[:2] == [[0, 1], [2, 3]]
    assert listing == ROWS.tolist()
    assert listing != ROWS.tolist()[:-1]
    with pytest.raises(IndexError):
        _ = listing[50_000]


def test_a_short_list_is_an_ordinary_one() -> None:
    assert list_rows(ROWS[:3]) == [[0, 1], [2, 3], [4, 5]]
    assert isinstance(list_rows(ROWS[:3]), list)
    assert isinstance(list_rows(ROWS), Listing)


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, {"b": None}, [], {}], "\u00e4": "x\x7f\n", "c": {"d": [[1, 2], [3]]}},
        [],
        {},
        None,
        "text",
        [[[]]],
    ],
)
def test_json_is_as_the_library_writes_it(value: object) -> None:
    assert "".join(iter_json(value)) == json.dumps(value, indent=1)


def test_an_element_of_a_long_list_is_a_line() -> None:
    text = "".join(iter_json({"a": {"b": Listing(ROWS[:2])}, "c": Listing(ROWS[:0])}))
    assert text == '{\n "a": {\n  "b": [\n   [0,1],\n   [2,3]\n  ]\n },\n "c": []\n}'


def test_what_is_not_ascii_is_escaped_in_a_long_list_too() -> None:
    names = ["\u00e4\n", "b\x7f", "\udc80"]
    listing = Listing(np.arange(3).reshape(-1, 1), lambda rows: (names[row] for row in rows[:, 0]))
    text = "".join(iter_json(listing))
    assert text.isascii()
    assert json.loads(text) == names


def test_a_list_of_many_batches_is_whole() -> None:
    assert json.loads("".join(iter_json(Listing(ROWS)))) == ROWS.tolist()
