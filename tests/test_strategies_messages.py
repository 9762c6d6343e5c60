"""Votes on calls of tools and on JSON: what agrees, what loses, and whose choice it is."""

from __future__ import annotations

import doctest
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttscale.answers import Answer
from ttscale.errors import InvalidInput
from ttscale.strategies import BestOfN, Outcome, SelfConsistency, VerifierRerank, messages
from ttscale.strategies.messages import (
    IN_TEXT,
    Form,
    ToolCall,
    choose_structured,
    place_of,
    schema_check,
    scores_of,
    structure,
)
from ttscale.testing import candidate
from ttscale.types import Prompt
from ttscale.verifiers import CallableVerifier, CandidateScore

PLACE = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": PLACE}}]
JSON = {"type": "json_object"}


def call(**arguments: Any) -> ToolCall:
    """A call of the one tool."""
    return ToolCall("weather", arguments)


def key(text: str, calls: Sequence[ToolCall], form: Form) -> str | None:
    """What a sample votes for, spelled out."""
    found = structure(text, calls, form)
    return found.value if found else None


def outcome_of(texts: Sequence[str], chosen: int | None = None, **more: Any) -> Outcome:
    """An outcome over texts."""
    drawn = tuple(candidate(text, index=i) for i, text in enumerate(texts))
    winner = None if chosen is None else drawn[chosen]
    return Outcome("s", Prompt.of("?"), candidate=winner, candidates=drawn, **more)


def test_docstring_example_holds() -> None:
    """The example of the module gives what it says."""
    assert doctest.testmod(messages) == (0, 4)


def test_calls_agree_by_name_and_arguments() -> None:
    """Order of arguments and of calls, and how a number is written, make no difference."""
    form = Form.of(TOOLS)
    one = key("", [call(city="Oslo", days=2), call(city="Rome")], form)
    other = key("So:", [call(city="Rome"), call(days=2.0, city="Oslo")], form)

    assert one == other == 'weather({"city": "Oslo", "days": 2})\nweather({"city": "Rome"})'


def test_calls_count_with_their_multiplicity() -> None:
    """Calling twice is something else than calling once."""
    form = Form.of(TOOLS)
    assert key("", [call(city="Oslo")] * 2, form) != key("", [call(city="Oslo")], form)


@pytest.mark.parametrize(
    "calls",
    [
        [ToolCall("weather", None)],
        [ToolCall("storm", {"city": "Oslo"})],
        [call(days=2)],
        [call(city=7)],
        [call(city="Oslo", days="two")],
        [call(city="Oslo"), call()],
        [call(city=float("nan"))],
    ],
)
def test_calls_that_do_not_fit_lose(calls: list[ToolCall]) -> None:
    """Broken arguments, unknown tools, missing ones and wrong types, also beside a good call."""
    assert key("some text", calls, Form.of(TOOLS)) is None


def test_a_named_tool_must_be_the_one_called() -> None:
    """Other tools than the named one lose, as does text."""
    other = {"type": "function", "function": {"name": "storm"}}
    named = {"type": "function", "function": {"name": "storm"}}
    form = Form.of([*TOOLS, other], named)

    assert key("", [call(city="Oslo")], form) is None
    assert key("", [ToolCall("storm", {})], form) == "storm({})"
    assert key("text", [], form) is None


def test_tools_in_anthropics_format_are_known_too() -> None:
    """Chat models of LangChain bind tools in the format of their provider."""
    tools = [{"name": "weather", "input_schema": PLACE}]

    assert key("", [call(city="Oslo")], Form.of(tools, {"type": "auto"})) is not None
    assert key("", [call()], Form.of(tools)) is None
    assert not Form.of(tools, {"type": "auto"}).forced
    assert Form.of(tools, {"type": "tool", "name": "weather"}).forced


def test_where_only_one_call_is_wanted_two_lose() -> None:
    """Requests can switch parallel calls off."""
    assert key("", [call(city="Oslo")] * 2, Form.of(TOOLS, parallel=False)) is None


def test_text_is_a_class_of_its_own_where_tools_are_optional() -> None:
    """Forced, it loses; empty text always does."""
    assert key("Hello", [], Form.of(TOOLS, "auto")) == IN_TEXT
    assert key("Hello", [], Form.of(TOOLS, "required")) is None
    assert key(" ", [], Form.of(TOOLS)) is None


@pytest.mark.parametrize("text", ["", "{", "so: {}", '{"x": NaN}', "[" * 5000 + "]" * 5000])
def test_broken_json_loses(text: str) -> None:
    """Also NaN, and what is nested too deeply to be read."""
    assert key(text, [], Form.of(response_format=JSON)) is None


def test_json_that_does_not_fit_its_schema_loses() -> None:
    """Required members and types are checked; other formats take any JSON."""
    form = Form.of(
        response_format={"type": "json_schema", "json_schema": {"name": "p", "schema": PLACE}}
    )

    assert key('{"city": "Oslo"}', [], form) == '{"city": "Oslo"}'
    assert key('{"city": 1}', [], form) is None
    assert key('{"days": 1}', [], form) is None
    assert key('{"days": 1}', [], Form.of(response_format=JSON)) == '{"days": 1}'
    assert not Form.of(response_format={"type": "text"}).structured


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_json_agrees_with_itself_however_it_is_laid_out(content: object) -> None:
    """Spaces and escapes are not part of the content."""
    form = Form.of(response_format=JSON)
    found = structure(json.dumps({"a": content, "b": 1}), [], form)

    assert found == structure(
        json.dumps({"b": 1.0, "a": content}, indent=3, ensure_ascii=False), [], form
    )
    assert found is not None


