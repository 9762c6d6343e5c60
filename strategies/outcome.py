"""What a strategy hands back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ttscale.answers import Answer
from ttscale.strategies.vote import Vote
from ttscale.types import Candidate, ESampReport, Failure, Prompt, Usage
from ttscale.verifiers import CandidateScore


@dataclass(frozen=True, slots=True)
class Spent:
    """What one run has cost. What a `Record` already held is not in it.

    Attributes:
        samples: Samples of the question that came back.
        failed: Samples of the question that the engine could not finish.
        cancelled: Samples of the question that were stopped while they ran. What they had written
            is not in `usage`: engines do not tell the length of what they throw away.
        judge: Samples that verifiers drew from the engine.
        usage: Tokens of the samples of the question.
        judge_usage: Tokens of the verifiers.
        seconds: Wall time. Not compared.
    """

    samples: int = 0
    failed: int = 0
    cancelled: int = 0
    judge: int = 0
    usage: Usage = field(default_factory=Usage)
    judge_usage: Usage = field(default_factory=Usage)
    seconds: float = field(default=0.0, compare=False)

    @property
    def tokens(self) -> int:
        """All tokens: read and written, samples and verifiers."""
        both = self.usage + self.judge_usage
        return both.prompt_tokens + both.completion_tokens


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one run of a strategy on one prompt.

    Attributes:
        strategy: Name of the strategy.
        prompt: What was asked.
        answer: The answer that was selected; None when the strategy abstains.
        candidate: The sample that was selected; None when none could be.
        votes: Every class of equivalent answers, best first.
        candidates: The samples that came back, by index.
        answers: The answer of each candidate, in the same order; None for those without one.
        scores: Every candidate's score, best first, those without one last; empty when the
            strategy scores nothing. `CandidateScore.index` is a place in `candidates`.
        failures: Why the other samples did not come back.
        requested: Number of samples that were asked for.
        usage: Tokens of the samples and of the verifier.
        esamp: What Exploratory Sampling did; None without it.
        tie: Whether the result was decided by lot.
        margin: Lead over the runner-up: a share of all votes from 0 to 1, or for best-of-n a
            difference of scores (0 when there is no runner-up).
        reason: Why there is no answer; empty when there is one.
        stopped: Why the run ended before the strategy was done, for instance its budget; the
            outcome is then the best so far. Empty when it ran to its end.
        notes: Further figures of the strategy, by name; its docstring explains them.
        spent: What the run has cost.
    """

    strategy: str
    prompt: Prompt
    answer: str | None = None
    candidate: Candidate | None = None
    votes: tuple[Vote, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    answers: tuple[Answer | None, ...] = ()
    scores: tuple[CandidateScore, ...] = ()
    failures: tuple[Failure, ...] = ()
    requested: int = 0
    usage: Usage = field(default_factory=Usage)
    esamp: ESampReport | None = None
    tie: bool = False
    margin: float = 0.0
    reason: str = ""
    stopped: str = ""
    notes: Mapping[str, float] = field(default_factory=dict)
    spent: Spent = field(default_factory=Spent)

    @property
    def returned(self) -> int:
        """Number of samples that came back."""
        return len(self.candidates)

    @property
    def truncated(self) -> int:
        """Number of samples that were cut off at `max_tokens`."""
        return sum(candidate.truncated for candidate in self.candidates)

    @property
    def abstained(self) -> bool:
        """Whether there is no answer."""
        return self.answer is None
