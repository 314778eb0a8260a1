"""cloud-hypervisor's snapshots, after its vmm/src/memory_manager.rs, cpu.rs and coredump.rs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

GENERAL = [
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "rip"),
    *(f"r{number}" for number in range(8, 16)),
]


def _part(state: object) -> dict[str, object]:
    return {"snapshots": {}, "snapshot_data": {"state": json.dumps(state)}}


def _cpu(registers: Mapping[str, int]) -> dict[str, object]:
    regs = {name: registers.get(name, 0) for name in GENERAL}
    regs["rflags"] = registers.get("eflags", 0)
    sregs = {
        name: {"selector": registers.get(name, 0), "base": registers.get(f"{name}_base", 0)}
        for name in ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")
    }
    return {"Kvm": {"regs": regs, "sregs": {**sregs, "cr3": 7}, "msrs": []}}


def pack_state(ranges: Sequence[tuple[int, int]], cpus: Sequence[Mapping[str, int]] = ()) -> bytes:
    """state.json of a machine with ranges of memory: first address and bytes of each."""
    table = [{"gpa": start, "length": size} for start, size in ranges]
    memory = {"memory_ranges": {"data": table}, "selected_slot": 0}
    vcpus = {str(number): _part(_cpu(one)) for number, one in enumerate(cpus)}
    parts = {
        "memory-manager": _part(memory),
        "cpu-manager": {"snapshots": vcpus, "snapshot_data": None},
        "device-manager": _part({"anything": [1]}),
    }
    return json.dumps({"snapshots": parts, "snapshot_data": None}).encode()
