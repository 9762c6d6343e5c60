"""`ttscale solve` on a scripted engine: what is printed where, and the exit codes."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from ttscale.cli import main
from ttscale.cli.engine import EngineFactory
from ttscale.engines import Engine
from ttscale.errors import (
    EngineError,
    EngineStopped,
    ScoreError,
)
from ttscale.evaluation import Problem, Task
from ttscale.sampling import Sampler
from ttscale.testing import ScriptedEngine
from ttscale.types import ESampReport, Prompt, Samples

SEVEN, EIGHT, NONE = r"It is \boxed{7}.", r"It is \boxed{8}.", "I do not know."
REPORT = ESampReport(rows_mixed=40, steps_trained=12, fallbacks={"cold": 2}, relative_error=0.25)


def on(engine: Engine) -> EngineFactory:
    """A factory that gives this engine, whatever the model."""
    return lambda model: nullcontext(engine)


def records(out: str) -> list[dict[str, Any]]:
    """Every line of stdout as JSON; fails on a line that is not."""
    return [json.loads(line) for line in out.splitlines()]


def question_file(folder: Path, *lines: str) -> str:
    """A file of these lines."""
    path = folder / "questions.jsonl"
    path.write_text("\n".join(lines))
    return str(path)


def test_answer_votes_and_esamp_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """The majority's answer, each answer's samples, the silent samples, and ESamp's numbers."""
    engine = ScriptedEngine([SEVEN, EIGHT, SEVEN, NONE], esamp=REPORT)
    assert main(["solve", "What is 3 + 4?", "--n", "4"], on(engine)) == 0
    out = capsys.readouterr().out
    assert "answer: 7" in out
    rows = [line.split() for line in out.splitlines()]
    assert ["7", "2", "2"] in rows
    assert ["8", "1", "1"] in rows
    assert "(no answer; 0 samples cut off)" in out
    assert (
        "ESamp: 40 rows mixed, 12 steps trained, relative error 0.250, 2 fallbacks (cold 2)" in out
    )


def test_settings_reach_the_sampler() -> None:
    """Every sampling option arrives at the engine."""
    engine = ScriptedEngine([SEVEN])
    options = "--n 3 --beta 0.5 --distiller swiglu --scope shared --temperature 0.7 --top-p 0.9"
    more = "--max-tokens 64 --fire-temperature 20 --seed 11"
    assert main(["solve", "q", *options.split(), *more.split()], on(engine)) == 0
    (call,) = engine.calls
    sampler = call.sampler
    assert call.n == 3
    assert (sampler.temperature, sampler.top_p, sampler.max_tokens) == (0.7, 0.9, 64)
    assert (sampler.fire_temperature, sampler.seed) == (20.0, 11)
    assert sampler.esamp is not None
    assert (sampler.esamp.beta, sampler.esamp.distiller) == (0.5, "swiglu")
    assert (sampler.esamp.scope, sampler.esamp.seed) == ("shared", 11)


def test_esamp_can_be_switched_off(capsys: pytest.CaptureFixture[str]) -> None:
    """Without ESamp the sampler has none and the JSON says null."""
    engine = ScriptedEngine([SEVEN], esamp=REPORT)
    assert main(["solve", "q", "--no-esamp", "--json"], on(engine)) == 0
    assert engine.calls[0].sampler.esamp is None
    assert records(capsys.readouterr().out)[0]["esamp"] is None


@pytest.mark.parametrize(
    ("options", "system", "ending"),
    [
        ([], None, "{answer}."),
        (["--system", "Be brief."], "Be brief.", "{answer}."),
        (["--instruction", "Say it."], None, "\n\nSay it."),
        (["--instruction", ""], None, "the question"),
        (["--kind", "text"], None, "the question"),
    ],
)
def test_prompt_is_question_and_instruction(
    options: list[str], system: str | None, ending: str
) -> None:
    """The instruction follows the question; the system turn goes in front."""
    engine = ScriptedEngine([SEVEN])
    main(["solve", "the question", *options], on(engine))
    prompt = engine.calls[0].prompt
    assert prompt.question.startswith("the question")
    assert prompt.question.endswith(ending)
    assert [m.content for m in prompt.messages if m.role == "system"] == (
        [system] if system else []
    )


def test_json_holds_everything_of_a_question(capsys: pytest.CaptureFixture[str]) -> None:
    """One object with the answer, the votes, every candidate, the tokens and ESamp's numbers."""
    engine = ScriptedEngine([SEVEN, ValueError("lost on the way"), NONE], esamp=REPORT)
    assert main(["solve", "one two", "--n", "3", "--json", "--instruction", ""], on(engine)) == 0
    (record,) = records(capsys.readouterr().out)
    assert record["spent"].pop("seconds") >= 0
    assert [record] == [
        {
            "id": "1",
            "question": "one two",
            "answer": "7",
            "reason": "",
            "strategy": "self-consistency",
            "n_requested": 3,
            "n_returned": 2,
            "stopped": "",
            "spent": {"samples": 2, "failed": 1, "cancelled": 0, "judge": 0, "tokens": 9},
            "notes": {},
            "tie": False,
            "votes": [{"answer": "7", "count": 1}],
            "candidates": [
                {"text": SEVEN, "answer": "7", "finish_reason": "stop", "tokens": 3},
                {"text": NONE, "answer": None, "finish_reason": "stop", "tokens": 4},
            ],
            "failures": ["lost on the way"],
            "usage": {"prompt_tokens": 2, "completion_tokens": 7},
            "esamp": {
                "rows_mixed": 40,
                "steps_trained": 12,
                "fallbacks": 2,
                "relative_error": 0.25,
            },
        }
    ]


