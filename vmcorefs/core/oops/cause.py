"""Which report in a log is of what the kernel died of.

A log may have warnings that are days old. With a panic, its reason decides; without one, which is
so where the machine hangs and where kexec was faster than panic(), the last report does.
"""

from __future__ import annotations

import re
from typing import Final

from vmcorefs.core.oops.heads import Head, iter_heads, same_matter

PANIC: Final = "Kernel panic - not syncing: "

_END: Final = "---[ end "
"""What a kernel begins to say the reason again with, once no other has taken over."""
_AFTER_A_FAULT: Final = re.compile(r"Fatal (?:hardware )?(?:exception|error!)")  # after die()
_AFTER_A_REPORT: Final = re.compile(
    r"panic_on_\w+ set|softlockup: hung tasks|hung_task: blocked tasks|RCU Stall|\.fault=panic set"
)
_HUNG: Final = re.compile("INFO: task .* blocked ")
"""Of tasks that the kernel finds to hang at once (kernel/hung_task.c), it reports one by one."""
_NO_FAULTS: Final = ("WARNING:", "INFO:")
_NEAR: Final = 1 << 12
"""Characters within which what belongs to a report follows its head."""


def find_panic(log: str) -> tuple[int, int] | None:
    """Where the line of the last panic is; None if there was none."""
    at = last = log.rfind(PANIC)
    if at < 0:
        return None
    while at >= 0 and log.endswith(_END, 0, at):
        at = log.rfind(PANIC, 0, at)
    at = last if at < 0 else at
    end = log.find("\n", at)
    return log.rfind("\n", 0, at) + 1, len(log) if end < 0 else end


def find_cause(log: str) -> int | None:
    """Where the report of what the kernel died of begins; None if there is none."""
    panic = find_panic(log)
    if panic is None:
        return _last(log, len(log), ())
    start, end = panic
    if _AFTER_A_FAULT.search(log, start, end):
        cause = _last(log, start, _NO_FAULTS)
    elif _AFTER_A_REPORT.search(log, start, end):
        cause = _last(log, start, ())
    else:
        cause = None
    return start if cause is None else cause


def _last(log: str, end: int, without: tuple[str, ...]) -> int | None:
    last: Head | None = None
    before: Head | None = None
    for head in iter_heads(log):
        if head.start >= end:
            break
        begun = last is not None and head.start - last.end < _NEAR and same_matter(log, head)
        begun = begun or (before is not None and _hang_at_once(log, before, head))
        if head.family.word not in without and not begun:
            last = head
        before = head
    return None if last is None else last.start


def _hang_at_once(log: str, before: Head, head: Head) -> bool:
    near = head.start - before.end < _NEAR
    return near and all(_HUNG.search(log, one.start, one.end) for one in (before, head))
