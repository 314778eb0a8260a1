"""A virtual machine of VMware's: its state and its memory, in one file or in two."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.builders.encodings import ENCODINGS, machine
from tests.builders.vmware import pack_vmss
from tests.conftest import Opener
from tests.matching import exactly, same_bytes
from vmcorefs import ConfigError, TruncatedError, UnsupportedError
from vmcorefs.config import make_config
from vmcorefs.sources.evidence import gather

RAM = bytes(machine().memory)
REGIONS = [(0, 0, 0xA0000), (0x100000, 0x100000, 0x200000)]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    for name, data in ENCODINGS["vmware"](machine()).items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "iomem").write_text(machine().iomem)
    return tmp_path / "vm.vmsn", tmp_path / "vm.vmem"


def test_either_file_finds_the_other_and_their_order_does_not_matter(
    pair: tuple[Path, Path], open_capture: Opener
) -> None:
    state, memory = pair
    for images in ([state], [memory], [state, memory], [memory, state]):
        capture = open_capture(images, memory_map=state.with_name("iomem"))
        same_bytes(capture["oldmem"].pread(0x200000, 0x100000), RAM[0x100000:])
        assert {one.name for one in capture.image.inputs} == {str(state), str(memory)}


def test_a_file_that_was_found_is_evidence_too(pair: tuple[Path, Path]) -> None:
    state, memory = pair
    evidence = gather(make_config([str(memory)]))
    with pytest.raises(ConfigError, match=r"vm\.vmsn, which is never written to"):
        evidence.refuse(str(state))


def test_a_state_without_its_memory_asks_for_it(
    pair: tuple[Path, Path], open_capture: Opener
) -> None:
    state, memory = pair
    os.rename(memory, memory.with_name("other"))
    expected = (
        f"{state}: a virtual machine's state by VMware, whose memory is in the file .vmem that was"
        " made with it: give that too"
    )
    with pytest.raises(UnsupportedError, match=exactly(expected)):
        open_capture(state)
    open_capture([memory.with_name("other"), state], memory_map=state.with_name("iomem"))


def test_memory_without_its_state_is_raw_memory(
    pair: tuple[Path, Path], open_capture: Opener
) -> None:
    state, memory = pair
    state.write_bytes(b"of another format" * 9)
    memory.write_bytes(RAM)
    capture = open_capture(memory, memory_map=state.with_name("iomem"))
    assert [one.name for one in capture.image.inputs] == [str(memory)]


def test_a_state_that_is_marked_as_partial_needs_to_be_asked_for(
    pair: tuple[Path, Path], open_capture: Opener
) -> None:
    state, _ = pair
    state.write_bytes(pack_vmss(REGIONS, RAM, magic=0xBED3BED3))
    with pytest.raises(TruncatedError, match="VMware has marked it as not complete"):
        open_capture(state)
