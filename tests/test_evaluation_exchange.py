"""Pools to and from the files of other harnesses: what is kept, what is lost and told."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ttscale.cli import main
from ttscale.errors import InvalidInput
from ttscale.evaluation import inspect_files, lm_eval_files
from ttscale.evaluation.exchange import write_pool
from ttscale.evaluation.pool import NAME, Pool, read_pool
from ttscale.evaluation.records import SampleRecord
from ttscale.evaluation.summary import summarise
from ttscale.testing import ScriptedEngine, candidate

SCRIPT = [
    candidate(r"So \boxed{0}.", logprob=-1.5, token_count=7),
    candidate("I do not know. \u2028 \ud800", logprob=None, finish_reason="length"),
    candidate(r"It is \boxed{1}.", logprob=-2.0),
]


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """A folder with two tasks of samples by two samplers."""
    for name in ("sums", "more sums"):
        rows = [{"question": f"{name} {i}?", "answer": i, "id": f"p{i}"} for i in range(3)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    argv = ["eval", "--n", "3", "--out", str(tmp_path / "out"), "--no-report", "--system", "Hi."]
    argv += ["--sampler", "vanilla", "--sampler", "min-p:p=0.2", "--temperatures", "0.5"]
    for name in ("sums", "more sums"):
        argv += ["--task", str(tmp_path / f"{name}.jsonl")]
    assert main([*argv, "--model", "scripted"], lambda _: nullcontext(ScriptedEngine(SCRIPT))) == 0
    return tmp_path / "out"


def assert_same(back: Pool, pool: Pool) -> None:
    """All but the requests: samples, grades, problems, samplers and the header."""
    assert back.samples == pool.samples
    assert back.grades == pool.grades
    assert back.problems == pool.problems
    assert back.samplers == pool.samplers
    assert back.runs[0] == pool.runs[0]


def convert(*argv: str | Path) -> int:
    """Run `ttscale convert`."""
    return main(["convert", *map(str, argv)])


def test_a_pool_comes_back_from_lm_eval_files(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Text, numbers, grades and settings; what is lost is told both times."""
    assert convert(drawn, "--to", "lm-eval", "--out", tmp_path / "files") == 0
    files = sorted((tmp_path / "files").rglob("*.jsonl"))
    assert len(files) == 4
    assert "not kept" in capsys.readouterr().err
    assert convert(*files, "--to", "pool", "--out", tmp_path / "back") == 0
    back, pool = read_pool(tmp_path / "back" / NAME), read_pool(drawn / NAME)
    assert_same(back, pool)
    assert pool.draws
    assert not back.draws
    before, after = (summarise(p, None, 50).tasks for p in (pool, back))
    assert [t.arms[0].figures for t in before] == [t.arms[0].figures for t in after]


def test_lm_eval_lines_have_the_harness_own_keys(drawn: Path, tmp_path: Path) -> None:
    """As `--log_samples` writes them: one line a document, all responses of its one request."""
    assert convert(drawn, "--to", "lm-eval", "--out", tmp_path / "files") == 0
    (path,) = tmp_path.glob("files/scripted__vanilla@0.5/samples_more_sums_*.jsonl")
    first, *rest = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rest) == 2
    assert first["resps"] == [[sample.text for sample in SCRIPT]]
    assert first["filtered_resps"] == [["0", "", "1"]]
    assert first["exact_match"] == pytest.approx(1 / 3)
    assert first["target"] == "0"
    turns = json.loads(first["arguments"]["gen_args_0"]["arg_0"])
    assert [turn["role"] for turn in turns] == ["system", "user"]


def foreign(**changes: Any) -> dict[str, Any]:
    """A line as the harness itself writes it."""
    return {
        "doc_id": 0,
        "doc": {"question": "What is 2 + 2?", "answer": "#### 4"},
        "target": "4",
        "arguments": {"gen_args_0": {"arg_0": "Q: 2 + 2?", "arg_1": {"do_sample": False}}},
        "resps": [["It is 4."]],
        "filtered_resps": ["4"],
        "filter": "strict",
        "metrics": ["exact_match"],
        "exact_match": 1.0,
        **changes,
    }


def lines(folder: Path, *rows: dict[str, Any]) -> Path:
    """A file of these lines, in a folder named for its model."""
    path = folder / "org__model" / "samples_gsm8k_2026-01-02T03-04-05.678901.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_the_harness_own_samples_become_a_pool(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Task and model by the file's name; the first filter counts; the metric is theirs."""
    wrong = foreign(doc_id=1, filtered_resps=["[invalid]"], exact_match=0.0)
    path = lines(tmp_path, foreign(), foreign(filter="flexible", exact_match=0.0), wrong)
    assert convert(path, "--to", "pool", "--out", tmp_path / "pool") == 0
    told = capsys.readouterr().err
    assert "no lengths in tokens" in told
    assert "first filter" in told
    pool = read_pool(tmp_path / "pool" / NAME)
    sampler = "org__model@0"
    assert pool.samples["gsm8k", "0", sampler, 0].text == "It is 4."
    assert pool.problems["gsm8k", "0"].question == "Q: 2 + 2?"
    grades = [pool.grades["gsm8k", name, sampler, 0] for name in ("0", "1")]
    assert [(g.answer, g.correct) for g in grades] == [("4", True), (None, False)]
    (task,) = summarise(pool, None, 50).tasks
    assert task.arms[0].figures["pass@1"].value == 0.5


