"""What holds for the strategies that draw once and then select, checked on each of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttscale.engines import CandidateHook
from ttscale.errors import InvalidInput
from ttscale.sampling import Sampler
from ttscale.strategies import (
    BestOfN,
    ConfidenceVote,
    Draw,
    ESampBestOfN,
    ESampSelfConsistency,
    ESampVerifierRerank,
    Outcome,
    Score,
    SelfConsistency,
    VerifierRerank,
    WeightedVote,
)
from ttscale.strategies.rounds import SampleState
from ttscale.testing import Script, Scripted, ScriptedEngine, candidate
from ttscale.types import Candidate, Prompt, Samples, Usage
from ttscale.verifiers import CallableVerifier, ScoreSheet, SelfJudge
from ttscale.verifiers.judge import JUDGE_QUESTION

AnyStrategy = BestOfN | SelfConsistency | VerifierRerank | WeightedVote | ConfidenceVote
Factory = Callable[[int, Sampler], AnyStrategy]


def likes_seven(question: str, text: str) -> float:
    """A verifier that prefers one answer; equal for all its samples."""
    return 0.9 if "boxed{7}" in text else 0.2


FACTORIES: dict[str, Factory] = {
    "best-of-n": lambda n, sampler: BestOfN(n, sampler),
    "best-of-n-verified": lambda n, sampler: BestOfN(n, sampler, CallableVerifier(likes_seven)),
    "best-of-n-judged": lambda n, sampler: BestOfN(n, sampler, SelfJudge()),
    "self-consistency": lambda n, sampler: SelfConsistency(n, sampler),
    "rerank": lambda n, sampler: VerifierRerank(CallableVerifier(likes_seven), n, sampler),
    "rerank-judged": lambda n, sampler: VerifierRerank(SelfJudge(), n, sampler),
    "weighted-vote": lambda n, sampler: WeightedVote(n, sampler),
    "weighted-vote-verified": lambda n, sampler: WeightedVote(
        n, sampler, "verifier", CallableVerifier(likes_seven)
    ),
    "weighted-vote-certain": lambda n, sampler: WeightedVote(n, sampler, "self-certainty"),
    "confidence-vote": lambda n, sampler: ConfidenceVote(n, sampler),
    "esamp-best-of-n": lambda n, sampler: ESampBestOfN(n, temperature=sampler.temperature),
    "esamp-vote": lambda n, sampler: ESampSelfConsistency(n, temperature=sampler.temperature),
    "esamp-rerank": lambda n, sampler: ESampVerifierRerank(
        CallableVerifier(likes_seven), n, temperature=sampler.temperature
    ),
}
every_strategy = pytest.mark.parametrize("factory", FACTORIES.values(), ids=list(FACTORIES))

SEVENS = [
    candidate(rf"So it is \boxed{{7}}, {i}.", logprob=-1.0 - i / 10, confidences=[5 - i / 10])
    for i in range(3)
]
OTHERS = [
    candidate(rf"Maybe \boxed{{{i}}}.", logprob=-5.0 - i / 10, confidences=[2.0]) for i in (8, 9)
]
FIVE: list[Candidate] = [*SEVENS, *OTHERS]


def judged(samples: Sequence[Scripted]) -> Script:
    """A script that deals `samples`, and answers the judge with a mild preference for 7."""

    def script(prompt: Prompt, index: int) -> Scripted:
        if JUDGE_QUESTION not in prompt.question:
            return samples[index % len(samples)]
        yes = -0.2 if "boxed{7}" in prompt.question else -2.0
        return candidate("Yes", top_logprobs={"Yes": yes, "No": -1.0})

    return script


def policy_draws(engine: ScriptedEngine) -> int:
    """Number of samples drawn for the question itself, without the judge's."""
    return sum(call.n for call in engine.calls if JUDGE_QUESTION not in call.prompt.question)


