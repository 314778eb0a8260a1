"""kcore's notes: those of the vmcore, a process id for each CPU, and what tasks add to them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from tests.builders.dead_machines import dead_machine, prstatus_note
from tests.conftest import Opener
from vmcorefs.core.paging.formats import x86_64
from vmcorefs.core.paging.mappings import Aliases, Mappings
from vmcorefs.core.structures.tasks import Task
from vmcorefs.reader import Reader
from vmcorefs.tree.debug.threads import TaskThread, list_threads
from vmcorefs.tree.kcore import make_kcore

NONE = np.empty(0, dtype=np.int64)
NO_MAPPINGS = Mappings(
    x86_64(levels=4), 0, NONE, NONE, NONE, NONE.astype(np.uint8), Aliases(NONE, NONE, NONE), (), 0
)
NOTE_SIZE = 12 + 8 + 336
PID_AT = 12 + 8 + 32


def _notes(open_capture: Opener, where: Path, pids: list[int]) -> tuple[bytes, bytes]:
    slots = [prstatus_note(pid, 0x1000 + cpu, 0x2000 + cpu) for cpu, pid in enumerate(pids)]
    saved = dead_machine(cpu_slots=slots).save(where)
    capture = open_capture(saved.ram, memory_map=saved.iomem, backup=saved.lowmem)
    notes = capture["crash_notes"]
    kcore: Reader = make_kcore(capture.image, NO_MAPPINGS, list_threads(capture.image))
    return kcore.pread(notes.size, 0x1000), notes.pread(notes.size, 0)


def test_idle_cpus_get_process_ids_of_their_own(tmp_path: Path, open_capture: Opener) -> None:
    ours, theirs = _notes(open_capture, tmp_path, [0, 77, 0, 77])
    pids = [struct.unpack_from("<i", ours, cpu * NOTE_SIZE + PID_AT)[0] for cpu in range(4)]
    assert pids == [0x400000, 77, 0x400002, 0x400003]
    changed = [at for at, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
    allowed = {cpu * NOTE_SIZE + PID_AT + byte for cpu in (0, 2, 3) for byte in range(4)}
    assert set(changed) <= allowed


def test_cpus_that_have_them_keep_theirs(tmp_path: Path, open_capture: Opener) -> None:
    ours, theirs = _notes(open_capture, tmp_path, [1, 2, 3])
    assert ours == theirs


def test_tasks_have_notes_behind_those_of_the_cpus(tmp_path: Path, open_capture: Opener) -> None:
    saved = dead_machine(cpu_slots=[prstatus_note(1, 0x1000, 0x2000)]).save(tmp_path)
    capture = open_capture(saved.ram, memory_map=saved.iomem, backup=saved.lowmem)
    theirs = capture["crash_notes"].pread(1 << 20, 0)
    task = Task(0, 7, 7, b"sleep", 1, 0, False, 0x3000)
    threads = replace(
        list_threads(capture.image),
        tasks=(TaskThread(task, 7, {"rip": 0x1111, "rsp": 0x2222}),),
    )
    kcore = make_kcore(capture.image, NO_MAPPINGS, threads)

    note = prstatus_note(7, 0x1111, 0x2222)
    head = kcore.pread(0x1000, 0)
    (offset, size) = struct.unpack_from("<Q16xQ", head, 64 + 8)
    assert (offset, size) == (0x1000, len(theirs) + len(note))
    assert kcore.pread(size, offset) == theirs + note
