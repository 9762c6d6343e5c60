"""Evaluation on Ray's workers: the same pool, ESamp in each of them, and bad input at the door."""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from ttscale import LocalEngine
from ttscale.cli import main
from ttscale.engines.batch import Answered, Ask
from ttscale.evaluation import Problem
from ttscale.evaluation.book import draw_seed
from ttscale.evaluation.config import Config, config_of
from ttscale.evaluation.pool import Pool, PoolWriter, read_pool
from ttscale.evaluation.records import Key
from ttscale.evaluation.runner import Runner
from ttscale.sampling import Sampler, esamp
from ttscale.scaleout import rows
from ttscale.scaleout.ray_data import Worker
from ttscale.testing import candidate
from ttscale.types import ESampReport, Failure, Prompt, Samples, Usage

PROBLEMS = tuple(Problem(f"What is {i} + 1?", str(i + 1), str(i)) for i in range(8))
REPORT = ESampReport(4, 2, {}, 0.5)


def answered(tokens: int = 9, report: ESampReport | None = REPORT) -> Answered:
    """A request that gave one sample."""
    found = (candidate("x", token_count=tokens),)
    return Answered(0, Samples(1, found, (), Usage(3, tokens), report), 1.0, (1.0,))


def asked(sampler: Sampler | None = None) -> Ask:
    """A request, by default for ESamp."""
    return Ask(Prompt.of("Why?"), 1, sampler or esamp())


@pytest.mark.parametrize(
    "value",
    [
        asked(),
        Ask(Prompt.raw("half a pair \ud800, nothing \0"), 3, Sampler(stop=("a", "b"), seed=4)),
        Ask(Prompt.of("Why?", "Be short."), 1, Sampler(json_schema='{"type": "object"}')),
        answered(),
        Answered(2, Samples(1, (candidate("x", logprob=-math.inf),), (), Usage(1, 1)), 1.0, (0.5,)),
        Answered(3, Samples(2, (), (Failure(0, "lost"),)), 0.1, (), "the engine has died"),
    ],
)
def test_rows_come_back_as_they_went(value: Ask | Answered) -> None:
    """As JSON text, whatever is in the prompts and samples."""
    text = rows.dump(value)

    assert text.isascii()
    assert (rows.ask if isinstance(value, Ask) else rows.answered)(text) == value


def test_a_worker_adds_up_what_it_did() -> None:
    """Requests without ESamp count beside those with it."""
    worker = Worker("a:1").after(asked(), answered()).after(asked(Sampler()), answered(5, None))

    assert (worker.requests, worker.samples, worker.tokens, worker.asked_esamp) == (2, 2, 14, 1)
    assert worker.line() == (
        "Ray worker a:1: 2 requests, 2 samples; ESamp in 1 requests: 4 rows mixed, "
        "2 steps trained, 0 fallbacks"
    )
    assert Worker("a:1").after(asked(Sampler()), answered(5, None)).line() == (
        "Ray worker a:1: 1 requests, 1 samples"
    )


