"""Verifiers that know what a right answer looks like: they score 1 or 0 and ask no model."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ttscale import _check
from ttscale.answers import KINDS, Answer, equivalent, extract_answer, strip_thinking
from ttscale.engines import Engine
from ttscale.errors import InvalidInput, MissingDependency, ScoreError
from ttscale.types import Candidate, Prompt
from ttscale.verifiers._each import check_times, score_each
from ttscale.verifiers.sheet import ScoreSheet

if TYPE_CHECKING:
    import jsonschema
    import regex

MAX_TEXT = 1_000_000  # characters of a candidate that are looked at, from its end
PATTERN_SECONDS = 2.0
_FENCE = re.compile(
    r"^[ \t]{0,3}```[ \t]*([A-Za-z0-9_+-]*)[^\n]*\n(.*?)^[ \t]{0,3}```", re.M | re.S
)


class _Check:
    """Scores each candidate 1.0 or 0.0 on threads."""

    __slots__ = ()
    timeout: float
    concurrency: int

    @property
    def low(self) -> float:
        """Not right."""
        return 0.0

    @property
    def high(self) -> float:
        """Right."""
        return 1.0

    def holds(self, text: str) -> bool:
        """Whether one text is right."""
        raise NotImplementedError

    async def ascore(
        self,
        prompt: Prompt,  # noqa: ARG002 - part of the protocol
        candidates: Sequence[Candidate],
        engine: Engine,  # noqa: ARG002 - part of the protocol; no model is asked
    ) -> ScoreSheet:
        """Score every candidate; see `Verifier.ascore`."""

        async def score(candidate: Candidate) -> object:
            return await asyncio.to_thread(self.holds, candidate.text)

        scores = await score_each(
            candidates,
            score,
            self.low,
            self.high,
            timeout=self.timeout,
            total_timeout=None,
            concurrency=self.concurrency,
        )
        return ScoreSheet(scores)


@dataclass(frozen=True)
class Gold(_Check):
    """Whether a candidate's answer means the same as the right one.

    The answer is taken by `extract_answer` and compared by `equivalent`. A candidate that states
    no answer does not state the right one: 0.

    Attributes:
        gold: The right answer, as the content of a box would be written.
        kind: Kind of answer to look for, as in `extract_answer`.
        timeout: Seconds for one candidate.
        concurrency: Candidates that are looked at at the same time.
        name: Name for reports.

    Raises:
        InvalidInput: `gold` is no answer of this kind, or a setting is outside its legal range.
    """

    gold: str
    kind: str = "auto"
    timeout: float = 60.0
    concurrency: int = 4
    name: str = "gold"

    def __post_init__(self) -> None:
        _check.choice("kind", self.kind, KINDS)
        check_times(self.timeout, None, self.concurrency)
        self.answer  # noqa: B018 - refuses what is no answer

    @property
    def answer(self) -> Answer:
        """The right answer, read."""
        given = self.gold if isinstance(self.gold, str) else ""
        found = extract_answer(f"\\boxed{{{given}}}", self.kind)
        if found is None:
            raise InvalidInput(
                f"gold must be an answer of kind {self.kind!r}, got {self.gold!r}; write it as "
                "you would in a box"
            )
        return found

    def holds(self, text: str) -> bool:
        """Whether the text's answer is the right one."""
        found = extract_answer(text, self.kind)
        return found is not None and equivalent(found, self.answer)


@dataclass(frozen=True)
class MathEquivalence(Gold):
    """Whether a candidate's mathematical answer equals a given expression in LaTeX or plain text.

    `Gold` of kind `math`: a lone letter is a variable, and `x+1` is `1+x`.
    """

    kind: str = "math"
    name: str = "math-equivalence"


