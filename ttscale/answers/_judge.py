"""The helper process of `judge`: reads formulas, line by line, and says whether they are equal.

Formulas are parsed by a LaTeX grammar into sympy objects; no text is evaluated as code. The parent
keeps the time; this process bounds its own memory, writes no file, and ends itself should a
calculation outlive the parent.
"""

from __future__ import annotations

import contextlib
import json
import logging
import resource
import signal
import sys
from functools import lru_cache
from typing import TextIO

import sympy
from math_verify import LatexExtractionConfig, parse, verify

MEMORY = 2 * 1024**3
GRACE = 5.0
POINTS = ("0.7390851332151607", "1.3247179572447460", "2.6854520010653064", "0.5671432904097838")
PRECISION = 50
_READERS = (LatexExtractionConfig(boxed_match_priority=-1),)


@lru_cache(maxsize=1024)
def read(formula: str) -> sympy.Basic | None:
    """The sympy object of a formula in LaTeX, or None when the grammar does not know it."""
    found = parse(f"${formula}$", _READERS, fallback_mode="no_fallback", parsing_timeout=None)
    return found[0] if found and isinstance(found[0], sympy.Basic) else None


def same(a: sympy.Basic, b: sympy.Basic) -> bool:
    """Whether two formulas are equal: by number at fixed points, and then by math-verify.

    math-verify alone compares numbers after rounding, calls some different equations equal, and
    depends on which of the two comes first; so both directions and the numbers have to agree.
    """
    relations = isinstance(a, sympy.core.relational.Relational)
    if relations != isinstance(b, sympy.core.relational.Relational):
        return False
    if relations:
        return _same_relation(a, b)
    if not (isinstance(a, sympy.Expr) and isinstance(b, sympy.Expr)):
        return False
    return _same_numbers(a, b) and _verified(a, b)


def _verified(a: sympy.Basic, b: sympy.Basic) -> bool:
    """math-verify's opinion, in both directions."""
    return bool(verify(a, b, timeout_seconds=None) and verify(b, a, timeout_seconds=None))


def _same_numbers(a: sympy.Expr, b: sympy.Expr) -> bool:
    """Whether both have the same value at two points, to nearly all digits that they carry."""
    symbols = sorted(a.free_symbols | b.free_symbols, key=str)
    if a.free_symbols != b.free_symbols or len(symbols) >= len(POINTS):
        return False
    tolerance = sympy.Float("1e-13" if a.has(sympy.Float) or b.has(sympy.Float) else "1e-30")
    for shift in range(2 if symbols else 1):
        at = {s: sympy.Rational(POINTS[(i + shift) % len(POINTS)]) for i, s in enumerate(symbols)}
        first, second = (sympy.N(side.subs(at), PRECISION) for side in (a, b))
        if not (first.is_number and second.is_number):
            return False
        if not abs(first - second) <= tolerance * max(abs(first), abs(second)):
            return False
    return True


def _same_relation(a: sympy.Basic, b: sympy.Basic) -> bool:
    """Whether one relation is the other times a number (a positive one for inequalities)."""
    (kind, first), (other_kind, second) = _one_sided(a), _one_sided(b)
    if kind != other_kind or second == 0 or first.free_symbols != second.free_symbols:
        return False
    ratio = sympy.simplify(first / second)
    if not ratio.is_number or ratio.is_zero is not False:
        return False
    return kind in ("==", "!=") or bool(ratio.is_positive)


def _one_sided(relation: sympy.Basic) -> tuple[str, sympy.Expr]:
    """The relation as `expression <kind> 0`, with `<` turned into `>`."""
    difference = relation.lhs - relation.rhs
    if relation.rel_op in ("<", "<="):
        return relation.rel_op.replace("<", ">"), -difference
    return relation.rel_op, difference


def answer(request: dict[str, object]) -> bool:
    """Whether the formulas of a request can be read, and are equal when there are two."""
    formulas = request["formulas"]
    found = [read(str(formula)) for formula in formulas] if isinstance(formulas, list) else []
    known = [formula for formula in found if formula is not None]
    if not known or len(known) < len(found):
        return False
    return len(known) == 1 or same(known[0], known[1])


def confine() -> None:
    """Bound memory and forbid files; what a limit refuses here is refused for good."""
    for limit, value in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        # Not every system knows every limit; the parent's time limit holds in any case.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (value, value))


def serve(requests: TextIO, replies: TextIO) -> None:
    """Answer requests until the parent closes the pipe."""
    for line in requests:
        request = json.loads(line)
        # The default action of the alarm ends the process, whatever it is busy with.
        signal.setitimer(signal.ITIMER_REAL, float(request["limit"]) + GRACE)
        try:
            verdict = answer(request)
        except Exception:  # noqa: BLE001 - grammar and sympy raise whatever they like
            verdict = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        replies.write(json.dumps(verdict) + "\n")
        replies.flush()


def main() -> None:
    """Warm up, report readiness, serve."""
    logging.disable(logging.CRITICAL)
    confine()
    read(r"\frac{1}{2}x^2")
    replies, sys.stdout = sys.stdout, sys.stderr
    replies.write("true\n")
    replies.flush()
    serve(sys.stdin, replies)


if __name__ == "__main__":
    main()
