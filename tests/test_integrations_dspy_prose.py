"""The adapter for small models."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError

from ttscale.errors import InvalidInput
from ttscale.integrations.dspy import ESampLM, ProseAdapter, SelfConsistency
from ttscale.testing import Scripted, ScriptedEngine
from ttscale.types import Message, Prompt

SIGNATURE = dspy.Signature("question -> answer", "Solve it.")
EXAMPLE = Path(__file__).parent.parent / "examples" / "dspy_optimize.py"


@pytest.fixture(autouse=True)
def _fresh_cache() -> Iterator[None]:
    """A cache in memory only, and empty: nothing reaches the user's home or another test."""
    dspy.configure_cache(enable_disk_cache=False)
    yield
    dspy.configure_cache(enable_disk_cache=False)


def answered(program: Any, engine: ScriptedEngine, **inputs: Any) -> Any:
    """The prediction of `program` through the adapter."""
    with dspy.context(lm=ESampLM(engine), adapter=ProseAdapter()):
        return program(**inputs)


def test_question_is_asked_in_plain_turns() -> None:
    """Instruction, demonstrations and question are turns without any marks.

    A demonstration whose reasoning states its answer is shown as it is; others get a sentence.
    """
    engine = ScriptedEngine([r"So \boxed{4}."])
    program = dspy.ChainOfThought(SIGNATURE)
    program.predict.demos = [
        dspy.Example(question="1 + 1?", reasoning="It is 2.", answer="2"),
        dspy.Example(question="1 + 2?", answer="3"),
        dspy.Example(question="1 + 3?", reasoning="Count on.", answer="4"),
        dspy.Example(question="left out, for it has no answer"),
    ]

    answered(program, engine, question="2 + 2?")

    assert engine.calls[0].prompt.messages == (
        Message("system", "Solve it."),
        Message("user", "1 + 1?"),
        Message("assistant", "It is 2."),
        Message("user", "1 + 2?"),
        Message("assistant", "The answer is 3."),
        Message("user", "1 + 3?"),
        Message("assistant", "Count on.\nThe answer is 4."),
        Message("user", "2 + 2?"),
    )


def test_answer_is_read_from_the_text_and_typed() -> None:
    """The last field is the stated answer in its type, the other one the whole text."""
    signature = dspy.Signature("question -> answer: int", "Solve it.")
    text = "2 and 2 make 4. The answer is 4."

    prediction = answered(dspy.ChainOfThought(signature), ScriptedEngine([text]), question="q")

    assert (prediction.answer, prediction.reasoning) == (4, text)


def test_text_without_a_fitting_answer_does_not_parse() -> None:
    """No answer, or one that is not of the field's type, loses the candidate and not the vote."""
    signature = dspy.Signature("question -> answer: int", "Solve it.")
    engine = ScriptedEngine(["I could not say, sorry, nor could he.", "It is 1/2.", "It is 5."])

    prediction = answered(SelfConsistency(signature, n=3), engine, question="q")

    assert prediction.answer == 5
    assert len(prediction.choice.dropped) == 2
    with pytest.raises(AdapterParseError, match="1/2"):
        answered(dspy.Predict(signature), ScriptedEngine(["It is 1/2."]), question="q")


def test_with_kind_text_any_text_is_an_answer() -> None:
    """A long text over several lines is its own answer."""
    text = "Once upon a time\nthere was a cat,\n" + "and so on " * 40

    with dspy.context(lm=ESampLM(ScriptedEngine([text])), adapter=ProseAdapter("text")):
        prediction = dspy.Predict("topic -> story")(topic="cats")

    assert prediction.story == text.strip()


def test_wrong_use_is_refused() -> None:
    """An unknown kind, and a signature with more fields than one text can be, are refused."""
    with pytest.raises(InvalidInput, match="kind must be"):
        ProseAdapter("poem")
    with pytest.raises(InvalidInput, match=r"got a, b, c; use dspy\.ChatAdapter"):
        answered(dspy.Predict("question -> a, b, c"), ScriptedEngine(["1"]), question="q")


def test_example_does_not_lose_ground(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example prints both scores with intervals, and the compiled program is better."""
    spec = importlib.util.spec_from_file_location("dspy_optimize", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = example
    spec.loader.exec_module(example)
    known = {e.question: e.answer for seed in (0, 1) for e in example.examples(4, seed)}

    def script(prompt: Prompt, index: int) -> Scripted:
        taught = len(prompt.messages) > 2 or len(prompt.question) % 2
        return f"The answer is {known[prompt.question] if taught else 0}."

    engine = ScriptedEngine(script)
    monkeypatch.setattr(example, "LocalEngine", lambda **settings: nullcontext(engine))
    example.main(["--small"])

    shown = capsys.readouterr().out
    right_before = sum(len(e.question) % 2 for e in example.examples(4, seed=1))
    assert right_before < 4
    assert f"before: {right_before}/4 right = {right_before / 4:.0%} [" in shown
    assert "after : 4/4 right = 100% [51%, 100%]" in shown
    assert {call.n for call in engine.calls} == {3}
