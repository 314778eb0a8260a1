"""What is asked of a kernel is worked out once, whoever asks."""

from __future__ import annotations

import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import RLock

import pytest

import vmcorefs
from tests.builders.every_kind import dead_kernel
from tests.builders.kernels import MIB, X86_RAM, make_kernel, start_cpus
from vmcorefs.kernel import kernel as module
from vmcorefs.kernel.once import once
from vmcorefs.save.command import make_dump


class Asked:
    def __init__(self) -> None:
        self.lock = RLock()
        self.times = 0
        self.begun = threading.Event()
        self.go_on = threading.Event()

    @once
    def value(self) -> int:
        """Worked out."""
        self.times += 1
        self.begun.set()
        self.go_on.wait(60)
        return self.times

    @once
    def fails(self) -> int:
        self.times += 1
        raise ValueError


def test_two_threads_get_one_value() -> None:
    asked = Asked()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(lambda: asked.value)
        assert asked.begun.wait(60)
        second = pool.submit(lambda: asked.value)
        asked.go_on.set()
        assert (first.result(60), second.result(60)) == (1, 1)
    assert asked.times == 1


def test_what_fails_is_tried_again() -> None:
    asked = Asked()
    for _ in range(2):
        with pytest.raises(ValueError):  # noqa: PT011  # which one is not the point
            _ = asked.fails
    assert asked.times == 2


def count_calls(monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]) -> Counter[str]:
    calls: Counter[str] = Counter()

    def watch(name: str) -> None:
        function = getattr(module, name)

        def counted(*args: object, **options: object) -> object:
            calls[name] += 1
            return function(*args, **options)

        monkeypatch.setattr(module, name, counted)

    for name in names:
        watch(name)
    return calls


def test_a_capture_is_walked_and_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ram = dead_kernel().save(tmp_path / "ram")
    calls = count_calls(monkeypatch, ("find_page_tables", "read_symbols", "find_btf"))
    opened: list[str] = []
    os_open = os.open

    def watched(path: str, *args: object, **options: object) -> int:
        opened.append(str(path))
        return os_open(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", watched)
    with vmcorefs.open(ram, dump_level=31) as capture:
        for name in ("kcore", "kallsyms", "vmlinux", "gdbinit", "iomem"):
            assert capture[name].size, name
        make_dump(capture.image, [])
        assert capture.image.kernel is not None
    assert calls == {"find_page_tables": 1, "read_symbols": 1, "find_btf": 1}
    assert opened.count(str(ram)) == 1


def test_so_it_is_where_the_kernel_is_found_as_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = make_kernel(ram=X86_RAM)
    start_cpus(kernel)
    calls = count_calls(monkeypatch, ("find_page_tables", "read_symbols"))
    with vmcorefs.open(kernel.save(tmp_path / "ram")) as capture:
        assert capture["kcore"].size > MIB
        assert capture["kallsyms"].size
    assert calls == {"find_page_tables": 1, "read_symbols": 1}


def test_what_the_backup_changes_is_worked_out_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Low memory is another then: what was read of the kernel through it may be wrong.

    Its symbols are in its image, which the backup does not touch.
    """
    ram = make_kernel(ram=X86_RAM).save(tmp_path / "ram")
    (tmp_path / "low").write_bytes(bytes(X86_RAM[0][1] - X86_RAM[0][0]))
    calls = count_calls(monkeypatch, ("find_page_tables", "read_symbols"))
    with vmcorefs.open(ram, backup=tmp_path / "low") as capture:
        assert capture["kcore"].size > MIB
        assert capture["kallsyms"].size
    assert calls == {"find_page_tables": 2, "read_symbols": 1}


def test_where_the_image_is_another_nothing_of_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = make_kernel(ram=X86_RAM)
    ram = kernel.save(tmp_path / "ram")
    with ram.open("rb") as file:
        file.seek(kernel.base)
        (tmp_path / "part").write_bytes(file.read(4096))
    calls = count_calls(monkeypatch, ("find_page_tables", "read_symbols"))
    with vmcorefs.open(ram, backup=f"{tmp_path / 'part'}@{kernel.base:#x}") as capture:
        assert capture["kcore"].size > MIB
        assert capture["kallsyms"].size
    assert calls == {"find_page_tables": 2, "read_symbols": 2}
