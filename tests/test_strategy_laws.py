"""What holds for every strategy, checked on each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ttscale.errors import InvalidInput
from ttscale.esamp import ESamp
from ttscale.sampling import Sampler
from ttscale.strategies import (
    NAMES,
    Budget,
    Draw,
    Event,
    Outcome,
    Record,
    SelfConsistency,
    Strategy,
    arun,
    chain,
    fallback,
    make,
    run,
    stream,
)
from ttscale.strategies.factory import NEED_VERIFIER, TAKE_VERIFIER
from ttscale.testing import Script, Scripted, ScriptedEngine, candidate, check_contract
from ttscale.types import Candidate, Prompt, Samples
from ttscale.verifiers import CallableVerifier, SelfJudge, Verifier
from ttscale.verifiers.judge import JUDGE_QUESTION

QUESTION = "What is 3 + 4?"
SAMPLER = Sampler(max_tokens=40)
EXPLORING = replace(SAMPLER, esamp=ESamp(), fire_temperature=20.0)


def likes_seven(question: str, text: str) -> float:
    """A verifier that prefers one answer, and likes a first step better than another answer."""
    return 0.8 if "boxed{7}" in text else 0.5 if "First" in text else 0.2


LIKING = CallableVerifier(likes_seven)
Factory = Callable[[int, Sampler], Strategy[Any]]


def named(name: str, verifier: Verifier | None, **settings: Any) -> Factory:
    """Makes the strategy of that name."""
    return lambda n, sampler: make(name, n, sampler, verifier, **settings)


FACTORIES: dict[str, Factory] = {
    **{name: named(name, LIKING if name in NEED_VERIFIER else None) for name in NAMES},
    **{f"{name}, verified": named(name, LIKING) for name in TAKE_VERIFIER - NEED_VERIFIER},
    **{f"{name}, judged": named(name, SelfJudge()) for name in sorted(TAKE_VERIFIER)},
    "weighted-vote, certain": named("weighted-vote", None, weight="self-certainty"),
    "adaptive, in batches": named("adaptive", None, batch=2),
    "tournament, round-robin": named("tournament", None, rule="round-robin"),
    "tournament, lists": named("tournament", None, group=3),
    "medoid, clusters": named("medoid", None, threshold=0.6),
    "refine, wide": named("refine", LIKING, width=2),
    "tree-search, wide": named("tree-search", LIKING, width=3),
    "fallback": lambda n, s: fallback(SelfConsistency(1, s), make("best-of-n", n, s)),
    "chain": lambda n, s: chain(SelfConsistency(n, s), make("adaptive", n, s), margin=0.9),
}
every_strategy = pytest.mark.parametrize("factory", FACTORIES.values(), ids=list(FACTORIES))

TEXTS: list[Scripted] = [
    candidate(r"It is \boxed{7}.", logprob=-1.0, confidences=[5.0, 6.0]),
    candidate(r"So it is \boxed{7}.", logprob=-2.0, confidences=[5.0, 5.0]),
    candidate(r"Maybe \boxed{8}.", logprob=-6.0, confidences=[2.0, 2.0]),
    candidate("First, add them.\n\n", logprob=-4.0, confidences=[2.0, 3.0]),
]


def scripted(texts: list[Scripted]) -> Script:
    """Deals `texts`, ends every answer that was begun with 7, and plays both kinds of judge."""

    def script(prompt: Prompt, index: int) -> Scripted:
        asked = prompt.question
        if JUDGE_QUESTION in asked:
            score = likes_seven("", asked)
            return candidate("Yes", top_logprobs={"Yes": score - 1, "No": -score})
        if "Which solution is the best?" in asked:
            return candidate("A", top_logprobs=dict(zip("ABCD", letters(asked), strict=False)))
        if prompt.prefix:
            return candidate(r"So \boxed{7}.", logprob=-1.0)
        return texts[index % len(texts)]

    return script


def letters(asked: str) -> list[float]:
    """Log-probabilities of the letters of a comparison: the solution with 7 is the best."""
    return [-0.2 if "boxed{7}" in part else -3.0 for part in asked.split("Solution ")[1:]]


def engine_of(texts: list[Scripted] | None = None) -> ScriptedEngine:
    """An engine for one run."""
    return ScriptedEngine(scripted(texts or TEXTS))


def policy_draws(engine: ScriptedEngine) -> int:
    """Number of samples drawn for the question itself, without the judges'."""
    judges = (JUDGE_QUESTION, "Which solution is the best?")
    calls = [c for c in engine.calls if not any(j in c.prompt.question for j in judges)]
    return sum(call.n for call in calls)


