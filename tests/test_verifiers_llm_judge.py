"""A model as the judge, in JSON."""

from __future__ import annotations

import asyncio
import json

import pytest

from ttscale.errors import EngineError, InvalidInput, ScoreError
from ttscale.testing import Scripted, ScriptedEngine, candidate
from ttscale.types import Prompt, Usage
from ttscale.verifiers import LLMJudge, PairJudge, Verifier

QUESTION = Prompt.of("What is {x} + 1?")
CANDIDATES = [candidate("good {one}", index=0), candidate("weak one", index=1)]


def judged(prompt: Prompt, index: int) -> Scripted:
    """A judge that likes what is called good."""
    score = 9 if "good" in prompt.question else 2.5
    return candidate(json.dumps({"reason": "so", "score": score}))


async def test_score_is_what_the_judge_says_on_its_scale() -> None:
    """One draw per candidate, held to a schema; usage is the sum."""
    engine = ScriptedEngine(judged)
    sheet = await LLMJudge().ascore(QUESTION, CANDIDATES, engine)

    assert [score.value for score in sheet.scores] == [9.0, 2.5]
    assert sheet.usage.completion_tokens == 8
    call = engine.calls[0]
    assert (call.n, call.sampler.temperature) == (1, 0.0)
    schema = json.loads(call.sampler.json_schema or "")
    assert schema["properties"]["score"] == {"type": "number", "minimum": 1.0, "maximum": 10.0}
    assert list(schema["properties"]) == ["reason", "score"]


async def test_judge_of_its_own_is_asked() -> None:
    """Another engine than the one that drew the candidates."""
    own, other = ScriptedEngine(judged), ScriptedEngine(judged)
    await LLMJudge(engine=own).ascore(QUESTION, CANDIDATES, other)

    assert (len(own.calls), len(other.calls)) == (2, 0)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("8", "answer with JSON that has 'score'"),
        ('{"reason": "x"}', "answer with JSON that has 'score'"),
        ('{"score": 11}', "must be in [1, 10], got 11.0"),
        ('{"score": 0}', "must be in [1, 10], got 0.0"),
        ('{"score": NaN}', "must be in [1, 10], got nan"),
        ('{"score": "8"}', "must be a number, got '8'"),
        ('{"score": true}', "no truth value"),
        ('{"score": 8', "answer with JSON that has 'score'"),
        ("I would say 8/10.", "answer with JSON that has 'score'"),
        ("", "answer with JSON that has 'score'"),
    ],
)
async def test_unusable_judgement_is_an_error_of_that_candidate(said: str, error: str) -> None:
    """No score is made up, none is clamped; the other candidate keeps its own."""

    def script(prompt: Prompt, index: int) -> Scripted:
        return said if "weak" in prompt.question else judged(prompt, index)

    sheet = await LLMJudge().ascore(QUESTION, CANDIDATES, ScriptedEngine(script))

    assert sheet.scores[0].value == 9.0
    assert error in (sheet.scores[1].error or "")


async def test_judgement_that_was_cut_off_says_so() -> None:
    """The cause is a setting, so the error names it."""
    engine = ScriptedEngine([candidate('{"reason": "and', finish_reason="length")])
    sheet = await LLMJudge().ascore(QUESTION, CANDIDATES[:1], engine)

    assert "cut off at max_tokens" in (sheet.scores[0].error or "")


async def test_several_judgements_are_averaged_and_failed_ones_left_out() -> None:
    """The mean of those that can be read."""
    script: list[Scripted] = ['{"score": 4}', EngineError("lost"), '{"score": 7}', "no"]
    engine = ScriptedEngine(script)
    judge = LLMJudge(samples=4, temperature=0.7)
    sheet = await judge.ascore(QUESTION, CANDIDATES[:1], engine)

    assert sheet.scores[0].value == 5.5
    assert engine.calls[0].n == 4