class Meter:
    """An engine that adds up what another one has used."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self.engine = engine
        self.usage = Usage()

    @property
    def model(self) -> str:
        return self.engine.model

    async def adraw(
        self,
        prompt: Prompt,
        n: int,
        sampler: Sampler,
        *,
        on_candidate: CandidateHook | None = None,
    ) -> Samples:
        samples = await self.engine.adraw(prompt, n, sampler, on_candidate=on_candidate)
        self.usage += samples.usage
        return samples


async def told(
    strategy: AnyStrategy, state: SampleState, samples: Samples, engine: ScriptedEngine
) -> SampleState:
    """The state after every ask was told: draws by `samples`, scores by the verifier itself."""
    while strategy.outcome(state) is None:
        state, asks = strategy.ask(state)
        for ask in asks:
            result: Samples | ScoreSheet = samples
            if isinstance(ask, Score):
                result = await ask.verifier.ascore(ask.prompt, ask.candidates, engine)
            state = strategy.tell(state, ask.id, result)
    return state


@every_strategy
@pytest.mark.parametrize("n", [1, 2, 5, 16])
def test_never_draws_more_than_n(factory: Factory, n: int) -> None:
    """The number of samples drawn is n, and is reported."""
    engine = ScriptedEngine(judged(FIVE))

    outcome = factory(n, Sampler()).run(engine, "What is 3 + 4?")

    assert policy_draws(engine) == n
    assert (outcome.requested, outcome.returned) == (n, n)


@every_strategy
def test_finds_the_answer(factory: Factory) -> None:
    """Where majority, log-probability and verifier agree, so does the strategy."""
    outcome = factory(5, Sampler()).run(ScriptedEngine(judged(FIVE)), "What is 3 + 4?")

    assert outcome.answer == "7"
    assert outcome.candidate is not None
    assert outcome.candidate.text == SEVENS[0].text
    assert (outcome.tie, outcome.reason, outcome.abstained) == (False, "", False)
    assert outcome.margin > 0


@every_strategy
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_same_seed_same_outcome(factory: Factory, seed: int) -> None:
    """Two runs with one seed agree in everything, ties included."""
    texts = [rf"\boxed{{{i}}}" for i in range(10)]

    def once() -> Outcome:
        engine = ScriptedEngine(texts, seed=5)
        verifier = CallableVerifier(likes_seven)
        strategy = factory(6, Sampler())
        if isinstance(strategy, BestOfN | VerifierRerank | WeightedVote) and strategy.verifier:
            strategy = replace(strategy, verifier=verifier)
        return strategy.run(engine, "Pick a digit.", seed=seed)

    assert once() == once()


@every_strategy
def test_seed_reaches_the_sampler(factory: Factory) -> None:
    """The run's seed is the sampler's when the sampler has none."""
    engine = ScriptedEngine(judged(FIVE))

    factory(2, Sampler()).run(engine, "What is 3 + 4?", seed=11)

    assert engine.calls[0].sampler.seed == 11


@every_strategy
def test_sampler_keeps_its_own_seed(factory: Factory) -> None:
    """A seed set in the sampler is not overwritten by the run's."""
    strategy = factory(2, Sampler())
    strategy = replace(strategy, sampler=strategy.sampler.with_seed(3))
    engine = ScriptedEngine(judged(FIVE))

    strategy.run(engine, "What is 3 + 4?", seed=11)

    assert engine.calls[0].sampler.seed == 3


@every_strategy
@settings(deadline=None, max_examples=40)
@given(order=st.permutations(FIVE))
def test_order_of_samples_does_not_matter(factory: Factory, order: list[Candidate]) -> None:
    """The same samples in another order give the same answer and votes of the same weight."""
    straight = factory(5, Sampler()).run(ScriptedEngine(judged(FIVE)), "What is 3 + 4?")
    shuffled = factory(5, Sampler()).run(ScriptedEngine(judged(order)), "What is 3 + 4?")

    assert shuffled.answer == straight.answer
    assert shuffled.candidate is not None
    assert straight.candidate is not None
    assert shuffled.candidate.text == straight.candidate.text
    votes = [[(v.answer, v.count, v.weight) for v in o.votes] for o in (straight, shuffled)]
    assert votes[0] == votes[1]


@every_strategy
async def test_order_of_telling_does_not_matter(factory: Factory) -> None:
    """Samples that are told in the order in which they finished give the same outcome."""
    strategy, engine = factory(5, Sampler()), ScriptedEngine(judged(FIVE))
    indexed = tuple(replace(sample, index=i) for i, sample in enumerate(FIVE))

    outcomes = []
    for order in (indexed, indexed[::-1]):
        state = strategy.start(Prompt.of("What is 3 + 4?"), 1)
        state = await told(strategy, state, Samples(5, order), engine)
        outcomes.append(strategy.outcome(state))

    assert outcomes[0] == outcomes[1]


