"""ttscale's errors as LangChain's, so that retries and fallbacks know what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from langchain_core.exceptions import ModelAPIError, ModelConnectionError, ModelInvalidRequestError

from ttscale.errors import EngineError, EngineStopped, InvalidInput


class ESampRequestError(InvalidInput, ModelInvalidRequestError):
    """The request is refused; sending it again does not help."""


class ESampConnectionError(EngineStopped, ModelConnectionError):
    """No server or engine answers; it may later."""


class ESampAPIError(EngineError, ModelAPIError):
    """The engine failed while it ran; it may succeed next time."""


@contextmanager
def as_langchain() -> Iterator[None]:
    """Raise LangChain's classes in place of ttscale's."""
    try:
        yield
    except (ESampRequestError, ESampConnectionError, ESampAPIError):
        raise
    except InvalidInput as error:
        raise ESampRequestError(str(error)) from error
    except EngineStopped as error:
        raise ESampConnectionError(str(error)) from error
    except EngineError as error:
        raise ESampAPIError(str(error)) from error
