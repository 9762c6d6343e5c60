"""LocalEngine and the plugin on the real vLLM, in vLLM's default separate process."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest

from ttscale import ESamp, LocalEngine, Prompt, Sampler, draw
from ttscale.errors import EngineStopped, InvalidInput, ModelNotFound
from ttscale.types import Candidate

pytestmark = pytest.mark.engine
STORY = Prompt.raw("In the middle of the night the old clock")


def exploring(**settings: Any) -> Sampler:
    """A sampler with ESamp; keyword `esamp` takes its settings."""
    return Sampler(esamp=ESamp(**settings.pop("esamp", {})), **settings)


async def steps(engine: LocalEngine, prompt: str, **settings: Any) -> AsyncIterator[Any]:
    """What one vLLM request with SamplingParams that Sampler does not have tells, step by step."""
    from vllm import SamplingParams
    from vllm.inputs.engine import tokens_input

    ids = engine._tokenizer.encode(prompt)
    async for step in engine._llm.generate(
        tokens_input(ids), SamplingParams(**settings), f"test-{uuid.uuid4().hex}"
    ):
        yield step


async def generate(engine: LocalEngine, prompt: str, **settings: Any) -> list[Any]:
    """Final outputs of such a request."""
    done: dict[int, Any] = {}
    async for step in steps(engine, prompt, **settings):
        done |= {output.index: output for output in step.outputs}
    return [done[index] for index in sorted(done)]


def test_samples_share_a_distiller_that_learns(engine: LocalEngine) -> None:
    """Eight samples of one request are mixed, train one distiller, and report it."""
    found = draw(engine, STORY, 8, exploring(max_tokens=24))

    assert len(found.candidates) == 8
    assert found.esamp is not None
    assert found.esamp.rows_mixed > 0
    assert 0 < found.esamp.steps_trained <= 24
    assert found.esamp.fallback_count == 0
    assert found.esamp.relative_error is not None
    assert 0 < found.esamp.bytes_held < 500_000


def test_a_distiller_that_learns_through_the_head_runs(engine: LocalEngine) -> None:
    """The ablation `vocab` finds the embedded model's head, mixes every decode row and trains."""
    settings = {"distiller": "vocab", "gate": False}
    found = draw(engine, STORY, 4, exploring(max_tokens=12, min_tokens=12, esamp=settings))

    assert found.esamp is not None
    assert found.esamp.rows_mixed == 44
    assert 11 <= found.esamp.steps_trained <= 14  # samples may start up to three steps apart
    assert found.esamp.fallbacks == {}
    assert found.esamp.relative_error is not None


def test_plain_samples_carry_no_report(engine: LocalEngine) -> None:
    """Without ESamp nothing is mixed, and the result says so by having no report."""
    before = engine.esamp_report()
    found = draw(engine, STORY, 2, Sampler(max_tokens=4))

    assert found.esamp is None
    assert engine.esamp_report().rows_mixed == before.rows_mixed


def test_candidates_are_typed_and_counted(engine: LocalEngine) -> None:
    """Text, tokens, finish reason, log-probability and usage come back for every sample."""
    found = draw(engine, STORY, 3, Sampler(max_tokens=5, seed=1, top_logprobs=3))

    assert [c.index for c in found.candidates] == [0, 1, 2]
    assert all(c.text and c.token_count == 5 and c.truncated for c in found.candidates)
    assert all(c.logprob is not None and c.logprob < 0 for c in found.candidates)
    assert all(len(c.top_logprobs) >= 3 for c in found.candidates)
    assert found.usage.completion_tokens == 15
    assert found.usage.prompt_tokens > 5


def test_the_same_seed_draws_the_same_sample(engine: LocalEngine) -> None:
    """Two runs of one seed agree, with ESamp too, and another seed does not.

    One sample, since the front end decides which steps several samples share, and a batch of
    another shape rounds differently.
    """
    first, again, other = (
        draw(engine, STORY, 1, exploring(max_tokens=16, seed=seed)).candidates[0].text
        for seed in (3, 3, 4)
    )

    assert first == again
    assert first != other


def test_samples_share_the_cache_of_a_short_prompt(engine: LocalEngine) -> None:
    """Of a prompt shorter than vLLM's blocks on a CPU, the second sample reads only the end."""

    async def cached(prompt: str) -> list[int]:
        assert 64 < len(engine._tokenizer.encode(prompt)) < 128
        found = []
        for place in range(2):
            told = steps(engine, prompt, max_tokens=1, seed=place)
            found += [step.num_cached_tokens async for step in told]
        return found

    assert _run(lambda: cached("seven little owls " * 24)) == [0, 64]


