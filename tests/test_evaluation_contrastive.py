"""Contrastive decoding: the formula, the writing of samples by two real models, and refusals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from ttscale import Prompt, Sampler
from ttscale.errors import InvalidInput, ModelNotFound
from ttscale.evaluation import Problem, Task, _pair
from ttscale.evaluation._pair import Pair, contrast
from ttscale.evaluation.book import Plan
from ttscale.evaluation.contrastive import Contrastive
from ttscale.evaluation.pool import Pool, PoolWriter, read_pool
from ttscale.evaluation.runner import Runner
from ttscale.evaluation.samplers import arms
from ttscale.evaluation.suite import open_ended
from ttscale.testing import ScriptedEngine
from ttscale.types import Candidate, Failure, Samples

PROMPT = Prompt.raw("Once upon a time")
SHORT = Sampler(temperature=1.0, max_tokens=12, min_tokens=12, seed=11)
ALPHA, BETA = 0.1, 0.5


@pytest.fixture(scope="module")
def amateur(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Llama of one layer with the tokens of `tiny_llama`, its head padded."""
    folder = tmp_path_factory.mktemp("amateur")
    AutoTokenizer.from_pretrained(tiny_llama).save_pretrained(folder)
    config = LlamaConfig.from_pretrained(tiny_llama)
    config.num_hidden_layers, config.vocab_size = 1, 272
    with torch.random.fork_rng():
        torch.manual_seed(1)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


async def drawn(
    expert: Path, amateur: Path, n: int, sampler: Sampler = SHORT, **weights: float
) -> Samples:
    """Samples of the prompt by contrast of two models."""
    settings = Contrastive(str(amateur), **weights)
    engine = settings.on(ScriptedEngine(["unused"], model=str(expert)))
    return await engine.adraw(PROMPT, n, sampler)


