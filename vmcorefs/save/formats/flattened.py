"""Any dump as a stream: for a pipe, another machine, or a store of objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from msgspec.structs import replace

from vmcorefs.core.formats.flattened import END, Record, pack_record, pack_start
from vmcorefs.save.dump import Dump, Observer, Output
from vmcorefs.save.written import Written


class FlattenedOutput:
    """Turns what is written anywhere into records of a stream.

    Attributes:
        size: Bytes in the stream so far.
    """

    def __init__(self, output: Output) -> None:
        """Begin a stream in ``output``, which is written from its first byte on, in order."""
        self.size = 0
        self._output = output

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """See ``Output.pwrite``; of bytes that are written twice, readers take one or the other."""
        if len(data):
            self._send(b"".join((pack_record(Record(offset, len(data))), data)))

    def finish(self) -> None:
        """Say that this was all.

        Raises:
            OutputError: if it cannot be written.
        """
        self._send(END)

    def _send(self, data: bytes) -> None:
        if not self.size:  # not before: what does not fit leaves nothing
            data = pack_start() + data
        self._output.pwrite(data, self.size)
        self.size += len(data)


class FlattenedFormat(msgspec.Struct, frozen=True):
    """A format, as makedumpfile's ``-F`` has it around each of its own.

    Attributes:
        write: The format; it writes each byte once.
    """

    write: Callable[[Dump, Sequence[Output], Observer], Written]

    def __call__(self, dump: Dump, outputs: Sequence[Output], observer: Observer) -> Written:
        """Write ``dump`` as streams into ``outputs``; the errors are the format's."""
        streams = [FlattenedOutput(output) for output in outputs]
        written = self.write(dump, streams, observer)
        for stream in streams:
            stream.finish()
        return replace(written, size=sum(stream.size for stream in streams))
