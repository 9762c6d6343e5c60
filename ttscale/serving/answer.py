"""The completion in OpenAI's format, whole or in chunks, and the block `ttscale` in it."""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ttscale.serving.body import Job
from ttscale.serving.choice import Choice
from ttscale.serving.engine import Drawn
from ttscale.strategies import Outcome
from ttscale.strategies.messages import scores_of
from ttscale.types import ESampReport, Usage

DONE = b"data: [DONE]\n\n"
Json = dict[str, Any]


class Head:
    """What all chunks of one answer have in common."""

    def __init__(self, model: str) -> None:
        self.id = f"chatcmpl-ttscale-{uuid.uuid4().hex}"
        self.created = int(time.time())
        self.model = model

    def completion(self, kind: str, choices: Sequence[Json], **more: Any) -> Json:
        """A completion, or a chunk of one."""
        made: Json = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return {**made, "choices": list(choices), **more}


def whole(head: Head, choice: Choice, usage: Usage, block: Json) -> Json:
    """The answer in one piece."""
    kept = ("message", "finish_reason", "logprobs")
    chosen = {"index": 0, **{name: choice.choice.get(name) for name in kept}}
    told = usage_of(usage)
    return head.completion("chat.completion", [chosen], usage=told, ttscale=block)


def first_chunk(head: Head) -> bytes:
    """Tells that an answer is on its way."""
    return _event(_chunk(head, {"role": "assistant", "content": ""}))


def progress(done: int, requested: int) -> bytes:
    """A comment, which every client of server-sent events passes over."""
    whole = f" of {requested}" if done <= requested else ""  # some strategies draw in rounds
    return f": ttscale {done}{whole} samples\n\n".encode()


def last_chunks(
    head: Head, choice: Choice, usage: Usage, block: Json, *, tells_usage: bool
) -> Iterator[bytes]:
    """The answer, its end with the block `ttscale`, its usage, and the end of the stream."""
    chosen = choice.choice
    yield _event(_chunk(head, _delta(chosen["message"]), logprobs=chosen.get("logprobs")))
    yield _event(_chunk(head, {}, finish_reason=chosen.get("finish_reason"), ttscale=block))
    if tells_usage:
        told = usage_of(usage)
        yield _event(head.completion("chat.completion.chunk", [], usage=told))
    yield DONE


def error_event(error: Json) -> bytes:
    """An error in a stream that has begun."""
    return _event(error)


def usage_of(usage: Usage) -> Json:
    """Tokens of all samples and of the verifier."""
    total = usage.prompt_tokens + usage.completion_tokens
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": total,
    }


def block_of(job: Job, outcome: Outcome, drawn: Sequence[Drawn], choice: Choice) -> Json:
    """How the answer came about."""
    return {
        "strategy": outcome.strategy,
        "requested": outcome.requested,
        "returned": outcome.returned,
        "selected": choice.place,
        "answer": outcome.answer,
        "votes": [{"answer": v.answer, "count": v.count, "weight": v.weight} for v in choice.votes],
        "tie": choice.tie,
        "margin": choice.margin,
        "reason": choice.reason,
        "candidates": _candidates(job, outcome, drawn),
        "stopped": outcome.stopped,
        "notes": {name: value for name, value in outcome.notes.items() if math.isfinite(value)},
        "spent": _spent(outcome),
        "failures": [failure.reason for failure in outcome.failures],
        "esamp": esamp_of(outcome.esamp),
    }


def _spent(outcome: Outcome) -> Json:
    """What the run has cost, beside the tokens in `usage`."""
    spent = outcome.spent
    names = ("samples", "failed", "cancelled", "judge")
    return {**{name: getattr(spent, name) for name in names}, "seconds": round(spent.seconds, 3)}


def esamp_of(report: ESampReport | None) -> Json | None:
    """What ESamp did; None when it was not asked for."""
    return None if report is None else report.to_json()


def _candidates(job: Job, outcome: Outcome, drawn: Sequence[Drawn]) -> list[Json]:
    scores = scores_of(outcome, [one.candidate for one in drawn])
    rows: list[Json] = []
    for one, score in zip(drawn, scores, strict=True):
        row: Json = {
            "index": one.candidate.index,
            "finish_reason": one.choice.get("finish_reason"),
            "tokens": one.candidate.token_count,
            "mean_logprob": one.candidate.mean_logprob,
            "score": score,
        }
        rows.append(row | ({"message": one.choice["message"]} if _shows_texts(job) else {}))
    return rows


def _shows_texts(job: Job) -> bool:
    return job.options.return_candidates


def _chunk(
    head: Head,
    delta: Mapping[str, Any],
    *,
    finish_reason: str | None = None,
    logprobs: object = None,
    **more: Any,
) -> Json:
    choice: Json = {"index": 0, "delta": dict(delta), "finish_reason": finish_reason}
    if logprobs is not None:
        choice["logprobs"] = logprobs
    return head.completion("chat.completion.chunk", [choice], **more)


def _delta(message: Mapping[str, Any]) -> Json:
    """A message as one delta: tool calls have their place in it."""
    told = {k: v for k, v in message.items() if k not in ("role", "tool_calls") and v is not None}
    calls = message.get("tool_calls") or ()
    if calls:
        told["tool_calls"] = [{"index": place, **call} for place, call in enumerate(calls)]
    return told


def _event(content: Json) -> bytes:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n".encode()
