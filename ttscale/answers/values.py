"""The values that answers are: what was extracted, and its structure once read."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer taken from a model's text.

    Attributes:
        value: The answer in normal form, printable, without its unit: `1/2`, `{3, 5}`, `C`.
        kind: What it is: `number`, `expression` (formulas, equations, inequalities), `set`
            (unordered), `tuple`, `interval` (and unions of them), `matrix`, `choice` or `text`.
        span: Where `raw` lies in the text, as (start, end).
        raw: The answer as the model wrote it.
        unit: Its unit (`cm^2`, `%`, `$`), or None when the model wrote none that is known.
        mark: What made it the answer, surest first: `box`, `tags`, `hashes` (`#### value`),
            `sentence` (`the answer is ...`), `alone` (the whole text), `unmarked`; empty when not
            known. Not compared.
    """

    value: str
    kind: str
    span: tuple[int, int]
    raw: str
    unit: str | None = None
    mark: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Value:
    """One answer's content, read: what equivalence works on.

    Attributes:
        kind: As in `Answer`.
        text: Printable normal form, without the unit; reading it again gives the same value.
        number: The exact number, for kind `number`.
        members: The parts of a set, tuple, interval or matrix (whose parts are its rows).
        brackets: The two ends of an interval, such as `[)`.
        unit: As in `Answer`.
    """

    kind: str
    text: str
    number: Fraction | None = None
    members: tuple[Value, ...] = ()
    brackets: str = ""
    unit: str | None = None
