"""A LangChain chain whose answer is the majority of ESamp samples, with no server.

    python examples/langchain_chain.py

`ChatESamp` takes the place of `ChatOpenAI`. The embedded model runs in this process's engine.
"""

from __future__ import annotations

from typing import Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable

from ttscale import LocalEngine
from ttscale.engines import Engine
from ttscale.integrations.langchain import ChatESamp
from ttscale.strategies import ESampSelfConsistency

PROMPT = ChatPromptTemplate.from_messages(
    [
        ("system", "Solve the problem. End with the answer in \\boxed{{}}."),
        ("user", "{question}"),
    ]
)


def make_chain(engine: Engine, n: int = 8, max_tokens: int = 128) -> Runnable[Any, str]:
    """Prompt, model, parser."""
    strategy = ESampSelfConsistency(n, temperature=0.7, max_tokens=max_tokens)
    return PROMPT | ChatESamp(engine=engine, strategy=strategy) | StrOutputParser()


def main() -> None:
    """Ask one question, and show the votes behind the answer."""
    question = {"question": "Tom has 3 bags with 4 apples each and eats 2. How many are left?"}
    with LocalEngine() as engine:
        print(make_chain(engine).invoke(question))
        model = ChatESamp(engine=engine, strategy=ESampSelfConsistency(8, temperature=0.7))
        message = (PROMPT | model).invoke(question)
        for vote in message.response_metadata["ttscale"]["votes"]:
            print(f"{vote['count']} of 8 samples answer {vote['answer']}")


if __name__ == "__main__":
    main()
