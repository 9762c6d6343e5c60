"""Votes on what has a form: calls of tools, and JSON.

What strategies read in a sample is its text. Where a request offers tools or asks for JSON, samples
agree by content instead: calls by name and arguments, in any order; JSON by its values. A sample
whose calls or JSON are broken, or do not fit their schema, cannot win.

>>> weather = {"function": {"name": "weather", "parameters": {"required": ["city"]}}}
>>> form = Form.of(tools=[weather])
>>> structure("", [ToolCall("weather", {"city": "Oslo"})], form).value
'weather({"city": "Oslo"})'
>>> structure("", [ToolCall("weather", {})], form) is None
True
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ttscale.answers import Answer
from ttscale.errors import InvalidInput
from ttscale.strategies.best_of_n import BestOfN
from ttscale.strategies.outcome import Outcome
from ttscale.strategies.select import Selection, argmax, majority, weighted_vote
from ttscale.strategies.verifier_rerank import VerifierRerank
from ttscale.types import Candidate

IN_TEXT = "answers in text"
"""The class of the samples that answer in text where tools could have been called."""

MAX_WHOLE = 2**53  # above it a float no longer stands for one whole number

OF_PATTERNS = ("patternProperties", "additionalProperties", "unevaluatedProperties")
NAMED = ("properties", "$defs", "definitions", "dependentSchemas")
DATA = ("const", "enum", "default", "examples")

Check = Callable[[object], bool]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool in a sample.

    Attributes:
        name: The tool's name.
        arguments: Its arguments; None when what the model wrote is no JSON object.
    """

    name: str
    arguments: Mapping[str, object] | None

    @classmethod
    def parse(cls, name: str, arguments: str) -> ToolCall:
        """A call whose arguments are still the text that the model wrote."""
        content = _read(arguments)
        return cls(name, content[0] if content and isinstance(content[0], dict) else None)


@dataclass(frozen=True, slots=True)
class Form:
    """What form of answer a request asks for.

    Attributes:
        tools: A check of the arguments of each tool that may be called, by name; empty when the
            names are not known, and None when no tools are offered.
        forced: Whether a tool must be called.
        json: Whether the answer must be JSON.
        fits: Whether a text of JSON is what was asked for; None takes any JSON.
        parallel: Whether one sample may call several tools.
    """

    tools: Mapping[str, Check] | None = None
    forced: bool = False
    json: bool = False
    fits: Callable[[str], bool] | None = None
    parallel: bool = True

    @classmethod
    def of(
        cls,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: object = None,
        response_format: Mapping[str, Any] | None = None,
        *,
        parallel: bool = True,
    ) -> Form:
        """Read the fields of a request in OpenAI's chat format; tools may be in Anthropic's too.

        Required arguments are always checked; types and the like when jsonschema is installed.

        Raises:
            InvalidInput: A schema in it is no JSON schema.
        """
        kind = (response_format or {}).get("type", "text")
        fits: Callable[[str], bool] | None = None
        if kind == "json_schema":
            described = (response_format or {}).get("json_schema") or {}
            schema = described.get("schema")
            fits = None if schema is None else text_fits(schema_check(schema))
        return cls(
            tools=_checks(tools, tool_choice) if tools else None,
            forced=forced(tool_choice),
            json=kind != "text",
            fits=fits,
            parallel=parallel,
        )

    @property
    def structured(self) -> bool:
        """Whether samples are compared by their form rather than by their text."""
        return self.tools is not None or self.json


def structure(text: str, calls: Sequence[ToolCall], form: Form) -> Answer | None:
    """What one sample votes for: its calls or its JSON in one spelling; None when not valid."""
    try:
        spelled = _calls(calls, form) if calls else _content(text, form)
    except (RecursionError, ValueError):  # nested too deeply, or a number that JSON does not have
        return None
    # Texts that differ in capitals or spaces alone are one answer, unless their units differ.
    return None if spelled is None else Answer(spelled, "text", (0, 0), spelled, unit=spelled)


def choose_structured(
    strategy: object,
    outcome: Outcome,
    structures: Sequence[Answer | None],
    candidates: Sequence[Candidate],
    seed: int = 0,
) -> Selection:
    """The winner among samples with a form, weighed as the strategy weighs texts.

    Best-of-n takes the best score among the valid samples, verifier-rerank adds the scores up, and
    every other strategy counts. When most samples answer in text, the strategy's own choice stays
    if it is one of them.

    Args:
        strategy: The strategy that ran.
        outcome: What it decided by the texts, with its scores.
        structures: What each of `candidates` votes for, from `structure`.
        candidates: The samples that came back.
        seed: Seed of ties.

    Returns:
        A selection whose place is None when no sample is valid.
    """
    known = scores_of(outcome, candidates)
    scores = [s if a is not None else None for s, a in zip(known, structures, strict=True)]
    if isinstance(strategy, BestOfN) and any(score is not None for score in scores):
        return argmax(candidates, structures, scores, seed)
    if isinstance(strategy, VerifierRerank) and any(score is not None for score in scores):
        low, high = strategy.verifier.low, strategy.verifier.high
        return weighted_vote(candidates, structures, scores, low=low, high=high, seed=seed)
    picked = majority(candidates, structures, seed)
    place = place_of(outcome, candidates)
    own = structures[place] if place is not None else None
    if picked.answer == IN_TEXT and own is not None and own.value == IN_TEXT:
        return replace(picked, place=place)
    return picked


def place_of(outcome: Outcome, candidates: Sequence[Candidate]) -> int | None:
    """The place of the outcome's own choice among `candidates`."""
    return None if outcome.candidate is None else places_of([outcome.candidate], candidates)[0]


