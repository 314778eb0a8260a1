"""Commands are imported when they are asked for: start-up is short, and takes what it needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

_SCRIPT = """
import sys
from vmcorefs.cli import main
main(sys.argv[1:], standalone_mode=False)
print("\\n".join(sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("words", "absent"),
    [
        (["--help"], {"vmcorefs.commands", "vmcorefs.capture", "tqdm", "pyfuse3"}),
        (["umount", "--help"], {"vmcorefs.commands.opening", "vmcorefs.capture", "tqdm"}),
        (["inspect", "--help"], {"vmcorefs.save", "vmcorefs.capture", "pyfuse3", "trio", "tqdm"}),
        (
            ["mount", "--help"],
            {"vmcorefs.save", "vmcorefs.capture", "vmcorefs.reports.estimate", "tqdm"},
        ),
        (
            ["save", "--help"],
            {
                "vmcorefs.capture",
                "vmcorefs.reports.estimate",
                "vmcorefs.reports.report",
                "vmcorefs.core.oops",
                "vmcorefs.sources.wrappers.archives",
                "tarfile",
                "pyfuse3",
                "tqdm",
            },
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_command_does_not_import_what_others_need(words: list[str], absent: set[str]) -> None:
    command = [sys.executable, "-c", _SCRIPT, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert absent & set(done.stderr.split()) == set()
