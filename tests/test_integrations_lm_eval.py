"""lm-evaluation-harness runs its tasks through a strategy, and its files become a pool."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness: pip install 'ttscale[lm-eval]'")

from lm_eval.api.registry import get_model
from lm_eval.evaluator import simple_evaluate
from lm_eval.loggers import EvaluationTracker

from ttscale.errors import InvalidInput
from ttscale.evaluation import lm_eval_files
from ttscale.evaluation.pool import Pool
from ttscale.integrations.lm_eval import TTScaleLM
from ttscale.testing import ScriptedEngine

pytestmark = pytest.mark.filterwarnings("default")  # the harness warns of its own code

REPLIES = [r"So \boxed{4}.", r"So \boxed{5}.", r"Well, \boxed{4}. END and more"]


def task(folder: Path, **changes: Any) -> dict[str, Any]:
    """A task of the harness over a local file."""
    path = folder / "data.json"
    path.write_text("\n".join(json.dumps({"q": f"{i} + 2?", "a": "4"}) for i in range(2)))
    return {
        "task": "tiny",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(path)}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{q}}",
        "doc_to_target": "{{a}}",
        "generation_kwargs": {"until": ["END"], "max_gen_toks": 33},
        "filter_list": [
            {
                "name": "boxed",
                "filter": [
                    {"function": "regex", "regex_pattern": r"boxed\{(\d+)\}"},
                    {"function": "take_first"},
                ],
            }
        ],
        "metric_list": [{"metric": "exact_match", "aggregation": "mean"}],
        **changes,
    }


def evaluate(model: TTScaleLM, made: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """Run the harness's own evaluation."""
    found: dict[str, Any] = simple_evaluate(
        model=model, tasks=[made], log_samples=True, bootstrap_iters=0, **settings
    )
    return found


def test_a_task_runs_through_a_strategy(tmp_path: Path) -> None:
    """The majority of three samples answers; length, ends and prompt are the harness's."""
    engine = ScriptedEngine(REPLIES)
    model = get_model("ttscale")(engine=engine, strategy="self-consistency", n=3, esamp=False)
    results = evaluate(model, task(tmp_path))
    assert results["results"]["tiny"]["exact_match,boxed"] == 1.0
    assert [call.n for call in engine.calls] == [3, 3]
    assert {call.prompt.text for call in engine.calls} == {"0 + 2?", "1 + 2?"}
    assert {call.sampler.max_tokens for call in engine.calls} == {33}
    assert {call.sampler.stop for call in engine.calls} == {("END",)}
    assert {call.sampler.temperature for call in engine.calls} == {0.8}
    texts = [sample["resps"][0][0] for sample in results["samples"]["tiny"]]
    assert set(texts) <= {REPLIES[0], r"Well, \boxed{4}. "}


def test_turns_reach_the_engine_as_turns(tmp_path: Path) -> None:
    """With the harness's chat format on; its sampling settings go over the strategy's."""
    engine = ScriptedEngine(REPLIES)
    model = TTScaleLM(engine=engine, n=3)
    asked = {"do_sample": True, "temperature": 0.3, "until": []}
    evaluate(
        model,
        task(tmp_path, generation_kwargs=asked),
        apply_chat_template=True,
        system_instruction="Be brief.",
    )
    prompt = engine.calls[0].prompt
    assert [(m.role, m.content) for m in prompt.messages] == [
        ("system", "Be brief."),
        ("user", "0 + 2?"),
    ]
    assert engine.calls[0].sampler.temperature == 0.3
    assert engine.calls[0].sampler.esamp is not None


def test_likelihoods_are_refused_with_a_reason(tmp_path: Path) -> None:
    """Before anything is drawn."""
    engine = ScriptedEngine(REPLIES)
    made = task(
        tmp_path,
        output_type="multiple_choice",
        doc_to_choice=["4", "5"],
        doc_to_target=0,
        filter_list=None,
        generation_kwargs=None,
        metric_list=[{"metric": "acc"}],
    )
    with pytest.raises(InvalidInput, match="does not compute likelihoods"):
        evaluate(TTScaleLM(engine=engine), made)
    assert engine.calls == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"strategy": "magic"}, "strategy must be one of"),
        ({"samples": 3}, "unknown argument 'samples'"),
        ({"strategy": "medoid", "temperature": 3}, "temperature must be"),
    ],
)
def test_wrong_arguments_are_refused(words: dict[str, Any], message: str) -> None:
    """As the harness's `--model_args` gives them."""
    with pytest.raises(InvalidInput, match=message):
        TTScaleLM(engine=ScriptedEngine(REPLIES), **words)


def test_what_the_harness_logs_becomes_a_pool(tmp_path: Path) -> None:
    """Written by its own tracker, read by ours: text, answer, score, task and model."""
    model = TTScaleLM(engine=ScriptedEngine(REPLIES), n=3)
    results = evaluate(model, task(tmp_path))
    tracker = EvaluationTracker(output_path=str(tmp_path / "logged"))
    tracker.general_config_tracker.model_name_sanitized = "org__model"
    tracker.date_id = "2026-01-02T03-04-05.000006"
    tracker.save_results_samples("tiny", results["samples"]["tiny"])
    (path,) = (tmp_path / "logged").rglob("samples_*.jsonl")
    pool = Pool()
    for record in lm_eval_files.load(path).records:
        pool.add(record)
    assert {key[0] for key in pool.samples} == {"tiny"}
    assert set(pool.samplers) == {"org__model@0"}
    assert [grade.answer for grade in pool.grades.values()] == ["4", "4"]
    assert all(grade.correct for grade in pool.grades.values())


def test_the_harness_tells_our_files_apart(tmp_path: Path) -> None:
    """Its functions find task and date in the name, and every key of a line is there."""
    from datasets import Dataset
    from lm_eval import utils

    from ttscale.evaluation.records import (
        GradeRecord,
        ProblemRecord,
        RunRecord,
        SampleRecord,
        SamplerRecord,
    )

    pool = Pool()
    key = ("tiny", "0", "v@1", 0)
    for record in (
        RunRecord("org/model", 0, {}, {}, "", 0.0),
        ProblemRecord("tiny", "0", "0 + 2?", "4"),
        SamplerRecord("v@1", "v", 1.0, {}),
        SampleRecord(*key, 0, 0, "4", 1, "stop", None, 0.0, 0.0),
        GradeRecord(*key, "4", "number", None, 1.0, True),
    ):
        pool.add(record)
    (path,) = lm_eval_files.export(pool, tmp_path / "files").files
    assert utils.get_sample_results_filenames([str(path)]) == [str(path)]
    assert utils.get_file_task_name(path.name) == "tiny"
    assert utils.get_file_datetime(path.name) == "1970-01-01T00-00-00.000000"
    ours = Dataset.from_json(str(path), cache_dir=str(tmp_path / "cache"))[0]
    model = TTScaleLM(engine=ScriptedEngine(REPLIES), n=3)
    theirs = evaluate(model, task(tmp_path))["samples"]["tiny"][0]
    assert set(theirs) <= set(ours)
    assert ours["resps"] == [["4"]]
