"""The whole tree, from an opened image."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from vmcorefs.core.space.extents import Kind
from vmcorefs.image import MemoryImage
from vmcorefs.reader import DEFAULT_FAULTS
from vmcorefs.tree.debug.modules import modules_directory
from vmcorefs.tree.debug.symbols import KernelSymbols, symbol_files
from vmcorefs.tree.directory import TreeDirectory
from vmcorefs.tree.file import TreeFile
from vmcorefs.tree.filtered import Filter
from vmcorefs.tree.kcore import kcore_files
from vmcorefs.tree.kdump import kdump_file
from vmcorefs.tree.layout import layout_file
from vmcorefs.tree.live import mounted_name
from vmcorefs.tree.oldmem import oldmem_file
from vmcorefs.tree.texts import text_files
from vmcorefs.tree.vmcore import cpu_note_files, notes_file, register_files, whole_vmcore


class Tree(msgspec.Struct, frozen=True):
    """The tree, in the order of a listing for people.

    Attributes:
        files: Path to file.
        directories: Path to directory, of those whose files are found when they are asked for.
    """

    files: dict[str, TreeFile]
    directories: dict[str, TreeDirectory]


def build_tree(
    image: MemoryImage,
    location: str = ".",
    filtered: Filter | None = None,
    added: Iterable[TreeFile] = (),
) -> Tree:
    """Build the whole tree.

    Args:
        image: The dead machine.
        location: The directory that the tree will be found at.
        filtered: What a dump level leaves out of ``vmcore``; there is a ``vmcore.kdump`` then.
        added: More files, which are made by those who know more of the image; they are not in
            ``layout.json``, as reading that would make them.

    Raises:
        LayoutError: if the vmcore would be larger than a file can be.
    """
    faults = DEFAULT_FAULTS
    if image.config.holes == "error":
        faults |= {Kind.HOLE}
    notes = notes_file(image)
    files = [
        whole_vmcore(image, faults, filtered),
        *([kdump_file(image, notes, filtered, faults)] if filtered is not None else []),
        oldmem_file(image, faults),
        notes,
        *cpu_note_files(image),
        *register_files(image),
        *text_files(image),
        *kcore_files(image),
    ]
    directories = []
    if image.kernel is not None:
        symbols = KernelSymbols(image.kernel)
        files += symbol_files(image, symbols, location)
        if image.kernel.names_symbols:
            directories.append(modules_directory(lambda: symbols.modules))
    tree = {file.path: file for file in files}
    shown = {mounted_name(image, path): file for path, file in tree.items()}
    tree["layout.json"] = layout_file(shown, image.inputs)
    tree |= {file.path: file for file in added}
    return Tree(tree, {directory.path: directory for directory in directories})
