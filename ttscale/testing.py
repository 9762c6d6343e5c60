r"""A scripted engine and a scripted server, to test applications without a model.

>>> from ttscale.strategies import SelfConsistency
>>> from ttscale.testing import ScriptedEngine
>>> engine = ScriptedEngine([r"So \boxed{7}.", r"It is \boxed{7}.", r"Maybe \boxed{9}."])
>>> SelfConsistency(n=3).run(engine, "What is 3 + 4?").answer
'7'
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from ttscale._concurrent import gather
from ttscale._contract import check_contract
from ttscale._scripted_server import Reply, ScriptedServer, ServerRequest
from ttscale._scripted_wire import ToolCall
from ttscale.engines import CandidateHook
from ttscale.errors import InvalidInput
from ttscale.sampling import Sampler
from ttscale.types import Candidate, ESampReport, Failure, Prompt, Samples, Usage

__all__ = [
    "Call",
    "Reply",
    "Scripted",
    "ScriptedEngine",
    "ScriptedServer",
    "ServerRequest",
    "ToolCall",
    "candidate",
    "check_contract",
]

Scripted = str | Candidate | Exception
"""One scripted sample: its text, the whole candidate, or the error that it fails with."""

Script = Sequence[Scripted] | Callable[[Prompt, int], Scripted]
Gate = Callable[[Prompt, int], Awaitable[object]]


class Call(NamedTuple):
    """One call of `adraw`."""

    prompt: Prompt
    n: int
    sampler: Sampler


def candidate(
    text: str,
    *,
    index: int = 0,
    token_count: int | None = None,
    finish_reason: str = "stop",
    logprob: float | None = None,
    top_logprobs: Mapping[str, float] | None = None,
    token_logprobs: Sequence[float] = (),
    confidences: Sequence[float] = (),
) -> Candidate:
    """A candidate with sensible defaults; its length is its number of words, at least 1."""
    length = max(1, len(text.split())) if token_count is None else token_count
    return Candidate(
        index,
        text,
        length,
        finish_reason,
        logprob,
        dict(top_logprobs or {}),
        tuple(token_logprobs),
        tuple(confidences),
    )


class ScriptedEngine:
    """An engine that answers from a script and writes down how it was called.

    A sequence is dealt from its start for every draw, over again when it is shorter than the draw;
    with `seed` each draw picks from it at random instead, by that seed, the sampler's seed and the
    prompt. A function is asked for each sample with the prompt and the sample's index. An exception
    among the scripted samples makes that sample fail with its message. A sample of more tokens than
    the sampler's `max_tokens` is cut off there.

    Args:
        script: The samples, or the function that makes them.
        model: Name of the model that is pretended.
        esamp: Report that comes with every draw whose sampler asks for ESamp.
        gate: Awaited with the prompt and the index before each sample finishes; all samples of a
            draw wait at the same time. Lets a test decide when and in which order they come.
        seed: Makes a sequence be picked from at random, reproducibly.

    Attributes:
        calls: Every call so far: prompt, n and sampler.
        cancelled: Number of samples that were cancelled while they waited at the gate.
        continues_prefix: Like a real engine it is asked to go on from a prefix; the script decides
            what follows.

    Raises:
        InvalidInput: The script is empty, or a single text.
    """

    continues_prefix = True

    def __init__(
        self,
        script: Script,
        *,
        model: str = "scripted",
        esamp: ESampReport | None = None,
        gate: Gate | None = None,
        seed: int | None = None,
    ) -> None:
        if isinstance(script, str) or (not callable(script) and not script):
            raise InvalidInput(f"script must be a list of samples or a function, got {script!r}")
        self._script = script
        self._model = model
        self._esamp = esamp
        self._gate = gate
        self._seed = seed
        self.calls: list[Call] = []
        self.cancelled = 0

    @property
    def model(self) -> str:
        """Name of the model that is pretended."""
        return self._model

    async def adraw(
        self,
        prompt: Prompt,
        n: int,
        sampler: Sampler,
        *,
        on_candidate: CandidateHook | None = None,
    ) -> Samples:
        """Return the next `n` scripted samples; see `Engine.adraw`."""
        sampler.check_count(n)
        self.calls.append(Call(prompt, n, sampler))
        picks = self._picks(prompt, n, sampler)
        longest = sampler.max_tokens
        jobs = [
            self._finish(prompt, i, pick, longest, on_candidate) for i, pick in enumerate(picks)
        ]
        return self._samples(prompt, await gather(jobs), sampler)

    def _picks(self, prompt: Prompt, n: int, sampler: Sampler) -> list[Scripted]:
        if callable(self._script):
            return [self._script(prompt, index) for index in range(n)]
        if self._seed is None:
            return [self._script[index % len(self._script)] for index in range(n)]
        key = f"{self._seed}/{sampler.seed}/{prompt.question}"
        dice = random.Random(key)  # noqa: S311 - reproducible, not secret
        return [dice.choice(self._script) for _ in range(n)]

    async def _finish(
        self,
        prompt: Prompt,
        index: int,
        pick: Scripted,
        longest: int,
        hook: CandidateHook | None,
    ) -> Candidate | Failure:
        if self._gate is not None:
            try:
                await self._gate(prompt, index)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if isinstance(pick, Exception):
            return Failure(index, str(pick))
        made = candidate(pick, index=index) if isinstance(pick, str) else replace(pick, index=index)
        made = _cut(made, longest)
        if hook is not None:
            hook(made)
        return made

    def _samples(
        self, prompt: Prompt, done: Sequence[Candidate | Failure], sampler: Sampler
    ) -> Samples:
        candidates = tuple(item for item in done if isinstance(item, Candidate))
        return Samples(
            requested=len(done),
            candidates=candidates,
            failures=tuple(item for item in done if isinstance(item, Failure)),
            usage=Usage(_words(prompt), sum(c.token_count for c in candidates)),
            esamp=self._esamp if sampler.esamp is not None else None,
        )


def _cut(made: Candidate, longest: int) -> Candidate:
    """The sample as an engine cuts it off at `max_tokens`; words stand for tokens."""
    if made.token_count <= longest:
        return made
    words = made.text.split(" ")
    return replace(
        made, text=" ".join(words[:longest]), token_count=longest, finish_reason="length"
    )


def _words(prompt: Prompt) -> int:
    """Length of a prompt in words, which stand for its tokens."""
    texts = [prompt.text or "", prompt.prefix, *(message.content for message in prompt.messages)]
    return sum(len(text.split()) for text in texts)
