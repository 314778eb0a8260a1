"""Asking for what may not be there: a field gets a value, or the reason why it has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from vmcorefs.errors import VmcorefsError
from vmcorefs.reports.report.schema import Unknown

T = TypeVar("T")

ABSENT: Final[tuple[type[Exception], ...]] = (VmcorefsError,)


class Asked:
    """Collects what could not be had.

    Attributes:
        unknown: It, in the order in which it was asked for.
    """

    def __init__(self) -> None:
        self.unknown: list[Unknown] = []

    def get(
        self,
        field: str,
        question: Callable[[], T],
        absent: tuple[type[Exception], ...] = ABSENT,
    ) -> T | None:
        """The answer, or None if the question raises one of ``absent``: that is the reason."""
        try:
            return question()
        except absent as error:
            self.miss(field, str(error) or type(error).__name__)
            return None

    def miss(self, field: str, why: str) -> None:
        """Say why a field has no value."""
        self.unknown.append(Unknown(field, why))