def test_json_stays_json_when_a_number_is_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    """An error that is not finite becomes null; JSON has no word for it."""
    engine = ScriptedEngine([SEVEN], esamp=ESampReport(1, 1, {}, float("nan")))
    assert main(["solve", "q", "--json"], on(engine)) == 0
    out = capsys.readouterr().out
    assert "NaN" not in out
    assert records(out)[0]["esamp"]["relative_error"] is None


def test_task_shows_accuracy_of_vote_sample_and_oracle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shares, counts and intervals, worked by hand; a silent sample is a wrong one."""
    path = question_file(
        tmp_path,
        '{"question": "a", "answer": "7"}',
        '{"question": "b", "answer": "8"}',
        '{"question": "c", "answer": "9"}',
        '{"question": "d"}',
    )
    engine = ScriptedEngine([SEVEN, SEVEN, EIGHT, NONE])
    assert main(["solve", "--file", path, "--n", "4"], on(engine)) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert ["strategy", "0.333", "1", "of", "3", "0.061", "to", "0.792"] in rows
    assert ["single", "sample", "0.250", "3", "of", "12", "0.089", "to", "0.532"] in rows
    oracle = ["oracle", "(any", "sample)", "0.667", "2", "of", "3", "0.208", "to", "0.939"]
    assert oracle in rows


def test_json_with_golds_says_correct_and_keeps_the_table_off_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Known answers add two keys; the accuracies go to stderr."""
    path = question_file(tmp_path, '{"question": "a", "answer": 7}', '{"question": "b"}')
    assert main(["solve", "--file", path, "--json"], on(ScriptedEngine([SEVEN]))) == 0
    captured = capsys.readouterr()
    first, second = records(captured.out)
    assert (first["gold"], first["correct"]) == ("7", True)
    assert not {"gold", "correct"} & set(second)
    assert "single sample" in captured.err


def test_word_problems_are_a_task(capsys: pytest.CaptureFixture[str]) -> None:
    """The own generator is a task like any other, and the count is kept."""
    argv = ["solve", "--task", "word_problems", "--count", "3", "--json", "--n", "2"]
    assert main(argv, on(ScriptedEngine([SEVEN]))) == 0
    found = records(capsys.readouterr().out)
    assert [r["id"] for r in found] == ["word-0-0", "word-0-1", "word-0-2"]


def test_reasoning_gym_is_a_task(capsys: pytest.CaptureFixture[str]) -> None:
    """A task of reasoning-gym is generated and graded."""
    argv = ["solve", "--task", "gsm_symbolic", "--count", "2", "--json", "--n", "2"]
    assert main(argv, on(ScriptedEngine([SEVEN]))) == 0
    assert all("correct" in r for r in records(capsys.readouterr().out))


@pytest.mark.parametrize("name", ["self-consistency", "best-of-n", "verifier-rerank"])
def test_every_strategy_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each strategy answers; the judge's own draws are among the tokens."""
    from ttscale.testing import candidate

    sure = candidate(SEVEN, logprob=-1.0, top_logprobs={"Yes": -0.1, "No": -3.0})
    argv = ["solve", "q", "--strategy", name, "--n", "2", "--json"]
    assert main(argv, on(ScriptedEngine([sure]))) == 0
    (found,) = records(capsys.readouterr().out)
    assert (found["strategy"], found["answer"]) == (name, "7")


def test_broken_lines_are_named_and_the_others_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broken line costs the exit code, not the answers of the other lines."""
    path = question_file(tmp_path, '{"question": "a"}', "{broken", '{"question": "b"}')
    assert main(["solve", "--file", path, "--json"], on(ScriptedEngine([SEVEN]))) == 1
    captured = capsys.readouterr()
    assert [r["id"] for r in records(captured.out)] == ["1", "3"]
    assert "line 2: " in captured.err


class Refusing:
    """An engine that fails for questions that hold a word."""

    model = "refusing"

    def __init__(self, word: str, error: EngineError) -> None:
        self._word = word
        self._error = error
        self._engine = ScriptedEngine([SEVEN])

    async def adraw(
        self, prompt: Prompt, n: int, sampler: Sampler, *, on_candidate: Any = None
    ) -> Samples:
        """Fail, or draw from the script."""
        if self._word in prompt.question:
            raise self._error
        return await self._engine.adraw(prompt, n, sampler, on_candidate=on_candidate)


@pytest.mark.parametrize("error", [EngineError("out of memory"), EngineStopped("it died")])
def test_lost_question_costs_none_of_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error: EngineError
) -> None:
    """A lost question is reported as lost, not as wrong, and the exit code tells."""
    path = question_file(
        tmp_path, '{"question": "good", "answer": 7}', '{"question": "bad", "answer": 7}'
    )
    argv = ["solve", "--file", path, "--json"]
    assert main(argv, on(Refusing("bad", error))) == 1
    captured = capsys.readouterr()
    good, bad = records(captured.out)
    assert good["correct"] is True
    assert "correct" not in bad
    assert str(error) in bad["error"]
    assert (bad["answer"], bad["n_requested"], bad["n_returned"]) == (None, 16, 0)
    assert set(bad) >= {"votes", "candidates", "usage", "esamp", "strategy"}
    assert "question 2 was lost" in captured.err
    assert "1 of 1" in captured.err
    assert "lost questions left out: 1" in captured.err


def test_lost_question_is_shown_to_people_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Without JSON the question is shown as lost, with the reason."""
    engine = Refusing("bad", EngineError("out of memory"))
    assert main(["solve", "bad"], on(engine)) == 1
    assert "lost: " in capsys.readouterr().out


