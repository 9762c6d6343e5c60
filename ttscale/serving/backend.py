"""What the routes need of the server that they live in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastapi import Request

from ttscale.engines._wire import Json
from ttscale.errors import EngineError, InvalidInput


class Refused(InvalidInput):
    """The server refused a request (4xx).

    Attributes:
        status: HTTP status.
        parameter: The field of the request that is to blame, if the server says.
    """

    def __init__(self, message: str, status: int = 400, parameter: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.parameter = parameter


class Failed(EngineError):
    """The server could not answer a request (5xx); `status` is the HTTP status."""

    def __init__(self, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Facts:
    """What does not change while a server runs.

    Attributes:
        models: Names of the models, the first one for requests that name none.
        max_tokens: Longest prompt and answer together.
        sampling: The model's own sampling settings, for what a request leaves out.
        esamp_defaults: The operator's `esamp_*` keys, for what a request leaves out.
        esamp_refused: Why the engine cannot run ESamp; empty when it can.
    """

    models: tuple[str, ...]
    max_tokens: int
    sampling: Mapping[str, float] = field(default_factory=dict)
    esamp_defaults: Mapping[str, Any] = field(default_factory=dict)
    esamp_refused: str = ""


class Backend(Protocol):
    """A server with a chat route."""

    @property
    def facts(self) -> Facts:
        """What does not change."""
        ...

    def authorised(self, request: Request) -> bool:
        """Whether the request carries a key that the server takes."""
        ...

    def check(self, body: Mapping[str, Json]) -> None:
        """Check the fields of a body of the chat route, before anything is read of it.

        Raises:
            Refused: A field has the wrong type or an illegal value.
        """
        ...

    async def complete(self, body: Mapping[str, Json], request: Request) -> bytes:
        """Answer one body of the chat route that is not streamed, as JSON.

        Raises:
            Refused: The body is refused.
            Failed: The engine failed, or has died.
        """
        ...

    async def report(self, group: str | None = None) -> Mapping[str, Any]:
        """What ESamp did, and did in the caller's group of that name.

        Returns:
            As `ttscale.worker.plugin.esamp_report`; `groups` has one entry under the name.

        Raises:
            Failed: The engine failed, or has died.
        """
        ...

    def trace(self, request: Request, started: int, about: Mapping[str, Json]) -> None:
        """Record a run that has ended as a span of the caller's trace, where traces are kept.

        Args:
            request: Its headers may name a trace.
            started: When the run began, in nanoseconds since 1970.
            about: Attributes of the span.
        """
        ...
