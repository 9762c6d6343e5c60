"""The examples for LangChain and LangGraph, on scripted models and on the embedded one."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ttscale import LocalEngine, models
from ttscale.integrations.langchain import ChatESamp
from ttscale.testing import ScriptedEngine
from ttscale.types import Prompt

EXAMPLES = Path(__file__).parent.parent / "examples"
WAIT = 20


def load(name: str) -> ModuleType:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where LangGraph looks up the annotations of a state
    spec.loader.exec_module(module)
    return module


def test_the_agent_goes_on_with_the_call_most_samples_agree_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Wrong numbers and broken JSON are outvoted, and the run ends with an answer."""
    load("langchain_agent").main(["--scripted"])

    told = capsys.readouterr().out.splitlines()
    assert told[2].strip() == '2 of 4: multiply({"a": 17, "b": 3})'
    assert told[-2] == "ai: 17 * 3 is 51"


def test_the_branches_of_the_graph_share_one_engine_at_the_same_time() -> None:
    """No branch's samples finish before every branch has asked; then the votes are added up."""
    example = load("langgraph_branches")

    async def gate(prompt: Prompt, index: int) -> None:
        async with asyncio.timeout(WAIT):
            while len(engine.calls) < len(example.WAYS):
                await asyncio.sleep(0.01)

    def script(prompt: Prompt, index: int) -> str:
        short = prompt.messages[0].content == example.WAYS["short"]
        return r"\boxed{9}" if short else [r"\boxed{10}", r"\boxed{12}"][index % 2]

    engine = ScriptedEngine(script, gate=gate)
    state = example.make_graph(engine, n=2, max_tokens=8).invoke({"question": "How many?"})

    asked = {call.prompt.messages[0].content for call in engine.calls}
    assert asked == set(example.WAYS.values())
    assert sorted(state["votes"]) == [("10", 1), ("10", 1), ("12", 1), ("12", 1), ("9", 2)]
    assert state["answer"] == "10"
    assert all(call.sampler.esamp is not None for call in engine.calls)


def test_a_graph_without_votes_has_no_answer() -> None:
    """Nothing is made up where no sample states an answer."""
    engine = ScriptedEngine(["hello"])
    state = load("langgraph_branches").make_graph(engine, n=2).invoke({"question": "Hello?"})

    assert (state["answer"], state["votes"]) == (None, [])


def test_the_chain_gives_the_winner() -> None:
    """Prompt, model and parser."""
    engine = ScriptedEngine([r"\boxed{8}", r"so \boxed{7}", r"\boxed{7}"])
    chain = load("langchain_chain").make_chain(engine, n=3)

    assert chain.invoke({"question": "3 + 4?"}) == r"so \boxed{7}"


@pytest.fixture
def agent() -> ModuleType:
    """The example of an agent."""
    return load("langchain_agent")


@pytest.mark.engine
def test_the_chain_example_runs(engine: LocalEngine) -> None:
    """`examples/langchain_chain.py` answers with the embedded model, in the process."""
    chain = load("langchain_chain").make_chain(engine, n=2, max_tokens=8)

    assert isinstance(chain.invoke({"question": "What is 2 + 3?"}), str)


@pytest.mark.engine
def test_the_agent_example_runs_in_this_process(engine: LocalEngine, agent: Any) -> None:
    """`examples/langchain_agent.py` calls its tool, and ends with an answer in text."""
    chat = ChatESamp(engine=engine, n_candidates=4, max_tokens=64, temperature=0.7)
    check_agent(agent, chat)


@pytest.mark.engine
def test_the_agent_example_runs_on_a_server(server_url: str, agent: Any) -> None:
    """The same, with vLLM's own parser of calls."""
    chat = ChatESamp(
        model=models.EMBEDDED,
        base_url=server_url,
        n_candidates=4,
        max_tokens=64,
        temperature=0.7,
        esamp=0.25,
    )
    check_agent(agent, chat)


def check_agent(agent: Any, chat: ChatESamp) -> None:
    """What is said depends on the model; that a call, its result and a text come does not."""
    messages = agent.run(chat, "What is 17 times 3?")

    assert [m.type for m in messages] == ["human", "ai", "tool", "ai"]
    arguments = messages[1].tool_calls[0]["args"]
    assert messages[2].content == str(arguments["a"] * arguments["b"])
    assert messages[3].text


@pytest.mark.engine
def test_the_graph_example_runs(engine: LocalEngine) -> None:
    """`examples/langgraph_branches.py` ends with the answer of all branches together."""
    graph = load("langgraph_branches").make_graph(engine, n=3, max_tokens=16)
    state = graph.invoke({"question": "What is 2 + 3?"})

    assert set(state) >= {"question", "votes"}
    assert state["answer"] in {None, *(answer for answer, _ in state["votes"])}
