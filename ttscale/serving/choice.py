"""Which of the samples is the answer: the strategy's, or the winner of a vote on its form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ttscale.answers import Answer
from ttscale.serving.body import Job
from ttscale.serving.engine import Drawn
from ttscale.strategies import Outcome, Vote
from ttscale.strategies.messages import Form, ToolCall, choose_structured, place_of, structure
from ttscale.strategies.select import Selection, best_member
from ttscale.types import Candidate


@dataclass(frozen=True, slots=True)
class Choice:
    """The winner and how it came about.

    Attributes:
        choice: `message`, `finish_reason` and `logprobs`, as OpenAI's format has them.
        place: Place of the winner among the samples; None for a text that the strategy put
            together of several.
        votes: Every class of answers, best first.
        reason: Why the strategy chose none and the likeliest was taken; empty when it chose.
    """

    choice: Mapping[str, Any]
    place: int | None
    votes: tuple[Vote, ...]
    tie: bool = False
    margin: float = 0.0
    reason: str = ""


def choose(job: Job, outcome: Outcome, drawn: Sequence[Drawn]) -> Choice:
    """The winner among `drawn`, which are some; the likeliest when the strategy has none."""
    candidates = [one.candidate for one in drawn]
    if job.form.structured:
        picked = choose_structured(job.strategy, outcome, _structures(job.form, drawn), candidates)
        why = "no sample has valid calls or JSON"
    else:
        place = place_of(outcome, candidates)
        if place is None and outcome.candidate is not None:
            return _whole_text(outcome, outcome.candidate)
        picked = Selection(place, outcome.answer, outcome.votes, outcome.tie, outcome.margin)
        why = outcome.reason
    if picked.place is not None:
        chosen = drawn[picked.place].choice
        return Choice(chosen, picked.place, picked.votes, picked.tie, picked.margin)
    place = best_member(range(len(drawn)), candidates, [None] * len(drawn))
    reason = f"{why}; the likeliest sample is given"
    return Choice(drawn[place].choice, place, picked.votes, reason=reason)


def _whole_text(outcome: Outcome, candidate: Candidate) -> Choice:
    """A text that no single sample is, such as a path of steps."""
    message = {"role": "assistant", "content": candidate.text}
    made = {"message": message, "finish_reason": candidate.finish_reason, "logprobs": None}
    return Choice(made, None, outcome.votes, outcome.tie, outcome.margin)


def _structures(form: Form, drawn: Sequence[Drawn]) -> list[Answer | None]:
    return [structure(_content(one), calls_of(one.choice), form) for one in drawn]


def _content(one: Drawn) -> str:
    return one.choice["message"].get("content") or ""


def calls_of(choice: Mapping[str, Any]) -> list[ToolCall]:
    """The tool calls in a choice of a completion."""
    functions = [call["function"] for call in choice["message"].get("tool_calls") or ()]
    return [ToolCall.parse(f["name"], f.get("arguments") or "") for f in functions]
