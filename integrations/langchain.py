"""LangChain: chat models and plain models that answer with the winner of many samples.

`ChatESamp` takes the place of `ChatOpenAI`; `ESampLLM` is a plain text model; `ttscale_vote` makes
any chat model of LangChain vote. Needs the extra `langchain`.

>>> from ttscale.integrations.langchain import ChatESamp
>>> from ttscale.testing import ScriptedEngine
>>> model = ChatESamp(engine=ScriptedEngine([r"\\boxed{7}", r"\\boxed{8}", r"\\boxed{7}"]))
>>> model.invoke("What is 3 + 4?").text
'\\\\boxed{7}'
"""

from __future__ import annotations

from ttscale.errors import MissingDependency

try:
    import langchain_openai  # noqa: F401 - asked for here, so that the error says what to do
except ImportError as error:  # pragma: no cover
    raise MissingDependency(
        "ttscale.integrations.langchain needs LangChain: install ttscale[langchain]"
    ) from error

from ttscale.integrations._langchain_chat import ChatESamp
from ttscale.integrations._langchain_errors import (
    ESampAPIError,
    ESampConnectionError,
    ESampRequestError,
)
from ttscale.integrations._langchain_text import ESampLLM, ttscale_vote

__all__ = [
    "ChatESamp",
    "ESampAPIError",
    "ESampConnectionError",
    "ESampLLM",
    "ESampRequestError",
    "ttscale_vote",
]
