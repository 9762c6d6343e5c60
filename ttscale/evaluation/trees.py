"""Tree of thoughts as a sampler: a problem's samples are the texts that tree searches end with.

The breadth-first search of Yao et al. (arXiv 2305.10601) by `BeamSearch` and `SelfJudge`: thoughts
are proposed by sampling, the model values each beginning, and the best are kept. Two choices
differ from the paper's: a thought is a paragraph, whatever the task, and a value is the probability
of Yes to one question in place of three drawn words (sure, likely, impossible).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ttscale import _check
from ttscale.engines import CandidateHook, Engine
from ttscale.sampling import Sampler
from ttscale.strategies import BeamSearch
from ttscale.strategies.seeds import later_seed
from ttscale.types import ESampReport, Failure, Prompt, Samples, Usage
from ttscale.verifiers import SelfJudge

VALUE_INSTRUCTION = (
    "Read the question and the proposed solution, which may be unfinished. Check each step so far, "
    "and judge whether it leads to the right answer. An unfinished solution counts as correct when "
    "every step so far is right and helpful."
)
_UNFINISHED = "step"


@dataclass(frozen=True, slots=True)
class Trees:
    """How tree searches are grown.

    Attributes:
        breadth: Beginnings that are kept after each step, and texts that a tree ends with.
        expand: Thoughts that are drawn after each of them.
        step_tokens: Longest thought, in tokens.

    Raises:
        InvalidInput: A setting is outside its legal range.
    """

    breadth: int = 4
    expand: int = 2
    step_tokens: int = 64

    def __post_init__(self) -> None:
        _check.integer("tree:breadth", self.breadth, 1)
        _check.integer("tree:expand", self.expand, 1)
        _check.integer("tree:step_tokens", self.step_tokens, 1)

    def check(self, model: str) -> None:
        """Every model will do."""

    def on(self, engine: Engine) -> Engine:
        """An engine that draws by tree search on `engine`."""
        return _TreeEngine(self, engine)


class _TreeEngine:
    """Draws n samples by as many trees as that takes, one after the other."""

    def __init__(self, trees: Trees, engine: Engine) -> None:
        self._trees = trees
        self._engine = engine

    @property
    def model(self) -> str:
        """Name of the model that answers."""
        return self._engine.model

    async def adraw(
        self,
        prompt: Prompt,
        n: int,
        sampler: Sampler,
        *,
        on_candidate: CandidateHook | None = None,
    ) -> Samples:
        """Draw `n` samples; `Samples.usage` counts every thought and every value.

        A tree that ends with fewer texts than asked, since equal ones are kept once, fails the
        others.
        """
        parts: list[Samples] = []
        for first in range(0, n, self._trees.breadth):
            size = min(self._trees.breadth, n - first)
            found = await self._tree(prompt, first, size, sampler)
            for candidate in found.candidates:
                if on_candidate is not None:
                    on_candidate(candidate)
            parts.append(found)
        reports = [part.esamp for part in parts if part.esamp is not None]
        return Samples(
            n,
            tuple(candidate for part in parts for candidate in part.candidates),
            tuple(failure for part in parts for failure in part.failures),
            sum((part.usage for part in parts), Usage()),
            sum(reports, ESampReport()) if reports else None,
        )

    async def _tree(self, prompt: Prompt, first: int, size: int, sampler: Sampler) -> Samples:
        """One tree, whose texts are the samples from `first` on."""
        search = BeamSearch(
            SelfJudge(VALUE_INSTRUCTION),
            n=size,
            sampler=sampler.with_seed(None),
            expand=self._trees.expand,
            step_tokens=self._trees.step_tokens,
            max_steps=sampler.max_tokens,  # no thought is empty, so tokens end it before
            kind="text",
        )
        seed = later_seed(sampler.seed, -first)  # places above 0 are those of a tree's own draws
        outcome = await search.arun(self._engine, prompt, seed=seed)
        done = [c for c in outcome.candidates if c.finish_reason != _UNFINISHED]
        why = outcome.stopped or _reasons(outcome.failures) or "the tree ended with fewer texts"
        return Samples(
            size,
            tuple(replace(c, index=first + place) for place, c in enumerate(done)),
            tuple(Failure(first + place, why) for place in range(len(done), size)),
            outcome.spent.usage + outcome.spent.judge_usage,
            outcome.esamp,
        )


def _reasons(failures: tuple[Failure, ...]) -> str:
    return "; ".join(sorted({failure.reason for failure in failures}))
