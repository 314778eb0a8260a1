"""What a command does first: open IMAGE..., and verify the inputs, with bars on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vmcorefs.api import Capture, open_capture
from vmcorefs.commands.options import make_config
from vmcorefs.config import CaptureConfig
from vmcorefs.confine import process
from vmcorefs.sources.file import FileSource
from vmcorefs.system.bars import byte_bar, share_bar


def open_images(
    images: tuple[str, ...], options: dict[str, Any], location: str = ".", *, thorough: bool = False
) -> Capture:
    """Open what IMAGE... and the options describe; otherwise as ``open_config``.

    Args:
        images: What stands for IMAGE... on the command line.
        options: The values of ``options.capture_options`` by name.
        location: Where the tree will be found.
        thorough: Look through all of the memory.
    """
    config = make_config(images, options)
    return open_config(config, options["verify"], location, thorough=thorough)


def open_config(
    config: CaptureConfig, sums: str | None, location: str = ".", *, thorough: bool = False
) -> Capture:
    """Open a capture; from here on, nobody else may have the memory of this process.

    Args:
        config: What it is.
        sums: What to verify the inputs against, if anything.
        location: Where the tree will be found.
        thorough: Look through all of the memory.
    """
    process.forbid_dumps()
    with share_bar("looking through the memory", "B") as progress:
        capture = open_capture(config, location, thorough=thorough, progress=progress)
    if sums is not None:
        try:
            verify_inputs(capture.image.inputs, sums)
        except BaseException:
            capture.close()
            raise
    return capture


def verify_inputs(inputs: Sequence[FileSource], sums: str) -> list[str]:
    """Compare every input with its digest; a line for each.

    Args:
        inputs: Images and backups.
        sums: As for ``vmcorefs.reports.verify.expected_digests``.
    """
    # here: few ask for it
    from vmcorefs.reports.verify import expected_digests, verify  # noqa: PLC0415

    expected = expected_digests(inputs, sums)
    total = sum(source.size for source, _ in expected)
    with byte_bar(total, "verifying") as progress:
        return list(verify(expected, progress))
