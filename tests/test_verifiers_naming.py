"""Verifiers by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from ttscale.errors import InvalidInput
from ttscale.verifiers import Gold, JSONSchema, MathEquivalence, Regex, Verifier, named, names


def test_names_make_verifiers(tmp_path: Path) -> None:
    """Each name that is listed can be made, with what it needs behind the colon."""
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object"}')
    arguments = {"FILE": str(schema), "ANSWER": "42", "EXPRESSION": "x+1", "PATTERN": r"a:\d"}
    for spec in names():
        name, _, wanted = spec.partition(":")
        verifier = named(f"{name}:{arguments[wanted]}" if wanted else name)
        assert isinstance(verifier, Verifier)

    assert named("gold:42") == Gold("42")
    assert named("math:x+1") == MathEquivalence("x+1")
    assert named(r"regex:a:\d") == Regex(r"a:\d")
    assert named(f"json-schema:{schema}") == JSONSchema({"type": "object"})


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("", "verifier must be one of self-judge, llm-judge, gold:ANSWER"),
        ("python-tests", "verifier must be one of"),
        ("self-judge:x", "takes nothing behind a colon"),
        ("gold", "needs ANSWER: write gold:ANSWER"),
        ("regex:", "needs PATTERN"),
        ("regex:(", "is none"),
        ("json-schema:/no/such/file", "must name a JSON file"),
        ("json-schema:" + __file__, "must name a JSON file"),
    ],
)
def test_bad_names_are_refused_with_what_is_allowed(spec: str, match: str) -> None:
    """At the door, before anything is drawn."""
    with pytest.raises(InvalidInput, match=match):
        named(spec)


def test_requests_of_others_name_no_files() -> None:
    """With `files=False` a path is no more known than any other word."""
    with pytest.raises(InvalidInput, match="verifier must be one of") as refused:
        named("json-schema:/etc/passwd", files=False)

    assert "json-schema:FILE" not in str(refused.value)
    assert named("gold:1", files=False) == Gold("1")


def test_schema_must_be_an_object(tmp_path: Path) -> None:
    """A file of JSON that is no schema."""
    path = tmp_path / "list.json"
    path.write_text("[1]")

    with pytest.raises(InvalidInput, match="must hold a JSON schema"):
        named(f"json-schema:{path}")
