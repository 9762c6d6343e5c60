"""Which of the samples LangChain gets: by the strategy, or by a vote on calls and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage
from pydantic import BaseModel, ValidationError

from ttscale.answers import Answer
from ttscale.integrations._langchain_draw import Drawn
from ttscale.strategies import BestOfN, Outcome, Strategy, VerifierRerank, Vote
from ttscale.strategies.select import Selection, argmax, best_member, majority, weighted_vote

IN_TEXT = "answers in text"


@dataclass(frozen=True, slots=True)
class Asked:
    """What form of answer a call asks for.

    Attributes:
        tools: The tools that may be called, in OpenAI's format.
        forced: Whether a tool must be called.
        json: Whether the answer must be JSON.
        schema: What the JSON must fit, if that is known here.
    """

    tools: tuple[Mapping[str, Any], ...] = ()
    forced: bool = False
    json: bool = False
    schema: type[BaseModel] | None = None

    @classmethod
    def of(cls, kwargs: Mapping[str, Any]) -> Asked:
        """Read it from the arguments of a call."""
        form, choice = kwargs.get("response_format"), kwargs.get("tool_choice")
        is_class = isinstance(form, type) and issubclass(form, BaseModel)
        is_text = isinstance(form, Mapping) and form.get("type") == "text"
        return cls(
            tools=tuple(kwargs.get("tools") or ()),
            forced=choice not in (None, "auto", "none", False),
            json=form is not None and not is_text,
            schema=form if is_class else None,
        )

    @property
    def structured(self) -> bool:
        """Whether samples are compared by their structure rather than by their text."""
        return bool(self.tools) or self.json


@dataclass(frozen=True, slots=True)
class Choice:
    """The winner's place among the samples, and how it came about."""

    place: int
    votes: tuple[Vote, ...]
    tie: bool
    margin: float
    reason: str = ""


def choose(
    strategy: Strategy[Any], outcome: Outcome, drawn: Sequence[Drawn], asked: Asked
) -> Choice:
    """The sample to give; when none can win, the likeliest, with the reason why none could."""
    if asked.structured:
        picked = _by_structure(strategy, outcome, drawn, asked)
        why = "no sample has valid calls or JSON"
    else:
        place = _place_of(outcome, drawn)
        picked = Selection(place, outcome.answer, outcome.votes, outcome.tie, outcome.margin)
        why = outcome.reason
    if picked.place is not None:
        return Choice(picked.place, picked.votes, picked.tie, picked.margin)
    place = best_member(range(len(drawn)), _candidates(drawn), [None] * len(drawn))
    reason = f"{why}; the likeliest sample is given"
    return Choice(place, picked.votes, tie=False, margin=0.0, reason=reason)


def _place_of(outcome: Outcome, drawn: Sequence[Drawn]) -> int | None:
    same = [i for i, one in enumerate(drawn) if one.candidate is outcome.candidate]
    equal = [i for i, one in enumerate(drawn) if one.candidate == outcome.candidate]
    return next(iter(same + equal), None)


def _candidates(drawn: Sequence[Drawn]) -> list[Any]:
    return [one.candidate for one in drawn]


def _by_structure(
    strategy: Strategy[Any], outcome: Outcome, drawn: Sequence[Drawn], asked: Asked
) -> Selection:
    """A vote on calls or JSON, weighed as the strategy does; samples without them cannot win."""
    keys = [structure(one.message, asked) for one in drawn]
    answers = [Answer(k, "text", (0, 0), k) if k is not None else None for k in keys]
    scores = scores_of(outcome, len(drawn))
    valid = [s if k is not None else None for s, k in zip(scores, keys, strict=True)]
    candidates = _candidates(drawn)
    if isinstance(strategy, BestOfN) and any(score is not None for score in valid):
        return argmax(candidates, answers, valid)
    if isinstance(strategy, VerifierRerank) and any(score is not None for score in valid):
        low, high = strategy.verifier.low, strategy.verifier.high
        return weighted_vote(candidates, answers, valid, low=low, high=high)
    picked = majority(candidates, answers)
    place = _place_of(outcome, drawn)
    if picked.answer == IN_TEXT and place is not None and keys[place] == IN_TEXT:
        return Selection(place, IN_TEXT, picked.votes, picked.tie, picked.margin)
    return picked


def structure(message: AIMessage, asked: Asked) -> str | None:
    """What a sample votes for: its calls or its JSON in one spelling; None for invalid ones."""
    if message.invalid_tool_calls:
        return None
    if message.tool_calls:
        if not all(_legal(call["name"], call["args"], asked.tools) for call in message.tool_calls):
            return None
        calls = [_spelled([call["name"], call["args"]]) for call in message.tool_calls]
        return "\n".join(sorted(calls))
    if asked.json:
        return _json_of(str(message.text), asked.schema)
    return None if asked.forced or not str(message.text).strip() else IN_TEXT


def parsed(message: AIMessage, schema: type[BaseModel]) -> BaseModel | None:
    """The message's JSON as an object of `schema`; None when it does not fit."""
    try:
        return schema.model_validate_json(str(message.text))
    except ValidationError:
        return None


def _json_of(text: str, schema: type[BaseModel] | None) -> str | None:
    try:
        content = json.loads(text)
        if schema is not None:
            schema.model_validate_json(text)
    except ValueError:  # of which pydantic's ValidationError is one
        return None
    return _spelled(content)


def _spelled(content: object) -> str:
    return json.dumps(content, sort_keys=True)


def _legal(name: str, args: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a tool of that name is there, and its required arguments are given."""
    for tool in tools:
        function = tool.get("function", {})
        if function.get("name") == name:
            return set(function.get("parameters", {}).get("required", ())) <= set(args)
    return not tools


def scores_of(outcome: Outcome, count: int) -> list[float | None]:
    """The score of each sample, in their order."""
    scores: list[float | None] = [None] * count
    for score in outcome.scores:
        if 0 <= score.index < count:
            scores[score.index] = score.value
    return scores


def report(outcome: Outcome, drawn: Sequence[Drawn], choice: Choice) -> dict[str, Any]:
    """How the winner came about, as plain JSON."""
    scores = scores_of(outcome, len(drawn))
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
    }


def _vote(vote: Vote) -> dict[str, Any]:
    return {"answer": vote.answer, "count": vote.count, "weight": vote.weight}
