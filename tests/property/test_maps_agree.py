"""The same ranges give the same vmcore, whatever kind of map they come from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

import vmcorefs
from tests.builders import maps
from tests.builders.dead_machines import load_phdr, pack_elf, stamped
from tests.builders.maps import RAM, RESERVED, Row
from tests.matching import same_bytes
from tests.oracles.vmcore import write_vmcore

MIB = 1 << 20
END = 4 * MIB
LOW = (0x1000, 0x9FC00)
CRASH_KERNEL = (2 * MIB, 3 * MIB)
MEMORY = stamped(0, END)


@st.composite
def machines(draw: st.DrawFn) -> list[Row]:
    """Rows of RAM with gaps and reserved rows between them; the crash kernel is in one of them."""
    edges = draw(st.sets(st.integers(MIB + 1, 2 * MIB - 1), max_size=8))
    rows: list[Row] = [(*LOW, RAM)]
    for start, end in zip(sorted(edges)[::2], sorted(edges)[1::2], strict=False):
        rows.append((start, end, draw(st.sampled_from([RAM, RESERVED]))))
    rows.append((2 * MIB, draw(st.integers(3 * MIB, END)), RAM))
    return rows


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("maps")
    (made / "ram").write_bytes(MEMORY)
    (made / "lowmem").write_bytes(bytes(LOW[1] - LOW[0]))
    return made


def _maps(rows: list[Row], directory: Path) -> Iterator[tuple[Path, bool]]:
    """A file of each kind of map, and whether it says where the crash kernel was."""
    crash = [CRASH_KERNEL]
    texts = {
        "iomem": maps.iomem_text(rows, crash),
        "iomem without crash kernel": maps.iomem_text(rows),
        "rows": maps.memmap_rows(rows),
        "grep": maps.memmap_grep(rows),
        "e820": maps.e820_text(rows, crash_kernel=crash),
        "e820 old": maps.e820_text(rows, "old", crash_kernel=crash, stamp=False),
        "e820 new": maps.e820_text(rows, "new", crash_kernel=crash),
    }
    for name, text in texts.items():
        (directory / name).write_text(text)
        yield directory / name, "e820" in name or name == "iomem"
    shutil.rmtree(directory / "sysfs", ignore_errors=True)
    yield maps.write_memmap_directory(rows, directory / "sysfs"), False
    (directory / "elfcorehdr").write_bytes(_elfcorehdr(rows))
    yield directory / "elfcorehdr", True


def _elfcorehdr(rows: list[Row]) -> bytes:
    """Headers with no notes and no virtual addresses: all that a map can tell."""
    spans: list[tuple[int, int]] = []
    for start, end, name in rows:
        if name == RAM:
            joins = spans and spans[-1][1] == start
            spans[-1:] = [(spans[-1][0], end)] if joins else [*spans[-1:], (start, end)]
    last = spans.pop()
    spans += [(a, b) for a, b in ((last[0], CRASH_KERNEL[0]), (CRASH_KERNEL[1], last[1])) if a < b]
    return pack_elf([load_phdr(*span) for span in spans])


@given(rows=machines())
def test_every_kind_of_map_gives_the_vmcore_of_the_reference_writer(
    directory: Path, rows: list[Row]
) -> None:
    memory = bytearray(MEMORY)
    memory[slice(*LOW)] = bytes(LOW[1] - LOW[0])
    reference = write_vmcore(memory, _elfcorehdr(rows))
    for path, knows_crash_kernel in _maps(rows, directory):
        with ExitStack() as stack:
            capture = stack.enter_context(
                vmcorefs.open(
                    directory / "ram",
                    memory_map=path,
                    backup=f"{directory / 'lowmem'}@{LOW[0]:#x}",
                    crash_kernel=None if knows_crash_kernel else [CRASH_KERNEL],
                )
            )
            vmcore = capture["vmcore"]
            same_bytes(vmcore.pread(vmcore.size, 0), reference, path.name)
