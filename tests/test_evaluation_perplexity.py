"""Perplexity under a chosen model: equal to a computation by hand, and read once."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ttscale.cli import main
from ttscale.errors import InvalidInput, ModelNotFound
from ttscale.evaluation.metrics.perplexity import (
    Asked,
    CausalLM,
    Likelihood,
    Remembered,
    model_in,
)
from ttscale.evaluation.pool import NAME, read_pool
from ttscale.evaluation.summary import summarise
from ttscale.testing import ScriptedEngine
from ttscale.types import Prompt

TEXTS = ["abc", "a much longer text, which goes on and on", "é \ud800", ""]
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"


def by_hand(folder: Path, head: str, text: str) -> float:
    """The same with transformers' own loss, one text at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    first = tokenizer(head, add_special_tokens=False)["input_ids"]
    then = tokenizer(text, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([first + then])
    labels = torch.tensor([[-100] * len(first) + then])
    with torch.inference_mode():
        return float(model(input_ids=ids, labels=labels).loss) * len(then)


def test_likelihood_is_that_of_transformers_own_loss(tiny_llama: Path) -> None:
    """Of raw text and of turns without a template, in one batch of different lengths."""
    raw, chat = Prompt.raw("once upon"), Prompt.of("how?", "be brief")
    found = CausalLM(str(tiny_llama))([(p, text) for p in (raw, chat) for text in TEXTS])
    heads = {0: "once upon", 4: "be brief\n\nhow?\n\n"}
    for start, head in heads.items():
        for place, text in enumerate(TEXTS[:2]):
            nll, tokens = found[start + place]
            assert tokens == len(text)  # its tokens are bytes
            assert nll == pytest.approx(by_hand(tiny_llama, head, text), rel=1e-4)
    assert found[3] == (0.0, 0)


def test_turns_go_through_the_models_own_template(tiny_llama: Path, tmp_path: Path) -> None:
    """As the model that reads them was trained to see them."""
    folder = tmp_path / "chat"
    shutil.copytree(tiny_llama, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    ((nll, _),) = CausalLM(str(folder))([(Prompt.of("how?"), "so")])
    assert nll == pytest.approx(by_hand(tiny_llama, "<user>how?<assistant>", "so"), rel=1e-4)


def test_what_is_too_long_is_cut(tiny_llama: Path) -> None:
    """The beginning of a text is read, and the end of a prompt."""
    found = CausalLM(str(tiny_llama))(
        [(Prompt.raw("p" * 2000), "t" * 10), (Prompt.raw("p" * 50), "t" * 2000)]
    )
    assert [tokens for _, tokens in found] == [10, 511]
    assert found[0][0] == pytest.approx(by_hand(tiny_llama, "p" * 502, "t" * 10), rel=1e-4)


def test_an_unknown_model_is_told() -> None:
    """When it is first needed."""
    with pytest.raises(ModelNotFound):
        CausalLM("no such model")([(Prompt.raw("a"), "b")])


class Counting:
    """Reads nothing: the likelihood of a text is its length."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, asked: Sequence[Asked]) -> list[Likelihood]:
        """Note what is read."""
        self.read += [text for _, text in asked]
        return [(float(len(text)), len(text)) for _, text in asked]


def test_what_was_read_is_remembered_by_model_prompt_and_text(tmp_path: Path) -> None:
    """A text under another prompt is another one; another model's file is replaced."""
    path, counting = tmp_path / "p.npz", Counting()
    first = Remembered("one", path, counting)
    asked = [(Prompt.raw("p"), "abc"), (Prompt.raw("q"), "abc"), (Prompt.raw("p"), "abc")]
    assert first(asked) == [(3.0, 3)] * 3
    first.save()
    assert counting.read == ["abc", "abc"]
    assert Remembered("one", path, counting)(asked) == [(3.0, 3)] * 3
    assert counting.read == ["abc", "abc"]
    Remembered("two", path, counting)(asked)
    assert len(counting.read) == 4
    assert model_in(path) == "one"
    assert model_in(tmp_path / "none.npz") is None
    path.write_bytes(b"broken")
    with pytest.raises(InvalidInput, match="made anew"):
        Remembered("one", path, counting)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pool of two samplers."""
    made = tmp_path_factory.mktemp("eval")
    file = made / "sums.jsonl"
    file.write_text("\n".join(json.dumps({"question": f"q{i}", "answer": i}) for i in range(3)))
    argv = ["eval", "--task", str(file), "--n", "2", "--out", str(made / "out"), "--no-report"]
    argv += ["--temperatures", "1", "--instruction", "Box it.", "--system", "Be brief."]
    engine = ScriptedEngine([r"\boxed{1}", "So it is 2, or not."], model="smollm2-135m-instruct")
    assert main(argv, lambda model: nullcontext(engine)) == 0
    return made / "out"


def test_figures_are_means_over_samples(folder: Path) -> None:
    """NLL per token of each sample first; perplexity is exp of a problem's mean."""
    told: dict[str, Likelihood] = {r"\boxed{1}": (6.0, 3), "So it is 2, or not.": (4.0, 4)}
    seen: list[Prompt] = []

    def reads(asked: Sequence[Asked]) -> list[Likelihood]:
        seen.extend(prompt for prompt, _ in asked)
        return [told[text] for _, text in asked]

    reader = Remembered("judge", None, reads)
    (task,) = summarise(read_pool(folder / NAME), None, 50, reader).tasks
    for arm in task.arms:
        assert arm.figures["nll"].value == pytest.approx(1.5)
        assert arm.figures["perplexity"].value == pytest.approx(math.exp(1.5))
    assert any("under judge" in note for note in task.notes)
    assert {prompt.messages[-1].content for prompt in seen} == {
        f"q{i}\n\nBox it." for i in (0, 1, 2)
    }
    assert {prompt.messages[0].content for prompt in seen} == {"Be brief."}


def test_a_sample_without_tokens_has_no_perplexity(folder: Path) -> None:
    """It is left out of its problem's mean; without any there is none."""
    reader = Remembered("judge", None, lambda asked: [(0.0, 0) for _ in asked])
    (task,) = summarise(read_pool(folder / NAME), None, 50, reader).tasks
    assert all(np.isnan(arm.figures["perplexity"].value) for arm in task.arms)


def test_a_second_report_reads_nothing(
    folder: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures stay in all three reports, without the flag and without the model."""
    argv = ["report", str(folder), "--embeddings", "none", "--resamples", "50"]
    assert main([*argv, "--perplexity-model", str(tiny_llama)]) == 0
    before = json.loads((folder / "summary.json").read_text())
    figures = before["tasks"][0]["arms"][0]["figures"]
    assert figures["perplexity"]["value"] > 1
    monkeypatch.setattr(CausalLM, "__call__", None)
    assert main(argv) == 0
    assert json.loads((folder / "summary.json").read_text()) == before
    for name in ("report.md", "report.html"):
        assert "perplexity" in (folder / name).read_text()
    assert main([*argv, "--perplexity-model", "none"]) == 0
    assert "perplexity" not in (folder / "report.md").read_text()
