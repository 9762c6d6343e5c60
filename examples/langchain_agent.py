"""A LangChain agent whose calls of tools are voted on.

    python examples/langchain_agent.py                                      # the embedded model
    python examples/langchain_agent.py --base-url http://localhost:8000/v1 --model NAME
    python examples/langchain_agent.py --scripted                           # what the vote does

A small model cannot be trusted to call a tool when it should. So this agent must call one first
and must then answer in text: vLLM holds the calls to the tool's schema, and the vote picks the
arguments that most samples agree on. For a model that decides by itself drop `CallThenAnswer`,
and start the server with `--enable-auto-tool-choice` and `--tool-call-parser`. In the scripted run
one of four samples has wrong numbers and one has broken JSON; the agent goes on with the good call.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool

from ttscale import LocalEngine
from ttscale.integrations.langchain import ChatESamp
from ttscale.testing import ScriptedServer, ServerRequest, ToolCall

CALLS = (
    ToolCall("multiply", {"a": 71, "b": 3}),
    ToolCall("multiply", {"a": 17, "b": 3}),
    ToolCall("multiply", '{"a": 17'),
    ToolCall("multiply", {"b": 3, "a": 17}),
)


@tool
def multiply(a: int, b: int) -> int:
    """Multiply two whole numbers."""
    return a * b


class CallThenAnswer(AgentMiddleware[Any, Any]):
    """One call of a tool, then one answer in text, whatever the model would do."""

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Ask with the `tool_choice` that the turn needs."""
        called = isinstance(request.messages[-1], ToolMessage)
        return handler(request.override(tool_choice="none" if called else "any"))


def stand_in(request: ServerRequest, index: int) -> str | ToolCall:
    """What the scripted server says: calls first, then an answer from the tool's result."""
    messages: Any = request.body["messages"]
    if messages[-1]["role"] != "tool":
        return CALLS[index % len(CALLS)]
    return f"17 * 3 is {messages[-1]['content']}"


def run(chat: ChatESamp, question: str) -> list[BaseMessage]:
    """Every message of the agent's work, the question first."""
    agent = create_agent(chat, tools=[multiply], middleware=[CallThenAnswer()])
    messages: list[BaseMessage] = agent.invoke({"messages": [HumanMessage(question)]})["messages"]
    return messages


def ask(chat: ChatESamp, question: str) -> None:
    """Let the agent answer, and show what it did."""
    for message in run(chat, question):
        told: Any = message.response_metadata.get("ttscale")
        calls = message.tool_calls if isinstance(message, AIMessage) else []
        print(f"{message.type}: {message.text or calls}")
        for vote in told["votes"] if told else ():
            print(f"    {vote['count']} of {told['returned']}: {vote['answer']}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask one question."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--base-url", help="address of a vLLM server")
    parser.add_argument("--model", default="scripted", help="name of its model")
    parser.add_argument("--scripted", action="store_true", help="a scripted stand-in for a model")
    parser.add_argument("--question", default="What is 17 times 3?")
    parser.add_argument("--max-tokens", type=int, default=64, help="longest sample")
    given = parser.parse_args(arguments)
    made: dict[str, Any] = {"n_candidates": 4, "temperature": 0.7, "max_tokens": given.max_tokens}
    if given.base_url:
        ask(ChatESamp(model=given.model, base_url=given.base_url, **made), given.question)
    elif given.scripted:
        with ScriptedServer(stand_in) as server:
            ask(ChatESamp(model="scripted", base_url=server.base_url, **made), given.question)
    else:
        with LocalEngine() as engine:
            ask(ChatESamp(engine=engine, **made), given.question)


if __name__ == "__main__":
    main()
