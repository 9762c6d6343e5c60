"""Draws the samples of one HTTP request through the server's own chat handler.

Each sample is a request of its own in the handler, all in one ESamp group. As one request with `n`
they would come all at once or not at all; so each is counted when it finishes, one that fails costs
none of the others, and vLLM's parsers of whole answers read the tool calls. The engine sees the
same either way: the samples of a request with `n` are requests of their own to it, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastapi import Request

from ttscale._concurrent import gather
from ttscale.engines import CandidateHook, _wire
from ttscale.engines._hosts import Facts as HostFacts
from ttscale.engines._wire import Json
from ttscale.errors import EngineError
from ttscale.esamp.settings import KEY_PREFIX
from ttscale.sampling import Sampler, in_own_group
from ttscale.serving.backend import Backend, Failed
from ttscale.serving.body import SEEDS, Job
from ttscale.types import Candidate, ESampReport, Failure, Prompt, Samples, Usage

_VLLM = HostFacts((), vllm=True)


@dataclass(frozen=True, slots=True)
class Drawn:
    """One sample of the conversation, and the choice of the completion that it came in.

    Attributes:
        candidate: The sample.
        choice: Its `message`, `finish_reason` and `logprobs`.
        order: Number of the draw, and of the sample in it.
    """

    candidate: Candidate
    choice: Mapping[str, Any]
    order: tuple[int, int]


class ChatEngine:
    """An engine for one HTTP request; see `ttscale.engines.Engine`.

    Attributes:
        trouble: The last failure of the server; None while there was none.
    """

    continues_prefix = True

    def __init__(self, backend: Backend, job: Job, request: Request) -> None:
        self.trouble: Failed | None = None
        self._drawn: list[Drawn] = []
        self._draws = 0
        self._backend = backend
        self._job = job
        self._request = request

    @property
    def model(self) -> str:
        """Name of the model that answers."""
        return self._job.model

    @property
    def drawn(self) -> list[Drawn]:
        """The samples of the request's own conversation, in the order that they were asked for."""
        return sorted(self._drawn, key=lambda one: one.order)

    async def adraw(
        self,
        prompt: Prompt,
        n: int,
        sampler: Sampler,
        *,
        on_candidate: CandidateHook | None = None,
    ) -> Samples:
        """Draw `n` samples of `prompt`; see `Engine.adraw`.

        Raises:
            Refused: The server refused the body.
            Failed: No sample came back.
        """
        sampler.check_count(n)
        sampler, group = in_own_group(sampler)
        draw, self._draws = self._draws, self._draws + 1
        jobs = [self._sample(prompt, (draw, i), sampler, on_candidate) for i in range(n)]
        results = await gather(jobs)
        done = [result for result in results if not isinstance(result, Failed)]
        if not done:
            raise next(result for result in results if isinstance(result, Failed))
        failures = [Failure(i, str(r)) for i, r in enumerate(results) if isinstance(r, Failed)]
        written = sum(used.completion_tokens for _, used in done)
        return Samples(
            requested=n,
            candidates=tuple(candidate for candidate, _ in done),
            failures=tuple(failures),
            usage=Usage(max(used.prompt_tokens for _, used in done), written),
            esamp=await self._esamp(group),
        )

    async def _sample(
        self, prompt: Prompt, order: tuple[int, int], sampler: Sampler, hook: CandidateHook | None
    ) -> tuple[Candidate, Usage] | Failed:
        index = order[1]
        body = self._body(prompt, index, sampler)
        try:
            answer = await self._backend.complete(body, self._request)
        except Failed as error:
            self.trouble = error
            return error
        assembly = _wire.Assembly(1, sampler, None)
        assembly.add(answer, whole=True)
        samples = assembly.samples("")
        if not samples.candidates:
            return Failed("the server's answer holds no sample")
        candidate = replace(samples.candidates[0], index=index)
        if self._continues(prompt):
            self._drawn.append(Drawn(candidate, self._choice(answer), order))
        if hook is not None:
            hook(candidate)
        return candidate, samples.usage

    def _choice(self, answer: bytes) -> dict[str, Any]:
        """The answer's one choice, with log-probabilities only where the request wants them."""
        choice: dict[str, Any] = json.loads(answer)["choices"][0]
        wanted = self._job.conversation.get("logprobs")
        return choice if wanted else {**choice, "logprobs": None}

    def _continues(self, prompt: Prompt) -> bool:
        """Whether the prompt is the request's conversation, perhaps with further turns."""
        base = self._job.prompt.messages
        return prompt.text is None and prompt.messages[: len(base)] == base

    def _body(self, prompt: Prompt, index: int, sampler: Sampler) -> dict[str, Json]:
        """One sample's body: the conversation as it was given, and how to sample."""
        if prompt.text is not None:
            raise Failed("this server's strategies draw from conversations, not from raw text", 501)
        own = sampler if sampler.seed is None else sampler.with_seed((sampler.seed + index) % SEEDS)
        body = _wire.body(prompt, 1, own, self.model, _VLLM, logprobs=True, stream=False)
        keys = dict(_object(body.pop("vllm_xargs", None)))
        if own.esamp is None and self._backend.facts.esamp_defaults:
            keys[f"{KEY_PREFIX}beta"] = 0  # or the operator's defaults would apply
        if self._continues(prompt):
            keys = {**self._foreign_keys(), **keys}
            body = self._with_conversation(body)
        return {**body, "vllm_xargs": keys} if keys else body

    def _with_conversation(self, body: dict[str, Json]) -> dict[str, Json]:
        """The body with the original turns and fields; what a draw sets itself wins."""
        given = self._job.conversation
        turns = [
            *_list(given["messages"]),
            *_list(body["messages"])[len(self._job.prompt.messages) :],
        ]
        top = max(_whole(given.get("top_logprobs")), _whole(body.get("top_logprobs")))
        body.pop("repetition_penalty", None)  # the request's, or the model's own
        merged = {**given, **body, "messages": turns}
        return {**merged, "top_logprobs": top} if top else merged

    def _foreign_keys(self) -> dict[str, Json]:
        """The request's own `vllm_xargs` that are none of ours."""
        given = _object(self._job.conversation.get("vllm_xargs"))
        ours = (KEY_PREFIX, "fire_temperature")
        return {key: value for key, value in given.items() if not key.startswith(ours)}

    async def _esamp(self, group: str | None) -> ESampReport | None:
        """What ESamp did for the draw's group; None without one of its own."""
        if group is None:
            return None
        try:
            found = (await self._backend.report(group))["groups"]
        except EngineError:
            return None  # the samples are there; only the count of what was done is lost
        return _wire.esamp_report(found.get(group))


def _object(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _whole(value: Json) -> int:
    return value if isinstance(value, int) else 0
