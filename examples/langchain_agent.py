"""A LangChain agent whose calls of tools are voted on.

    python examples/langchain_agent.py                                      # a scripted stand-in
    python examples/langchain_agent.py --base-url http://localhost:8000/v1 --model NAME

Give the address of a vLLM server that was started with `--enable-auto-tool-choice` and
`--tool-call-parser`. Without one, a scripted server shows what the vote does: one of three samples
calls the tool with wrong numbers and one writes broken JSON; the agent goes on with the good call.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool

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


def stand_in(request: ServerRequest, index: int) -> str | ToolCall:
    """What the scripted server says: calls first, then an answer from the tool's result."""
    messages: Any = request.body["messages"]
    if messages[-1]["role"] != "tool":
        return CALLS[index % len(CALLS)]
    return f"17 * 3 is {messages[-1]['content']}"


def ask(base_url: str, model: str, question: str) -> None:
    """Let the agent answer, and show what it did."""
    chat = ChatESamp(model=model, base_url=base_url, n_candidates=4)
    agent = create_agent(chat, tools=[multiply])
    for message in agent.invoke({"messages": [HumanMessage(question)]})["messages"]:
        told = message.response_metadata.get("ttscale")
        print(f"{message.type}: {message.text or message.tool_calls}")
        for vote in told["votes"] if told else ():
            print(f"    {vote['count']} of {told['returned']}: {vote['answer']}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask one question."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--base-url", help="address of a vLLM server")
    parser.add_argument("--model", default="scripted", help="name of its model")
    parser.add_argument("--question", default="What is 17 times 3?")
    given = parser.parse_args(arguments)
    if given.base_url:
        ask(given.base_url, given.model, given.question)
        return
    with ScriptedServer(stand_in) as server:
        ask(server.base_url, given.model, given.question)


if __name__ == "__main__":
    main()
