"""What tools say with two files of symbols, the tree's and the debug package's: the same."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

from tests.real import tools

_HERE: Final = Path(__file__).parent

# which file it is, and where crash's own code was when a command of its own failed
_APART: Final = re.compile(r" *KERNEL: .*|.* error trace: .*|")

# the linker gives it no length, and gdb names no pointer after it; kallsyms has no lengths
_WITHOUT_LENGTH: Final = " <init_stack>"

# what gcc calls a function that it has made of another
_CLONE: Final = re.compile(r"(\.(cold|constprop|isra|part)(\.\d+)?)+$")

# which file it is; which of the names of an address; whether an array has no elements, or no number
# of them; a typedef that was there until 6.3
_NOT_TOLD: Final = re.compile(
    r"KERNEL: .*?\\n|\w+\+0x0 = (?=0x)|(?<=\[)0(?=\])|pg_data_t|struct pglist_data"
)
"""In drgn's answers, where BTF and the symbols do not say what DWARF does."""


def check_crash(ours: Path, theirs: Path, dump: Path, *commands: str) -> list[str]:
    """Compare crash's answers line by line.

    Returns:
        The lines.
    """
    said, other = (
        [
            line.replace(_WITHOUT_LENGTH, "")
            for line in tools.crash(vmlinux, dump, *commands).splitlines()
            if not _APART.fullmatch(line)
        ]
        for vmlinux in (ours, theirs)
    )
    assert said == other
    return said


def check_drgn(ours: Path, theirs: Path, dump: Path) -> dict[str, Any]:
    """Compare what drgn's helpers and commands answer, and every task's stack, frame by frame.

    Returns:
        The answers.
    """
    said, other = (_ask_drgn(vmlinux, dump) for vmlinux in (ours, theirs))
    answers: dict[str, Any] = said["answers"]
    assert [name for name in other["answers"] if answers[name] != other["answers"][name]] == []
    failed = {name for name, told in answers.items() if re.match(r'\["\w*(Error|Exit)"', told)}
    assert len({name.split(" ")[0] for name in answers.keys() - failed}) > 300  # helpers
    stacks = said["stacks"]
    assert stacks.keys() == other["stacks"].keys()
    assert len(stacks) > 50
    for task, frames in other["stacks"].items():
        if isinstance(frames[0], str):  # an error: it was running, and no registers were saved
            assert stacks[task] == frames
            continue
        assert [pc for _, pc in stacks[task]] == [pc for _, pc in frames], task
        names = zip(stacks[task], frames, strict=True)
        assert [(one, other) for (one, _), (other, _) in names if _differ(one, other)] == [], task
    return said


def _differ(ours: str, theirs: str) -> bool:
    """Whether two names are of different functions; code in assembly has several there."""
    return _CLONE.sub("", ours) != theirs and not re.match("entry_|secondary_", theirs)


def _ask_drgn(vmlinux: Path, dump: Path) -> dict[str, dict[str, Any]]:
    """What its helpers and commands answer, but for what cannot be the same."""
    words: list[str | Path] = [sys.executable, _HERE / "drgn_helpers.py", vmlinux, dump]
    said: dict[str, dict[str, Any]] = json.loads(tools.run(words, dump))
    for name, answer in said["answers"].items():
        text = json.dumps(answer, ensure_ascii=False)
        if re.match(
            "%crash (bt|foreach bt)", name
        ):  # functions that the compiler has put into others
            text = re.sub(r" *#\d+ \(inline\) *\w+\\n", "", text)
            text = re.sub(r" *#\d+ (\[\w+\]) \S+ at ", r"\1 ", text)
        said["answers"][name] = _NOT_TOLD.sub("", text)
    return said
