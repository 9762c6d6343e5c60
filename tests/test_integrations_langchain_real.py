"""`ChatESamp` with the embedded model on a real server: LangChain's standard tests, and forms."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from pydantic import BaseModel

from ttscale import models
from ttscale.integrations.langchain import ChatESamp

pytestmark = pytest.mark.engine


class Verdict(BaseModel):
    """Whether something is so."""

    verdict: Literal["yes", "no"]


@pytest.fixture(scope="module", autouse=True)
def url(server_url: str) -> None:
    """The standard tests take the address from their class."""
    TestStandard.url = server_url


class TestStandard(ChatModelIntegrationTests):
    """The standard tests that need no tools."""

    url = ""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        """The class."""
        return ChatESamp

    @property
    def chat_model_params(self) -> dict[str, Any]:
        """Two short samples, not empty ones."""
        short = {"n_candidates": 2, "max_tokens": 8, "extra_body": {"min_tokens": 2}}
        return {"model": models.EMBEDDED, "base_url": self.url, **short}

    @property
    def has_tool_calling(self) -> bool:
        """The model's template shows it no tools."""
        return False

    @property
    def has_structured_output(self) -> bool:
        """Free texts in a form need not end within few tokens; see the test below."""
        return False

    @property
    def model_override_value(self) -> str:
        """The server's other name for it; vLLM answers with the first, which contains this."""
        return "smollm2-135m"


def test_answers_in_a_form(server_url: str) -> None:
    """vLLM holds every sample to the schema, and the vote gives one object."""
    model = ChatESamp(
        model=models.EMBEDDED, base_url=server_url, n_candidates=3, max_tokens=40, temperature=0.7
    )
    found = model.with_structured_output(Verdict, method="json_schema").invoke("Is snow white?")

    assert isinstance(found, Verdict)
