"""What a strategy hands back."""

from __future__ import annotations

from dataclasses import dataclass, field

from ttscale.answers import Answer
from ttscale.strategies.vote import Vote
from ttscale.types import Candidate, ESampReport, Failure, Prompt, Usage
from ttscale.verifiers import CandidateScore


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
