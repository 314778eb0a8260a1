"""What the docs promise against the tests: each promise names one that holds it."""

from __future__ import annotations

import pytest

from tests.docs.promises import BACKGROUND, ROOT, exists, footnotes, promises

DOCUMENT = """# A page

It opens every file.[^opens] It closes
every file.[^closes]

> It was not always so.

| what | how |
|---|---|
| reading | by descriptor[^opens] |

| another | how[^closes] |
|---|---|
| writing | at once |

The others:

* writing, in order.[^opens]
  At once.[^closes]

## What was seen

No promise.

[^opens]: `tests/docs/test_promises.py::test_each_promise_names_a_test`
[^closes]: in two ways,
    `tests/docs/test_docs.py::test_there_are_examples`, `::test_each_fault_of_the_table_is_one_test`
"""


@pytest.mark.parametrize("document", BACKGROUND)
def test_each_promise_names_a_test(document: str) -> None:
    found = promises((ROOT / document).read_text(), BACKGROUND[document])
    assert [
        f"{document}:{each.line}: {each.without_test}" for each in found if each.without_test
    ] == []


@pytest.mark.parametrize("document", BACKGROUND)
def test_each_test_that_a_document_names_exists(document: str) -> None:
    text = (ROOT / document).read_text()
    named = footnotes(text)
    used = {name for each in promises(text, set()) for name in each.footnotes}
    assert used == named.keys()
    assert [name for name, tests in named.items() if not tests] == []
    assert [test for tests in named.values() for test in tests if not exists(test)] == []


@pytest.mark.parametrize("document", BACKGROUND)
def test_each_heading_without_promises_is_there(document: str) -> None:
    lines = (ROOT / document).read_text().splitlines()
    headings = {line.lstrip("# ") for line in lines if line.startswith("#")}
    assert BACKGROUND[document] <= headings


def test_a_document_that_names_its_tests_is_taken() -> None:
    found = list(promises(DOCUMENT, {"What was seen"}))
    assert [each.line for each in found] == [3, 10, 14, 18]
    assert [each.footnotes for each in found] == [
        ["opens", "closes"], ["opens"], ["closes"], ["opens", "closes"]
    ]  # fmt: skip
    assert [each for each in found if each.without_test] == []
    assert footnotes(DOCUMENT)["closes"] == [
        "tests/docs/test_docs.py::test_there_are_examples",
        "tests/docs/test_docs.py::test_each_fault_of_the_table_is_one_test",
    ]


@pytest.mark.parametrize(
    ("removed", "line"),
    [
        ("every file.[^closes]", 3),
        ("| reading | by descriptor[^opens] |", 10),
        ("| another | how[^closes] |", 14),
        ("* writing, in order.[^opens]\n  At once.[^closes]", 18),
        ("At once.[^closes]", 18),
    ],
    ids=["a sentence", "a row", "a row by its head", "an item", "the end of an item"],
)
def test_a_promise_without_a_test_is_found(removed: str, line: int) -> None:
    bare = removed.replace("[^opens]", "").replace("[^closes]", "")
    changed = DOCUMENT.replace(removed, bare)
    assert changed != DOCUMENT
    found = [each for each in promises(changed, {"What was seen"}) if each.without_test]
    assert [each.line for each in found] == [line]


def test_what_stands_under_another_heading_is_a_promise() -> None:
    found = [each for each in promises(DOCUMENT, set()) if each.without_test]
    assert [each.without_test for each in found] == ["No promise"]


@pytest.mark.parametrize(
    "test",
    [
        "tests/docs/test_promises.py::test_that_nobody_wrote",
        "tests/docs/test_nothing.py::test_each_promise_names_a_test",
        "tests/docs/promises.py::exists",
        "::test_each_promise_names_a_test",
    ],
)
def test_a_test_that_is_not_there_is_found(test: str) -> None:
    assert exists("tests/docs/test_promises.py::test_each_promise_names_a_test")
    assert not exists(test)