@every_strategy
async def test_the_answer_is_found(factory: Factory) -> None:
    """Where most samples, the likeliest and the verifier agree, so does every strategy."""
    outcome = await arun(factory(4, SAMPLER), engine_of(), QUESTION, seed=1)

    assert outcome.answer is not None
    assert "7" in outcome.answer
    assert outcome.candidate is not None
    assert (outcome.reason, outcome.stopped) == ("", "")
    assert len(outcome.answers) == outcome.returned


@every_strategy
async def test_same_seed_same_outcome(factory: Factory) -> None:
    """Two runs with one seed agree in everything but the time they took."""
    texts: list[Scripted] = [rf"Digit \boxed{{{i}}} it is" for i in range(10)]

    async def once() -> Outcome:
        engine = ScriptedEngine(scripted(texts), seed=5)
        return await arun(factory(5, SAMPLER), engine, "Pick a digit.", seed=3)

    assert await once() == await once()


@every_strategy
def test_the_contract_is_kept(factory: Factory) -> None:
    """The order of telling does not matter, and no state is changed, whatever is asked or told."""
    outcome = check_contract(factory(5, SAMPLER), engine_of(), QUESTION, seed=1)

    assert outcome.answer is not None


@every_strategy
def test_refuses_what_it_did_not_ask(factory: Factory) -> None:
    """A result with an unknown id, or told twice, is refused."""
    strategy = factory(2, SAMPLER)
    state, (ask, *_) = strategy.ask(strategy.start(Prompt.of("q"), None))
    nothing = Samples(ask.n if isinstance(ask, Draw) else 0, ())

    with pytest.raises(InvalidInput, match="nothing with id"):
        strategy.tell(state, 99, nothing)
    with pytest.raises(InvalidInput, match="nothing with id"):
        strategy.tell(strategy.tell(state, ask.id, nothing), ask.id, nothing)


@every_strategy
async def test_one_failed_sample_loses_no_other(factory: Factory) -> None:
    """Of each draw one sample fails: it is reported, and the others decide."""
    texts = [*TEXTS[:2], RuntimeError("line dropped"), TEXTS[3]]

    outcome = await arun(factory(4, SAMPLER), engine_of(texts), QUESTION, seed=1)

    assert outcome.answer is not None
    assert "7" in outcome.answer
    assert outcome.spent.failed == len(outcome.failures)
    assert {failure.reason for failure in outcome.failures} <= {"line dropped"}


@every_strategy
async def test_one_sample_is_enough(factory: Factory) -> None:
    """With n=1 the one sample's answer is the answer."""
    outcome = await arun(factory(1, SAMPLER), engine_of(TEXTS[:3]), QUESTION)

    assert outcome.answer is not None
    assert "7" in outcome.answer
    assert outcome.tie is False


@every_strategy
async def test_all_abstain(factory: Factory) -> None:
    """When nothing is written there is no answer, and the reason says why."""
    mute = ScriptedEngine([candidate("", finish_reason="length", logprob=-1.0)])

    outcome = await arun(factory(3, SAMPLER), mute, QUESTION)

    assert (outcome.answer, outcome.abstained) == (None, True)
    assert "states an answer" in outcome.reason


@every_strategy
async def test_all_failed(factory: Factory) -> None:
    """When no sample comes back the reason of the first failure is told."""
    outcome = await arun(factory(3, SAMPLER), ScriptedEngine([RuntimeError("no memory")]), "q")

    assert (outcome.answer, outcome.candidate, outcome.returned) == (None, None, 0)
    assert outcome.spent.failed == len(outcome.failures) > 0
    assert "came back: no memory" in outcome.reason


