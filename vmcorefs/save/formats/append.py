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
        self._held = memoryview(bytearray(unit))

    def append(self, data: bytes | memoryview) -> None:
        """Take a copy of ``data``; it is written once there is enough.

        Raises:
            OutputError: if it cannot be written.
        """
        left = memoryview(data)
        while left:
            held = self.end - self.written
            if not held and self.end % self._unit == 0 and len(left) >= self._unit:
                whole = len(left) // self._unit * self._unit
                self._output.pwrite(left[:whole], self.end)
                self.end = self.written = self.end + whole
                left = left[whole:]
                continue
            step = min(len(left), self._unit - self.end % self._unit)
            self._held[held : held + step] = left[:step]
            self.end += step
            left = left[step:]
            if self.end % self._unit == 0:
                self.flush()

    def move(self, offset: int) -> None:
        """Continue at ``offset``.

        Raises:
            OutputError: if what is held cannot be written.
        """
        self.flush()
        self.end = self.written = offset

    def flush(self) -> None:
        """Write all that is held.

        Raises:
            OutputError: if it cannot be written.
        """
        if self.end > self.written:
            self._output.pwrite(self._held[: self.end - self.written], self.written)
            self.written = self.end