async def test_fenced_json_is_read_from_engines_without_schemas() -> None:
    """Without `structured` no schema is asked for."""
    engine = ScriptedEngine(['Let me see.\n```json\n{"score": 3}\n```'])
    sheet = await LLMJudge(structured=False).ascore(QUESTION, CANDIDATES[:1], engine)

    assert sheet.scores[0].value == 3.0
    assert engine.calls[0].sampler.json_schema is None


async def test_late_judgement_is_an_error_of_that_candidate() -> None:
    """Per candidate, and for all of them."""

    async def gate(prompt: Prompt, index: int) -> None:
        if "weak" in prompt.question:
            await asyncio.Event().wait()

    engine = ScriptedEngine(judged, gate=gate)
    one = await LLMJudge(timeout=0.2).ascore(QUESTION, CANDIDATES, engine)
    both = await LLMJudge(total_timeout=0.2).ascore(QUESTION, CANDIDATES, engine)

    assert [one.scores[0].value, both.scores[0].value] == [9.0, 9.0]
    assert one.scores[1].error == "no score within timeout=0.2 s"
    assert both.scores[1].error == "no score before total_timeout=0.2 s for all was up"


def better(prompt: Prompt) -> str:
    """A fair judge: the solution with `good` in it, wherever it stands."""
    a, b = prompt.question.split("Solution A:\n")[1].split("Solution B:\n")
    return "A" if "good" in a else "B" if "good" in b.split("Which solution")[0] else "tie"


async def test_pair_is_asked_in_both_orders() -> None:
    """A fair judge gives 1 and 0, whichever comes first."""
    engine = ScriptedEngine(lambda prompt, index: json.dumps({"better": better(prompt)}))
    sheet = await PairJudge().ascore(QUESTION, CANDIDATES, engine)
    turned = await PairJudge().ascore(QUESTION, CANDIDATES[::-1], engine)

    assert [score.value for score in sheet.scores] == [1.0, 0.0]
    assert [score.value for score in turned.scores] == [0.0, 1.0]
    assert len(engine.calls) == 4
    assert sheet.usage != Usage()


async def test_judge_that_favours_a_place_decides_nothing() -> None:
    """Always the first: both score a half."""
    sheet = await PairJudge().ascore(QUESTION, CANDIDATES, ScriptedEngine(['{"better": "A"}']))

    assert [score.value for score in sheet.scores] == [0.5, 0.5]


async def test_pair_without_an_answer_in_both_orders_has_no_score() -> None:
    """Half a comparison is none."""
    said = iter(['{"better": "A"}', '{"better": "C"}'])
    engine = ScriptedEngine(lambda prompt, index: next(said))
    sheet = await PairJudge().ascore(QUESTION, CANDIDATES, engine)

    assert [score.value for score in sheet.scores] == [None, None]
    assert "one of A, B, tie, got 'C'" in (sheet.scores[0].error or "")


async def test_pair_judge_takes_two() -> None:
    """Three candidates are no pair."""
    with pytest.raises(ScoreError, match="2 candidates, got 1"):
        await PairJudge().ascore(QUESTION, CANDIDATES[:1], ScriptedEngine(["x"]))


def test_judges_are_verifiers() -> None:
    """They have what strategies ask for."""
    assert isinstance(LLMJudge(), Verifier)
    assert isinstance(PairJudge(), Verifier)


@pytest.mark.parametrize(
    "settings",
    [
        {"low": 5, "high": 5},
        {"low": float("nan")},
        {"samples": 0},
        {"samples": 2},
        {"temperature": 3},
        {"instruction": " "},
        {"timeout": 0},
        {"engine": "gpt"},
        {"max_tokens": 0},
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object]) -> None:
    """At construction; two greedy judgements would be the same one."""
    with pytest.raises(InvalidInput, match=r"must (not )?be"):
        LLMJudge(**settings)  # type: ignore[arg-type]