@every_strategy
async def test_states_are_never_changed(factory: Factory) -> None:
    """ask, tell and outcome leave the state they are given as it was, so it can be resumed."""
    strategy, engine = factory(3, Sampler()), ScriptedEngine(judged(FIVE))
    state = strategy.start(Prompt.of("What is 3 + 4?"), 1)
    seen: list[tuple[SampleState, SampleState]] = [(state, copy.deepcopy(state))]
    samples = await engine.adraw(state.prompt, 3, Sampler())

    while strategy.outcome(state) is None:
        state, asks = strategy.ask(state)
        seen.append((state, copy.deepcopy(state)))
        for ask in asks:
            result: Samples | ScoreSheet = samples
            if isinstance(ask, Score):
                result = await ask.verifier.ascore(ask.prompt, ask.candidates, engine)
            state = strategy.tell(state, ask.id, result)
            seen.append((state, copy.deepcopy(state)))

    assert all(kept == copied for kept, copied in seen)
    resumed = await told(strategy, seen[0][0], samples, engine)
    assert strategy.outcome(resumed) == strategy.outcome(state)


@every_strategy
def test_asks_once_and_waits(factory: Factory) -> None:
    """While an ask is open there is nothing more to ask and no outcome."""
    strategy = factory(3, Sampler())
    state, asks = strategy.ask(strategy.start(Prompt.of("q"), None))

    assert [type(ask) for ask in asks] == [Draw]
    assert strategy.ask(state) == (state, ())
    assert strategy.outcome(state) is None


@every_strategy
def test_finished_strategy_asks_for_nothing(factory: Factory) -> None:
    """Once there is an outcome nothing more is asked for."""
    strategy = factory(3, Sampler())
    state, (ask,) = strategy.ask(strategy.start(Prompt.of("q"), None))
    state = strategy.tell(state, ask.id, Samples(3, ()))

    assert strategy.outcome(state) is not None
    assert strategy.ask(state) == (state, ())


@every_strategy
def test_refuses_what_it_did_not_ask(factory: Factory) -> None:
    """Telling twice, an unknown id, the wrong kind or too many samples is refused."""
    strategy = factory(2, Sampler())
    state, (ask,) = strategy.ask(strategy.start(Prompt.of("q"), None))
    three = Samples(3, tuple(candidate("a", index=i) for i in range(3)))
    twins = Samples(2, (candidate("a"), candidate("b")))

    with pytest.raises(InvalidInput, match="nothing with id 9"):
        strategy.tell(state, 9, Samples(2, ()))
    with pytest.raises(InvalidInput, match="must be told Samples, got ScoreSheet"):
        strategy.tell(state, ask.id, ScoreSheet(()))
    with pytest.raises(InvalidInput, match=r"indexes \[0, 1, 2\]"):
        strategy.tell(state, ask.id, three)
    with pytest.raises(InvalidInput, match=r"indexes \[0, 0\]"):
        strategy.tell(state, ask.id, twins)
    done = strategy.tell(state, ask.id, Samples(2, ()))
    with pytest.raises(InvalidInput, match="open id is None"):
        strategy.tell(done, ask.id, Samples(2, ()))


@every_strategy
def test_one_failed_sample_loses_no_other(factory: Factory) -> None:
    """M of N come back: they are used, and the failure is reported with its reason."""
    engine = ScriptedEngine(judged([*SEVENS, RuntimeError("line dropped"), OTHERS[0]]))

    outcome = factory(5, Sampler()).run(engine, "What is 3 + 4?")

    assert outcome.answer == "7"
    assert (outcome.requested, outcome.returned) == (5, 4)
    assert [(f.index, f.reason) for f in outcome.failures] == [(3, "line dropped")]
    assert [c.index for c in outcome.candidates] == [0, 1, 2, 4]
    assert sorted(place for vote in outcome.votes for place in vote.members) == [0, 1, 2, 3]


