"""Medoid and cluster vote, for open-ended text that has no short answer to compare."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from ttscale import _check
from ttscale.answers import Answer, strip_thinking
from ttscale.errors import InvalidInput
from ttscale.sampling import Sampler
from ttscale.strategies import rounds
from ttscale.strategies.outcome import Outcome
from ttscale.strategies.protocol import Ask, Result
from ttscale.strategies.rounds import SampleState
from ttscale.strategies.runner import Runs
from ttscale.strategies.select import Selection
from ttscale.strategies.vote import Vote, draw_lot, rounded
from ttscale.types import Prompt

Similarity = Callable[[str, str], float]
"""How alike two texts are, from 0 to 1; symmetric."""

MAX_TEXT = 20_000
_WORD = re.compile(r"\w+")


def shared_words(one: str, other: str) -> float:
    """Share of the different words that both texts have among those that any has (Jaccard).

    Case and order do not count, meaning does not either; of longer texts only the first 20,000
    characters are read. Two texts without words are alike.
    """
    a, b = (set(_WORD.findall(text[:MAX_TEXT].casefold())) for text in (one, other))
    return len(a & b) / len(a | b) if a | b else 1.0


@dataclass(frozen=True)
class Medoid(Runs):
    """Draws `n` samples and answers with the one that is most like the others.

    Without `threshold` that is the sample with the highest sum of similarities to all others. With
    it, samples that are at least so alike, directly or through others, form a cluster; the
    largest cluster wins, with the sample most like the others in it. Clusters are the votes. The
    answer is the text without its thinking; empty texts do not take part. Equals are decided by a
    lot of the seed. `Outcome.margin` is the lead of the winning cluster as a share of all samples;
    without `threshold`, the lead in mean similarity over the next different text.

    Attributes:
        n: Number of samples.
        sampler: How they are drawn.
        similarity: Takes two texts and returns a number in [0, 1]; the default compares their
            words (`shared_words`). For similarity in meaning give one that uses embeddings.
        threshold: Similarity from which two samples are of one cluster, in (0, 1]; None makes none.

    Raises:
        InvalidInput: A setting is outside its legal range, or a similarity is no number in [0, 1].
    """

    n: int = 8
    sampler: Sampler = field(default_factory=Sampler)
    similarity: Similarity = shared_words
    threshold: float | None = None
    name: ClassVar[str] = "medoid"

    def __post_init__(self) -> None:
        rounds.check_settings(self.n, self.sampler, "text")
        if not callable(self.similarity):
            raise InvalidInput(
                f"similarity must be callable as similarity(a, b), got {self.similarity!r}"
            )
        if self.threshold is not None:
            _check.number("threshold", self.threshold, 0, 1, open_low=True)

    def start(self, prompt: Prompt, seed: int | None) -> SampleState:
        """The state before anything was asked."""
        return rounds.start(prompt, seed)

    def ask(self, state: SampleState) -> tuple[SampleState, tuple[Ask, ...]]:
        """One draw, then nothing."""
        return rounds.ask(state, self.n, self.sampler, None)

    def tell(self, state: SampleState, ask_id: int, result: Result) -> SampleState:
        """The state that knows `result`."""
        return rounds.tell(state, ask_id, result, self.n, None)

    def outcome(self, state: SampleState) -> Outcome | None:
        """The sample most like the others, or None until the samples are known."""
        if state.samples is None:
            return None
        texts = [strip_thinking(c.text).strip() for c in state.samples.candidates]
        answers = [Answer(t, "text", (0, len(t)), t) if t else None for t in texts]
        picked = self._pick(texts, rounds.tie_seed(state, self.sampler))
        return rounds.report(self.name, state, answers, (), picked)

    def best(self, state: SampleState) -> Outcome:
        """The outcome of what is known."""
        return self.outcome(state) or rounds.so_far(self.name, state, self.sampler, "text")

    def _pick(self, texts: Sequence[str], seed: int) -> Selection:
        places = [place for place, text in enumerate(texts) if text]
        if not places:
            return Selection()
        alike = self._similarities(texts, places)
        clusters = self._clusters(places, alike)
        votes = [self._vote(texts, cluster, alike, seed) for cluster in clusters]
        votes.sort(
            key=lambda vote: (-vote.count, -rounded(vote.weight), draw_lot(seed, vote.answer))
        )
        first, *others = votes
        tie = bool(others) and _standing(others[0]) == _standing(first)
        lead = first.count - others[0].count if others else first.count
        place = min(p for p in first.members if texts[p] == first.answer)
        margin = lead / len(places)
        if self.threshold is None:
            margin, tie = self._lead(texts, places, alike, place)
        return Selection(place, first.answer, tuple(votes), tie, margin)

    def _similarities(
        self, texts: Sequence[str], places: Sequence[int]
    ) -> dict[tuple[int, int], float]:
        """Similarity of every two different places, in both orders."""
        alike: dict[tuple[int, int], float] = {}
        for k, i in enumerate(places):
            for j in places[:k]:
                value = 1.0 if texts[i] == texts[j] else self.similarity(texts[i], texts[j])
                alike[i, j] = alike[j, i] = _check.number("similarity(a, b)", value, 0, 1)
        return alike

    def _clusters(
        self, places: Sequence[int], alike: dict[tuple[int, int], float]
    ) -> list[tuple[int, ...]]:
        """Places that are alike, directly or through others; all of them without a threshold."""
        if self.threshold is None:
            return [tuple(places)]
        left, clusters = list(places), []
        while left:
            cluster = [left.pop(0)]
            for member in cluster:  # grows while it is gone through
                near = [p for p in left if alike[member, p] >= self.threshold]
                cluster += near
                left = [p for p in left if p not in near]
            clusters.append(tuple(sorted(cluster)))
        return clusters

    def _vote(
        self,
        texts: Sequence[str],
        cluster: tuple[int, ...],
        alike: dict[tuple[int, int], float],
        seed: int,
    ) -> Vote:
        """A cluster under its medoid's text; its weight is the medoid's mean similarity."""
        means = {p: mean_similarity(p, cluster, alike) for p in cluster}
        medoid = min(cluster, key=lambda p: (-rounded(means[p]), draw_lot(seed, texts[p])))
        return Vote(texts[medoid], len(cluster), means[medoid], cluster)

    def _lead(
        self,
        texts: Sequence[str],
        places: Sequence[int],
        alike: dict[tuple[int, int], float],
        winner: int,
    ) -> tuple[float, bool]:
        """Lead of the winner in mean similarity over the next different text, and whether none."""
        rivals = [p for p in places if texts[p] != texts[winner]]
        if not rivals:
            return 0.0, False
        best = mean_similarity(winner, places, alike)
        lead = best - max(mean_similarity(p, places, alike) for p in rivals)
        return max(0.0, lead), rounded(lead) == 0


def mean_similarity(
    place: int, places: Sequence[int], alike: dict[tuple[int, int], float]
) -> float:
    """Mean similarity to the other places; 1 when there are none."""
    others = [alike[place, other] for other in places if other != place]
    return math.fsum(others) / len(others) if others else 1.0


def _standing(vote: Vote) -> tuple[int, float]:
    return vote.count, rounded(vote.weight)
