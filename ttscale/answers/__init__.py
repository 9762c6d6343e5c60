"""Answers: what a model's text states, and which answers mean the same.

Light to import: what needs sympy runs in a process of its own, started on first need.
"""

from ttscale.answers.equivalence import classes, equivalent
from ttscale.answers.extract import KINDS, extract_answer
from ttscale.answers.thinking import strip_thinking
from ttscale.answers.values import Answer

__all__ = ["KINDS", "Answer", "classes", "equivalent", "extract_answer", "strip_thinking"]
