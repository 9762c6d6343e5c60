"""The model as its own verifier: it reads each solution and says Yes or No."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ttscale import _check
from ttscale._concurrent import gather
from ttscale.engines import Engine
from ttscale.errors import InvalidInput, ScoreError, TTScaleError
from ttscale.sampling import MAX_TOP_LOGPROBS, Sampler
from ttscale.types import Candidate, Prompt, Samples, Usage
from ttscale.verifiers.sheet import CandidateScore, ScoreSheet

JUDGE_INSTRUCTION = (
    "Read the question and the proposed solution. Check the reasoning and the final answer."
)
JUDGE_QUESTION = "Is the proposed solution correct? Answer Yes or No."
JUDGE_SAMPLER = Sampler(temperature=0.0, max_tokens=1, top_logprobs=MAX_TOP_LOGPROBS)
_WORD_START = "Ġ▁"  # how byte-level and sentencepiece vocabularies spell a leading space


@dataclass(frozen=True, slots=True)
class SelfJudge:
    """Asks the model that wrote the candidates whether each of them is correct.

    One greedy draw of one token per candidate. The score is P(yes) / (P(yes) + P(no)), summed over
    the spellings of the two words among the 20 most likely first tokens. A candidate for which
    neither word is among them has an error instead of a score; so have all candidates of a model
    that thinks before it answers.

    Attributes:
        instruction: What stands above the question and the solution.
        concurrency: Draws that run at the same time.
        name: Name for reports.

    Raises:
        InvalidInput: A setting is outside its legal range.
    """

    instruction: str = JUDGE_INSTRUCTION
    concurrency: int = 16
    name: str = "self-judge"

    def __post_init__(self) -> None:
        _check.integer("concurrency", self.concurrency, 1)
        if not self.instruction.strip():
            raise InvalidInput("instruction must not be empty; leave it out for the default")

    @property
    def low(self) -> float:
        """Surely wrong."""
        return 0.0

    @property
    def high(self) -> float:
        """Surely correct."""
        return 1.0

    async def ascore(
        self, prompt: Prompt, candidates: Sequence[Candidate], engine: Engine
    ) -> ScoreSheet:
        """Judge every candidate; see `Verifier.ascore`."""
        jobs = [self._judge(place, prompt, c, engine) for place, c in enumerate(candidates)]
        judged = await gather(jobs, self.concurrency)
        usage = sum((used for _, used in judged), Usage())
        return ScoreSheet(tuple(score for score, _ in judged), usage)

    async def _judge(
        self, place: int, prompt: Prompt, candidate: Candidate, engine: Engine
    ) -> tuple[CandidateScore, Usage]:
        question = judge_prompt(self.instruction, prompt, candidate.text)
        usage = Usage()
        try:
            samples = await engine.adraw(question, 1, JUDGE_SAMPLER)
            usage = samples.usage
            value = yes_probability(judgement(samples).top_logprobs)
        except TTScaleError as error:
            return CandidateScore(place, error=str(error)), usage
        return CandidateScore(place, value), usage


def judgement(samples: Samples) -> Candidate:
    """The one sample of a judge's draw.

    Raises:
        ScoreError: It did not come back.
    """
    if not samples.candidates:
        reasons = "; ".join(failure.reason for failure in samples.failures)
        raise ScoreError(f"the judge's draw failed: {reasons or 'no reason given'}")
    return samples.candidates[0]


def judge_prompt(instruction: str, prompt: Prompt, solution: str) -> Prompt:
    """The judge's prompt; the texts are joined, never formatted, so braces mean nothing."""
    parts = (
        instruction,
        "Question:\n" + conversation(prompt),
        "Proposed solution:\n" + solution,
        JUDGE_QUESTION,
    )
    return Prompt.of("\n\n".join(parts))


def conversation(prompt: Prompt) -> str:
    """The question alone, or every turn with its role when there are several."""
    turns = [m for m in prompt.messages if m.role != "system"]
    if len(turns) <= 1:
        return prompt.question
    return "\n".join(f"{turn.role}: {turn.content}" for turn in turns)


def yes_probability(top_logprobs: Mapping[str, float]) -> float:
    """P(yes) / (P(yes) + P(no)) of a first token, over case and space variants of the words.

    Raises:
        ScoreError: Neither word has any probability among the tokens given.
    """
    yes, no = _mass(top_logprobs, "yes"), _mass(top_logprobs, "no")
    if not yes + no > 0:  # also refuses NaN
        shown = ", ".join(repr(token) for token in list(top_logprobs)[:5]) or "none"
        raise ScoreError(
            f"the judge said neither Yes nor No; its most likely first tokens are {shown}"
        )
    return yes / (yes + no)


def _mass(top_logprobs: Mapping[str, float], word: str) -> float:
    """Probability of all spellings of `word`."""
    return math.fsum(
        math.exp(logprob)
        for token, logprob in top_logprobs.items()
        if token.lstrip(_WORD_START).strip().lower() == word
    )