@every_strategy
async def test_usage_adds_up(factory: Factory) -> None:
    """What was spent is what the engine did, and what the strategy reports."""
    engine = engine_of()

    outcome = await arun(factory(4, SAMPLER), engine, QUESTION, seed=1)

    spent = outcome.spent
    assert spent.usage + spent.judge_usage == outcome.usage
    assert spent.samples + spent.failed + spent.cancelled == policy_draws(engine)
    assert spent.judge == sum(call.n for call in engine.calls) - policy_draws(engine)
    assert outcome.requested == policy_draws(engine)


@every_strategy
@pytest.mark.parametrize("limit", [1, 2, 3, 5])
async def test_no_more_samples_than_the_budget_has(factory: Factory, limit: int) -> None:
    """The limit is never exceeded; a strategy that it stops says so and gives its best."""
    engine = engine_of(TEXTS[:3])

    outcome = await arun(
        factory(4, SAMPLER), engine, QUESTION, seed=1, budget=Budget(max_samples=limit)
    )

    assert policy_draws(engine) <= limit
    assert outcome.answer is not None
    whole = await arun(factory(4, SAMPLER), engine_of(TEXTS[:3]), QUESTION, seed=1)
    if whole.spent.samples > limit:
        assert outcome.stopped == f"the budget's max_samples={limit} is used up"
    else:
        assert (outcome.stopped, outcome.answer) == ("", whole.answer)


@every_strategy
@pytest.mark.parametrize("limit", [180, 260, 400, 700])
async def test_no_more_tokens_than_the_budget_has(factory: Factory, limit: int) -> None:
    """Tokens read and written, judges' included, stay below the limit, whatever is drawn."""
    long: list[Scripted] = [rf"\boxed{{7}} {'word ' * 60}", rf"\boxed{{7}} {'word ' * 10}"]

    outcome = await arun(
        factory(4, SAMPLER), engine_of(long), QUESTION, seed=1, budget=Budget(max_tokens=limit)
    )

    assert outcome.spent.tokens <= limit
    assert outcome.returned >= 1 or outcome.stopped


@every_strategy
async def test_a_deadline_keeps_what_has_finished(factory: Factory) -> None:
    """When the time is up open samples are cancelled in the engine, and the finished ones count."""

    async def gate(prompt: Prompt, index: int) -> None:
        if index > 1 or prompt.prefix:
            await asyncio.Event().wait()

    engine = ScriptedEngine(scripted(TEXTS[:3]), gate=gate)
    budget = Budget(deadline_seconds=0.15)

    outcome = await arun(factory(4, SAMPLER), engine, QUESTION, seed=1, budget=budget)

    assert outcome.returned >= 1
    assert outcome.spent.cancelled == engine.cancelled
    assert bool(engine.cancelled) == ("deadline_seconds=0.15 is over" in outcome.stopped)


@every_strategy
async def test_a_stopped_run_goes_on_without_drawing_again(
    factory: Factory, tmp_path: Path
) -> None:
    """What a budget left over is drawn by the next run alone; a third run draws nothing."""
    path, same = tmp_path / "run.jsonl", [TEXTS[0]]
    whole = engine_of(same)
    outcome = await arun(factory(4, SAMPLER), whole, QUESTION, seed=1)
    engines = [engine_of(same) for _ in range(3)]

    budgets = (Budget(max_samples=3), None, None)
    made = [
        await arun(
            factory(4, SAMPLER), engine, QUESTION, seed=1, budget=budget, record=Record.open(path)
        )
        for engine, budget in zip(engines, budgets, strict=True)
    ]

    assert policy_draws(engines[0]) + policy_draws(engines[1]) == policy_draws(whole)
    assert made[1].answer == outcome.answer
    assert [c.text for c in made[1].candidates] == [c.text for c in outcome.candidates]
    assert engines[2].calls == []
    assert replace(made[2], spent=made[1].spent) == made[1]
    assert made[2].spent.tokens == 0