def test_seeded_prompts_that_exceed_a_step_are_drawn(engine: LocalEngine) -> None:
    """More prompt tokens than one step takes, all seeded: a CPU engine must not cut them."""

    async def crowd() -> list[Any]:
        long = [Prompt.raw("one two three four " * 200 + str(place)) for place in range(4)]
        jobs = [engine.adraw(prompt, 2, Sampler(max_tokens=2, seed=1)) for prompt in long]
        return list(await asyncio.gather(*jobs))

    assert [len(found.candidates) for found in asyncio.run(crowd())] == [2, 2, 2, 2]


def test_every_finished_candidate_is_announced(engine: LocalEngine) -> None:
    """The hook sees each candidate once, before the draw returns."""
    seen: list[Candidate] = []
    found = draw(engine, STORY, 4, Sampler(max_tokens=6), on_candidate=seen.append)

    assert sorted(seen, key=lambda c: c.index) == list(found.candidates)


async def largest_gap(engine: LocalEngine, begun: str, text: str) -> float:
    """How far any token of `text` lies behind the model's likeliest one there, in nats."""
    told: list[Any] = []
    async for step in steps(engine, begun + text, max_tokens=1, prompt_logprobs=1):
        told = step.prompt_logprobs or told
    ids = engine._tokenizer.encode(begun + text)
    assert len(told) == len(ids)
    new = range(len(engine._tokenizer.encode(begun)), len(ids))
    gaps = [max(t.logprob for t in told[i].values()) - told[i][ids[i]].logprob for i in new]
    return float(max(gaps))


def test_a_filter_is_taken_on_the_reference(engine: LocalEngine) -> None:
    """With top_k 1 only the reference's likeliest token survives, however strong the push.

    In bfloat16 the likeliest two may tie, and a batch's rounding tell them apart. The likeliest
    tokens of the pushed logits, where a filter taken on these would end, lie further off.
    """

    def gaps(n: int, **settings: Any) -> list[float]:
        asked = exploring(max_tokens=16, esamp={"beta": 4.0, "gate": False}, **settings)
        found = draw(engine, STORY, n, asked)
        assert found.esamp is not None
        assert found.esamp.rows_mixed > 0
        texts = [candidate.text for candidate in found.candidates]
        return [_run(partial(largest_gap, engine, str(STORY.text), text)) for text in texts]

    assert max(gaps(4, top_k=1)) < 0.3
    assert min(gaps(1, temperature=0)) > 0.3


def test_a_strong_push_changes_greedy_tokens(engine: LocalEngine) -> None:
    """Without a filter the same push does change what is likeliest, so the test above can fail."""
    greedy = draw(engine, STORY, 1, Sampler(temperature=0, max_tokens=16))
    pushed = draw(engine, STORY, 1, exploring(temperature=0, max_tokens=16, esamp={"beta": 4.0}))

    assert pushed.candidates[0].text != greedy.candidates[0].text


def test_fire_heats_the_first_token_alone(engine: LocalEngine) -> None:
    """A nearly frozen first token is the greedy one in all samples; the others stay hot."""
    greedy = draw(engine, STORY, 1, Sampler(temperature=0, max_tokens=1)).candidates[0].text
    cold = Sampler(temperature=2.0, fire_temperature=0.01, max_tokens=12)
    found = draw(engine, STORY, 8, cold)

    assert all(c.text.startswith(greedy) for c in found.candidates)
    assert len({c.text for c in found.candidates}) > 1


def test_fire_and_esamp_compose(engine: LocalEngine) -> None:
    """A hot first token with a filter, then mixed rows: both happen in one request."""
    sampler = exploring(temperature=0.8, fire_temperature=30.0, top_k=16, max_tokens=8)
    found = draw(engine, STORY, 6, sampler)

    assert len({c.text.split()[0] if c.text.split() else "" for c in found.candidates}) > 1
    assert found.esamp is not None
    assert found.esamp.rows_mixed > 0


