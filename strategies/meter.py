"""Counts what a run draws, and keeps it within its budget."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ttscale.engines import CandidateHook, Engine
from ttscale.engines.protocol import check_prefix
from ttscale.errors import EngineError
from ttscale.sampling import Sampler
from ttscale.strategies.budget import Budget
from ttscale.strategies.outcome import Spent
from ttscale.strategies.seeds import later_seed
from ttscale.types import Candidate, ESampReport, Failure, Prompt, Samples, Usage

TEMPLATE_TOKENS = 128
"""Set aside for what a chat template adds to a prompt, until the engine has told its length."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What may be drawn now: so many samples of so many tokens; `tokens` are set aside for it."""

    n: int
    max_tokens: int
    tokens: int


class Meter:
    """The account of one run, used from one event loop.

    Attributes:
        stopped: Which limit has been reached; empty while there is something left.
        judge_told: Tokens of the verifiers by their own account.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._spent = Spent()
        self._started = 0
        self._held = 0
        self._lost = 0
        self._freed = asyncio.Event()
        self._prompt_tokens: dict[Prompt, int] = {}
        self.judge_told = Usage()
        self.stopped = ""

    def spent(self, seconds: float) -> Spent:
        """The account so far. Of two accounts of the verifiers' tokens the larger one holds."""
        drawn, told = self._spent.judge_usage, self.judge_told
        judge = Usage(
            max(drawn.prompt_tokens, told.prompt_tokens),
            max(drawn.completion_tokens, told.completion_tokens),
        )
        return replace(self._spent, judge_usage=judge, seconds=seconds)

    async def reserve(self, prompt: Prompt, n: int, sampler: Sampler, *, judge: bool) -> Grant:
        """What of a draw may start, once that is clear; nothing (`n` is 0) when it may not."""
        while True:
            grant = self._grant(prompt, n, sampler.max_tokens, judge=judge)
            if grant is not None:
                self._held += grant.tokens
                self._started += 0 if judge else grant.n
                return grant
            self._freed.clear()
            await self._freed.wait()  # a draw that ends gives back what it has not used

    def release(
        self, grant: Grant, prompt: Prompt, found: Samples | None, seen: Sequence[Candidate]
    ) -> None:
        """Give back what `grant` set aside; tokens of what came are spent."""
        self._held -= grant.tokens
        if found is not None:
            self._prompt_tokens[prompt] = found.usage.prompt_tokens
        else:  # what was thrown away may have been as long as it could be
            self._lost += max(0, grant.tokens - sum(c.token_count for c in seen))
        self._freed.set()

    def add(self, spent: Spent) -> None:
        """Add to the account."""
        mine = self._spent
        self._spent = Spent(
            mine.samples + spent.samples,
            mine.failed + spent.failed,
            mine.cancelled + spent.cancelled,
            mine.judge + spent.judge,
            mine.usage + spent.usage,
            mine.judge_usage + spent.judge_usage,
        )

    def _grant(self, prompt: Prompt, n: int, longest: int, *, judge: bool) -> Grant | None:
        """As much of the draw as fits; None when more may fit later."""
        count = n
        if self._budget.max_samples is not None and not judge:
            count = min(n, self._budget.max_samples - self._started)
            if count <= 0:
                return self._refuse(f"max_samples={self._budget.max_samples}")
        if self._budget.max_tokens is None:
            return Grant(count, longest, 0)
        head = self._prompt_tokens.get(prompt, bound(prompt))
        left = self._budget.max_tokens - self._spent.tokens - self._lost - self._held - head
        if (fit := left // longest) >= 1:
            count = min(count, fit)
            return Grant(count, longest, head + count * longest)
        if self._held:
            return None
        if left >= 1 and not self._spent.tokens:  # better a short sample than none at all
            return Grant(1, left, head + left)
        return self._refuse(f"max_tokens={self._budget.max_tokens}")

    def _refuse(self, limit: str) -> Grant:
        self.stopped = self.stopped or f"the budget's {limit} is used up"
        return Grant(0, 0, 0)


def bound(prompt: Prompt) -> int:
    """At most how many tokens a prompt has: no tokenizer makes more tokens than bytes."""
    texts = [prompt.text or "", prompt.prefix, *(turn.content for turn in prompt.messages)]
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return size + TEMPLATE_TOKENS * (1 + len(prompt.messages))


class Metered:
    """An engine that draws through a meter.

    Args:
        engine: What draws.
        meter: The account of the run.
        judge: Whether the draws are a verifier's.
    """

    def __init__(self, engine: Engine, meter: Meter, *, judge: bool) -> None:
        self._engine = engine
        self._meter = meter
        self._judge = judge

    @property
    def model(self) -> str:
        """Name of the model that answers."""
        return self._engine.model

    @property
    def continues_prefix(self) -> bool:
        """Whether the engine goes on from a prefix."""
        return bool(getattr(self._engine, "continues_prefix", False))

    async def adraw(
        self,
        prompt: Prompt,
        n: int,
        sampler: Sampler,
        *,
        on_candidate: CandidateHook | None = None,
    ) -> Samples:
        """As many of `n` samples as the budget allows; see `Engine.adraw`.

        Raises:
            EngineError: A verifier asked, and the budget is used up.
        """
        check_prefix(self._engine, prompt)
        parts: list[Samples] = []
        drawn = 0
        while drawn < n:
            grant = await self._meter.reserve(prompt, n - drawn, sampler, judge=self._judge)
            if not grant.n:
                break
            parts.append(await self._part(grant, prompt, sampler, drawn, on_candidate))
            drawn += grant.n
        if self._judge and not parts:
            raise EngineError(self._meter.stopped)
        if len(parts) == 1 and drawn == n:
            return parts[0]
        return joined(parts, n, self._meter.stopped)

    async def _part(
        self, grant: Grant, prompt: Prompt, sampler: Sampler, first: int, hook: CandidateHook | None
    ) -> Samples:
        """One draw within its grant; its samples are counted from `first`."""
        if grant.max_tokens < sampler.max_tokens:
            sampler = replace(sampler, max_tokens=grant.max_tokens)
        if first:
            sampler = sampler.with_seed(later_seed(sampler.seed, first))
        seen: list[Candidate] = []

        def note(candidate: Candidate) -> None:
            seen.append(candidate)
            if hook is not None:
                hook(replace(candidate, index=first + candidate.index) if first else candidate)

        found: Samples | None = None
        cancelled = False
        try:
            found = await self._engine.adraw(prompt, grant.n, sampler, on_candidate=note)
        except asyncio.CancelledError:
            cancelled = True
            raise
        finally:
            self._meter.add(self._cost(grant, found, seen, cancelled=cancelled))
            self._meter.release(grant, prompt, found, seen)
        return shifted(found, first)

    def _cost(
        self, grant: Grant, found: Samples | None, seen: Sequence[Candidate], *, cancelled: bool
    ) -> Spent:
        came = len(found.candidates if found else seen)
        usage = found.usage if found else Usage(0, sum(c.token_count for c in seen))
        if self._judge:
            return Spent(judge=came, judge_usage=usage)
        lost = grant.n - came
        return Spent(came, 0 if cancelled else lost, lost if cancelled else 0, usage=usage)


def shifted(samples: Samples, first: int) -> Samples:
    """The samples, counted from `first`."""
    if not first:
        return samples
    return replace(
        samples,
        candidates=tuple(replace(c, index=first + c.index) for c in samples.candidates),
        failures=tuple(replace(f, index=first + f.index) for f in samples.failures),
    )


def joined(parts: Sequence[Samples], n: int, reason: str) -> Samples:
    """Several draws as one of `n` samples; `reason` is told of those that no part asked for."""
    asked = sum(part.requested for part in parts)
    reports = [part.esamp for part in parts if part.esamp is not None]
    missing = tuple(Failure(index, reason or "not drawn") for index in range(asked, n))
    return Samples(
        requested=n,
        candidates=tuple(c for part in parts for c in part.candidates),
        failures=(*(f for part in parts for f in part.failures), *missing),
        usage=sum((part.usage for part in parts), Usage()),
        esamp=sum(reports, ESampReport()) if reports else None,
    )