def test_several_responses_are_graded_anew(tmp_path: Path) -> None:
    """The harness has one metric for all of them; ours is told apart, and it says so."""
    asked = {"gen_args_0": {"arg_0": "q", "arg_1": {"do_sample": True, "temperature": 0.7}}}
    row = foreign(resps=[["It is 4.", "It is 5.", "no"]], arguments=asked)
    done = lm_eval_files.load(lines(tmp_path, row))
    pool = Pool()
    for record in done.records:
        pool.add(record)
    found = [pool.grades["gsm8k", "0", "org__model@0.7", i].correct for i in range(3)]
    assert found == [True, False, False]
    assert lm_eval_files.REGRADED in done.lost


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (foreign(resps=[[["-1.5", "False"]], [["-2.0", "True"]]]), "log-likelihoods"),
        ({"question": "x"}, "no samples of lm_eval"),
        (foreign(arguments={}), "no samples of lm_eval"),
    ],
)
def test_what_is_no_generated_text_is_refused(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    """Likelihoods of given texts, and files of something else."""
    with pytest.raises(InvalidInput, match=message):
        lm_eval_files.load(lines(tmp_path, row))


def test_bad_sources_and_targets_are_refused(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pool is not written over, a sample not taken twice, an unknown file not guessed at."""
    path = lines(tmp_path, foreign())
    for argv, message in (
        ((path, "--to", "pool", "--out", drawn), "holds a pool already"),
        ((path, path, "--to", "pool", "--out", tmp_path / "x"), "two of the files"),
        ((tmp_path / "a.csv", "--to", "pool", "--out", tmp_path / "y"), "must be samples_"),
        ((tmp_path / "gone.jsonl", "--to", "pool", "--out", tmp_path / "z"), "cannot read"),
        ((tmp_path, "--to", "lm-eval", "--out", tmp_path / "z"), "holds no samples.jsonl"),
        ((drawn, drawn, "--to", "lm-eval", "--out", tmp_path / "z"), "one folder"),
    ):
        assert convert(*argv) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(InvalidInput, match="no sample"):
        lm_eval_files.export(Pool(), tmp_path)
    broken = lines(tmp_path, foreign())
    broken.write_text("{")
    with pytest.raises(InvalidInput, match="line 1 is no JSON"):
        lm_eval_files.load(broken)


def test_a_written_pool_can_be_read_at_once(tmp_path: Path) -> None:
    """Repeated headers of several files are written once."""
    sample = SampleRecord("t", "p", "s@1", 0, 0, 0, "x", 1, "stop", None, 0.0, 0.0)
    path = write_pool(tmp_path / "new", [sample])
    assert list(read_pool(path).samples) == [sample.key]


NEEDS_INSPECT = "needs inspect_ai: pip install 'ttscale[inspect]'"


def test_a_pool_comes_back_from_inspect_logs(drawn: Path, tmp_path: Path) -> None:
    """Epochs are samples; inspect_ai's own reader finds scores, usage and messages."""
    log = pytest.importorskip("inspect_ai.log", reason=NEEDS_INSPECT)
    assert convert(drawn, "--to", "inspect", "--out", tmp_path / "logs") == 0
    files = sorted((tmp_path / "logs").glob("*.eval"))
    assert len(files) == 4
    found = log.read_eval_log(str(next(f for f in files if "_sums_vanilla" in f.name)))
    assert found.status == "success"
    assert (found.eval.config.epochs, found.eval.dataset.samples) == (3, 3)
    assert found.results.scores[0].metrics["accuracy"].value == pytest.approx(2 / 9)
    first = next(sample for sample in found.samples if (sample.id, sample.epoch) == ("p0", 1))
    assert [message.role for message in first.messages] == ["system", "user", "assistant"]
    assert (first.scores["ttscale"].value, first.scores["ttscale"].answer) == ("C", "0")
    assert first.output.usage.output_tokens == 7
    cut = next(sample for sample in found.samples if (sample.id, sample.epoch) == ("p0", 2))
    assert cut.output.stop_reason == "max_tokens"
    assert convert(*files, "--to", "pool", "--out", tmp_path / "back") == 0
    pool = read_pool(drawn / NAME)
    for key, sample in pool.samples.items():  # what the logs spell out
        pool.samples[key] = replace(sample, text=sample.text.replace("\ud800", "\\ud800"))
    assert_same(read_pool(tmp_path / "back" / NAME), pool)
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    with pytest.raises(InvalidInput, match="no log of inspect_ai"):
        inspect_files.load(broken)
