"""A LangGraph graph: three solvers at the same time on one engine, and a vote over all of them.

    python examples/langgraph_branches.py

Each branch is told to solve the problem in another way, and draws its own ESamp samples. They run
at the same time, so vLLM serves their samples in one batch. The last node adds up the votes.
"""

from __future__ import annotations

import operator
from collections import Counter
from typing import Annotated, Any, TypedDict

from langchain_core.messages import HumanMessage, SystemMessage
from langgraph.graph import END, START, StateGraph

from ttscale import LocalEngine
from ttscale.engines import Engine
from ttscale.integrations.langchain import ChatESamp
from ttscale.strategies import ESampSelfConsistency

WAYS = {
    "steps": "Solve the problem step by step. End with the answer in \\boxed{}.",
    "equation": "Write the problem as an equation and solve it. End with the answer in \\boxed{}.",
    "short": "Answer with the number alone, in \\boxed{}.",
}


class State(TypedDict):
    """What the nodes know; `votes` has an entry for each answer of each branch."""

    question: str
    votes: Annotated[list[tuple[str, int]], operator.add]
    answer: str | None


def make_graph(engine: Engine, n: int = 8, max_tokens: int = 96) -> Any:
    """A branch for each way of solving, and the vote that joins them."""
    strategy = ESampSelfConsistency(n, temperature=0.7, max_tokens=max_tokens)
    model = ChatESamp(engine=engine, strategy=strategy)
    graph = StateGraph(State)
    for name, instruction in WAYS.items():
        graph.add_node(name, solver(model, instruction))
        graph.add_edge(START, name)
    graph.add_node("vote", vote)
    graph.add_edge(list(WAYS), "vote")
    graph.add_edge("vote", END)
    return graph.compile()


def solver(model: ChatESamp, instruction: str) -> Any:
    """A node that solves in one way, and gives the votes of its samples."""

    def solve(state: State) -> dict[str, Any]:
        message = model.invoke([SystemMessage(instruction), HumanMessage(state["question"])])
        votes = message.response_metadata["ttscale"]["votes"]
        return {"votes": [(vote["answer"], vote["count"]) for vote in votes]}

    return solve


def vote(state: State) -> dict[str, str | None]:
    """The answer with the most samples of all branches; of equal ones the first in the alphabet."""
    total = Counter(answer for answer, count in state["votes"] for _ in range(count))
    ranked = sorted(total, key=lambda answer: (-total[answer], answer))
    return {"answer": ranked[0] if ranked else None}


def main() -> None:
    """Ask one question."""
    question = {"question": "Tom has 3 bags with 4 apples each and eats 2. How many are left?"}
    with LocalEngine() as engine:
        state = make_graph(engine).invoke(question)
    print(f"answer: {state['answer']}, votes: {state['votes']}")


if __name__ == "__main__":
    main()