def test_capitals_are_content() -> None:
    """Texts are compared more loosely than arguments: `Oslo` and `oslo` are two cities."""
    form = Form.of(TOOLS)
    calls = [call(city="oslo"), call(city="Oslo"), call(city="Oslo")]
    drawn = outcome_of(["a", "b", "c"])
    votes = [structure("", [one], form) for one in calls]
    picked = choose_structured(SelfConsistency(3), drawn, votes, drawn.candidates)

    assert [vote.count for vote in picked.votes] == [2, 1]
    assert picked.place == 1


def test_the_strategys_own_choice_stays_among_texts() -> None:
    """When most answer in text, the strategy has read these texts and chosen."""
    text = structure("Hello", [], Form.of(TOOLS))
    drawn = outcome_of(["a", "b", "c"], chosen=2)
    votes = [text, structure("", [call(city="Oslo")], Form.of(TOOLS)), text]

    assert choose_structured(SelfConsistency(3), drawn, votes, drawn.candidates).place == 2


def test_scores_weigh_valid_samples_alone() -> None:
    """Best-of-n and the weighted vote use the verifier's scores; invalid samples cannot win."""
    verifier = CallableVerifier(lambda question, text: 0.5)
    scores = tuple(CandidateScore(i, s) for i, s in enumerate([1.0, 0.3, 0.3, 0.5]))
    drawn = outcome_of(["a", "b", "c", "d"], scores=scores)
    votes = [None, *[Answer(v, "text", (0, 0), v, unit=v) for v in ("x", "x", "y")]]

    best = choose_structured(BestOfN(4, verifier=verifier), drawn, votes, drawn.candidates)
    added = choose_structured(VerifierRerank(verifier, 4), drawn, votes, drawn.candidates)
    assert (best.place, best.answer) == (3, "y")
    assert (added.answer, added.place) == ("x", 1)


def test_no_valid_sample_is_no_winner() -> None:
    """The caller decides what to give then."""
    drawn = outcome_of(["a", "b"])
    picked = choose_structured(SelfConsistency(2), drawn, [None, None], drawn.candidates)

    assert picked.place is None


def test_scores_follow_their_candidates_through_renumbering() -> None:
    """A strategy that draws twice numbers its candidates anew; equal ones keep one score each."""
    scores = (CandidateScore(0, 0.1), CandidateScore(1, 0.2), CandidateScore(2, 0.3))
    drawn = outcome_of(["a", "b", "a"], chosen=1, scores=scores)
    others = [replace(drawn.candidates[i], index=i + 4) for i in (1, 0, 2)]

    assert scores_of(drawn, others) == [0.2, 0.1, 0.3]
    assert place_of(drawn, others) == 0


def test_arguments_are_read_from_text() -> None:
    """Only a JSON object is a set of arguments."""
    assert ToolCall.parse("f", '{"a": 1}') == ToolCall("f", {"a": 1})
    assert ToolCall.parse("f", "[1]").arguments is None
    assert ToolCall.parse("f", "{").arguments is None


def test_what_is_no_schema_is_refused() -> None:
    """Before anything is drawn, with what is wrong."""
    with pytest.raises(InvalidInput, match="no JSON schema"):
        Form.of([{"function": {"name": "f", "parameters": {"type": "thing"}}}])
    deep: dict[str, Any] = {}
    for _ in range(3000):
        deep = {"not": deep}
    with pytest.raises(InvalidInput, match="nested too deeply"):
        schema_check(deep)


@pytest.mark.parametrize("target", ["#", "http://127.0.0.1:9/schema", "#/$defs/missing"])
def test_schemas_that_lead_nowhere_fit_nothing(target: str) -> None:
    """References to the network are not followed, and circles end."""
    assert not schema_check({"$ref": target})({})


def test_regular_expressions_of_schemas_are_not_evaluated() -> None:
    """One that backtracks without end would hold up everything; the rest of the schema counts."""
    endless = "^(a+)+$"
    schema = {
        "type": "object",
        "properties": {
            "text": {"type": "string", "pattern": endless},
            "pattern": {"type": "integer"},
            "kind": {"const": {"pattern": "x"}},
        },
        "patternProperties": {endless: {"type": "integer"}},
        "additionalProperties": False,
        "required": ["pattern"],
    }
    check = schema_check(schema)

    assert check({"pattern": 1, "text": "a" * 60 + "!", "a" * 60 + "!": 1})
    assert not check({"pattern": "1"})
    assert not check({"text": "a"})
    assert check({"pattern": 1, "kind": {"pattern": "x"}})
    assert not check({"pattern": 1, "kind": {}})


def test_without_jsonschema_required_members_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is optional."""
    monkeypatch.setitem(__import__("sys").modules, "jsonschema", None)
    check = schema_check(PLACE)

    assert check({"city": 7})
    assert not check({"days": 2})
