"""The values that pass between rooms: prompts, candidates and what drawing them cost.

All are frozen and compare by value. None of them needs torch or vLLM.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ttscale.errors import InvalidInput

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InvalidInput(f"role must be one of {', '.join(ROLES)}; got {self.role!r}")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked of a model: a conversation, or raw text to be continued.

    Conversations go through the model's chat template; raw text does not.

    Attributes:
        messages: The conversation; empty for raw text.
        text: The raw text; None for a conversation.
        prefix: How the answer begins. The model goes on from there, and `Candidate.text` is only
            what it adds. Engines that cannot do that refuse it.
    """

    messages: tuple[Message, ...] = ()
    text: str | None = None
    prefix: str = ""

    def __post_init__(self) -> None:
        if bool(self.messages) == (self.text is not None):
            raise InvalidInput("a prompt holds either messages or raw text; got both or neither")
        if self.text == "":
            raise InvalidInput("a raw prompt must not be empty")
        if self.prefix and self.messages and self.messages[-1].role == "assistant":
            raise InvalidInput(
                "a prefix begins a new answer, but the last turn is the assistant's already; "
                "put that turn's text in front of the prefix instead"
            )

    @classmethod
    def of(cls, prompt: str | Prompt | Sequence[Message], system: str | None = None) -> Prompt:
        """Make a prompt of a question (one user turn), of messages, or of a prompt.

        `system` is put in front as the system turn.
        """
        if isinstance(prompt, Prompt):
            return prompt
        if isinstance(prompt, str):
            if not prompt.strip():
                raise InvalidInput("a question must not be empty")
            prompt = [Message("user", prompt)]
        head = [Message("system", system)] if system is not None else []
        return cls(messages=(*head, *prompt))

    @classmethod
    def raw(cls, text: str) -> Prompt:
        """A prompt of raw text, which the model continues without a chat template."""
        return cls(text=text)

    @property
    def question(self) -> str:
        """The last user turn, or the raw text."""
        if self.text is not None:
            return self.text
        turns = [m.content for m in self.messages if m.role == "user"]
        return turns[-1] if turns else self.messages[-1].content


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written. Prompt tokens count once for all samples of a request."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """One finished sample.

    Attributes:
        index: Its place among the samples of its request.
        text: What the model wrote.
        token_count: Its length in tokens.
        finish_reason: `stop` (the model ended it), `length` (cut off) or another word of the
            engine.
        logprob: Sum of the log-probabilities (nats) of its tokens in the distribution that the
            engine sampled from, before temperature; None when the engine does not tell.
        top_logprobs: The most likely first tokens and their log-probabilities, when asked for.
        token_logprobs: Log-probability (nats) of each of its tokens, when asked for.
        confidences: For each of its tokens, minus the mean log-probability (nats) of the most
            likely tokens there, as many as were asked for. High where the model is sure of its
            token, since the others are unlikely then (Fu et al., arXiv 2508.15260).
    """

    index: int
    text: str
    token_count: int
    finish_reason: str
    logprob: float | None = None
    top_logprobs: Mapping[str, float] = field(default_factory=dict)
    token_logprobs: tuple[float, ...] = ()
    confidences: tuple[float, ...] = ()

    @property
    def truncated(self) -> bool:
        """Whether the sample was cut off at `max_tokens`."""
        return self.finish_reason == "length"

    @property
    def mean_logprob(self) -> float | None:
        """Log-probability per token, in nats; None when unknown."""
        if self.logprob is None or self.token_count == 0:
            return None
        return self.logprob / self.token_count


def confidence(logprobs: Iterable[float], count: int) -> float:
    """Minus the mean (nats) of the `count` largest of the log-probabilities of one place."""
    largest = sorted(logprobs, reverse=True)[:count]
    return -math.fsum(largest) / len(largest)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a sample that was asked for did not come back."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class ESampReport:
    """What ESamp did for the samples of one group.

    Attributes:
        rows_mixed: Decode steps of single samples whose logits were re-weighted.
        steps_trained: Updates of the group's distiller.
        fallbacks: Times that sampling fell back to plain, by cause.
        relative_error: Mean of `||hL - f(h1)|| / ||hL||` over the latest rows, or for distiller
            `vocab` of the divergence over that from the uniform distribution; None before any.
        bytes_held: Size of the group's distiller, in bytes.
        error_at: Sum of the groups' relative errors at training steps 8, 32 and 128, and the
            number of groups that came so far; see `relative_error_at`.
    """

    rows_mixed: int = 0
    steps_trained: int = 0
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    relative_error: float | None = None
    bytes_held: int = 0
    error_at: Mapping[int, tuple[float, int]] = field(default_factory=dict)

    def relative_error_at(self, step: int) -> float | None:
        """Mean relative error of the groups at that training step; None if none came so far."""
        total, groups = self.error_at.get(step, (0.0, 0))
        return total / groups if groups else None

    @property
    def fallback_count(self) -> int:
        """Fallbacks of every cause together."""
        return sum(self.fallbacks.values())

    def to_json(self) -> dict[str, Any]:
        """The report as values that JSON has; what is not finite is null."""
        error = self.relative_error
        return {
            "rows_mixed": self.rows_mixed,
            "steps_trained": self.steps_trained,
            "fallbacks": dict(self.fallbacks),
            "relative_error": error if error is not None and math.isfinite(error) else None,
            "bytes_held": self.bytes_held,
            "error_at": {str(step): list(sums) for step, sums in self.error_at.items()},
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> ESampReport:
        """The report that `to_json` was made of.

        Raises:
            KeyError, TypeError, ValueError: It is something else.
        """
        error_at = {int(step): (float(e), int(n)) for step, (e, n) in told["error_at"].items()}
        return cls(**{**told, "fallbacks": dict(told["fallbacks"]), "error_at": error_at})

    def __add__(self, other: ESampReport) -> ESampReport:
        causes = {
            cause: self.fallbacks.get(cause, 0) + other.fallbacks.get(cause, 0)
            for cause in {*self.fallbacks, *other.fallbacks}
        }
        return ESampReport(
            self.rows_mixed + other.rows_mixed,
            self.steps_trained + other.steps_trained,
            causes,
            _weighted(self, other),
            max(self.bytes_held, other.bytes_held),
            {
                step: _sums(self.error_at.get(step), other.error_at.get(step))
                for step in sorted({*self.error_at, *other.error_at})
            },
        )


def _sums(a: tuple[float, int] | None, b: tuple[float, int] | None) -> tuple[float, int]:
    (one, ones), (other, others) = a or (0.0, 0), b or (0.0, 0)
    return one + other, ones + others


def _weighted(a: ESampReport, b: ESampReport) -> float | None:
    """Mean relative error of two reports, weighted by the steps behind each."""
    known = [(r.relative_error, r.steps_trained) for r in (a, b) if r.relative_error is not None]
    steps = sum(weight for _, weight in known)
    if not known or steps == 0:
        return known[0][0] if known else None
    return sum(error * weight for error, weight in known) / steps


@dataclass(frozen=True, slots=True)
class Samples:
    """What came back of the samples that were asked for: M of N, and the reasons for the rest.

    Attributes:
        requested: How many were asked for.
        candidates: Those that came.
        failures: Why the others did not.
        usage: Tokens read and written.
        esamp: What ESamp did; None when the engine does not tell.
        replicas: Who began to answer, one for each attempt: a name of the server, or its address.
            With more than one the samples were begun again, and so was their distiller. Empty when
            the engine does not tell.
    """

    requested: int
    candidates: tuple[Candidate, ...]
    failures: tuple[Failure, ...] = ()
    usage: Usage = Usage()
    esamp: ESampReport | None = None
    replicas: tuple[str, ...] = ()
