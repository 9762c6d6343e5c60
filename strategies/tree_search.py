"""Tree search: new attempts or better versions of old ones, by treequest's AB-MCTS."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ttscale import _check
from ttscale.errors import InvalidInput, MissingDependency
from ttscale.sampling import Sampler
from ttscale.strategies import rounds
from ttscale.strategies.ledger import Ledger, Planned, totals
from ttscale.strategies.outcome import Outcome
from ttscale.strategies.protocol import Ask, Draw, Score
from ttscale.strategies.refine import attempts_of, best_scored
from ttscale.strategies.revision import Attempt, Feedback, plain_feedback, revised
from ttscale.types import Candidate, Prompt
from ttscale.verifiers import Verifier
from ttscale.verifiers.protocol import check_verifier

PRIORS = ("beta", "gaussian")
ACTION = "draw"  # treequest names ways to make a node; here is one
_DICE = threading.Lock()


@dataclass(frozen=True)
class TreeSearch(Planned):
    """Spends `n` samples on a tree of attempts, and answers what the best-scored one states.

    For each sample treequest's AB-MCTS-A (arXiv 2503.04412) decides, by the scores so far, whether
    to draw a fresh attempt or to go deeper and have an old one revised, as in `Refine`. An attempt
    that cannot be scored stays out of the tree. Needs `pip install "ttscale[tree]"`.

    `Outcome.notes["rounds"]` is the number of rounds.

    Attributes:
        verifier: What scores the attempts.
        n: Number of samples.
        sampler: How they are drawn.
        width: Samples per round; more are faster and decided with less knowledge.
        prior: Distribution of the scores that AB-MCTS assumes: `beta` or `gaussian`.
        feedback: Makes the text that the model is told, of the question, the attempt and its score.
        kind: Kind of answer to look for, as in `ttscale.answers.extract_answer`.

    Raises:
        InvalidInput: A setting is outside its legal range.
        MissingDependency: treequest is not installed.
    """

    verifier: Verifier
    n: int = 8
    sampler: Sampler = field(default_factory=Sampler)
    width: int = 1
    prior: str = "beta"
    feedback: Feedback = plain_feedback
    kind: str = "auto"
    name: ClassVar[str] = "tree-search"

    def __post_init__(self) -> None:
        rounds.check_settings(self.n, self.sampler, self.kind)
        check_verifier(self.verifier)
        _check.integer("width", self.width, 1)
        _check.choice("prior", self.prior, PRIORS)
        if not callable(self.feedback):
            raise InvalidInput(f"feedback must be callable, got {self.feedback!r}")
        treequest()

    def plan(self, ledger: Ledger) -> tuple[Ask, ...]:
        """The draws of a round, then the scores of what came."""
        place = len(ledger.asked)
        last = ledger.asked[-1] if ledger.asked else None
        if isinstance(last, Draw) and (new := self._unscored(ledger)):
            return (Score(place, self.verifier, ledger.prompt, new),)
        drawn = sum(ask.n for ask, _ in ledger.draws)
        if drawn >= self.n:
            return ()
        attempts = attempts_of(ledger, self.verifier)
        parents = self._parents(ledger, attempts)
        return tuple(
            ledger.draw(place + k, 1, self.sampler, self._prompt(ledger, attempts, parent))
            for k, parent in enumerate(parents)
        )

    def best(self, state: Ledger) -> Outcome:
        """The best-scored attempt."""
        return best_scored(self.name, state, self.verifier, self.kind)

    def _unscored(self, ledger: Ledger) -> tuple[Candidate, ...]:
        """The samples that came since the last scoring."""
        scored = sum(len(ask.candidates) for ask, _ in ledger.scores)
        return totals(ledger).candidates[scored:]

    def _prompt(self, ledger: Ledger, attempts: list[Attempt], parent: int | None) -> Prompt:
        if parent is None:
            return ledger.prompt
        return revised(ledger.prompt, attempts[parent], self.feedback)

    def _parents(self, ledger: Ledger, attempts: list[Attempt]) -> list[int | None]:
        """Places of the attempts to revise in the next round; None for a fresh one.

        treequest's state holds live objects, so the tree is grown anew from the scores each time.
        """
        draws, place, told = ledger.draws, 0, 0
        with dice(ledger.tie_seed):
            search: Any = treequest().ABMCTSA(dist_type=self.prior)
            tree = search.init_tree()
            while True:
                size = min(self.width, self.n - place)
                tree, trials = search.ask_batch(tree, size, [ACTION])
                if place >= len(draws):
                    return [trial.parent_state for trial in trials]
                for trial, (_, samples) in zip(trials, draws[place:], strict=False):
                    if samples.candidates:
                        score, told = attempts[told].score, told + 1
                        if score is not None:
                            tree = search.tell(tree, trial.trial_id, (told - 1, score))
                place += size


@contextmanager
def dice(seed: int) -> Iterator[None]:
    """Numpy's global generator, from which treequest draws, seeded; afterwards as it was before."""
    import numpy as np

    with _DICE:
        before = np.random.get_state()
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(before)


def treequest() -> Any:  # without type information
    """The library.

    Raises:
        MissingDependency: It is not installed.
    """
    try:
        import treequest as library
    except ImportError as error:
        raise MissingDependency(
            'tree search needs treequest: pip install "ttscale[tree]"'
        ) from error
    return library
