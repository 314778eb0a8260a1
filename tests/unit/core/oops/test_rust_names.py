"""Symbols of Rust functions, as in RFC 2603 and in real kernels."""

from __future__ import annotations

import pytest

from vmcorefs.core.oops.rust_names import demangle


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("_RNvC4frob4open", "frob::open"),
        ("_RNvNtC4frob4node4open", "frob::node::open"),
        ("_RNvCs1234_7mycrate3foo", "mycrate::foo"),
        ("_RNvCscSpY9Juk0HT_7___rustc17rust_begin_unwind", "__rustc::rust_begin_unwind"),
        ("_RNCNvC4frob4open0B3_", "frob::open::{closure#0}"),
        ("_RNCNvC4frob4opens_0B3_", "frob::open::{closure#1}"),
        ("_RNvMNtC4frob4nodeNtB2_4Node4take", "<frob::node::Node>::take"),
        ("_RNvMC4frobSh4take", "<[u8]>::take"),
        ("_RNvMC4frobRNtB2_4Node4take", "<&frob::Node>::take"),
        ("_RNvMC4frobTlhE4take", "<(i32, u8)>::take"),
        ("_RNvXC4frobNtB2_4NodeNtC4core4Drop4drop", "<frob::Node as core::Drop>::drop"),
        ("_RNvYNtC4frob4NodeNtC4core4Drop4drop", "<frob::Node as core::Drop>::drop"),
        ("_RINvC4frob4openlE", "frob::open<i32>"),
        ("_RINvC4frob4openL_lE", "frob::open<'_, i32>"),
    ],
)
def test_a_name(symbol: str, name: str) -> None:
    assert demangle(symbol) == name


@pytest.mark.parametrize(
    "symbol",
    [
        "frob_open",
        "_R",
        "_RNv",
        "_RNvC4fro",
        "_RNvC4frobu8gdel_5qa",  # punycode
        "_RNvC99999frob",
        "_RB_",  # leads to itself
        "_RNvB_3foo",
        "_RINvC4frob4openKj0_E",  # a constant
        "_R" + "Nv" * 100 + "C4frob",
        "_RNvC" + "4" * 2000,
    ],
)
def test_what_is_not_known_stays(symbol: str) -> None:
    assert demangle(symbol) == symbol


def test_names_that_would_double_and_double_again_stay() -> None:
    # each tuple has the one before it twice
    pairs = "NvC1a1b"
    nested = "TNtB2_1cNtB2_1cE"
    for _ in range(20):
        at = len(f"I{pairs}")
        nested = f"T{nested}B{at:d}_E"
    symbol = f"_RI{pairs}{nested}E"
    assert demangle(symbol) == symbol
