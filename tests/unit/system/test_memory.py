"""How much memory a machine has left."""

from __future__ import annotations

from pathlib import Path

from vmcorefs.system.memory import available_memory


def test_what_is_available_is_read(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(
        "MemTotal:  2048 kB\nMemFree:  1 kB\nMemAvailable:    1024 kB\nBuffers: 0 kB\n"
    )

    assert available_memory(str(meminfo)) == 1 << 20


def test_a_machine_that_does_not_say(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemFree:  1 kB\n")

    assert available_memory(str(meminfo)) is None
    assert available_memory(str(tmp_path / "missing")) is None


def test_this_machine() -> None:
    available = available_memory()

    assert available is not None
    assert available > 0