@every_strategy
def test_one_sample_is_enough(factory: Factory) -> None:
    """With n=1, also at temperature 0, the one sample's answer is the answer."""
    greedy = factory(1, Sampler(temperature=0.0))

    outcome = greedy.run(ScriptedEngine(judged(SEVENS)), "What is 3 + 4?")

    assert outcome.answer == "7"
    assert (outcome.returned, outcome.tie) == (1, False)


@every_strategy
def test_all_abstain(factory: Factory) -> None:
    """When no sample states an answer there is none, and the reason counts those cut off."""
    mute = candidate("Well, let me see", logprob=-1.0, finish_reason="length")
    engine = ScriptedEngine(judged([mute, "Hmm."]))

    outcome = factory(4, Sampler()).run(engine, "What is 3 + 4?")

    assert outcome.answer is None
    assert outcome.abstained
    assert outcome.votes == ()
    assert outcome.answers == (None,) * 4
    assert outcome.truncated == 2
    assert outcome.reason == "none of the 4 samples states an answer (2 of them cut off)"


@every_strategy
def test_all_failed(factory: Factory) -> None:
    """When no sample comes back the reason of the first failure is told."""
    outcome = factory(3, Sampler()).run(ScriptedEngine([RuntimeError("no memory")]), "q")

    assert (outcome.answer, outcome.candidate, outcome.returned) == (None, None, 0)
    assert len(outcome.failures) == 3
    assert outcome.reason == "none of the 3 samples came back: no memory"


@every_strategy
def test_usage_adds_up(factory: Factory) -> None:
    """The usage is that of every draw made, the verifier's included."""
    engine = Meter(ScriptedEngine(judged(FIVE)))

    outcome = factory(5, Sampler()).run(engine, "What is 3 + 4?")

    assert outcome.usage == engine.usage
    assert outcome.usage.completion_tokens >= sum(c.token_count for c in outcome.candidates)


@every_strategy
async def test_sync_equals_async(factory: Factory) -> None:
    """`run` and `arun` give equal outcomes, also where an event loop already runs."""
    strategy = factory(5, Sampler())
    prompt = Prompt.of("What is 3 + 4?")

    waited = strategy.run(ScriptedEngine(judged(FIVE)), prompt, seed=4)
    awaited = await strategy.arun(ScriptedEngine(judged(FIVE)), prompt, seed=4)

    assert waited == awaited
    assert waited.prompt == prompt


@every_strategy
def test_hook_sees_every_sample(factory: Factory) -> None:
    """`on_candidate` is called with the samples, and not with a verifier's own draws."""
    seen: list[Candidate] = []

    outcome = factory(5, Sampler()).run(
        ScriptedEngine(judged(FIVE)), "What is 3 + 4?", on_candidate=seen.append
    )

    assert sorted(seen, key=lambda c: c.index) == list(outcome.candidates)


@every_strategy
@pytest.mark.parametrize("n", [0, -1, 1.5, True, "4"])
def test_bad_n_is_refused(factory: Factory, n: int) -> None:
    """A number of samples below one or not whole is refused before anything is drawn."""
    with pytest.raises(InvalidInput, match="n must be a whole number of at least 1"):
        factory(n, Sampler())


@every_strategy
def test_many_greedy_samples_are_refused(factory: Factory) -> None:
    """At temperature 0 all samples would be equal, so n above 1 is refused."""
    with pytest.raises(InvalidInput, match="n must be 1 at temperature 0"):
        factory(2, Sampler(temperature=0.0))


@every_strategy
def test_bad_kind_is_refused(factory: Factory) -> None:
    """An unknown kind of answer is refused, and the legal ones are named."""
    strategy = factory(2, Sampler())

    with pytest.raises(InvalidInput, match="kind must be one of auto, choice, math, number, text"):
        replace(strategy, kind="poem")


@every_strategy
@pytest.mark.parametrize("seed", [-1, 2**31, True])
def test_bad_seed_is_refused(factory: Factory, seed: int) -> None:
    """A seed out of range is refused before anything is drawn."""
    engine = ScriptedEngine(judged(FIVE))

    with pytest.raises(InvalidInput, match="seed must be a whole number"):
        factory(2, Sampler()).run(engine, "q", seed=seed)

    assert engine.calls == []
