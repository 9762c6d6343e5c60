"""Answer maths questions by majority vote over ESamp samples of a small open model.

Run it with `make demo`. To use it for your own class, change MODEL and the file of questions. A
model of 135M parameters needs worked examples in its prompt; one of 7B does not, and solves most
of these problems in a single sample.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from ttscale import LocalEngine, Prompt
from ttscale.engines import Engine
from ttscale.evaluation import Task, from_jsonl, wilson
from ttscale.strategies import ESampSelfConsistency, Outcome

MODEL = "smollm2-135m-instruct"
QUESTIONS = Path(__file__).with_name("word_problems.jsonl")
COUNT, SAMPLES = 24, 16
EXAMPLES = """\
Question: Anna has 4 pens and buys 3 more. How many pens does Anna have now?
Answer: 4 + 3 = 7. The answer is 7.

Question: There are 5 bags with 2 apples in each. How many apples are there?
Answer: 5 x 2 = 10. The answer is 10.

Question: Ben had 9 coins, gave away 4 and then found 2. How many coins does Ben have?
Answer: 9 - 4 = 5 and 5 + 2 = 7. The answer is 7.

"""


async def answer_all(engine: Engine, task: Task, samples: int) -> list[Outcome]:
    """Ask every question; vLLM runs their samples in one batch."""
    vote = ESampSelfConsistency(
        n=samples, temperature=0.6, max_tokens=40, stop=("\n",), kind="number"
    )
    prompts = [Prompt.raw(f"{EXAMPLES}Question: {p.question}\nAnswer:") for p in task.problems]
    return list(await asyncio.gather(*(vote.arun(engine, p, seed=0) for p in prompts)))


def show(name: str, right: list[bool]) -> None:
    """One line of the summary."""
    low, high = wilson(sum(right), len(right))
    share = sum(right) / len(right)
    print(f"{name:<24}{share:6.1%}   {sum(right)} of {len(right)}, 95 % {low:.0%} to {high:.0%}")


def main(engine: Engine, count: int = COUNT, samples: int = SAMPLES) -> None:
    """Print the votes of each problem, then how often voting was right."""
    problems, _ = from_jsonl(QUESTIONS)
    task = Task("word problems", problems[:count])
    outcomes = asyncio.run(answer_all(engine, task, samples))
    voted, single, oracle = [], [], []
    for problem, outcome in zip(task.problems, outcomes, strict=True):
        right = [a is not None and task.right(a.value, problem) for a in outcome.answers]
        voted.append(outcome.answer is not None and task.right(outcome.answer, problem))
        single += right
        oracle.append(any(right))
        votes = ", ".join(f"{v.answer} x{v.count}" for v in outcome.votes[:5])
        print(f"{problem.question}\n  {outcome.answer} (known: {problem.gold})   votes: {votes}")
    print()
    show("majority vote", voted)
    show("mean single sample", single)
    show("oracle (any sample)", oracle)
    reports = [outcome.esamp for outcome in outcomes if outcome.esamp is not None]
    print(f"ESamp: {sum(r.rows_mixed for r in reports)} rows mixed, ", end="")
    print(f"{sum(r.steps_trained for r in reports)} steps trained, ", end="")
    print(f"{sum(r.fallback_count for r in reports)} fallbacks")


if __name__ == "__main__":
    with LocalEngine(MODEL) as local:
        main(local)
