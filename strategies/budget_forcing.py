"""Budget forcing: a thinking model that stops early is made to go on (Muennighoff et al.)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from ttscale import _check
from ttscale.errors import InvalidInput
from ttscale.sampling import Sampler
from ttscale.strategies import rounds
from ttscale.strategies.ledger import Ledger, Planned, answers_of, report
from ttscale.strategies.outcome import Outcome
from ttscale.strategies.protocol import Ask, Draw
from ttscale.strategies.select import majority
from ttscale.types import Candidate, Samples

END_OF_THINKING = "</think>"


@dataclass(frozen=True)
class BudgetForcing(Planned):
    """Draws `n` samples; those that end early go on after `wait`, and at last all vote.

    A sample is early when it ended by itself with fewer than `min_tokens` tokens. It is cut where
    its thinking ends (`end`), or when it has no such mark at its end; `wait` follows, and the model
    writes on from there, up to `max_forced` times (arXiv 2501.19393). It pays for models that think
    and check themselves; others tend to repeat themselves. A continuation that fails leaves the
    sample as it was.

    The engine must go on from a prefix: `LocalEngine`, or a vLLM server.
    `Outcome.notes["forced"]` is the number of continuations.

    Attributes:
        n: Number of samples.
        sampler: How they are drawn; `max_tokens` bounds each piece.
        wait: What makes the model go on.
        max_forced: Most continuations of a sample.
        min_tokens: Length from which a sample is left alone, in tokens.
        end: Text that ends the thinking.
        kind: Kind of answer to look for, as in `ttscale.answers.extract_answer`.

    Raises:
        InvalidInput: A setting is outside its legal range.
    """

    n: int = 1
    sampler: Sampler = field(default_factory=Sampler)
    wait: str = "\nWait,"
    max_forced: int = 2
    min_tokens: int = 2048
    end: str = END_OF_THINKING
    kind: str = "auto"
    name: ClassVar[str] = "budget-forcing"

    def __post_init__(self) -> None:
        rounds.check_settings(self.n, self.sampler, self.kind)
        _check.integer("max_forced", self.max_forced, 0)
        _check.integer("min_tokens", self.min_tokens, 1)
        for name, text in (("wait", self.wait), ("end", self.end)):
            if not isinstance(text, str) or not text:
                raise InvalidInput(f"{name} must be a text that is not empty, got {text!r}")

    def plan(self, ledger: Ledger) -> tuple[Ask, ...]:
        """All samples, then the next piece of those that ended early."""
        if not ledger.asked:
            return (ledger.draw(0, self.n, self.sampler),)
        written = self._written(ledger)
        early = [written.texts[index] for index in self._early(written)]
        return tuple(self._go_on(ledger, k, sample) for k, sample in enumerate(early))

    def best(self, state: Ledger) -> Outcome:
        """The majority of the samples as far as they are written."""
        written = self._written(state)
        candidates = [written.texts[index] for index in sorted(written.texts)]
        answers = answers_of(candidates, self.kind)
        picked = majority(candidates, answers, state.tie_seed)
        notes = {"forced": float(written.forced)}
        return report(self.name, state, candidates, answers, picked, notes=notes)

    def _written(self, ledger: Ledger) -> _Written:
        """Every sample with all its pieces."""
        told = dict(ledger.told)
        first = told.get(0)
        found = first.candidates if isinstance(first, Samples) else ()
        written = _Written({c.index: c for c in found}, dict.fromkeys((c.index for c in found), 0))
        place = 1
        while place < len(ledger.asked):
            for index in self._early(written):
                piece = told.get(place)
                place += 1
                written.tries[index] += 1
                if isinstance(piece, Samples) and piece.candidates:
                    written.texts[index] = self._joined(written.texts[index], piece.candidates[0])
                    written.forced += 1
                else:
                    written.tries[index] = self.max_forced  # it stays as it is
        return written

    def _early(self, written: _Written) -> list[int]:
        """Indexes of the samples that are to go on."""
        return [
            index
            for index, c in sorted(written.texts.items())
            if written.tries[index] < self.max_forced
            and c.finish_reason == "stop"
            and c.token_count < self.min_tokens
        ]

    def _go_on(self, ledger: Ledger, k: int, sample: Candidate) -> Draw:
        begun = ledger.prompt.prefix + self._cut(sample)
        prompt = replace(ledger.prompt, prefix=begun)
        return ledger.draw(len(ledger.asked) + k, 1, self.sampler, prompt)

    def _cut(self, sample: Candidate) -> str:
        """The sample up to the end of its thinking, and what makes the model go on."""
        thought, mark, _ = sample.text.partition(self.end)
        return (thought if mark else sample.text).rstrip() + self.wait

    def _joined(self, sample: Candidate, piece: Candidate) -> Candidate:
        known = sample.logprob is not None and piece.logprob is not None
        return replace(
            sample,
            text=self._cut(sample) + piece.text,
            token_count=sample.token_count + piece.token_count,
            finish_reason=piece.finish_reason,
            logprob=sample.logprob + piece.logprob if known else None,  # type: ignore[operator]
            token_logprobs=(),
            confidences=(),
        )


@dataclass(slots=True)
class _Written:
    """The samples so far by index, how often each was to go on, and how many pieces came."""

    texts: dict[int, Candidate]
    tries: dict[int, int]
    forced: int = 0
