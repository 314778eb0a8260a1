"""A fleet of variants, some without a title, and poisoned dumps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from typing import Final

from tests.fleet.variants import TITLE, Original, Variant

START: Final = 1_790_000_000
_DAY: Final = 86_400


def reasons() -> Iterator[str]:
    """As many reasons of panics as are asked for, none of which reads like another."""
    for letters in product(ascii_lowercase, repeat=4):
        yield f"frob_{''.join(letters)} went astray"[: len(TITLE)]


def variants(count: int, crashes: int, start: int = 0) -> Iterator[Variant]:
    """Variants ``start`` and on: as many crashes in turn, and each tenth without a title."""
    names = [reason for reason, _ in zip(reasons(), range(crashes), strict=False)]
    for n in range(start, start + count):
        yield Variant(
            name=f"vmcore.{n:05}",
            host=f"web-{n % 97:02}",
            time=START + n * _DAY // 4,
            reason=names[n % crashes],
            build="789"[n % 3],
            has_title=n % 10 != 9,
        )


def title_of(variant: Variant) -> str:
    return f"kernel panic: {variant.reason}"


def poison(original: Original, directory: Path) -> dict[str, str]:
    """Write dumps that are none, by name with the outcome of each."""
    data = original.data
    (directory / "cut").write_bytes(data[: len(data) // 2])
    (directory / "cut-in-headers").write_bytes(data[:100])
    (directory / "noise").write_bytes(bytes(range(256)) * 4096)
    (directory / "empty").write_bytes(b"")
    (directory / "headers-alone").write_bytes(data[: 1 << 16] + bytes(1 << 16))
    (directory / "endless").touch()
    os.truncate(directory / "endless", 1 << 42)
    return {
        "cut": "partial",
        "cut-in-headers": "failed",
        "noise": "failed",
        "empty": "failed",
        "headers-alone": "failed",
        "endless": "failed",
    }
