"""LangChain's own standard tests of `ChatESamp`, against a scripted server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from ttscale.integrations.langchain import ChatESamp
from ttscale.testing import ScriptedServer, ServerRequest, ToolCall

VALUES = {"string": "text", "integer": 3, "number": 3, "boolean": True, "array": [], "object": {}}


def good_model(request: ServerRequest, index: int) -> str | ToolCall:
    """Calls the tool that fits, fills in schemas, and otherwise answers in text."""
    body: Mapping[str, Any] = request.body
    form, choice = body.get("response_format"), body.get("tool_choice", "auto")
    tools = [tool["function"] for tool in body.get("tools") or []]
    if form and form["type"] == "json_schema":
        return json.dumps(filled(form["json_schema"]["schema"]))
    if form and form["type"] == "json_object":
        return json.dumps({"setup": "why", "punchline": "because"})
    if isinstance(choice, dict):
        tools = [tool for tool in tools if tool["name"] == choice["function"]["name"]]
    answered = body["messages"][-1]["role"] == "tool"
    if tools and choice != "none" and (choice != "auto" or not answered):
        return ToolCall(tools[0]["name"], filled(tools[0]["parameters"], said(body)))
    return f"Hello, this is sample {index}."


def said(body: Mapping[str, Any]) -> str:
    """The last thing that the user said."""
    return str([m["content"] for m in body["messages"] if m["role"] == "user"][-1])


def filled(schema: Mapping[str, Any], text: str = "") -> dict[str, Any]:
    """Values for every required property."""
    required = schema.get("required", list(schema.get("properties", {})))
    return {name: _value(schema["properties"][name], text) for name in required}


def _value(schema: Mapping[str, Any], text: str) -> Any:
    quoted = text.split('"')[1::2] or text.split("'")[1::2]
    kind = schema.get("type", "string")
    if kind == "string" and schema.get("enum"):
        return schema["enum"][0]
    return quoted[-1] if kind == "string" and quoted else VALUES[kind]


class TestUnit(ChatModelUnitTests):
    """What needs no server."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        """The class."""
        return ChatESamp

    @property
    def chat_model_params(self) -> dict[str, Any]:
        """How it is made."""
        return {"model": "m", "n_candidates": 2}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        """What is read from the environment."""
        env = {"TTSCALE_API_KEY": "key", "TTSCALE_API_BASE": "http://there/v1"}
        return (
            env,
            {"model": "m"},
            {"ttscale_api_key": "key", "ttscale_api_base": "http://there/v1"},
        )


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    """One server for all tests."""
    with ScriptedServer(good_model, models=["m", "k"]) as started:
        TestIntegration.url = started.base_url
        yield


class TestIntegration(ChatModelIntegrationTests):
    """What needs a server."""

    url = ""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        """The class."""
        return ChatESamp

    @property
    def chat_model_params(self) -> dict[str, Any]:
        """How it is made."""
        return {"model": "m", "base_url": self.url, "n_candidates": 3}

    @property
    def supports_json_mode(self) -> bool:
        """The scripted model answers in JSON."""
        return True

    @property
    def model_override_value(self) -> str:
        """Another model that the server has."""
        return "k"