def scores_of(outcome: Outcome, candidates: Sequence[Candidate]) -> list[float | None]:
    """The score of each of `candidates`, in their order; None for those without one."""
    places = places_of(outcome.candidates, candidates)
    scores: list[float | None] = [None] * len(candidates)
    for score in outcome.scores:
        place = places[score.index] if 0 <= score.index < len(places) else None
        if place is not None:
            scores[place] = score.value
    return scores


def places_of(own: Sequence[Candidate], candidates: Sequence[Candidate]) -> list[int | None]:
    """Where each of the strategy's candidates stands; a strategy may have numbered them anew."""
    free = dict(enumerate(candidates))
    places: list[int | None] = []
    for one in own:
        same = [p for p, other in free.items() if other is one]
        alike = same or [p for p, c in free.items() if replace(c, index=0) == replace(one, index=0)]
        places.append(alike[0] if alike else None)
        if alike:
            del free[alike[0]]
    return places


def forced(tool_choice: object) -> bool:
    """Whether a request's `tool_choice` wants a tool to be called."""
    kind = tool_choice.get("type") if isinstance(tool_choice, Mapping) else tool_choice
    return kind not in (None, "auto", "none", False)


def named_tool(tool_choice: object) -> str | None:
    """The one tool that a request's `tool_choice` names, if it names one."""
    if not isinstance(tool_choice, Mapping):
        return None
    name = (tool_choice.get("function") or tool_choice).get("name")
    return None if name is None else str(name)


def schema_check(schema: Mapping[str, Any]) -> Check:
    """What says whether a value fits a JSON schema.

    Regular expressions in it are not evaluated: one that backtracks without end would hold up all
    other work, and guided decoding has kept to them already. Without the package jsonschema, it is
    only checked that an object has its required members.

    Raises:
        InvalidInput: It is no JSON schema.
    """
    try:
        from jsonschema import Draft202012Validator, SchemaError
        from jsonschema.validators import validator_for
        from referencing import Registry
        from referencing.exceptions import Unresolvable
    except ImportError:
        return lambda value: _has_required(schema, value)
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
        # With a registry of its own it never fetches what a schema refers to from the network.
        validator = kind(_without_patterns(schema), registry=Registry())
    except SchemaError as error:
        raise InvalidInput(f"a schema is no JSON schema: {error.message}; mend it") from None
    except RecursionError:
        raise InvalidInput("a schema is nested too deeply to be checked; flatten it") from None

    def fits(value: object) -> bool:
        try:
            return bool(validator.is_valid(value))
        except (Unresolvable, RecursionError):
            return False  # the schema refers to what is not there, or to itself alone

    return fits


def _without_patterns(schema: Any, *, names: bool = False) -> Any:
    """A schema without regular expressions; `names` says that the keys are members' names."""
    if isinstance(schema, list):
        return [_without_patterns(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    if names:
        return {name: _without_patterns(value) for name, value in schema.items()}
    # whether a member is an additional one cannot be told without the patterns of the others
    dropped = {"pattern", *(OF_PATTERNS if "patternProperties" in schema else ())}
    return {
        key: value if key in DATA else _without_patterns(value, names=key in NAMED)
        for key, value in schema.items()
        if key not in dropped
    }


def text_fits(check: Check) -> Callable[[str], bool]:
    """A check of values as one of texts of JSON."""

    def fits(text: str) -> bool:
        content = _read(text)
        return content is not None and check(content[0])

    return fits


def _checks(tools: Sequence[Mapping[str, Any]], choice: object) -> dict[str, Check]:
    """The check of each tool that may be called; where one is named, of that one."""
    functions = [tool.get("function") or tool for tool in tools]  # Anthropic's have no `function`
    named = named_tool(choice)
    return {
        function["name"]: schema_check(
            function.get("parameters") or function.get("input_schema") or {}
        )
        for function in functions
        if "name" in function and named in (None, function["name"])
    }


def _calls(calls: Sequence[ToolCall], form: Form) -> str | None:
    if len(calls) > 1 and not form.parallel:
        return None
    spelled = [_call(call, form.tools) for call in calls]
    return None if None in spelled else "\n".join(sorted(s for s in spelled if s is not None))


def _call(call: ToolCall, tools: Mapping[str, Check] | None) -> str | None:
    if call.arguments is None:
        return None
    if tools and (call.name not in tools or not tools[call.name](call.arguments)):
        return None
    return f"{call.name}({_spelled(call.arguments)})"


def _content(text: str, form: Form) -> str | None:
    if form.forced or not text.strip():
        return None
    if not form.json:
        return IN_TEXT
    content = _read(text)
    if content is None or (form.fits is not None and not form.fits(text)):
        return None
    return _spelled(content[0])


def _read(text: str) -> tuple[Any] | None:
    """The content of a text of JSON; None when it is none, or nested too deeply."""
    try:
        return (json.loads(text, parse_constant=_refuse),)
    except (ValueError, RecursionError):
        return None


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _spelled(content: object) -> str:
    """JSON in one spelling: members in order, whole numbers without a point."""
    return json.dumps(_plain(content), sort_keys=True, allow_nan=False)


def _plain(content: object) -> object:
    if isinstance(content, float) and content.is_integer() and abs(content) < MAX_WHOLE:
        return int(content)
    if isinstance(content, Mapping):
        return {str(name): _plain(value) for name, value in content.items()}
    return [_plain(one) for one in content] if isinstance(content, list | tuple) else content


def _has_required(schema: Mapping[str, Any], value: object) -> bool:
    return not isinstance(value, Mapping) or set(schema.get("required", ())) <= set(value)
