"""What the scripted server writes: answers and events in OpenAI's format."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeAlias

from ttscale.types import Candidate

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
_PIECES = re.compile(r"\s*\S+|\s+\Z")
CREATED = 1_700_000_000  # a fixed second, so that answers compare equal


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A scripted call of a tool: its name, and its arguments, or the text that stands for them."""

    name: str
    arguments: Mapping[str, object] | str

    @property
    def text(self) -> str:
        """The arguments as they travel."""
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


@dataclass(frozen=True, slots=True)
class Turn:
    """A scripted sample as it is written: the candidate, and the calls of tools with it."""

    candidate: Candidate
    calls: tuple[ToolCall, ...] = ()

    @property
    def finish_reason(self) -> str:
        """The candidate's, unless it calls tools."""
        return "tool_calls" if self.calls else self.candidate.finish_reason


class Writer:
    """Writes the turns of one answer.

    Args:
        turns: What is written, one per sample.
        body: The request.
        chat: Whether it came by the chat route.
        model: The name that the answer gives.
        prompt_tokens: Length of the prompt.
    """

    def __init__(
        self,
        turns: Sequence[Turn],
        body: Mapping[str, Json],
        *,
        chat: bool,
        model: str,
        prompt_tokens: int,
    ) -> None:
        self._turns = turns
        self._chat = chat
        asked = body.get("logprobs")
        self._logprobs = asked is not None and asked is not False
        top = body.get("top_logprobs") if chat else asked
        self._top = top if isinstance(top, int) else 0
        options = body.get("stream_options")
        self._usage = isinstance(options, dict) and bool(options.get("include_usage"))
        self._always = isinstance(options, dict) and bool(options.get("continuous_usage_stats"))
        self._prompt_tokens = prompt_tokens
        self._head: dict[str, Json] = {"id": "scripted-1", "created": CREATED, "model": model}

    def whole(self) -> dict[str, Json]:
        """The answer in one piece."""
        choices: list[Json] = [self._whole_choice(i, turn) for i, turn in enumerate(self._turns)]
        kind = "chat.completion" if self._chat else "text_completion"
        return {**self._head, "object": kind, "choices": choices, "usage": self._total()}

    def events(self) -> Iterator[tuple[dict[str, Json], int]]:
        """The events of a stream, each with the number of samples that it finishes.

        The samples take turns, a piece each, as they do on a real server.
        """
        if self._chat:
            for index in range(len(self._turns)):
                delta: dict[str, Json] = {"role": "assistant", "content": ""}
                yield self._event({"index": index, "delta": delta, "finish_reason": None}), 0
        rows = [list(self._pieces(i, turn)) for i, turn in enumerate(self._turns)]
        for row in zip_longest(*rows):
            for choice in row:
                if choice is not None:
                    yield self._event(choice), int(choice["finish_reason"] is not None)
        if self._usage:
            yield {**self._event(None), "usage": self._total()}, 0

    def _event(self, choice: dict[str, Json] | None) -> dict[str, Json]:
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        made: dict[str, Json] = {
            **self._head,
            "object": kind,
            "choices": [choice] if choice else [],
        }
        if self._always:  # as vLLM does, with the tokens of one sample; here none
            made["usage"] = {"prompt_tokens": self._prompt_tokens, "completion_tokens": 0}
        return made

    def _total(self) -> dict[str, Json]:
        written = sum(turn.candidate.token_count for turn in self._turns)
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": written,
            "total_tokens": self._prompt_tokens + written,
        }

    def _whole_choice(self, index: int, turn: Turn) -> dict[str, Json]:
        pieces = _tokens(turn.candidate)
        choice: dict[str, Json] = {
            "index": index,
            "finish_reason": turn.finish_reason,
            "logprobs": self._told(turn.candidate, pieces, 0),
        }
        if not self._chat:
            return {**choice, "text": turn.candidate.text}
        message: dict[str, Json] = {"role": "assistant", "content": turn.candidate.text}
        if turn.calls:
            message["content"] = turn.candidate.text or None
            message["tool_calls"] = [_call(place, call) for place, call in enumerate(turn.calls)]
        return {**choice, "message": message}

    def _pieces(self, index: int, turn: Turn) -> Iterator[dict[str, Json]]:
        """A sample's events: one a token; the last one, or the calls, end it."""
        pieces = _tokens(turn.candidate)
        for place, piece in enumerate(pieces):
            last = place == len(pieces) - 1 and not turn.calls
            told = self._told(turn.candidate, [piece], place)
            content: dict[str, Json] = {"delta": {"content": piece}} if self._chat else {}
            yield {
                "index": index,
                **(content or {"text": piece}),
                "logprobs": told,
                "finish_reason": turn.finish_reason if last else None,
            }
        if turn.calls:
            calls: list[Json] = [{"index": i, **_call(i, c)} for i, c in enumerate(turn.calls)]
            delta: dict[str, Json] = {"tool_calls": calls}
            yield {"index": index, "delta": delta, "finish_reason": turn.finish_reason}

    def _told(self, candidate: Candidate, pieces: Sequence[str], start: int) -> Json:
        """Log-probabilities of `pieces`, of which the first is token `start`, where scripted."""
        if not self._logprobs or candidate.logprob is None:
            return None
        places = range(start, start + len(pieces))
        each = [_logprob(candidate, place) for place in places]
        tops = [_top(candidate, self._top, place) for place in places]
        if self._chat:
            rows = zip(pieces, each, tops, strict=True)
            told: list[Json] = [{**_token(p, e), "top_logprobs": _listed(t)} for p, e, t in rows]
            return {"content": told}
        return {
            "tokens": list(pieces),
            "token_logprobs": list(each),
            "top_logprobs": [dict(top) for top in tops],
        }


def _tokens(candidate: Candidate) -> list[str]:
    """The text in `token_count` pieces: its words, the first or last of them joined or empty."""
    words = _PIECES.findall(candidate.text)
    count = max(1, candidate.token_count)
    head, rest = words[: count - 1], "".join(words[count - 1 :])
    return [*head, rest, *[""] * (count - len(head) - 1)]


def _token(piece: str, logprob: float) -> dict[str, Json]:
    return {"token": piece, "logprob": logprob, "bytes": None}


def _logprob(candidate: Candidate, place: int) -> float:
    """That of the token in `place`; where only their sum is scripted, its share."""
    if place < len(candidate.token_logprobs):
        return candidate.token_logprobs[place]
    return (candidate.logprob or 0.0) / (candidate.token_count or 1)


def _top(candidate: Candidate, count: int, place: int) -> Sequence[tuple[str, float]]:
    """Likely tokens: the first place's as scripted, else as many as make the confidence there."""
    if place == 0 and candidate.top_logprobs:
        return list(candidate.top_logprobs.items())[:count]
    if place < len(candidate.confidences):
        return [(f"<{rank}>", -candidate.confidences[place]) for rank in range(count)]
    return []


def _listed(top: Sequence[tuple[str, float]]) -> list[Json]:
    return [_token(token, value) for token, value in top]


def _call(place: int, call: ToolCall) -> dict[str, Json]:
    function: dict[str, Json] = {"name": call.name, "arguments": call.text}
    return {"id": f"call_{place}", "type": "function", "function": function}
