"""What the command says of a wrong name, and how Ctrl-C ends it."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from vmcorefs.cli import main
from vmcorefs.core.space.units import PAGE_SIZE
from vmcorefs.errors import StoppedError


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("moutn", "Error: no such command: 'moutn'; did you mean 'mount'?\n"),
        ("umont", "Error: no such command: 'umont'; did you mean 'umount'?\n"),
        ("frobnicate", "Error: no such command: 'frobnicate'\n"),
        ("\x1b[1m", "Error: no such command: '\\x1b[1m'\n"),
    ],
)
def test_a_wrong_name_is_told_with_the_one_that_is_like_it(name: str, said: str) -> None:
    done = CliRunner().invoke(main, [name])
    assert done.exit_code == 2
    assert done.output.endswith(said)


def test_unmount_is_umount() -> None:
    assert "Unmount the tree" in CliRunner().invoke(main, ["unmount", "--help"]).output


@pytest.mark.parametrize(
    ("module", "function", "error", "status", "said"),
    [
        ("inspect", "make_report", KeyboardInterrupt(), 130, "vmcorefs: interrupted\n"),
        ("inspect", "make_report", StoppedError("a", is_interrupt=True), 130, "vmcorefs: a\n"),
        ("inspect", "make_report", StoppedError("a"), 6, "vmcorefs: a\n"),
        ("extract", "extract_file", KeyboardInterrupt(), 130, "vmcorefs: interrupted\n"),
        (
            "extract",
            "extract_file",
            KeyboardInterrupt(),
            130,
            "vmcorefs: out: interrupted; the same command goes on with out.incomplete\n",
        ),
    ],
)
def test_ctrl_c_ends_it_with_130_and_a_line(
    module: str,
    function: str,
    error: BaseException,
    status: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ram").write_bytes(bytes(PAGE_SIZE))
    Path("map").write_text(f"0-{PAGE_SIZE - 1:x} : System RAM\n")

    def stop(*_: object, **__: object) -> None:
        if "goes on" in said:
            Path("out.incomplete").touch()
        raise error

    command = importlib.import_module(f"vmcorefs.commands.{module}")
    monkeypatch.setattr(command, function, stop)
    what = ["extract", "oldmem", "-o", "out"] if module == "extract" else [module]
    done = CliRunner().invoke(main, [*what, "--map", "map", "ram"])
    assert (done.exit_code, done.output.splitlines(keepends=True)[-1]) == (status, said)
