"""kcore's notes: those of the vmcore, and a process id for each CPU."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from tests.builders.dead_machines import dead_machine, prstatus_note
from tests.conftest import Opener
from vmcorefs.core.paging.formats import x86_64
from vmcorefs.core.paging.mappings import Aliases, Mappings
from vmcorefs.reader import Reader
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
    kcore: Reader = make_kcore(capture.image, NO_MAPPINGS)
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
