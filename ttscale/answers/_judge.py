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
from sympy.core.relational import Relational

MEMORY = 2 * 1024**3
GRACE = 5.0
POINTS = tuple(
    sympy.Rational(point) for point in ("0.739085133", "1.324717957", "2.685452001", "0.567143291")
)
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
    if isinstance(a, Relational) and isinstance(b, Relational):
        return _same_relation(a, b)
    if not (isinstance(a, sympy.Expr) and isinstance(b, sympy.Expr)):
        return False
    return _same_numbers(a, b) and _verified(a, b)


def _verified(a: sympy.Basic, b: sympy.Basic) -> bool:
    """math-verify's opinion, in both directions."""
    return bool(verify(a, b, timeout_seconds=None) and verify(b, a, timeout_seconds=None))


@lru_cache(maxsize=1024)
def numbers(formula: sympy.Expr) -> tuple[sympy.Expr, ...]:
    """The formula's value at two fixed points (one when it has no variable), to 50 digits.

    Empty when it has too many variables, or no number for a value.
    """
    symbols = sorted(formula.free_symbols, key=str)
    if len(symbols) > len(POINTS):
        return ()
    found = []
    for shift in range(2 if symbols else 1):
        at = {s: POINTS[(i + shift) % len(POINTS)] for i, s in enumerate(symbols)}
        value = sympy.N(formula.subs(at), PRECISION)
        if not value.is_number or not value.is_finite:
            return ()
        found.append(value)
    return tuple(found)


def _same_numbers(a: sympy.Expr, b: sympy.Expr) -> bool:
    """Whether both have the same value at the points, to nearly all digits that they carry."""
    if a.free_symbols != b.free_symbols or not numbers(a) or not numbers(b):
        return False
    return all(_close(x, y, _tolerance(a, b)) for x, y in zip(numbers(a), numbers(b), strict=True))


def _tolerance(*formulas: sympy.Expr) -> sympy.Float:
    """Relative; a decimal among the formulas is only known to the digits of a float."""
    return sympy.Float("1e-13" if any(f.has(sympy.Float) for f in formulas) else "1e-30")


def _close(x: sympy.Expr, y: sympy.Expr, tolerance: sympy.Float) -> bool:
    return bool(abs(x - y) <= tolerance * max(abs(x), abs(y)))


def _same_relation(a: sympy.Basic, b: sympy.Basic) -> bool:
    """Whether one relation is the other times a number (a positive one for inequalities)."""
    (kind, first), (other_kind, second) = _one_sided(a), _one_sided(b)
    if kind != other_kind or first.free_symbols != second.free_symbols:
        return False
    pairs = list(zip(numbers(first), numbers(second), strict=False))
    if len(pairs) < 2 or any(y == 0 for _, y in pairs):
        return False
    ratios = [x / y for x, y in pairs]
    if not _close(ratios[0], ratios[1], _tolerance(first, second)):
        return False
    ratio = sympy.simplify(first / second)
    if not ratio.is_number or ratio.is_zero is not False:
        return False
    return kind in ("==", "!=") or bool(ratio.is_positive)


def _one_sided(relation: sympy.Basic) -> tuple[str, sympy.Expr]:
    """The relation as `expression <kind> 0`, with `<` turned into `>`; other formulas as such."""
    if not isinstance(relation, Relational):
        return "", relation
    difference = relation.lhs - relation.rhs
    if relation.rel_op in ("<", "<="):
        return relation.rel_op.replace("<", ">"), -difference
    return relation.rel_op, difference


def answer(request: dict[str, object]) -> bool:
    """Whether the formulas of a request have values, and are equal when there are two."""
    formulas = request["formulas"]
    found = [read(str(formula)) for formula in formulas] if isinstance(formulas, list) else []
    known = [formula for formula in found if formula is not None]
    if not known or len(known) < len(found):
        return False
    if len(known) == 1:
        return bool(numbers(_one_sided(known[0])[1]))
    return same(known[0], known[1])


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