def logits_of(folder: Path, ids: Sequence[int]) -> Tensor:
    """Next-token logits after every place, in one pass without a cache."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        read: Tensor = model(torch.tensor([list(ids)])).logits[0, :, :264]
    return read


def test_the_score_is_the_written_formula() -> None:
    """(1 + beta) log p_e - beta log p_a where p_e >= alpha max p_e, and nothing elsewhere."""
    expert = torch.tensor([[0.5, 0.3, 0.15, 0.05]])
    poor = torch.tensor([[0.7, 0.1, 0.1, 0.1]])
    scores = contrast(expert.log() + 3.0, poor.log() - 1.0, alpha=0.2, beta=0.5)[0]
    expected = [1.5 * math.log(e) - 0.5 * math.log(a) for e, a in [(0.5, 0.7), (0.3, 0.1)]]

    assert scores[:2].tolist() == pytest.approx(expected, abs=1e-6)
    assert scores.isfinite().tolist() == [True, True, True, False]


def test_an_amateur_that_is_the_expert_cancels(tiny_llama: Path) -> None:
    """At any beta the scores of a real model against itself are its own plausible ones, exactly."""
    pair = Pair(str(tiny_llama), str(tiny_llama))
    readers = [_pair._Reader(model, pair._vocabulary) for model in pair._models]
    ids = pair.tokens(PROMPT)
    with torch.inference_mode():
        for logits in (
            [reader.begin(ids, 3) for reader in readers],
            [reader.step([0, 2], [5, 6]) for reader in readers],
        ):
            own = logits[0].log_softmax(dim=-1)
            masked = own.masked_fill(
                own < own.amax(dim=-1, keepdim=True) + math.log(ALPHA), -math.inf
            )
            for beta in (0.0, 0.5, 4.0):
                assert torch.equal(contrast(logits[0], logits[1], ALPHA, beta), masked)


async def test_samples_are_drawn_from_the_contrast(tiny_llama: Path, amateur: Path) -> None:
    """Two samples: every token is plausible, and log-probabilities are those of one whole pass."""
    told: list[Candidate | Failure] = []
    pair = Pair(str(tiny_llama), str(amateur))
    ids = pair.tokens(PROMPT)
    rows: list[list[int]] = []

    class Kept(_pair._Row):
        """A row whose tokens are seen."""

        def __init__(self, index: int, generator: torch.Generator) -> None:
            super().__init__(index, generator)
            rows.append(self.tokens)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_pair, "_Row", Kept)
        pair.write(ids, 2, SHORT, (ALPHA, BETA), told.append, lambda: False)
    candidates = [one for one in told if isinstance(one, Candidate)]

    assert [len(tokens) for tokens in rows] == [12, 12] == [c.token_count for c in candidates]
    assert rows[0] != rows[1]
    for tokens, found in zip(rows, candidates, strict=True):
        whole = [logits_of(f, [*ids, *tokens])[len(ids) - 1 : -1] for f in (tiny_llama, amateur)]
        banned = torch.full_like(whole[0], 0.0)
        banned[:11, 1] = -math.inf  # the model may not end before 12 tokens
        scores = contrast(whole[0] + banned, whole[1], ALPHA, BETA)
        each = scores.log_softmax(dim=-1)[range(12), tokens]
        assert each.isfinite().all()
        assert found.logprob == pytest.approx(float(each.sum()), abs=1e-3)


async def test_samples_of_a_seed_repeat_and_do_not_depend_on_their_number(
    tiny_llama: Path, amateur: Path
) -> None:
    """Drawn again, alone or among others, a sample is the same; another seed gives another."""
    three = await drawn(tiny_llama, amateur, 3)
    again = await drawn(tiny_llama, amateur, 3)
    one = await drawn(tiny_llama, amateur, 1)
    other = await drawn(tiny_llama, amateur, 3, SHORT.with_seed(99))

    assert three == again
    assert one.candidates[0].text == three.candidates[0].text
    assert [c.text for c in other.candidates] != [c.text for c in three.candidates]
    assert three.usage.prompt_tokens == len(PROMPT.text or "")
    assert three.usage.completion_tokens == 36


async def test_the_amateur_changes_what_is_drawn(tiny_llama: Path, amateur: Path) -> None:
    """With the same seeds the contrast gives other texts than beta 0, which leaves it out."""
    pushed = await drawn(tiny_llama, amateur, 4, beta=2.0)
    plain = await drawn(tiny_llama, amateur, 4, beta=0.0)
    alone = await drawn(tiny_llama, tiny_llama, 4, beta=2.0)

    assert [c.text for c in plain.candidates] == [c.text for c in alone.candidates]
    assert [c.text for c in pushed.candidates] != [c.text for c in plain.candidates]


async def test_samples_end_at_stop_texts_and_at_their_longest(
    tiny_llama: Path, amateur: Path
) -> None:
    """The stop text is cut off, or kept when asked; a sample without one is cut at max_tokens."""
    long = replace(SHORT, max_tokens=60, min_tokens=60)
    free = (await drawn(tiny_llama, amateur, 1, long)).candidates[0]
    letters = [c for c in free.text[5:] if c.isascii() and c.isprintable()]
    stop = letters[0]
    cut = (await drawn(tiny_llama, amateur, 1, replace(long, stop=(stop,)))).candidates[0]
    kept = replace(long, stop=(stop,), include_stop=True)
    whole = (await drawn(tiny_llama, amateur, 1, kept)).candidates[0]

    assert (free.finish_reason, free.token_count) == ("length", 60)
    assert (cut.finish_reason, whole.finish_reason) == ("stop", "stop")
    assert cut.text == free.text[: free.text.index(stop)]
    assert whole.text == cut.text + stop
    assert cut.token_count < 60


async def test_a_model_ends_its_samples(tiny_llama: Path, amateur: Path) -> None:
    """The end token ends a row alone, is counted, and is not in the text."""
    sampler = replace(SHORT, max_tokens=400, min_tokens=0, temperature=2.0)
    found = await drawn(tiny_llama, amateur, 12, sampler, alpha=0.001)
    ended = [c for c in found.candidates if c.finish_reason == "stop"]

    assert ended
    assert len({c.token_count for c in found.candidates}) > 1
    assert all("</s>" not in c.text for c in found.candidates)


async def test_a_row_that_fails_does_not_cost_the_others(
    tiny_llama: Path, amateur: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row's numbers break in the midst; it is a failure with its reason, the others stay."""
    whole = await drawn(tiny_llama, amateur, 3)
    calls = 0

    def breaking(expert: Tensor, *rest: Any) -> Tensor:
        nonlocal calls
        calls += 1
        scores = contrast(expert, *rest)
        if calls == 5:
            scores[1] = math.nan
        return scores

    monkeypatch.setattr(_pair, "contrast", breaking)
    found = await drawn(tiny_llama, amateur, 3)

    assert [c.index for c in found.candidates] == [0, 2]
    assert [c.text for c in found.candidates] == [whole.candidates[i].text for i in (0, 2)]
    assert found.failures == (Failure(1, "its scores are not finite"),)


