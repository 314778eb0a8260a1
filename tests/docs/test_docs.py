"""README, docs and examples against the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.faults.cases import CASES
from tests.faults.table import DOCUMENT as FAULTS, read_rows
from tests.fuzz.targets import TARGETS
from tests.unit.save.test_report import REPORT
from vmcorefs.cli import main
from vmcorefs.config import load_capture_file
from vmcorefs.core.elf.dump_headers import MAX_PHDRS
from vmcorefs.core.maps.iomem import MAX_REGIONS
from vmcorefs.piece import READ_TIMEOUT
from vmcorefs.reports.estimate import SAMPLES
from vmcorefs.save.formats.kdump_resume import STEP_BACK
from vmcorefs.save.report import as_dict
from vmcorefs.sources.dumps.diskdump_part import MAX_RUNS
from vmcorefs.sources.kept import KEPT_SIZE, KEY_BLOCKS
from vmcorefs.sources.remote import file as remote
from vmcorefs.sources.wrappers import xz, zstd
from vmcorefs.sources.wrappers.blocks import BLOCK
from vmcorefs.sources.wrappers.cache import LIMIT
from vmcorefs.sources.wrappers.gzip import SPACING
from vmcorefs.sources.wrappers.records import KEPT_FREE
from vmcorefs.sources.wrappers.seekable import CACHE_SIZE

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOREIGN_OPTIONS = frozenset(
    {
        "--osrelease",
        "--kernel-directory",
        "--help",
        "--seconds",
        "--corpus",
        "--now",
        "--offline",
        "--bind",
        "--memory-only",
        "--seed",
        "--cases",
        "--only",
        "--real",
        "--no-compile",
        "--no-deps",
        "--no-upgrade",
        "--require-build-hashes",
        "--nthreads",
        "--nworkers",
        "--memory-limit",
    }
)


def commands() -> dict[str, click.Command]:
    assert isinstance(main, click.Group)
    return {command.name or "": command for command in iter_commands(main)}


def iter_commands(group: click.Group) -> Iterator[click.Command]:
    with click.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield command


def iter_options(group: click.Group = main) -> Iterator[str]:
    for command in iter_commands(group):
        if isinstance(command, click.Group):
            yield from iter_options(command)
        for parameter in command.params:
            yield from (*parameter.opts, *parameter.secondary_opts)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_option_that_a_document_names_exists(document: Path) -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", document.read_text()))
    assert named - FOREIGN_OPTIONS <= set(iter_options())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_readme_names_every_command_and_every_exit_status() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in commands():
        assert f"`vmcorefs {name}" in readme, name
    assert re.search(r"Exit status: 0 done, 2 .*, 3 .*, 4 .*,\n5 .*, 6 .*, 1 a bug", readme)


def test_the_architecture_names_every_room() -> None:
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    package = ROOT / "vmcorefs"
    modules = [path for path in package.glob("*.py") if not path.name.startswith("_")]
    known = {"errors.py", "api.py", "daemon.py"}
    assert [path.name for path in modules if path.name not in known and path.name not in text] == []
    for room in (path.parent.relative_to(package) for path in package.rglob("*/__init__.py")):
        assert f"`{room}/`" in text or f"`{room.name}/`" in text, room


@pytest.mark.parametrize(
    "example", sorted((ROOT / "examples").glob("*.toml")), ids=lambda p: p.name
)
def test_every_example_is_a_capture_description(example: Path) -> None:
    assert load_capture_file(str(example)).images


def test_there_are_examples() -> None:
    assert list((ROOT / "examples").glob("*.toml"))


def test_the_table_of_faults_has_a_row_for_each_test_and_no_other() -> None:
    keys = [row.key for row in read_rows(FAULTS.read_text())]
    assert keys == [(fault, way) for fault, ways in CASES.items() for way in ways]


def test_each_fault_of_the_table_is_one_test() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests" / "faults").glob("test_*.py"))
    assert sorted(re.findall(r'^@planes\("(.*)"\)$', tests, re.MULTILINE)) == sorted(CASES)


def test_the_keys_of_saves_report_are_those_of_its_table() -> None:
    text = (ROOT / "docs" / "save.md").read_text()
    table = text.partition("`--json` prints one object:")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
    named = [key for row in rows for key in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(as_dict(REPORT))


def test_the_table_of_fuzz_targets_names_each_and_no_other() -> None:
    text = (ROOT / "docs" / "fuzzing.md").read_text()
    table = text.partition("| targets |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([\w-]+)`", row)]
    assert sorted(f"discovery{name}" if name[0] == "-" else name for name in named) == sorted(
        TARGETS
    )


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("save.md", f"The last {STEP_BACK >> 20} MiB of memory are written again"),
        ("sources.md", f"more than {MAX_RUNS >> 20} million runs"),
        ("sources.md", f"more than {MAX_REGIONS >> 20} million regions"),
        ("sources.md", f"more than {MAX_PHDRS >> 20} million program headers"),
        ("sources.md", f"a sample of {SAMPLES} of each kind"),
        ("sources.md", f"once in {SPACING >> 20} MiB of what is in it"),
        ("sources.md", f"blocks of {BLOCK >> 10} KiB"),
        ("sources.md", f"none holds more than {xz.LONGEST >> 20} MiB: `xz`"),
        ("sources.md", f"none holds more than {zstd.LONGEST >> 20} MiB: `zstd`"),
        ("sources.md", f"has {LIMIT >> 30} GiB at most"),
        ("sources.md", f"leaves {KEPT_FREE >> 30} GiB of its file system"),
        ("sources.md", f"{CACHE_SIZE >> 20} MiB of chunks"),
        ("sources.md", f"Blocks of {remote.BLOCK >> 10} KiB are asked for"),
        ("sources.md", f"up to {remote.AHEAD >> 20} MiB at once"),
        ("sources.md", f"{remote.CACHE_SIZE >> 20} MiB of them are kept"),
        ("sources.md", f"{KEY_BLOCKS * remote.BLOCK >> 10} KiB are then asked for"),
        ("sources.md", f"All that is kept there has {KEPT_SIZE >> 30} GiB at most"),
        ("security.md", f"made of {KEY_BLOCKS} blocks"),
        ("sources.md", f"as long as a read may take: {READ_TIMEOUT:g} seconds"),
    ],
)
def test_a_figure_of_the_docs_is_that_of_the_code(document: str, words: str) -> None:
    assert words in " ".join((ROOT / "docs" / document).read_text().split())
