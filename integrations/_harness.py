"""A strategy and an engine as evaluation harnesses name them: by words on a command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

from ttscale import _check, models
from ttscale.engines import Engine, ServerEngine
from ttscale.errors import EngineError, InvalidInput
from ttscale.esamp.settings import ESamp
from ttscale.sampling import Sampler
from ttscale.strategies import NAMES, Outcome, Strategy, arun, make
from ttscale.strategies.factory import NEED_VERIFIER
from ttscale.types import Prompt
from ttscale.verifiers import SelfJudge


@dataclass(frozen=True)
class Setup:
    """What answers a harness's requests.

    Attributes:
        engine: What draws.
        strategy: What chooses among the samples.
        seed: Seed of the samples and of ties; None draws fresh ones.
    """

    engine: Engine
    strategy: Strategy[Any]
    seed: int | None = None

    async def answer(self, prompt: Prompt, settings: Mapping[str, Any]) -> Outcome:
        """Run the strategy once.

        Args:
            prompt: What is asked.
            settings: Fields of `Sampler` that this request sets; a temperature of 0 is left out,
                since several equal samples could not be chosen among.

        Raises:
            EngineError: No sample came back.
        """
        seed = settings.get("seed", self.seed)
        changes = {
            k: v for k, v in settings.items() if k != "seed" and (k, v) != ("temperature", 0)
        }
        outcome = await arun(_with(self.strategy, changes), self.engine, prompt, seed=seed)
        if not outcome.candidates:
            reasons = "; ".join(sorted({failure.reason for failure in outcome.failures}))
            raise EngineError(reasons or outcome.reason or "no sample came back")
        return outcome


def setup(
    model: str | None,
    base_url: str | None,
    api_key: str | None,
    engine: Engine | None,
    words: Mapping[str, Any],
) -> Setup:
    """The engine and strategy that a harness's arguments name.

    Args:
        model: Name, folder or hub name; None for the embedded model, or a server's first one.
        base_url: Address of an OpenAI-compatible server; None runs vLLM in this process.
        api_key: Key of the server.
        engine: An engine that is there already, instead.
        words: `strategy` (a name or an object), `n`, `temperature`, `max_tokens`, `esamp` (a
            strength, or whether to use it), `kind` of answer, `seed`.

    Raises:
        InvalidInput: A word is unknown or refused.
    """
    known = ("strategy", "n", "temperature", "max_tokens", "esamp", "kind", "seed")
    if unknown := sorted(set(words) - set(known)):
        raise InvalidInput(f"unknown argument {unknown[0]!r}; allowed are {', '.join(known)}")
    seed = words.get("seed")
    if seed is not None:
        _check.integer("seed", seed, 0, 2**31 - 1)
    chosen = strategy_of(words)  # refused before an engine is started
    return Setup(engine or _engine(model, base_url, api_key), chosen, seed)


def strategy_of(words: Mapping[str, Any]) -> Strategy[Any]:
    """The strategy of the arguments; the model judges itself where a verifier is needed."""
    named = words.get("strategy", "self-consistency")
    if not isinstance(named, str):
        made: Strategy[Any] = named
        return made
    name = _check.choice("strategy", named, NAMES)
    sampler = Sampler(
        temperature=float(words.get("temperature", 0.8)),
        max_tokens=int(words.get("max_tokens", 512)),
        esamp=_esamp(words.get("esamp", True)),
    )
    verifier = SelfJudge() if name in NEED_VERIFIER else None
    strategy = make(name, int(words.get("n", 8)), sampler, verifier)
    if "kind" in words:
        return _with_field(strategy, "kind", words["kind"])
    return strategy


def chosen_text(outcome: Outcome) -> str:
    """The text of the sample that was selected; of a vote without one, its answer."""
    if outcome.candidate is not None:
        return outcome.candidate.text
    return outcome.answer if outcome.answer is not None else outcome.candidates[0].text


def _engine(model: str | None, base_url: str | None, api_key: str | None) -> Engine:
    if base_url is not None:
        return ServerEngine(base_url, model, api_key=api_key)
    from ttscale.worker.engine import LocalEngine

    return LocalEngine(model or models.EMBEDDED)


def _esamp(word: object) -> ESamp | None:
    if isinstance(word, str):
        word = word.lower() == "true" if word.lower() in ("true", "false") else float(word)
    if isinstance(word, bool):
        return ESamp() if word else None
    return ESamp(beta=word)  # type: ignore[arg-type]


def _with(strategy: Strategy[Any], changes: Mapping[str, Any]) -> Strategy[Any]:
    """The strategy whose sampler has these settings, where it has a sampler."""
    sampler = getattr(strategy, "sampler", None)
    if not changes or not isinstance(sampler, Sampler):
        return strategy
    return _with_field(strategy, "sampler", replace(sampler, **changes))


def _with_field(strategy: Strategy[Any], name: str, value: object) -> Strategy[Any]:
    if not is_dataclass(strategy) or not hasattr(strategy, name):
        raise InvalidInput(f"strategy {strategy.name!r} has no setting {name!r}")
    changed: Strategy[Any] = replace(strategy, **{name: value})
    return changed
