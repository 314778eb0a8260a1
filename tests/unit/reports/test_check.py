"""What ``vmcorefs check`` tells."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from tests.builders.dead_machines import (
    Machine,
    bare_machine,
    dead_machine,
    vmcoreinfo_note,
    vmcoreinfo_text,
)
from tests.builders.elf_dumps import save_dump
from tests.builders.kdumps import KEPT, RAM, Kdump
from tests.conftest import Opener
from vmcorefs import Capture
from vmcorefs.cli import main
from vmcorefs.core.findings import Finding, Sureness
from vmcorefs.reports.check import format_check, make_check

TEXT = vmcoreinfo_text() + b"NUMBER(phys_base)=0\nSYMBOL(swapper_pg_dir)=ffffffff82a10000\n"


def opened(open_capture: Opener, directory: Path, machine: Machine, **options: Any) -> Capture:
    saved = machine.save(directory)
    return open_capture(saved.ram, memory_map=saved.iomem, **options)


def answers(capture: Capture) -> dict[str, str]:
    return {tool["tool"]: tool["opens"] for tool in make_check(capture)["tools"]}


def test_the_kernels_layout_is_not_for_every_tool(tmp_path: Path, open_capture: Opener) -> None:
    capture = opened(open_capture, tmp_path, dead_machine(text=TEXT))
    assert answers(capture) == {
        "crash": "yes",
        "gdb": "yes, but",
        "drgn": "yes",
        "makedumpfile": "yes",
        "libkdumpfile": "yes",
        "volatility3": "yes, but",
        "MemProcFS": "no",
    }


def test_tools_run_on_the_machine_that_check_runs_on(
    tmp_path: Path, open_capture: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture = opened(open_capture, tmp_path, dead_machine(text=TEXT))
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="aarch64"))
    (crash,) = (tool for tool in make_check(capture)["tools"] if tool["tool"] == "crash")
    assert [each["rule"] for each in crash["objections"]] == ["it must be built for x86_64"]


def test_what_no_input_holds_is_an_objection_of_every_tool(
    tmp_path: Path, open_capture: Opener
) -> None:
    saved = dead_machine(text=TEXT).save(tmp_path)
    os.truncate(saved.ram, 0x2F0000)  # all but its last 64 KiB
    capture = open_capture(saved.ram, memory_map=saved.iomem, truncated=True)
    for tool in make_check(capture)["tools"]:
        assert tool["opens"] != "yes", tool["tool"]
        assert "of 1.87 MiB of RAM, 64 KiB are in no input" in tool["objections"][-1]["rule"]


def test_a_dump_whose_page_tables_are_in_a_part_that_is_not_given_opens_nowhere(
    tmp_path: Path, open_capture: Opener
) -> None:
    text = vmcoreinfo_text() + (
        b"NUMBER(phys_base)=0\nNUMBER(pgtable_l5_enabled)=0\nKERNELOFFSET=0\n"
        b"SYMBOL(swapper_pg_dir)=ffffffff80014000\n"
    )
    parts = []
    for n, span in enumerate(((0, 100), (100, 600))):
        part = Kdump(KEPT, RAM, split=span, notes=vmcoreinfo_note(text)).pack()
        parts.append(save_dump(tmp_path, part, f"part{n}"))

    def opens(given: list[Path]) -> dict[str, str]:
        return answers(open_capture(given, truncated=True))

    with_tables, without = opens(parts[:1]), opens(parts[1:])
    for tool in ("crash", "drgn", "makedumpfile", "volatility3"):
        assert without[tool] == "no", tool
    assert with_tables["crash"] == with_tables["drgn"] == "yes, but"


def test_the_universal_layout_is(tmp_path: Path, open_capture: Opener) -> None:
    capture = opened(open_capture, tmp_path, dead_machine(text=TEXT), layout="universal")
    said = answers(capture)
    assert said["volatility3"] == "yes"
    # the machine is far below LeechCore's 16 MiB, and that is all
    (memprocfs,) = (t for t in make_check(capture)["tools"] if t["tool"] == "MemProcFS")
    assert [each["rule"] for each in memprocfs["objections"] if each["fatal"]] == [
        "the file has 1.879 MiB; it opens none smaller than 16 MiB"
    ]


def test_headers_from_a_map_have_no_vmcoreinfo(tmp_path: Path, open_capture: Opener) -> None:
    said = answers(opened(open_capture, tmp_path, bare_machine()))
    assert {tool for tool, answer in said.items() if answer == "no"} >= {
        "crash",
        "drgn",
        "makedumpfile",
    }
    assert said["volatility3"] == "yes"


def test_the_report_for_machines_is_json(tmp_path: Path, open_capture: Opener) -> None:
    report = make_check(opened(open_capture, tmp_path, dead_machine(text=TEXT)))
    assert json.loads(json.dumps(report)) == report
    assert report["vmcore"] == {
        "layout": "kernel",
        # headers, notes | text | low memory | RAM on either side of the crash kernel
        "size": 0x2000 + 0x21000 + 0x9F000 + 0x100000 + 0x40000,
        "headers": "the elfcorehdr found at 0x2bc000",
        "loads": 4,
        "notes": 3,
        "release": "6.1.0-test",
    }
    (memprocfs,) = (t for t in report["tools"] if t["tool"] == "MemProcFS")
    assert set(memprocfs["objections"][0]) == {"rule", "source", "remedy", "fatal"}


@pytest.fixture
def explained(tmp_path: Path, open_capture: Opener) -> Capture:
    capture = opened(open_capture, tmp_path, dead_machine(text=TEXT))
    findings = (
        Finding(
            "VMCOREINFO",
            "at 0x120000",
            Sureness.SURE,
            ("CRASHTIME is set", "its page tables resolve"),
            ("another at 0x2c0000 lies in the crash kernel",),
        ),
        Finding("backup", "", Sureness.NONE),
    )
    capture.image = replace(capture.image, findings=findings, warnings=("something is odd",))
    return capture


def test_findings_are_json_too(explained: Capture) -> None:
    report = make_check(explained)
    assert json.loads(json.dumps(report)) == report
    assert report["findings"][0] == {
        "what": "VMCOREINFO",
        "value": "at 0x120000",
        "sure": "sure",
        "reasons": ["CRASHTIME is set", "its page tables resolve"],
        "against": ["another at 0x2c0000 lies in the crash kernel"],
    }


def test_the_report_for_people_is_a_screen(explained: Capture) -> None:
    lines = format_check(make_check(explained))
    assert lines[0] == (
        "VMCOREINFO:   at 0x120000 (sure): CRASHTIME is set; its page tables resolve"
    )
    assert lines[1] == "              against: another at 0x2c0000 lies in the crash kernel"
    assert lines[2] == "backup:       (not found)"
    assert "crash:        yes" in lines
    assert lines[-1] == "warning:      something is odd"
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100


def test_what_keeps_a_tool_from_opening_comes_first(explained: Capture) -> None:
    text = "\n".join(format_check(make_check(explained)))
    at = text.index("MemProcFS:    no: ")
    assert text.index("smaller than 16 MiB") > at
    assert text.index("PT_LOADs must be in order") < text.index("it shows physical memory")
    assert "-> --layout universal" in " ".join(text.split())


def test_the_command_ends_with_0_also_where_a_tool_will_not_open_it(tmp_path: Path) -> None:
    saved = bare_machine().save(tmp_path)
    arguments = ["check", "--map", str(saved.iomem), str(saved.ram)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0
    assert "drgn:         no: without VMCOREINFO" in done.output
    done = CliRunner().invoke(main, [*arguments, "--json"])
    assert done.exit_code == 0
    assert len(json.loads(done.output)["tools"]) == 7
