"""Which answers mean the same, as votes count them.

Two answers are equivalent when their values are equal and their units do not differ; an answer
without a unit agrees with one that has a unit. Values are exact: 0.333 is not 1/3, and 50 % is not
0.5. Numbers, sets, tuples, intervals and matrices are decided here; only two formulas that are
written differently go to the judge, in a process of its own, and only while they are short.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Sequence
from functools import lru_cache

from ttscale.answers import judge
from ttscale.answers.reading import read
from ttscale.answers.values import Answer, Value

MAX_MEMBERS = 16
_LETTERS = re.compile(r"\\[A-Za-z]+|[A-Za-z]+")
_CONSTANT_LETTERS = frozenset("ei")


def equivalent(a: Answer | str, b: Answer | str) -> bool:
    """Whether two answers mean the same; texts are read as the content of a box would be.

    Symmetric and reflexive. What cannot be decided in time is not equivalent.
    """
    return len(_classes([_value(a), _value(b)])) == 1


def classes(answers: Sequence[Answer]) -> tuple[tuple[int, ...], ...]:
    """Group answers that mean the same.

    The transitive closure of equal values, so that the classes do not depend on the order of the
    answers. Where answers of one value carry two or more different units, each unit is a class, and
    the answers without one are another.

    Returns:
        Indices of the members of each class, ascending; classes in the order of their first member.
    """
    return _classes([_value(answer) for answer in answers])


def _value(answer: Answer | str) -> Value:
    """What an answer holds; words stay words whatever they look like."""
    if isinstance(answer, str):
        return read(answer) or Value("text", "")
    if answer.kind in ("text", "choice"):
        return Value(answer.kind, answer.value, unit=answer.unit)
    content = read(answer.value, letters=False) or Value("text", answer.value)
    return Value(
        content.kind, content.text, content.number, content.members, content.brackets, answer.unit
    )


def _classes(values: Sequence[Value]) -> tuple[tuple[int, ...], ...]:
    by_value: dict[Hashable, list[int]] = defaultdict(list)
    group_of = _joined({_key(value): value for value in values})
    for i, value in enumerate(values):
        by_value[group_of[_key(value)]].append(i)
    groups: list[tuple[int, ...]] = []
    for members in by_value.values():
        by_unit: dict[str | None, list[int]] = defaultdict(list)
        for i in members:
            by_unit[values[i].unit].append(i)
        conflict = len(by_unit.keys() - {None}) > 1
        groups += map(tuple, by_unit.values()) if conflict else [tuple(members)]
    return tuple(sorted(groups))


def _key(value: Value) -> str:
    """Equal for values that are equal beyond doubt, without their units."""
    if value.number is not None:
        return f"number {value.number}"
    if value.kind in ("text", "choice") or len(value.text) == 1:
        # A lone letter is the same answer whether it was read as a choice or as a variable.
        plain = value.text if len(value.text) == 1 else value.text.casefold()
        return f"text {' '.join(plain.split())}"
    return f"{value.kind} {value.text}"


def _joined(values: dict[str, Value]) -> dict[str, str]:
    """The representative of each key under the transitive closure of `_same`."""
    parent = {key: key for key in values}

    def root(key: str) -> str:
        while parent[key] != key:
            key = parent[key]
        return key

    keys = sorted(values)
    for i, first in enumerate(keys):
        for second in keys[i + 1 :]:
            # Skipping pairs that are joined already changes no class of the closure.
            if root(first) != root(second) and _same(values[first], values[second]):
                parent[root(second)] = root(first)
    return {key: root(key) for key in keys}


def _same(a: Value, b: Value) -> bool:
    """Whether two values are equal, units aside."""
    if _key(a) == _key(b):
        return True
    formulas = {"number", "expression"}
    if {a.kind, b.kind} <= formulas:
        return _same_formula(a, b)
    if a.kind != b.kind or a.brackets != b.brackets:
        return False
    if a.kind == "set" or a.brackets == "u":
        return _covers(a.members, b.members) and _covers(b.members, a.members)
    if not a.members or len(a.members) != len(b.members):
        return False
    return all(_same(x, y) for x, y in zip(a.members, b.members, strict=True))


def _covers(some: tuple[Value, ...], others: tuple[Value, ...]) -> bool:
    """Whether each of `some` equals one of `others`; in large sets, as written."""
    written = {_key(y) for y in others}
    if len(others) > MAX_MEMBERS:
        return all(_key(x) in written for x in some)
    return all(_key(x) in written or any(_same(x, y) for y in others) for x in some)


def _same_formula(a: Value, b: Value) -> bool:
    """Whether two formulas are equal; cheap differences first, then the judge."""
    if (a.number is not None and b.number is not None) or _variables(a.text) != _variables(b.text):
        return False
    first, second = sorted((a.text, b.text))
    return _judged(first, second)


@lru_cache(maxsize=8192)
def _judged(a: str, b: str) -> bool:
    """What the judge says of two formulas; also a timeout is remembered."""
    return judge.shared().same(a, b)


def _variables(text: str) -> frozenset[str]:
    """The letters that stand for variables; only formulas over the same ones are compared."""
    runs = (run for run in _LETTERS.findall(text) if not run.startswith("\\"))
    return frozenset("".join(runs)) - _CONSTANT_LETTERS
