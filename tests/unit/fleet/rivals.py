"""How others tell whether two oopses are the same, as far as their rules go.

satyr (abrt/satyr, lib/koops_stacktrace.c): a hash of all frames, without what compilers add, and of
the list of modules. faf (abrt/faf, src/pyfaf/problemtypes/kerneloops.py): a hash of the component,
the taints and 16 frames with their modules; and clusters (``create_problems``): the distance of
Damerau and Levenshtein over 16 frames, as a share of the longer stack, linked by averages and cut
at 0.3.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from vmcorefs.core.oops.frames import entries

_MODULES = re.compile(r"Modules linked in:(.*)")
_MODULE = re.compile(r"\[(\w+)\]\s*$")
_TAINTS = re.compile(r"Tainted: ([A-Z ]+)")
_FRAMES = 16
_CUT = 0.3


def frames(lines: Sequence[str]) -> list[str]:
    return [name for line in lines for name in entries(line)]


def satyr(lines: Sequence[str]) -> object:
    """None if there are no frames."""
    found = frames(lines)
    modules = [name for line in lines for name in _MODULES.findall(line)]
    return (tuple(found), tuple(modules)) if found else None


def faf(lines: Sequence[str]) -> object:
    """None if there are no frames."""
    found = []
    for line in lines:
        module = _MODULE.search(line)
        found += [(name, module[1] if module else "vmlinux") for name in entries(line)]
    taints = next((match[1].split() for line in lines if (match := _TAINTS.search(line))), [])
    return ("kernel", tuple(taints), tuple(found[:_FRAMES])) if found else None


def distance(one: Sequence[str], other: Sequence[str]) -> float:
    """Insertions, deletions, replacements and swaps of neighbours, as a share of the longer."""
    rows = [list(range(len(other) + 1))]
    for i, x in enumerate(one, 1):
        row = [i]
        for j, y in enumerate(other, 1):
            cost = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (x != y))
            if i > 1 and j > 1 and x == other[j - 2] and one[i - 2] == y:
                cost = min(cost, rows[-2][j - 2] + 1)
            row.append(cost)
        rows.append(row)
    return rows[-1][-1] / max(len(one), len(other))


def faf_clusters(logs: Sequence[Sequence[str]]) -> list[object]:
    """The number of each log's cluster; None if it has no frames."""
    stacks = [frames(lines)[:_FRAMES] for lines in logs]
    with_frames = [n for n, stack in enumerate(stacks) if stack]
    apart = {
        (a, b): distance(stacks[a], stacks[b])
        for at, a in enumerate(with_frames)
        for b in with_frames[at + 1 :]
        if set(stacks[a]) & set(stacks[b])
    }
    clusters = {n: [n] for n in with_frames}
    while True:
        of = {n: name for name, cluster in clusters.items() for n in cluster}
        near = {(of[a], of[b]) for a, b in apart if of[a] != of[b]}
        best = min(
            ((_average(clusters[a], clusters[b], apart), a, b) for a, b in near), default=None
        )
        if best is None or best[0] > _CUT:
            return [of.get(n) for n in range(len(logs))]
        clusters[best[1]] += clusters.pop(best[2])


def _average(
    one: Sequence[int], other: Sequence[int], apart: dict[tuple[int, int], float]
) -> float:
    found = [apart.get((min(a, b), max(a, b)), 1.0) for a in one for b in other]
    return sum(found) / len(found)
