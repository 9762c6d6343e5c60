"""Beam search over steps: the best beginnings are kept and continued."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from ttscale import _check
from ttscale.sampling import Sampler
from ttscale.strategies import rounds
from ttscale.strategies.ledger import Ledger, Planned, answers_of, report
from ttscale.strategies.outcome import Outcome
from ttscale.strategies.protocol import Ask
from ttscale.strategies.select import argmax
from ttscale.strategies.steps import (
    EMPTY,
    STEP,
    STEP_TOKENS,
    Path,
    Steps,
    Walk,
    check_steps,
    next_steps,
    score_ask,
    told_scores,
    walk,
)
from ttscale.strategies.vote import draw_lot, rounded
from ttscale.types import Candidate
from ttscale.verifiers import Verifier
from ttscale.verifiers.protocol import check_verifier


@dataclass(frozen=True)
class BeamSearch(Planned):
    """Writes answers step by step and keeps the `n` best-scored beginnings after each step.

    The first step is drawn `n * expand` times; later each beginning kept is continued `expand`
    times. The verifier scores the whole text so far. A finished answer keeps its score and its
    place as long as it is among the best. It ends when all that are kept have finished, and answers
    what the best-scored of them states. A beginning without a score is dropped when there are
    others. Equal beginnings are kept once.

    The engine must go on from a prefix and keep stop texts: `LocalEngine`, or a vLLM server.
    `Outcome.candidates` are the answers kept, `Outcome.requested` counts steps.
    `Outcome.notes["steps"]` is the number of steps.

    Attributes:
        verifier: What scores beginnings of answers; a process reward model, for instance.
        n: Beginnings that are kept.
        sampler: How steps are drawn; `max_tokens` is that of a whole answer.
        expand: Continuations of each.
        step: Text that ends a step.
        step_tokens: Longest step, in tokens.
        max_steps: Most steps of an answer.
        kind: Kind of answer to look for, as in `ttscale.answers.extract_answer`.

    Raises:
        InvalidInput: A setting is outside its legal range.
    """

    verifier: Verifier
    n: int = 4
    sampler: Sampler = field(default_factory=Sampler)
    expand: int = 2
    step: str = STEP
    step_tokens: int = STEP_TOKENS
    max_steps: int = 16
    kind: str = "auto"
    name: ClassVar[str] = "beam-search"

    def __post_init__(self) -> None:
        rounds.check_settings(self.n, self.sampler, self.kind)
        check_verifier(self.verifier)
        _check.integer("expand", self.expand, 1)
        self.sampler.check_count(self.n * self.expand)
        check_steps(self._steps)

    def plan(self, ledger: Ledger) -> tuple[Ask, ...]:
        """A step of every beginning, then the scores of all of them, and so on."""
        if not ledger.asked:
            return (self._steps.draw(ledger, 0, self.n * self.expand, EMPTY),)
        walked = self._walk(ledger)
        if walked.pending:
            return (score_ask(ledger, self.verifier, walked.pending),)
        return tuple(next_steps(ledger, self._steps, self._origins(walked.kept)))

    def best(self, state: Ledger) -> Outcome:
        """The best-scored of what is kept."""
        walked = self._walk(state)
        paths = [*walked.kept, *walked.pending]
        texts = [replace(p.candidate, index=i) for i, p in enumerate(paths)]
        answers = answers_of(texts, self.kind)
        picked = argmax(texts, answers, [p.score for p in paths], state.tie_seed)
        scores = told_scores(paths, self.verifier)
        notes = {"steps": float(walked.rounds)}
        return report(self.name, state, texts, answers, picked, scores, notes)

    @property
    def _steps(self) -> Steps:
        return Steps(self.step, self.step_tokens, self.max_steps, self.sampler)

    def _walk(self, ledger: Ledger) -> Walk:
        def choose(done: Sequence[Path], new: Sequence[Path], _: int) -> list[Path]:
            return best_paths([*done, *new], self.n, ledger.tie_seed)

        return walk(ledger, self._steps, self.verifier, self._origins, choose)

    def _origins(self, kept: Sequence[Path]) -> list[tuple[Candidate, int]]:
        return [(path.candidate, self.expand) for path in kept if not path.done]


def best_paths(paths: Sequence[Path], n: int, seed: int) -> list[Path]:
    """The `n` best-scored paths with different texts; equals in the order of their lots."""

    def rank(path: Path) -> tuple[bool, float, str]:
        score = path.score
        lot = draw_lot(seed, path.candidate.text)
        return (score is None, -rounded(score or 0.0), lot)

    different = {path.candidate.text: path for path in sorted(paths, key=rank, reverse=True)}
    return sorted(different.values(), key=rank)[:n]
