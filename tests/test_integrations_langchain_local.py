"""LangChain on an engine in this process: forms, calls of tools, and the embedded default."""

from __future__ import annotations

import json
import re
import runpy
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from langchain_core.exceptions import ModelError
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from ttscale import LocalEngine, models
from ttscale.errors import EngineStopped, InvalidInput
from ttscale.integrations import _langchain_embedded
from ttscale.integrations._langchain_local import call_schema, form_schema
from ttscale.integrations.langchain import ChatESamp, ESampLLM
from ttscale.testing import ScriptedEngine

PAGE = Path(__file__).parent.parent / "docs" / "langchain.md"
Method = Literal["json_schema", "function_calling", "json_mode"]


class Point(BaseModel):
    """A point."""

    x: int
    y: int


class Verdict(BaseModel):
    """Whether something is so."""

    sure: bool
    verdict: Literal["yes", "no"]
    percent: int = Field(ge=0, le=100)


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


@tool
def add(a: int, b: int) -> int:
    """Add two whole numbers."""
    return a + b


def call(name: str, **arguments: Any) -> str:
    """What a sample that is held to a call's schema looks like."""
    return json.dumps({"name": name, "arguments": arguments})


def sent_schema(engine: ScriptedEngine) -> Any:
    """The schema that the last draw was held to; None without one."""
    schema = engine.calls[-1].sampler.json_schema
    return None if schema is None else json.loads(schema)


@pytest.mark.parametrize(
    ("method", "script"),
    [
        ("json_schema", ['{"x": 1', '{"x": 1}', '{"y": 2, "x": 1}', '{"x": 1, "y": 2}', "{}"]),
        ("json_mode", ['{"x": 1', '{"x": 1, "y": 2}', '{"y": 2, "x": 1}', "[]", "{"]),
        (
            "function_calling",
            ["{", call("Point", x=1), call("Point", y=2, x=1), call("Point", x=1, y=2), "[1]"],
        ),
    ],
)
def test_structured_output_of_an_engine(method: Method, script: list[str]) -> None:
    """All three methods hold the samples to a schema, and broken ones lose all the same."""
    engine = ScriptedEngine(script)
    model = ChatESamp(engine=engine, n_candidates=5)

    assert model.with_structured_output(Point, method=method).invoke("Where?") == Point(x=1, y=2)
    assert sent_schema(engine)["type"] == "object"


def test_a_forced_call_is_held_to_the_tools_schemas() -> None:
    """The model is shown the tools, and every sample is a call of one of them."""
    engine = ScriptedEngine([call("add", a=1, b=2), call("add", b=2, a=1), call("add", a=9, b=9)])
    model = ChatESamp(engine=engine, n_candidates=3)
    message = model.bind_tools([weather, add], tool_choice="any").invoke(
        [SystemMessage("Be brief."), HumanMessage("1 + 2?")]
    )

    (found,) = message.tool_calls
    assert (found["name"], found["args"]) == ("add", {"a": 1, "b": 2})
    assert message.response_metadata["finish_reason"] == "tool_calls"
    names = [c["properties"]["name"]["const"] for c in sent_schema(engine)["anyOf"]]
    assert names == ["weather", "add"]
    system = engine.calls[0].prompt.messages[0]
    assert system.content.startswith("Be brief.\n\nAnswer with a call")
    assert '"description": "Add two whole numbers."' in system.content


def test_a_named_tool_alone_is_shown_and_called() -> None:
    """The other tools are out of reach."""
    engine = ScriptedEngine([call("weather", city="Oslo")])
    model = ChatESamp(engine=engine, n_candidates=1)
    message = model.bind_tools([weather, add], tool_choice="weather").invoke("Oslo?")

    assert message.tool_calls[0]["args"] == {"city": "Oslo"}
    assert sent_schema(engine)["properties"]["name"] == {"const": "weather"}
    assert "Add two" not in engine.calls[0].prompt.messages[0].content


def test_calls_and_their_results_are_part_of_the_conversation() -> None:
    """When no tool may be called, the model reads what it called and what came back."""
    engine = ScriptedEngine(["It is sunny."])
    called = {"name": "weather", "args": {"city": "Oslo"}, "id": "1"}
    messages = [
        HumanMessage("Oslo?"),
        AIMessage("", tool_calls=[called]),
        ToolMessage("sunny in Oslo", tool_call_id="1"),
    ]
    model = ChatESamp(engine=engine, n_candidates=1).bind_tools([weather], tool_choice="none")

    assert model.invoke(messages).text == "It is sunny."
    told = [(m.role, m.content) for m in engine.calls[0].prompt.messages]
    assert told[1] == ("assistant", '{"name": "weather", "args": {"city": "Oslo"}}')
    assert told[2] == ("tool", "sunny in Oslo")
    assert sent_schema(engine) is None


