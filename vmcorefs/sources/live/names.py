"""What guests that run are named by."""

from __future__ import annotations

import os

from vmcorefs.piece import Piece

QMP, QEMU = "qmp:", "qemu:"


def is_live(piece: Piece) -> bool:
    """Whether a piece names a guest that runs, and no file."""
    return piece.path.startswith((QMP, QEMU)) and not os.path.lexists(piece.path)