@dataclass(frozen=True)
class Regex(_Check):
    """Whether a pattern occurs in a candidate, thinking blocks left out.

    The pattern is searched for by the package `regex`, which can be stopped: 2 s for one text, then
    that candidate has an error.

    Attributes:
        pattern: In the syntax of Python's `re`.
        whole: Whether the whole text must match, but for space around it.
        timeout: Seconds for one candidate.
        concurrency: Candidates that are looked at at the same time.
        name: Name for reports.

    Raises:
        InvalidInput: The pattern is none.
        MissingDependency: `regex` is not installed.
    """

    pattern: str
    whole: bool = False
    timeout: float = 10.0
    concurrency: int = 4
    name: str = "regex"

    def __post_init__(self) -> None:
        check_times(self.timeout, None, self.concurrency)
        if not isinstance(self.pattern, str) or not self.pattern:
            raise InvalidInput(f"pattern must be a non-empty text, got {self.pattern!r}")
        self._compiled()

    def _compiled(self) -> regex.Pattern[str]:
        try:
            import regex
        except ImportError:
            raise MissingDependency(_missing("Regex", "regex")) from None
        try:
            return regex.compile(self.pattern)
        except regex.error as error:
            raise InvalidInput(f"pattern {self.pattern!r} is none: {error}") from None

    def holds(self, text: str) -> bool:
        """Whether the pattern matches."""
        shown = strip_thinking(text)[-MAX_TEXT:]
        pattern = self._compiled()
        try:
            if self.whole:
                found = pattern.fullmatch(shown.strip(), timeout=PATTERN_SECONDS, concurrent=True)
            else:
                found = pattern.search(shown, timeout=PATTERN_SECONDS, concurrent=True)
        except TimeoutError:
            raise ScoreError(f"the pattern was not decided in {PATTERN_SECONDS:g} s") from None
        return found is not None


@dataclass(frozen=True)
class JSONSchema(_Check):
    """Whether a candidate is JSON, alone or in its last fenced block, that fits a JSON schema.

    References in the schema lead to places in the schema itself; nothing is fetched.

    Attributes:
        schema: The schema.
        timeout: Seconds for one candidate.
        concurrency: Candidates that are looked at at the same time.
        name: Name for reports.

    Raises:
        InvalidInput: The schema is none.
        MissingDependency: `jsonschema` is not installed.
    """

    schema: Mapping[str, object]
    timeout: float = 10.0
    concurrency: int = 4
    name: str = "json-schema"

    def __post_init__(self) -> None:
        check_times(self.timeout, None, self.concurrency)
        self._validator()

    def _validator(self) -> jsonschema.protocols.Validator:
        try:
            import jsonschema
            import referencing
        except ImportError:
            raise MissingDependency(_missing("JSONSchema", "jsonschema")) from None
        kind = jsonschema.validators.validator_for(
            self.schema, default=jsonschema.Draft202012Validator
        )
        try:
            kind.check_schema(self.schema)
        except jsonschema.SchemaError as error:
            raise InvalidInput(f"schema is no JSON schema: {error.message}") from None
        # An own registry: the default one fetches what a reference names from the network.
        return kind(self.schema, registry=referencing.Registry())

    def holds(self, text: str) -> bool:
        """Whether the text's JSON fits."""
        import referencing.exceptions

        found, content = json_in(text)
        try:
            return found and bool(self._validator().is_valid(content))
        except referencing.exceptions.Unresolvable as error:
            raise ScoreError(f"the schema refers to what is not in it: {error}") from None
        except RecursionError:
            raise ScoreError("the JSON or the schema is nested too deeply") from None


def json_in(text: str) -> tuple[bool, object]:
    """Whether a text is JSON, alone or in its last fenced block; and its content."""
    shown = strip_thinking(text)[-MAX_TEXT:]
    blocks = [body for language, body in fenced(shown) if language in ("", "json")]
    for part in (shown, *blocks[-1:]):
        try:
            return True, json.loads(part)
        except (ValueError, RecursionError):
            continue
    return False, None


def fenced(text: str) -> list[tuple[str, str]]:
    """Language, in lower case, and content of each fenced block."""
    return [(match[1].lower(), match[2]) for match in _FENCE.finditer(text)]


def _missing(verifier: str, package: str) -> str:
    return f"{verifier} needs the package {package!r}: pip install 'ttscale[verifiers]'"