@pytest.mark.parametrize(
    ("bound", "message"),
    [
        (lambda m: m.bind_tools([weather]), "ttscale serve"),
        (lambda m: m.bind_tools([weather], tool_choice="auto"), "tool_choice='any'"),
        (lambda m: m.bind(response_format={"type": "xml"}), "response_format must be"),
        (lambda m: m.bind(response_format={"type": "json_schema"}), "with a schema"),
    ],
)
def test_what_an_engine_cannot_do_is_said(bound: Callable[[ChatESamp], Any], message: str) -> None:
    """With what to do; nothing is drawn."""
    engine = ScriptedEngine(["a"])
    with pytest.raises(ModelError, match=message) as caught:
        bound(ChatESamp(engine=engine)).invoke("?")

    assert isinstance(caught.value, InvalidInput)
    assert not engine.calls


def test_images_are_refused_rather_than_dropped() -> None:
    """An engine would answer without having seen them; blocks of text are no trouble."""
    engine = ScriptedEngine(["a"])
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    with pytest.raises(ModelError, match="text alone, got a message with image_url"):
        ChatESamp(engine=engine).invoke([HumanMessage([picture])])

    ChatESamp(engine=engine).invoke([HumanMessage([{"type": "text", "text": "What?"}])])
    assert engine.calls[0].prompt.question == "What?"


def test_shared_parts_of_schemas_are_found_from_the_root() -> None:
    """`$ref` counts from the whole schema, in which the arguments lie deeper than before."""
    parameters = {"$ref": "#/$defs/P", "$defs": {"P": {"type": "object"}}}
    whole = call_schema([{"name": "f", "parameters": parameters}, {"name": "g"}])

    assert whole["$defs"] == {"P": {"type": "object"}}
    assert whole["anyOf"][0]["properties"]["arguments"] == {"$ref": "#/$defs/P"}
    assert form_schema({"type": "text"}) is None


class Started(ScriptedEngine):
    """Stands in for `LocalEngine`; counts how often one is started."""

    count = 0
    dead = False

    def __init__(self) -> None:
        super().__init__([r"\boxed{7}"], model=models.EMBEDDED)
        type(self).count += 1

    async def adraw(self, *args: Any, **kwargs: Any) -> Any:
        """Draw, unless it has died."""
        if type(self).dead:
            type(self).dead = False
            raise EngineStopped("died")
        return await super().adraw(*args, **kwargs)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> type[Started]:
    """The class that stands in for `LocalEngine`, with the counts at 0 and nothing running."""
    monkeypatch.setattr("ttscale.worker.engine.LocalEngine", Started)
    monkeypatch.setattr(_langchain_embedded.EMBEDDED, "_running", None)
    monkeypatch.setattr(Started, "count", 0)
    monkeypatch.delenv("TTSCALE_API_BASE", raising=False)
    return Started


def test_without_model_and_address_the_embedded_model_answers(started: type[Started]) -> None:
    """It is started by the first call, not when models are made, and once for all of them."""
    models_made = [ChatESamp(), ChatESamp(n_candidates=2)]
    assert started.count == 0

    threads = [threading.Thread(target=model.invoke, args=("3 + 4?",)) for model in models_made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    message = models_made[0].invoke("3 + 4?")

    assert started.count == 1
    assert message.text == ESampLLM().invoke("3 + 4?") == r"\boxed{7}"
    assert message.response_metadata["model_name"] == models.EMBEDDED
    assert started.count == 1


def test_an_address_or_a_model_keeps_the_embedded_model_out(
    started: type[Started], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever names a server means it."""
    assert ChatESamp(model="m").engine is None
    monkeypatch.setenv("TTSCALE_API_BASE", "http://there/v1")
    with pytest.raises(ValueError, match="model must be given"):
        ChatESamp()


def test_an_engine_that_died_is_started_anew(started: type[Started]) -> None:
    """The error says that it may be tried again, and that is true."""
    model = ChatESamp()
    model.invoke("?")
    started.dead = True
    with pytest.raises(ModelError) as caught:
        model.invoke("?")

    assert caught.value.is_retryable
    assert model.invoke("?").text == r"\boxed{7}"
    assert started.count == 2


@pytest.mark.engine
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_the_embedded_model_fills_in_a_form(engine: LocalEngine, method: Method) -> None:
    """What vLLM holds to the schema can always be read, even from a model of 135M parameters."""
    model = ChatESamp(engine=engine, n_candidates=4, max_tokens=96, temperature=0.7, seed=1)
    found = model.with_structured_output(Verdict, method=method).invoke("Is snow white?")

    assert isinstance(found, Verdict)


@pytest.mark.engine
def test_the_program_on_the_page_runs(
    engine: LocalEngine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first program of docs/langchain.md, with the tests' engine as the embedded one."""
    monkeypatch.setattr(_langchain_embedded.EMBEDDED, "_running", engine)
    monkeypatch.delenv("TTSCALE_API_BASE", raising=False)
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    program = tmp_path / "program.py"
    program.write_text(found.group(1), encoding="utf-8")

    answer = runpy.run_path(str(program))["chat"].invoke("What is 3 + 4?")
    assert answer.response_metadata["model_name"] == models.EMBEDDED
    assert answer.response_metadata["ttscale"]["returned"] == 8
    assert capsys.readouterr().out.endswith("\n")
