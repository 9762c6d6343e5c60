"""A process reward model on a real vLLM pooling server: Qwen2's architecture, random weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from transformers import AutoTokenizer

from ttscale.bench.tiny import random_llama
from ttscale.sampling import Sampler
from ttscale.serving.running import RunningServer
from ttscale.strategies import BeamSearch, ParticleFilter
from ttscale.testing import ScriptedEngine, candidate
from ttscale.types import Prompt
from ttscale.verifiers import ProcessReward

pytestmark = [pytest.mark.engine, pytest.mark.own_engine]
IDLE = ScriptedEngine(["unused"])
QUESTION = Prompt.of("What is 1 + 1?")
TAG = "<file_sep>"  # one token of the embedded model's tokenizer, in no text
WIDTH, LAYERS = 64, 2
FIRST, SECOND = "One and one.", "That makes 2."
MODULE = ("vllm.entrypoints.openai.api_server",)
CHEAP = (
    *("--runner", "pooling", "--dtype", "float32", "--enforce-eager"),
    *("--max-num-seqs", "8", "--max-model-len", "512", "--served-model-name", "process"),
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server of a small Qwen2ForProcessRewardModel that pools by steps."""
    folder = tmp_path_factory.mktemp("process")
    tag = save_model(folder)
    pooler = json.dumps({"task": "token_classify", "step_tag_id": tag})
    args = ["--model", str(folder), "--pooler-config", pooler, *CHEAP]
    environment = {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    with RunningServer(args, command=MODULE, environment=environment) as server:
        yield server.url


def save_model(folder: Path) -> int:
    """The model with the embedded one's tokenizer; the id of its step tag."""
    random_llama(folder, WIDTH, LAYERS)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"architectures": ["Qwen2ForProcessRewardModel"], "model_type": "qwen2"}
    config |= {"intermediate_size": WIDTH}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    dice = np.random.default_rng(0)
    weights = {
        name: dice.normal(0, 0.5, shape).astype(np.float32)
        for name, shape in shapes(config["vocab_size"]).items()
    }
    safetensors.numpy.save_file(weights, folder / "model.safetensors")
    return int(AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(TAG))


def shapes(words: int) -> dict[str, tuple[int, ...]]:
    """Every weight of the model by name; all are drawn, norms and biases too."""
    square, line = (WIDTH, WIDTH), (WIDTH,)
    made: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (words, WIDTH),
        "model.norm.weight": line,
        "score.0.weight": square,
        "score.0.bias": line,
        "score.2.weight": (2, WIDTH),
        "score.2.bias": (2,),
    }
    for layer in range(LAYERS):
        start = f"model.layers.{layer}."
        for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
            made |= {f"{start}{name}.weight": square, f"{start}{name}.bias": line}
        for name in ("self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"):
            made[f"{start}{name}.weight"] = square
        for name in ("input_layernorm", "post_attention_layernorm"):
            made[f"{start}{name}.weight"] = line
    return made


async def test_every_step_has_a_score_of_its_own(url: str) -> None:
    """A step's score depends on what stands before it, and on nothing behind it."""
    with ProcessReward(url, step_tag=TAG) as verifier:
        both, cost = await verifier.asteps(QUESTION, f"{FIRST}\n\n{SECOND}")
        first, _ = await verifier.asteps(QUESTION, FIRST)
        other, _ = await verifier.asteps(QUESTION, f"{SECOND}\n\n{SECOND}")

    assert len(both) == len(other) == 2
    assert all(0 < score < 1 for score in both)
    assert first == pytest.approx(both[:1], abs=1e-6)
    assert abs(other[1] - both[1]) > 1e-4
    assert abs(both[0] - both[1]) > 1e-4
    assert cost.prompt_tokens > 10


async def test_the_least_step_is_the_solutions_score(url: str) -> None:
    """The sheet holds the least score of the steps, unless another aggregate is asked for."""
    texts = [f"{FIRST}\n\n{SECOND}", SECOND]
    solutions = [candidate(text, index=place) for place, text in enumerate(texts)]
    with (
        ProcessReward(url, step_tag=TAG) as least,
        ProcessReward(url, step_tag=TAG, aggregate="last") as last,
    ):
        steps = [(await least.asteps(QUESTION, text))[0] for text in texts]
        sheets = [await one.ascore(QUESTION, solutions, IDLE) for one in (least, last)]

    told = [[score.value for score in sheet.scores] for sheet in sheets]
    assert told[0] == pytest.approx([min(scores) for scores in steps], abs=1e-6)
    assert told[1] == pytest.approx([scores[-1] for scores in steps], abs=1e-6)


@pytest.mark.parametrize("strategy", [BeamSearch, ParticleFilter])
async def test_steps_of_a_search_are_scored_by_the_model(
    url: str, strategy: type[BeamSearch] | type[ParticleFilter]
) -> None:
    """A search over steps takes the model's scores; they are those of the whole texts."""

    def script(prompt: Prompt, index: int) -> str:
        if not prompt.prefix:
            return f"Way {index} begins.\n\n"
        return f"So \\boxed{{{index}}}."

    with ProcessReward(url, step_tag=TAG, aggregate="last") as verifier:
        search = strategy(verifier, 3, sampler=Sampler(max_tokens=40))
        outcome = await search.arun(ScriptedEngine(script), QUESTION, seed=0)
        places = [replace(one, index=place) for place, one in enumerate(outcome.candidates)]
        again = await verifier.ascore(QUESTION, places, IDLE)

    told = {score.index: score.value for score in outcome.scores}
    assert told == pytest.approx({score.index: score.value for score in again.scores}, abs=1e-6)
    assert set(told) == set(range(outcome.returned))
    assert outcome.notes["steps"] >= 2
    assert outcome.answer is not None