def test_a_grammar_wins_over_the_push(engine: LocalEngine) -> None:
    """Structured output stays within its choices at the largest beta, filtered or not."""
    from vllm.sampling_params import StructuredOutputsParams

    for extra in ({}, {"top_p": 0.9}):
        settings: dict[str, Any] = {
            "n": 4,
            "max_tokens": 12,
            "structured_outputs": StructuredOutputsParams(choice=["a red box", "a blue box"]),
            "extra_args": {"esamp_beta": 4.0},
            **extra,
        }
        outputs = _run(partial(generate, engine, "I see", **settings))
        assert {output.text for output in outputs} <= {"a red box", "a blue box"}


def test_penalties_and_allowed_tokens_still_hold(engine: LocalEngine) -> None:
    """Tokens that a request forbids are never sampled from a mixed distribution."""
    settings: dict[str, Any] = {
        "n": 2,
        "max_tokens": 12,
        "ignore_eos": True,
        "allowed_token_ids": [300, 301, 302, 303],
        "repetition_penalty": 1.2,
        "extra_args": {"esamp_beta": 1.0},
    }
    outputs = _run(lambda: generate(engine, "I see", **settings))

    assert all(set(output.token_ids) <= {300, 301, 302, 303} for output in outputs)


def _run(work: Callable[[], Any]) -> Any:
    from ttscale import _sync

    return _sync.run(work())


def test_concurrent_draws_keep_their_own_reports(engine: LocalEngine) -> None:
    """Requests that run in one batch each report their own group."""

    async def both() -> list[Any]:
        jobs = [engine.adraw(STORY, n, exploring(max_tokens=10)) for n in (2, 5)]
        return list(await asyncio.gather(*jobs))

    small, large = asyncio.run(both())

    assert small.esamp.rows_mixed < large.esamp.rows_mixed <= 50


def test_a_shared_distiller_reports_what_the_draw_added(engine: LocalEngine) -> None:
    """With scope shared the report counts this draw's rows, not the worker's whole history."""
    sampler = exploring(max_tokens=6, esamp={"scope": "shared"})
    draw(engine, STORY, 3, sampler)
    found = draw(engine, STORY, 3, sampler)

    assert found.esamp is not None
    assert 0 < found.esamp.rows_mixed <= 15


def test_a_cancelled_draw_frees_its_distiller(engine: LocalEngine) -> None:
    """Cancellation aborts the request in vLLM; the next draw finds the engine free."""

    async def cancelled() -> None:
        task = asyncio.create_task(engine.adraw(STORY, 8, exploring(max_tokens=900)))
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    draw(engine, STORY, 1, Sampler(max_tokens=2))

    assert engine.live_distillers() == 0


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"esamp_beta": -3}, "esamp_beta must be a number in [0, 4], got -3"),
        ({"esamp_betta": 1}, "unknown key esamp_betta"),
        ({"fire_temperature": 0}, "fire_temperature must be a number in (0, 100], got 0"),
    ],
)
def test_vllm_refuses_bad_keys_at_admission(
    engine: LocalEngine, extra: dict[str, Any], words: str
) -> None:
    """A request that goes to vLLM directly is refused with the legal range too."""
    with pytest.raises(Exception, match=r"esamp|fire") as caught:
        _run(lambda: generate(engine, "x", extra_args=extra))

    assert words in str(caught.value)


def test_a_prompt_that_is_too_long_is_refused(engine: LocalEngine) -> None:
    """vLLM's own refusal arrives as InvalidInput, with its words."""
    with pytest.raises(InvalidInput, match="longer than the maximum model length"):
        draw(engine, Prompt.raw("word " * 3000), 1, Sampler())


def test_several_greedy_samples_are_refused(engine: LocalEngine) -> None:
    """Equal samples are refused before vLLM sees them, with what to do."""
    with pytest.raises(InvalidInput, match="raise the temperature"):
        draw(engine, STORY, 2, Sampler(temperature=0))


def test_a_folder_that_is_no_model_is_refused(tmp_path: Any) -> None:
    """The message says what the folder lacks; no engine is started."""
    with pytest.raises(ModelNotFound, match=r"config\.json"):
        LocalEngine(str(tmp_path))


def test_a_closed_engine_says_so() -> None:
    """Drawing after `close` is refused; closing twice is harmless."""
    closed = object.__new__(LocalEngine)
    closed._closed = True
    closed.close()
    with pytest.raises(EngineStopped, match="has been closed"):
        draw(closed, STORY, 1, Sampler())
