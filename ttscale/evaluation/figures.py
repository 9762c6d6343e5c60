"""The figures of a report: what each is called and in what it is counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Figure:
    """How one figure is shown.

    Attributes:
        label: Its name in reports; `{n}` stands for the number of samples.
        scale: What values are multiplied with for show (100 for per cent).
        unit: What stands behind the number.
        digits: Decimal places.
        about: What it is, in one sentence.
    """

    label: str
    scale: float = 1.0
    unit: str = ""
    digits: int = 2
    about: str = ""

    def show(self, value: float) -> str:
        """The number as text; a dash when there is none."""
        return "-" if value != value else f"{value * self.scale:.{self.digits}f}"


def _share(label: str, about: str) -> Figure:
    return Figure(label, 100.0, "%", 1, about)


FIGURES: Mapping[str, Figure] = MappingProxyType(
    {
        "pass@1": _share("pass@1", "Share of right samples: what picking one at random gives."),
        "pass@n": _share("pass@{n}", "Problems that at least one of {n} samples solves (oracle)."),
        "pass^n": _share("pass^{n}", "Problems that all {n} samples solve."),
        "majority@n": _share("maj@{n}", "Problems that the majority vote of {n} samples solves."),
        "weighted@n": _share(
            "weighted maj@{n}", "As maj@{n}, each vote weighing its probability per token."
        ),
        "selection_gap": _share("gap", "pass@{n} minus maj@{n}: right answers the vote passes by."),
        "vendi": Figure("Vendi", about="Effective number of different texts among {n}, 1 to {n}."),
        "similarity": Figure(
            "similarity", about="Mean cosine of two samples' embeddings.", digits=3
        ),
        "distinct_1": Figure("distinct-1", about="Different words as a share of all.", digits=3),
        "distinct_2": Figure(
            "distinct-2", about="Different word pairs as a share of all.", digits=3
        ),
        "self_bleu": Figure(
            "self-BLEU", about="BLEU of each sample against the others; high means alike.", digits=1
        ),
        "nll": Figure(
            "NLL/token",
            unit="nat",
            about="Mean negative log-likelihood per token of a sample's text under another model.",
        ),
        "perplexity": Figure(
            "perplexity", about="exp of that mean over a problem's samples; low means usual text."
        ),
        "answer_entropy": Figure(
            "answer entropy", unit="bit", about="Entropy of the stated answers."
        ),
        "distinct_answers": Figure(
            "answers", about="Different answers among {n} samples.", digits=1
        ),
        "distinct_correct": Figure(
            "right answers", about="Different right answers among {n} samples."
        ),
        "abstained": _share("no answer", "Samples that state no answer."),
        "tokens": Figure("tokens", about="Length of a sample.", digits=0),
        "cut_off": _share("cut off", "Samples that ran into the longest length."),
    }
)
"""The figures by name."""


def figure(name: str) -> Figure:
    """How a figure is shown; a selector is a share of problems."""
    if name in FIGURES:
        return FIGURES[name]
    return _share(name.removeprefix("select:"), "Problems whose selected answer is right.")
