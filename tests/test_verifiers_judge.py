"""The model as its own judge."""

from __future__ import annotations

import asyncio
import math

import pytest

from ttscale.errors import EngineError, InvalidInput, ScoreError
from ttscale.testing import Scripted, ScriptedEngine, candidate
from ttscale.types import Message, Prompt, Usage
from ttscale.verifiers import SelfJudge, Verifier
from ttscale.verifiers.judge import (
    JUDGE_INSTRUCTION,
    JUDGE_QUESTION,
    JUDGE_SAMPLER,
    judge_prompt,
    yes_probability,
)


def says(**probabilities: float) -> dict[str, float]:
    """Log-probabilities of first tokens, from their probabilities."""
    return {token: math.log(p) for token, p in probabilities.items()}


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        (says(Yes=0.6, No=0.2), 0.75),
        ({"Yes": math.log(0.2), " yes": math.log(0.1), "No": math.log(0.1)}, 0.75),
        ({"YES\n": math.log(0.3), " NO": math.log(0.1)}, 0.75),
        ({"Ġno": math.log(0.2), "▁No": math.log(0.1), "yes": math.log(0.1)}, 0.25),
        (says(Yes=0.1, No=0.1, Maybe=0.8), 0.5),
        (says(Yesterday=0.8, Yes=0.02, Not=0.1, No=0.08), 0.2),
        ({"Yes": -math.inf, "No": 0.0}, 0.0),
    ],
)
def test_yes_probability(top: dict[str, float], expected: float) -> None:
    """All spellings of the two words count, and no other word."""
    assert yes_probability(top) == pytest.approx(expected)


@pytest.mark.parametrize(
    "top", [{}, says(Maybe=1.0), {"Yes": -math.inf, "No": -math.inf}, {"Yes": math.nan}]
)
def test_neither_word_is_an_error(top: dict[str, float]) -> None:
    """Without any probability of the two words there is no score, not a default."""
    with pytest.raises(ScoreError, match="neither Yes nor No"):
        yes_probability(top)


def test_self_judge_is_a_verifier() -> None:
    """It has what strategies ask of a verifier, and scores from 0 to 1."""
    judge = SelfJudge()

    assert isinstance(judge, Verifier)
    assert (judge.low, judge.high) == (0.0, 1.0)


async def test_each_candidate_is_judged_by_one_greedy_token() -> None:
    """One draw per candidate, of one token at temperature 0; usage is the sum."""

    def script(prompt: Prompt, index: int) -> Scripted:
        sure = 0.9 if "good" in prompt.question else 0.2
        return candidate("Yes", top_logprobs=says(Yes=sure, No=1 - sure))

    engine = ScriptedEngine(script)
    sheet = await SelfJudge().ascore(
        Prompt.of("What?"), [candidate("good one"), candidate("weak one", index=1)], engine
    )

    assert [score.index for score in sheet.scores] == [0, 1]
    assert [score.value for score in sheet.scores] == [pytest.approx(0.9), pytest.approx(0.2)]
    assert [(call.n, call.sampler) for call in engine.calls] == [(1, JUDGE_SAMPLER)] * 2
    assert sheet.usage.completion_tokens == 2
    assert sheet.usage.prompt_tokens == sum(len(c.prompt.question.split()) for c in engine.calls)


async def test_failed_judgement_is_an_error_of_that_candidate_alone() -> None:
    """A draw that fails, and one that says neither word, leave the other candidate its score."""

    def script(prompt: Prompt, index: int) -> Scripted:
        if "lost" in prompt.question:
            return EngineError("line dropped")
        top = says(Perhaps=1.0) if "vague" in prompt.question else says(Yes=1.0)
        return candidate("token", top_logprobs=top)

    candidates = [candidate(text, index=i) for i, text in enumerate(["lost", "vague", "fine"])]
    sheet = await SelfJudge().ascore(Prompt.of("What?"), candidates, ScriptedEngine(script))

    assert [score.value for score in sheet.scores] == [None, None, 1.0]
    assert sheet.scores[0].error == "the judge's draw failed: line dropped"
    assert sheet.scores[1].error == (
        "the judge said neither Yes nor No; its most likely first tokens are 'Perhaps'"
    )


async def test_refused_prompt_is_an_error_of_that_candidate_alone() -> None:
    """A solution that the engine refuses, as too long, does not stop the others."""

    def script(prompt: Prompt, index: int) -> Scripted:
        if "long" in prompt.question:
            raise InvalidInput("the prompt is longer than the context")
        return candidate("No", top_logprobs=says(No=1.0))

    candidates = [candidate("long"), candidate("short", index=1)]
    sheet = await SelfJudge().ascore(Prompt.of("What?"), candidates, ScriptedEngine(script))

    assert sheet.scores[0].error == "the prompt is longer than the context"
    assert sheet.scores[1].value == 0.0
    assert sheet.usage.completion_tokens == 1


async def test_draws_are_bounded() -> None:
    """No more draws than allowed are under way at the same time."""
    running, most = 0, 0

    async def gate(prompt: Prompt, index: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    engine = ScriptedEngine([candidate("Yes", top_logprobs=says(Yes=1.0))], gate=gate)
    candidates = [candidate("a", index=i) for i in range(7)]
    sheet = await SelfJudge(concurrency=3).ascore(Prompt.of("What?"), candidates, engine)

    assert [score.value for score in sheet.scores] == [1.0] * 7
    assert most == 3


async def test_nothing_to_judge() -> None:
    """Without candidates nothing is drawn."""
    engine = ScriptedEngine(["Yes"])

    sheet = await SelfJudge().ascore(Prompt.of("What?"), [], engine)

    assert (sheet.scores, sheet.usage, engine.calls) == ((), Usage(), [])


def test_braces_in_texts_mean_nothing() -> None:
    """Question and solution stand in the judge's prompt as they are."""
    question, solution = "What is {x} in {0}?", r"\frac{1}{2} {question} %s {"

    prompt = judge_prompt(JUDGE_INSTRUCTION, Prompt.of(question), solution)

    assert prompt.messages == (Message("user", prompt.question),)
    assert question in prompt.question
    assert solution in prompt.question
    assert prompt.question.endswith(JUDGE_QUESTION)


def test_conversation_is_shown_with_its_roles() -> None:
    """Of a conversation every turn but the system's is shown, with who said it."""
    turns = [
        Message("system", "Be brief."),
        Message("user", "Add 2 and 3."),
        Message("assistant", "5"),
        Message("user", "Double it."),
    ]

    text = judge_prompt("Check.", Prompt.of(turns), "10").question

    assert "user: Add 2 and 3.\nassistant: 5\nuser: Double it." in text
    assert "Be brief." not in text


def test_raw_prompt_is_shown_as_the_question() -> None:
    """Raw text is judged as the question that it is."""
    assert "Question:\n1 + 1 =" in judge_prompt("Check.", Prompt.raw("1 + 1 ="), "2").question


@pytest.mark.parametrize("settings", [{"concurrency": 0}, {"instruction": " "}])
def test_bad_settings_are_refused(settings: dict[str, str | int]) -> None:
    """A bad setting is refused at construction."""
    with pytest.raises(InvalidInput, match="must"):
        SelfJudge(**settings)  # type: ignore[arg-type]
