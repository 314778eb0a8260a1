"""A directory of the tree whose files are found only when somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from threading import RLock
from types import MappingProxyType

from vmcorefs.tree.file import TreeFile


class TreeDirectory:
    """One directory: a path in the tree, and what is in it.

    Attributes:
        path: Where it is in the tree.
    """

    def __init__(self, path: str, find: Callable[[], Iterable[TreeFile]]) -> None:
        """Begin without having looked.

        Args:
            path: Where it is in the tree.
            find: Finds its files, whose paths begin with its own; called until it succeeds.
        """
        self.path = path
        self._find = find
        self._finding = RLock()
        self._files: Mapping[str, TreeFile] | None = None

    @property
    def files(self) -> Mapping[str, TreeFile]:
        """Its files by path, in order; finding them may take long, and raises as ``find`` does."""
        with self._finding:
            if self._files is None:
                self._files = MappingProxyType({file.path: file for file in self._find()})
            return self._files
