"""Asking for another attempt: the last one, what was wrong with it, and the question again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ttscale.errors import InvalidInput
from ttscale.strategies.steps import question
from ttscale.types import Candidate, Message, Prompt

Feedback = Callable[[str, str, float | None], str]
"""What to tell the model, of the question, its attempt, and the attempt's score in [0, 1].

It must give the same text every time: it may be called again for one attempt."""

ADVICE = (
    "Find the mistake if there is one, and write the full solution again. Finish with the answer "
    "in the form that the question asks for."
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt and its score, rescaled to [0, 1]; None when it could not be scored."""

    candidate: Candidate
    score: float | None = None


def plain_feedback(question: str, text: str, score: float | None) -> str:  # noqa: ARG001
    """Says how the attempt was scored, and asks for a better one."""
    if score is None:
        return f"This attempt could not be checked. {ADVICE}"
    return f"A checker gives this attempt {score:.2f} on a scale from 0 to 1. {ADVICE}"


def revised(prompt: Prompt, attempt: Attempt, feedback: Feedback) -> Prompt:
    """The prompt for the attempt after `attempt`.

    A conversation goes on with the attempt and the feedback as turns; raw text gets both below it.

    Raises:
        InvalidInput: `feedback` gives no text.
    """
    base, text = question(prompt), prompt.prefix + attempt.candidate.text
    advice = feedback(prompt.question, text, attempt.score)
    if not isinstance(advice, str) or not advice.strip():
        raise InvalidInput(f"feedback must give a text that is not empty, got {advice!r}")
    if base.text is not None:
        return Prompt.raw(f"{base.text}{text}\n\n{advice}\n\n")
    turns = (Message("assistant", text), Message("user", advice))
    return Prompt((*base.messages, *turns))
