"""A capture's memory as other tools write it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.real.truth import image_offset, spans

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.capture import Capture

_CHUNK = 1 << 20


def concatenate(capture: Capture, path: Path) -> None:
    """Write System RAM, one range right behind the other, as LiME's raw mode does; sparse."""
    with capture.ram.open("rb") as ram, path.open("wb") as out:
        for start, end in spans(capture, "System RAM"):
            ram.seek(image_offset(capture, start))
            for at in range(start, end, _CHUNK):
                data = ram.read(min(_CHUNK, end - at))
                if any(data):
                    out.write(data)
                else:
                    out.seek(len(data), os.SEEK_CUR)
        out.truncate()