def test_a_draw_that_is_given_up_stops(tiny_llama: Path, amateur: Path) -> None:
    """It asks before every token whether it is still wanted."""
    pair = Pair(str(tiny_llama), str(amateur))
    told: list[Candidate | Failure] = []
    answers = iter([False, False, True])
    pair.write(pair.tokens(PROMPT), 2, SHORT, (ALPHA, BETA), told.append, lambda: next(answers))

    assert told == []


async def test_settings_that_it_does_not_heed_are_refused(tiny_llama: Path, amateur: Path) -> None:
    """And so is a prompt that the models cannot read."""
    with pytest.raises(InvalidInput, match="and no top_p; leave it out"):
        await drawn(tiny_llama, amateur, 1, replace(SHORT, top_p=0.9))
    engine = Contrastive(str(amateur)).on(ScriptedEngine(["unused"], model=str(tiny_llama)))
    with pytest.raises(InvalidInput, match="600 tokens, and the models read at most 512"):
        await engine.adraw(Prompt.raw("x" * 600), 1, SHORT)


def test_an_amateur_is_needed() -> None:
    """The message says how to name one; weights are checked at the same door."""
    with pytest.raises(InvalidInput, match="name one: contrastive:amateur=FOLDER_OR_NAME"):
        arms(["contrastive"], [1.0], 16)
    with pytest.raises(InvalidInput, match=r"contrastive:alpha must be a number in \(0, 1\], got"):
        arms(["contrastive:amateur=x,alpha=0.0"], [1.0], 16)


def test_another_vocabulary_is_refused_at_the_door(tiny_llama: Path, tmp_path: Path) -> None:
    """Before anything is drawn; so is an amateur that does not exist."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    tokenizer.add_tokens(["new"])
    tokenizer.save_pretrained(tmp_path)
    LlamaConfig.from_pretrained(tiny_llama).save_pretrained(tmp_path)
    Contrastive(str(tiny_llama)).check(str(tiny_llama))
    with pytest.raises(InvalidInput, match=r"but 1 tokens of .* differ; choose an amateur of"):
        Contrastive(str(tmp_path)).check(str(tiny_llama))
    with pytest.raises(ModelNotFound, match="model must be"):
        Contrastive("nowhere").check(str(tiny_llama))


async def filled(path: Path, expert: Path, amateur: Path, n: int) -> Pool:
    """A pool of one text by the scripted engine and by contrast."""
    suite = open_ended(Task("texts", (Problem("Once upon a time", None, "0"),)), raw=True)
    plan = Plan((suite,), arms(["vanilla", f"contrastive:amateur={amateur}"], [1.0], 8), n)
    engine = ScriptedEngine(["by the engine"], model=str(expert))
    with PoolWriter(path) as writer:
        await Runner(plan, read_pool(path), writer, engine).fill()
    return read_pool(path)


async def test_a_pool_holds_it_beside_the_engines_samples(
    tiny_llama: Path, amateur: Path, tmp_path: Path
) -> None:
    """With its settings, lengths and log-probabilities; a second run draws what is missing."""
    path = tmp_path / "s.jsonl"
    first = await filled(path, tiny_llama, amateur, 2)
    pool = await filled(path, tiny_llama, amateur, 3)
    name = f"contrastive:amateur={amateur}@1"
    mine = [s for s in pool.samples.values() if s.sampler == name]

    assert pool.samplers[name].settings["alpha"] == 0.1
    assert [(s.index, s.draw) for s in mine] == [(0, 0), (1, 0), (2, 1)]
    assert all(pool.samples[key] == sample for key, sample in first.samples.items())
    assert all(s.tokens > 0 and s.logprob is not None for s in mine)
    assert {s.text for s in pool.samples.values() if s.sampler == "vanilla@1"} == {"by the engine"}