@every_strategy
async def test_a_stream_ends_with_the_outcome(factory: Factory) -> None:
    """Each sample is an event with the best so far; the last event has what `arun` returns."""
    told: list[Event] = []
    async for event in stream(factory(4, SAMPLER), engine_of(), QUESTION, seed=1):
        told.append(event)
    outcome = await arun(factory(4, SAMPLER), engine_of(), QUESTION, seed=1)

    samples = [event for event in told if event.kind == "sample"]
    assert told[-1].kind == "final"
    assert replace(told[-1].outcome, spent=outcome.spent) == outcome
    assert len(samples) == outcome.spent.samples
    assert all(event.candidate is not None for event in samples)
    assert all(event.outcome.answer or event.outcome.reason for event in told)


@every_strategy
async def test_cancelling_the_caller_cancels_the_engine(factory: Factory) -> None:
    """Nothing goes on when whoever waits for the outcome has gone."""
    waiting = asyncio.Event()

    async def gate(prompt: Prompt, index: int) -> None:
        waiting.set()
        await asyncio.Event().wait()

    engine = ScriptedEngine(TEXTS, gate=gate)
    running = asyncio.create_task(arun(factory(3, SAMPLER), engine, QUESTION))
    await waiting.wait()
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert engine.cancelled == policy_draws(engine)


@every_strategy
async def test_any_sampler_will_do(factory: Factory) -> None:
    """ESamp and FIRE settings reach every draw of the question."""
    engine = engine_of()

    outcome = await arun(factory(3, EXPLORING), engine, QUESTION, seed=1)

    own = [call.sampler for call in engine.calls if call.sampler.temperature > 0]
    assert own
    assert all((s.esamp, s.fire_temperature) == (ESamp(), 20.0) for s in own)
    assert outcome.answer is not None


@every_strategy
async def test_every_draw_has_a_seed_of_its_own(factory: Factory) -> None:
    """The run's seed is that of the first draw; no other draw repeats it."""
    engine = engine_of()

    await arun(factory(4, SAMPLER), engine, QUESTION, seed=11)

    seeds = [call.sampler.seed for call in engine.calls if call.sampler.temperature > 0]
    assert seeds[0] == 11
    assert len(set(seeds)) == len(seeds)


@every_strategy
@pytest.mark.parametrize("seed", [-1, 2**31, True])
def test_bad_seed_is_refused(factory: Factory, seed: int) -> None:
    """A seed out of range is refused before anything is drawn."""
    engine = engine_of()

    with pytest.raises(InvalidInput, match="seed must be a whole number"):
        run(factory(2, SAMPLER), engine, "q", seed=seed)

    assert engine.calls == []


@every_strategy
def test_samples_are_told_to_the_hook(factory: Factory) -> None:
    """`on_candidate` sees each sample once, and none of a verifier's own."""
    seen: list[Candidate] = []
    engine = engine_of()

    run(factory(4, SAMPLER), engine, QUESTION, seed=1, on_candidate=seen.append)

    assert len(seen) == policy_draws(engine)


@every_strategy
async def test_any_strategy_may_be_part_of_another(factory: Factory) -> None:
    """First or last in a chain, behind one that abstains, and in a whole within a whole."""
    silent = SelfConsistency(1, SAMPLER, kind="choice")  # no sample states an option
    wholes: list[Strategy[Any]] = [
        chain(factory(3, SAMPLER), SelfConsistency(2, EXPLORING), margin=1.0),
        chain(SelfConsistency(2, EXPLORING), factory(3, SAMPLER), margin=1.0),
        fallback(silent, factory(3, SAMPLER)),
        fallback(silent, chain(factory(2, SAMPLER), factory(3, EXPLORING), margin=1.0)),
    ]
    for whole in wholes:
        engine = engine_of()
        outcome = await arun(whole, engine, QUESTION, seed=1)

        assert "7" in (outcome.answer or "")
        assert outcome.notes["ran"] >= 1
        assert outcome.spent.samples == policy_draws(engine)
        assert check_contract(whole, engine_of(), QUESTION, seed=1).answer == outcome.answer