@pytest.mark.parametrize(
    ("ask", "answer", "idle"),
    [
        (asked(), answered(9, ESampReport()), True),
        (asked(), answered(9, None), True),
        (asked(), answered(9, REPORT), False),
        (asked(), answered(1, ESampReport()), False),
        (asked(Sampler()), answered(9, None), False),
    ],
    ids=["nothing trained", "no report", "trained", "first tokens alone", "not asked for"],
)
def test_a_worker_where_esamp_did_nothing_is_named(ask: Ask, answer: Answered, idle: bool) -> None:
    """Samples that only look like ESamp's must not pass for it."""
    assert Worker("a:1").after(ask, answer).idle is idle


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ray", "0"], "--ray must be a whole number of at least 1, got 0"),
        (["--ray", "-2"], "--ray must be a whole number of at least 1, got -2"),
        (["--ray", "many"], "argument --ray: invalid int value: 'many'"),
        (["--ray-address", "auto"], "--ray-address has no meaning without --ray"),
        (["--ray", "--base-url", "http://localhost"], "--ray starts engines, --base-url names"),
        (["--ray", "--judge", "tournament"], "--ray starts engines that only draw"),
        (["--ray", "--sampler", "tree"], "sampler 'tree' asks the model step by step"),
    ],
)
def test_bad_input_is_refused_at_the_door(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is started and nothing written."""
    out = tmp_path / "out"
    assert main(["eval", "--task", "chain_sum", "--out", str(out), *words]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_without_ray_the_advice_is_to_install_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra is named, and what not to install."""
    monkeypatch.setitem(sys.modules, "ray.data", None)
    out = tmp_path / "out"
    assert main(["eval", "--task", "chain_sum", "--ray", "--out", str(out)]) == 3
    assert "pip install 'ttscale[ray]'" in capsys.readouterr().err
    assert not out.exists()


@pytest.fixture(scope="module")
def model(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a chat template, and room for what `ttscale eval` asks for."""
    folder = tmp_path_factory.mktemp("chat") / "tiny"
    shutil.copytree(tiny_llama, folder)
    template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4096}))
    return folder


@pytest.fixture
def values(model: Path, tmp_path: Path) -> dict[str, object]:
    """An evaluation of two samplers on eight sums, as `--config` reads it."""
    task = tmp_path / "sums.jsonl"
    lines = [{"question": p.question, "answer": p.gold, "id": p.id} for p in PROBLEMS]
    task.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {
        "model": str(model),
        "task": [{"name": str(task)}],
        "samplers": ["vanilla", "esamp"],
        "temperatures": [1.0],
        "n": 4,
        "seed": 3,
        "max_tokens": 24,
    }


def evaluate(
    values: dict[str, object], out: Path, workers: int, **environment: str
) -> tuple[int, str]:
    """Run `ttscale eval` on a local Ray: exit code and what it said."""
    config = out.parent / "eval.yaml"
    config.write_text(json.dumps(values))  # JSON is YAML
    words = ["eval", "--config", str(config), "--ray", str(workers), "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "ttscale.cli", *words, "--embeddings", "none"],
        env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    return done.returncode, done.stderr


def without_ray(config: Config, path: Path) -> dict[Key, str]:
    """Begin the pool of a plan with its first two problems, by `LocalEngine`.

    Returns:
        The texts of the plan's plain samples, drawn by `LocalEngine` with the plan's seeds.
    """
    plan = config.plan()
    suite = plan.suites[0]
    begun = replace(suite.task, problems=suite.task.problems[:2])
    texts: dict[Key, str] = {}
    with LocalEngine(config.model) as engine, PoolWriter(path) as writer:
        few = replace(plan, suites=(replace(suite, task=begun),))
        asyncio.run(Runner(few, read_pool(path), writer, engine).fill())
        for problem in suite.task.problems[2:]:
            seed = draw_seed(plan.seed, suite.name, problem.id, 0)
            sampler = plan.arms[0].sampler.with_seed(seed)
            for found in engine.draw(suite.prompt(problem), plan.n, sampler).candidates:
                texts[suite.name, problem.id, plan.arms[0].name, found.index] = found.text
    return texts


# vLLM's clients and Ray leave sockets of ZeroMQ to be closed by its finalisers, which warn
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.own_engine
def test_two_workers_complete_a_pool_that_was_begun_without_ray(
    values: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest alone is drawn, by both workers, with ESamp at work in each of them.

    Plain samples are those that `LocalEngine` draws with the same seeds.
    """
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    path = tmp_path / "out" / "samples.jsonl"
    texts = without_ray(config_of(values, "the test"), path)
    held = read_pool(path)
    assert len(held.samples) == 2 * 2 * 4

    code, said = evaluate(values, tmp_path / "out", 2)
    assert code == 0, said
    pool = read_pool(path)
    assert all(pool.samples[key] == sample for key, sample in held.samples.items())
    is_full_and_written_once(pool, path)
    assert {key: pool.samples[key].text for key in texts} == texts
    workers = [line for line in said.splitlines() if line.startswith("ttscale: Ray worker")]
    assert len(workers) == 2
    assert all("ESamp in" in line and " 0 rows mixed" not in line for line in workers)
    drawn = pool.draws[len(held.draws) :]
    assert len(drawn) == 6 * 2
    assert {draw.failures for draw in drawn} == {()}
    reports = [draw.esamp for draw in drawn if draw.sampler.startswith("esamp")]
    assert all(r and r["rows_mixed"] and r["steps_trained"] for r in reports)
    assert [r["fallbacks"] for r in reports if r] == [{}] * 6
    assert (tmp_path / "out" / "report.md").exists()


def is_full_and_written_once(pool: Pool, path: Path) -> None:
    """Every sample of the plan is there, graded, with all that is known of it."""
    assert len(pool.samples) == len(pool.grades) == 8 * 2 * 4
    assert {sample.finish for sample in pool.samples.values()} <= {"stop", "length"}
    assert all(s.logprob is not None and s.logprob < 0 for s in pool.samples.values())
    assert all(1 <= sample.tokens <= 24 for sample in pool.samples.values())
    kinds = Counter(json.loads(line)["type"] for line in path.read_text().splitlines())
    assert kinds["sample"] == kinds["grade"] == 8 * 2 * 4


# vLLM's clients and Ray leave sockets of ZeroMQ to be closed by its finalisers, which warn
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.own_engine
def test_a_worker_without_the_plugin_ends_the_run(
    values: dict[str, object], tmp_path: Path
) -> None:
    """Samples that would be plain ones are not drawn in ESamp's name."""
    code, said = evaluate(values, tmp_path / "out", 1, TTSCALE_DISABLE="1")

    assert code == 1
    assert "cannot draw: vLLM did not load the ttscale plugin" in said
    assert read_pool(tmp_path / "out" / "samples.jsonl").samples == {}