def test_abstaining_is_done_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    """Samples without an answer are no failure of the run."""
    assert main(["solve", "q"], on(ScriptedEngine([NONE]))) == 0
    assert "no answer: none of the 16 samples states an answer" in capsys.readouterr().out


def test_results_come_in_the_order_of_the_questions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first question finishes last and is printed first."""
    second_done = asyncio.Event()

    async def gate(prompt: Prompt, index: int) -> None:
        if prompt.question.startswith("first"):
            await second_done.wait()
        else:
            second_done.set()

    path = question_file(tmp_path, '{"question": "first"}', '{"question": "second"}')
    engine = ScriptedEngine([SEVEN], gate=gate)
    assert main(["solve", "--file", path, "--json"], on(engine)) == 0
    assert [r["question"] for r in records(capsys.readouterr().out)] == ["first", "second"]


def test_concurrency_is_kept() -> None:
    """Never more questions at work than allowed, and that many at some time."""
    at_work: set[str] = set()
    most = 0
    reached = asyncio.Event()

    async def gate(prompt: Prompt, index: int) -> None:
        nonlocal most
        at_work.add(prompt.question)
        most = max(most, len(at_work))
        if most >= 3:
            reached.set()
        async with asyncio.timeout(60):
            await reached.wait()
        for _ in range(20):  # time for a fourth, if one were let in
            await asyncio.sleep(0)
        at_work.discard(prompt.question)

    options = "--count 7 --n 1 --concurrency 3"
    argv = ["solve", "--task", "word_problems", *options.split()]
    assert main(argv, on(ScriptedEngine([SEVEN], gate=gate))) == 0
    assert most == 3


def interrupting(word: str) -> Callable[[Prompt, int], str]:
    """A script that interrupts the process when it is asked a question with this word."""

    def script(prompt: Prompt, index: int) -> str:
        if word in prompt.question:
            signal.raise_signal(signal.SIGINT)
        return SEVEN

    return script


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as a terminal's foreground has it; shells switch it off for what runs behind them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interrupt_keeps_what_was_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C ends with its own code after the finished questions and their accuracy."""
    path = question_file(
        tmp_path, '{"question": "one", "answer": 7}', '{"question": "stop", "answer": 7}'
    )
    argv = ["solve", "--file", path, "--json", "--concurrency", "1", "--n", "1"]
    assert main(argv, on(ScriptedEngine(interrupting("stop")))) == 130
    captured = capsys.readouterr()
    assert [r["question"] for r in records(captured.out)] == ["one"]
    assert "1 of 1" in captured.err
    assert "interrupted" in captured.err


@pytest.mark.usefixtures("interruptible")
def test_engine_is_closed_also_after_an_interrupt() -> None:
    """Leaving early still leaves the engine's context."""
    closed: list[str] = []

    class Closing(nullcontext[Engine]):
        """A context that notes its end."""

        def __exit__(self, *_: object) -> None:
            closed.append("closed")

    engine = ScriptedEngine(interrupting("q"))
    assert main(["solve", "q", "--n", "1"], lambda model: Closing(engine)) == 130
    assert closed == ["closed"]


def test_answer_that_cannot_be_scored_loses_the_question_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer is still shown, with why it has no grade."""

    def score(answer: str, problem: Problem) -> float:
        raise ScoreError("the scorer failed")

    problems = (Problem("a", "7", "1"), Problem("b", None, "2"))
    task = Task("t", problems, score)
    monkeypatch.setattr("ttscale.cli.job.from_reasoning_gym", lambda *_: task)
    assert main(["solve", "--task", "t", "--json"], on(ScriptedEngine([SEVEN]))) == 1
    first, second = records(capsys.readouterr().out)
    assert (first["answer"], first["error"]) == ("7", "the scorer failed")
    assert "correct" not in first
    assert "error" not in second


def test_model_text_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Escapes and markup in a model's answer are shown, not obeyed."""
    engine = ScriptedEngine(["Answer: \x1b[31m[red]seven[/red]\x07"])
    assert main(["solve", "[bold]q[/bold]\x1b[2J", "--kind", "text"], on(engine)) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "[bold]q[/bold]" in out
