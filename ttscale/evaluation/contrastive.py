"""Contrastive decoding as a sampler (Li et al., arXiv 2210.15097), with a second model.

Tokens are drawn where the model, the expert, is surer than a weaker one, the amateur: of the tokens
that the expert finds plausible, by `(1 + beta) log p_expert - beta log p_amateur` (O'Brien & Lewis,
arXiv 2309.09117). vLLM runs one model a step, so both are run by transformers, beside the engine.
"""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from dataclasses import dataclass, fields

from ttscale import _check
from ttscale.engines import CandidateHook, Engine
from ttscale.errors import EngineError, InvalidInput, MissingDependency
from ttscale.sampling import Sampler
from ttscale.types import Candidate, Failure, Prompt, Samples, Usage

TAKEN = ("temperature", "max_tokens", "min_tokens", "stop", "include_stop", "seed")
"""The settings of a sampler that this one heeds; it refuses the others."""


@dataclass(frozen=True, slots=True)
class Contrastive:
    """How the two models are weighed.

    Attributes:
        amateur: Name, folder or hub name of the weaker model; of the expert's own vocabulary.
        alpha: Share of the expert's likeliest token's probability that makes a token plausible.
        beta: Weight of the contrast; 0 samples the expert's plausible tokens.

    Raises:
        InvalidInput: There is no amateur, or a weight is outside its legal range.
    """

    amateur: str
    alpha: float = 0.1
    beta: float = 0.5

    def __post_init__(self) -> None:
        if not self.amateur:
            raise InvalidInput(
                "sampler 'contrastive' needs a second, weaker model of the same vocabulary; name "
                "one: contrastive:amateur=FOLDER_OR_NAME"
            )
        _check.number("contrastive:alpha", self.alpha, 0, 1, open_low=True)
        _check.number("contrastive:beta", self.beta, 0, 10)

    def check(self, model: str) -> None:
        """Raise InvalidInput unless the amateur has the vocabulary of `model`.

        Raises:
            MissingDependency: torch or transformers is not installed.
            ModelNotFound: A name leads to no model.
        """
        missing = [n for n in ("torch", "transformers") if importlib.util.find_spec(n) is None]
        if missing:
            raise MissingDependency(
                f"contrastive decoding needs {' and '.join(missing)}; run pip install "
                "'ttscale[embedded]' (and [cpu] or [gpu], which bring torch)"
            )
        from ttscale.evaluation import _pair

        _pair.check(model, self.amateur)

    def on(self, engine: Engine) -> Engine:
        """An engine that draws by contrast of `engine`'s model and the amateur."""
        return _ContrastiveEngine(self, engine.model)


class _ContrastiveEngine:
    """Draws one prompt at a time, all of its samples together."""

    continues_prefix = True

    def __init__(self, settings: Contrastive, model: str) -> None:
        self._settings, self._model = settings, model
        self._turn = asyncio.Lock()

    @property
    def model(self) -> str:
        """Name of the expert."""
        return self._model

    async def adraw(
        self,
        prompt: Prompt,
        n: int,
        sampler: Sampler,
        *,
        on_candidate: CandidateHook | None = None,
    ) -> Samples:
        """Draw `n` samples; see `Engine.adraw`. The models are loaded by the first draw.

        Raises:
            InvalidInput: The sampler has a setting that is not in TAKEN, or the prompt is too long.
            ModelNotFound: A model cannot be loaded.
            EngineError: A model failed.
        """
        sampler.check_count(n)
        _check_settings(sampler)
        given_up = threading.Event()
        async with self._turn:
            try:
                return await asyncio.to_thread(
                    self._draw, prompt, n, sampler, on_candidate, given_up
                )
            finally:
                given_up.set()

    def _draw(
        self,
        prompt: Prompt,
        n: int,
        sampler: Sampler,
        on_candidate: CandidateHook | None,
        given_up: threading.Event,
    ) -> Samples:
        from ttscale.evaluation import _pair

        done: list[Candidate] = []
        lost: list[Failure] = []

        def tell(ended: Candidate | Failure) -> None:
            if isinstance(ended, Failure):
                lost.append(ended)
                return
            done.append(ended)
            if on_candidate is not None:
                on_candidate(ended)

        weights = self._settings.alpha, self._settings.beta
        try:
            pair = _pair.load(self._model, self._settings.amateur)
            ids = pair.tokens(prompt)
            pair.write(ids, n, sampler, weights, tell, given_up.is_set)
        except RuntimeError as error:  # torch's, out of memory among them
            raise EngineError(f"contrastive decoding failed: {error}") from error
        return Samples(
            n,
            tuple(sorted(done, key=lambda candidate: candidate.index)),
            tuple(lost),
            Usage(len(ids), sum(candidate.token_count for candidate in done)),
        )


def _check_settings(sampler: Sampler) -> None:
    plain = Sampler()
    for setting in fields(Sampler):
        name = setting.name
        if name not in TAKEN and getattr(sampler, name) != getattr(plain, name):
            raise InvalidInput(
                f"contrastive decoding takes {', '.join(TAKEN)}, and no {name}; leave it out"
            )
