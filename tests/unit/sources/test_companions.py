"""Directories as images: a mounted tree, a snapshot."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.cloud_hypervisor import pack_state
from tests.builders.encodings import machine
from tests.conftest import Opener
from tests.matching import exactly, same_bytes
from vmcorefs import ConfigError, FormatError
from vmcorefs.config import make_config
from vmcorefs.sources.evidence import gather


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    directory = tmp_path / "snapshot"
    directory.mkdir()
    (directory / "memory-ranges").write_bytes(machine().memory)
    (directory / "state.json").write_text("{}")
    (tmp_path / "iomem").write_text(machine().iomem)
    return directory


def test_a_snapshot_of_cloud_hypervisor_is_its_memory(snapshot: Path, open_capture: Opener) -> None:
    capture = open_capture(snapshot, memory_map=snapshot.with_name("iomem"))
    assert [one.name for one in capture.image.inputs] == [str(snapshot / "memory-ranges")]
    same_bytes(capture["oldmem"].pread(3 << 20, 0), machine().memory)


def test_its_state_says_where_the_memory_belongs(snapshot: Path, open_capture: Opener) -> None:
    (snapshot / "state.json").write_bytes(pack_state([(1 << 20, 2 << 20), (0, 1 << 20)]))
    capture = open_capture(snapshot, memory_map=snapshot.with_name("iomem"))
    same_bytes(capture["oldmem"].pread(2 << 20, 1 << 20), machine().memory[: 2 << 20])


@pytest.mark.parametrize("table", [[], [(0, -1)], [(1 << 62, 4096)], [(0, 8192), (4096, 4096)]])
def test_a_state_that_cannot_be_true_is_refused(
    snapshot: Path, open_capture: Opener, table: list[tuple[int, int]]
) -> None:
    (snapshot / "state.json").write_bytes(pack_state(table))
    with pytest.raises(FormatError, match=f"{snapshot}|state.json"):
        open_capture(snapshot)


def test_its_memory_is_evidence(snapshot: Path) -> None:
    evidence = gather(make_config([str(snapshot)]))
    with pytest.raises(ConfigError, match="which is never written to"):
        evidence.refuse(str(snapshot / "memory-ranges"))


def test_another_directory_is_no_image(snapshot: Path, open_capture: Opener) -> None:
    (snapshot / "state.json").unlink()
    expected = f"{snapshot}: this directory is not a mounted tree: it has no vmcore"
    with pytest.raises(ConfigError, match=exactly(expected)):
        open_capture(snapshot)
