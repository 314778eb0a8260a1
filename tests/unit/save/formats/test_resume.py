"""Going on with what an earlier try has left."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.builders.dead_machines import stamped
from tests.builders.dumps import PAGE, MemoryOutput, Watch, small_dump
from tests.oracles.kdump_reader import KdumpFile
from vmcorefs.core.pages.dump_level import PageKind
from vmcorefs.errors import ConfigError
from vmcorefs.save.codecs import find_codec
from vmcorefs.save.dump import Dump
from vmcorefs.save.formats import kdump_resume
from vmcorefs.save.formats.kdump import KdumpFormat
from vmcorefs.save.written import Written

PAGES = 2048
ZERO = (3, 600, 2000)


def page(pfn: int) -> bytes:
    return bytes(PAGE) if pfn in ZERO else stamped(pfn * PAGE, (pfn + 1) * PAGE)


@pytest.fixture(autouse=True)
def _step_back_a_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kdump_resume, "STEP_BACK", 100 * PAGE)


class Stopped(Exception):  # noqa: N818
    pass


class Impatient(Watch):
    """Stops once 1024 pages are done."""

    def pages(self, done: int, total: int) -> None:
        if done >= 1024:
            raise Stopped


def make(**changes: object) -> Dump:
    kinds = [PageKind.USER] * PAGES
    kinds[1] = kinds[1500] = PageKind.FREE
    dump = small_dump([(0, PAGES * PAGE)], kinds=kinds, zero=ZERO, level=16)
    return replace(dump, **changes)


def write(dump: Dump, output: MemoryOutput, watch: Watch | None = None) -> Written:
    return KdumpFormat(find_codec("zlib"), 2)(dump, [output], watch or Watch())


@pytest.fixture
def half() -> MemoryOutput:
    """A dump that was stopped half way."""
    output = MemoryOutput()
    with pytest.raises(Stopped):
        write(make(), output, Impatient())
    output.pieces.clear()
    return output


@pytest.fixture(scope="module")
def whole() -> MemoryOutput:
    output = MemoryOutput()
    write(make(), output)
    return output


def test_it_goes_on_where_it_stopped(half: MemoryOutput, whole: MemoryOutput) -> None:
    watch = Watch()

    written = write(make(), half, watch)

    assert half.data == whole.data
    assert written.resumed == 1024 - 100
    assert watch.steps[0][0] > 1024 - 100
    assert watch.steps[-1] == (PAGES - 2, PAGES - 2)


def test_pages_of_the_earlier_try_are_counted_by_kind(half: MemoryOutput) -> None:
    written = write(make(), half)

    assert (written.kept[PageKind.ZERO], written.kept[PageKind.USER]) == (3, PAGES - 2 - 3)
    assert written.left_out[PageKind.FREE] == 2


@pytest.mark.parametrize("size", [0, 100, 5000, 60_000, 80_000, 90_000, 100_000])
def test_a_file_cut_anywhere_is_completed(
    whole: MemoryOutput, half: MemoryOutput, size: int
) -> None:
    del half.data[size:]

    write(make(), half)

    assert half.data == whole.data


def test_a_descriptor_without_its_page_is_not_believed(
    whole: MemoryOutput, half: MemoryOutput
) -> None:
    file = KdumpFile(bytes(half.data))
    del half.data[file.rows[500][0] :]

    written = write(make(), half)

    assert written.resumed == 499 - 100
    assert half.data == whole.data


def test_a_page_that_was_lost_is_tried_again(whole: MemoryOutput) -> None:
    output = MemoryOutput()
    bad = small_dump([(0, PAGES * PAGE)], zero=ZERO, level=16, bad=[700, 701])
    write(make(memory=bad.memory), output)
    assert KdumpFile(bytes(output.data)).page(700) is None

    written = write(make(), output)

    assert written.resumed == 699 - 100
    assert output.data == whole.data


@pytest.mark.parametrize("changed", [{"level": 0}, {"notes": b""}])
def test_another_dump_is_refused(half: MemoryOutput, changed: dict[str, object]) -> None:
    before = bytes(half.data)

    with pytest.raises(ConfigError, match="so it cannot be resumed"):
        write(make(**changed), half)

    assert half.data == before


def test_what_is_no_dump_is_refused() -> None:
    output = MemoryOutput(data=bytearray(b"\xff" * (1 << 20)))

    with pytest.raises(ConfigError, match="it is no kdump-compressed dump"):
        write(make(), output)

    assert output.data == b"\xff" * (1 << 20)


def test_a_file_that_is_killed_again_opens_as_far_as_it_got(half: MemoryOutput) -> None:
    """Descriptors go before the pages that they are of are overwritten."""
    states: list[bytes] = []

    class Recorder(MemoryOutput):
        def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
            super().pwrite(data, offset)
            states.append(bytes(self.data))

        def truncate(self, size: int) -> None:
            super().truncate(size)
            states.append(bytes(self.data))

    write(make(), Recorder(data=half.data))

    assert len(states) > 5
    for state in states:
        pages = KdumpFile(state).pages
        assert {pfn: read for pfn, read in pages.items() if read is not None} == {
            pfn: page(pfn) for pfn, read in pages.items() if read is not None
        }
