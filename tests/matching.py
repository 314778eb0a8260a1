"""Comparisons that say where and how: whole error messages, and long byte strings."""

from __future__ import annotations

import re

import pytest


def exactly(message: object) -> str:
    """A pattern for ``pytest.raises(match=...)`` that takes this text and nothing else."""
    return rf"\A{re.escape(str(message))}\Z"


def same_bytes(found: bytes | bytearray, expected: bytes | bytearray, what: str = "") -> None:
    """Compare bytes too many for pytest to show: a difference names its offset, and its origin.

    In memory that was stamped (``tests.builders``) the bytes shown are the address they belong to.
    """
    if found == expected:
        return
    length = min(len(found), len(expected))
    at = next((n for n in range(length) if found[n] != expected[n]), length)
    word = at & ~7
    pytest.fail(
        f"{what}: {len(found)} bytes, expected {len(expected)}; they differ first at {at:#x}, in"
        f" {found[word : word + 8][::-1].hex()}, expected {expected[word : word + 8][::-1].hex()}"
    )
