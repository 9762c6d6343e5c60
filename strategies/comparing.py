"""The model as a judge that reads several solutions side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ttscale.engines import Engine
from ttscale.errors import InvalidInput, ScoreError
from ttscale.sampling import MAX_TOP_LOGPROBS, Sampler
from ttscale.types import Candidate, Prompt
from ttscale.verifiers import CandidateScore, ScoreSheet
from ttscale.verifiers.judge import conversation, judgement

COMPARE_INSTRUCTION = (
    "Read the question and the proposed solutions. Check the reasoning and final answer of each."
)
LABELS = "ABCDEFGHI"
COMPARE_SAMPLER = Sampler(temperature=0.0, max_tokens=1, top_logprobs=MAX_TOP_LOGPROBS)
_WORD_START = "Ġ▁"  # how byte-level and sentencepiece vocabularies spell a leading space


@dataclass(frozen=True, slots=True)
class ComparingJudge:
    """Asks the model which of two to nine solutions is the best; its scores are relative.

    One greedy draw of one token. The score of a solution is the probability of its letter among the
    first tokens, divided by that of all letters offered, in [0, 1]. Models favour places: whoever
    compares asks in both orders, as `Tournament` does.

    Attributes:
        instruction: What stands above the question and the solutions.
        name: Name for reports.

    Raises:
        InvalidInput: The instruction is empty.
    """

    instruction: str = COMPARE_INSTRUCTION
    name: str = "comparing-judge"

    def __post_init__(self) -> None:
        if not self.instruction.strip():
            raise InvalidInput("instruction must not be empty; leave it out for the default")

    @property
    def low(self) -> float:
        """Surely not the best."""
        return 0.0

    @property
    def high(self) -> float:
        """Surely the best."""
        return 1.0

    async def ascore(
        self, prompt: Prompt, candidates: Sequence[Candidate], engine: Engine
    ) -> ScoreSheet:
        """Compare the candidates in the order given; see `Verifier.ascore`.

        Raises:
            ScoreError: There are fewer than two or more than nine, the draw failed, or the model
                named none of them.
        """
        if not 2 <= len(candidates) <= len(LABELS):
            raise ScoreError(
                f"a comparing judge reads 2 to {len(LABELS)} solutions, got {len(candidates)}"
            )
        question = compare_prompt(self.instruction, prompt, [c.text for c in candidates])
        samples = await engine.adraw(question, 1, COMPARE_SAMPLER)
        shares = letter_shares(judgement(samples).top_logprobs, len(candidates))
        scores = tuple(CandidateScore(place, share) for place, share in enumerate(shares))
        return ScoreSheet(scores, samples.usage)


def compare_prompt(instruction: str, prompt: Prompt, solutions: Sequence[str]) -> Prompt:
    """The judge's prompt; the texts are joined, never formatted, so braces mean nothing."""
    offered = [f"Solution {LABELS[i]}:\n{text}" for i, text in enumerate(solutions)]
    letters = ", ".join(LABELS[: len(solutions)])
    question = f"Which solution is the best? Answer with one letter: {letters}."
    parts = (instruction, "Question:\n" + conversation(prompt), *offered, question)
    return Prompt.of("\n\n".join(parts))


def letter_shares(top_logprobs: Mapping[str, float], count: int) -> list[float]:
    """Probability of each of the first `count` letters among them all.

    Raises:
        ScoreError: None of them has any probability among the tokens given.
    """
    masses = [0.0] * count
    for token, logprob in top_logprobs.items():
        letter = token.lstrip(_WORD_START).strip()
        if len(letter) == 1 and letter in LABELS[:count]:
            masses[LABELS.index(letter)] += math.exp(logprob)
    total = math.fsum(masses)
    if not total > 0:  # also refuses NaN
        shown = ", ".join(repr(token) for token in list(top_logprobs)[:5]) or "none"
        raise ScoreError(f"the judge named no solution; its most likely first tokens are {shown}")
    return [mass / total for mass in masses]
