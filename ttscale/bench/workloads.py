"""What is timed: so many prompts, so many samples of each, and who shares a distiller."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ttscale import _check
from ttscale.esamp.settings import DISTILLERS, LATENT_DISTILLERS, SCOPES, ESamp
from ttscale.sampling import Sampler
from ttscale.types import Prompt

BETA = 0.25
TOKENS = 64
_TOPICS = ("rain", "bread", "rivers", "glass", "maps", "clocks", "bridges", "seeds")


@dataclass(frozen=True, slots=True)
class Workload:
    """One setting to be timed.

    Attributes:
        prompts: Prompts that run at the same time.
        samples: Samples of each.
        scope: Scope of ESamp: a distiller for each prompt, or one for all.
        distiller: Its kind.
        tokens: Length of every sample; none ends before.

    Raises:
        InvalidInput: A value is outside its legal range.
    """

    prompts: int
    samples: int
    scope: str = "prompt"
    distiller: str = "ridge"
    tokens: int = TOKENS

    def __post_init__(self) -> None:
        _check.integer("prompts", self.prompts, 1)
        _check.integer("samples", self.samples, 1)
        _check.integer("tokens", self.tokens, 2)
        _check.choice("scope", self.scope, SCOPES)
        _check.choice("distiller", self.distiller, DISTILLERS)

    @property
    def name(self) -> str:
        """Prompts x samples, scope and distiller."""
        return f"{self.prompts}x{self.samples} {self.scope} {self.distiller}"

    @property
    def rows(self) -> int:
        """Samples that run at the same time."""
        return self.prompts * self.samples

    def questions(self) -> tuple[Prompt, ...]:
        """Different prompts of nearly equal length."""
        return tuple(
            Prompt.of(f"Write a long text about {_TOPICS[i % len(_TOPICS)]}, part {i}.")
            for i in range(self.prompts)
        )

    def samplers(self, seed: int) -> tuple[Sampler, Sampler]:
        """The plain sampler and the exploring one; they differ in nothing but ESamp.

        Without the gate, so that every decode row is mixed from the first step on.
        """
        plain = Sampler(max_tokens=self.tokens, min_tokens=self.tokens, seed=seed)
        esamp = ESamp(beta=BETA, scope=self.scope, distiller=self.distiller, gate=False)
        return plain, replace(plain, esamp=esamp)


STANDARD = tuple(
    Workload(prompts, samples, scope, distiller)
    for distiller in LATENT_DISTILLERS
    for prompts, samples, scope in ((1, 16, "prompt"), (16, 4, "prompt"), (4, 16, "shared"))
)
"""The workloads whose ratios the project has set itself as targets."""
