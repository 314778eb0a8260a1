"""The lab's own parts, without a guest: what is kept, what is removed, what a console means."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

import pytest

from tests.lab import cache, console, host
from tests.lab.build import Recipe
from tests.lab.host import LabError, building, locked, program, sweep
from tests.lab.qemu import GIB, MIB, Piece, memory_pieces

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _captures(count: int) -> list[Path]:
    """Make directories that look like captures, the oldest first."""
    made = []
    for age in range(count):
        directory = host.cache_root() / "captures" / f"capture-{age}"
        directory.mkdir(parents=True)
        os.utime(directory, (age, age))
        made.append(directory)
    return made


def test_the_captures_used_last_are_kept() -> None:
    made = _captures(cache.KEEP + 2)
    cache._prune(made[0].parent)
    assert [path.exists() for path in made] == [False] * 2 + [True] * cache.KEEP


def test_a_capture_in_use_is_kept_however_old() -> None:
    made = _captures(cache.KEEP + 2)
    descriptor = host.open_directory(made[0])
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    cache._prune(made[0].parent)
    os.close(descriptor)
    assert made[0].exists()
    assert not made[1].exists()


def test_a_claim_follows_the_directory() -> None:
    (directory,) = _captures(1)
    assert cache._claim(directory)
    assert cache._claim(directory)
    directory.rename(directory.with_name("away"))
    directory.mkdir()
    assert not cache._claim(directory)
    assert cache._claim(directory)


def test_a_half_made_directory_never_appears(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with pytest.raises(FileNotFoundError), building(out) as partial:
        (partial / "ram" / "half").touch()
    assert list(out.parent.iterdir()) == []


def test_what_a_dead_builder_left_is_swept_but_a_living_ones_is_not(tmp_path: Path) -> None:
    (tmp_path / ".out.dead.partial").mkdir()
    with building(tmp_path / "out") as partial:
        assert list(tmp_path.iterdir()) == [partial]
        sweep(tmp_path)
        assert partial.exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_a_directory_with_something_in_it_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("")
    with pytest.raises(LabError, match="not an empty directory"), building(tmp_path):
        pytest.fail("built over what was there")


def test_a_lock_leaves_its_file() -> None:
    with locked("guest"):
        assert (host.cache_root() / "guest.lock").exists()


def test_a_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_SYSTEM_DIRECTORIES", ())
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(LabError, match="install Debian's busybox-static"):
        program("busybox")


@pytest.mark.parametrize(
    ("memory", "pieces"),
    [
        (2815 * MIB, (Piece(0, 0, 2815 * MIB),)),
        (2816 * MIB, (Piece(0, 0, 2 * GIB), Piece(4 * GIB, 2 * GIB, 768 * MIB))),
        (5 * GIB, (Piece(0, 0, 2 * GIB), Piece(4 * GIB, 2 * GIB, 3 * GIB))),
    ],
)
def test_memory_above_the_split_lies_from_4_gib_on(memory: int, pieces: tuple[Piece, ...]) -> None:
    assert memory_pieces(memory) == pieces


def test_a_console_is_cut_at_its_markers() -> None:
    text = console.clean(b"BEGIN a\r\none\r\nEND a\r\nLAB-VMCORE 12\r\nBEGIN b\r\ntwo\r\nLAB-DO")
    assert console.sections(text) == {"a": "one\n"}
    assert console.event(text, "VMCORE") == "12"
    assert console.event(text, "DO") is None


@pytest.mark.parametrize("memory", ["", "1T", "0G", "1.5G", "-1G"])
def test_a_recipe_wants_a_size(memory: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        Recipe(memory=memory)
