"""What cloud-hypervisor's state.json says of the CPUs."""

from __future__ import annotations

import pytest

from tests.builders.cloud_hypervisor import pack_state
from vmcorefs.core.elf.elf import EM_X86_64
from vmcorefs.core.formats.cloud_hypervisor import parse_state

CPU = {"rip": 0xFFFFFFFF81000000, "cs": 0x10, "gs": 0x18, "gs_base": 0xFFFF888000001000}


def test_its_registers_are_told() -> None:
    found = parse_state(pack_state([(0, 4096)], [CPU]))
    assert found is not None
    assert found.cpus is not None
    assert found.cpus.machine == EM_X86_64
    (registers,) = found.cpus.cpus
    assert CPU.items() <= registers.items()


@pytest.mark.parametrize("name", ["selector", "base", "rip", "rflags"])
def test_a_register_that_is_missing_is_not_zero(name: str) -> None:
    state = pack_state([(0, 4096)], [CPU])
    assert name.encode() in state
    found = parse_state(state.replace(name.encode(), b"other"))
    assert found is not None
    assert found.cpus is None
