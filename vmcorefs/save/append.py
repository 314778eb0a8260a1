"""Bytes that follow each other, put into an output in big aligned pieces."""

from __future__ import annotations

from vmcorefs.save.dump import Output


class Appender:
    """Appends to one place of an output.

    Attributes:
        end: Where the next byte will go.
        written: Where the output's next byte will go; what lies between is held here.
    """

    def __init__(self, output: Output, offset: int, unit: int = 1 << 20) -> None:
        """Start at ``offset``; pieces end at multiples of ``unit``, but for the last one."""
        self.end = self.written = offset
        self._output = output
        self._unit = unit
        self._held: list[bytes | memoryview] = []

    def append(self, data: bytes | memoryview) -> None:
        """Take ``data``, which must not change any more; it is written once there is enough.

        Raises:
            OutputError: if it cannot be written.
        """
        self._held.append(data)
        self.end += len(data)
        boundary = self.end - self.end % self._unit
        if boundary > self.written:
            self._write(boundary)

    def flush(self) -> None:
        """Write all that is held.

        Raises:
            OutputError: if it cannot be written.
        """
        if self.end > self.written:
            self._write(self.end)

    def _write(self, until: int) -> None:
        data = memoryview(b"".join(self._held))
        count = until - self.written
        self._output.pwrite(data[:count], self.written)
        self.written = until
        self._held = [data[count:]] if count < len(data) else []
