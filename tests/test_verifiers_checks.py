"""Verifiers that know what a right answer looks like."""

from __future__ import annotations

import math
import sys

import pytest

from ttscale.errors import InvalidInput, MissingDependency
from ttscale.testing import ScriptedEngine, candidate
from ttscale.types import Prompt
from ttscale.verifiers import Gold, JSONSchema, MathEquivalence, Regex, ScoreSheet, Verifier

ENGINE = ScriptedEngine(["unused"])


async def scored(verifier: Verifier, *texts: str) -> ScoreSheet:
    """The verifier's sheet for candidates with these texts."""
    candidates = [candidate(text, index=i) for i, text in enumerate(texts)]
    return await verifier.ascore(Prompt.of("question?"), candidates, ENGINE)


async def values(verifier: Verifier, *texts: str) -> list[float | None]:
    """The bare scores."""
    return [score.value for score in (await scored(verifier, *texts)).scores]


async def test_gold_compares_what_is_meant() -> None:
    """Spelling makes no difference; no answer is not the right one."""
    texts = (r"So \boxed{\frac12}.", "The answer is 0.5.", "The answer is 2.", "I do not know.")

    assert await values(Gold("1/2"), *texts) == [1.0, 1.0, 0.0, 0.0]


async def test_gold_reads_by_kind() -> None:
    """Words and letters are right answers too."""
    assert await values(Gold("B", kind="choice"), "The answer is (b).", "answer: C") == [1.0, 0.0]
    assert await values(Gold("New York", kind="text"), "Answer: new york") == [1.0]


async def test_thinking_states_no_answer() -> None:
    """What stands in a thinking block is no answer, right or not."""
    assert await values(Gold("7"), r"<think>\boxed{7}</think>The answer is 8.") == [0.0]


async def test_math_compares_formulas() -> None:
    """Expressions are equal by value; a lone letter is a variable."""
    verifier = MathEquivalence("x+1")

    assert await values(verifier, r"\boxed{1+x}", r"\boxed{x+2}", r"\boxed{x+1.0}") == [1, 0, 1]
    assert await values(MathEquivalence("C"), r"\boxed{C}") == [1.0]


@pytest.mark.parametrize("gold", ["", "   ", "{"])
def test_gold_that_is_no_answer_is_refused(gold: str) -> None:
    """It would find every candidate wrong."""
    with pytest.raises(InvalidInput, match="gold must be an answer"):
        Gold(gold)


async def test_regex_searches_or_matches_the_whole_text() -> None:
    """By default anywhere; with `whole` all of it but space around it; thinking left out."""
    assert await values(Regex(r"\d{3}"), "abc 123", "12") == [1.0, 0.0]
    assert await values(Regex(r"\d{3}", whole=True), " 123\n", "x 123") == [1.0, 0.0]
    assert await values(Regex("yes"), "<think>yes</think>no") == [0.0]


async def test_pattern_that_backtracks_without_end_is_stopped() -> None:
    """It is an error of the candidate that it cannot decide, alone."""
    sheet = await scored(Regex(r"(a|a|aa)+$", whole=True), "a" * 60 + "b", "aaa")

    assert sheet.scores[0].value is None
    assert "not decided in 2 s" in (sheet.scores[0].error or "")
    assert sheet.scores[1].value == 1.0


@pytest.mark.parametrize("pattern", ["", "(", "["])
def test_bad_pattern_is_refused(pattern: str) -> None:
    """At construction, not when the first candidate comes."""
    with pytest.raises(InvalidInput, match="pattern"):
        Regex(pattern)


SCHEMA = {
    "type": "object",
    "properties": {"age": {"type": "integer", "minimum": 0}},
    "required": ["age"],
}


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"age": 3}', 1.0),
        ('<think>{"age": -1}</think> {"age": 3}', 1.0),
        ('Here it is:\n```json\n{"age": 3}\n```\nDone.', 1.0),
        ('```\n{"age": -3}\n```\n```json\n{"age": 4}\n```', 1.0),
        ('{"age": -3}', 0.0),
        ('{"age": "3"}', 0.0),
        ('{"age": 3', 0.0),
        ("three", 0.0),
        ("[" * 100_000, 0.0),
        ("", 0.0),
    ],
)
async def test_json_fits_the_schema_or_not(text: str, score: float) -> None:
    """Alone or in the last fenced block; what is no JSON does not fit."""
    assert await values(JSONSchema(SCHEMA), text) == [score]


async def test_references_are_not_fetched() -> None:
    """A reference to another address is an error, with no request made."""
    sheet = await scored(JSONSchema({"$ref": "http://127.0.0.1:1/schema.json"}), "{}")

    assert "refers to what is not in it" in (sheet.scores[0].error or "")


def test_bad_schema_is_refused() -> None:
    """With what is wrong about it."""
    with pytest.raises(InvalidInput, match="no JSON schema"):
        JSONSchema({"type": "nothing"})


@pytest.mark.parametrize(("package", "make"), [("regex", Regex), ("jsonschema", JSONSchema)])
def test_missing_package_is_named(
    package: str, make: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(MissingDependency, match=r"ttscale\[verifiers\]"):
        make("x" if make is Regex else {})


async def test_time_is_bounded_for_each_candidate() -> None:
    """A candidate that takes too long has an error, and the others their score."""
    verifier = Regex(r"(a|a|aa)+$", whole=True, timeout=0.3)
    sheet = await scored(verifier, "aaa", "a" * 60 + "b")

    assert sheet.scores[0].value == 1.0
    assert sheet.scores[1].error == "no score within timeout=0.3 s"


@pytest.mark.parametrize("settings", [{"timeout": 0}, {"timeout": math.nan}, {"concurrency": 0}])
def test_bad_settings_are_refused(settings: dict[str, float]) -> None:
    """A bad setting is refused at construction."""
    with pytest.raises(InvalidInput, match="must be"):
        Gold("7", **settings)  # type: ignore[arg-type]
