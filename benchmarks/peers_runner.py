"""One contender of benchmarks/peers.py, in a process and a Python environment of its own.

    python benchmarks/peers_runner.py PLAN RESULT

PLAN is a file with the JSON of `peers.plan`. After one uncounted question the word `ready` is
printed; a line on standard input starts the others, one after the other. RESULT becomes a JSON
list with one object a question: `text` (of the selected sample; null without one), `returned`
(samples that came back; null when the tool does not tell), `seconds`, `error`. The tools are
imported where they are used, because each environment holds one of them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

ANSWER = r"answer is\s*:?\s*\$?(-?\d[\d,]*(?:\.\d+)?)"  # the prompts' worked examples end like this
KEY = "no-key"

Found = tuple[str | None, int | None]
Ask = Callable[[str], Awaitable[Found]]


def of_ttscale(plan: dict[str, Any]) -> Ask:
    """Self-consistency of this project: one request for all samples."""
    from ttscale import ServerEngine
    from ttscale.sampling import Sampler, esamp
    from ttscale.strategies import SelfConsistency
    from ttscale.types import Prompt

    made = esamp if plan["contender"] == "ttscale, ESamp" else Sampler
    sampler = made(temperature=plan["temperature"], max_tokens=plan["max_tokens"])
    vote = SelfConsistency(plan["n"], sampler, "number")
    engine = ServerEngine(plan["url"], plan["model"])

    async def ask(question: str) -> Found:
        prompt = Prompt.of(question, system=plan["system"])
        outcome = await vote.arun(engine, prompt, seed=plan["seed"])
        return outcome.candidate.text if outcome.candidate else None, outcome.returned

    return ask


def of_its_hub(plan: dict[str, Any]) -> Ask:
    """its_hub's SelfConsistency with its regular-expression projection: one request a sample."""
    import its_hub
    from its_hub.core.algorithms.self_consistency import create_regex_projection_function

    lm = its_hub.OpenAICompatibleLanguageModel(
        endpoint=plan["url"] + "/v1",
        api_key=KEY,
        model_name=plan["model"],
        system_prompt=plan["system"],
        temperature=plan["temperature"],
        max_completion_tokens=plan["max_tokens"],
    )
    vote = its_hub.SelfConsistency(create_regex_projection_function(ANSWER))

    async def ask(question: str) -> Found:
        result = await vote.ainfer(lm, question, plan["n"], return_response_only=False)
        return result.the_one["content"], len(result.responses)

    return ask


class Counting:
    """An OpenAI client of which only chat completions are used, and their choices counted."""

    def __init__(self, url: str) -> None:
        import openai

        self._client = openai.OpenAI(base_url=url + "/v1", api_key=KEY)
        self.chat = self.completions = self
        self.choices = 0

    def create(self, **asked: Any) -> Any:
        """Pass a request on, unchanged."""
        answer = self._client.chat.completions.create(**asked)
        self.choices += len(answer.choices)
        return answer


def of_optillm_votes(plan: dict[str, Any]) -> Ask:
    """optillm's majority_voting plugin: one request for all samples."""
    from optillm.plugins import majority_voting_plugin

    client = Counting(plan["url"])
    settings = {"k": plan["n"], **{key: plan[key] for key in ("temperature", "max_tokens")}}

    async def ask(question: str) -> Found:
        client.choices = 0
        text, _ = majority_voting_plugin.run(
            plan["system"], question, client, plan["model"], settings
        )
        return text, client.choices

    return ask


def of_optillm_consistency(plan: dict[str, Any]) -> Ask:
    """optillm's self_consistency: one request after the other, at its own temperature of 1."""
    from optillm.self_consistency import AdvancedSelfConsistency

    client = Counting(plan["url"])
    vote = AdvancedSelfConsistency(
        client, plan["model"], plan["n"], request_config={"max_tokens": plan["max_tokens"]}
    )

    async def ask(question: str) -> Found:
        client.choices = 0
        clusters = vote.evaluate(plan["system"], question)["aggregated_result"]["clusters"]
        return clusters[0]["answer"] if clusters else None, client.choices

    return ask


MADE: dict[str, Callable[[dict[str, Any]], Ask]] = {
    "ttscale, plain": of_ttscale,
    "ttscale, ESamp": of_ttscale,
    "its_hub": of_its_hub,
    "optillm, majority_voting": of_optillm_votes,
    "optillm, self_consistency": of_optillm_consistency,
}


async def answer(ask: Ask, question: str) -> dict[str, Any]:
    """What became of one question."""
    started = time.perf_counter()
    text, returned, error = None, None, ""
    try:
        text, returned = await ask(question)
    except Exception as caught:  # noqa: BLE001 - whatever a tool raises is its result here
        error = f"{type(caught).__name__}: {caught}"
    seconds = time.perf_counter() - started
    return {"text": text, "returned": returned, "seconds": seconds, "error": error}


async def run(plan: dict[str, Any], result: Path) -> None:
    """Warm up, wait for the word, answer all questions."""
    ask = MADE[plan["contender"]](plan)
    first = await answer(ask, plan["warm_up"])
    if first["error"]:
        print(first["error"], file=sys.stderr)
    print("ready", flush=True)
    sys.stdin.readline()
    results = [await answer(ask, question) for question in plan["questions"]]
    result.write_text(json.dumps(results), encoding="utf-8")


def main() -> None:
    """Run the contender of a plan."""
    plan, result = (Path(name) for name in sys.argv[1:])
    asyncio.run(run(json.loads(plan.read_text(encoding="utf-8")), result))


if __name__ == "__main__":
    main()
