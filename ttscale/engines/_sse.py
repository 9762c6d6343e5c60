"""Server-sent events: the `data` of each, out of a stream of bytes.

Lines end at LF or CRLF alone. Splitting at Unicode's other line ends, as `str.splitlines` does,
would cut JSON texts that contain them.
"""

from __future__ import annotations

from ttscale.errors import EngineError

MAX_EVENT_BYTES = 16 * 2**20


class Events:
    """Takes bytes as they come and gives whole events."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of every event that `chunk` completes; events without data are left out.

        Raises:
            EngineError: An event is longer than `MAX_EVENT_BYTES`.
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        done = [data for line in lines if (data := self._take(line.removesuffix(b"\r")))]
        if len(self._rest) + sum(map(len, self._data)) > MAX_EVENT_BYTES:
            raise EngineError(f"the server sent an event of more than {MAX_EVENT_BYTES} bytes")
        return done

    def _take(self, line: bytes) -> bytes:
        """The data of the event that `line` ends, if it does."""
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        if line:
            return b""
        done, self._data = b"\n".join(self._data), []
        return done
