"""What is taken out of titles, so that they are alike."""

from __future__ import annotations

import pytest

from vmcorefs.core.oops.wording import MAX_TITLE, unify


@pytest.mark.parametrize(
    ("title", "unified"),
    [
        ("frob at ffff888012345678", "frob at ADDR"),
        ("frob at 0xffff888012345678", "frob at ADDR"),
        ("frob at drivers/frob.c:123", "frob at drivers/frob.c:LINE"),
        ("frob at drivers/frob.rs:123:45", "frob at drivers/frob.rs:LINE"),
        ("in frob_open+0x12/0x34", "in frob_open"),
        ("frob on CPU#3", "frob on CPU"),
        ("frob 1,2,3 of 4", "frob NUM,NUM,NUM of NUM"),
        ("peer 10.1.2.3", "peer IP"),
        ("cfg80211_frob nl802154_x", "cfg80211_frob nl802154_x"),
        ("syz-executor.3/1234 frob", "syz-executor frob"),
        ("a\t b  c \x1b[31m\u202ed", "a b c [31md"),
        ("  frob  ", "frob"),
        ("x " * 200, ("x " * 200)[:MAX_TITLE].strip()),
        # what is replaced may be longer than a title
        ("BUG: " + "0123456789abcdef" * 30 + " frob", "BUG: ADDR frob"),
        ("\xff" * 200 + " frob", "frob"),
        ("", ""),
    ],
)
def test_unify(title: str, unified: str) -> None:
    assert unify(title) == unified
