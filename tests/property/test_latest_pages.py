"""Pages that were written more than once, against a model that has each page."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from vmcorefs.core.formats.qemu import latest as module
from vmcorefs.core.formats.qemu.latest import latest

PAGE = 4096
RUNS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 12), st.booleans()), min_size=1, max_size=20
)


@given(RUNS, st.integers(1, 9))
def test_the_last_of_each_page_counts(written: list[tuple[int, int, bool]], window: int) -> None:
    rows, model = [], {}
    for number, (first, count, stored) in enumerate(written):
        at = (number + 1) * 1_000_000 if stored else -1
        rows.append((first * PAGE, count, at, 4104 if stored else 0))
        for n in range(count):
            model[first + n] = at + n * 4104 if stored else -1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_WINDOW", window * PAGE)
        patch.setattr(module, "_ENOUGH", 5)
        found = latest(np.array(rows, dtype=np.int64), PAGE)
    pages = {
        to // PAGE + n: at + n * pitch if at >= 0 else -1
        for to, count, at, pitch in found.tolist()
        for n in range(count)
    }
    assert pages == model
    assert (found[1:, 0] >= found[:-1, 0] + found[:-1, 1] * PAGE).all()
