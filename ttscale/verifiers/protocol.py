"""What strategies ask of a verifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ttscale.engines import Engine
from ttscale.errors import InvalidInput
from ttscale.types import Candidate, Prompt
from ttscale.verifiers.sheet import ScoreSheet, check_range


@runtime_checkable
class Verifier(Protocol):
    """Scores candidates. Any object with these four members is a verifier."""

    @property
    def name(self) -> str:
        """Name for reports."""
        ...

    @property
    def low(self) -> float:
        """The worst score it can give."""
        ...

    @property
    def high(self) -> float:
        """The best score it can give."""
        ...

    async def ascore(
        self, prompt: Prompt, candidates: Sequence[Candidate], engine: Engine
    ) -> ScoreSheet:
        """Score every candidate of `prompt`; `engine` is there for verifiers that ask a model.

        `CandidateScore.index` is the place in `candidates`. What goes wrong with one candidate is
        the error of that candidate alone.

        Raises:
            ScoreError: Nothing could be scored.
        """
        ...


def check_verifier(verifier: object) -> None:
    """Raise InvalidInput unless `verifier` has a verifier's members and a usable range."""
    if not isinstance(verifier, Verifier):
        raise InvalidInput(
            "verifier must have low, high, name and ascore(), got "
            f"{verifier!r}; wrap a plain function in CallableVerifier"
        )
    check_range(verifier.low, verifier.high)
