"""Strategies as DSPy modules, which optimizers can compile through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError, LMError

from ttscale.errors import InvalidInput
from ttscale.esamp.settings import ESamp
from ttscale.integrations import _dspy_scores as scoring
from ttscale.integrations._dspy_choice import (
    ChosenPrediction,
    answers_of,
    candidates_of,
    publish,
)
from ttscale.integrations._dspy_draw import Batch, Draw, adraw, draw
from ttscale.integrations._dspy_settings import SavedSettings, Settings
from ttscale.strategies.best_of_n import logprob_scores
from ttscale.strategies.select import Selection, argmax, majority, weighted_vote
from ttscale.strategies.stopping import decided, significant
from ttscale.verifiers import CandidateScore, Verifier
from ttscale.verifiers.protocol import check_verifier
from ttscale.verifiers.sheet import values

Scores = tuple[CandidateScore, ...]
Reward = Callable[[dict[str, Any], Any], float]


class _Selecting(dspy.Module):  # type: ignore[misc]
    """What the modules share: draw, perhaps score, select, publish the winner."""

    def __init__(self, module: Any, settings: Settings) -> None:
        super().__init__()
        self.inner = module if isinstance(module, dspy.Module) else dspy.ChainOfThought(module)
        self.saved = SavedSettings(settings)

    @property
    def settings(self) -> Settings:
        """The settings, which are saved and loaded with the program."""
        return self.saved.settings

    def forward(self, **inputs: Any) -> ChosenPrediction:
        """Draw the candidates and return the winner."""
        batch = self._draw(inputs)
        scores = self._score(inputs, batch)
        return publish(batch, self._select(batch, scores), scores)

    async def aforward(self, **inputs: Any) -> ChosenPrediction:
        """The same, asynchronously."""
        batch = await self._adraw(inputs)
        scores = await self._ascore(inputs, batch)
        return publish(batch, self._select(batch, scores), scores)

    def _draw(self, inputs: Mapping[str, Any]) -> Batch:
        return draw(self.inner, inputs, _round(self.settings, self.settings.n))

    async def _adraw(self, inputs: Mapping[str, Any]) -> Batch:
        return await adraw(self.inner, inputs, _round(self.settings, self.settings.n))

    def _score(self, inputs: Mapping[str, Any], batch: Batch) -> Scores:  # noqa: ARG002
        return ()

    async def _ascore(self, inputs: Mapping[str, Any], batch: Batch) -> Scores:  # noqa: ARG002
        return ()

    def _select(self, batch: Batch, scores: Scores) -> Selection:  # noqa: ARG002
        answers = answers_of(batch, self.settings)
        return majority(candidates_of(batch), answers, self.settings.seed)


class SelfConsistency(_Selecting):
    """The answer that most candidates agree on (Wang et al., arXiv 2203.11171).

    The candidates are one request. Answers are compared by value (`ttscale.answers`): "1/2" and
    "0.5" are one answer, and 7 and 7.0 are too. A candidate that does not parse or states no answer
    does not vote. The winner is, of the candidates with the winning answer, the likeliest.

    The prediction has the winner's fields, all candidates in `.completions`, and `.choice`. Only
    the winner is in DSPy's trace, so optimizers learn from winners.

    Args:
        module: A signature (answered by `dspy.ChainOfThought`), or any module. A predictor draws
            all candidates with one request; any other module runs n times at once.
        n: Number of candidates.
        field: Output field to vote on; the last.
        kind: Kind of answer in a text field, as in `ttscale.answers.extract_answer`.
        temperature: Temperature of the candidates; None takes the LM's, or 1 where that is 0.
        esamp: ESamp for these candidates, which needs an `ESampLM`; None leaves it to the LM.
        seed: Seed of ties.

    Raises:
        InvalidInput: A setting is outside its legal range.
    """

    def __init__(
        self,
        module: Any,
        n: int = 8,
        *,
        field: str | None = None,
        kind: str = "auto",
        temperature: float | None = None,
        esamp: ESamp | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(module, Settings(n, field, kind, temperature, esamp, seed))


class AdaptiveSelfConsistency(_Selecting):
    """Self-consistency that draws in batches and stops when more votes are not needed.

    It stops after a batch when one of two rules holds:

    - Exact: the leader is ahead by more votes than are left. The answer is then the one that all
      `n` votes would have given, with no error.
    - With `alpha`, a sequential test (`significant` in this package's source): the evidence that
      the leader is the most probable answer, measured by an e-value, reaches k (k + 1) / alpha,
      where k is the order in which the leader first appeared. For independent votes the chance of
      ever stopping on another answer than the most probable one is at most `alpha`, whatever the
      number of looks (Ville's inequality). Unanimous votes stop at 9 for alpha = 0.05.

    ESamp candidates influence each other, so `alpha` bounds nothing with them; the exact rule holds
    for any. Each batch is complete before it is looked at, so short answers are not favoured.

    Args:
        module: As for `SelfConsistency`.
        n: Most candidates to draw.
        batch: Candidates per round.
        alpha: Error rate in (0, 0.5]; None stops by the exact rule only.
        field, kind, temperature, esamp, seed: As for `SelfConsistency`.

    Raises:
        InvalidInput: A setting is outside its legal range.
    """

    def __init__(
        self,
        module: Any,
        n: int = 32,
        *,
        batch: int = 8,
        alpha: float | None = 0.05,
        field: str | None = None,
        kind: str = "auto",
        temperature: float | None = None,
        esamp: ESamp | None = None,
        seed: int = 0,
    ) -> None:
        settings = Settings(n, field, kind, temperature, esamp, seed, batch, alpha)
        super().__init__(module, settings)

    def _draw(self, inputs: Mapping[str, Any]) -> Batch:
        batch = Batch(())
        while (how := self._next(batch)) is not None:
            try:
                batch = _joined(batch, draw(self.inner, inputs, how))
            except (AdapterParseError, LMError) as error:
                batch = _without(batch, how, error)
        return batch

    async def _adraw(self, inputs: Mapping[str, Any]) -> Batch:
        batch = Batch(())
        while (how := self._next(batch)) is not None:
            try:
                batch = _joined(batch, await adraw(self.inner, inputs, how))
            except (AdapterParseError, LMError) as error:
                batch = _without(batch, how, error)
        return batch

    def _next(self, batch: Batch) -> Draw | None:
        """The next round, or None when the vote is over."""
        drawn = len(batch.attempts) + len(batch.dropped)
        left = self.settings.n - drawn
        if left < 1 or (drawn and self._settled(batch, left)):
            return None
        number = -(-drawn // self.settings.batch)
        return _round(self.settings, min(left, self.settings.batch), number)

    def _settled(self, batch: Batch, left: int) -> bool:
        votes = self._select(batch, ()).votes
        if decided([vote.count for vote in votes], left):
            return True
        if self.settings.alpha is None:
            return False
        label = {place: k for k, vote in enumerate(votes) for place in vote.members}
        order = [label.get(place) for place in range(len(batch.attempts))]
        return significant(order, self.settings.alpha)


class BestOfN(_Selecting):
    """The candidate with the highest score.

    The score is the reward's, else the verifier's, else the mean log-probability per token that
    an `ESampLM` reports. A candidate whose score fails cannot win; when all fail, it raises.

    Args:
        module: As for `SelfConsistency`.
        reward_fn: `reward_fn(inputs, prediction)` returns a number, as for `dspy.BestOfN`.
        n: Number of candidates.
        verifier: A ttscale verifier; excludes `reward_fn`.
        field, kind, temperature, esamp, seed: As for `SelfConsistency`.

    Raises:
        InvalidInput: A setting is outside its legal range, or both reward and verifier are given.
    """

    def __init__(
        self,
        module: Any,
        reward_fn: Reward | None = None,
        n: int = 8,
        *,
        verifier: Verifier | None = None,
        field: str | None = None,
        kind: str = "auto",
        temperature: float | None = None,
        esamp: ESamp | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(module, Settings(n, field, kind, temperature, esamp, seed))
        if verifier is not None:
            check_verifier(verifier)
        if reward_fn is not None and (verifier is not None or not callable(reward_fn)):
            raise InvalidInput(
                "give one of reward_fn (callable as reward_fn(inputs, prediction)) and verifier, "
                f"got reward_fn={reward_fn!r} and verifier={verifier!r}"
            )
        # In a function, so that a module that rewards is not taken for a part of the program.
        self._reward = (lambda *given: reward_fn(*given)) if reward_fn is not None else None
        self._verifier = verifier

    def _score(self, inputs: Mapping[str, Any], batch: Batch) -> Scores:
        if self._reward is not None:
            return scoring.by_reward(self._reward, inputs, batch.attempts)
        if self._verifier is not None:
            return scoring.by_verifier(self._verifier, self.inner, inputs, batch.attempts)
        return scoring.checked(logprob_scores(candidates_of(batch)))

    async def _ascore(self, inputs: Mapping[str, Any], batch: Batch) -> Scores:
        if self._reward is not None:
            return await scoring.aby_reward(self._reward, inputs, batch.attempts)
        if self._verifier is not None:
            return await scoring.aby_verifier(self._verifier, self.inner, inputs, batch.attempts)
        return self._score(inputs, batch)

    def _select(self, batch: Batch, scores: Scores) -> Selection:
        answers = answers_of(batch, self.settings)
        return argmax(candidates_of(batch), answers, values(scores), self.settings.seed)


class VerifierRerank(_Selecting):
    """The answer that a verifier's scores together favour.

    Each class of equivalent answers weighs the sum of its candidates' scores, rescaled from the
    verifier's range to [0, 1]; the heaviest wins with its best-scored candidate. A candidate whose
    score fails adds no weight; when all fail, it raises.

    Args:
        module: As for `SelfConsistency`.
        verifier: A ttscale verifier. It gets the input fields as the question and the output
            fields as the text. `SelfJudge` asks the model of the `ESampLM`.
        n: Number of candidates.
        field, kind, temperature, esamp, seed: As for `SelfConsistency`.

    Raises:
        InvalidInput: A setting is outside its legal range, or `verifier` is no verifier.
    """

    def __init__(
        self,
        module: Any,
        verifier: Verifier,
        n: int = 8,
        *,
        field: str | None = None,
        kind: str = "auto",
        temperature: float | None = None,
        esamp: ESamp | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(module, Settings(n, field, kind, temperature, esamp, seed))
        check_verifier(verifier)
        self._verifier = verifier

    def _score(self, inputs: Mapping[str, Any], batch: Batch) -> Scores:
        return scoring.by_verifier(self._verifier, self.inner, inputs, batch.attempts)

    async def _ascore(self, inputs: Mapping[str, Any], batch: Batch) -> Scores:
        return await scoring.aby_verifier(self._verifier, self.inner, inputs, batch.attempts)

    def _select(self, batch: Batch, scores: Scores) -> Selection:
        candidates, answers = candidates_of(batch), answers_of(batch, self.settings)
        seed, given = self.settings.seed, values(scores)
        low, high = self._verifier.low, self._verifier.high
        picked = weighted_vote(candidates, answers, given, low=low, high=high, seed=seed)
        return picked if picked.place is not None else argmax(candidates, answers, given, seed)


def _round(settings: Settings, n: int, number: int = 0) -> Draw:
    return Draw(n, settings.temperature, settings.esamp, number, alone=settings.n == 1)


def _joined(before: Batch, new: Batch) -> Batch:
    """Both batches; candidates are counted on."""
    first = len(before.attempts) + len(before.dropped)
    later = [
        replace(a, candidate=replace(a.candidate, index=first + a.candidate.index))
        for a in new.attempts
    ]
    return Batch((*before.attempts, *later), (*before.dropped, *new.dropped))


def _without(before: Batch, how: Draw, error: Exception) -> Batch:
    """The batch after a round that gave nothing; without an earlier round the error is raised."""
    if not before.attempts:
        raise error
    reasons: Sequence[str] = [f"{type(error).__name__}: {error}"] * how.n
    return replace(before, dropped=(*before.dropped, *reasons))
