"""A fleet of variants, some without a title, and poisoned dumps."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from random import Random
from string import ascii_lowercase
from typing import Final

from tests.builders.many import make_elf
from tests.fleet.variants import PAGE, TITLE, Original, Variant

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


def more_poison(original: Original, directory: Path, seconds: float) -> dict[str, set[str]]:
    """Write fourteen more, by name with the outcomes that each may have.

    Args:
        original: Some are it, with damage.
        directory: Where to.
        seconds: That a dump may take: one takes more.
    """
    data = original.data
    (directory / "cut-at-the-end").write_bytes(data[:-PAGE])
    (directory / "cut-early").write_bytes(data[: len(data) // 50])
    make_elf(directory, 1_000_000)[0].rename(directory / "huge")
    # a member of gzip after another, each of 16 MiB of zeros: to find its end takes for ever
    member = gzip.compress(bytes(1 << 24))
    (directory / "endless.gz").write_bytes(member * int(64 * seconds))
    (directory / "cut.gz").write_bytes(gzip.compress(data, 1)[: len(data) // 8])
    (directory / "text").write_bytes(b"Kernel panic - not syncing: this is a text\n" * 1000)
    for number in range(8):
        (directory / f"damaged-{number}").write_bytes(_damage(data, number))
    read = {"ok", "partial", "failed"}
    return {
        "cut-at-the-end": {"partial"},
        "cut-early": read,
        "huge": {"memory", "failed", "timeout"},
        "endless.gz": {"timeout"},
        "cut.gz": {"partial", "failed"},
        "text": {"failed"},
        **{f"damaged-{number}": read | {"timeout", "memory", "killed"} for number in range(8)},
    }


def _damage(data: bytes, number: int) -> bytes:
    """Turn words of a dump into others of it: each tenth page, at first, and ever more of them."""
    random = Random(number)  # noqa: S311
    made = bytearray(data)
    for page in range(200, len(data) // PAGE):
        if random.random() * 10 < 1 + number:
            at, other = (8 * random.randrange(PAGE // 8) for _ in range(2))
            where = random.randrange(200, len(data) // PAGE)
            place = page * PAGE + at
            made[place : place + 8] = data[where * PAGE + other : where * PAGE + other + 8]
    return bytes(made)
