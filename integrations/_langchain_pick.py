"""Which of the samples LangChain gets: by the strategy, or by a vote on calls and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.messages import AIMessage
from pydantic import BaseModel, ValidationError

from ttscale.answers import Answer
from ttscale.integrations._langchain_draw import Drawn
from ttscale.strategies import Outcome, Strategy, Vote
from ttscale.strategies.messages import (
    Form,
    ToolCall,
    choose_structured,
    place_of,
    scores_of,
    structure,
)
from ttscale.strategies.select import Selection, best_member
from ttscale.types import Candidate


@dataclass(frozen=True, slots=True)
class Asked:
    """What form of answer a call asks for.

    Attributes:
        form: The form.
        schema: The class that JSON must fit, if one was given.
    """

    form: Form
    schema: type[BaseModel] | None = None

    @classmethod
    def of(cls, kwargs: Mapping[str, Any]) -> Asked:
        """Read it from the arguments of a call."""
        wanted = kwargs.get("response_format")
        schema = wanted if isinstance(wanted, type) and issubclass(wanted, BaseModel) else None
        form = Form.of(
            kwargs.get("tools"),
            kwargs.get("tool_choice"),
            wanted if isinstance(wanted, Mapping) else None,
            parallel=kwargs.get("parallel_tool_calls") is not False,
        )
        if schema is not None:
            form = replace(form, json=True, fits=lambda text: _read(text, schema) is not None)
        return cls(form, schema)


@dataclass(frozen=True, slots=True)
class Choice:
    """The winner's place among the samples, and how it came about."""

    place: int
    votes: tuple[Vote, ...]
    tie: bool
    margin: float
    reason: str = ""


def choose(
    strategy: Strategy[Any],
    outcome: Outcome,
    drawn: Sequence[Drawn],
    asked: Asked,
    seed: int = 0,
) -> Choice:
    """The sample to give; when none can win, the likeliest, with the reason why none could."""
    candidates = _candidates(drawn)
    if asked.form.structured:
        votes = [_vote_of(one.message, asked.form) for one in drawn]
        picked = choose_structured(strategy, outcome, votes, candidates, seed)
        why = "no sample has valid calls or JSON"
    else:
        place = place_of(outcome, candidates)
        picked = Selection(place, outcome.answer, outcome.votes, outcome.tie, outcome.margin)
        why = outcome.reason
    if picked.place is not None:
        return Choice(picked.place, picked.votes, picked.tie, picked.margin)
    place = best_member(range(len(drawn)), candidates, [None] * len(drawn))
    reason = f"{why}; the likeliest sample is given"
    return Choice(place, picked.votes, tie=False, margin=0.0, reason=reason)


def _candidates(drawn: Sequence[Drawn]) -> list[Candidate]:
    return [one.candidate for one in drawn]


def _vote_of(message: AIMessage, form: Form) -> Answer | None:
    """What a sample votes for where its form counts."""
    good = [ToolCall(call["name"], call["args"]) for call in message.tool_calls]
    bad = [ToolCall(str(call["name"]), None) for call in message.invalid_tool_calls]
    return structure(str(message.text), [*good, *bad], form)


def parsed(message: AIMessage, schema: type[BaseModel]) -> BaseModel | None:
    """The message's JSON as an object of `schema`; None when it does not fit."""
    return _read(str(message.text), schema)


def _read(text: str, schema: type[BaseModel]) -> BaseModel | None:
    try:
        return schema.model_validate_json(text)
    except ValidationError:
        return None


def report(outcome: Outcome, drawn: Sequence[Drawn], choice: Choice) -> dict[str, Any]:
    """How the winner came about, as plain JSON."""
    scores = scores_of(outcome, _candidates(drawn))
    errors = {s.index: s.error for s in outcome.scores if s.error is not None}
    return {
        "strategy": outcome.strategy,
        "requested": outcome.requested,
        "returned": len(drawn),
        "selected": choice.place,
        "answer": outcome.answer,
        "tie": choice.tie,
        "margin": choice.margin,
        "reason": choice.reason,
        "votes": [_vote(vote) for vote in choice.votes],
        "candidates": [
            {
                "text": one.candidate.text,
                "score": scores[place],
                "score_error": errors.get(place),
                "finish_reason": one.candidate.finish_reason,
                "mean_logprob": one.candidate.mean_logprob,
            }
            for place, one in enumerate(drawn)
        ],
        "failures": [failure.reason for failure in outcome.failures],
        "esamp": None if outcome.esamp is None else outcome.esamp.to_json(),
        "stopped": outcome.stopped,
    }


def _vote(vote: Vote) -> dict[str, Any]:
    return {"answer": vote.answer, "count": vote.count, "weight": vote.weight}
